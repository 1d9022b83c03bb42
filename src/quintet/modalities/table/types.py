"""What each column of a table is taken for: guessed from all its cells, or as the user says (`--data.types`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quintet.core.errors import DataError
from quintet.modalities.table import guessing, written
from quintet.modalities.table.written import Form

TRUTHS = (("yes", "no"), ("true", "false"), ("1", "0"), ("y", "n"), ("t", "f"), ("on", "off"))
FEW = 20
"""Rows from which numbers that all differ look like identifiers."""


def check_names(given: Mapping[str, str], names: Sequence[str], where: str) -> None:
    for name in given:
        if name not in names:
            raise DataError(
                f"data.types names the column {name}, which does not exist",
                where=where,
                why=f"columns: {', '.join(names)}",
            )


def typed(strings: pa.Table, given: Mapping[str, str], forms: Mapping[str, Form], where: str
          ) -> tuple[pa.Table, list[str]]:  # fmt: skip
    """A table of strings with typed columns, each with its form, and notes. `forms`: in which columns were written that
    a model was trained on, and are now where they fit; `given`: what the user says of columns.
    """
    check_names(given, strings.column_names, where)
    found: dict[str, Form | None] = {}
    for name in strings.column_names:
        cells = strings[name]
        if name in given:
            found[name] = wished(cells, given[name], f"{where}, column {name}")
        elif name in forms and _fits(forms[name], cells):
            found[name] = forms[name]
        else:
            found[name] = guessing.guess(cells)
    if any(form is not None and form.point == "," for form in found.values()):
        for name, form in found.items():  # 1,234 in a file of decimal commas
            if name not in given and form is not None and form.group == "," and form.point == ".":
                found[name] = guessing.guess(strings[name], comma=True)
    columns, notes = {}, []
    for name, form in found.items():
        if given.get(name) == "drop":
            continue
        cells = strings[name]
        columns[name] = cells if form is None else form.parse(cells)
        notes += doubts(name, form, columns[name], cells) if name not in given else []
    _some(columns, where)
    return written.attach(pa.table(columns), {name: form for name, form in found.items() if form is not None}), notes


def _fits(form: Form, cells: Any) -> bool:
    try:
        form.parse(cells)
    except written.NoFit:
        return False
    return True


def _some(columns: Mapping[str, Any], where: str) -> None:
    if not columns:
        raise DataError("no column is left to model", where=where, why="data.types drops all of the columns")


def doubts(name: str, form: Form | None, typed_cells: Any, cells: Any) -> list[str]:
    """What the user may know better about a column."""
    if form is None:
        return []
    if form.missing:
        count = typed_cells.null_count - cells.null_count
        return [f"column {name}: {count:,} cells that say {' or '.join(map(repr, form.missing))} are read as missing; "
                f"--data.types {name}=category keeps them"]  # fmt: skip
    if form.kind == "time" and ("%d/%m" in form.format or "%m/%d" in form.format or "%m-%d-%Y" in form.format):
        other = swapped(form.format)
        if guessing.time_form(cells, (other,)) is not None:
            return [f"column {name}: dates are read as {form.format}, and might be {other}: "
                    f"--data.types {name}=datetime:{other}"]  # fmt: skip
    if form.kind == "number" and form.decimals == 0 and looks_like_identifiers(typed_cells):
        return [f"column {name}: whole numbers that all differ, as identifiers do, are modelled as numbers: "
                f"--data.types {name}=id makes new ones for samples, {name}=drop leaves them out, {name}=category "
                "keeps them as names"]  # fmt: skip
    return []


def swapped(format: str) -> str:
    """A form of dates with day and month in each other's places."""
    return format.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")


def looks_like_identifiers(cells: Any) -> bool:
    """Whether whole numbers all differ and fill their range, or have one number of digits (at least 4), unordered."""
    if len(cells) < FEW or cells.null_count or not pa.types.is_integer(cells.type) or len(cells.unique()) < len(cells):
        return False
    numbers = np.asarray(cells.to_numpy(), np.float64)
    if (np.diff(numbers) > 0).all():
        return False  # a counter, which the codec leaves out by itself
    digits = {len(str(abs(int(number)))) for number in numbers}
    return bool(np.ptp(numbers) < 2 * len(numbers)) or (len(digits) == 1 and min(digits) >= 4)


