"""How the cells of a column are written: text -> typed values, and back in the same form.

A form stands in the metadata of an Arrow field, so that it travels with a table, into the codec, and out again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from quintet.data.arrow import FORM

Kind = Literal["number", "time", "truth", "text", "category", "id"]
SYMBOLS = "$€£¥₹₽₩₺₴₪฿₫"
CODES = "USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|SGD|HKD|KRW|TRY"
GAP = r"[ \x{00a0}\x{202f}]?"
NUMBER = (
    rf"^(?P<sign>[-+−(]?)(?P<pre>(?:(?:[A-Z]{{0,3}}[{SYMBOLS}]|{CODES}){GAP})?)(?P<inner>[-+−(]?)"
    r"(?P<body>\d[\d.,' \x{00a0}\x{202f}’]*\d|\d|[.,]\d+|\d+[.])(?P<exp>(?:[eE][-+]?\d+)?)"
    r"(?P<outer>[-−)]?)"
    rf"(?P<post>(?:{GAP}(?:%|‰|[{SYMBOLS}]|{CODES})|[ \x{{00a0}}][A-Za-zµ°][A-Za-z/]{{0,4}}[²³]?)?)(?P<last>[-−)]?)$"
)
"""A number with what may stand around it: a sign, a currency, a per cent sign, or a unit behind a blank; accountants'
parentheses, or a minus behind it, of what is less than 0.
"""
SIGNS = ("sign", "inner", "outer", "last")
"""Where marks of a number that is less than 0 may stand: before and behind a currency, digits, a unit."""
MARKS = ("", "+", "-", "−", "()")
NOTHING = ("-", "--", "---", "–", "—", "?", ".", "..", "...", "*", "none", "None", "NONE", "n.a.", "N.A.", "na",
           "missing", "unknown", "#N/A", "NaT", "nil")  # fmt: skip
"""Marks that say, among numbers or times, that there is none."""
MINUS = "-{before}{number}{behind}"


class NoFit(ValueError):
    """A cell that is not written in the form."""


@dataclass(frozen=True)
class Form:
    """number: `decimals` digits behind the `point` (None: as few as it takes, but not fewer than `least`: 24.0 beside
    0.42), `group` between thousands, `before` and `behind` what stands around all of them, zeros in front up to `width`
    digits, and how those less than 0 are written: `negative`, such as "({before}{number}{behind})". time: a `format` of
    strptime, or "" for ISO 8601; `padded` with zeros or not; `type` of Arrow. truth: the `words` for true and false.
    text, category and id: strings, as the user says. Cells that are one of the marks `missing` are nulls.
    """

    kind: Kind
    decimals: int | None = None
    point: str = "."
    group: str = ""
    before: str = ""
    behind: str = ""
    plus: bool = False
    width: int = 0
    negative: str = MINUS
    format: str = ""
    padded: bool = True
    type: str = ""
    words: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    least: int = 0

    @property
    def fewest(self) -> int:
        """The fewest digits behind the point."""
        return self.least if self.decimals is None else self.decimals

    def parse(self, cells: Any) -> Any:
        """Strings (with nulls) -> typed cells. Raises NoFit that names the first cell which is written otherwise."""
        cells = without(cells, self.missing)
        if self.kind == "number":
            return _numbers(cells, self)
        if self.kind == "truth":
            index = pc.index_in(pc.utf8_lower(cells), pa.array([word.lower() for word in self.words]))
            _check(cells, index.is_valid())
            return pc.equal(index, 0)
        if self.kind == "time":
            return _times(cells, self)
        return cells

    def write(self, cells: Any) -> Any:
        """Typed cells -> strings in this form."""
        if self.kind == "number" and not pa.types.is_string(cells.type):
            return pa.array([None if cell is None else self.number(cell) for cell in cells.to_pylist()], pa.string())
        if self.kind == "truth" and pa.types.is_boolean(cells.type):
            return pc.if_else(cells, *self.words)
        if self.kind == "time" and pa.types.is_temporal(cells.type):
            return _written_times(cells, self)
        return cells

    def number(self, value: float) -> str:
        """One number as text."""
        if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        digits = str(abs(value)) if self.decimals is None else f"{abs(value):.{self.decimals}f}"
        if self.decimals is None and isinstance(value, float):
            digits = digits.removesuffix(".0")
        whole, dot, fraction = digits.partition(".")
        if self.least and "e" not in digits:
            dot, fraction = ".", fraction.ljust(self.least, "0")
        whole = whole.zfill(self.width)
        if self.group:
            whole = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", self.group, whole)
        zero = not digits.strip("0.")
        number = f"{whole}{self.point if dot else ''}{fraction}"
        if value < 0 and not zero:
            return self.negative.format(before=self.before, number=number, behind=self.behind)
        return f"{'+' if self.plus and value > 0 else ''}{self.before}{number}{self.behind}"

    @property
    def taken(self) -> str:
        """What a column of this form is taken for, in words."""
        if self.kind == "number":
            if self.width:
                return f"code of {self.width} digits"
            kind = "whole number" if self.decimals == 0 else "decimal"
            value = 1234 if self.decimals == 0 else 1234.5
            example = self.number(value)
            if self.negative != MINUS:
                example += f" and {self.number(-value)}"
            plain = replace(self, missing=(), least=0) == Form("number", self.decimals)
            return kind if plain and self.decimals in (0, None) else f"{kind} written as {example}"
        if self.kind == "time":
            return f"datetime written as {self.format}" if self.format else "datetime"
        return {"truth": f"truth value written as {' and '.join(self.words)}"}.get(self.kind, self.kind)


def without(cells: Any, marks: tuple[str, ...]) -> Any:
    """Strings with nulls in the place of these marks."""
    if not marks:
        return cells
    return pc.if_else(pc.is_in(cells, pa.array(marks)), pa.scalar(None, pa.string()), cells)


def _check(cells: Any, fits: Any) -> None:
    bad = pc.and_(cells.is_valid(), pc.invert(pc.fill_null(fits, False)))
    if pc.any(bad).as_py():
        raise NoFit(repr(cells.filter(bad)[0].as_py()))


# -- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(cells: Any, form: Form) -> Any:
    parts = pc.extract_regex(pc.utf8_trim_whitespace(cells), NUMBER)
    infinite = pc.match_substring_regex(cells, r"(?i)^[-+]?inf(inity)?$")
    if pc.any(infinite).as_py():
        try:
            return cells.cast(pa.float64())
        except pa.ArrowInvalid:
            raise NoFit("inf") from None
    marks = marks_of(parts)
    _check(cells, pc.and_(parts.is_valid(), pc.is_in(marks, pa.array(MARKS))))
    body = pc.struct_field(parts, "body")
    for group in form.group:
        body = pc.replace_substring(body, group, "")
    if form.point != ".":
        body = pc.replace_substring(body, form.point, ".")
    signs = pc.if_else(pc.is_in(marks, pa.array(["", "+"])), "", "-")
    text = pc.binary_join_element_wise(signs, body, pc.struct_field(parts, "exp"), "")
    try:
        return text.cast(pa.int64() if form.decimals == 0 else pa.float64())
    except pa.ArrowInvalid:
        fits = pc.match_substring_regex(text, r"^-?\d+$" if form.decimals == 0 else r"^-?(\d+\.?\d*|\.\d+)([eE].*)?$")
        _check(cells, fits)
        raise NoFit("a number of too many digits") from None


def marks_of(parts: Any) -> Any:
    """The signs and parentheses of each number, without what stands between them."""
    return pc.binary_join_element_wise(*(pc.struct_field(parts, name) for name in SIGNS), "")


# -- times -----------------------------------------------------------------------------------------------------------


def _times(cells: Any, form: Form) -> Any:
    kind = kind_of(form.type)
    if not form.format:
        try:
            return cells.cast(kind)
        except pa.ArrowInvalid as error:
            raise NoFit(str(error)) from None
    day = form.type == "time s"  # which strptime does not know without a date
    text = pc.binary_join_element_wise("1970-01-01", cells, " ") if day else cells
    parsed = pc.strptime(text, f"%Y-%m-%d {form.format}" if day else form.format, "s", error_is_null=True)
    _check(cells, pc.equal(pc.utf8_lower(_written_times(parsed, form)), pc.utf8_lower(cells)))
    return parsed.cast(kind)


def _written_times(cells: Any, form: Form) -> Any:
    if not form.format:
        written = pc.replace_substring_regex(cells.cast(pa.string()), r"([+-]\d\d)(\d\d)$", r"\1:\2")
        return pc.replace_substring(written, " ", "T") if form.behind == "T" else written
    if pa.types.is_time(cells.type):
        cells = cells.cast(pa.time32("s")).cast(pa.int32()).cast(pa.int64())
    written = pc.strftime(cells.cast(pa.timestamp("s")), form.format)
    return written if form.padded else pc.replace_substring_regex(written, r"(^|[-/. ])0(\d)", r"\1\2")


KINDS: dict[str, pa.DataType] = {
    "date": pa.date32(),
    "time s": pa.time32("s"),
    **{f"{unit}{zone}": pa.timestamp(unit, tz=zone.strip() or None)
       for zone in ("", " UTC") for unit in ("s", "ms", "us", "ns")},
}  # fmt: skip


def kind_of(name: str) -> pa.DataType:
    """The type of Arrow that a form names: one of KINDS, or "s +01:00", a unit and the offset of a zone."""
    unit, _, offset = name.partition(" ")
    return KINDS[name] if name in KINDS else pa.timestamp(unit, tz=offset)


# -- guessing --------------------------------------------------------------------------------------------------------


# -- in the metadata of a table --------------------------------------------------------------------------------------


def of(field: pa.Field) -> Form | None:
    """The form of a field, if it has one."""
    found = (field.metadata or {}).get(FORM)
    return None if found is None else from_json(json.loads(found))


@lru_cache(4096)
def to_json(form: Form) -> bytes:
    return json.dumps(asdict(form)).encode()


def from_json(data: Mapping[str, Any]) -> Form:
    return Form(**{**data, **{name: tuple(data.get(name, ())) for name in ("words", "missing")}})


def forms(table: pa.Table) -> dict[str, Form]:
    """The form of each column that has one."""
    found = {field.name: of(field) for field in table.schema}
    return {name: form for name, form in found.items() if form is not None}


def attach(table: pa.Table, known: Mapping[str, Form]) -> pa.Table:
    """The table with these forms in its metadata."""
    if not known:
        return table
    fields = [field.with_metadata({FORM: to_json(known[field.name])}) if field.name in known else field
              for field in table.schema]  # fmt: skip
    return pa.table(table.columns, schema=pa.schema(fields))


def as_written(table: pa.Table, *, plain: bool = True) -> pa.Table:
    """The table with each column that has a form written in it, as strings; without `plain`, numbers and truth values
    that JSON writes by itself stay what they are.
    """
    for name, form in forms(table).items():
        number = form.kind == "number" and form == Form("number", form.decimals, least=form.least)
        if not plain and (number or form.kind == "truth"):
            continue
        index = table.column_names.index(name)
        table = table.set_column(index, name, form.write(table.column(index)))
    return table


def strings(table: pa.Table) -> pa.Table:
    """The table with every column as strings, in its form where it has one."""
    table = as_written(table)
    return pa.table([_text(column) for column in table.columns], names=table.column_names)


def _text(cells: Any) -> Any:
    try:
        return cells.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.chunked_array([pa.array([None if c is None else str(c) for c in cells.to_pylist()], pa.string())])
