"""Dataset: items of one modality with labels and fixed splits, and what is read off it in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa

from quintet.core.errors import UsageError
from quintet.core.settings import Settings
from quintet.data.mapped import chunks, gather, release

__all__ = [
    "LONG_TEXT",
    "ROWS_AT_ONCE",
    "SPLITS",
    "Dataset",
    "Found",
    "Reading",
    "chunks",
    "label_table",
    "release",
    "take",
]

SPLITS = ("train", "validation", "test")
Own = TypeVar("Own", bound=Settings)
ROWS_AT_ONCE = 2**16
"""Rows that are looked at together."""
LONG_TEXT = 40
"""Characters, on average, from which a column is text, rather than one of names."""


@dataclass(frozen=True)
class Reading:
    """How a source is read: see `sources.load_source`. `own`: what only some kinds of data ask, by its name."""

    group: str | None = None
    time: str | None = None
    split: str = "auto"
    whole: bool = False
    forms: Mapping[str, Any] = field(default_factory=dict)
    on_bad: str = "few"
    own: Mapping[str, Any] = field(default_factory=dict)

    def of(self, kind: type[Own]) -> Own:
        """What one kind of data asks: not checked again, since a codec may ask what a user may not."""
        mine = {name: value for name, value in self.own.items() if name in kind.model_fields}
        return cast(Own, kind.model_construct(**mine))


@dataclass(frozen=True)
class Found:
    """What is known of a source before its items are read: where it is, the key under which it may be cached, and of
    each item the split that its place names and its labels.
    """

    where: str
    reading: Reading = Reading()
    key: str = ""
    splits: Sequence[str | None] = ()
    labels: pa.Table | None = None

    def at(self, index: Sequence[int] | np.ndarray) -> Found:
        """The same of some items."""
        chosen = np.asarray(index, np.int64)
        splits = [self.splits[i] for i in chosen] if self.splits else ()
        return replace(self, splits=splits, labels=None if self.labels is None else self.labels.take(pa.array(chosen)))


@dataclass(frozen=True)
class Dataset:
    """Items of one modality, their labels (columns beside the items), and fixed splits.

    `items`: an array (a `numpy.memmap` where it is large), a `pyarrow.Table`, a list of strings, or a container of its
    own kind of data, which has a length, gives items by an array of indices, and its `contents` as bytes. `splits`:
    name -> indices. `source`: what `load_source` is called with (default: the name, which is short and names runs).
    `digest`: a sha256 of items, labels and splits that is known already. `notes`: what was found and decided while
    reading. `decided`: options of reading that were decided by these items, for others that are to be like them.
    `written`: the cells of a CSV as they stand in it, and `places` (N,): the line of each item of a file of lines,
    from 0 and blank ones counted, if it was read as a whole. `kept`: the folder of the cache that the items lie in.
    """

    name: str
    modality: str
    items: Any
    splits: Mapping[str, np.ndarray]
    labels: pa.Table | None = None
    about: str = ""
    source: str = ""
    digest: str = ""
    notes: tuple[str, ...] = ()
    decided: Mapping[str, Any] = field(default_factory=dict)
    written: pa.Table | None = None
    places: np.ndarray | None = None
    kept: Path | None = None

    def rows(self, split: str) -> Any:
        """The items of a split."""
        return take(self.items, self.index(split))

    def column(self, name: str, split: str) -> pa.Table:
        """Columns of a split, as a table: one of the labels (or of a table's own), or several with commas."""
        tables = [table for table in (self.labels, self.items) if isinstance(table, pa.Table)]
        columns = {column.name: (column, table[column.name]) for table in tables for column in table.schema}
        names = [part.strip() for part in name.split(",")]
        for wanted in names:
            if wanted not in columns:
                why = f"columns: {', '.join(columns) or 'none'}"
                raise UsageError(f"{self.name} has no column {wanted}", why=why)
        fields, cells = zip(*(columns[wanted] for wanted in names), strict=True)
        return take(pa.table(list(cells), schema=pa.schema(fields)), self.index(split))

    def index(self, split: str) -> np.ndarray:
        if split not in self.splits:
            raise UsageError(f"{self.name} has no split {split}", why=f"splits: {', '.join(self.splits)}")
        return self.splits[split]

    def fingerprint(self) -> str:
        """sha256 over the items, labels and splits: what a resumed run compares. It does not depend on where the
        items lie: a memory-mapped array and its copy have the same.
        """
        if self.digest:
            return self.digest
        digest = hashlib.sha256()
        for part in (self.items, self.labels):
            if isinstance(part, np.ndarray):
                for chunk in chunks(part):
                    digest.update(np.ascontiguousarray(chunk).data)
            elif isinstance(part, pa.Table):
                for name in part.column_names:
                    digest.update(name.encode())
                    for start in range(0, max(1, part.num_rows), ROWS_AT_ONCE):
                        digest.update(repr(part[name].slice(start, ROWS_AT_ONCE).to_pylist()).encode())
            elif isinstance(part, list):
                for text in part:
                    digest.update(text.encode("utf-8", "surrogatepass"))
            elif part is not None:
                for content in part.contents():
                    digest.update(content)
        for name, index in self.splits.items():
            digest.update(name.encode() + np.ascontiguousarray(index).tobytes())
        return digest.hexdigest()


def take(items: Any, index: np.ndarray) -> Any:
    """The items at `index`; a view where they lie side by side, so that large sources are not copied."""
    index = np.asarray(index)
    if len(index) and index[-1] - index[0] + 1 == len(index) and bool((np.diff(index) == 1).all()):
        first, count = int(index[0]), len(index)
        return items.slice(first, count) if isinstance(items, pa.Table) else items[first : first + count]
    if isinstance(items, pa.Table):
        return items.take(pa.array(index))
    if isinstance(items, np.ndarray):
        return gather(items, index)
    return [items[i] for i in index] if isinstance(items, list) else items[index]


def join(parts: Sequence[Any]) -> Any:
    """Items of several lists, arrays or tables, one after another; whole numbers join decimals."""
    first = parts[0]
    if isinstance(first, pa.Table):
        return pa.concat_tables(parts, promote_options="permissive")
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    return [item for part in parts for item in part] if isinstance(first, list) else sum(parts[1:], first)


def label_table(y: np.ndarray) -> pa.Table:
    """One column, `label`."""
    return pa.table({"label": y})
