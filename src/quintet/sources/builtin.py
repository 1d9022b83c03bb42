"""Sources that need no file: digits, points in the plane, small tables, the documentation of Python."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from quintet.data.dataset import Dataset, labels_of
from quintet.data.splits import by_hash, keys_of, random_splits, stretches


def digits() -> Dataset:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = x.reshape(-1, 8, 8, 1).astype(np.uint8)
    return Dataset("digits", "image", images, random_splits(len(y)), labels_of(y.astype(np.int64)))


def _plane(name: str, x: np.ndarray, y: np.ndarray) -> Dataset:
    table = pa.table({"x0": x[:, 0], "x1": x[:, 1]})
    return Dataset(name, "table", table, random_splits(len(x)), labels_of(y.astype(np.int64)))


def moons(n: int = 10_000) -> Dataset:
    from sklearn.datasets import make_moons

    return _plane("moons", *make_moons(n, noise=0.08, random_state=0))


def rings(n: int = 10_000) -> Dataset:
    rng = np.random.RandomState(0)
    y, angle = rng.randint(0, 3, n), rng.rand(n) * 2 * np.pi
    radius = 1.0 + y + 0.08 * rng.randn(n)
    return _plane("rings", np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), y)


def checkerboard(n: int = 10_000) -> Dataset:
    rng = np.random.RandomState(0)
    row, column = rng.randint(0, 4, n), rng.randint(0, 2, n)
    x = np.stack([2 * column + row % 2 + rng.rand(n), row + rng.rand(n)], 1) - 2
    return _plane("checkerboard", x, row)


def gaussians(n: int = 10_000) -> Dataset:
    rng = np.random.RandomState(0)
    y = rng.randint(0, 8, n)
    angle = y * np.pi / 4
    return _plane("gaussians", 2 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * rng.randn(n, 2), y)


def measurements(name: str) -> Callable[[], Dataset]:
    """A classification table of scikit-learn: numeric columns, the class as label."""

    def load() -> Dataset:
        import sklearn.datasets

        bunch = getattr(sklearn.datasets, f"load_{name}")()
        columns = [str(column).replace(" ", "_").replace("(", "").replace(")", "") for column in bunch.feature_names]
        table = pa.table({column: bunch.data[:, i].astype(np.float64) for i, column in enumerate(columns)})
        classes = np.array([str(bunch.target_names[i]) for i in bunch.target])
        return Dataset(name, "table", table, random_splits(len(classes)), labels_of(classes))

    return load


def diabetes() -> Dataset:
    """Measured values rather than scikit-learn's scaled ones, with the target as a column of the table."""
    import sklearn.datasets

    bunch = sklearn.datasets.load_diabetes(scaled=False)
    columns = {name: bunch.data[:, i] for i, name in enumerate(bunch.feature_names)}
    for name in ("age", "sex"):
        columns[name] = columns[name].astype(np.int64)
    table = pa.table(columns | {"progression": bunch.target.astype(np.int64)})
    return Dataset("diabetes", "table", table, random_splits(table.num_rows))


def pydocs() -> Dataset:
    """The chapters of `pydoc_data.topics`, each whole in one split by the hash of its name; one text a split."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    part = by_hash(keys_of(name.encode() for name in names))
    texts = ["\n\n".join(topics[name].strip() for name, p in zip(names, part, strict=True) if p == split) + "\n"
             for split in (0, 1, 2)]  # fmt: skip
    return Dataset("pydocs", "text", texts, stretches([1, 1, 1]))
