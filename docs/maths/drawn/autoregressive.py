"""Figures of the page about the autoregressive model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from drawn.common import BLUE, GREEN, GREY, INK, RED, Made, fitted, seeded, trained
from torch import Tensor

from quintet.core.spaces import Discrete
from quintet.families.autoregressive import Autoregressive


def waves(n: int, length: int, seed: int) -> Tensor:
    """Sine waves of random frequency and phase, rounded to 32 levels: (n, length) symbols."""
    u = torch.rand(n, 2, 1, generator=seeded(seed))
    phase = 2 * math.pi * u[:, 0] + (0.25 + 0.35 * u[:, 1]) * torch.arange(length)
    return ((phase.sin() + 1) / 2 * 31).round().long()


def exposure() -> Made:
    """Waves continued from their first 24 symbols: how far from the true wave, drawn step by step, or one step at a
    time after true symbols; and how far the wave is that fits the 24 symbols best.
    """
    length, begun = 96, 24
    torch.manual_seed(0)
    settings = Autoregressive.Settings(width=64, depth=2, heads=4)
    model = fitted(Autoregressive(Discrete((length,), 32), settings=settings), waves(4000, length, 0), 400, batch=32)
    real = waves(200, length, 7)
    with torch.no_grad():
        known = (torch.arange(length) < begun).expand(len(real), -1)
        free = model.complete(real, known, generator=seeded(3))
        logits = model.logits(real[:, :-1], model.given(None, len(real)))
        one = torch.distributions.Categorical(logits=logits).sample()
    phases, speeds = torch.meshgrid(torch.arange(360) * math.pi / 180, torch.linspace(0.25, 0.6, 400), indexing="ij")
    waves_there = (phases.flatten()[:, None] + speeds.flatten()[:, None] * torch.arange(length)).sin()
    level = real / 31 * 2 - 1
    nearest = torch.cat([torch.cdist(part, waves_there[:, :begun]).argmin(1) for part in level[:, :begun].split(20)])
    made = {"one": one / 31 * 2 - 1, "free": free / 31 * 2 - 1, "best": waves_there[nearest]}
    curves = {key: (wave - level).abs().mean(0)[begun:] for key, wave in made.items()}
    numbers = {}
    for key, curve in curves.items():
        numbers[f"{key}: first"] = f"{float(curve[:8].mean()):.3f}"
        numbers[f"{key}: last"] = f"{float(curve[-8:].mean()):.3f}"

    def draw(plt: Any) -> Any:
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.0))
        for place, row in enumerate((0, 1, 2)):
            left.plot(level[row] - 2.6 * place, color=GREEN, lw=1.2, label=None if place else "real")
            left.plot(range(begun, length), made["free"][row, begun:] - 2.6 * place, color=RED, lw=1.2,
                      label=None if place else "continued")  # fmt: skip
        left.axvline(begun, color=INK, lw=0.8, ls=":")
        left.set(yticks=[], xlabel="symbol t", ylim=(-6.6, 2.8))
        left.legend(fontsize=8, ncols=2, loc="upper center")
        names = {"free": (RED, "step by step after its own symbols"), "one": (BLUE, "one step after true symbols"),
                 "best": (GREY, "the best wave for the first 24")}  # fmt: skip
        for key, (colour, label) in names.items():
            right.plot(range(begun, length), curves[key], color=colour, label=label)
        right.set(xlabel="symbol t", ylabel="distance from the true wave", ylim=(0, None))
        right.legend(fontsize=8)
        return figure

    return numbers, draw


def mask() -> Made:
    """The loss of a Transformer with its causal mask, and without, on a source whose entropy is known."""
    symbols, length = 8, 48
    table = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(symbols, 0.3), symbols))
    stationary = torch.linalg.matrix_power(table, 200)[0]
    entropy = float(-(stationary[:, None] * torch.xlogy(table, table)).sum())
    x = torch.multinomial(stationary, 4000, replacement=True, generator=seeded())[:, None]
    for _ in range(length - 1):
        x = torch.cat([x, torch.multinomial(table[x[:, -1]], 1, generator=seeded(x.shape[1]))], 1)
    curves, numbers = {}, {"entropy": f"{entropy:.3f}"}
    for key, causal in (("mask", True), ("none", False)):
        torch.manual_seed(0)
        model = Autoregressive(Discrete((length,), symbols), settings=Autoregressive.Settings(width=32, depth=2))
        model.net.causal = causal
        curves[key] = [losses["model"] for losses in trained(model, x, 300, batch=64, lr=4e-3)]
        model.net.causal = True  # while it writes, a symbol that is not written yet cannot be seen
        made = model.eval().sample(500, generator=seeded(4))
        numbers[f"{key}: loss"] = f"{np.mean(curves[key][-20:]):.3f}"
        surprise = -table.clamp_min(1e-6).log()[made[:, :-1], made[:, 1:]].mean()
        numbers[f"{key}: samples"] = f"{float(surprise):.2f}"

    def draw(plt: Any) -> Any:
        figure, axes = plt.subplots(figsize=(6.4, 3.0))
        axes.plot(curves["mask"], color=BLUE, lw=1.2, label="with the causal mask")
        axes.plot(curves["none"], color=RED, lw=1.2, label="without: each step sees its answer")
        axes.axhline(entropy, color=INK, lw=1, ls="--", label=f"entropy of the source, {entropy:.3f}")
        axes.set(xlabel="training step", ylabel="loss, nats a symbol", ylim=(0, None))
        axes.legend(fontsize=8)
        return figure

    return numbers, draw
