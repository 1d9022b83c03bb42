"""Tables as streams of Arrow, out and, with care, in."""

from __future__ import annotations

import struct

import pyarrow as pa
import pyarrow.feather

from quintet.core.errors import DataError
from quintet.modalities.provenance import METADATA_KEY, Provenance, text_of
from quintet.server.limits import within


def arrow_of(table: pa.Table, note: Provenance) -> bytes:
    """A table as a stream of Arrow, with where it comes from."""
    noted = table.replace_schema_metadata({METADATA_KEY: text_of(note)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, noted.schema) as stream:
        stream.write_table(noted)
    return sink.getvalue().to_pybytes()


def feather(content: bytes, most: int) -> bytes:
    """A stream of Arrow as a file of Arrow, which is checked: twenty kilobytes that are compressed, and columns that
    have no values of their own, may stand for gigabytes. Raises DataError, and Refusal for more than `most` rows.
    """
    try:
        if any(compressed(message.metadata.to_pybytes()) for message in pa.ipc.MessageReader.open_stream(content)):
            raise DataError("a compressed stream of Arrow", why="nobody knows what it unpacks to", fix="no compression")
        table = pa.ipc.open_stream(content).read_all()
        within(table.num_rows, most, "items")
        table.validate(full=True)
    except (pa.ArrowException, struct.error, ValueError, OSError) as error:
        raise DataError("this is no stream of Arrow", why=str(error).partition("\n")[0]) from None
    sink = pa.BufferOutputStream()
    pa.feather.write_feather(table, sink, compression="uncompressed")
    return sink.getvalue().to_pybytes()


def compressed(metadata: bytes) -> bool:
    """Whether the body of a message is compressed, of which pyarrow says nothing: field 3 of the header (Message.fbs,
    Schema.fbs of Arrow's format) of a batch.
    """
    message = struct.unpack_from("<I", metadata)[0]
    place = field(metadata, message, 2)
    header = place and place + struct.unpack_from("<I", metadata, place)[0]
    kind = field(metadata, message, 1)
    if header and kind and metadata[kind] == 2:  # a batch of a dictionary holds another batch
        inner = field(metadata, header, 1)
        header = inner and inner + struct.unpack_from("<I", metadata, inner)[0]
    return bool(kind and metadata[kind] in (2, 3) and header and field(metadata, header, 3))


def field(buffer: bytes, table: int, index: int) -> int:
    """Where a field of a table of FlatBuffers stands; 0 where it has none."""
    known = table - struct.unpack_from("<i", buffer, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", buffer, known)[0]:
        return 0
    offset = struct.unpack_from("<H", buffer, known + 4 + 2 * index)[0]
    return table + offset if offset else 0
