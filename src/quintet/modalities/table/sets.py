"""Named sets of rows: points in the plane, measurements, and published tables."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.csv

from quintet.data.archives import zip_entries
from quintet.data.arrays import array_of
from quintet.data.dataset import Dataset, label_table, take
from quintet.data.published import Source, hashed_validation, named_file, unpack
from quintet.data.splits import consecutive, random_splits, row_keys


def _plane(name: str, x: np.ndarray, y: np.ndarray) -> Dataset:
    table = pa.table({"x0": x[:, 0], "x1": x[:, 1]})
    return Dataset(name, "table", table, random_splits(len(x)), label_table(y.astype(np.int64)))


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
        return Dataset(name, "table", table, random_splits(len(classes)), label_table(classes))

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


SPLIT_FILES = ("train", "val", "test")
ADULT = ("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship",
         "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income")  # fmt: skip
CALIFORNIA = ("median_income", "house_age", "average_rooms", "average_bedrooms", "population", "average_occupancy",
              "latitude", "longitude")  # fmt: skip
CHURN_NUMBERS = ("credit_score", "age", "tenure", "balance", "products", "estimated_salary")
CHURN_KINDS = ("geography", "gender", "has_card", "active")


def adult() -> Dataset:
    """The published test split; a tenth of train, by hash, is validation. `?` is a missing cell."""
    parts = []
    for name in ("adult-train.csv.gz", "adult-test.csv.gz"):
        text = unpack("adult", name).replace(b", ", b",").replace(b"K.\n", b"K\n")
        parts.append(pyarrow.csv.read_csv(
            io.BytesIO(text), pyarrow.csv.ReadOptions(column_names=list(ADULT)),
            convert_options=pyarrow.csv.ConvertOptions(null_values=["?"], strings_can_be_null=True)))  # fmt: skip
    table = pa.concat_tables(parts)
    names = ["train"] * parts[0].num_rows + ["test"] * parts[1].num_rows
    order, splits = hashed_validation(names, row_keys(table))
    return Dataset("adult", "table", take(table, order), splits)


def _packed(folder: str) -> dict[str, list[np.ndarray]]:
    """name -> its train, validation and test arrays, of a .npz with names like X_num_train."""
    path = named_file(folder, f"{folder}_tabddpm_split.npz")
    arrays = {entry.stem: array_of(entry, str(path)) for entry in zip_entries(path)}
    stems = {name.removesuffix("_train") for name in arrays if name.endswith("_train")}
    return {stem: [arrays[f"{stem}_{part}"] for part in SPLIT_FILES] for stem in sorted(stems)}


def _whole_numbers(values: np.ndarray) -> np.ndarray:
    """Integers as integers, whatever type they are stored in."""
    return values.astype(np.int64) if (values == np.round(values)).all() else values


def california() -> Dataset:
    """Eight measurements of a block and its median house value, in 100,000 dollars."""
    packed = _packed("california")
    x, y = np.concatenate(packed["X_num"]), np.concatenate(packed["y"])
    columns = {name: _whole_numbers(x[:, i]) for i, name in enumerate(CALIFORNIA)} | {"median_house_value": y}
    return Dataset("california", "table", pa.table(columns), consecutive([len(part) for part in packed["y"]]))


def churn() -> Dataset:
    """Customers of a bank; `exited` is the target."""
    packed = _packed("churn")
    x, kinds, y = (np.concatenate(packed[name]) for name in ("X_num", "X_cat", "y"))
    columns: dict[str, np.ndarray] = {name: _whole_numbers(x[:, i]) for i, name in enumerate(CHURN_NUMBERS)}
    columns |= {name: kinds[:, i] if i == 0 else kinds[:, i].astype(np.int64) for i, name in enumerate(CHURN_KINDS)}
    notes = ("the published file holds estimated_salary twice: the second is left out",)
    splits = consecutive([len(part) for part in packed["y"]])
    return Dataset("churn", "table", pa.table(columns | {"exited": y}), splits, notes=notes)


def density(name: str) -> Callable[[], Dataset]:
    """A binary density set: columns v0, v1, ... of 0 and 1."""

    def load() -> Dataset:
        path = named_file("density20", "density20_13sets.zip")
        members = {entry.name: entry for entry in zip_entries(path)}
        rows = [np.loadtxt(io.BytesIO(members[f"{name}/{name}.{part}.data"].read()), np.int64, delimiter=",", ndmin=2)
                for part in ("train", "valid", "test")]  # fmt: skip
        values = np.concatenate(rows)
        table = pa.table({f"v{i}": np.ascontiguousarray(values[:, i]) for i in range(values.shape[1])})
        return Dataset(f"density20/{name}", "table", table, consecutive([len(part) for part in rows]))

    return load


def _in_plane(load: Callable[[], Dataset], about: str) -> Source:
    return Source(load, "table", 10_000, about, ("label",))


def _measured(name: str, rows: int, columns: int, classes: int) -> Source:
    about = f"{rows} rows, {columns} measurements, {classes} classes (UCI)"
    return Source(measurements(name), "table", rows, about, ("label",))


# name: (columns, rows) of the binary density sets
DENSITY = {
    "nltcs": (16, 21_574), "plants": (69, 23_215), "baudio": (100, 20_000), "jester": (100, 14_116),
    "bnetflix": (100, 20_000), "accidents": (111, 17_009), "mushrooms": (112, 8_124), "dna": (180, 3_186),
    "nips": (500, 1_740), "pumsb_star": (163, 16_349), "bbc": (1_058, 2_225), "moviereview": (1_001, 2_000),
    "voting": (1_359, 1_764),
}  # fmt: skip
SETS: dict[str, Source] = {
    "moons": _in_plane(moons, "two interleaved half circles with noise 0.08"),
    "rings": _in_plane(rings, "three concentric rings of radius 1, 2, 3 with noise 0.08"),
    "checkerboard": _in_plane(checkerboard, "uniform on the 8 dark squares of a 4x4 board on [-2, 2]^2"),
    "gaussians": _in_plane(gaussians, "8 Gaussians of std 0.1 on a circle of radius 2"),
    "iris": _measured("iris", 150, 4, 3),
    "wine": _measured("wine", 178, 13, 3),
    "breast_cancer": _measured("breast_cancer", 569, 30, 2),
    "diabetes": Source(diabetes, "table", 442, "442 patients, 10 measurements and the progression of diabetes"),
    "adult": Source(adult, "table", 48_842, "48,842 people of the census of 1994, 15 columns, income above or "
        "below 50,000 dollars (UCI, CC BY 4.0)", (), "adult"),
    "california": Source(california, "table", 20_640, "20,640 blocks of houses, 9 columns, census of 1990 "
        "(TabDDPM's split)", (), "california"),
    "churn": Source(churn, "table", 10_000, "10,000 customers of a bank, 11 columns (TabDDPM's split)", (),
        "churn"),
    **{f"density20/{name}": Source(density(name), "table", rows, f"{rows:,} rows of {columns:,} binary columns "
                                   "(Lowd and Davis 2010, Van Haaren and Davis 2012)", (), "density20")
       for name, (columns, rows) in DENSITY.items()},
}  # fmt: skip
