"""NumPy files -> images or a table; object arrays, which hold pickles, are refused."""

from __future__ import annotations

import io
import re
import tokenize
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.core.errors import DataError
from quintet.data.archives import BROKEN, BadFile, Entry, reason, zip_entries
from quintet.data.dataset import Dataset, Found, Scale, chunks
from quintet.data.splits import PUBLISHED
from quintet.modalities.image.reading import Range, as_codes, pictures_of, read_images
from quintet.modalities.table import reading as tables

SUFFIXES = (".npy", ".npz")
ITEMS = ("x", "images", "image", "data", "features")
LABELS = ("y", "labels", "label", "target", "targets")


def read_arrays(entry: Entry, found: Found) -> Dataset:
    """.npy: uint8 (N, H, W[, C]) or (N, C, H, W) are images, numbers (N,) or (N, D) a table of columns x0, x1, ....

    .npz: items and labels by the names x, images, data, features and y, labels, target, perhaps with _train,
    _validation, _test behind them; else columns of equal length, by their names.
    """
    if entry.suffix == ".npy":
        return _items(array_of(entry, found.where), None, found, "x")
    where = str(entry.path or f"{found.where}/{entry.name}")
    source: Path | io.BytesIO
    try:
        source = entry.path or io.BytesIO(entry.read())
    except BadFile as error:
        raise DataError("cannot be read", where=where, why=str(error)) from None
    members = zip_entries(source, where)
    if not members:
        raise DataError("no arrays", where=where)
    arrays = {member.stem: array_of(member, where) for member in members}
    groups = _by_split(arrays)
    if len(groups) > 1:
        columns = {
            name: np.concatenate([group[name] for group in groups.values()]) for name in next(iter(groups.values()))
        }
        first = [len(next(iter(group.values()))) for group in groups.values()]
        found = Found(found.where, found.reading, found.key, list(np.repeat(list(groups), first)))
        arrays = columns
    return _named(arrays, found, where)


def array_of(entry: Entry, where: str) -> np.ndarray:
    """The array of a .npy, memory-mapped where it is a file. Raises DataError for pickles, lies and cuts."""
    place = str(entry.path or f"{where}/{entry.name}")
    fix = "save it with numpy.save, as an array of numbers"
    try:
        with entry.open() as stream:
            head = io.BytesIO(stream.read(2**16))
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(head)
        if dtype.hasobject:
            raise DataError(
                "an array of Python objects", where=place, why="it holds a pickle, which may run code", fix=fix
            )
        if dtype.kind not in "biufU":
            raise DataError(
                f"an array of type {dtype}", where=place, why="numbers, truth values and strings can be read"
            )
        size = int(np.prod([int(side) for side in shape], dtype=object) * dtype.itemsize) + head.tell()
        if size != entry.size and not entry.packed:
            why = f"{entry.size:,} bytes; its header says {size:,}"
            raise DataError("the array is cut short", where=place, why=why, fix="copy or download it again")
        if entry.path is not None:
            return np.load(entry.path, mmap_mode="r", allow_pickle=False)
        return np.load(io.BytesIO(entry.read()), allow_pickle=False)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            "the file is damaged", where=place, why=reason(error), fix="copy or download it again"
        ) from None
    except (*BROKEN, SyntaxError, TypeError, tokenize.TokenError) as error:
        raise DataError("not a NumPy array", where=place, why=reason(error), fix=fix) from None
    except BadFile as error:
        raise DataError("cannot be read", where=place, why=str(error)) from None


def _by_split(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """x_train, y_train, x_test, y_test as {"train": {"x", "y"}, "test": {...}}; {} if they are not named so."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        match = re.fullmatch(r"(\w+?)_(\w+)", name) or re.fullmatch(r"(\w+)()", name)
        stem, split = (match[1], PUBLISHED.get(match[2].lower())) if match else (name, None)
        if split is None:
            return {}
        groups.setdefault(split, {})[stem] = array
    same = {frozenset(group) for group in groups.values()}
    return groups if len(same) == 1 else {}


def _named(arrays: dict[str, np.ndarray], found: Found, where: str) -> Dataset:
    items = [name for name in arrays if name.lower() in ITEMS]
    labels = [name for name in arrays if name.lower() in LABELS]
    lengths = {name: len(array) if array.ndim else -1 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or -1 in lengths.values():
        said = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise DataError("the arrays have different lengths", where=where, why=said)
    if len(items) == 1 and (arrays[items[0]].ndim > 2 or len(items) + len(labels) == len(arrays)):
        others = {name: arrays[name] for name in arrays if name != items[0] and arrays[name].ndim == 1}
        given = {"label" if name in labels and len(labels) == 1 else name: array for name, array in others.items()}
        return _items(arrays[items[0]], pa.table(given) if given else None, found, "x")
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        columns |= _columns(array, name, where)
    return tables.dataset_of(pa.table(columns), found)


def _items(array: np.ndarray, labels: pa.Table | None, found: Found, name: str) -> Dataset:
    if array.ndim == 0 or len(array) == 0:
        raise DataError("the array is empty", where=found.where)
    if array.ndim in (3, 4):
        images, scale, notes = _codes(_images(array, found.where), found.reading.scale)
        found = Found(found.where, found.reading, "" if scale else found.key, found.splits, labels)
        dataset = read_images(pictures_of(images), found)
        return replace(dataset, scale=scale, notes=(*notes, *dataset.notes))
    columns = _columns(array, name, found.where)
    if labels is not None:
        columns |= {column: labels[column] for column in labels.column_names}
    return tables.dataset_of(pa.table(columns), found)


def _codes(array: np.ndarray, wanted: Scale | None) -> tuple[np.ndarray, Scale | None, tuple[str, ...]]:
    """(uint8, the scale of other values than 0 ... 255, notes)."""
    if array.dtype == np.uint8:
        return array, None, ()
    values = Range()
    for part in chunks(array):
        values.add(np.asarray(part))
    scale = wanted or values.scale()
    codes = np.concatenate([as_codes(np.asarray(part), scale) for part in chunks(array)])
    return codes, scale, (values.note(scale),) if scale else ()


def _images(array: np.ndarray, where: str) -> np.ndarray:
    """(N, H, W, C)."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype.kind not in "iuf":
        why = f"{array.dtype} {array.shape}: images are numbers (N, H, W) or (N, H, W, C)"
        raise DataError("not images, and not a table", where=where, why=why)
    if array.ndim == 3:
        return array[..., None]
    if array.shape[-1] in (1, 3, 4):
        return array
    if array.shape[1] in (1, 3, 4):
        return array.transpose(0, 2, 3, 1)
    raise DataError(f"images with {array.shape[-1]} channels", where=where, why="1, 3 or 4 can be read")


def _columns(array: np.ndarray, name: str, where: str) -> dict[str, np.ndarray]:
    if array.ndim == 1:
        return {name if name != "x" else "x0": np.ascontiguousarray(array)}
    if array.ndim == 2:
        return {f"{name}{i}": np.ascontiguousarray(array[:, i]) for i in range(array.shape[1])}
    raise DataError(f"an array of shape {array.shape}", where=where, why="a column is (N,), a table (N, D)")
