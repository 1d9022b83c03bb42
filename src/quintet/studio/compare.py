"""Comparisons: one is begun, of a source, of runs or of reports; all are listed; and each is shown as it grows."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from starlette.responses import FileResponse, HTMLResponse

from quintet.comparison.report import render
from quintet.core.plain import plain
from quintet.operations.spoken import command
from quintet.server.problems import Refusal
from quintet.sources.load import SOURCES
from quintet.studio import pages
from quintet.studio.choosing import MOST, choices, request_of, title_of, unlike
from quintet.studio.comparisons import Desk, Shelf, shown, state_of
from quintet.studio.house import Studio

REPORT_POLICY = "; ".join((
    "sandbox", "default-src 'none'", "img-src data:", "media-src data:", "style-src 'unsafe-inline'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'self'",
))  # fmt: skip
"""A report is a page of its own: it has its style in itself, and can do nothing at all."""


def act(desk: Desk, name: str, what: str) -> None:
    """Carry out what a button says. A comparison that has no job, as of the command line, goes on as one."""
    found, job = desk.look(name)
    queue, state = desk.studio.queue, state_of(found, job)
    if what == "resume" and job is not None and job.state in ("paused", "stopped", "failed"):
        queue.resume(job.id)
    elif what == "resume" and state == "stopped":
        verb, *words = shlex.split(str(found.document.get("command") or ""))[1:] or [""]
        queue.add([verb, *words], name, name)
    elif what == "pause" and job is not None:
        queue.pause(job.id)
    elif what == "stop" and job is not None:
        queue.remove(job.id)
    else:
        raise Refusal(422, f"this comparison is {state}", fix="load the page again")


# -- routes ------------------------------------------------------------------------------------------------------------


def routes(app: FastAPI, studio: Studio) -> None:
    """The pages, what they ask for, and the news of a comparison."""
    desk = Desk(studio)
    shelf = Shelf(desk)
    studio.topics["compare"] = desk.news

    @app.get("/compare")
    def compare(request: Request, run: Annotated[list[str] | None, Query()] = None) -> Response:
        """All comparisons, and how to begin one: of a source, or of runs, with those that the address names."""
        return pages.page(request, "compare.html.j2", comparisons=shelf.all(), runs=list(choices(studio, run or [])),
                          sources=sorted(SOURCES))  # fmt: skip

    @app.post("/studio/compare")
    async def begin(request: Request) -> Response:
        """Put a comparison into the queue."""
        asked = request_of(studio, await pages.fields(request))
        title = title_of(asked, pages.language_of(request))
        job = await asyncio.to_thread(studio.queue.add, command(asked), title)
        return pages.done(request, {"job": job.id, "name": job.run}, f"/compare/{pages.address(job.run)}")

    @app.post("/studio/compare/unlike")
    async def greyed(request: Request) -> Response:
        """Which runs cannot be compared with the one that was chosen first, and why."""
        given = await pages.fields(request)
        names = [str(name) for name in (given.get("others") or [])][:MOST]
        found = await asyncio.to_thread(unlike, studio, str(given.get("first", "")), names)
        return pages.done(request, {"why": found}, "/compare")

    of_one(app, desk)


def of_one(app: FastAPI, desk: Desk) -> None:
    """The page of a comparison, its buttons, and the files in which it can be kept."""

    @app.post("/studio/compare/{name}/act")
    async def action(request: Request, name: str) -> Response:
        """Pause or stop a comparison, or let it go on."""
        what = str((await pages.fields(request)).get("what", ""))
        await asyncio.to_thread(act, desk, name, what)
        return pages.done(request, {}, f"/compare/{pages.address(name)}")

    @app.get("/compare/{name}/report")
    async def report(name: str, download: bool = False) -> Response:
        """The report that can be kept and sent on: as it was written, or as far as it has come."""
        found, _ = await asyncio.to_thread(desk.look, name)
        headers = {"Content-Security-Policy": REPORT_POLICY} | (pages.attachment(f"{name}.html") if download else {})
        if found.whole and (file := desk.studio.root / name / "report.html").is_file():
            return FileResponse(file, headers=headers, media_type="text/html")
        if not found.document["models"]:
            raise Refusal(404, "nothing has been measured yet", fix="wait until two models are")
        return HTMLResponse(await asyncio.to_thread(render, found.document), headers=headers)  # type: ignore[arg-type]

    @app.get("/compare/{name}/report.json")
    async def figures(name: str) -> Response:
        """All figures."""
        found, _ = await asyncio.to_thread(desk.look, name)
        text = json.dumps(plain(found.document), indent=1)
        return Response(text, media_type="application/json", headers=pages.attachment(f"{name}.json"))

    @app.get("/compare/{name}")
    async def one(request: Request, name: str) -> Response:
        """A comparison as far as it has come."""
        return pages.page(request, "comparison.html.j2", **await asyncio.to_thread(shown, desk, name))
