"""Tables of any length: several files as one; what is too large for memory is streamed into Arrow files and mapped."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from quintet.core.errors import DataError
from quintet.data import cache
from quintet.data.archives import BadFile, Entry, Problems
from quintet.data.dataset import SPLITS, Dataset, Found
from quintet.data.splits import assign, row_keys, stretches
from quintet.data.tables import (
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
    tidy,
    unreadable,
    whole,
)

LARGE = 2**28
"""Bytes of files above which a table is streamed into the cache and memory-mapped."""
PACKED = 5
"""How many times larger a packed table is taken to be."""
WIDER = {"null": pa.int64(), "int64": pa.float64()}
"""What a column becomes when a later row does not fit the type of the first ones; else a string."""


def read_tables(entries: Sequence[Entry], found: Found) -> Dataset:
    """One table of all the entries, which have the same columns, split and in the order of the splits."""
    kept = cache.find(found.key) if found.key else None
    if kept is not None:
        return kept
    size = sum(entry.size * (PACKED if entry.packed else 1) for entry in entries)
    if size > LARGE and found.key:
        return cache.build(found.key, lambda folder: stream(entries, found, folder))
    parts, notes = [], []
    for entry in entries:
        table, more = whole(entry, found.where)
        parts.append(table)
        notes += more
    if found.splits:
        sizes = [part.num_rows for part in parts]
        found = replace(found, splits=list(np.repeat(np.array(found.splits), sizes)))
    return dataset_of(joined(parts, found.where), found, notes)


def stream(entries: Sequence[Entry], found: Found, folder: Path) -> Dataset:
    """Files larger than memory -> one Arrow file a split, in two passes: hashes of rows, then the rows themselves."""
    notes: list[str] = []
    schemas = [schema_of(entry, found.where, notes) for entry in entries]
    schema = pa.unify_schemas(schemas, promote_options="permissive")
    chosen = [name for name in (found.reading.group, found.reading.time) if name in schema.names]

    def batches() -> Iterator[tuple[int, pa.Table]]:
        for index, entry in enumerate(entries):
            for batch in batches_of(entry, schema, found.where, []):
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
    items = pa.concat_tables([cache.mapped_table(folder / f"{name}.arrow") for name in SPLITS])
    splits = stretches(np.bincount(part, minlength=3).tolist())
    notes.append("larger than memory should be: kept as Arrow files in the cache, and memory-mapped")
    return Dataset("", "table", items, splits, notes=(*notes, *dropped, *how))


def schema_of(entry: Entry, where: str, notes: list[str]) -> pa.Schema:
    """The schema that all rows of a file fit: that of its first rows, widened where a later row does not."""
    types: dict[str, pa.DataType] = {}
    while True:
        try:
            problems: list[str] = []
            schema = None
            for batch in batches_of(entry, None, where, problems, types):
                schema = batch.schema
                if entry.suffix in PARQUET:  # its schema is written in it
                    break
        except Wider as wider:
            types[wider.name] = wider.kind
            continue
        notes += problems
        if schema is None:
            raise DataError("no rows", where=f"{where}/{entry.name}")
        return schema


class Wider(Exception):
    """A column needs a wider type than its first rows show."""

    def __init__(self, name: str, kind: pa.DataType) -> None:
        self.name, self.kind = name, kind


def batches_of(entry: Entry, schema: pa.Schema | None, where: str, notes: list[str],
               types: Mapping[str, pa.DataType] | None = None) -> Batches:  # fmt: skip
    """A file in pieces. `schema`: of every piece; without it, `types` are of some columns. Raises DataError, Wider."""
    place = str(entry.path or f"{where}/{entry.name}")
    openers: dict[tuple[str, ...], Callable[..., Batches]] = {
        CSV: _csv_batches,
        JSON: _json_batches,
        PARQUET: _parquet_batches,
    }
    opener = next((value for key, value in openers.items() if entry.suffix in key), _feather_batches)
    try:
        with entry.open() as file:
            yield from opener(file, entry, schema, types or {}, notes)
    except RAISED as error:
        raise unreadable(place, error) from None
    except BadFile as error:
        raise DataError("cannot be read", where=place, why=str(error)) from None


def _csv_batches(file: Any, entry: Entry, schema: Any, types: Mapping[str, Any], notes: list[str]) -> Batches:
    with entry.open() as start:
        head = start.read(BLOCK)
    problems = Problems(entry.name, 0, "rows")
    read, parse, convert, said = csv_options(head, entry.suffix, problems)
    convert.column_types = dict(zip(schema.names, schema.types, strict=True)) if schema else dict(types)
    reader = pyarrow.csv.open_csv(file, read, parse, convert)
    rows = 0
    try:
        for batch in reader:
            rows += batch.num_rows
            yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        at = re.search(r"CSV column #(\d+):.* CSV conversion error to (\w+)", str(error))
        if at is None or schema is not None:
            raise
        name = reader.schema.names[int(at[1])]
        raise Wider(name, WIDER.get(at[2], pa.string())) from None
    problems.total = rows + len(problems.found)
    problems.check()
    notes += [*said, *problems.notes()]


def _json_batches(file: Any, entry: Entry, schema: Any, types: Mapping[str, Any], notes: list[str]) -> Batches:
    problems, seen = Problems(entry.name, 0, "lines"), None
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


def _parquet_batches(file: Any, entry: Entry, schema: Any, types: Mapping[str, Any], notes: list[str]) -> Batches:
    source = str(entry.path) if entry.path else io.BytesIO(file.read())
    for batch in pyarrow.parquet.ParquetFile(source, memory_map=bool(entry.path)).iter_batches(2**16):
        table = pa.Table.from_batches([batch])
        yield table if schema is None else table.cast(schema)


def _feather_batches(file: Any, entry: Entry, schema: Any, types: Mapping[str, Any], notes: list[str]) -> Batches:
    source = pa.memory_map(str(entry.path)) if entry.path else pa.BufferReader(file.read())
    reader = pa.ipc.open_file(source)
    for index in range(reader.num_record_batches):
        table = pa.Table.from_batches([reader.get_batch(index)])
        yield table if schema is None else table.cast(schema)
