"""Generative adversarial network (Goodfellow et al. 2014, arXiv:1406.2661), by default as R3GAN (Huang et al. 2024).

L_G = E softplus(D(x) - D(G(z)))
L_D = E softplus(D(G(z)) - D(x)) + gamma/2 (E |grad D(x)|^2 + E |grad D(G(z))|^2)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from quintet.core import settings
from quintet.core.errors import ConfigError
from quintet.core.family import Batch, Family, Loss, Objective, OnStep, Part
from quintet.core.likelihood import upcast
from quintet.core.random import Generator, normal, uniform
from quintet.core.spaces import Continuous, Space
from quintet.nets.augment import Change, augmented
from quintet.nets.build import Net, decoder, encoder
from quintet.nets.conditioning import Conditioner, conditioner, tell, widths
from quintet.nets.given import How
from quintet.nets.latent import Energy, descend, hamiltonian


class Conditional(nn.Module):
    """A net and its own view of the condition: one of the two players, all of whose parameters move together."""

    def __init__(self, net: nn.Module, conditioner: Conditioner | None) -> None:
        super().__init__()
        self.net, self.conditioner = net, conditioner


class GAN(Family):
    """Generator x = G(z, c) against critic D(x, c) (arXiv:2501.05441 for `relativistic`).

    `loss`: relativistic with R1 + R2 penalties; non_saturating with R1 (Mescheder et al. 2018, arXiv:1801.04406);
    wasserstein with a gradient penalty on interpolates (Gulrajani et al. 2017, arXiv:1704.00028). The critic sees the
    condition, always a vector, by projection (Miyato & Koyama 2018): D(x, c) = sum(features(x) * embedding(c)) /
    sqrt(features). With `augment` it sees T(x) in the place of every x, real or made, in both losses, with T drawn anew
    each time (Zhao et al. 2020, arXiv:2006.10738).
    """

    class Settings(settings.Settings):
        net: Net = Field("auto", description="the kind of net; auto chooses by the shape of the data")
        width: int = Field(
            64, ge=1, le=2**16, description="hidden units of the generator, or channels of its first layer"
        )
        depth: int = Field(2, ge=1, le=1000, description="hidden layers, or convolution blocks at each size")
        critic_width: int = Field(
            64,
            ge=1,
            le=2**16,
            description="hidden units, or channels of the first layer, of the critic, which tells samples from data",
        )
        latent: int = Field(64, ge=1, le=2**16, description="how many random numbers an item is made from")
        waves: int = Field(
            0, ge=0, le=1024, description="mlp: how many sines and cosines of each number the net reads beside it"
        )
        loss: Literal["relativistic", "non_saturating", "wasserstein"] = Field(
            "relativistic", description="the loss of generator and critic"
        )
        gamma: float = Field(1.0, ge=0, description="weight of the gradient penalty: higher is steadier and slower")
        augment: tuple[Change, ...] = Field(
            (),
            description="random changes of all items that the critic sees, so that few real items suffice for longer",
        )
        emb: int = Field(64, ge=1, le=2**16, description="how many numbers describe the condition to the net")
        condition: How = "vector"

    class Sampling(settings.Settings):
        truncation: float = Field(
            1.0,
            gt=0,
            le=1,
            description="scale of the numbers that items are made from: below 1 is more faithful, less varied",
        )
        noise: float = Field(0.2, gt=0, description="searching for z: how far off, in data units, G(z) is taken to be")
        starts: int = Field(
            256, ge=1, le=2**16, description="searching for z: how many are drawn, of which the nearest are the starts"
        )
        tries: int = Field(
            4, ge=1, le=1024, description="searching for z: how many descents are tried, of which the best is taken"
        )
        search: int = Field(200, ge=1, le=100_000, description="searching for z: steps of each descent")
        moves: int = Field(
            30, ge=0, le=100_000, description="completing: number of Monte Carlo moves of z, each with five gradients"
        )

    name = "gan"
    about = "Sharp samples, made in one pass. It cannot say how likely an item is, and may leave out rare ones."
    accepts = (Continuous,)
    likelihood = "none"
    missing: Mapping[str, str] = {"log_prob": "a GAN is a sampler without a density"}
    space: Continuous

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        if s.augment and not self.space.sequence:
            raise ConfigError(
                "augmentation works only for pictures and recordings", where=f"data of shape {space.shape}",
                why="it moves, recolours or cuts out parts of an item, and plain numbers have no such parts",
                fix="--model.augment '[]'",
            )  # fmt: skip
        ready, features = widths(condition, s.emb, s.condition), s.emb if condition else 1
        make = decoder(s.net, (s.latent,), space.shape, s.width, s.depth, ready=ready, norm=False)
        see = encoder(s.net, space.shape, (features,), s.critic_width, s.depth, norm=False,
                      waves=s.waves)  # fmt: skip
        self.generator = Conditional(make, conditioner(condition, s.emb, s.condition))
        self.critic = Conditional(see, conditioner(condition, features))

    def objectives(self) -> dict[str, Objective]:
        return {
            "critic": Objective(self.critic, self.critic_loss),
            "generator": Objective(self.generator, self.generator_loss),
        }

    def generate(self, z: Tensor, cond: Tensor | None, generator: Generator | None = None) -> Tensor:
        """G(z, c); tanh keeps quantised data on [-1, 1]."""
        x = upcast(self.generator.net(z, tell(self.generator.conditioner, cond, len(z), generator)))
        return x if self.space.levels is None else torch.tanh(x)

    def judge(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """D(x, c), (B,)."""
        h, emb = upcast(self.critic.net(x)), tell(self.critic.conditioner, cond, len(x)).emb
        return h[:, 0] if emb is None else (h * emb).sum(1) / h.shape[1] ** 0.5

    def fake(self, batch: Batch) -> Tensor:
        """As many samples as the batch has items, dequantised as those are, so that no level gives them away."""
        like = next(self.parameters())
        z = normal(len(batch.x), self.settings.latent, generator=batch.generator, like=like)
        return self.space.dequantise(self.generate(z, batch.cond, batch.generator), batch.generator)

    def shown(self, x: Tensor, batch: Batch) -> Tensor:
        """What the critic sees of x: T(x)."""
        return augmented(x, self.settings.augment, batch.generator)

    def critic_loss(self, batch: Batch) -> Loss:
        with torch.no_grad():
            fake, real = self.shown(self.fake(batch), batch), self.shown(batch.x, batch)
        kind = self.settings.loss
        points = [real, fake] if kind == "relativistic" else [real]
        if kind == "wasserstein":
            mix = uniform(len(fake), *[1] * (fake.dim() - 1), generator=batch.generator, like=fake)
            points = [mix * real + (1 - mix) * fake]
        points = [x.detach().requires_grad_() for x in points]
        judged = [self.judge(x, batch.cond) for x in points]
        squared = [
            g.flatten(1).square().sum(1)
            for g in torch.autograd.grad([d.sum() for d in judged], points, create_graph=True)
        ]
        if kind == "relativistic":
            d_real, d_fake = judged
            value, penalty = F.softplus(d_fake - d_real).mean(), 0.5 * (squared[0] + squared[1]).mean()
        elif kind == "non_saturating":
            d_real, d_fake = judged[0], self.judge(fake, batch.cond)
            value, penalty = (F.softplus(d_fake) + F.softplus(-d_real)).mean(), 0.5 * squared[0].mean()
        else:
            d_real, d_fake = self.judge(real, batch.cond), self.judge(fake, batch.cond)
            value, penalty = (d_fake - d_real).mean(), (squared[0].sqrt() - 1).square().mean()
        parts = {"margin": (d_real - d_fake).mean(), "penalty": penalty}
        return Loss(value + self.settings.gamma * penalty, parts)

    def generator_loss(self, batch: Batch) -> Loss:
        d_fake = self.judge(self.shown(self.fake(batch), batch), batch.cond)
        if self.settings.loss == "relativistic":
            return Loss(F.softplus(self.judge(self.shown(batch.x, batch), batch.cond) - d_fake).mean())
        return Loss(F.softplus(-d_fake).mean() if self.settings.loss == "non_saturating" else -d_fake.mean())

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
        s = sampling or self.Sampling()
        z = s.truncation * normal(n, self.settings.latent, generator=generator, like=next(self.parameters()))
        x = self.generate(z, cond)
        if on_step:
            on_step(1, 1, x)
        return x

    @torch.no_grad()
    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """G(z, c)."""
        return self.generate(z, cond)

    def parts(self, x: Tensor, cond: Tensor | None, sampling: Any) -> dict[str, Part]:
        return {"sample": self.sampled_in_one(len(x), cond, sampling)}

    def energy(self, x: Tensor, known: Tensor, cond: Tensor | None, s: Sampling) -> Energy:
        """-log p(z | known entries of x) if x = G(z) + s.noise * noise: what is missed, and how unlikely z is."""

        def energy(z: Tensor) -> Tensor:
            gap = torch.where(known, self.generate(z, cond) - x, 0.0) / s.noise
            return 0.5 * (gap.flatten(1).square().sum(1) + (z / s.truncation).square().sum(1))

        return energy

    def search(self, energy: Energy, z: Tensor, x: Tensor, known: Tensor, cond: Tensor | None, s: Sampling) -> Tensor:
        """The likeliest z (B, latent), downhill from those `tries` of z (B, starts, latent) whose G(z) is nearest to x.

        A single way often ends in a poor valley of the energy.
        """
        gaps = []
        for start in z.unbind(1):  # one at a time: all of G(z) at once would not fit
            gap = torch.where(known, self.generate(start, cond) - x, 0.0)
            gaps.append(gap.flatten(1).square().sum(1))
        near = torch.stack(gaps, 1).topk(min(s.tries, z.shape[1]), largest=False).indices
        rows = torch.arange(len(z), device=z.device)
        ends = [descend(energy, z[rows, k], steps=s.search) for k in near.unbind(1)]
        lowest = torch.stack([energy(end) for end in ends], 1).argmin(1)
        return torch.stack(ends, 1)[rows, lowest]

    @torch.no_grad()
    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """argmin_z |G(z) - x|^2 / (2 noise^2) + |z|^2 / 2, (B, latent), by a search: a GAN has no encoder.

        It is the `search` of the default Sampling, from draws that are the same for every item.
        """
        s, known = self.Sampling(), torch.ones_like(x, dtype=torch.bool)
        first = torch.Generator(x.device).manual_seed(0)
        z = normal(s.starts, self.settings.latent, generator=first, like=x).expand(len(x), -1, -1)
        return self.search(self.energy(x, known, cond, s), z, x, known, cond, s)

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
        """G(z) with what is known pasted in (semantic inpainting, Yeh et al. 2017, arXiv:1607.07539).

        z is a draw from p(z | known) if data are G(z) + noise: the likeliest z, then Hamiltonian Monte Carlo.
        """
        s = sampling or self.Sampling()
        energy = self.energy(x, known, cond, s)
        z = s.truncation * normal(len(x), s.starts, self.settings.latent, generator=generator, like=x)
        z = self.search(energy, z, x, known, cond, s)
        show = None if on_step is None else lambda move, z: on_step(move, s.moves, self.generate(z, cond))
        z = hamiltonian(energy, z, moves=s.moves, generator=generator, report=show)
        return torch.where(known, x, self.generate(z, cond))
