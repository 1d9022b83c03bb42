"""What tests of the queue share: a stand-in for the trainer that takes milliseconds, and studios that can be killed.

The stand-in is run as `quintet` is, works in steps that it keeps, goes on where it stopped, and keeps a book of its own
in which a job that is done twice, or by two processes at once, can be seen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from quintet.studio.jobs import Job
from quintet.studio.queue import Queue

TRAINER = """
import fcntl, json, os, signal, sys, time

argv = sys.argv[1:]
value = lambda name: argv[argv.index(name) + 1] if name in argv else None
root, run, steps = value("--runs"), value("--run"), int(value("--steps") or 5)
folder = os.path.join(root, run)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))

def book(word):
    with open(os.path.join(root, "book"), "a") as file:
        file.write(f"{word} {run}\\n")

def answer(code, **facts):
    print(json.dumps(facts), flush=True)
    sys.exit(code)

def complain(what):
    print("error: " + what, file=sys.stderr, flush=True)
    answer(3, error="DataError", what=what, where="people.csv", why="it is <empty>", fix="another file")

book("begun")
os.makedirs(folder, exist_ok=True)
alone = open(os.path.join(folder, "alone"), "a")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    book("twice")
    sys.exit(4)
if "--has-child" in argv and not os.fork():
    time.sleep(600)
if "--fails" in argv:
    complain("the data cannot be read")
if "--crashes" in argv:
    print("Traceback: no such library", file=sys.stderr, flush=True)
    sys.exit(1)
kept = os.path.join(folder, "checkpoints")
os.makedirs(kept, exist_ok=True)
step = max([int(name[5:]) for name in os.listdir(kept)], default=0)
while step < steps and not stop:
    if "--dies" in argv:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(value("--each") or 0.01))
    step += 1
    with open(os.path.join(folder, "metrics.jsonl"), "a") as file:
        file.write(json.dumps({"step": step, "steps": steps, "seconds": 2.0 * step}) + "\\n")
    os.makedirs(os.path.join(kept, f"step-{step:08d}"), exist_ok=True)
if step < steps:
    answer(143, error="Stopped", what="stopped by SIGTERM and saved", where=run, why="", fix="")
print(json.dumps(dict(run=folder, step=step, steps=steps, seconds=2.0 * step)), flush=True)
book("finished")  # whoever begins it behind this line does it twice
"""


def program(folder: Path) -> list[str]:
    """The command that runs the stand-in."""
    path = folder / "trainer.py"
    path.write_text(TRAINER)
    return [sys.executable, "-S", "-E", str(path)]


def queue(folder: Path, **options: Any) -> Queue:
    """The queue of the runs in a folder, whose jobs are done by the stand-in."""
    return Queue(folder / "runs", program(folder), **options)


@contextlib.contextmanager
def working(folder: Path, **options: Any) -> Iterator[Queue]:
    """A queue that starts its jobs; behind it, no process is left."""
    with queue(folder, **options) as made:
        try:
            made.begin()
            yield made
        finally:
            made.end()
            stop_all(made)


def stop_all(made: Queue) -> None:
    """Kill every process of a queue."""
    for job in made.jobs():
        if job.state == "running":
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((job.folder / "pid").read_text()), signal.SIGKILL)


def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for it, on a busy machine too."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "this did not come about in time"
        time.sleep(0.01)


def states(made: Queue) -> dict[str, str]:
    """The state of each job by its run."""
    return {job.run: job.state for job in made.jobs()}


def book(made: Queue) -> list[str]:
    """What the stand-ins wrote: "begun NAME", "finished NAME", "twice NAME"."""
    path = made.runs / "book"
    return path.read_text().splitlines() if path.exists() else []


def add(made: Queue, run: str, *words: str) -> Job:
    """A job for the stand-in."""
    return made.add(["train", "flow", "--data", "moons", *words], f"moons {run}", run)


# -- studios that are killed -------------------------------------------------------------------------------------------

STUDIOS = """
import os, signal, sys, time
from pathlib import Path
from quintet.studio import jobs, queue

{fault}
queue.TICK = 0.02
program = sys.argv[2:]
for line in sys.stdin:
    child = os.fork()
    if not child:
        made = queue.Queue(Path(sys.argv[1]), program)
        made.take()
        made.begin("http://127.0.0.1:1")
        print(os.getpid(), flush=True)
        while True:
            time.sleep(1000)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
"""A process that becomes a studio's queue at each line that it reads: what it needs is imported once."""


class Studios:
    """Studios of one folder, one after another. `fault`: statements that break what is tested, for controls."""

    def __init__(self, made: Queue, fault: str = "") -> None:
        words = [sys.executable, "-c", STUDIOS.replace("{fault}", fault), str(made.runs), *made.program]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = 0

    def open(self) -> None:
        self.pid = int(self._ask())

    def kill(self) -> None:
        """End the studio as a power cut does."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ended\n"
        self.pid = 0

    def close(self) -> None:
        if self.pid:
            self.kill()
        self.process.kill()
        self.process.communicate()

    def _ask(self) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("open\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()
