"""Randomness is an argument: a `torch.Generator`, or `Rows`, whose numbers belong to rows.

Row i of a stream is the same number however the stream is cut into batches, micro-batches or ranks. So sample 7 does
not depend on how many others were asked for, and the noise of a training item does not depend on the number of
processes. Nor does it matter which requests are answered together: `Rows.joined`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence, Sized

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from any names and numbers: independent streams for ("noise", seed, step) and the like."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def some(items: int | Sized, count: int, seed: int) -> NDArray[np.int64]:
    """The indices, in rising order, of `count` items drawn by `seed` without replacement: all, if there are no more.

    `items` are the items or their number. This is how quintet takes fewer items than there are. The first few of a
    folder of classes are of one class, and every hundredth row of a table in which four products alternate is of one
    product; a drawn item is as likely to be any of them.
    """
    total = items if isinstance(items, int) else len(items)
    if count >= total:
        return np.arange(total, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(total, max(0, count), replace=False)).astype(np.int64)


class Rows:
    """Rows `start ... start + count` of an endless random stream, drawn in blocks of `block` rows with a seed each; or
    several such pieces of streams one behind the other: see `joined`.
    """

    def __init__(self, seed: int | tuple[int | str, ...], start: int, count: int, *, block: int = 64) -> None:
        self.seed, self.start, self.count, self.block = seed, start, count, block
        self.parts: tuple[Rows, ...] = (self,)
        self._generators: list[torch.Generator] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all parts as one stream: each keeps its numbers, whatever stands beside it."""
        if len(parts) == 1:
            return parts[0]
        rows = cls(0, 0, sum(part.count for part in parts))
        rows.parts = tuple(one for part in parts for one in part.parts)
        return rows

    def draw(self, sampler: Callable[[int, torch.Generator], Tensor], device: torch.device) -> Tensor:
        """Rows of ours out of whole blocks; `sampler(rows, generator)` draws one block."""
        if len(self.parts) > 1:
            return torch.cat([part.draw(sampler, device) for part in self.parts])
        first, last = self.start // self.block, -(-(self.start + self.count) // self.block)
        if self._generators is None:  # hashing and seeding wait until a number is asked for
            seeds = (seed_of(str(self.seed), index) for index in range(first, last))
            self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        blocks = [sampler(self.block, generator) for generator in self._generators]
        offset = self.start - first * self.block
        return (blocks[0] if len(blocks) == 1 else torch.cat(blocks))[offset : offset + self.count]


class Tape:
    """Numbers in the place of a generator: those that are given, in the order in which they are asked for.

    Without any it draws by a seed, and keeps what it drew: so a function of random numbers becomes one of tensors.
    """

    def __init__(self, numbers: Sequence[Tensor] | None = None, seed: int = 0) -> None:
        self.numbers: list[Tensor] = list(numbers or ())
        self.kinds: list[str] = []
        self.drawn = None if numbers else torch.Generator().manual_seed(seed)

    def take(self, kind: str, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
        """The next numbers."""
        if self.drawn is not None:
            self.numbers.append(_draw(kind, shape, self.drawn, device, dtype))
        self.kinds.append(kind)
        return self.numbers[len(self.kinds) - 1]


Generator = torch.Generator | Rows | Tape


def _draw(
    kind: str, shape: tuple[int, ...], generator: Generator | None, device: torch.device, dtype: torch.dtype
) -> Tensor:
    sample: Callable[..., Tensor] = torch.randn if kind == "normal" else torch.rand
    if isinstance(generator, Rows):
        rows, tail = generator, shape[1:]
        if shape[0] != rows.count:
            raise ValueError(f"a stream of {rows.count} rows was asked for {shape[0]}")
        return rows.draw(lambda n, g: sample((n, *tail), generator=g, device=device, dtype=dtype), device)
    if isinstance(generator, Tape):
        return generator.take(kind, shape, device, dtype)
    return sample(shape, generator=generator, device=device, dtype=dtype)


def normal(*shape: int, generator: Generator | None, like: Tensor) -> Tensor:
    """Standard normal numbers on the device and in the dtype of `like`."""
    return _draw("normal", shape, generator, like.device, like.dtype)


def uniform(*shape: int, generator: Generator | None, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Uniform numbers on [0, 1) on the device of `like`."""
    return _draw("uniform", shape, generator, like.device, dtype or like.dtype)


def categorical(logits: Tensor, generator: Generator | None) -> Tensor:
    """One symbol a row from `logits` (B, ..., V)."""
    return quantile(logits, uniform(*logits.shape[:-1], generator=generator, like=logits, dtype=torch.float64))


def quantile(logits: Tensor, u: Tensor) -> Tensor:
    """The symbol at u (B, ...) in [0, 1) of the distribution with `logits` (B, ..., V), by its cumulative sum.

    In float64: in float32 the tail is cut off, which sharpens samples.
    """
    mass = logits.double().softmax(-1).cumsum(-1)
    point = u.double().clamp_max(1 - 2**-50)[..., None] * mass[..., -1:]
    return (mass <= point).sum(-1)


def spread(n: int, *, generator: Generator | None, like: Tensor) -> Tensor:
    """(n,) numbers that are each uniform on [0, 1) and together even: (v + i / golden ratio) mod 1, in float64.

    v is one number of the stream and i the row's place in it: however the stream is cut, row i has the same number.
    """
    if isinstance(generator, Rows):
        pieces = [(seed_of(str(part.seed), "spread") / 2**63, part.start, part.count) for part in generator.parts]
    else:
        pieces = [(float(uniform(generator=generator, like=like, dtype=torch.float64)), 0, n)]
    golden = (5**0.5 - 1) / 2
    out = [v + torch.arange(first, first + count, dtype=torch.float64) * golden for v, first, count in pieces]
    return torch.cat(out).to(like.device) % 1
