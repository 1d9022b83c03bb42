"""CSV, Parquet, JSON lines and Feather files that fit into memory -> a table, with columns that can be modelled."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from quintet.core.errors import DataError, EnvironmentFault
from quintet.core.random import some
from quintet.data.archives import BadFile, Entry, in_one_line
from quintet.data.arrow import tidy
from quintet.data.columnar import COLUMNS, checked, few, parquet_batches, stored
from quintet.data.dataset import LONG_TEXT, Dataset, Found, take
from quintet.data.encodings import decoded
from quintet.data.problems import Problems
from quintet.data.splits import arrange, assign, row_keys
from quintet.modalities.table import guessing, types, written
from quintet.modalities.table.options import TableReading

CSV, JSON, PARQUET, FEATHER = (
    (".csv", ".tsv"),
    (".jsonl", ".ndjson", ".json"),
    (".parquet", ".pq"),
    (".feather", ".arrow"),
)
FEATHER_1 = b"FEA1"
"""How files of the first version of Feather begin, which are no Arrow."""
EXCEL = (".xlsx",)
SUFFIXES = (*CSV, *JSON, *PARQUET, *FEATHER, *EXCEL)
BLOCK = 2**24
"""Bytes of CSV that are parsed together; a single row must be smaller."""
LINES = 20_000
ROWS = (".csv", ".tsv", ".parquet", ".jsonl")
"""Suffixes of files whose lines are rows, not texts."""
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "<NA>"]
EXCEL_MISSING = (*MISSING, "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!")
"""Also what stands in a cell whose formula failed."""
ENOUGH = 200
"""Columns that tell whether the first row is a header."""
RAISED = (pa.ArrowException, OSError, EOFError, ValueError, KeyError, OverflowError, RecursionError)

Batches = Iterator[pa.Table]


def dataset_of(table: pa.Table, found: Found, notes: Sequence[str] = ()) -> Dataset:
    """A table that lies in memory, split; a text where it is one."""
    if table.num_rows == 0:
        raise DataError(
            "the table has no rows",
            where=found.where,
            why="the file is empty, or holds only a header",
            fix="give a file that has rows below its header",
        )
    if table.num_columns > COLUMNS:
        why = f"it has {table.num_columns:,} columns, but at most {COLUMNS:,} are allowed"
        raise DataError(
            "the table has too many columns", where=found.where, why=why, fix="give a table with fewer columns"
        )
    table, renamed = named(table)
    table, typed = types.retyped(table, found.reading.of(TableReading).wishes, found.where, found.reading.forms)
    rows = table.num_rows
    places, without = np.arange(table.num_rows), text_column(tidy(table)[0])
    if without is not None and 0 < table[without].null_count < table.num_rows:
        places = np.flatnonzero(table[without].is_valid())
        typed = [*typed, f"{table[without].null_count:,} rows have no {without}: left out"]
        table, found = take(table, places), found.at(places)
    keys = row_keys(table)
    part, how = assign(keys, found, table)
    order, splits, few = arrange(part)
    table, dropped = tidy(table)
    table = take(table, order)
    said = (*notes, *renamed, *typed, *dropped, *how, *few)
    text = text_column(table)
    if text is None:
        return Dataset("", "table", table, splits, notes=said)
    items = [cell or "" for cell in table[text].to_pylist()]
    labels = table.drop_columns([text]) if table.num_columns > 1 else None
    return Dataset("", "text", items, splits, labels, notes=(*said, f"the column {text} is text, and is the items"),
                   places=None if len(places) == rows else places[order])  # fmt: skip


def text_column(table: pa.Table) -> str | None:
    """The column that makes a table a source of texts: the only one of long strings, or of a text's usual name, beside
    labels and what only names the rows. A column that the user takes for something else is none.
    """
    own = written.forms(table)
    beside = [name for name in table.column_names if name in LABELS or names_rows(name, table[name])]
    names = [name for name in table.column_names if name not in beside or name in TEXTS]
    if len(names) != 1 or len(table.column_names) - len(names) > 2 or not pa.types.is_string(table[names[0]].type):
        return None
    (name,) = names
    if name in own:
        return name if own[name].kind == "text" else None
    mean = pc.mean(pc.utf8_length(table[name].take(pa.array(some(len(table), 10_000, 0))))).as_py() or 0
    return name if name in TEXTS or mean >= LONG_TEXT else None


LABELS, TEXTS = ("label", "labels", "class", "category"), ("text", "sentence", "document")


def names_rows(name: str, cells: pa.ChunkedArray) -> bool:
    """Whether a column beside texts is an identifier: by its name, or short and different in every row."""
    if re.search(r"(?i)(^|[_\W])(id|uuid|guid|key|index|idx)$", name):
        return True
    short = pa.types.is_integer(cells.type) or (
        pa.types.is_string(cells.type) and (pc.max(pc.utf8_length(cells)).as_py() or 0) < LONG_TEXT
    )
    return short and len(cells) >= 20 and not cells.null_count and len(cells.unique()) == len(cells)


# -- columns ---------------------------------------------------------------------------------------------------------


def named(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """Every column with a name of its own."""
    names, notes = distinct(table.column_names)
    if not notes:
        return table, []
    fields = [field.with_name(name) for field, name in zip(table.schema, names, strict=True)]
    return pa.table(table.columns, schema=pa.schema(fields)), notes


def distinct(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that differ, and a note of those that were changed."""
    names: dict[str, None] = {}
    for index, name in enumerate(given):
        name = name.strip() or f"column_{index}"
        numbered = (f"{name}_{count}" for count in itertools.count(2))
        names[next(new for new in itertools.chain([name], numbered) if new not in names)] = None
    changed = [new for old, new in zip(given, names, strict=True) if old != new]
    return list(names), [f"columns renamed: {', '.join(changed)}"] if changed else []


