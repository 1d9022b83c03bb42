"""Raw items -> files that a person or a program can open, each with a note of where it came from.

| items                  | suffixes                                             |
|------------------------|------------------------------------------------------|
| images (N, H, W, C)    | .png (one grid), a folder (00000.png ...), .npz      |
| a `pyarrow.Table`      | .csv, .parquet, .jsonl, .npz                         |
| a list of strings      | .txt (for people), .jsonl (for programs)             |
| `Recordings`           | .wav, .flac, a folder (00000.wav ...), .npz          |

Several recordings in one .wav or .flac follow each other with a quarter of a second of silence between them, at 16 bits
a sample; .npz holds `samples` (all of them, joined), `lengths` and `rate`.

A path that is - is standard output, in the first of these formats and without a note beside it.

The note (provenance) is a JSON object: inside PNG, Parquet, WAV and FLAC files, beside the others as
NAME.provenance.json. It should hold no time of day, so that the same samples give the same files, byte for byte.
"""

from __future__ import annotations

import datetime
import decimal
import io
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import soundfile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from quintet.core.codec import Codec
from quintet.core.errors import DataError, UsageError
from quintet.data import written
from quintet.data.dataset import Scale
from quintet.data.recordings import Recordings
from quintet.modalities.image.reading import from_codes
from quintet.modalities.pictures import grid_png, scatter_png, spectrogram_png

Kind = Literal["image", "table", "text", "audio"]
Provenance = Mapping[str, Any]

KEY = "quintet"
"""Under this name the provenance stands in a file's metadata."""
GRID = 10_000
"""More images than that are no picture any more."""
PAUSE = 0.25
"""Seconds of silence between the recordings of one file."""
HEARD = 20
"""So many recordings of a run's samples are written to be listened to."""


# -- images ----------------------------------------------------------------------------------------------------------


def top_of(codec: Codec) -> int:
    """The largest raw value that this codec decodes to (for images: white), or 255."""
    codec = getattr(codec, "inner", codec)  # what latents decode to is what their inner codec does
    unit, levels = getattr(codec, "unit", None), getattr(codec, "levels", None)
    return int(unit * (levels - 1)) if unit and levels else 255


def to_bytes(images: NDArray[Any], codec: Codec) -> NDArray[np.uint8]:
    """Images with the codec's largest value brightened to 255."""
    return scale(images, top_of(codec))


def scale(images: NDArray[Any], top: int = 255) -> NDArray[np.uint8]:
    """Images 0 ... top as uint8 images 0 ... 255."""
    if top == 255:
        return images.astype(np.uint8)
    return (images.astype(np.float64) * (255 / top)).round().clip(0, 255).astype(np.uint8)


def _png(picture: Image.Image, provenance: Provenance) -> bytes:
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", f"quintet {provenance.get('quintet', '')}".strip())
    note.add_text(KEY, _json(provenance))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=note)
    return buffer.getvalue()


def _grid(images: NDArray[Any], provenance: Provenance, top: int) -> bytes:
    if len(images) > GRID:
        raise UsageError(
            f"{len(images):,} images in one picture", fix=f"at most {GRID:,}, or -o FOLDER/, or -o FILE.npz"
        )
    columns = max(8, math.ceil(math.sqrt(len(images))))
    return _png(Image.open(io.BytesIO(grid_png(scale(images, top), columns))), provenance)


def _one_png(image: NDArray[Any], provenance: Provenance, top: int) -> bytes:
    shown = image if image.dtype == np.uint16 else scale(image, top)
    return _png(Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown), provenance)


# -- recordings ------------------------------------------------------------------------------------------------------


def joined(recordings: Recordings) -> NDArray[np.float32]:
    """One recording after another (n,), with silence between them."""
    pause = np.zeros(round(PAUSE * recordings.rate), np.float32)
    parts = [part for samples in recordings for part in (np.asarray(samples, np.float32), pause)]
    return np.concatenate(parts[:-1]) if parts else pause[:0]


