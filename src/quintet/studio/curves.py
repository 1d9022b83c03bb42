"""The curves of a run while it is written: read on from where reading ended, told from any cursor on without losing a
point, and thinned out for the eye without losing a spike.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import threading
import zlib
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from quintet.studio.library import number, record_of

Numbers = NDArray[np.float64]
Points = dict[str, list[list[float | None]]]
"""Steps and values of each series by its name; a value that is no finite number is None."""

NO_SERIES = {"step", "steps", "seconds", "family", "seed", "samples", "copying"}
"""Fields of a record that no curve shows."""
MOST_SERIES = 64
MOST_ROWS = 20_000
"""Records that are told at once."""
PIECE = 2**20
"""Bytes that are read at once: what is made of them is small enough to be forgotten soon."""
MEMORY = 256
"""Bytes before the place up to which a file was read, by which it is known again."""
OPEN = 24
"""Runs whose curves are kept."""


class Cursor(NamedTuple):
    """How far a reader has come: which file, up to which byte, and the CRC-32 of the bytes before. The number of a file
    alone does not do: a file that takes the place of another may get the number of an older one.
    """

    inode: int = 0
    offset: int = 0
    check: int = 0

    def __str__(self) -> str:
        return f"{self.inode}-{self.offset}-{self.check}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor that a reader sends back; the beginning for what is none."""
        parts = text.split("-")
        plain = len(parts) == 3 and all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts)
        return cls(*map(int, parts)) if plain else cls()


class News(NamedTuple):
    """What a reader has not had: `anew` if what it had is of a file that is there no more, and is to be forgotten."""

    anew: bool
    cursor: Cursor
    points: Points


class Series:
    """One figure: in which rows of the file it stands, and its values."""

    def __init__(self) -> None:
        self.rows, self.values = array("q"), array("d")


