"""Any condition, and any noise level, as one embedding vector."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.core.random import Generator, uniform
from quintet.core.spaces import Discrete, Space


class Conditioner(nn.Module):
    """cond (B, *condition.shape) -> emb (B, width). Owns the null condition and its dropout.

    A missing condition (None), or one dropped in training with probability `dropout`, is the learnt null embedding:
    what classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) calls the unconditional model.
    """

    def __init__(self, condition: Space, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.condition, self.dropout = condition, dropout
        self.null = nn.Parameter(torch.zeros(width))
        self.encode: nn.Module
        if isinstance(condition, Discrete):
            self.encode = nn.Embedding(condition.dims * condition.vocab_size, width)
        else:
            self.encode = nn.Sequential(nn.Linear(condition.dims, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, cond: Tensor | None, n: int, *, generator: Generator | None = None) -> Tensor:
        if cond is None:
            return self.null.expand(n, -1)
        if isinstance(self.condition, Discrete):  # one table for all positions, summed
            offset = torch.arange(self.condition.dims, device=cond.device) * self.condition.vocab_size
            emb = self.encode(cond.reshape(n, -1) + offset).sum(1)
        else:
            emb = self.encode(cond.reshape(n, -1))
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
