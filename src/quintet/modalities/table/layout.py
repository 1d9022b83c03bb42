"""What becomes of the columns of a table: which are described how, which follow from others, and what is modelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from quintet.core.errors import DataError
from quintet.data import arrow
from quintet.data.arrow import Floats
from quintet.modalities.table import discovery, written
from quintet.modalities.table.columns import Column, describe, is_key
from quintet.modalities.table.identifiers import Identifiers
from quintet.modalities.table.ruled import Ruled
from quintet.modalities.table.rules import Order

FINE, FEW_COLUMNS = 64, 6
"""In a table of fewer columns a number's bin has FINE parts, a second symbol: what is drawn within a part is a function
of the row's symbols, of which there would be too few different ones."""


@dataclass(frozen=True)
class Layout:
    """The `columns` of training rows, the rules between them (`ruled`), and what is `modelled`: those that are not
    computed, or what stands for them, in their order. `ids` are made anew and `dropped` ones left out; `order` is that
    in which all go back.
    """

    columns: tuple[Column, ...]
    ruled: Ruled
    modelled: tuple[Column, ...]
    ids: Mapping[str, Identifiers]
    dropped: tuple[str, ...]
    order: tuple[str, ...]

    @classmethod
    def of(cls, table: pa.Table, settings: Any, *, groups: bool) -> Self:
        """Read off training rows; `groups`: whether categories beyond the most frequent share symbols."""
        names = table.column_names
        if not table.num_rows or not names:
            raise DataError("the table has no rows or no columns")
        if len(set(names)) < len(names):
            raise DataError(
                "two columns have the same name", where=", ".join(names), fix="give each column a name of its own"
            )
        forms = written.forms(table)
        wanted = [name for name, form in forms.items() if form.kind in ("category", "text")]  # by the user
        named = [name for name, form in forms.items() if form.kind == "id"]
        if len(named) == len(names):
            raise DataError(
                "all columns are identifiers",
                where=", ".join(named),
                why="identifiers only name the rows, so nothing is left to model",
                fix=f"add other columns, or model one as a category: --data.types {named[0]}=category",
            )
        others = [name for name in names if name not in (*named, *wanted)]
        keys = [name for name in others if len(names) > 1 and is_key(table[name])]
        kept = [name for name in names if name not in (*keys, *named)] or names
        own = settings.categories if groups else None

        def described(name: str, cells: Any, beside: int, grid: arrow.Grid | None = None) -> Column:
            """A column, one of so many."""
            fine = settings.fine or (FINE if beside < FEW_COLUMNS else 1)
            return describe(name, cells, bins=settings.bins, own=own, fine=fine, strict=settings.strict,
                            shared_by=settings.shared_by, grid=grid)  # fmt: skip

        columns = tuple(described(name, table[name], len(kept)) for name in kept)
        values = values_of(table, columns, strict=settings.strict)
        ruled = discovery.find(columns, values, settings.rules)
        left = len(columns) - len(ruled.computed)

        def modelled() -> Iterator[Column]:
            for column, cells in zip(columns, stand_ins(columns, ruled, values), strict=True):
                if column.name in ruled.computed:
                    continue
                if cells is not None:
                    yield described(cells.name, cells.cells, left, cells.grid)
                elif left < FEW_COLUMNS <= len(columns):  # what is left is a table of few columns
                    yield described(column.name, table[column.name], left)
                else:
                    yield column

        return cls(columns, ruled, tuple(modelled()), {name: Identifiers.of(table[name]) for name in named},
                   tuple(name for name in names if name not in (*kept, *named)),
                   tuple(name for name in names if name in (*kept, *named)))  # fmt: skip


@dataclass(frozen=True)
class StandIn:
    """Cells that are modelled in the place of a column's: on a grid whose units are those of `Ruled.reduce`."""

    name: str
    cells: pa.ChunkedArray
    grid: arrow.Grid | None


def stand_ins(columns: Sequence[Column], ruled: Ruled, values: Mapping[str, Floats]) -> Iterator[StandIn | None]:
    """Of each column, what is modelled in its place; None where that is the column itself, or nothing."""
    reduced = ruled.reduce(values)
    for column in columns:
        rule = ruled.changed.get(column.name)
        if rule is None:
            yield None
            continue
        own = reduced[column.name]
        null, name, grid = np.isnan(own), column.name, column.grid
        if isinstance(rule, Order):  # how far it lies above
            kind, name = pa.int64() if rule.lattice else pa.float64(), f"{rule.target} - {rule.sources[0]}"
            cells, grid = pa.array(np.where(null, 0, own), mask=null).cast(kind), arrow.Grid(rule.lattice)
        elif rule.exact:  # whether it is there
            cells, grid = pa.array(np.zeros(len(own), np.int64), mask=null), arrow.Grid(True)
        else:  # where it is not as the rule says
            cells = column.cells(np.nan_to_num(own), null)
        yield StandIn(name, pa.chunked_array([cells]), grid)


def values_of(table: pa.Table, columns: Sequence[Column], *, strict: bool) -> dict[str, Floats]:
    """The cells by column: units, NaN for null. Raises DataError for what no training row could be."""
    values = {}
    for column in columns:
        if column.name not in table.column_names:
            raise DataError(
                "the rows lack this column of the training data",
                where=column.name,
                fix="add the column under the same name",
            )
        units, null = column.units(table[column.name], strict=strict)
        if null.any() and not column.nulls:
            raise DataError(
                f"{int(null.sum()):,} of {len(null):,} cells of this column are missing",
                where=f"column {column.name}, row {int(null.argmax()) + 1}",
                why="this column had no missing cells in training",
                fix="fill them in with quintet complete, or remove these rows",
            )
        values[column.name] = np.where(null, np.nan, units)
    return values
