"""Every figure for samples against real items, of any kind of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from quintet.core.errors import DataError
from quintet.core.random import seed_of, some
from quintet.metrics.classifiers import area_of_placements, conditional_accuracy, told_apart, train_synthetic_test_real
from quintet.metrics.distances import (
    balls,
    covered,
    diversity,
    energy_distance,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    prdc,
    sliced_distance,
)
from quintet.metrics.estimates import Array, Estimate, with_errors
from quintet.metrics.features import FeatureSpace
from quintet.metrics.memorisation import membership_by_samples, memorised_share, nearer_to_training

FIGURES_VERSION = 4
"""Raised when a figure of the package is computed in another way."""
MAX_ITEMS = 2000
MAX_DIVERSE = 500
"""Items of the diversity, whose time grows with their cube."""
LEAST_ITEMS = 6
"""Items a side: the classifier that tells them apart is tested on a fifth of them at a time, and `coverage` looks for
the fifth neighbour of each."""
DISTANCES: Mapping[str, Callable[[Array, Array], Estimate]] = {
    "frechet": frechet_distance,
    "kernel": kernel_distance,
    "energy": energy_distance,
    "gaussian": gaussian_distance,
    "sliced": sliced_distance,
}
"""Figures of the features (N, dims) of real items and of samples."""
BIASED = ("frechet", "sliced")
"""Figures that depend on the number of items, so that they are comparable at equal numbers only."""


def evaluate_samples(train: Array, test: Array, fake: Array, features: FeatureSpace, **given: Any) -> dict[str, Any]:
    """The figures of `measure_samples`, without the values of single items."""
    return measure_samples(train, test, fake, features, **given)[0]


def check_enough(n: int) -> None:
    """Raise DataError where n real items and n samples are too few for figures."""
    if n < LEAST_ITEMS:
        raise DataError(
            f"{n} items on each side are too few to compare", where="test items and samples",
            why=f"the figures need at least {LEAST_ITEMS} on each side", fix="use more data, or generate more samples",
        )  # fmt: skip


def measure_samples(
    train: Array,
    test: Array,
    fake: Array,
    features: FeatureSpace,
    *,
    seen: Array | None = None,
    train_labels: Array | None = None,
    test_labels: Array | None = None,
    fake_labels: Array | None = None,
    seed: int = 0,
    max_items: int = MAX_ITEMS,
) -> tuple[dict[str, float | int | bool], dict[str, Any]]:
    """Every figure for samples `fake` against `test`, flat and JSON-able, with `NAME_stderr` where it exists; and of
    those by which models are compared the values of single items, by which that is done (see `differences`): the real
    items' and the samples', and the places of these real items in `test` (`real_items`).

    Items (N, ...) are as `features` were fitted; `seen` are the features of `train`, if they are known. Both sides are
    cut to the same number, at most `max_items`: the real items are the same for all models and seeds, samples are drawn
    by `seed`. With labels on all sides, also `tstr`, its reference `trtr` (the same classifier trained on as many real
    items), and `conditional`, the share of samples that are taken for what was asked for. For the best value that a
    perfect model could reach, pass unseen real items (a validation split) as `fake`.
    """
    n = min(len(test), len(fake), max_items)
    check_enough(n)
    chosen, made = some(test, n, seed_of("test")), some(fake, n, seed_of(seed, "samples"))
    taught = some(train, len(fake), seed_of(seed, "train"))
    real, fake_part = np.asarray(test)[chosen], np.asarray(fake)[made]
    seen, a, b = features(train) if seen is None else seen, features(real), features(fake_part)
    memorised = memorised_share(seen, a, b)
    by_item = {"auc": told_apart(real, fake_part, seed), "coverage": covered(balls(a, b))}
    estimates: dict[str, Estimate] = {
        "auc": area_of_placements(*by_item["auc"]),
        **likeness(a, b, seed),
        "memorised": Estimate(memorised["share"], memorised["stderr"]),
        "memorised_duplicates": Estimate(memorised["duplicates"], memorised["duplicates_stderr"]),
        "nearer_to_training": nearer_to_training(seen[taught], a, b),
        "membership_by_samples": membership_by_samples(seen[taught], a, b),
    }
    if train_labels is not None and test_labels is not None and fake_labels is not None:
        train_x, train_y = np.asarray(train)[taught], np.asarray(train_labels)[taught]
        estimates["tstr"] = train_synthetic_test_real(fake, fake_labels, test, test_labels)
        estimates["trtr"] = train_synthetic_test_real(train_x, train_y, test, test_labels)
        estimates |= conditional_accuracy(seen, train_labels, a, test_labels[chosen], b, fake_labels[made])
    figures = with_errors(estimates) | {
        f"memorised_{key}": memorised[key] for key in ("expected", "p_value", "flagged")
    }
    values = {key: [side.round(6).tolist() for side in sides] for key, sides in by_item.items()}
    counts = {"items": n, "train_items": len(train)}
    return figures | counts, {"real_items": chosen.tolist(), "sample_figures": values}


def likeness(real: Array, fake: Array, seed: int) -> dict[str, Estimate]:
    """How near samples are to as many real items, and how varied, by their features (N, dims)."""
    few = some(real, MAX_DIVERSE, seed)
    distances = {name: distance(real, fake) for name, distance in DISTANCES.items()}
    return {**prdc(real, fake), **distances, "diversity": diversity(real[few], fake[few])}
