"""One stream of news for each tab. A page follows topics, each with a cursor that says how far it has come: the stream
tells what is new behind it, and where it breaks, the page takes it up again with the last cursors, so that nothing is
lost or told twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from quintet.core.plain import plain
from quintet.server.problems import Refusal
from quintet.studio.house import Studio

EVERY = 1.0
"""Seconds between two looks."""
ALIVE = 15.0
"""Seconds after which a stream without news shows that it is alive."""
MOST_TOPICS = 16


def routes(app: FastAPI, studio: Studio) -> None:
    """The stream."""

    @app.get("/studio/events")
    async def events(request: Request) -> Response:
        """News of `?topic=NAME` or `?topic=NAME:ARGUMENT`, several of them, as server-sent events: the event is the
        topic, the data a list of what is new, and the id an object of all cursors, which `?from=` takes up again.
        """
        topics = request.query_params.getlist("topic")
        if not topics or len(topics) > MOST_TOPICS or any(one.partition(":")[0] not in studio.topics for one in topics):
            raise Refusal(422, "no such topics", fix=f"known: {', '.join(sorted(studio.topics))}")
        begin = request.headers.get("last-event-id") or request.query_params.get("from") or "{}"
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = news(studio, topics, cursors_of(begin))
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def cursors_of(text: str) -> dict[str, str]:
    """The cursors that a page sends back; none of what is no such object."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


async def news(studio: Studio, topics: list[str], cursors: dict[str, str]) -> AsyncIterator[str]:
    """Events until the client leaves or the studio stops."""
    yield "retry: 1000\n\n"
    quiet = 0.0
    while not studio.service.stopping:
        for topic in topics:
            name, _, argument = topic.partition(":")
            found, cursor = await asyncio.to_thread(studio.topics[name], argument, cursors.get(topic, ""))
            if found or cursor != cursors.get(topic, ""):
                cursors[topic] = cursor
                yield event(topic, found, cursors)
                quiet = 0.0
        await asyncio.sleep(EVERY)
        quiet += EVERY
        if quiet >= ALIVE:
            yield ":\n\n"
            quiet = 0.0


def event(topic: str, found: list[Any], cursors: dict[str, str]) -> str:
    """One event as it is sent; JSON has no line ends of its own."""
    return f"event: {topic}\nid: {json.dumps(cursors)}\ndata: {json.dumps(plain(found), allow_nan=False)}\n\n"
