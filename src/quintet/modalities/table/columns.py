"""One column of a table: its cells as numbers, and what its symbols, bits and values are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Any, NoReturn, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quintet.core.errors import DataError, warn
from quintet.data import arrow
from quintet.data.arrow import Floats
from quintet.modalities.table.moments import Calendar
from quintet.modalities.table.pieces import Pieces, bounded, pieces_of_categories, pieces_of_numbers

CATEGORICAL_VALUES = 64
"""Integers of at most this many values, each with a symbol, are categorical: a condition by them is a class."""
MANY = 100
"""Of at least so many cells some are of a kind seen once: then there are new kinds to expect."""
RARE_MARK = "(rare)"
"""Stands in samples for a category or a text that too few training rows share."""
GROUP = 64
"""Categories that share a symbol where not all have their own; a second symbol tells them apart."""
BITS = 8
"""Up to this many symbols, continuous numbers are bits, as categories are; with more, one real number."""
SMALLEST_SHARE = 1e-6
"""Share of training that a symbol is taken to have had at least (values where all cells of a column are null)."""


@dataclass(frozen=True)
class Column:
    """One column: how its cells are numbered, and the pieces and symbols of these numbers.

    A category's cell is its place in `categories`: first those with a symbol each, which fall in frequency, and last
    the `rare` ones, which share a symbol that unseen ones have too. A number's is in units of `grid`. A null is the
    last symbol, of `null_share` of the training cells. Where `fine` > 1, a second symbol says in which part of its bin
    a number is, or which of those that share its symbol a category is: the j-th of m has j, j + m, j + 2 m ... Where
    `hides`, RARE stands for rare categories when cells are made.

    A date or a time of many values is modelled by its `parts` (see `Calendar`), a column of whole numbers each. The
    first has the null; in the others a null is anything, drawn by their own distribution.
    """

    name: str
    type: pa.DataType
    pieces: Pieces
    null_share: float = 0.0
    grid: arrow.Grid | None = None
    categories: tuple[str | bool, ...] = ()
    fine: int = 1
    rare: int = 0
    hides: bool = False
    calendar: Calendar | None = None
    parts: tuple[Column, ...] = ()

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
        """How many symbols each of its positions in the discrete representation has."""
        return (self.symbols, self.fine) if self.fine > 1 else (self.symbols,)

    @property
    def shares(self) -> tuple[tuple[float, ...], ...]:
        """How often training had each symbol, of each of these positions; none is quite 0."""
        symbols = self.pieces.weight * (1 - self.null_share)
        if self.nulls:
            symbols = np.append(symbols, self.null_share)
        fine = ((1 / self.fine,) * self.fine,) if self.fine > 1 else ()
        return (tuple(symbols.clip(SMALLEST_SHARE).tolist()), *fine)

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
        return (
            pa.types.is_integer(arrow.without_dictionary(self.type))
            and self.symbols <= CATEGORICAL_VALUES
            and self.pieces.points is not None
        )

    @property
    def ends(self) -> dict[str, Any]:
        """The `low` and the `high` end of the numbers or times of training."""
        if self.grid is None or len(self.pieces.low) < 3:
            return {}
        low, high = self.pieces.low[1], self.pieces.high[-2]
        units = np.array([np.ceil(low), np.floor(high)] if self.grid.lattice else [low, high])
        return dict(zip(("low", "high"), arrow.from_units(units, self.grid, self.type).to_pylist(), strict=True))

    @property
    def mass(self) -> bool:
        """Whether its cells have probabilities, not densities."""
        return self.pieces.lattice or self.pieces.points is not None

    @property
    def bits(self) -> int:
        """Dimensions +-1 of its symbol in the continuous representation; 0: it is one real number."""
        if self.number and self.pieces.count > BITS:
            return 0
        frequent, seldom = self._ranked
        return max(1, bits_of(frequent) + (1 + bits_of(seldom) if len(seldom) else 0))

    @cached_property
    def _ranked(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The symbols that have bits of their own numbers, and the rare ones, of less than a tenth of an even share: a
        bit says that it is one of these, and further ones say which. Were they numbered alike, a model that has learnt
        how often each bit is 1, and not yet which go together, would draw rare symbols by far too often.
        """
        weight = self.pieces.weight
        rare = weight < 0.1 / len(weight)
        return np.flatnonzero(~rare), np.flatnonzero(rare)

    def to_bits(self, symbol: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, bits) of symbols (N,)."""
        frequent, seldom = self._ranked
        code = np.zeros(self.pieces.count, np.int64)
        code[frequent] = np.arange(len(frequent))
        code[seldom] = 2 * np.arange(len(seldom)) + 1 << bits_of(frequent)
        return (code[symbol][:, None] >> np.arange(self.bits) & 1).astype(np.float32) * 2 - 1

    def from_bits(self, bits: NDArray[Any]) -> NDArray[np.int64]:
        """The inverse of `to_bits`, for all signs; those of no symbol wrap around."""
        frequent, seldom = self._ranked
        code = ((bits > 0) << np.arange(self.bits)).sum(1)
        first = bits_of(frequent)
        often = frequent[(code & (1 << first) - 1) % len(frequent)]
        if not len(seldom):
            return often
        return np.where(code >> first & 1, seldom[(code >> first + 1) % len(seldom)], often)

    def pattern(self, x: Floats, null: NDArray[np.bool_], u: Floats) -> NDArray[np.int64]:
        """The symbol of each cell x of a column of bits; of a null one is drawn by u in (0, 1), as often
        as the others have it.
        """
        ends = np.cumsum(self.pieces.weight)
        drawn = np.searchsorted(ends, u * ends[-1], side="right").clip(0, self.pieces.count - 1)
        return np.where(null, drawn, self.pieces.symbol(x))

    @property
    def bit_shares(self) -> tuple[float, ...]:
        """How often training had 1 in each continuous dimension, none quite 0 or 1; 1/2 of real numbers."""
        ones = self.to_bits(np.arange(self.pieces.count)) > 0 if self.bits else None
        shares = np.array([0.5]) if ones is None else self.pieces.weight @ ones
        return tuple(
            np.append(shares, [self.null_share] * self.nulls).clip(SMALLEST_SHARE, 1 - SMALLEST_SHARE).tolist()
        )

    def spelt(self, cells: pa.ChunkedArray) -> pa.ChunkedArray:
        """Numbers in the place of texts as those texts that write them: of 2116, as a spreadsheet or a data frame has
        it, the category "02116". Where several write one number, which is taken is warned.
        """
        number = pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)
        if not number or not self.categories or not isinstance(self.categories[0], str):
            return cells
        writes: dict[Decimal, list[str]] = {}
        for category in self.categories:
            if re.fullmatch(r"[-+]?\d+(\.\d+)?", str(category)):
                writes.setdefault(Decimal(str(category)), []).append(str(category))
        words: dict[Any, str] = {}
        for value in cells.unique().drop_null().to_pylist():
            own = str(int(value)) if float(value).is_integer() else str(value)
            found = sorted(writes.get(Decimal(own) if math.isfinite(value) else Decimal(0), []))
            words[value] = own if own in found or not found else found[0]
            if len(found) > 1:
                told = f"column {self.name}: the number {own} is written as {' and as '.join(found)} in training"
                warn(f"{told}; it is read as {words[value]}: give the value as a text to choose")
        texts = [None if c is None or c != c else words[c] for c in cells.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])

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
        labels = arrow.as_labels(cells, self.categories)
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
        labels = arrow.as_labels(cells, self.categories)
        null, values = np.asarray(labels.is_null()), pa.array(self.categories, labels.type)
        return np.where(null, self.nulls, np.asarray(pc.is_in(labels, values)) | bool(self.rare))

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Of each symbol, how many categories its second symbol tells apart."""
        sizes = np.bincount(self.pieces.bins, minlength=self.symbols)
        return np.where((sizes == 0) | (np.arange(len(sizes)) == self.pieces.count - (self.rare > 0)), 1, sizes)

    def encode(self, x: Floats, null: NDArray[np.bool_], u: Floats) -> list[NDArray[np.int64]]:
        """The symbols of cells x, one array (N,) for each position; u in (0, 1) chooses where there are several."""
        symbol = np.where(null, self.pieces.count, self.pieces.symbol(x))
        if not self.nulls and null.any():  # a part of a date that is null
            ends = np.cumsum(self.pieces.weight)
            drawn = np.searchsorted(ends, u * ends[-1], side="right").clip(0, self.pieces.count - 1)
            rest = ((u - (ends - self.pieces.weight)[drawn]) / self.pieces.weight[drawn]).clip(0, np.nextafter(1, 0))
            symbol, u = np.where(null, drawn, symbol), np.where(null, rest, u)
        if self.fine == 1:
            return [symbol]
        if self.number:
            return [symbol, (np.where(null, u, self.pieces.share(x, u)) * self.fine).astype(np.int64)]
        place, size, ways = self._place(x, symbol)
        return [symbol, place + size * (u * ways).astype(np.int64)]

    def decode(self, symbols: NDArray[np.int64], u: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Cells, and which are null, of symbols (N, positions); u in (0, 1) chooses what symbols leave open."""
        null = symbols[:, 0] >= self.pieces.count
        symbol = np.where(null, 0, symbols[:, 0])
        if self.fine > 1 and self.number:
            u = (symbols[:, 1] + u) / self.fine
        x = self.pieces.draw(symbol, u)
        if self.fine > 1 and not self.number:
            size = self.group[symbol]
            x = np.where(size > 1, self.pieces.first[symbol] + symbols[:, 1] % size, x)
        return x, null

    def log_inside(self, x: Floats, null: NDArray[np.bool_], symbol: NDArray[np.int64]) -> Floats:
        """log p(cell) - log p(its symbols), of which `symbol` is the first, where they were chosen by `encode`."""
        weight = np.log(self.pieces.weight[symbol.clip(0, self.pieces.count - 1)])
        of_null = 0.0 if self.nulls else -weight
        inside = np.where(null, of_null, self.pieces.log_weight(x) - weight)
        if self.fine == 1 or self.number:
            return inside + math.log(self.fine)
        _, size, ways = self._place(x, symbol)
        return np.where(size > 1, 0.0, inside) + np.log(ways)

    def _place(self, x: Floats, symbol: NDArray[np.int64]) -> tuple[Any, Any, Any]:
        """Of categories: the place among those that share the symbol, how many these are, how many digits it has."""
        size = self.group[symbol]
        place = np.where(size > 1, x.astype(np.int64) - self.pieces.first[symbol.clip(0, self.pieces.count - 1)], 0)
        return place, size, (self.fine - 1 - place) // size + 1

    def cells(self, units: Floats, null: NDArray[np.bool_]) -> pa.Array:
        """The inverse of `units`, in the column's type."""
        if self.grid is not None:
            return arrow.from_units(units, self.grid, self.type, null)
        index, labels = units.astype(np.int64), self.categories
        if self.hides:
            often = len(labels) - self.rare
            index, labels = index.clip(0, often), (*labels[:often], RARE_MARK)
        return arrow.from_labels(index, labels, self.type, null)

    def refuse(self, value: Any) -> NoReturn:
        """Raise DataError for a value that training lacks."""
        known = ", ".join(map(str, self.values[:12])) + (", ..." if len(self.values) > 12 else "")
        raise DataError(
            f"the value {value!r} did not occur in training",
            where=f"column {self.name}",
            why=f"the values in training were {known}",
        )

    def to_json(self) -> dict[str, Any]:
        grid = None if self.grid is None else list(self.grid)
        return {"pieces": self.pieces.to_json(), "null_share": self.null_share, "grid": grid,
                "categories": list(self.categories), "fine": self.fine, "rare": self.rare,
                "hides": self.hides, "calendar": None if self.calendar is None else list(self.calendar),
                "parts": {part.name: part.to_json() for part in self.parts}}  # fmt: skip

    @classmethod
    def from_json(cls, field: pa.Field, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; name and type are those of `field`."""
        grid = None if data["grid"] is None else arrow.Grid(*data["grid"])
        pieces = Pieces.from_json(data["pieces"])
        calendar = None if data["calendar"] is None else Calendar(*data["calendar"])
        parts = tuple(cls.from_json(pa.field(name, pa.int64()), part) for name, part in data["parts"].items())
        return cls(field.name, field.type, pieces, data["null_share"], grid, tuple(data["categories"]), data["fine"],
                   data["rare"], data["hides"], calendar, parts)  # fmt: skip


def bits_of(symbols: NDArray[Any]) -> int:
    """Bits that tell so many apart."""
    return math.ceil(math.log2(max(1, len(symbols))))


def describe(
    name: str,
    cells: pa.ChunkedArray,
    *,
    bins: int,
    own: int | None,
    fine: int = 1,
    strict: bool = False,
    shared_by: int = 1,
    grid: arrow.Grid | None = None,
) -> Column:
    """Read a column's constants off its training cells; see `pieces_of_numbers` and `pieces_of_categories`.

    Categories that fewer than `shared_by` cells hold are rare, but not truth values. Where a category was seen once,
    there are more that were not (Good & Turing: of about as much probability as those seen once have): then those seen
    once are rare at least. Not if `strict`. Beyond the `own` most frequent ones (None: all) the others are in groups of
    neighbours in the alphabet. `grid`: where numbers lie, if not on the coarsest grid that holds all of them.
    """
    kind, filled = cells.type, cells.drop_null()
    nulls = 1 - len(filled) / len(cells) if len(cells) else 0.0
    if arrow.is_numeric(kind):
        if grid is None:
            grid, units = arrow.to_grid(filled, f"column {name}")
        else:
            units = arrow.to_units(filled, grid, kind, f"column {name}")
            units = units[~np.isnan(units)]
        nulls = 1 - len(units) / len(cells) if len(cells) else 0.0  # NaN is null as well
        if len(units):
            few = bins if strict else BITS
            pieces = pieces_of_numbers(units, lattice=grid.lattice, bins=bins, few=few, origin=grid.origin)
            whole = Column(name, kind, pieces, nulls, grid, fine=1 if pieces.points is not None else fine)
            calendar = Calendar.of(arrow.without_dictionary(kind), grid, units) if pieces.points is None else None
            if calendar is None:
                return whole
            parts: list[Column] = []
            for (part, (its, last)), numbers in zip(calendar.grids.items(), calendar.split(units), strict=True):
                of = pieces_of_numbers(numbers, lattice=True, bins=bins, few=few, origin=its.origin)
                of = of if last is None else bounded(of, 0, last)
                parts.append(Column(f"{name} ({part})", pa.int64(), of, 0.0 if parts else nulls, its,
                                    fine=1 if of.points is not None else fine))  # fmt: skip
            return replace(whole, calendar=calendar, parts=tuple(parts))
    elif not arrow.is_category(kind):
        raise DataError(
            f"a column of type {kind} cannot be modelled",
            where=f"column {name}",
            why="a column must hold numbers, dates, texts or booleans",
            fix="leave this column out",
        )
    found = arrow.as_labels(filled).value_counts()
    counted = sorted(zip(*(found.field(i).to_pylist() for i in (0, 1)), strict=True), key=lambda c: (-c[1], str(c[0])))
    once = bool(counted) and counted[-1][1] == 1 and len(filled) >= MANY
    limit = 1 if strict or pa.types.is_boolean(arrow.without_dictionary(kind)) else max(shared_by, 1 + once)
    often = sum(count >= limit for _, count in counted)
    first = often if own is None else min(own, often)
    counted[first:often] = sorted(counted[first:often], key=lambda c: str(c[0]))
    counts = np.array([count for _, count in counted] or [1])  # nulls only: one symbol, which decodes to null as well
    rare = len(counted) - often
    pieces = pieces_of_categories(counts, first if counted else 1, rare, GROUP)
    told = max(1, min(GROUP, often - first))
    return Column(name, kind, pieces, nulls, categories=tuple(value for value, _ in counted), fine=told, rare=rare,
                  hides=rare > 0 and shared_by > 1)  # fmt: skip


def is_key(cells: pa.ChunkedArray) -> bool:
    """Whether a column only names its rows: texts that all differ, or whole numbers that count up.

    A split holds some rows of a file in their order, so a counter has gaps there: at least half of the numbers from
    its first to its last are enough. Measurements that rise all the way hardly ever lie so close.
    """
    if len(cells) < 20 or cells.null_count:
        return False
    if arrow.is_category(cells.type):
        return not pa.types.is_boolean(arrow.without_dictionary(cells.type)) and len(cells.unique()) == len(cells)
    if not pa.types.is_integer(cells.type):
        return False
    steps = np.diff(cells.to_numpy().astype(np.float64))
    return bool((steps > 0).all() and steps.mean() <= 2 * steps.min())
