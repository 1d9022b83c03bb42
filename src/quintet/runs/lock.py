"""One writer of a run at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
        self.file: tuple[int, int] | None = None  # device and number of the file that is locked

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, this process has the lock, which it may have already."""
        if self.held.is_locked:
            yield
            return
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        """Take the lock, or say who has it."""
        try:
            os.stat(self.folder)  # the lock would make a folder that is not there
            self.held.acquire()
        except Timeout:
            why = who_writes(self.folder) or ""
            raise EnvironmentFault(
                "another process is writing this run",
                where=str(self.folder),
                why=why,
                fix="wait until that process has ended",
            ) from None
        except OSError as error:
            why = error.strerror if error.errno == errno.EROFS and error.strerror else str(error)
            raise EnvironmentFault("the run cannot be locked for writing", where=str(self.folder), why=why,
                                   fix="check the permissions of the folder, and the disk") from None  # fmt: skip
        try:
            note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "born": born(os.getpid())}
            write_atomic(self.note, json.dumps(note))
            self.file = self.found()
        except OSError as error:
            self.held.release()
            raise EnvironmentFault("the run cannot be written", where=str(self.note), why=str(error),
                                   fix="free disk space, or check the permissions of the folder") from None  # fmt: skip

    def release(self) -> None:
        """Give the lock back, if this process has it."""
        if self.held.is_locked:
            with contextlib.suppress(OSError):
                if self.found() == self.file:  # else lock.json is that of the folder's next owner
                    self.note.unlink(missing_ok=True)
            self.held.release()

    def found(self) -> tuple[int, int]:
        """Device and number of the file that stands where the lock is."""
        facts = os.stat(self.held.lock_file, follow_symlinks=False)
        return facts.st_dev, facts.st_ino

    def check(self) -> None:
        """Raise EnvironmentFault if the folder whose lock this process has was moved, removed or replaced by another:
        what is written by its name would get into that one.
        """
        try:
            stands = self.found() == self.file
        except OSError:
            stands = False
        if self.held.is_locked and not stands:
            raise EnvironmentFault("the folder of the run no longer exists", where=str(self.folder),
                                   why="it was moved, removed or replaced while this process was writing it",
                                   fix=f"put it back, then run quintet resume {self.folder}")  # fmt: skip


def born(pid: int) -> str | None:
    """When a process began, in ticks since the machine did, which tells it from a later one of the same number; None
    where the system does not say.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def who_writes(folder: Path) -> str | None:
    """Who writes the run in this folder, as far as its note says; None if nobody does."""
    try:
        note = json.loads((folder / "lock.json").read_text())
        pid, host = int(note["pid"]), str(note["host"])
        if pid > 0 and host == socket.gethostname():
            with contextlib.suppress(PermissionError):  # it lives, and belongs to someone else
                os.kill(pid, 0)
            then, now = note.get("born"), born(pid)
            if then and now and then != now:
                return None  # its number was given to another process
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return f"pid {pid} on {host}"
