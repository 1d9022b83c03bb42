"""Tables: Arrow tables, a row an item."""

from __future__ import annotations

import base64
import datetime
import decimal
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from quintet.core.codec import Codec
from quintet.core.errors import UsageError
from quintet.core.plain import readable
from quintet.core.random import some
from quintet.data.archives import Entry
from quintet.data.arrays import columns_of
from quintet.data.arrow import filled
from quintet.data.dataset import Dataset, Found, join, take
from quintet.data.splits import row_texts
from quintet.metrics.measures import Figures, Measure
from quintet.modalities import Choices
from quintet.modalities.cards import Card, Chart
from quintet.modalities.frames import side_by_side
from quintet.modalities.protocol import Modality
from quintet.modalities.provenance import METADATA_KEY, Format, Provenance, text_of
from quintet.modalities.table import written
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.columns import describe
from quintet.modalities.table.facts import column_facts, kept, numbered
from quintet.modalities.table.given import as_rows, raw_conditions, raw_rows, write_table
from quintet.modalities.table.pictures import chart, drawn_as_number, histograms, scatter_png
from quintet.modalities.table.reading import ROWS, SUFFIXES, dataset_of
from quintet.modalities.table.sets import SETS
from quintet.modalities.table.streams import read_tables
from quintet.modalities.table.typed import typed

SHOWN, POINTS = 8, 4000
ROWS_SHOWN, CELL = 12, 200
"""Rows on a page, and characters of a cell."""
FLAT = 16
"""A table of at most this many columns, all of them real numbers without holes, is points in space."""
VALUES = 64
"""Integers of more values than that are numbers, no labels."""


def csv(table: pa.Table, provenance: Provenance) -> bytes:
    """Cells as they were written where the data come from; quoted where they must be."""
    columns = [_quoted(column.combine_chunks()) for column in written.strings(table).columns]
    header = ",".join(_quoted(pa.array(table.column_names, pa.string())).to_pylist())
    alone = '""' if len(columns) == 1 else ""  # a line without anything would be no row
    lines = pc.binary_join_element_wise(*columns, ",", null_handling="replace", null_replacement=alone)
    return "".join(f"{line}\n" for line in [header, *lines.to_pylist()]).encode("utf-8", "replace")


def _quoted(cells: pa.Array) -> pa.Array:
    must = pc.or_(pc.match_substring_regex(cells, '[",\r\n]'), pc.equal(cells, ""))
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(cells, '"', '""'), '"', "")
    return pc.if_else(must, quoted, cells)


def parquet(table: pa.Table, provenance: Provenance) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata({METADATA_KEY: text_of(provenance)}), buffer)
    return buffer.getvalue()


def arrow(table: pa.Table, provenance: Provenance) -> bytes:
    buffer = io.BytesIO()
    noted = table.replace_schema_metadata({METADATA_KEY: text_of(provenance)})
    with pa.ipc.new_file(buffer, noted.schema) as file:
        file.write_table(noted)
    return buffer.getvalue()


def jsonl(table: pa.Table, provenance: Provenance) -> bytes:
    rows = written.as_written(table, plain=False).to_pylist()
    return "".join(json.dumps({name: plain(cell) for name, cell in row.items()}) + "\n" for row in rows).encode()


def plain(cell: Any) -> Any:
    """A cell in what JSON has: a decimal is a number, a date or time is written in ISO 8601, NaN is null."""
    if isinstance(cell, decimal.Decimal):
        return float(cell)
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return cell if cell is None or isinstance(cell, str | int | float | bool) else str(cell)


