"""Files of Arrow and Parquet, which say themselves how large they are: looked at before anything is unpacked."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from quintet.data.archives import BadFile, bomb

MAGIC = b"ARROW1"
RECORDS, DICTIONARY = 3, 2
"""What messages hold, of those that have a body (Message.fbs)."""
COLUMNS = 20_000
"""A table may have so many."""
TEXTS = {pa.string(), pa.binary(), pa.large_string(), pa.large_binary()}


def few(columns: int) -> None:
    """Raise BadFile for more than a table may have."""
    if columns > COLUMNS:
        raise BadFile(f"it has {columns:,} columns, but at most {COLUMNS:,} are allowed")


def checked(table: pa.Table, packed: int) -> pa.Table:
    """This table, once its cells are known to lie within it, its texts to be UTF-8, and to be of a size that so many
    bytes may unpack to: Arrow trusts what a file says, and a damaged one would end the process. Lists and records,
    which nothing is made of, are emptied.

    Raises BadFile and ArrowInvalid.
    """
    few(table.num_columns)
    table.validate(full=True)
    size = 0
    for index, field in enumerate(table.schema):
        field.name.encode()  # one that is no UTF-8 raises a ValueError
        if pa.types.is_nested(field.type) or pa.types.is_run_end_encoded(field.type):
            table = table.set_column(index, field, pa.nulls(table.num_rows, field.type))
        size += sum(decoded_bytes(chunk) for chunk in table.column(index).chunks)
        if why := bomb(size, packed):
            raise BadFile(why)
    return table


def decoded_bytes(cells: pa.Array) -> int:
    """Of cells that are written once and named again and again, in dictionaries and views: bytes of all; else 0."""
    kind = cells.type
    if pa.types.is_dictionary(kind):
        values = cells.dictionary
        if pa.types.is_dictionary(values.type) or pa.types.is_nested(values.type):
            raise BadFile(f"a dictionary of {values.type}")
        lengths = _lengths(values)
        each = lengths.take(cells.indices.drop_null()) if lengths is not None else None
        return len(cells) * 8 if each is None else int(pc.sum(each).as_py() or 0)
    if str(kind) in ("string_view", "binary_view"):
        return int(pc.sum(_lengths(cells)).as_py() or 0)
    return 0


def _lengths(cells: pa.Array) -> Any:
    """Bytes of each text, or None for what is none."""
    if str(cells.type) in ("string_view", "binary_view"):
        return pc.binary_length(cells).cast(pa.int64())
    return pc.binary_length(cells).cast(pa.int64()) if cells.type in TEXTS else None


# -- Parquet ---------------------------------------------------------------------------------------------------------


def parquet_batches(source: Any, packed: int, rows: int = 2**16, *, mapped: bool = False) -> Iterator[pa.Table]:
    """The rows of a Parquet file in pieces, each checked. Texts that are written once are unpacked only once their size
    is known. Raises BadFile and ArrowException.
    """
    file = pyarrow.parquet.ParquetFile(source, memory_map=mapped)
    facts, schema = file.metadata, file.schema_arrow
    few(len(schema))
    count = sum(facts.row_group(i).num_rows for i in range(facts.num_row_groups))
    size = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
    flat = [field.name for field in schema if not pa.types.is_nested(field.type)]
    width = sum(_width(field.type) for field in schema)
    if count < 0 or size < 0:
        raise BadFile("its footer tells a negative size")
    if why := bomb(max(size, count * width), packed):
        raise BadFile(why)
    texts = [field.name for field in schema if field.type in TEXTS]
    file = pyarrow.parquet.ParquetFile(source, memory_map=mapped, read_dictionary=texts)
    for batch in file.iter_batches(rows, columns=flat if len(flat) < len(schema) else None):
        part = checked(pa.Table.from_batches([batch]), packed)
        held = iter(part.columns)
        columns = [pa.nulls(len(part), field.type) if pa.types.is_nested(field.type) else next(held).cast(field.type)
                   for field in schema]  # fmt: skip
        yield pa.table(columns, schema=schema)


def _width(kind: pa.DataType) -> int:
    """Bytes of a cell, at least."""
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:  # texts, lists
        return 4


# -- Arrow -----------------------------------------------------------------------------------------------------------


def schema_of(source: Any) -> pa.Schema:
    """The schema of an open file or stream of Arrow. Raises ArrowException."""
    source.seek(8 if source.read(6) == MAGIC else 0)
    return pa.ipc.open_stream(source).schema


def stored(source: Any, packed: int) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """(schema, tables) of an open file of Arrow, or of a stream of it, as servers send; each is checked before it is
    given. A file is a stream behind 8 bytes, and its index at the end, which could lie, is not needed.

    Raises BadFile and ArrowException.
    """
    start = 8 if source.read(6) == MAGIC else 0
    source.seek(start)
    size = 0
    for message in pa.ipc.MessageReader.open_stream(source):
        size += unpacked(message)
        if why := bomb(size, packed):
            raise BadFile(why)
    source.seek(start)
    stream = pa.ipc.open_stream(source)
    return stream.schema, (checked(pa.Table.from_batches([batch]), packed) for batch in stream)


def unpacked(message: Any) -> int:
    """Bytes that the body of a message unpacks to, or how many rows it tells of, if they are more: the bytes of each
    buffer, of which a compressed one begins with its size (RecordBatch in Message.fbs). Raises ValueError for a
    message that is broken.
    """
    metadata, body = message.metadata.to_pybytes(), memoryview(message.body or b"")
    try:
        batch = batch_of(metadata)
        if not batch:
            return 0
        packed, rows = compressed(metadata), field(metadata, batch, 0)
        most = struct.unpack_from("<q", metadata, rows)[0] if rows else 0
        for length, _ in pairs(metadata, batch, 1):
            most = max(most, length)
        size = 0
        for offset, length in pairs(metadata, batch, 2):
            if packed and length >= 8:
                length = max(length, *struct.unpack_from("<q", body, offset))
            size += length
        return max(size, most)
    except (struct.error, IndexError) as error:
        raise ValueError(f"a damaged message: {error}") from None


def pairs(metadata: bytes, batch: int, index: int) -> Iterator[tuple[int, int]]:
    """The pairs of numbers in a field of a batch: (length, nulls) of nodes, (offset, length) of buffers."""
    if place := field(metadata, batch, index):
        start = place + struct.unpack_from("<I", metadata, place)[0]
        yield from (struct.unpack_from("<qq", metadata, start + 4 + 16 * i)
                    for i in range(struct.unpack_from("<I", metadata, start)[0]))  # fmt: skip


def compressed(metadata: bytes) -> bool:
    """Whether the body of a message is compressed, of which pyarrow says nothing."""
    batch = batch_of(metadata)
    return bool(batch and field(metadata, batch, 3))


def batch_of(metadata: bytes) -> int:
    """Where the batch that a message holds stands in it, by itself or in a dictionary's (Message.fbs); 0 for none."""
    message = struct.unpack_from("<I", metadata)[0]
    kind, place = field(metadata, message, 1), field(metadata, message, 2)
    if not kind or not place or metadata[kind] not in (DICTIONARY, RECORDS):
        return 0
    header = place + int(struct.unpack_from("<I", metadata, place)[0])
    if metadata[kind] == RECORDS:
        return header
    inner = field(metadata, header, 1)
    return inner and inner + int(struct.unpack_from("<I", metadata, inner)[0])


def field(buffer: bytes, table: int, index: int) -> int:
    """Where a field of a table of FlatBuffers stands; 0 where it has none."""
    known = table - struct.unpack_from("<i", buffer, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", buffer, known)[0]:
        return 0
    offset = struct.unpack_from("<H", buffer, known + 4 + 2 * index)[0]
    return table + offset if offset else 0
