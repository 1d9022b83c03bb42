"""Multi-layer perceptrons: plain, and residual with modulation."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def zero(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> nn.Linear | nn.Conv1d | nn.Conv2d:
    """`layer` with zero weights and bias."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Modulation(nn.Module):
    """h (1 + scale(emb)) + shift(emb) over channels (FiLM, Perez et al. 2018); identity at first and without emb."""

    def __init__(self, emb: int, width: int) -> None:
        super().__init__()
        self.to_scale_shift = zero(nn.Linear(emb, 2 * width)) if emb else None

    def forward(self, h: Tensor, emb: Tensor | None) -> Tensor:
        """h (B, width, ...), emb (B, emb)."""
        if self.to_scale_shift is None or emb is None:
            return h
        scale, shift = self.to_scale_shift(emb).view(len(h), -1, *[1] * (h.dim() - 2)).chunk(2, 1)
        return h * (1 + scale) + shift


class Residual(nn.Module):
    """h + W2 dropout(silu(modulate(W1 norm(h))))."""

    def __init__(self, width: int, emb: int, *, norm: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width) if norm else nn.Identity()
        self.up, self.down = nn.Linear(width, width), zero(nn.Linear(width, width))
        self.modulation, self.dropout = Modulation(emb, width), dropout
        self.hidden_matrices = {"up.weight": 1, "down.weight": 1}

    def forward(self, h: Tensor, emb: Tensor | None) -> Tensor:
        inner = F.silu(self.modulation(self.up(self.norm(h)), emb))
        return h + self.down(F.dropout(inner, self.dropout, self.training))


class ResidualMLP(nn.Module):
    """(B, *shape) -> (B, *out_shape) through `depth` residual blocks of `width`."""

    def __init__(
        self,
        shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int,
        depth: int,
        *,
        emb: int = 0,
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_shape = out_shape
        self.enter = nn.Linear(torch.Size(shape).numel(), width)
        self.blocks = nn.ModuleList(Residual(width, emb, norm=norm, dropout=dropout) for _ in range(depth))
        self.modulation = Modulation(emb, width)
        self.norm = nn.RMSNorm(width) if norm else nn.Identity()
        self.leave = nn.Linear(width, torch.Size(out_shape).numel())

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = self.enter(x.flatten(1))
        for block in self.blocks:
            h = block(h, emb)
        return self.leave(F.silu(self.modulation(self.norm(h), emb))).view(len(x), *self.out_shape)


class MLP(nn.Module):
    """(B, *shape) -> (B, *out_shape) through `depth` plain layers; emb is appended to the input. No normalisation."""

    def __init__(
        self,
        shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int,
        depth: int,
        *,
        emb: int = 0,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_shape, self.slope, self.emb = out_shape, slope, emb
        widths = [torch.Size(shape).numel() + emb, *[width] * depth, torch.Size(out_shape).numel()]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = x.flatten(1)
        if self.emb and emb is not None:
            h = torch.cat([h, emb], 1)
        for layer in self.layers[:-1]:
            h = F.leaky_relu(layer(h), self.slope)
        return self.layers[-1](h).view(len(x), *self.out_shape)
