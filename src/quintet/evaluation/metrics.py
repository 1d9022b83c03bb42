"""How far samples are from real data: pure functions of arrays, each checked against a closed form or a direct sum.

Arrays are (N, d) float64, usually `Features`; a figure that has a standard error comes as an `Estimate`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import betabinom
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quintet.core.errors import DataError
from quintet.evaluation.features import Features

Array = NDArray[Any]
MAX_ITEMS = 2000
MAX_COLUMNS = 512


class Estimate(NamedTuple):
    """A figure and its standard error, in the same unit."""

    value: float
    stderr: float


def frechet_distance(a: Array, b: Array) -> float:
    """Fréchet (2-Wasserstein, squared) distance between Gaussians fitted to a (N, d) and b (M, d).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)   (Heusel et al. 2017, arXiv:1706.08500)

    In squared feature units; biased upwards at small N, so compare at equal N only.
    """
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # tr (A^1/2 B A^1/2)^1/2 is the sum of the singular values of A^1/2 B^1/2: no square root of a rounding error.
    cross = np.linalg.svd(_root(cov_a) @ _root(cov_b), compute_uv=False).sum()
    return float(max(mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross, 0.0))


def _root(cov: Array) -> Array:
    """The symmetric square root of a covariance (d, d)."""
    values, vectors = np.linalg.eigh(cov)
    root: Array = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root


def kernel_distance(a: Array, b: Array) -> Estimate:
    """Unbiased squared MMD with the kernel (x . y / d + 1)^3 (KID; Binkowski et al. 2018, arXiv:1801.01401).

    a (N, d), b (M, d). Zero on average for equal distributions, so it can be slightly negative.
    """

    def kernel(x: Array, y: Array) -> Array:
        values: Array = (x @ y.T / x.shape[1] + 1) ** 3
        return values

    return _mmd(kernel(a, a), kernel(b, b), kernel(a, b))


def energy_distance(a: Array, b: Array) -> Estimate:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased (Székely & Rizzo 2013), in feature units; a (N, d), b (M, d).

    Zero on average only for equal distributions. Cheap, and without a tuned kernel: the live figure during training.
    """
    return _mmd(-cdist(a, a), -cdist(b, b), -cdist(a, b))


def _mmd(aa: Array, bb: Array, ab: Array) -> Estimate:
    """E k(x,x') + E k(y,y') - 2 E k(x,y) from kernel matrices, and its standard error.

    The error is the first-order (Hoeffding) term of a U-statistic, 4 var_x / N + 4 var_y / M of the rows' means.
    """
    n, m = ab.shape
    of_a = (aa.sum(1) - np.diag(aa)) / (n - 1)
    of_b = (bb.sum(1) - np.diag(bb)) / (m - 1)
    value = of_a.mean() + of_b.mean() - 2 * ab.mean()
    variance = 4 * (of_a - ab.mean(1)).var(ddof=1) / n + 4 * (of_b - ab.mean(0)).var(ddof=1) / m
    return Estimate(float(value), math.sqrt(variance))


def prdc(real: Array, fake: Array, k: int = 5) -> dict[str, Estimate]:
    """Precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991), density and coverage (Naeem et al. 2020,
    arXiv:2002.09797), from balls that reach to the k-th neighbour within real (N, d) and within fake (M, d).

    precision: share of fakes inside some real ball; recall: the converse; density: mean number of real balls around a
    fake, over k (may exceed 1); coverage: share of real balls with a fake inside. The errors hold the other sample
    fixed.
    """
    if min(len(real), len(fake)) <= k:
        raise DataError(f"precision and coverage need more than k={k} items on both sides")
    between = cdist(real, fake)
    real_radius = np.partition(cdist(real, real), k, axis=1)[:, k]  # position 0 is the item itself
    fake_radius = np.partition(cdist(fake, fake), k, axis=1)[:, k]
    in_real = between <= real_radius[:, None]
    in_fake = between <= fake_radius[None, :]
    return {
        "precision": _mean(in_real.any(0)),
        "recall": _mean(in_fake.any(1)),
        "density": _mean(in_real.sum(0) / k),
        "coverage": _mean(in_real.any(1)),
    }


def _mean(values: Array) -> Estimate:
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(len(values))))


