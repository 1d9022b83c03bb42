"""What flows of several scales consist of beside couplings: squeezing, a Haar basis, and convolutional nets."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.conv import conv
from quintet.nets.flows import Invertible, MaybeGuided
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


class Haar(Invertible):
    """z = H x over the numbers of each block, H orthonormal: first their sums, then how they differ.

    `shape` is that after `squeeze` of an image of so many channels: their blocks are its channels. H of two numbers is
    [[1, 1], [1, -1]] / sqrt(2), that of four numbers its Kronecker product with itself. |det H| = 1.
    """

    signs: Tensor

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.size, self.channels, self.block = math.prod(shape), channels, shape[0] // channels
        signs = torch.ones(1, 1)
        while len(signs) < self.block:
            signs = torch.kron(signs, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        self.register_buffer("signs", signs)

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        z = self.signs @ x.view(len(x), self.channels, self.block, -1) / math.sqrt(self.block)
        return z.transpose(1, 2).reshape(x.shape), x.new_zeros(len(x))

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        bands = z.view(len(z), self.block, self.channels, -1).transpose(1, 2)
        return (self.signs @ bands / math.sqrt(self.block)).reshape(z.shape)  # H is symmetric


SEEN = 5.0
"""Standard deviations: a convolutional net sees nothing as larger, since it has not learnt what to say of that."""


class ConvNet(nn.Module):
    """(B, inputs, *size), given -> (B, outputs, *size): a convolution, `depth - 1` residual ones, one that is zero at
    first, with these kernels.
    """

    def __init__(
        self,
        axes: int,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        ready: Widths,
        dropout: float,
        kernels: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.dropout, (first, inner, last) = dropout, kernels
        self.enter, self.leave = conv(axes, inputs, width, first), zero(conv(axes, width, outputs, last))
        self.blocks = nn.ModuleList(conv(axes, width, width, inner) for _ in range(depth - 1))
        self.added = Added(ready, width)

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = self.added(self.enter(SEEN * torch.tanh(x / SEEN)), given)
        for block in self.blocks:
            h = h + block(self.activate(h))
        out: Tensor = self.leave(self.activate(h))
        return out

    def activate(self, h: Tensor) -> Tensor:
        return F.dropout(F.silu(h), self.dropout, self.training)
