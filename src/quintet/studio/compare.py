"""Comparisons: one is begun, of a source, of runs or of reports; all are listed; and each is shown as it grows."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import FastAPI, Query, Request, Response
from starlette.responses import FileResponse, HTMLResponse

from quintet.comparison.compare import same_data
from quintet.comparison.contenders import contenders
from quintet.comparison.contest import BEGUN, FAILURES, HEAD
from quintet.comparison.report import parts, render
from quintet.comparison.standing import KEPT, REPORT, Standing, standing
from quintet.core.errors import CheckpointError, QuintetError, UsageError
from quintet.core.plain import plain
from quintet.operations.requests import CompareRequest
from quintet.operations.spoken import command, python
from quintet.registry import COMPARED
from quintet.runs.config import seconds
from quintet.runs.folder import Run
from quintet.runs.notes import notes_of
from quintet.server.problems import Refusal
from quintet.sources.load import SOURCES
from quintet.studio import pages
from quintet.studio.eta import MEASURED, START, outlooks
from quintet.studio.forms import filled
from quintet.studio.house import Studio
from quintet.studio.jobs import Job
from quintet.studio.keeping import KEPT as TAG
from quintet.studio.keeping import TOGETHER, folder_of, is_comparison
from quintet.studio.words import say

REPORT_POLICY = "; ".join((
    "sandbox", "default-src 'none'", "img-src data:", "media-src data:", "style-src 'unsafe-inline'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'self'",
))  # fmt: skip
"""A report is a page of its own: it has its style in itself, and can do nothing at all."""
MOST = 200
"""Comparisons, and runs to choose from, that a page lists."""
LEVELS = (0.6, 0.75, 0.95)
"""AUC above which samples are told from real data more and more easily, in words."""
DAMAGED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading a report raises that somebody has changed by hand."""


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


# -- what there is -----------------------------------------------------------------------------------------------------


def stands(folder: Path) -> Standing:
    """How a comparison stands. Raises CheckpointError where its files are damaged."""
    try:
        return standing(folder)
    except DAMAGED as error:
        raise CheckpointError("the files of this comparison are damaged", where=str(folder), why=repr(error),
                              fix="remove report.json there, or the comparison") from None  # fmt: skip


def opened(studio: Studio, name: str) -> tuple[Path, Job | None]:
    """The folder of a comparison, and its job; one that waits in the queue has no folder yet. Raises Refusal 404."""
    job = studio.queue.of_run(name) if name else None
    if job is not None and job.argv[:1] == ("compare",) and not (studio.root / name).exists():
        return studio.root / name, job
    folder = folder_of(studio.root, name)
    if "/" in name or not is_comparison(folder):
        raise Refusal(404, "this is a run and no comparison", fix="the page of comparisons lists them all")
    return folder, job


def comparison_of(studio: Studio, name: str) -> tuple[Standing, Job | None]:
    """A comparison and its job; of one that waits in the queue nothing is known yet."""
    folder, job = opened(studio, name)
    if job is not None and not folder.is_dir():
        source = next((word for word in job.argv[1:] if not word.startswith("-")), "")
        return Standing({"source": source, "models": []}, (), False), job
    return stands(folder), job


def state_of(found: Standing, job: Job | None) -> str:
    """In a word: "finished", "running", "waiting", "paused", "failed" or "stopped"."""
    if job is not None and job.state != "finished":
        return job.state
    if found.whole or (job is not None and not found.left):
        return "finished"
    return "running" if found.written else "stopped"


class Shelf:
    """All comparisons below the folder of runs; each is read again only when it has changed."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
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
        source = comparison_of(self.studio, job.run)[0].document["source"]
        return Listed(job.run, source, job.state, "", (), (), job.order.created, False)

    def look(self, folder: Path, job: Job | None) -> Listed | None:
        """One of them; None for a folder that is none."""
        mark = f"{marks(folder)} {job and job.state}"
        if (old := self.seen.get(folder.name)) is not None and old[0] == mark:
            return old[1]
        try:
            found = stands(folder)
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


# -- one comparison ----------------------------------------------------------------------------------------------------


def shown(studio: Studio, name: str) -> dict[str, Any]:
    """What the page of a comparison shows."""
    mark = mark_of(studio, name)
    found, job = comparison_of(studio, name)
    document, state = dict(found.document), state_of(found, job)
    facts: dict[str, Any] = {}
    if document["models"]:
        try:
            facts = parts(document)  # type: ignore[arg-type]
        except DAMAGED as error:
            raise CheckpointError("the report is damaged", where=str(studio.root / name), why=repr(error)) from None
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
        "winner": winner, "plain": plain_words(answer, document), "mark": mark, "live": live(studio, name, found, job),
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
    ease that is, and how often other real items are.
    """
    auc = None if answer is None else answer["keeper"]["figures"].get("auc")
    if auc is None:
        return None
    real = ((document.get("real") or {}).get("metrics") or {}).get("auc")
    of_100 = lambda value: round(100 * max(value, 1 - value))  # noqa: E731
    return {"times": of_100(auc), "level": sum(max(auc, 1 - auc) > level for level in LEVELS),
            "real": None if real is None else of_100(real)}  # fmt: skip


