"""Tables as streams of Arrow, out and, with care, in."""

from __future__ import annotations

import struct

import pyarrow as pa
import pyarrow.feather

from quintet.core.errors import DataError
from quintet.data.columnar import compressed
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
            raise DataError(
                "the Arrow stream is compressed",
                why="its size after unpacking cannot be known in advance",
                fix="send the stream without compression",
            )
        table = pa.ipc.open_stream(content).read_all()
        within(table.num_rows, most, "items")
        table.validate(full=True)
    except (pa.ArrowException, struct.error, ValueError, OSError) as error:
        raise DataError("the body is not a valid Arrow stream", why=str(error).partition("\n")[0]) from None
    sink = pa.BufferOutputStream()
    pa.feather.write_feather(table, sink, compression="uncompressed")
    return sink.getvalue().to_pybytes()
