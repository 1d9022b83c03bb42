"""Any condition, and any noise level, as one embedding vector."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.core.random import Generator, uniform
from quintet.core.spaces import Discrete, Space
from quintet.nets.conv import ConvEncoder
from quintet.nets.mlp import MLP
from quintet.nets.transformer import Transformer


class Symbols(nn.Module):
    """x (B, dims) of unordered columns, each with its own symbols -> (B, width): a sum of embeddings, and what pairs of
    columns say together.
    """

    offset: Tensor

    def __init__(self, condition: Discrete, width: int) -> None:
        super().__init__()
        self.register_buffer("offset", torch.arange(condition.dims) * condition.vocab_size, persistent=False)
        self.table = nn.Embedding(condition.dims * condition.vocab_size, width)
        self.mix = MLP((width,), (width,), width, 1) if condition.dims > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        emb: Tensor = self.table(x + self.offset).sum(1)
        return emb if self.mix is None else emb + self.mix(emb)


class Tokens(nn.Module):
    """x (B, L) of a sequence, as a text is -> (B, width): two layers of self-attention, and a weighted mean over L.

    Padding is not part of the mean, the first position always is.
    """

    def __init__(self, condition: Discrete, width: int, *, inner: int = 64) -> None:
        super().__init__()
        self.pad = condition.pad
        self.table = nn.Embedding(condition.vocab_size, inner)
        self.positions = nn.Parameter(0.5 * torch.randn(condition.dims, inner))
        self.net = Transformer(inner, 2, 4, rotary=False, causal=False)
        self.weigh, self.leave = nn.Linear(inner, 1), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.net(self.table(x) + self.positions)
        weights = self.weigh(h)[..., 0]
        if self.pad is not None:
            beyond = (x == self.pad) & (torch.arange(x.shape[1], device=x.device) > 0)
            weights = weights.masked_fill(beyond, -torch.inf)
        emb: Tensor = self.leave((weights.softmax(1)[..., None] * h).sum(1))
        return emb


def reader(condition: Space, width: int) -> nn.Module:
    """A net(cond (B, *condition.shape)) -> (B, width) that suits the kind of condition.

    Texts are read by attention, columns of symbols by embeddings, images and recordings by convolutions, other numbers
    by a perceptron.
    """
    if isinstance(condition, Discrete):
        return nn.Sequential(nn.Flatten(), (Tokens if condition.sequence else Symbols)(condition, width))
    if condition.sequence:
        return ConvEncoder(condition.shape, (width,), 32, 1)
    return nn.Sequential(nn.Flatten(), nn.Linear(condition.dims, width), nn.SiLU(), nn.Linear(width, width))


class Conditioner(nn.Module):
    """cond (B, *condition.shape) -> emb (B, width). Owns the null condition and its dropout.

    A missing condition (None), or one dropped in training with probability `dropout`, is the learnt null embedding:
    what classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) calls the unconditional model.
    """

    def __init__(self, condition: Space, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.condition, self.dropout = condition, dropout
        self.null = nn.Parameter(torch.zeros(width))
        self.encode = reader(condition, width)

    def forward(self, cond: Tensor | None, n: int, *, generator: Generator | None = None) -> Tensor:
        if cond is None:
            return self.null.expand(n, -1)
        emb: Tensor = self.encode(cond.reshape(n, *(self.condition.shape or (1,))))
        if self.training and self.dropout:
            dropped = uniform(n, 1, generator=generator, like=emb) < self.dropout
            emb = torch.where(dropped, self.null.to(emb.dtype), emb)
        return emb


def conditioner(condition: Space | None, width: int, *, dropout: float = 0.0) -> Conditioner | None:
    """A Conditioner, or None for an unconditional model."""
    return None if condition is None else Conditioner(condition, width, dropout=dropout)


def embed(
    conditioner: Conditioner | None, cond: Tensor | None, n: int, generator: Generator | None = None
) -> Tensor | None:
    """The embedding of `cond`, or None for an unconditional model."""
    return None if conditioner is None else conditioner(cond, n, generator=generator)


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


def fuse(time: Tensor, emb: Tensor | None) -> Tensor:
    """silu of the sum of the noise level's embedding and the condition's, where there is one."""
    return F.silu(time if emb is None else time + emb)
