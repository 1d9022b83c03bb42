"""Random changes of items that gradients pass: for a critic that has few items to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from quintet.core.random import Generator, uniform

Change = Literal["colour", "translation", "cutout"]


def augmented(x: Tensor, changes: Sequence[Change], generator: Generator | None) -> Tensor:
    """T(x) of items (B, C, *size), each with random numbers of its own (Zhao et al. 2020, arXiv:2006.10738).

    A critic that sees T(data) and T(samples) only, and a generator whose gradient passes T, learn the distribution of
    the data itself as long as T loses nothing of it, while the critic cannot learn the few items by heart.
    """
    for change in changes:
        x = CHANGES[change](x, generator)
    return x


def draw(x: Tensor, count: int, generator: Generator | None) -> list[Tensor]:
    """`count` uniform numbers an item, each (B, 1, ...) as x has axes."""
    numbers = uniform(len(x), count, generator=generator, like=x)
    return [number.view(-1, *[1] * (x.dim() - 1)) for number in numbers.unbind(1)]


def colour(x: Tensor, generator: Generator | None) -> Tensor:
    """Brightness by -1/2 to 1/2; channels up to twice as far from their mean, or nearer; contrast by 1/2 to 3/2."""
    bright, saturation, contrast = draw(x, 3, generator)
    x = x + (bright - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    middle = x.mean(tuple(range(1, x.dim())), keepdim=True)
    return middle + (x - middle) * (contrast + 0.5)


def translation(x: Tensor, generator: Generator | None) -> Tensor:
    """By up to an eighth of the size along every axis; what enters is 0."""
    for axis, by in enumerate(draw(x, x.dim() - 2, generator), start=2):
        size = x.shape[axis]
        most = round(size / 8)
        at = along(x, axis) - ((by * (2 * most + 1)).long() - most)
        moved = x.gather(axis, at.clamp(0, size - 1).expand_as(x))
        x = moved * ((at >= 0) & (at < size))
    return x


def cutout(x: Tensor, generator: Generator | None) -> Tensor:
    """A window of half the size along every axis, anywhere at least in part, is 0."""
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for axis, centre in enumerate(draw(x, x.dim() - 2, generator), start=2):
        size = x.shape[axis]
        first = (centre * (size + 1 - size % 2)).long() - size // 4
        inside = inside & (along(x, axis) >= first) & (along(x, axis) < first + size // 2)
    return x * ~inside


def along(x: Tensor, axis: int) -> Tensor:
    """0, 1, ... along an axis of x, with as many axes."""
    return torch.arange(x.shape[axis], device=x.device).view([-1 if i == axis else 1 for i in range(x.dim())])


CHANGES = {"colour": colour, "translation": translation, "cutout": cutout}
