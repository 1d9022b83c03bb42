"""Frames, dicts and arrays of a program as rows, and values of columns as conditions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
from torch import Tensor

from quintet.core.checked import kind_name
from quintet.core.errors import DataError, UsageError
from quintet.data import arrow
from quintet.modalities.frames import (
    arrow_table,
    as_array,
    cells_of,
    column_of,
    counted,
    is_column,
    is_frame,
    library,
    plain,
    scalar,
    wrong,
)


def raw_rows(items: Any, codec: Any) -> pa.Table:
    """A table with columns of the codec's names."""
    names = tuple(one.name for one in codec.columns)
    if is_frame(items):
        return arrow_table(items)
    if isinstance(items, str):
        raise wrong(items, codec, "a text is no row; a file is pathlib.Path(...)")
    labels = list(items.index) if library(items) == "pandas" else []
    if is_column(items) and len(names) > 1 and set(names) <= set(map(str, labels)):
        items = {str(name): [items[name]] for name in labels}  # one row of a frame, as frame.iloc[0] gives it
    if is_column(items):
        if len(names) != 1:
            why = f"the model's columns are {', '.join(names)}; one column lacks the others"
            raise wrong(items, codec, why)
        return plain(pa.table({names[0]: column_of(items)}))
    try:
        if isinstance(items, Mapping):
            return plain(pa.table({str(name): cells_of(cells) for name, cells in items.items()}))
        if isinstance(items, list | tuple) and items and all(isinstance(row, Mapping) for row in items):
            return plain(pa.Table.from_pylist([dict(row) for row in items]))
        if isinstance(items, list) and len(names) == 1 and all(map(scalar, items)):
            return pa.table({names[0]: pa.array(items, from_pandas=True)})
        array = as_array(items)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise wrong(items, codec, str(error).splitlines()[0]) from None
    if array.dtype.kind not in "biufUM" or array.ndim not in (1, 2):
        raise wrong(items, codec, f"an array of {array.dtype} {array.shape}")
    if array.ndim == 1 and len(names) > 1:
        array = array[None]
    return arrow.as_table(array, names)


def raw_conditions(given: Any, codec: Any, n: int) -> Any:
    """n values of the codec's columns, from one for all or one an item."""
    names = [one.name for one in codec.columns]
    if is_frame(given):
        return counted(arrow_table(given), n)
    if isinstance(given, Mapping):
        if all(map(scalar, given.values())):
            return arrow.as_table([dict(given)] * n)
        return counted(raw_rows(given, codec), n)
    if scalar(given):
        value = given.item() if hasattr(given, "item") else given
        return {names[0]: [value] * n}
    if is_column(given):
        return {names[0]: counted(column_of(given), n)}
    if not isinstance(given, list | tuple | np.ndarray | range):
        raise UsageError(f"expected a condition, got {kind_name(given)}", fix=f"give values of {', '.join(names)}")
    values = counted(list(given) if isinstance(given, tuple | range) else given, n)
    if n and isinstance(values[0], Mapping):
        return values
    if len(names) > 1:
        return raw_rows(np.asarray(values).reshape(n, -1), codec)
    return {names[0]: [value.item() if hasattr(value, "item") and scalar(value) else value for value in values]}


def write_table(table: pa.Table, path: Path) -> Path:
    """As a file that is read as it is."""
    if not table.num_rows:
        raise DataError("the table has no rows", why="an empty table is not written to a file")
    pyarrow.feather.write_feather(table, str(path), compression="uncompressed")
    return path


def as_rows(data: Any) -> pa.Table | None:
    """Frames, columns, dicts of columns and rows as dicts as a table; None for anything else."""
    if is_frame(data):
        return arrow_table(data)
    if is_column(data):
        return pa.table({str(getattr(data, "name", None) or "x0"): column_of(data)})
    if isinstance(data, Mapping):
        if any(as_array(cells).ndim > 1 for cells in data.values() if isinstance(cells, np.ndarray | Tensor)):
            return None
        try:
            return plain(pa.table({str(name): cells_of(cells) for name, cells in data.items()}))
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise DataError(
                "this dict cannot be read as the columns of a table", why=str(error).splitlines()[0]
            ) from None
    if isinstance(data, list | tuple) and data and all(isinstance(one, Mapping) for one in data):
        try:
            return plain(pa.Table.from_pylist([dict(row) for row in data]))
        except pa.ArrowException as error:
            raise DataError(
                "these dicts cannot be read as the rows of one table", why=str(error).splitlines()[0]
            ) from None
    return None
