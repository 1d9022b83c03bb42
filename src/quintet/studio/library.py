"""Every run below the folder of runs: found by its folder, known by what it holds, and looked at again only when it has
changed. Ten thousand of them are listed in a fraction of a second.
"""

from __future__ import annotations

import calendar
import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from quintet.core.errors import QuintetError
from quintet.operations.records import last
from quintet.runs.config import RunConfig
from quintet.runs.folder import Run
from quintet.runs.lock import who_writes
from quintet.server.problems import Refusal
from quintet.training import checkpoint

NOTES = "studio.json"
"""In the folder of a run: its tags, its note, and whether it is archived."""
TOGETHER = "compare-"
"""What the names of folders begin with that hold the runs of a comparison."""
SETTLED = 0.1
"""Seconds after which a change of a folder surely has another time than the one before."""
AT_ONCE = 10.0
"""Seconds after the beginning of a run within which its first training begins."""
TAIL = 16_384, 1_048_576
"""Bytes at the end of metrics.jsonl in which the newest figures are looked for; then in the second so many."""
FEW = 50
"""Runs that are looked at while a page waits; more are looked at in the background."""
QUIET = 0.3
"""Seconds without a question after which reading in the background goes on."""
PAGE = 50
"""Runs of a page."""
STATES = ("training", "finished", "stopped", "damaged")


@dataclass(frozen=True)
class RunFacts:
    """What a list shows of a run. `name`: its path below the folder of runs; `kind`: the codec of its items; `step` of
    `steps`: how far it is; `budget`: the seconds with which its plan is made to end, of a run that goes on without a
    break; `every`: steps between looks; `changed` and `created`: seconds since 1970; `error`: why it cannot be read.
    """

    name: str
    path: Path
    changed: float
    state: str = "stopped"
    family: str = ""
    source: str = ""
    kind: str = ""
    condition: str | None = None
    preset: str = ""
    budget: float | None = None
    every: int = 0
    parameters: int | None = None
    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    loss: float | None = None
    quality: float | None = None
    held_out: float | None = None
    created: float = 0.0
    error: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False

    def words(self) -> str:
        """What a search looks at."""
        parts = (self.name, self.family, self.source, self.kind, self.condition or "", self.state, *self.tags)
        return " ".join((*parts, self.note)).lower()


SORTS = ("changed", "created", "name", "family", "source", "state", "step", "loss", "quality", "held_out")
"""By what a list can be sorted."""
WORDS = ("name", "family", "source", "state")
"""Those of them that are words."""


class Found(NamedTuple):
    """A page of a list: its runs, how many the whole list has, the number of the page and of all pages, and how many
    runs have not been looked at yet, so that they are known by their names alone.
    """

    runs: list[RunFacts]
    total: int
    page: int
    pages: int
    unread: int


class Seen(NamedTuple):
    """What was found in a folder when it had this time; None: no run. `settled`: it stays so while the time does;
    `words`: what a search looks at.
    """

    changed: int
    settled: bool
    facts: RunFacts | None
    words: str


