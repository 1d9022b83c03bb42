"""The page of the queue: what runs, what comes next, and what became of the rest."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse, RedirectResponse

from quintet.core.errors import QuintetError
from quintet.server.problems import Refusal
from quintet.studio.curves import Curves
from quintet.studio.eta import Outlook, outlooks, whole
from quintet.studio.house import Studio
from quintet.studio.jobs import Job
from quintet.studio.pages import page, wants_page
from quintet.studio.queue import MOST_AT_ONCE, Queue

SHOWN = 50
"""So many jobs that are done are shown, the newest first."""
LOG = 3_000
"""Bytes of a log that are shown."""
FRESH = 0.9
"""Seconds for which what was found is told to other tabs too."""


def routes(app: FastAPI, studio: Studio) -> None:
    """The page, what can be done on it, and what it follows."""
    queue, board = studio.queue, Board(studio.queue, studio.curves)
    studio.topics["queue"] = lambda _, cursor: board.news(cursor)
    studio.topics["count"] = lambda _, cursor: board.counts(cursor)

    @app.get("/queue")
    def show(request: Request, job: str = "") -> Response:
        """All jobs, one of them marked."""
        return page(request, "queue.html.j2", chosen=job, **board.facts())

    @app.post("/studio/queue/{action}")
    def act_on_all(request: Request, action: str, n: int = 1) -> Response:
        """hold: start nothing new; go: do so again; together: run `n` jobs at the same time; clear: forget jobs that
        are done.
        """
        if action in ("hold", "go"):
            queue.hold(action == "hold")
        elif action == "together":
            queue.let_run(n)
        elif action == "clear":
            for job in queue.jobs():
                if job.state in ("finished", "stopped"):
                    queue.remove(job.id)
        else:
            raise unknown(action)
        return back(request, board)

    @app.post("/studio/queue/{job}/{action}")
    def act(request: Request, job: str, action: str, before: str = "") -> Response:
        """pause, resume, remove, kill; or move: `before` another job, or behind all."""
        if action == "move":
            queue.move(job, before or None)
        elif action in ("pause", "resume", "remove", "kill"):
            getattr(queue, action)(job)
        else:
            raise unknown(action)
        return back(request, board)


def unknown(action: str) -> Refusal:
    """The refusal of what cannot be done."""
    return Refusal(404, "this cannot be done with a job", why=action)


def back(request: Request, board: Board) -> Response:
    """A form is led back to the page; a script looks for itself."""
    board.made = 0.0
    return RedirectResponse("/queue", 303) if wants_page(request) else JSONResponse({})


class Board:
    """What is shown of a queue. Tabs that ask at the same time are told the same."""

    def __init__(self, queue: Queue, curves: Curves) -> None:
        self.queue, self.curves, self.made = queue, curves, 0.0
        self.jobs: list[Job] = []
        self.outlooks: dict[str, Outlook] = {}

    def look(self) -> list[Job]:
        """The jobs, and how far they are."""
        with self.queue.mutex:
            if time.monotonic() - self.made > FRESH:
                self.jobs = self.queue.jobs()
                self.outlooks = outlooks(self.jobs, self.curves)
                self.made = time.monotonic()
            return self.jobs

    def facts(self) -> dict[str, Any]:
        """What the page shows."""
        jobs, now = self.look(), time.time()
        of = {state: [job for job in jobs if job.state == state] for state in ("running", "failed")}
        done = sorted(
            (job for job in jobs if job.state in ("finished", "stopped")), key=lambda job: -(job.ended or now)
        )
        places = self.queue.places()
        left, blank = whole(jobs, self.outlooks, places.at_once)
        return {
            **of,
            "next": [job for job in jobs if job.state in ("waiting", "paused")],
            "done": done[:SHOWN], "more": len(done[SHOWN:]),
            "outlooks": self.outlooks, "left": left, "unknown": blank, "ends": now + left,
            "held": places.held, "at_once": places.at_once, "most": MOST_AT_ONCE, "fault": self.queue.fault,
            "shape": self.shape(jobs), "log": LOG,
        }  # fmt: skip

    def shape(self, jobs: Sequence[Job]) -> str:
        """A digest of what makes the page another one, rather than the same with other figures."""
        fault = str(self.queue.fault) if isinstance(self.queue.fault, QuintetError) else ""
        places = self.queue.places().model_dump(exclude={"order"})
        parts = [fault, places, *((job.id, job.state, job.stopping, job.error) for job in jobs),
                 *(job.there for job in jobs if job.state == "running")]  # fmt: skip
        return digest(parts)

    def news(self, cursor: str) -> tuple[list[Any], str]:
        """The figures, if they are not those that the cursor stands for."""
        jobs = self.look()
        live = {job.id: self.figures(job) for job in jobs if job.id in self.outlooks}
        left, _ = whole(jobs, self.outlooks, self.queue.places().at_once)
        found = {"shape": self.shape(jobs), "left": round(left), "jobs": live}
        mark = digest(found)
        return ([] if mark == cursor else [found]), mark

    def figures(self, job: Job) -> dict[str, Any]:
        """How far a job is, and of one that runs the end of its log."""
        found = vars(self.outlooks[job.id])
        shown = {**found, "left": None if found["left"] is None else round(found["left"])}
        return shown | ({"log": job.log(LOG)} if job.state == "running" else {})

    def counts(self, cursor: str) -> tuple[list[Any], str]:
        """How many jobs run and wait."""
        jobs = self.look()
        found = {state: sum(job.state == state for job in jobs) for state in ("running", "waiting")}
        mark = digest(found)
        return ([] if mark == cursor else [found]), mark


def digest(value: Any) -> str:
    """A short one."""
    return hashlib.sha256(json.dumps(value, default=dict).encode()).hexdigest()[:16]
