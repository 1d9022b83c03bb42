"""Figures of the page about diffusion."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from drawn.common import BLUE, GREEN, GREY, INK, RED, Made, bare, fitted, moons, seeded
from torch import Tensor

from quintet.core.spaces import Continuous
from quintet.families.diffusion import Diffusion
from quintet.metrics.classifiers import classifier_two_sample
from quintet.nets.noise import SD, noise_grid
from quintet.nets.solvers import SOLVERS

CENTRES, SHARES, WIDTH = torch.tensor([-1.0, 1.0]), torch.tensor([0.8, 0.2]), 0.1


def exact_mean(y: Tensor, s: Tensor) -> Tensor:
    """D(y, s) = E[x | x + s noise = y] of the mixture 0.8 N(-1, 0.1^2) + 0.2 N(1, 0.1^2); y (B, 1)."""
    variance = WIDTH**2 + s**2
    weight = (SHARES.log() - 0.5 * (y - CENTRES).square() / variance).softmax(1)
    means = (CENTRES * s**2 + y * WIDTH**2) / variance
    return (weight * means).sum(1, keepdim=True)


def distance(x: Tensor) -> float:
    """The Wasserstein-1 distance of samples (B,) from that mixture, by its quantiles."""
    n = len(x)
    edges = torch.linspace(-2, 2, 40001, dtype=torch.float64)
    cdf = (SHARES * torch.special.ndtr((edges[:, None] - CENTRES) / WIDTH)).sum(1)
    quantiles = edges[torch.searchsorted(cdf, (torch.arange(n, dtype=torch.float64) + 0.5) / n).clamp_max(40000)]
    return float((x.double().sort().values - quantiles).abs().mean())


def even(n: int) -> Tensor:
    """n numbers (n, 1) that are spread as N(0, 1) is, without chance."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]


