"""What a net's output means: p(x | params), one distribution a dimension.

Every head takes `params` (B, count, *shape) and x (B, *shape). `log_prob` is (B, *shape) nats: a density on continuous
data, a mass on symbols. `sample` draws x; with temperature 0 it gives the mode or mean.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from quintet.core.random import Generator, categorical, normal, uniform
from quintet.core.spaces import Continuous, Discrete


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


TOGETHER = 6
"""Most bits that have one distribution, of 2^6 logits. The bits of a longer symbol are cut into pieces of so many."""


class Mixed:
    """Gaussian for the real dimensions of a space with `widths`. The bits of a symbol (`Continuous.groups`, width 2)
    have one distribution,

        p(bits) = softmax(logits)[k],   k = sum_i 2^i [bit_i = 1],

    since given a latent the bits of a symbol are not independent. Its nats are shared evenly among them.

    Dimensions of another width, which no codec makes, are taken for real ones. A net that has learnt nothing yet draws
    1 as often as the data hold it, see `Continuous.shares`.
    """

    def __init__(self, space: Continuous) -> None:
        bit = [width == 2 for width in space.widths or ()]
        self.bits, self.gaussian = torch.tensor(bit).view(space.shape), Gaussian()
        self.masses = not any(width not in (0, 2) for width in space.widths or ())
        """Whether whatever is quantised is a bit, whose mass needs no noise."""
        pieces, first = list[tuple[int, int]](), 0  # the first dimension of each, and how many it has
        for size in space.groups or (1,) * space.dims:
            end = first + size
            pieces += [(i, min(TOGETHER, end - i)) for i in range(first, end, TOGETHER) if bit[i]]
            first = end
        start, self.sizes = torch.tensor(pieces or [(0, 1)]).unbind(1)  # of reals alone: one that nothing asks for
        place, pattern = torch.arange(int(self.sizes.max())), torch.arange(2 ** int(self.sizes.max()))
        self.there = place < self.sizes[:, None]  # (pieces, places)
        self.places = torch.where(self.there, start[:, None] + place, 0)
        self.piece = torch.zeros(space.dims, dtype=torch.long)  # of each bit
        self.piece[self.places[self.there]] = self.there.nonzero()[:, 0]
        self.signs = (pattern[:, None] >> place & 1) * 2.0 - 1  # (patterns, places)
        # A piece of n bits has n * count parameters, those of its dimensions, for its 2^n logits.
        self.count = max([2, *(-(-(2**size) // size) for _, size in pieces)])
        at = pattern % self.count * space.dims + start[:, None] + pattern // self.count  # (pieces, patterns)
        possible = pattern < 2 ** self.sizes[:, None]
        self.at = torch.where(possible, at, 0)
        one = torch.tensor(space.shares or [0.5] * space.dims, dtype=torch.float64)[self.places][:, None]
        each = torch.where(self.signs > 0, one, 1 - one).log().masked_fill(~self.there[:, None], 0.0)
        self.start = each.sum(-1).masked_fill(~possible, -torch.inf)

    def _logits(self, params: Tensor) -> Tensor:
        """(B, pieces, patterns)."""
        return params.flatten(1)[:, self.at.to(params.device)] + self.start.to(params)

    def _choose(self, bits: Tensor, reals: Tensor) -> Tensor:
        return torch.where(self.bits.to(bits.device), bits.view_as(reals), reals)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        there = self.there.to(x.device)
        ones = (x.flatten(1)[:, self.places.to(x.device)] > 0) & there
        pattern = (ones << torch.arange(there.shape[1], device=x.device)).sum(-1, keepdim=True)
        nats = self._logits(params).log_softmax(-1).gather(-1, pattern)[..., 0] / self.sizes.to(x.device)
        bits = nats[:, self.piece.to(x.device)] - math.log(2)  # a mass is spread over the width 2 of its bin
        return self._choose(bits, self.gaussian.log_prob(params, x))

    def sample(self, params: Tensor, generator: Generator | None, temperature: float) -> Tensor:
        reals, logits = self.gaussian.sample(params, generator, temperature), self._logits(params)
        pattern = categorical(logits / temperature, generator) if temperature else logits.argmax(-1)
        signs, bits = self.signs.to(reals)[pattern], torch.zeros_like(reals).flatten(1)
        there = self.there.to(reals.device)
        bits[:, self.places.to(reals.device)[there]] = signs[:, there]
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
