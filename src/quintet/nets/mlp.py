"""Multi-layer perceptrons: plain, and residual with modulation."""

from __future__ import annotations

import itertools

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


class ResidualMLP(nn.Module):
    """(B, *shape) -> (B, *out_shape) through `depth` residual blocks of `width`."""

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
    ) -> None:
        super().__init__()
        self.out_shape = out_shape
        self.enter = nn.Linear(torch.Size(shape).numel(), width)
        self.blocks = nn.ModuleList(Residual(width, ready, norm=norm, dropout=dropout) for _ in range(depth))
        self.modulation = Modulation(ready.emb, width)
        self.norm = nn.RMSNorm(width) if norm else nn.Identity()
        self.leave = nn.Linear(width, torch.Size(out_shape).numel())

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = self.enter(x.flatten(1))
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
