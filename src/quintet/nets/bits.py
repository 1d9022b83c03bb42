"""Symbols that stand as bits among real numbers: one distribution a symbol, and a smooth density of its bits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from quintet.core.random import Generator, categorical
from quintet.core.spaces import Continuous

TOGETHER = 6
"""Most bits that have one distribution, of 2^6 logits. The bits of a longer symbol are cut into pieces of so many."""
BENT = 0.95 * math.pi / 2
"""c of `narrow`. At pi / 2 no noise would reach the end of its bin, but the slope there would be infinite."""
SPREAD = 0.33993
"""The standard deviation of bits about -1 and 1 after `narrow`."""


class Alike(nn.Module):
    """Symbols of n bits each, (symbols, n) places, and p(bits) = softmax(logits)[k] with k = sum_i 2^i [bit_i = 1].

    With logits of 0 a bit is 1 as often as `shares` says, whatever the others are.
    """

    places: Tensor
    signs: Tensor
    start: Tensor

    def __init__(self, first: list[int], bits: int, shares: Tensor) -> None:
        super().__init__()
        places, pattern = torch.tensor(first)[:, None] + torch.arange(bits), torch.arange(2**bits)
        signs = (pattern[:, None] >> torch.arange(bits) & 1) * 2.0 - 1  # (patterns, bits)
        one = shares[places][:, None]
        start = torch.where(signs > 0, one, 1 - one).log().sum(-1).float()
        for name, value in {"places": places, "signs": signs, "start": start}.items():
            self.register_buffer(name, value, persistent=False)

    def log_prob(self, logits: Tensor, x: Tensor) -> Tensor:
        """(B, symbols, 1) ln p of the bits of x (B, dims)."""
        ones = x[:, self.places] > 0
        pattern = (ones << torch.arange(ones.shape[-1], device=x.device)).sum(-1, keepdim=True)
        return logits.log_softmax(-1).gather(-1, pattern)


class Symbols(nn.Module):
    """The symbols of a space: their bits are its dimensions of width 2, in `Continuous.groups`.

    `size` numbers are the logits of an item. They stand in lists, an entry (B, symbols, patterns) for those of one
    length.
    """

    there: Tensor
    order: Tensor

    def __init__(self, space: Continuous) -> None:
        super().__init__()
        first: dict[int, list[int]] = {}  # the first bits of the pieces of a length
        end = 0
        for size in space.groups or (1,) * space.dims:
            start, end = end, end + size
            for i in range(start, end, TOGETHER):
                if space.bits[i]:
                    first.setdefault(min(TOGETHER, end - i), []).append(i)
        shares = torch.tensor(space.shares or [0.5] * space.dims, dtype=torch.float64)
        alike = [Alike(first[bits], bits, shares) for bits in sorted(first)]
        self.alike, self.counts = nn.ModuleList(alike), [each.start.numel() for each in alike]
        self.size = sum(self.counts)
        places = [int(place) for each in alike for place in each.places.flatten()]
        order = [places.index(i) if bit else len(places) for i, bit in enumerate(space.bits)]
        self.register_buffer("there", torch.tensor(space.bits), persistent=False)
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def logits(self, numbers: Tensor) -> list[Tensor]:
        """(B, size) -> the logits of each length."""
        parts = self._each(numbers.split(self.counts, 1))
        return [part.view(-1, *each.start.shape) + each.start for each, part in parts]

    def seen(self, logits: list[Tensor], evidence: Tensor) -> list[Tensor]:
        """Logits given evidence (B, dims) of each bit b, ln p(y | b) = evidence * b + constant."""
        return [part + evidence[:, each.places] @ each.signs.T for each, part in self._each(logits)]

    def nats(self, logits: list[Tensor], x: Tensor) -> Tensor:
        """(B,) ln p of all bits of x."""
        found = [each.log_prob(part, x).flatten(1).sum(1) for each, part in self._each(logits)]
        return torch.stack(found).sum(0)

    def log_prob(self, logits: list[Tensor], x: Tensor) -> Tensor:
        """(B, dims): the nats of each symbol, shared evenly among its bits; 0 elsewhere."""
        found = []
        for each, part in self._each(logits):
            found.append((each.log_prob(part, x) / each.places.shape[1]).expand(-1, *each.places.shape))
        return self._placed(found, x)

    def mean(self, logits: list[Tensor], x: Tensor) -> Tensor:
        """x (B, dims) with the means of its bits, and 0 elsewhere."""
        found = [part.softmax(-1) @ each.signs for each, part in self._each(logits)]
        return self._placed(found, x)

    def sample(self, logits: list[Tensor], x: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        """x (B, dims) with bits that are drawn, the likeliest ones with temperature 0, and 0 elsewhere."""
        found = []
        for each, part in self._each(logits):
            pattern = categorical(part / temperature, generator) if temperature else part.argmax(-1)
            found.append(each.signs[pattern])
        return self._placed(found, x)

    def _each(self, parts: Sequence[Tensor]) -> Iterator[tuple[Alike, Tensor]]:
        for each, part in zip(self.alike, parts, strict=True):
            assert isinstance(each, Alike)
            yield each, part

    def _placed(self, found: list[Tensor], x: Tensor) -> Tensor:
        return torch.cat([*(part.flatten(1) for part in found), x.new_zeros(len(x), 1)], 1)[:, self.order]


def narrow(x: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, dims) with uniform noise of a bin about each bit -> y with noise in the middle of the bin, and log |det|
    (B,). It is dequantisation by another noise than uniform (Ho et al. 2019, arXiv:1902.00275), as a change of
    variables,

        y = b + A(A(x - b)),  A(u) = asin(u sin c) / c,  b = sign(x),

    of those dimensions that are `there`, which is one to one. The noise is nearly normal, of standard deviation
    `SPREAD`, and leaves a gap between two bits, so that small errors of a density do not take one for the other.
    """
    bit = torch.where(x > 0, 1.0, -1.0)
    inside = there & ((x - bit).abs() < 1)  # beyond its bin x stays as it is
    u = torch.where(inside, (x - bit) * math.sin(BENT), 0.0)
    v = torch.asin(u) / BENT * math.sin(BENT)
    slopes = 2 * math.log(math.sin(BENT) / BENT) - 0.5 * (torch.log1p(-u * u) + torch.log1p(-v * v))
    return torch.where(inside, bit + torch.asin(v) / BENT, x), torch.where(inside, slopes, 0.0).sum(1)


def widen(y: Tensor, there: Tensor) -> Tensor:
    """The inverse of `narrow`."""
    bit = torch.where(y > 0, 1.0, -1.0)
    inside = there & ((y - bit).abs() < 1)
    v = torch.sin(BENT * (y - bit)) / math.sin(BENT)
    return torch.where(inside, bit + torch.sin(BENT * v) / math.sin(BENT), y)
