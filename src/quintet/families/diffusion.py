"""Diffusion (Ho et al. 2020, arXiv:2006.11239; Karras et al. 2022, arXiv:2206.00364), in one variable.

Every Gaussian path x_t = alpha x + sigma noise is the same path in y = x_t / alpha with s = sigma / alpha:

    y = x + s noise,        D(y, s) = E[x | y],        dy/ds = (y - D(y, s)) / s.

DDPM, v-prediction, EDM and flow matching differ in how a net F makes D, and in which s they train on:

    D(y, s) = c_skip y + c_out F(c_in y, ln(s) / 4),       loss = E |F - (x - c_skip y) / c_out|^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quintet.core import settings
from quintet.core.family import Batch, Family, Loss, OnStep, Part, given_as
from quintet.core.likelihood import upcast
from quintet.core.random import Generator, normal, uniform
from quintet.core.spaces import Continuous, Space
from quintet.nets.build import Denoiser, denoiser
from quintet.nets.conditioning import TimeEmbedding, conditioner, fuse, tell, widths
from quintet.nets.given import Given, How
from quintet.nets.noise import S_MAX, S_MIN, SD, Parameterisation, Schedule, coefficients, noise_grid, noise_level

Denoise = Callable[[Tensor, Tensor], Tensor]
"""D(y, s) with y (B, ...) and s () -> (B, ...)."""
Noise = Callable[[], Tensor]


class Diffusion(Family):
    """A net F learns to denoise; samplers integrate; the probability-flow ODE gives log-densities (Song et al. 2021).

    `log_prob` is an estimate: log p(x) = log N(z at S_MAX; 0, 1) + int div(dz/dtheta) dtheta + constants, with the
    divergence exact up to `exact_dims` dimensions and by `probes` Rademacher probes (Hutchinson) beyond.
    """

    class Settings(settings.Settings):
        net: Denoiser = Field("auto", description="the kind of net; auto chooses by the shape of the data")
        width: int = Field(64, ge=1, description="hidden units, or channels of the first layer")
        depth: int = Field(2, ge=1, description="hidden layers, or convolution blocks at each size")
        emb: int = Field(128, ge=2, description="numbers by which the net is told the noise level and the condition")
        condition: How = "vector"
        patch: int | None = Field(None, ge=1, description="dit: side of a patch of the item; none: by the item's size")
        dense: int = Field(0, ge=0, description="width of the dense layer at the bottom of the U-Net; 0: none")
        dropout: float = Field(
            0.0, ge=0, lt=1, description="share of hidden numbers that training sets to zero, against overfitting"
        )
        parameterisation: Parameterisation = Field("edm", description="what the net learns to say of a noisy item")
        schedule: Schedule = Field("lognormal", description="which noise levels training sees how often")
        guidance_dropout: float = Field(
            0.1, ge=0, lt=1, description="how often training hides the condition, which guidance needs"
        )
        ode_steps: int = Field(24, ge=2, description="steps of the equation solver that scores, encodes and decodes")
        probes: int = Field(
            2, ge=2, description="random probes by which the likelihood is estimated: more is more exact and slower"
        )
        exact_dims: int = Field(8, ge=0, description="items of up to so many numbers are scored without random probes")

    class Sampling(settings.Settings):
        solver: Literal["heun", "dpmpp_2m", "ddim", "ancestral"] = Field(
            "dpmpp_2m", description="how noise is taken away; ancestral adds some of it again at each step"
        )
        steps: int = Field(20, ge=1, le=4000, description="steps from noise to item: more is finer and slower")
        guidance: float = Field(
            1.0, ge=0, description="above 1 keeps closer to the condition: D = null + guidance * (conditional - null)"
        )
        corrections: int = Field(20, ge=0, description="completing: Langevin steps at each noise level")

    name = "diffusion"
    about = "The best pictures, if it has the time to learn them; fills holes. It samples in many steps."
    accepts = (Continuous,)
    likelihood = "estimate"
    missing: ClassVar[Mapping[str, str]] = {}

    space: Continuous
    mean: Tensor
    scale: Tensor

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.conditioner = conditioner(condition, s.emb, s.condition, dropout=s.guidance_dropout)
        self.time = TimeEmbedding(s.emb)
        ready = widths(condition, s.emb, s.condition)._replace(emb=s.emb)
        self.net = denoiser(s.net, space.shape, s.width, s.depth, ready=ready, dropout=s.dropout, dense=s.dense,
                            patch=s.patch)  # fmt: skip
        per_channel = (space.shape[0], *[1] * (len(space.shape) - 1))
        self.register_buffer("mean", torch.zeros(per_channel))
        self.register_buffer("scale", torch.full(per_channel, SD))

    def initialise(self, batch: Batch) -> None:
        axes = [0, *range(2, batch.x.dim())]
        self.mean.copy_(batch.x.mean(axes).view(self.mean.shape))
        self.scale.copy_(SD / batch.x.std(axes).clamp_min(1e-3).view(self.scale.shape))

    def lowest(self) -> float:
        """Where sampling stops and takes E[x | y]. For quantised data a third of a level: the mean is then the level
        itself, while a draw of the dequantised data would often be rounded to the one beside it."""
        if self.space.levels is None:
            return S_MIN
        return max(S_MIN, self.space.bin_width * float(self.scale.min()) / 3)

    def denoise(self, y: Tensor, s: Tensor, given: Given) -> Tensor:
        """D(y, s); s (B,)."""
        wide = s.view(-1, *[1] * (y.dim() - 1))
        c_skip, c_out, c_in = coefficients(self.settings.parameterisation, wide)
        return c_skip * y + c_out * self.predict(c_in * y, s, given)

    def predict(self, x: Tensor, s: Tensor, given: Given) -> Tensor:
        """F(c_in y, ln(s) / 4)."""
        return upcast(self.net(x, fuse(self.time(s.log() / 4), given)))

    def loss(self, batch: Batch) -> Loss:
        x, generator = (batch.x - self.mean) * self.scale, batch.generator
        t = uniform(len(x), *[1] * (x.dim() - 1), generator=generator, like=x)
        s = noise_level(self.settings.schedule, t)
        y = x + s * normal(*x.shape, generator=generator, like=x)
        c_skip, c_out, c_in = coefficients(self.settings.parameterisation, s)
        given = tell(self.conditioner, batch.cond, len(x), generator)
        error = self.predict(c_in * y, s.flatten(), given) - (x - c_skip * y) / c_out
        return Loss(error.square().mean())

    def denoiser(self, cond: Tensor | None, n: int, guidance: float = 1.0) -> Denoise:
        """D(y, s) for this condition, with classifier-free guidance (Ho & Salimans 2022)."""
        given, null = tell(self.conditioner, cond, n), tell(self.conditioner, None, n)

        def denoise(y: Tensor, s: Tensor) -> Tensor:
            level = s.expand(n)
            d = self.denoise(y, level, given)
            if guidance == 1 or cond is None:
                return d
            base = self.denoise(y, level, null)
            return base + guidance * (d - base)

        return denoise

    @torch.no_grad()
    def sample(
        self,
        n: int,
        cond: Tensor | None = None,
        *,
        sampling: Sampling | None = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        q = sampling or self.Sampling()
        s = noise_grid(self.settings.schedule, q.steps, like=self.mean, low=self.lowest())
        noise = partial(normal, n, *self.space.shape, generator=generator, like=self.mean)
        denoise = self.denoiser(cond, n, q.guidance)
        for i, y in enumerate(SOLVERS[q.solver](denoise, s[0] * noise(), s, noise), 1):
            if on_step:
                on_step(i, q.steps, y)
        return self.settled(y, denoise) / self.scale + self.mean

    def clean(self, y: Tensor, s: Tensor, cond: Tensor | None = None) -> Tensor:
        """D(y, s) for items each at a level s (B,) of its own."""
        return self.denoise(y, s, tell(self.conditioner, cond, len(y)))

    def parts(self, x: Tensor, cond: Tensor | None, sampling: Any) -> dict[str, Part]:
        y = {"y": (x - self.mean) * self.scale, "s": x.new_ones(len(x))}
        parts = {"denoise": Part(self.clean, y | given_as("cond", cond), ("x",))}
        return parts if cond is None else parts | {"denoise_null": Part(self.clean, y, ("x",))}

    def constants(self, sampling: Sampling) -> dict[str, Any]:
        """The noise levels of the sampler, where it starts; and x = y / scale + mean."""
        levels = noise_grid(self.settings.schedule, sampling.steps, like=self.mean, low=self.lowest())
        settles = self.space.widths is not None and self.space.quantised
        return {
            "levels": levels.tolist(),
            "guidance": sampling.guidance,
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "settle": {"level": float(self.settling()), "widths": self.space.widths} if settles else None,
        }

    def settling(self) -> Tensor:
        """The level at which the quantised dimensions of a space with real ones take E[x | y]."""
        widths = self.mean.new_tensor(self.space.widths).view(self.space.shape)
        return ((widths * self.scale)[widths > 0].min() / 2).clamp_min(S_MIN)

    def settled(self, y: Tensor, denoise: Denoise) -> Tensor:
        """y with E[x | y] in the dimensions that are quantised beside real ones, at half the distance of their
        values: see `lowest`. A density that is learnt is smooth, so that it reaches beyond the end of what the noise of
        dequantisation fills, to the values beside it, by far too often where these are rare.
        """
        if self.space.widths is None or not self.space.quantised:
            return y
        widths = y.new_tensor(self.space.widths).view(self.space.shape)
        return torch.where(widths > 0, denoise(y, self.settling()), y)

    @torch.no_grad()
    def complete(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None = None,
        *,
        sampling: Sampling | None = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Replacement, as in RePaint (Lugmayr et al. 2022, arXiv:2201.09865), with Langevin corrections at each level.

        Known entries follow the noising of x itself, unknown ones ancestral steps; then `corrections` steps bring the
        unknown into agreement with p(unknown | known) of that level. Ancestral steps are used whatever the solver.
        """
        q = sampling or self.Sampling()
        s = noise_grid(self.settings.schedule, q.steps, like=self.mean, low=self.lowest())
        target, denoise = (x - self.mean) * self.scale, self.denoiser(cond, len(x), q.guidance)
        noise = partial(normal, *x.shape, generator=generator, like=self.mean)
        y, velocity = torch.where(known, target, 0) + s[0] * noise(), noise()
        for i in range(q.steps):
            y = posterior(torch.where(known, target, denoise(y, s[i])), y, s[i], s[i + 1], noise)
            if s[i + 1] > 0:
                y, velocity = langevin(denoise, y, velocity, s[i + 1], ~known, q.corrections, noise)
            if on_step:
                on_step(i + 1, q.steps, y / self.scale + self.mean)
        y = self.settled(torch.where(known, target, y), denoise)
        return torch.where(known, x, y / self.scale + self.mean)

    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        return self.log_prob_error(x, cond, generator=generator)[0]

    @torch.no_grad()
    def log_prob_error(
        self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        dims, n = self.space.dims, len(x)
        exact = dims <= self.settings.exact_dims
        if exact:
            basis = torch.eye(dims, dtype=x.dtype, device=x.device).view(dims, 1, *x.shape[1:])
            probes = basis.expand(-1, n, *x.shape[1:])
        else:
            draws = uniform(n, self.settings.probes, *x.shape[1:], generator=generator, like=x)
            probes = (draws < 0.5).to(x.dtype).mul(2).sub(1).transpose(0, 1)
        denoise = self.denoiser(cond, n)

        def slopes(z: Tensor, change: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            """dz/dtheta, and e^T (its Jacobian) e of each probe, (probes, B)."""
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                slope = angular(denoise, z, s)
                products = [torch.autograd.grad(slope, z, e, retain_graph=True)[0] * e for e in probes]
            return slope.detach(), torch.stack([product.flatten(1).sum(1) for product in products])

        grid = flow_grid(self.settings.ode_steps, like=x)
        z = (x - self.mean) * self.scale / (grid[0] ** 2 + SD**2).sqrt()
        z, change = rk4(slopes, (z, x.new_zeros(len(probes), n)), grid)
        prior = -0.5 * z.flatten(1).square().sum(1) - 0.5 * dims * math.log(2 * math.pi * (S_MIN**2 + SD**2))
        constant = self.scale.log().expand(x.shape[1:]).sum()
        if exact:
            return prior + constant + change.sum(0), None
        return prior + constant + change.mean(0), change.std(0) / len(probes) ** 0.5

    @torch.no_grad()
    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The noise (B, *shape), near N(0, 1), that the probability-flow ODE carries x to."""
        grid, denoise = flow_grid(self.settings.ode_steps, like=x), self.denoiser(cond, len(x))
        z = (x - self.mean) * self.scale / (grid[0] ** 2 + SD**2).sqrt()
        return rk4(lambda z, s: (angular(denoise, z, s),), (z,), grid)[0]

    @torch.no_grad()
    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """The inverse of `encode`, up to the solver's error."""
        grid, denoise = flow_grid(self.settings.ode_steps, like=z).flip(0), self.denoiser(cond, len(z))
        z = rk4(lambda z, s: (angular(denoise, z, s),), (z,), grid)[0]
        return z * (grid[-1] ** 2 + SD**2).sqrt() / self.scale + self.mean


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


SOLVERS: dict[str, Callable[[Denoise, Tensor, Tensor, Noise], Iterator[Tensor]]] = {
    "heun": heun,
    "ddim": ddim,
    "ancestral": ancestral,
    "dpmpp_2m": dpmpp_2m,
}
"""Each gives y at the levels s below the first, one after another."""


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
