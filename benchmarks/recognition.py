"""Spoken digits written down: how many characters are wrong?

    python benchmarks/recognition.py [--budget 3m] [--seeds 2] [--threads 1] [--out FILE.json]

`quintet train autoregressive --data spoken_digits --target word --codec text --condition audio` with default settings:
an encoder reads the log-mel frames of a recording, a decoder writes "zero" ... "nine" character by character. On the
300 recordings of the test split: character and word error rate (edits over characters, or words, of the reference) and
the share of recordings without any error with a 95 % Wilson interval, at temperature 0. The first row is a classifier
of the same recordings (`--target label`) with its accuracy in the place of the share.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import quintet
from quintet.metrics.labels import wilson

RUNS: dict[str, dict[str, Any]] = {
    "label given audio": {"target": "label"},
    "text given audio": {"target": "word", "codec": "text"},
}


def measured(name: str, budget: str, seeds: int, folder: str) -> dict[str, Any]:
    found = []
    for seed in range(seeds):
        model = quintet.train(
            "autoregressive", data="spoken_digits", condition="audio", budget=budget, seed=seed,
            run=f"{name.split()[0]}-{seed}", runs=folder, **RUNS[name],
        )  # fmt: skip
        result = model.evaluate()
        figures = result["metrics"] | {"steps": model.config.steps, "sampling": result.get("sampling")}
        found.append(figures | {"seconds": model.run.metrics()[-1]["seconds"]})
        shown = {
            key: f"{figures[key]:.2%}" for key in ("character_error_rate", "exact_match", "accuracy") if key in figures
        }
        print(f"{name}, seed {seed}: {shown}, {figures['steps']} steps, {found[-1]['seconds']:.0f} s", flush=True)
    share = "accuracy" if "accuracy" in found[0] else "exact_match"
    hits, n = sum(round(f[share] * f["items"]) for f in found), sum(f["items"] for f in found)
    rows = found[0]["items"]  # all seeds have the same, which count once
    low, high = wilson(round(hits / n * rows), rows)
    keys = [key for key in ("character_error_rate", "word_error_rate", "seconds", "steps") if key in found[0]]
    means = {key: float(np.mean([f[key] for f in found])) for key in keys}
    return {"name": name, "right": hits / n, "low": low, "high": high, "items": n, **means, "seeds": found}


def table(rows: list[dict[str, Any]]) -> str:
    """As markdown."""
    lines = ["| | without error | 95 % interval | character error rate | word error rate | s a run | steps |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in rows:
        cells = [r["name"], f"{r['right']:.1%}", f"{r['low']:.1%} to {r['high']:.1%}"]
        cells += [f"{r[key]:.2%}" if key in r else "" for key in ("character_error_rate", "word_error_rate")]
        cells += [f"{r['seconds']:.0f}", f"{r['steps']:,.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(RUNS))
    parser.add_argument("--budget", default="3m", help="of training, each model")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--runs", default=None, help="keep the runs in this folder")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(name, given.budget, given.seeds, given.runs or folder) for name in given.models.split(",")]
    print(f"budget {given.budget}, {torch.get_num_threads()} threads\n\n{table(rows)}")
    if given.out:
        given.out.write_text(json.dumps({"budget": given.budget, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
