"""Figures of the page about the normalising flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from drawn.common import BLUE, GREY, INK, RED, Made, bare, fitted, moons, seeded
from torch import Tensor, nn

from quintet.core.spaces import Continuous
from quintet.families.flow import Flow
from quintet.nets.elementwise import Spline


@cache
def moon_flow() -> Flow:
    """A spline flow of the moons."""
    torch.manual_seed(0)
    model = Flow(Continuous((2,)), settings=Flow.Settings(kind="coupling", layers=6, width=64, dropout=0.0))
    return fitted(model, moons(8000, 0), 800, lr=4e-3)


def plane(limit: float, n: int) -> tuple[Tensor, float]:
    """The centres (n * n, 2) of the cells of a square, and the area of one."""
    axis = (torch.arange(n) + 0.5) / n * 2 * limit - limit
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)
    return grid, (2 * limit / n) ** 2


def broken() -> Made:
    """Three "densities" of the moons, and what each integrates to on a square of side 8."""
    train, test = moons(8000, 0), moons(2000, 1)

    def net() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def log_density(f: nn.Module, x: Tensor, *, volume: bool) -> Tensor:
        """log N(f(x); 0, 1), with log |det df/dx| if the volume counts."""
        x = x.requires_grad_()
        z = f(x)
        value = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
        if not volume:
            return value
        rows = [torch.autograd.grad(z[:, i].sum(), x, create_graph=True)[0] for i in (0, 1)]
        return value + (rows[0][:, 0] * rows[1][:, 1] - rows[0][:, 1] * rows[1][:, 0]).abs().clamp_min(1e-12).log()

    densities: dict[str, Callable[[Tensor], Tensor]] = {"flow": lambda x: moon_flow().log_prob(x)}
    for key, volume in (("folded", True), ("none", False)):
        f, generator = net(), seeded()
        optimiser = torch.optim.Adam(f.parameters(), lr=2e-3)
        for _ in range(1000):
            rows = torch.randint(len(train), (256,), generator=generator)
            optimiser.zero_grad()
            (-log_density(f, train[rows].clone(), volume=volume).mean()).backward()
            optimiser.step()
        densities[key] = partial(log_density, f, volume=volume)
    grid, area = plane(4.0, 400)
    maps, numbers = {}, {}
    for key, log_p in densities.items():
        maps[key] = log_p(grid.clone()).detach().double().exp().view(400, 400)
        numbers[f"{key}: integral"] = f"{float(maps[key].sum() * area):.2f}"
        if key != "none":
            numbers[f"{key}: nats"] = f"{float(log_p(test.clone()).detach().mean()):.2f}"

    def draw(plt: Any) -> Any:
        figure, all_axes = plt.subplots(1, 3, figsize=(8.2, 3.1))
        titles = "invertible, with log-determinant", "not invertible, with log-determinant", "no log-determinant"
        for axes, (key, values), title in zip(all_axes, maps.items(), titles, strict=True):
            axes.imshow(values, origin="lower", extent=(-4, 4, -4, 4), cmap="Blues", vmin=0, vmax=0.5)
            axes.set_title(f"{title}\nintegral {numbers[f'{key}: integral']}", fontsize=9)
            bare(axes, limit=4.0)
        return figure

    return numbers, draw


def bijection() -> Made:
    """One spline with its knots and slope; the bijection that couplings of such splines make; and the density."""
    spline = Spline(bins=8, box=5.0)
    params = 0.8 * torch.randn(1, spline.params, 1, generator=seeded(3))
    line = torch.linspace(-6, 6, 1201)[:, None]
    z, log_slope = spline.forward(line, params.expand(len(line), -1, -1))
    knots = spline.find(torch.linspace(-4.999, 4.999, 4000), params[0].expand(-1, 4000))[0]
    back = spline.inverse(z, params.expand(len(line), -1, -1))
    model = moon_flow()
    axis = torch.linspace(-2.2, 2.2, 12)
    fine = torch.linspace(-2.2, 2.2, 200)
    lines = [torch.stack(pair, 1) for a in axis for pair in ((a.expand(200), fine), (fine, a.expand(200)))]
    with torch.no_grad():
        grid, area = plane(4.0, 300)
        density = model.log_prob(grid).double().exp().view(300, 300)
        test = moons(2000, 1)
        returned = model.decode(model.encode(test)) - test
        bent = [model.decode(each) for each in lines]
    numbers = {
        "spline: worst error": f"{float((back - line).abs().max()):.0e}",
        "flow: worst error": f"{float(returned.abs().max()):.0e}",
        "integral": f"{float(density.sum() * area):.3f}",
        "nats": f"{float(model.log_prob(test).detach().mean()):.2f}",
    }

    def draw(plt: Any) -> Any:
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(8.4, 3.0))
        left.plot(line, z, color=BLUE, label="z(x)")
        left.plot(line, log_slope.exp(), color=RED, lw=1, label="dz/dx")
        left.plot(knots.x0, knots.y0, ".", color=INK, ms=5)
        left.axline((0, 0), slope=1, color=GREY, lw=0.8, ls=":")
        left.set(xlabel="x", title="one spline")
        left.legend(fontsize=8)
        for each in bent:
            middle.plot(*each.T, color=BLUE, lw=0.5)
        middle.plot(*moons(300, 3).T, ".", color=RED, ms=2)
        middle.set_title("a square grid of z, in x")
        bare(middle, limit=2.6)
        right.imshow(density, origin="lower", extent=(-4, 4, -4, 4), cmap="Blues", vmin=0, vmax=0.5)
        right.set_title(f"density, integral {numbers['integral']}")
        bare(right, limit=2.6)
        return figure

    return numbers, draw
