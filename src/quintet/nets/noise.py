"""Noise levels s of diffusion, and how a net makes D(y, s) = E[x | y] at each of them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Parameterisation = Literal["edm", "noise", "v", "velocity"]
Schedule = Literal["lognormal", "linear", "cosine", "uniform"]

SD = 0.5
"""Data are scaled to this standard deviation, for which EDM's constants are stated."""
S_MIN, S_MAX = 0.002, 80.0


def coefficients(kind: Parameterisation, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in of D = c_skip y + c_out F(c_in y), where

    noise (DDPM):           F = noise,            alpha = 1 / sqrt(1 + s^2)
    v (Salimans & Ho 2022): F = alpha noise - sigma x
    velocity (Lipman 2023): F = noise - x,        alpha = 1 - t, sigma = t
    edm (Karras 2022):      F of unit variance, and the least amplification of its errors
    """
    if kind == "edm":
        total = (s**2 + SD**2).sqrt()
        return SD**2 / total**2, s * SD / total, 1 / total
    if kind == "velocity":
        return 1 / (1 + s), -s / (1 + s), 1 / (1 + s)
    alpha = (1 + s**2).rsqrt()
    return (alpha**2, -s * alpha, alpha) if kind == "v" else (torch.ones_like(s), -s, alpha)


def noise_level(schedule: Schedule, t: Tensor) -> Tensor:
    """s(t), increasing in t on [0, 1].

    lognormal: ln s ~ N(-1.2, 1.2^2); linear: the variance-preserving path with beta from 0.1 to 20; cosine: s = tan(pi
    t / 2) (Nichol & Dhariwal 2021); uniform: s = t / (1 - t), flow matching.
    """
    if schedule == "lognormal":
        s = torch.exp(-1.2 + 1.2 * torch.special.ndtri(t))
    elif schedule == "linear":
        s = torch.expm1(0.1 * t + 0.5 * 19.9 * t**2).sqrt()
    else:
        s = torch.tan(0.5 * math.pi * t) if schedule == "cosine" else t / (1 - t)
    return s.nan_to_num(S_MAX).clamp(S_MIN, S_MAX)


def noise_time(schedule: Schedule, s: float) -> float:
    """The t at which `noise_level` is s, of the schedules that are even in t."""
    if schedule == "linear":  # 9.95 t^2 + 0.1 t = ln(1 + s^2)
        return (math.sqrt(0.01 + 4 * 9.95 * math.log1p(s * s)) - 0.1) / (2 * 9.95)
    return 2 / math.pi * math.atan(s) if schedule == "cosine" else s / (1 + s)


def noise_grid(schedule: Schedule, steps: int, *, like: Tensor, low: float = S_MIN) -> Tensor:
    """S_MAX = s_0 > ... > s_{steps - 1} = low > s_steps = 0: even in t, or EDM's grid (rho = 7) for `lognormal`.

    No level occurs twice: solvers divide by the logarithm of a step.
    """
    if schedule == "lognormal":
        s = torch.linspace(S_MAX ** (1 / 7), low ** (1 / 7), steps, dtype=torch.float64) ** 7
    else:
        ends = noise_time(schedule, S_MAX), noise_time(schedule, low)
        s = noise_level(schedule, torch.linspace(*ends, steps, dtype=torch.float64))
    return torch.cat([s, torch.zeros(1, dtype=torch.float64)]).to(like)
