"""One column of a table: its cells as numbers, and what its symbols, bits and values are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quintet.core import arrow
from quintet.core.errors import DataError
from quintet.core.pieces import Floats, Pieces, pieces_of_categories, pieces_of_numbers

FEW = 64
"""Integers of at most this many values, each with a symbol, are categorical: a condition by them is a class."""
MANY, SELDOM = 100, 5
"""Of at least MANY cells, fewer than SELDOM of a kind are too few to learn it by, if there are new kinds to expect."""
BITS = 8
"""Up to this many symbols, numbers are bits on the continuous face as categories are; with more, one real number."""
LEAST = 1e-6
"""Share of training that a symbol is taken to have had at least (values where all cells of a column are null)."""


@dataclass(frozen=True)
class Column:
    """One column: how its cells are numbered, and the pieces and symbols of these numbers.

    A category's cell is its place in `categories`, which fall in frequency; a number's is in units of `grid`. A null is
    the last symbol, of `null_share` of the training cells. Where `fine` > 1, a second symbol says in which part of its
    bin a number is.
    """

    name: str
    type: pa.DataType
    pieces: Pieces
    null_share: float = 0.0
    grid: arrow.Grid | None = None
    categories: tuple[str | bool, ...] = ()
    fine: int = 1

    @property
    def nulls(self) -> bool:
        """Whether training had nulls in it."""
        return self.null_share > 0

    @property
    def number(self) -> bool:
        return self.grid is not None

    @property
    def symbols(self) -> int:
        return self.pieces.count + self.nulls

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many symbols each of its positions on the discrete face has."""
        return (self.symbols, self.fine) if self.fine > 1 else (self.symbols,)

    @property
    def shares(self) -> tuple[tuple[float, ...], ...]:
        """How often training had each symbol, of each of these positions; none is quite 0."""
        symbols = self.pieces.weight * (1 - self.null_share)
        if self.nulls:
            symbols = np.append(symbols, self.null_share)
        fine = ((1 / self.fine,) * self.fine,) if self.fine > 1 else ()
        return (tuple(symbols.clip(LEAST).tolist()), *fine)

    @property
    def values(self) -> tuple[Any, ...]:
        """Of a categorical column, in the order of its symbols, as Python has them."""
        if self.grid is None:
            return self.categories
        points = self.pieces.points
        assert points is not None
        return tuple(arrow.from_units(points, self.grid, self.type).to_pylist())

    @property
    def categorical(self) -> bool:
        """Whether it is symbols by nature: categories, or integers of few values."""
        if self.grid is None:
            return True
        return pa.types.is_integer(arrow.plain(self.type)) and self.symbols <= FEW and self.pieces.points is not None

    @property
    def rare(self) -> int:
        """How many categories share the last symbol; unseen ones are taken to be among them."""
        shared = not self.number and bool(self.pieces.void.any())
        return len(self.categories) - self.pieces.count + 1 if shared else 0

    @property
    def mass(self) -> bool:
        """Whether its cells have probabilities, not densities."""
        return self.pieces.lattice or self.pieces.points is not None

    @property
    def bits(self) -> int:
        """Dimensions +-1 of its symbol on the continuous face; 0: it is one real number."""
        if self.number and self.pieces.count > BITS:
            return 0
        return max(1, math.ceil(math.log2(self.pieces.count)))

    @property
    def width(self) -> int:
        """Dimensions of the continuous face: bits or a real number, and whether it is null."""
        return (self.bits or 1) + self.nulls

    def units(self, cells: pa.ChunkedArray, *, strict: bool = False) -> tuple[Floats, NDArray[np.bool_]]:
        """(N,) the cells as numbers, and which are null (there the number is 0).

        `strict` refuses integers that training lacks, where it held few. Raises DataError.
        """
        where = f"column {self.name}"
        if self.grid is not None:
            units = arrow.to_units(cells, self.grid, self.type, where)
            null = np.isnan(units)
            units[null] = 0
            if strict and self.categorical:
                unseen = ~null & ~np.isin(units, np.asarray(self.pieces.points))
                if unseen.any():
                    self.refuse(arrow.from_units(units[unseen][:1], self.grid, self.type)[0].as_py())
            return units, null
        labels = arrow.labels(cells, self.categories)
        null = labels.is_null().to_numpy(zero_copy_only=False)
        found = pc.index_in(labels, pa.array(self.categories, labels.type)).to_numpy(zero_copy_only=False)
        units = np.nan_to_num(found.astype(np.float64), nan=len(self.categories))
        unseen = (units == len(self.categories)) & ~null
        if unseen.any() and not self.rare:
            self.refuse(labels[int(np.argmax(unseen))].as_py())
        units[null] = 0
        return units, null

    def known(self, cells: pa.ChunkedArray, *, strict: bool = False) -> NDArray[np.bool_]:
        """(N,) which cells `units` would take: those that are like one of training's."""
        if self.grid is not None:
            units = arrow.to_units(cells, self.grid, self.type, f"column {self.name}")
            null, few = np.isnan(units), strict and self.categorical
            return np.where(null, self.nulls, np.isin(units, np.asarray(self.pieces.points)) if few else True)
        labels = arrow.labels(cells, self.categories)
        null, values = np.asarray(labels.is_null()), pa.array(self.categories, labels.type)
        return np.where(null, self.nulls, np.asarray(pc.is_in(labels, values)) | bool(self.rare))

    def cells(self, units: Floats, null: NDArray[np.bool_]) -> pa.Array:
        """The inverse of `units`, in the column's type."""
        if self.grid is not None:
            return arrow.from_units(units, self.grid, self.type, null)
        return arrow.from_labels(units.astype(np.int64), self.categories, self.type, null)

    def refuse(self, value: Any) -> NoReturn:
        """Raise DataError for a value that training lacks."""
        known = ", ".join(map(str, self.values[:12]))
        raise DataError(f"unknown value {value!r}", where=f"column {self.name}", why=f"known: {known}")

    def to_json(self) -> dict[str, Any]:
        grid = None if self.grid is None else list(self.grid)
        return {"pieces": self.pieces.to_json(), "null_share": self.null_share, "grid": grid,
                "categories": list(self.categories), "fine": self.fine}  # fmt: skip

    @classmethod
    def from_json(cls, field: pa.Field, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; name and type are those of `field`."""
        grid = None if data["grid"] is None else arrow.Grid(*data["grid"])
        pieces = Pieces.from_json(data["pieces"])
        return cls(field.name, field.type, pieces, data["null_share"], grid, tuple(data["categories"]), data["fine"])


def describe(name: str, cells: pa.ChunkedArray, *, bins: int, own: int, fine: int = 1, strict: bool = False) -> Column:
    """Read a column's constants off its training cells; see `pieces_of_numbers` and `pieces_of_categories`.

    Where a category was seen once, there are more that were not (Good & Turing: of about as much probability as those
    seen once have): then the seldom ones share a symbol, which also takes what comes new. Not if `strict`.
    """
    kind, filled = cells.type, cells.drop_null()
    nulls = 1 - len(filled) / len(cells) if len(cells) else 0.0
    if arrow.is_number(kind):
        grid, units = arrow.to_grid(filled, f"column {name}")
        nulls = 1 - len(units) / len(cells) if len(cells) else 0.0  # NaN is null as well
        if len(units):
            pieces = pieces_of_numbers(units, lattice=grid.lattice, bins=bins, few=bins if strict else BITS)
            return Column(name, kind, pieces, nulls, grid, fine=1 if pieces.points is not None else fine)
    elif not arrow.is_category(kind):
        raise DataError(f"a column of type {kind}", where=f"column {name}", why="not a number, date, text or boolean",
                        fix="leave it out")  # fmt: skip
    found = arrow.labels(filled).value_counts()
    counted = sorted(zip(*(found.field(i).to_pylist() for i in (0, 1)), strict=True), key=lambda c: (-c[1], str(c[0])))
    counts = np.array([count for _, count in counted] or [1])  # nulls only: one symbol, which decodes to null as well
    if not strict and counts.sum() >= MANY and counts.min() == 1:
        own = min(own, max(1, int((counts >= SELDOM).sum())))
    pieces = pieces_of_categories(counts, own)
    return Column(name, kind, pieces, nulls, categories=tuple(value for value, _ in counted))


def is_key(cells: pa.ChunkedArray) -> bool:
    """Whether a column only names its rows: texts that all differ, or whole numbers that count up.

    A split holds some rows of a file in their order, so a counter has gaps there: at least half of the numbers from
    its first to its last are enough. Measurements that rise all the way hardly ever lie so close.
    """
    if len(cells) < 20 or cells.null_count:
        return False
    if arrow.is_category(cells.type):
        return not pa.types.is_boolean(arrow.plain(cells.type)) and len(cells.unique()) == len(cells)
    if not pa.types.is_integer(cells.type):
        return False
    steps = np.diff(cells.to_numpy().astype(np.float64))
    return bool((steps > 0).all() and steps.mean() <= 2 * steps.min())
