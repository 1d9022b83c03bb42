"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114).

z = mean(x) + std(x) * noise,      log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z))
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from quintet.core import settings
from quintet.core.errors import ConfigError, Unsupported
from quintet.core.family import Batch, Family, Loss, OnStep, Part, given_as
from quintet.core.likelihood import upcast
from quintet.core.random import Generator, uniform
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.nets.bottleneck import Bottleneck, FiniteScalars, GaussianLatents
from quintet.nets.build import Net, decoder, encoder, resolve
from quintet.nets.conditioning import conditioner, tell, widths
from quintet.nets.conv import ConvDecoder, ConvEncoder, sizes
from quintet.nets.given import Given, How
from quintet.nets.likelihoods import Bernoulli, Categorical, Gaussian, Head, LogisticMixture, Mixed
from quintet.nets.mixture import Mixture

ONE_HOT = 32
"""Up to this many symbols are read as one-hot vectors; more, as learnt vectors of this width."""
LARGE = 4096
"""Numbers of an item beyond which several logistic distributions each take too much of a step."""
MIXED = 256
"""Latents of which a mixture is fitted at most: each of its Gaussians has as many numbers as their square."""
STARTS = 32
"""Draws from the prior among which a chain that completes an item finds its beginning."""


class VAE(Family):
    """p(x | z, c) by `likelihood`, on real and on symbolic data; q(z | x, c) and p(z) by `bottleneck`:

    - gaussian: q = N(mean, std^2), p = N(0, 1). With `prior` > 0 latents are drawn and scored by a mixture of so many
      Gaussians, fitted to draws of q(z | x) of training items when the weights stand (arXiv:1903.12436);
    - fsq: z is one of the codes of finite scalar quantisation (arXiv:2309.15505), and p is uniform over them. So its
      own samples are poor; a second model of the codes (`--codec` with this run) makes it a generator.

    `latent` numbers (or codes) describe an item; with `grid` they are a map of `latent` channels (or of codes) that is
    `grid` times smaller than the item along each axis, and keeps its layout.

    loss = (distortion + beta * rate) / dims: distortion = -E_q log p(x | z), rate = KL(q || p) summed over latents,
    with at least `free_bits` nats a latent (Kingma et al. 2016); beta rises from 0 in the first `warmup` of training
    (Bowman et al. 2016, arXiv:1511.06349). `log_prob` is the IWAE-k bound (Burda et al. 2016),
    for fsq log p(x) >= log p(x | z(x)) + log p(z(x)), one term of the sum over all codes.
    """

    class Settings(settings.Settings):
        net: Net = Field("auto", description="the kind of net; auto chooses by the shape of the data")
        width: int = Field(64, ge=1, le=2**16, description="hidden units, or channels of the first layer")
        depth: int = Field(2, ge=1, le=1000, description="hidden layers, or convolution blocks at each size")
        bottleneck: Literal["gaussian", "fsq"] = Field(
            "gaussian", description="gaussian: continuous latents; fsq: codes, which a second model can learn"
        )
        latent: int = Field(
            32,
            ge=1,
            le=2**16,
            description="how many numbers, or codes, describe an item; with grid: how many at each position",
        )
        grid: int | None = Field(
            None,
            ge=1,
            le=1024,
            description="latents form a map whose sides are this power of two times shorter than the item's",
        )
        fsq_levels: tuple[Annotated[int, Field(ge=2, le=1024)], ...] = Field(
            (8, 5, 5, 5), min_length=1, max_length=16, description="values that each channel of a code can take"
        )
        likelihood: Literal["auto", "gaussian", "bernoulli", "logistic_mixture", "categorical"] = Field(
            "auto", description="the distribution p(x | z); auto chooses by the data"
        )
        components: int | None = Field(
            None,
            ge=1,
            le=1024,
            description="logistic distributions in the mixture of each value; none: 5, or 1 where an item has more "
            "than 4,096 values",
        )
        beta: float = Field(
            1.0, ge=0, description="weight of the rate KL(q(z | x) | p(z)): higher is smoother, lower is sharper"
        )
        warmup: float = Field(
            0.0, ge=0, le=1, description="share of training in which the weight of the rate rises from zero"
        )
        prior: int = Field(
            0,
            ge=0,
            le=4096,
            description="Gaussians in a prior that is fitted to the latents after training; 0: the prior is N(0, 1)",
        )
        free_bits: float = Field(
            0.0, ge=0, description="how many nats each latent may use at no cost, against posterior collapse"
        )
        waves: int = Field(
            0, ge=0, le=1024, description="mlp: how many sines and cosines of each number the net reads beside it"
        )
        dropout: float = Field(
            0.0, ge=0, lt=1, description="share of hidden numbers that training sets to zero, against overfitting"
        )
        importance: int = Field(
            64,
            ge=1,
            le=2**16,
            description="draws of latents that a score averages over (k of IWAE-k): more is tighter and slower",
        )
        emb: int = Field(64, ge=1, le=2**16, description="how many numbers describe the condition to the net")
        condition: How = "vector"

        @model_validator(mode="after")
        def grid_halves(self) -> Self:
            if self.grid is not None and self.grid & (self.grid - 1):
                raise ValueError(f"grid {self.grid} is no power of two")
            return self

    class Sampling(settings.Settings):
        temperature: float = Field(
            1.0, ge=0, description="scale of the latents that are drawn: below 1 is more typical, less varied"
        )
        pixel_temperature: float = Field(1.0, ge=0, description="scale of the noise of p(x | z); 0 shows its mean")
        iterations: int = Field(64, ge=1, le=100_000, description="steps of the Markov chain that completes items")

    name = "vae"
    about = "Quick and steady to train, with latents and a likelihood; fills holes. Its pictures are a little soft."
    accepts = (Continuous, Discrete)
    likelihood = "bound"
    missing: Mapping[str, str] = {}
    bottleneck: Bottleneck

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.head = head_for(space, s.likelihood, s.components or (5 if space.dims <= LARGE else 1))
        mixed = isinstance(self.head, Mixed) and self.head.masses
        self.masses = mixed or isinstance(self.head, Bernoulli | LogisticMixture)
        self.conditioner = conditioner(condition, s.emb, s.condition)
        self.symbols: nn.Embedding | None = None
        self.mixture: Mixture | None = None
        shape = space.shape
        outer = (self.head.count * shape[0], *shape[1:]) if isinstance(space, Continuous) else (self.head.count, *shape)
        net = s.net
        if isinstance(space, Discrete):
            width = min(space.vocab_size, ONE_HOT)
            shape = (width, *shape)
            if space.vocab_size > width:
                self.symbols = nn.Embedding(space.vocab_size, width)
                nn.init.normal_(self.symbols.weight, std=width**-0.5)
            if net == "auto" and space.sizes is not None:
                net = "mlp"  # positions with symbols of their own have no neighbourhood
        net = resolve(net, shape)
        positions, halvings = layout(s, net, shape)
        if s.bottleneck == "fsq":
            self.bottleneck = FiniteScalars(s.fsq_levels, positions or (s.latent,))
        else:
            numbers = s.latent * math.prod(positions)
            self.mixture = Mixture(numbers, s.prior) if s.prior and numbers <= MIXED else None
            self.bottleneck = GaussianLatents((s.latent, *positions), self.mixture)
        ready, inner, code = widths(condition, s.emb, s.condition), self.bottleneck.outputs, self.bottleneck.shape
        self.encoder: nn.Module
        self.decoder: nn.Module
        if halvings is None:
            self.encoder = encoder(net, shape, inner, s.width, s.depth, ready=ready, dropout=s.dropout, waves=s.waves)
            self.decoder = decoder(net, code, outer, s.width, s.depth, ready=ready, dropout=s.dropout)
        else:
            w, d, p = s.width, s.depth, s.dropout
            self.encoder = ConvEncoder(shape, inner, w, d, ready=ready, dropout=p, halvings=halvings)
            self.decoder = ConvDecoder(code, outer, w, d, ready=ready, dropout=p, halvings=halvings)

    @property
    def latent(self) -> Space:
        """Where latents live: real maps, or for fsq the symbols of the codes."""
        if isinstance(self.bottleneck, FiniteScalars):
            return Discrete((math.prod(self.bottleneck.positions),), self.bottleneck.size)
        return Continuous(self.bottleneck.shape)

    def indices(self, z: Tensor) -> Tensor:
        """The symbols (B, positions) of codes z."""
        return self._codebook().indices(z)

    def codes(self, indices: Tensor) -> Tensor:
        """The inverse of `indices`: (B, *bottleneck.shape)."""
        return self._codebook().codes(indices, next(self.parameters()))

    def _codebook(self) -> FiniteScalars:
        if not isinstance(self.bottleneck, FiniteScalars):
            raise Unsupported("the latents of this autoencoder are Gaussian numbers, not symbols",
                              fix="train the autoencoder with --model.bottleneck fsq")  # fmt: skip
        return self.bottleneck

    def hidden(self, x: Tensor, given: Given) -> Tensor:
        """What the bottleneck reads, (B, *bottleneck.outputs)."""
        if isinstance(self.space, Discrete):
            like = next(self.parameters())
            vectors = F.one_hot(x, self.space.vocab_size).to(like.dtype) if self.symbols is None else self.symbols(x)
            x = vectors.movedim(-1, 1)
        return upcast(self.encoder(x, given))

    def params(self, z: Tensor, given: Given) -> Tensor:
        """(B, count, *shape) for the head."""
        return upcast(self.decoder(z, given)).view(len(z), self.head.count, *self.space.shape)

    def score(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z), (B,)."""
        return self.head.log_prob(params, x).flatten(1).sum(1)

    @torch.no_grad()
    def settle(self, batches: Iterable[Batch]) -> None:
        """Fit the mixture to one draw of q(z | x) of each item."""
        if self.mixture is None:
            return
        found, count = [], 0
        for batch in batches:
            given = tell(self.conditioner, batch.cond, len(batch.x))
            found.append(self.bottleneck.draw(self.hidden(batch.x, given), batch.generator).flatten(1))
            if (count := count + len(batch.x)) >= self.mixture.most:
                break
        self.mixture.fit(torch.cat(found))

    def loss(self, batch: Batch) -> Loss:
        given = tell(self.conditioner, batch.cond, len(batch.x), batch.generator)
        h = self.hidden(batch.x, given)
        distortion = -self.score(self.params(self.bottleneck.draw(h, batch.generator), given), batch.x).mean()
        rates = self.bottleneck.rates(h)
        rate = rates.mean(0).clamp_min(self.settings.free_bits).sum()
        warm = min(1.0, batch.progress / self.settings.warmup) if self.settings.warmup else 1.0
        value = (distortion + warm * self.settings.beta * rate) / self.space.dims
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
        z = self.bottleneck.prior(n, s.temperature, generator, next(self.parameters()))
        x = self.head.sample(self.params(z, tell(self.conditioner, cond, n)), generator, s.pixel_temperature)
        if on_step:
            on_step(1, 1, x)
        return x

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        """IWAE-k: log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x) <= log p(x)."""
        return self.importance(x, cond, self.settings.importance, generator)

    def importance(self, x: Tensor, cond: Tensor | None, k: int, generator: Generator | None) -> Tensor:
        """The IWAE-k bound for any k; k = 1 is one draw of the ELBO. With fsq all draws are the same."""
        given = tell(self.conditioner, cond, len(x))
        h = self.hidden(x, given)
        k = k if self.settings.bottleneck == "gaussian" else 1
        weights = []
        for _ in range(k):
            z = self.bottleneck.draw(h, generator)
            weights.append(self.bottleneck.log_ratio(z, h) + self.score(self.params(z, given), x))
        return torch.logsumexp(torch.stack(weights), 0) - math.log(k)

    @torch.no_grad()
    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The posterior mean, or the code, (B, *bottleneck.shape)."""
        return self.bottleneck.mean(self.hidden(x, tell(self.conditioner, cond, len(x))))

    @torch.no_grad()
    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """The mean (or mode) of p(x | z); for fsq at the code nearest to z."""
        return self.head.sample(self.params(self.bottleneck.snap(z), tell(self.conditioner, cond, len(z))), None, 0.0)

    def parts(self, x: Tensor, cond: Tensor | None, sampling: Any) -> dict[str, Part]:
        given = given_as("cond", cond)
        return {
            "encode": Part(self.encode, {"x": x} | given, ("z",)),
            "decode": Part(self.decode, {"z": self.encode(x, cond)} | given, ("x",)),
            "sample": self.sampled_in_one(len(x), cond, sampling),
        }

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
        """Metropolis within Gibbs (Mattei & Frellsen 2018, arXiv:1802.04826).

        Each iteration proposes z' ~ q(z | x), takes it with probability min(1, w(z') / w(z)), w(z) = p(x | z) p(z) /
        q(z | x), and draws the unknown entries anew from p(x | z). It begins at one of `STARTS` draws from the prior,
        taken in proportion to p(known | z), and the first quarter takes every proposal (pseudo-Gibbs, Rezende et al.
        2014), which goes quickly to where the posterior is. With fsq, whose q is a point, every iteration does: there
        the result is an approximation. A row of which nothing is known is a sample.
        """
        s, n = sampling or self.Sampling(), len(x)
        given = tell(self.conditioner, cond, n)
        z = self.bottleneck.prior(n, s.temperature, generator, next(self.parameters()))
        params = self.params(z, given)
        start = torch.where(known, x, self.head.sample(params, generator, s.pixel_temperature))
        z, params = self._begin(start, known, given, z, params, generator)
        exact = self.settings.bottleneck == "gaussian"
        current = torch.where(known, x, self.head.sample(params, generator, 1.0))
        for step in range(s.iterations):
            h = self.hidden(current, given)
            proposed = self.bottleneck.draw(h, generator)
            there = self.params(proposed, given)
            if exact and step >= s.iterations // 4:
                gain = self.bottleneck.log_ratio(proposed, h) + self.score(there, current)
                gain = gain - self.bottleneck.log_ratio(z, h) - self.score(params, current)
                keep = uniform(n, generator=generator, like=gain) >= torch.exp(gain)
                proposed, there = per_row(keep, z, proposed), per_row(keep, params, there)
            z, params = proposed, there
            last = step == s.iterations - 1
            drawn = self.head.sample(params, generator, s.pixel_temperature if last else 1.0)
            current = torch.where(known, x, drawn)
            if on_step:
                on_step(step + 1, s.iterations, current)
        return per_row(known.flatten(1).any(1), current, start)

    def _begin(
        self, x: Tensor, known: Tensor, given: Given, z: Tensor, params: Tensor, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """One of z and more draws from the prior, with probability in proportion to p(known entries | z)."""

        def weight(params: Tensor) -> Tensor:
            return self.head.log_prob(params, x).masked_fill(~known, 0.0).flatten(1).sum(1)

        total = weight(params)
        for _ in range(STARTS - 1):  # a reservoir of one: the k-th replaces what is held with probability w_k / sum
            other = self.bottleneck.prior(len(x), 1.0, generator, z)
            there = self.params(other, given)
            new = weight(there)
            total = torch.logaddexp(total, new)
            keep = uniform(len(x), generator=generator, like=new) >= torch.exp(new - total)
            z, params = per_row(keep, z, other), per_row(keep, params, there)
        return z, params


def per_row(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows of a where mask (B,), else of b."""
    return torch.where(mask.view(-1, *[1] * (a.dim() - 1)), a, b)


def layout(s: VAE.Settings, net: Net, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int | None]:
    """(positions of a map of latents, halvings of the item to get there); (), None for a vector."""
    if s.grid is None:
        return (), None
    if net != "conv":
        raise ConfigError(
            f"the latents of data of shape {shape} cannot form a grid",
            why="a grid of latents needs a convolutional net",
            fix="--model.grid null",
        )
    halvings = s.grid.bit_length() - 1
    return sizes(shape[1:], halvings)[-1], halvings


def head_for(space: Space, likelihood: str, components: int) -> Head:
    """The distribution of one dimension; `auto` takes what fits the space."""
    if isinstance(space, Discrete):
        if likelihood not in ("auto", "categorical"):
            raise ConfigError(
                f"the likelihood {likelihood} does not fit data that are symbols", fix="--model.likelihood categorical"
            )
        return Categorical(space)
    if likelihood == "auto" and space.widths is not None and space.quantised:
        return Mixed(space)
    if likelihood == "auto":
        likelihood = {None: "gaussian", 2: "bernoulli"}.get(space.levels, "logistic_mixture")
    if likelihood == "gaussian":
        return Gaussian()
    if likelihood == "bernoulli" and space.levels == 2:
        return Bernoulli()
    if likelihood == "logistic_mixture" and space.levels:
        return LogisticMixture(space, components)
    raise ConfigError(f"the likelihood {likelihood} does not fit {space}", fix="--model.likelihood auto")
