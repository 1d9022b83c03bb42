"""Who hears notes, advice and how far work has come: each thread and each task has a listener of its own, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Listener(NamedTuple):
    """`note(kind, text)` hears what a user should know, `kind` in a word or two where it is advice, else ""; and
    `step(step, steps)` that a batch is done, out of so many; None: nobody follows how far it is. Whatever they raise
    ends the work.
    """

    note: Callable[[str, str], None]
    step: Callable[[int, int], None] | None


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def listener() -> Listener | None:
    """Who listens here."""
    return _LISTENER.get()


@contextmanager
def listening(one: Listener) -> Iterator[None]:
    """Inside, `one` hears all that is said in this thread or task, each text once."""
    said = set[tuple[str, str]]()

    def note(kind: str, text: str) -> None:
        if (kind, text) not in said:
            said.add((kind, text))
            one.note(kind, text)

    before = _LISTENER.set(one._replace(note=note))
    try:
        yield
    finally:
        _LISTENER.reset(before)


@contextmanager
def unheard() -> Iterator[None]:
    """Inside, nobody hears anything: what is tried out is nothing to speak of."""
    with listening(Listener(lambda kind, text: None, lambda step, steps: None)):
        yield


def batches(rows: int, size: int, *, told: bool = True) -> Iterator[slice]:
    """Slices of `rows` rows, `size` at most at once; the listener hears of each that is done, if it is to be `told`."""
    heard, steps = listener() if told else None, -(-rows // size)
    step = None if heard is None else heard.step
    for i in range(steps):
        yield slice(i * size, min((i + 1) * size, rows))
        if step is not None:
            step(i + 1, steps)
