"""What programs hold (frames, columns, pictures, arrays, tensors, paths) <-> raw items and sources.

Frames are known by what they can do, so that neither pandas nor polars needs to be installed.
"""

from __future__ import annotations

import hashlib
import operator
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import soundfile
from PIL import Image, ImageOps
from torch import Tensor

from quintet.core.checked import kind_name
from quintet.core.codec import Codec
from quintet.core.errors import DataError, EnvironmentFault, QuintetWarning, UsageError
from quintet.data import arrow
from quintet.data.archives import BadFile
from quintet.data.dataset import Scale, take
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.image.reading import Shape, as_codes, as_eight_bits, open_image, resized

FRAMES = ("pandas", "polars")
PLAIN_SCALARS = (str, bytes, bool, int, float, np.generic)


MOST = 2**32 - 1
"""The largest number of anything, which every random source also takes as a seed."""


def count_of(value: Any, name: str, least: int = 1) -> int:
    """A whole number from `least` to MOST. Raises UsageError for fractions, truth values and anything else."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        what = f"{name} must be a whole number, got {value!r}"
        raise UsageError(what, why=f"it is of type {kind_name(value)}") from None
    if count < least:
        raise UsageError(f"{name} must be at least {least}, got {count}")
    if count > MOST:
        raise UsageError(f"{name} must be at most {MOST:,}, got {count}")
    return count


def scalar(thing: Any) -> bool:
    """Whether this is one value: a text, a number, a date, None; an array without axes too."""
    if thing is None or isinstance(thing, PLAIN_SCALARS):
        return True
    shape = getattr(thing, "shape", None)
    return shape == () or (shape is None and not hasattr(thing, "__len__") and not hasattr(thing, "__iter__"))


# -- frames and columns ------------------------------------------------------------------------------------------------


def library(thing: Any) -> str | None:
    """ "pandas" or "polars" for what comes from them."""
    package = type(thing).__module__.split(".")[0]
    return package if package in FRAMES else None


def is_frame(thing: Any) -> bool:
    """Whether this is a table: of Arrow, pandas, polars, or of whatever else can give one to Arrow."""
    if isinstance(thing, pa.Table | pa.RecordBatch):
        return True
    gives = hasattr(thing, "__arrow_c_stream__") or hasattr(thing, "__dataframe__") or library(thing) is not None
    return gives and hasattr(type(thing), "columns")


def is_column(thing: Any) -> bool:
    """Whether this is one column: of Arrow, pandas or polars."""
    if isinstance(thing, pa.Array | pa.ChunkedArray):
        return True
    gives = hasattr(thing, "__arrow_c_stream__") or library(thing) is not None
    return gives and hasattr(thing, "dtype") and not hasattr(thing, "columns")


def table_of(frame: Any) -> pa.Table:
    """A frame as an Arrow table, without the index of pandas. Raises DataError for cells that Arrow does not know."""
    if isinstance(frame, pa.Table):
        return frame
    try:
        if isinstance(frame, pa.RecordBatch):
            return pa.Table.from_batches([frame])
        if library(frame) == "pandas":
            return plain(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None))
        if hasattr(frame, "collect_schema") and hasattr(frame, "collect"):  # a query that has not run yet
            frame = frame.collect()
        if hasattr(frame, "__arrow_c_stream__"):
            return plain(pa.table(frame))
        from pyarrow.interchange import from_dataframe

        return plain(from_dataframe(frame))
    except (pa.ArrowException, TypeError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError("this frame has cells of no single type", where=kind_name(frame), why=why,
                        fix="give each column one type: numbers, texts, truth values or dates") from None  # fmt: skip


def column_of(column: Any, name: str = "items") -> Any:
    """A column of pandas, polars or Arrow as an Arrow column."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return column
    frame = column.to_frame(name=name)
    return table_of(frame).column(0)


def plain(table: pa.Table) -> pa.Table:
    """The same with texts of one type, and dictionaries as their values."""
    columns = []
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type) or str(column.type) == "string_view":
            column = column.cast(pa.string())
        columns.append(column)
    return pa.table(columns, names=table.column_names)


