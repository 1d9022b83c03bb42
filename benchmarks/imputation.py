"""Imputation: 20 % of the cells of Adult's test rows hidden at random, filled by quintet and by two usual ways.

    python benchmarks/imputation.py [--families autoregressive,masked_diffusion] [--budget 90] [--rows 2000]
        [--draws 20] [--seeds 1] [--threads 2] [--quick] [--out FILE.json]

`mode / median` fills each column with its own; `iterative` is scikit-learn's IterativeImputer at its defaults on
standardised numbers and one-hot or ordinal categories of 10,000 training rows, the likeliest category or the nearest.
quintet draws each hidden cell `draws` times: the most frequent category, the median of the numbers. Figures on the
hidden cells: accuracy of categories (mean over columns), and the numbers' mean absolute error and root mean square
error in standard deviations of the column (mean over columns; of the mean of the draws for the latter). Adult is read
from $QUINTET_DATA.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tables import Task, markdown_rows, named

from quintet.core.random import some
from quintet.fit.fitting import plan, train_planned


def hide(table: pa.Table, share: float, seed: int) -> tuple[pa.Table, np.ndarray]:
    """The table with nulls, and which cells (N, columns) were hidden; nulls of the table are none of them."""
    hidden = np.random.default_rng(seed).random((table.num_rows, table.num_columns)) < share
    columns = {}
    for i, name in enumerate(table.column_names):
        cells = table[name].combine_chunks()
        hidden[:, i] &= ~cells.is_null().to_numpy(zero_copy_only=False)
        left = [None if h else c for h, c in zip(hidden[:, i], cells.to_pylist(), strict=True)]
        columns[name] = pa.array(left, cells.type)
    return pa.table(columns), hidden


def numeric(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


Filled = dict[str, tuple[np.ndarray, np.ndarray]]
"""Column -> (N,) the guess for the absolute error or the category, and the guess for the squared error."""


def simple(train: pa.Table, holes: pa.Table) -> Filled:
    out: Filled = {}
    for name in train.column_names:
        cells = [c for c in train[name].to_pylist() if c is not None]
        if numeric(train[name].type):
            out[name] = np.full(len(holes), np.median(cells)), np.full(len(holes), np.mean(cells))
        else:
            words, counts = np.unique(np.array(cells, object).astype(str), return_counts=True)
            out[name] = (np.full(len(holes), words[counts.argmax()], object),) * 2
    return out


def iterative(train: pa.Table, rows: int, onehot: bool, holes: pa.Table) -> Filled:
    """One-hot without the most frequent category (with all of them the columns sum to one, and each hole's means solve
    its own regressions: it would stay at the mode); or ordinal, by frequency, rounded."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    scale, words = {}, {}
    for name in train.column_names:
        cells = [c for c in train[name].to_pylist() if c is not None]
        if numeric(train[name].type):
            scale[name] = float(np.mean(cells)), float(np.std(cells))
        else:
            values, counts = np.unique(np.array(cells, object).astype(str), return_counts=True)
            words[name] = [str(w) for w in values[np.argsort(-counts)]]

    def matrix(table: pa.Table) -> np.ndarray:
        parts = []
        for name in train.column_names:
            cells = table[name].to_pylist()
            if name in scale:
                mean, std = scale[name]
                parts.append([[np.nan if c is None else (c - mean) / std] for c in cells])
                continue
            codes = np.eye(len(words[name]))[:, 1:] if onehot else np.arange(len(words[name]))[:, None]
            row = dict(zip(words[name], codes, strict=True))
            parts.append([row.get(c, np.full(codes.shape[1], np.nan)) for c in cells])
        return np.concatenate([np.asarray(p, float) for p in parts], 1)

    few = train.take(some(train, rows, 0))
    filled = IterativeImputer(max_iter=10, random_state=0).fit(matrix(few)).transform(matrix(holes))
    out: Filled = {}
    at = 0
    for name in train.column_names:
        if name in scale:
            mean, std = scale[name]
            out[name] = (filled[:, at] * std + mean,) * 2
            at += 1
            continue
        k = len(words[name])
        if onehot:
            part = filled[:, at : at + k - 1]
            code = np.concatenate([1 - part.sum(1, keepdims=True), part], 1).argmax(1)
        else:
            code = filled[:, at].round().clip(0, k - 1).astype(int)
        out[name] = (np.array(words[name], object)[code],) * 2
        at += k - 1 if onehot else 1
    return out


