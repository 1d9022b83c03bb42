"""How many items there is time for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

LEAST_MEASURED = 20
"""Samples, or items, by which a model is judged at least: figures of fewer mean nothing."""
ROUGH = 100
"""Figures of fewer than so many show only large differences, which is then said."""


class Affordable(NamedTuple):
    """How many items there is time for, and about how many seconds they take."""

    items: int
    seconds: float


def affordable(work: Callable[[int], object], most: int, limit: float) -> Affordable:
    """How many items, FEWEST to `most`, `work` does in `limit` seconds. It is tried on one, and on ever more of them
    until it takes an eighth of the limit: a few at a time take much longer each than many do.
    """
    rows = 1
    while True:
        began = time.perf_counter()
        work(rows)
        each = max(time.perf_counter() - began, 1e-9) / rows
        if each * most <= limit:
            return Affordable(most, each * most)
        if each * rows >= limit / 8 or 4 * rows > most:
            count = min(most, max(LEAST_MEASURED, int(limit / each)))
            return Affordable(count, each * count)
        rows *= 4


def fewer(count: int, most: int, what: str, limit: float) -> str:
    """The note that only `count` of `most` were measured."""
    rough = ": so few show only large differences" if count < ROUGH else ""
    return f"{count:,} of {most:,} {what}, as that may take {limit:.3g} s{rough}"