class Curve:
    """What one metrics.jsonl says. A last line without its end is read once it has one."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        self.clear(0)

    def clear(self, inode: int) -> None:
        """Begin with a file."""
        self.inode, self.offset, self.before, self.stood = inode, 0, b"", (0, 0, 0)
        self.ends, self.at, self.seconds = array("q"), array("d"), array("d")  # of each line
        self.series: dict[str, Series] = {}
        self.looks: list[dict[str, Any]] = []
        self.step: float | None = None  # of the newest record, and how many it says there are
        self.steps: float | None = None

    # -- reading ---------------------------------------------------------------------------------------------------

    def refresh(self) -> Self:
        """Read what is new."""
        with self.lock:
            self.read()
        return self

    def read(self) -> None:
        """Read on, or from the beginning if this is another file, or one that was written anew."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                stands = found.st_ino, found.st_size, found.st_mtime_ns
                if stands == self.stood:
                    return
                if found.st_ino != self.inode or not self.goes_on(file):
                    self.clear(found.st_ino)
                self.stood = stands
                file.seek(self.offset)
                rest = b""
                while piece := file.read(PIECE):
                    whole, end, rest = (rest + piece).rpartition(b"\n")
                    if end:
                        self.take(whole + end)
        except OSError:  # it is not there yet, or no more
            self.clear(0)

    def goes_on(self, file: BinaryIO) -> bool:
        """Whether the file begins with what was read."""
        return before(file, self.offset) == self.before

    def take(self, content: bytes) -> None:
        """Whole lines: column by column of all records that have the same fields, since there may be very many."""
        ends = 1 + np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n"))
        begin, found = len(self.ends), records_of(content, len(ends))
        extend(self.ends, self.offset + ends)
        self.offset += len(content)
        self.before = (self.before + content)[-MEMORY:]
        at, seconds = np.full((2, len(found)), np.nan)
        shapes: dict[tuple[str, ...], list[int]] = {}
        for row, record in enumerate(found):
            if record is not None:
                shapes.setdefault(tuple(record), []).append(row)
        parts: dict[str, list[tuple[NDArray[np.int64], Numbers]]] = {}
        for shape, members in shapes.items():
            if "step" not in shape or "steps" not in shape:
                continue
            chosen = [record for row in members if (record := found[row]) is not None]
            columns = {key: column([record[key] for record in chosen]) for key in shape}
            known = np.isfinite(columns["step"][0]) & np.isfinite(columns["steps"][0])
            rows = np.array(members)
            at[rows[known]] = columns["step"][0][known]
            if "seconds" in columns:
                seconds[rows[known]] = columns["seconds"][0][known]
            for key, (values, usable) in columns.items():
                if key not in NO_SERIES and (kept := known & usable).any():
                    parts.setdefault(key, []).append((begin + rows[kept], values[kept]))
        extend(self.at, at)
        extend(self.seconds, seconds)
        self.add(parts)
        self.note([found[row] for row in np.flatnonzero(np.isfinite(at))])

    def add(self, parts: Mapping[str, list[tuple[NDArray[np.int64], Numbers]]]) -> None:
        """What is new of each series, in the order of its rows."""
        for name, several in parts.items():
            if name not in self.series and len(self.series) == MOST_SERIES:
                continue
            series = self.series.setdefault(name, Series())
            rows, values = (np.concatenate(each) for each in zip(*several, strict=True))
            order = np.argsort(rows)
            extend(series.rows, rows[order])
            extend(series.values, values[order])

    def note(self, records: list[dict[str, Any] | None]) -> None:
        """The looks among new records, and how far the last one is."""
        for record in records:
            if record is not None and "quality" in record:
                self.looks.append({key: value if isinstance(value, bool | int) else number(value)
                                   for key, value in record.items()})  # fmt: skip
        if records and (last := records[-1]) is not None:
            self.step, self.steps = number(last["step"]), number(last["steps"])

    @property
    def written(self) -> float:
        """When the file was written last, in seconds since 1970."""
        return self.stood[2] / 1e9

    @property
    def spent(self) -> float:
        """Seconds of training up to the newest record; 0 where that says none."""
        with self.lock:
            return self.seconds[-1] if self.seconds and math.isfinite(self.seconds[-1]) else 0.0

    def last(self, name: str, upto: float) -> list[float]:
        """The last value of a series up to a step, if it has one."""
        with self.lock:
            series = self.series.get(name) or Series()
            found = (value for row, value in zip(reversed(series.rows), reversed(series.values), strict=True)
                     if self.at[row] <= upto and math.isfinite(value))  # fmt: skip
            return list(itertools.islice(found, 1))

    # -- telling ---------------------------------------------------------------------------------------------------

    @property
    def cursor(self) -> Cursor:
        """That of a reader who has had all."""
        return Cursor(self.inode, self.offset, zlib.crc32(self.before))

    def cursor_at(self, offset: int) -> Cursor:
        """That of a reader who has come to a place in the file."""
        if offset == self.offset:
            return self.cursor
        try:
            with self.path.open("rb") as file:
                return Cursor(os.fstat(file.fileno()).st_ino, offset, zlib.crc32(before(file, offset)))
        except OSError:
            return Cursor()

    def row_of(self, cursor: Cursor) -> int | None:
        """The row behind a cursor; None if it is none of this file."""
        if not cursor.offset:
            return 0
        row = bisect_left(self.ends, cursor.offset)
        known = row < len(self.ends) and self.ends[row] == cursor.offset and cursor == self.cursor_at(cursor.offset)
        return row + 1 if known else None

    def since(self, cursor: Cursor, most: int = MOST_ROWS) -> News:
        """What stands behind a cursor, up to so many lines of it."""
        with self.lock:
            begin = self.row_of(cursor)
            first = begin or 0
            end = min(len(self.ends), first + most)
            here = self.cursor_at(self.ends[end - 1]) if end else Cursor(self.inode)
            points: Points = {}
            for name, series in self.series.items():
                low, high = bisect_left(series.rows, first), bisect_left(series.rows, end)
                if low < high:
                    points[name] = pairs([self.at[row] for row in series.rows[low:high]], series.values[low:high])
            return News(begin is None, here, points)

    def thinned(self, most: int, low: float = -math.inf, high: float = math.inf) -> Points:
        """Every series from step to step, of about `most` points at most: where it has more, the least and the greatest
        value of each part of it.
        """
        with self.lock:
            at = np.array(self.at)
            copies = {name: (np.array(one.rows), np.array(one.values)) for name, one in self.series.items()}
        out: Points = {}
        for name, (rows, values) in copies.items():
            steps = at[rows]
            inside = np.flatnonzero((steps >= low) & (steps <= high))
            if len(inside):  # a point on each side, so that lines leave the picture where they do
                inside = np.arange(max(0, inside[0] - 1), min(len(steps), inside[-1] + 2))
            kept, found = extremes(steps[inside], values[inside], most)
            out[name] = pairs(kept, [float(f"{value:.6g}") for value in found])
        return out


