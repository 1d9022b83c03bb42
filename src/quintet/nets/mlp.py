"""Multi-layer perceptrons: plain, and residual with modulation."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.given import UNCONDITIONAL, UNTOLD, Given, Modulation, Reader, Widths, zero


class Residual(nn.Module):
    """h + W2 dropout(silu(modulate(W1 norm(h)))); then, where there is a sequence, what h reads in it."""

    def __init__(self, width: int, ready: Widths, *, norm: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width) if norm else nn.Identity()
        self.up, self.down = nn.Linear(width, width), zero(nn.Linear(width, width))
        self.modulation, self.dropout = Modulation(ready.emb, width), dropout
        self.reader = Reader(ready.context, width)
        self.hidden_matrices = {"up.weight": 1, "down.weight": 1}

    def forward(self, h: Tensor, given: Given) -> Tensor:
        inner = F.silu(self.modulation(self.up(self.norm(h)), given))
        return self.reader(h + self.down(F.dropout(inner, self.dropout, self.training)), given)


class Waves(nn.Module):
    """x (B, n) -> x, sin 2 pi f x and cos 2 pi f x, with `count` learnt f ~ N(0, 0.3^2) of each number at first.

    A layer of many numbers hardly learns what two of them have to do with each other if not by their product, as on a
    ring; of waves it does (Gorishniy et al. 2022, arXiv:2203.05556).
    """

    def __init__(self, numbers: int, count: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(0.3 * torch.randn(numbers, count))
        self.size = numbers * (1 + 2 * count)

    def forward(self, x: Tensor) -> Tensor:
        turns = (2 * math.pi * x[..., None] * self.frequencies).flatten(1)
        return torch.cat([x, turns.sin(), turns.cos()], 1)


class ResidualMLP(nn.Module):
    """(B, *shape) -> (B, *out_shape) through `depth` residual blocks of `width`; with `waves`, it also reads so many
    waves of each number.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int,
        depth: int,
        *,
        ready: Widths = UNTOLD,
        norm: bool = True,
        dropout: float = 0.0,
        waves: int = 0,
    ) -> None:
        super().__init__()
        self.out_shape, numbers = out_shape, torch.Size(shape).numel()
        self.waves = Waves(numbers, waves) if waves else None
        self.enter = nn.Linear(numbers if self.waves is None else self.waves.size, width)
        self.blocks = nn.ModuleList(Residual(width, ready, norm=norm, dropout=dropout) for _ in range(depth))
        self.modulation = Modulation(ready.emb, width)
        self.norm = nn.RMSNorm(width) if norm else nn.Identity()
        self.leave = nn.Linear(width, torch.Size(out_shape).numel())

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        x = x.flatten(1)
        h = self.enter(x if self.waves is None else self.waves(x))
        for block in self.blocks:
            h = block(h, given)
        return self.leave(F.silu(self.modulation(self.norm(h), given))).view(len(x), *self.out_shape)


class MLP(nn.Module):
    """(B, *shape) -> (B, *out_shape) through `depth` plain layers; a vector is appended to the input, a sequence is
    read behind the first layer. No normalisation.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int,
        depth: int,
        *,
        ready: Widths = UNTOLD,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_shape, self.slope, self.emb = out_shape, slope, ready.emb
        widths = [torch.Size(shape).numel() + ready.emb, *[width] * depth, torch.Size(out_shape).numel()]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.reader = Reader(ready.context, width)

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = x.flatten(1)
        if self.emb and given.emb is not None:
            h = torch.cat([h, given.emb], 1)
        for i, layer in enumerate(self.layers[:-1]):
            h = F.leaky_relu(layer(h), self.slope)
            h = h if i else self.reader(h, given)
        return self.layers[-1](h).view(len(x), *self.out_shape)
