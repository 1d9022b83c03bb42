"""The studio: its pages beside the routes of the server, behind the same guards; and how it begins and ends."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from quintet.core.errors import QuintetError
from quintet.operations.requests import StudioRequest
from quintet.runs.folder import runs_root
from quintet.server import app as server
from quintet.server import logs
from quintet.server.problems import Refusal, of_http, problem, said, status_of
from quintet.studio import card, compare, data, events, home, keeping, new, pages, queue_page, rows, run, runs, use
from quintet.studio.door import COOKIE_LASTS, state_folder
from quintet.studio.house import Studio, studio_of
from quintet.studio.queue import Queue

PAGES = (home, data, queue_page, runs, run, use, rows, new, compare, card, keeping)
"""The modules of pages, each with `routes(app, studio)`."""


def create_app(studio: Studio) -> ASGIApp:
    """All pages and routes behind all guards."""
    app = server.routes(studio.service)
    app.state.studio = studio
    refusals(app)
    entrance(app, studio)
    pages.routes(app)
    events.routes(app, studio)
    for one in PAGES:
        one.routes(app, studio)
    app.mount("/static", StaticFiles(packages=[("quintet.studio", "static")]), name="static")
    return server.guarded(app, studio.service)


def entrance(app: FastAPI, studio: Studio) -> None:
    """The one route that needs no cookie, since it gives it."""

    @app.get("/open")
    async def come_in(key: str = "", to: str = "/") -> Response:
        """Let the browser in that brings a link which was not used yet."""
        cookie = studio.door.open(key)
        if cookie is None:
            raise Refusal(401, "this link was used before, or is too old", fix="quintet studio prints a new one")
        answer = RedirectResponse(to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/", 303)
        answer.set_cookie(studio.door.name, cookie, max_age=COOKIE_LASTS, httponly=True, samesite="strict")
        return answer


def refusals(app: FastAPI) -> None:
    """A person who asked for a page gets the error as a page; programs and scripts get it as a problem."""

    def shown(request: Request, error: QuintetError) -> Response:
        identifier = request.state.identifier
        if not pages.wants_page(request):
            hidden, path = getattr(request.state, "hidden", ()), request.url.path
            return problem(error, identifier, hidden, path, whole=path.startswith("/studio/"))
        return pages.page(request, "error.html.j2", status_of(error), error=said(error, True), identifier=identifier)

    @app.exception_handler(QuintetError)
    async def ours(request: Request, error: QuintetError) -> Response:
        return shown(request, error)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        return shown(request, of_http(error.status_code, error.detail, error.headers))


def start(request: StudioRequest, on_begin: Callable[[str, str], None]) -> None:
    """Show pages until a signal comes. `on_begin` is told the address, and the link that lets a browser in."""
    with Queue(runs_root(request.runs)) as queue, logs.to_file(queue.root / "log.jsonl"):
        socket = server.listen("127.0.0.1", request.port)
        address = server.address_of(socket)
        studio = studio_of(request, socket.getsockname()[1], state_folder(), queue)
        first = "/" if request.data is None else "/data" + pages.query(source=request.data)
        queue.begin(address)
        on_begin(address, studio.door.link(address, first))
        server.run(create_app(studio), studio.service, socket)
