"""What lies between an encoder and a decoder: Gaussian latents, or codes by finite scalar quantisation.

A bottleneck reads the encoder's output h (B, *outputs) and gives latents z (B, *shape).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from quintet.core.random import Generator, normal, uniform
from quintet.nets.mixture import Mixture

Shape = tuple[int, ...]


class Bottleneck(Protocol):
    """q(z | x) as read off h, and the prior p(z)."""

    shape: Shape
    outputs: Shape

    def mean(self, h: Tensor) -> Tensor:
        """The latent that stands for x."""

    def draw(self, h: Tensor, generator: Generator | None) -> Tensor:
        """z ~ q(z | x), with gradients to h."""

    def rates(self, h: Tensor) -> Tensor:
        """KL(q(z | x) || p(z)) in nats, (B, latents)."""

    def log_ratio(self, z: Tensor, h: Tensor) -> Tensor:
        """log p(z) - log q(z | x), (B,)."""

    def prior(self, n: int, temperature: float, generator: Generator | None, like: Tensor) -> Tensor:
        """z ~ p(z), (n, *shape)."""

    def snap(self, z: Tensor) -> Tensor:
        """The nearest z that the decoder is trained on."""


class GaussianLatents:
    """q = N(mean, std^2), p = N(0, 1), or a mixture that is fitted later; h holds the means and the log stds.

    `rates` are those of N(0, 1), by which a model is trained.
    """

    def __init__(self, shape: Shape, mixture: Mixture | None = None) -> None:
        self.shape, self.outputs, self.mixture = shape, (2 * shape[0], *shape[1:]), mixture

    def split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = h.chunk(2, 1)
        return mean, log_std.clamp(-7, 3)

    def mean(self, h: Tensor) -> Tensor:
        return self.split(h)[0]

    def draw(self, h: Tensor, generator: Generator | None) -> Tensor:
        mean, log_std = self.split(h)
        return mean + torch.exp(log_std) * normal(*mean.shape, generator=generator, like=mean)

    def rates(self, h: Tensor) -> Tensor:
        mean, log_std = self.split(h)
        return (0.5 * (mean**2 + torch.exp(2 * log_std) - 1) - log_std).flatten(1)

    def log_ratio(self, z: Tensor, h: Tensor) -> Tensor:
        mean, log_std = self.split(h)
        noise = (z - mean) * torch.exp(-log_std)
        if self.mixture is None:
            return (0.5 * noise**2 + log_std - 0.5 * z**2).flatten(1).sum(1)
        log_q = -(0.5 * noise**2 + log_std + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
        return self.mixture.log_prob(z.flatten(1)) - log_q

    def prior(self, n: int, temperature: float, generator: Generator | None, like: Tensor) -> Tensor:
        if self.mixture is not None:
            return self.mixture.sample(n, temperature, generator).view(n, *self.shape)
        return temperature * normal(n, *self.shape, generator=generator, like=like)

    def snap(self, z: Tensor) -> Tensor:
        return z


class FiniteScalars:
    """Finite scalar quantisation (Mentzer et al. 2023, arXiv:2309.15505): channel i takes `levels[i]` values.

    k = round(tanh(h + shift) half - offset), half = (L - 1) / 2 (1 + 1e-3), offset = 1/2 for even L and 0 for odd, and
    shift such that h = 0 gives 0; straight through in the backward pass. z = k / floor(L / 2), on [-1, 1]. A position's
    code is one of prod(L); its index counts the channels as digits, the first fastest. The prior is uniform over codes:
    q(z | x) is a point, and KL = log prod(L) a position, whatever x.
    """

    def __init__(self, levels: tuple[int, ...], positions: Shape) -> None:
        self.levels, self.positions = levels, positions
        self.shape = self.outputs = (len(levels), *positions)
        self.size = math.prod(levels)

    def _digits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(levels, what one of them counts in an index), for broadcasting over positions."""
        levels = torch.tensor(self.levels, device=like.device)
        place = torch.cumprod(torch.cat([levels.new_ones(1), levels[:-1]]), 0)
        return levels.view(-1, *[1] * len(self.positions)), place.view(-1, *[1] * len(self.positions))

    def mean(self, h: Tensor) -> Tensor:
        levels = self._digits(h)[0].to(h.dtype)
        half, offset = (levels - 1) / 2 * (1 + 1e-3), (levels % 2 == 0) * 0.5
        bounded = torch.tanh(h + torch.atanh(offset / half)) * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (levels // 2)

    def draw(self, h: Tensor, generator: Generator | None) -> Tensor:
        return self.mean(h)

    def rates(self, h: Tensor) -> Tensor:
        return torch.full((len(h), math.prod(self.positions)), math.log(self.size), dtype=h.dtype, device=h.device)

    def log_ratio(self, z: Tensor, h: Tensor) -> Tensor:
        """log p(z): q(z | x) is 1 where z is the code of x, which is the only z that may be asked for."""
        return -self.rates(h).sum(1)

    def prior(self, n: int, temperature: float, generator: Generator | None, like: Tensor) -> Tensor:
        u = uniform(n, math.prod(self.positions), generator=generator, like=like, dtype=torch.float64)
        return self.codes((u * self.size).long().clamp_max(self.size - 1), like)

    def snap(self, z: Tensor) -> Tensor:
        return self.codes(self.indices(z), z)

    def indices(self, z: Tensor) -> Tensor:
        """The codes nearest to z (B, *shape) as symbols (B, positions)."""
        levels, place = self._digits(z)
        middle = levels // 2
        k = (z.nan_to_num() * middle).round().long() + middle
        return (k.clamp_min(0).minimum(levels - 1) * place).sum(1).reshape(len(z), -1)

    def codes(self, indices: Tensor, like: Tensor) -> Tensor:
        """Symbols (B, positions) -> z (B, *shape)."""
        levels, place = self._digits(like)
        k = indices.to(like.device).view(len(indices), 1, *self.positions) // place % levels
        return (k - levels // 2).to(like.dtype) / (levels // 2)
