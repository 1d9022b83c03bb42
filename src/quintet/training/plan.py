"""The plan of a run: how many steps, and what became of that while it ran. A pure function of what the run records."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Leg(NamedTuple):
    """One part of a plan: from step `at` on there are `steps` in all, looks `every` so many, on `threads` threads
    (0: as many as torch takes)."""

    at: int
    steps: int
    every: int
    threads: int = 0


def leg_at(legs: Sequence[Leg], step: int) -> Leg:
    """The part of the plan that this step belongs to."""
    return next(leg for leg in reversed(legs) if leg.at <= step)


def look_due(legs: Sequence[Leg], step: int) -> bool:
    """Whether this step is one of the looks: every so many steps since the plan last changed that number."""
    leg = leg_at(legs, step)
    start = 0
    for before, after in itertools.pairwise(legs):
        if after.at <= step and after.every != before.every:
            start = after.at
    return step > start and (step - start) % leg.every == 0


def position(legs: Sequence[Leg], step: int) -> tuple[float, int]:
    """(place, steps) of a step in the schedule of the learning rate. Where a plan was corrected, the rest of the
    schedule is stretched or shortened to the steps that are left, so that it never jumps and always ends at its end.
    """
    share, leg = 0.0, legs[0]
    for following in legs[1:]:
        if following.at > step:
            break
        share += (1 - share) * (following.at - leg.at) / (leg.steps - leg.at)
        leg = following
    if leg.at == 0:
        return step, leg.steps
    return leg.steps * (share + (1 - share) * (step - leg.at) / (leg.steps - leg.at)), leg.steps