def ours(family: str, task: Task, holes: pa.Table, *, budget: float, draws: int, seed: int, config: Any) -> Filled:
    dataset = task.dataset()
    model = train_planned(plan(family, dataset, budget=budget, seed=seed, config=config), dataset, None,
                   Path(tempfile.mkdtemp()), None, None, {})  # fmt: skip
    tables = model.complete(holes, draws=draws, seed=seed)
    out: Filled = {}
    for field in task.parts["train"].schema:
        if numeric(field.type):
            cells = np.stack([t[field.name].to_numpy() for t in tables])
            out[field.name] = np.median(cells, 0), cells.mean(0)
        else:
            rows = zip(*(t[field.name].to_pylist() for t in tables), strict=True)
            out[field.name] = (np.array([most(row) for row in rows], object),) * 2
    return out


def most(row: tuple[Any, ...]) -> Any:
    """The most frequent, which is not null."""
    given = [c for c in row if c is not None]
    return max(set(given), key=given.count) if given else ""


def score(truth: pa.Table, hidden: np.ndarray, filled: Filled, train: pa.Table) -> dict[str, float]:
    right, mae, rmse = [], [], []
    for i, name in enumerate(truth.column_names):
        at = hidden[:, i]
        real = np.array(truth[name].to_pylist(), object)[at]
        first, second = (guess[at] for guess in filled[name])
        if numeric(truth[name].type):
            std = float(np.std(train[name].to_numpy()))
            mae.append(np.abs(first.astype(float) - real.astype(float)).mean() / std)
            rmse.append(np.sqrt(((second.astype(float) - real.astype(float)) ** 2).mean()) / std)
        else:
            right.append((first == real).mean())
    return {"accuracy": float(np.mean(right)), "mae": float(np.mean(mae)), "rmse": float(np.mean(rmse))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default="autoregressive")
    parser.add_argument("--budget", type=float, default=90.0)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=20, help="at least 2")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--config", default="{}", help="JSON sections over the defaults, to try something")
    parser.add_argument("--quick", action="store_true", help="20 s, 300 rows, 5 draws")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.budget, args.rows, args.draws = 20.0, 300, 5
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    task = named("adult")
    train = task.parts["train"]
    chosen = some(task.parts["test"], args.rows, 0)
    truth = task.parts["test"].take(chosen)
    results = []
    for seed in range(args.seeds):
        holes, hidden = hide(truth, 0.2, seed)
        rows = 1_000 if args.quick else 10_000
        makers: dict[str, Any] = {
            "mode / median": partial(simple, train),
            "iterative, one-hot": partial(iterative, train, rows, True),
            "iterative, ordinal": partial(iterative, train, rows, False),
        }
        for family in filter(None, args.families.split(",")):
            makers[family] = partial(ours, family, task, budget=args.budget, draws=args.draws, seed=seed,
                                     config=json.loads(args.config))  # fmt: skip
        for name, fill in makers.items():
            began = time.perf_counter()
            filled = fill(holes)
            row = {"maker": name, "seed": seed} | score(truth, hidden, filled, train)
            results.append(row | {"seconds": time.perf_counter() - began})
            print(json.dumps(results[-1]), flush=True)
    print(
        f"\n{len(truth)} rows, {args.threads} threads, budget {args.budget:g} s, {args.draws} draws, {args.seeds} seeds"
    )
    print()
    print(markdown_rows(results, ("maker",), {"accuracy": 3, "mae": 3, "rmse": 3, "seconds": 1}))
    if args.out:
        arguments = vars(args) | {"out": str(args.out)}
        args.out.write_text(json.dumps({"arguments": arguments, "results": results}, indent=1))


if __name__ == "__main__":
    main()
