"""Refusals as application/problem+json (RFC 9457), or in the shape that OpenAI's clients read on routes that these ask.
No answer repeats what was sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from quintet.core.errors import CheckpointError, EnvironmentFault, QuintetError

MEDIA_TYPE = "application/problem+json"
OPENAI = "/v1/"
"""What the paths of routes begin with that OpenAI's clients ask."""
KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""What these clients call errors; others are an invalid_request_error or, from 500 on, a server_error."""
LEAST = 3
"""Letters of a text below which it stays in an answer: it may be part of any word."""


STATUSES = {400: "no JSON, or a field that is not done", 401: "no token", 404: "no such model", 406: "no such format",
            408: "too slow", 413: "too large", 415: "a format that is not read",
            422: "what this model cannot do, and why", 429: "too many wait", 503: "too busy, or stopping"}  # fmt: skip
"""What refusals of a route that asks a model mean."""


class Refusal(QuintetError):
    """A request that is answered with a status of HTTP, and perhaps headers: `Retry-After`, `Allow`. `where`: the field
    that is to blame.
    """

    remedy = ""

    def __init__(
        self, status: int, what: str, *, where: str = "", why: str = "", fix: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(what, where=where, why=why, fix=fix)
        self.status, self.headers = status, dict(headers or {})


def busy(status: int, what: str, *, after: float, why: str = "") -> Refusal:
    """A refusal that holds for the moment: it may be tried again `after` so many seconds."""
    seconds = str(max(1, round(after)))
    return Refusal(status, what, why=why, fix=f"try again after {seconds} s", headers={"Retry-After": seconds})


def answers(content: Mapping[str, Any], media: str = MEDIA_TYPE) -> dict[int | str, dict[str, Any]]:
    """The answers of a route in the schema: `content` by media types, and refusals as `media`."""
    refused = {media: {"schema": {"type": "object"}}}
    found: dict[int | str, dict[str, Any]] = {200: {"description": "what was made", "content": content}}
    return found | {status: {"description": words, "content": refused} for status, words in STATUSES.items()}


def status_of(error: QuintetError) -> int:
    """422 for what cannot be done as it was asked; 503 for what the machine or the folder of a run is to blame for."""
    if isinstance(error, Refusal):
        return error.status
    return 503 if isinstance(error, EnvironmentFault | CheckpointError) else 422


def problem(
    error: QuintetError, identifier: str, hidden: Iterable[str] = (), path: str = "", whole: bool = False
) -> Response:  # fmt: skip
    """The answer to a request of a path with this identifier, without the texts that are to be `hidden`; `whole`: for
    the owner of this machine, with the paths that it names.
    """
    status, headers = status_of(error), error.headers if isinstance(error, Refusal) else {}
    name = phrase(status) if isinstance(error, Refusal) else type(error).__name__
    told = {key: without(text, hidden) for key, text in said(error, whole).items() if text}
    if path.startswith(OPENAI):
        return Response(json.dumps(for_openai(error, name, told)), status, headers, "application/json")
    body = {"type": "about:blank", "status": status, "error": name, **told, "request": identifier}
    return Response(json.dumps(body), status, headers, MEDIA_TYPE)


def phrase(status: int) -> str:
    """What HTTP calls a status; one that nobody sees, since the client has left, has no name there."""
    return HTTPStatus(status).phrase if status in {*HTTPStatus} else "Client Closed Request"


def said(error: QuintetError, whole: bool = False) -> dict[str, str]:
    """What an error says, by the names of RFC 9457 where that has some; `whole`: with paths of this machine."""
    fix = error.fix if error.fix != error.remedy else ""  # which is for whoever types commands
    words = {"title": error.what, "detail": error.why, "fix": fix}
    if whole:
        return words | {"where": error.where}
    if not isinstance(error, Refusal):  # where something lies on this machine is nobody's business
        words["where"] = error.where.rpartition("/")[2] if error.where.startswith("/") else error.where
    return words


def for_openai(error: QuintetError, name: str, told: Mapping[str, str]) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    status = status_of(error)
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    first = ": ".join(told[key] for key in ("where", "title") if key in told)
    message = "; ".join(
        [first, *(f"{word}: {told[key]}" for key, word in (("detail", "why"), ("fix", "fix")) if key in told)]
    )
    param = error.where or None if isinstance(error, Refusal) else None
    return {"error": {"message": message, "type": kind, "param": param, "code": name.lower().replace(" ", "_")}}


def without(text: str, hidden: Iterable[str]) -> str:
    """A text in which each hidden one, as it is or as Python writes it, is three dots."""
    for one in sorted({form for given in hidden for form in (given, repr(given)[1:-1])}, key=len, reverse=True):
        if len(one) >= LEAST:
            text = text.replace(one, "...")
    return text


def unexpected(identifier: str, path: str = "") -> Response:
    """The answer to a request that found a fault of ours."""
    what = "an error in quintet itself"
    return problem(Refusal(500, what, why="the server's log has it under this request"), identifier, path=path)


def of_http(status: int, detail: Any, headers: Mapping[str, str] | None) -> Refusal:
    """A refusal by the framework: no such page, not this method."""
    words = {
        404: ("no such page", "GET /openapi.json lists all"),
        405: ("this page takes another method", ""),
    }
    what, fix = words.get(status, (HTTPStatus(status).phrase.lower(), ""))
    return Refusal(status, what, fix=fix, headers=headers)
