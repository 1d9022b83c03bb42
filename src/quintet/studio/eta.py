"""How far jobs are, and how long they will take: from what they wrote, from others like them, or from the budget.

Figures of a run are read off the end of its metrics.jsonl, which its process appends to.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from quintet.core.errors import QuintetError
from quintet.runs.config import seconds
from quintet.studio.jobs import Job

START, END = 8.0, 1.0
"""Seconds in which a job imports and reads before its training, and writes what came of it."""
MEASURED = 1.2
"""A run of a comparison takes so many times its training, since it is measured too."""
TAIL = 32_768
"""Bytes at the end of the metrics from which the pace is taken."""
DEFAULT = "60s"
"""What train and compare take where nothing is said."""


@dataclass(frozen=True)
class Outlook:
    """How far a job is: `share` of it from 0 to 1, the `step` of `steps` of the run that is being trained, `done` of
    `runs` of a comparison; and the seconds that are `left`. None where nobody knows.
    """

    left: float | None = None
    share: float | None = None
    step: int | None = None
    steps: int | None = None
    done: int | None = None
    runs: int | None = None


def outlooks(jobs: Iterable[Job], now: float | None = None) -> dict[str, Outlook]:
    """Of every job that waits, runs or is paused, by its id."""
    now, jobs = now or time.time(), list(jobs)
    known: dict[tuple[str, ...], tuple[float, int | None]] = {}
    for job in jobs:
        if job.spent is not None:
            known[kind(job.argv)] = (job.spent, steps_of(job.argv))
    found = dict[str, Outlook]()
    for job in sorted(jobs, key=lambda job: job.state != "running"):
        if job.state not in ("running", "waiting", "paused"):
            continue
        one = compared(job, now) if job.argv[:1] == ("compare",) else trained(job.runs / job.run, job, now)
        if one.left is None:
            one = Outlook(
                expected(job.argv, known), **{key: value for key, value in vars(one).items() if key != "left"}
            )
            if one.left is not None and job.state == "running" and job.order.begun is not None:
                one = Outlook(**{**vars(one), "left": max(0.0, one.left - (now - job.order.begun))})
        elif job.state == "running" and one.share and kind(job.argv) not in known:
            known[kind(job.argv)] = (one.left / max(1e-3, 1 - one.share) + START, steps_of(job.argv))
        found[job.id] = one
    return found


def whole(jobs: Sequence[Job], found: Mapping[str, Outlook]) -> tuple[float, int]:
    """(seconds until all that runs or waits is done, one after another; of how many of them nobody knows)."""
    lefts = [found[job.id].left for job in jobs if job.state in ("running", "waiting") and job.id in found]
    return sum(left for left in lefts if left is not None), lefts.count(None)


# -- of one job --------------------------------------------------------------------------------------------------------


def trained(run: Path, job: Job, now: float) -> Outlook:
    """Of a run that is trained, from its own records: by its budget, or once it was resumed by its pace."""
    records, told = tail(run / "metrics.jsonl")
    if not records:
        return Outlook()
    first, last = records[0], records[-1]
    step, steps = last["step"], max(last["steps"], steps_of(job.argv) or 0)  # it may be trained further
    budget = None if job.order.resumed or steps_of(job.argv) else budget_of(job.argv)
    if step >= steps and (budget is None or job.argv[:1] == ("train",)):
        return Outlook(END, 1.0, step, steps)
    if budget is not None:
        left = budget - last["seconds"]
    elif step > first["step"]:
        left = (last["seconds"] - first["seconds"]) / (step - first["step"]) * (steps - step)
    else:
        return Outlook(None, step / steps, step, steps)
    if job.state == "running":
        left -= max(0.0, now - told)
    return Outlook(max(0.0, left) + END, step / steps, step, steps)


def compared(job: Job, now: float) -> Outlook:
    """Of a comparison: whole runs that are measured, and the one that is being trained."""
    folder, total = job.runs / job.run, entries(job, job.runs / job.run)
    if total is None:
        return Outlook()
    kept = {path.stem: path for path in folder.glob("*-*.json")}
    took, current, begun = [], Outlook(), 0.0  # `begun`: seconds of the run that is not measured yet
    for path in folder.glob("*-*/metrics.jsonl"):
        records, told = tail(path)
        spent = float(records[-1]["seconds"]) if records else 0.0
        if (end := kept.get(path.parent.name)) is not None:
            took.append(min(age(path.parent / "manifest.json") - age(end), 2 * spent + 30.0))
        elif records:
            current = trained(path.parent, job, now)
            begun = spent + (max(0.0, now - told) if job.state == "running" else 0.0)
    each = budget_of(job.argv) if steps_of(job.argv) is None else None
    if each is None and current.left is not None:
        each = begun + current.left
    one = sum(took) / len(took) if took else None if each is None else each * MEASURED
    done = min(total, len(kept))
    if one is None:
        return Outlook(None, done / total, current.step, current.steps, done, total)
    left = (total - done) * one - min(begun, 0.95 * one)
    if not took and current.step is None:
        left += max(0.0, START - (now - job.order.begun if job.state == "running" and job.order.begun else 0.0))
    return Outlook(left + END, max(0.0, 1 - left / (total * one)), current.step, current.steps, done, total)


def age(path: Path) -> float:
    """Seconds since a file was written."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def entries(job: Job, folder: Path) -> int | None:
    """How many runs a comparison of a source has; None of one that takes runs which are there."""
    if "--run" not in job.argv:
        return None
    from quintet.registry import COMPARED  # it takes torch

    named = option(job.argv, "--families")
    families = len(COMPARED) if named is None else len([name for name in named.split(",") if name.strip()])
    try:
        left_out = len(json.loads((folder / "comparison.json").read_text())["choice"]["left_out"])
    except (OSError, ValueError, KeyError, TypeError):
        left_out = 0
    seeds = option(job.argv, "--seeds") or "1"
    return max(1, families - left_out) * (int(seeds) if seeds.isdecimal() else 1)