def sound(samples: NDArray[Any], rate: int, provenance: Provenance, container: Literal["WAV", "FLAC"] = "WAV") -> bytes:
    """A file of 16-bit samples with the provenance as its comment: ICMT of RIFF, or COMMENT of FLAC."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, "PCM_16", format=container) as file:
        if provenance:
            file.software = f"quintet {provenance.get('quintet', '')}".strip()
            file.comment = _json(provenance)
        file.write(np.clip(samples, -1, 1))
    return buffer.getvalue()


def _wav(recordings: Recordings, provenance: Provenance, top: int) -> bytes:
    return sound(joined(recordings), recordings.rate, provenance)


def _flac(recordings: Recordings, provenance: Provenance, top: int) -> bytes:
    return sound(joined(recordings), recordings.rate, provenance, "FLAC")


# -- one function a format: (items, provenance, top) -> the file's bytes ----------------------------------------------


def _npz(items: Any, provenance: Provenance, top: int) -> bytes:
    if isinstance(items, Recordings):
        arrays = {
            "samples": np.concatenate([np.zeros(0, np.float32), *items]),
            "lengths": np.array([len(samples) for samples in items]),
            "rate": np.array(items.rate),
        }
    else:
        arrays = {"images": items} if isinstance(items, np.ndarray) else _arrays(items)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _arrays(table: pa.Table) -> dict[str, NDArray[Any]]:
    """Columns as arrays; strings get a fixed width, so that no pickle is needed."""
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return {name: cells.astype(str) if cells.dtype == object else cells for name, cells in columns.items()}


def _csv(table: pa.Table, provenance: Provenance, top: int) -> bytes:
    """Cells as they were written where the data come from; quoted where they must be."""
    columns = [_quoted(column.combine_chunks()) for column in written.strings(table).columns]
    header = ",".join(_quoted(pa.array(table.column_names, pa.string())).to_pylist())
    alone = '""' if len(columns) == 1 else ""  # a line without anything would be no row
    lines = pc.binary_join_element_wise(*columns, ",", null_handling="replace", null_replacement=alone)
    return "".join(f"{line}\n" for line in [header, *lines.to_pylist()]).encode("utf-8", "replace")


def _quoted(cells: pa.Array) -> pa.Array:
    must = pc.or_(pc.match_substring_regex(cells, '[",\r\n]'), pc.equal(cells, ""))
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(must, quoted, cells)


def _parquet(table: pa.Table, provenance: Provenance, top: int) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata({KEY: _json(provenance)}), buffer)
    return buffer.getvalue()


def _jsonl(items: Any, provenance: Provenance, top: int) -> bytes:
    if isinstance(items, pa.Table):
        rows = written.as_written(items, plain=False).to_pylist()
    else:
        rows = [{"text": text} for text in items]
    return "".join(json.dumps({name: _plain(cell) for name, cell in row.items()}) + "\n" for row in rows).encode()


def _plain(cell: Any) -> Any:
    """A cell in what JSON has: a decimal is a number, a date or time is written in ISO 8601, NaN is null."""
    if isinstance(cell, decimal.Decimal):
        return float(cell)
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return cell if cell is None or isinstance(cell, str | int | float | bool) else str(cell)


def _txt(items: list[str], provenance: Provenance, top: int) -> bytes:
    """One item a line; with a rule between them if any has several lines."""
    between = "\n----\n" if any("\n" in text for text in items) else "\n"
    return (between.join(items) + "\n").encode("utf-8", "replace")


Encoder = Callable[[Any, Provenance, int], bytes]
FORMATS: dict[str, dict[str, Encoder]] = {
    "image": {".png": _grid, ".npz": _npz},
    "table": {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".npz": _npz},
    "text": {".txt": _txt, ".jsonl": _jsonl},
    "audio": {".wav": _wav, ".flac": _flac, ".npz": _npz},
}
STANDARD = "-"
INSIDE = (".png", ".parquet", ".wav", ".flac")
"""Formats that hold their provenance themselves."""
FOLDERS = {"image": ".png", "audio": ".wav"}
"""What a folder of single items holds."""


# -- writing ---------------------------------------------------------------------------------------------------------


def default_suffix(modality: str) -> str:
    """The suffix of a file that a person can open: .png, .csv, .txt or .wav."""
    return next(iter(FORMATS[modality])) if modality in FORMATS else ".npz"


def kind_of(items: Any) -> Kind:
    """What raw items are: "image", "table", "text" or "audio"."""
    if isinstance(items, pa.Table):
        return "table"
    if isinstance(items, Recordings):
        return "audio"
    return "image" if isinstance(items, np.ndarray) else "text"


def is_folder(path: str | Path) -> bool:
    """Whether an output path means a folder: it ends in /, has no suffix, or is one already."""
    return str(path).endswith(("/", os.sep)) or not Path(path).suffix or Path(path).is_dir()


def check_output(path: str | Path, kind: str) -> None:
    """Raise UsageError unless items of this kind can be written to `path`: to be known before the work is done."""
    formats = FORMATS.get(kind, {})
    if "\0" in str(path):
        raise UsageError("a path has no NUL character", where=repr(str(path)))
    if str(path) == STANDARD and formats:
        return
    folder = is_folder(path)
    if (folder and kind not in FOLDERS) or (not folder and Path(path).suffix.lower() not in formats):
        known = ", ".join(formats) + (", or a folder" if kind in FOLDERS else "")
        what = "a folder" if folder else Path(path).suffix
        raise UsageError(f"{what} cannot hold items of kind {kind}", where=str(path), why=f"known: {known}")


def write_items(
    path: str | Path, items: Any, provenance: Provenance, *, top: int = 255, scale: Scale | None = None
) -> list[Path]:
    """Write raw items as a codec decodes them, in the format of the suffix. Returns the files.

    `scale`: what 0 and 255 stand for in images of 16 bits or real numbers: .npz holds the values themselves, and so do
    single PNGs of 16 bits; a picture of several shows them.
    A path without a suffix, or one that ends in /, is a folder of PNGs or WAVs. `top`: the raw value of white; PNGs are
    scaled to it, .npz is not. Files are replaced as a whole: a reader sees the old or the new one. Raises OSError, and
    UsageError for a format that does not fit.
    """
    kind = kind_of(items)
    check_output(path, kind)
    if str(path) == STANDARD:
        sys.stdout.buffer.write(FORMATS[kind][default_suffix(kind)](items, provenance, top))
        sys.stdout.buffer.flush()
        return []
    folder, path = is_folder(path), Path(path)
    if kind == "image" and scale is not None and (folder or path.suffix.lower() == ".npz"):
        values = from_codes(items, scale)
        if not folder or (values.dtype == np.uint16 and values.shape[-1] == 1):
            items = values
    if folder:
        return _write_folder(path, items, provenance, top)
    suffix = path.suffix.lower()
    written = [_replace(path, FORMATS[kind][suffix](items, provenance, top))]
    if suffix not in INSIDE:
        written.append(_replace(_beside(path), (_json(provenance, indent=1) + "\n").encode()))
    return written


def _write_folder(path: Path, items: Any, provenance: Provenance, top: int) -> list[Path]:
    """00000.png ... or 00000.wav ..., one an item."""
    digits = max(5, len(str(len(items) - 1)))
    written = []
    for index, item in enumerate(items):
        note, name = {**provenance, "index": index}, f"{index:0{digits}d}{FOLDERS[kind_of(items)]}"
        content = sound(item, items.rate, note) if isinstance(items, Recordings) else _one_png(item, note, top)
        written.append(_replace(path / name, content))
    return written


def picture(path: Path, items: Any, top: int = 255) -> list[Path]:
    """Something that a person can open: `path` plus .png, .csv (and .png for points in the plane), .txt, or .wav (and
    .png of the spectrograms)."""

    def named(suffix: str) -> Path:
        return path.with_name(path.name + suffix)

    kind = kind_of(items)
    suffix = default_suffix(kind)
    shown = items[:HEARD] if kind == "audio" else items
    written = [_replace(named(suffix), FORMATS[kind][suffix](shown, {}, top))]
    if kind == "audio":
        written.append(_replace(named(".png"), spectrogram_png(items)))
    if kind == "table":
        numeric = [c for c in items.columns if pa.types.is_floating(c.type) or pa.types.is_integer(c.type)]
        if len(numeric) == 2:
            points = np.stack([column.to_numpy().astype(np.float64) for column in numeric], 1)
            finite = points[np.isfinite(points).all(1)]
            if len(finite):
                written.append(_replace(named(".png"), scatter_png(finite)))
    return written


def _replace(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.provenance.json")


def _json(data: Provenance, indent: int | None = None) -> str:
    return json.dumps(dict(data), indent=indent, default=str)


# -- reading it back -------------------------------------------------------------------------------------------------


def read_provenance(path: Path) -> dict[str, Any]:
    """The provenance of a file, or of the first picture or recording in a folder, that `write_items` wrote.

    Raises DataError.
    """
    if path.is_dir():
        first = min((file for suffix in FOLDERS.values() for file in path.glob(f"*{suffix}")), default=None)
        if first is None:
            raise DataError("no pictures and no recordings in this folder", where=str(path))
        path = first
    try:
        note = _note(path)
        data = None if note is None else json.loads(note)
    except (
        OSError,
        ValueError,
        SyntaxError,
        pa.ArrowException,
        UnidentifiedImageError,
        soundfile.SoundFileError,
    ) as error:
        raise DataError("unreadable file", where=str(path), why=str(error)) from None
    if not isinstance(data, dict):
        raise DataError("no provenance: not a file that quintet wrote", where=str(path))
    return data


def _note(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".png":
        with Image.open(path) as image:
            image.load()  # chunks may also stand behind the pixels
            found = image.info.get(KEY)
            return str(found) if found is not None else None
    if suffix in (".wav", ".flac"):
        with soundfile.SoundFile(path) as file:
            return file.comment or None
    if suffix == ".parquet":
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        found = metadata.get(KEY.encode())
        return found.decode() if found is not None else None
    return _beside(path).read_text() if _beside(path).is_file() else None