def mark_of(studio: Studio, name: str) -> str:
    """The same, with the state of its job."""
    folder, job = opened(studio, name)
    return f"{marks(folder)} {job and job.state}"


def live(studio: Studio, name: str, found: Standing, job: Job | None) -> dict[str, Any]:
    """What changes from second to second: how far it is, what is being done, and the learning curves so far."""
    out = outlooks([job]).get(job.id) if job is not None else None
    total = len(found.document["models"]) + len(found.left)
    done = total - len(found.left)
    state = state_of(found, job)
    now = next((one for one in found.left if state == "running" and one.state in ("training", "trained")), None)
    lines = [
        (str(entry.get("label") or entry["family"]), entry["run"], entry.get("curve") or ())
        for entry in found.document["models"]
    ]
    lines += [(one.family, one.run, one.curve) for one in found.left]
    order = list(dict.fromkeys(label for label, _, _ in lines))
    return {
        "state": state,
        "share": out.share if out is not None and out.share is not None else done / total if total else None,
        "left": out.left if out is not None else None,
        "done": done,
        "total": total,
        "now": None if now is None else {"run": now.run, "state": now.state, "step": now.step, "steps": now.steps},
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


def look(studio: Studio, name: str, cursor: str) -> tuple[list[Any], str]:
    """News of a comparison: `mark` is another when its page shows more than it did."""
    try:
        mark = mark_of(studio, name)
        found, job = comparison_of(studio, name)
    except QuintetError:
        return [], cursor
    news = live(studio, name, found, job) | {"mark": mark}
    new = hashlib.sha256(json.dumps(plain(news)).encode()).hexdigest()[:16]
    return ([] if new == cursor else [news]), new


# -- beginning one -----------------------------------------------------------------------------------------------------


def request_of(studio: Studio, given: Mapping[str, Any]) -> CompareRequest:
    """What the form asks for: a source, runs, or reports of earlier comparisons."""
    many = {name: [str(one) for one in given.get(f"{name}[]") or given.get(name) or []]
            for name in ("runs", "reports", "families")}  # fmt: skip
    source = str(given.get("source") or "").strip()
    if many["runs"] or many["reports"]:
        what = [*many["runs"], *(str(folder_of(studio.root, name) / REPORT) for name in many["reports"])]
        if len(what) < 2:
            raise UsageError("one alone is no comparison", fix="choose two or more")
        return CompareRequest(what=tuple(what))
    if not source:
        raise UsageError("the data are missing", fix="the name of a source, or the path of a file or folder")
    whole = set(many["families"]) in (set(COMPARED), set())
    budget = str(given.get("budget") or "60s").strip()
    seconds(budget)  # what is no time is refused now, and not when its turn comes
    reading = {name: str(text) for name, text in given.items() if name.startswith("data.")}
    return filled(CompareRequest, reading, what=(source,), families=None if whole else ",".join(many["families"]),
                  condition=str(given.get("condition") or "auto").strip(), budget=budget,
                  seeds=str(given.get("seeds") or "1").strip())  # fmt: skip


def spoken(request: CompareRequest) -> dict[str, Any]:
    """The command and the Python of a request, and about how many seconds it takes."""
    families = len(request.families.split(",")) if request.families else len(COMPARED)
    takes = families * request.seeds * (seconds(request.budget) * MEASURED + START) if request.budget else None
    return {"command": shlex.join(["quintet", *command(request)]), "python": python(request), "seconds": takes}


def title_of(request: CompareRequest, language: str) -> str:
    """What the queue calls it."""
    if len(request.what) > 1:
        return say(language, "compare.job.runs", n=len(request.what))
    return say(language, "compare.job.source", source=Path(request.what[0]).name)


def unlike(studio: Studio, first: str, others: Sequence[str]) -> dict[str, str]:
    """Why runs cannot be compared with the first, by their names."""
    chosen = Run(folder_of(studio.root, first))
    one, found = chosen.config(), dict[str, str]()
    for name in others:
        try:
            run = Run(folder_of(studio.root, name))
            same_data([chosen, run], [one, run.config()])
        except QuintetError as error:
            found[name] = error.why or error.what
    return found


def choices(studio: Studio, chosen: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Finished runs to choose from, those first that are chosen already, each with the reason why it cannot be compared
    with the first.
    """
    there = [studio.library.facts(name) for name in dict.fromkeys(chosen)]
    there += [one for one in studio.library.search(size=MOST).runs if one.name not in chosen]
    runs = [one for one in there if one.state == "finished"]
    reasons = unlike(studio, chosen[0], [one.name for one in runs]) if chosen else {}
    for one in runs:
        why = reasons.get(one.name, "")
        yield {"facts": one, "why": why, "chosen": one.name in chosen and not why}


# -- routes ------------------------------------------------------------------------------------------------------------


def routes(app: FastAPI, studio: Studio) -> None:
    """The pages, what they ask for, and the news of a comparison."""
    shelf = Shelf(studio)
    studio.topics["compare"] = lambda name, cursor: look(studio, name, cursor)

    @app.get("/compare")
    def compare(request: Request, source: str = "", run: Annotated[list[str] | None, Query()] = None) -> Response:
        """All comparisons, and how to begin one: of a source as the address says, or with a run that it names."""
        given = request.query_params
        return pages.page(request, "compare.html.j2", comparisons=shelf.all(), runs=list(choices(studio, run or [])),
                          source=source, families=list(COMPARED), sources=sorted(SOURCES),
                          condition=given.get("condition", "auto") or "none",
                          reading={name: text for name, text in given.items() if name[:5] == "data."})  # fmt: skip

    @app.post("/studio/compare")
    async def begin(request: Request) -> Response:
        """Put a comparison into the queue."""
        asked = request_of(studio, await pages.fields(request))
        title = title_of(asked, pages.language_of(request))
        job = await asyncio.to_thread(studio.queue.add, command(asked), title)
        return pages.done(request, {"job": job.id, "name": job.run}, f"/compare/{pages.address(job.run)}")

    @app.post("/studio/compare/say")
    async def spell(request: Request) -> Response:
        """The command and the Python of what the form asks for."""
        return pages.done(request, spoken(request_of(studio, await pages.fields(request))), "/compare")

    @app.post("/studio/compare/unlike")
    async def greyed(request: Request) -> Response:
        """Which runs cannot be compared with the one that was chosen first, and why."""
        given = await pages.fields(request)
        names = [str(name) for name in (given.get("others") or [])][:MOST]
        found = await asyncio.to_thread(unlike, studio, str(given.get("first", "")), names)
        return pages.done(request, {"why": found}, "/compare")

    @app.get("/compare/{name}/report")
    async def report(name: str, download: bool = False) -> Response:
        """The report that can be kept and sent on: as it was written, or as far as it has come."""
        found, _ = await asyncio.to_thread(comparison_of, studio, name)
        headers = {"Content-Security-Policy": REPORT_POLICY}
        if download:
            headers["Content-Disposition"] = f'attachment; filename="{name}.html"'
        if found.whole and (file := studio.root / name / "report.html").is_file():
            return FileResponse(file, headers=headers, media_type="text/html")
        if not found.document["models"]:
            raise Refusal(404, "nothing has been measured yet", fix="wait until two models are")
        return HTMLResponse(await asyncio.to_thread(render, found.document), headers=headers)  # type: ignore[arg-type]

    @app.get("/compare/{name}/report.json")
    async def figures(name: str) -> Response:
        """All figures."""
        found, _ = await asyncio.to_thread(comparison_of, studio, name)
        text = json.dumps(plain(found.document), indent=1)
        headers = {"Content-Disposition": f'attachment; filename="{name}.json"'}
        return Response(text, media_type="application/json", headers=headers)

    @app.get("/compare/{name}")
    async def one(request: Request, name: str) -> Response:
        """A comparison as far as it has come."""
        return pages.page(request, "comparison.html.j2", **await asyncio.to_thread(shown, studio, name))
