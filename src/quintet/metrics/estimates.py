"""A figure with its standard error, and the ways to one: of a mean, a share and ranks, and the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quintet.core.errors import DataError

Array = NDArray[Any]
RESAMPLES = 50
"""Enough for a standard error to a tenth of itself, 1 / sqrt(2 n)."""
FOLDS = 5
REFIT = math.sqrt(1 + FOLDS / (FOLDS - 1))
"""How many times the error of an area is that of its ranks, if a classifier was learnt from the same items by
cross-validation: from other items another one would have been learnt, in other folds (Nadeau & Bengio 2003, the
corrected variance of cross-validation)."""


class Estimate(NamedTuple):
    """A figure and its standard error, in the same unit."""

    value: float
    stderr: float


def mean(values: Array) -> Estimate:
    """Of independent values (N,)."""
    return Estimate(float(np.mean(values)), float(np.std(values) / math.sqrt(len(values))))


def share(hits: Array) -> Estimate:
    """Of True among independent (N,); the error is that of (k + 1) / (N + 2), since none of N is no proof of never."""
    n, p = len(hits), (np.sum(hits) + 1) / (len(hits) + 2)
    return Estimate(float(np.mean(hits)), math.sqrt(p * (1 - p) / n))


def bootstrap(statistic: Callable[..., float], *arrays: Any, n: int = RESAMPLES, seed: int = 0) -> Estimate:
    """statistic(*arrays), and its spread over n draws of the rows of each array with replacement (Efron 1979).

    For figures whose error has no short formula. Rows that belong together go into one array.
    """
    rng = np.random.default_rng(seed)
    again = [statistic(*(part[rng.integers(0, len(part), len(part))] for part in arrays)) for _ in range(n)]
    return Estimate(float(statistic(*arrays)), float(np.std(again, ddof=1)))


def area(high: Array, low: Array) -> Estimate:
    """AUC = P(high > low) + P(high = low) / 2 of scores (N,) and (M,), with the error of DeLong et al. 1988.

    1 / N var_i P(low < high_i) + 1 / M var_j P(high > low_j).
    """
    above, below = placements(high, low)
    return Estimate(float(above.mean()), math.sqrt(above.var(ddof=1) / len(high) + below.var(ddof=1) / len(low)))


def placements(high: Array, low: Array) -> tuple[Array, Array]:
    """P(low < high_i) of each high (N,), and P(high > low_j) of each low (M,), ties half; the mean of either is the
    area. Two areas over the same items are compared by the differences of these (DeLong et al. 1988).
    """
    n, m = len(high), len(low)
    if min(n, m) < 2:
        raise DataError(f"the area under the curve needs at least two scores on each side, got {n} and {m}")
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([high, low]))
    return (ranks[:n] - rankdata(high)) / m, 1 - (ranks[n:] - rankdata(low)) / n


def with_errors(figures: dict[str, Estimate]) -> dict[str, float]:
    """`NAME` and `NAME_stderr` of each, as reports hold them."""
    return {key: value for name, e in figures.items() for key, value in ((name, e.value), (f"{name}_stderr", e.stderr))}
