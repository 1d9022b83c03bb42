"""What the figures share: the data, a training loop, colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from quintet.core.family import Batch, Family

INK, GREY, BLUE, RED, GREEN = "#1b1f24", "#8c959f", "#0b57b7", "#c9372c", "#1a7f37"
Made = tuple[dict[str, str], Callable[[Any], Any]]
"""Numbers by what they are, and a function that takes matplotlib.pyplot and returns a figure."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(family: Family, x: Tensor, steps: int, *, batch: int = 256, lr: float = 2e-3,
            betas: tuple[float, float] = (0.9, 0.999), seed: int = 0) -> Iterator[dict[str, float]]:  # fmt: skip
    """Train a family on x by Adam, the rate falling to zero; gives the losses of each step."""
    generator = seeded(seed)
    family.initialise(Batch(x[:1024], None, generator))
    objectives = family.objectives()
    optimisers = {
        name: torch.optim.Adam(objective.module.parameters(), lr=lr, betas=betas)
        for name, objective in objectives.items()
    }
    for step in range(steps):
        rows = torch.randint(len(x), (batch,), generator=generator)
        seen = Batch(family.noisy(x[rows], generator), None, generator, step / steps)
        losses = {}
        for name, objective in objectives.items():
            loss = objective.loss(seen)
            optimiser = optimisers[name]
            optimiser.param_groups[0]["lr"] = lr * min(1.0, 2 * (1 - step / steps))
            optimiser.zero_grad()
            loss.value.backward()
            nn.utils.clip_grad_norm_(objective.module.parameters(), 10.0)
            optimiser.step()
            losses[name] = float(loss.value.detach())
        yield losses


def fitted(family: Any, x: Tensor, steps: int, **given: Any) -> Any:
    """The family, trained and in evaluation mode."""
    for _ in trained(family, x, steps, **given):
        pass
    return family.eval()


@cache
def moons(n: int, seed: int) -> Tensor:
    """Two half-moons with noise 0.08, in float32 (n, 2), centred and of unit variance along each axis."""
    from sklearn.datasets import make_moons

    x = torch.from_numpy(make_moons(n, noise=0.08, random_state=seed)[0])
    return ((x - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5])).float()


@cache
def binary_digits() -> tuple[Tensor, Tensor]:
    """The 8x8 digits as rows of 64 numbers -1 and 1: 1,497 to train on and 300 that are not seen."""
    from sklearn.datasets import load_digits

    x = torch.from_numpy(load_digits().data)
    x = torch.where(x > 7.5, 1.0, -1.0).float()[torch.randperm(len(x), generator=seeded())]
    return x[300:], x[:300]


def bare(axes: Any, *, limit: float | None = None) -> None:
    """Without ticks; square, if there is a limit."""
    axes.set_xticks([])
    axes.set_yticks([])
    if limit is not None:
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")


def ring(n: int, seed: int) -> Tensor:
    """Eight Gaussians of standard deviation 0.05 on a circle of radius 1.4."""
    angle = 2 * math.pi / 8 * torch.randint(8, (n,), generator=seeded(seed))
    return 1.4 * torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2, generator=seeded(seed + 1))
