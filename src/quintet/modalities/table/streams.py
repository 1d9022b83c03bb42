"""Tables of any length: several files as one; what is too large for memory is streamed into Arrow files and mapped."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc

from quintet.core.errors import ConfigError, DataError
from quintet.data import cache
from quintet.data.archives import BadFile, Entry
from quintet.data.arrow import tidy
from quintet.data.columnar import parquet_batches, stored
from quintet.data.dataset import SPLITS, Dataset, Found
from quintet.data.problems import Problems
from quintet.data.splits import assign, consecutive, row_keys
from quintet.modalities.table import guessing, types, written
from quintet.modalities.table.options import TableReading
from quintet.modalities.table.reading import (
    BLOCK,
    CSV,
    JSON,
    PARQUET,
    RAISED,
    Batches,
    csv_options,
    dataset_of,
    joined,
    json_batches,
    unreadable,
    whole,
)
from quintet.modalities.table.written import Form

LARGE = 2**28
"""Bytes of files above which a table is streamed into the cache and memory-mapped."""
PACKED = 5
"""How many times larger a packed table is taken to be."""


def read_tables(entries: Sequence[Entry], found: Found) -> Dataset:
    """One table of all the entries, which have the same columns, split and in the order of the splits."""
    kept = cache.find(found.key, opened)
    if kept is not None:
        return kept
    size = sum(entry.size * (PACKED if entry.packed else 1) for entry in entries)
    if size > LARGE and found.key:
        return cache.cached(found.key, lambda folder: stream(entries, found, folder), opened)
    parts, notes = [], []
    for entry in entries:
        table, more = whole(entry, found)
        parts.append(table)
        notes += more
    if found.splits:
        sizes = [part.num_rows for part in parts]
        found = replace(found, splits=list(np.repeat(np.array(found.splits), sizes)))
    given = found.reading.of(TableReading).wishes
    if all(entry.suffix in CSV for entry in entries):  # typed together: what one file shows holds for all
        table, more = types.typed(joined(parts, found.where), given, found.reading.forms, found.where)
        raw = joined(parts, found.where) if found.reading.whole else None
        made = dataset_of(table, found, [*notes, *more])
        return replace(made, written=raw) if made.modality == "table" else made
    for i, entry in enumerate(entries):
        if entry.suffix in CSV:
            parts[i], more = types.typed(parts[i], given, found.reading.forms, found.where)
            notes += more
    return dataset_of(joined(parts, found.where), found, notes)


def stream(entries: Sequence[Entry], found: Found, folder: Path) -> Dataset:
    """Files larger than memory -> one Arrow file a split, in two passes: hashes of rows, then the rows themselves."""
    other = next((entry for entry in entries if entry.suffix not in CSV), None)
    if other is not None and found.reading.of(TableReading).wishes:
        raise ConfigError("the types of columns cannot be set for a table of this size that is not a CSV file",
                          where=f"{found.where}, {other.name}",
                          why=f"tables of more than {LARGE // 2**20} MiB are read in pieces, by the types in the file",
                          fix="leave out data.types, or save the table as CSV")  # fmt: skip
    notes: list[str] = []
    schema = unified([schema_of(entry, found, notes) for entry in entries])
    chosen = [name for name in (found.reading.group, found.reading.time) if name in schema.names]

    def batches() -> Iterator[tuple[int, pa.Table]]:
        for index, entry in enumerate(entries):
            for batch in batches_of(entry, schema, found, []):
                yield index, batch

    keys, columns, files, total = [], [], [], 0
    for index, batch in batches():
        keys.append(row_keys(batch))
        columns.append(batch.select(chosen) if chosen else batch.select(batch.column_names[:1]))
        files.append(np.full(batch.num_rows, index, np.int32))
        total += 1
        if not chosen:
            columns.clear()
    names = [found.splits[i] for i in np.concatenate(files)] if found.splits else ()
    part, how = assign(np.concatenate(keys), Found(found.where, found.reading, splits=names),
                       pa.concat_tables(columns) if chosen else schema.empty_table())  # fmt: skip
    clean, dropped = tidy(schema.empty_table(), empty=False)
    writers = [pa.ipc.new_file(str(folder / f"{name}.arrow"), clean.schema) for name in SPLITS]
    at = 0
    for _, batch in cache.progress(batches(), "encoding the table", total):
        here = part[at : at + batch.num_rows]
        at += batch.num_rows
        rows, _ = tidy(batch, empty=False)
        for split, writer in enumerate(writers):
            writer.write_table(rows.filter(pa.array(here == split)))
    for writer in writers:
        writer.close()
    items = opened(folder)
    splits = consecutive(np.bincount(part, minlength=3).tolist())
    if found.reading.split == "none":
        splits = dict.fromkeys(SPLITS, splits["train"])
    notes.append("larger than memory should be: kept as Arrow files in the cache, and memory-mapped")
    return Dataset("", "table", items, splits, notes=(*notes, *dropped, *how))


def opened(folder: Path) -> pa.Table:
    """The splits, one after another."""
    return pa.concat_tables([cache.mapped_table(folder / f"{name}.arrow") for name in SPLITS])


def schema_of(entry: Entry, found: Found, notes: list[str]) -> pa.Schema:
    """The schema that all rows of a file fit: that of its first rows, widened where a later row does not."""
    problems: list[str] = []
    schema = None
    for batch in batches_of(entry, None, found, problems):
        schema = batch.schema
        if entry.suffix in PARQUET:  # its schema is written in it
            break
    notes += problems
    if schema is None:
        raise DataError(
            "the table has no rows",
            where=f"{found.where}/{entry.name}",
            why="the file is empty, or holds only a header",
            fix="give a file that has rows below its header",
        )
    return schema


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema that all rows fit, with the forms that columns have in all of the files."""
    schema = pa.unify_schemas([each.remove_metadata() for each in schemas], promote_options="permissive")
    every = [written.forms(each.empty_table()) for each in schemas]
    forms = {}
    for name in schema.names:
        own = [each.get(name) for each in every]
        first = own[0]
        if first is None:
            continue
        less = next((form.negative for form in own if form and form.negative != written.MINUS), written.MINUS)
        same = replace(first, negative=less)
        if all(
            form and replace(form, decimals=first.decimals, negative=less, least=first.least) == same for form in own
        ):
            forms[name] = spread([form for form in own if form], same)
    fields = [schema.field(name).remove_metadata() for name in schema.names]
    return written.attach(pa.schema(fields).empty_table(), forms).schema