def joined(parts: Sequence[pa.Table], where: str) -> pa.Table:
    """Tables of the same columns, one under the other."""
    if len(parts) == 1:
        return parts[0]
    forms = [written.forms(part) for part in parts]
    same = {name: form for name, form in forms[0].items() if all(each.get(name) == form for each in forms)}
    try:
        table = pa.concat_tables([written.attach(part, {}) for part in parts], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            "the files have different columns",
            where=where,
            why=in_one_line(error),
            fix="give files with the same columns, or name one of the files",
        ) from None
    bare = pa.schema([field.remove_metadata() for field in table.schema])
    return written.attach(pa.table(table.columns, schema=bare), same)


# -- files as a whole ------------------------------------------------------------------------------------------------


def whole(entry: Entry, found: Found) -> tuple[pa.Table, list[str]]:
    """The table of a file, of a CSV as strings, and notes. Raises DataError that names it."""
    place = str(entry.path or f"{found.where}/{entry.name}")
    try:
        content = entry.read()
        if not content:
            raise BadFile("the file is empty")
        if entry.suffix in CSV:
            return csv_table(content, entry.suffix, Problems(found, 0, "rows", place))
        if entry.suffix in JSON:
            problems = Problems(found, 0, "lines", place)
            table = joined(list(json_batches(io.BytesIO(content), problems)) or [pa.table({})], place)
            problems.check()
            return table, list(problems.notes())
        if entry.suffix in PARQUET:
            parts = list(parquet_batches(io.BytesIO(content), len(content)))
            return pa.concat_tables(parts or [pa.table({})]), []
        if entry.suffix in EXCEL:
            return excel_table(content)
        if content.startswith(FEATHER_1):
            return checked(pyarrow.feather.read_table(io.BytesIO(content)), len(content)), []
        schema, batches = stored(pa.BufferReader(content), len(content))
        return pa.concat_tables([schema.empty_table(), *batches]), []
    except RAISED as error:
        raise unreadable(place, error) from None
    except BadFile as error:
        raise DataError("the file cannot be read", where=place, why=str(error)) from None


