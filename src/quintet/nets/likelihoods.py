"""What a net's output means: p(x | params), one distribution a dimension.

Every head takes `params` (B, count, *shape) and x (B, *shape). `log_prob` is (B, *shape) nats: a density on continuous
data, a mass on symbols. `sample` draws x; with temperature 0 it gives the mode or mean.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.core.random import Generator, categorical, normal, uniform
from quintet.core.spaces import Continuous, Discrete
from quintet.nets.bits import Symbols


class Head(Protocol):
    """A distribution of one dimension; `count` parameters each."""

    count: int

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor: ...

    def sample(self, params: Tensor, generator: Generator | None, temperature: float) -> Tensor: ...


class Gaussian:
    """N(mean, exp(log_std)^2)."""

    count = 2

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        mean, log_std = params[:, 0], params[:, 1].clamp(-7, 5)
        return -0.5 * ((x - mean) * torch.exp(-log_std)) ** 2 - log_std - 0.5 * math.log(2 * math.pi)

    def sample(self, params: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        mean, log_std = params[:, 0], params[:, 1].clamp(-7, 5)
        if not temperature:
            return mean
        return mean + temperature * torch.exp(log_std) * normal(*mean.shape, generator=generator, like=mean)


class Bernoulli:
    """Data on two levels, -1 and 1. The mass p = sigmoid(logit), or 1 - p, is spread over the width 2 of the bin. It is
    sigmoid(logit sign(x)).
    """

    count = 1

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return F.logsigmoid(params[:, 0] * x.sign()) - math.log(2)

    def sample(self, params: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        p = torch.sigmoid(params[:, 0] / (temperature or 1))
        draw = uniform(*p.shape, generator=generator, like=p) if temperature else torch.full_like(p, 0.5)
        return torch.where(draw < p, 1.0, -1.0)


class Mixed(nn.Module):
    """Gaussian for the real dimensions of a space with `widths`, and one distribution for each symbol, whose bits
    (`Continuous.groups`, width 2) are not independent given a latent: see `Symbols`. Its nats are shared evenly among
    its bits.

    Dimensions of another width, which no codec makes, are taken for real ones. A net that has learnt nothing yet draws
    1 as often as the data hold it, see `Continuous.shares`.
    """

    def __init__(self, space: Continuous) -> None:
        super().__init__()
        self.symbols, self.gaussian = Symbols(space), Gaussian()
        self.masses = not any(width not in (0, 2) for width in space.widths or ())
        """Whether whatever is quantised is a bit, whose mass needs no noise."""
        self.count = self.gaussian.count + -(-self.symbols.size // space.dims)

    def _logits(self, params: Tensor) -> list[Tensor]:
        return self.symbols.logits(params[:, self.gaussian.count :].flatten(1)[:, : self.symbols.size])

    def _choose(self, bits: Tensor, reals: Tensor) -> Tensor:
        return torch.where(self.symbols.there.view(reals.shape[1:]), bits.view_as(reals), reals)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        # A mass is spread over the width 2 of its bin.
        bits = self.symbols.log_prob(self._logits(params), x.flatten(1)) - math.log(2)
        return self._choose(bits, self.gaussian.log_prob(params, x))

    def sample(self, params: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        reals = self.gaussian.sample(params, generator, temperature)
        bits = self.symbols.sample(self._logits(params), reals.flatten(1), generator, temperature)
        return self._choose(bits, reals)


class LogisticMixture:
    """A mixture of `components` logistics, integrated over the bin of each level (Salimans et al. 2017,
    arXiv:1701.05517).

    P(k) = sum_i pi_i [sigmoid((x_k + w/2 - mu_i)/s_i) - sigmoid((x_k - w/2 - mu_i)/s_i)], with the outer bins open. The
    mass is spread evenly over the bin, so that what is returned is a density.
    """

    def __init__(self, space: Continuous, components: int) -> None:
        self.space, self.components, self.count = space, components, 3 * components

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits, mean, log_scale = params.unflatten(1, (3, self.components)).unbind(1)
        log_scale, half = log_scale.clamp_min(-5), self.space.bin_width / 2
        level = self.space.quantise(x)
        offset = (level * self.space.bin_width - 1)[:, None] - mean
        inverse = torch.exp(-log_scale)
        upper, lower = (offset + half) * inverse, (offset - half) * inverse
        # log(sigmoid(u) - sigmoid(l)) = logsig(u) + logsig(-l) + log(1 - exp(l - u))
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        mass = torch.where(level[:, None] == 0, F.logsigmoid(upper), inside)
        mass = torch.where(level[:, None] == (self.space.levels or 1) - 1, F.logsigmoid(-lower), mass)
        return torch.logsumexp(torch.log_softmax(logits, 1) + mass, 1) - math.log(self.space.bin_width)

    def sample(self, params: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        logits, mean, log_scale = params.unflatten(1, (3, self.components)).unbind(1)
        if not temperature:
            return (torch.softmax(logits, 1) * mean).sum(1).clamp(-1, 1)
        chosen = categorical(logits.movedim(1, -1), generator)[:, None]
        mean, log_scale = mean.gather(1, chosen)[:, 0], log_scale.gather(1, chosen)[:, 0].clamp_min(-5)
        u = uniform(*mean.shape, generator=generator, like=mean).clamp(1e-6, 1 - 1e-6)
        x = mean + temperature * torch.exp(log_scale) * torch.logit(u)
        return self.space.quantise(x) * self.space.bin_width - 1


class Categorical:
    """One of `vocab_size` symbols, among those that the position allows; see `Discrete.start`."""

    def __init__(self, space: Discrete) -> None:
        self.space, self.count, self.prior = space, space.vocab_size, space.start()

    def logits(self, params: Tensor) -> Tensor:
        """(B, *shape, V) with -inf for symbols that a position may not take."""
        logits = params.movedim(1, -1)
        if self.prior is None:
            return logits
        return logits + self.prior.to(logits).view(*self.space.shape, -1)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        if self.space.sizes is None:
            return -F.cross_entropy(params, x, reduction="none")
        return torch.log_softmax(self.logits(params), -1).gather(-1, x[..., None])[..., 0]

    def sample(self, params: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        logits = self.logits(params)
        return categorical(logits / temperature, generator) if temperature else logits.argmax(-1)
