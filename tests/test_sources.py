"""Files -> data sets: every format, every way in which a file can be wrong, archives that mean harm."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import soundfile
from PIL import Image

from quintet.core.errors import DataError, UsageError
from quintet.data import archives
from quintet.sources.load import load_source


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(seed: int, height: int = 12, width: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def write_images(folder: Path, count: int, suffix: str = "png", **size: int) -> list[np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    name = crc32(folder.name.encode())  # not hash(): in some processes two folders had one picture
    images = [picture(name + seed, **size) for seed in range(count)]
    for number, image in enumerate(images):
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        Image.fromarray(pixels).save(
            folder / f"{number:03d}.{suffix}", **({"lossless": True} if suffix == "webp" else {})
        )
    return images


def as_set(items: Any) -> set[bytes]:
    return {np.ascontiguousarray(item).tobytes() for item in items}


# -- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif", "tiff"])
def test_lossless_images_come_back_exactly(suffix: str, tmp_path: Path) -> None:
    images = write_images(tmp_path / "x", 12, suffix)
    found = load_source(str(tmp_path / "x"))
    assert found.modality == "image"
    assert found.items.dtype == np.uint8
    assert as_set(found.items) == as_set(images)
    assert sum(len(index) for index in found.splits.values()) == 12


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "gif"])
def test_other_images_come_back_nearly(suffix: str, tmp_path: Path) -> None:
    ramp = np.stack([np.tile(np.linspace(20 + 5 * i, 200, 16), (16, 1)) for i in range(10)]).astype(np.uint8)
    (tmp_path / "x").mkdir()
    for number, image in enumerate(ramp):
        Image.fromarray(image).save(tmp_path / "x" / f"{number}.{suffix}")
    found = load_source(str(tmp_path / "x"))
    assert found.items.shape == (10, 16, 16, 1)
    for image in found.items:
        assert min(np.abs(image[..., 0].astype(int) - true).max() for true in ramp.astype(int)) <= 6


def read_one(image: Image.Image, path: Path, **save: Any) -> np.ndarray:
    image.save(path, **save)
    return load_source(str(path)).items[0]


def test_colour_modes(tmp_path: Path) -> None:
    colours = picture(0)
    rgb = Image.fromarray(colours)
    path = tmp_path / "x.png"
    assert np.array_equal(read_one(rgb, path), colours)
    palette = rgb.quantize(16)
    assert np.array_equal(read_one(palette, path), np.asarray(palette.convert("RGB")))
    grey = Image.fromarray(np.repeat(colours[..., :1], 3, 2))
    assert np.array_equal(read_one(grey, path), colours[..., :1]), "grey in three channels needs one"
    deep = Image.fromarray(colours[..., 0].astype(np.uint16) * 256 + 7)
    values = np.asarray(deep)[..., None].astype(float)
    spread = np.round((values - values.min()) * (255 / (values.max() - values.min())))
    assert np.array_equal(read_one(deep, path), spread), "from the least to the largest of all values"
    assert read_one(rgb.convert("1"), path).shape == (12, 12, 1)
    cmyk = read_one(rgb.convert("CMYK"), tmp_path / "x.tif")
    assert np.abs(cmyk.astype(int) - colours).max() <= 3


def test_alpha_is_kept_only_where_it_is_used(tmp_path: Path) -> None:
    pixels = picture(1, channels=4)
    pixels[..., 3] = 255
    opaque = read_one(Image.fromarray(pixels), tmp_path / "x.png")
    assert np.array_equal(opaque, pixels[..., :3])
    pixels[3, 4, 3] = 10
    assert np.array_equal(read_one(Image.fromarray(pixels), tmp_path / "x.png"), pixels)
    la = Image.fromarray(pixels).convert("LA")
    assert read_one(la, tmp_path / "x.png").shape == (12, 12, 4)
    indexed = Image.fromarray(pixels[..., :3]).quantize(8)
    assert read_one(indexed, tmp_path / "x.png", transparency=0).shape == (12, 12, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int, tmp_path: Path) -> None:
    """The stored pixels are transformed by the inverse of what a viewer does; all eight must look the same."""
    shown = picture(2, 10, 6)
    turn: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: a.transpose(1, 0, 2)[::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turn[orientation](shown)))
    assert np.array_equal(read_one(stored, tmp_path / "x.png", exif=exif), shown)


def test_sizes(tmp_path: Path) -> None:
    write_images(tmp_path / "small", 4, height=20, width=64)
    assert load_source(str(tmp_path / "small")).items.shape[1:3] == (20, 64)
    assert load_source(str(tmp_path / "small"), size=32).items.shape[1:3] == (10, 32)
    write_images(tmp_path / "large", 4, height=96, width=128)
    found = load_source(str(tmp_path / "large"))
    assert found.items.shape[1:3] == (48, 64)
    assert "scaled to 48 x 64" in " ".join(found.notes)
    assert load_source(str(tmp_path / "large"), size=128).items.shape[1:3] == (96, 128)
    assert load_source(str(tmp_path / "small"), size=128).items.shape[1:3] == (40, 128), "a given size also enlarges"


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_other_proportions(fit: str, tmp_path: Path) -> None:
    """A wide image, red | white | blue, among square ones: what of it is seen says how it was made square."""
    write_images(tmp_path / "x", 9, height=16, width=16)
    wide = np.full((16, 48, 3), 255, np.uint8)
    wide[:, :16], wide[:, 32:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(wide).save(tmp_path / "x" / "wide.png")
    found = load_source(str(tmp_path / "x"), size=16, fit=fit)
    assert found.items.shape == (10, 16, 16, 3)
    assert any("of 2 sizes" in note for note in found.notes)
    kinds = {
        "crop": lambda a: (a[:, 2:14] > 240).all(),
        "pad": lambda a: (a[:4] == 0).all() and (a[7:9, 7:9] > 240).all() and (a[7:9, 0, 0] > 240).all(),
        "stretch": lambda a: (a[:, 0, 0] > 240).all() and (a[:, 0, 2] < 20).all() and (a[:, 7:9] > 240).all(),
    }
    matches = {name: sum(bool(test(a)) for a in found.items) for name, test in kinds.items()}
    assert matches == {name: int(name == fit) for name in kinds}


def test_class_folders_and_split_folders(tmp_path: Path) -> None:
    truth = {}
    for split in ("train", "valid", "test"):
        for label in ("cat", "dog"):
            for image in write_images(tmp_path / "x" / split / label / f"{split}{label}", 3):
                truth[image.tobytes()] = (split, label)
    found = load_source(str(tmp_path / "x"))
    assert {name: len(index) for name, index in found.splits.items()} == {"train": 6, "validation": 6, "test": 6}
    for split, index in found.splits.items():
        for i in index:
            where, label = truth[found.items[i].tobytes()]
            assert {"valid": "validation"}.get(where, where) == split
            assert found.labels["label"][i].as_py() == label


def test_a_lacking_split_is_taken_from_train(tmp_path: Path) -> None:
    write_images(tmp_path / "x" / "train", 60)
    test = write_images(tmp_path / "x" / "test", 5)
    found = load_source(str(tmp_path / "x"))
    assert as_set(found.rows("test")) == as_set(test)
    assert 1 <= len(found.rows("validation")) <= 15
    assert len(found.rows("train")) + len(found.rows("validation")) == 60


def bad_images(folder: Path) -> dict[str, bytes]:
    good = (folder / "000.png").read_bytes()
    flipped = good[:60] + bytes(255 - byte for byte in good[60:90]) + good[90:]
    return {"cut.png": good[: len(good) // 2], "empty.png": b"", "text.png": b"this is a text", "flip.png": flipped,
            "head.jpg": b"\xff\xd8\xff\xe0junk"}  # fmt: skip


@pytest.mark.parametrize("name", ["cut.png", "empty.png", "text.png", "flip.png", "head.jpg"])
def test_one_bad_image_of_many_is_left_out_and_named(name: str, tmp_path: Path) -> None:
    images = write_images(tmp_path / "x", 20)
    (tmp_path / "x" / name).write_bytes(bad_images(tmp_path / "x")[name])
    found = load_source(str(tmp_path / "x"))
    assert as_set(found.items) == as_set(images)
    assert any("1 of 21 images" in note and name in note for note in found.notes)
    (tmp_path / name).write_bytes((tmp_path / "x" / name).read_bytes())
    with pytest.raises(DataError, match=f"cannot read {name}") as error:
        load_source(str(tmp_path / name))
    assert error.value.why
    assert error.value.fix


def test_more_than_a_tenth_of_bad_files_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path / "x", 12)
    for name, content in bad_images(tmp_path / "x").items():
        (tmp_path / "x" / name).write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read \d of 17 images"):
        load_source(str(tmp_path / "x"))


def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    Image.new("L", (10_000, 6_000)).save(tmp_path / "x.png")
    with pytest.raises(DataError) as error:
        load_source(str(tmp_path / "x.png"))
    assert "10000 x 6000 pixels" in error.value.why


# -- archives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_an_archive_is_its_folder(suffix: str, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_images(tmp_path / "x" / label, 8)
    path = tmp_path / f"x{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((tmp_path / "x").rglob("*.png")):
                archive.write(file, f"some/root/{file.relative_to(tmp_path / 'x')}")
            archive.writestr("__MACOSX/some/root/cat/._000.png", b"junk")
    else:
        with tarfile.open(path, "w:" + {".tar": "", ".tgz": "gz"}.get(suffix, suffix[5:])) as archive:
            archive.add(tmp_path / "x", "some/root")
    folder, packed = load_source(str(tmp_path / "x")), load_source(str(path))
    assert packed.fingerprint() == folder.fingerprint()
    assert packed.name == "x"


def zip_with(name: str, content: bytes = b"a,b\n1,2\n", attributes: int = 0, flag: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = attributes << 16, zipfile.ZIP_DEFLATED
        archive.writestr(info, content)
    raw = bytearray(buffer.getvalue())
    if flag:
        raw[raw.index(b"PK\x01\x02") + 8] |= flag
    return bytes(raw)


def tar_with(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(b"a\n1\n"))
    return buffer.getvalue()


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "traversal": ("x.zip", lambda: zip_with("../../evil.csv"), "outside of the folder"),
    "inside": ("x.zip", lambda: zip_with("a/../../evil.csv"), "outside of the folder"),
    "absolute": ("x.zip", lambda: zip_with("/etc/evil.csv"), "outside of the folder"),
    "drive": ("x.zip", lambda: zip_with("c:/evil.csv"), "outside of the folder"),
    "backslash": ("x.zip", lambda: zip_with("..\\evil.csv"), "outside of the folder"),
    "link": ("x.zip", lambda: zip_with("a.csv", b"/etc/passwd", 0o120777), "is a link"),
    "encrypted": ("x.zip", lambda: zip_with("a.csv", flag=1), "encrypted"),
    "bomb": ("x.zip", lambda: zip_with("a.csv", b"0" * 100_000_000), "more than 200 times"),
    "tar traversal": ("x.tar", lambda: tar_with("../evil.csv"), "outside of the folder"),
    "tar absolute": ("x.tar", lambda: tar_with("/evil.csv"), "outside of the folder"),
    "tar link": ("x.tar", lambda: tar_with("a.csv", tarfile.SYMTYPE, "/etc/passwd"), "link or a device"),
    "tar hard link": ("x.tar", lambda: tar_with("a.csv", tarfile.LNKTYPE, "b"), "link or a device"),
    "tar device": ("x.tar", lambda: tar_with("a.csv", tarfile.CHRTYPE), "link or a device"),
    "tar bomb": ("x.tar.gz", lambda: gzip.compress(bytes(100_000_000)), "more than 200 times"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused(name: str, tmp_path: Path) -> None:
    file, make, words = HOSTILE[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / file).write_bytes(make())
    with pytest.raises(DataError, match="refused") as error:
        load_source(str(tmp_path / "in" / file))
    assert words in error.value.why
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["in", file]), "nothing is written"


def test_too_many_members_are_refused_before_the_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(30):
            archive.writestr(f"{number}.txt", "x")
    monkeypatch.setattr(archives, "MEMBERS", 29)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(DataError) as error:
        load_source(str(path))
    assert "30 members" in error.value.why


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz", "x.tar.xz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 junk", bytes(700)])
def test_a_damaged_archive(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError):
        load_source(str(tmp_path / name))


# -- tables ----------------------------------------------------------------------------------------------------------

ROWS = pa.table({
    "n": list(range(40)),
    "x": [i / 7 for i in range(40)],
    "kind": [None if i == 3 else "abc"[i % 3] for i in range(40)],
    "yes": [i % 2 == 0 for i in range(40)],
})  # fmt: skip


def as_csv(delimiter: str = ",", header: bool = True, mark: bytes = b"", end: str = "\n") -> bytes:
    rows = [ROWS.column_names] if header else []
    rows += [["" if cell is None else str(cell) for cell in row.values()] for row in ROWS.to_pylist()]
    return mark + end.join(delimiter.join(map(str, row)) for row in rows).encode()


def jsonl() -> bytes:
    return "\n".join(json.dumps(row) for row in ROWS.to_pylist()).encode()


def packed(write: Callable[[pa.Table, Any], Any]) -> bytes:
    sink = pa.BufferOutputStream()
    write(ROWS, sink)
    return sink.getvalue().to_pybytes()


def as_stream(table: pa.Table, sink: Any) -> None:
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


TABLES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "comma": ("x.csv", as_csv),
    "semicolon": ("x.csv", lambda: as_csv(";")),
    "bar and carriage returns": ("x.csv", lambda: as_csv("|", end="\r\n")),
    "tab": ("x.tsv", lambda: as_csv("\t")),
    "mark": ("x.csv", lambda: as_csv(mark=b"\xef\xbb\xbf")),
    "gz": ("x.csv.gz", lambda: gzip.compress(as_csv())),
    "jsonl": ("x.jsonl", jsonl),
    "array": ("x.json", lambda: json.dumps(ROWS.to_pylist()).encode()),
    "parquet": ("x.parquet", lambda: packed(pa.parquet.write_table)),
    "feather": ("x.feather", lambda: packed(pa.feather.write_feather)),
    "arrow": ("x.arrow", lambda: packed(pa.feather.write_feather)),
    "stream of arrow": ("x.arrow", lambda: packed(as_stream)),
    "zip": ("x.zip", lambda: zip_with("data/x.csv", as_csv())),
    "zip of a stream of arrow": ("x.zip", lambda: zip_with("data/x.arrow", packed(as_stream))),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_come_back_in_every_format(name: str, tmp_path: Path) -> None:
    file, make = TABLES[name]
    (tmp_path / file).write_bytes(make())
    found = load_source(str(tmp_path / file))
    assert found.modality == "table"
    assert found.items.schema.types == [pa.int64(), pa.float64(), pa.string(), pa.bool_()]
    rows = sorted(found.items.to_pylist(), key=lambda row: row["n"])
    for row, true in zip(rows, ROWS.to_pylist(), strict=True):
        assert row == pytest.approx(true)


def load_text(tmp_path: Path, content: str | bytes, name: str = "x.csv", **reading: Any) -> Any:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return load_source(str(tmp_path / name), **reading)


def test_odd_tables_are_read_with_a_note(tmp_path: Path) -> None:
    found = load_text(tmp_path, as_csv(header=False).replace(b"None", b""))
    assert found.items.column_names == ["x0", "x1", "x2", "x3"]
    found = load_text(tmp_path, "a,a,\n1,2,3\n4,5,6\n")
    assert found.items.column_names == ["a", "a_2", "column_2"]
    found = load_text(tmp_path, 'a,b\n1,"two\nlines, quoted"\n3,4\n')
    assert "two\nlines, quoted" in found.items["b"].to_pylist()
    found = load_text(tmp_path, "a,b\n1,\n2,\n")
    assert found.items.column_names == ["a"]
    assert "no values" in " ".join(found.notes)
    found = load_text(tmp_path, "a,b\n1,inf\n2,nan\n3,0.5\n")
    assert sum(np.isinf(found.items["b"].to_numpy(zero_copy_only=False))) == 1
    assert found.items["b"].null_count == 1
    many = "a,b\n" + "".join(f"{i},k{i}\n" for i in range(100_000))
    assert load_text(tmp_path, many).items.num_rows == 100_000
    assert load_text(tmp_path, "a,b\n1,2\n").splits["test"].tolist() == [0], "one row is all of them"


def test_a_ragged_row_of_many_is_left_out(tmp_path: Path) -> None:
    found = load_text(tmp_path, as_csv() + b"\n1,2\n")
    assert found.items.num_rows == 40
    assert any("1 of 41 rows" in note and "2 cells, expected 4" in note for note in found.notes)
    found = load_text(tmp_path, jsonl() + b"\n{broken\n", "x.jsonl")
    assert any("1 of 41 lines" in note and "line 41" in note for note in found.notes)
    mixed = "\n".join(json.dumps({"a": i if i % 2 else str(i), "b": [i], "c": 2**70 + i}) for i in range(20))
    found = load_text(tmp_path, mixed, "x.jsonl")
    assert {name: str(kind) for name, kind in zip(found.items.column_names, found.items.schema.types, strict=True)} == {
        "a": "string", "c": "string"}  # fmt: skip


WRONG_TABLES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.csv", b"", "cannot be read"),
    "header alone": ("x.csv", b"a,b\n", "no rows"),
    "ragged": ("x.csv", b"a,b\n1,2\n1\n1,2,3\n", "cannot read 2 of 3 rows"),
    "binary": ("x.csv", bytes(range(256)), "cannot be read"),
    "cut parquet": ("x.parquet", packed(pa.parquet.write_table)[:300], "cannot be read"),
    "no parquet": ("x.parquet", b"a,b\n1,2\n", "cannot be read"),
    "cut feather": ("x.feather", packed(pa.feather.write_feather)[:300], "cannot be read"),
    "no arrow": ("x.arrow", b"ARROW2, or what?", "cannot be read"),
    "deep": ("x.jsonl", b"[" * 100_000, "cannot be read"),
    "deep line": ("x.jsonl", b'{"a":' * 100_000, "cannot read"),
    "no objects": ("x.jsonl", b"1\n2\n", "cannot read 2 of 2 lines"),
    "broken gz": ("x.csv.gz", b"\x1f\x8b junk", "cannot be read"),
    "cut gz": ("x.csv.gz", gzip.compress(as_csv())[:-20], "cannot be read"),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_a_broken_table_says_what_where_and_why(name: str, tmp_path: Path) -> None:
    file, content, words = WRONG_TABLES[name]
    with pytest.raises(DataError, match=words) as error:
        load_text(tmp_path, content, file)
    assert str(tmp_path) in error.value.where
    assert error.value.why or error.value.fix


def test_several_files_are_one_table_or_its_splits(tmp_path: Path) -> None:
    for name, start in (("train", 0), ("valid", 30), ("test", 36)):
        rows = ROWS.slice(start, {"train": 30, "valid": 6, "test": 4}[name])
        pa.parquet.write_table(rows, tmp_path / f"{name}.parquet")
    found = load_source(str(tmp_path))
    assert found.rows("test")["n"].to_pylist() == [36, 37, 38, 39]
    assert found.rows("validation")["n"].to_pylist() == list(range(30, 36))
    for name, other in (("train", "a"), ("valid", "b"), ("test", "c")):
        (tmp_path / f"{name}.parquet").rename(tmp_path / f"{other}.parquet")
    again = load_source(str(tmp_path))
    assert sorted(again.items["n"].to_pylist()) == list(range(40))
    assert not any("say" in note for note in again.notes)


# -- texts -----------------------------------------------------------------------------------------------------------


def test_a_text_is_cut_into_three_or_a_list_of_lines(tmp_path: Path) -> None:
    prose = "A sentence of the text.\n\nAnother one, after a blank line.\n" * 40
    found = load_text(tmp_path, prose, "x.txt")
    assert "".join(found.items) == prose
    assert [len(index) for index in found.splits.values()] == [1, 1, 1]
    assert len(found.items[0]) == pytest.approx(0.8 * len(prose), rel=0.03)
    assert all(text.endswith("\n") for text in found.items)
    names = "\n".join(f"name {i}" for i in range(80))
    found = load_text(tmp_path, names, "x.txt")
    assert sorted(found.items) == sorted(names.split("\n"))
    assert len(load_text(tmp_path, names, "x.txt", unit="document").items) == 3
    assert len(load_text(tmp_path, prose.replace("\n", "\r\n"), "x.txt", unit="line").items) == 80
    assert load_text(tmp_path, prose.encode("utf-16"), "x.txt").items == load_text(tmp_path, prose, "x.txt").items


def test_folders_of_texts(tmp_path: Path) -> None:
    for label in ("ham", "spam"):
        (tmp_path / "x" / label).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "x" / label / f"{number}.txt").write_text(f"{label} number {number}\n\nbody")
    found = load_source(str(tmp_path / "x"))
    assert all(
        text.startswith(label) for text, label in zip(found.items, found.labels["label"].to_pylist(), strict=True)
    )
    lines = load_source(str(tmp_path / "x"), unit="line")
    assert len(lines.items) == len(lines.labels) == 40


@pytest.mark.parametrize("content", [b"", b"  \n", b"abc\0def", "größe ".encode() * 20 + b"\xc3"])
def test_a_broken_text(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read x\.txt"):
        load_text(tmp_path, content, "x.txt")


def test_texts_in_tables(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"sentence {i}", "label": "ab"[i % 2]}) for i in range(30)]
    found = load_text(tmp_path, "\n".join(rows), "x.jsonl")
    assert found.modality == "text"
    assert found.labels.column_names == ["label"]
    long = "review\n" + "\n".join(f'"this is a rather long review of a film, number {i}"' for i in range(30))
    assert load_text(tmp_path, long).modality == "text"
    assert load_text(tmp_path, "name,review\n" + "\n".join(f"a{i},{'b' * 60}{i}" for i in range(9))).modality == "table"


# -- arrays ----------------------------------------------------------------------------------------------------------


def test_arrays(tmp_path: Path) -> None:
    images = np.stack([picture(i) for i in range(20)])
    np.save(tmp_path / "x.npy", images.transpose(0, 3, 1, 2))
    assert as_set(load_source(str(tmp_path / "x.npy")).items) == as_set(images)
    np.save(tmp_path / "x.npy", images[..., 0])
    assert as_set(load_source(str(tmp_path / "x.npy")).items) == as_set(images[..., :1])
    points = np.random.default_rng(0).normal(size=(20, 3))
    np.save(tmp_path / "x.npy", points)
    assert load_source(str(tmp_path / "x.npy")).items.column_names == ["x0", "x1", "x2"]
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(20))
    found = load_source(str(tmp_path / "x.npz"))
    for i, image in enumerate(found.items):
        assert np.array_equal(image, images[found.labels["label"][i].as_py()])
    np.savez(tmp_path / "x.npz", age=np.arange(20), kind=np.array(list("ab" * 10)))
    assert load_source(str(tmp_path / "x.npz")).items.schema.types == [pa.int64(), pa.string()]
    np.savez(tmp_path / "x.npz", x_train=images[:15], y_train=np.arange(15), x_test=images[15:], y_test=np.arange(5))
    assert as_set(load_source(str(tmp_path / "x.npz")).rows("test")) == as_set(images[15:])


def test_arrays_that_are_refused(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=objects, allow_pickle=True)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match="Python objects"):
            load_source(str(tmp_path / name))
    np.save(tmp_path / "good.npy", np.zeros((50, 3)))
    whole = (tmp_path / "good.npy").read_bytes()
    for content in (whole[:-8], whole[:40], b"", b"text", whole.replace(b"(50, 3)", b"(10**9,)")):
        (tmp_path / "y.npy").write_bytes(content)
        with pytest.raises(DataError):
            load_source(str(tmp_path / "y.npy"))
    for array in (
        np.zeros((0, 3)),
        np.zeros(()),
        np.zeros((4, 8, 8, 2), np.uint8),
        np.zeros(3, "c16"),
    ):
        np.save(tmp_path / "y.npy", array)
        with pytest.raises(DataError):
            load_source(str(tmp_path / "y.npy"))
    np.savez(tmp_path / "y.npz", a=np.zeros(3), b=np.zeros(4))
    with pytest.raises(DataError, match="different lengths"):
        load_source(str(tmp_path / "y.npz"))


# -- sounds ----------------------------------------------------------------------------------------------------------


def tone(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


def pitch(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2**17))
    return float(np.argmax(power) * rate / 2**17)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_sounds_of_every_format(suffix: str, tmp_path: Path) -> None:
    for number in range(6):
        stereo = np.stack([tone(400 + 50 * number, 16_000), 0 * tone(1, 16_000)], 1)
        soundfile.write(tmp_path / f"{number}.{suffix}", stereo, 16_000)
    found = load_source(str(tmp_path))
    assert found.modality == "audio"
    assert found.items.rate == 16_000
    assert all(samples.dtype == np.float32 and samples.ndim == 1 for samples in found.items)
    assert sorted(round(pitch(samples, 16_000), -1) for samples in found.items) == [400, 450, 500, 550, 600, 650]
    middle = np.concatenate([samples[2000:6000] for samples in found.items])
    assert np.abs(middle).max() == pytest.approx(0.25, rel=0.1), "the mean of both channels"


def test_one_rate_for_all(tmp_path: Path) -> None:
    for number, rate in enumerate((8000, 8000, 8000, 44_100, 11_025)):
        soundfile.write(tmp_path / f"{number}.wav", tone(700, rate), rate)
    found = load_source(str(tmp_path))
    assert found.items.rate == 8000, "the most common"
    assert any("resampled" in note for note in found.notes)
    other = load_source(str(tmp_path), rate=12_000)
    for dataset, rate in ((found, 8000), (other, 12_000)):
        for samples in dataset.items:
            assert len(samples) == pytest.approx(rate / 2, abs=2)
            assert pitch(samples, rate) == pytest.approx(700, abs=2)


def test_broken_sounds(tmp_path: Path) -> None:
    for number in range(30):
        soundfile.write(tmp_path / f"{number:02d}.wav", tone(300 + number, 8000), 8000)
    bad = {"empty.wav": b"", "text.wav": b"RIFF this is none", "none.flac": b"fLaC"}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"cannot read {name}"):
            load_source(str(tmp_path / name))
    found = load_source(str(tmp_path))
    assert len(found.items) == 30
    assert any("3 of 33 recordings" in note for note in found.notes)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 8000, subtype="FLOAT")
    for name in ("empty.wav", "nan.wav"):
        with pytest.raises(DataError):
            load_source(str(tmp_path / name))


# -- names -----------------------------------------------------------------------------------------------------------


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        load_source("moon")
    assert "did you mean moons" in error.value.why
    (tmp_path / "customers.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no such file") as missing:
        load_source(str(tmp_path / "customer.csv"))
    assert "customers.csv" in missing.value.fix
    with pytest.raises(DataError, match="there is no file here that can be read"):
        load_source(str(tmp_path.joinpath("x.doc").write_bytes(b"1") and tmp_path / "x.doc"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no file here that can be read"):
        load_source(str(tmp_path / "empty"))
