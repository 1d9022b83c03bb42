"""The start page: the newest runs, a door for each kind of data, and a comparison that needs no data of one's own."""

from __future__ import annotations

import time

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from quintet.operations.requests import CompareRequest
from quintet.operations.spoken import command
from quintet.studio.house import Studio
from quintet.studio.pages import address, page

NEWEST = 12
TRY = CompareRequest(what=("digits",), budget="50s")
"""What "try it" queues: a set that is built in, and a minute for each family."""


def routes(app: FastAPI, studio: Studio) -> None:
    """The page, and what can be tried on it."""

    @app.get("/")
    def home(request: Request) -> Response:
        """The newest runs, and where to begin."""
        return page(request, "home.html.j2", recent=studio.library.recent(NEWEST), now=time.time())

    @app.post("/studio/try")
    def try_it() -> Response:
        """Queue a comparison of all families on built-in data, and show it as it grows."""
        job = studio.queue.add(command(TRY), "digits")
        return RedirectResponse(f"/compare/{address(job.run)}", 303)
