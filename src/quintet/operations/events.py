"""What an operation says while it is at work: events, given to its `on_event`. If that raises, the work ends."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from quintet.core.errors import QuintetWarning


@dataclass(frozen=True)
class Note:
    """Something that a user should know: what was made good, left out, or is to be minded."""

    text: str


@dataclass(frozen=True)
class Step:
    """A step of the items that are being made, out of so many; each batch of them begins anew."""

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


Event = Note | Step | Piece | Record | Begun
OnEvent = Callable[[Event], None]
Q = TypeVar("Q")
A = TypeVar("A")


def operation(work: Callable[[Q, OnEvent], A]) -> Callable[[Q, OnEvent], A]:
    """An operation, of which every warning of ours is a `Note`, wherever below it is given."""

    @functools.wraps(work)
    def call(request: Q, on_event: OnEvent) -> A:
        with notes(on_event):
            return work(request, on_event)

    return call


@contextmanager
def notes(on_event: OnEvent) -> Iterator[None]:
    """Inside, each warning of quintet's own is given to `on_event`, once a place; all others go their way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=QuintetWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
            if issubclass(category, QuintetWarning):
                on_event(Note(str(message)))
            else:
                others(message, category, *where, **more)  # type: ignore[arg-type]

        warnings.showwarning = show
        yield