def before(file: BinaryIO, offset: int) -> bytes:
    """The bytes before a place in a file."""
    file.seek(max(0, offset - MEMORY))
    return file.read(min(offset, MEMORY))


def extend(numbers: array[Any], more: NDArray[Any]) -> None:
    """Put numbers at the end of an array."""
    numbers.frombytes(more.astype(numbers.typecode).tobytes())


def column(values: list[Any]) -> tuple[Numbers, NDArray[np.bool_]]:
    """Values as numbers, NaN for those that are none, and which of them are numbers or None."""
    if set(map(type, values)) <= {int, float, NoneType}:
        with contextlib.suppress(OverflowError):
            return np.array(values, np.float64), np.ones(len(values), bool)
    known = [value is None or type(value) in (int, float) for value in values]
    found = [number(value) for value in values]
    return np.array([math.nan if value is None else value for value in found]), np.array(known)


def records_of(content: bytes, count: int) -> list[dict[str, Any] | None]:
    """The object of each of so many lines: all at once where they are whole, which is several times as fast as one by
    one.
    """
    try:
        found = json.loads(b"[" + content[:-1].replace(b"\n", b",") + b"]")
    except (ValueError, RecursionError):
        found = []
    if len(found) != count:
        return [record_of(line) for line in content.split(b"\n")[:-1]]
    return [record if isinstance(record, dict) else None for record in found]


def pairs(steps: Any, values: Any) -> list[list[float | None]]:
    """Steps and values as JSON has them."""
    return [[int(step) for step in steps], [value if math.isfinite(value) else None for value in map(float, values)]]


def extremes(steps: Numbers, values: Numbers, most: int) -> tuple[Numbers, Numbers]:
    """The points of a series (N,), or of more than `most` the least and the greatest of each of most / 2 parts, and the
    last; a part without any number keeps its first point, which is a gap.
    """
    if len(values) <= most:
        return steps, values
    parts = max(1, most // 2)
    size = -(-len(values) // parts)
    padded = np.full(size * parts, np.nan)
    padded[: len(values)] = values
    table = padded.reshape(parts, size)
    first = size * np.arange(parts)
    least = first + np.argmin(np.where(np.isfinite(table), table, np.inf), 1)
    greatest = first + np.argmax(np.where(np.isfinite(table), table, -np.inf), 1)
    kept = np.unique(np.concatenate([[0, len(values) - 1], least, greatest]))
    kept = kept[kept < len(values)]
    return steps[kept], values[kept]


class Curves:
    """The curves of the runs that were asked for last."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Path, Curve] = OrderedDict()
        self.lock = threading.Lock()

    def of(self, run: Path) -> Curve:
        """The curve of a run as it is now."""
        with self.lock:
            path = run / "metrics.jsonl"
            curve = self.kept.setdefault(path, Curve(path))
            self.kept.move_to_end(path)
            if len(self.kept) > OPEN:
                self.kept.popitem(last=False)
        return curve.refresh()
