"""Conditions as they are typed: text in a request or in a file -> values that a run's condition codec knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.core.codec import Codec
from quintet.core.errors import DataError, UsageError
from quintet.data import written
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.columns import Column
from quintet.model.fitted import Fitted
from quintet.model.inputs import load_items, read_items
from quintet.sources.load import take

DEFAULT = 64


def read_conditions(model: Fitted, value: str | None, file: Path | None, n: int | None) -> tuple[Any, int]:
    """(condition, n) for `Fitted.draw`. Fewer lines than n are repeated from the start."""
    if (value is not None or file is not None) and "cond" not in model.codecs:
        raise UsageError(
            "this run takes no condition", where=model.run.name, fix="quintet train ... --condition COLUMN"
        )
    if value is not None:
        return typed(model.codecs["cond"], value), n or DEFAULT
    if file is None:
        return None, n or DEFAULT
    values = from_file(model, file)
    n = n or len(values)
    return take(values, np.arange(n) % len(values)), n


def from_file(model: Fitted, file: Path) -> Any:
    """The conditions of a file: one a line, or items of the condition's kind (rows of a CSV, images, recordings)."""
    codec, table = model.codecs["cond"], file.suffix.lower() in (".csv", ".tsv", ".parquet", ".jsonl")
    if codec.modality in ("image", "audio") or (codec.modality == "text" and table):
        found = read_items(model.config, str(file), None, unlabelled=True, like=model.codecs)
        return found.items if found.given is None else found.given
    if isinstance(codec, TableCodec) and table:
        items = load_items(str(file), forms=codec.forms).items
        return items if not isinstance(items, pa.Table) else items.to_pylist()
    try:
        text = file.read_text("utf-8-sig")  # which also makes newlines of other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("cannot read the conditions", where=str(file), why=str(error)) from None
    if not text.strip():
        raise DataError("no conditions in this file", where=str(file))
    lines = text.removesuffix("\n").split("\n")
    if codec.modality != "text":  # else the lines of the answer are those of the file, empty ones too
        lines = [line for line in lines if line]
    return [typed(codec, line) for line in lines]


def one(model: Fitted, text: str) -> Any:
    """The value that a typed condition means, for all items."""
    if "cond" not in model.codecs:
        raise UsageError("this run takes no condition", where=model.run.name)
    return typed(model.codecs["cond"], text)


def typed(codec: Codec, text: str) -> Any:
    """The value of the condition's column that this text writes; a row of several columns is a YAML mapping.

    YAML gives only the texts of the row; what a text means is decided by its column, so that 02116 stays a postcode.
    """
    if not isinstance(codec, TableCodec):
        return text
    if len(codec.columns) == 1:
        return _cell(codec, codec.columns[0], text)
    import yaml

    try:
        row = yaml.load(text, Loader=yaml.BaseLoader)
    except (ValueError, RecursionError, yaml.YAMLError):
        row = None
    columns = {column.name: column for column in codec.columns}
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        raise DataError(f"not a row: {text!r}", fix=f"{{{', '.join(f'{name}: ...' for name in columns)}}}")
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
        raise DataError(f"not a {what}: {text!r}", where=f"column {column.name}") from None


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
    found = written.time_form(pa.chunked_array([pa.array([text])]))
    return (pa.array([text]) if found is None else found.parse(pa.array([text]))).cast(column.type)[0].as_py()
