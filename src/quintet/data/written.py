"""How the cells of a column are written: text -> typed values, and back in the same form.

A form stands in the metadata of an Arrow field, so that it travels with a table, into the codec, and out again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
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


class NoFit(ValueError):
    """A cell that is not written in the form."""


@dataclass(frozen=True)
class Form:
    """number: `decimals` digits behind the `point` (None: as few as it takes), `group` between thousands, `before` and
    `behind` what stands around all of them, zeros in front up to `width` digits, and how those less than 0 are written:
    `negative`, such as "({before}{number}{behind})". time: a `format` of strptime, or "" for ISO 8601; `padded` with
    zeros or not; `type` of Arrow. truth: the `words` for true and false. text, category and id: strings, as the user
    says. Cells that are one of the marks `missing` are nulls.
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
            plain = replace(self, missing=()) == Form("number", self.decimals)
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
    marks = _marks(parts)
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


def _marks(parts: Any) -> Any:
    """The signs and parentheses of each number, without what stands between them."""
    return pc.binary_join_element_wise(*(pc.struct_field(parts, name) for name in SIGNS), "")


def negative_form(parts: Any) -> str:
    """How most of those numbers that are less than 0 are written: see `Form.negative`."""
    less = parts.filter(pc.invert(pc.is_in(_marks(parts), pa.array(["", "+"]))))
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
        return Form("number") if len(cells) and _floats(cells) else None
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
    bare, marks = not (used or before or behind), _marks(parts)
    if bare and pc.any(pc.is_in(field["outer"], pa.array(["-", "−"]))).as_py():
        return None  # 2- is a mark of a school
    if bare and pc.all(pc.equal(marks, "()")).as_py():
        return None  # (1), (2), (3) number things
    fractions = pc.utf8_length(pc.struct_field(pc.extract_regex(
        bodies, rf"^[^{re.escape(point)}]*(?P<f>(?:{re.escape(point)}\d*)?)$"), "f"))  # fmt: skip
    few, many = (pc.min_max(fractions)[end].as_py() for end in ("min", "max"))
    same = few == many and not pc.any(pc.not_equal(field["exp"], "")).as_py()
    form = Form("number", max(0, many - 1) if same else None, point, group, before, behind, bool(plus), width,
                negative_form(parts))  # fmt: skip
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


def _floats(cells: Any) -> bool:
    try:
        cells.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


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
        try:
            typed = cells.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        for behind in ("", "T"):
            form = Form("time", behind=behind, type=name)
            if pc.all(pc.equal(form.write(typed), cells)).as_py():
                return form
    for name, kind in KINDS.items():  # mixed forms of one moment: written alike on the way out
        try:
            cells.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        return Form("time", type=name)
    return None


# -- guessing --------------------------------------------------------------------------------------------------------


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
    return form or guess_beside_marks(cells, comma=comma)


def guess_beside_marks(cells: Any, *, comma: bool) -> Form | None:
    """The form of numbers or times, where all other cells, fewer than half, are marks of NOTHING."""
    marks = tuple(mark for mark in NOTHING if pc.any(pc.equal(cells, mark)).as_py())
    if not marks:
        return None
    rest = without(cells, marks)
    if 2 * (len(cells) - rest.null_count) <= len(cells) - cells.null_count:
        return None
    form = number_form(rest, comma=comma) or time_form(rest)
    return None if form is None else replace(form, missing=marks)


# -- in the metadata of a table --------------------------------------------------------------------------------------


def of(field: pa.Field) -> Form | None:
    """The form of a field, if it has one."""
    found = (field.metadata or {}).get(FORM)
    return None if found is None else from_json(json.loads(found))


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
    fields = [field.with_metadata({FORM: json.dumps(asdict(known[field.name])).encode()}) if field.name in known
              else field for field in table.schema]  # fmt: skip
    return pa.table(table.columns, schema=pa.schema(fields))


def as_written(table: pa.Table, *, plain: bool = True) -> pa.Table:
    """The table with each column that has a form written in it, as strings; without `plain`, numbers and truth values
    that JSON writes by itself stay what they are.
    """
    for name, form in forms(table).items():
        number = form.kind == "number" and form == Form("number", form.decimals)
        if not plain and (number or form.kind == "truth"):
            continue
        index = table.column_names.index(name)
        table = table.set_column(index, name, form.write(table.column(index)))
    return table


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


def strings(table: pa.Table) -> pa.Table:
    """The table with every column as strings, in its form where it has one."""
    table = as_written(table)
    return pa.table([_text(column) for column in table.columns], names=table.column_names)


def _text(cells: Any) -> Any:
    try:
        return cells.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.chunked_array([pa.array([None if c is None else str(c) for c in cells.to_pylist()], pa.string())])


def kept(completed: pa.Table, given: pa.Table, raw: pa.Table) -> pa.Table:
    """`completed` as strings, in which each cell that was given stands as it was written in the file: `raw`."""
    out = strings(completed)
    for index, name in enumerate(out.column_names):
        if name in raw.column_names and name in given.column_names:
            cells = pc.if_else(given[name].is_valid().combine_chunks(), raw[name].combine_chunks(),
                               out[name].combine_chunks())  # fmt: skip
            out = out.set_column(index, name, cells)
    return out
