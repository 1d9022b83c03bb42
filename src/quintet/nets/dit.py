"""A Transformer over patches that a vector modulates, in the place of a U-Net (DiT, Peebles & Xie 2023)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.conv import conv, fold, patch_for, unfold
from quintet.nets.given import UNCONDITIONAL, UNTOLD, Given, Reader, Widths, zero
from quintet.nets.transformer import Attention, FeedForward, sinusoids

HEAD = 32
"""Numbers of an attention head."""


class Modulated(nn.Module):
    """A layer of a DiT (arXiv:2212.09748, adaLN-Zero), with shift, scale and gate linear in a vector emb:

        x + (1 + gate_1) attention(norm(x) (1 + scale_1) + shift_1),        the same with a feed-forward net

    and attention to a sequence between the two where one is given. The last matrix of each part is zero at first, so
    that a layer begins as the identity; the paper has the gates do that.
    """

    def __init__(self, width: int, ready: Widths, dropout: float) -> None:
        super().__init__()
        heads = math.gcd(width, max(1, width // HEAD))
        self.attention, self.feed_forward = Attention(width, heads), FeedForward(width, "swiglu")
        self.norm, self.dropout = nn.LayerNorm(width, elementwise_affine=False), dropout
        self.modulation = zero(nn.Linear(ready.emb, 6 * width))
        self.reader = Reader(ready.context, width)

    def forward(self, x: Tensor, given: Given) -> Tensor:
        """x (B, L, width)."""
        parts = self.modulation(given.emb)[:, None].unflatten(-1, (2, 3, -1)).unbind(2)
        (shift, scale, gate), (shift2, scale2, gate2) = (part.unbind(2) for part in parts)
        h = self.attention(self.norm(x) * (1 + scale) + shift, 0, None, None, False, None)
        x = self.reader((x + self.drop((1 + gate) * h)).mT, given).mT
        return x + self.drop((1 + gate2) * self.feed_forward(self.norm(x) * (1 + scale2) + shift2))

    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.dropout, self.training)


class DiT(nn.Module):
    """(B, C, *size), given -> (B, C, *size): patches of `patch` entries a side are positions of a Transformer.

    None: as few entries as leave at most 20 patches on the longer side. Positions are told by sines and cosines, a
    share of the width for each axis. Plain numbers (B, dims) are a row of one channel. Zero at first.
    """

    places: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        depth: int,
        *,
        ready: Widths = UNTOLD,
        dropout: float = 0.0,
        patch: int | None = None,
    ) -> None:
        super().__init__()
        channels, *size = shape if len(shape) > 1 else (1, *shape)
        axes, self.size, self.patch = len(size), tuple(size), patch or patch_for(tuple(size))
        grid = [-(-n // self.patch) for n in size]
        numbers = channels * self.patch**axes
        self.enter, self.leave = conv(axes, numbers, width, 1), zero(conv(axes, width, numbers, 1))
        self.register_buffer("places", positions(grid, width), persistent=False)
        self.blocks = nn.ModuleList(Modulated(width, ready, dropout) for _ in range(depth))
        self.norm, self.modulation = (
            nn.LayerNorm(width, elementwise_affine=False),
            zero(nn.Linear(ready.emb, 2 * width)),
        )

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = self.enter(fold(x.view(len(x), -1, *self.size), self.patch))
        grid = h.shape[2:]
        h = h.flatten(2).mT + self.places
        for block in self.blocks:
            h = block(h, given)
        scale, shift = self.modulation(given.emb)[:, None].chunk(2, -1)
        h = (self.norm(h) * (1 + scale) + shift).mT.unflatten(2, grid)
        return unfold(self.leave(h), self.patch, self.size).reshape(x.shape)


def positions(grid: list[int], width: int) -> Tensor:
    """(positions, width): for each axis, sines and cosines of a position's place along it, side by side."""
    share = width // len(grid) // 2 * 2
    parts = []
    for axis, n in enumerate(grid):
        view = [n if i == axis else 1 for i in range(len(grid))]
        parts.append(sinusoids(n, share).view(*view, share).expand(*grid, share))
    return F.pad(torch.cat(parts, -1).flatten(0, -2), (0, width - share * len(grid)))
