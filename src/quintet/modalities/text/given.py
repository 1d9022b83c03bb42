"""Texts and columns of texts of a program as raw texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather

from quintet.core.checked import kind_name
from quintet.core.errors import DataError, UsageError
from quintet.modalities.frames import (
    arrow_table,
    cells_of,
    column_of,
    is_column,
    is_frame,
    wrong,
)


def raw_texts(items: Any, codec: Any, column: str | None) -> list[str]:
    """`column`: which one of a frame with several holds them."""
    if isinstance(items, str):
        return [items]
    if isinstance(items, Mapping):
        items = {str(name): cells_of(cells) for name, cells in items.items()}
        try:
            items = pa.table(items)
        except (pa.ArrowException, ValueError) as error:
            raise wrong(items, codec, str(error).splitlines()[0]) from None
    if is_frame(items):
        table = arrow_table(items)
        strings = [name for name in table.column_names if pa.types.is_string(table[name].type)]
        named = [name for name in (column, "text") if name in strings]
        if not named and len(strings) != 1:
            why = f"columns that hold texts: {', '.join(strings) or 'none'}"
            raise UsageError("it is not clear which column holds the texts", why=why, fix="give only that column")
        items = table[(named or strings)[0]]
    if is_column(items):
        items = column_of(items).to_pylist()
    if isinstance(items, list | tuple) and items and all(isinstance(row, Mapping) for row in items):
        return raw_texts(pa.Table.from_pylist([dict(row) for row in items]), codec, column)
    if isinstance(items, np.ndarray):
        items = items.reshape(-1).tolist()
    if not isinstance(items, list | tuple):
        raise wrong(items, codec)
    for i, text in enumerate(items):
        if not isinstance(text, str):
            raise DataError(f"expected a text, got {kind_name(text)}", where=f"item {i + 1}")
    return list(items)
