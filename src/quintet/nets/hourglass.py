"""A Transformer whose positions are runs of symbols (Hourglass; Nawrot et al. 2022, arXiv:2110.13711)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.given import zero
from quintet.nets.symbols import Backbone
from quintet.nets.transformer import Cache, FeedForward, normaliser

POSITIONS = 64
"""About so many positions of the Transformer an item has, where their number is not said."""


def shortening(dims: int, wanted: int | None) -> int:
    """How many of `dims` symbols in a row are one position: as many as wanted. None: the divisor of `dims` that comes
    nearest to leaving `POSITIONS` of them, which of pictures is a row or a part of it.
    """
    if wanted is not None:
        return min(wanted, dims)
    return min((k for k in range(1, dims + 1) if dims % k == 0), key=lambda k: abs(k - dims / POSITIONS))


class Hourglass(nn.Module):
    """x (B, L, width) -> (B, L, width), of which y_t is a function of x_0 ... x_t. Every k = `shorten` symbols in a row
    are one position of a Transformer T of twice the width, which may read a context of `context` numbers a position:

        g_i = W_down [n(x_{ki-k+1}), ..., n(x_{ki})]            (x is 0 before the first)
        [u_{ki}, ..., u_{ki+k-1}] = W_up T(g_0, ..., g_i)
        h_t = x_t + u_t,    y_t = n(h_t + FF(n(h_t)))

    So u_t knows what stands up to the last multiple of k, and the symbols since then only x_t can tell: a model that
    reads the last k symbols at each step (`reach`) misses none. T costs a k-th of what it costs on all symbols, and its
    attention less than that.
    """

    def __init__(self, settings: Backbone, shorten: int, context: int = 0) -> None:
        super().__init__()
        width, wide = settings.width, 2 * settings.width
        inner = settings.model_copy(update={"width": wide, "heads": 2 * settings.heads, "positions": "rotary"})
        self.shorten = shorten
        self.down, self.up = nn.Linear(shorten * width, wide, bias=False), nn.Linear(wide, shorten * width, bias=False)
        self.hidden_matrices = {"down.weight": 1, "up.weight": shorten}
        zero(self.up)
        self.inner = inner.transformer(causal=True, cross=bool(context))
        self.widen = nn.Linear(context, wide) if context else None
        self.feed_forward = FeedForward(width, settings.activation)
        self.norms = nn.ModuleList(normaliser(settings.norm, width) for _ in range(3))

    def forward(
        self, x: Tensor, cache: Cache | None = None, *, context: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """x behind what a cache holds; context (B, S, context), of which `seen` (B, S) may be read."""
        length, k = x.shape[1], self.shorten
        newest, told = self.norms[0](x), x[:, :0]
        if cache is None or cache.newest is None or cache.told is None:  # nothing was read yet
            newest = F.pad(newest, (0, 0, k - 1, 0))
        else:
            newest, told = torch.cat([cache.newest, newest], 1), cache.told
        if told.shape[1] < length:
            if cache is not None and cache.inner is None:
                cache.inner = Cache(cache.capacity // k + 1)
            runs = newest[:, told.shape[1] :].unfold(1, k, k).mT.flatten(2)  # (B, runs, k * width)
            context = context if self.widen is None or context is None else self.widen(context)
            h = self.inner(self.down(runs), cache.inner if cache else None, context=context, seen=seen)
            told = torch.cat([told, self.up(h).view(len(x), -1, x.shape[2])], 1)
        if cache is not None:
            cache.newest, cache.told = newest[:, length:], told[:, length:]
            cache.length += length
        h = x + told[:, :length]
        out: Tensor = self.norms[2](h + self.feed_forward(self.norms[1](h)))
        return out
