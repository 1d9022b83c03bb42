"""A date or a time as parts: a year of 52 weeks, the week in it, the weekday, and the time of day; or, of dates that
keep to a few days of a month, year, month and day."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from quintet.data import arrow
from quintet.data.arrow import Floats
from quintet.modalities.table.pieces import Ints

WEEKS, DAYS = 52, 7
DAY_SECONDS = 86_400
FEW_DAYS, MANY_MONTHS = 4, 24
"""Dates on so few days of so many months are dates of months."""
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def month_of(days: Ints) -> Ints:
    """Days since 1970 -> months since 1970."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def first_of(months: Ints) -> Ints:
    """The first day, since 1970, of months since 1970."""
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


class Calendar(NamedTuple):
    """Moments base + unit * k ticks after 1970, k = 0 ... top, of which `day` make a day.

    A year has 52 weeks, so that parts and moments are one to one; year 0 begins on the day `start`, a Monday at the
    beginning of January in the middle of the data. It drifts by a day and a quarter against the sun each year, so that
    a week is a season over a lifetime. Hours are those of the time zone UTC where the column has a zone.
    """

    base: int
    unit: int
    day: int
    start: int
    top: int
    months: bool = False

    @classmethod
    def of(cls, kind: pa.DataType, grid: arrow.Grid, units: Floats) -> Self | None:
        """Of training cells in units of their grid; None where the type is no date and time."""
        if pa.types.is_date32(kind):
            day = 1
        elif pa.types.is_date64(kind) or pa.types.is_timestamp(kind):
            day = DAY_SECONDS * PER_SECOND[getattr(kind, "unit", "ms")]
        else:
            return None
        days = (grid.base + grid.unit * np.unique(units).astype(np.int64)) // day
        if (
            len(np.unique(month_of(days))) >= MANY_MONTHS
            and len(np.unique(days - first_of(month_of(days)))) <= FEW_DAYS
        ):
            start = int(np.median(month_of(days))) // 12
            return cls(grid.base, grid.unit, day, start, int(units.max()), True)
        middle = (grid.base + grid.unit * int(np.median(units))) // day
        january = int(
            np.array(middle).astype("datetime64[D]").astype("datetime64[Y]").astype("datetime64[D]").view("i8")
        )
        return cls(grid.base, grid.unit, day, january - (january + 3) % DAYS, int(units.max()))

    @property
    def grids(self) -> dict[str, tuple[arrow.Grid, int | None]]:
        """Of each part, by name, the grid of its numbers, and the last unit on it; the first is 0. None: no end."""
        whole = arrow.Grid(True)
        parts: dict[str, tuple[arrow.Grid, int | None]] = {"year": (whole, None)}
        parts |= {"month": (whole, 11), "day": (whole, 30)} if self.months else {
            "week": (whole, WEEKS - 1), "weekday": (whole, DAYS - 1)}  # fmt: skip
        if self.unit % self.day:
            step = math.gcd(self.unit, self.day)
            parts["time"] = (arrow.Grid(True, self.base % step, step), self.day // step - 1)
        return parts

    def split(self, units: Floats) -> list[Floats]:
        """Cells in units of their grid -> those of each part, in units of its own."""
        ticks = self.base + self.unit * units.astype(np.int64)
        if self.months:
            month = month_of(ticks // self.day)
            parts = [month // 12 - self.start, month % 12, ticks // self.day - first_of(month)]
        else:
            day = ticks // self.day - self.start
            parts = [day // (WEEKS * DAYS), day // DAYS % WEEKS, day % DAYS]
        for grid, _ in list(self.grids.values())[len(parts) :]:
            parts.append((ticks % self.day - grid.base) // grid.unit)
        return [part.astype(np.float64) for part in parts]

    def join(self, parts: list[Floats]) -> Floats:
        """The inverse of `split`. What would lie more than a day beyond the range is moved by years of 52 weeks; what
        still lies beyond is its first or last moment.
        """
        year, week, weekday, *time = (part.astype(np.int64) for part in parts)
        last = self.base + self.unit * self.top
        if self.months:
            low, high = month_of(np.array([self.base // self.day, last // self.day]))
            month = (year + self.start) * 12 + week
            month = month + 12 * np.maximum(-((month - low) // 12), 0) - 12 * np.maximum(-((high - month) // 12), 0)
            days = first_of(month) + np.minimum(weekday, first_of(month + 1) - first_of(month) - 1)
        else:
            days = (year * WEEKS + week) * DAYS + weekday + self.start
        ticks = days * self.day
        grid = self.grids["time"][0] if time else arrow.Grid(True, self.base % self.day)
        ticks = ticks + grid.base + grid.unit * (time[0] if time else 0)
        if self.months:
            return np.round((ticks - self.base) / self.unit).clip(0, self.top)
        around = WEEKS * DAYS * self.day
        ticks = ticks - around * np.maximum(-((last + self.day - ticks) // around), 0)
        ticks = ticks + around * np.maximum(-((ticks - self.base + self.day) // around), 0)
        return np.round((ticks - self.base) / self.unit).clip(0, self.top)
