"""Tables: quintet's families by default next to CTGAN and TVAE, on held-out rows, in one run.

    python benchmarks/tables.py [--sets mixed,adult,churn,california] [--families autoregressive] [--budget 90]
        [--peers ctgan,tvae] [--peer-epochs 300] [--seeds 1] [--threads 2] [--quick] [--out FILE.json]

The peers come from `pip install ctgan==0.12.1` and run at their defaults, which are 300 epochs; with fewer, their
time for 300 is extrapolated (it is proportional to the epochs) and the table says so. `mixed` is made here: 14,000 rows
to train, 6,000 to test (and 1,000 for validation). The other sets are read from $QUINTET_DATA, with their published
splits. Every figure is on test rows, against as many sampled rows:

two_sample    AUC of gradient boosting that tells test rows from samples, 5-fold cross-validated; 0.5 is best
tstr          AUC (or R2) on test rows of gradient boosting trained on as many samples as there are training rows;
              trtr: on the training rows
columns       mean over columns of 1 - KS distance (numbers) or 1 - total variation (categories)
pairs         mean over pairs of columns of 1 - |difference of correlations| / 2 (numbers), else 1 - total variation of
              the contingency table, numbers cut at the test rows' deciles
fit, sample   seconds to train, and to draw 6,000 rows
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from matrix import interval
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from quintet.core.random import some
from quintet.fit.fitting import plan, train_planned
from quintet.modalities.table.figures import Cells, column_shapes, efficacy, pair_trends
from quintet.sources.load import Dataset, load_source

PEER_EPOCHS = 300
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


# -- the sets --------------------------------------------------------------------------------------------------------


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


def cut(table: pa.Table, train: int, validation: int) -> dict[str, pa.Table]:
    ends = (0, train, train + validation, table.num_rows)
    return {name: table.slice(a, b - a) for name, a, b in zip(PARTS, ends, ends[1:], strict=False)}


TARGETS = {"adult": "income", "churn": "exited", "california": "median_house_value"}


def named(name: str) -> Task:
    """A named set of $QUINTET_DATA with its published split."""
    dataset = load_source(name)
    return Task(name, {part: dataset.rows(part) for part in PARTS}, TARGETS[name])


# -- the figures -----------------------------------------------------------------------------------------------------


def measure(task: Task, fake: pa.Table, seed: int = 0) -> dict[str, float]:
    cells = Cells.of(task.parts["train"])
    real, made, seen = (cells(table) for table in (task.parts["test"], fake, task.parts["train"]))
    n = min(len(real), len(made))
    few_real, few_made = (side[some(side, n, seed)] for side in (real, made))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    both, side = np.concatenate([few_real, few_made]), np.repeat([0, 1], n)
    p = cross_val_predict(HistGradientBoostingClassifier(random_state=seed), both, side, cv=folds,
                          method="predict_proba")[:, 1]  # fmt: skip
    at = cells.names.index(task.target)
    figures = {"two_sample": float(roc_auc_score(side, p))}
    for name, rows in (("tstr", made[some(made, len(seen), seed)]), ("trtr", seen)):
        figures[name] = efficacy(rows, few_real, at, regression=task.regression, seed=seed).value
    figures["columns"] = column_shapes(few_real, few_made, cells.numeric).value
    figures["pairs"] = pair_trends(few_real, few_made, cells.numeric).value
    return figures


# -- the makers ------------------------------------------------------------------------------------------------------


def ours(
    family: str, task: Task, budget: float, seed: int, config: dict[str, Any] | None = None
) -> tuple[pa.Table, dict[str, float]]:
    dataset = task.dataset()
    began = time.perf_counter()
    model = train_planned(plan(family, dataset, budget=budget, seed=seed, config=config), dataset, None,
                   Path(tempfile.mkdtemp()), None, None, {})  # fmt: skip
    fit = time.perf_counter() - began
    n = max(6_000, task.parts["train"].num_rows, task.parts["test"].num_rows)
    model.draw(10, seed=1)
    began = time.perf_counter()
    fake = model.draw(6_000, seed=2)
    took = time.perf_counter() - began
    if n > 6_000:
        fake = model.draw(n, seed=2)
    figures = {"fit": fit, "sample": took, "steps": float(model.config.steps)}
    if model.family.likelihood != "none":
        rows = task.parts["validation"]
        rows = rows.take(pa.array(some(len(rows), 3000, 0)))  # of what training has seen each value of
        figures["nats"] = model.log_prob(rows.filter(model.codecs["x"].known(rows))).summary()["nats"]
    return fake, figures


def peer(name: str, task: Task, epochs: int, seed: int) -> tuple[pa.Table, dict[str, float]]:
    """CTGAN or TVAE. They know no nulls: a null category is the word "null"."""
    import ctgan

    torch.manual_seed(seed)
    np.random.seed(seed)
    train = task.parts["train"].to_pandas()
    discrete = [c for c in train if not np.issubdtype(train[c].dtype, np.number)]
    train[discrete] = train[discrete].fillna("null").astype(str)
    maker = {"ctgan": ctgan.CTGAN, "tvae": ctgan.TVAE}[name](epochs=epochs, enable_gpu=False)
    began = time.perf_counter()
    maker.fit(train, discrete)
    fit = (time.perf_counter() - began) * PEER_EPOCHS / epochs
    began = time.perf_counter()
    maker.sample(6_000)
    took = time.perf_counter() - began
    fake = maker.sample(max(6_000, task.parts["train"].num_rows, task.parts["test"].num_rows))
    columns = {}
    for field in task.parts["train"].schema:
        cells = fake[field.name]
        if field.name in discrete:
            cells = pa.array([None if c == "null" else c for c in cells.astype(str)])
            columns[field.name] = pa.array([None if c is None else c == "True" for c in cells.to_pylist()]) \
                if pa.types.is_boolean(field.type) else cells  # fmt: skip
        else:
            columns[field.name] = pa.array(cells.to_numpy(np.float64))
    return pa.table(columns), {"fit": fit, "sample": took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="mixed,adult,churn,california")
    parser.add_argument("--families", default="autoregressive")
    parser.add_argument("--peers", default="ctgan,tvae")
    parser.add_argument("--budget", type=float, default=90.0)
    parser.add_argument("--peer-epochs", type=int, default=PEER_EPOCHS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the mixed set, 20 s of ours, 3 epochs of theirs")
    parser.add_argument("--config", default="{}", help="JSON sections over the defaults, to try something")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.sets, args.budget, args.peer_epochs = "mixed", 20.0, 3
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    runs: list[tuple[str, str]] = [("quintet", f) for f in args.families.split(",") if f]
    runs += [("peer", p) for p in args.peers.split(",") if p]
    results = []
    for name in args.sets.split(","):
        task = mixed(int(name[5:] or 0)) if name.startswith("mixed") else named(name)
        for (kind, maker), seed in itertools.product(runs, range(args.seeds)):
            fake, figures = (ours(maker, task, args.budget, seed, json.loads(args.config)) if kind == "quintet"
                             else peer(maker, task, args.peer_epochs, seed))  # fmt: skip
            row = {"set": task.name, "maker": maker, "seed": seed} | measure(task, fake) | figures
            print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
            results.append(row)
    short = args.peer_epochs != PEER_EPOCHS
    note = f"; the peers ran {args.peer_epochs} epochs, and their time is for 300" if short else ""
    print(f"\n{args.threads} threads, budget {args.budget:g} s, {args.seeds} seeds{note}\n")
    digits = {"two_sample": 3, "tstr": 3, "trtr": 3, "columns": 3, "pairs": 3, "fit": 1, "sample": 2}
    print(markdown_rows(results, ("set", "maker"), digits))
    if args.out:
        arguments = vars(args) | {"out": str(args.out)}
        args.out.write_text(json.dumps({"arguments": arguments, "results": results}, indent=1))


def markdown_rows(results: list[dict[str, Any]], keys: tuple[str, ...], figures: dict[str, int]) -> str:
    """A table with a line for each value of `keys`: the mean of each figure, and its 95 % interval over seeds."""
    lines = [f"| {' | '.join((*keys, *figures))} |", "|---" * (len(keys) + len(figures)) + "|"]
    for name in dict.fromkeys(tuple(row[key] for key in keys) for row in results):
        rows = [row for row in results if tuple(row[key] for key in keys) == name]
        cells = list(map(str, name))
        for figure, digits in figures.items():
            values = [row[figure] for row in rows]
            cells.append(interval(values, digits))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