def back(table: Any, library: str | None, index: Any = None) -> Any:
    """An Arrow table as a frame of this library (pandas: with this `index`); anything else as it is."""
    if not isinstance(table, pa.Table) or library is None:
        return table
    if library == "polars":
        return sys.modules["polars"].from_arrow(table)
    frame = table.to_pandas()
    if index is not None and len(index) == len(frame):
        frame.index = index
    return frame


# -- raw items ---------------------------------------------------------------------------------------------------------


def raw_items(items: Any, codec: Codec, column: str | None = None, scale: Scale | None = None) -> Any:
    """Whatever holds items, as the raw items that `codec` takes; one item is a list of one.

    `column`: the name of the column that items are in, where a frame of texts has several. `scale`: of images of 16
    bits or real numbers, which all such pictures and all arrays but uint8 are then in. Raises UsageError or DataError
    for what is no such item, with its type.
    """
    if isinstance(items, Iterator):
        items = list(items)
    if items is None or isinstance(items, set | frozenset | bytes):
        raise wrong(items, codec)
    if isinstance(items, np.ndarray) and items.size == 0:
        raise UsageError("no items", why=f"an array of shape {items.shape} was given")
    if codec.modality == "image" and scale is not None:
        items = _on_scale(items, scale)
    convert = {"table": _rows, "text": _texts, "image": _images, "audio": _recordings}[codec.modality]
    out = convert(items, getattr(codec, "inner", codec), column)
    if len(out) == 0:
        raise UsageError("no items", why="an empty list was given")
    return out


WANTED = {
    "table": "a DataFrame, an Arrow table, a dict of columns, rows as dicts, or an array (N, columns)",
    "text": "a text, a list of texts, or a column of them",
    "image": "a picture of Pillow, a list of them, or an array (N, H, W, C)",
    "audio": "a list of arrays of samples, or quintet's Recordings",
}


def wrong(items: Any, codec: Codec, why: str = "") -> DataError:
    what = f"{kind_name(items)} where items of kind {codec.modality} are meant"
    return DataError(what, why=why, fix=f"give {WANTED[codec.modality]}")


def _rows(items: Any, codec: Any, column: str | None) -> pa.Table:
    names = tuple(one.name for one in codec.columns)
    if is_frame(items):
        return table_of(items)
    if isinstance(items, str):
        raise wrong(items, codec, "a text is no row; a file is pathlib.Path(...)")
    labels = list(items.index) if library(items) == "pandas" else []
    if is_column(items) and len(names) > 1 and set(names) <= set(map(str, labels)):
        items = {str(name): [items[name]] for name in labels}  # one row of a frame, as frame.iloc[0] gives it
    if is_column(items):
        if len(names) != 1:
            why = f"the model's columns are {', '.join(names)}; one column lacks the others"
            raise wrong(items, codec, why)
        return plain(pa.table({names[0]: column_of(items)}))
    try:
        if isinstance(items, Mapping):
            return plain(pa.table({str(name): _cells(cells) for name, cells in items.items()}))
        if isinstance(items, list | tuple) and items and all(isinstance(row, Mapping) for row in items):
            return plain(pa.Table.from_pylist([dict(row) for row in items]))
        if isinstance(items, list) and len(names) == 1 and all(map(scalar, items)):
            return pa.table({names[0]: pa.array(items, from_pandas=True)})
        array = as_array(items)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise wrong(items, codec, str(error).splitlines()[0]) from None
    if array.dtype.kind not in "biufUM" or array.ndim not in (1, 2):
        raise wrong(items, codec, f"an array of {array.dtype} {array.shape}")
    if array.ndim == 1 and len(names) > 1:
        array = array[None]
    return arrow.as_table(array, names)


def _cells(cells: Any) -> Any:
    """The cells of one column of a dict: a column, an array, a list, or one value."""
    if is_column(cells):
        return column_of(cells)
    return arrow.as_column(
        [cells] if scalar(cells) else cells.numpy(force=True) if isinstance(cells, Tensor) else cells
    )


def as_array(items: Any) -> np.ndarray:
    """An array from a tensor or nested lists."""
    return items.numpy(force=True) if isinstance(items, Tensor) else np.asarray(items)


