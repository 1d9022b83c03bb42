"""Arrow cells <-> numbers on a grid, or labels; the types and decimals of a column come back as they were."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quintet.core.errors import DataError

FORM = b"quintet.form"
"""In the metadata of a field: how its cells are written in their file, which travels with the column."""
Floats = NDArray[np.float64]
LEFT_OUT = ": left out"
"""How notes end that a column is not modelled."""
DECIMALS = 9
"""More digits behind the point than this are no rounding."""


TOP = 2**63


class Grid(NamedTuple):
    """raw = (base + unit * k) / scale with whole k, where `lattice`; else unit = raw.

    base, unit and scale are whole: 0, 0.25, 0.5 ... are 0, 25, 50 over 100.
    """

    lattice: bool
    base: int = 0
    unit: int = 1
    scale: int = 1

    @property
    def origin(self) -> int | None:
        """What is to be added to k so that it ends as the number does, (base + unit * k) / unit; None if that is not
        whole.
        """
        return None if self.base % self.unit else self.base // self.unit


def without_dictionary(kind: pa.DataType) -> pa.DataType:
    """The type of the values behind a dictionary."""
    return without_dictionary(kind.value_type) if pa.types.is_dictionary(kind) else kind


def is_numeric(kind: pa.DataType) -> bool:
    """Integers, floats, decimals, dates, times and durations."""
    kind, is_ = without_dictionary(kind), pa.types
    return (is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind)
            or (is_.is_temporal(kind) and not is_.is_interval(kind)))  # fmt: skip


def is_category(kind: pa.DataType) -> bool:
    """Texts, booleans and columns of nulls."""
    kind, is_ = without_dictionary(kind), pa.types
    text = is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind)
    return text or is_.is_boolean(kind) or is_.is_null(kind)


def filled(cells: pa.ChunkedArray) -> NDArray[np.bool_]:
    """(N,) True where a cell holds something; NaN is nothing."""
    floating = pa.types.is_floating(cells.type)
    return ~np.asarray(cells.is_null(nan_is_null=floating).to_numpy(), bool)


# -- numbers -------------------------------------------------------------------------------------------------------


def stored_as_integers(kind: pa.DataType) -> bool:
    """Whether cells of this type are integers underneath."""
    return pa.types.is_integer(kind) or pa.types.is_temporal(kind)


def raw(cells: pa.ChunkedArray, where: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Cells as int64 (uint64 less 2^63) or float64, and which are null or NaN (there the number is 0)."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    null = ~filled(cells)
    kind = cells.type
    try:
        if pa.types.is_temporal(kind) and kind.bit_width == 32:
            cells = cells.cast(pa.int32())
        elif not stored_as_integers(kind):
            cells = cells.cast(pa.float64())
        if kind != pa.uint64() and stored_as_integers(kind):
            cells = cells.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError("these cells cannot be read as numbers", where=where, why=str(error)) from None
    numbers = np.array(cells.fill_null(0).to_numpy())
    if kind == pa.uint64():
        numbers = (numbers ^ np.uint64(TOP)).view(np.int64)
    numbers[null] = 0
    if not np.isfinite(numbers).all():
        raise DataError(
            "some cells hold infinite values",
            where=where,
            fix="remove these rows, or replace the values by finite numbers",
        )
    return numbers, null


def to_grid(cells: pa.ChunkedArray, where: str) -> tuple[Grid, Floats]:
    """The coarsest grid that holds all cells exactly, and those that are not NaN in its units."""
    numbers, null = raw(cells, where)
    numbers = numbers[~null]
    kind = without_dictionary(cells.type)
    if not len(numbers):
        return Grid(False), np.zeros(0)
    if numbers.dtype == np.int64:
        return on_grid(numbers, 1)
    if pa.types.is_decimal(kind):
        return on_grid(np.round(numbers * 10.0**kind.scale).astype(np.int64), 10**kind.scale)
    top = max(float(np.abs(numbers).max()), 1e-300)
    dtype: Any = {pa.float16(): np.float16, pa.float32(): np.float32}.get(kind, np.float64)
    for digits in range(DECIMALS + 1):
        if top * 10**digits > min(2.0**53, 0.125 / float(np.finfo(dtype).eps)):
            break
        multiples = np.round(numbers * 10.0**digits)
        if (np.asarray(multiples / 10.0**digits, dtype) == np.asarray(numbers, dtype)).all():
            return on_grid(multiples.astype(np.int64), 10**digits)
    return Grid(False), numbers.astype(np.float64)


def on_grid(multiples: NDArray[np.int64], scale: int) -> tuple[Grid, Floats]:
    base = int(multiples.min())
    if int(multiples.max()) - base > 2**62:
        return Grid(True, 0, 1, scale), multiples.astype(np.float64)
    steps = multiples - base
    unit = int(np.gcd.reduce(np.unique(steps))) or 1
    return Grid(True, base, unit, scale), (steps // unit).astype(np.float64)


def to_units(cells: pa.ChunkedArray, grid: Grid, kind: pa.DataType, where: str) -> Floats:
    """(N,) in units of the grid, NaN for null. Cells of another type are cast to `kind`, where that loses nothing."""
    if is_category(cells.type) or without_dictionary(kind) == pa.uint64():
        try:
            cells = cells.cast(without_dictionary(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError("these cells cannot be read as numbers", where=where, why=str(error)) from None
    numbers, null = raw(cells, where)
    if not grid.lattice:
        units = numbers.astype(np.float64)
    else:
        units = (numbers * float(grid.scale) - grid.base) / grid.unit
        if numbers.dtype == np.int64 and grid.scale == 1 and np.abs(units).max(initial=0) < 2**62 / grid.unit:
            units = (numbers - grid.base) / grid.unit  # of integers, without the rounding of large ones
    if grid.lattice:
        units = np.round(units)
    units[null] = np.nan
    return units


def from_units(units: Floats, grid: Grid, kind: pa.DataType, null: NDArray[np.bool_] | None = None) -> pa.Array:
    """The inverse of `to_units`, in the type `kind`."""
    value = without_dictionary(kind)
    mask = np.zeros(len(units), bool) if null is None else null
    if not grid.lattice:
        cells = pa.array(units, pa.float64(), mask=mask).cast(value, safe=False)
    else:
        multiples = grid.base + grid.unit * units.astype(np.int64)
        if value == pa.uint64():
            cells = pa.array(multiples.view(np.uint64) ^ np.uint64(TOP), mask=mask)
        elif stored_as_integers(value):
            if pa.types.is_integer(value):  # a sum of others may be larger than its type
                multiples = multiples.clip(*(getattr(np.iinfo(value.to_pandas_dtype()), end) for end in ("min", "max")))
            cells = pa.array(multiples, pa.int64(), mask=mask)
            short = value.bit_width == 32 and pa.types.is_temporal(value)
            cells = (cells.cast(pa.int32()) if short else cells).cast(value)
        elif pa.types.is_decimal(value):
            context = decimal.Context(prec=value.precision)
            digits = len(str(grid.scale)) - 1
            cells = pa.array([None if m else decimal.Decimal(int(k)).scaleb(-digits, context)
                              for k, m in zip(multiples, mask, strict=True)], value)  # fmt: skip
        else:
            cells = pa.array(multiples / grid.scale, pa.float64(), mask=mask).cast(value, safe=False)
    return as_dictionary(cells, kind) if pa.types.is_dictionary(kind) else cells


def as_dictionary(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    encoded = cells.dictionary_encode()
    places = encoded.indices.cast(kind.index_type)
    return pa.DictionaryArray.from_arrays(places, encoded.dictionary, ordered=kind.ordered)


# -- labels --------------------------------------------------------------------------------------------------------


def as_labels(cells: pa.ChunkedArray, known: tuple[Any, ...] = ()) -> pa.Array:
    """Cells as strings, or as booleans; of the kind of the `known` ones, where they are given."""
    boolean = isinstance(known[0], bool) if known else pa.types.is_boolean(without_dictionary(cells.type))
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    try:
        cells = cells.cast(pa.bool_() if boolean else pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        cells = cells.cast(pa.string())
    return cells.combine_chunks()


def from_labels(
    index: NDArray[np.int64], known: tuple[Any, ...], kind: pa.DataType, null: NDArray[np.bool_]
) -> pa.Array:
    """Labels by their index, in the type `kind`."""
    value = without_dictionary(kind)
    if not known:
        return pa.nulls(len(index), kind)
    dictionary = pa.array(known).cast(value)
    if pa.types.is_dictionary(kind):
        places = pa.array(index, mask=null).cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(places, dictionary, ordered=kind.ordered)
    return dictionary.take(pa.array(index, mask=null))


# -- tables --------------------------------------------------------------------------------------------------------


def as_table(items: Any, names: tuple[str, ...] = ()) -> pa.Table:
    """A table from a table, a mapping of columns, a list of dicts, or an array (N,) or (N, D)."""
    if isinstance(items, pa.Table):
        return items
    if isinstance(items, Mapping):
        return pa.table({name: as_column(cells) for name, cells in by_names(items).items()})
    if isinstance(items, list) and items and isinstance(items[0], Mapping):
        return pa.Table.from_pylist([by_names(row) for row in items])
    array = np.asarray(items)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or (names and array.shape[1] != len(names)):
        raise DataError(f"expected rows of {len(names) or 'some'} columns, got an array of shape {array.shape}")
    return pa.table({name: array[:, i] for i, name in enumerate(names or [f"x{i}" for i in range(array.shape[1])])})


def by_names(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The row, or the columns, by names; DataError for one that is no text."""
    for name in row:
        if not isinstance(name, str):
            raise DataError(f"expected a text as the name of a column, got {name!r}")
    return dict(row)


