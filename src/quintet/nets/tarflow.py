"""Layers of a flow that are causal Transformers over patches (TarFlow, Zhai et al. 2024, arXiv:2412.06329)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from quintet.nets.elementwise import Transform
from quintet.nets.flows import Guided, Invertible, MaybeGuided
from quintet.nets.given import UNCONDITIONAL, UNTOLD, Added, Given, Widths, zero
from quintet.nets.stepping import stepper
from quintet.nets.transformer import Cache, Transformer

PATCHES = 64
"""About so many patches an item is cut into: attention costs the square of them, sampling a pass for each."""


def patches(shape: tuple[int, ...], patch: int | None) -> tuple[Tensor, int]:
    """The permutation of the entries of an item (C, *size) that puts those of a patch side by side, patches in raster
    order; and how many patches there are.

    A patch has `patch` entries along each axis, or the nearest smaller number that divides it. None: as many as leave
    about `PATCHES` patches. Plain numbers (dims,) are a row of one channel.
    """
    channels, *size = shape if len(shape) > 1 else (1, *shape)
    along = PATCHES ** (1 / len(size))
    wanted = [patch or math.ceil(n / along) for n in size]
    sides = [next(p for p in range(min(most, n), 0, -1) if n % p == 0) for most, n in zip(wanted, size, strict=True)]
    split = [channels, *(m for n, p in zip(size, sides, strict=True) for m in (n // p, p))]
    axes = len(size)
    order = [*(1 + 2 * i for i in range(axes)), 0, *(2 + 2 * i for i in range(axes))]
    index = torch.arange(math.prod(shape)).view(split).permute(order).flatten()
    return index, math.prod(n // p for n, p in zip(size, sides, strict=True))


class PatchAutoregressive(Invertible):
    """z_i = f(x_i; net(x_<i, given)) with x_i the i-th of `count` patches of `numbers` entries each, and one causal
    Transformer for all i. With an affine f

        z_i = (x_i - mean(x_<i)) exp(-log_std(x_<i)),        log |det dz/dx| = -sum_i log_std(x_<i).

    The net reads a learnt start and the patches but the last. A condition is added to each of them, or where it is a
    sequence every layer reads it. The inversion is a pass a patch, with a cache of keys and values.
    """

    def __init__(
        self,
        count: int,
        numbers: int,
        transform: Transform,
        width: int,
        depth: int,
        heads: int,
        *,
        ready: Widths = UNTOLD,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.size, self.count, self.numbers, self.transform = count * numbers, count, numbers, transform
        self.enter, self.leave = nn.Linear(numbers, width), zero(nn.Linear(width, transform.params * numbers))
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.places = nn.Parameter(torch.randn(count, width) * 0.02)
        self.added = Added(Widths(ready.emb), width)
        self.widen = nn.Linear(ready.context, width) if ready.context else None
        self.net = Transformer(width, depth, heads, rotary=False, dropout=dropout, cross=bool(ready.context))

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        before = x.view(len(x), self.count, self.numbers)[:, :-1]
        if isinstance(given, Guided):
            params = given.mix(self.behind(before, given.given), self.behind(before, given.null))
        else:
            params = self.behind(before, given)
        z, log_det = self.transform.forward(x, params.transpose(1, 2).flatten(2))
        return z, log_det.sum(1)

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        views = (given.given, given.null) if isinstance(given, Guided) else (given,)
        step = None if torch.is_grad_enabled() else stepper(self.net, self.count, len(z))
        caches = [Cache(self.count, step=step) for _ in views]
        x: list[Tensor] = []
        for latent in z.view(len(z), self.count, self.numbers).unbind(1):
            last = z.new_empty(len(z), 0, self.numbers) if not x else x[-1][:, None]
            found = [self.behind(last, view, cache)[:, 0] for view, cache in zip(views, caches, strict=True)]
            params = given.mix(*found) if isinstance(given, Guided) else found[0]
            x.append(self.transform.inverse(latent, params))
        return torch.cat(x, 1)

    def behind(self, x: Tensor, given: Given, cache: Cache | None = None) -> Tensor:
        """The parameters (B, L, transform.params, numbers) of the patches behind x (B, L, numbers): with a cache behind
        each of them, else behind the start too, L + 1 in all. An empty x stands for the start.
        """
        h = self.enter(x)
        if cache is None or not cache.length:
            h = torch.cat([self.start.to(h.dtype).expand(len(x), 1, -1), h], 1)
        first = 0 if cache is None else cache.length
        h = self.added((h + self.places[first : first + h.shape[1]]).mT, given).mT
        context = None if self.widen is None or given.context is None else self.widen(given.context)
        out: Tensor = self.leave(self.net(h, cache, context=context, seen=given.seen))
        return out.unflatten(2, (self.transform.params, self.numbers))