def classifier_two_sample(real: Array, fake: Array, seed: int = 0) -> Estimate:
    """AUC of a gradient-boosted classifier that tells real (N, ...) from fake (M, ...), on raw values, cross-validated.

    0.5: it cannot tell; 1: it always can (Lopez-Paz & Oquab 2017, arXiv:1610.06545, with the AUC for the accuracy).
    Equal sizes: the larger side is cut. Predictions are out of fold (5 folds). Error: Hanley & McNeil 1982. Below 0.5
    by more than chance, items recur on both sides (samples that copy the test items).
    """
    n = min(len(real), len(fake))
    x = np.concatenate([side[:n].reshape(n, -1) for side in (real, fake)]).astype(np.float64)
    rng = np.random.default_rng(seed)
    if x.shape[1] > MAX_COLUMNS:  # a bound on time; the columns are drawn from the seed
        x = x[:, np.sort(rng.permutation(x.shape[1])[:MAX_COLUMNS])]
    y = np.repeat([0, 1], n)
    model = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=15, early_stopping=False, random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    auc = float(roc_auc_score(y, cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (n - 1) * (q1 + q2 - 2 * auc**2)) / n**2
    return Estimate(auc, math.sqrt(max(variance, 0.0)))


def memorised_share(
    train: Array, heldout: Array, fake: Array, *, quantile: float = 0.01, neighbours: int = 50
) -> dict[str, float | bool]:
    """How many samples lie closer to a training item than unseen real items do.

    r(x) = distance to the nearest training item / mean distance to the `neighbours` nearest (Carlini et al. 2023,
    arXiv:2301.13188). The ratio, not the distance: a blurred sample is near to everything, yet copies nothing.
    The threshold is the `quantile` of r over the held-out items, so a model that has learnt the distribution and copied
    nothing shows about `expected` (1%). train (N, d), heldout (H, d), fake (M, d).

    Returns `share`, its `stderr`, `expected`, `p_value` and `flagged`. If held-out items and samples are exchangeable,
    the number below the j-th smallest of H is beta-binomial(M, j, H - j + 1), exactly; flagged when p < 0.001.
    """
    held, made = (_nearness(train, x, neighbours) for x in (heldout, fake))
    rank = max(1, round(quantile * len(held)))
    threshold = np.sort(held)[rank - 1]
    # Discrete data have ties at the threshold: of tied samples count the part that was needed of tied held-out items.
    below, tied = (held < threshold).sum(), (held == threshold).sum()
    count = (made < threshold).sum() + (made == threshold).sum() * (rank - below) / tied
    share = float(count / len(made))
    p_value = float(betabinom.sf(math.floor(count) - 1, len(made), rank, len(held) - rank + 1))
    return {
        "share": share,
        "stderr": math.sqrt(share * (1 - share) / len(made)),
        "expected": rank / (len(held) + 1),
        "p_value": p_value,
        "flagged": p_value < 1e-3,
    }


def _nearness(train: Array, x: Array, neighbours: int) -> Array:
    """(N,) nearest distance over the mean distance to the nearest `neighbours`; 1 where a value is that common."""
    search = NearestNeighbors(n_neighbors=min(neighbours, len(train))).fit(train)
    distances = search.kneighbors(x)[0].round(6)
    mean = distances.mean(1)
    return np.where(mean > 0, distances[:, 0] / np.where(mean > 0, mean, 1.0), 1.0)


def train_synthetic_test_real(fake_x: Array, fake_y: Array, test_x: Array, test_y: Array) -> Estimate:
    """Accuracy on real (test_x, test_y) of a logistic regression trained on samples.

    Esteban et al. 2017, arXiv:1706.02633. x (N, ...) are standardised by the training side, y (N,) are labels. Trained
    on real items it gives the reference.
    """
    x, unseen = fake_x.reshape(len(fake_x), -1), test_x.reshape(len(test_x), -1)
    if len(np.unique(fake_y)) < 2:  # a generator that makes one class only
        return _mean(test_y == fake_y[0])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, fake_y)
    return _mean(model.predict(unseen) == test_y)


def evaluate_samples(
    train: Array,
    test: Array,
    fake: Array,
    features: Features,
    *,
    train_labels: Array | None = None,
    test_labels: Array | None = None,
    fake_labels: Array | None = None,
    seed: int = 0,
    max_items: int = MAX_ITEMS,
) -> dict[str, float | int | bool]:
    """Every figure for samples `fake` against `test`, flat and JSON-able, with `NAME_stderr` where it exists.

    Items (N, ...) are as `features` were fitted. Both sides are cut to the same number, at most `max_items`, test items
    drawn by `seed`. With labels on all sides, also `tstr` and its reference `trtr` (the same classifier trained on as
    many real items). For the best value that a perfect model could reach, pass unseen real items (a validation split)
    as `fake`.
    """
    rng = np.random.default_rng(seed)
    n = min(len(test), len(fake), max_items)
    chosen, made = rng.permutation(len(test))[:n], slice(0, n)
    real, fake_part = np.asarray(test)[chosen], np.asarray(fake)[made]
    a, b = features(real), features(fake_part)
    memorised = memorised_share(features(train), a, b)
    estimates: dict[str, Estimate] = {
        "auc": classifier_two_sample(real, fake_part, seed),
        **prdc(a, b),
        "kernel": kernel_distance(a, b),
        "energy": energy_distance(a, b),
        "memorised": Estimate(float(memorised["share"]), float(memorised["stderr"])),
    }
    if train_labels is not None and test_labels is not None and fake_labels is not None:
        some = rng.permutation(len(train))[: len(fake)]
        estimates["tstr"] = train_synthetic_test_real(fake, fake_labels, test, test_labels)
        estimates["trtr"] = train_synthetic_test_real(
            np.asarray(train)[some], np.asarray(train_labels)[some], test, test_labels
        )
    figures: dict[str, float | int | bool] = {"frechet": frechet_distance(a, b)}
    for name, estimate in estimates.items():
        figures |= {name: estimate.value, f"{name}_stderr": estimate.stderr}
    figures |= {f"memorised_{key}": memorised[key] for key in ("expected", "p_value", "flagged")}
    return figures | {"items": n, "train_items": len(train)}
