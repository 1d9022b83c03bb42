"""A condition as a sequence that every layer may read (an encoder's output), or as one vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.core.random import Generator, uniform
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.nets.conv import conv, fold, patch_for
from quintet.nets.symbols import Backbone
from quintet.nets.transformer import Transformer

FRAMES = 128
"""Positions along one axis (time) that are kept as they are; longer ones are folded in pairs."""


@dataclass(frozen=True)
class Given:
    """What a net is told of a condition: emb (B, width) to add, context (B, S, width) to read where seen (B, S)."""

    emb: Tensor | None = None
    context: Tensor | None = None
    seen: Tensor | None = None

    def select(self, rows: Tensor) -> Given:
        """The same for these rows."""
        return Given(*(None if part is None else part[rows] for part in (self.emb, self.context, self.seen)))


def is_sequence(condition: Space | None) -> bool:
    """Texts (symbols of one alphabet), images and recordings; not single symbols, columns, or plain numbers."""
    if isinstance(condition, Discrete):
        return condition.sizes is None and condition.dims > 1
    return isinstance(condition, Continuous) and len(condition.shape) > 1


def same_alphabet(space: Space, condition: Space) -> bool:
    """Whether symbols of both may be embedded by one table."""
    both = isinstance(space, Discrete) and isinstance(condition, Discrete)
    return both and space.vocab_size == condition.vocab_size  # type: ignore[union-attr]


class Words(nn.Module):
    """Symbols (B, L) -> (B, L', width) and which of them are text: all up to the end symbol, the first always.

    L' is the longest text's length: what lies behind it costs nothing. `shared`: embedded by the table that is given.
    """

    positions: Tensor | None

    def __init__(self, condition: Discrete, backbone: Backbone, *, shared: bool) -> None:
        super().__init__()
        self.pad, self.table = condition.pad, None if shared else nn.Embedding(condition.vocab_size, backbone.width)
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=0.02)
        backbone.place(self, condition.dims)

    def forward(self, x: Tensor, table: nn.Embedding) -> tuple[Tensor, Tensor]:
        seen = torch.ones_like(x, dtype=torch.bool)
        if self.pad is not None:
            seen = F.pad(x != self.pad, (1, 0), value=True)[:, :-1]  # the end symbol too
            longest = int(seen.sum(1).max())
            x, seen = x[:, :longest], seen[:, :longest]
        h = (self.table or table)(x)
        return (h if self.positions is None else h + self.positions[: x.shape[1]]), seen


class Patches(nn.Module):
    """Images (B, C, H, W) or recordings (B, C, L) -> (B, positions, width): patches, two convolutions, positions."""

    def __init__(self, condition: Continuous, backbone: Backbone) -> None:
        super().__init__()
        channels, *size = condition.shape
        axes, self.patch = len(size), patch_for(tuple(size)) if len(size) > 1 else 1
        while axes == 1 and size[0] > FRAMES * self.patch:
            self.patch *= 2
        grid = torch.Size(-(-n // self.patch) for n in size).numel()
        self.enter = conv(axes, channels * self.patch**axes, backbone.width)
        self.mix = conv(axes, backbone.width, backbone.width)
        self.positions = nn.Parameter(torch.randn(grid, backbone.width) * 0.02)

    def forward(self, x: Tensor, table: nn.Embedding) -> tuple[Tensor, Tensor]:
        h = self.mix(F.silu(self.enter(fold(x, self.patch)))).flatten(2).transpose(1, 2) + self.positions
        return h, torch.ones(h.shape[:2], dtype=torch.bool, device=h.device)


class Context(nn.Module):
    """cond (B, *condition.shape) -> Given(context, seen): the encoder of an encoder-decoder.

    The first position of every context is a learnt vector. It is all there is where the condition is missing (None) or
    hidden, in training with probability `dropout`: the unconditional model of guidance (Ho & Salimans 2022).
    """

    def __init__(self, condition: Space, backbone: Backbone, *, depth: int, dropout: float, shared: bool) -> None:
        super().__init__()
        self.dropout = dropout
        self.null = nn.Parameter(torch.randn(backbone.width) * 0.02)
        self.enter: nn.Module
        if isinstance(condition, Discrete):
            self.enter = Words(condition, backbone, shared=shared)
        else:
            self.enter = Patches(condition, backbone)
        self.net: Transformer = backbone.transformer(causal=False, depth=depth)

    def forward(self, cond: Tensor | None, n: int, table: nn.Embedding, *, generator: Generator | None = None) -> Given:
        """`table`: the embedding of the model's own symbols."""
        null = self.null.expand(n, 1, -1)
        if cond is None:
            return Given(context=null)
        h, seen = self.enter(cond, table)
        h = self.net(h, mask=seen[:, None, None])
        if self.training and self.dropout:
            seen = seen & (uniform(n, 1, generator=generator, like=self.null) >= self.dropout)
        return Given(context=torch.cat([null.to(h.dtype), h], 1), seen=F.pad(seen, (1, 0), value=True))
