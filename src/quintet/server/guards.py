"""What stands before every route, whatever it is: names and origins, the token, bodies that end in time, and answers
that carry their identifier. All of it is ASGI alone, so that no route can be registered past it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quintet.core.errors import QuintetError
from quintet.server.logs import log
from quintet.server.metrics import Metrics
from quintet.server.problems import Refusal, problem, unexpected

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ASKED = {"WWW-Authenticate": 'Basic realm="quintet", charset="UTF-8", Bearer realm="quintet"'}
"""A browser asks for the token as the password of any user; Chromium reads only the first of these two challenges."""
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Rules:
    """What the guards keep. `hosts`: names by which the server may be called; `addresses`: any address as well, as
    where it listens on all of them. `body`: bytes of a request; `patience`: seconds in which it must have come.
    `policy`: what pages may load. `cookie`: whether a header `Cookie` is as good as the token; `doors`: paths that ask
    for neither, since they give the cookie.
    """

    token: str
    hosts: tuple[str, ...] = LOOPBACK
    addresses: bool = False
    body: int = 16_000_000
    patience: float = 30.0
    policy: str = POLICY
    cookie: Callable[[str], bool] | None = None
    doors: tuple[str, ...] = ()


class Guards:
    """All guards around an app, the outermost first: what is refused here never reaches a route.

    `asks`: the routes that ask models, by their paths; `room` raises Refusal where no model takes another request.
    """

    def __init__(
        self, app: ASGIApp, rules: Rules, metrics: Metrics, asks: Mapping[str, BaseRoute], room: Callable[[], None]
    ) -> None:
        self.app, self.rules, self.metrics, self.asks, self.room = app, rules, metrics, asks, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the beginning and the end of the server; other kinds are never accepted
            return await self.app(scope, receive, send) if scope["type"] == "lifespan" else None
        answer = Answer(scope, send, self.metrics, self.rules)
        try:
            admit(scope["method"], scope["path"], Headers(scope=scope), self.rules)
            if scope["method"] == "POST" and scope["path"] in self.asks:
                scope["route"] = self.asks[scope["path"]]
                self.room()
            await self.app(scope, Body(scope, receive, self.rules), answer.send)
        except QuintetError as error:
            await answer.instead(problem(error, answer.identifier, path=scope["path"]), scope, receive)
        except Exception as error:
            log("error", 40, error, request=answer.identifier)
            await answer.instead(unexpected(answer.identifier, scope["path"]), scope, receive)
        finally:
            answer.done()


# -- who may ask -------------------------------------------------------------------------------------------------------


def admit(method: str, path: str, headers: Headers, rules: Rules) -> None:
    """Raise Refusal for a name that is not ours (a page of a stranger that points its own name at this machine), a
    page of another origin, or without the token.
    """
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not ours(hosts[0], rules):
        raise Refusal(403, "this server is not called by this name", fix="add it with --names")
    origins = headers.getlist("origin")
    if origins and not all(is_ours(origin, rules) for origin in origins):
        raise Refusal(403, "pages of other origins may not ask this server")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and method not in SAFE:
        raise Refusal(403, "pages of other origins may not ask this server")
    if path in rules.doors or any(secrets.compare_digest(given, rules.token.encode()) for given in tokens(headers)):
        return
    if rules.cookie is None:
        raise Refusal(401, "this server wants its token", fix="Authorization: Bearer TOKEN", headers=ASKED)
    if not rules.cookie(headers.get("cookie", "")):
        raise Refusal(401, "this browser has not been let in", fix="open the link that `quintet studio` printed")
    # A browser sends its cookie for pages of this machine's other ports too: only pages from here may use it.
    site = headers.get("sec-fetch-site", "")
    own = all(origin.partition("://")[2] == hosts[0] for origin in origins)
    if not own or site not in ("", "none", "same-origin") or (method not in SAFE and not origins and not site):
        raise Refusal(403, "pages of other origins may not ask this server")


def ours(host: str, rules: Rules) -> bool:
    """Whether a host, with or without a port, is a name of this server."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if any(letter in host for letter in "/?#@\\"):
            return False
    except ValueError:
        return False
    return name in rules.hosts or (rules.addresses and is_address(name))


def is_ours(origin: str, rules: Rules) -> bool:
    """Whether an origin is a page of this server."""
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and ours(host, rules)


def is_address(name: str) -> bool:
    """Whether this is an address and no name, which a stranger could point anywhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def tokens(headers: Headers) -> list[bytes]:
    """The tokens that a request brings, in one header: as they are, or as the password of a browser."""
    given = headers.getlist("authorization")
    if len(given) != 1:
        return []
    kind, _, value = given[0].partition(" ")
    if kind.lower() == "bearer":
        return [value.strip().encode("latin-1")]
    if kind.lower() == "basic":
        try:
            return [base64.b64decode(value, validate=True).partition(b":")[2]]
        except (binascii.Error, ValueError):
            return []
    return []


# -- bodies ------------------------------------------------------------------------------------------------------------


class Body:
    """The body of a request as it comes: 413 once it is too large, 408 if it does not come in time."""

    def __init__(self, scope: Scope, receive: Receive, rules: Rules) -> None:
        self.receive, self.rules = receive, rules
        self.until = asyncio.get_running_loop().time() + rules.patience
        self.got, self.whole = 0, False
        said = Headers(scope=scope).get("content-length", "0")
        if said.isdecimal() and int(said) > rules.body:
            raise too_large(rules.body)

    async def __call__(self) -> Message:
        if self.whole:  # what comes behind is that the client has left, for which one may wait long
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.until):
                message = await self.receive()
        except TimeoutError:
            raise Refusal(408, "the body did not come in time", headers={"Connection": "close"}) from None
        self.got += len(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if self.got > self.rules.body:
            raise too_large(self.rules.body)
        return message


def too_large(most: int) -> Refusal:
    """The refusal of a body."""
    return Refusal(413, f"a body has at most {most:,} bytes", fix="fewer items at once, or --body-limit")


# -- answers -----------------------------------------------------------------------------------------------------------


class Answer:
    """What goes out: each answer carries the identifier of its request and the headers that keep browsers safe, is
    counted, and has its line in the log.
    """

    def __init__(self, scope: Scope, send: Send, metrics: Metrics, rules: Rules) -> None:
        self.scope, self.out, self.metrics, self.rules = scope, send, metrics, rules
        self.identifier = scope.setdefault("state", {})["identifier"] = uuid.uuid4().hex
        self.began, self.status, self.bytes = time.perf_counter(), 0, 0
        metrics.open.inc()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.identifier
            for name, value in {**HEADERS, "Content-Security-Policy": self.rules.policy}.items():
                headers.setdefault(name, value)
        self.bytes += len(message.get("body", b""))
        await self.out(message)

    async def instead(self, response: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Send this in the place of an answer, unless one is on its way."""
        if not self.status:
            await response(scope, receive, self.send)

    def done(self) -> None:
        """Count it and write its line."""
        seconds, route = time.perf_counter() - self.began, getattr(self.scope.get("route"), "path", "none")
        self.metrics.open.dec()
        self.metrics.requests.labels(route, known(self.scope["method"]), str(self.status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        client = self.scope.get("client")
        facts = self.scope["state"].get("facts", {})
        log("request", request=self.identifier, method=self.scope["method"], path=self.scope["path"], route=route,
            status=self.status, ms=round(1000 * seconds, 3), bytes=self.bytes, client=client and client[0],
            **facts)  # fmt: skip


METHODS: Sequence[str] = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")


def known(method: str) -> str:
    """A method as a label, of which there must be few."""
    return method if method in METHODS else "other"
