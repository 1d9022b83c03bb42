"""From a model of the next symbol to whole rows of symbols: caches, constraints, draws and beam search."""

from __future__ import annotations

from collections.abc import Generator as Iteration
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from quintet.core.family import OnStep
from quintet.core.random import quantile
from quintet.nets.continuing import Constraint, NextSymbol, window
from quintet.nets.given import Given
from quintet.nets.stepping import stepper
from quintet.nets.symbols import Choice, choose, guide, penalise
from quintet.nets.transformer import Cache, Step, Transformer

PATIENCE = 2
"""Steps after which the weights are laid out for single symbols: rows of a table are short, and their nets small."""
NOTHING = -1
"""Stands behind the end of a row of a search that a constraint ended, where the space has no end symbol."""

Steps = Iteration[tuple[int, int, Tensor], None, Tensor]
"""Yields (step, steps, the new symbols (n, 1)); returns x."""


class Logits(Protocol):
    """`Autoregressive.logits`."""

    def __call__(self, x: Tensor, given: Given, cache: Cache, order: Tensor | None) -> Tensor: ...


class Reader:
    """The logits of each next symbol, from caches of what has been read, guided where a second `Given` says so.

    Beyond a window of `dims` symbols it goes on in a new one: see `window`.
    """

    def __init__(
        self,
        logits: Logits,
        givens: list[Given],
        s: Choice,
        dims: int,
        order: Tensor | None = None,
        net: Transformer | None = None,
        sizes: tuple[int, ...] | None = None,
    ) -> None:
        """`net`: of `logits`; after some steps its weights are laid out for single symbols. `sizes`: how many symbols
        each position allows; in the natural order the logits are of these alone.
        """
        self.sizes = sizes if order is None else None
        self.logits, self.givens, self.s, self.dims, self.order, self.net = logits, givens, s, dims, order, net
        self.begin, self.end, self.caches = 0, 0, [Cache(dims) for _ in givens]
        self.steps, self.step = 0, cast(Step | None, None)

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """x (B, >= t) -> (B, V) of the symbol at t, V what it allows. What was read before is not read again."""
        begin = window(t, self.dims)
        if begin != self.begin:
            self.begin = self.end = begin
            self.caches = [Cache(self.dims, step=self.step) for _ in self.givens]
        self.steps += 1
        if self.steps == PATIENCE and self.net is not None:
            self.step = stepper(self.net, self.dims, len(x))
            for cache in self.caches:
                cache.step = self.step
        new, self.end = x[:, self.end : t].clamp_min(0), t
        with torch.inference_mode(self.step is not None or torch.is_inference_mode_enabled()):  # a sixth faster
            each = [self.logits(new, *of, self.order)[:, -1] for of in zip(self.givens, self.caches, strict=True)]
            return guide(each if self.sizes is None else [part[:, : self.sizes[t]] for part in each], self.s)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows; one may be there several times."""
        self.givens = [given.select(rows) for given in self.givens]
        self.order = None if self.order is None else self.order[rows]
        for cache in self.caches:
            cache.select(rows)


def alike(*parts: Tensor | None) -> tuple[Tensor, Tensor]:
    """(rows, back) with part[rows][back] = part: equal rows (n, ...) of all parts are there once."""
    given = [part for part in parts if part is not None]
    keys = torch.cat([part.reshape(len(part), part[:1].numel()).double() for part in given], 1)
    if not keys.shape[1]:
        return torch.zeros(1, dtype=torch.long, device=keys.device), keys.new_zeros(len(keys), dtype=torch.long)
    kinds, back = keys.unique(dim=0, return_inverse=True)
    rows = torch.full((len(kinds),), len(keys), device=keys.device)
    return rows.scatter_reduce(0, back, torch.arange(len(keys), device=keys.device), "amin"), back


@dataclass(frozen=True)
class Rules:
    """What may stand at t: behind an `end` nothing but ends, and `unseen` only where it is `known` (B, T). Symbols that
    were used before are less likely by a `penalty`.
    """

    known: Tensor
    end: int | None
    unseen: int | None
    penalty: float = 1.0

    def __call__(self, logits: Tensor, x: Tensor, t: int, known: Tensor | None = None) -> Tensor:
        """Logits or log-probabilities (B, V) with -inf for what is barred; `known` (B,): another than that at t."""
        symbols = torch.arange(logits.shape[1], device=logits.device)
        if self.unseen is not None:
            known = self.known[:, t] if known is None else known
            logits = logits.masked_fill(~known[:, None] & (symbols == self.unseen), -torch.inf)
        if self.end is None or t == 0:
            return logits
        only = torch.where(symbols == self.end, 0.0, -torch.inf).to(logits.dtype)
        return torch.where(x[:, t - 1, None] == self.end, only, logits)

    def penalised(self, logits: Tensor, x: Tensor, t: int) -> Tensor:
        return logits if self.penalty == 1 else penalise(logits, x[:, :t], self.penalty)


# -- draws -----------------------------------------------------------------------------------------------------------


def draws(
    read: Reader, rules: Rules, x: Tensor, logits: Tensor, s: Choice, u: Tensor, *, first: int, particles: int = 1
) -> Steps:
    """x (n, T) with the symbols that are not `rules.known` (n * particles, T) drawn one after another.

    `logits` (n * particles, V) of position `first`, as `read` holds them. u (n, T, particles + 1): a number for each
    symbol of each particle, and one to resample with (for a single particle it may be lacking). A particle's weight is
    the product of the probabilities of its known symbols.
    """
    n, total = x.shape
    known, x = rules.known, x.repeat_interleave(particles, 0)
    until = total - known.flip(1).long().cumprod(1).sum(1)  # behind it nothing is unknown
    weight = u.new_zeros(n, particles)
    for t in range(first, total):
        logits = rules(rules.penalised(logits, x, t), x, t)
        new = torch.where(known[:, t], x[:, t], choose(logits, s, u[:, t, :particles].flatten()))[:, None]
        x[:, t : t + 1] = new
        if particles > 1:
            log_p = (logits.double() / (s.temperature or 1)).log_softmax(-1).gather(1, new)
            weight = weight + torch.where(known[:, t, None], log_p, 0).view(n, particles)
            if t < total - 1 and (kept := resample(weight, u[:, t, -1])) is not None:
                weight, index = kept
                x, new = x[index], new[index]
                read.select(index)
        yield t + 1 - first, total - first, new
        if t + 1 == total:
            break
        ended = until <= t + 1 if rules.end is None else (until <= t + 1) | (new[:, 0] == rules.end)
        if particles == 1 and bool(ended.all()):
            if rules.end is not None:
                x[:, t + 1 :] = x[:, t + 1 :].where(known[:, t + 1 :], rules.end)
            break
        logits = read(x, t + 1)
    if particles == 1:
        return x
    chosen = quantile(weight, u[:, -1, -1])
    return x.view(n, particles, total)[torch.arange(n, device=x.device), chosen]


def finish(steps: Steps, tell: OnStep | None) -> Tensor:
    """Take all steps, and what they return."""
    while True:
        try:
            step, total, new = next(steps)
        except StopIteration as end:
            return end.value
        if tell:
            tell(step, total, new)


def told(on_step: OnStep, part: int, parts: int, step: int, steps: int, x: Tensor) -> None:
    """A step of one part of the work, as a step of all of it."""
    on_step(part * steps + step, parts * steps, x)


def resample(weight: Tensor, u: Tensor) -> tuple[Tensor, Tensor] | None:
    """New log-weights (n, P) and which of the n * P particles live on; None where all rows keep theirs.

    Systematic resampling, u (n,), of the rows whose effective sample size 1 / sum w^2 is below P / 2.
    """
    n, particles = weight.shape
    p = weight.softmax(1)
    poor = (p.square().sum(1) * particles > 2)[:, None]
    if not poor.any():
        return None
    own = torch.arange(particles, device=weight.device)
    points = (own + u[:, None]) / particles
    index = torch.searchsorted(p.cumsum(1), points, right=True).clamp_max(particles - 1)
    index = torch.where(poor, index, own) + particles * torch.arange(n, device=weight.device)[:, None]
    return weight.masked_fill(poor, 0), index.flatten()


# -- beam search -----------------------------------------------------------------------------------------------------


class InOrder(NextSymbol, Protocol):
    """What a family has that knows each symbol given those before it (`Family.in_order`), to write texts with."""

    name: ClassVar[str]

    def at_once(self, s: Any, cond: Tensor | None, copies: int = 1) -> int:
        """How many rows, of which there are several `copies`, may be worked on together."""

    def n_best(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None = None,
        *,
        k: int = 1,
        sampling: Any = None,
        constraint: Constraint | None = None,
    ) -> Best:
        """The k likeliest completions of each row of x (n, T)."""


class Best(NamedTuple):
    """The k likeliest of each row, best first: x (n, k, dims), log_prob (n, k) nats, and the score they are ranked by.

    Where there are fewer than k, log_prob and score are -inf.
    """

    x: Tensor
    log_prob: Tensor
    score: Tensor


def length_penalty(length: Tensor, alpha: float) -> Tensor:
    """((5 + length) / 6)^alpha (Wu et al. 2016, arXiv:1609.08144, eq. 14)."""
    return ((5 + length.double()) / 6) ** alpha


def beam_search(
    read: Reader,
    rules: Rules,
    x: Tensor,
    logits: Tensor,
    *,
    first: int,
    beams: int,
    alpha: float,
    constraint: Constraint | None = None,
) -> Best:
    """The `beams` best rows found, by log p / ((5 + length) / 6)^alpha (Wu et al. 2016), length without what was given.

    x (n, dims), of which `rules.known` is given; `logits` (n * beams, V) of position `first`, `beams` copies a row, as
    `read` holds them. A step keeps the `beams` likeliest rows that go on; those that end compete by their score. It
    stops where no row that goes on can overtake the worst that is kept.
    """
    (n, dims), k = x.shape, beams
    known, start, fill = rules.known, rules.known.long().cumprod(1).sum(1), NOTHING if rules.end is None else rules.end
    until = dims - known.flip(1).long().cumprod(1).sum(1)  # behind it nothing is unknown
    x = x.where(known, fill).repeat_interleave(k, 0)
    owner = torch.arange(n, device=x.device).repeat_interleave(k)
    log_p = torch.full((n, k), -torch.inf, dtype=torch.float64, device=x.device)
    log_p[:, 0] = 0
    best = Best(x.view(n, k, dims), torch.full_like(log_p, -torch.inf), torch.full_like(log_p, -torch.inf))
    longest = length_penalty(until - start, alpha)[:, None]
    for t in range(first, dims):
        if t > first:
            logits = read(x, t)
        p = rules.penalised(logits, x, t).double().log_softmax(-1)
        p, over = rules(p, x, t, known[owner, t]), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if constraint is not None:
            over = x[:, t - 1] == NOTHING if t else over
            live = ~known[owner, t] & (log_p.flatten() > -torch.inf) & (x[:, t - 1] != fill if t else True)
            p, over[live] = constrained(p, constraint, x[:, :t], start[owner], live)
        p = torch.cat([p.masked_fill(over[:, None], -torch.inf), torch.where(over, 0.0, -torch.inf)[:, None]], 1)
        p = force(p, x[:, t], known[owner, t], t < start[owner])
        each = (log_p[..., None] + p.view(n, k, -1)).flatten(1)
        found, index = each.topk(min(2 * k, each.shape[1]), dim=1)  # at most k of 2 k end, so k go on
        beam, symbol = index // p.shape[1], index % p.shape[1]
        none = symbol == p.shape[1] - 1
        rows = beam + k * torch.arange(n, device=x.device)[:, None]
        new = x[rows]
        new[..., t] = torch.where(none, fill, symbol)
        done = none | (symbol == rules.end if rules.end is not None else False) | (t + 1 >= until[:, None])
        length = (t + 1 - start)[:, None] - none.long()
        score = torch.where(done, found / length_penalty(length.clamp_min(0), alpha), -torch.inf)
        best = merged(best, Best(new, found, score), k)
        log_p, going = found.masked_fill(done, -torch.inf).topk(k, 1) if found.shape[1] >= k else padded(found, done, k)
        x, rows = new.gather(1, going[..., None].expand(-1, -1, dims)).flatten(0, 1), rows.gather(1, going).flatten()
        if t + 1 == dims or bool((best.score[:, -1] >= (log_p / longest).amax(1)).all()):
            break
        read.select(rows)
    return best


def constrained(p: Tensor, constraint: Constraint, x: Tensor, start: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, V) with -inf for what may not stand behind x (B, t) in `live` rows (B,), and which of
    these are over: nothing may. The log-probabilities of those stay as they are.
    """
    if not live.any():
        return p, live[live]
    may = constraint(x[live], start[live]).to(p.device)
    some = may.any(1, keepdim=True)
    return p.masked_scatter(live[:, None], p[live].masked_fill(~may & some, -torch.inf)), ~some[:, 0]


