"""Labels of questions, sentences and pictures: the default classifier beside a tuned linear one on the same rows.

    python benchmarks/classification.py [--sets trec,subj,mnist,digits] [--budget 60s] [--seeds 3] [--folds 10]
                                        [--threads 1] [--out FILE.json]

`quintet train autoregressive --data SET --target label --condition text` (or image) with default settings and nothing
tuned on a set: accuracy on the test split with a 95 % Wilson interval, log-loss and expected calibration error of each
seed. `subj` has no published test split: `--folds` of its ten folds (stratified, seed 0) are trained and tested, one
seed each, and the interval is that of all their test rows together. Both models see all rows that are not test rows.

The linear one is logistic regression on TF-IDF, for texts: n-grams of words or of characters or both, sublinear or not,
and C, all chosen by 3-fold cross-validation on the rows that are not test rows (of the first fold, for `subj`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_union

import quintet
from quintet.core.random import some
from quintet.metrics.labels import wilson
from quintet.sources import load as sources
from quintet.sources.load import Dataset, load_source

GIVEN = {"trec": "text", "subj": "text", "mnist": "image", "digits": "image"}
STRENGTHS = (1.0, 10.0, 100.0)


# -- the linear one --------------------------------------------------------------------------------------------------


def words(most: int, sublinear: bool) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, most), sublinear_tf=sublinear, token_pattern=r"\S+")


def characters(most: int, sublinear: bool) -> TfidfVectorizer:
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, most), sublinear_tf=sublinear, min_df=2)


def features() -> dict[str, Any]:
    """What the linear one may see, by name."""
    out: dict[str, Any] = {}
    for sublinear in (False, True):
        how = ", sublinear" if sublinear else ""
        out |= {f"words 1-{most}{how}": words(most, sublinear) for most in (1, 2, 3)}
    out["characters 1-4, sublinear"] = characters(4, True)
    out["words 1-2 and characters 1-4, sublinear"] = make_union(words(2, True), characters(4, True))
    return out


def regression(strength: float) -> Any:
    return OneVsRestClassifier(LogisticRegression(C=strength, solver="liblinear", max_iter=300))


def tuned(texts: list[str], y: np.ndarray) -> tuple[str, float, float]:
    """(features, C, accuracy in cross-validation) of the best."""
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(texts, y))
    best = ("", 0.0, 0.0)
    for name, vectors in features().items():
        right = dict.fromkeys(STRENGTHS, 0.0)
        for train, test in folds:
            x = vectors.fit_transform([texts[i] for i in train])
            unseen = vectors.transform([texts[i] for i in test])
            for strength in STRENGTHS:
                right[strength] += regression(strength).fit(x, y[train]).score(unseen, y[test]) / len(folds)
        best = max([best, *((name, strength, score) for strength, score in right.items())], key=lambda one: one[2])
    return best


# -- rows ------------------------------------------------------------------------------------------------------------


def labels(data: Dataset, split: str) -> np.ndarray:
    return np.array(data.column("label", split).column(0).to_pylist())


def folded(data: Dataset, count: int = 10) -> list[Dataset]:
    """The set once a fold: its rows are test rows; of the others a tenth, drawn at random, are validation rows."""
    everything = np.concatenate([data.index(split) for split in sources.SPLITS])
    whole = replace(data, splits={"all": np.sort(everything)})
    out = []
    for k, (rest, test) in enumerate(StratifiedKFold(count, shuffle=True, random_state=0).split(
            whole.splits["all"], labels(whole, "all"))):  # fmt: skip
        held = np.isin(np.arange(len(rest)), some(len(rest), -(-len(rest) // 10), 0))
        splits = {"train": rest[~held], "validation": rest[held], "test": test}
        out.append(
            replace(data, name=f"{data.name}-fold-{k}", source=f"{data.name}-fold-{k}", splits=splits, digest="")
        )
    return out


def tasks(name: str, seeds: int, folds: int) -> list[tuple[Dataset, int]]:
    """(data, seed) of every run; folds are named sources for as long as this program runs."""
    data = load_source(name)
    parts = [whole(part) for part in (folded(data)[:folds] if name == "subj" else [data])]
    for part in parts:
        sources.SOURCES[part.source or part.name] = lambda part=part: part  # type: ignore[assignment,misc]
    return [(part, 0) for part in parts] if name == "subj" else [(parts[0], seed) for seed in range(seeds)]


def whole(data: Dataset) -> Dataset:
    """The set with its validation rows among those to train on: a model of labels chooses nothing by them."""
    train = np.sort(np.concatenate([data.splits["train"], data.splits["validation"]]))
    return replace(data, splits={**data.splits, "train": train}, digest="")


# -- the measurement -------------------------------------------------------------------------------------------------


def row(name: str, hits: Sequence[int], counts: Sequence[int], **facts: Any) -> dict[str, Any]:
    """`counts`: test rows of each run. Folds have rows of their own, seeds the same ones, which count once."""
    total, n = sum(hits), sum(counts)
    rows = n if name.startswith("subj") else counts[0]
    low, high = wilson(round(total / n * rows), rows)
    each = [h / c for h, c in zip(hits, counts, strict=True)]
    return {"name": name, "accuracy": total / n, "low": low, "high": high, "each": each, "items": n, **facts}


def network(name: str, runs: list[tuple[Dataset, int]], budget: str, folder: str) -> dict[str, Any]:
    found, began = [], time.perf_counter()
    for data, seed in runs:
        model = quintet.train(
            "autoregressive", data=data.source or data.name, target="label", condition=GIVEN[name], budget=budget,
            seed=seed, run=f"{data.name}-{seed}", runs=folder,
        )  # fmt: skip
        figures = model.evaluate()["metrics"]
        seconds = model.run.metrics()[-1]["seconds"]
        found.append(figures | {"seconds": seconds, "steps": model.config.steps})
        print(f"{data.name} seed {seed}: {figures['accuracy']:.1%}, {model.config.steps} steps, {seconds:.0f} s",
              flush=True)  # fmt: skip
    hits = [round(f["accuracy"] * f["items"]) for f in found]
    means = {key: float(np.mean([f[key] for f in found]))
             for key in ("log_loss", "calibration_error", "seconds", "steps")}  # fmt: skip
    spent = time.perf_counter() - began
    return row(f"{name}, quintet", hits, [f["items"] for f in found], total_seconds=spent, **means)


def linear(name: str, runs: list[tuple[Dataset, int]]) -> dict[str, Any]:
    hits, counts, chosen, began = [], [], None, time.perf_counter()
    parts = [data for data, _ in runs] if name == "subj" else [runs[0][0]]
    for data in parts:
        texts, y = data.rows("train"), labels(data, "train")
        chosen = chosen or tuned(texts, y)
        vectors = features()[chosen[0]]
        model = regression(chosen[1]).fit(vectors.fit_transform(texts), y)
        hits.append(int((model.predict(vectors.transform(data.rows("test"))) == labels(data, "test")).sum()))
        counts.append(len(data.rows("test")))
    assert chosen is not None
    about = f"{chosen[0]}, C {chosen[1]:g}, {chosen[2]:.1%} in cross-validation"
    return row(f"{name}, TF-IDF", hits, counts, chosen=about, seconds=time.perf_counter() - began)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """As markdown."""
    lines = ["| | accuracy | 95 % interval | each seed or fold | log-loss | calibration error | s a run | steps |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in rows:
        each = ", ".join(f"{value:.1%}" for value in r["each"])
        cells = [r["name"], f"{r['accuracy']:.1%}", f"{r['low']:.1%} to {r['high']:.1%}", each]
        for key, form in (("log_loss", ".3f"), ("calibration_error", ".3f"), ("seconds", ".0f"), ("steps", ",.0f")):
            cells.append(format(r[key], form) if key in r else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *(f"\n{r['name']}: {r['chosen']}" for r in rows if "chosen" in r)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="trec,subj,mnist,digits")
    parser.add_argument("--budget", default="60s", help="of training, each model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=10, help="of the ten folds of subj")
    parser.add_argument("--models", default="quintet,linear")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--runs", default=None, help="keep the runs in this folder")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.sets.split(","):
            runs = tasks(name, given.seeds, given.folds)
            if "quintet" in given.models:
                rows.append(network(name, runs, given.budget, given.runs or folder))
            if "linear" in given.models and GIVEN[name] == "text":
                rows.append(linear(name, runs))
    print(f"budget {given.budget}, {torch.get_num_threads()} threads\n\n{table(rows)}")
    if given.out:
        given.out.write_text(json.dumps({"budget": given.budget, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
