"""What there is to know of comparisons: which there are, how each stands, and what is new of it."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quintet.comparison.contenders import contenders
from quintet.comparison.contest import BEGUN, FAILURES, HEAD
from quintet.comparison.report import parts
from quintet.comparison.standing import KEPT, REPORT, Standing, standing
from quintet.core.errors import CheckpointError, QuintetError
from quintet.core.plain import plain
from quintet.runs.notes import notes_of
from quintet.server.problems import Refusal
from quintet.sources.load import called
from quintet.studio.commands import positional
from quintet.studio.curves import Curve
from quintet.studio.eta import outlooks
from quintet.studio.house import Studio
from quintet.studio.jobs import Job
from quintet.studio.keeping import KEPT as TAG
from quintet.studio.keeping import TOGETHER, folder_of, is_comparison

MOST = 200
"""Comparisons that a page lists."""
LEVELS = (0.6, 0.75, 0.95)
"""AUC above which samples are told from real data more and more easily, in words."""
DAMAGED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading a report raises that somebody has changed by hand."""
OPEN, AGE = 16, 1.9
"""Comparisons that are kept in memory, and seconds between two looks at one."""


class Listed(NamedTuple):
    """A comparison in the list: of what, how it stands, whom it says to keep, between whom."""

    name: str
    source: str
    state: str
    keeper: str
    ties: Sequence[str]
    crowd: Sequence[str]
    changed: float
    report: bool


class Desk:
    """Looks at comparisons: each is read again only when it has changed, however many watch it; what changes from
    second to second is looked at once a second.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio, self.lock = studio, threading.Lock()
        self.read: OrderedDict[str, tuple[str, Standing]] = OrderedDict()
        self.told: OrderedDict[str, tuple[float, list[Any], str]] = OrderedDict()

    def open(self, name: str) -> tuple[Path, Job | None]:
        """The folder of a comparison, and its job; one that waits has no folder yet. Raises Refusal 404."""
        job = self.studio.queue.of_run(name) if name else None
        if job is not None and job.argv[:1] == ("compare",) and not (self.studio.root / name).exists():
            return self.studio.root / name, job
        folder = folder_of(self.studio.root, name)
        if "/" in name or not is_comparison(folder):
            raise Refusal(404, "this is a run and no comparison", fix="the page of comparisons lists them all")
        return folder, job

    def mark(self, name: str) -> str:
        """What is another whenever a page of the comparison shows more than it did."""
        folder, job = self.open(name)
        return f"{marks(folder)} {job and job.state}"

    def look(self, name: str) -> tuple[Standing, Job | None]:
        """A comparison and its job; of one that waits in the queue nothing is known yet."""
        folder, job = self.open(name)
        if job is not None and not folder.is_dir():
            what = positional(job.argv)
            source = called(what[0]) if len(what) == 1 else job.title  # of which data runs are is not known yet
            return Standing({"source": source, "models": []}, (), False), job
        return self.standing(folder), job

    def standing(self, folder: Path) -> Standing:
        """How a comparison stands. Raises CheckpointError where its files are damaged."""
        mark = marks(folder)
        with self.lock:
            if (old := self.read.get(folder.name)) is not None and old[0] == mark:
                self.read.move_to_end(folder.name)
                return old[1]
        try:
            found = standing(folder)
        except DAMAGED as error:
            raise CheckpointError("the files of this comparison are damaged", where=str(folder), why=repr(error),
                                  fix="remove its report.json, or the whole comparison") from None  # fmt: skip
        with self.lock:
            self.read[folder.name] = mark, found
            while len(self.read) > OPEN:
                self.read.popitem(last=False)
        return found

    def news(self, name: str, cursor: str) -> tuple[list[Any], str]:
        """News of a comparison: its `mark`, and what changes from second to second."""
        then, told, new = self.told.get(name, (-math.inf, [], ""))
        if time.monotonic() - then >= AGE:
            try:
                mark = self.mark(name)
                found, job = self.look(name)
            except QuintetError:
                return [], cursor
            told = [live(self, name, found, job) | {"mark": mark}]
            new = hashlib.sha256(json.dumps(plain(told)).encode()).hexdigest()[:16]
            self.told[name] = time.monotonic(), told, new
            while len(self.told) > OPEN:
                self.told.popitem(last=False)
        return ([] if new == cursor else told), new


def state_of(found: Standing, job: Job | None) -> str:
    """In a word: "finished", "running", "waiting", "paused", "failed" or "stopped"."""
    if job is not None and job.state != "finished":
        return job.state
    if found.whole or (job is not None and not found.left):
        return "finished"
    return "running" if found.written else "stopped"


class Shelf:
    """All comparisons below the folder of runs; each is read again only when it has changed."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.studio = desk, desk.studio
        self.seen: dict[str, tuple[str, Listed]] = {}

    def all(self) -> list[Listed]:
        """The newest first, those that wait before all others."""
        jobs = {job.run: job for job in self.studio.queue.jobs() if job.argv[:1] == ("compare",)}
        found = [one for folder in folders(self.studio.root)
                 if (one := self.look(folder, jobs.pop(folder.name, None))) is not None]  # fmt: skip
        waiting = [self.waiting(job) for job in jobs.values() if job.state != "finished"]
        return sorted(found + waiting, key=lambda one: one.changed, reverse=True)

    def waiting(self, job: Job) -> Listed:
        """One that has no folder yet."""
        source = self.desk.look(job.run)[0].document["source"]
        return Listed(job.run, source, job.state, "", (), (), job.order.created, False)

    def look(self, folder: Path, job: Job | None) -> Listed | None:
        """One of them; None for a folder that is none."""
        mark = f"{marks(folder)} {job and job.state}"
        if (old := self.seen.get(folder.name)) is not None and old[0] == mark:
            return old[1]
        try:
            found = self.desk.standing(folder)
            document, changed = found.document, folder.stat().st_mtime
            keeper = document["verdict"]["keeper"]
            crowd = [c.label for c in contenders(document["models"])] or [one.family for one in found.left]
            made = Listed(folder.name, str(document.get("source") or ""), state_of(found, job), keeper["label"] or "",
                          keeper["ties"], list(dict.fromkeys(crowd)), changed,
                          (folder / REPORT).is_file())  # fmt: skip
        except (QuintetError, OSError, *DAMAGED):
            made = Listed(folder.name, "", "damaged", "", (), (), 0.0, False)
        self.seen[folder.name] = mark, made
        return made


