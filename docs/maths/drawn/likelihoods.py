"""The figure of the page about comparing likelihoods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from drawn.common import BLUE, INK, RED, Made


def dequantisation() -> Made:
    """A fair coin, and a mixture of two Gaussians around 0 and 1: its log density, and the bound by dequantisation."""
    scales = np.geomspace(0.01, 1.0, 80)
    u = (np.arange(4000) + 0.5) / 4000 - 0.5

    def density(x: np.ndarray, s: float) -> np.ndarray:
        pieces = [np.exp(-0.5 * ((x - centre) / s) ** 2) for centre in (0.0, 1.0)]
        return np.log(np.maximum((pieces[0] + pieces[1]) / (2 * s * math.sqrt(2 * math.pi)), 1e-300))

    raw = np.array([density(np.array([0.0]), s)[0] for s in scales])
    bound = np.array([density(u, s).mean() for s in scales])
    numbers = {
        "mass": f"{-math.log(2):.3f}",
        "raw at 0.01": f"{raw[0]:.2f}",
        "best bound": f"{bound.max():.3f}",
        "best scale": f"{scales[bound.argmax()]:.2f}",
    }

    def draw(plt: Any) -> Any:
        figure, axes = plt.subplots(figsize=(6.4, 3.0))
        axes.plot(scales, raw, color=RED, label="log density at the data themselves")
        axes.plot(scales, bound, color=BLUE, label="mean log density of data + uniform noise")
        axes.axhline(-math.log(2), color=INK, ls="--", lw=1, label=r"the truth, $\log \frac{1}{2}$")
        axes.set(xscale="log", ylim=(-3, 3.3), xlabel="standard deviation of the two Gaussians", ylabel="nats an item")
        axes.legend(fontsize=8)
        return figure

    return numbers, draw
