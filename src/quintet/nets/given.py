"""What a net is told of a condition, and how layers take it in: modulation by a vector, attention to a sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

Reads = Literal["vector", "sequence"]
How = Annotated[
    Reads, Field(description="vector: a condition is read as one vector; sequence: position by position, by attention")
]
"""How a condition is read: as one vector, or as a sequence of positions, by attention."""


@dataclass(frozen=True)
class Given:
    """A vector emb (B, emb), and a sequence context (B, S, context) of which `seen` (B, S) may be read; None: all."""

    emb: Tensor | None = None
    context: Tensor | None = None
    seen: Tensor | None = None

    def select(self, rows: Tensor) -> Given:
        """The same for these rows."""
        return Given(*(None if part is None else part[rows] for part in (self.emb, self.context, self.seen)))


class Widths(NamedTuple):
    """How wide the vector and the positions of the sequence are that a net will be given; 0: there is none."""

    emb: int = 0
    context: int = 0


UNCONDITIONAL, UNTOLD = Given(), Widths()


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

    def forward(self, h: Tensor, given: Given) -> Tensor:
        """h (B, width, ...)."""
        if self.to_scale_shift is None or given.emb is None:
            return h
        scale, shift = self.to_scale_shift(given.emb).view(len(h), -1, *[1] * (h.dim() - 2)).chunk(2, 1)
        return h * (1 + scale) + shift


class Reader(nn.Module):
    """h + W softmax(q(h) k^T / sqrt(d)) v: every position of h reads the context (Vaswani et al. 2017).

    The identity at first, without a context, and where `context` is 0.
    """

    HEADS = 4

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        if not context:
            return
        self.heads, self.norm = math.gcd(self.HEADS, context), nn.RMSNorm(width)
        self.query, self.key_value = nn.Linear(width, context), nn.Linear(context, 2 * context, bias=False)
        self.out = zero(nn.Linear(context, width))

    def forward(self, h: Tensor, given: Given) -> Tensor:
        """h (B, width, ...)."""
        if given.context is None:
            return h
        q = self.query(self.norm(h.flatten(2).mT if h.dim() > 2 else h[:, None]))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in (q, *self.key_value(given.context).chunk(2, -1)))  # fmt: skip
        seen = None if given.seen is None else given.seen[:, None, None]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        return h + self.out(read).mT.reshape(h.shape)


class Added(nn.Module):
    """given -> (B, width) to be added to a layer: a map of the vector, or a learnt query and what it reads.

    Nothing of the layer's own input enters the query (as in a Perceiver, Jaegle et al. 2021, arXiv:2103.03206), so that
    what a masked or triangular net may not see stays unseen.
    """

    def __init__(self, ready: Widths, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(width)) if ready.context else None
        self.reader = Reader(ready.context, width)
        self.map = nn.Linear(ready.emb, width, bias=False) if ready.emb else None

    def forward(self, h: Tensor, given: Given) -> Tensor:
        """h (B, width, ...) with what is added everywhere."""
        if self.map is not None and given.emb is not None:
            more = self.map(given.emb)
        elif self.query is not None:
            more = self.reader(self.query.expand(len(h), -1), given)
        else:
            return h
        return h + more.view(*more.shape, *[1] * (h.dim() - 2))
