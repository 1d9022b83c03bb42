"""One line of JSON a request on standard error: what was asked, by whom, how it ended and how long it took."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import time
from collections.abc import Iterator
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import Any

from quintet.core.errors import EnvironmentFault

LARGE = 10_000_000
"""Bytes of a file of lines."""
LOG = logging.getLogger("quintet.server")
LEVELS = {"quintet.server": logging.INFO, "uvicorn": logging.WARNING, "python_multipart": logging.ERROR}
"""What is written of whom."""


class Lines(logging.Formatter):
    """A record as one line of JSON; control characters are escaped, so that no request can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))}
        facts["time"] += f".{int(record.msecs):03d}Z"
        facts |= {"level": record.levelname.lower(), "event": record.getMessage(), **getattr(record, "facts", {})}
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts, default=str)


def log(event: str, level: int = logging.INFO, error: BaseException | None = None, **facts: Any) -> None:
    """Write one line."""
    LOG.log(level, event, exc_info=error, extra={"facts": facts})


class Waiting(QueueHandler):
    """Lines wait to be written by another thread; where nobody reads them, they are dropped, and nobody waits."""

    queue: queue.Queue[Any]

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


@contextlib.contextmanager
def to_standard_error() -> Iterator[None]:
    """Inside, lines are written, those of libraries too from their level on."""
    with written(logging.StreamHandler(sys.stderr)):
        yield


@contextlib.contextmanager
def to_file(path: Path) -> Iterator[None]:
    """Inside, lines are written to a file, which begins anew when it is large; the one before it is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = RotatingFileHandler(path, maxBytes=LARGE, backupCount=1, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault("the log cannot be written", where=str(path), why=error.strerror or str(error),
                               fix="free disk space, or check the permissions of the folder") from None  # fmt: skip
    with written(writer):
        yield


@contextlib.contextmanager
def written(writer: logging.Handler) -> Iterator[None]:
    """Inside, `writer` writes the lines, in a thread of its own."""
    lines: queue.Queue[Any] = queue.Queue(10_000)
    handler = Waiting(lines)
    handler.setFormatter(Lines())
    QueueListener(lines, writer).start()
    for name, level in LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        until = time.monotonic() + 1
        while not lines.empty() and time.monotonic() < until:
            time.sleep(0.01)
