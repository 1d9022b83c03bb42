"""In which form the strings of a column are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quintet.modalities.table.written import (
    KINDS,
    MINUS,
    NOTHING,
    NUMBER,
    SIGNS,
    Form,
    NoFit,
    kind_of,
    marks_of,
    without,
)

GROUPS = "., '’\u00a0\u202f"


FORMATS = (
    *(f"{date}{time}" for date in ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y",
                                   "%m-%d-%Y", "%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y",
                                   "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y")
      for time in ("", " %H:%M:%S", "T%H:%M:%S", " %H:%M", "T%H:%M", ", %H:%M")),
    "%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%b %Y", "%B %Y", "%b-%Y", "%b-%y",
    "%H:%M:%S", "%H:%M", "%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y%m%d %H:%M", "%Y%m%d %H:%M:%S",
)  # fmt: skip
"""Of two that both fit, the first is taken."""


def negative_form(parts: Any) -> str:
    """How most of those numbers that are less than 0 are written: see `Form.negative`."""
    less = parts.filter(pc.invert(pc.is_in(marks_of(parts), pa.array(["", "+"]))))
    if not len(less):
        return MINUS
    one, two, three, four = (pc.struct_field(less, name) for name in SIGNS)
    written = pc.binary_join_element_wise(one, "{before}", two, "{number}", three, "{behind}", four, "")
    counts = written.value_counts()
    return str(counts.field(0)[int(np.argmax(counts.field(1)))])


def number_form(cells: Any, *, comma: bool = False, codes: bool = True) -> Form | None:
    """The form in which all of these strings are numbers, or None. `comma`: where 1,234 may be either, it is 1.234.

    `codes`: strings of digits that begin with 0 are codes (zip codes, account numbers), not numbers; unless they have
    one length and most of them are hardly ever repeated. As categories such codes would not be learnt, as numbers
    written with their zeros they are: neighbours have much in common.
    """
    cells = pc.utf8_trim_whitespace(cells.drop_null())
    parts = pc.extract_regex(cells, NUMBER)
    if not len(cells) or parts.null_count:
        return Form("number") if len(cells) and cast(cells, pa.float64()) is not None else None
    field = {name: pc.struct_field(parts, name) for name in (*SIGNS, "pre", "body", "exp", "post")}
    bodies, width = field["body"], 0
    if codes and pc.any(pc.match_substring_regex(bodies, r"^0\d")).as_py():
        lengths = pc.utf8_length(bodies).unique()
        alike = len(lengths) == 1 and pc.all(pc.match_substring_regex(cells, r"^\d+$")).as_py()
        if not (alike and seldom(cells)):
            return None
        width = lengths[0].as_py()
    around = [set(field[name].unique().to_pylist()) for name in ("pre", "post")]
    if any(len(each) > 1 for each in around):  # dollars beside euros are no numbers of one kind
        return None
    before, behind = (each.pop() for each in around)
    plus = pc.any(pc.equal(field["sign"], "+")).as_py()
    used = {char for char in GROUPS if pc.any(pc.match_substring(bodies, char)).as_py()}
    split = separators(bodies, used, comma=comma or "€" in before + behind)
    if split is None or (plus and (split[1] or (not used and not behind and not pc.any(
            pc.is_in(field["sign"], pa.array(["-", "−"]))).as_py()))):  # fmt: skip
        return None  # +49 30 123 456 is a telephone number
    point, group = split
    bare, marks = not (used or before or behind), marks_of(parts)
    if bare and pc.any(pc.is_in(field["outer"], pa.array(["-", "−"]))).as_py():
        return None  # 2- is a mark of a school
    if bare and pc.all(pc.equal(marks, "()")).as_py():
        return None  # (1), (2), (3) number things
    fractions = pc.utf8_length(pc.struct_field(pc.extract_regex(
        bodies, rf"^[^{re.escape(point)}]*(?P<f>(?:{re.escape(point)}\d*)?)$"), "f"))  # fmt: skip
    few, many = (pc.min_max(fractions)[end].as_py() for end in ("min", "max"))
    same = few == many and not pc.any(pc.not_equal(field["exp"], "")).as_py()
    form = Form("number", max(0, many - 1) if same else None, point, group, before, behind, bool(plus), width,
                negative_form(parts), least=0 if same else max(0, few - 1))  # fmt: skip
    try:
        form.parse(cells)
    except NoFit:
        return None
    return form


def seldom(cells: Any) -> bool:
    """Whether most of at least 100 cells hold values that fewer than three of them share."""
    counts = cells.value_counts().field(1)
    rare = pc.sum(pc.if_else(pc.less(counts, 3), counts, 0)).as_py()
    return len(cells) >= 100 and rare > len(cells) / 2


def cast(cells: Any, kind: pa.DataType) -> Any:
    """The cells in another type of Arrow, or None where some cannot be."""
    try:
        return cells.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def separators(bodies: Any, used: set[str], *, comma: bool) -> tuple[str, str] | None:
    """(decimal point, between thousands) of numbers that use these characters, or None."""

    def every(pattern: str, of: Any = bodies) -> bool:
        return bool(pc.all(pc.match_substring_regex(of, pattern)).as_py())

    def grouped(group: str, point: str) -> bool:
        g, p = re.escape(group), re.escape(point)
        return every(rf"^(?:\d{{1,3}}(?:{g}\d{{3}})+|\d+)(?:{p}\d*)?$")

    def plain(point: str) -> bool:
        return every(rf"^\d*{re.escape(point)}?\d*$")

    if not used:
        return ".", ""
    blanks = used - {".", ","}
    if len(blanks) > 1 or len(used) > 2:
        return None
    if blanks:
        (group,) = blanks
        point = next(iter(used - blanks), ".")
        return (point, group) if grouped(group, point) else None
    if len(used) == 2:
        fits = [(point, group) for point, group in ((".", ","), (",", ".")) if grouped(group, point)]
        return fits[0] if fits else None
    (mark,) = used
    other = "," if mark == "." else "."
    thousands = grouped(mark, other) and every(rf"^\d{{1,3}}(?:{re.escape(mark)}\d{{3}})*$")
    twice = pc.any(pc.greater(pc.count_substring(bodies, mark), 1)).as_py()
    by_default = comma if mark == "." else not comma  # 1.234 and 1,234 by themselves may be either
    if thousands and (twice or by_default):
        return other, mark
    return (mark, "") if plain(mark) else None


def time_form(cells: Any, formats: tuple[str, ...] = ()) -> Form | None:
    """The form in which all of these strings are dates, times or both, or None."""
    cells = cells.drop_null()
    if not len(cells):
        return None
    first = cells[0].as_py()
    if not re.match(r"^\w{1,9}[-/., :T]|^\d{8}", first) or not any(char.isdigit() for char in first):
        return None
    for format in formats or FORMATS:
        for padded in (True, False):
            kind = "time s" if format.startswith("%H") else "s" if "%H" in format else "date"
            form = Form("time", format=format, padded=padded, type=kind)
            try:
                form.parse(cells.slice(0, 20))
                form.parse(cells)
            except (NoFit, pa.ArrowException):
                continue
            return form
    if formats or not re.match(r"^\d{4}-\d\d-\d\d[ T]|^\d\d:\d\d", first):
        return None
    kinds = dict(KINDS)
    offset = re.search(r"[+-]\d\d:\d\d$", first)
    if offset is not None and pc.all(pc.ends_with(cells, offset[0])).as_py():  # all of one zone, which is kept
        kinds |= {f"{unit} {offset[0]}": kind_of(f"{unit} {offset[0]}") for unit in ("s", "ms", "us", "ns")}
    for name, kind in kinds.items():
        typed = cast(cells, kind)
        for behind in () if typed is None else ("", "T"):
            form = Form("time", behind=behind, type=name)
            if pc.all(pc.equal(form.write(typed), cells)).as_py():
                return form
    mixed = next((name for name, kind in KINDS.items() if cast(cells, kind) is not None), None)
    return None if mixed is None else Form("time", type=mixed)  # of one moment, and written alike on the way out


def truth_form(cells: Any) -> Form | None:
    """true and false in one spelling each, or None."""
    words = set(cells.unique().drop_null().to_pylist())
    for spelt in (("true", "false"), ("True", "False"), ("TRUE", "FALSE")):
        if words and words <= set(spelt):
            return Form("truth", words=spelt)
    return None


def guess(cells: Any, *, comma: bool = False) -> Form | None:
    """The form of a column of strings (with nulls); None: they are strings."""
    if cells.null_count == len(cells):
        return None
    days = pc.all(pc.match_substring_regex(cells, r"^(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])$")).as_py()
    if days and len(cells.unique().drop_null()) > 1:
        form = time_form(cells, ("%Y%m%d",))
        if form is not None:
            return form
    form = truth_form(cells) or number_form(cells, comma=comma) or time_form(cells)
    return form or guess_besidemarks_of(cells, comma=comma)


def guess_besidemarks_of(cells: Any, *, comma: bool) -> Form | None:
    """The form of numbers or times, where all other cells, fewer than half, are marks of NOTHING."""
    marks = tuple(mark for mark in NOTHING if pc.any(pc.equal(cells, mark)).as_py())
    if not marks:
        return None
    rest = without(cells, marks)
    if 2 * (len(cells) - rest.null_count) <= len(cells) - cells.null_count:
        return None
    form = number_form(rest, comma=comma) or time_form(rest)
    return None if form is None else replace(form, missing=marks)


def parsed(table: pa.Table, types: Mapping[str, pa.DataType], known: Mapping[str, Form]) -> pa.Table:
    """The table with these columns as they were in training: strings that write numbers, dates or truth values are read
    in the `known` form, or else in the one that they have; digits in a DataFrame may be a date; times become dates.

    What cannot be read stays as it is, and is refused where it is used.
    """
    for index, name in enumerate(table.column_names):
        cells, kind, form = table.column(index), types.get(name), known.get(name)
        if kind is None or pa.types.is_string(kind) or pa.types.is_dictionary(kind) or pa.types.is_null(cells.type):
            continue
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        if pa.types.is_integer(cells.type) and form is not None and form.kind == "time":
            cells = cells.cast(pa.string())
        if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
            cells = _read(cells.cast(pa.string()), form)
        if pa.types.is_temporal(kind) and pa.types.is_temporal(cells.type) and cells.type != kind:
            try:
                cells = cells.cast(kind, safe=False)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
        if cells.type != table.column(index).type:
            table = table.set_column(index, name, cells)
    return table


def _read(cells: Any, form: Form | None) -> Any:
    """Strings as typed cells; as they are where no form fits. A blank is a missing cell."""
    blank = pc.equal(pc.utf8_trim_whitespace(cells), "")
    cells = pc.if_else(blank, pa.scalar(None, pa.string()), cells)
    for one in (form, guess(cells, comma=form is not None and form.point == ",")):
        if one is not None:
            try:
                return one.parse(cells)
            except NoFit:
                continue
    return cells