def _texts(items: Any, codec: Any, column: str | None) -> list[str]:
    if isinstance(items, str):
        return [items]
    if isinstance(items, Mapping):
        items = {str(name): _cells(cells) for name, cells in items.items()}
        try:
            items = pa.table(items)
        except (pa.ArrowException, ValueError) as error:
            raise wrong(items, codec, str(error).splitlines()[0]) from None
    if is_frame(items):
        table = table_of(items)
        strings = [name for name in table.column_names if pa.types.is_string(table[name].type)]
        named = [name for name in (column, "text") if name in strings]
        if not named and len(strings) != 1:
            why = f"columns of texts: {', '.join(strings) or 'none'}"
            raise UsageError("which column holds the texts?", why=why, fix="give that column alone")
        items = table[(named or strings)[0]]
    if is_column(items):
        items = column_of(items).to_pylist()
    if isinstance(items, list | tuple) and items and all(isinstance(row, Mapping) for row in items):
        return _texts(pa.Table.from_pylist([dict(row) for row in items]), codec, column)
    if isinstance(items, np.ndarray):
        items = items.reshape(-1).tolist()
    if not isinstance(items, list | tuple):
        raise wrong(items, codec)
    for i, text in enumerate(items):
        if not isinstance(text, str):
            raise DataError(f"a text is meant, got {kind_name(text)}", where=f"item {i + 1}")
    return list(items)


def _images(items: Any, codec: Any, column: str | None) -> np.ndarray:
    if isinstance(items, Image.Image | Path):
        items = [items]
    if isinstance(items, list | tuple) and items and all(isinstance(one, Image.Image | Path) for one in items):
        return _pictures(items, codec)
    if isinstance(items, str) or is_frame(items) or is_column(items) or isinstance(items, Mapping):
        raise wrong(items, codec)
    try:
        array = as_array(items)
    except ValueError:
        raise wrong(items, codec, "the pictures are of different sizes") from None
    if array.dtype.kind not in "biuf":
        raise wrong(items, codec, f"an array of {array.dtype}")
    h, w, c = codec.shape
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and array.shape == (h, w, c):
        array = array[None]
    elif array.ndim == 3 and array.shape == (c, h, w) and not (c == 1 and isinstance(items, np.ndarray)):
        array = array.transpose(1, 2, 0)[None]
    elif array.ndim == 3 and c == 1:
        array = array[..., None]
    if array.ndim == 4 and array.shape[1:] == (c, h, w) != (h, w, c):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[1:] != (h, w, c):
        raise DataError(f"pictures of {array.shape}", why=f"the model's are (H, W, C) = {(h, w, c)}")
    return _levels(array, codec)


def white(codec: Any) -> int:
    """The largest raw value."""
    return int(codec.unit * (codec.levels - 1))


def _on_scale(items: Any, scale: Scale) -> Any:
    """Arrays and pictures in the units of the training files as uint8."""
    several = list(items) if isinstance(items, list | tuple) else [items]
    if several and all(isinstance(one, Image.Image | Path) for one in several):
        opened = [open_image(one.read_bytes()) if isinstance(one, Path) else one for one in several]
        return [as_eight_bits(one, scale) for one in opened]
    array = as_array(items)
    return array if array.dtype.kind not in "iuf" or array.dtype == np.uint8 else as_codes(array, scale)


def _levels(array: np.ndarray, codec: Any) -> np.ndarray:
    """Truth values and floats as the whole numbers that they stand for."""
    top = white(codec)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * top
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataError("pictures with NaN or infinite values")
        low, high = float(array.min()), float(array.max())
        if low >= 0 and high <= 1:
            return np.round(array * top).astype(np.int64)
        if low < 0 or high > max(255, top):
            why = f"they lie from {low:.6g} to {high:.6g}: 0 ... 1 and 0 ... {top} are understood"
            raise DataError("pictures of real numbers on an unknown scale", why=why)
        array = np.round(array).astype(np.int64)
    if array.size:
        beyond = float(np.mean((array > top) | (array < 0)))
        if beyond > 0.01:
            warnings.warn(f"{beyond:.0%} of the values are outside 0 ... {top}, the range of the training data, and "
                          "count as its ends", QuintetWarning, stacklevel=4)  # fmt: skip
    return array


