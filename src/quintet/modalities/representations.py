"""How the symbols that a codec makes of an item are laid out for a family: as they are, or as real numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from quintet.core.codec import Representation
from quintet.core.spaces import Continuous, Discrete

Shape = Sequence[int]
Symbol = int | None


class SymbolRepresentation(Representation, ABC):
    """Symbols k (B, *shape), int64, <-> x (B, *space.shape)."""

    log_cell: float = 0.0
    """log p(k) = log p(x) + log_cell: the log-volume of the cell of x that stands for one k, where x has a density."""

    @abstractmethod
    def fit(self, shape: Shape, size: int, axes: Shape = (0,), *, pad: Symbol = None, unseen: Symbol = None) -> None:
        """Of items of this shape and `size` symbols. `axes`: their order where x has several (channels first, as nets
        do); `pad` and `unseen`: see `Discrete`.
        """

    @abstractmethod
    def spread(self, known: Tensor) -> Tensor:
        """known (B, *shape) bool -> (B, *space.shape): an entry of x is known if its symbol is."""


class Symbols(SymbolRepresentation):
    """Discrete: k in row-major order."""

    kind = "discrete"

    def fit(self, shape: Shape, size: int, axes: Shape = (0,), *, pad: Symbol = None, unseen: Symbol = None) -> None:
        self.shape = tuple(shape)
        row = math.prod(shape[1:]) if len(shape) > 1 else None  # what has several axes holds levels
        self.space = Discrete((math.prod(self.shape),), size, pad=pad, unseen=unseen, row=row)

    def encode(self, k: Tensor) -> Tensor:
        return k.flatten(1)

    def decode(self, x: Tensor) -> Tensor:
        return x.detach().cpu().view(len(x), *self.shape)

    def spread(self, known: Tensor) -> Tensor:
        return known.flatten(1).contiguous()


class Levels(SymbolRepresentation):
    """Continuous: x = 2 k / (levels - 1) - 1, for k that are levels of a value."""

    kind = "continuous"

    def fit(self, shape: Shape, size: int, axes: Shape = (0,), *, pad: Symbol = None, unseen: Symbol = None) -> None:
        self.order = (0, *(axis + 1 for axis in axes))
        self.back = tuple(self.order.index(axis) for axis in range(len(self.order)))
        self.space = self.levels = Continuous(tuple(shape[axis] for axis in axes), size)
        self.step = self.levels.bin_width
        self.log_cell = self.space.dims * math.log(self.step)

    def encode(self, k: Tensor) -> Tensor:
        return (k.permute(self.order).float() * self.step - 1).contiguous()

    def decode(self, x: Tensor) -> Tensor:
        return self.levels.quantise(x.detach().cpu().nan_to_num(-1.0)).permute(self.back)

    def spread(self, known: Tensor) -> Tensor:
        return known.permute(self.order).contiguous()


class Bits(SymbolRepresentation):
    """Continuous: analog bits (Chen et al. 2022, arXiv:2208.04202), the index of each symbol of a row (n,) as
    ceil(log2 V) values of +-1: (bits, n).

    What is no symbol's code decodes to the nearest one, argmax_v <x_t, code_v>, of those that may be drawn: all but
    `unseen`.
    """

    kind = "continuous"
    AT_ONCE = 2**24

    def fit(self, shape: Shape, size: int, axes: Shape = (0,), *, pad: Symbol = None, unseen: Symbol = None) -> None:
        bits = max(1, math.ceil(math.log2(size)))
        self.space = Continuous((bits, *shape), 2)
        places = torch.arange(bits - 1, -1, -1)
        self.codes = (torch.arange(size)[:, None] >> places & 1).float() * 2 - 1  # (V, bits)
        self.drawn = torch.tensor([symbol for symbol in range(size) if symbol != unseen])
        self.log_cell = self.space.dims * math.log(2)

    def encode(self, k: Tensor) -> Tensor:
        return self.codes[k].movedim(-1, 1).contiguous()

    def decode(self, x: Tensor) -> Tensor:
        x = x.detach().cpu().float().nan_to_num().clamp(-1, 1)
        rows = max(1, self.AT_ONCE // (self.space.shape[1] * len(self.codes)))
        codes = self.codes[self.drawn]
        parts = [self.drawn[torch.einsum("bcl,vc->blv", part, codes).argmax(-1)] for part in x.split(rows)]
        return torch.cat(parts) if parts else torch.empty(0, self.space.shape[1], dtype=torch.long)

    def spread(self, known: Tensor) -> Tensor:
        return known[:, None].expand(-1, *self.space.shape).clone()