def expected(argv: tuple[str, ...], known: Mapping[tuple[str, ...], tuple[float, int | None]]) -> float | None:
    """Seconds of a job that has not begun: what another of its kind took, or else its budget."""
    steps = steps_of(argv)
    if (found := known.get(kind(argv))) is not None:
        took, others = found
        return took * steps / others if steps and others else took
    budget = budget_of(argv) if argv[:1] == ("train",) and steps is None else None
    return None if budget is None else budget + START


# -- what stands in a command ------------------------------------------------------------------------------------------

OWN = ("--run", "--seed", "--steps", "--output", "-o", "--runs")
"""Options in which jobs of one kind may differ."""


@lru_cache(4096)
def kind(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command without what makes it this one: those of one kind take as long, step for step."""
    return tuple(word for i, word in enumerate(argv)
                 if not (word.partition("=")[0] in OWN or (i and argv[i - 1] in OWN)))  # fmt: skip


def option(argv: Sequence[str], *names: str) -> str | None:
    """The value of an option, as `--name value` or `--name=value`."""
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else argv[i + 1] if i + 1 < len(argv) else None
    return None


@lru_cache(4096)
def steps_of(argv: tuple[str, ...]) -> int | None:
    """The steps that it asks for."""
    given = option(argv, "--steps") or ""
    return int(given) if given.isdecimal() and int(given) else None


def budget_of(argv: Sequence[str]) -> float | None:
    """The seconds that it asks for, of one run."""
    given = option(argv, "--budget") or (None if "resume" in argv[:1] else DEFAULT)
    try:
        return None if given is None else seconds(given)
    except QuintetError:
        return None


def tail(path: Path) -> tuple[list[dict[str, Any]], float]:
    """The newest whole records of a run that have step, steps and seconds, and when the last one was written."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines, told = file.read().splitlines(), os.fstat(file.fileno()).st_mtime
    except OSError:
        return [], 0.0
    records = []
    for line in lines[size > TAIL :]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and all(is_number(record.get(key)) for key in ("step", "steps", "seconds")):
            records.append(record)
    return records, told


def is_number(value: Any) -> bool:
    """Whether one can reckon with it."""
    return type(value) in (int, float) and math.isfinite(value)
