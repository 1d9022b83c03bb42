"""Figures of the page about the generative adversarial network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from drawn.common import BLUE, GREEN, GREY, INK, RED, Made, bare, ring, seeded, trained

from quintet.core.spaces import Continuous
from quintet.families.gan import GAN


def dirac() -> Made:
    """The game of one number against one number (Mescheder et al. 2018): data at 0, G = theta, D(x) = psi x."""
    rate, steps = 0.1, 500

    def play(gamma: float) -> np.ndarray:
        theta, psi, path = 1.0, 0.5, [(1.0, 0.5)]
        for _ in range(steps):  # the critic's step, then the generator's: softplus(D(theta)) + gamma / 2 psi^2
            psi -= rate * (theta / (1 + math.exp(-psi * theta)) + gamma * psi)
            theta += rate * psi / (1 + math.exp(psi * theta))
            path.append((theta, psi))
        return np.array(path)

    paths = {gamma: play(gamma) for gamma in (0.0, 0.3)}
    ends = {gamma: float(np.hypot(*path[-1])) for gamma, path in paths.items()}
    numbers = {"start": f"{math.hypot(1, 0.5):.2f}", "without": f"{ends[0.0]:.2f}", "with": f"{ends[0.3]:.4f}"}

    def draw(plt: Any) -> Any:
        figure, all_axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharex=True, sharey=True)
        titles = "no penalty: around the answer, hardly nearer", r"$R_1$ with $\gamma=0.3$: into the answer"
        for axes, path, title, colour in zip(all_axes, paths.values(), titles, (RED, BLUE), strict=True):
            axes.plot(*path.T, color=colour, lw=1)
            axes.plot(*path[0], "o", color=INK, ms=5)
            axes.plot(0, 0, "*", color=GREEN, ms=12)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel(r"generator $\theta$")
        all_axes[0].set_ylabel(r"critic $\psi$")
        return figure

    return numbers, draw


def modes() -> Made:
    """A GAN on the ring of Gaussians, without a penalty and with the default of quintet, as training goes on."""
    x, at = ring(8000, 0), (200, 500, 1000, 1500)
    centres = 1.4 * torch.tensor([[math.cos(a), math.sin(a)] for a in np.arange(8) * math.pi / 4])
    snapshots, numbers = {}, {}
    for key, loss, gamma in (("plain", "non_saturating", 0.0), ("default", "relativistic", 1.0)):
        torch.manual_seed(0)
        settings = GAN.Settings(loss=loss, gamma=gamma, latent=8, width=64, critic_width=64)
        model, shots = GAN(Continuous((2,)), settings=settings), []
        for step, _ in enumerate(trained(model, x, at[-1], lr=1e-3, betas=(0.0, 0.99)), 1):
            if step in at:
                shots.append(model.sample(2000, generator=seeded(5)))
        snapshots[key] = shots
        for step, shot in zip(at, shots, strict=True):
            far, nearest = torch.cdist(shot, centres).min(1)
            share = torch.bincount(nearest[far < 0.25], minlength=8) / len(shot)
            numbers[f"{key}: modes after {step}"] = str(int((share > 0.02).sum()))
        numbers[f"{key}: near a mode after {at[-1]}"] = f"{100 * float((far < 0.25).double().mean()):.0f} %"

    def draw(plt: Any) -> Any:
        figure, grid = plt.subplots(2, 4, figsize=(8.2, 4.5))
        for row, (key, name) in zip(grid, (("plain", "no penalty"), ("default", "our default")), strict=True):
            for axes, shot, step in zip(row, snapshots[key], at, strict=True):
                axes.plot(*centres.T, "o", mfc="none", mec=GREY, ms=13)
                axes.plot(*shot[:600].T, ".", color=RED if key == "plain" else BLUE, ms=2, alpha=0.5)
                axes.set_title(f"step {step}: {numbers[f'{key}: modes after {step}']} of 8", fontsize=9)
                bare(axes, limit=2.2)
            row[0].set_ylabel(name)
        return figure

    return numbers, draw
