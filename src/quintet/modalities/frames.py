"""Frames, columns and arrays that programs hold, as Arrow and NumPy have them.

Frames are known by what they can do, so that neither pandas nor polars needs to be installed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import torch
from torch import Tensor

from quintet.core.checked import kind_name
from quintet.core.codec import Codec
from quintet.core.errors import DataError, UsageError
from quintet.data import arrow

FRAME_LIBRARIES = ("pandas", "polars")


PLAIN_SCALARS = (str, bytes, bool, int, float, np.generic)


def scalar(thing: Any) -> bool:
    """Whether this is one value: a text, a number, a date, None; an array without axes too."""
    if thing is None or isinstance(thing, PLAIN_SCALARS):
        return True
    shape = getattr(thing, "shape", None)
    return shape == () or (shape is None and not hasattr(thing, "__len__") and not hasattr(thing, "__iter__"))


def library(thing: Any) -> str | None:
    """ "pandas" or "polars" for what comes from them."""
    package = type(thing).__module__.split(".")[0]
    return package if package in FRAME_LIBRARIES else None


def is_frame(thing: Any) -> bool:
    """Whether this is a table: of Arrow, pandas, polars, or of whatever else can give one to Arrow."""
    if isinstance(thing, pa.Table | pa.RecordBatch):
        return True
    gives = hasattr(thing, "__arrow_c_stream__") or hasattr(thing, "__dataframe__") or library(thing) is not None
    return gives and hasattr(type(thing), "columns")


def is_column(thing: Any) -> bool:
    """Whether this is one column: of Arrow, pandas or polars."""
    if isinstance(thing, pa.Array | pa.ChunkedArray):
        return True
    gives = hasattr(thing, "__arrow_c_stream__") or library(thing) is not None
    return gives and hasattr(thing, "dtype") and not hasattr(thing, "columns")


def arrow_table(frame: Any) -> pa.Table:
    """A frame as an Arrow table, without the index of pandas. Raises DataError for cells that Arrow does not know."""
    if isinstance(frame, pa.Table):
        return frame
    try:
        if isinstance(frame, pa.RecordBatch):
            return pa.Table.from_batches([frame])
        if library(frame) == "pandas":
            return plain(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None))
        if hasattr(frame, "collect_schema") and hasattr(frame, "collect"):  # a query that has not run yet
            frame = frame.collect()
        if hasattr(frame, "__arrow_c_stream__"):
            return plain(pa.table(frame))
        from pyarrow.interchange import from_dataframe

        return plain(from_dataframe(frame))
    except (pa.ArrowException, TypeError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError("this data frame cannot be read as a table", where=kind_name(frame), why=why,
                        fix="give each column one type: numbers, texts, booleans or dates") from None  # fmt: skip


def column_of(column: Any, name: str = "items") -> Any:
    """A column of pandas, polars or Arrow as an Arrow column."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return column
    frame = column.to_frame(name=name)
    return arrow_table(frame).column(0)


def plain(table: pa.Table) -> pa.Table:
    """The same with texts of one type, and dictionaries as their values."""
    columns = []
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type) or str(column.type) == "string_view":
            column = column.cast(pa.string())
        columns.append(column)
    return pa.table(columns, names=table.column_names)


def back(table: Any, library: str | None, index: Any = None) -> Any:
    """An Arrow table as a frame of this library (pandas: with this `index`); anything else as it is."""
    if not isinstance(table, pa.Table) or library is None:
        return table
    if library == "polars":
        return sys.modules["polars"].from_arrow(table)
    frame = table.to_pandas()
    if index is not None and len(index) == len(frame):
        frame.index = index
    return frame


def wrong(items: Any, codec: Codec, why: str = "") -> DataError:
    """The error for what is no item of this codec, with what may be given instead."""
    what = f"expected items of kind {codec.modality}, got {kind_name(items)}"
    return DataError(what, why=why, fix=f"give {codec.wanted}")


def cells_of(cells: Any) -> Any:
    """The cells of one column of a dict: a column, an array, a list, or one value."""
    if is_column(cells):
        return column_of(cells)
    return arrow.as_column([cells] if scalar(cells) else numpy_of(cells) if isinstance(cells, Tensor) else cells)


def as_array(items: Any) -> np.ndarray:
    """An array from a tensor or nested lists."""
    return numpy_of(items) if isinstance(items, Tensor) else np.asarray(items)


def numpy_of(tensor: Tensor) -> np.ndarray:
    """A tensor as an array; of types that NumPy lacks, as bfloat16, as float32."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy(force=True)


def counted(values: Any, n: int) -> Any:
    """The values, of which there must be n."""
    if len(values) != n:
        raise UsageError(f"{len(values)} conditions were given for {n} items",
                         fix="give one condition for all items, or one for each item")  # fmt: skip
    return values


def side_by_side(table: pa.Table, given: pa.Table) -> pa.Table:
    """A table with the columns of what its rows were given behind its own."""
    for name in given.column_names:
        table = table.append_column(name if name not in table.column_names else f"given_{name}", given[name])
    return table
