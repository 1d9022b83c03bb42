"""What there is to know of each column, and what becomes of completed rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.data import arrow
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.columns import is_key
from quintet.modalities.table.discovery import FEWEST
from quintet.modalities.table.layout import Layout
from quintet.modalities.table.types import swapped
from quintet.modalities.table.written import attach, forms, strings

SEARCHED = 50_000
"""Training rows that are searched for rules before a training, which searches all."""
SHOWN = 20
"""Values of a column that are listed."""


def column_facts(table: pa.Table, train: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Name, type, range or values, and missing cells of each column; what becomes of it is read off the rows `train`,
    as training does. Of dates that may be meant otherwise, as 1/2/2024, `instead` is that other type.
    """
    facts, known = [], forms(table)
    ruled = rules_of(table if train is None else table.take(pa.array(train[some(train, SEARCHED, 0)])))
    for name in table.column_names:
        column = table[name]
        fact: dict[str, Any] = {"name": name, "type": str(column.type), "missing": column.null_count}
        form = known.get(name)
        fact["taken"] = form.taken if form is not None else _kind(column.type)
        learnt = column if train is None else column.take(pa.array(train))
        dated = form is not None and form.kind == "time" and "%d" in form.format and "%m" in form.format
        if form is not None and dated and (pc.max(pc.day(column)).as_py() or 32) <= 12:
            fact["instead"] = f"datetime:{swapped(form.format)}"
        fact["modelled"] = _fate(learnt, None if form is None else form.kind, alone=table.num_columns == 1)
        if name in ruled:
            computed, fact["rule"] = ruled[name]
            fact["modelled"] = ("computed: " if computed else f"{fact['modelled']}; ") + fact["rule"]
        distinct = pc.count_distinct(column, mode="only_valid").as_py()
        ordered = pa.types.is_floating(column.type) or pa.types.is_temporal(column.type)
        if ordered or (pa.types.is_integer(column.type) and distinct > SHOWN):
            span = pa.types.is_duration(column.type)  # Arrow does not order them
            ends = pc.min_max(column.cast(pa.int64()) if span else column).as_py()
            fact |= {"distinct": distinct} | {
                end: pa.scalar(each, pa.int64()).cast(column.type).as_py() if span and each is not None else each
                for end, each in ends.items()}  # fmt: skip
        else:
            counted = sorted(column.drop_null().value_counts().to_pylist(), key=lambda entry: -entry["counts"])
            fact |= {"distinct": distinct, "values": sorted(entry["values"] for entry in counted[:SHOWN])}
            fact["rarest"] = counted[-1]["counts"] if counted else 0
        facts.append(fact)
    return facts


def rules_of(table: pa.Table) -> dict[str, tuple[bool, str]]:
    """What follows from other columns in these rows: whether it is computed, and how, in words, of each such column."""
    filled = [name for name in table.column_names if table[name].null_count < table.num_rows]
    if table.num_rows < FEWEST or len(filled) < 2:
        return {}
    try:
        ruled = Layout.of(table.select(filled), TableCodec.Settings(), groups=True).ruled
    except DataError:  # what training refuses has no rules
        return {}
    return {rule.target: (rule.exact, told) for rule, told in zip(ruled.found, ruled.told, strict=True)}


def _kind(kind: pa.DataType) -> str:
    """A type of Arrow in the words of `data.types`."""
    if pa.types.is_temporal(kind):
        return "datetime"
    if pa.types.is_boolean(kind):
        return "truth value"
    return "category" if not arrow.is_numeric(kind) else "whole number" if pa.types.is_integer(kind) else "decimal"


def _fate(column: pa.ChunkedArray, said: str | None, *, alone: bool) -> str:
    """What happens to a column of a table, which may be its only one."""
    if said not in ("category", "text") and not alone and is_key(column):
        return "left out: it only names its rows (=text keeps it)"
    if pa.types.is_temporal(column.type):
        return "modelled by its parts, as far as they vary: year, week or month, day, time"
    return "modelled as numbers" if arrow.is_numeric(column.type) else "modelled as categories"


def numbered(table: pa.Table, rows: int) -> pa.Table:
    """Completions, a block of all rows for each draw, with columns that name the row (from 0) and the draw (from 1)."""
    beside = {"row": np.arange(len(table)) % rows, "draw": np.arange(len(table)) // rows + 1}
    names = {name if name not in table.column_names else f"{name}_number": cells for name, cells in beside.items()}
    return attach(pa.table(names | dict(zip(table.column_names, table.columns, strict=True))), forms(table))


def kept(completed: pa.Table, given: pa.Table, raw: pa.Table) -> pa.Table:
    """`completed` as strings, in which each cell that was given stands as it was written in the file: `raw`."""
    out = strings(completed)
    for index, name in enumerate(out.column_names):
        if name in raw.column_names and name in given.column_names:
            cells = pc.if_else(given[name].is_valid().combine_chunks(), raw[name].combine_chunks(),
                               out[name].combine_chunks())  # fmt: skip
            out = out.set_column(index, name, cells)
    return out
