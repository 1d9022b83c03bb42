"""Which item belongs to which split: by hash of its content, by group, by time, or as published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quintet.core.errors import DataError
from quintet.data.dataset import ROWS_AT_ONCE, SPLITS, Found

Keys = np.ndarray
"""uint64 hashes (N,) of contents."""

VALIDATION, TEST = 0.1, 0.1
PUBLISHED = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders and files that say to which split their items belong."""


def hash_of(content: bytes) -> int:
    """64 bits of blake2b."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def keys_of(contents: Iterable[bytes]) -> Keys:
    """(N,) uint64, one for each content."""
    return np.fromiter((hash_of(content) for content in contents), np.uint64)


def row_keys(table: pa.Table) -> Keys:
    """Hashes of the rows. A number counts by its value: 1 and 1.0 are the same, so a column that becomes real when
    rows are added moves nothing.
    """
    return keys_of(row.encode("utf-8", "surrogatepass") for row in row_texts(table))


def row_texts(table: pa.Table) -> Iterator[str]:
    """Each row as one text."""
    for start in range(0, table.num_rows, ROWS_AT_ONCE):
        part = table.slice(start, ROWS_AT_ONCE)
        cells = [_as_text(part[name].combine_chunks()) for name in part.column_names]
        joined = pc.binary_join_element_wise(*cells, "\x1f", null_handling="replace", null_replacement="\x00")
        yield from joined.to_pylist()


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):  # 1000000.0 is written 1e+06, the integer is not
        whole = pc.less(pc.abs(column), 2.0**53) if column.null_count < len(column) else None
        if whole is not None:
            whole = pc.and_(whole, pc.equal(column, pc.floor(column)))
            numbers = pc.if_else(whole, column, 0).cast(pa.int64()).cast(pa.string())
            return pc.if_else(whole, numbers, column.cast(pa.string()))
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if cell is None else repr(cell) for cell in column.to_pylist()], pa.string())


def by_hash(keys: Keys, *, validation: float = VALIDATION, test: float = TEST) -> np.ndarray:
    """(N,) 0, 1 or 2, for train, validation and test: u < 1 - v - t, then u < 1 - t, else test, with u = key / 2^64.

    An item's split depends on its content alone: equal items fall into one split, and items that are added move none.
    The exception are sets so small that a split would be empty: it then gets, of the different contents in the split
    with the most, the one with the largest u (train: the smallest). Fewer than three contents: see `arrange`.
    """
    u = keys.astype(np.float64) / 2.0**64
    part = np.searchsorted([1 - validation - test, 1 - test], u, side="right")
    for lacking, fraction in ((2, test), (1, validation), (0, 1 - validation - test)):
        if fraction > 0 and not (part == lacking).any():
            largest = max((np.unique(keys[part == split]) for split in (0, 1, 2)), key=len)
            if len(largest) > 1:
                part[keys == largest[-1 if lacking else 0]] = lacking
    return part


def by_time(values: pa.ChunkedArray) -> np.ndarray:
    """(N,) 0, 1 or 2: the last tenth in time is test, the tenth before it validation. Equal times stay together."""
    where = "the time column"
    if values.null_count:
        raise DataError(
            f"{values.null_count} rows have no time", where=where, fix="fill in the missing times, or remove these rows"
        )
    moments = values.to_numpy(zero_copy_only=False)
    if moments.dtype.kind not in "iufMm":
        raise DataError(
            f"expected dates or numbers as times, got type {values.type}",
            where=where,
            fix="convert this column to dates or numbers, or choose another one",
        )
    ordered = np.sort(moments)
    n = len(ordered)
    first_test = ordered[min(n - 1, max(2, round(n * (1 - TEST))))] if n else 0
    first_validation = ordered[min(n - 1, max(1, round(n * (1 - TEST - VALIDATION))))] if n else 0
    part = (moments >= first_validation).astype(np.int64) + (moments >= first_test)
    if len(np.unique(part)) < 3:
        raise DataError(
            "the rows cannot be split by time into training, validation and test",
            where=where,
            why="the column has too few different times",
        )
    return part


def by_name(names: Sequence[str | None], keys: Keys) -> np.ndarray:
    """Published splits; one that is lacking is a tenth of train, by hash. None counts as train."""
    part = np.array([SPLITS.index(name) if name else 0 for name in names])
    for lacking in (1, 2):
        if not (part == lacking).any():
            train = part == 0
            part[train] = np.where(by_hash(keys[train], validation=0.0) == 2, lacking, 0)
    return part


def arrange(part: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[str, ...]]:
    """(order, splits, notes): items in this order lie split by split, so that a split is one stretch of them."""
    order, splits = np.argsort(part, kind="stable"), {}
    counts = np.bincount(part, minlength=3)
    if counts.min() == 0 or not part.any():
        everything = np.arange(len(part))
        note = "each split holds all of them: too few different ones for three splits, or --data.split none"
        return everything, dict.fromkeys(SPLITS, everything), (note,)
    ends = np.cumsum(counts)
    for name, count, end in zip(SPLITS, counts, ends, strict=True):
        splits[name] = np.arange(end - count, end)
    return order, splits, ()


def consecutive(counts: Sequence[int]) -> dict[str, np.ndarray]:
    """Splits of these sizes, one after another."""
    ends = np.cumsum(counts)
    return {name: np.arange(end - count, end) for name, count, end in zip(SPLITS, counts, ends, strict=True)}


def random_splits(n: int, *, validation: float = 0.1, test: float = 0.2) -> dict[str, np.ndarray]:
    """A fixed random 70 / 10 / 20 split, of the small built-in sets."""
    order = np.random.RandomState(0).permutation(n)
    a, b = round(n * (1 - validation - test)), round(n * (1 - test))
    return {name: np.sort(part) for name, part in zip(SPLITS, np.split(order, [a, b]), strict=True)}


def group_keys(table: pa.Table, column: str, own: Keys) -> Keys:
    """Hashes of one column's values; a row without a value stands alone."""
    keys = row_keys(table.select([column]))
    return np.where(table[column].is_null().to_numpy(), own, keys)


def assign(keys: Keys, found: Found, table: pa.Table | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """The split (N,) of each item, and a note that says how: by time, by group, as published, or by hash.

    `table`: the columns that a group or time may be in. Raises DataError if there is none of that name.
    """
    if found.reading.whole:  # one stretch, in the order of the source
        return np.zeros(len(keys), np.int64), ()
    if found.reading.split == "none":
        return np.zeros(len(keys), np.int64), ("held-out figures are those of training items",)
    group, time = found.reading.group, found.reading.time
    if group is not None and time is not None:
        raise DataError("both a group column and a time column are given", where=found.where,
                        why="rows are split either by group or by time", fix="give only one of them")  # fmt: skip
    names = [] if table is None else table.column_names
    for name in (group, time):
        if name is not None and name not in names:
            raise DataError(
                f"there is no column {name}", where=found.where, why=f"columns: {', '.join(names) or 'none'}"
            )
    if time is not None and table is not None:
        return by_time(table[time]), (f"split by {time}: the last tenth is the test split",)
    if group is not None and table is not None:
        return by_hash(group_keys(table, group, keys)), (f"split by {group}: each value is in one split",)
    if any(found.splits):
        return by_name(found.splits, keys), ("splits as the folders or files say",)
    return by_hash(keys), ()