class Library:
    """The runs below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[str, Seen] = {}
        self.reader: threading.Thread | None = None
        self.asked = 0.0  # when a page last asked for anything

    def recent(self, n: int) -> list[RunFacts]:
        """The runs that changed last, those that are training now first; none that is archived."""
        found: list[RunFacts] = []
        for name, changed in self.newest(self.folders()):
            facts = self.look(name, changed)
            if facts is not None and not facts.archived:
                found.append(facts)
            if len(found) == n:
                break
        return sorted(found, key=lambda one: one.state != "training")

    def search(
        self, text: str = "", page: int = 1, *, sort: str = "changed", down: bool = True, archived: bool = False,
        size: int = PAGE,
    ) -> Found:  # fmt: skip
        """A page of the runs that have every word of the text somewhere; those without a figure to sort by come last.
        Where many runs were not looked at yet, these are found by their names alone until all were read, in the
        background.
        """
        folders, words = self.folders(), text.lower().split()
        behind = [name for name, changed in folders.items() if self.behind(name, changed)]
        if len(behind) <= FEW:
            for name in behind:
                self.look(name, folders[name])
        else:
            self.read_all(folders)
        known: list[tuple[str, int, RunFacts | None]] = []
        for name, changed in folders.items():
            seen = self.seen.get(name)
            if seen is not None and (seen.facts is None or seen.facts.archived != archived):
                continue
            said = name.lower() if seen is None else seen.words
            if not words or all(word in said for word in words):
                known.append((name, changed, seen and seen.facts))
        known.sort(key=lambda one: (self.trains(one[0]), one[1]), reverse=True)
        if (sort, down) != ("changed", True):  # the newest first of those that are alike
            known.sort(key=lambda one: sorting(sort, *one), reverse=down)
            known.sort(key=lambda one: one[2] is None or getattr(one[2], sort) in (None, ""))
        pages = max(1, math.ceil(len(known) / size))
        page = min(max(1, page), pages)
        shown = [self.look(name, changed) for name, changed, _ in known[size * (page - 1) : size * page]]
        unread = len(behind) if len(behind) > FEW else 0
        runs = [one for one in shown if one is not None and one.archived == archived]
        return Found(runs, len(known), page, pages, unread)

    def facts(self, name: str) -> RunFacts:
        """What there is to know of one run. Raises Refusal if there is none of that name."""
        parts = name.split("/")
        inner = len(parts) == 2 and parts[0].startswith(TOGETHER)
        if (len(parts) == 1 or inner) and not any(part.startswith(".") or not part or "\0" in part for part in parts):
            try:
                self.asked = time.monotonic()
                found = self.look(name, (self.root / name).stat().st_mtime_ns)
            except (OSError, ValueError):
                found = None
            if found is not None:
                return found
        raise Refusal(404, "there is no run of this name", fix="the page of runs lists them all")

    # -- finding ---------------------------------------------------------------------------------------------------

    def folders(self) -> dict[str, int]:
        """Every folder that may be a run, by name, with the time of its last change in nanoseconds."""
        self.asked = time.monotonic()
        found = dict(below(self.root))
        for name in [name for name in found if name.startswith(TOGETHER)]:
            found |= {f"{name}/{inner}": changed for inner, changed in below(self.root / name)}
        for name in [name for name in self.seen if name not in found]:
            self.seen.pop(name, None)
        return found

    def newest(self, folders: Mapping[str, int]) -> list[tuple[str, int]]:
        """Names and times, the last change first; a run that trains is changing now."""
        return sorted(folders.items(), key=lambda one: (self.trains(one[0]), one[1]), reverse=True)

    def behind(self, name: str, changed: int) -> bool:
        """Whether a folder has changed since it was looked at."""
        seen = self.seen.get(name)
        return seen is None or seen.changed != changed

    def trains(self, name: str) -> bool:
        """Whether a run was training when it was looked at last."""
        seen = self.seen.get(name)
        return seen is not None and seen.facts is not None and seen.facts.state == "training"

    def look(self, name: str, changed: int) -> RunFacts | None:
        """What a folder holds, looked at again only if it may have changed: whatever is written into a run begins or
        ends with a new file in its folder, except for what a training appends while it goes on.
        """
        seen = self.seen.get(name)
        if seen is None or seen.changed != changed or not seen.settled:
            old = time.time_ns() - changed > SETTLED * 1e9
            facts = facts_of(name, self.root / name, changed)
            settled = old and (facts is None or facts.state != "training")
            seen = self.seen[name] = Seen(changed, settled, facts, facts.words() if facts else "")
        return seen.facts

    def read_all(self, folders: Mapping[str, int]) -> None:
        """Look at every folder, in the background, the newest first."""
        if self.reader is not None and self.reader.is_alive():
            return

        def work() -> None:
            for name, changed in self.newest(folders):
                while time.monotonic() - self.asked < QUIET:  # whoever asks for a page goes first
                    time.sleep(QUIET / 4)
                if self.behind(name, changed):
                    self.look(name, changed)
                    time.sleep(0.001)

        self.reader = threading.Thread(target=work, name="library", daemon=True)
        self.reader.start()


def below(root: Path) -> Iterator[tuple[str, int]]:
    """Name and time of each folder in this one whose name can be shown."""
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                name = entry.name
                if not name.startswith(".") and name.isprintable() and entry.is_dir():
                    yield name, entry.stat().st_mtime_ns
    except OSError:
        return  # there is no folder yet, or it has just been removed


def sorting(sort: str, name: str, changed: int, facts: RunFacts | None) -> Any:
    """By what a run stands where it does in a list; one that was not looked at has a name and a time alone."""
    value = name if sort == "name" else changed if facts is None else getattr(facts, sort)
    if facts is None and sort not in ("name", "changed", "created"):
        return "" if sort in WORDS else 0.0
    return value if isinstance(value, str) else float(value or 0)


# -- one run -----------------------------------------------------------------------------------------------------------


def facts_of(name: str, path: Path, changed: int) -> RunFacts | None:
    """What the files of a folder say; None if it is no run."""
    if not (path / "config.yaml").is_file():
        return None
    facts = replace(RunFacts(name, path, changed / 1e9, created=changed / 1e9), **notes_of(path))
    run = Run(path)
    try:
        config = run.config()
        made = run.manifest() if (path / "manifest.json").is_file() else {}
    except QuintetError as error:
        return replace(facts, state="damaged", error=str(error))
    news, done = last(tail(path / "metrics.jsonl")), newest_checkpoint(run)
    steps = whole(news["steps"]) or config.steps
    state = "training" if who_writes(path) else "finished" if steps and done >= steps else "stopped"
    model, created = made.get("model"), moment(made.get("created")) or facts.created
    return replace(
        facts,
        state=state,
        family=config.family,
        source=config.data.source,
        kind=config.codec,
        condition=config.data.condition,
        preset=config.preset,
        budget=None if resumed(path, created) else config.budget,
        every=looks_every(config),
        parameters=whole(model.get("parameters")) if isinstance(model, dict) else None,
        step=max(done, whole(news["step"]) or 0),
        steps=steps,
        seconds=number(news["seconds"]) or 0.0,
        created=created,
        loss=number(news["loss"]),
        quality=number(news["quality"]),
        held_out=number(news["held_out"]),
    )


def resumed(path: Path, created: float) -> bool:
    """Whether the process that trains a run is not the one that began it: it then follows the plan as it stands."""
    try:
        return float(json.loads((path / "lock.json").read_bytes())["since"]) > created + AT_ONCE
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True


def notes_of(path: Path) -> dict[str, Any]:
    """Tags, note and whether it is archived, as a person has written them; what is no such thing is left out."""
    try:
        found = json.loads((path / NOTES).read_bytes())
        tags, note = found.get("tags") or [], found.get("note") or ""
        return {"tags": tuple(str(tag) for tag in tags), "note": str(note), "archived": found.get("archived") is True}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def looks_every(config: RunConfig) -> int:
    """Steps from one look at the samples to the next, as planned; 0: not known."""
    if config.plan:
        return config.plan[-1][2]
    return config.training.sample_every or math.ceil((config.steps or 0) / 8)


def newest_checkpoint(run: Run) -> int:
    """The step of the newest checkpoint; 0 if there is none."""
    digits = [folder.name.removeprefix("step-") for folder in checkpoint.steps(run.checkpoints)]
    return max((int(each) for each in digits if each.isdigit()), default=0)


def tail(path: Path) -> list[dict[str, Any]]:
    """The last records of a metrics.jsonl: so many that those of a look are among them, if there are any."""
    for size in TAIL:
        try:
            with path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - size))
                lines = file.read().split(b"\n")
        except OSError:
            return []
        found = [record for line in lines if (record := record_of(line)) is not None]
        if end <= size or any("quality" in record for record in found):
            return found
    return found


def record_of(line: bytes) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None for one that is no record, as the last may be if it was cut."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if is_record(record) else None


def is_record(record: Any) -> bool:
    """Whether this is what training writes: an object that says of which step it is, of how many."""
    return isinstance(record, dict) and all(number(record.get(key)) is not None for key in ("step", "steps"))


def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    try:
        return float(value) if type(value) in (int, float) and math.isfinite(value) else None
    except OverflowError:
        return None


def whole(value: Any) -> int | None:
    """A whole number; None for anything else."""
    found = number(value)
    return None if found is None else int(found)


def moment(text: Any) -> float | None:
    """Seconds since 1970 of the time that a manifest has."""
    try:
        return float(calendar.timegm(time.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ")))
    except (ValueError, OverflowError):
        return None
