"""One pass through a model for many requests: what waits is done together, by one thread a model.

    batcher = Batcher(fitted)
    client = batcher.client()              # one a request
    client.model.draw(16, seed=1)          # a Fitted like any other: blocks until the thread has done the work
    client.cancel()                        # from any thread: what waits is dropped, what runs ends at its next step
    batcher.submit(Call(...)) -> Future    # the same below codecs; `Future.cancel` does what `client.cancel` does
    batcher.write(continuations) -> Future
    batcher.close()                        # what was accepted is finished; nothing more is taken

Every verb ends in calls of the family on rows (`calls.Call`). Calls of equal kind (verb, shapes, settings of sampling)
that wait at the same time become one call of the family, of `rows` rows at most, in which each has its share, however
many rows others want. A row comes out as it would alone, up to rounding: its random numbers belong to its request.

Texts that `writing.Writer` writes are batched continuously, by a symbol a step, however their settings differ: see
`nets.continuing`. At most about `texts` of them are written at once; requests take turns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from quintet.core.errors import EnvironmentFault
from quintet.core.family import Family, OnStep
from quintet.core.random import Rows, uniform
from quintet.core.spaces import Discrete
from quintet.model.calls import Call, Found, done, joined
from quintet.model.fitted import Fitted
from quintet.model.turns import Writing, Writings
from quintet.nets.continuing import Continuation
from quintet.nets.decoding import InOrder

A = TypeVar("A")
SECONDS = 0.5
"""What one call of the family should take at most, so that whoever comes meanwhile need not wait for long."""
IDLE = 10.0
"""Seconds that a thread waits for more to do."""
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

    `rows`: of one call of the family at most; `texts`: written at once, as far as the family keeps caches for so many.
    `on_batch` is told of each call and step. Its thread ends when there was nothing to do for a while, and begins anew.
    """

    def __init__(
        self, model: Fitted, *, rows: int | None = None, texts: int = 32, on_batch: OnBatch | None = None
    ) -> None:
        self.model, self.most, self.on_batch = model, rows or model.at_once, on_batch
        self._jobs: list[Job] = []
        self._written: list[Writing] = []
        family = cast(InOrder, model.family)
        if model.family.in_order:
            texts = min(texts, family.at_once(model.sampling(None), None))
        self._writings = Writings(family, texts)
        self._pace: list[tuple[Any, float]] = []
        self._ready, self._closing = threading.Condition(), False
        self._thread: threading.Thread | None = None

    # -- from any thread ---------------------------------------------------------------------------------------------

    def submit(self, call: Call, on_step: OnStep | None = None) -> Future[Found]:
        """The results of a call. The future can be cancelled at any time: its rows are left out from then on, and a
        call of the family that nobody waits for ends at its next step.
        """
        job = Job(call, on_step, Future())
        with self._taking():
            self._jobs.append(job)
        return job.future

    def write(self, texts: Sequence[Continuation], on_step: Callable[[], None] | None = None) -> Future[None]:
        """Write texts; `on_step` is told of each step, in the thread. The future can be cancelled at any time."""
        writing = Writing(texts, on_step, waiting=[text for text in texts[::-1] if not text.ended])
        with self._taking():
            self._written.append(writing)
        return writing.future

    @contextmanager
    def _taking(self) -> Iterator[None]:
        with self._ready:
            if self._closing:
                raise EnvironmentFault("this model no longer accepts requests", where=self.model.run.name,
                                       why="the model is being unloaded", fix="send the request again")  # fmt: skip
            yield
            if self._thread is None:
                name = f"batcher of {self.model.run.name}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()
            self._ready.notify()

    def client(self) -> Client:
        """A request's own view of the model."""
        return Client(self)

    @property
    def waiting(self) -> int:
        """How many calls and requests for texts there are that are not done."""
        with self._ready:
            return sum(not future.done() for future in self._futures)

    def close(self, *, finish: bool = True) -> None:
        """Take nothing more, and return when the thread has ended: behind what was accepted, or at the next step."""
        with self._ready:
            self._closing = True
            if not finish:
                for future in self._futures:
                    future.cancel()
            self._ready.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    @property
    def _futures(self) -> list[Future[Any]]:
        return [job.future for job in self._jobs] + [job.future for job in self._written]

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Round after round, whatever goes wrong in one: that is told to all who wait."""
        going = True
        while going:
            try:
                going = self._round()
            except BaseException as error:
                with self._ready:
                    futures, self._jobs, self._written = self._futures, [], []
                self._writings = Writings(self._writings.family, self._writings.most)
                for future in futures:
                    if not future.done() and future.set_running_or_notify_cancel():
                        future.set_exception(error)

    def _round(self) -> bool:
        """One call of the family, and one step of texts; whether there may be another round."""
        with self._ready:
            if not (self._jobs or self._written or self._closing):
                self._ready.wait(IDLE)
            shares, written = self._shares(), list(self._written)
            if not (shares or written):
                self._thread = None
                return False
        if shares:
            self._do(shares)
        if written:
            began = time.perf_counter()
            texts = self._writings.step(written)
            self._tell_batch("write", len(written), texts, time.perf_counter() - began)
        with self._ready:
            self._jobs = [job for job in self._jobs if not job.over]
            self._written = [job for job in self._written if job.begun or not job.future.done()]
        return True

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
        self._tell_batch(shares[0][1].verb, len(shares), n, seconds)

    def _tell_batch(self, verb: str, requests: int, rows: int, seconds: float) -> None:
        if self.on_batch:
            self.on_batch(verb, requests, rows, seconds)

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
        self._futures = set[Future[Any]]()

    def cancel(self) -> None:
        """End what is being done for this request; whoever waits for it gets a CancelledError, now and later."""
        with self._lock:
            self._cancelled = True
            for future in self._futures:
                future.cancel()

    def rows(self, call: Call, on_step: OnStep | None = None) -> Found:
        """What a call results in; new texts are written with those of others, rather than by a call that takes as long
        as all of their symbols do.
        """
        family = self.model.family
        if (texts := as_texts(family, call)) is not None:
            for step, _ in enumerate(self.written(texts, 0, steps=on_step is not None), 1):
                if on_step is not None:
                    on_step(min(step, family.space.dims), family.space.dims, torch.empty(0))
            return (as_rows(family, texts),)
        with self._asking(lambda: self.batcher.submit(call, on_step)) as future:
            return future.result()

    def written(self, texts: Sequence[Continuation], most: int, *, steps: bool = True) -> Iterator[None]:
        told = SimpleQueue[bool]()
        on_step = (lambda: told.put(True)) if steps else None  # to wake this thread at each step costs a little
        with self._asking(lambda: self.batcher.write(texts, on_step)) as future:
            future.add_done_callback(lambda _: told.put(False))
            while told.get():
                yield
            future.result()

    @contextmanager
    def _asking(self, ask: Callable[[], Future[A]]) -> Iterator[Future[A]]:
        """What is asked for, until it is there; who is interrupted wants it no longer."""
        with self._lock:
            if self._cancelled:
                raise CancelledError
            future = ask()
            self._futures.add(future)
        try:
            yield future
        finally:
            future.cancel()
            with self._lock:
                self._futures.discard(future)


def as_texts(family: Family, call: Call) -> list[Continuation] | None:
    """New items of a family that draws symbol by symbol in a row, with the numbers that its `sample` draws; else None.

    A search is no draw, and symbols of a table's columns are few.
    """
    space = family.space
    if not (call.verb == "sample" and family.in_order and space.sequence) or call.options["sampling"].beams > 1:
        return None
    rows, cond = Rows(call.seeds[0], call.start, call.n), call.given["cond"]
    u = uniform(call.n, space.dims, 1, generator=rows, like=next(family.parameters()), dtype=torch.float64)
    given = [None] * call.n if cond is None else cond.split(1)
    return [
        Continuation([], space.dims, one[:, 0], call.options["sampling"], at) for one, at in zip(u, given, strict=True)
    ]


def as_rows(family: Family, texts: Sequence[Continuation]) -> Tensor:
    """The symbols of texts (n, *space.shape), with ends behind those that are at theirs."""
    assert isinstance(family.space, Discrete)
    x = pad_sequence([torch.tensor(text.symbols, dtype=torch.long) for text in texts], True, family.space.pad or 0)
    x = F.pad(x, (0, family.space.dims - x.shape[1]), value=family.space.pad or 0)
    return x.view(len(texts), *family.space.shape)
