"""How far runs and jobs are, and how long they will take: from what runs wrote, from others like them, or from the
budget. There is one estimate of a run that trains, and every page shows it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

from quintet.runs.names import first_stage_of
from quintet.studio.commands import budget_of, kind, option, steps_of
from quintet.studio.curves import Curve, Curves
from quintet.studio.jobs import Job
from quintet.studio.library import RunFacts, facts_of

START, END = 8.0, 1.0
"""Seconds in which a job imports and reads before its training, and writes what came of it."""
MEASURED = 1.2
"""A run of a comparison takes so many times its training, as it is measured too, as long as nothing more is known."""
LOOKED = 25
"""Measuring a run takes about so many times a look at it, which draws a tenth of the samples. Of 100 runs of all kinds
half took from 13 to 50 times.
"""
WINDOW = 20
"""Records by which the speed of now is measured."""
NEWEST = 2000
"""Records among which the last looks are: ten times as many as a run writes."""
LOOKS = 3
"""Looks by which the time of the next ones is estimated."""
SLACK = 1.03
"""A plan may end so many times its budget: the trainer corrects what is farther away."""
LEAST = 8
"""Steps that a run has at least, even if they take longer than its budget."""


# -- of one run --------------------------------------------------------------------------------------------------------


class Pace(NamedTuple):
    """Steps a second, the seconds of the whole run and those that are left behind its newest record, and the seconds of
    a look.
    """

    rate: float
    whole: float
    left: float
    look: float

    def now(self, curve: Curve, now: float) -> float:
        """The seconds that are left of it by now."""
        return max(0.0, self.left - max(0.0, now - curve.written))


def pace(facts: RunFacts, curve: Curve) -> Pace | None:
    """How fast a run goes by its last records, and how long it will take until its process says what came of it: the
    steps that are left at the speed of now, and the looks between them, each as long as the last ones. A run with a
    `budget` ends with it, since its plan is corrected: that counts until there is a look that tells how long looks are,
    and where the machine has just become slower. None: not known yet.
    """
    with curve.lock:
        at, seconds = np.array(curve.at[-NEWEST:]), np.array(curve.seconds[-NEWEST:])
        looked = {look["step"] for look in curve.looks[-NEWEST:]}
        step, steps = curve.step, curve.steps
    if step is None or steps is None:
        return None
    known = np.isfinite(at) & np.isfinite(seconds)
    at, seconds = at[known], seconds[known]
    new = np.flatnonzero(np.diff(at, prepend=-1) > 0)  # the record of a look is written before its time is counted
    at, seconds = at[new], seconds[new]
    went, took = np.diff(at), np.diff(seconds)
    after = np.array([before in looked for before in at[:-1]], bool)
    recent, plain = slice(-WINDOW, None), ~after
    if not went[recent][plain[recent]].sum():
        return None
    each = float(took[recent][plain[recent]].sum() / went[recent][plain[recent]].sum())
    if not each > 0:
        return None
    looks = (took - went * each)[after]
    looks = looks[min(1, len(looks) - 1) :][-LOOKS:] if len(looks) else looks  # the first finds more out than others
    look = max(0.0, float(looks.mean())) if len(looks) else 0.0
    left = max(0.0, steps - step) * each + look * ahead(step, steps, facts.every, step in looked)
    if facts.budget is not None and steps > LEAST and seconds[-1] < facts.budget:
        left = min(left, SLACK * facts.budget - seconds[-1]) if looked else facts.budget - seconds[-1]
    return Pace(1 / each, float(seconds[-1] + left), float(left) + END, look)


def ahead(step: float, steps: float, every: int, looked: bool) -> int:
    """Looks behind a step: one `every` so many steps and one at the end, and the one at this step if it is due and not
    done.
    """
    if not every:
        return int(not looked)
    now = (step == steps or step % every == 0) and not looked
    return int(now) + (int((steps - 1) // every - step // every) + 1 if step < steps else 0)


# -- of jobs -----------------------------------------------------------------------------------------------------------


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


def outlooks(jobs: Iterable[Job], curves: Curves, now: float | None = None) -> dict[str, Outlook]:
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
        one = compared(job, curves, now) if job.argv[:1] == ("compare",) else trained(job, curves, now)
        if one.left is None:
            left = expected(job.argv, known)
            if left is not None and job.state == "running" and job.order.begun is not None:
                left = max(0.0, left - (now - job.order.begun))
            one = replace(one, left=left)
        elif job.state == "running" and one.share and kind(job.argv) not in known:
            known[kind(job.argv)] = (one.left / max(1e-3, 1 - one.share) + START, steps_of(job.argv))
        found[job.id] = one
    return found


def whole(jobs: Sequence[Job], found: Mapping[str, Outlook], at_once: int = 1) -> tuple[float, int]:
    """(seconds until all that runs or waits is done, so many `at_once`, each of which begins when another ends; of how
    many of them nobody knows).
    """
    lefts = [found[job.id].left for job in sorted(jobs, key=lambda job: job.state != "running")
             if job.state in ("running", "waiting") and job.id in found]  # fmt: skip
    ends = [0.0] * at_once
    for left in lefts:
        ends[ends.index(min(ends))] += left or 0.0
    return max(ends), lefts.count(None)


def trained(job: Job, curves: Curves, now: float) -> Outlook:
    """Of a run that is trained, by its records. It may be about to be trained further than these say; and while an
    autoencoder is trained on the way to it, nobody knows how long it will take.
    """
    path = job.runs / job.run
    first = curves.of(path.with_name(first_stage_of(job.run)))
    if not (path / "config.yaml").exists() and first.step is not None and first.steps:
        return Outlook(None, first.step / first.steps / 2, int(first.step), int(first.steps))
    facts, curve = facts_of(job.run, path, 0) or RunFacts(job.run, path, 0.0), curves.of(path)
    if curve.step is None or curve.steps is None:
        return Outlook()
    steps = max(curve.steps, steps_of(job.argv) or 0)
    found, budget = pace(facts, curve), None if steps_of(job.argv) else budget_of(job.argv)
    left = None
    if job.argv[:1] == ("resume",) and curve.step >= steps and budget is not None:
        left = max(0.0, budget - curve.spent) + END
    elif found is not None:
        left = found.now(curve, now if job.state == "running" else 0.0) + (steps - curve.steps) / found.rate
    return Outlook(left, curve.step / steps, int(curve.step), int(steps))


# -- of comparisons ----------------------------------------------------------------------------------------------------


class Took(NamedTuple):
    """Seconds of a run of a comparison: of its training and all before it, and of measuring it."""

    training: float
    measuring: float


def compared(job: Job, curves: Curves, now: float) -> Outlook:
    """Of a comparison: runs that are measured tell what the others take, and looks at one what measuring it will."""
    folder = job.runs / job.run
    names = entries(job, folder)
    if names is None:
        return Outlook()
    known = taken(folder, curves)
    over = known.keys() | failed(folder)
    rest = [name for name in names if name not in over]
    each = budget_of(job.argv) if steps_of(job.argv) is None else None
    current = Outlook(done=len(names) - len(rest), runs=len(names))
    spent, left = sum(map(sum, known.values())), END
    for name in sorted(rest, key=lambda name: not (folder / name).is_dir()):  # what has begun tells of the others
        curve, behind = curves.of(folder / name), 0.0
        own = pace(facts_of(name, folder / name, 0) or RunFacts(name, folder, 0.0), curve)
        one = foreseen(name, known, each, own)
        if curve.step is not None and curve.steps is not None:
            current = replace(current, step=int(curve.step), steps=int(curve.steps))
            behind = curve.spent + (max(0.0, now - curve.written) if job.state == "running" else 0.0)
            if one is not None:
                known[name] = one
        if one is None:
            return replace(current, share=len(over) / len(names))
        spent, left = spent + behind, left + max(0.0, sum(one) - behind)
    if not known:
        left += max(0.0, START - (now - (job.order.begun or now) if job.state == "running" else 0.0))
    return replace(current, left=left, share=spent / (spent + left))


def foreseen(name: str, known: Mapping[str, Took], each: float | None, own: Pace | None) -> Took | None:
    """What a run of this name and pace takes in all: as long as others of its family; or `each`, or as long as any, and
    to be measured as a look at it says. None: nobody knows.
    """
    alike = [one for other, one in known.items() if other.rpartition("-")[0] == name.rpartition("-")[0]]
    usual = [mean(part) for part in zip(*(alike or known.values()), strict=True)]
    training = own.whole if own else usual[0] if usual else each
    if training is None:
        return None
    looks = LOOKED * own.look if own and own.look else 0.0
    others = usual[1] if usual else (MEASURED - 1) * training
    return Took(training, others if alike else looks or others)


def taken(folder: Path, curves: Curves) -> dict[str, Took]:
    """What the runs took that are measured, by their names, in the order in which they were."""
    kept = sorted((written(path), path.stem) for path in folder.glob("*-*.json"))
    before, found = written(folder / "head.json"), dict[str, Took]()
    for end, name in kept:
        curve = curves.of(folder / name)
        planned = min(max(0.0, written(folder / name / "manifest.json") - before), START + curve.spent / 10)
        found[name] = Took(curve.spent + planned, max(0.0, end - curve.written))
        before = end
    return found


def failed(folder: Path) -> set[str]:
    """The runs of a comparison that came to nothing."""
    try:
        return set(json.loads((folder / "failures.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()


def written(path: Path) -> float:
    """When a file was written; now, if it was not."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def entries(job: Job, folder: Path) -> list[str] | None:
    """The names of the runs of a comparison of a source; None of one that takes runs which are there."""
    if "--run" not in job.argv:
        return None
    from quintet.registry import COMPARED  # it takes torch

    named = option(job.argv, "--families")
    families = list(COMPARED) if named is None else [name.strip() for name in named.split(",") if name.strip()]
    try:
        left_out = set(json.loads((folder / "comparison.json").read_text())["choice"]["left_out"])
    except (OSError, ValueError, KeyError, TypeError):
        left_out = set()
    seeds = option(job.argv, "--seeds") or "1"
    return [f"{family}-{seed}" for family in families if family not in left_out
            for seed in range(int(seeds) if seeds.isdecimal() else 1)]  # fmt: skip


# -- of what has not begun ---------------------------------------------------------------------------------------------


def expected(argv: tuple[str, ...], known: Mapping[tuple[str, ...], tuple[float, int | None]]) -> float | None:
    """Seconds of a job that has not begun: what another of its kind took, or else its budget."""
    steps = steps_of(argv)
    if (found := known.get(kind(argv))) is not None:
        took, others = found
        return took * steps / others if steps and others else took
    budget = budget_of(argv) if argv[:1] == ("train",) and steps is None else None
    return None if budget is None else budget + START