def force(p: Tensor, symbol: Tensor, known: Tensor, free: Tensor) -> Tensor:
    """Log-probabilities (B, V + 1) where a `known` row takes its symbol, at no cost where it is `free`."""
    if not known.any():
        return p
    here = torch.arange(p.shape[1], device=p.device) == symbol[:, None]
    cost = torch.where(free[:, None], 0.0, p).double()
    return torch.where(known[:, None], torch.where(here, cost, -torch.inf), p)


def padded(found: Tensor, done: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The rows that go on where there are fewer candidates than beams; the rest are impossible."""
    lacking = k - found.shape[1]
    log_p = torch.cat([found.masked_fill(done, -torch.inf), found.new_full((len(found), lacking), -torch.inf)], 1)
    going = torch.arange(found.shape[1], device=found.device).expand(len(found), -1)
    return log_p, torch.cat([going, going.new_zeros(len(found), lacking)], 1)


def merged(a: Best, b: Best, k: int) -> Best:
    """The k best of both."""
    score, index = torch.cat([a.score, b.score], 1).topk(k, 1)
    x = torch.cat([a.x, b.x], 1).gather(1, index[..., None].expand(-1, -1, a.x.shape[2]))
    log_prob = torch.cat([a.log_prob, b.log_prob], 1).gather(1, index)
    return Best(x, log_prob.masked_fill(score == -torch.inf, -torch.inf), score)
