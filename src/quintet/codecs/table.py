"""Table rows <-> standardised numbers and one-hot categories, or symbols: one a category, two a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from quintet.core.codec import Codec
from quintet.core.errors import DataError
from quintet.core.likelihood import Measure
from quintet.core.random import seed_of
from quintet.core.spaces import Continuous, Discrete

BASE, DIGITS = 16, 2
BINS = BASE**DIGITS
"""A number is a bin among 256, written with two symbols of 16: a model learns where the mass is from the first, and how
little is left to say from the second, with far fewer items than 256 unrelated symbols need."""
SPREAD = 1.5
"""The bins of a number are even in Phi((raw - mean) / (SPREAD std)): narrow in the bulk, open at both ends."""


LIMIT = 1e6
"""A decoded number is at most this many standard deviations out, whatever a model gives."""


@dataclass(frozen=True)
class Column:
    """One column: a number with its mean and std, or a category with its values."""

    name: str
    type: str
    mean: float = 0.0
    std: float = 1.0
    values: tuple[str | int | bool, ...] = ()

    @property
    def categorical(self) -> bool:
        return bool(self.values)

    @property
    def width(self) -> int:
        """Dimensions of the continuous face."""
        return len(self.values) if self.categorical else 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many symbols each position of the discrete face has."""
        return (len(self.values),) if self.categorical else (BASE,) * DIGITS


FEW = 64
"""Integers with at most this many values are categories; with more, numbers."""


def describe(name: str, column: pa.ChunkedArray) -> Column:
    """Read a column's type and constants. Strings, booleans and integers with few values are categories."""
    if column.null_count:
        raise DataError(f"{column.null_count} missing cells", where=f"column {name}", fix="drop or fill them")
    kind, integral = str(column.type), pa.types.is_integer(column.type)
    if pa.types.is_floating(column.type) or (integral and len(column.unique()) > FEW):
        cells = numbers(column)
        if not np.isfinite(cells).all():
            raise DataError("NaN or Inf", where=f"column {name}", fix="drop or fill these cells")
        return Column(name, kind, float(cells.mean()), float(cells.std()) or 1.0)
    if not (integral or pa.types.is_string(column.type) or pa.types.is_boolean(column.type)):
        raise DataError(f"a column of type {kind}", where=f"column {name}", why="not a number, text or boolean")
    return Column(name, kind, values=tuple(sorted(set(column.to_pylist()))))


