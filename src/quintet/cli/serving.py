"""The verbs that answer until they are stopped: requests of other programs, and pages in the browser."""

from __future__ import annotations

import sys
import threading
import webbrowser

from quintet.cli.console import Context
from quintet.cli.verbs import asks
from quintet.operations.events import OnEvent
from quintet.operations.requests import ServeRequest, StudioRequest


def _serve(request: ServeRequest, on_event: OnEvent) -> None:
    """Serve until a signal comes."""
    from quintet.server.app import serve

    def began(address: str, token: str | None) -> None:
        print(f"serving {', '.join(request.run)} at {address}", file=sys.stderr, flush=True)
        if token is not None:
            print(f"token: {token}", file=sys.stderr, flush=True)

    serve(request, began)


@asks(
    ServeRequest,
    _serve,
    "digits-vae-1",
    "digits-vae-1 shakespeare --port 8080 --threads 2 --memory-limit 4000",
    "digits-vae-1 --host 0.0.0.0 --names models.example.org     (with QUINTET_TOKEN set)",
)
def serve(done: None, context: Context) -> str:
    """Answer requests over HTTP until it is stopped: /docs shows what can be asked.

    Each request brings a token, that of $QUINTET_TOKEN or one that is made and shown at the start, as
    "Authorization: Bearer TOKEN"; a browser asks for it as a password. SIGTERM and SIGINT: what was accepted is
    answered, then it ends.
    """
    raise AssertionError("a server ends by a signal")


def _studio(request: StudioRequest, on_event: OnEvent) -> None:
    """Show pages until a signal comes."""
    from quintet.studio.app import start

    def began(address: str, link: str) -> None:
        print(f"the studio is at {address}\nopen it once with this link: {link}", file=sys.stderr, flush=True)
        if not request.no_browser:
            threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()

    start(request, began)


@asks(StudioRequest, _studio, "", "people.csv", "--no-browser --port 9000 --runs models/")
def studio(done: None, context: Context) -> str:
    """Look at data, train, compare and use models in the browser, without typing a command.

    The link that is printed lets one browser in, once; other machines cannot reach the address. Training goes on when
    the page is closed and when the studio is stopped.
    """
    raise AssertionError("the studio ends by a signal")