def batches_of(entry: Entry, schema: pa.Schema | None, found: Found, notes: list[str]) -> Batches:
    """A file in pieces; of a CSV without a `schema`, an empty one that has its columns. Raises DataError."""
    place = str(entry.path or f"{found.where}/{entry.name}")
    openers: dict[tuple[str, ...], Callable[..., Batches]] = {
        CSV: _csv_batches,
        JSON: _json_batches,
        PARQUET: _parquet_batches,
    }
    opener = next((value for key, value in openers.items() if entry.suffix in key), _feather_batches)
    try:
        with entry.open() as file:
            yield from opener(file, entry, schema, found, notes)
    except RAISED as error:
        raise unreadable(place, error) from None
    except BadFile as error:
        raise DataError("the file cannot be read", where=place, why=str(error)) from None


def _csv_batches(file: Any, entry: Entry, schema: Any, found: Found, notes: list[str]) -> Batches:
    with entry.open() as start:
        head = start.read(BLOCK)
    problems = Problems(found, 0, "rows", str(entry.path or f"{found.where}/{entry.name}"))
    read, parse, convert, said = csv_options(head, entry.suffix, problems)
    reader = pyarrow.csv.open_csv(file, read, parse, convert)
    rows, forms, names = 0, None, []
    for batch in reader:
        rows += batch.num_rows
        strings = pa.Table.from_batches([batch])
        if schema is not None:
            yield fitted(strings, schema)
            continue
        if forms is None:
            table, more = types.typed(strings, found.reading.of(TableReading).wishes, {}, entry.name)
            forms, names = written.forms(table), table.column_names
            said += more
        for name, form in list(forms.items()):
            if (wider := widened(strings[name], form)) is None:
                del forms[name]
            else:
                forms[name] = wider
    if forms is not None:
        strings = pa.table({name: pa.array([], pa.string()) for name in names})
        yield fitted(strings, written.attach(strings, forms).schema)
    problems.total = rows + len(problems.found)
    problems.check()
    notes += [*said, *problems.notes()]


def spread(own: Sequence[Form], form: Form) -> Form:
    """`form` with as many decimals as all of these have."""
    alike = all(one.decimals == own[0].decimals for one in own) and own[0].decimals is not None
    decimals, least = (own[0].decimals, 0) if alike else (None, min(one.fewest for one in own))
    return replace(form, decimals=decimals, least=least)


def widened(cells: pa.ChunkedArray, form: Form) -> Form | None:
    """The form, with any number of decimals if these cells have others; None if they are written in another way."""
    for each in (form, replace(form, decimals=None)):
        try:
            each.parse(cells)
        except written.NoFit:
            continue
        own = guessing.number_form(cells) if each.kind == "number" else None
        if own is None:
            return each
        less = own.negative if each.negative == written.MINUS else each.negative
        return spread([form, own], replace(each, negative=less))
    return None


def fitted(strings: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of strings in the columns of a schema, each parsed in its form."""
    columns = {}
    for field in schema:
        form = written.of(field)
        cells = strings[field.name] if field.name in strings.column_names else pa.nulls(len(strings), pa.string())
        typed = cells if form is None else form.parse(cells)
        columns[field.name] = typed.cast(field.type) if strings.num_rows and typed.type != field.type else typed
    return written.attach(pa.table(columns), written.forms(schema.empty_table()))


def _json_batches(file: Any, entry: Entry, schema: Any, found: Found, notes: list[str]) -> Batches:
    problems, seen = Problems(found, 0, "lines", str(entry.path or f"{found.where}/{entry.name}")), None
    for batch in json_batches(file, problems):
        if schema is not None:
            columns = [batch[n].cast(k) if n in batch.column_names else pa.nulls(len(batch), k)
                       for n, k in zip(schema.names, schema.types, strict=True)]  # fmt: skip
            yield pa.table(columns, schema=schema)
            continue
        seen = batch.schema if seen is None else pa.unify_schemas([seen, batch.schema], promote_options="permissive")
        yield seen.empty_table()
    problems.check()
    notes += problems.notes()


def _parquet_batches(file: Any, entry: Entry, schema: Any, found: Found, notes: list[str]) -> Batches:
    content = None if entry.path else file.read()
    source = str(entry.path) if content is None else io.BytesIO(content)
    size = entry.size if content is None else len(content)
    for table in parquet_batches(source, size, mapped=content is None):
        yield table if schema is None else table.cast(schema)


def _feather_batches(file: Any, entry: Entry, schema: Any, found: Found, notes: list[str]) -> Batches:
    source = pa.memory_map(str(entry.path)) if entry.path else pa.BufferReader(file.read())
    for table in stored(source, source.size())[1]:
        yield table if schema is None else table.cast(schema)
