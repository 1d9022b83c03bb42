"""Where data comes from: built-in sets, and named sets under `$QUINTET_DATA`."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from quintet.core.errors import DataError, UsageError

Modality = Literal["image", "text", "audio", "table"]
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """Items of one modality, their labels (columns beside the items), and fixed splits.

    `items`: uint8 images (N, H, W, C), a `pyarrow.Table`, or a list of strings. `splits`: name -> indices.
    """

    name: str
    modality: Modality
    items: Any
    splits: Mapping[str, np.ndarray]
    labels: pa.Table | None = None
    about: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, split: str) -> Any:
        """The items of a split."""
        return take(self.items, self.index(split))

    def column(self, name: str, split: str) -> pa.Table:
        """A label column of a split, as a table of one column."""
        names = self.labels.column_names if self.labels is not None else []
        if self.labels is None or name not in names:
            have = ", ".join(names) or "none"
            raise UsageError(f"{self.name} has no column {name}", why=f"label columns: {have}")
        return self.labels.select([name]).take(pa.array(self.index(split)))

    def index(self, split: str) -> np.ndarray:
        if split not in self.splits:
            raise UsageError(f"{self.name} has no split {split}", why=f"splits: {', '.join(self.splits)}")
        return self.splits[split]

    def fingerprint(self) -> str:
        """sha256 over the items, labels and splits: what a resumed run compares."""
        digest = hashlib.sha256()
        for part in (self.items, self.labels):
            if isinstance(part, np.ndarray):
                digest.update(np.ascontiguousarray(part).data)
            elif isinstance(part, pa.Table):
                for name in part.column_names:
                    digest.update(name.encode())
                    digest.update(repr(part[name].to_pylist()).encode())
            elif part is not None:
                for text in part:
                    digest.update(text.encode("utf-8", "surrogatepass"))
        for name, index in self.splits.items():
            digest.update(name.encode() + np.ascontiguousarray(index).tobytes())
        return digest.hexdigest()


def take(items: Any, index: np.ndarray) -> Any:
    """The items at `index`."""
    if isinstance(items, pa.Table):
        return items.take(pa.array(index))
    return items[index] if isinstance(items, np.ndarray) else [items[i] for i in index]


def random_splits(n: int, *, validation: float = 0.1, test: float = 0.2) -> dict[str, np.ndarray]:
    """A fixed random 70 / 10 / 20 split."""
    order = np.random.RandomState(0).permutation(n)
    a, b = round(n * (1 - validation - test)), round(n * (1 - test))
    return {name: np.sort(part) for name, part in zip(SPLITS, np.split(order, [a, b]), strict=True)}


def labels_of(y: np.ndarray) -> pa.Table:
    return pa.table({"label": y})


def digits() -> Dataset:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = x.reshape(-1, 8, 8, 1).astype(np.uint8)
    about = "1,797 handwritten digits, 8x8, 17 grey levels (UCI, through scikit-learn)"
    return Dataset("digits", "image", images, random_splits(len(y)), labels_of(y.astype(np.int64)), about)


def _plane(name: str, x: np.ndarray, y: np.ndarray, about: str) -> Dataset:
    table = pa.table({"x0": x[:, 0], "x1": x[:, 1]})
    return Dataset(name, "table", table, random_splits(len(x)), labels_of(y.astype(np.int64)), about)


def moons(n: int = 10_000) -> Dataset:
    from sklearn.datasets import make_moons

    x, y = make_moons(n, noise=0.08, random_state=0)
    return _plane("moons", x, y, "two interleaved half circles with noise 0.08")


def rings(n: int = 10_000) -> Dataset:
    rng = np.random.RandomState(0)
    y, angle = rng.randint(0, 3, n), rng.rand(n) * 2 * np.pi
    radius = 1.0 + y + 0.08 * rng.randn(n)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return _plane("rings", x, y, "three concentric rings of radius 1, 2, 3 with noise 0.08")


def checkerboard(n: int = 10_000) -> Dataset:
    rng = np.random.RandomState(0)
    row, column = rng.randint(0, 4, n), rng.randint(0, 2, n)
    x = np.stack([2 * column + row % 2 + rng.rand(n), row + rng.rand(n)], 1) - 2
    return _plane("checkerboard", x, row, "uniform on the 8 dark squares of a 4x4 board on [-2, 2]^2")


def gaussians(n: int = 10_000) -> Dataset:
    rng = np.random.RandomState(0)
    y = rng.randint(0, 8, n)
    angle = y * np.pi / 4
    x = 2 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * rng.randn(n, 2)
    return _plane("gaussians", x, y, "8 Gaussians of std 0.1 on a circle of radius 2")


def _sklearn_table(name: str) -> Callable[[], Dataset]:
    def load() -> Dataset:
        import sklearn.datasets

        bunch = getattr(sklearn.datasets, f"load_{name}")()
        columns = [str(column).replace(" ", "_").replace("(", "").replace(")", "") for column in bunch.feature_names]
        table = pa.table({column: bunch.data[:, i].astype(np.float64) for i, column in enumerate(columns)})
        classes = np.array([str(bunch.target_names[i]) for i in bunch.target])
        about = f"{len(classes)} rows, {len(columns)} measurements, {len(bunch.target_names)} classes (UCI)"
        return Dataset(name, "table", table, random_splits(len(classes)), labels_of(classes), about)

    return load


def data_root() -> Path:
    """`$QUINTET_DATA`, or the user's cache."""
    return Path(os.environ.get("QUINTET_DATA") or Path.home() / ".cache" / "quintet")


