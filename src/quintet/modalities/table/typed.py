"""Rows and cells as they are typed: each is what its column makes of it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from quintet.core.errors import DataError
from quintet.modalities.table import guessing, written
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.columns import Column


def typed(codec: Any, text: str) -> Any:
    """The value of the condition's column that this text writes; a row of several columns is a YAML mapping.

    YAML gives only the texts of the row; what a text means is decided by its column, so that 02116 stays a postcode.
    """
    if len(codec.columns) == 1:
        return _cell(codec, codec.columns[0], text)
    import yaml

    try:
        row = yaml.load(text, Loader=yaml.BaseLoader)
    except (ValueError, RecursionError, yaml.YAMLError):
        row = None
    columns = {column.name: column for column in codec.columns}
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        raise DataError(
            f"expected a row of named values, got {text!r}",
            fix=f"write {{{', '.join(f'{name}: ...' for name in columns)}}}",
        )
    for name in row:
        if name not in columns:
            raise DataError(f"unknown column {name!r} in {text!r}", why=f"known: {', '.join(columns)}")
    return {name: _cell(codec, columns[name], value, empty=("", "~", "null")) for name, value in row.items()}


def _cell(codec: TableCodec, column: Column, text: str, empty: tuple[str, ...] = ()) -> Any:
    """The value of this column that the text writes; None for a text of `empty` that is no category of the column."""
    if column.categorical:
        names = {str(value): value for value in column.values}
        if text in names:
            return names[text]
        found = next((value for name, value in names.items() if name.lower() == text.lower()), None)
        if found is None and text not in empty:
            column.refuse(text)
        return found
    if text in empty:
        return None
    try:
        return _value(codec, column, text)
    except (ValueError, pa.ArrowException):
        what = "date or time" if pa.types.is_temporal(column.type) else "number"
        raise DataError(f"expected a {what}, got {text!r}", where=f"column {column.name}") from None


def _value(codec: TableCodec, column: Column, text: str) -> Any:
    """A number, date or time, as the data write it or as Python and ISO 8601 do."""
    form = codec.forms.get(column.name)
    if form is not None and form.kind in ("number", "time"):
        try:
            return form.parse(pa.chunked_array([pa.array([text])]))[0].as_py()
        except written.NoFit:
            pass
    if not pa.types.is_temporal(column.type):
        return float(text)
    found = guessing.time_form(pa.chunked_array([pa.array([text])]))
    return (pa.array([text]) if found is None else found.parse(pa.array([text]))).cast(column.type)[0].as_py()
