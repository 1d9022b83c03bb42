"""The page of one run: its curves and samples while it trains, what they advise, and what can be done with it."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import FastAPI, Form, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, RedirectResponse

from quintet.core.errors import QuintetError
from quintet.core.settings import LARGEST_NUMBER
from quintet.runs.advice import advice
from quintet.runs.folder import Run
from quintet.server.problems import Refusal
from quintet.studio.curves import OPEN, Cursor, Curve
from quintet.studio.defaults import unlike_defaults
from quintet.studio.eta import pace
from quintet.studio.home import NEWEST
from quintet.studio.house import Studio
from quintet.studio.jobs import Job
from quintet.studio.library import RunFacts
from quintet.studio.pages import address, page
from quintet.studio.queue import Queue
from quintet.studio.runs import MOST_CHOSEN
from quintet.training import checkpoint

POINTS = 2000
"""Points of a curve that are shown at once, about."""
MAIN = ("model", "generator")
"""The loss of what samples, by its names."""
ROWS, LETTERS = 20, 6000
"""Rows of a table, and letters of a text, of samples that are shown."""
SAMPLE = re.compile(r"step-(\d{1,12})(\.[a-z0-9]{1,5})")
"""The name of a file of samples."""
MEDIA = {
    ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".wav": "audio/wav",
    ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".txt": "text/plain", ".csv": "text/csv",
}  # fmt: skip
"""As what samples are sent, by their suffixes: nothing that a browser would run. Other files are only downloaded."""
DOWNLOAD = "application/octet-stream"
LOOKS = 200
"""Looks that the table of figures holds, the newest."""
AGE, OLDEST, SHARE = 0.9, 4.9, 15.0
"""Seconds between two looks at the file of a run, however many watch it: the least, the most, and in between this part
of its training so far. What draws curves takes from the processors that train, and a curve that took minutes to grow is
not another one a second later.
"""


def routes(app: FastAPI, studio: Studio) -> None:
    """The page, its figures, its files, and its news."""
    desk = Desk(studio)
    studio.topics["run"] = lambda name, cursor: news(desk, name, cursor)

    @app.get("/run/{name:path}")
    def run(request: Request, name: str, also: Annotated[list[str] | None, Query(alias="with")] = None) -> Response:
        """A run; the curves of others may lie over its own."""
        seen = desk.look(name)
        others = [studio.library.facts(one).name for one in dict.fromkeys(also or []) if one != name]
        if len(others) >= MOST_CHOSEN:
            raise Refusal(422, f"the curves of {MOST_CHOSEN} runs at most are laid over each other", fix="choose fewer")
        known = [one.name for one in studio.library.recent(NEWEST) if one.name not in (name, *others)]
        return page(request, "run.html.j2", **shown(seen), others=others, known=known)

    @app.get("/studio/run/curves")
    def curves(name: str, low: float = -1.0, high: float = 1e18) -> Response:
        """The curves of a run between two steps, thinned out, and the cursor from which on its news are to be asked."""
        curve = desk.look(name).curve
        cursor, points = curve.cursor, curve.thinned(POINTS, low, high)
        main = next((key for key in (*MAIN, *points) if key in points), None)
        return JSONResponse({"points": points, "cursor": str(cursor), "main": main})

    @app.get("/studio/run/samples")
    def samples(name: str) -> Response:
        """The files of samples of a run, by their steps."""
        return JSONResponse(samples_of(studio.library.facts(name).path))

    @app.get("/studio/run/sample")
    def sample(name: str, file: str) -> Response:
        """A file of samples."""
        path = sample_at(studio.library.facts(name).path, file)
        media = MEDIA.get(path.suffix)
        return FileResponse(path, media_type=media or DOWNLOAD, filename=None if media else path.name)

    @app.get("/studio/run/preview")
    def preview(name: str, file: str) -> Response:
        """The first letters of a text, or rows of a table, of samples."""
        path = sample_at(studio.library.facts(name).path, file)
        text = path.read_text("utf-8", errors="replace")
        if path.suffix != ".csv":
            return JSONResponse({"letters": text[:LETTERS]})
        rows = [row for row, _ in zip(csv.reader(io.StringIO(text, newline="")), range(ROWS + 1), strict=False)]
        return JSONResponse({"columns": rows[0] if rows else [], "rows": rows[1:]})

    @app.get("/studio/run/log")
    def log(name: str) -> Response:
        """The end of what the process of a run has said."""
        job = desk.look(name).job
        return JSONResponse({"log": job.log() if job else ""})

    @app.get("/studio/run/config")
    def config(name: str) -> Response:
        """The configuration of a run, as a file."""
        facts = studio.library.facts(name)
        return FileResponse(facts.path / "config.yaml", media_type="application/yaml", filename="config.yaml")

    @app.post("/studio/run/act")
    async def action(
        name: Annotated[str, Form()], what: Annotated[str, Form()], steps: Annotated[int, Form()] = 0
    ) -> Response:
        """Pause a run, stop it, let it go on, or train it further: up to so many steps in all."""
        await run_in_threadpool(act, studio.queue, desk.look(name), what, steps)
        return RedirectResponse(f"/run/{address(name)}", 303)


# -- what the page shows ---------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """A run as it was when it was looked at: its facts, its curve, the newest job that trains it if it has one, and how
    it stood.
    """

    facts: RunFacts
    curve: Curve
    job: Job | None
    standing: dict[str, Any]


class Desk:
    """Looks at runs: as often as pages are asked for, and once for all who watch one."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.seen: OrderedDict[str, tuple[float, Seen]] = OrderedDict()

    def look(self, name: str, age: float = 0.0) -> Seen:
        """A run as it is now, or was at most `age` seconds ago. Raises Refusal if there is none of that name."""
        when, seen = self.seen.get(name, (-math.inf, None))
        if seen is None or time.monotonic() - when >= age:
            facts = self.studio.library.facts(name)
            job = self.studio.queue.of_run(together(name) or name)
            curve = self.studio.curves.of(facts.path)
            seen = Seen(facts, curve, job, status(facts, curve, job))
            self.seen[name] = time.monotonic(), seen
            while len(self.seen) > OPEN:
                self.seen.popitem(last=False)
        return seen

    def often(self, name: str) -> Seen:
        """A run as it is told to who watches it. Raises Refusal as `look` does."""
        _, seen = self.seen.get(name, (0.0, None))
        return self.look(name, AGE if seen is None else min(OLDEST, max(AGE, seen.curve.spent / SHARE)))


