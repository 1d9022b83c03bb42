"""A stated feature space: every distance of a comparison is measured here, and the report prints its description.

No pretrained network: the space is read off the training items alone, so it exists for any data, offline, and carries
no other dataset's taste. It is a linear view of the data; the two-sample classifier of `metrics` works on raw values
and sees what this view misses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from quintet.core.codec import Preprocessing
from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.metrics.estimates import Array

FEATURES_VERSION = 2
"""Raised when a feature space is computed, or its description is worded, in another way."""
COMPONENTS = 64
FIT_ITEMS = 10_000
ITEMS_AT_ONCE = 2048
UNIGRAMS, BIGRAMS = 512, 1024

PREPROCESSING: dict[Preprocessing, str] = {
    "flattened": "values flattened, mean of each subtracted, one scale for all (edge pixels that are rarely lit must "
    "not dominate), PCA without whitening, and the distance to the PCA subspace as the last dimension",
    "standardised": "every column standardised, PCA without whitening, and the distance to the PCA subspace as the "
    "last dimension",
    "symbols": f"square roots of the counts of symbols ({UNIGRAMS} buckets) and pairs ({BIGRAMS} buckets), mean of "
    "each subtracted, one scale for all, PCA without whitening, and the distance to the PCA subspace as the last "
    "dimension",
}


class FeatureSpace(Protocol):
    """A map from items (N, ...) to float64 (N, dims), and a description, JSON, of how it was made."""

    @property
    def description(self) -> dict[str, Any]: ...

    def __call__(self, items: Any) -> Array: ...


@dataclass(frozen=True, eq=False)
class PrincipalFeatures:
    """A map from items to float64 (N, dims), read off training items by `fit_features`.

    f(x) = [W (g(x) - mean) / scale, ||rest||] with g the flattened values or the n-gram counts, W the leading principal
    directions (orthonormal, unscaled) and `rest` what they leave out, so that an item off the data's subspace is far
    away. `description` is JSON: it says all of this in words.
    """

    preprocessing: Preprocessing
    pad: int | None
    mean: Array
    scale: Array
    directions: Array
    description: dict[str, Any]

    def __call__(self, items: Any) -> Array:
        """(N, ...) items as they were fitted -> (N, dims) float64. Raises DataError on NaN, Inf or another width."""
        items = np.asarray(items)
        parts = [self._map(items[start : start + ITEMS_AT_ONCE]) for start in range(0, len(items), ITEMS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.directions) + 1))

    def _map(self, items: Array) -> Array:
        values = _values(items, self.preprocessing, self.pad)
        if values.shape[1] != len(self.mean):
            raise DataError(
                f"the features were fitted on items of {len(self.mean)} values, got items of {values.shape[1]}"
            )
        values = (values - self.mean) / self.scale
        inside = values @ self.directions.T
        rest = np.linalg.norm(values - inside @ self.directions, axis=1, keepdims=True)
        return np.concatenate([inside, rest], axis=1)


def fit_features(train: Any, preprocessing: Preprocessing, *, pad: int | None = None) -> PrincipalFeatures:
    """The feature space of these training items.

    `train`: "flattened", values (N, ...) of one unit, as pixels in [-1, 1]; "standardised", (N, columns) of floats
    (categories one-hot); "symbols", (N, L) of integers, where `pad` is not counted. At most 10,000 items are looked
    at. Deterministic.
    """
    from sklearn.decomposition import PCA

    items = np.asarray(train)
    if len(items) < 2:
        raise DataError(f"a feature space needs at least two training items, got {len(items)}")
    if len(items) > FIT_ITEMS:
        items = items[some(items, FIT_ITEMS, 0)]
    values = _values(items, preprocessing, pad)
    mean, spread = values.mean(0), values.std(0)
    if preprocessing != "standardised":
        spread = np.full_like(spread, np.sqrt((spread**2).mean()))
    scale = np.where(spread > 1e-8, spread, 1.0)  # a constant column keeps its own unit
    values = (values - mean) / scale
    pca = PCA(min(COMPONENTS, values.shape[1], len(values) - 1), random_state=0).fit(values)
    description = {
        "name": f"{preprocessing}-pca",
        "version": FEATURES_VERSION,
        "preprocessing": PREPROCESSING[preprocessing],
        "values": values.shape[1],
        "dims": len(pca.components_) + 1,
        "dtype": "float64",
        "variance_kept": round(float(np.nan_to_num(pca.explained_variance_ratio_).sum()), 4),
        "fitted_on": f"{len(items)} training items",
    }
    return PrincipalFeatures(preprocessing, pad, mean, scale, pca.components_, description)


def _values(items: Array, preprocessing: Preprocessing, pad: int | None) -> Array:
    """(N, ...) -> (N, values) float64, finite."""
    if preprocessing == "symbols":
        return _ngrams(items.reshape(len(items), -1), pad)
    values = items.reshape(len(items), -1).astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            "the items to be measured contain NaN or infinite values",
            why="a model whose training has diverged generates such samples",
        )
    return values


def _ngrams(tokens: Array, pad: int | None) -> Array:
    """Square roots (they tame frequent symbols) of hashed counts of symbols and of pairs: (N, UNIGRAMS + BIGRAMS)."""
    tokens = tokens.astype(np.int64)
    kept = np.ones_like(tokens, bool) if pad is None else tokens != pad
    # Multiplicative hashing (Knuth) of a pair, taken from the high bits of 32; up to UNIGRAMS symbols never collide.
    pairs = ((tokens[:, :-1] * 65_599 + tokens[:, 1:]) * 2_654_435_761 % 2**32) * BIGRAMS // 2**32
    rows = np.arange(len(tokens))[:, None]
    counts = np.zeros((len(tokens), UNIGRAMS + BIGRAMS))
    np.add.at(counts, (rows, tokens % UNIGRAMS), kept)
    np.add.at(counts, (rows, UNIGRAMS + pairs), kept[:, :-1] & kept[:, 1:])
    return np.sqrt(counts)
