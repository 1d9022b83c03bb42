"""uvicorn with patience that ends: a client that sends no whole head, goes on sending what nobody reads, or does not
read its answer is closed; what is no HTTP is refused in the words of all other refusals.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from quintet.server.problems import Refusal, problem

HEAD = 32_768
"""Bytes of a request line and its headers together."""


class Patient(H11Protocol):
    """One connection. The limits are seconds."""

    head_within: ClassVar[float] = 10.0
    linger: ClassVar[float] = 2.0
    read_within: ClassVar[float] = 30.0
    waits: asyncio.TimerHandle | None = None
    blocked: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.waits = self.loop.call_later(self.head_within, self.no_head)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self.waits, self.blocked):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """What has come; behind it, the clock of the next head runs if one has begun."""
        super().handle_events()
        begun = self.conn.their_state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))
        if self.waits is not None and not begun:
            self.waits.cancel()
            self.waits = None
        elif self.waits is None and begun:
            self.waits = self.loop.call_later(self.head_within, self.no_head)

    def no_head(self) -> None:
        """The client has sent a part of a head, or nothing at all."""
        if self.conn.trailing_data[0] and self.conn.our_state is h11.IDLE:
            self.refuse(Refusal(408, "the head did not come in time"))
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.refuse(Refusal(400, "this is no HTTP request", why="or its head is too long"))
        else:
            self.transport.close()

    def refuse(self, refusal: Refusal) -> None:
        """Answer and close."""
        answer = problem(refusal, "none")
        headers = [*answer.raw_headers, (b"connection", b"close")]
        parts = (h11.Response(status_code=answer.status_code, headers=headers), h11.Data(data=bytes(answer.body)))
        for part in (*parts, h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """A body that is still coming may end within a moment: closed at once, its sender would not see the answer."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(self.linger, self.still_sends, self.cycle)

    def still_sends(self, cycle: object) -> None:
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.blocked = self.loop.call_later(self.read_within, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.blocked is not None:
            self.blocked.cancel()
            self.blocked = None


class Graceful(uvicorn.Server):
    """uvicorn's server; `stopping` is called as soon as it takes no more connections."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self.stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stopping()
        await super().shutdown(sockets)