def shown(seen: Seen) -> dict[str, Any]:
    """What the template says of a run."""
    facts, curve, job, standing = seen
    found: dict[str, Any] = {
        "run": facts, "job": job, "log": job.log() if job else "", "samples": samples_of(facts.path),
        "looks": curve.looks[-LOOKS:], "standing": standing, "together": together(facts.name),
        "advice": [], "origin": origin_of({}), "weights": None, "changed": [],
    }  # fmt: skip
    if facts.state == "damaged":
        return found
    run = Run(facts.path)
    config, weights = run.config(), weights_of(run)
    return found | {
        "advice": advice_of(curve, weights["step"] if weights else None),
        "origin": origin_of(run.manifest() if (facts.path / "manifest.json").is_file() else {}),
        "weights": weights,
        "changed": unlike_defaults(config),
    }


def status(facts: RunFacts, curve: Curve, job: Job | None) -> dict[str, Any]:
    """How a run stands: what changes while it trains."""
    going = pace(facts, curve) if facts.state == "training" else None
    step = curve.step if facts.state == "training" else None
    told = {"state": facts.state, "job": job and job.state, "stopping": bool(job and job.stopping)}
    return told | {
        "step": int(step) if step is not None else facts.step,
        "steps": facts.steps,
        "rate": going and going.rate,
        "left": going and going.now(curve, time.time()),
        "looks": len(curve.looks),
    }


def together(name: str) -> str:
    """The comparison that a run is of; "" if it is of none."""
    return name.rpartition("/")[0]


def advice_of(curve: Curve, upto: int | None) -> list[Any]:
    """What the figures advise, up to the step of the weights that are used."""
    upto = upto or 10**18
    try:
        looks = [look for look in curve.looks if look["step"] <= upto]
        return advice([*looks, *({"rate": rate} for rate in curve.last("rate", upto))])
    except (TypeError, KeyError, ValueError, ArithmeticError):  # figures that no training writes
        return []


