"""What an operation says while it is at work: events, given to its `on_event`. If that raises, the work ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from quintet.core.listening import Listener, listener, listening


@dataclass(frozen=True)
class Note:
    """Something that a user should know: what was made good, left out, or is to be minded."""

    text: str


@dataclass(frozen=True)
class Advice:
    """What the figures of a training say: in a word or two what is wrong, and what one may try."""

    kind: str
    text: str


@dataclass(frozen=True)
class Step:
    """A step of the items that are being made, out of so many, where each batch of them begins anew; or a batch of
    those that are scored, encoded, decoded or measured.
    """

    step: int
    steps: int


@dataclass(frozen=True)
class Piece:
    """What is new of text `index` as it is being written; the last piece of a text may be empty."""

    index: int
    text: str
    last: bool = False


@dataclass(frozen=True)
class Record:
    """What training says of itself: step, steps, seconds, losses and figures; or what is being done, as `doing`. In a
    comparison also of which family and seed it is.
    """

    values: Mapping[str, Any]


Stop = Callable[[str], None]


@dataclass(frozen=True)
class Begun:
    """Training has begun: `stop`, called with the reason, ends it behind its step and saves it. None: it is over."""

    stop: Stop | None


Event = Note | Advice | Step | Piece | Record | Begun
OnEvent = Callable[[Event], None]
Q = TypeVar("Q")
A = TypeVar("A")


def operation(work: Callable[[Q, OnEvent], A]) -> Callable[[Q, OnEvent], A]:
    """An operation that tells `on_event` what is said below it: see `heard`."""

    @functools.wraps(work)
    def call(request: Q, on_event: OnEvent) -> A:
        with heard(on_event):
            return work(request, on_event)

    return call


def heard(on_event: OnEvent, *, steps: bool = True) -> AbstractContextManager[None]:
    """Inside, `on_event` is given all that quintet says in this thread or task: notes and advice, each once, and a step
    for each batch that is done, unless nobody follows the `steps`.
    """

    def note(kind: str, text: str) -> None:
        on_event(Advice(kind, text) if kind else Note(text))

    return listening(Listener(note, (lambda step, steps: on_event(Step(step, steps))) if steps else None))


def on_step() -> Callable[[int, int, Any], None] | None:
    """What tells the steps of items that are being made to who listens here; None where nobody follows them."""
    told = listener()
    step = None if told is None else told.step
    return None if step is None else lambda done, steps, _: step(done, steps)