def excel_table(content: bytes) -> tuple[pa.Table, list[str]]:
    """The first sheet of a workbook: a header, then rows."""
    try:
        import openpyxl
    except ImportError:
        raise EnvironmentFault("Excel files need the package openpyxl", why="it is not installed",
                               fix='pip install "quintet[excel]", or save the sheet as CSV') from None  # fmt: skip
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets = book.worksheets
        for sheet in sheets[:1]:
            sheet.reset_dimensions()  # the size that stands in the file may be wrong
        cells = [list(row) for sheet in sheets[:1] for row in sheet.iter_rows(values_only=True)]
    except Exception as error:  # whatever a damaged zip of XML makes of it
        raise BadFile(in_one_line(error)) from None
    rows = [[None if cell in EXCEL_MISSING else cell for cell in row] for row in cells]
    rows = [row for row in rows if any(cell is not None for cell in row)]
    if not rows:
        raise BadFile("the first sheet is empty")
    width = max(max(i for i, cell in enumerate(row) if cell is not None) + 1 for row in rows)
    header = [*rows[0], *[None] * width][:width]
    names, notes = distinct(["" if name is None else str(name) for name in header])
    if len(sheets) > 1:
        notes.append(f"the first of {len(sheets)} sheets is read: {sheets[0].title}")
    return days(table_of([dict(zip(names, [*row, *[None] * width], strict=False)) for row in rows[1:]])), notes


def days(table: pa.Table) -> pa.Table:
    """The table with times that are all midnight as dates: a workbook has one kind of cell for both."""
    for index, name in enumerate(table.column_names):
        if pa.types.is_timestamp(table[name].type):
            dates = table[name].cast(pa.date32(), safe=False)
            if pc.all(pc.equal(dates.cast(table[name].type), table[name])).as_py():
                table = table.set_column(index, name, dates)
    return table


def unreadable(where: str, error: BaseException) -> DataError:
    why = in_one_line(error)
    if "utf" in why.lower():
        fix = f"convert it: iconv -f latin1 -t utf-8 {Path(where).name} > new{Path(where).suffix}"
        return DataError("the file is not valid UTF-8 text", where=where, why=why, fix=fix)
    return DataError(
        "the file cannot be read",
        where=where,
        why=why,
        fix="check that the file is complete and has the format that its name says",
    )


def csv_table(content: bytes, suffix: str, problems: Problems) -> tuple[pa.Table, list[str]]:
    """The cells of a CSV as strings: see `columns.typed`."""
    content, notes = decoded(content, lenient=problems.lenient)
    read, parse, convert, said = csv_options(content[:BLOCK], suffix, problems)
    table = pyarrow.csv.read_csv(io.BytesIO(content), read, parse, convert)
    problems.total = table.num_rows + len(problems.found)
    problems.check()
    return table, [*notes, *said, *problems.notes()]


def csv_options(head: bytes, suffix: str, problems: Problems) -> tuple[Any, Any, Any, list[str]]:
    """pyarrow's options that read a CSV which begins so as strings, and notes: its delimiter, and whether it has a
    header.
    """
    if b"\0" in head:
        raise ValueError("it holds NUL bytes: this is no text file")
    whole, text = len(head) < BLOCK, head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "ignore")
    delimiter = "\t" if suffix == ".tsv" else delimiter_of(text)
    rows = first_rows(text, delimiter, LINES)
    rows = [row for row in (rows if whole or len(rows) == LINES else rows[:-1] or rows) if row]
    first = rows[0] if rows else [""]
    few(len(first))
    notes = [] if delimiter in (",", "\t") else [f"the delimiter is {delimiter!r}"]
    header = has_header(first, [row for row in rows[1:] if len(row) == len(first)], comma=delimiter == ";")
    names = first if header else [f"x{i}" for i in range(len(first))]
    names, renamed = distinct(names)
    notes += renamed
    if not header:
        notes.append(f"no header: columns are x0 ... x{len(names) - 1}")

    def skip(row: Any) -> str:
        at = f"row {row.number}" if row.number is not None else "a row"
        problems.add(at, f"{row.actual_columns} cells, expected {row.expected_columns}: {row.text[:60]!r}", row.text)
        return "skip"

    return (
        pyarrow.csv.ReadOptions(block_size=BLOCK, column_names=names, skip_rows_after_names=int(header),
                                use_threads=False),
        pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        pyarrow.csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True,
                                   column_types=dict.fromkeys(names, pa.string())),
        notes,
    )  # fmt: skip


def first_rows(text: str, delimiter: str, count: int) -> list[list[str]]:
    """So many rows of a CSV, or those before a cell that is longer than this reader takes, as pyarrow's does."""
    rows = []
    with contextlib.suppress(csv.Error):
        for row in itertools.islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), count):
            rows.append(row)
    return rows


