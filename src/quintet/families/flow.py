"""Normalising flows: couplings, autoregression, wavelets, Transformers, and Glow over one list of invertible layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from quintet.core.errors import Unsupported
from quintet.core.family import Batch, Family, Loss, OnStep, Part, given_as
from quintet.core.random import Generator, normal
from quintet.core.spaces import Continuous, Space
from quintet.nets.chains import autoregressions, couplings, glow, transformers, wavelets
from quintet.nets.conditioning import conditioner, tell, widths
from quintet.nets.elementwise import Affine, Spline
from quintet.nets.flows import (
    Guided,
    Invertible,
    MaybeGuided,
    Narrow,
    Standardise,
    Whiten,
)
from quintet.nets.given import How
from quintet.nets.latent import hamiltonian, nearest_candidate, slope
from quintet.nets.scales import has_scales, squeezable
from quintet.nets.tarflow import PatchAutoregressive

Kind = Literal["auto", "coupling", "autoregressive", "wavelet", "glow", "transformer"]
SCALES = ("wavelet", "glow")
"""Kinds that halve an item's axes again and again."""


class Flow(Family):
    """log p(x) = log N(f(x); 0, 1) + log |det df/dx| with an invertible f, a chain of layers (arXiv:1912.02762).

    All layers act on flat vectors; those of a deeper scale act on the leading entries only, which is what squeezing and
    splitting amount to. The likelihood is exact.
    """

    class Settings(Family.Settings):
        """`layers`: couplings, masked layers, Transformers, or Glow steps a scale; `depth`: hidden layers of each. Of
        wavelets both are of the coarsest scale, and nets of the details have a quarter of `width`.

        `box` is in standard deviations. `dropout` is what small data need: 0.3 to 0.4 at a thousand items; at ten
        thousand, 0.3 costs 0.02 nats per dimension.
        """

        kind: Kind = Field("auto", description="the architecture; auto chooses by the shape of the data")
        transform: Literal["auto", "affine", "spline"] = Field(
            "auto", description="what a layer does to each number: affine is simple, spline is flexible"
        )
        layers: int = Field(
            6, ge=1, le=1000, description="couplings, masked layers, Transformers, or Glow steps a scale"
        )
        width: int = Field(128, ge=1, le=2**16, description="hidden units of the nets within a layer")
        depth: int = Field(2, ge=1, le=1000, description="hidden layers of the nets within a layer")
        bins: int = Field(8, ge=2, le=1024, description="pieces of a spline")
        box: float = Field(5.0, gt=0, description="standard deviations within which a spline bends")
        dropout: float = Field(
            0.2,
            ge=0,
            lt=1,
            description="share of hidden numbers that training sets to zero; small data need 0.3 to 0.4",
        )
        heads: int | None = Field(
            None, ge=1, le=1024, description="transformer: attention heads of a layer; none: one for 32 hidden units"
        )
        patch: int | None = Field(
            None,
            ge=1,
            le=4096,
            description="transformer: side of the patches that follow each other; none: by the item's size",
        )
        noise: float = Field(
            0.0, ge=0, description="noise that training adds to items, in data units; samples are then denoised"
        )
        emb: int = Field(64, ge=1, le=2**16, description="how many numbers describe the condition to the net")
        condition: How = "vector"
        guidance_dropout: float = Field(
            0.1, ge=0, lt=1, description="how often training hides the condition, which guidance needs"
        )

    class Sampling(Family.Sampling):
        temperature: float = Field(
            1.0, ge=0, description="scale of the noise that items are made from: below 1 is more typical, less varied"
        )
        guidance: float = Field(
            1.0,
            ge=0,
            description="above 1 keeps closer to the condition: null + guidance * (conditional - null)",
        )
        starts: int = Field(
            64,
            ge=2,
            le=2**16,
            description="completing: how many items are drawn, of which the nearest to what is known is the start",
        )
        moves: int = Field(
            100, ge=1, le=100_000, description="completing: number of Monte Carlo moves, each with five gradients"
        )

    name = "flow"
    about = (
        "Exact likelihoods, and latents from which every item comes back. "
        "It needs longer for samples as good as others'."
    )
    accepts: ClassVar[tuple[type[Space], ...]] = (Continuous,)
    likelihood = "exact"
    space: Continuous
    layers: nn.ModuleList

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.conditioner = conditioner(condition, s.emb, s.condition, dropout=s.guidance_dropout)
        kind = resolve(s.kind, space.shape)
        if (kind in SCALES and not has_scales(space.shape)) or (kind == "coupling" and space.dims < 2):
            raise Unsupported(
                f"a flow of kind {kind} cannot be used for data of shape {space.shape}",
                why="such a flow divides the numbers of an item into two parts, which is not possible here",
                fix="use --model.kind auto",
            )
        spline = s.transform == "spline" or (s.transform == "auto" and kind != "glow")
        affine = Affine(most=5.0, widest=0.2) if kind in SCALES else Affine()
        transform = Spline(s.bins, s.box) if spline else affine
        build = BUILD[kind]
        shape = space.shape if kind in (*SCALES, "transformer") else (space.dims,)
        floor = 1e-3 if getattr(space, "levels", None) is None else 0.5  # quantised data share one scale
        narrows = [Narrow(torch.tensor(self.space.bits))] if any(self.space.bits) else []
        self.layers = nn.ModuleList(
            [
                *narrows,
                Standardise(shape, floor=floor),
                *build(shape, transform, s, widths(condition, s.emb, s.condition)),
            ]
        )

    @property
    def chain(self) -> list[Invertible]:
        """The layers, from x to z."""
        return [layer for layer in self.layers if isinstance(layer, Invertible)]

    def initialise(self, batch: Batch) -> None:
        with torch.no_grad(), evaluating(self):
            x = batch.x.flatten(1)
            given = tell(self.conditioner, batch.cond, len(x))
            for layer in self.chain:
                if isinstance(layer, Standardise | Whiten):
                    layer.initialise(x[:, : layer.size])
                x, _ = forward(layer, x, given)

    def loss(self, batch: Batch) -> Loss:
        """-mean log p(x | cond) / dims, in nats."""
        x, noise = batch.x, self.settings.noise
        if noise:
            x = x + noise * normal(*x.shape, generator=batch.generator, like=x)
        value = -self.log_density(x, batch.cond, batch.generator).mean() / self.space.dims
        return Loss(value, {"nats_per_dim": value.detach()})

    def log_density(self, x: Tensor, cond: Tensor | None, generator: Generator | None) -> Tensor:
        """log p(x | cond) (B,), in the mode the modules are in (so with dropout while training)."""
        z, log_det = self.flow(x, tell(self.conditioner, cond, len(x), generator))
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def flow(self, x: Tensor, given: MaybeGuided) -> tuple[Tensor, Tensor]:
        """z = f(x) (B, dims) and log |det df/dx| (B,)."""
        z, total = x.flatten(1), x.new_zeros(len(x))
        for layer in self.chain:
            z, log_det = forward(layer, z, given)
            total = total + log_det
        return z, total

    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        with evaluating(self), torch.autocast(x.device.type, enabled=False):
            return self.log_density(x, cond, generator)

    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """z = f(x), standard normal under the model, in the shape of x."""
        with evaluating(self), torch.autocast(x.device.type, enabled=False):
            return self.flow(x, tell(self.conditioner, cond, len(x)))[0].view(x.shape)

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """x = f^-1(z)."""
        with evaluating(self):
            return self.invert(z, tell(self.conditioner, cond, len(z)))

    def given(self, cond: Tensor | None, n: int, guidance: float) -> MaybeGuided:
        """What the layers are told: the condition, guided unless `guidance` is 1."""
        given, null = tell(self.conditioner, cond, n), tell(self.conditioner, None, n)
        return given if guidance == 1 or cond is None else Guided(given, null, guidance)

    def invert(self, z: Tensor, given: MaybeGuided, on_step: OnStep | None = None) -> Tensor:
        """x = f^-1(z), layer by layer."""
        with evaluating(self), torch.autocast(z.device.type, enabled=False):
            x = z.flatten(1)
            for step, layer in enumerate(reversed(self.chain), start=1):
                x = inverse(layer, x, given)
                if on_step is not None:
                    on_step(step, len(self.layers), x.view(z.shape))
        return x.view(z.shape)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        cond: Tensor | None = None,
        *,
        sampling: Any = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        s = sampling or self.Sampling()
        noise = normal(n, *self.space.shape, generator=generator, like=next(self.parameters()))
        with evaluating(self):
            given = self.given(cond, n, s.guidance)
            return self.denoised(self.invert(noise * s.temperature, given, on_step), given)

    def denoised(self, x: Tensor, given: MaybeGuided) -> Tensor:
        """E[item | item + noise = x] = x + noise^2 grad log p(x) (Tweedie), where training adds noise to items."""
        if not self.settings.noise:
            return x
        energy = lambda u: 0.5 * (found := self.flow(u, given))[0].square().sum(1) - found[1]  # noqa: E731
        with torch.autocast(x.device.type, enabled=False):
            return x - self.settings.noise**2 * slope(energy, x.flatten(1))[1].view(x.shape)

    def parts(self, x: Tensor, cond: Tensor | None, sampling: Any) -> dict[str, Part]:
        """Without `decode` and `sample` where those take a pass a patch, and without `sample` where it is denoised."""
        given = given_as("cond", cond)
        parts = {
            "encode": Part(self.encode, {"x": x} | given, ("z",)),
            "log_prob": Part(self.log_prob, {"x": x} | given, ("nats",)),
        }
        if any(isinstance(layer, PatchAutoregressive) for layer in self.chain):
            return parts
        parts["decode"] = Part(self.decode, {"z": self.encode(x, cond)} | given, ("x",))
        return parts if self.settings.noise else parts | {"sample": self.sampled_in_one(len(x), cond, sampling)}

    @torch.no_grad()
    def complete(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None = None,
        *,
        sampling: Any = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """p(unknown | known) ~ p(known, unknown), whose density is exact, by Hamiltonian Monte Carlo.

        Each row starts from that of `starts` draws of the flow which is nearest in the known entries, and moves in
        units of the spread of those draws. Known entries of quantised data are spread over their bin, as in training.
        A row's numbers do not depend on the batch, but where the density is rough a chain amplifies rounding errors,
        which do.
        """
        s, n = sampling or self.Sampling(), len(x)
        fixed, mask = self.space.dequantise(x, generator).flatten(1), known.flatten(1)
        temperature = max(s.temperature, 0.05)  # a chain cannot move at 0
        noise = temperature * normal(n, s.starts, self.space.dims, generator=generator, like=fixed)
        with evaluating(self), torch.autocast(x.device.type, enabled=False):
            given = self.given(cond, n, s.guidance)
            draws = torch.stack([self.invert(z, given) for z in noise.unbind(1)], 1)  # (B, starts, dims)

            def energy(u: Tensor) -> Tensor:
                z, log_det = self.flow(torch.where(mask, fixed, u), given)
                return 0.5 * (z / temperature).square().sum(1) - log_det

            scale = draws.std(1).clamp_min(1e-6)
            start = draws[torch.arange(n, device=x.device), nearest_candidate(draws, fixed, mask, scale)]
            report = None if on_step is None else lambda move, u: on_step(move, s.moves, u.view(x.shape))
            u = hamiltonian(energy, start, moves=s.moves, generator=generator, scale=scale, report=report)
        return torch.where(known, x, u.view(x.shape))


def resolve(kind: Kind, shape: tuple[int, ...]) -> Kind:
    """The kind that `auto` means for this shape.

    Up to 1,024 dimensions (28 x 28 included) flat couplings learn far more in the same time than convolutions do: MNIST
    after 75 s on one core, -3.29 against -2.43 nats per dimension.
    """
    if kind != "auto":
        return kind
    dims = math.prod(shape)
    if dims > 1024 and len(shape) in (2, 3) and squeezable(shape):
        return "wavelet"
    return "coupling" if dims > 1 else "autoregressive"


BUILD: dict[Kind, Callable[..., list[Invertible]]] = {
    "coupling": couplings,
    "autoregressive": autoregressions,
    "wavelet": wavelets,
    "glow": glow,
    "transformer": transformers,
}
"""Shape, transform, settings and what the layers are given -> the layers of each kind."""


def forward(layer: Invertible, x: Tensor, given: MaybeGuided) -> tuple[Tensor, Tensor]:
    """The layer on the first `layer.size` entries; the others have left."""
    z, log_det = layer(x[:, : layer.size], given)
    return (z if layer.size == x.shape[1] else torch.cat([z, x[:, layer.size :]], 1)), log_det


def inverse(layer: Invertible, z: Tensor, given: MaybeGuided) -> Tensor:
    """The inverse of `forward`."""
    x = layer.inverse(z[:, : layer.size], given)
    return x if layer.size == z.shape[1] else torch.cat([x, z[:, layer.size :]], 1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout, whatever mode the module is in."""
    training = module.training
    try:
        if training:
            module.eval()
        yield
    finally:
        if training:
            module.train()
