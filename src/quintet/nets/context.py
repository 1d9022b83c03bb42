"""A condition as a sequence that every layer may read (an encoder's output), or as one vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from quintet.core import settings
from quintet.core.random import Generator, uniform
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.nets.conv import conv, fold
from quintet.nets.symbols import Backbone, Grams
from quintet.nets.transformer import Transformer

Pool = Literal["max", "mean", "attention"]
FRAMES = 128
"""Positions along one axis (time) that are kept as they are; longer ones are folded in pairs."""
BAG = 2**15
"""Rows of the table of n-grams, as wide as the net: fewer or narrower ones gain little (docs/decisions/0015)."""


class Reading(settings.Settings):
    """How a sequence is read that a Transformer is given."""

    encoder_depth: int | None = Field(None, ge=0, description="layers that read a sequence; None: depth")
    stem: tuple[Annotated[int, Field(ge=1, le=31)], ...] = Field(
        (), description="symbols of a text that convolutions before these layers span, one number each"
    )
    grid: int = Field(20, ge=1, le=64, description="most positions along the longer side of a picture that is read")
    pool: Pool = Field("max", description="how a single symbol sees what was read")
    ngrams: int = Field(
        1, ge=1, le=64, description="most symbols of the n-grams of a text that a single symbol sees too"
    )
    input_dropout: float = Field(0.0, ge=0, lt=1, description="of what enters the layers that read")
    hide: float = Field(0.0, ge=0, lt=1, description="share of a sequence's positions that training hides")
    shift: int = Field(0, ge=0, description="by how many pixels or frames, at most, training moves what is read")


@dataclass(frozen=True)
class Given:
    """What a net is told of a condition: emb (B, width) to add, context (B, S, width) to read where seen (B, S)."""

    emb: Tensor | None = None
    context: Tensor | None = None
    seen: Tensor | None = None

    def select(self, rows: Tensor) -> Given:
        """The same for these rows."""
        return Given(*(None if part is None else part[rows] for part in (self.emb, self.context, self.seen)))


def same_alphabet(space: Space, condition: Space) -> bool:
    """Whether symbols of both may be embedded by one table."""
    both = isinstance(space, Discrete) and isinstance(condition, Discrete)
    return both and space.vocab_size == condition.vocab_size  # type: ignore[union-attr]


class Words(nn.Module):
    """Symbols (B, L) -> (B, L', width) and which of them are text: all up to the end symbol, the first always.

    L' is the longest text's length: what lies behind it costs nothing. `shared`: embedded by the table that is given.
    With a stem: h + sum_k silu(conv_k(h)), a convolution for each of its spans (Kim 2014, arXiv:1408.5882).
    """

    positions: Tensor | None

    def __init__(self, condition: Discrete, backbone: Backbone, reading: Reading, *, shared: bool) -> None:
        super().__init__()
        self.pad, self.table = condition.pad, None if shared else nn.Embedding(condition.vocab_size, backbone.width)
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=0.02)
        backbone.place(self, condition.dims)
        self.hide, self.dropout = reading.hide, reading.input_dropout
        self.stem = nn.ModuleList(conv(1, backbone.width, backbone.width, span) for span in reading.stem)

    def forward(self, x: Tensor, table: nn.Embedding, generator: Generator | None) -> tuple[Tensor, Tensor]:
        seen = torch.ones_like(x, dtype=torch.bool)
        if self.pad is not None:
            seen = F.pad(x != self.pad, (1, 0), value=True)[:, :-1]  # the end symbol too
            longest = int(seen.sum(1).max())
            x, seen = x[:, :longest], seen[:, :longest]
        h = hidden((self.table or table)(x), self.hide, self.training)
        h = h if self.positions is None else h + self.positions[: x.shape[1]]
        h = F.dropout(h, self.dropout, self.training)
        text = (h * seen[..., None]).mT  # alone, whatever stands behind it
        for stem in self.stem:  # an even one gives a position too many
            h = h + F.silu(stem(text)[..., : x.shape[1]].mT)
        return h, seen


class Patches(nn.Module):
    """Images (B, C, H, W) or recordings (B, C, L) -> (B, positions, width): patches, two convolutions, positions."""

    def __init__(self, condition: Continuous, backbone: Backbone, reading: Reading) -> None:
        super().__init__()
        channels, *size = condition.shape
        axes, self.patch = len(size), 1
        while max(size) > self.patch * (FRAMES if axes == 1 else reading.grid):
            self.patch *= 2
        grid = torch.Size(-(-n // self.patch) for n in size).numel()
        self.enter = conv(axes, channels * self.patch**axes, backbone.width)
        self.mix = conv(axes, backbone.width, backbone.width)
        self.positions = nn.Parameter(torch.randn(grid, backbone.width) * 0.02)
        self.hide, self.dropout, self.shift = reading.hide, reading.input_dropout, reading.shift

    def forward(self, x: Tensor, table: nn.Embedding, generator: Generator | None) -> tuple[Tensor, Tensor]:
        if self.training and self.shift:
            x = moved(x, self.shift, generator)
        h = self.mix(F.silu(self.enter(fold(x, self.patch)))).flatten(2).transpose(1, 2)
        h = F.dropout(hidden(h, self.hide, self.training) + self.positions, self.dropout, self.training)
        return h, torch.ones(h.shape[:2], dtype=torch.bool, device=h.device)


def hidden(h: Tensor, share: float, training: bool) -> Tensor:
    """h (B, L, width) with a `share` of its positions at zero in training: word dropout (Iyyer et al. 2015)."""
    return h * F.dropout(torch.ones_like(h[..., :1]), share, training) if training and share else h


def moved(x: Tensor, most: int, generator: Generator | None) -> Tensor:
    """x (B, C, *size), each item by -most ... most along every axis of its size; edges are repeated."""
    for axis in range(2, x.dim()):
        size = x.shape[axis]
        by = (uniform(len(x), 1, generator=generator, like=x) * (2 * most + 1)).long() - most
        at = (torch.arange(size, device=x.device) + by).clamp(0, size - 1)
        x = x.gather(axis, at.view(len(x), *[size if i == axis else 1 for i in range(1, x.dim())]).expand_as(x))
    return x


class Pooled(nn.Module):
    """h (B, L, width), of which `seen` (B, L) is text -> (B, width): the maximum, the mean, or a mean whose weights are
    the softmax of a learnt score.
    """

    def __init__(self, width: int, kind: Pool) -> None:
        super().__init__()
        self.kind, self.score = kind, nn.Linear(width, 1) if kind == "attention" else None

    def forward(self, h: Tensor, seen: Tensor) -> Tensor:
        if self.kind == "max":
            return h.masked_fill(~seen[..., None], -torch.inf).amax(1)
        score = torch.zeros_like(h[..., 0]) if self.score is None else self.score(h)[..., 0]
        weight = score.masked_fill(~seen, -torch.inf).softmax(1)
        return (weight[..., None] * h).sum(1)


class Context(nn.Module):
    """cond (B, *condition.shape) -> Given(context, seen): the encoder of an encoder-decoder; or, `pooled`, Given(emb).

    The first position of every context is a learnt vector. It is all there is where the condition is missing (None) or
    hidden, in training with probability `guidance_dropout`: the unconditional model of guidance (Ho & Salimans 2022).
    Where contexts are pooled to a vector it stands in the place of that.

    With `ngrams` a text of L symbols, pooled, is pool(h) + sum_t g_t / sqrt(L) with g_t (width) the vectors of the runs
    of 2 ... `ngrams` symbols that end at t: a bag of n-grams (Joulin et al. 2017, arXiv:1607.01759) beside the net.
    """

    def __init__(
        self, condition: Space, backbone: Backbone, reading: Reading, *, shared: bool, pooled: bool = False
    ) -> None:
        super().__init__()
        self.dropout = backbone.guidance_dropout
        self.null = nn.Parameter(torch.randn(backbone.width) * 0.02)
        self.enter: nn.Module
        if isinstance(condition, Discrete):
            self.enter = Words(condition, backbone, reading, shared=shared)
        else:
            self.enter = Patches(condition, backbone, reading)
        depth = backbone.depth if reading.encoder_depth is None else reading.encoder_depth
        self.net: Transformer = backbone.transformer(causal=False, depth=depth)
        self.pool = Pooled(backbone.width, reading.pool) if pooled else None
        self.grams: Grams | None = None
        if pooled and isinstance(condition, Discrete) and reading.ngrams > 1:
            self.grams = Grams(condition.vocab_size, backbone.width, reading.ngrams, rows=BAG, narrow=backbone.width)

    def forward(self, cond: Tensor | None, n: int, table: nn.Embedding, *, generator: Generator | None = None) -> Given:
        """`table`: the embedding of the model's own symbols."""
        null = self.null.expand(n, 1, -1)
        if cond is None:
            return Given(context=null) if self.pool is None else Given(emb=null[:, 0])
        h, seen = self.enter(cond, table, generator)
        h, told = self.net(h, mask=seen[:, None, None]), None
        if self.training and self.dropout:
            told = uniform(n, 1, generator=generator, like=self.null) >= self.dropout
        if self.pool is not None:
            emb = self.pool(h, seen)
            if self.grams is not None:
                runs = self.grams(cond[:, : seen.shape[1]]) * seen[..., None]
                emb = emb + runs.sum(1) / seen.sum(1, keepdim=True).sqrt()
            emb = self.net.drop(emb)
            return Given(emb=emb if told is None else torch.where(told, emb, null[:, 0].to(emb.dtype)))
        seen = seen if told is None else seen & told
        return Given(context=torch.cat([null.to(h.dtype), h], 1), seen=F.pad(seen, (1, 0), value=True))
