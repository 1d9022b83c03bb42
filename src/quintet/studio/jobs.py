"""A job: a command line that goes on where it stopped when it is run again, and the folder that knows how it stands.

Nothing in a folder says that the job runs: its process holds a lock on a file for as long as it lives, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from quintet.core.errors import QuintetError
from quintet.core.settings import in_words
from quintet.runs.names import first_stage_of
from quintet.training import checkpoint
from quintet.training.checkpoint import write_atomic

State = Literal["waiting", "running", "paused", "failed", "finished", "stopped"]
ORDER, LOCK, PID, OUT, LOG = "job.json", "lock", "pid", "out.json", "log.txt"
MOST_STARTS = 5
"""So often a job is started without coming any further, before it is taken for one that cannot."""
OURSELVES = 'echo $$ >"$0" && exec "$@"'
"""A shell writes down its process number and becomes the program: nobody else has to, who could be killed before."""


class Order(BaseModel):
    """What job.json holds: what is to be done, what the user wants of it now, and how often it was tried.

    `cwd`: where relative paths of the command begin. `starts`: since the run last came further than `reached`. `begun`:
    when it was first started; `resumed`: whether it was started again.
    """

    model_config = ConfigDict(frozen=True)

    argv: tuple[str, ...]
    title: str
    run: str
    cwd: str
    created: float
    wanted: Literal["run", "pause", "stop"] = "run"
    starts: int = 0
    reached: int = 0
    begun: float | None = None
    resumed: bool = False


@dataclass(frozen=True)
class Job:
    """A job as it stands. `error` is what a failed one says of it: what, where, why, fix. Of a finished one: when it
    `ended`, and the seconds that it `spent`.
    """

    folder: Path
    order: Order
    state: State
    error: Mapping[str, str] | None = None
    ended: float | None = None
    spent: float | None = None
    damaged: bool = False

    @cached_property
    def id(self) -> str:
        return self.folder.name

    @property
    def title(self) -> str:
        return self.order.title

    @property
    def argv(self) -> tuple[str, ...]:
        return self.order.argv

    @property
    def run(self) -> str:
        """The name of its run's folder."""
        return self.order.run

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop and has not done so yet."""
        return self.state == "running" and self.order.wanted != "run"

    @property
    def command(self) -> str:
        """What it does, as it is typed."""
        return shlex.join(["quintet", *self.argv])

    @property
    def there(self) -> bool:
        """Whether its run can be looked at."""
        return any(
            (self.runs / self.run / name).is_file() for name in ("config.yaml", "comparison.json", "report.json")
        )

    @property
    def runs(self) -> Path:
        """Where the run's folder is."""
        return self.folder.parents[2]

    def log(self, most: int = 8_000) -> str:
        """The end of what its process said."""
        try:
            with (self.folder / LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def read(folder: Path) -> Job:
    """The job of a folder. One whose note is damaged has failed, and says so."""
    alive = lives(folder)  # asked first: whoever is dead has written all that he will
    try:
        written = (folder / ORDER).stat()
        order = order_of(folder / ORDER, written.st_ino, written.st_mtime_ns)
    except (OSError, ValueError) as error:
        order = Order(argv=(), title=folder.name, run="", cwd="", created=0.0)
        why = in_words(error.errors()[0]) if isinstance(error, ValidationError) else str(error)
        told = QuintetError("the file that describes this job is damaged", where=str(folder / ORDER), why=why,
                            fix="remove the job and add it again; its run stays as it is")  # fmt: skip
        return Job(folder, order, "running" if alive else "failed", told.as_dict(), damaged=True)
    return Job(folder, order, "running") if alive else at_rest(folder, order)


@lru_cache(4096)
def order_of(path: Path, inode: int, written: int) -> Order:
    """What a file holds, read once: whatever is written there is another file. Raises OSError and ValueError."""
    return Order.model_validate_json(path.read_text())


def at_rest(folder: Path, order: Order) -> Job:
    """How a job stands of which no process lives: what the last one wrote decides, and what the user wants."""
    said = answer(folder)
    if said is not None and said.get("error") != "Stopped":
        if "error" in said:
            return Job(folder, order, "failed", {key: str(said.get(key) or "") for key in FIELDS})
        ended, spent = (folder / OUT).stat().st_mtime, said.get("seconds")
        if order.begun is not None and not order.resumed:
            spent = ended - order.begun
        return Job(folder, order, "finished", ended=ended, spent=spent)
    if order.wanted != "run":
        return Job(folder, order, "paused" if order.wanted == "pause" else "stopped")
    if order.starts >= MOST_STARTS and reached(folder.parents[2] / order.run) <= order.reached:
        return Job(folder, order, "failed", killed(order.starts))
    return Job(folder, order, "waiting")


FIELDS = ("error", "what", "where", "why", "fix")


def answer(folder: Path) -> dict[str, Any] | None:
    """The JSON object that its process wrote at its end; None if it did not come so far."""
    try:
        said = json.loads((folder / OUT).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def killed(times: int) -> dict[str, str]:
    """What is said of a job that never comes to an end of its own."""
    return QuintetError(
        f"the process of this job was killed {times} times without any progress",
        why="it left no message; most often the system ends a process because memory runs out",
        fix="choose a smaller batch or preset, or smaller items; or continue the job once more",
    ).as_dict()


def reached(run: Path) -> int:
    """How far a run has come, with the one that is trained on the way to it, or the runs of a comparison: a figure that
    grows with every checkpoint, and with every run that is measured.
    """
    first = run.with_name(first_stage_of(run.name)) / "checkpoints"
    newest = (checkpoint.steps(folder)[-1:] for folder in (first, run / "checkpoints", *run.glob("*/checkpoints")))
    steps = sum(checkpoint.step_of(folder) for found in newest for folder in found)
    return steps + sum(1 for _ in run.glob("*-*.json"))


# -- its process -------------------------------------------------------------------------------------------------------


def lives(folder: Path) -> bool:
    """Whether a process of this job lives."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def start(job: Job, program: Sequence[str]) -> subprocess.Popen[bytes] | None:
    """Start the process of a waiting job, which goes on when we end; None if it is no longer one that waits. Raises
    OSError if the system refuses.
    """
    folder = job.folder
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if at_rest(folder, job.order).state != "waiting":
            return None
        far = reached(job.runs / job.run)
        starts = job.order.starts + 1 if far <= job.order.reached else 1
        job = note(job, starts=starts, reached=far, begun=job.order.begun or time.time(),
                   resumed=job.order.begun is not None)  # fmt: skip
        (folder / PID).unlink(missing_ok=True)
        words = ["/bin/sh", "-c", OURSELVES, str(folder / PID), *program, *job.argv]
        with (folder / OUT).open("wb") as out, (folder / LOG).open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} ---\n".encode())
            log.flush()
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=log, cwd=job.order.cwd,
                                    start_new_session=True, pass_fds=(lock,))  # fmt: skip
    finally:
        os.close(lock)  # ours: the process has its own, and with it the lock


def send(job: Job, what: signal.Signals) -> bool:
    """Send a signal to its process, and one that nobody survives to all that it has started too; False if there is
    none yet that could hear it.
    """
    try:
        number = int((job.folder / PID).read_text())
        if number > 1 and lives(job.folder):
            (os.killpg if what == signal.SIGKILL else os.kill)(number, what)
            return True
    except (OSError, ValueError):
        pass
    return False


def explain(job: Job, code: int) -> None:
    """Write down for a process that ended with a `code` of its own, and without an answer, what its log ends with."""
    if code >= 0 and answer(job.folder) is None:
        lines = [line for line in job.log().splitlines() if line.strip()]
        what = f"the process of this job ended with exit code {code} and without a result"
        fail(job, QuintetError(what, why=lines[-1] if lines else "", fix="read the log of the job"))


def fail(job: Job, error: QuintetError) -> bool:
    """Write down why a job has failed, in the place of its process. False if that cannot be written."""
    try:
        write_atomic(job.folder / OUT, json.dumps(error.as_dict()))
    except OSError:
        return False
    return True


# -- its note ----------------------------------------------------------------------------------------------------------


def note(job: Job, **changed: Any) -> Job:
    """Change what job.json holds: the old note or the new one stands there, whatever happens. Raises OSError."""
    order = job.order.model_copy(update=changed)
    write_atomic(job.folder / ORDER, order.model_dump_json())
    return replace(job, order=order)
