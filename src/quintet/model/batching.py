"""One pass through a model for many requests: what waits is done together, by one thread a model.

    batcher = Batcher(fitted)              # starts its thread
    client = batcher.client()              # one a request
    client.model.draw(16, seed=1)          # a Fitted like any other: blocks until the thread has done the work
    client.cancel()                        # from any thread: what waits is dropped, what runs ends at its next step
    batcher.submit(Call(...)) -> Future    # the same below codecs; `Future.cancel` does what `client.cancel` does
    batcher.close()                        # what was accepted is finished; nothing more is taken

Every verb ends in calls of the family on rows (`calls.Call`). Calls of equal kind (verb, shapes, settings of sampling)
that wait at the same time become one call of the family, of `rows` rows at most, in which each has its share, however
many rows others want. A row comes out as it would alone, up to rounding: its random numbers belong to its request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from quintet.core.errors import EnvironmentFault
from quintet.core.family import OnStep
from quintet.model.calls import Call, Found, done, joined
from quintet.model.fitted import Fitted

SECONDS = 0.5
"""What one call of the family should take at most, so that whoever comes meanwhile need not wait for long."""
FEWEST = 16
"""Rows of a call, however slow they are."""

OnBatch = Callable[[str, int, int, float], None]
"""(verb, requests, rows, seconds) of each call of the family, for figures of the load; called by the thread."""


@dataclass(eq=False)
class Job:
    """A call on its way: its first `begun` rows are done or in work, the first `ended` ones are done."""

    call: Call
    on_step: OnStep | None
    future: Future[Found]
    begun: int = 0
    ended: int = 0
    found: list[Found] = field(default_factory=list)

    @property
    def left(self) -> int:
        return self.call.n - self.begun

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done()

    def fail(self, error: BaseException) -> None:
        if not self.over and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def add(self, found: Found, n: int) -> None:
        """The results of its next n rows."""
        self.found.append(found)
        self.ended += n
        if self.ended == self.call.n and not self.over and self.future.set_running_or_notify_cancel():
            self.future.set_result(joined(self.found))

    def tell(self, step: int, steps: int, x: Tensor) -> None:
        """A step of its rows; what is raised in it is its own affair."""
        if self.on_step is not None and not self.over:
            try:
                self.on_step(step, steps, x)
            except BaseException as error:
                self.fail(error)


class Batcher:
    """The engine of one model for many requests at once: see this module.

    `rows`: of one call of the family at most. `on_batch` is told of each.
    """

    def __init__(self, model: Fitted, *, rows: int | None = None, on_batch: OnBatch | None = None) -> None:
        self.model, self.most, self.on_batch = model, rows or model.at_once, on_batch
        self._jobs: list[Job] = []
        self._pace: list[tuple[Any, float]] = []
        self._ready, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name=f"batcher of {model.run.name}", daemon=True)
        self._thread.start()

    # -- from any thread ---------------------------------------------------------------------------------------------

    def submit(self, call: Call, on_step: OnStep | None = None) -> Future[Found]:
        """The results of a call. The future can be cancelled at any time: its rows are left out from then on, and a
        call of the family that nobody waits for ends at its next step.
        """
        job = Job(call, on_step, Future())
        with self._ready:
            if self._closing:
                raise EnvironmentFault("this model takes no more requests", where=self.model.run.name,
                                       why="it is being closed")  # fmt: skip
            self._jobs.append(job)
            self._ready.notify()
        return job.future

    def client(self) -> Client:
        """A request's own view of the model."""
        return Client(self)

    @property
    def waiting(self) -> int:
        """How many calls there are that are not done."""
        with self._ready:
            return sum(not job.over for job in self._jobs)

    def close(self, *, finish: bool = True) -> None:
        """Take nothing more, and return when the thread has ended: behind what was accepted, or at the next step."""
        with self._ready:
            self._closing = True
            if not finish:
                for job in self._jobs:
                    job.future.cancel()
            self._ready.notify()
        self._thread.join()

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._jobs and not self._closing:
                    self._ready.wait()
                if not self._jobs:
                    return
                shares = self._shares()
            if shares:
                self._do(shares)
            with self._ready:
                self._jobs = [job for job in self._jobs if not job.over]

    def _shares(self) -> list[tuple[Job, Call]]:
        """The next parts that are done together: of the job whose turn it is, and of all of its kind."""
        self._jobs = [job for job in self._jobs if not job.over]
        if not self._jobs:
            return []
        kind = self._jobs[0].call.kind
        jobs = [job for job in self._jobs if job.call.kind == kind]
        counts = shares([job.left for job in jobs], self._room(kind))
        out = [(job, job.call.part(job.begun, count)) for job, count in zip(jobs, counts, strict=True) if count]
        for job, part in out:
            job.begun += part.n
            self._jobs.remove(job)
            self._jobs.append(job)  # those of another kind are next
        return out

    def _room(self, kind: Any) -> int:
        """How many rows a call may have: `most`, fewer where the last of this kind says that they take long."""
        pace = next((pace for other, pace in self._pace if other == kind), 0.0)
        return self.most if not pace else min(self.most, max(FEWEST, int(SECONDS / pace)))

    def _do(self, shares: Sequence[tuple[Job, Call]]) -> None:
        """Parts of some jobs by one call of the family; where that fails, each by itself."""
        began, n = time.perf_counter(), sum(part.n for _, part in shares)
        try:
            found = done(self.model.family, [part for _, part in shares], lambda *step: self._tell(shares, *step))
        except CancelledError:
            return
        except BaseException as error:
            if len(shares) == 1:
                shares[0][0].fail(error)
            else:
                for share in shares:
                    self._do([share])
            return
        seconds, kind = time.perf_counter() - began, shares[0][1].kind
        self._pace = [(kind, seconds / n), *(one for one in self._pace if one[0] != kind)][:32]
        for (job, part), results in zip(shares, found, strict=True):
            job.add(results, part.n)
        if self.on_batch:
            self.on_batch(shares[0][1].verb, len(shares), n, seconds)

    def _tell(self, shares: Sequence[tuple[Job, Call]], step: int, steps: int, x: Tensor) -> None:
        """A step of all these parts, to each of which its own rows are shown, where they are all there."""
        if all(job.over for job, _ in shares):
            raise CancelledError
        sizes = [part.n for _, part in shares]
        each = x.split(sizes) if len(x) == sum(sizes) else [x[:0]] * len(sizes)
        for (job, _), rows in zip(shares, each, strict=True):
            job.tell(step, steps, rows)


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """How many of `wanted` each gets where there is room for so many: the same, and what some do not need, others."""
    out = [0] * len(wanted)
    while room and any(got < want for got, want in zip(out, wanted, strict=True)):
        each = max(1, room // sum(got < want for got, want in zip(out, wanted, strict=True)))
        for i, want in enumerate(wanted):
            more = min(each, want - out[i], room)
            out[i], room = out[i] + more, room - more
    return out


class Client:
    """One request: `model` is a Fitted whose work its batcher does, among that of other requests."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher, self.model = batcher, batcher.model.through(self)
        self._lock, self._cancelled = threading.Lock(), False
        self._future: Future[Any] | None = None

    def cancel(self) -> None:
        """End what is being done for this request; whoever waits for it gets a CancelledError, now and later."""
        with self._lock:
            self._cancelled = True
            if self._future is not None:
                self._future.cancel()

    def rows(self, call: Call, on_step: OnStep | None = None) -> Found:
        return self._wait(lambda: self.batcher.submit(call, on_step))

    def _wait(self, begin: Callable[[], Future[Any]]) -> Any:
        with self._lock:
            if self._cancelled:
                raise CancelledError
            self._future = future = begin()
        try:
            return future.result()
        finally:  # who is interrupted waits no longer
            future.cancel()
