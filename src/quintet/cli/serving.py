"""The verb that answers requests of other programs."""

from __future__ import annotations

import sys

from quintet.cli.console import Context
from quintet.cli.verbs import asks
from quintet.operations.events import OnEvent
from quintet.operations.requests import ServeRequest


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
