"""How a comparison stands: what its folder says while it is made, put as the report that it will be."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quintet.comparison.contest import BEGUN, FAILURES, HEAD
from quintet.comparison.document import completed, failed
from quintet.runs.folder import Run
from quintet.runs.lock import who_writes
from quintet.sources.load import called

REPORT = "report.json"
"""Beside report.html in the folder of a comparison that was asked to write it there."""
KEPT = "*-*.json"
"""What was measured of one run: its family and its seed are the name."""


@dataclass(frozen=True)
class Unmeasured:
    """A run without figures yet: it is "training", is "trained", was "begun" and is at rest, or is "waiting"."""

    run: str
    family: str
    seed: int
    state: str
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Standing:
    """`document`: a report of what has been measured; `left`: the other runs; `whole`: whether that is all there will
    be; `written`: whether a process is making it now.
    """

    document: Mapping[str, Any]
    left: tuple[Unmeasured, ...]
    whole: bool
    written: bool = False

    @property
    def measured(self) -> int:
        """How many runs have figures."""
        return sum(entry.get("status") == "ok" for entry in self.document["models"])


def standing(folder: Path) -> Standing:
    """What the folder of a comparison holds: its report, or what is there of it."""
    begun, report = read(folder / BEGUN), read(folder / REPORT)
    if report.get("models") and isinstance(report.get("verdict"), dict) and (not begun or begun.get("finished")):
        return Standing(report, (), True)
    told = read(folder / HEAD)
    head = {"source": source_of(begun), "command": begun.get("command", "")} | told
    entries, left = [], []
    for name in runs_of(folder, head):
        found = entry_of(folder, name, head)
        entries.append(found) if isinstance(found, dict) else left.append(found)
    document = completed(head, entries)
    notes = (told.get("choice") or {}).get("notes") or []
    document["verdict"]["caveats"] = [*notes, *document["verdict"]["caveats"]]
    return Standing(document, tuple(left), not left and bool(entries), who_writes(folder) is not None)


def read(path: Path) -> dict[str, Any]:
    """The JSON object of a file; an empty one if there is none, or only a part."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def source_of(begun: Mapping[str, Any]) -> str:
    """What a comparison is of, as its command says it; called as it will be once it has been read."""
    try:
        words = shlex.split(str(begun.get("command", "")).split(" --")[0])
    except ValueError:
        return ""
    return called(" ".join(words[2:]))


def runs_of(folder: Path, head: Mapping[str, Any]) -> Iterator[str]:
    """The names of the runs of a comparison, in the order in which they are made; of one that has not said which they
    are, those that are there.
    """
    families, seeds = head.get("families"), head.get("seeds")
    if families and seeds:
        yield from (f"{family}-{seed}" for family in families for seed in seeds if "/" not in f"{family}{seed}")
    else:
        begun = {path.parent.name for path in folder.glob("*-*/config.yaml")}
        yield from sorted(begun | {path.stem for path in folder.glob(KEPT)})


def entry_of(folder: Path, name: str, head: Mapping[str, Any]) -> dict[str, Any] | Unmeasured:
    """A run as the report has it, or as far as it has come."""
    family, _, number = name.rpartition("-")
    seed = int(number) if number.isdecimal() else 0
    who = {"family": family, "seed": seed, "run": name}
    if kept := read(folder / f"{name}.json"):
        return who | kept
    left_out = (head.get("choice") or {}).get("left_out") or {}
    if family in left_out:
        return who | failed(str(left_out[family]), "left out")
    if why := read(folder / FAILURES).get(name):
        return who | failed(str(why))
    run = Run(folder / name)
    records = run.metrics()
    if not records:
        state = "training" if who_writes(run.path) else "begun" if run.path.is_dir() else "waiting"
        return Unmeasured(name, family, seed, state)
    last = records[-1]
    curve = [(float(r["seconds"]), float(r["quality"])) for r in records
             if r.get("quality") is not None and "seconds" in r]  # fmt: skip
    ended = last["step"] >= last["steps"]
    state = "training" if who_writes(run.path) else "trained" if ended else "begun"
    return Unmeasured(name, family, seed, state, int(last["step"]), int(last["steps"]),
                      float(last.get("seconds") or 0.0), tuple(curve))  # fmt: skip
