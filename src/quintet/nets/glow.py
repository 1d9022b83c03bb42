"""What Glow consists of beside couplings: scales, and convolutions that say how a coupling moves (arXiv:1807.03039)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.conv import conv
from quintet.nets.given import UNCONDITIONAL, Added, Given, Widths, zero


def squeezable(shape: tuple[int, ...]) -> bool:
    """Whether some axis can be halved."""
    return any(n % 2 == 0 and n > 4 for n in shape[1:])


def has_scales(shape: tuple[int, ...]) -> bool:
    """Whether there are channels to split, at once or after a squeeze."""
    return len(shape) in (2, 3) and (shape[0] > 1 or squeezable(shape))


def squeeze(shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """The permutation that moves pairs along even axes into channels, and the shape after it."""
    factors = [2 if n % 2 == 0 else 1 for n in shape[1:]]
    split = [shape[0], *(m for n, f in zip(shape[1:], factors, strict=True) for m in (n // f, f))]
    axes = len(factors)
    order = [0, *(2 + 2 * i for i in range(axes)), *(1 + 2 * i for i in range(axes))]
    index = torch.arange(math.prod(shape)).view(split).permute(order).flatten()
    return index, (shape[0] * math.prod(factors), *(n // f for n, f in zip(shape[1:], factors, strict=True)))


SEEN = 5.0
"""Standard deviations: a convolutional net sees nothing as larger, since it has not learnt what to say of that."""


class ConvNet(nn.Module):
    """(B, inputs, *size), given -> (B, outputs, *size): 3x3, `depth - 1` residual 1x1, and 3x3, zero at first.

    Narrow in space, as in Glow: 1x1 mixing and many steps widen the view for less than larger kernels would cost.
    """

    def __init__(
        self, axes: int, inputs: int, outputs: int, width: int, depth: int, ready: Widths, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.enter, self.leave = conv(axes, inputs, width), zero(conv(axes, width, outputs))
        self.blocks = nn.ModuleList(conv(axes, width, width, 1) for _ in range(depth - 1))
        self.added = Added(ready, width)

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = self.added(self.enter(SEEN * torch.tanh(x / SEEN)), given)
        for block in self.blocks:
            h = h + block(self.activate(h))
        out: Tensor = self.leave(self.activate(h))
        return out

    def activate(self, h: Tensor) -> Tensor:
        return F.dropout(F.silu(h), self.dropout, self.training)
