"""One model at work: a bounded queue, and one thread that takes from it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from quintet.server.metrics import Metrics
from quintet.server.problems import busy

A = TypeVar("A")
STOPPING = "the server is stopping"


class Abandoned(Exception):
    """Raised inside work that nobody waits for any more, by the next step that it takes."""


@dataclass
class Job:
    """Work that waits or runs. It calls `step` between its steps, which raises once it has been cancelled."""

    work: Callable[[Job], Any]
    answer: Future[Any] = field(default_factory=Future)
    cancelled: threading.Event = field(default_factory=threading.Event)
    told: Callable[[float], None] = lambda seconds: None
    last: float = 0.0

    def step(self, *_: Any) -> None:
        """To be called between steps, with whatever arguments."""
        if self.cancelled.is_set():
            raise Abandoned
        now = time.perf_counter()
        if self.last:
            self.told(now - self.last)
        self.last = now

    def run(self) -> None:
        """Do the work, and give the answer or the error to who waits for it."""
        if self.cancelled.is_set() or not self.answer.set_running_or_notify_cancel():
            return
        try:
            result = self.work(self)
        except BaseException as error:  # of any kind: it belongs to who waits, and the thread goes on
            self.answer.set_exception(error)
        else:
            self.answer.set_result(result)


class Engine:
    """A thread that works on one job after the other. `limit`: jobs that may wait at once.

    `submit` is all that routes know of it: what makes one forward pass of many jobs has the same.
    """

    def __init__(self, name: str, limit: int, metrics: Metrics) -> None:
        self.name, self.limit, self.metrics = name, limit, metrics
        self.queue: deque[Job] = deque()
        self.changed = threading.Condition()
        self.running: Job | None = None
        self.closed = False
        self.pace = 1.0  # seconds that a job took of late
        self.thread: threading.Thread | None = None

    async def submit(self, work: Callable[[Job], A], deadline: float) -> A:
        """What `work` gives, done behind all that was submitted before. If the caller is cancelled, or `deadline`
        seconds have passed, it is taken out of the queue, or ends at its next step.

        Raises Refusal: 429 where too many wait, 503 behind the deadline and where the engine is closed.
        """
        job = Job(work, told=self.metrics.step.labels(self.name).observe)
        self._add(job)
        try:
            async with asyncio.timeout(deadline):
                return await asyncio.wrap_future(job.answer)
        except TimeoutError:
            why = f"it was not done within {deadline:g} s"
            raise busy(503, "this took too long", after=self.wait(), why=why) from None
        except Abandoned:
            raise busy(503, STOPPING, after=1) from None
        finally:
            self._drop(job)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        with self.changed:
            return self.running is None and not self.queue

    def wait(self) -> float:
        """About how many seconds a new job would wait."""
        return self.pace * (len(self.queue) + (self.running is not None))

    def _add(self, job: Job) -> None:
        with self.changed:
            if self.closed:
                raise busy(503, STOPPING, after=1)
            if len(self.queue) >= self.limit:
                why = f"{self.limit} requests wait for this model"
                raise busy(429, "too many requests", after=self.wait(), why=why)
            self.queue.append(job)
            self.metrics.waiting.labels(self.name).set(len(self.queue))
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name=f"quintet-{self.name}", daemon=True)
                self.thread.start()
            self.changed.notify()

    def _drop(self, job: Job) -> None:
        """Whoever waited for it does so no more."""
        job.cancelled.set()
        with self.changed:
            if job in self.queue:
                self.queue.remove(job)
            self.metrics.waiting.labels(self.name).set(len(self.queue))

    def _work(self) -> None:
        while True:
            with self.changed:
                while not self.queue and not self.closed:
                    self.changed.wait()
                if not self.queue:
                    return
                job = self.running = self.queue.popleft()
                self.metrics.waiting.labels(self.name).set(len(self.queue))
                self.metrics.working.labels(self.name).set(1)
            began = time.perf_counter()
            job.run()
            self.metrics.batch.labels(self.name).observe(1)
            with self.changed:
                self.pace += 0.2 * (time.perf_counter() - began - self.pace)
                self.running = None
                self.metrics.working.labels(self.name).set(0)
                self.changed.notify_all()

    def close(self) -> None:
        """Take no more jobs; those that wait are still done."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def cancel(self) -> None:
        """End what runs at its next step, and what waits at once."""
        with self.changed:
            for job in (*self.queue, *([self.running] if self.running else [])):
                job.cancelled.set()
            for job in self.queue:
                if job.answer.set_running_or_notify_cancel():
                    job.answer.set_exception(Abandoned())
            self.queue.clear()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end. Whether it has."""
        if self.thread is not None:
            self.thread.join(seconds)
        return self.thread is None or not self.thread.is_alive()
