"""How good probabilities of labels are: pure functions of arrays.

`p` is (N, K), a row the probabilities of K labels, which sum to 1; `y` (N,) is the place of each item's own label.
"""

from __future__ import annotations

import math

import numpy as np

from quintet.core.errors import DataError
from quintet.metrics.estimates import Array, Estimate, mean

BINS = 15
"""Of a calibration error, as in Guo et al. 2017."""
LEAST_PROBABILITY = 1e-300
"""A probability counts as at least this, since a rounding to 0 would be infinitely bad."""


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a share `hits / n` (Wilson 1927), by default of 95 %."""
    if n <= 0:
        raise DataError(f"a share needs at least one item, got {n}")
    centre, half = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, (centre - half) / (n + z * z)), min(1.0, (centre + half) / (n + z * z))


def log_losses(p: Array, y: Array) -> Array:
    """(N,) -log p(y), nats."""
    losses: Array = -np.log(p[np.arange(len(y)), y].clip(LEAST_PROBABILITY))
    return losses


def log_loss(p: Array, y: Array) -> Estimate:
    """Their mean, nats an item."""
    return mean(log_losses(p, y))


def label_values(p: Array, y: Array) -> dict[str, list[float | None]]:
    """Of each item whether its likeliest label is its own, and its log-loss; None of a label that none of the K is."""
    each, known = log_losses(p, np.minimum(y, p.shape[1] - 1)), y < p.shape[1]
    losses = [loss if seen else None for loss, seen in zip(each.tolist(), known.tolist(), strict=True)]
    return {"accuracy": (p.argmax(1) == y).astype(float).tolist(), "log_loss": losses}


def calibration_error(p: Array, y: Array, bins: int = BINS) -> float:
    """Expected calibration error: sum_b n_b / N |accuracy_b - confidence_b| (Naeini et al. 2015; Guo et al. 2017,
    arXiv:1706.04599), over `bins` equal bins of the highest probability. 0: of labels that are given with
    probability q, a share of q is right.
    """
    confidence, right = p.max(1), p.argmax(1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))


def label_figures(p: Array, y: Array) -> dict[str, float | int]:
    """`accuracy` with the ends `_low` and `_high` of its 95 % interval, `log_loss` in nats, `calibration_error`, and
    `majority`: the accuracy of always naming the most frequent label.

    `y` is K for a label that none of the K is: such an item counts as wrong, and in `unseen`; it has no log-loss.
    """
    right = p.argmax(1) == y
    hits, n = int(right.sum()), len(y)
    low, high = wilson(hits, n)
    seen = y < p.shape[1]
    loss = log_loss(p[seen], y[seen]) if seen.any() else None
    return {
        "accuracy": hits / n,
        "accuracy_stderr": math.sqrt(hits * (n - hits) / n) / n,
        "accuracy_low": low,
        "accuracy_high": high,
        **({} if loss is None else {"log_loss": loss.value, "log_loss_stderr": loss.stderr}),
        "calibration_error": calibration_error(p, y),
        "majority": float(np.bincount(y).max() / n),
        "items": n,
        "unseen": int((~seen).sum()),
        "labels": p.shape[1],
    }