class TableCodec(Codec):
    """Rows of a `pyarrow.Table`.

    continuous: (raw - mean) / std for a number, and a one-hot of +-1 for a category. discrete: a category's index, and
    for a number the bin of u = Phi((raw - mean) / (1.5 std)) among 256 even ones, in two digits of base 16. A bin
    decodes to a point that is uniform in u, so that the decoded rows have a density.
    """

    name = "table"

    def __init__(self, face: Literal["continuous", "discrete"] = "continuous") -> None:
        self.face: Literal["continuous", "discrete"] = face
        self.columns: tuple[Column, ...] = ()

    def fit(self, items: Any) -> Self:
        table = as_table(items)
        if not table.num_rows or not table.num_columns:
            raise DataError("an empty table")
        self.columns = tuple(describe(name, table[name]) for name in table.column_names)
        self._set_space()
        return self

    def _set_space(self) -> None:
        if self.face == "continuous":
            self.space = Continuous((sum(column.width for column in self.columns),))
        else:
            sizes = tuple(size for column in self.columns for size in column.sizes)
            self.space = Discrete((len(sizes),), max(sizes), sizes)
        self.dims = len(self.columns)
        self.measure: Measure = "mass" if all(column.categorical for column in self.columns) else "density"

    def encode(self, items: Any) -> Tensor:
        table = as_table(items, tuple(column.name for column in self.columns))
        parts = []
        for column in self.columns:
            if column.name not in table.column_names:
                raise DataError("a column is missing", where=column.name)
            parts.append(self._encode_column(column, table[column.name]))
        return torch.from_numpy(np.concatenate(parts, 1))

    def _encode_column(self, column: Column, cells: pa.ChunkedArray) -> np.ndarray:
        if column.categorical:
            index = {value: i for i, value in enumerate(column.values)}
            try:
                k = np.array([index[cell] for cell in cells.to_pylist()], dtype=np.int64)
            except KeyError as error:
                known = ", ".join(map(str, column.values[:12]))
                raise DataError(
                    f"unknown value {error}", where=f"column {column.name}", why=f"known: {known}"
                ) from None
            return k[:, None] if self.face == "discrete" else (np.eye(column.width, dtype=np.float32)[k] * 2 - 1)
        z = (numbers(cells)[:, None] - column.mean) / column.std
        if not np.isfinite(z).all():
            raise DataError("NaN or Inf", where=f"column {column.name}")
        if self.face == "continuous":
            return z.astype(np.float32)
        u = torch.special.ndtr(torch.from_numpy(z) / SPREAD).numpy()
        k = (u * BINS).astype(np.int64).clip(0, BINS - 1)
        return np.concatenate([k // BASE**place % BASE for place in reversed(range(DIGITS))], 1)

    def decode(self, x: Tensor) -> pa.Table:
        x = x.detach().cpu()
        cells, at = {}, 0
        within = jitter(x, len(self.columns)) if self.face == "discrete" else None
        for i, column in enumerate(self.columns):
            width = column.width if within is None else len(column.sizes)
            part, at = x[:, at : at + width], at + width
            if column.categorical:
                k = part[:, 0] if within is not None else part.nan_to_num().argmax(1)
                cells[column.name] = pa.array([column.values[j] for j in k.tolist()], type=column_type(column.type))
                continue
            if within is not None:
                z = SPREAD * torch.special.ndtri((number(part) + within[:, i]) / BINS)
            else:
                z = part[:, 0].double().nan_to_num().clamp(-LIMIT, LIMIT)
            raw = (z * column.std + column.mean).numpy()
            whole = column.type.startswith(("int", "uint"))
            cells[column.name] = pa.array(np.round(raw).astype(np.int64) if whole else raw)
        return pa.table(cells)

    def log_det(self, items: Any) -> Tensor:
        """log |dx / draw| of a number's standardisation; on the discrete face log |BINS du / draw|, at the item
        itself.
        """
        table = as_table(items, tuple(column.name for column in self.columns))
        total = torch.zeros(table.num_rows, dtype=torch.float64)
        for column in self.columns:
            if column.categorical:
                continue
            total -= math.log(column.std)
            if self.face == "discrete":  # u = Phi(v), v = z / SPREAD
                v = (torch.from_numpy(numbers(table[column.name])) - column.mean) / (column.std * SPREAD)
                total += math.log(BINS / SPREAD) - 0.5 * v**2 - 0.5 * math.log(2 * math.pi)
        return total

    def to_json(self) -> dict[str, Any]:
        return {"face": self.face, "columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(data["face"])
        codec.columns = tuple(Column(**{**column, "values": tuple(column["values"])}) for column in data["columns"])
        codec._set_space()
        return codec


def numbers(cells: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as float64."""
    return np.array(cells.to_numpy(), dtype=np.float64)


def number(digits: Tensor) -> Tensor:
    """(B, DIGITS) symbols, the highest first, as the bin's index (B,)."""
    return (digits * BASE ** torch.arange(DIGITS - 1, -1, -1, device=digits.device)).sum(1)


def jitter(x: Tensor, columns: int) -> Tensor:
    """(B, columns) in (0, 1), a fixed function of each row's symbols, so that decoding is deterministic."""
    rows = [torch.rand(columns, generator=torch.Generator().manual_seed(seed_of(*row))) for row in x.tolist()]
    return torch.stack(rows).double().clamp(1e-6, 1 - 1e-6) if rows else torch.empty(0, columns, dtype=torch.float64)


def column_type(name: str) -> pa.DataType:
    """The Arrow type of that name."""
    return {"double": pa.float64(), "float": pa.float32(), "string": pa.string(), "bool": pa.bool_()}.get(
        name, pa.int64() if name.startswith(("int", "uint")) else pa.string()
    )


def as_table(items: Any, names: tuple[str, ...] = ()) -> pa.Table:
    """A table from a table, a mapping of columns, a list of dicts, or an array (N,) or (N, D)."""
    if isinstance(items, pa.Table):
        return items
    if isinstance(items, Mapping):
        return pa.table({name: np.atleast_1d(np.asarray(cells)) for name, cells in items.items()})
    if isinstance(items, list) and items and isinstance(items[0], Mapping):
        return pa.Table.from_pylist([dict(row) for row in items])
    array = np.asarray(items)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or (names and array.shape[1] != len(names)):
        raise DataError(f"expected rows of {len(names) or 'some'} columns, got an array of shape {array.shape}")
    return pa.table({name: array[:, i] for i, name in enumerate(names or [f"x{i}" for i in range(array.shape[1])])})
