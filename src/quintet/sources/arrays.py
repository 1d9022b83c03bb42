"""NumPy files -> images or a table; object arrays, which hold pickles, are refused."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.core.errors import DataError
from quintet.data.archives import BadFile, Entry, zip_entries
from quintet.data.arrays import array_of, columns_of
from quintet.data.dataset import Dataset, Found
from quintet.data.splits import PUBLISHED
from quintet.registry import MODALITIES, candidates

SUFFIXES = (".npy", ".npz")
ITEMS = {"x", "data", "features"} | {name for modality in MODALITIES.values() for name in modality.arrays}
LABELS = ("y", "labels", "label", "target", "targets")


def read_arrays(entry: Entry, found: Found) -> Dataset:
    """.npy: uint8 (N, H, W[, C]) or (N, C, H, W) are images, numbers (N,) or (N, D) a table of columns x0, x1, ....

    .npz: items and labels by the names x, images, data, features and y, labels, target, perhaps with _train,
    _validation, _test behind them; else columns of equal length, by their names.
    """
    if entry.suffix == ".npy":
        return _dataset(array_of(entry, found.where), None, found)
    where = str(entry.path or f"{found.where}/{entry.name}")
    source: Path | io.BytesIO
    try:
        source = entry.path or io.BytesIO(entry.read())
    except BadFile as error:
        raise DataError("the file cannot be read", where=where, why=str(error)) from None
    members = zip_entries(source, where)
    if not members:
        raise DataError("the archive holds no arrays", where=where)
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
        return _dataset(arrays[items[0]], pa.table(given) if given else None, found)
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        columns |= columns_of(array, name, where)
    return from_columns(pa.table(columns), found)


def _dataset(array: np.ndarray, labels: pa.Table | None, found: Found) -> Dataset:
    """The first kind of data that takes an array of this shape and type."""
    if array.ndim == 0 or len(array) == 0:
        raise DataError("the array is empty", where=found.where)
    for modality in candidates(found.reading):
        if (dataset := modality.from_array(array, labels, found)) is not None:
            return dataset
    raise DataError(
        f"an array of {array.dtype} of shape {array.shape} cannot be read as data",
        where=found.where,
        why="no kind of data has this number of axes and this type",
    )


def from_columns(columns: pa.Table, found: Found) -> Dataset:
    """The first kind of data that takes these columns."""
    datasets = (modality.from_columns(columns, found) for modality in candidates(found.reading))
    return next(dataset for dataset in datasets if dataset is not None)