def weights_of(run: Run) -> dict[str, Any] | None:
    """Step and sha256 of the weights that are used, as their manifest says, without reading them; None: none yet."""
    best = checkpoint.steps(run.bests)[-1:] if run.config().training.select != "last" else []
    for folder in (*best, *checkpoint.steps(run.checkpoints)[::-1]):
        try:
            said = json.loads((folder / checkpoint.MANIFEST).read_bytes())
            files = said["files"]
            file = files.get("ema.safetensors", files["model.safetensors"])
            return {"step": int(said["step"]), "sha256": str(file["sha256"]), "best": folder.parent == run.bests}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


class Origin(NamedTuple):
    """Where a run comes from, as its manifest says, in words."""

    fingerprint: str
    items: str
    versions: str
    machine: str


def origin_of(made: Mapping[str, Any]) -> Origin:
    """What a manifest says, as far as it says it."""

    def several(key: str) -> str:
        found = made.get(key)
        return ", ".join(f"{name} {value}" for name, value in found.items()) if isinstance(found, dict) else ""

    machine = made.get("machine")
    system = machine.get("system", "") if isinstance(machine, dict) else ""
    words = [str(word) for word in (system, made.get("device")) if word]
    return Origin(str(made.get("fingerprint") or ""), several("items"), several("versions"), ", ".join(words))


# -- samples -----------------------------------------------------------------------------------------------------------


def samples_of(path: Path) -> list[dict[str, Any]]:
    """The steps at which samples were drawn, each with its files and how these are shown."""
    found: dict[int, list[dict[str, str]]] = {}
    try:
        names = sorted(one.name for one in (path / "samples").iterdir())
    except OSError:
        return []
    for name in names:
        if (match := SAMPLE.fullmatch(name)) is not None:
            found.setdefault(int(match[1]), []).append({"name": name, "media": MEDIA.get(match[2], DOWNLOAD)})
    return [{"step": step, "files": sorted(files, key=lambda one: (one["media"] == DOWNLOAD, one["media"]))}
            for step, files in sorted(found.items())]  # fmt: skip


def sample_at(path: Path, name: str) -> Path:
    """The path of a file of samples. Raises Refusal if there is none of that name."""
    file = path / "samples" / name
    if not SAMPLE.fullmatch(name) or not file.is_file():
        raise Refusal(404, "there are no such samples", fix="load the page again")
    return file


# -- news and actions --------------------------------------------------------------------------------------------------


def news(desk: Desk, name: str, cursor: str) -> tuple[list[Any], str]:
    """What is new of a run: points behind a cursor, and how it stands if that has changed. The cursor names the place
    in the file and what was told of how the run stands.
    """
    place, _, before = cursor.partition("/")
    try:
        seen = desk.often(name)
    except QuintetError:
        return ([] if before == "gone" else [{"gone": True}]), f"{place}/gone"
    anew, here, points = seen.curve.since(Cursor.parse(place))
    lasting = {key: value for key, value in seen.standing.items() if key not in ("rate", "left", "step")}
    after = f"{zlib.crc32(json.dumps(lasting).encode()):x}"
    told = [{"anew": anew, "points": points, "status": seen.standing}] if anew or points or after != before else []
    return told, f"{here}/{after}"


def act(queue: Queue, seen: Seen, what: str, steps: int = 0) -> None:
    """Carry out what a button says. Raises Refusal where that cannot be done."""
    facts, job = seen.facts, seen.job
    if what == "resume":
        if job is not None and job.state in ("paused", "stopped", "failed"):
            queue.resume(job.id)
        elif together(facts.name):
            raise Refusal(422, "this run is part of a comparison", fix="let the comparison go on")
        else:
            queue.add(["resume", facts.name], facts.name, facts.name)
    elif what == "further":
        if not facts.step < steps <= LARGEST_NUMBER or together(facts.name):
            raise Refusal(422, f"it has {facts.step:,} steps already", where="steps", fix="a larger number of steps")
        queue.add(["resume", facts.name, "--steps", str(steps)], f"{facts.name} to step {steps:,}", facts.name)
    elif job is None:
        raise Refusal(422, "this run is not trained by the queue", fix="stop it where it was started")
    elif what == "pause":
        queue.pause(job.id)
    elif what == "stop":
        queue.remove(job.id)
    else:
        raise Refusal(422, "there is no such action", fix="pause, stop, resume or further")
