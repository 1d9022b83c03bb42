"""What needs no file, what is published, what comes from the hub, and what `quintet data` says of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image

from quintet.cli.sources import described as in_words
from quintet.core.errors import DataError, EnvironmentFault, UsageError
from quintet.data import published as sets_files
from quintet.data.dataset import SPLITS, Dataset, Reading
from quintet.modalities.audio.sets import PITCHES
from quintet.modalities.text.sets import chinese as in_chinese
from quintet.modalities.text.sets import english
from quintet.operations.requests import DataRequest
from quintet.operations.sources import data, described
from quintet.sources import hub
from quintet.sources.load import SOURCES, Source, load_source

BUILT_IN = [name for name, source in SOURCES.items() if isinstance(source, Source) and not source.folder]
PUBLISHED = {
    "mnist": (50_000, 10_000, 10_000), "sprites": (3413, 419, 417), "spoken_digits": (2400, 300, 300),
    "tinyshakespeare": (1, 1, 1), "multi30k": (29_000, 1014, 1000), "trec": (4884, 568, 500), "subj": (8051, 974, 975),
    "adult": (29_292, 3269, 16_281), "california": (13_209, 3303, 4128), "churn": (6400, 1600, 2000),
    "density20/nltcs": (16_181, 2157, 3236), "density20/voting": (1214, 200, 350),
}  # fmt: skip


def published(name: str) -> Dataset:
    try:
        return load_source(name)
    except DataError as error:
        pytest.skip(f"{name} is not under QUINTET_DATA: {error.what}")


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_list_says_what_is_true(name: str) -> None:
    source, found = SOURCES[name], load_source(name)
    assert isinstance(source, Source)
    assert (source.modality, source.items, source.about) == (found.modality, len(found.items), found.about)
    assert source.columns == (() if found.labels is None else tuple(found.labels.column_names))
    index = np.concatenate([found.index(split) for split in SPLITS])
    assert np.array_equal(np.sort(index), np.arange(len(found.items)))
    assert found.labels is None or len(found.labels) == len(found.items)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets(name: str) -> None:
    source, found = SOURCES[name], published(name)
    assert isinstance(source, Source)
    assert tuple(len(found.index(split)) for split in SPLITS) == PUBLISHED[name]
    assert (source.modality, source.items) == (found.modality, len(found.items))
    assert source.columns == (() if found.labels is None else tuple(found.labels.column_names))


def test_adult_is_clean() -> None:
    table = published("adult").items
    assert set(table["income"].to_pylist()) == {"<=50K", ">50K"}
    assert table["workclass"].null_count == 2799
    assert not any(str(value).startswith(" ") or value == "?" for value in table["occupation"].unique().to_pylist())
    assert table["age"].type == pa.int64()


def test_spoken_digits_are_where_their_names_say() -> None:
    found = published("spoken_digits")
    pairs = found.column("label,speaker", "test").to_pylist()
    assert len({tuple(pair.values()) for pair in pairs}) == 60
    assert all(pairs.count(pair) == 5 for pair in pairs[:3])
    assert all(samples.dtype == np.float32 and np.abs(samples).max() <= 1 for samples in found.items)


def test_every_folder_has_a_home_and_digests() -> None:
    folders = {source.folder for source in SOURCES.values() if isinstance(source, Source) and source.folder}
    assert folders == sets_files.HOMES.keys() == sets_files.FILES.keys()
    assert all(len(digest) == 64 for files in sets_files.FILES.values() for digest in files.values())


# -- number words ----------------------------------------------------------------------------------------------------

SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WORDS = dict(zip(SMALL, range(20), strict=True)) | dict(zip(TENS, range(20, 100, 10), strict=True))


def english_value(text: str) -> int:
    """Read from the left: a small word adds, hundred and thousand multiply what stands before them."""
    total = group = 0
    for word in text.replace("-", " ").split():
        if word == "thousand":
            total, group = total + 1000 * group, 0
        elif word == "hundred":
            group *= 100
        else:
            group += WORDS[word]
    return total + group


def chinese_value(text: str) -> int:
    """Read from the left: a figure waits for its unit; 万 multiplies all before it."""
    units, figures = {"十": 10, "百": 100, "千": 1000}, {figure: i for i, figure in enumerate("零一二三四五六七八九")}
    total = group = figure = 0
    for sign in text:
        if sign == "万":
            total, group, figure = 10_000 * (group + figure), 0, 0
        elif sign in units:
            group, figure = group + (figure or 1) * units[sign], 0
        else:
            figure = figures[sign]
    return total + group + figure


def test_number_words_mean_their_number() -> None:
    rng = np.random.default_rng(0)
    for n in [*range(2000), *range(9_900, 10_200), *range(99_900, 101_200), *rng.integers(0, 10**6, 3000).tolist()]:
        assert english_value(english(n)) == n
        chinese = in_chinese(n)
        assert chinese_value(chinese) == n
        assert "零零" not in chinese
        assert not chinese.endswith("零") or n == 0
        assert not chinese.startswith("一十")


def test_number_words_as_they_are_written() -> None:
    true = {0: "零", 10: "十", 15: "十五", 110: "一百一十", 105: "一百零五", 1005: "一千零五", 1050: "一千零五十",
            10_000: "一万", 10_015: "一万零一十五", 100_000: "十万", 150_000: "十五万", 105_023: "十万五千零二十三",
            100_500: "十万零五百",
            999_999: "九十九万九千九百九十九"}  # fmt: skip
    assert {n: in_chinese(n) for n in true} == true
    assert english(105_023) == "one hundred five thousand twenty-three"


def test_translation_pairs_are_disjoint() -> None:
    found = load_source("numbers")
    parts = [set(found.rows(split)) for split in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20_000
    for item, row in list(zip(found.items, found.labels.to_pylist(), strict=True))[::97]:
        assert english_value(item) == chinese_value(row["chinese"]) == row["number"]


# -- notes and documentation -----------------------------------------------------------------------------------------


def test_notes_sound_as_they_are_labelled() -> None:
    """The fundamental lies within 5 cents and the width of a bin of its pitch; timbres differ where they should."""
    found = load_source("notes")
    names = [f"{name}{octave}" for octave in (4, 5) for name in PITCHES]
    for i in range(0, len(found.items), 13):
        row, samples = {name: found.labels[name][i].as_py() for name in ("pitch", "timbre")}, found.items[i]
        assert samples.shape == (4000,)
        assert 0.2 < np.abs(samples).max() <= 1
        power = np.abs(np.fft.rfft(samples * np.hanning(4000), 2**17)) ** 2
        frequency = np.arange(len(power)) * 8000 / 2**17
        true = 440 * 2 ** ((names.index(row["pitch"]) - 9) / 12)
        near = np.abs(frequency - true) < true / 20
        assert frequency[near][np.argmax(power[near])] == pytest.approx(true, rel=0.004)
        second = power[np.abs(frequency - 2 * true) < true / 20].max() / power[near].max()
        assert (second < 1e-4) == (row["timbre"] == "clarinet"), "a clarinet has odd harmonics"
        half = np.abs(samples[3000:3800]).max() / np.abs(samples[:1000]).max()
        assert (half < 0.35) == (row["timbre"] == "piano"), "a piano decays"


def test_documentation_is_real_text() -> None:
    found = load_source("pydocs")
    assert sum(map(len, found.items)) > 300_000
    assert "statement" in found.items[0]


# -- the hub ---------------------------------------------------------------------------------------------------------


class Value: ...


class ClassLabel:
    def int2str(self, value: int) -> str:
        return ("cat", "dog")[value]


class Media:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


Hub = dict[str, Any]


class Rows:
    """As much of `datasets.Dataset` as is used."""

    def __init__(self, columns: Hub, features: Mapping[str, Any]) -> None:
        self.columns, self.features = columns, features

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: Any) -> Any:
        return self.columns[key] if isinstance(key, str) else {name: cells[key] for name, cells in self.columns.items()}

    def cast_column(self, column: str, feature: Any) -> Rows:
        assert feature.decode is False
        return self


def stored(write: Callable[[io.BytesIO], Any]) -> Hub:
    buffer = io.BytesIO()
    write(buffer)
    return {"bytes": buffer.getvalue(), "path": None}


def test_images_of_the_hub() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 9, 9, 3), np.uint8)
    kind = type("Image", (Media,), {})
    cells = [stored(lambda file, image=image: Image.fromarray(image).save(file, "PNG")) for image in pixels]
    features = {"image": kind(), "label": ClassLabel()}
    loaded = {"train": Rows({"image": cells[:24], "label": [i % 2 for i in range(24)]}, features),
              "test": Rows({"image": cells[24:], "label": [1] * 6}, features)}  # fmt: skip
    found = hub.from_hub(loaded, "hf:me/pets:small", Reading())
    assert (found.modality, found.name, found.source) == ("image", "pets", "hf:me/pets:small")
    assert {image.tobytes() for image in found.rows("test")} == {image.tobytes() for image in pixels[24:]}
    for image, label in zip(found.items, found.labels["label"].to_pylist(), strict=True):
        place = next(i for i in range(30) if np.array_equal(image, pixels[i]))
        assert label == (("cat", "dog")[place % 2] if place < 24 else "dog")


def test_sounds_texts_and_tables_of_the_hub() -> None:
    kind = type("Audio", (Media,), {})
    cells = [
        stored(lambda file, i=i: soundfile.write(file, np.full(80 + i, 0.1), 8000, format="WAV")) for i in range(12)
    ]
    found = hub.from_hub({"train": Rows({"audio": cells}, {"audio": kind()})}, "hf:me/clips", Reading())
    assert (found.modality, len(found.items), found.items.rate) == ("audio", 12, 8000)
    columns = {"text": [f"words {i}" for i in range(40)], "label": [i % 2 for i in range(40)]}
    found = hub.from_hub({"train": Rows(columns, {"text": Value(), "label": ClassLabel()})}, "hf:me/words", Reading())
    assert found.modality == "text"
    assert found.labels["label"].to_pylist() == [("cat", "dog")[int(text[6:]) % 2] for text in found.items]
    columns = {"a": list(range(30)), "b": [i / 3 for i in range(30)]}
    found = hub.from_hub({"train": Rows(columns, {"a": Value(), "b": Value()})}, "hf:me/table", Reading())
    assert found.modality == "table"
    assert found.items.column_names == ["a", "b"]


def test_the_hub_without_its_client_or_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EnvironmentFault) as error:
        load_source("hf:owner/name")
    assert error.value.fix == "pip install 'quintet[hf]'"

    def offline(*_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=offline))
    with pytest.raises(DataError) as unreachable:
        load_source("hf:owner/name")
    assert "network" in unreachable.value.fix
    with pytest.raises(UsageError):
        load_source("hf:")


# -- quintet data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "moons", "wine", "notes", "numbers"])
def test_a_source_has_facts_and_a_picture(name: str, tmp_path: Path) -> None:
    answer = described(name, output=str(tmp_path / "x.png"))
    assert answer.facts()["items"] == len(load_source(name).items)
    assert sum(answer.facts()["splits"].values()) == answer.facts()["items"]
    assert answer.facts()["duplicates"]["across_splits"] == 0
    picture = np.asarray(Image.open(tmp_path / "x.png").convert("RGBA"))
    assert min(picture.shape[:2]) > 100
    assert picture[..., :3].std() > 10
    assert "problem" not in in_words(answer) or name == "wine"


def test_what_is_wrong_with_a_table_is_said(tmp_path: Path) -> None:
    rows = [f"{i},{'' if i % 3 else i % 9},same,{'inf' if i == 5 else i / 7}" for i in range(200)]
    (tmp_path / "x.csv").write_text("\n".join(["id,holes,one,real", *rows, *rows[:20]]))
    answer = described(str(tmp_path / "x.csv"), output=str(tmp_path / "x.png"))
    said = "\n".join(answer.facts()["problems"])
    assert "column one has one value" in said
    assert "column real: 2 cells are NaN or infinite" in said
    assert "% of the cells are missing" in said
    assert answer.facts()["duplicates"] == {"items": 20, "across_splits": 0}
    assert answer.facts()["missing"] == sum(column["missing"] for column in answer.facts()["columns"]) > 100
    (tmp_path / "y.csv").write_text("\n".join(["id,x", *(f"k{i},{i % 4}" for i in range(200))]))
    assert "identifier" in "\n".join(described(str(tmp_path / "y.csv")).facts()["problems"])
    for split in ("train", "test"):
        (tmp_path / "z").mkdir(exist_ok=True)
        (tmp_path / "z" / f"{split}.csv").write_text("a,b\n" + "\n".join(f"{i},{i * i}" for i in range(100)))
    answer = described(str(tmp_path / "z"))
    assert answer.facts()["duplicates"]["across_splits"] == 100
    assert "held-out" in in_words(answer)


def test_the_list_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_DATA", "nowhere")
    monkeypatch.setattr(Source, "__call__", None)
    entries = {entry["name"]: entry for entry in data(DataRequest(), print).facts()["sources"]}
    assert entries.keys() == SOURCES.keys()
    assert "error" not in entries["digits"]
    assert entries["adult"]["fix"].endswith("archive.ics.uci.edu/dataset/2/adult")
    with pytest.raises(UsageError, match="picture"):
        described("moons", output="x.txt")
