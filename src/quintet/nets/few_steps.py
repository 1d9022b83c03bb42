"""What a net must learn to make an item in one to four evaluations: average velocities, or one item at all levels.

Both are in z = y / sqrt(s^2 + SD^2) = cos(theta) x / SD + sin(theta) noise with theta = arctan(s / SD), whose velocity
is v = dz/dtheta = cos(theta) noise - sin(theta) x / SD; or in y = x + s noise itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from quintet.nets.noise import S_MAX, S_MIN

Average = Callable[[Tensor, Tensor], Tensor]
"""u(z, theta) with z (B, ...) and theta (B,) -> (B, ...), to an angle r (B,) that is fixed."""

STAGES, SHRINK = 8, 2.0
"""Times that the gap between neighbouring levels shrinks by that factor while a model trains."""
SMALL = 1e-3
"""Errors below it count by their squares."""


def wide(scale: Tensor, like: Tensor) -> Tensor:
    """scale (B,) for products with `like` (B, ...)."""
    return scale.view(-1, *[1] * (like.dim() - 1))


def average_target(average: Average, z: Tensor, v: Tensor, r: Tensor, theta: Tensor) -> Tensor:
    """What the average velocity u(z, r, theta) from r to theta must be (MeanFlow, Geng et al. 2025, arXiv:2505.13447):

        u = v - (theta - r) du/dtheta,    du/dtheta = the derivative of u along (dz, dr, dtheta) = (v, 0, 1),

    which is d/dtheta of (theta - r) u = int_r^theta v, for z, v (B, ...) and r, theta (B,). It is held fixed.
    """
    return v - wide(theta - r, z) * along(average, (z, theta), (v, torch.ones_like(theta)))


@torch.no_grad()
def along(f: Average, at: tuple[Tensor, Tensor], by: tuple[Tensor, Tensor]) -> Tensor:
    """The derivative of f at a point along a direction, by one forward-mode product.

    Fused attention has no such product: the plain one is taken.
    """
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        value = f(*(forward_ad.make_dual(*pair) for pair in zip(at, by, strict=True)))
        change: Tensor = forward_ad.unpack_dual(value).tangent
    return change


def tuning_level(t: Tensor) -> Tensor:
    """ln s ~ N(-1.1, 2^2) for t uniform on [0, 1]: those from which an item is made are seen (arXiv:2406.14548)."""
    return torch.exp(-1.1 + 2.0 * torch.special.ndtri(t)).nan_to_num(S_MAX).clamp(S_MIN, S_MAX)


def nearer_level(s: Tensor, progress: float) -> Tensor:
    """The level r < s at which an item is to look as it does at s (ECT, Geng et al. 2024, arXiv:2406.14548):

        r = s max(0, 1 - n(s) / q^(a + 1)),    n(s) = 1 + 8 sigmoid(-s),

    in the stage a = 0, 1, ..., of `progress`, the share of training that is done. A level below S_MIN is 0.
    """
    stage = min(STAGES - 1, int(STAGES * progress))
    r = s * (1 - (1 + 8 * torch.sigmoid(-s)) / SHRINK ** (stage + 1))
    return torch.where(r < S_MIN, 0, r)


def adaptive(square: Tensor) -> Tensor:
    """ln(|error|^2 + c) of squared errors (B,): its gradient is that of |error|^2 with weights 1 / (|error|^2 + c), as
    MeanFlow has them (power 1), so that no pair of levels outweighs the others.
    """
    return (square + SMALL).log()


def robust(square: Tensor) -> Tensor:
    """sqrt(|error|^2 + c^2) of squared errors (B,), so that few large ones do not decide (pseudo-Huber, as ECT)."""
    return (square + SMALL**2).sqrt()
