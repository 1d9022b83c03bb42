"""Whether one contender is better than another: the one test by which the verdict names winners and the report ranks.

Contenders are measured on the same real items, which are hard or easy for all of them alike. So what is tested is the
difference item by item, on the items that all runs of both were measured on; its error is far below that of the two
figures taken for themselves. The items and the luck of training are two sources of error, added in quadrature.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from quintet.comparison.contenders import Contender, Entry, Figure, names
from quintet.metrics.estimates import REFIT, Array
from quintet.metrics.measures import Measure

FEWEST_SHARED = 10
"""Items that two contenders must share to be compared on these, if they were measured on others too."""
LEAST_SHARE = 0.75
"""A classifier that learns from fewer items than this part of another's is weaker, so that its AUC is nearer to 0.5."""


class Difference(NamedTuple):
    """By how much one contender is nearer to the best value than another, and half its 95% interval.

    `items`: on how many real items both were measured, or None where the figures were compared as independent ones.
    `variance`: of the gap, as far as it comes from the choice of items, however many seeds there are.
    """

    gap: float
    half: float
    items: int | None
    variance: float


def distance(better: str, value: float) -> float:
    """From the best value there could be, as far as `better` says it: "low", "high" or "half" (nearest to 0.5)."""
    return {"low": value, "high": -value, "half": abs(value - 0.5)}[better]


def difference(measure: Measure, a: Contender, b: Contender) -> Difference:
    """How much nearer to the best value a is than b; both have the figure.

    Without an error of either figure the interval is infinite, as no difference can be called clear: but for what a
    clock measures, and counts, which have a tolerance. An AUC from clearly fewer items than the other's is never
    counted as nearer to 0.5, whatever it is.
    """
    found = _paired(measure, a, b) or _unpaired(measure, a, b)
    if from_fewer(measure, a, b):
        found = found._replace(gap=min(found.gap, 0.0))
    if from_fewer(measure, b, a):
        found = found._replace(gap=max(found.gap, 0.0))
    if measure.tolerance is not None:
        one, other = _figures(measure, a, b)
        least = measure.tolerance * min(abs(one.mean), abs(other.mean))
        found = found._replace(half=max(found.half if math.isfinite(found.half) else 0.0, least))
    return found


def _figures(measure: Measure, a: Contender, b: Contender) -> tuple[Figure, Figure]:
    one, other = a.figure(measure), b.figure(measure)
    assert one is not None
    assert other is not None
    return one, other


def from_fewer(measure: Measure, a: Contender, b: Contender) -> bool:
    """Whether the AUC of a comes from so few items beside that of b that it cannot be called nearer to 0.5."""
    return measure.better == "half" and bool(a.items and b.items and a.items < LEAST_SHARE * b.items)


def _unpaired(measure: Measure, a: Contender, b: Contender) -> Difference:
    """Of two independent figures: of figures against the same items that is more than the error, never less."""
    one, other = _figures(measure, a, b)
    half = math.hypot(one.half, other.half) or math.inf
    variance = sum(float(np.mean([stderr**2 for _, stderr in c.values(measure)])) for c in (a, b))
    return Difference(distance(measure.better, other.mean) - distance(measure.better, one.mean), half, None, variance)


class PerItem(NamedTuple):
    """A figure of one run as a mean over real items: the value of each, and their places in the data. Of windows of a
    long text there may be more than places.

    `others` are values of further items that the figure is a mean over just as well, as an area under a curve is one
    over both sides that it orders: anomalies, which are made of the real items, or (`own`) the run's samples.
    """

    real: Array
    places: list[int]
    others: list[Array]
    own: bool


def per_item(run: Entry, key: str) -> PerItem | None:
    """Out of `item_figures` (likelihoods, hits) with their places `scored`, `sample_figures` with `real_items`, or
    `completion_figures` with `completed`, without the items that have no value (None).
    """
    for part, where in (
        ("item_figures", "scored"),
        ("sample_figures", "real_items"),
        ("completion_figures", "completed"),
    ):
        values = (run.get(part) or {}).get(key)
        if values:
            first, *rest = values if isinstance(values[0], list) else [values]
            places, known = list(run.get(where) or ()), [value is not None for value in first]
            if len(places) == len(first):
                places = list(itertools.compress(places, known))
            real, *others = (np.array(side, float) for side in (list(itertools.compress(first, known)), *rest))
            sound = all(len(side) > 1 and np.isfinite(side).all() for side in (real, *others))
            return PerItem(real, places, others, part == "sample_figures") if sound else None
    return None


def shared_items(runs: Sequence[PerItem | None]) -> Array | None:
    """(runs, items): the values of the real items that all runs were measured on, or None if these are too few."""
    sides = [side for side in runs if side is not None]
    places = [side.places for side in sides]
    if not sides or len(sides) < len(runs):
        return None
    if all(each == places[0] for each in places):
        return np.array([side.real for side in sides]) if len({len(side.real) for side in sides}) == 1 else None
    if any(len(side.places) != len(side.real) for side in sides):
        return None
    both = sorted(set(places[0]).intersection(*places[1:]))
    if len(both) < FEWEST_SHARED:
        return None
    lookup = [dict(zip(each, side.real.tolist(), strict=True)) for each, side in zip(places, sides, strict=True)]
    return np.array([[values[place] for place in both] for values in lookup])


