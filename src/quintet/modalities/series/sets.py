"""Named series; `days` is computed, with known seasons, trend, noise and gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quintet.data.arrow import Floats
from quintet.data.dataset import Dataset, Found, Reading
from quintet.data.published import Source
from quintet.modalities.series.reading import Long, cut
from quintet.modalities.series.windows import Clock, Windows

WEEKS, WINDOW = 104, 48
HOUR = 3_600_000_000.0
MONDAY = float(np.datetime64("2023-01-02", "us").astype(np.int64))
GAPS = ((700, 60), (2500, 5), (6200, 100), (12_100, 30), (16_500, 4))
"""First hour and length of stretches without values."""


def demand(hours: int, rng: np.random.RandomState) -> Floats:
    """(hours, 2): load and temperature.

    temperature = 12 + 6 sin of the year + 4 sin of the day + AR(1) noise. load = 50 + 0.0002 t + 12 sin of the day from
    six in the morning + 5 sin of twice that, times 0.6 on Saturday and Sunday, - 0.8 (temperature - 12), + AR(1) noise.
    """
    t = np.arange(hours)
    day = 2 * np.pi * t / 24
    slow, fast = _autoregressive(hours, 0.97, 0.35, rng), _autoregressive(hours, 0.6, 1.2, rng)
    temperature = 12 - 6 * np.cos(2 * np.pi * t / (24 * 364)) + 4 * np.sin(day - 2 * np.pi * 9 / 24) + slow
    weekend = np.where(t // 24 % 7 >= 5, 0.6, 1.0)
    season = weekend * (12 * np.sin(day - 2 * np.pi * 6 / 24) + 5 * np.sin(2 * day))
    load = 50 + 0.0002 * t + season - 0.8 * (temperature - 12) + fast
    return np.stack([load, temperature], 1)


def _autoregressive(count: int, memory: float, noise: float, rng: np.random.RandomState) -> Floats:
    """y_t = memory y_{t-1} + noise e_t."""
    out, steps = np.zeros(count), noise * rng.randn(count)
    for t in range(1, count):
        out[t] = memory * out[t - 1] + steps[t]
    return out


def days() -> Dataset:
    """Two years of hours in windows of two days, split by time."""
    values = demand(WEEKS * 168, np.random.RandomState(0))
    for first, length in GAPS:
        values[first : first + length] = np.nan
    frame = Windows(np.empty((0, 0, 2)), ("load", "temperature"), Clock("us", MONDAY, HOUR))
    found = Found("days", Reading(own={"window": WINDOW}))
    return replace(cut([Long(0, values)], frame, found), name="days")


ABOUT = """two years of hourly load and temperature, computed: daily and weekly seasons, trend, noise and gaps, in \
windows of 48 hours"""
SETS: dict[str, Source] = {"days": Source(days, "series", 14_148, ABOUT)}
