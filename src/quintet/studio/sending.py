"""What a browser sends: the routes of `uploads`."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, RedirectResponse

from quintet.server.problems import Refusal
from quintet.studio.uploads import File, Uploads

PIECE = 1_000_000
"""Bytes that are in memory before they are written."""


def routes(app: FastAPI, uploads: Uploads) -> None:
    """Beginning, sending, finishing, giving up and removing."""
    locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @app.post("/studio/data/uploads")
    async def begin(request: Request) -> Response:
        """Say which files are going to be sent, [path, bytes] each, and where to begin with the bytes of all."""
        files, stamp = await announced(request)
        return JSONResponse(await asyncio.to_thread(uploads.begin, files, stamp))

    @app.post("/studio/data/uploads/remove")
    async def remove(request: Request) -> Response:
        """Remove files that were sent."""
        form = await request.form()
        await asyncio.to_thread(uploads.remove, str(form.get("id", "")))
        return RedirectResponse("/data", 303)

    @app.post("/studio/data/uploads/{key}")
    async def write(request: Request, key: str, at: int) -> Response:
        """Bytes of the stream from `at` on."""
        async with locks[key]:
            upload = uploads[key]
            waiting = bytearray()
            try:
                async for part in request.stream():
                    waiting += part
                    if len(waiting) >= PIECE:
                        at = await asyncio.to_thread(upload.write, at, bytes(waiting))
                        waiting.clear()
            except ClientDisconnect:  # what came is kept, and what comes next goes on behind it
                raise Refusal(499, "the client has left") from None
            at = await asyncio.to_thread(upload.write, at, bytes(waiting))
            return JSONResponse({"have": at})

    @app.post("/studio/data/uploads/{key}/done")
    async def finish(key: str) -> Response:
        """Make what is whole a source."""
        async with locks[key]:
            source = await asyncio.to_thread(uploads.finish, key)
        locks.pop(key, None)
        return JSONResponse({"source": source})

    @app.post("/studio/data/uploads/{key}/cancel")
    async def cancel(key: str) -> Response:
        """Remove what is here of it."""
        async with locks[key]:
            await asyncio.to_thread(uploads.cancel, key)
        locks.pop(key, None)
        return JSONResponse({})


async def announced(request: Request) -> tuple[list[File], str]:
    """The files that a script announces. Raises Refusal."""
    try:
        body = await request.json()
        files = [(path, size) for path, size in body["files"]]
        stamp = str(body.get("stamp", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        files, stamp = [("", None)], ""
    if not all(isinstance(path, str) and type(size) is int for path, size in files):
        raise Refusal(422, "files are announced as pairs of a path and its bytes")
    return files, stamp
