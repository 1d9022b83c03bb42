"""Figures of the page about evaluating samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from drawn.common import BLUE, GREY, INK, RED, Made, bare, binary_digits, fitted, ring, seeded
from torch import Tensor

from quintet.core.spaces import Continuous
from quintet.families.vae import VAE
from quintet.metrics.classifiers import classifier_two_sample
from quintet.metrics.distances import energy_distance, frechet_distance, prdc
from quintet.metrics.memorisation import memorised_share, nearer_to_training


def samplers() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Five ways to draw 1,000 points "like" the ring, each with the training items and unseen items."""
    train, unseen = ring(1000, 10), ring(1000, 20)
    fresh = ring(4000, 30)
    angle = torch.atan2(fresh[:, 1], fresh[:, 0])
    root = torch.linalg.cholesky(torch.cov(fresh.T))
    made = {
        "new": fresh[:1000],
        "copies": train + 1e-3 * torch.randn(1000, 2, generator=seeded(40)),
        "dropped": fresh[angle.abs() < 2.0][:1000],
        "blurred": fresh[:1000] + 0.15 * torch.randn(1000, 2, generator=seeded(41)),
        "gaussian": torch.randn(1000, 2, generator=seeded(42)) @ root.T + fresh.mean(0),
    }
    return {key: (train, unseen, x) for key, x in made.items()}


def blind() -> Made:
    """What the figures of `quintet evaluate` say of five samplers, four of which are wrong, each in its way."""
    numbers, shots = {}, {}
    for key, (train, unseen, made) in samplers().items():
        shots[key] = made
        sides = [side.double().numpy() for side in (train, unseen, made)]
        parts = prdc(sides[1], sides[2])
        found = {
            "frechet": frechet_distance(*sides[1:]).value,
            "energy": energy_distance(*sides[1:]).value,
            "precision": parts["precision"].value,
            "recall": parts["recall"].value,
            "coverage": parts["coverage"].value,
            "auc": classifier_two_sample(*sides[1:]).value,
            "nearer": nearer_to_training(*sides).value,
            "memorised": float(memorised_share(*sides)["share"]),
        }
        numbers |= {
            f"{key}: {name}": f"{value:.3f}" if name in ("frechet", "energy") else f"{value:.2f}"
            for name, value in found.items()
        }

    def draw(plt: Any) -> Any:
        figure, all_axes = plt.subplots(1, 5, figsize=(8.4, 2.0))
        titles = "new draws", "copies of training", "three modes left out", "blurred", "one Gaussian"
        for axes, made, title in zip(all_axes, shots.values(), titles, strict=True):
            axes.plot(*made.T, ".", color=BLUE, ms=1.5, alpha=0.6)
            axes.set_title(title, fontsize=9)
            bare(axes, limit=3.2)
        return figure

    return numbers, draw


def size() -> Made:
    """The Frechet distance of two samples of one distribution, N(0, 1) in 64 dimensions, by their size."""
    sizes, rng = (100, 200, 400, 800, 1600, 3200), np.random.default_rng(0)
    found = [np.mean([frechet_distance(*rng.normal(size=(2, n, 64))).value for _ in range(5)]) for n in sizes]
    wide = [np.mean([frechet_distance(rng.normal(size=(n, 64)), 1.1 * rng.normal(size=(n, 64))).value
                     for _ in range(5)]) for n in sizes]  # fmt: skip
    numbers = {
        "right, N = 100": f"{found[0]:.1f}",
        "wide, N = 100": f"{wide[0]:.1f}",
        "right, N = 3200": f"{found[-1]:.2f}",
        "wide, N = 3200": f"{wide[-1]:.2f}",
    }

    def draw(plt: Any) -> Any:
        figure, axes = plt.subplots(figsize=(5.6, 2.8))
        axes.plot(sizes, wide, "o-", color=RED, label="10 % too wide")
        axes.plot(sizes, found, "o-", color=BLUE, label="the right distribution")
        axes.axhline(0.64, color=RED, lw=1, ls=":", label="10 % too wide, infinitely many items")
        axes.legend(fontsize=8)
        axes.set(xscale="log", yscale="log", xlabel="items a side, N", ylabel="Fréchet distance")
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.minorticks_off()
        return figure

    return numbers, draw


def paired() -> Made:
    """Two VAEs of the digits, item by item: the interval of the difference of means, and of the mean difference."""
    train, test = binary_digits()
    scores = []
    for latent in (8, 3):
        torch.manual_seed(0)
        settings = VAE.Settings(net="mlp", latent=latent, width=128, importance=64)
        model = fitted(VAE(Continuous((64,), levels=2), settings=settings), train, 800, batch=128)
        nats = model.log_prob(test, generator=seeded(1)) + 64 * math.log(2)  # the mass of a pixel, not its density
        scores.append(nats.double().numpy())
    a, b = scores
    n = len(test)
    apart = 1.96 * math.hypot(a.std(ddof=1), b.std(ddof=1)) / math.sqrt(n)
    together = 1.96 * (a - b).std(ddof=1) / math.sqrt(n)
    numbers = {
        "mean of a": f"{a.mean():.2f}",
        "mean of b": f"{b.mean():.2f}",
        "difference": f"{(a - b).mean():.2f}",
        "half interval, unpaired": f"{apart:.2f}",
        "half interval, paired": f"{together:.2f}",
        "correlation": f"{np.corrcoef(a, b)[0, 1]:.2f}",
    }

    def draw(plt: Any) -> Any:
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.0), width_ratios=(1, 1.3))
        left.plot(b, a, ".", color=BLUE, ms=3)
        left.axline((-20, -20), slope=1, color=GREY, lw=1)
        left.set(xlabel="nats of an item, 3 latents", ylabel="nats of it, 8 latents")
        for place, half, name, colour in ((1, apart, "unpaired", RED), (0, together, "paired", BLUE)):
            right.errorbar((a - b).mean(), place, xerr=half, fmt="o", color=colour, capsize=4, label=name)
        right.axvline(0, color=INK, lw=1)
        right.set(xlabel="difference of the means, nats an item", yticks=[0, 1], ylim=(-0.6, 1.6))
        right.set_yticklabels(["paired", "unpaired"])
        return figure

    return numbers, draw
