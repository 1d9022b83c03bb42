"""Tables: quintet's families by default beside other libraries, in equal processor seconds, before several judges.

    python benchmarks/tables.py [--sets adult,california,churn,mixed,shoppers,magic,bank] [--makers autoregressive,...]
        [--seconds 90] [--seeds 0] [--judge] [--rows FOLDER]

The libraries are those of benchmarks/peers-tables.txt, which `make bench-tables` installs into an environment of their
own. Who makes rows is in table_makers.py, what they are judged by in table_judges.py, and the sets in table_sets.py.
Figures are kept in benchmarks/results/tables.json, by set, maker and seed, so that a run of some sets or makers
replaces theirs alone; `--judge` judges rows again that FOLDER holds. docs/benchmarks.md is written by page.py.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from matrix import interval
from race import RESULTS, machine
from table_sets import FILES, TARGETS, Task, named

SETS = ("adult", "california", "churn", "mixed", *FILES)
MAKERS = ("autoregressive", "masked_diffusion", "vae", "mostlyai-engine", "tvae", "ctgan")
PEERS = ("torch", "mostlyai-engine", "mostlyai-qa", "ctgan", "sdmetrics", "lightgbm")
HERE = Path(__file__).parent
KEPT = RESULTS / "tables.json"

__all__ = ["TARGETS", "Task", "markdown_rows", "named"]


def called(script: str, *words: Any) -> list[dict[str, Any]]:
    """The JSON that a script of this folder prints, a line each, run on one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1")
    done = subprocess.run([sys.executable, str(HERE / script), *map(str, words)], check=True, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, **one})  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def made(maker: str, folder: Path, rows: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Train, and draw as many rows as there are training rows into a file."""
    own = Path(tempfile.mkdtemp())
    shutil.copytree(folder, own / folder.name)  # what a library leaves beside the data is nobody else's
    with (folder / "train.csv").open() as file:
        count = sum(1 for _ in file) - 1
    (facts,) = called("table_makers.py", maker, own / folder.name, "--rows", count, "--out", rows, "--seconds", seconds,
                      "--seed", seed)  # fmt: skip
    return facts


def keep(row: dict[str, Any]) -> None:
    """Write a row of figures in the place of an older one of the same set, maker and seed."""
    facts = json.loads(KEPT.read_text()) if KEPT.exists() else {"tables": []}
    same = [old for old in facts["tables"] if any(old[key] != row[key] for key in ("set", "maker", "seed"))]
    order = {name: i for i, name in enumerate((*SETS, *MAKERS))}
    rows = sorted([*same, row], key=lambda r: (order.get(r["set"], 99), order.get(r["maker"], 99), r["seed"]))
    versions = {name: importlib.metadata.version(name) for name in PEERS}
    KEPT.write_text(json.dumps({"tables": rows, "versions": versions, "machine": machine()}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--makers", default=",".join(MAKERS))
    parser.add_argument("--seconds", type=float, default=90.0, help="processor seconds of training, one thread")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rows", type=Path, help="keep the rows that are made here")
    parser.add_argument("--judge", action="store_true", help="judge rows again that --rows holds")
    args = parser.parse_args()
    where = args.rows or Path(tempfile.mkdtemp())
    for name in args.sets.split(","):
        task, folder = named(name), where / name
        task.write(folder)
        makers = list(itertools.product(args.makers.split(","), map(int, args.seeds.split(","))))
        files = [where / f"{name}-{maker}-{seed}.csv" for maker, seed in makers]
        for (maker, seed), rows in zip(makers, files, strict=True):
            if not args.judge:
                facts = made(maker, folder, rows, args.seconds, seed)
                rows.with_suffix(".json").write_text(json.dumps({"seconds": args.seconds, **facts}))
        for (maker, seed), rows, found in zip(
            makers, files, called("table_judges.py", folder, task.target, *files), strict=True
        ):
            row = {"set": name, "maker": maker, "seed": seed, "date": time.strftime("%Y-%m-%d")}
            row |= {**json.loads(rows.with_suffix(".json").read_text()), **found}
            print(json.dumps(row), flush=True)
            keep(row)


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
