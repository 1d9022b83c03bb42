"""Diffusion (Ho et al. 2020, arXiv:2006.11239; Karras et al. 2022, arXiv:2206.00364), in one variable.

Every Gaussian path x_t = alpha x + sigma noise is the same path in y = x_t / alpha with s = sigma / alpha:

    y = x + s noise,        D(y, s) = E[x | y],        dy/ds = (y - D(y, s)) / s.

DDPM, v-prediction, EDM and flow matching differ in how a net F makes D, and in which s they train on:

    D(y, s) = c_skip y + c_out F(c_in y, ln(s) / 4),       loss = E |F - (x - c_skip y) / c_out|^2.

Two more things that F can learn make an item in one to four evaluations: average velocities between two levels, of
which D is the case that both are one (MeanFlow), and one item that looks the same from all levels (consistency).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from quintet.core import settings
from quintet.core.errors import ConfigError, Unsupported
from quintet.core.family import Batch, Family, Loss, OnStep, Part, given_as
from quintet.core.likelihood import upcast
from quintet.core.random import Generator, normal, uniform
from quintet.core.spaces import Continuous, Space
from quintet.nets.bits import SPREAD, Symbols, narrow, widen
from quintet.nets.build import Denoiser, denoiser
from quintet.nets.conditioning import TimeEmbedding, conditioner, fuse, tell, widths
from quintet.nets.few_steps import adaptive, average_target, nearer_level, robust, tuning_level, wide
from quintet.nets.given import Given, How
from quintet.nets.noise import S_MIN, SD, Parameterisation, Schedule, coefficients, noise_grid, noise_level
from quintet.nets.solvers import (
    SOLVERS,
    Denoise,
    Solver,
    angular,
    flow_grid,
    jump_grid,
    jumps,
    langevin,
    posterior,
    restarts,
    rk4,
)

FEW: dict[str, Solver] = {"meanflow": jumps, "consistency": restarts}
"""How samples are made of what nets learn that need few evaluations."""
NO_SCORE = "it learnt to make items in few steps, but not how likely they are: use the model that it was distilled from"
APART = 0.5
"""Share of a batch that learns averages between two levels; the rest learns D."""
BITS = 0.5
"""How large bits are beside numbers. They then settle at levels at which numbers are known, which matters most for rows
whose numbers are given."""
RATE = 8.0
"""The highest frequency in which a net of averages reads angles, whose derivatives enter what it learns."""


class Diffusion(Family):
    """A net F learns to denoise; samplers integrate; the probability-flow ODE gives log-densities (Song et al. 2021).

    `log_prob` is an estimate: log p(x) = log N(z at S_MAX; 0, 1) + int div(dz/dtheta) dtheta + constants, with the
    divergence exact up to `exact_dims` dimensions and by `probes` Rademacher probes (Hutchinson) beyond. Of a model of
    average velocities it is that of the velocity itself, u(z, theta, theta), which few jumps follow nearly.
    """

    class Settings(settings.Settings):
        net: Denoiser = Field("auto", description="the kind of net; auto chooses by the shape of the data")
        width: int = Field(64, ge=1, le=2**16, description="hidden units, or channels of the first layer")
        depth: int = Field(2, ge=1, le=1000, description="hidden layers, or convolution blocks at each size")
        emb: int = Field(
            128, ge=2, le=2**16, description="how many numbers describe the noise level and the condition to the net"
        )
        condition: How = "vector"
        patch: int | None = Field(None, ge=1, le=4096, description="dit: side of a patch; none: by the item's size")
        dense: int = Field(
            0, ge=0, le=2**16, description="width of the dense layer at the bottom of the U-Net; 0: none"
        )
        waves: int = Field(
            0, ge=0, le=1024, description="mlp: how many sines and cosines of each number the net reads beside it"
        )
        dropout: float = Field(
            0.0, ge=0, lt=1, description="share of hidden numbers that training sets to zero, against overfitting"
        )
        parameterisation: Parameterisation = Field("edm", description="what the net learns to say of a noisy item")
        learns: Literal["denoising", "meanflow", "consistency"] = Field(
            "denoising", description="denoising makes an item in many steps; meanflow and consistency in one to four"
        )
        guided: float = Field(
            1.0, ge=0, description="meanflow: guidance that is trained in, so that samples cost no more"
        )
        schedule: Schedule = Field("lognormal", description="how often training sees each noise level")
        guidance_dropout: float = Field(
            0.1, ge=0, lt=1, description="how often training hides the condition, which guidance needs"
        )
        ode_steps: int = Field(
            24, ge=2, le=100_000, description="steps of the equation solver that scores, encodes and decodes"
        )
        probes: int = Field(
            2, ge=2, le=4096, description="random probes that estimate the likelihood: more is more exact and slower"
        )
        exact_dims: int = Field(
            8, ge=0, le=4096, description="items of at most this many numbers are scored without random probes"
        )

    class Sampling(settings.Settings):
        solver: Literal["auto", "heun", "dpmpp_2m", "ddim", "ancestral"] = Field(
            "auto", description="how noise is taken away; auto: dpmpp_2m, or in jumps if they were learnt"
        )
        steps: int = Field(20, ge=1, le=4000, description="steps from noise to item: more is finer and slower")
        jumps: int = Field(
            2, ge=1, le=64, description="number of steps of a model that has learnt to make an item in few"
        )
        guidance: float = Field(
            1.0, ge=0, description="above 1 keeps closer to the condition: D = null + guidance * (conditional - null)"
        )
        corrections: int = Field(20, ge=0, le=100_000, description="completing: Langevin steps at each noise level")

    name = "diffusion"
    about = "The best pictures, if it has the time to learn them; fills holes. It samples in many steps."
    accepts = (Continuous,)
    likelihood: Literal["estimate", "none"] = "estimate"

    space: Continuous
    mean: Tensor
    scale: Tensor

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.conditioner = conditioner(condition, s.emb, s.condition, dropout=s.guidance_dropout)
        average = s.learns == "meanflow"
        self.time = TimeEmbedding(s.emb, max_frequency=RATE) if average else TimeEmbedding(s.emb)
        self.gap = TimeEmbedding(s.emb, max_frequency=RATE) if average else None
        if s.learns == "consistency":
            self.likelihood = "none"
            self.missing = dict.fromkeys(("log_prob", "complete", "encode", "decode"), NO_SCORE)
        ready = widths(condition, s.emb, s.condition)._replace(emb=s.emb)
        whole = self.space.groups is not None and s.net != "dit" and not average
        self.symbols = Symbols(self.space) if whole else None
        more = 0 if self.symbols is None else self.symbols.size
        self.net = denoiser(s.net, space.shape, (space.dims + more,) if more else space.shape, s.width, s.depth,
                            ready=ready, dropout=s.dropout, dense=s.dense, waves=s.waves, patch=s.patch)  # fmt: skip
        per_channel = (space.shape[0], *[1] * (len(space.shape) - 1))
        self.register_buffer("mean", torch.zeros(per_channel))
        self.register_buffer("scale", torch.full(per_channel, SD))

    def initialise(self, batch: Batch) -> None:
        x, axes = self.smooth(batch.x)[0], [0, *range(2, batch.x.dim())]
        self.mean.copy_(x.mean(axes).view(self.mean.shape))
        self.scale.copy_(SD / x.std(axes).clamp_min(1e-3).view(self.scale.shape))
        if self.symbols is not None:
            self.scale[self.symbols.there] *= BITS

    def smooth(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """x with a smooth density of its bits, and log |det| (B,): see `narrow`."""
        return (x, 0.0) if self.symbols is None else narrow(x, self.symbols.there)

    def scaled(self, x: Tensor) -> Tensor:
        """x as the net sees it, with standard deviation SD, and SD * BITS of bits."""
        return (self.smooth(x)[0] - self.mean) * self.scale

    def unscaled(self, y: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        x = y / self.scale + self.mean
        return x if self.symbols is None else widen(x, self.symbols.there)

    def lowest(self) -> float:
        """Where sampling stops and takes E[x | y]. For quantised data a third of a level: the mean is then the level
        itself, while a draw of the dequantised data would often be rounded to the one beside it."""
        if self.space.levels is None:
            return S_MIN
        return max(S_MIN, self.space.bin_width * float(self.scale.min()) / 3)

    def denoise(self, y: Tensor, s: Tensor, given: Given, low: Tensor | None = None) -> Tensor:
        """D(y, s), or of averages to a level `low` the D that has their velocity; s and low (B,)."""
        d, logits = self.predicted(y, s, given, low)
        if self.symbols is None:
            return d
        x, noise = self.seen(y, s)
        bits = (noise * self.symbols.mean(logits, x) + SPREAD**2 * x) / (noise + SPREAD**2)
        return torch.where(self.symbols.there, (bits - self.mean) * self.scale, d)

    def predicted(self, y: Tensor, s: Tensor, given: Given, low: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """D(y, s) of real numbers, and ln p(symbol | y) up to a constant of the symbols that stand as bits:

        p(symbol | y) ~ softmax(F) prod_i N(y_i; bit_i, s^2 + SPREAD^2),

        so that F has to say only what the rest of an item says of a symbol.
        """
        c_skip, c_out, c_in = coefficients(self.settings.parameterisation, wide(s, y))
        out = self.predict(c_in * y, s, given, low)
        if self.symbols is None:
            return c_skip * y + c_out * out, []
        out, numbers = out.split([self.space.dims, self.symbols.size], 1)
        x, noise = self.seen(y, s)
        logits = self.symbols.seen(self.symbols.logits(numbers), x / (noise + SPREAD**2))
        return c_skip * y + c_out * out, logits

    def seen(self, y: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the variance of its noise, in the units of the data."""
        return y / self.scale + self.mean, (wide(s, y) / self.scale).square()

    def predict(self, x: Tensor, s: Tensor, given: Given, low: Tensor | None = None) -> Tensor:
        """F(c_in y, ln(s) / 4), or F(c_in y, theta, theta - r) with theta = arctan(s / SD), and r of `low`."""
        if self.gap is None:
            time = self.time(s.log() / 4)
        else:
            theta = torch.atan(s / SD)
            time = self.time(theta) + self.gap(torch.zeros_like(s) if low is None else theta - torch.atan(low / SD))
        return upcast(self.net(x, fuse(time, given)))

    def average(self, z: Tensor, r: Tensor, theta: Tensor, given: Given) -> Tensor:
        """u(z, r, theta) = 1 / (theta - r) int_r^theta (dz/dtheta) dtheta; r and theta (B,)."""
        s, low = SD * theta.tan(), SD * r.tan()
        return angular(lambda y, _: self.denoise(y, s, given, low), z, wide(s, z))

    def loss(self, batch: Batch) -> Loss:
        x, generator = self.scaled(batch.x), batch.generator
        t = uniform(len(x), generator=generator, like=x)
        noise = normal(*x.shape, generator=generator, like=x)
        given = tell(self.conditioner, batch.cond, len(x), generator)
        if self.settings.learns == "meanflow":
            return self.average_loss(x, t, noise, given, generator)
        if self.settings.learns == "consistency":
            return self.consistency_loss(x, t, noise, given, batch.progress)
        s = noise_level(self.settings.schedule, t)
        d, logits = self.predicted(x + wide(s, x) * noise, s, given)
        square = ((d - x) / coefficients(self.settings.parameterisation, wide(s, x))[1]).square()
        if self.symbols is None:
            return Loss(square.mean())
        reals = square.masked_fill(self.symbols.there, 0.0).sum(1)
        return Loss((reals - self.symbols.nats(logits, batch.x)).mean() / self.space.dims)

    def average_loss(self, x: Tensor, t: Tensor, noise: Tensor, given: Given, generator: Generator | None) -> Loss:
        """E ln(|u(z, r, theta) - target|^2 + c): see `average_target` and `adaptive`."""
        u = uniform(len(x), 2, generator=generator, like=x)
        one, other = (torch.atan(noise_level(self.settings.schedule, each) / SD) for each in (t, u[:, 0]))
        apart = u[:, 1] < APART
        r = torch.where(apart, torch.minimum(one, other), one)
        theta = torch.where(apart, torch.maximum(one, other), one)
        cos, sin = wide(theta.cos(), x), wide(theta.sin(), x)
        z, target = cos * x / SD + sin * noise, cos * noise - sin * x / SD
        if self.settings.guided != 1 and self.conditioner is not None:
            with torch.no_grad():
                null = self.average(z, theta, theta, tell(self.conditioner, None, len(x)))
            target = null + self.settings.guided * (target - null)
        rows = apart.nonzero()[:, 0]
        if len(rows):
            near, told = r[rows], given.select(rows)
            average = lambda z, theta: self.average(z, near, theta, told)  # noqa: E731
            target = target.index_copy(0, rows, average_target(average, z[rows], target[rows], near, theta[rows]))
        square = (self.average(z, r, theta, given) - target).square().flatten(1).mean(1)
        return Loss(adaptive(square).mean(), {"square": square.mean()})

    def consistency_loss(self, x: Tensor, t: Tensor, noise: Tensor, given: Given, progress: float) -> Loss:
        """E |D(x + s noise, s) - D(x + r noise, r)| / (s - r), the nearer level's D held fixed, which is x at r = 0."""
        s = tuning_level(t)
        low = nearer_level(s, progress)
        with torch.no_grad():
            nearer = self.denoise(x + wide(low, x) * noise, low.clamp_min(S_MIN), given)
            target = torch.where(wide(low, x) > 0, nearer, x)
        square = (self.denoise(x + wide(s, x) * noise, s, given) - target).square().flatten(1).mean(1)
        return Loss((robust(square) / (s - low)).mean())

    def denoiser(self, cond: Tensor | None, n: int, guidance: float = 1.0) -> Denoise:
        """D(y, s), and D(y, s, low) of averages, for this condition, with classifier-free guidance (Ho & Salimans
        2022).
        """
        given, null = tell(self.conditioner, cond, n), tell(self.conditioner, None, n)

        def denoise(y: Tensor, s: Tensor, low: Tensor | None = None) -> Tensor:
            levels = s.expand(n), None if low is None else low.expand(n)
            d = self.denoise(y, levels[0], given, levels[1])
            if guidance == 1 or cond is None:
                return d
            base = self.denoise(y, levels[0], null, levels[1])
            return base + guidance * (d - base)

        return denoise

    def known_mean(self, operation: str, cond: Tensor | None, n: int, guidance: float = 1.0) -> Denoise:
        """`denoiser`, for an operation that needs E[x | y] itself."""
        if operation in self.missing:
            self.refuse(operation)
        return self.denoiser(cond, n, guidance)

    def path(self, sampling: Sampling) -> tuple[Tensor, Solver]:
        """The levels of the sampler, and how it goes from one to the next."""
        few = FEW.get(self.settings.learns)
        if few is not None and sampling.solver == "auto":
            return jump_grid(sampling.jumps, like=self.mean), few
        if "complete" in self.missing:
            raise ConfigError(f"the solver {sampling.solver} cannot sample from this model", where="sampling.solver",
                              why=NO_SCORE, fix="--sampling.solver auto --sampling.jumps 2")  # fmt: skip
        s = noise_grid(self.settings.schedule, sampling.steps, like=self.mean, low=self.lowest())
        return s, SOLVERS["dpmpp_2m" if sampling.solver == "auto" else sampling.solver]

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
        s, solve = self.path(q)
        noise = partial(normal, n, *self.space.shape, generator=generator, like=self.mean)
        denoise = self.denoiser(cond, n, q.guidance)
        for i, y in enumerate(solve(denoise, s[0] * noise(), s, noise), 1):
            if on_step:
                on_step(i, len(s) - 1, y)
        return self.settled(y, denoise) / self.scale + self.mean

    def distilled(self) -> dict[str, dict[str, Any]]:
        if self.settings.learns != "denoising":
            raise Unsupported("this model already samples in few steps, so it cannot be distilled", where=self.name,
                              fix="quintet sample RUN --sampling.jumps 1")  # fmt: skip
        return {"model": {"learns": "consistency"}, "sampling": {"solver": "auto"}, "training": {"select": "last"}}

    def clean(self, y: Tensor, s: Tensor, cond: Tensor | None = None) -> Tensor:
        """D(y, s) for items each at a level s (B,) of its own."""
        return self.denoise(y, s, tell(self.conditioner, cond, len(y)))

    def jump(self, y: Tensor, s: Tensor, low: Tensor, cond: Tensor | None = None) -> Tensor:
        """Items at levels s (B,) as they are at the levels low (B,), along averages: see `nets.solvers.jumps`."""
        theta, r, given = torch.atan(s / SD), torch.atan(low / SD), tell(self.conditioner, cond, len(y))
        z = y * wide(theta.cos() / SD, y)
        return (z - wide(theta - r, y) * self.average(z, r, theta, given)) * wide(SD / r.cos(), y)

    def parts(self, x: Tensor, cond: Tensor | None, sampling: Any) -> dict[str, Part]:
        y = {"y": (x - self.mean) * self.scale, "s": x.new_ones(len(x))}
        parts = {"denoise": Part(self.clean, y | given_as("cond", cond), ("x",))}
        if self.gap is not None:
            parts["jump"] = Part(self.jump, y | {"low": x.new_zeros(len(x))} | given_as("cond", cond), ("y_low",))
        return parts if cond is None else parts | {"denoise_null": Part(self.clean, y, ("x",))}

    def constants(self, sampling: Sampling) -> dict[str, Any]:
        """The noise levels of the sampler, where it starts; and x = y / scale + mean."""
        settles = self.space.widths is not None and self.space.quantised
        return {
            "levels": self.path(sampling)[0].tolist(),
            "learns": self.settings.learns,
            "guidance": sampling.guidance,
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "settle": {"level": float(self.settling()), "widths": self.space.widths} if settles else None,
        }

    def settling(self) -> Tensor:
        """The level at which the quantised dimensions of a space with real ones take E[x | y]."""
        if self.symbols is not None:
            return SPREAD / 2 * self.scale[self.symbols.there].min()
        widths = self.mean.new_tensor(self.space.widths).view(self.space.shape)
        return ((widths * self.scale)[widths > 0].min() / 2).clamp_min(S_MIN)

    def settled(self, y: Tensor, denoise: Denoise) -> Tensor:
        """y with E[x | y] in the dimensions that are quantised beside real ones, at half the distance of their
        values: see `lowest`. A density that is learnt is smooth, so that it reaches beyond the end of what the noise of
        dequantisation fills, to the values beside it, by far too often where these are rare. Bits, between which there
        is a gap, do so at a low level, where few of them are taken for what is more frequent.
        """
        if self.space.widths is None or not self.space.quantised:
            return y
        widths = y.new_tensor(self.space.widths).view(self.space.shape)
        settled = denoise(y, self.settling())
        if self.symbols is not None:  # D has the mean of a bit and its noise, and an item has the bit
            bit = torch.where(settled / self.scale + self.mean > 0, 1.0, -1.0)
            settled = (bit - self.mean) * self.scale
        return torch.where(widths > 0, settled, y)

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
        denoise, target = self.known_mean("complete", cond, len(x), q.guidance), self.scaled(x)
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
        denoise = self.known_mean("log_prob", cond, n)

        def slopes(z: Tensor, change: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            """dz/dtheta, and e^T (its Jacobian) e of each probe, (probes, B)."""
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                slope = angular(denoise, z, s)
                products = [torch.autograd.grad(slope, z, e, retain_graph=True)[0] * e for e in probes]
            return slope.detach(), torch.stack([product.flatten(1).sum(1) for product in products])

        grid = flow_grid(self.settings.ode_steps, like=x)
        z = self.scaled(x) / (grid[0] ** 2 + SD**2).sqrt()
        z, change = rk4(slopes, (z, x.new_zeros(len(probes), n)), grid)
        prior = -0.5 * z.flatten(1).square().sum(1) - 0.5 * dims * math.log(2 * math.pi * (S_MIN**2 + SD**2))
        constant = self.scale.log().expand(x.shape[1:]).sum() + self.smooth(x)[1]
        if exact:
            return prior + constant + change.sum(0), None
        return prior + constant + change.mean(0), change.std(0) / len(probes) ** 0.5

    @torch.no_grad()
    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The noise (B, *shape), near N(0, 1), that the probability-flow ODE carries x to."""
        grid, denoise = flow_grid(self.settings.ode_steps, like=x), self.known_mean("encode", cond, len(x))
        z = self.scaled(x) / (grid[0] ** 2 + SD**2).sqrt()
        return rk4(lambda z, s: (angular(denoise, z, s),), (z,), grid)[0]

    @torch.no_grad()
    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """The inverse of `encode`, up to the solver's error."""
        grid, denoise = flow_grid(self.settings.ode_steps, like=z).flip(0), self.known_mean("decode", cond, len(z))
        z = rk4(lambda z, s: (angular(denoise, z, s),), (z,), grid)[0]
        return self.unscaled(z * (grid[-1] ** 2 + SD**2).sqrt())