def folders(root: Path) -> list[Path]:
    """The folders of comparisons, the newest first, as many as a page lists."""
    there = [path for path in root.glob(f"{TOGETHER}*") if (path / BEGUN).is_file() or (path / REPORT).is_file()]
    there = [path for path in there if path.name.isprintable() and is_comparison(path)]
    return sorted(there, key=lambda path: path.stat().st_mtime, reverse=True)[:MOST]


def marks(folder: Path) -> str:
    """What changes when a comparison has come further: another run has begun, is trained, is measured or has failed."""
    files = [folder / name for name in (BEGUN, HEAD, FAILURES, REPORT)]
    files += sorted(
        [*folder.glob(KEPT), folder / "lock.json", *folder.glob("*-*/lock.json"), *folder.glob("*-*/studio.json")]
    )
    return hashlib.sha256(repr([stamp(path) for path in files]).encode()).hexdigest()[:16]


def stamp(path: Path) -> tuple[str, int, int] | None:
    """By what one sees that a file has changed."""
    try:
        there = path.stat()
    except OSError:
        return None
    return path.as_posix(), there.st_mtime_ns, there.st_size


# -- one comparison ---------------------------------------------------------------------------------------------------


def shown(desk: Desk, name: str) -> dict[str, Any]:
    """What the page of a comparison shows."""
    studio, mark = desk.studio, desk.mark(name)
    found, job = desk.look(name)
    document, state = dict(found.document), state_of(found, job)
    facts: dict[str, Any] = {}
    if document["models"]:
        try:
            facts = parts(document)  # type: ignore[arg-type]
        except DAMAGED as error:
            raise CheckpointError(
                "the report of this comparison is damaged", where=str(studio.root / name), why=repr(error)
            ) from None
    answer = facts.get("answer")
    runs = {run["run"]: place_of(studio, name, run["run"]) for run in document["models"]}
    kept = {run: place for run, place in runs.items() if place and TAG in notes_of(studio.root / place).tags}
    winner = ""
    for best in facts.get("crowd", ()):
        if best.done and answer is not None and best.label == answer["keeper"]["label"]:
            winner = runs.get(best.done[0]["run"], "")
    return facts | {
        "name": name, "comparison": document, "state": state, "job": job, "left": found.left, "whole": found.whole,
        "measured": found.measured, "total": len(document["models"]) + len(found.left), "places": runs, "kept": kept,
        "winner": winner, "plain": plain_words(answer, document), "mark": mark, "live": live(desk, name, found, job),
        "folder": (studio.root / name).is_dir(), "said": notes_of(studio.root / name),
        "notes": TAG, "error": job.error if job is not None and job.state == "failed" else None,
    }  # fmt: skip