def schedules() -> Made:
    """What is left of the data at the end of three schedules, and what sampling makes of it with a perfect net."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    signal = {
        "linear": (1 - beta).cumprod(0).sqrt(),
        "cosine": ((t + 0.008) / 1.008 * math.pi / 2).cos() / math.cos(0.008 / 1.008 * math.pi / 2),
        "short": (1 - torch.linspace(1e-4, 0.02, 100, dtype=torch.float64)).cumprod(0).sqrt(),
    }
    noise, made, numbers = even(4000), {}, {}
    for key, alpha in signal.items():
        left = float(alpha[-1].clamp_min(1e-4))
        s = math.sqrt(1 - left**2) / left
        grid = noise_grid("lognormal", 200, like=noise)
        levels = torch.cat([torch.tensor([s], dtype=torch.float64), grid[grid < s]])
        # x_T is taken for N(0, 1), so that y = x_T / alpha is N(0, 1 / alpha^2)
        *_, y = SOLVERS["ddim"](exact_mean, noise / left, levels, lambda: noise)
        made[key] = y[:, 0]
        if key != "cosine":
            numbers[f"{key}: signal left"] = f"{left:.3f}"
            numbers[f"{key}: share of the right mode"] = f"{float((y > 0).double().mean()):.2f}"

    def draw(plt: Any) -> Any:
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.0))
        names = {"linear": (BLUE, "linear betas, T = 1000"), "cosine": (GREEN, "cosine"),
                 "short": (RED, "the same betas, T = 100")}  # fmt: skip
        for key, (colour, label) in names.items():
            left.plot(torch.linspace(0, 1, len(signal[key])), signal[key], color=colour, label=label)
        left.set(xlabel="t / T", ylabel=r"signal left, $\alpha_t$", ylim=(0, 1.02))
        left.legend(fontsize=8)
        edges = np.linspace(-1.6, 1.6, 81)
        truth = (SHARES * torch.exp(-0.5 * ((torch.from_numpy(edges)[:, None] - CENTRES) / WIDTH) ** 2)).sum(1)
        right.plot(edges, truth / WIDTH / math.sqrt(2 * math.pi), color=INK, lw=1, label="data")
        for key in ("linear", "short"):
            right.hist(made[key], edges, density=True, histtype="step", color=names[key][0], label=names[key][1])
        right.set(xlabel="x", ylabel="density of samples")
        right.legend(fontsize=8)
        return figure

    return numbers, draw


def paths() -> Made:
    """Paths from noise to data in 1, 4 and 20 steps of a perfect net, beside the paths of very many steps."""
    noise, counts = even(2000), (1, 4, 20)
    shown = list(range(50, 2000, 100))

    def walk(solver: str, steps: int) -> tuple[Tensor, Tensor]:
        s = noise_grid("lognormal", steps, like=noise)
        ys = [s[0] * noise, *SOLVERS[solver](exact_mean, s[0] * noise, s, lambda: noise)]
        return s, torch.stack([y[:, 0] for y in ys])

    numbers = {
        f"{solver}, {steps}": f"{distance(walk(solver, steps)[1][-1]):.3f}"
        for solver, steps in (("ddim", 1), ("ddim", 4), ("ddim", 20), ("dpmpp_2m", 20))
    }
    mean = float((CENTRES * SHARES).sum())
    numbers["mean of the data"] = f"{mean:.1f}"

    def draw(plt: Any) -> Any:
        figure, all_axes = plt.subplots(1, 3, figsize=(8.4, 3.0), sharey=True)
        fine_s, fine = walk("ddim", 1000)
        for axes, steps in zip(all_axes, counts, strict=True):
            for s, path, colour, width in ((fine_s, fine, GREY, 0.6), (*walk("ddim", steps), BLUE, 1.0)):
                angle = torch.atan(s / SD)
                z = path[:, shown] / (s[:, None] ** 2 + SD**2).sqrt() * SD
                axes.plot(angle, z, color=colour, lw=width, marker="." if width == 1 else None, ms=3)
            axes.set(xlim=(math.pi / 2, 0), xlabel=r"$\theta=\arctan(s/0.5)$, noise to data")
            axes.set_title(f"{steps} step{'s' * (steps > 1)}: {numbers[f'ddim, {steps}']} away", fontsize=9)
        all_axes[0].set_ylabel(r"$0.5\,z$, which ends at x")
        return figure

    return numbers, draw


def few_steps() -> Made:
    """Samples of the moons in few evaluations: of a net that learnt to denoise, and of one that learnt averages."""
    x, real = moons(8000, 0), moons(2000, 1).double().numpy()
    shots, numbers = {}, {}
    for learns, name, counts in (("denoising", "steps", (1, 2, 4, 20)), ("meanflow", "jumps", (1, 2, 4))):
        torch.manual_seed(0)
        model = fitted(Diffusion(Continuous((2,)), settings=Diffusion.Settings(learns=learns, width=64)), x, 1000)
        for count in counts:
            made = model.sample(2000, sampling=Diffusion.Sampling(**{name: count}), generator=seeded(2))
            shots[learns, count] = made
            numbers[f"{learns}, {count}"] = f"{classifier_two_sample(real, made.double().numpy()).value:.2f}"

    def draw(plt: Any) -> Any:
        figure, grid = plt.subplots(2, 4, figsize=(8.2, 4.4))
        for axes in grid.flat:
            bare(axes, limit=2.6)
        for row, learns in zip(grid, ("denoising", "meanflow"), strict=True):
            row[0].set_ylabel(learns)
            for axes, ((kind, count), made) in zip(
                row, ((k, v) for k, v in shots.items() if k[0] == learns), strict=False
            ):
                axes.plot(*made[:1000].T, ".", color=BLUE, ms=1.5, alpha=0.6)
                evaluations = f"{count} evaluation{'s' * (count > 1)}"
                axes.set_title(f"{evaluations}: AUC {numbers[f'{kind}, {count}']}", fontsize=9)
        grid[1, 3].plot(*moons(1000, 1).T, ".", color=INK, ms=1.5, alpha=0.6)
        grid[1, 3].set_title("unseen data", fontsize=9)
        return figure

    return numbers, draw


def masked_steps() -> Made:
    """What drawing several symbols at once costs, with perfect conditionals: a chain of eight bits, all 256 listed."""
    length, stay = 8, 0.9
    items = torch.tensor(list(itertools.product((0, 1), repeat=length)))
    kept = (items[:, 1:] == items[:, :-1]).double()
    log_p = math.log(0.5) + (kept * math.log(stay) + (1 - kept) * math.log(1 - stay)).sum(1)
    p = log_p.exp()

    @cache
    def marginal(positions: tuple[int, ...]) -> Tensor:
        """log p of each item's symbols at these positions, (256,)."""
        if not positions:
            return torch.zeros(len(items), dtype=torch.float64)
        code = (items[:, list(positions)] * 2 ** torch.arange(len(positions))).sum(1)
        return torch.zeros(2 ** len(positions), dtype=torch.float64).index_add(0, code, p)[code].log()

    def divergence(steps: int, orders: Any) -> float:
        """KL(p || what is drawn in so many steps), nats, over the given orders."""
        ends = [length * i // steps for i in range(steps + 1)]
        total = torch.zeros_like(p)
        for order in orders:
            log_q = torch.zeros_like(p)
            for begin, end in itertools.pairwise(ends):
                known = tuple(sorted(order[:begin]))
                for i in order[begin:end]:
                    log_q = log_q + marginal(tuple(sorted((*known, i)))) - marginal(known)
            total = total + log_q.exp()
        return float((p * (log_p - (total / len(orders)).log())).sum())

    rng = np.random.default_rng(0)
    orders = [tuple(int(i) for i in rng.permutation(length)) for _ in range(2000)]
    nats = [divergence(steps, orders) for steps in range(1, length + 1)]
    numbers = {f"{steps} steps": f"{nats[steps - 1]:.2f}" for steps in (1, 2, 4)}

    def draw(plt: Any) -> Any:
        figure, axes = plt.subplots(figsize=(5.6, 2.7))
        axes.bar(range(1, length + 1), nats, color=BLUE)
        axes.set(xlabel="steps for eight symbols", ylabel="KL from the truth, nats")
        return figure

    return numbers, draw