def _paired(measure: Measure, a: Contender, b: Contender) -> Difference | None:
    """Item by item; None where a run has no values of its items, or too few items are shared.

    The variance of the gap is that of an item's difference, of the means over the seeds. Samples are each run's own and
    add theirs, as do the seeds, with Student's t. With other items a classifier would have been another as well, which
    `REFIT` allows for.
    """
    found = [per_item(run, measure.key) for run in (*a.done, *b.done)]
    rows = shared_items(found)
    if rows is None:
        return None
    sides, n = [side for side in found if side is not None], rows.shape[1]
    groups, own = (sides[: len(a.done)], sides[len(a.done) :]), sides[0].own
    left, right = (_from_best(measure.better, part) for part in (rows[: len(a.done)], rows[len(a.done) :]))
    times = REFIT**2 if measure.better == "half" else 1.0
    variance = times * _variance(left.mean(0) - right.mean(0))
    alike = not own and all(len(side.real) == n for side in sides)
    if alike:
        for one, other in zip(*([np.mean(each, 0) for each in _others(group)] for group in groups), strict=True):
            variance += _variance(one - other)
    square = float(stdtrit(n - 1, 0.975)) ** 2 * variance
    for group, values in zip(groups, (left, right), strict=True):
        seeds = len(values)
        if seeds > 1:
            square += float(stdtrit(seeds - 1, 0.975)) ** 2 * _variance(values.mean(1))
        if not alike:
            each = np.mean([sum(map(_variance, side.others)) for side in group])
            square += 4 * times * float(each) / (seeds if own else 1)
    return Difference(float(right.mean() - left.mean()), math.sqrt(square), n, variance)


def _from_best(better: str, values: Array) -> Array:
    """Values whose mean is the distance of the figure from the best one."""
    if better == "half":
        return (values - 0.5) * (1 if values.mean() >= 0.5 else -1)
    return -values if better == "high" else values


def _others(group: Sequence[PerItem]) -> list[list[Array]]:
    return [list(each) for each in zip(*(side.others for side in group), strict=True)]


def _variance(values: Array) -> float:
    """Of the mean of independent values."""
    return float(values.var(ddof=1)) / len(values)


def beats(measure: Measure, a: Contender, b: Contender) -> bool:
    """Whether a is nearer to the best value than b by more than the error of the difference."""
    found = difference(measure, a, b)
    return found.gap > found.half


def tie(measure: Measure, a: Contender, b: Contender) -> bool:
    """Whether neither is better, whichever way is better: the 95% interval of the difference holds zero."""
    found = difference(measure, a, b)
    return not abs(found.gap) > found.half


def having(measure: Measure, crowd: Sequence[Contender]) -> list[Contender]:
    """Those that have the figure."""
    return [c for c in crowd if c.figure(measure) is not None]


def foremost(measure: Measure, pool: Sequence[Contender]) -> Contender:
    """Who is ahead of most of the others, each pair on the items that both were measured on; of equals, by the most.

    Where all were measured on the same items this is the best figure. Every one of `pool` has the figure. Whose AUC
    comes from fewer items than another's is passed over.
    """
    pool = [c for c in pool if not any(from_fewer(measure, c, other) for other in pool)]

    def ahead(one: Contender) -> tuple[int, float]:
        gaps = [difference(measure, one, other).gap for other in pool if other is not one]
        return sum(gap > 0 for gap in gaps), sum(gaps)

    return max(pool, key=ahead)


def ties(measure: Measure, best: Contender, pool: Sequence[Contender]) -> list[Contender]:
    """Those of `pool` that are not clearly worse than the best."""
    return [c for c in pool if c is not best and not beats(measure, best, c)]


def ranks_with_ties(measure: Measure, crowd: Sequence[Contender]) -> list[int | None]:
    """Ranks with ties: 1 + the number of those that beat it, None where there is no figure. Whoever ties with the best
    is first as well. With `better` "" nobody is.
    """
    pool = having(measure, crowd) if measure.better else []
    places = {c.label: 1 + sum(beats(measure, other, c) for other in pool if other is not c) for c in pool}
    return [places.get(c.label) for c in crowd]


def seeds_told(measure: Measure, pool: Sequence[Contender], best: Contender) -> str:
    """What the number of training runs lets one say about the first and the next, and how many would decide."""
    rivals = [c for c in pool if c is not best]
    if not rivals:
        return ""
    single = [c.label for c in pool if len(c.values(measure)) == 1]
    if single:
        who = "One training run each" if len(single) == len(pool) else f"One training run only of {names(single)}"
        return f" {who}: another seed may change the order. It takes --seeds 3 to tell how many would decide."
    rival = min(rivals, key=lambda c: abs(difference(measure, best, c).gap))
    found = difference(measure, best, rival)
    if not tie(measure, best, rival):
        return ""
    most = _needed(measure, best, rival, found)
    if most is None:
        return f" More training runs would not decide between it and {rival.label}: more items would."
    seeds = min(len(c.values(measure)) for c in (best, rival))
    return f" About {max(most, seeds + 1)} seeds each would decide between it and {rival.label} (--seeds)."


def _needed(measure: Measure, a: Contender, b: Contender, found: Difference) -> int | None:
    """How many seeds each would show this gap, if it is real: the smallest n whose Student's t times the spread of the
    runs, with the error of the measurement, is below it; None where the measurement alone is above it.
    """
    spread = sum(float(np.var([value for value, _ in c.values(measure)], ddof=1)) for c in (a, b))
    for n in (*range(2, 21), 30, 50, 100):
        luck = float(stdtrit(n - 1, 0.975)) * math.sqrt(spread / n)
        if math.hypot(2 * math.sqrt(found.variance), luck) < abs(found.gap):
            return n
    return None
