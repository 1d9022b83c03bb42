"""Broken and hostile files and run folders are refused in words: nothing crashes, hangs, takes over a gigabyte, or is
called an error in quintet itself. Each is read in a process of its own, by the command line.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import hostile
import hostile_archives
import hostile_files
import hostile_runs
import numpy as np
import pytest
from hostile import Reader

from quintet.modalities.audio.reading import resample


@pytest.fixture(scope="module")
def read() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_runs.trained(tmp_path_factory.mktemp("runs"))


REFUSED = {
    "archives": "name0.zip name1.tar link.zip count0.zip count9.zip size.zip overlap.zip bomb2.zip devices.tar "
    "link.tar huge.tar negative.tar",
    "tables": "bomb.csv.gz bomb.csv.xz bomb.json.gz texts.parquet bomb.feather "
    "dictionary.feather offsets.arrow offsets2.arrow offsets3.arrow wide.csv wide.jsonl deep.json header.csv nul.csv "
    "magic.parquet magic.arrow stream.arrow long.csv ragged.csv bad.jsonl",
    "arrays": "claim0.npy claim1.npy claim7.npz lie.npy bomb.npz bomb.npy.gz",
    "pictures": "pixels.png text.jpg huge.bmp huge.tif",
    "texts": "bomb.txt.gz zeros.txt utf8.txt empty.txt",
    "sounds": "rate0.wav rate7.wav rate1048576.wav channels2.wav none.wav nan.wav text.mp3",
    "folders": "fifo fifo.csv device",
}
"""Representatives of each kind of harm, of which all are tried where there is time."""
READ = {
    "tables": "bom.csv semicolon.csv twice.csv null.csv field2.csv nested.parquet utf16.csv latin.csv surrogate.jsonl "
    "number.jsonl",
    "pictures": "sixteen.png cmyk.jpg rotated.jpg alpha.png animated.gif nan.tif",
    "texts": "latin.txt utf16.txt",
    "sounds": "bit29 rate8001.wav",
    "folders": "loop one-png",
}


def named(groups: dict[str, str]) -> list[str]:
    return [f"{group}/{name}" for group, names in groups.items() for name in names.split()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files by their names, each written once."""
    root = tmp_path_factory.mktemp("hostile")
    groups = {group: make() for group, make in hostile_files.GROUPS.items()}
    names = [*named(REFUSED), *named(READ)]
    return {name: hostile_files.put(root / name, groups[name.partition("/")[0]][name.partition("/")[2]])
            for name in names}  # fmt: skip


@pytest.mark.parametrize("name", named(REFUSED))
def test_a_hostile_file_is_refused_in_words(name: str, read: Reader, made: dict[str, Path]) -> None:
    found = read("data", made[name])
    assert (found.fault, found.code) == ("", 3), found
    assert "why:" in found.said or "fix:" in found.said


@pytest.mark.parametrize("name", named(READ))
def test_an_odd_file_is_read(name: str, read: Reader, made: dict[str, Path]) -> None:
    found = read("data", made[name])
    assert (found.fault, found.code) == ("", 0), found


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        *itertools.product(
            ["config.yaml", "manifest.json", "checkpoints/step-00000002/manifest.json"],
            ["fifo", "device", "sparse", "deep"],
        ),
        ("config.yaml", "anchors"),
        ("checkpoints/step-00000002/model.safetensors", "sparse"),
    ],
)
def test_a_run_folder_that_would_hang_is_refused(
    file: str, harm: str, read: Reader, good: Path, tmp_path: Path
) -> None:
    """The other run beside it is listed all the same."""
    shutil.copytree(good, tmp_path / "bad")
    shutil.copytree(good, tmp_path / "good")
    (hostile_runs.PLACES | hostile_runs.TEXTS | hostile_runs.YAML)[harm](tmp_path / "bad" / file)
    listed, inspected = (read(*words) for words in hostile_runs.verbs(tmp_path)[:2])
    assert (listed.fault, inspected.fault) == ("", "")
    assert '"good"' in listed.said
    assert inspected.code != 0 or harm == "deep"


def test_careless_readers_are_noticed(read: Reader, tmp_path: Path) -> None:
    """The control: one unpacks whatever comes, one never ends, one falls over."""
    path = hostile_files.put(tmp_path / "bomb.csv.gz", hostile_archives.tables()["bomb.csv.gz"])
    found = read("careless", path)
    assert found.fault
    assert found.bytes > hostile.BYTES
    assert "SIGABRT" in read("fatal", path).fault
    assert "exit" in read("careless", tmp_path / "none").fault


@pytest.mark.slow
def test_all_of_them(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Some 2,000 files, each with a control above."""
    count, faults = hostile.look(tmp_path, 60)
    record_property("reached", f"{count:,} tries: {len(faults)} faults")
    assert faults == []


def test_odd_rates_are_resampled_without_a_filter_of_millions_of_taps() -> None:
    """44,100 against 44,101, which share no factor, is less than a sample in a second off; usual rates are exact."""
    sound = np.sin(np.arange(44_101) / 20).astype(np.float32)
    assert abs(len(resample(sound, 44_101, 44_100)) - 44_100) <= 1
    for own, rate in ((48_000, 44_100), (8000, 44_100), (100, 192_000)):
        assert len(resample(sound[:800], own, rate)) == -(-800 * Fraction(rate, own) // 1)
