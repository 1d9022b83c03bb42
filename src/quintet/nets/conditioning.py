"""Any condition as what nets are told of it: a vector, or a sequence of positions; and a noise level as a vector."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from quintet.core import settings
from quintet.core.random import Generator, uniform
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.nets.conv import ConvEncoder, conv, fold
from quintet.nets.given import UNCONDITIONAL, UNTOLD, Given, Reads, Widths
from quintet.nets.mlp import MLP
from quintet.nets.packing import present
from quintet.nets.symbols import Backbone, Grams
from quintet.nets.transformer import Transformer, spread

Pool = Literal["max", "mean", "attention"]
FRAMES = 128
"""Positions along one axis (time) that are kept as they are; longer ones are folded in pairs."""
BAG = 2**15
"""Rows of the table of n-grams, as wide as the net: fewer or narrower ones gain little (docs/decisions/0015)."""


class Reading(settings.Settings):
    """How a sequence is read that a Transformer is given."""

    encoder_depth: int | None = Field(
        None, ge=0, le=1000, description="layers that read a condition that is a sequence; none: as many as depth"
    )
    stem: tuple[Annotated[int, Field(ge=1, le=31)], ...] = Field(
        (), max_length=64, description="widths of convolutions, in symbols, that read a text before these layers"
    )
    grid: int = Field(
        20, ge=1, le=64, description="largest number of positions along the longer side of a picture that is read"
    )
    pool: Pool = Field("max", description="how a sequence becomes the one vector from which a label is told")
    ngrams: int = Field(
        1, ge=1, le=64, description="the vector also holds n-grams of the text of up to this many symbols; 1: none"
    )
    input_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of what enters the layers that read that training sets to zero"
    )
    hide: float = Field(0.0, ge=0, lt=1, description="share of a sequence's positions that training hides")
    shift: int = Field(
        0, ge=0, le=4096, description="training shifts what is read by at most this many pixels or frames"
    )


@dataclass(frozen=True)
class Style:
    """How an `Encoder` is made. `queries`: means that its vector holds; `std`: of what symbols and places start from;
    `shared`: symbols are embedded by the table of the model's own.
    """

    backbone: Backbone
    reading: Reading
    queries: int = 1
    std: float = 0.02
    shared: bool = False


SMALL = Style(Backbone(width=64, depth=2), Reading(grid=10, pool="attention"), queries=8, std=0.5)
"""For families whose settings do not say how a sequence is read."""


# -- from a condition to positions, and from positions to a vector -----------------------------------------------------


class Columns(nn.Module):
    """x (B, dims) of unordered columns, each with its own symbols -> a position a column; pooled, their sum and what
    columns say together.
    """

    offset: Tensor

    def __init__(self, condition: Discrete, width: int) -> None:
        super().__init__()
        self.register_buffer("offset", torch.arange(condition.dims) * condition.vocab_size, persistent=False)
        self.table = nn.Embedding(condition.dims * condition.vocab_size, width)
        self.mix = MLP((width,), (width,), width, 1) if condition.dims > 1 else None

    def forward(self, x: Tensor, table: nn.Embedding | None, generator: Generator | None) -> tuple[Tensor, Tensor]:
        return everywhere(self.table(x.flatten(1) + self.offset))

    def pool(self, x: Tensor, h: Tensor, seen: Tensor) -> Tensor:
        emb = h.sum(1)
        return emb if self.mix is None else emb + self.mix(emb)


class Whole(nn.Module):
    """Numbers (B, *shape) -> a single position that holds all of them: by two layers, or pictures by convolutions."""

    def __init__(self, condition: Continuous, width: int) -> None:
        super().__init__()
        self.net: nn.Module
        if condition.sequence:
            self.net = ConvEncoder(condition.shape, (width,), 32, 1)
        else:
            layers = nn.Linear(condition.dims, width), nn.SiLU(), nn.Linear(width, width)
            self.net = nn.Sequential(nn.Flatten(), *layers)

    def forward(self, x: Tensor, table: nn.Embedding | None, generator: Generator | None) -> tuple[Tensor, Tensor]:
        return everywhere(self.net(x)[:, None])

    def pool(self, x: Tensor, h: Tensor, seen: Tensor) -> Tensor:
        return h[:, 0]


class Encoder(nn.Module):
    """A text, picture or recording -> its positions, after a Transformer; the encoder of an encoder-decoder.

    Where a vector is wanted it is `pooled`. With `ngrams` a text of L symbols is then pool(h) + sum_t g_t
    / sqrt(L) with g_t (width) the vectors of the runs of 2 ... `ngrams` symbols that end at t: a bag of n-grams (Joulin
    et al. 2017, arXiv:1607.01759) beside the net.
    """

    def __init__(self, condition: Space, width: int, style: Style, *, pooled: bool) -> None:
        super().__init__()
        reading, inner = style.reading, style.backbone.width
        self.enter = Words(condition, style) if isinstance(condition, Discrete) else Patches(condition, style)
        self.net: Transformer = style.backbone.transformer(causal=False, depth=reading.encoder_depth)
        self.weigh = Pooled(inner, reading.pool, style.queries) if pooled else None
        self.grams: Grams | None = None
        if pooled and isinstance(condition, Discrete) and reading.ngrams > 1:
            self.grams = Grams(condition.vocab_size, inner, reading.ngrams, rows=BAG, narrow=inner)
        inner = inner * style.queries if pooled and reading.pool == "attention" else inner
        self.leave = nn.Linear(inner, width) if inner != width else nn.Identity()

    def forward(self, x: Tensor, table: nn.Embedding | None, generator: Generator | None) -> tuple[Tensor, Tensor]:
        h, seen = self.enter(x, table, generator)
        there = present(seen)
        h = spread(self.net(h, mask=seen[:, None, None], only=there), there)
        return h if self.weigh is not None else self.leave(h), seen

    def pool(self, x: Tensor, h: Tensor, seen: Tensor) -> Tensor:
        assert self.weigh is not None
        emb = self.weigh(h, seen)
        if self.grams is not None:
            runs = self.grams(x[:, : seen.shape[1]]) * seen[..., None]
            emb = emb + runs.sum(1) / seen.sum(1, keepdim=True).sqrt()
        out: Tensor = self.leave(self.net.drop(emb))
        return out


class Words(nn.Module):
    """Symbols (B, L) -> (B, L', width) and which of them are text: all up to the end symbol, the first always.

    L' is the longest text's length: what lies behind it costs nothing. With a stem: h + sum_k silu(conv_k(h)), a
    convolution for each of its spans (Kim 2014, arXiv:1408.5882).
    """

    positions: Tensor | None

    def __init__(self, condition: Discrete, style: Style) -> None:
        super().__init__()
        reading, width = style.reading, style.backbone.width
        self.pad, self.table = condition.pad, None if style.shared else nn.Embedding(condition.vocab_size, width)
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=style.std)
        style.backbone.place(self, condition.dims, style.std)
        self.hide, self.dropout = reading.hide, reading.input_dropout
        self.stem = nn.ModuleList(conv(1, width, width, span) for span in reading.stem)

    def forward(self, x: Tensor, table: nn.Embedding | None, generator: Generator | None) -> tuple[Tensor, Tensor]:
        table = self.table or table
        assert table is not None
        x, seen = x.flatten(1), torch.ones_like(x.flatten(1), dtype=torch.bool)
        if self.pad is not None:
            seen = F.pad((x != self.pad).cumprod(1).bool(), (1, 0), value=True)[:, :-1]  # the end symbol too
            longest = int(seen.sum(1).max())
            x, seen = x[:, :longest], seen[:, :longest]
        h = hidden(table(x), self.hide, self.training)
        h = h if self.positions is None else h + self.positions[: x.shape[1]]
        h = F.dropout(h, self.dropout, self.training)
        text = (h * seen[..., None]).mT  # alone, whatever stands behind it
        for stem in self.stem:  # an even one gives a position too many
            h = h + F.silu(stem(text)[..., : x.shape[1]].mT)
        return h, seen


class Patches(nn.Module):
    """Images (B, C, H, W) or recordings (B, C, L) -> (B, positions, width): patches, two convolutions, positions."""

    def __init__(self, condition: Continuous, style: Style) -> None:
        super().__init__()
        reading, width = style.reading, style.backbone.width
        channels, *size = condition.shape
        axes, self.patch = len(size), 1
        while max(size) > self.patch * (FRAMES if axes == 1 else reading.grid):
            self.patch *= 2
        grid = torch.Size(-(-n // self.patch) for n in size).numel()
        self.enter, self.mix = conv(axes, channels * self.patch**axes, width), conv(axes, width, width)
        self.positions = nn.Parameter(torch.randn(grid, width) * style.std)
        self.hide, self.dropout, self.shift = reading.hide, reading.input_dropout, reading.shift

    def forward(self, x: Tensor, table: nn.Embedding | None, generator: Generator | None) -> tuple[Tensor, Tensor]:
        if self.training and self.shift:
            x = moved(x, self.shift, generator)
        h = self.mix(F.silu(self.enter(fold(x, self.patch)))).flatten(2).transpose(1, 2)
        return everywhere(F.dropout(hidden(h, self.hide, self.training) + self.positions, self.dropout, self.training))


def everywhere(h: Tensor) -> tuple[Tensor, Tensor]:
    """h (B, S, width), and that all of it may be read."""
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
    """h (B, L, width), of which `seen` (B, L) is text -> the maximum or the mean (B, width), or `queries` means (B,
    queries * width) whose weights are the softmax of a learnt score each: a Perceiver's reading (arXiv:2103.03206).
    """

    def __init__(self, width: int, kind: Pool, queries: int) -> None:
        super().__init__()
        self.kind, self.score = kind, nn.Linear(width, queries) if kind == "attention" else None

    def forward(self, h: Tensor, seen: Tensor) -> Tensor:
        if self.kind == "max":
            return h.masked_fill(~seen[..., None], -torch.inf).amax(1)
        score = torch.zeros_like(h[..., :1]) if self.score is None else self.score(h)
        weight = score.masked_fill(~seen[..., None], -torch.inf).softmax(1)
        return (weight.mT @ h).flatten(1)


# -- the condition -----------------------------------------------------------------------------------------------------


class Conditioner(nn.Module):
    """cond (B, *condition.shape) -> Given: its vector emb, or where `reads` says so the sequence context. Owns the null
    condition and its dropout.

    A missing condition (None), or one dropped in training with probability `dropout`, is the learnt null vector: what
    classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) calls the unconditional model. It is the first
    position of every sequence, and all of it that is seen where the condition is missing.
    """

    def __init__(
        self,
        condition: Space,
        width: int,
        reads: Reads = "vector",
        *,
        dropout: float = 0.0,
        style: Style | None = None,
    ) -> None:
        """`style`: how pictures and recordings are read too where a vector is wanted; None: as a `Whole`."""
        super().__init__()
        self.condition, self.reads, self.dropout = condition, reads, dropout
        whole = isinstance(condition, Continuous) and reads == "vector" and style is None
        parts = condition.sequence and not whole
        self.null = nn.Parameter(torch.randn(width) * 0.02 if parts else torch.zeros(width))
        self.encode: Encoder | Columns | Whole
        if parts:
            self.encode = Encoder(condition, width, style or SMALL, pooled=reads == "vector")
        elif isinstance(condition, Discrete):
            self.encode = Columns(condition, width)
        else:
            self.encode = Whole(condition, width)

    def forward(
        self, cond: Tensor | None, n: int, *, table: nn.Embedding | None = None, generator: Generator | None = None
    ) -> Given:
        null = self.null.expand(n, 1, -1)
        if cond is None:
            return Given(null[:, 0]) if self.reads == "vector" else Given(context=null)
        cond = cond.reshape(n, *(self.condition.shape or (1,)))
        h, seen = self.encode(cond, table, generator)
        emb = self.encode.pool(cond, h, seen) if self.reads == "vector" else None
        if self.training and self.dropout:
            kept = uniform(n, 1, generator=generator, like=self.null) >= self.dropout
            emb, seen = None if emb is None else torch.where(kept, emb, null[:, 0].to(emb.dtype)), seen & kept
        if emb is not None:
            return Given(emb)
        return Given(context=torch.cat([null.to(h.dtype), h], 1), seen=F.pad(seen, (1, 0), value=True))


def conditioner(
    condition: Space | None, width: int, reads: Reads = "vector", *, dropout: float = 0.0
) -> Conditioner | None:
    """A Conditioner, or None for an unconditional model."""
    return None if condition is None else Conditioner(condition, width, reads, dropout=dropout)


def widths(condition: Space | None, width: int, reads: Reads) -> Widths:
    """What a net must be ready for that is told of this condition."""
    return UNTOLD if condition is None else Widths(emb=width) if reads == "vector" else Widths(context=width)


def tell(conditioner: Conditioner | None, cond: Tensor | None, n: int, generator: Generator | None = None) -> Given:
    """What is told of n conditions; an unconditional model is told nothing."""
    return UNCONDITIONAL if conditioner is None else conditioner(cond, n, generator=generator)


class TimeEmbedding(nn.Module):
    """c (B,) -> (B, width): sines and cosines of geometric frequencies, then two layers (Ho et al. 2020)."""

    frequencies: Tensor

    def __init__(self, width: int, *, max_frequency: float = 32.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1, math.log10(max_frequency), width // 2), persistent=False)
        self.layers = nn.Sequential(nn.Linear(width // 2 * 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, c: Tensor) -> Tensor:
        angle = c[:, None] * self.frequencies
        return self.layers(torch.cat([angle.cos(), angle.sin()], 1))


def fuse(time: Tensor, given: Given) -> Given:
    """With silu of the sum of the noise level's embedding and the condition's, where there is one, as the vector."""
    return replace(given, emb=F.silu(time if given.emb is None else time + given.emb))
