"""The queue: jobs in an order, each of which is started when its turn comes, in a process of its own.

The folders of the jobs are the truth: the studio may end at any moment, and its next start finds all as it stands. A
process that it has started goes on without it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field

from quintet.core.errors import EnvironmentFault, QuintetError, UsageError
from quintet.core.files import sync
from quintet.runs.names import check_name, stem
from quintet.studio import jobs
from quintet.studio.commands import option, parted, positional, without
from quintet.studio.jobs import Job, Order
from quintet.training.checkpoint import write_atomic

VERBS = ("train", "resume", "compare")
"""Verbs whose command goes on where it stopped."""
TICK = 0.5
"""Seconds between two looks at the folders."""
PATIENCE = 10.0
"""Seconds after which a start that the system refused is tried again."""
OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EAGAIN, errno.EMFILE,
                  errno.ENFILE}  # fmt: skip
"""Errors for which a job is not to blame."""
MOST_AT_ONCE = 8
"""Jobs that run at the same time."""
AT_REST = ("finished", "failed", "stopped")
"""States that only the user changes."""


class Places(BaseModel):
    """What queue.json holds: ids in the order in which they are started, whether nothing new is started, and how many
    jobs run at the same time.
    """

    order: list[str] = []
    held: bool = False
    at_once: int = Field(1, ge=1, le=MOST_AT_ONCE)


class Queue:
    """The jobs of a folder of runs. One process has them at a time, from `take` to `end`; anyone may look."""

    def __init__(self, runs: Path, program: Sequence[str] = (sys.executable, "-m", "quintet")) -> None:
        self.runs, self.program = runs.absolute(), program
        self.root = self.runs / ".studio"
        self.folder = self.root / "jobs"
        self.fault: QuintetError | None = None
        """Why jobs cannot be started just now."""
        self.mutex, self.wake, self.over = threading.RLock(), threading.Event(), threading.Event()
        self.children = dict[str, subprocess.Popen[bytes]]()
        self.told = set[str]()  # who was told to stop
        self.rested = dict[str, Job]()  # as they were read: nobody but us changes them any more
        self.patient = 0.0  # nothing is started before
        self.lock = FileLock(self.root / "lock", timeout=0, thread_local=False)
        self.thread: threading.Thread | None = None

    # -- from the beginning to the end ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def take(self) -> None:
        """Have the queue for ourselves. Raises EnvironmentFault if another studio has it. Where nothing can be written
        there is a `fault`, and the queue is only shown.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            for left in self.folder.glob(".*"):  # of a job that was being added or removed
                shutil.rmtree(left, ignore_errors=True)
        except Timeout:
            address = self.address()
            raise EnvironmentFault("a studio is already open for these runs", where=str(self.runs),
                                   why=f"it is at {address}" if address else "another process is using their queue",
                                   fix=f"open {address or 'that one'}, or choose another folder with --runs"
                                   ) from None  # fmt: skip
        except OSError as error:
            self.fault = unwritable(error, self.root)

    def address(self) -> str:
        """Where the studio is that has the queue, as far as it has said so."""
        try:
            return str(json.loads((self.root / "studio.json").read_text())["address"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def begin(self, address: str = "") -> None:
        """Start jobs from now on, if the queue is ours; others are told the `address` of this studio."""
        if not self.lock.is_locked:
            return
        with contextlib.suppress(OSError):
            write_atomic(self.root / "studio.json", json.dumps({"address": address}))
        self.thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Start nothing more, and leave the queue to another. Jobs that run go on."""
        self.over.set()
        self.wake.set()
        if self.thread is not None:
            self.thread.join()
        self.lock.release()

    def _work(self) -> None:
        while not self.over.is_set():
            try:
                self.tick()
                if time.monotonic() >= self.patient:
                    self.fault = None
            except Exception as error:  # the next look may find what this one did not
                fault = unwritable(error, self.root) if isinstance(error, OSError) else error
                self.fault = fault if isinstance(fault, QuintetError) else QuintetError(repr(error))
            self.wake.wait(TICK)
            self.wake.clear()

    def tick(self) -> None:
        """Look at all jobs once, and start and stop what is to be."""
        with self.mutex:
            found = self._after_the_dead(self.jobs())
            for job in found:
                if job.stopping and job.id not in self.told and jobs.send(job, signal.SIGTERM):
                    self.told.add(job.id)
            running, places = sum(job.state == "running" for job in found), self.places()
            self.told &= {job.id for job in found if job.state == "running"}
            if places.held or time.monotonic() < self.patient:
                return
            for job in found:
                if running >= places.at_once:
                    return
                if job.state == "waiting" and job.id not in self.children:
                    running += self._start(job)

    def _start(self, job: Job) -> bool:
        """Start a job whose turn it is. Where the machine is to blame that it cannot be, it is tried again later."""
        try:
            child = jobs.start(job, self.program)
        except OSError as error:
            told = EnvironmentFault(
                f"{job.title} cannot be started",
                where=str(error.filename or job.folder),
                why=error.strerror or str(error),
                fix="wait, since it is tried again by itself",
            )
            if error.errno not in OF_THE_MACHINE and jobs.fail(job, told):
                return False
            self.fault, self.patient = told, time.monotonic() + PATIENCE
            return False
        if child is None:
            return False
        self.children[job.id], self.fault = child, None
        with contextlib.suppress(OSError):
            self._place(job.id, first=True)  # if it is killed, it goes on before all others
        return True

    def _after_the_dead(self, found: list[Job]) -> list[Job]:
        """The jobs, once those whose process has ended without a word have an answer."""
        there = {job.id: job for job in found}
        dead = {one: code for one, child in self.children.items() if (code := child.poll()) is not None}
        for one, code in dead.items():
            del self.children[one]
            if one in there:
                jobs.explain(there[one], code)
        return self.jobs() if dead else found

    # -- what there is -------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """All jobs: in the order in which they are started, those that nobody has placed last."""
        with self.mutex:
            try:
                names = [name for name in os.listdir(self.folder) if not name.startswith(".")]
            except OSError:
                return []
            self.rested = {name: self.rested[name] for name in names if name in self.rested}
            found = [self.rested.get(name) or jobs.read(self.folder / name) for name in names]
            self.rested |= {job.id: job for job in found if job.state in AT_REST}
            places = {name: place for place, name in enumerate(self.places().order)}
            return sorted(found, key=lambda job: (places.get(job.id, len(places)), job.order.created, job.id))

    def job(self, identifier: str) -> Job:
        """One of them. Raises UsageError if there is none of this id."""
        found = next((job for job in self.jobs() if job.id == identifier), None)
        if found is None:
            raise UsageError("there is no such job", why="it was removed", fix="load the page again")
        return found

    def of_run(self, run: str) -> Job | None:
        """The newest job of a run, if it has one."""
        found = [job for job in self.jobs() if job.run == run]
        return max(found, key=lambda job: job.order.created, default=None)

    def places(self) -> Places:
        """The order; a damaged one counts for none."""
        try:
            return Places.model_validate_json((self.root / "queue.json").read_text())
        except (OSError, ValueError):
            return Places()

    # -- what the user does --------------------------------------------------------------------------------------------

    def add(self, argv: Sequence[str], title: str, run: str | None = None) -> Job:
        """Put a command at the end: train, resume or compare, as it is typed behind `quintet`. It is given a name for
        its run, unless it or `run` says one, and what makes it go on when it is run again.
        """
        with self.changing():
            check_words([*argv, title])
            there = self.jobs()
            words, run = self._settled(list(argv), run, {job.run for job in there})
            if any(job.run == run and job.state != "finished" for job in there):
                raise UsageError("the queue has a job of this name already", where=run,
                                 fix="continue that job, or choose another name")  # fmt: skip
            identifier = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
            order = Order(argv=tuple(words), title=title, run=run, cwd=str(Path.cwd()), created=time.time())
            new = self.folder / f".{identifier}"
            try:
                new.mkdir(parents=True)
                write_atomic(new / jobs.ORDER, order.model_dump_json())
                new.rename(self.folder / identifier)  # whole, or not at all
                sync(self.folder)
            except OSError:
                shutil.rmtree(new, ignore_errors=True)
                raise
            return self.job(identifier)

    def pause(self, identifier: str) -> None:
        """Let a job rest until it is resumed: one that runs is saved and stopped."""
        self._want(identifier, "pause", ("running", "waiting"))

    def resume(self, identifier: str) -> None:
        """Let a job go on that was paused, was stopped, or has failed."""
        with self.changing():
            job = self._want(identifier, "run", ("paused", "stopped", "failed", "running"), starts=0)
            if job.state == "failed":
                (job.folder / jobs.OUT).unlink(missing_ok=True)

    def remove(self, identifier: str) -> None:
        """Take a job out of the queue. One that runs is saved and stopped first, and then stays as stopped. Its run is
        kept.
        """
        with self.changing():
            job = self.job(identifier)
            if job.state == "running":
                self._want(identifier, "stop", ("running",))
                return
            aside = job.folder.with_name(f".{job.id}")
            job.folder.rename(aside)
            sync(self.folder)
            shutil.rmtree(aside, ignore_errors=True)

    def kill(self, identifier: str) -> None:
        """End the process of a job that was told to stop and does not: what came behind its last checkpoint is lost."""
        with self.mutex:
            job = self.job(identifier)
            if not job.stopping:
                raise UsageError("this job was not told to stop", fix="pause the job first",
                                 why="only a job that does not stop by itself can be killed")  # fmt: skip
            jobs.send(job, signal.SIGKILL)

    def move(self, identifier: str, before: str | None) -> None:
        """Place a job before another, or last."""
        with self.changing():
            self.job(identifier)
            if before != identifier:
                self._place(identifier, before if before is None else self.job(before).id)

    def hold(self, held: bool) -> None:
        """Start nothing new, or do so again. What runs goes on."""
        with self.changing():
            self._write(self.places().model_copy(update={"held": held}))

    def let_run(self, at_once: int) -> None:
        """Run so many jobs at the same time from now on, or as many as can be. What runs goes on."""
        with self.changing():
            self._write(self.places().model_copy(update={"at_once": min(max(1, at_once), MOST_AT_ONCE)}))

    # -- how it is done ------------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Inside, folders are changed, by nobody else; what cannot be written is an EnvironmentFault."""
        with self.mutex:
            try:
                yield
            except OSError as error:
                raise unwritable(error, self.root) from None
            finally:
                self.wake.set()

    def _want(self, identifier: str, wanted: str, states: Sequence[str], **changed: Any) -> Job:
        """Note what the user wants of a job that is in one of the states. Returns it as it was."""
        with self.changing():
            job = self.job(identifier)
            if job.state not in states or job.damaged:
                raise UsageError(f"this job is {job.state}", where=job.title, why=(job.error or {}).get("what", ""))
            jobs.note(job, wanted=wanted, **changed)
            self.rested.pop(identifier, None)
            return job

    def _place(self, identifier: str, before: str | None = None, *, first: bool = False) -> None:
        """Write the order with this job before another, or first, or last."""
        order = [job.id for job in self.jobs() if job.id != identifier]
        order.insert(0 if first else len(order) if before is None else order.index(before), identifier)
        self._write(self.places().model_copy(update={"order": order}))

    def _write(self, places: Places) -> None:
        write_atomic(self.root / "queue.json", places.model_dump_json())

    def _settled(self, argv: list[str], run: str | None, taken: set[str]) -> tuple[list[str], str]:
        """A command that goes on when it is run again, and the name of its run."""
        verb, what = argv[0] if argv else "", positional(argv)
        if verb not in VERBS or (verb == "resume" and not what):
            raise UsageError("the queue does not take this command", why=f"it takes {', '.join(VERBS)}")
        before, behind = parted(without(argv, "--runs"))
        argv, more = [*(word for word in before if word != "--json"), *behind], list[str]()
        source = (option(argv, "--data") or "run") if verb == "train" else (what or ["runs"])[0]
        like = "-".join([Path(source).stem, *what[:1]] if verb == "train" else ["compare", Path(source).stem])
        given = what[0] if verb == "resume" else option(argv, "--run") or run
        name = given or free(like, lambda name: name in taken or (self.runs / name).exists())
        name = check_name(name)
        if verb == "train":
            if given and (self.runs / name).exists() and "--resume" not in before:
                fix = "choose another name, or resume that run"
                raise UsageError("a run of this name exists already", where=name, fix=fix)
            argv, more = without(argv, "--run", "--resume"), ["--run", name, "--resume", "auto"]
        if verb == "compare":
            argv = without(argv, "--run")
            more = ["--run", name] if self._is_source(what) else []
            if option(argv, "--output", "-o") is None:
                more += ["-o", str(self.runs / name / "report.html")]
        before, behind = parted(argv)
        return [*before, *more, "--runs", str(self.runs), "--json", *behind], name

    def _is_source(self, what: list[str]) -> bool:
        """Whether runs are trained for a comparison, rather than taken as they are."""
        from quintet.comparison.compare import is_source

        return is_source(what, self.runs)


def check_words(words: Sequence[str]) -> None:
    """Raise UsageError for what no process can be given."""
    for word in words:
        try:
            good = bool(word) and b"\0" not in word.encode()
        except UnicodeEncodeError:
            good = False
        if not good:
            raise UsageError(f"the command has a word that cannot be passed on: {word!r}")


def free(like: str, taken: Callable[[str], bool]) -> str:
    """The first free name like a text, with a number."""
    return next(name for i in range(1, 100_000) if not taken(name := f"{stem(like)}-{i}"))


def unwritable(error: OSError, where: Path) -> EnvironmentFault:
    """What is said where the queue's folder cannot be written."""
    return EnvironmentFault(
        "the queue cannot be written",
        where=str(error.filename or where),
        why=error.strerror or str(error),
        fix="free disk space, or check the permissions of the folder",
    )
