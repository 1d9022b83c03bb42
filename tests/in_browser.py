"""What tests of the studio share: a studio of a folder, and a client that was let in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.testclient import TestClient

from quintet.operations.requests import StudioRequest
from quintet.studio.app import create_app
from quintet.studio.house import Studio, studio_of

HERE = "http://127.0.0.1:8700"


def studio(folder: Path) -> Studio:
    """A studio of the runs in `folder`/runs."""
    (folder / "runs").mkdir(exist_ok=True)
    return studio_of(StudioRequest(runs=folder / "runs"), 8700, folder / "state")


def client(made: Studio, *, let_in: bool = True, **headers: str) -> TestClient:
    """A browser of this process, with the cookie unless it is not to be let in."""
    browser = TestClient(create_app(made), HERE, headers={"origin": HERE, **headers}, raise_server_exceptions=False)
    if let_in:
        link = made.door.link(HERE)
        assert browser.get(link.removeprefix(HERE), follow_redirects=False).status_code == 303
    return browser


@contextmanager
def served(made: Studio, path: str = "/") -> Iterator[str]:
    """Inside, a real browser finds the studio by this link."""
    server = uvicorn.Server(uvicorn.Config(create_app(made), port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield made.door.link(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", path)
    finally:
        made.service.stopping = server.should_exit = True
        thread.join()
