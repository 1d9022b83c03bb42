"""From noise to an item: solvers of the probability flow, and jumps along it, that see only D(y, s) and levels s."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from quintet.nets.noise import S_MAX, S_MIN, SD

Denoise = Callable[..., Tensor]
"""D(y, s) with y (B, ...) and s () -> (B, ...); of a model of average velocities D(y, s, r) too, with r () as s is."""
Noise = Callable[[], Tensor]
Solver = Callable[[Denoise, Tensor, Tensor, Noise], Iterator[Tensor]]
"""Gives y at the levels s below the first, one after another."""


def angular(denoise: Denoise, z: Tensor, s: Tensor) -> Tensor:
    """The probability flow of z = y / sqrt(s^2 + SD^2) in theta = arctan(s / SD), where it is smooth and bounded:

    dz/dtheta = (SD^2 / (s^2 + SD^2) y - D(y, s)) sqrt(s^2 + SD^2) / (s SD), which is -F of EDM (Lu & Song 2024).
    """
    total = (s**2 + SD**2).sqrt()
    y = z * total
    return (SD**2 / total**2 * y - denoise(y, s)) * total / (s * SD)


def flow_grid(steps: int, *, like: Tensor) -> Tensor:
    """S_MIN ... S_MAX, even in ln s."""
    return torch.logspace(math.log10(S_MIN), math.log10(S_MAX), steps + 1, dtype=torch.float64).to(like)


def rk4(slopes: Callable[..., tuple[Tensor, ...]], state: tuple[Tensor, ...], s: Tensor) -> tuple[Tensor, ...]:
    """Classical Runge-Kutta in theta = arctan(s / SD) along the levels s; `slopes(*state, s)` is d(state)/d(theta)."""
    theta = torch.atan(s / SD)
    for i in range(len(s) - 1):
        h, middle = theta[i + 1] - theta[i], SD * torch.tan((theta[i] + theta[i + 1]) / 2)
        k1 = slopes(*state, s[i])
        k2 = slopes(*(x + h / 2 * k for x, k in zip(state, k1, strict=True)), middle)
        k3 = slopes(*(x + h / 2 * k for x, k in zip(state, k2, strict=True)), middle)
        k4 = slopes(*(x + h * k for x, k in zip(state, k3, strict=True)), s[i + 1])
        state = tuple(x + h / 6 * (a + 2 * b + 2 * c + d) for x, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True))
    return state


def heun(denoise: Denoise, y: Tensor, s: Tensor, noise: Noise) -> Iterator[Tensor]:
    """Second order: the trapezoid rule, and Euler into s = 0 (Karras et al. 2022, algorithm 1)."""
    for high, low in pairwise(s):
        slope, h = (y - denoise(y, high)) / high, low - high
        ahead = y + h * slope
        if low > 0:
            slope = 0.5 * (slope + (ahead - denoise(ahead, low)) / low)
            ahead = y + h * slope
        yield (y := ahead)


def ddim(denoise: Denoise, y: Tensor, s: Tensor, noise: Noise) -> Iterator[Tensor]:
    """First order: x and noise held fixed over a step (Song et al. 2021, arXiv:2010.02502); Euler in s."""
    for high, low in pairwise(s):
        d = denoise(y, high)
        yield (y := d + low / high * (y - d))


def ancestral(denoise: Denoise, y: Tensor, s: Tensor, noise: Noise) -> Iterator[Tensor]:
    """DDPM: each level is drawn given the one above it and x = D(y, s)."""
    for high, low in pairwise(s):
        yield (y := posterior(denoise(y, high), y, high, low, noise))


def dpmpp_2m(denoise: Denoise, y: Tensor, s: Tensor, noise: Noise) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095): exact for D linear in lambda = -ln s between two steps."""
    old: tuple[Tensor, Tensor] | None = None  # the last D and the last step in lambda
    for high, low in pairwise(s):
        ahead = d = denoise(y, high)
        if low > 0:
            h = (high / low).log()
            ahead = d if old is None else d + h / (2 * old[1]) * (d - old[0])
            old = d, h
        yield (y := low / high * y + (1 - low / high) * ahead)


SOLVERS: dict[str, Solver] = {
    "heun": heun,
    "ddim": ddim,
    "ancestral": ancestral,
    "dpmpp_2m": dpmpp_2m,
}


def jumps(denoise: Denoise, y: Tensor, s: Tensor, noise: Noise) -> Iterator[Tensor]:
    """Along average velocities: z_r = z_theta - (theta - r) u(z, r, theta) (Geng et al. 2025, arXiv:2505.13447)."""
    for high, low in pairwise(s):
        z, step = y / (high**2 + SD**2).sqrt(), torch.atan(high / SD) - torch.atan(low / SD)
        z = z - step * angular(lambda y, s, low=low: denoise(y, s, low), z, high)
        yield (y := z * (low**2 + SD**2).sqrt())


def restarts(denoise: Denoise, y: Tensor, s: Tensor, noise: Noise) -> Iterator[Tensor]:
    """Each D is an item, of which all but the last are noised again (Song et al. 2023, arXiv:2303.01469)."""
    for high, low in pairwise(s):
        d = denoise(y, high)
        yield (y := d + low * noise() if low > 0 else d)


def jump_grid(jumps: int, *, like: Tensor) -> Tensor:
    """S_MAX = s_0 > ... > s_jumps = 0, even in theta = arctan(s / SD)."""
    theta = torch.linspace(math.atan(S_MAX / SD), 0, jumps + 1, dtype=torch.float64)
    return (SD * theta.tan()).to(like)


def posterior(x: Tensor, y: Tensor, high: Tensor, low: Tensor, noise: Noise) -> Tensor:
    """A draw of q(y at the level `low` | y at the level `high`, x), of variance low^2 (high^2 - low^2) / high^2."""
    ratio = (low / high) ** 2
    mean = x + ratio * (y - x)
    return mean + low * (1 - ratio).sqrt() * noise() if low > 0 else mean


def langevin(
    denoise: Denoise, y: Tensor, v: Tensor, s: Tensor, free: Tensor, steps: int, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Underdamped Langevin dynamics of the `free` entries of y, the others held, at the noise level s.

    In units of s the potential has the gradient (y - D(y, s)) / s and a curvature between 0 and 1 whatever the data
    are, so one step size, 1, serves all levels. The splitting is BAOAB (Leimkuhler & Matthews 2013, arXiv:1203.5428),
    whose positions have no bias for a Gaussian. v is the velocity, kept from level to level.
    """
    damping = 0.8
    pull = (y - denoise(y, s)) / s if steps else y
    for _ in range(steps):
        v = v - 0.5 * pull
        y = torch.where(free, y + 0.5 * s * v, y)
        v = damping * v + (1 - damping**2) ** 0.5 * noise()
        y = torch.where(free, y + 0.5 * s * v, y)
        pull = (y - denoise(y, s)) / s
        v = v - 0.5 * pull
    return y, v
