"""Randomness is an argument: a `torch.Generator`, or `Rows`, whose numbers belong to rows.

Row i of a stream is the same number however the stream is cut into batches, micro-batches or ranks. So sample 7 does
not depend on how many others were asked for, and the noise of a training item does not depend on the number of
processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from any names and numbers: independent streams for ("noise", seed, step) and the like."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Rows:
    """Rows `start ... start + count` of an endless random stream, drawn in blocks of `block` rows with a seed each."""

    def __init__(self, seed: int | tuple[int | str, ...], start: int, count: int, *, block: int = 64) -> None:
        self.seed, self.start, self.count, self.block = seed, start, count, block
        self._generators: list[torch.Generator] | None = None

    def draw(self, sampler: Callable[[torch.Generator], Tensor], device: torch.device) -> Tensor:
        """Rows of ours out of whole blocks; `sampler(generator)` draws one block."""
        first, last = self.start // self.block, -(-(self.start + self.count) // self.block)
        if self._generators is None:  # hashing and seeding wait until a number is asked for
            seeds = (seed_of(str(self.seed), index) for index in range(first, last))
            self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        blocks = [sampler(generator) for generator in self._generators]
        offset = self.start - first * self.block
        return (blocks[0] if len(blocks) == 1 else torch.cat(blocks))[offset : offset + self.count]


Generator = torch.Generator | Rows


def _draw(
    kind: str, shape: tuple[int, ...], generator: Generator | None, device: torch.device, dtype: torch.dtype
) -> Tensor:
    sample: Callable[..., Tensor] = torch.randn if kind == "normal" else torch.rand
    if isinstance(generator, Rows):
        rows, tail = generator, shape[1:]
        if shape[0] != rows.count:
            raise ValueError(f"a stream of {rows.count} rows was asked for {shape[0]}")
        return rows.draw(lambda g: sample((rows.block, *tail), generator=g, device=device, dtype=dtype), device)
    return sample(shape, generator=generator, device=device, dtype=dtype)


def normal(*shape: int, generator: Generator | None, like: Tensor) -> Tensor:
    """Standard normal numbers on the device and in the dtype of `like`."""
    return _draw("normal", shape, generator, like.device, like.dtype)


def uniform(*shape: int, generator: Generator | None, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Uniform numbers on [0, 1) on the device of `like`."""
    return _draw("uniform", shape, generator, like.device, dtype or like.dtype)


def categorical(logits: Tensor, generator: Generator | None) -> Tensor:
    """One symbol a row from `logits` (B, ..., V), by the exponential race, in float64.

    argmax_v p_v / e_v with e_v ~ Exp(1) is distributed as p. In float32 the smallest uniform number cuts the tail off
    and sharpens samples.
    """
    u = uniform(*logits.shape, generator=generator, like=logits, dtype=torch.float64)
    race = torch.log_softmax(logits.double(), -1) - torch.log(-torch.log1p(-u).clamp_max(-1e-300))
    return race.argmax(-1)
