"""Files of raw items, and the note of where they came from."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from PIL import Image

import quintet
from quintet.core.errors import DataError, UsageError
from quintet.modalities.image.codec import ImageCodec
from quintet.modalities.image.modality import top_of
from quintet.modalities.provenance import read_provenance
from quintet.registry import MODALITIES, RESULTS, modality_of

NOTE = {"run": "r", "seed": 7, "weights": "ab" * 32, "sampling": {"steps": 4}}
IMAGES = (np.arange(5 * 4 * 4).reshape(5, 4, 4, 1) % 17).astype(np.uint8)
SEVENTEEN = ImageCodec().fit(IMAGES)
"""Of 17 levels: 16 is white."""
TABLE = pa.table({"a": [0.5, 1.5, -2.0], "kind": ["x", 'y,"z"', "w"]})
TEXTS = ["to be\nor not", "ünïcode �", "plain"]


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("x.png", IMAGES),
        ("x.npz", IMAGES),
        ("folder", IMAGES),
        ("x.csv", TABLE),
        ("x.parquet", TABLE),
        ("x.arrow", TABLE),
        ("x.jsonl", TABLE),
        ("t.npz", TABLE),
        ("x.txt", TEXTS),
        ("t.jsonl", TEXTS),
    ],
)
def test_every_format_keeps_its_provenance_and_is_deterministic(tmp_path: Path, name: str, items: object) -> None:
    first = modality_of(items).write(tmp_path / "a" / name, items, NOTE, codec=SEVENTEEN)
    again = modality_of(items).write(tmp_path / "b" / name, items, NOTE, codec=SEVENTEEN)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    found = read_provenance(tmp_path / "a" / name)
    found.pop("index", None)
    assert found == NOTE
    assert not list((tmp_path / "a").rglob("*.tmp"))


def test_images_are_written_exactly(tmp_path: Path) -> None:
    modality_of(IMAGES).write(tmp_path / "x.npz", IMAGES, NOTE, codec=SEVENTEEN)
    assert (np.load(tmp_path / "x.npz")["images"] == IMAGES).all()  # raw values
    files = modality_of(IMAGES).write(f"{tmp_path}/v1.0/", IMAGES, NOTE, codec=SEVENTEEN)  # a dot in a folder's name
    assert [path.name for path in files] == [f"{i:05d}.png" for i in range(5)]
    back = np.stack([np.asarray(Image.open(path)) for path in files])[..., None]
    assert (back == np.round(IMAGES * (255 / 16))).all()
    assert read_provenance(files[3])["index"] == 3


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_grid_has_every_image(tmp_path: Path, channels: int) -> None:
    images = np.full((10, 4, 4, channels), 200, np.uint8)
    (path,) = modality_of(images).write(tmp_path / "x.png", images, NOTE)
    pixels = np.asarray(Image.open(path).convert("RGBA"))
    assert (pixels[..., 3] > 0).sum() == 10 * 64 * 64


def test_the_codec_says_what_white_is() -> None:
    codec = ImageCodec().fit(IMAGES * 2)
    assert top_of(codec) == 32
    assert MODALITIES["image"].view(codec.decode(codec.encode(IMAGES * 2)), codec).max() == 255


def test_tables_and_texts_come_back(tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet", "x.arrow", "x.jsonl", "x.npz"):
        modality_of(TABLE).write(tmp_path / name, TABLE, NOTE)
    assert pyarrow.csv.read_csv(tmp_path / "x.csv").equals(TABLE)
    assert pyarrow.parquet.read_table(tmp_path / "x.parquet").replace_schema_metadata(None).equals(TABLE)
    assert pyarrow.feather.read_table(tmp_path / "x.arrow").replace_schema_metadata(None).equals(TABLE)
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()] == TABLE.to_pylist()
    assert np.load(tmp_path / "x.npz")["kind"].tolist() == TABLE["kind"].to_pylist()  # without a pickle
    modality_of(TEXTS).write(tmp_path / "t.jsonl", TEXTS, NOTE)
    assert [json.loads(line)["text"] for line in (tmp_path / "t.jsonl").read_text().splitlines()] == TEXTS
    modality_of(TEXTS).write(tmp_path / "t.txt", TEXTS, NOTE)
    assert (tmp_path / "t.txt").read_text() == "\n----\n".join(TEXTS) + "\n"
    modality_of(["a", "b"]).write(tmp_path / "l.txt", ["a", "b"], NOTE)
    assert (tmp_path / "l.txt").read_text() == "a\nb\n"


@pytest.mark.parametrize(("name", "items"), [("x.csv", IMAGES), ("x.png", TABLE), ("x.gif", IMAGES), ("folder", TEXTS)])
def test_a_format_that_does_not_fit_is_a_usage_error(tmp_path: Path, name: str, items: object) -> None:
    with pytest.raises(UsageError, match="cannot be written to"):
        modality_of(items).write(tmp_path / name, items, NOTE)
    assert not list(tmp_path.iterdir())


def test_a_grid_of_too_many_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FOLDER/"):
        modality_of(np.zeros((10_001, 1, 1, 1), np.uint8)).write(
            tmp_path / "x.png", np.zeros((10_001, 1, 1, 1), np.uint8), NOTE
        )


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "other.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    (tmp_path / "cut.arrow").write_bytes(b"ARROW1\0\0")
    (tmp_path / "no.arrow").write_bytes(b"ARROW")
    (tmp_path / "plain.csv").write_text("a\n1\n")
    (tmp_path / "torn.csv").write_text("a\n1\n")
    (tmp_path / "torn.csv.provenance.json").write_text('{"run": ')
    (tmp_path / "empty").mkdir()
    for name in ("other.png", "broken.png", "cut.parquet", "cut.arrow", "no.arrow", "plain.csv", "torn.csv",
                 "empty", "absent.png"):  # fmt: skip
        with pytest.raises(DataError):
            read_provenance(tmp_path / name)


def test_pictures_that_a_person_can_open(tmp_path: Path) -> None:
    points = pa.table({"x": [0.0, 1.0, float("nan")], "y": [1, 2, 3]})
    names = {
        "images": (IMAGES, {".png"}),
        "points": (points, {".csv", ".png"}),
        "table": (TABLE, {".csv"}),
        "text": (TEXTS, {".txt"}),
    }
    for name, (items, suffixes) in names.items():
        written = modality_of(items).picture(tmp_path / "step-1.5" / name, items, SEVENTEEN)
        assert {path.name for path in written} == {name + suffix for suffix in suffixes}
        assert all(path.stat().st_size for path in written)
    assert [MODALITIES[kind].suffix for kind in ("image", "table", "text")] == [".png", ".csv", ".txt"]


def test_dates_and_times_of_a_table_reach_every_file(tmp_path: Path) -> None:
    """Training, `evaluate`, `sample -o x.jsonl` and `complete` of a table with dates and times, through the files."""
    rows = [f"2024-{1 + i % 12:02}-{1 + i % 28:02},2024-01-01 {i % 24:02}:30:00,{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "log.csv").write_text("day,at,kind\n" + "\n".join(rows) + "\n")
    runs = tmp_path / "runs"
    model = quintet.train("vae", data=str(tmp_path / "log.csv"), steps=2, run="log", runs=runs)
    model.evaluate(samples=20)
    shown = json.loads((runs / "log" / "report.json").read_text())
    assert "2024-" in json.dumps(shown)
    out = tmp_path / "x.jsonl"
    modality_of(model.sample(3)).write(out, model.sample(3), {})
    for line in out.read_text().splitlines():
        row = json.loads(line)
        assert datetime.date.fromisoformat(row["day"]).year == 2024
        assert datetime.datetime.fromisoformat(row["at"]).minute in range(60)
    holes = pa.table({"day": [datetime.date(2024, 3, 5)], "kind": ["a"]})
    modality_of(model.complete(holes)).write(out, model.complete(holes), {})
    assert json.loads(out.read_text())["day"] == "2024-03-05"


def test_a_path_with_nul_is_refused_before_the_work() -> None:
    with pytest.raises(UsageError, match="NUL"):
        RESULTS.check_output("a\0b.csv")
