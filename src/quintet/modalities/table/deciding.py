"""What one column of recurring values decides of another: a city by its postcode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from quintet.modalities.table.rules import NOTHING, Lookup, Relation, same
from quintet.modalities.table.searching import BROKEN, GLANCE, ROWS, Search

COLUMNS = 60
"""Columns that are compared in pairs."""
UNTAUGHT = 0.02
"""At most this part of the rows may have keys that are rare, of which a look-up says nothing."""


def lookups(search: Search) -> Iterator[Relation]:
    """What one column of recurring values decides of another: the finest columns decide, of equals the first."""
    names = list(search.columns)[:COLUMNS]
    codes, sizes = dict[str, NDArray[np.int64]](), dict[str, int]()
    for name in names:
        filled = np.where(np.isnan(search.sample[name]), NOTHING, search.sample[name])
        distinct, codes[name] = np.unique(filled, return_inverse=True)
        sizes[name] = len(distinct)
    keys = [name for name in names if keyed(search, name) and 1 < sizes[name] <= len(codes[name]) // 5]
    for source in sorted(keys, key=lambda name: -sizes[name]):
        for target in names:
            tied = sizes[target] == sizes[source] and names.index(target) < names.index(source)
            if sizes[target] > sizes[source] or sizes[target] < 2 or tied or source in search.needs:
                continue
            if not search.open(target, (source,)) or not decides(codes, source, target, GLANCE):
                continue
            rule = lookup(search, source, target) if decides(codes, source, target, ROWS) else None
            if rule is not None and search.certain(rule) and confirmed(search, source, target):
                yield rule


def keyed(search: Search, name: str) -> bool:
    """Whether what is drawn of a column is a value of training, and hardly ever a rare one."""
    column = search.columns[name]
    if column.number:
        return column.pieces.points is not None and not column.parts
    return not column.rare or column.pieces.weight[-1] <= UNTAUGHT


def lookup(search: Search, source: str, target: str) -> Lookup | None:
    column = search.columns[source]
    first = {name: np.where(np.isnan(own), NOTHING, own) for name, own in search.values.items()
             if name in (source, target)}  # fmt: skip
    keys, at = np.unique(first[source], return_index=True)
    often = np.full(len(keys), True) if column.number else keys < len(column.categories) - column.rare
    rest = first[target][~np.isin(first[source], keys[often])]
    answers, counts = np.unique(rest if len(rest) else first[target], return_counts=True)
    other = float(answers[counts.argmax()])
    found = first[target][at][often]
    return Lookup(target, (source,), 1.0, False, other, f"{source} decides {target}",
                  tuple(keys[often].tolist()), tuple(found.tolist()))  # fmt: skip


def confirmed(search: Search, source: str, target: str) -> bool:
    """Whether one half of the rows says what the other half has, often enough: not if keys hardly recur, nor if
    their targets hardly differ.
    """
    half = len(search.sample[source]) // 2
    keys, at = np.unique(search.sample[source][:half], return_index=True)
    place = np.searchsorted(keys, search.sample[source][half:]).clip(0, len(keys) - 1)
    seen = keys[place] == search.sample[source][half:]
    said = search.sample[target][:half][at][place]
    right = same(said, search.sample[target][half:])[seen]
    chance = same(said, search.shuffled[target][half:])[seen]
    return bool(seen.mean() > 0.8 and right.all() and (~chance).sum() >= BROKEN)


def decides(codes: Mapping[str, NDArray[np.int64]], source: str, target: str, rows: int) -> bool:
    """Whether in these rows each value of the source has one of the target."""
    a, b = codes[source][:rows], codes[target][:rows]
    return len(np.unique(a)) == len(np.unique(a * (int(b.max()) + 1) + b))