def _pictures(items: Any, codec: Any) -> np.ndarray:
    """Pictures of Pillow, or their files, in the size and the channels of the training data."""
    h, w, c = codec.shape
    out = np.empty((len(items), h, w, c), np.uint8)
    for i, one in enumerate(items):
        try:
            image = open_image(one.read_bytes()) if isinstance(one, Path) else one
            out[i] = resized(as_eight_bits(ImageOps.exif_transpose(image)), Shape(h, w, c, True, "crop"))
        except (BadFile, OSError, ValueError) as error:
            raise DataError("not a picture", where=str(one), why=str(error)) from None
    top = white(codec)
    if top < 64 and out.max() > top:  # white is 255 in a picture, and `top` in data of few levels
        out = np.round(out.astype(np.float64) * (top / 255)).astype(np.uint8)
    return out


def _recordings(items: Any, codec: Any, column: str | None) -> Recordings:
    if isinstance(items, Recordings):
        return items
    if isinstance(items, str) or is_frame(items) or is_column(items) or isinstance(items, Mapping):
        raise wrong(items, codec)
    if isinstance(items, Tensor | np.ndarray):
        items = [as_array(items)] if items.ndim == 1 else list(as_array(items))
    if isinstance(items, list | tuple) and items and all(isinstance(one, int | float | np.number) for one in items):
        items = [np.asarray(items)]
    if not isinstance(items, list | tuple):
        raise wrong(items, codec)
    samples = []
    for i, one in enumerate(items):
        if isinstance(one, Path | Image.Image):
            why = f"a recording is an array (samples,), not {kind_name(one)}"
            raise DataError("not a recording", where=f"item {i + 1}", why=why, fix="give a folder as one pathlib.Path")
        array = as_array(one)
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            why = f"an array of {array.dtype} {array.shape}; a recording is (samples,)"
            raise DataError("not a recording", where=f"item {i + 1}", why=why)
        scale = 1.0 if array.dtype.kind == "f" else 1.0 / float(np.iinfo(array.dtype).max + 1)
        samples.append((array * scale).astype(np.float32))
    return Recordings(samples, codec.rate)


# -- conditions --------------------------------------------------------------------------------------------------------


def conditions(given: Any, codec: Codec, n: int, column: str | None = None) -> Any:
    """n raw conditions from one value for all or n values. Raises UsageError for any other number of them."""
    if isinstance(given, Iterator | set | frozenset):
        raise UsageError(f"conditions as {kind_name(given)}", why="their order or number is unknown", fix="give a list")
    if isinstance(given, Tensor):
        given = given.numpy(force=True)
    if codec.modality != "table":
        whole = raw_items(given, codec, column)
        one = isinstance(given, str | Image.Image) or (len(whole) == 1 and isinstance(given, np.ndarray))
        if one and len(whole) == 1:
            return take(whole, np.zeros(n, np.int64))
        return _counted(whole, n)
    names = [one.name for one in codec.columns]  # type: ignore[attr-defined]
    if is_frame(given):
        return _counted(table_of(given), n)
    if isinstance(given, Mapping):
        if all(map(scalar, given.values())):
            return arrow.as_table([dict(given)] * n)
        return _counted(_rows(given, codec, column), n)
    if scalar(given):
        value = given.item() if hasattr(given, "item") else given
        return {names[0]: [value] * n}
    if is_column(given):
        return {names[0]: _counted(column_of(given), n)}
    if not isinstance(given, list | tuple | np.ndarray | range):
        raise UsageError(f"{kind_name(given)} where a condition is meant", fix=f"give values of {', '.join(names)}")
    values = _counted(list(given) if isinstance(given, tuple | range) else given, n)
    if n and isinstance(values[0], Mapping):
        return values
    if len(names) > 1:
        return _rows(np.asarray(values).reshape(n, -1), codec, column)
    return {names[0]: [value.item() if hasattr(value, "item") and scalar(value) else value for value in values]}


def _counted(values: Any, n: int) -> Any:
    if len(values) != n:
        raise UsageError(f"{len(values)} conditions for {n} items", fix="give one condition, or one an item")
    return values


# -- sources -----------------------------------------------------------------------------------------------------------


