"""What the speed benchmarks share: rounds in which everybody runs once, their medians, and a file of what was found.

Everybody who takes part does the same work, one after another, round after round, so that a change in the machine's
load meets all of them alike. What counts is the median over the rounds of the ratio within a round. Each benchmark
keeps its figures in benchmarks/results/NAME.json, with the machine, its load, the versions, the date and the command,
and docs/benchmarks.md is written from these files by `python benchmarks/page.py`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

RESULTS = Path(__file__).parent / "results"
OURS = "quintet"

Work = Callable[[], object]
"""One unit of work, the same for everybody who takes part."""


def shake(module: nn.Module) -> nn.Module:
    """The module, its weights moved off zero, so that no shortcut of zeros is timed."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return module


def race(works: Mapping[str, Work], rounds: int) -> dict[str, Any]:
    """Run all `works` once to warm up and then `rounds` times, one after another.

    On one thread, seconds are those of the processor, which other programs do not take away. Returns for each its
    median seconds, and for each but ours by how many times it is slower: the median over the rounds of its seconds
    divided by ours, with the smallest and the largest.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = clock()
            work()
            times[name].append(clock() - began)
    ratios = {name: [theirs / ours for theirs, ours in zip(taken, times[OURS], strict=True)]
              for name, taken in times.items() if name != OURS}  # fmt: skip
    return {
        "seconds": {name: round(statistics.median(taken), 6) for name, taken in times.items()},
        "ratios": {name: [round(f(found), 2) for f in (statistics.median, min, max)] for name, found in ratios.items()},
        "rounds": rounds,
    }


def present(makers: Mapping[str, Callable[[], Work]]) -> dict[str, Work]:
    """The work of everybody who is installed, and a line on standard error about those who are not."""
    works: dict[str, Work] = {}
    for name, make in makers.items():
        try:
            works[name] = make()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return works


def arguments(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch, the same for everybody")
    parser.add_argument("--rounds", type=int, default=rounds, help="how often everybody runs")
    return parser


def machine() -> dict[str, Any]:
    """The processor, and what of it matters for speed."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {key: next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
             for key in ("model name", "flags")}  # fmt: skip
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in facts["flags"].split()]
    return {"processor": facts["model name"], "cores": os.cpu_count(), "has": wide}


def shortened(word: str) -> str:
    """A word of the command line; of a file that lies somewhere on this machine, its name alone."""
    return Path(word).name if Path(word).is_absolute() else word


def keep(
    name: str, title: str, rows: Sequence[Mapping[str, Any]], peers: Sequence[str], *, threads: int, **more: Any
) -> None:
    """Write what was found, and `more`. `rows`: {"case": what was run} with what `race` gave; `peers`: distributions
    to name.
    """
    versions = {}
    for peer in ("torch", *peers):
        try:
            versions[peer] = importlib.metadata.version(peer)
        except importlib.metadata.PackageNotFoundError:
            continue
    facts = {
        "title": title,
        "rows": list(rows),
        **more,
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(shortened, sys.argv[1:])]),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    for row in rows:
        print(row["case"], row["seconds"], row["ratios"])