def delimiter_of(text: str) -> str:
    """What stands between the cells: that which gives the first rows one number of cells, more than one."""
    best, score = ",", (0.0, 0)
    for delimiter in ",;\t|":
        rows = first_rows(text, delimiter, 101)
        widths = [len(row) for row in (rows[:-1] if len(rows) > 100 else rows) if row]
        if widths and widths[0] > 1:
            share = sum(width == widths[0] for width in widths) / len(widths)
            if (round(share, 1), widths[0]) > score:
                best, score = delimiter, (round(share, 1), widths[0])
    return best if score[0] >= 0.5 else "," if "," not in text.split("\n", 1)[0] and not score[1] else best


def has_header(first: Sequence[str], rows: Sequence[Sequence[str]], *, comma: bool = False) -> bool:
    """Whether the first row names the columns, by comparing each of its cells with all those below it.

    A row without a number is a header. One with numbers is, if a column of numbers or dates has another form or
    another range below; not, if one of its words occurs below; then again, if it has a word that others, which recur
    below, do not equal. Where nothing tells, numbers that count up as the years in `country,2019,2020` do are names.
    """
    numbers = [cell.strip() for cell in first if is_number(cell)]
    if not numbers or not rows:
        return not numbers
    years = all(number.isdecimal() and 1500 <= int(number) <= 2200 for number in numbers)
    counts = numbers == [str(i) for i in range(len(numbers))] and len(numbers) > 1
    other, value, word = False, False, False
    for index, cell in enumerate(first[:ENOUGH]):
        cells = pa.chunked_array([pa.array([None if r[index] in MISSING else r[index] for r in rows], pa.string())])
        form = guessing.guess(cells, comma=comma)
        if cell in MISSING:
            continue
        if form is None:
            kinds = set(cells.to_pylist())
            value |= cell in kinds
            word |= not is_number(cell) and 2 * len(kinds) < len(rows)
            continue
        try:
            alone = form.parse(pa.chunked_array([pa.array([cell], pa.string())]))
        except written.NoFit:
            other = True
            continue
        if form.kind == "number":
            low, high = (pc.min_max(form.parse(cells))[end].as_py() for end in ("min", "max"))
            other |= bool(form.decimals) and form.write(alone)[0].as_py() != cell
            other |= years and not 2 * low - high <= alone[0].as_py() <= 2 * high - low
            value |= years and 1500 <= low <= high <= 2200
    return other or (not value and (word or counts or (years and len(set(numbers)) == len(numbers))))


def is_number(cell: str) -> bool:
    """Whether a cell of the first row may be a value: a number, as Python has it."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def json_batches(stream: Any, problems: Problems) -> Batches:
    """Tables of lines that each hold an object (or of an array of objects); lines that do not are counted."""
    lines = iter(stream)
    first = next((line for line in lines if line.strip()), b"")
    if first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        rows = json.loads((first + b"".join(lines)).decode("utf-8-sig"))
        rows, problems.total = [characters(row, problems) for row in rows], len(rows)
        yield table_of([row for row in rows if isinstance(row, dict)])
        return
    numbered = enumerate(itertools.chain([first.removeprefix(b"\xef\xbb\xbf")], lines), start=1)
    while chunk := list(itertools.islice(numbered, LINES)):
        rows = []
        for number, line in chunk:
            if not line.strip():
                continue
            problems.total += 1
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                problems.add(f"line {number}", in_one_line(error), line.decode("utf-8", "replace"))
                continue
            if isinstance(row, dict):
                rows.append(characters(row, problems))
            else:
                problems.add(f"line {number}", "not an object", line.decode("utf-8", "replace"))
        if rows:
            yield table_of(rows)


def characters(row: Any, problems: Problems) -> Any:
    """An object of JSON with U+FFFD for half a character (a lone surrogate), which no file can hold; it is counted."""
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        problems.halves += 1
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return row


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A table of objects; a column of mixed kinds becomes strings. Raises BadFile for too many columns."""
    columns, names = {}, dict.fromkeys(name for row in rows for name in row)
    few(len(names))
    for name in names:
        cells = [row.get(name) for row in rows]
        try:
            columns[str(name)] = pa.array(cells)
        except (pa.ArrowException, OverflowError):
            columns[str(name)] = pa.array(
                [None if c is None else c if isinstance(c, str) else json.dumps(c, default=str) for c in cells]
            )
    return pa.table(columns)
