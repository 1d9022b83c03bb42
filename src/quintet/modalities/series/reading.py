"""Tables with a column of times, and arrays, as windows; splits by time, of which none sees another's values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quintet.core.errors import DataError
from quintet.data.archives import Entry
from quintet.data.arrow import Floats
from quintet.data.dataset import Dataset, Found
from quintet.data.splits import TEST, VALIDATION, arrange, assign, keys_of
from quintet.metrics.samples import LEAST_ITEMS
from quintet.modalities.series.options import SeriesReading
from quintet.modalities.series.windows import Clock, Windows
from quintet.modalities.table import reading as tables
from quintet.modalities.table import types
from quintet.modalities.table.options import TableReading

MOST = 20_000
"""Training windows: where more could be cut out, they begin at every second step, every third, ..."""
HOLES = 0.1
"""A window that lacks more than this share of its values is no item."""
SPARSE = 20
"""Steps for each row of a series; where there would be more, its times are not regular."""
TIMES = re.compile(r"(?i)^(time|date|datetime|timestamp|moment|day|week|month|year|hour|ds|t)$")
"""Usual names of columns of times."""


class Long(NamedTuple):
    """One long series: `values` (steps, C), of which the first is at step `start` of the clock."""

    start: int
    values: Floats
    entity: str = ""


def read_series(entries: Sequence[Entry], found: Found) -> Dataset:
    """One table of all entries; a folder of several files without a column of entities holds a series in each."""
    notes, parts, reading = [], [], found.reading
    by_file = reading.group is None and len(entries) > 1
    for entry in entries:
        table, more = tables.whole(entry, found)
        notes += more
        if entry.suffix in tables.CSV:
            table, more = types.typed(table, reading.of(TableReading).wishes, reading.forms, found.where)
            notes += more
        if by_file:
            table = table.append_column("file", pa.array([entry.stem] * len(table), pa.string()))
        parts.append(table)
    if by_file:
        found = replace(found, reading=replace(reading, group="file"))
    return from_table(tables.joined(parts, found.where), found, notes)


def from_table(table: pa.Table, found: Found, notes: Sequence[str] = ()) -> Dataset:
    """Rows in any order, each with a time and, if there are several series, an entity; the other columns of numbers
    are channels.
    """
    reading, where = found.reading, found.where
    table, renamed = tables.named(table)
    table, typed = types.retyped(table, reading.of(TableReading).wishes, where, reading.forms)
    if not len(table):
        raise DataError(
            "the table has no rows",
            where=where,
            why="the file is empty, or holds only a header",
            fix="give a file that has rows below its header",
        )
    time, entity = time_column(table, found), reading.group
    for name in (reading.time, entity):
        if name is not None and name not in table.column_names and not reading.whole:
            raise DataError(f"there is no column {name}", where=where, why=f"columns: {', '.join(table.column_names)}")
    entity = entity if entity in table.column_names else None
    names = [name for name in table.column_names if name not in (time, entity)]
    channels = [name for name in names if _is_number(table[name].type) and table[name].null_count < len(table)]
    if not channels:
        raise DataError(
            "the series has no channels",
            where=where,
            why=f"none of these columns holds numbers, as a channel must: {', '.join(names)}",
        )
    other = [name for name in names if name not in channels]
    said = [*notes, *renamed, *typed]
    said += [f"not numbers, and left out: {', '.join(other)}"] if other else []
    said.append(f"the times are in the column {time}" if time else "no column of times: rows are steps in their order")
    kinds = np.array([""] * len(table) if entity is None else [str(cell) for cell in table[entity].to_pylist()])
    values = np.stack([table[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in channels], 1)
    values = np.where(np.isfinite(values), values, np.nan)
    if time is None:
        clock, steps = Clock(), _counted(kinds)
    else:
        clock, steps = clock_of(table[time], kinds, f"{where}, column {time}")
    longs = [dense(steps[kinds == kind], values[kinds == kind], str(kind), where) for kind in np.unique(kinds)]
    frame = Windows(np.empty((0, 0, len(channels))), tuple(channels), clock, columns=(time or "", entity or ""))
    return cut(longs, frame, found, said)


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _counted(kinds: NDArray[np.str_]) -> NDArray[np.int64]:
    """The place of each row among those of its entity."""
    out = np.empty(len(kinds), np.int64)
    for kind in np.unique(kinds):
        out[kinds == kind] = np.arange((kinds == kind).sum())
    return out


def time_column(table: pa.Table, found: Found) -> str | None:
    """The column of times: the one that the user names, the first of dates, or the first of a usual name."""
    if found.reading.time in table.column_names:
        return found.reading.time
    dates = [name for name in table.column_names if pa.types.is_temporal(table[name].type)]
    named = [name for name in table.column_names if TIMES.match(name)]
    return next(iter([*dates, *named]), None)


def clock_of(cells: pa.ChunkedArray, kinds: NDArray[np.str_], where: str) -> tuple[Clock, NDArray[np.int64]]:
    """The clock on which all these times lie, and the step of each. `kinds`: the entity of each row."""
    at, unit = _moments(cells, where)
    order = np.lexsort((at, kinds))
    gaps = np.diff(at[order])[kinds[order][1:] == kinds[order][:-1]]
    if (gaps == 0).any():
        row = int(order[np.flatnonzero((np.diff(at[order]) == 0) & (kinds[order][1:] == kinds[order][:-1]))[0]])
        raise DataError(
            "two rows have the same time",
            where=where,
            why=f"row {row + 1} is one of them",
            fix="if there are several series, name the column that tells them apart with --data.group COLUMN",
        )
    found, counts = np.unique(gaps, return_counts=True)
    every = found[counts.argmax()] if len(found) else 1
    steps = (at - at.min()) / every
    off = np.abs(steps - np.round(steps)) > 1e-6
    if off.any():
        why = f"most steps are {Clock(unit, 0, float(every))}, but {off.sum():,} of {len(at):,} rows lie in between"
        raise DataError(
            "the times are not evenly spaced", where=where, why=why, fix="resample the rows to evenly spaced times"
        )
    return Clock(unit, float(at.min()), float(every)), np.round(steps).astype(np.int64)


def _moments(cells: pa.ChunkedArray, where: str) -> tuple[NDArray[np.int64] | Floats, str]:
    """Times as numbers, and their unit: whole months where all are of the same day and time of a month."""
    if cells.null_count:
        raise DataError(
            f"{cells.null_count:,} rows have no time",
            where=where,
            fix="fill in the missing times, or remove these rows",
        )
    if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
        return cells.to_numpy(), ""
    try:
        at = np.array([str(cell) for cell in cells.to_pylist()], "datetime64[us]") if pa.types.is_string(cells.type) \
            else cells.cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]")  # fmt: skip
    except (ValueError, pa.ArrowException) as error:
        raise DataError(
            f"the times cannot be read, of which the first is {cells[0].as_py()!r}",
            where=where,
            why=str(error).splitlines()[0],
            fix="write times as 2024-05-01 or 2024-05-01T13:00, or as numbers",
        ) from None
    months = at.astype("datetime64[M]")
    ends = (months + 1).astype("datetime64[D]") - 1
    if ((at == months).all() or (at == ends).all()) and len(np.unique(months)) == len(np.unique(at)) > 1:
        return months.astype(np.int64), "M"
    return at.astype(np.int64), "us"


def dense(steps: NDArray[np.int64], values: Floats, entity: str, where: str) -> Long:
    """Rows at any steps as one series, with NaN between them."""
    first, count = int(steps.min()), int(np.ptp(steps)) + 1
    if count > SPARSE * len(steps) + 1000:
        of = f" of {entity}" if entity else ""
        why = f"{len(steps):,} rows{of} would become {count:,} steps, most of them empty"
        raise DataError(
            "the times are not evenly spaced", where=where, why=why, fix="resample the rows to evenly spaced times"
        )
    out = np.full((count, values.shape[1]), np.nan)
    out[steps - first] = values
    return Long(first, out, entity)


def cut(longs: Sequence[Long], frame: Windows, found: Found, notes: Sequence[str] = ()) -> Dataset:
    """Windows of so many steps as are asked for out of long series, split by time: the last tenth of the steps is the
    test split, the tenth before it validation, and no window reaches over an edge.

    Training windows begin at every step, held-out ones at every eighth of a window. Where a series is so short that
    less than LEAST_ITEMS would be, they begin closer to each other, and are given more steps. A source that is read as
    a whole is cut into windows side by side, of which the last may be short.
    """
    length, whole = int(found.reading.of(SeriesReading).window or 0), found.reading.whole
    first, last = min(one.start for one in longs), max(one.start + len(one.values) for one in longs)
    edges, said = [first, last], [*notes]
    if not whole and found.reading.split != "none":
        several = length + -(-LEAST_ITEMS // len(longs)) - 1
        least = several if last - first - 2 * several >= 2 * length else length
        test, validation = (max(least, round(share * (last - first))) for share in (TEST, VALIDATION))
        edges = [first, last - test - validation, last - test, last]
        if edges[1] - first < length:
            why = f"it has {last - first:,} steps, and each of three splits needs a window of its own"
            raise DataError(f"windows of {length:,} steps are too long for this series", where=found.where, why=why,
                            fix=f"use --data.window {max(2, (last - first) // 8)}, or --data.split none")  # fmt: skip
        said.append(f"split by time: the last {test:,} steps are the test split, the {validation:,} before validation")
    parts, starts, kinds, splits, holes = [], [], [], [], 0
    for split, (low, high) in enumerate(itertools.pairwise(edges)):
        room = sum(max(0, min(high, one.start + len(one.values)) - max(low, one.start) - length + 1) for one in longs)
        held_out = max(1, min(length // 8, (room - 1) // (LEAST_ITEMS - 1)))
        stride = length if whole else held_out if split else max(1, -(-room // MOST))
        for one in longs:
            begin, end = max(low, one.start), min(high, one.start + len(one.values))
            for at in range(begin, end if whole else end - length + 1, stride):
                window = one.values[at - one.start : min(at + length, end) - one.start]
                if np.isnan(window).mean() > HOLES and not whole:
                    holes += 1
                    continue
                parts.append(np.pad(window, ((0, length - len(window)), (0, 0)), constant_values=np.nan))
                starts.append(at)
                kinds.append(one.entity)
                splits.append(split)
    if not parts or len(set(splits)) < len(edges) - 1:
        why = f"{holes:,} windows are left out, since more than a tenth of their values is missing"
        raise DataError(
            "training, validation or test is left without a window",
            where=found.where,
            why=why,
            fix="choose a shorter --data.window",
        )
    if len(edges) > 2 and splits.count(2) < LEAST_ITEMS:
        few = f"the test split has {splits.count(2):,} windows, which are too few to compare models by"
        said.append(f"{few}: a shorter --data.window gives more")
    said += [f"{holes:,} windows lack more than a tenth of their values and are left out"] if holes else []
    entity = np.array(kinds) if len(longs) > 1 else None
    windows = replace(frame, values=np.stack(parts), start=np.array(starts), entity=entity)
    return _dataset(windows, np.array(splits), said, found)


def from_windows(values: Floats, labels: pa.Table | None, found: Found) -> Dataset:
    """(N, T, C) windows that are cut already, split by hash."""
    if values.shape[1] != found.reading.of(SeriesReading).window:
        raise DataError(f"the array has windows of {values.shape[1]:,} steps, unlike --data.window", where=found.where,
                        fix=f"use --data.window {values.shape[1]}")  # fmt: skip
    windows = Windows(np.where(np.isfinite(values), values, np.nan), tuple(f"x{i}" for i in range(values.shape[2])))
    kept = np.flatnonzero(np.isnan(windows.values).mean((1, 2)) <= (1.0 if found.reading.whole else HOLES))
    windows, found = windows[kept], replace(found, labels=labels).at(kept)
    if not len(windows):
        raise DataError("every window lacks more than a tenth of its values", where=found.where,
                        fix="fill in the missing values, or give other windows")  # fmt: skip
    part, how = assign(keys_of(each.tobytes() for each in windows), found, found.labels)
    return _dataset(windows, part, how, found)


def from_array(array: NDArray[np.generic], labels: pa.Table | None, found: Found) -> Dataset:
    """(N, T, C) windows, or (T,) or (T, C) one long series."""
    if array.dtype.kind not in "fiub" or array.ndim > 3:
        raise DataError(
            f"an array of {array.dtype} of shape {array.shape} is not a series",
            where=found.where,
            why="windows are numbers of shape (N, steps, channels), and one series of (steps, channels)",
        )
    values = np.asarray(array, np.float64)
    if values.ndim == 3:
        return from_windows(values, labels, found)
    values = values.reshape(len(values), -1)
    frame = Windows(np.empty((0, 0, values.shape[1])), tuple(f"x{i}" for i in range(values.shape[1])))
    return cut([Long(0, np.where(np.isfinite(values), values, np.nan))], frame, found)


def _dataset(windows: Windows, part: NDArray[np.int64], notes: Sequence[str], found: Found) -> Dataset:
    order, splits, few = arrange(part)
    labels = found.labels
    if windows.entity is not None:
        labels = pa.table({windows.columns[1] or "entity": pa.array(windows.entity.tolist())})
    labels = None if labels is None else labels.take(pa.array(order))
    return Dataset("", "series", windows[order], splits, labels, notes=(*notes, *few))
