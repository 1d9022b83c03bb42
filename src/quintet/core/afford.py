"""How many items can be processed in a given time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

LEAST_MEASURED = 20
"""A model is judged by at least this many samples or items, since figures of fewer mean nothing."""
ROUGH = 100
"""Figures of fewer samples than this show large differences only, and are reported with a note that says so."""


class Affordable(NamedTuple):
    """How many items there is time for, and about how many seconds they take."""

    items: int
    seconds: float


def affordable(work: Callable[[int], object], most: int, limit: float) -> Affordable:
    """How many items, from LEAST_MEASURED to `most`, `work` can process in `limit` seconds. It is timed with one item,
    then with more and more until it takes an eighth of the limit, since many at once take less time each than a few.
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
    rough = "; so few show only large differences" if count < ROUGH else ""
    return f"{count:,} of {most:,} {what}, since more would have taken longer than {limit:.3g} s{rough}"
