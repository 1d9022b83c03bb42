"""One writer of a run at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from quintet.core.errors import EnvironmentFault
from quintet.training.checkpoint import write_atomic


class Lock:
    """The lock of a run's folder. The system holds it, so that it ends with this process, however that ends; lock.json
    only says who it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.note = folder, folder / "lock.json"
        self.held = FileLock(folder / ".lock", timeout=0)

    def acquire(self) -> None:
        """Take the lock, or say who has it."""
        try:
            self.held.acquire()
        except Timeout:
            why = who_writes(self.folder) or ""
            raise EnvironmentFault(
                "another process writes this run", where=str(self.folder), why=why, fix="wait for it"
            ) from None
        except OSError as error:
            raise EnvironmentFault("cannot take the run's lock", where=str(self.folder), why=str(error)) from None
        try:
            note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            write_atomic(self.note, json.dumps(note))
        except OSError as error:
            self.held.release()
            raise EnvironmentFault("cannot write the run", where=str(self.note), why=str(error)) from None

    def release(self) -> None:
        """Give the lock back, if this process has it."""
        if self.held.is_locked:
            with contextlib.suppress(OSError):
                self.note.unlink(missing_ok=True)
            self.held.release()


def who_writes(folder: Path) -> str | None:
    """Who writes the run in this folder, as far as its note says; None if nobody does."""
    try:
        note = json.loads((folder / "lock.json").read_text())
        pid, host = int(note["pid"]), str(note["host"])
        if pid > 0 and host == socket.gethostname():
            os.kill(pid, 0)
    except PermissionError:  # it lives, and belongs to someone else
        pass
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return f"pid {pid} on {host}"
