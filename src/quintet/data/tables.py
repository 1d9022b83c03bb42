"""CSV, Parquet, JSON lines and Feather files that fit into memory -> a table, with columns that can be modelled."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.data.archives import BadFile, Entry, Problems, reason
from quintet.data.dataset import Dataset, Found, take
from quintet.data.splits import arrange, assign, row_keys

CSV, JSON, PARQUET, FEATHER = (
    (".csv", ".tsv"),
    (".jsonl", ".ndjson", ".json"),
    (".parquet", ".pq"),
    (".feather", ".arrow"),
)
SUFFIXES = (*CSV, *JSON, *PARQUET, *FEATHER)
BLOCK = 2**24
"""Bytes of CSV that are parsed together; a single row must be smaller."""
LINES = 20_000
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "<NA>"]
LONG_TEXT = 40
"""Characters, on average, from which the only column of a table is text."""
RAISED = (pa.ArrowException, OSError, EOFError, ValueError, KeyError, OverflowError, RecursionError)

Batches = Iterator[pa.Table]


def dataset_of(table: pa.Table, found: Found, notes: Sequence[str] = ()) -> Dataset:
    """A table that lies in memory, split; a text where it is one."""
    if table.num_rows == 0:
        raise DataError("no rows", where=found.where, fix="the file has a header alone, or nothing")
    table, renamed = named(table)
    keys = row_keys(table)
    part, how = assign(keys, found, table)
    order, splits, few = arrange(part)
    table, dropped = tidy(table)
    table = take(table, order)
    said = (*notes, *renamed, *dropped, *how, *few)
    text = text_column(table)
    if text is None:
        return Dataset("", "table", table, splits, notes=said)
    items = [cell or "" for cell in table[text].to_pylist()]
    labels = table.drop_columns([text]) if table.num_columns > 1 else None
    return Dataset("", "text", items, splits, labels, notes=(*said, f"the column {text} is text, and is the items"))


def text_column(table: pa.Table) -> str | None:
    """The column that makes a table a source of texts: one of long strings, with nothing or a label beside it."""
    names = [name for name in table.column_names if name not in ("label", "labels", "class", "category")]
    if len(names) != 1 or table.num_columns > 2 or not pa.types.is_string(table[names[0]].type):
        return None
    mean = pc.mean(pc.utf8_length(table[names[0]].take(pa.array(some(len(table), 10_000, 0))))).as_py() or 0
    return names[0] if names[0] in ("text", "sentence", "document") or mean >= LONG_TEXT else None


# -- columns ---------------------------------------------------------------------------------------------------------


def named(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """Every column with a name of its own."""
    names: list[str] = []
    for index, name in enumerate(table.column_names):
        name = name.strip() or f"column_{index}"
        numbered = (f"{name}_{count}" for count in itertools.count(2))
        free = next(new for new in itertools.chain([name], numbered) if new not in names)
        names.append(free)
    changed = [new for old, new in zip(table.column_names, names, strict=True) if old != new]
    return table.rename_columns(names), [f"columns renamed: {', '.join(changed)}"] if changed else []


def tidy(table: pa.Table, *, empty: bool = True) -> tuple[pa.Table, list[str]]:
    """Columns of numbers, truth values, times and strings; what cannot be modelled is dropped, with a note.

    `empty`: whether columns without any value are dropped, which only a whole table can know.
    """
    columns: dict[str, Any] = {}
    notes = []
    for name in table.column_names:
        column, kind = table[name], table[name].type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = column.type
        if empty and table.num_rows and column.null_count == table.num_rows:
            notes.append(f"column {name} has no values: left out")
        elif pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            notes.append(f"column {name} of type {kind}: left out")
        else:
            columns[name] = column.cast(plain_type(kind))
    if not columns:
        raise DataError("no column can be used", why="; ".join(notes))
    return pa.table(columns), notes


def plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_float16(kind):
        return pa.float32()
    return pa.string() if pa.types.is_large_string(kind) or str(kind) == "string_view" else kind


def joined(parts: Sequence[pa.Table], where: str) -> pa.Table:
    """Tables of the same columns, one under the other."""
    try:
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError("the files have different columns", where=where, why=reason(error)) from None


# -- files as a whole ------------------------------------------------------------------------------------------------


def whole(entry: Entry, where: str) -> tuple[pa.Table, list[str]]:
    """The table of a file, and notes. Raises DataError that names it."""
    place = str(entry.path or f"{where}/{entry.name}")
    try:
        content = entry.read()
        if not content:
            raise BadFile("the file is empty")
        if entry.suffix in CSV:
            return csv_table(content, entry.suffix, place)
        if entry.suffix in JSON:
            problems = Problems(place, 0, "lines")
            table = joined(list(json_batches(io.BytesIO(content), problems)) or [pa.table({})], place)
            problems.check()
            return table, list(problems.notes())
        if entry.suffix in PARQUET:
            return pyarrow.parquet.read_table(io.BytesIO(content)), []
        return pyarrow.feather.read_table(io.BytesIO(content)), []
    except RAISED as error:
        raise unreadable(place, error) from None
    except BadFile as error:
        raise DataError("cannot be read", where=place, why=str(error)) from None


def unreadable(where: str, error: BaseException) -> DataError:
    why = reason(error)
    if "UTF8" in why or "utf-8" in why:
        fix = f"convert it: iconv -f latin1 -t utf-8 {Path(where).name} > new{Path(where).suffix}"
        return DataError("not UTF-8 text", where=where, why=why, fix=fix)
    return DataError(
        "cannot be read", where=where, why=why, fix="check that the file is whole and is what its name says"
    )


def csv_table(content: bytes, suffix: str, where: str) -> tuple[pa.Table, list[str]]:
    problems = Problems(where, 0, "rows")
    read, parse, convert, notes = csv_options(content[:BLOCK], suffix, problems)
    table = pyarrow.csv.read_csv(io.BytesIO(content), read, parse, convert)
    problems.total = table.num_rows + len(problems.found)
    problems.check()
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        name = next(field.name for field in table.schema if pa.types.is_binary(field.type))
        raise UnicodeError(f"column {name} holds bytes that are not UTF-8: utf-8 is expected")
    return table, [*notes, *problems.notes()]


def csv_options(head: bytes, suffix: str, problems: Problems) -> tuple[Any, Any, Any, list[str]]:
    """pyarrow's options for a CSV that begins so, and notes: its delimiter, and whether it has a header."""
    if b"\0" in head:
        raise ValueError("it holds NUL bytes: this is no text file")
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8").strip("\r")
    bare = re.sub(r'"[^"]*"', '""', first)
    delimiter = "\t" if suffix == ".tsv" else max(",;\t|", key=bare.count)
    cells = [cell.strip() for cell in bare.split(delimiter)]
    notes = [] if delimiter in (",", "\t") else [f"the delimiter is {delimiter!r}"]
    names = None
    if any(is_number(cell) for cell in cells):
        names = [f"x{i}" for i in range(len(cells))]
        notes.append(f"no header: columns are x0 ... x{len(cells) - 1}")

    def skip(row: Any) -> str:
        at = f"row {row.number}" if row.number is not None else "a row"
        problems.add(at, f"{row.actual_columns} cells, expected {row.expected_columns}: {row.text[:60]!r}")
        return "skip"

    return (
        pyarrow.csv.ReadOptions(block_size=BLOCK, column_names=names, use_threads=False),
        pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        pyarrow.csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True),
        notes,
    )


def is_number(cell: str) -> bool:
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
        problems.total = len(rows)
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
                problems.add(f"line {number}", reason(error))
                continue
            if isinstance(row, dict):
                rows.append(row)
            else:
                problems.add(f"line {number}", "not an object")
        if rows:
            yield table_of(rows)


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A table of objects; a column of mixed kinds becomes strings."""
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        cells = [row.get(name) for row in rows]
        try:
            columns[str(name)] = pa.array(cells)
        except (pa.ArrowException, OverflowError):
            columns[str(name)] = pa.array(
                [None if c is None else c if isinstance(c, str) else json.dumps(c) for c in cells]
            )
    return pa.table(columns)