def as_column(cells: Any) -> Any:
    """A column from an array, a list (which may hold None), or one value."""
    if isinstance(cells, pa.Array | pa.ChunkedArray):
        return cells
    try:
        return pa.array(
            cells if isinstance(cells, list | tuple) else np.atleast_1d(np.asarray(cells)), from_pandas=True
        )
    except (pa.ArrowException, UnicodeEncodeError, TypeError, OverflowError) as error:
        raise DataError("these cells cannot be put into one column", why=str(error).splitlines()[0]) from None


def tidy(table: pa.Table, *, empty: bool = True) -> tuple[pa.Table, list[str]]:
    """Columns of numbers, truth values, times and strings; what cannot be modelled is dropped, with a note.

    `empty`: whether columns without any value are dropped, which only a whole table can know.
    """
    columns, fields, notes = [], [], []
    for field in table.schema:
        name, column, kind = field.name, table[field.name], field.type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
            kind = column.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            notes.append(f"column {name} holds {held(kind)}, but a cell must hold a single value{LEFT_OUT}")
        elif empty and table.num_rows and column.null_count == table.num_rows:
            notes.append(f"column {name} has no values{LEFT_OUT}")
        else:
            if pa.types.is_decimal(kind):  # Arrow's own cast to floating point is off by a last digit, hence by all of
                column = column.cast(pa.string())  # the digits that a column of 0.01, 0.02, ... is rounded to
            columns.append(column.cast(plain_type(kind)))
            form = (field.metadata or {}).get(FORM)
            fields.append(pa.field(name, columns[-1].type, metadata=None if form is None else {FORM: form}))
    if not columns:
        raise DataError("none of the columns can be used", why="; ".join(notes))
    return pa.table(columns, schema=pa.schema(fields)), notes


def held(kind: pa.DataType) -> str:
    """What cells hold that cannot be modelled."""
    return "bytes" if not pa.types.is_nested(kind) else "records" if pa.types.is_struct(kind) else "lists"


def plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_float16(kind):
        return pa.float32()
    return pa.string() if pa.types.is_large_string(kind) or str(kind) == "string_view" else kind
