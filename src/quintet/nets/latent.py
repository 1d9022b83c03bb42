"""Search and sampling by the gradient of an energy: each row is a chain of its own, whatever batch it is in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quintet.core.random import Generator, normal, uniform

Energy = Callable[[Tensor], Tensor]
"""u (B, D) -> -log density (B,) in nats, up to a constant a row."""

ACCEPTANCE = 0.8
"""What step sizes are tuned to (Hoffman & Gelman 2014, arXiv:1111.4246)."""


def slope(energy: Energy, u: Tensor) -> tuple[Tensor, Tensor]:
    """energy(u) (B,) and its gradient (B, D); parameters get none."""
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        value = energy(u)
        (gradient,) = torch.autograd.grad(value.sum(), u)
    return value.detach(), gradient


def nearest_candidate(candidates: Tensor, x: Tensor, known: Tensor, scale: Tensor) -> Tensor:
    """(B,) index of the candidate (B, K, D) nearest to x (B, D) in its known entries, in units of `scale` (B, D).

    As K grows, the rest of the nearest candidate becomes a draw given what is known: so chains start in all modes.
    """
    gap = (candidates - x[:, None]) / scale[:, None]
    return torch.where(known[:, None], gap, 0.0).square().sum(2).argmin(1)


def descend(energy: Energy, u: Tensor, *, steps: int, lr: float = 0.1) -> Tensor:
    """u (B, D) after `steps` of Adam (Kingma & Ba 2015) on the energy, the rate falling to 0 linearly."""
    mean, square = torch.zeros_like(u), torch.zeros_like(u)
    for step in range(1, steps + 1):
        gradient = slope(energy, u)[1].nan_to_num(0.0, 0.0, 0.0)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
        move = mean / (1 - 0.9**step) / ((square / (1 - 0.99**step)).sqrt() + 1e-8)
        u = u - lr * (1 - (step - 1) / steps) * move
    return u


def hamiltonian(
    energy: Energy,
    u: Tensor,
    *,
    moves: int,
    generator: Generator | None,
    scale: Tensor | float = 1.0,
    leaps: int = 5,
    report: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """u (B, D) after `moves` of Hamiltonian Monte Carlo on exp(-energy) (Neal 2011, arXiv:1206.1901).

    A move draws a velocity v ~ N(0, 1), takes `leaps` leapfrog steps of size eps * scale, and is accepted with
    probability min(1, exp(H(old) - H(new))), H = energy + |v|^2 / 2. `scale` (B, D) is about the spread of u; eps is
    tuned for each row in the first half of the moves. The size of a move is jittered, so that no orbit closes.
    """
    size = u.new_full((len(u), 1), u.shape[1] ** -0.25).log()
    value, gradient = slope(energy, u)
    for move in range(1, moves + 1):
        v = normal(*u.shape, generator=generator, like=u)
        chance = uniform(len(u), 2, generator=generator, like=u)
        eps = size.exp() * (0.8 + 0.4 * chance[:, :1]) * scale
        ahead, pull, start = u, gradient, value + 0.5 * v.square().sum(1)
        for _ in range(leaps):
            v = v - 0.5 * eps * pull
            ahead = ahead + eps * v
            there, pull = slope(energy, ahead)
            v = v - 0.5 * eps * pull
        ratio = (start - there - 0.5 * v.square().sum(1)).nan_to_num(-torch.inf, torch.inf, -torch.inf)
        accept = ratio.clamp_max(0).exp()
        taken = chance[:, 1] < accept
        u, gradient = torch.where(taken[:, None], ahead, u), torch.where(taken[:, None], pull, gradient)
        value = torch.where(taken, there, value)
        if 2 * move <= moves:  # tuning for longer would slow chains down near a wall, and leave them there
            size = size + (accept[:, None] - ACCEPTANCE) * move**-0.6
        if report is not None:
            report(move, u)
    return u
