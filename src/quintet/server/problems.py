"""Refusals as application/problem+json (RFC 9457). No answer repeats what was sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from quintet.core.errors import CheckpointError, EnvironmentFault, QuintetError

MEDIA_TYPE = "application/problem+json"
LEAST = 3
"""Letters of a text below which it stays in an answer: it may be part of any word."""


class Refusal(QuintetError):
    """A request that is answered with a status of HTTP, and perhaps headers: `Retry-After`, `Allow`."""

    def __init__(
        self, status: int, what: str, *, why: str = "", fix: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.status, self.headers = status, dict(headers or {})


def busy(status: int, what: str, *, after: float, why: str = "") -> Refusal:
    """A refusal that holds for the moment: it may be tried again `after` so many seconds."""
    seconds = str(max(1, round(after)))
    return Refusal(status, what, why=why, fix=f"try again after {seconds} s", headers={"Retry-After": seconds})


def status_of(error: QuintetError) -> int:
    """422 for what cannot be done as it was asked; 503 for what the machine or the folder of a run is to blame for."""
    if isinstance(error, Refusal):
        return error.status
    return 503 if isinstance(error, EnvironmentFault | CheckpointError) else 422


def problem(error: QuintetError, identifier: str, hidden: Iterable[str] = ()) -> Response:
    """The answer to a request with this identifier, without the texts that are to be `hidden`."""
    status, headers = status_of(error), error.headers if isinstance(error, Refusal) else {}
    said = {"title": error.what, "detail": error.why, "fix": error.fix}
    if not isinstance(error, Refusal):  # where something lies on this machine is nobody's business
        said["where"] = error.where.rpartition("/")[2] if error.where.startswith("/") else error.where
    told = {key: without(text, hidden) for key, text in said.items() if text}
    body = {"type": "about:blank", "status": status, "error": type(error).__name__, **told, "request": identifier}
    if isinstance(error, Refusal):
        body["error"] = HTTPStatus(status).phrase
    return Response(json.dumps(body), status, headers, MEDIA_TYPE)


def without(text: str, hidden: Iterable[str]) -> str:
    """A text in which each hidden one, as it is or as Python writes it, is three dots."""
    for one in sorted({form for given in hidden for form in (given, repr(given)[1:-1])}, key=len, reverse=True):
        if len(one) >= LEAST:
            text = text.replace(one, "...")
    return text


def unexpected(identifier: str) -> Response:
    """The answer to a request that found a fault of ours."""
    what = "an error in quintet itself"
    return problem(Refusal(500, what, why="the server's log has it under this request"), identifier)


def of_http(status: int, detail: Any, headers: Mapping[str, str] | None) -> Refusal:
    """A refusal by the framework: no such page, not this method."""
    words = {
        404: ("no such page", "GET /openapi.json lists all"),
        405: ("this page takes another method", ""),
    }
    what, fix = words.get(status, (HTTPStatus(status).phrase.lower(), ""))
    return Refusal(status, what, fix=fix, headers=headers)