def npz(table: pa.Table, provenance: Provenance) -> bytes:
    """Columns as arrays; strings get a fixed width, so that no pickle is needed."""
    columns = {name: table[name].to_numpy() for name in table.column_names}
    arrays = {name: cells.astype(str) if cells.dtype == object else cells for name, cells in columns.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


class TableModality(Modality):
    name = "table"
    door = "tables"
    codec = TableCodec
    things = "rows"
    previewed = 400_000
    formats = {".csv": Format(csv), ".parquet": Format(parquet), ".arrow": Format(arrow), ".jsonl": Format(jsonl),
               ".npz": Format(npz)}  # fmt: skip
    columned = tuple(formats)

    measures = (
        Measure(
            "column_shapes", "Column shapes", "high", "1 - Kolmogorov's distance or total variation, mean of columns."
        ),
        Measure(
            "pair_trends", "Pair trends", "high", "Of two columns: 1 - difference of correlations or contingencies."
        ),
        Measure("ranges_kept", "Ranges kept", "high", "Rows within the ranges and categories of training.", True),
        Measure("rules_kept", "Rules kept", "high", "Rows that keep what every training row keeps.", True),
        Measure("efficacy", "Trained on samples, a column predicted", "high", "R2, AUC of two categories, or accuracy.",
                reference="efficacy_real"),
    )  # fmt: skip

    sets = SETS
    suffixes = SUFFIXES
    readable = True
    columns = "categories and numbers"
    labelled_by_folders = False

    def read(self, entries: Sequence[Entry], found: Found) -> Dataset:
        return read_tables(entries, found)

    def from_array(self, array: NDArray[Any], labels: pa.Table | None, found: Found) -> Dataset | None:
        """(N,) or (N, D): columns x0, x1, ..."""
        if array.ndim > 2:
            return None
        columns = columns_of(array, "x", found.where)
        if labels is not None:
            columns |= {column: labels[column] for column in labels.column_names}
        return dataset_of(pa.table(columns), found)

    def from_columns(self, columns: pa.Table, found: Found) -> Dataset | None:
        return dataset_of(columns, found)

    def owns(self, items: Any) -> bool:
        return isinstance(items, pa.Table)

    def contents(self, items: pa.Table) -> Iterator[bytes]:
        return (row.encode("utf-8", "surrogatepass") for row in row_texts(items))

    def halves(self, first: pa.Table, second: pa.Table) -> pa.Table:
        """Cut between columns."""
        half = first.num_columns // 2
        return pa.Table.from_arrays([*first.columns[:half], *second.columns[half:]], schema=first.schema)

    def raw(self, items: Any, codec: Codec, column: str | None, reading: Choices) -> pa.Table:
        return raw_rows(items, codec)

    def typed(self, codec: Codec, text: str) -> Any:
        return typed(codec, text)

    def cells(self, codec: Codec) -> list[dict[str, Any]]:
        columns = getattr(getattr(codec, "inner", codec), "columns", ())
        return [
            {"name": one.name, "type": str(one.type), "values": list(one.values) if one.categorical else None}
            | ({} if one.categorical else one.ends)
            for one in columns
        ]

    def holds_conditions(self, suffix: str) -> bool:
        return suffix in ROWS

    def conditions(self, given: Any, codec: Codec, n: int) -> Any:
        return raw_conditions(given, codec, n)

    def stored(self, data: Any, folder: Path) -> Path | None:
        """Frames, columns, dicts of columns, and rows as dicts."""
        table = as_rows(data)
        return None if table is None else write_table(table, folder / "table.arrow")

    def known(self, items: pa.Table, known: str | None, *, hole: str | None, reading: Choices) -> tuple[Any, Any]:
        """Columns, by their names."""
        if known is None or hole is not None:
            return super().known(items, known, hole=hole, reading=reading)
        names = [name.strip() for name in known.split(",")]
        lacking = [name for name in names if name not in items.column_names]
        if lacking:
            why = f"columns: {', '.join(items.column_names)}"
            raise UsageError(f"there is no column {lacking[0]}", why=why, fix="give known columns, with commas between")
        return items.select(names), None

    def several(self, draws: Sequence[pa.Table], items: pa.Table, cells: pa.Table | None = None) -> pa.Table:
        """With the given cells as the file has them, and the number of row and draw if there are several."""
        count, out = len(draws), join(draws)
        out = out if cells is None else kept(out, join([items] * count), join([cells] * count))
        return numbered(out, len(items)) if count > 1 else out

    def untaught(self, train: NDArray[Any], n: int) -> None:
        """Columns that are drawn by themselves may be a fair model."""

    @property
    def at_most(self) -> Mapping[str, int]:
        from quintet.modalities.table.figures import MAX_ROWS

        return {"table rows": MAX_ROWS}

    def figures(
        self,
        fake: pa.Table,
        real: Callable[[str], pa.Table],
        split: str,
        codec: Codec,
        *,
        labelled: bool,
        most: int,
        seed: int,
    ) -> Figures:
        """How well they keep columns, pairs of them, ranges and rules; without labels also what can be learnt from them
        of the last of several columns that are modelled.
        """
        from quintet.modalities.table.figures import predicted, table_figures  # what it needs takes long to load

        assert isinstance(codec, TableCodec)
        fake = fake.drop_columns([name for name in codec.ids if name in fake.column_names])
        names = [column.name for column in codec.columns]
        train, unseen = real("train"), real(split)
        if labelled or len(names) < 2:
            return Figures(table_figures(train, unseen, fake), {})
        what = predicted(train.select(names), unseen.select(names), names[-1])
        note = {"unpredicted" if what.why else "predicted": what.words}
        return Figures(table_figures(train, unseen, fake, what.name), note)

    def kind(self, items: pa.Table) -> str:
        real = items.num_columns <= FLAT and all(pa.types.is_floating(kind) for kind in items.schema.types)
        return "points" if real and not self.missing(items) else self.name

    def dims(self, items: pa.Table) -> int:
        return int(items.num_columns)

    def missing(self, items: pa.Table) -> bool:
        return not all(filled(column).all() for column in items.columns)

    def lines(self, items: pa.Table) -> str:
        rows = [items.column_names, *(row.values() for row in items.to_pylist())]
        return "\n".join("  ".join(str(cell) for cell in row) for row in rows)

    def column_facts(self, items: pa.Table, train: NDArray[np.int64] | None = None) -> list[dict[str, Any]]:
        return column_facts(items, train)

    def with_columns(self, items: pa.Table, columns: pa.Table) -> pa.Table:
        return side_by_side(items, columns)

    def takes(self, columns: pa.Table) -> bool:
        """Whatever no other kind of data takes."""
        return True

    def of_columns(self, columns: pa.Table, *, given: bool = False) -> pa.Table:
        return columns

    def labels(self, items: Any) -> bool:
        """One column of strings, booleans, or integers of few values."""
        if not self.owns(items) or items.num_columns != 1:
            return False
        return describe(items.column_names[0], items.column(0), bins=VALUES, own=VALUES).categorical

    def recipe(self, items: Any, given: str | None, coding: Mapping[str, Any]) -> str:
        label = given not in (None, self.name) and self.labels(items)
        return f"label_of_{given}" if label else super().recipe(items, given, coding)

    def fit_pair(self, codec: Codec, items: Any, given: Any, settings: Mapping[str, Any]) -> tuple[Codec, Codec]:
        """Conditions are symbols where all columns are categories, else real numbers, of which none is drawn."""
        codec = codec.fit(items)
        own = {**settings, "rules": "none"}
        condition = TableCodec("discrete", TableCodec.Settings(**{**own, "strict": True})).fit(given)
        if all(column.categorical for column in condition.columns):
            return codec, condition
        return codec, TableCodec("continuous", TableCodec.Settings(**{**own, "shared_by": 1})).fit(given)

    def preview(self, items: pa.Table, captions: list[str]) -> bytes:
        if items.num_columns == 2 and all(drawn_as_number(kind) for kind in items.schema.types):
            points = points_of(items)
            points = points[np.isfinite(points).all(1)]
            return scatter_png(points[some(points, POINTS, 0)])
        return histograms(items)

    def cards(self, items: pa.Table, captions: list[str]) -> list[Card]:
        """The first of these rows, as they are written."""
        rows = written.strings(items.slice(0, ROWS_SHOWN)).to_pylist()
        cells = [[cell if cell is None else cell[:CELL] for cell in row.values()] for row in rows]
        return [Card("application/json", json.dumps({"columns": items.column_names, "rows": cells}).encode())]

    def charts(self, items: pa.Table, real: pa.Table | None = None) -> list[Chart]:
        if real is None:
            return [chart(name, items[name]) for name in items.column_names]
        both = [name for name in real.column_names if name in items.column_names]
        return [chart(name, items[name].cast(real[name].type), real[name]) for name in both]

    def shown(self, items: pa.Table, codec: Codec, reference: pa.Table | None = None) -> dict[str, Any]:
        """Points in the plane over the reference; else some rows. Of columns that samples have."""
        items, reference = drawn_by(codec, items), None if reference is None else drawn_by(codec, reference)
        if items.num_columns == 2 and all(pa.types.is_floating(column.type) for column in items.columns):
            drawn = scatter_png(points_of(items), None if reference is None else points_of(reference))
            return {"kind": "image", "png": base64.b64encode(drawn).decode()}
        rows = [[*map(short, row.values())] for row in take(items, some(items, SHOWN, 0)).to_pylist()]
        return {"kind": "rows", "columns": items.column_names, "rows": rows}

    def pairs(self, samples: Any, near: Any, distances: list[float], codec: Codec) -> dict[str, Any]:
        rows = []
        for pair in zip(samples.to_pylist(), near.select(samples.column_names).to_pylist(), strict=True):
            rows += [[who, *map(short, row.values())] for who, row in zip(("sample", "nearest"), pair, strict=True)]
        return {"kind": "rows", "columns": ["", *samples.column_names], "rows": rows}

    def looks(self, items: pa.Table, codec: Codec) -> dict[str, bytes]:
        files = {".csv": csv(items, {})}
        numbers = items.select([field.name for field in items.schema if drawn_as_number(field.type)])
        if numbers.num_columns == 2:
            points = points_of(numbers)
            points = points[np.isfinite(points).all(1)]
            files |= {".png": scatter_png(points)} if len(points) else {}
        return files


def drawn_by(codec: Codec, rows: pa.Table) -> pa.Table:
    """Rows without the columns that only name them, which samples do not have."""
    assert isinstance(codec, TableCodec)
    return rows.select([name for name in rows.column_names if name not in codec.dropped])


def points_of(table: pa.Table) -> NDArray[np.float64]:
    """(N, columns)."""
    return np.stack([column.to_numpy().astype(np.float64) for column in table.columns], 1)


def short(value: Any) -> Any:
    """A number as short as it can be read."""
    return readable(value) if isinstance(value, float) else value


MODALITY = TableModality()