def wished(cells: Any, kind: str, where: str) -> Form | None:
    """The form of a column of strings that the user takes for `kind`. Raises DataError where a cell does not fit."""
    kind, _, format = kind.partition(":")
    marks = () if kind in ("id", "category", "text", "drop") else tuple(
        mark for mark in written.NOTHING if pc.any(pc.equal(cells, mark)).as_py())  # fmt: skip
    filled = written.without(cells, marks).drop_null()
    if kind == "id":
        return Form("id")
    if kind in ("category", "text"):
        return Form("text" if kind == "text" else "category")
    if kind == "drop" or not len(filled):
        return None
    form: Form | None = None
    if kind == "datetime":
        form = guessing.time_form(filled, (format,) if format else ())
    elif kind == "boolean":
        words = set(pc.utf8_lower(filled).unique().to_pylist())
        pair = next((pair for pair in TRUTHS if words <= set(pair)), None)
        if pair is not None:
            spelt = {word.lower(): word for word in filled.unique().to_pylist()}
            form = Form("truth", words=tuple(spelt.get(word, word) for word in pair))
    else:
        form = guessing.number_form(filled, codes=False)
        if form is not None and kind == "decimal" and form.decimals == 0:
            form = replace(form, decimals=None)
        if form is not None and kind == "integer" and form.decimals != 0:
            form = None
    if form is None:
        raise DataError(f"this column cannot be read as the type {kind}", where=where, why=_example(filled, kind),
                        fix="correct these cells, leave them empty, or choose another type")  # fmt: skip
    return replace(form, missing=marks)


def _example(cells: Any, kind: str) -> str:
    for cell in cells.unique().to_pylist():
        alone = pa.chunked_array([pa.array([cell])])
        if (guessing.time_form(alone) if kind == "datetime" else guessing.number_form(alone, codes=False)) is None:
            return f"it holds {cell!r}"
    return f"its cells are written in several ways, such as {cells[0].as_py()!r} and {cells[-1].as_py()!r}"


def retyped(
    table: pa.Table, given: Mapping[str, str], where: str, forms: Mapping[str, Form] | None = None
) -> tuple[pa.Table, list[str]]:
    """A table whose columns have types, as Parquet, JSON and data frames have: what the user says of them, and strings
    that are dates or amounts, which are guessed as in a CSV, or in `forms` where they fit. Plain whole numbers that
    are strings stay strings.
    """
    done = written.forms(table)
    check_names({name: kind for name, kind in given.items() if kind != "drop"}, table.column_names, where)
    columns: dict[str, Any] = {}
    found = dict(done)
    for name in table.column_names:
        cells, kind = table[name], given.get(name)
        if kind == "drop":
            continue
        if name not in done and kind is not None:
            strings = pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)
            try:
                text = cells.cast(pa.string())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataError(
                    "this column cannot be read as text", where=f"{where}, column {name}", why=str(error)
                ) from None
            matches = (kind in ("number", "decimal", "integer") and not strings) or (
                kind == "datetime" and pa.types.is_temporal(cells.type))  # fmt: skip
            form = None if matches else wished(text, kind, f"{where}, column {name}")
            if form is not None:
                cells, found[name] = form.parse(text), form
        elif name not in done and str(cells.type) in ("string", "large_string") and cells.null_count < len(cells):
            known = (forms or {}).get(name)
            form = known if known is not None and _fits(known, cells) else guessing.guess(cells)
            amount = form is not None and form.kind == "number" and form != Form("number", decimals=0)
            if form is not None and (form.kind == "time" or amount or form == known):
                cells, found[name] = form.parse(cells), form
        columns[name] = cells
    _some(columns, where)
    return written.attach(pa.table(columns), found), []
