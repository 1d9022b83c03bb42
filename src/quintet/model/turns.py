"""The texts of many requests, which take turns to be written: who is next, and what becomes of a step that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from quintet.nets.continuing import Continuation, Continuations, NextSymbol

READ = 1024
"""From so many symbols of new texts on a step reads no more of them, so that the others need not wait for long."""


@dataclass(eq=False)
class Writing:
    """Texts of one request on their way; those in `waiting` have not begun, the last is the next."""

    texts: Sequence[Continuation]
    on_step: Callable[[], None] | None
    future: Future[None] = field(default_factory=Future)
    waiting: list[Continuation] = field(default_factory=list)

    @property
    def begun(self) -> int:
        """How many are being written."""
        return sum(not text.ended for text in self.texts) - len(self.waiting)

    def told(self) -> None:
        """Say that there was a step, and if it was the last."""
        if self.on_step is not None:
            self.on_step()
        failed = next((text.error for text in self.texts if text.error is not None), None)
        if self.future.done() or not (failed or all(text.ended for text in self.texts)):
            return
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(failed) if failed else self.future.set_result(None)

    def leave(self) -> None:
        self.waiting.clear()
        for text in self.texts:
            text.ended = text.ended or "cancelled"


class Writings:
    """The texts of all requests, of which about `most` are written at once."""

    def __init__(self, family: NextSymbol, most: int) -> None:
        self.family, self.most = family, most
        self.texts, self.careful = Continuations(family), 0

    def step(self, jobs: Sequence[Writing]) -> int:
        """One symbol more for each text that is being written; how many these are."""
        for job in jobs:
            if job.future.done():
                job.leave()
        old, fresh = self.texts.texts, self._turns(jobs)
        for _, text in fresh:
            self.texts.join(text)
        rows = self.texts.passes
        try:
            self.texts.step()
            self.careful = max(0, self.careful - len(fresh))
        except Exception as error:
            self._again(old, fresh, error)
        for job in jobs:
            job.told()
        return rows

    def _turns(self, jobs: Sequence[Writing]) -> list[tuple[Writing, Continuation]]:
        """The next texts to begin, of the requests of which the fewest are being written."""
        out, room, read = list[tuple[Writing, Continuation]](), self.most - self.texts.passes, 0
        begun = {job: job.begun for job in jobs if job.waiting}
        while begun and room > 0 and not (out and (self.careful or read >= READ)):
            job = min(begun, key=begun.__getitem__)
            text = job.waiting.pop()
            out.append((job, text))
            room, read, begun[job] = room - len(text.conditions), read + len(text.symbols), begun[job] + 1
            if not job.waiting:
                del begun[job]
        return out

    def _again(
        self, old: Sequence[Continuation], fresh: Sequence[tuple[Writing, Continuation]], error: Exception
    ) -> None:
        """A step failed. A text that was the only new one did that; of several each is tried alone, and without any it
        was nobody's fault and all end. Those that had begun are read again, and go on as if nothing had been.
        """
        self.texts = Continuations(self.family)
        if len(fresh) > 1:
            self.careful = len(fresh)
            for job, text in reversed(fresh):
                job.waiting.append(text)
        for text in old if not fresh else [text for _, text in fresh] if len(fresh) == 1 else []:
            text.fail(error)
        for text in old:
            self.texts.join(text)