def named_file(folder: str, name: str, sha256: str) -> Path:
    """A file of a named set; its digest is checked."""
    path = data_root() / folder / name
    if not path.is_file():
        raise DataError(
            "file not found",
            where=str(path),
            why=f"{folder} is a named set, which is never fetched silently",
            fix=f"put {name} there, or point QUINTET_DATA at the folder that holds {folder}/",
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise DataError("the file is not the published one", where=str(path), why=f"sha256 {digest}, expected {sha256}")
    return path


MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "71524e2cd1ad2968737f7f2f2ff69cbfc32df8ccddff51593f7cb2d4e0eb5b64",
    "train-labels-idx1-ubyte.gz": "fe03b8bd7915f70bf5aa08be480aa413fbd85afcaa58b35d230d335f284fd88e",
    "t10k-images-idx3-ubyte.gz": "5634745efa576a17e7d4cf5cd9d09123c75e6538e5114267c2d156edaf519341",
    "t10k-labels-idx1-ubyte.gz": "ae18e77e031ccde52407f794d123116439864147d33ac992975f85dd4dc42af6",
}


def mnist() -> Dataset:
    x_train, y_train, x_test, y_test = (
        read_idx(named_file("mnist", name, digest)) for name, digest in MNIST_FILES.items()
    )
    images, y = np.concatenate([x_train, x_test])[..., None], np.concatenate([y_train, y_test]).astype(np.int64)
    splits = {"train": np.arange(50_000), "validation": np.arange(50_000, 60_000), "test": np.arange(60_000, 70_000)}
    about = "70,000 handwritten digits, 28x28, 256 grey levels (LeCun et al. 1998, CC BY-SA 3.0)"
    return Dataset("mnist", "image", images, splits, labels_of(y), about)


def read_idx(path: Path) -> np.ndarray:
    """An array in the idx format: magic 0 0 8 ndim, big-endian sizes, bytes."""
    raw = gzip.decompress(path.read_bytes())
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3]))
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def tinyshakespeare() -> Dataset:
    path = named_file(
        "tinyshakespeare", "input.txt.gz", "bed00f18e91cda6838950656f0a95e07e0f4dbe8649a4b959f7602a7e53fbc6e"
    )
    text = gzip.decompress(path.read_bytes()).decode()
    cut = int(len(text) * 0.9)
    splits = {"train": np.array([0]), "validation": np.array([1]), "test": np.array([1])}
    about = "1,115,394 characters; first 90 % train, rest validation (which is also the test split, as is usual)"
    return Dataset("tinyshakespeare", "text", [text[:cut], text[cut:]], splits, None, about)


SOURCES: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "moons": moons,
    "rings": rings,
    "checkerboard": checkerboard,
    "gaussians": gaussians,
    "iris": _sklearn_table("iris"),
    "wine": _sklearn_table("wine"),
    "breast_cancer": _sklearn_table("breast_cancer"),
    "mnist": mnist,
    "tinyshakespeare": tinyshakespeare,
}


def load_source(name: str) -> Dataset:
    """The data set of that name, or UsageError with the nearest names."""
    if name not in SOURCES:
        import difflib

        near = difflib.get_close_matches(name, SOURCES, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown source {name!r}", why=f"{hint}known: {', '.join(SOURCES)}", fix="quintet data")
    return SOURCES[name]()
