"""Held-out figures of the defaults: every family on named sets, with an interval over seeds.

    python benchmarks/matrix.py mnist sprites tinyshakespeare spoken_digits --budget 60s --seeds 3 --jobs 2

Each run has one thread and a budget of its own; `--jobs 2` trains two at a time. The interval is mean +- t(0.975) times
the standard error over seeds. Prints a Markdown table for each source; `--out FILE.json` keeps every figure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from scipy.stats import t as student

EACH = ("real_items", "sample_figures", "predicted", "scored", "item_figures")
"""What a bench says of each single item, for paired differences."""


def measure(source: str, family: str, seed: int, budget: str, samples: int) -> dict[str, Any]:
    """Train one family with its defaults, given the label where there is one, and measure it on the test split."""
    import torch

    torch.set_num_threads(1)
    from quintet.core.errors import QuintetError
    from quintet.evaluation.bench import Bench
    from quintet.fit import fitting
    from quintet.sources.load import load_source

    dataset = load_source(source)
    columns = dataset.labels.column_names if dataset.labels is not None else []
    condition = "label" if "label" in columns else None
    began = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as runs:
            model = fitting.train(family, data=source, condition=condition, budget=budget, seed=seed, runs=runs)
            trained = time.perf_counter() - began
            figures = Bench(dataset, condition, samples=samples).run(model, seed=seed)
            recipe = figures.pop("recipe")["id"]
            figures = {key: value for key, value in figures.items() if key not in EACH}
            steps = model.config.steps
    except QuintetError as error:
        return {"source": source, "family": family, "seed": seed, "error": str(error)}
    out = {"source": source, "family": family, "seed": seed, "steps": steps, "train_seconds": trained,
           "recipe": recipe, **figures}  # fmt: skip
    print(json.dumps(out), flush=True)
    return out


def reference(source: str, samples: int) -> dict[str, Any]:
    """The same figures of unseen real items in the place of samples."""
    from quintet.evaluation.bench import Bench
    from quintet.sources.load import load_source

    dataset = load_source(source)
    columns = dataset.labels.column_names if dataset.labels is not None else []
    return Bench(dataset, "label" if "label" in columns else None, samples=samples).real()


def interval(values: list[float], digits: int = 3) -> str:
    """mean ± half of the 95 % interval over seeds (Student's t)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = student.ppf(0.975, len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


COLUMNS = {"tstr": "trained on samples", "auc": "AUC", "coverage": "coverage", "energy": "energy",
           "memorised": "copies"}  # fmt: skip


def figure(metrics: dict[str, Any], name: str) -> float | None:
    """A figure; of a table without a label, what a model learns from samples about its last column."""
    return metrics.get(name, metrics.get("efficacy") if name == "tstr" else None)


def table(rows: list[dict[str, Any]], real: dict[str, Any] | None = None) -> str:
    """A family a line, and one for real items."""
    header = ["family", "steps", *COLUMNS.values(), "bits a dimension", "ms a sample"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for family in dict.fromkeys(row["family"] for row in rows):
        mine = [row for row in rows if row["family"] == family and "error" not in row]
        if not mine:
            lines.append(f"| {family} | failed |" + " |" * (len(header) - 2))
            continue
        cells = ["-".join(f"{n:,}" for n in sorted({min(r["steps"] for r in mine), max(r["steps"] for r in mine)}))]
        for name in COLUMNS:
            values = [value for row in mine if (value := figure(row["metrics"], name)) is not None]
            cells.append(interval(values) if values else "-")
        scored = [row["likelihood"] for row in mine if row["likelihood"]]
        bits = interval([entry["bits_per_dim"] for entry in scored]) if scored else "none"
        kind = f" ({scored[0]['kind']}, {scored[0]['space']})" if scored else ""
        cells += [bits + kind, f"{np.median([row['ms_per_sample'] for row in mine]):.2g}"]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    if real is not None:
        measured = [row["metrics"] for row in rows if "error" not in row]
        trained = [m.get("trtr", m.get("efficacy_real")) for m in measured]  # on as many real items as samples
        as_many = [value for value in trained if value is not None]
        swapped = {"tstr": float(np.mean(as_many)) if as_many else None}
        values = [swapped.get(name, real.get(name)) for name in COLUMNS]
        lines.append("| real items | | " + " | ".join("-" if v is None else f"{v:.3f}" for v in values) + " | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--families", default="vae,gan,autoregressive,flow,diffusion")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    families = args.families.split(",")
    jobs = [(source, family, seed) for source in args.sources for seed in range(args.seeds) for family in families]
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = [future.result() for future in [pool.submit(measure, *job, args.budget, args.samples) for job in jobs]]
    for source in args.sources:
        print(f"\n### {source}, {args.budget} each, {args.seeds} seeds\n")
        print(table([row for row in rows if row["source"] == source]))
    if args.out:
        with open(args.out, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
