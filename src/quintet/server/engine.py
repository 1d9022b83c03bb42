"""One model at work: a bounded queue, and threads that take from it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from quintet.model.batching import Batcher, Client
from quintet.model.fitted import Fitted
from quintet.server.metrics import Metrics
from quintet.server.problems import Refusal, busy

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
    client: Client | None = None

    def step(self, *_: Any) -> None:
        """To be called between steps, with whatever arguments."""
        if self.cancelled.is_set():
            raise Abandoned

    def asks(self, batcher: Batcher) -> Fitted:
        """The model as this job asks it, among others: what it asks ends when the job is cancelled."""
        self.client = batcher.client()
        if self.cancelled.is_set():
            self.client.cancel()
        return self.client.model

    def cancel(self) -> None:
        self.cancelled.set()
        if self.client is not None:
            self.client.cancel()

    def run(self) -> None:
        """Do the work, and give the answer or the error to who waits for it."""
        if not self.answer.set_running_or_notify_cancel():
            return
        try:
            self.step()
            result = self.work(self)
        except CancelledError:
            self.answer.set_exception(Abandoned())
        except BaseException as error:  # of any kind: it belongs to who waits, and the thread goes on
            self.answer.set_exception(error)
        else:
            self.answer.set_result(result)


class Engine:
    """Threads that work on one job after the other. `limit`: jobs that may wait at once; `workers`: threads at most,
    one for each job that is at work. What these ask of the model is done by its batcher, together.
    """

    def __init__(self, name: str, limit: int, metrics: Metrics, workers: int = 1) -> None:
        self.name, self.limit, self.metrics, self.workers = name, limit, metrics, workers
        self.queue: deque[Job] = deque()
        self.changed = threading.Condition()
        self.running: list[Job] = []
        self.closed = False
        self.pace = 1.0  # seconds that a job took of late
        self.threads: list[threading.Thread] = []

    async def submit(self, work: Callable[[Job], A], deadline: float) -> A:
        """What `work` gives, done behind all that was submitted before. If the caller is cancelled, or `deadline`
        seconds have passed, it is taken out of the queue, or ends at its next step.

        Raises Refusal: 429 where too many wait, 503 behind the deadline and where the engine is closed.
        """
        job = Job(work)
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
            return not self.running and not self.queue

    @property
    def full(self) -> bool:
        """Whether no more jobs may wait."""
        return len(self.queue) >= self.limit

    def refusal(self) -> Refusal:
        """What is answered then."""
        why = f"{self.limit} requests wait for this model"
        return busy(429, "too many requests", after=self.wait(), why=why)

    def wait(self) -> float:
        """About how many seconds a new job would wait."""
        return self.pace * (1 + len(self.queue) / self.workers) if self.running else 0.0

    def _add(self, job: Job) -> None:
        with self.changed:
            if self.closed:
                raise busy(503, STOPPING, after=1)
            if self.full:
                raise self.refusal()
            self.queue.append(job)
            self.metrics.waiting.labels(self.name).set(len(self.queue))
            if len(self.threads) < min(self.workers, len(self.running) + len(self.queue)):
                self.threads.append(threading.Thread(target=self._work, name=f"quintet-{self.name}", daemon=True))
                self.threads[-1].start()
            self.changed.notify()

    def _drop(self, job: Job) -> None:
        """Whoever waited for it does so no more."""
        job.cancel()
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
                job = self.queue.popleft()
                self.running.append(job)
                self.metrics.waiting.labels(self.name).set(len(self.queue))
                self.metrics.working.labels(self.name).set(len(self.running))
            began = time.perf_counter()
            job.run()
            with self.changed:
                self.pace += 0.2 * (time.perf_counter() - began - self.pace)
                self.running.remove(job)
                self.metrics.working.labels(self.name).set(len(self.running))
            del job  # else what it asked, the answer and the model would stay until this thread has more to do

    def close(self) -> None:
        """Take no more jobs; those that wait are still done."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def cancel(self) -> None:
        """End what runs at its next step, and what waits at once."""
        with self.changed:
            for job in (*self.queue, *self.running):
                job.cancel()
            for job in self.queue:
                if job.answer.set_running_or_notify_cancel():
                    job.answer.set_exception(Abandoned())
            self.queue.clear()

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end. Whether they have."""
        until = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)
