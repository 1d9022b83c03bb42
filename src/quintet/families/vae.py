"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114).

z = mean(x) + std(x) * noise,      log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from quintet.core import settings
from quintet.core.errors import ConfigError
from quintet.core.family import Batch, Family, Loss, OnStep
from quintet.core.random import Generator, normal
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.nets.build import Net, decoder, encoder, upcast
from quintet.nets.conditioning import conditioner, embed
from quintet.nets.likelihoods import Bernoulli, Categorical, Gaussian, Head, LogisticMixture


class VAE(Family):
    """q(z | x, c) = N(mean, std^2), p(z) = N(0, 1), p(x | z, c) by `likelihood`.

    loss = (distortion + beta * rate) / dims: distortion = -E_q log p(x | z), rate = KL(q || p) summed over latents,
    with at least `free_bits` nats a latent (Kingma et al. 2016). `log_prob` is the IWAE-k bound (Burda et al. 2016).
    """

    class Settings(settings.Settings):
        net: Net = "auto"
        width: int = Field(64, ge=1)
        depth: int = Field(2, ge=1)
        latent: int = Field(32, ge=1)
        likelihood: Literal["auto", "gaussian", "bernoulli", "logistic_mixture", "categorical"] = "auto"
        components: int = Field(5, ge=1, description="logistics in the mixture")
        beta: float = Field(1.0, ge=0)
        free_bits: float = Field(0.0, ge=0, description="nats a latent that cost nothing")
        dropout: float = Field(0.0, ge=0, lt=1)
        importance: int = Field(64, ge=1, description="k of the IWAE-k bound in log_prob")
        emb: int = Field(64, ge=1)

    class Sampling(settings.Settings):
        temperature: float = Field(1.0, ge=0, description="of the prior")
        pixel_temperature: float = Field(1.0, ge=0, description="of p(x | z); 0 shows its mean")

    name = "vae"
    accepts = (Continuous, Discrete)
    likelihood = "bound"
    missing: ClassVar[Mapping[str, str]] = {}

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.head = head_for(space, s.likelihood, s.components)
        emb = s.emb if condition else 0
        shape = space.shape if isinstance(space, Continuous) else (space.vocab_size, *space.shape)
        outer = (self.head.count * space.shape[0], *space.shape[1:])
        self.conditioner = conditioner(condition, s.emb)
        self.encoder = encoder(s.net, shape, (2, s.latent), s.width, s.depth, emb=emb, dropout=s.dropout)
        self.decoder = decoder(s.net, (s.latent,), outer, s.width, s.depth, emb=emb, dropout=s.dropout)

    def posterior(self, x: Tensor, emb: Tensor | None) -> tuple[Tensor, Tensor]:
        """mean and log_std of q(z | x), (B, latent) each."""
        if isinstance(self.space, Discrete):
            x = F.one_hot(x, self.space.vocab_size).movedim(-1, 1).to(next(self.parameters()).dtype)
        mean, log_std = upcast(self.encoder(x, emb)).unbind(1)
        return mean, log_std.clamp(-7, 3)

    def params(self, z: Tensor, emb: Tensor | None) -> Tensor:
        """(B, count, *shape) for the head."""
        return upcast(self.decoder(z, emb)).view(len(z), self.head.count, *self.space.shape)

    def loss(self, batch: Batch) -> Loss:
        emb = embed(self.conditioner, batch.cond, len(batch.x), batch.generator)
        mean, log_std = self.posterior(batch.x, emb)
        z = mean + torch.exp(log_std) * normal(*mean.shape, generator=batch.generator, like=mean)
        distortion = -self.head.log_prob(self.params(z, emb), batch.x).flatten(1).sum(1).mean()
        rates = 0.5 * (mean**2 + torch.exp(2 * log_std) - 1) - log_std  # (B, latent)
        rate = rates.mean(0).clamp_min(self.settings.free_bits).sum()
        value = (distortion + self.settings.beta * rate) / self.space.dims
        return Loss(value, {"distortion": distortion, "rate": rates.sum(1).mean()})

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
        like = next(self.parameters())
        z = s.temperature * normal(n, self.settings.latent, generator=generator, like=like)
        x = self.head.sample(self.params(z, embed(self.conditioner, cond, n)), generator, s.pixel_temperature)
        if on_step:
            on_step(1, 1, x)
        return x

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        """IWAE-k: log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x) <= log p(x)."""
        return self.importance(x, cond, self.settings.importance, generator)

    def importance(self, x: Tensor, cond: Tensor | None, k: int, generator: Generator | None) -> Tensor:
        """The IWAE-k bound for any k; k = 1 is one draw of the ELBO."""
        emb = embed(self.conditioner, cond, len(x))
        mean, log_std = self.posterior(x, emb)
        weights = []
        for _ in range(k):
            noise = normal(*mean.shape, generator=generator, like=mean)
            z = mean + torch.exp(log_std) * noise
            log_ratio = (0.5 * noise**2 + log_std - 0.5 * z**2).sum(1)  # log p(z) - log q(z | x)
            weights.append(log_ratio + self.head.log_prob(self.params(z, emb), x).flatten(1).sum(1))
        return torch.logsumexp(torch.stack(weights), 0) - math.log(k)

    @torch.no_grad()
    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The posterior mean (B, latent)."""
        return self.posterior(x, embed(self.conditioner, cond, len(x)))[0]

    @torch.no_grad()
    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """The mean (or mode) of p(x | z)."""
        return self.head.sample(self.params(z, embed(self.conditioner, cond, len(z))), None, 0.0)


def head_for(space: Space, likelihood: str, components: int) -> Head:
    """The distribution of one dimension; `auto` takes what fits the space."""
    if isinstance(space, Discrete):
        if likelihood not in ("auto", "categorical"):
            raise ConfigError(f"{likelihood} does not describe symbols", fix="--model.likelihood categorical")
        return Categorical(space)
    if likelihood == "auto":
        likelihood = {None: "gaussian", 2: "bernoulli"}.get(space.levels, "logistic_mixture")
    if likelihood == "gaussian":
        return Gaussian()
    if likelihood == "bernoulli" and space.levels == 2:
        return Bernoulli()
    if likelihood == "logistic_mixture" and space.levels:
        return LogisticMixture(space, components)
    raise ConfigError(f"{likelihood} does not describe {space}", fix="--model.likelihood auto")
