"""The plan of a run: how many steps, and what became of that while it ran. A pure function of what the run records."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

INTERVALS = 8
"""A run is evaluated this many times, at even distances, unless `sample_every` says otherwise. Such an evaluation while
the model trains is called a look.
"""
EARLY_LOOKS = 3
"""Additional looks at an eighth, a quarter and half of the first interval, since small data are soon memorised."""
LOOKING = 0.1
"""Looks take at most this share of a budget; if sampling is slow, there are fewer looks."""
QUICK, SHARE = 5.0, 0.25
"""In a run without a budget, a look may take QUICK seconds, or SHARE of the training time between two looks."""
LEAST_STEPS = 8
"""A run has at least this many steps, however small its budget is."""


class Leg(NamedTuple):
    """One part of a plan: from step `at` on there are `steps` in all, looks `every` so many, on `threads` threads
    (0: as many as torch takes). One that begins where the one before ends is of a run that was trained further."""

    at: int
    steps: int
    every: int
    threads: int = 0


def leg_at(legs: Sequence[Leg], step: int) -> Leg:
    """The part of the plan that this step belongs to."""
    return next(leg for leg in reversed(legs) if leg.at <= step)


def look_due(legs: Sequence[Leg], step: int) -> bool:
    """Whether this step is one of the looks: every so many steps since the plan last changed that number, and the last
    step of what was trained further.
    """
    leg = leg_at(legs, step)
    start = 0
    for before, after in itertools.pairwise(legs):
        if after.at == step == before.steps:
            return True
        if after.at <= step and after.every != before.every:
            start = after.at
    return step > start and (step - start) % leg.every == 0


def due(legs: Sequence[Leg], step: int) -> bool:
    """Whether this step is one of the looks, or an early one: of the plan as it began, and none once they were found
    too slow for it.
    """
    early = leg_at(legs, step).every == legs[0].every and step in looks(legs[0].steps, legs[0].every)
    return early or look_due(legs, step)


def looks(steps: int, every: int) -> set[int]:
    """The steps of the early looks: those before the first of `INTERVALS` or more, where an eighth of it is 8 steps."""
    return (
        {every >> k for k in range(1, EARLY_LOOKS + 1)} if every >= 64 and every * INTERVALS < steps + every else set()
    )


def position(legs: Sequence[Leg], step: int) -> tuple[float, int]:
    """(place, steps) of a step in the schedule of the learning rate. Where a plan was corrected, the rest of the
    schedule is stretched or shortened to the steps that are left, so that it never jumps and always ends at its end.
    What a run is trained further when it was at its end is a schedule of its own: of a rate at its end nothing is left.
    """
    start, share, leg = 0, 0.0, legs[0]
    for following in legs[1:]:
        if following.at > step:
            break
        if following.at == leg.steps:
            start, share = following.at, 0.0
        else:
            share += (1 - share) * (following.at - leg.at) / (leg.steps - leg.at)
        leg = following
    steps = leg.steps - start
    if leg.at == start:
        return step - start, steps
    return steps * (share + (1 - share) * (step - leg.at) / (leg.steps - leg.at)), steps


def further(legs: Sequence[Leg], at: int, steps: int, every: int | None) -> list[Leg]:
    """The plan of a run that is to have so many `steps` in all, more than it had, from step `at` on; with looks `every`
    so many, by default an eighth of what is new, or as rare as they were.
    """
    last = leg_at(legs, at)
    every = every or max(last.every, -(-(steps - at) // INTERVALS))
    return [leg for leg in legs if leg.at < at] + [Leg(at, steps, every, last.threads)]
