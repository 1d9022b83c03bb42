"""Where encoded data lives: real arrays or arrays of symbols."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quintet.core.errors import DataError
from quintet.core.random import Generator, uniform


@dataclass(frozen=True)
class Continuous:
    """Real arrays. With `levels`, the data take that many evenly spaced values on [-1, 1].

    `widths` (one a dimension, flattened) says the same of single dimensions: the distance between neighbouring values
    where a dimension is quantised, 0 where it is real.

    `shares` (one a dimension, flattened): in how many of the training data a dimension that takes -1 and 1 is 1, where
    the codec knows. Models start from these, as from `Discrete.shares`.

    `groups`: how many dimensions in a row, from the first to the last, are one thing that data say: the bits of a
    symbol are. Their sum is `dims`; None where each dimension stands for itself.
    """

    shape: tuple[int, ...]
    levels: int | None = None
    widths: tuple[float, ...] | None = None
    shares: tuple[float, ...] | None = None
    groups: tuple[int, ...] | None = None

    @property
    def dims(self) -> int:
        return math.prod(self.shape)

    @property
    def sequence(self) -> bool:
        """Whether its dimensions have neighbours, as in recordings and images; plain numbers have none."""
        return len(self.shape) > 1

    @property
    def bits(self) -> tuple[bool, ...]:
        """Which of the dimensions, flattened, are bits of -1 and 1 beside real numbers: those of width 2."""
        return tuple(width == 2 for width in self.widths or (0.0,) * self.dims)

    @property
    def quantised(self) -> bool:
        """Whether any dimension takes separate values only."""
        return self.levels is not None or any(self.widths or ())

    @property
    def bin_width(self) -> float:
        """Distance between two neighbouring levels."""
        if self.levels is None:
            raise ValueError("this space is not quantised")
        return 2 / (self.levels - 1)

    def dequantise(self, x: Tensor, generator: Generator | None) -> Tensor:
        """x + uniform noise of one bin, so that a density is defined (Theis et al. 2016, arXiv:1511.01844).

        Real dimensions stay as they are.
        """
        if not self.quantised:
            return x
        width: float | Tensor = self.bin_width if self.levels else x.new_tensor(self.widths).view(self.shape)
        return x + (uniform(*x.shape, generator=generator, like=x) - 0.5) * width

    def quantise(self, x: Tensor) -> Tensor:
        """The nearest level as an index 0 ... levels - 1 (int64)."""
        return ((x + 1) / self.bin_width).round().clamp(0, (self.levels or 1) - 1).long()

    def nearest(self, x: Tensor) -> Tensor:
        """x (B, *shape) with numbers of a quantised dimension at the nearest level or bit, and others as they are."""
        if self.levels:
            return self.quantise(x).to(x.dtype) * self.bin_width - 1
        bits = torch.tensor(self.bits, device=x.device).view(self.shape)
        return torch.where(bits, torch.where(x > 0, 1.0, -1.0).to(x.dtype), x)

    def check(self, x: Tensor) -> None:
        """Raise DataError unless x is (B, *shape), floating and finite."""
        if tuple(x.shape[1:]) != self.shape or not x.is_floating_point():
            raise DataError(
                f"expected encoded items of shape {self.shape} as floats, got shape {tuple(x.shape[1:])} of {x.dtype}"
            )
        if not bool(torch.isfinite(x).all()):
            raise DataError("the encoded items contain NaN or infinite values")

    def to_json(self) -> dict[str, Any]:
        widths = None if self.widths is None else list(self.widths)
        return {"type": "continuous", "shape": list(self.shape), "levels": self.levels, "widths": widths}


@dataclass(frozen=True)
class Discrete:
    """Arrays of symbols 0 ... vocab_size - 1; `sizes` bounds the symbols of each position.

    `shares` (one tuple of `sizes[i]` numbers a position): how often the training data hold each symbol there, where
    the codec knows. Models start from these, see `start`. `unseen`: a symbol that stands for all that training lacks;
    it has a probability, so that anything can be scored, but samples never hold it. `row`: of symbols that are levels
    of one value, so that near ones are alike, how many stand in a row of a picture, or in a frame of a recording.
    """

    shape: tuple[int, ...]
    vocab_size: int
    sizes: tuple[int, ...] | None = None
    pad: int | None = None
    shares: tuple[tuple[float, ...], ...] | None = None
    unseen: int | None = None
    row: int | None = None

    @property
    def dims(self) -> int:
        return math.prod(self.shape)

    @property
    def sequence(self) -> bool:
        """Whether its symbols are of one alphabet and in a row, as in texts; columns and a single one are not."""
        return self.sizes is None and self.dims > 1

    def start(self) -> Tensor | None:
        """(dims, vocab_size) what a model adds to its logits; None where that is nothing.

        -inf for a symbol that its position does not allow, else the logarithm of its share of the training data, or 0
        where that is unknown. So a net that has learnt nothing yet draws symbols as often as the data hold them. From
        logits of 0 it would draw all alike, and rare ones, which it hardly ever sees, too often for long.
        """
        if self.sizes is None:
            return None
        out = torch.full((self.dims, self.vocab_size), -torch.inf)
        for row, size in enumerate(self.sizes):
            out[row, :size] = 0 if self.shares is None else torch.tensor(self.shares[row], dtype=torch.float64).log()
        return out

    def check(self, x: Tensor) -> None:
        """Raise DataError unless x is (B, *shape) of allowed symbols."""
        if tuple(x.shape[1:]) != self.shape or x.is_floating_point():
            raise DataError(
                f"expected encoded items of shape {self.shape} as integers, got shape {tuple(x.shape[1:])} of {x.dtype}"
            )
        top = torch.tensor(self.sizes or (self.vocab_size,)).to(x.device)
        if x.numel() and bool(((x < 0) | (x.flatten(1) >= top).view(x.shape)).any()):
            raise DataError(f"a symbol is not between 0 and {self.vocab_size - 1}, or not allowed at its position")

    def to_json(self) -> dict[str, Any]:
        sizes = None if self.sizes is None else list(self.sizes)
        return {
            "type": "discrete",
            "shape": list(self.shape),
            "vocab_size": self.vocab_size,
            "sizes": sizes,
            "pad": self.pad,
            "unseen": self.unseen,
            "row": self.row,
        }


Space = Continuous | Discrete
