"""Whether samples repeat training items, and whether a model gives away what it was trained on: functions of arrays."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.distance import cdist

from quintet.core.random import some
from quintet.metrics.estimates import Array, Estimate, area, share

CLOSE = 0.1
"""A near duplicate is nearer to a training item than this part of the usual distance of unseen items to theirs."""


def memorised_share(
    train: Array, heldout: Array, fake: Array, *, quantile: float = 0.01, neighbours: int = 50
) -> dict[str, float | bool]:
    """How many samples lie closer to a training item than unseen real items do.

    r(x) = distance to the nearest training item / mean distance to the `neighbours` nearest (Carlini et al. 2023,
    arXiv:2301.13188). The ratio, not the distance: a blurred sample is near to everything, yet copies nothing.
    The threshold is the `quantile` of r over the held-out items, so a model that has learnt the distribution and copied
    nothing shows about `expected` (1%). train (N, d), heldout (H, d), fake (M, d).

    Splits by content keep equal items together, so that a held-out item never equals one of training, as a new item of
    coarse data would: what is missing of such items is counted as if it were held out, with r = 0.

    Returns `share`, its `stderr` (of the samples, and of the threshold as a quantile of H), `expected`, `p_value`,
    `flagged`, and `duplicates` with `duplicates_stderr`: the share of samples whose nearest training item is nearer
    than CLOSE times the median of the same distance of held-out items. If held-out items and samples are exchangeable,
    the number below the j-th smallest of H is beta-binomial(M, j, H - j + 1), exactly; flagged when p < 0.001.
    """
    from scipy.stats import betabinom
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(neighbours, len(train))).fit(train)
    near_held, near_made = (search.kneighbors(x)[0].round(6) for x in (heldout, fake))
    held, made = _ratio(near_held), _ratio(near_made)
    held = np.concatenate([np.zeros(_missing_twins(train, held, neighbours)), held])
    rank = max(1, round(quantile * len(held)))
    threshold = np.sort(held)[rank - 1]
    if threshold == 0:  # all that equal a training item are one kind, be they more than the quantile
        rank = int((held == 0).sum())
    # Discrete data have ties at the threshold: of tied samples count the part that was needed of tied held-out items.
    below, tied = (held < threshold).sum(), (held == threshold).sum()
    count = (made < threshold).sum() + (made == threshold).sum() * (rank - below) / tied
    part, n, expected = float(count / len(made)), len(made), rank / (len(held) + 1)
    likely = (count + 1) / (n + 2)  # none of n is no proof of never
    duplicates = share(near_made[:, 0] < CLOSE * np.median(near_held[:, 0]))
    p_value = float(betabinom.sf(math.floor(count) - 1, len(made), rank, len(held) - rank + 1))
    return {
        "share": part,
        "stderr": math.sqrt(likely * (1 - likely) / n + expected * (1 - expected) / (len(held) + 2)),
        "expected": expected,
        "p_value": p_value,
        "flagged": p_value < 1e-3,
        "duplicates": duplicates.value,
        "duplicates_stderr": duplicates.stderr,
    }


def _missing_twins(train: Array, held: Array, neighbours: int) -> int:
    """How many items with r = 0 the held-out ones lack until these have the share t of training items that equal
    another, though at most `neighbours`: z of H have it already, and (z + n) / (H + n) = t.
    """
    _, counts = np.unique(train.round(6), axis=0, return_counts=True)
    twins = float(counts[(counts > 1) & (counts <= neighbours)].sum()) / len(train)
    missing = twins * len(held) - float((held == 0).sum())
    return max(0, round(missing / max(1 - twins, 0.01)))


def _ratio(distances: Array) -> Array:
    """(N, k) rising -> (N,): the first over the mean; 1 where a value is that common."""
    mean = distances.mean(1)
    return np.where(mean > 0, distances[:, 0] / np.where(mean > 0, mean, 1.0), 1.0)


def nearer_to_training(train: Array, heldout: Array, fake: Array) -> Estimate:
    """Share of samples (M, d) whose nearest item is one of training (N, d), not of as many held-out items (N, d).

    0.5 if nothing was memorised; equal distances count half. Error: that of dealing the 2 N items to the two sides at
    random, which knows that few items may be the nearest of many samples: with w_p the share of samples nearest to p,
    (sum_p w_p^2 - 1 / 2N) N / (2 (2N - 1)).
    """
    n = min(len(train), len(heldout))
    sides = [side[some(side, n, 0)] for side in (train, heldout)]
    distances = cdist(fake, np.concatenate(sides)).round(6)
    nearest = distances == distances.min(1, keepdims=True)
    weights = (nearest / nearest.sum(1, keepdims=True)).mean(0)
    variance = ((weights**2).sum() - 1 / (2 * n)) * n / (2 * (2 * n - 1))
    return Estimate(float(weights[:n].sum()), math.sqrt(max(variance, 0.0)))


def membership_by_samples(train: Array, heldout: Array, fake: Array) -> Estimate:
    """AUC of the attack that takes an item for one of training if a sample is near it (Chen et al. 2020,
    arXiv:1909.03935): train (N, d) against heldout (H, d), samples (M, d). 0.5: nothing is given away.
    """
    return area(*(-cdist(side, fake).min(1).round(6) for side in (train, heldout)))


def membership_by_likelihood(train: Array, heldout: Array) -> Estimate:
    """AUC of the attack that takes an item for one of training if it is likely (Yeom et al. 2018, arXiv:1709.01604).

    log p of training items (N,) and of held-out items (H,). 0.5: nothing is given away; 1: the model knows what it saw.
    """
    return area(train, heldout)
