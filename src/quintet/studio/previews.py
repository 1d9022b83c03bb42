"""Sources are read in threads of their own, each once, while its page says that it is waiting; the newest are kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from quintet.core.errors import DataError, QuintetError, UsageError, out_of_memory
from quintet.operations.events import Event, Note
from quintet.operations.previewing import Preview, preview
from quintet.operations.requests import DataRequest
from quintet.server.logs import log
from quintet.server.problems import busy

KEPT, AT_ONCE = 8, 4
"""Sources that are remembered, and those that are read at the same time."""
LOOKED_AT = 1000
"""Folders of a source whose times say whether it has changed."""

Read = tuple[Preview, list[str]]
"""What was understood of a source, and what was said while it was read."""


class Previews:
    """What was understood of sources, by what was asked and how their files were then."""

    def __init__(self) -> None:
        self.found: OrderedDict[str, Future[Read]] = OrderedDict()
        self.reading = threading.BoundedSemaphore(AT_ONCE)

    def of(self, request: DataRequest) -> Future[Read]:
        """What there is, or will be. Raises Refusal where too many are being read."""
        too_wide(request.source or "")
        key = key_of(request)
        if key not in self.found:
            if not self.reading.acquire(blocking=False):
                raise busy(503, "other sources are being read", after=5, why=f"{AT_ONCE} at a time")
            future = self.found[key] = Future[Read]()
            threading.Thread(target=self.work, args=(future, request), daemon=True).start()
            done = [key for key, one in self.found.items() if one.done()]
            for old in done[: max(0, len(self.found) - KEPT)]:
                del self.found[old]
        self.found.move_to_end(key)
        return self.found[key]

    def work(self, future: Future[Read], request: DataRequest) -> None:
        """Read a source, in a thread."""
        said: list[str] = []

        def on_event(event: Event) -> None:
            if isinstance(event, Note):
                said.append(event.text)

        try:
            future.set_result((preview(request, on_event), said))
        except QuintetError as error:
            future.set_exception(error)
        except Exception as error:
            log("source not read", logging.WARNING, error)
            fault = DataError("this source cannot be read", where=request.source or "", why=type(error).__name__)
            future.set_exception(out_of_memory(error) or fault)
        finally:
            self.reading.release()

    def forget(self, request: DataRequest) -> None:
        """A source that could not be read, or may have changed, is read again when it is asked for again."""
        self.found.pop(key_of(request), None)


def key_of(request: DataRequest) -> str:
    """A source, how it is read, and how it is now."""
    return json.dumps([request.source, request.reading, stamp(request.source or "")], sort_keys=True, default=str)


def too_wide(source: str) -> None:
    """Raise UsageError for a folder that holds all that a user has: it would be read for hours."""
    try:
        wide = Path.home().resolve().is_relative_to(Path(source).expanduser().resolve())
    except (OSError, ValueError, RuntimeError):
        return
    if wide and Path(source).is_absolute():
        raise UsageError("this folder contains your whole home folder", where=source,
                         why="all files in a folder are read, which would take very long",
                         fix="name a folder that holds only the data")  # fmt: skip


async def within(future: Future[Read], seconds: float) -> bool:
    """Whether it is done after so many seconds at most."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), seconds)
    return future.done()


def stamp(source: str) -> list[int]:
    """When a path was last changed, as far as its folders say; nothing for what is no path."""
    try:
        path = Path(source).expanduser()
        facts = path.stat()
        if not path.is_dir():
            return [facts.st_mtime_ns, facts.st_size]
        return [facts.st_mtime_ns, *(one.stat().st_mtime_ns for one in folders(path))]
    except (OSError, ValueError, RuntimeError):  # a NUL in it, or the home of nobody
        return []


def folders(path: Path) -> Iterator[os.DirEntry[str]]:
    """Some of those in a folder."""
    with os.scandir(path) as entries:
        for _, entry in zip(range(LOOKED_AT), entries, strict=False):
            if entry.is_dir():
                yield entry
