"""The tables that are raced on: public sets with their splits, and one that is made here.

adult, churn and california are the named sets of quintet, with their published splits. The others are CSV files under
$QUINTET_DATA, as the UCI repository gives them (https://archive.ics.uci.edu, CC BY 4.0), of which a tenth of the rows
is for validation and a fifth for testing, drawn by a fixed seed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from quintet.modalities.table.modality import csv
from quintet.sources.load import Dataset, load_source

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Task:
    """A table in three parts, and the column to be predicted."""

    name: str
    parts: dict[str, pa.Table]
    target: str

    @property
    def regression(self) -> bool:
        return len(self.parts["train"][self.target].unique()) > 2

    def dataset(self) -> Dataset:
        ends = np.cumsum([0, *(part.num_rows for part in self.parts.values())])
        splits = {name: np.arange(a, b) for name, a, b in zip(self.parts, ends[:-1], ends[1:], strict=True)}
        return Dataset(self.name, "table", pa.concat_tables(self.parts.values()).combine_chunks(), splits)

    def write(self, folder: Path) -> None:
        """train.csv, validation.csv and test.csv, which is what everybody reads."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in self.parts.items():
            (folder / f"{name}.csv").write_bytes(csv(part, {}))


class File(NamedTuple):
    """A CSV file under $QUINTET_DATA, the column to be predicted, and the columns' names if it has no header."""

    path: str
    target: str
    delimiter: str = ","
    names: tuple[str, ...] | None = None


TARGETS = {"adult": "income", "churn": "exited", "california": "median_house_value"}
FILES = {
    "shoppers": File("shoppers/online_shoppers_intention.csv", "Revenue"),
    "magic": File(
        "magic/magic04.data",
        "class",
        names=(
            "fLength",
            "fWidth",
            "fSize",
            "fConc",
            "fConc1",
            "fAsym",
            "fM3Long",
            "fM3Trans",
            "fAlpha",
            "fDist",
            "class",
        ),
    ),
    "bank": File("bank/bank-full.csv", "y", ";"),
}


def named(name: str) -> Task:
    """A set by its name: see `TARGETS`, `FILES` and `mixed`. Raises KeyError for one that there is not."""
    if name.startswith("mixed"):
        return mixed(int(name[5:] or 0))
    if name in TARGETS:
        dataset = load_source(name)
        return Task(name, {part: dataset.rows(part) for part in PARTS}, TARGETS[name])
    file = FILES[name]
    table = pyarrow.csv.read_csv(
        Path(os.environ["QUINTET_DATA"]) / file.path,
        read_options=pyarrow.csv.ReadOptions(column_names=file.names),
        parse_options=pyarrow.csv.ParseOptions(delimiter=file.delimiter),
    )
    order = np.random.default_rng(0).permutation(table.num_rows)
    tenth = table.num_rows // 10
    return Task(name, cut(table.take(pa.array(order)), table.num_rows - 3 * tenth, tenth), file.target)


def cut(table: pa.Table, train: int, validation: int) -> dict[str, pa.Table]:
    ends = (0, train, train + validation, table.num_rows)
    return {name: table.slice(a, b - a) for name, a, b in zip(PARTS, ends, ends[1:], strict=False)}


def mixed(seed: int = 0, n: int = 21_000) -> Task:
    """15 columns: spikes, rounding, a ring, heavy tails, categories that depend on each other, a binary target."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, n), 1 + 0.07 * rng.normal(size=n)
    age = np.clip(rng.gamma(6, 7, n) + 16, 17, 90).round().astype(np.int64)
    level = np.clip(rng.normal(2.5 + 0.02 * (age - 40), 1.6, n).round(), 0, 6).astype(int)
    job = (level + rng.choice([0, 0, 1, 2, 5], n) + 3 * (rng.random(n) < 0.15)) % 10
    hours = np.where(rng.random(n) < 0.5, 40, (38 + 9 * rng.standard_t(4, n)).round()).clip(1, 99).astype(np.int64)
    log_pay = 9.6 + 0.16 * level + 0.012 * (hours - 40) + 0.005 * (age - 40) + 0.45 * rng.normal(size=n)
    pay = np.where(rng.random(n) < 0.6, np.exp(log_pay).round(-2), np.exp(log_pay).round())
    gain = np.where(rng.random(n) < 0.9 - 0.02 * level, 0, np.exp(7 + 1.2 * rng.normal(size=n)).round())
    city = np.minimum(rng.zipf(1.5, n) - 1, 24)
    region = np.where(rng.random(n) < 0.9, city % 5, rng.integers(0, 5, n))
    shock = rng.standard_t(2, n) * (1 + 0.5 * (region == 2))
    wait = rng.exponential(1 + job / 5, n)
    rate = (rng.beta(2, 5, n) * 40 + 0.5 * level).round() / 4
    member = rng.random(n) < 1 / (1 + np.exp(1 - 0.5 * level + 0.8 * (region == 0)))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    score = (
        0.75 * (level - 2.5) + 1.1 * (log_pay - 10) + 1.2 * member + 1.5 * (gain > 1500) + 0.9 * np.sin(2 * angle)
        - 0.03 * np.abs(age - 48) + 0.8 * np.isin(job, (2, 5, 7)) - 0.7 * np.tanh(shock) * (region < 3) - 0.15 * rate
    )  # fmt: skip
    target = score + 0.75 * rng.logistic(size=n) > np.median(score) + 0.9
    table = pa.table(
        {
            "x": x, "y": y, "age": age, "level": [f"level {k}" for k in level], "job": [f"job {k}" for k in job],
            "hours": hours, "pay": pay, "gain": gain, "city": [f"city {k}" for k in city],
            "region": [f"region {k}" for k in region], "shock": shock, "wait": wait.round(2), "rate": rate,
            "member": member, "target": np.where(target, "yes", "no"),
        }
    )  # fmt: skip
    return Task(f"mixed{seed}", cut(table, 14_000, 1_000), "target")
