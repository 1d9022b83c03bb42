"""The server: the runs that it serves, its routes behind their guards, and how it begins and ends."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from quintet import __version__
from quintet.core.errors import EnvironmentFault, QuintetError
from quintet.operations.requests import ServeRequest
from quintet.server import logs, native, openai, pages
from quintet.server.guards import Guards
from quintet.server.problems import OPENAI, busy, of_http, problem, unexpected
from quintet.server.service import TOKEN, Service, service_of
from quintet.server.transport import HEAD, Graceful, Patient

GRACE = 25.0
"""Seconds that accepted requests have once the server is to stop; a service manager kills after 30 or more."""


# -- routes ------------------------------------------------------------------------------------------------------------


def create_app(service: Service) -> ASGIApp:
    """All routes behind all guards."""
    return guarded(routes(service), service)


def guarded(app: FastAPI, service: Service) -> ASGIApp:
    """An app behind all guards."""
    posts = [route for route in app.routes if isinstance(route, Route) and "POST" in (route.methods or ())]
    asks = {route.path: route for route in posts if route.path.startswith((native.API, OPENAI))}
    return Guards(app, service.rules, service.metrics, asks, service.models.room)


def routes(service: Service) -> FastAPI:
    """All routes, behind no guard."""
    app = FastAPI(title="quintet", version=__version__, docs_url=None, redoc_url=None, openapi_url=None,
                  description="Models of images, texts, recordings, tables and series.")  # fmt: skip
    refusals(app)
    about(app, service)
    native.routes(app, service)
    openai.routes(app, service)
    return app


def refusals(app: FastAPI) -> None:
    """Every error is a problem: ours, the framework's, and those that nobody meant."""

    @app.exception_handler(QuintetError)
    async def ours(request: Request, error: QuintetError) -> Response:
        return problem(error, request.state.identifier, getattr(request.state, "hidden", ()), request.url.path)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        refusal = of_http(error.status_code, error.detail, error.headers)
        return problem(refusal, request.state.identifier, path=request.url.path)

    @app.exception_handler(Exception)
    async def unmeant(request: Request, error: Exception) -> Response:
        return unexpected(request.state.identifier, request.url.path)


def about(app: FastAPI, service: Service) -> None:
    """What there is to know of the server itself."""

    @app.get("/health")
    async def health() -> Response:
        """Whether the process is alive."""
        return JSONResponse({"status": "alive"})

    @app.get("/ready")
    async def ready() -> Response:
        """Whether models answer: none failed to load, and the server is not about to stop."""
        failed = {name: one.failed for name, one in service.models.served.items() if one.failed}
        if service.stopping or failed:
            raise busy(503, "not ready", after=5, why="the server is stopping" if service.stopping else str(failed))
        return JSONResponse({"status": "ready", "models": list(service.models.served)})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Requests, queues, batches, steps and memory, as Prometheus reads them."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json")
    async def schema() -> Response:
        """What can be asked, for programs."""
        return JSONResponse(app.openapi())

    @app.get("/docs", response_class=HTMLResponse)
    async def docs() -> Response:
        """What can be asked, for people."""
        return HTMLResponse(pages.page(app.openapi()))

    @app.get("/docs.css", response_class=Response, responses={200: {"content": {"text/css": {}}}})
    async def style() -> Response:
        """How that page looks."""
        return Response(pages.STYLE, media_type="text/css")

    @app.get("/api/v1/models")
    async def models() -> Response:
        """The models that can be asked."""
        return JSONResponse({"models": [service.models.facts(one) for one in service.models.served.values()]})

    @app.get("/api/v1/models/{model}")
    async def model(model: str) -> Response:
        """One of them."""
        return JSONResponse(service.models.facts(service.models[model]))


# -- from the beginning to the end -------------------------------------------------------------------------------------


def serve(request: ServeRequest, on_begin: Callable[[str, str | None], None]) -> None:
    """Answer requests until a signal comes, which is raised again when all accepted ones are answered. `on_begin` is
    told the address and, if the server has made it, the token.
    """
    service = service_of(request)
    door = listen(request.host, request.port)
    on_begin(address_of(door), None if os.environ.get(TOKEN) else service.rules.token)
    with logs.to_standard_error():
        run(create_app(service), service, door)


def run(app: ASGIApp, service: Service, door: socket.socket) -> None:
    """Answer what comes to a door, until a signal comes."""
    config = uvicorn.Config(app, http=Patient, ws="none", lifespan="off", log_config=None,
                            access_log=False, server_header=False, proxy_headers=False, backlog=1024,
                            h11_max_incomplete_event_size=HEAD, timeout_keep_alive=15,
                            timeout_graceful_shutdown=round(GRACE + 3))  # fmt: skip

    def stopping() -> None:
        service.stopping = True
        for served in service.models.served.values():
            served.engine.close()
            asyncio.get_running_loop().call_later(GRACE, served.engine.cancel)

    gc.freeze()  # a collection that looks through all of torch's objects takes 0.1 s, in which nobody is answered
    try:
        Graceful(config, stopping).run(sockets=[door])
    finally:
        service.models.close(2.0)


def address_of(door: socket.socket) -> str:
    """What a browser calls it."""
    host, port = door.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A socket at this address. Raises EnvironmentFault where that cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.socket(family, kind, protocol)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
    except (OSError, UnicodeError) as error:
        raise EnvironmentFault(
            "the server cannot listen at this address",
            where=f"{host}:{port}",
            why=str(error),
            fix="choose another --port",
        ) from None
    door.listen(1024)
    return door
