"""What is asked of a family, as rows: the one door through which a fitted model, and what batches requests, reach it.

A `Call` is work on rows that do not depend on each other. It can be cut anywhere, and parts of several calls of the
same `kind` can be done together, by one call of the family: each row comes out as it would alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from quintet.core.family import Family, OnStep
from quintet.core.listening import batches
from quintet.core.random import Rows
from quintet.nets.continuing import Continuation, Continuations
from quintet.nets.decoding import InOrder

Found = tuple[Tensor | None, ...]
"""Results, each (n, ...)."""


@dataclass(frozen=True)
class Call:
    """`n` rows of work: a `verb`, one of VERBS, on tensors `given` (n, ...) by name, None for what there is not.

    `seeds`: of its streams of random numbers, of which it has the rows from `start` on. `options`: what the family's
    method takes besides, the same for all rows.
    """

    verb: str
    n: int
    given: Mapping[str, Any]
    seeds: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    start: int = 0

    @property
    def kind(self) -> tuple[Any, ...]:
        """Calls of equal kind may be done together."""
        shapes = {name: None if t is None else (t.shape[1:], t.dtype) for name, t in self.given.items()}
        return self.verb, shapes, len(self.seeds), self.options

    def part(self, start: int, count: int) -> Call:
        """Some of its rows."""
        given = {name: None if t is None else t[start : start + count] for name, t in self.given.items()}
        return replace(self, n=count, given=given, start=self.start + start)


@torch.no_grad()
def done(family: Family, calls: Sequence[Call], on_step: OnStep | None = None) -> list[Found]:
    """What each of some calls of equal kind results in, found by one call of the family, on the CPU."""
    first, device, given = calls[0], next(family.parameters()).device, dict[str, Tensor | None]()
    for name in first.given:
        there = [tensor for call in calls if (tensor := call.given[name]) is not None]
        given[name] = torch.cat([tensor.to(device) for tensor in there]) if there else None
    streams = [Rows.joined([Rows(call.seeds[i], call.start, call.n) for call in calls])
               for i in range(len(first.seeds))]  # fmt: skip
    sizes = [call.n for call in calls]
    found = VERBS[first.verb](family, replace(first, n=sum(sizes), given=given), streams, on_step)
    cut = [[None] * len(calls) if each is None else each.cpu().split(sizes) for each in found]
    return [tuple(parts) for parts in zip(*cut, strict=True)]


Verb = Callable[[Family, Call, Sequence[Rows], OnStep | None], Found]


def _sample(family: Family, call: Call, streams: Sequence[Rows], on_step: OnStep | None) -> Found:
    cond = call.given["cond"]
    return (family.sample(call.n, cond, generator=streams[0], on_step=on_step, **call.options),)


def _complete(family: Family, call: Call, streams: Sequence[Rows], on_step: OnStep | None) -> Found:
    given, more = call.given, call.options
    return (family.complete(given["x"], given["known"], given["cond"], generator=streams[0], on_step=on_step, **more),)


def _n_best(family: Family, call: Call, streams: Sequence[Rows], on_step: OnStep | None) -> Found:
    given = call.given
    return tuple(cast(InOrder, family).n_best(given["x"], given["known"], given["cond"], **call.options))


def _encode(family: Family, call: Call, streams: Sequence[Rows], on_step: OnStep | None) -> Found:
    return (family.encode(call.given["x"], call.given["cond"]),)


def _decode(family: Family, call: Call, streams: Sequence[Rows], on_step: OnStep | None) -> Found:
    return (family.decode(call.given["z"], call.given["cond"]),)


def _log_prob(family: Family, call: Call, streams: Sequence[Rows], on_step: OnStep | None) -> Found:
    x = family.noisy(call.given["x"], streams[0])
    return family.log_prob_error(x, call.given["cond"], generator=streams[1])


def _log_prob_each(family: Family, call: Call, streams: Sequence[Rows], on_step: OnStep | None) -> Found:
    return (family.log_prob_each(call.given["x"], call.given["cond"]),)


def _log_probs(family: Family, call: Call, streams: Sequence[Rows], on_step: OnStep | None) -> Found:
    return (family.log_probs(call.n, call.given["cond"]),)


VERBS: Mapping[str, Verb] = {
    "sample": _sample,
    "complete": _complete,
    "n_best": _n_best,
    "encode": _encode,
    "decode": _decode,
    "log_prob": _log_prob,
    "log_prob_each": _log_prob_each,
    "log_probs": _log_probs,
}


class Engine(Protocol):
    """Who does the work of a fitted model: it alone, or a batcher that has that of others too."""

    def rows(self, call: Call, on_step: OnStep | None = None) -> Found:
        """What a call results in."""

    def written(self, texts: Sequence[Continuation], most: int, *, steps: bool = True) -> Iterator[None]:
        """Write texts, of which all are `ended` behind the last item. With `steps` there is an item behind each step,
        in which about `most` texts have got a symbol. Leaving off ends the work. Raises what a text failed of.
        """


@dataclass(frozen=True)
class Alone:
    """The engine of a model that nobody else asks anything: the work is done by who asks for it, at once."""

    family: Family

    def rows(self, call: Call, on_step: OnStep | None = None) -> Found:
        return done(self.family, [call], on_step)[0]

    def written(self, texts: Sequence[Continuation], most: int, *, steps: bool = True) -> Iterator[None]:
        writing, waiting = Continuations(cast(InOrder, self.family)), list(texts[::-1])
        while waiting or writing.texts:
            room = most - writing.passes
            while waiting and room > 0:
                room -= len(waiting[-1].conditions)
                writing.join(waiting.pop())
            writing.step()
            raise_of(texts)
            yield


def raise_of(texts: Sequence[Continuation]) -> None:
    """What the first of the texts that failed did."""
    for text in texts:
        if text.error is not None:
            raise text.error


def asked(engine: Engine, call: Call, batch_size: int, on_step: OnStep | None = None) -> Found:
    """What a call results in, `batch_size` rows at a time; the listener hears of each, if nobody hears of its steps."""
    some = batches(call.n, batch_size, told=on_step is None)
    return joined([engine.rows(call.part(at.start, at.stop - at.start), on_step) for at in some])


def joined(parts: Sequence[Found]) -> Found:
    """The results of a call from those of its parts."""
    return tuple(None if column[0] is None else torch.cat(list(column)) for column in zip(*parts, strict=True))
