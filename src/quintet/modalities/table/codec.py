"""Rows of a table <-> symbols, or normal numbers and bits; the same types, ranges, decimals and nulls come back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from quintet.core import settings
from quintet.core.codec import Codec, Encoded, Preprocessing, RepresentationKind, digest
from quintet.core.errors import DataError, UsageError, warn
from quintet.core.likelihood import Measure
from quintet.core.spaces import Discrete
from quintet.data import arrow
from quintet.data.arrow import Floats
from quintet.modalities.table import guessing, written
from quintet.modalities.table.columns import RARE_MARK, Column
from quintet.modalities.table.identifiers import Identifiers
from quintet.modalities.table.layout import Layout, values_of
from quintet.modalities.table.representations import NormalScores, RowRepresentation, RowSymbols, Units
from quintet.modalities.table.ruled import Ruled
from quintet.modalities.table.rules import Order


class TableCodec(Codec):
    """Rows of a `pyarrow.Table`.

    Each column is a distribution in pieces (`core.pieces.Pieces`) with F its distribution function over the training
    cells. Values that recur weigh; between them F is linear from quantile to quantile.

    discrete: one symbol a column, s, a bin of F: a category, a value that recurs, about 1 / `bins` of the other
    numbers; null is one more. It decodes to F^-1 at a point of the bin that is a fixed function of the row. In tables
    of few columns a second symbol gives that point's first digit; so it does of a category where there are too many
    for a symbol each.
    log p(row) = log p(s) + sum_c log w_c(cell) - log w_c(bin or part of it).

    continuous: z = Phi^-1(F(x)) of a number, N(0, 1) over the training cells; where x weighs, F is taken at a point
    of its jump that is a fixed function of the row (Rueschendorf 2009). A category (or a number of up to 8 values) is
    the bits of its symbol, +-1, those of rare symbols beside the others', and being null is one more bit; all are
    dequantised (`widths`).
    log p(row) = log p(z) + sum_c log w_c(cell) - log N(z_c; 0, 1): for cells that weigh an unbiased estimate of the
    probability, as dequantisation is.

    The measure of a row is the product over its columns. Categories, integers, decimals and numbers on a grid: w is the
    probability of the cell. Other numbers: a density per raw unit, plus probabilities at the values that recur, a
    mixed measure (Lebesgue and counting). Null: a probability. Unseen values: see `Pieces`.

    A date or a time of many values is modelled by its parts, a column each: year, week, weekday, time of day.

    A category or a text that fewer than `shared_by` training rows hold is rare: all of these, and what comes new, share
    a symbol, which decodes to RARE. So no sample holds what single rows could be known by.

    What follows from other cells of a row in all training rows (`rules`) is computed, not modelled: so it holds in all
    that is decoded. Where it holds often, that it does is one more symbol of the column.

    Columns that the user calls identifiers (`ids`) are not modelled: decoded rows have new ones.
    Columns that only name their rows (`dropped`) are left out, with a warning; further columns of a table are ignored.
    Integers beyond 2^53 steps from their smallest lose their last digits. A NaN is a null.
    """

    class Settings(settings.Settings):
        bins: int = Field(64, ge=2, le=1024, description="symbols of a column of numbers, besides values that recur")
        fine: int | None = Field(
            None,
            ge=1,
            le=256,
            description="parts that a bin of numbers is divided into; none: 64 in tables of few columns, otherwise 1",
        )
        categories: int = Field(
            512,
            ge=1,
            le=2**20,
            description="how many categories have a symbol of their own; others are written as two symbols",
        )
        shared_by: int = Field(
            3,
            ge=1,
            le=2**20,
            description="categories and texts that fewer training rows hold are drawn as (rare); 1: all are drawn",
        )
        rules: str = Field(
            "all",
            description="what follows from other columns in training and is kept: all, none, or columns, total,city",
        )
        strict: bool = Field(False, description="refuse categories, and integers among few, that training lacks")

    name = "table"
    preprocessing: Preprocessing = "standardised"
    wanted = "a DataFrame, an Arrow table, a dict of columns, rows as dicts, or an array (N, columns)"
    representations = (NormalScores, RowSymbols)
    representation: RowRepresentation

    def __init__(self, representation: RepresentationKind | None = None, settings: Any = None) -> None:
        super().__init__(representation, settings)
        self.columns: tuple[Column, ...] = ()
        self.ruled = Ruled()
        self.modelled: tuple[Column, ...] = ()
        """What stands for columns that are not computed, in their order."""
        self.dropped: tuple[str, ...] = ()
        self.forms: dict[str, written.Form] = {}
        self.ids: dict[str, Identifiers] = {}
        self.order: tuple[str, ...] = ()
        """How the cells of columns are written where the data come from, and go back."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about the columns, in words."""
        left = (
            f"column {name} only names its rows and is left out (--data.types {name}=text keeps it)"
            for name in self.dropped
        )
        new = (f"column {name} is not modelled: samples have new identifiers in it, each once" for name in self.ids)
        ruled = (f"{told} (--coding.rules none overrules it)" for told in self.ruled.told)
        return (*left, *new, *ruled, *(self._rare(c) for c in self.columns if c.hides or c.rare > 1))

    def _rare(self, c: Column) -> str:
        """What becomes of the rare values of a column."""
        share = c.pieces.weight[-1] * (1 - c.null_share)
        head = (
            f"column {c.name} has {len(c.categories):,} different values: the rarest {c.rare:,} ({share:.2%} of its "
            "rows) share a symbol, and what is particular to each is not learnt. "
        )
        if not c.hides:
            return head + "Where the symbol is drawn, one of them is, by their frequencies"
        least = self.settings.shared_by
        return head + (
            f"Fewer than {least} rows hold each: samples say {RARE_MARK} in their place, so that nobody is known by "
            "them (--coding.shared_by 1 draws them too)"
        )

    def fit(self, items: Any) -> Self:
        table = arrow.as_table(items)
        found = Layout.of(table, self.settings, groups=self.representation.groups)
        self.columns, self.ruled, self.modelled = found.columns, found.ruled, found.modelled
        self.ids, self.dropped, self.order = dict(found.ids), found.dropped, found.order
        kept = {column.name for column in self.columns}
        self.forms = {name: form for name, form in written.forms(table).items() if name in kept}
        self._set_space()
        for note in self.notes:
            warn(note)
        return self

    def _set_space(self) -> None:
        self.representation.fit(self.modelled)
        self.dims = len(self.columns)
        self.measure: Measure = "mass" if all(column.mass for column in self.columns) else "density"

    def rows(self, items: Any) -> pa.Table:
        """Items as a table, in which strings are read as the training file's were, see `guessing.parsed`, and numbers
        in the place of texts are those that write them: see `Column.spelt`.
        """
        table = arrow.as_table(items, tuple(column.name for column in self.columns))
        table = guessing.parsed(table, {column.name: column.type for column in self.columns}, self.forms)
        for column in self.columns:
            if column.name in table.column_names:
                cells = column.spelt(table[column.name])
                if cells.type != table[column.name].type:
                    table = table.set_column(table.column_names.index(column.name), column.name, cells)
        return table

    # -- raw -> encoded ----------------------------------------------------------------------------------------------

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """The values of the only column, if they are categories with a symbol each."""
        if not isinstance(self.space, Discrete) or self.space.shape != (1,) or len(self.columns) > 1:
            return None
        if not self.columns[0].categorical:
            return None
        (column,) = self.columns
        return (*column.values, None) if column.nulls else column.values

    def every(self) -> pa.Table:
        (column,) = self.columns
        return pa.table({column.name: pa.array(self.labels, column.type)})

    @property
    def takes_all(self) -> bool:
        return False

    def known(self, items: pa.Table) -> NDArray[np.bool_]:
        """Rows whose every cell is like one of training's."""
        strict, rows, items = self.settings.strict, np.ones(items.num_rows, bool), self.rows(items)
        for column in self.columns:
            rows &= column.known(items[column.name], strict=strict)
        return rows

    def values(self, table: pa.Table) -> dict[str, Floats]:
        """The cells of `rows` by column: units, NaN for null."""
        return values_of(table, self.columns, strict=self.settings.strict)

    def encode(self, items: Any) -> Tensor:
        return self.representation.encode(self._split(self.ruled.reduce(self.values(self.rows(items)))))

    def encoded(self, items: Any) -> Encoded:
        """Categories that training lacks are all one value, whatever they are: where there are such, what is scored
        depends on which training had. So is what samples say in the place of rare ones, which is no mark of a row.
        """
        table = self.rows(items)
        values, by_name = self.values(table), self._by_name
        cells = self._split(self.ruled.reduce(values))
        x, notes, lacking = self.representation.encode(cells), [list[str]() for _ in range(len(table))], False
        for column in self.columns:
            new = np.flatnonzero(values[column.name] == len(column.categories)) if not column.number else ()
            for row in new:
                cell, lacking = table[column.name][int(row)].as_py(), True
                if not (column.hides and cell == RARE_MARK):
                    notes[row].append(f"{column.name} {cell!r} is not of training")
        known = {column.name: list(map(str, column.categories)) for column in self.columns} if lacking else {}
        for rule, rows in self.ruled.broken(values):
            for row in np.flatnonzero(rows):
                notes[row].append(f"{rule.text} does not hold, as it does in all training rows")
        log_det = self.representation.log_det(cells, x.numpy()) + self.ruled.log_share(values, by_name)
        identity = self.ruled.identity(by_name)
        identity = digest({"categories": known, "rules": identity}) if known else identity
        return Encoded(x, torch.from_numpy(log_det), tuple(map("; ".join, notes)), identity)

    def _split(self, values: Mapping[str, Floats]) -> Units:
        """What is modelled, by column, -> the cells of the parts of each, (N, parts), and which are null."""
        each = [values[name] for name in self._kept]
        null = np.isnan(np.stack(each, 1))
        parts = [
            column.calendar.split(np.nan_to_num(own)) if column.calendar else [np.nan_to_num(own)]
            for column, own in zip(self.modelled, each, strict=True)
        ]
        return np.stack([part for of in parts for part in of], 1), np.repeat(null, [len(of) for of in parts], 1)

    @property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def _kept(self) -> list[str]:
        """The names of the columns that are modelled."""
        return [column.name for column in self.columns if column.name not in self.ruled.computed]

    def log_det(self, items: Any) -> Tensor:
        return self.encoded(items).log_det

    # -- encoded -> raw ----------------------------------------------------------------------------------------------

    def decode(self, x: Tensor) -> pa.Table:
        drawn, parts = dict[str, Floats](), iter(self.representation.decode(x))
        for name, column in zip(self._kept, self.modelled, strict=True):
            units, null = next(parts)
            if column.calendar is not None:
                units = column.calendar.join([units, *(next(parts)[0] for _ in column.parts[1:])])
            drawn[name] = np.where(null, np.nan, units)
        columns = self._made(self.ruled.restore(drawn, self._by_name))
        columns |= {name: found.new(len(x)) for name, found in self.ids.items()}
        return written.attach(pa.table({name: columns[name] for name in self.order}), self.forms)

    def _made(self, values: Mapping[str, Floats]) -> dict[str, pa.Array]:
        """Cells of values."""
        return {column.name: column.cells(np.nan_to_num(values[column.name]), np.isnan(values[column.name]))
                for column in self.columns}  # fmt: skip

    # -- holes -------------------------------------------------------------------------------------------------------

    def partial(self, items: Any, known: Any = None) -> tuple[Tensor, Tensor]:
        """Holes are lacking columns and nulls; or what `known` (N, columns of items) bool says, and lacking columns.

        With `known`, a null that is marked known is the value null.
        """
        table = self.rows(items)
        if known is not None and np.shape(known) != (table.num_rows, table.num_columns):
            why = f"its shape is {np.shape(known)}, but there are {table.num_rows} rows of {table.num_columns} columns"
            raise UsageError("`known` must hold True or False for each cell of the table", why=why)
        values, given = self._given(table, known)
        values, given = self.ruled.solved(values, given)
        told = dict(given)
        for name, rule in self.ruled.changed.items():
            if isinstance(rule, Order):  # a distance is known where both ends are
                told[name] = np.logical_and.reduce([given[each] for each in (name, *rule.sources)])
        for name, column in self._by_name.items():
            middle = float(column.pieces.quantile(np.array([0.5]))[0])
            values[name] = np.where(given[name], values[name], middle)
        x, places = self.representation.encode(self._split(self.ruled.reduce(values))), list[NDArray[np.bool_]]()
        for name, column in zip(self._kept, self.modelled, strict=True):
            places += [told[name]] * (len(column.parts) or 1)
        return x, self.representation.spread(np.stack(places, 1))

    def _given(self, table: pa.Table, known: Any) -> tuple[dict[str, Floats], dict[str, NDArray[np.bool_]]]:
        """The values of `rows`, and which of them are given; NaN elsewhere, and where null is given."""
        values, given = dict[str, Floats](), dict[str, NDArray[np.bool_]]()
        for column in self.columns:
            name, own = column.name, np.full(table.num_rows, np.nan)
            place = table.column_names.index(name) if name in table.column_names else None
            has = np.zeros(table.num_rows, bool)
            if place is not None:
                has = arrow.filled(table.column(place)) if known is None else np.asarray(known, bool)[:, place]
            if place is not None and has.any():
                units, null = column.units(table.column(place).filter(pa.array(has)), strict=self.settings.strict)
                if null.any() and not column.nulls:
                    raise DataError(
                        "a missing cell is marked as known",
                        where=f"column {name}",
                        why="this column had no missing cells in training",
                    )
                own[has] = np.where(null, np.nan, units)
            values[name], given[name] = own, has
        return values, given

    def fill(self, items: Any, known: Any, completed: Any) -> pa.Table:
        """`completed` with the known cells of `items`; columns of `items` that are not modelled stay as they are. A
        column that was lacking, or had no value and was not read, stands behind the one before it in training. Beside
        the known cells the others keep the rules.
        """
        table, read = arrow.as_table(items, tuple(column.name for column in self.columns)), self.rows(items)
        if self.ruled.found:
            drawn = self.values(self.rows(completed))
            values, has = self._given(read, known)
            values = {name: np.where(has[name], own, drawn[name]) for name, own in values.items()}
            made = self._made(self.ruled.settled(values, drawn, has, self._by_name))
            completed = pa.table([made.get(name, completed[name]) for name in completed.column_names],
                                 names=completed.column_names)  # fmt: skip
        out, names = [], []
        for place, name in enumerate(table.column_names):
            cells = table.column(place)
            if name in completed.column_names:
                given = arrow.filled(read[name]) if known is None else np.asarray(known, bool)[:, place]
                if pa.types.is_null(cells.type):  # a column without any value has no type of its own
                    cells = cells.cast(completed[name].type)
                new, form = completed[name], self.forms.get(name)
                if form is not None and pa.types.is_string(cells.type):
                    new = form.write(new)  # beside strings, in the form of the training file
                new = pa.chunked_array(new.chunks if isinstance(new, pa.ChunkedArray) else [new]).cast(cells.type)
                cells = pc.if_else(pa.array(given), cells.combine_chunks(), new.combine_chunks())
            out.append(cells)
            names.append(name)
        for before, name in zip((None, *completed.column_names), completed.column_names, strict=False):
            if name not in names:
                place = 0 if before is None else names.index(before) + 1
                out.insert(place, completed[name])
                names.insert(place, name)
        return written.attach(pa.table(out, names=names), self.forms | written.forms(table))

    # -- state -------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        schema = pa.schema([(column.name, column.type) for column in (*self.columns, *self.modelled)])
        return {
            "representation": self.representation.kind,
            "settings": self.settings.model_dump(mode="json"),
            "schema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
            "columns": [column.to_json() for column in self.columns],
            "modelled": [column.to_json() for column in self.modelled],
            "ruled": self.ruled.to_json(),
            "dropped": list(self.dropped),
            "ids": {name: asdict(found) for name, found in self.ids.items()},
            "order": list(self.order),
            "forms": {name: asdict(form) for name, form in self.forms.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(data["representation"], cls.Settings(**data["settings"]))
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(data["schema"])))
        columns = [*data["columns"], *data["modelled"]]
        columns = [Column.from_json(field, column) for field, column in zip(schema, columns, strict=True)]
        codec.columns, codec.modelled = tuple(columns[: len(data["columns"])]), tuple(columns[len(data["columns"]) :])
        codec.ruled = Ruled.from_json(data["ruled"])
        codec.dropped = tuple(data["dropped"])
        codec.ids = {name: Identifiers(**found) for name, found in data["ids"].items()}
        codec.order = tuple(data["order"])
        codec.forms = {name: written.from_json(form) for name, form in data["forms"].items()}
        codec._set_space()
        return codec
