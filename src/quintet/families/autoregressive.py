"""Autoregressive Transformer: p(x) = prod_t p(x_t | x_<t) (Vaswani et al. 2017; Radford et al. 2018), in any order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from quintet.core.family import Batch, Family, Loss, OnStep
from quintet.core.random import Generator, quantile, uniform
from quintet.core.spaces import Discrete, Space
from quintet.nets.build import upcast
from quintet.nets.conditioning import conditioner, embed
from quintet.nets.symbols import Backbone, Choice, choose, guide
from quintet.nets.transformer import Cache

CACHED = 2**26
"""Numbers that the caches of a completion may hold at once (256 MiB in float32); more rows wait their turn."""


class Autoregressive(Family):
    """A decoder-only Transformer over the flattened symbols of a Discrete space.

    loss = -log p(x) / dims. The first input is a learnt start token (plus the condition's embedding, which is added at
    every position); the head of step t gives the logits of the t-th symbol. Symbols that a position does not allow have
    probability 0.

    `order` "random" trains on a new permutation for every item (Uria et al. 2014, arXiv:1310.1757): the input of step t
    is the symbol read last, with its own position and the one asked for, as in XLNet (Yang et al. 2019,
    arXiv:1906.08237). One net is then the model of every order, so that any mask can be completed. `log_prob` and
    `sample` use the natural order: exact for the model of that order, which is one of the dims! that it has learnt.
    """

    class Settings(Backbone):
        order: Literal["fixed", "random"] = Field("fixed", description="random: completes any mask exactly")

        @model_validator(mode="after")
        def asks_for_a_position(self) -> Self:
            if self.order == "random" and self.positions == "rotary":
                raise ValueError("order random needs to say which position it asks for: positions learnt or sinusoidal")
            return self

    class Sampling(Choice):
        particles: int = Field(16, ge=1, le=4096, description="for known symbols behind unknown ones in a fixed order")

    name = "autoregressive"
    accepts = (Discrete,)
    likelihood = "exact"
    missing: ClassVar[Mapping[str, str]] = {
        "encode": "an autoregressive model has no latent: a prefix is its only state",
        "decode": "an autoregressive model has no latent to decode",
    }
    space: Discrete
    positions: Tensor | None
    allowed: Tensor | None

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.start = nn.Parameter(torch.randn(s.width) * 0.02)
        self.tokens = nn.Embedding(self.space.vocab_size, s.width)
        self.conditioner = conditioner(condition, s.width, dropout=s.guidance_dropout)
        s.place(self, space.dims)
        # of the symbols read, the start first; a fixed order needs none
        self.sources = nn.Embedding(space.dims + 1, s.width) if s.order == "random" else None
        self.net = s.transformer(causal=True)
        self.head = nn.Linear(s.width, self.space.vocab_size)
        for table in (self.tokens, self.sources):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        nn.init.zeros_(self.head.weight)
        self.register_buffer("allowed", self.space.allowed(), persistent=False)

    def logits(self, x: Tensor, emb: Tensor | None, cache: Cache | None = None, order: Tensor | None = None) -> Tensor:
        """x (B, L) the symbols so far -> (B, L + 1, V) logits of steps 0 ... L; with a cache, of those behind it.

        `order` (B, dims) or (1, dims): the position of each step, None for the natural order. An empty cache takes the
        start token and x; a filled one only x, whose logits are those of the next symbols.
        """
        past = cache.length if cache else 0
        h = self.tokens(x)
        if past == 0:
            h = torch.cat([self.start.to(h.dtype).expand(len(x), 1, -1), h], 1)
        end = past + h.shape[1]
        order = torch.arange(self.space.dims, device=x.device)[None] if order is None else order
        asked = order[:, past:end]
        if self.positions is not None:
            h = h + F.embedding(asked, self.positions)
        if self.sources is not None:
            h = h + self.sources(F.pad(order + 1, (1, 0))[:, past:end])
        if emb is not None:
            h = h + emb[:, None]
        logits = upcast(self.head(self.net(h, cache)))
        if self.allowed is not None:
            logits = logits.masked_fill(~self.allowed[asked], -torch.inf)
        return logits

    def nats(self, x: Tensor, emb: Tensor | None, order: Tensor | None = None) -> Tensor:
        """-log p of the symbol at each step given those before it, (B, dims); `order` (B, dims) as in `logits`."""
        x = x.flatten(1) if order is None else x.flatten(1).gather(1, order)
        return F.cross_entropy(self.logits(x[:, :-1], emb, order=order).transpose(1, 2), x, reduction="none")

    def loss(self, batch: Batch) -> Loss:
        emb = embed(self.conditioner, batch.cond, len(batch.x), batch.generator)
        order = None
        if self.sources is not None:
            size = (len(batch.x), self.space.dims)
            order = uniform(*size, generator=batch.generator, like=self.start, dtype=torch.float64).argsort(1)
        return Loss(self.nats(batch.x, emb, order).mean())

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        return -self.nats(x, embed(self.conditioner, cond, len(x))).sum(1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        cond: Tensor | None = None,
        *,
        sampling: Sampling | None = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        x = torch.zeros(n, self.space.dims, dtype=torch.long, device=self.start.device)
        u = uniform(*x.shape, 1, generator=generator, like=self.start, dtype=torch.float64)
        x = self.draw(x, torch.zeros_like(x, dtype=torch.bool), cond, sampling or self.Sampling(), u, tell=on_step)
        return x.view(n, *self.space.shape)

    @torch.no_grad()
    def complete(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None = None,
        *,
        sampling: Sampling | None = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Exact where no known symbol stands behind an unknown one; else by sequential Monte Carlo, exact as
        `particles` grow.

        In a random order none does: each row reads its known symbols first. In a fixed order a prefix is read at once,
        and a later known symbol weights the particles (Gordon et al. 1993).
        """
        s, shape, order = sampling or self.Sampling(), x.shape, None
        x, known = x.flatten(1), known.flatten(1)
        if self.sources is not None:
            order = (~known).long().argsort(dim=1, stable=True)
            x, known = x.gather(1, order), known.gather(1, order)
        u = uniform(*x.shape, s.particles + 1, generator=generator, like=self.start, dtype=torch.float64)
        late = (known & ((~known).cumsum(1) > 0)).any(1)
        each = 2 * self.space.dims * self.settings.width * self.settings.depth * (1 + s.guided(cond))
        parts = [
            (rows, particles)
            for kind, particles in ((~late, 1), (late, s.particles))
            for rows in kind.nonzero()[:, 0].split(max(1, CACHED // (each * particles)))
            if len(rows)
        ]
        out = x.clone()
        for i, (rows, particles) in enumerate(parts):
            some, at = (None if a is None else a[rows] for a in (cond, order))
            tell = partial(told, on_step, i, len(parts)) if on_step else None
            out[rows] = self.draw(x[rows], known[rows], some, s, u[rows], order=at, particles=particles, tell=tell)
        return (out if order is None else torch.empty_like(out).scatter(1, order, out)).view(shape)

    def draw(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None,
        s: Sampling,
        u: Tensor,
        *,
        order: Tensor | None = None,
        particles: int = 1,
        tell: OnStep | None = None,
    ) -> Tensor:
        """x and known (n, dims), both in `order`, with the unknown symbols drawn one after another.

        u (n, dims, particles + 1): a number for each symbol of each particle, and one to resample with (for a single
        particle it may be lacking). A particle's weight is the product of the probabilities of its known symbols.
        """
        n, dims = x.shape
        first = int(known.long().cumprod(1).sum(1).min())
        if first == dims:
            return x
        rows = torch.arange(n, device=x.device).repeat_interleave(particles)
        x, known, order = x[rows], known[rows], None if order is None else order[rows]
        conds = s.conditions(cond)
        embs = [embed(self.conditioner, c if c is None else c[rows], len(x)) for c in conds]
        caches = [Cache(dims) for _ in conds]
        weight, new = u.new_zeros(n, particles), x[:, :first]
        for t in range(first, dims):
            logits = guide([self.logits(new, *ec, order)[:, -1] for ec in zip(embs, caches, strict=True)], s)
            new = torch.where(known[:, t], x[:, t], choose(logits, s, u[:, t, :particles].flatten()))[:, None]
            x[:, t : t + 1] = new
            if particles > 1:
                log_p = (logits.double() / (s.temperature or 1)).log_softmax(-1).gather(1, new)
                weight = weight + torch.where(known[:, t, None], log_p, 0).view(n, particles)
                if t < dims - 1 and (kept := resample(weight, u[:, t, -1])) is not None:
                    weight, index = kept
                    x, new = x[index], new[index]
                    for cache in caches:
                        cache.select(index)
            if tell:
                tell(t + 1 - first, dims - first, new)
        if particles == 1:
            return x
        chosen = quantile(weight, u[:, -1, -1])
        return x.view(n, particles, dims)[torch.arange(n, device=x.device), chosen]


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