def source_of(data: Any, runs: Path) -> str:
    """The source of `data`: a name or path as it is; what lies in memory is written to `runs`/data once, by its digest.

    From there on it is a file like any other, so that a run can be resumed, evaluated and compared later.
    """
    if isinstance(data, str):
        return data
    if isinstance(data, os.PathLike):
        return str(Path(data).expanduser().absolute())
    folder = runs / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as work:
            written = _written(data, Path(work))
            files = sorted(path for path in [written, *written.rglob("*")] if path.is_file())
            digest = hashlib.sha256()
            for path in files:
                digest.update(path.relative_to(work).as_posix().encode() + b"\0" + path.read_bytes())
            target = folder / f"{written.stem}-{digest.hexdigest()[:12]}{written.suffix}"
            if not target.exists():
                shutil.move(written, target)
    except OSError as error:
        raise EnvironmentFault("cannot write the data", where=str(folder), why=error.strerror or str(error)) from None
    return str(target.absolute())


def _written(data: Any, folder: Path) -> Path:
    """`data` as a file, or a folder of files, that the readers of sources understand."""
    if isinstance(data, Iterator):
        data = list(data)
    if is_frame(data):
        return _write_table(table_of(data), folder / "table.arrow")
    if is_column(data):
        name, column = str(getattr(data, "name", None) or "x0"), column_of(data)
        text = pa.types.is_string(column.type)
        return _write_table(
            pa.table({"text" if text else name: column}), folder / ("texts.arrow" if text else "column.arrow")
        )
    if isinstance(data, Recordings):
        return _write_recordings(data, folder / "recordings")
    if isinstance(data, Mapping):
        if any(as_array(cells).ndim > 1 for cells in data.values() if isinstance(cells, np.ndarray | Tensor)):
            arrays = {str(name): as_array(cells) for name, cells in data.items()}
            np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)
            return folder / "arrays.npz"
        try:
            return _write_table(plain(pa.table({str(name): _cells(cells) for name, cells in data.items()})),
                                folder / "table.arrow")  # fmt: skip
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise DataError("not a dict of columns", why=str(error).splitlines()[0]) from None
    if isinstance(data, list | tuple) and data:
        if all(isinstance(one, str) for one in data):
            return _write_table(pa.table({"text": pa.array(list(data), pa.string())}), folder / "texts.arrow")
        if all(isinstance(one, Mapping) for one in data):
            try:
                return _write_table(plain(pa.Table.from_pylist([dict(row) for row in data])), folder / "table.arrow")
            except pa.ArrowException as error:
                raise DataError("not rows of one table", why=str(error).splitlines()[0]) from None
        if all(isinstance(one, Image.Image) for one in data):
            return _write_pictures(data, folder / "pictures")
    if isinstance(data, np.ndarray | Tensor) or (isinstance(data, list | tuple) and data):
        try:
            array = as_array([as_array(one) for one in data] if isinstance(data, list | tuple) else data)
        except (ValueError, TypeError):
            array = np.empty(0, object)
        if array.dtype.kind in "biufU" and array.ndim:
            np.save(folder / "array.npy", np.ascontiguousarray(array), allow_pickle=False)
            return folder / "array.npy"
    what = f"{kind_name(data)} is no data to learn from"
    raise UsageError(what, fix="a source's name, a path, a DataFrame, a dict of columns, texts, pictures or an array")


def _write_table(table: pa.Table, path: Path) -> Path:
    if not table.num_rows:
        raise DataError("no rows", why="the table is empty")
    pyarrow.feather.write_feather(table, str(path), compression="uncompressed")
    return path


def _write_pictures(pictures: Any, folder: Path) -> Path:
    folder.mkdir()
    for i, one in enumerate(pictures):
        lossless = one.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
        if lossless:
            one.save(folder / f"{i:07d}.png")
        else:
            (one if one.mode in ("F", "I") else one.convert("RGB")).save(folder / f"{i:07d}.tiff")
    return folder


def _write_recordings(recordings: Recordings, folder: Path) -> Path:
    folder.mkdir()
    for i, samples in enumerate(recordings):
        soundfile.write(folder / f"{i:07d}.wav", samples, recordings.rate, subtype="FLOAT")
    return folder