def place_of(studio: Studio, name: str, run: str) -> str:
    """Where a run of a comparison is below the folder of runs: in the comparison's own, or by itself; "": nowhere."""
    for place in (f"{name}/{run}", run):
        if (studio.root / place / "config.yaml").is_file() and ".." not in place.split("/"):
            return place
    return ""


def plain_words(answer: Mapping[str, Any] | None, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The verdict for who knows no figures: how often of 100 times samples are told from real items, in which level of
    ease that is, and how often other real items are. A classifier that does worse than guessing on items that it has
    not seen has had no luck: it tells nothing.
    """
    auc = None if answer is None else answer["keeper"]["figures"].get("auc")
    if auc is None:
        return None
    real = ((document.get("real") or {}).get("metrics") or {}).get("auc")
    of_100 = lambda value: round(100 * max(value, 0.5))  # noqa: E731
    return {"times": of_100(auc), "level": sum(auc > level for level in LEVELS),
            "real": None if real is None else of_100(real)}  # fmt: skip


def live(desk: Desk, name: str, found: Standing, job: Job | None) -> dict[str, Any]:
    """What changes from second to second: how far it is, what is being done, and the learning curves so far."""
    out = outlooks([job], desk.studio.curves).get(job.id) if job is not None else None
    total = len(found.document["models"]) + len(found.left)
    done = total - len(found.left)
    state = state_of(found, job)
    now, curve = next((one for one in found.left if one.state in ("training", "trained")), None), None
    if now is not None:
        curve = desk.studio.curves.of(desk.studio.root / name / now.run)
    lines = [
        (str(entry.get("label") or entry["family"]), entry["run"], entry.get("curve") or ())
        for entry in found.document["models"]
    ]
    lines += [(one.family, one.run, points_of(curve) if one is now and curve else one.curve) for one in found.left]
    order = list(dict.fromkeys(label for label, _, _ in lines))
    return {
        "state": state,
        "share": out.share if out is not None and out.share is not None else done / total if total else None,
        "left": round(out.left) if out is not None and out.left is not None else None,
        "done": done,
        "total": total,
        "now": None
        if now is None or curve is None or state != "running"
        else {
            "run": now.run,
            "state": now.state,
            "step": curve.step or 0,
            "steps": curve.steps or 0,
        },
        "curves": [
            {
                "run": run if sum(label == other for other, _, _ in lines) > 1 else label,
                "points": list(points),
                "colour": order.index(label) % 8,
            }
            for label, run, points in lines
            if points
        ],
    }


def points_of(curve: Curve) -> list[tuple[float, float]]:
    """Seconds and quality at each look of a run."""
    found = ((look.get("seconds"), look["quality"]) for look in curve.looks)
    return [(seconds, quality) for seconds, quality in found if seconds is not None and quality is not None]
