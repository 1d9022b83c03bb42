"""The VAE against truth: ELBO <= IWAE-k <= log p by numerical integration, and heads that sum to one."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import randomise
from torch import nn

import quintet
from quintet.core.errors import ConfigError
from quintet.core.family import Batch, Loss
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.families.vae import VAE
from quintet.modalities.table.codec import TableCodec
from quintet.nets.bottleneck import FiniteScalars, GaussianLatents
from quintet.nets.conditioning import tell
from quintet.nets.given import UNCONDITIONAL
from quintet.nets.likelihoods import Bernoulli, Categorical, Gaussian, Head, LogisticMixture, Mixed

SPACES: dict[str, Space] = {
    "gaussian": Continuous((3,)),
    "logistic_mixture": Continuous((3,), 17),
    "bernoulli": Continuous((3,), 2),
    "categorical": Discrete((3,), 4, (4, 2, 3)),
    "mixed": Continuous((3,), None, (0.0, 2.0, 2.0)),
}


def model(kind: str) -> VAE:
    likelihood = "auto" if kind == "mixed" else kind
    settings = VAE.Settings(width=8, depth=1, latent=1, likelihood=likelihood, components=2)
    torch.manual_seed(2 if kind in ("bernoulli", "categorical") else 0)
    return randomise(VAE(SPACES[kind], Discrete((), 2), settings), scale=0.1)


def items(kind: str, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator, space = torch.Generator().manual_seed(3), SPACES[kind]
    cond = torch.arange(n) % 2
    if isinstance(space, Discrete):
        return torch.stack([torch.randint(0, size, (n,), generator=generator) for size in space.sizes or ()], 1), cond
    x = torch.rand(n, 3, generator=generator, dtype=torch.float64) * 2 - 1
    if kind == "mixed":
        x[:, 1:] = x[:, 1:].sign()
    return (x if space.levels is None else space.quantise(x).double() * space.bin_width - 1), cond


def truth(family: VAE, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
    """log p(x) = log int N(z; 0, 1) p(x | z) dz by the trapezoid rule on 2,001 points of [-10, 10]."""
    z = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    out = []
    for row, label in zip(x, cond, strict=True):
        emb = tell(family.conditioner, label.expand(len(z)), len(z))
        given = family.head.log_prob(family.params(z[:, None], emb), row.expand(len(z), -1)).sum(1)
        out.append(torch.logsumexp(given - 0.5 * z**2 - 0.5 * math.log(2 * math.pi), 0) + math.log(20 / 2000))
    return torch.stack(out)


def bound(family: VAE, x: torch.Tensor, cond: torch.Tensor, k: int, repeats: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the IWAE-k bound over `repeats` draws, and its standard error."""
    draws = torch.stack([family.importance(x, cond, k, torch.Generator().manual_seed(seed)) for seed in range(repeats)])
    return draws.mean(0), draws.std(0) / repeats**0.5


def rungs(family: VAE, x: torch.Tensor, cond: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """ELBO, IWAE-8, IWAE-64 and log p, with their standard errors."""
    bounds = [bound(family, x, cond, k, repeats) for k, repeats in ((1, 400), (8, 100), (64, 12))]
    return [*bounds, (truth(family, x, cond), torch.zeros(len(x), dtype=torch.float64))]


def ordered(rungs: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    """Each <= the next, up to four standard errors."""
    pairs = itertools.pairwise(rungs)
    return all(bool((low[0] <= high[0] + 4 * (low[1] + high[1]) + 1e-9).all()) for low, high in pairs)


@pytest.mark.parametrize("kind", SPACES)
@torch.no_grad()
def test_elbo_below_iwae_below_log_p(kind: str) -> None:
    family, (x, cond) = model(kind), items(kind)
    found = rungs(family, x, cond)
    assert ordered(found)
    (elbo, _), (log_p, _) = found[0], found[-1]
    tight, error = bound(family, x, cond, 512, 4)
    assert bool(((tight - log_p).abs() < 4 * error + 0.05).all()), "IWAE-k must approach log p"
    assert bool((elbo < log_p - 1e-3).any()), "random weights must leave a gap"


@torch.no_grad()
def test_the_order_notices_a_flipped_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """log q(z | x) - log p(z) in the place of log p(z) - log q(z | x)."""
    family, (x, cond) = model("gaussian"), items("gaussian")

    def wrong(self: VAE, x: torch.Tensor, cond: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
        emb = tell(self.conditioner, cond, len(x))
        mean, log_std = self.bottleneck.split(self.hidden(x, emb))
        rows = []
        for noise in torch.randn(k, *mean.shape, generator=generator, dtype=mean.dtype):
            z = mean + log_std.exp() * noise
            flipped = (0.5 * z**2 - 0.5 * noise**2 - log_std).sum(1)
            rows.append(flipped + self.head.log_prob(self.params(z, emb), x).sum(1))
        return torch.logsumexp(torch.stack(rows), 0) - math.log(k)

    monkeypatch.setattr(VAE, "importance", wrong)
    assert not ordered(rungs(family, x, cond))


@pytest.mark.parametrize("kind", SPACES)
def test_loss_is_the_negative_elbo_per_dimension(kind: str) -> None:
    """E over noise of the loss = -ELBO / dims, where the ELBO's KL is Monte Carlo and the loss's is closed form."""
    family, (x, cond) = model(kind), items(kind)
    losses = [family.loss(Batch(x, cond, torch.Generator().manual_seed(s))).value.item() for s in range(400)]
    elbo, error = (part.detach() for part in bound(family, x, cond, 1, 400))
    spread = 4 * (float(error.square().sum().sqrt()) / len(x) + torch.tensor(losses).std() / 20)
    assert abs(sum(losses) / 400 + float(elbo.mean()) / 3) < spread


def test_free_bits_and_beta_are_values() -> None:
    x, cond = items("gaussian")
    family = model("gaussian")
    parts = family.loss(Batch(x, cond, torch.Generator().manual_seed(0))).parts
    for change, rate in (({"beta": 4.0}, 4 * parts["rate"]), ({"free_bits": 1e3}, torch.tensor(1e3))):
        other = VAE(SPACES["gaussian"], Discrete((), 2), family.settings.model_copy(update=change)).double().eval()
        other.load_state_dict(family.state_dict())
        value = other.loss(Batch(x, cond, torch.Generator().manual_seed(0))).value
        assert torch.isclose(value, (parts["distortion"] + rate) / 3)


def masses(head: Head, space: Space, params: torch.Tensor) -> torch.Tensor:
    """Total probability of one dimension."""
    if isinstance(space, Discrete):
        symbols = torch.arange(space.vocab_size).view(-1, 1).expand(-1, params.shape[2])
        return head.log_prob(params.expand(space.vocab_size, -1, -1), symbols).exp().sum(0)
    if space.levels:
        levels = torch.linspace(-1, 1, space.levels, dtype=torch.float64).view(-1, 1).expand(-1, params.shape[2])
        return head.log_prob(params.expand(space.levels, -1, -1), levels).exp().sum(0) * space.bin_width
    grid = torch.linspace(-60, 60, 200_001, dtype=torch.float64).view(-1, 1).expand(-1, params.shape[2])
    density = head.log_prob(params.expand(len(grid), -1, -1), grid).exp()
    if space.widths:  # bits: the cells [-2, 0] and [0, 2]
        density = torch.where((grid.abs() < 2) | (torch.tensor(space.widths) == 0), density, 0.0)
    return density.sum(0) * (120 / 200_000)


@pytest.mark.parametrize("kind", SPACES)
def test_heads_sum_to_one(kind: str) -> None:
    space = SPACES[kind]
    heads: dict[str, Head] = {"gaussian": Gaussian(), "bernoulli": Bernoulli()}
    if isinstance(space, Discrete):
        heads["categorical"] = Categorical(space)
    elif space.widths:
        heads["mixed"] = Mixed(space)
    else:
        heads["logistic_mixture"] = LogisticMixture(space, 3)
    head = heads[kind]
    params = torch.randn(1, head.count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(masses(head, space, params), torch.ones(3, dtype=torch.float64), rtol=0,
                               atol=1e-3 if kind == "mixed" else 1e-9)  # fmt: skip


def test_logistic_mixture_samples_have_its_masses() -> None:
    space = Continuous((1,), 5)
    head = LogisticMixture(space, 2)
    params = torch.randn(1, head.count, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    n = 40_000
    x = head.sample(params.expand(n, -1, -1), torch.Generator().manual_seed(2), 1.0)
    share = torch.bincount(space.quantise(x).flatten(), minlength=5) / n
    levels = torch.linspace(-1, 1, 5, dtype=torch.float64).view(-1, 1)
    p = head.log_prob(params.expand(5, -1, -1), levels).exp().flatten() * space.bin_width
    assert bool(((share - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all())


def test_bits_of_a_symbol_have_one_distribution() -> None:
    """All patterns of eleven bits in three symbols, enumerated; one of seven bits is cut into six and one."""
    shares = (0.5, 0.2, 0.9, 0.4, 0.1, *[0.5] * 5, 0.3, 0.5)
    space = Continuous((12,), None, (0.0, *[2.0] * 11), shares, (1, 3, 1, 7))
    head, generator = Mixed(space), torch.Generator().manual_seed(0)
    x = torch.tensor([(0.0, *signs) for signs in itertools.product((-1.0, 1.0), repeat=11)], dtype=torch.float64)
    params = torch.randn(1, head.count, 12, generator=generator, dtype=torch.float64)

    def log_mass(params: torch.Tensor, some: slice) -> torch.Tensor:
        each = head.log_prob(params.expand(len(x), -1, -1), x)[:, some]
        return each.sum(1) + each.shape[1] * math.log(2)

    together = log_mass(params, slice(1, 4)).exp()
    assert torch.isclose(log_mass(params, slice(1, 12)).exp().sum(), torch.ones((), dtype=torch.float64))
    one = torch.stack([(together * (x[:, i] > 0)).sum() for i in (1, 2, 3)]) / 2**8
    independent = torch.where(x[:, 1:4] > 0, one, 1 - one).prod(1)
    assert bool((together - independent).abs().max() > 0.05)  # which a product of bits could not say

    start = log_mass(torch.zeros_like(params), slice(1, 12))
    each = torch.tensor(shares[1:], dtype=torch.float64)
    torch.testing.assert_close(start, torch.where(x[:, 1:] > 0, each, 1 - each).log().sum(1), rtol=0, atol=1e-5)

    n = 20_000
    drawn = head.sample(params.expand(n, -1, -1), generator, 1.0)[:, 1:4]
    for signs, mass in {tuple(row): float(p) for row, p in zip(x[:, 1:4].tolist(), together, strict=True)}.items():
        found = float((drawn == drawn.new_tensor(signs)).all(1).double().mean())
        assert abs(found - mass) < 5 * (mass * (1 - mass) / n) ** 0.5
    likeliest = head.sample(params, None, 0.0)[0, 1:4]
    assert likeliest.tolist() == x[together.argmax(), 1:4].tolist()


def test_the_bits_of_a_category_are_a_group_and_so_is_a_number() -> None:
    rows = pa.table({"size": np.arange(300.0), "hue": [f"hue {i % 5}" for i in range(300)]})
    codec = TableCodec("continuous").fit(rows)
    assert isinstance(codec.space, Continuous)
    assert codec.space.groups == (1, 3)
    x = codec.encode(rows)[:, 1:]
    assert len({tuple(row) for row in x.tolist()}) == 5


def test_bits_beside_numbers_are_read_without_noise_and_counts_are_not() -> None:
    """The mass of a bit does not depend on where in its cell it lies, so the encoder need not read it through noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor([[0.3, 1.0, -1.0], [-1.2, -1.0, -1.0]])
    family = model("mixed")
    assert torch.equal(family.noisy(x, generator), x)
    in_cell = x + torch.tensor([0.0, 0.9, -0.9])
    params = torch.randn(2, family.head.count, 3, generator=generator)
    torch.testing.assert_close(family.head.log_prob(params, in_cell), family.head.log_prob(params, x))
    counts = VAE(Continuous((3,), None, (0.0, 0.5, 2.0)), None, VAE.Settings(width=8, depth=1, latent=1))
    assert not torch.equal(counts.noisy(x, generator), x)


def test_a_likelihood_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        VAE(Continuous((3,)), None, VAE.Settings(likelihood="categorical"))
    with pytest.raises(ConfigError, match="does not fit"):
        VAE(Discrete((3,), 4), None, VAE.Settings(likelihood="gaussian"))


# -- codes -----------------------------------------------------------------------------------------------------------

TINY = Discrete((2,), 3)


def codes(levels: tuple[int, ...] = (3, 2), latent: int = 2) -> VAE:
    torch.manual_seed(1)
    settings = VAE.Settings(net="mlp", width=8, depth=1, latent=latent, bottleneck="fsq", fsq_levels=levels)
    return randomise(VAE(TINY, None, settings), scale=0.5)


def everything(space: Discrete) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(space.vocab_size)] * space.dims).view(-1, *space.shape)


@pytest.mark.parametrize("levels", [(2,), (3,), (8, 5, 5, 5), (4, 7)])
def test_every_code_is_reached_and_has_its_own_symbol(levels: tuple[int, ...]) -> None:
    """One position: wide inputs give exactly prod(levels) values of z, evenly spaced and on [-1, 1]; 0 gives 0."""
    fsq = FiniteScalars(levels, ())
    generator = torch.Generator().manual_seed(0)
    z = fsq.mean(3 * torch.randn(200_000, len(levels), generator=generator, dtype=torch.float64))
    for channel, size in zip(z.T, levels, strict=True):
        values = channel.unique()
        assert len(values) == size
        torch.testing.assert_close(values.diff(), torch.full((size - 1,), 1 / (size // 2), dtype=torch.float64))
        assert values.abs().max() == 1
    assert fsq.mean(torch.zeros(1, len(levels))).abs().sum() == 0
    symbols = torch.arange(math.prod(levels))[:, None]
    every = fsq.codes(symbols, z)
    assert torch.equal(fsq.indices(every), symbols)
    assert len(every.unique(dim=0)) == len(symbols)
    assert torch.equal(fsq.codes(fsq.indices(z), z), z)
    assert torch.equal(fsq.snap(1e9 * torch.ones_like(z[:1])), fsq.codes(symbols[-1:], z))


def test_gradients_pass_straight_through() -> None:
    fsq = FiniteScalars((5,), ())
    h = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None].requires_grad_()
    fsq.mean(h).sum().backward()
    expected = (1 - torch.tanh(h.detach()) ** 2) * 2 * 1.001 / 2
    torch.testing.assert_close(h.grad, expected)


@torch.no_grad()
def test_the_bound_of_codes_is_one_term_of_the_sum_over_all_codes() -> None:
    """p(x) = sum_k p(x | z_k) / K sums to 1 over all x; log_prob is the log of the term of x's own code."""
    family, x = codes(), everything(TINY)
    symbols = everything(Discrete((2,), 6))
    z = family.codes(symbols)
    terms = torch.stack(
        [family.score(family.params(z, UNCONDITIONAL), row.expand(len(z), -1)) for row in x]
    ) - 2 * math.log(6)
    truth = terms.logsumexp(1)
    assert float(truth.exp().sum()) == pytest.approx(1)
    value = family.log_prob(x)
    assert bool((value < truth).all())
    own = (family.indices(family.encode(x))[:, None] == symbols).all(2)
    assert own.sum(1).tolist() == [1] * len(x)
    torch.testing.assert_close(value, terms[own])
    loss = family.loss(Batch(x))
    assert float(loss.value) == pytest.approx(-float(value.mean()) / 2)
    assert float(loss.parts["rate"]) == pytest.approx(2 * math.log(6))


@torch.no_grad()
def test_samples_of_codes_have_the_uniform_prior() -> None:
    z = codes().bottleneck.prior(6000, 1.0, Rows(0, 0, 6000), torch.empty(0, dtype=torch.float64))
    counts = torch.bincount(codes().indices(z).flatten(), minlength=6)
    assert (counts / 2000 - 1).abs().max() < 4 * (5 / 6 * 6 / 12000) ** 0.5


# -- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("space", "grid", "shape"), [
    (Continuous((1, 9, 6), 17), 4, (3, 3, 2)), (Continuous((6, 20), 2), 4, (3, 5)),
    (Continuous((2, 8, 8)), 1, (3, 8, 8)), (Discrete((20,), 40), 8, (3, 3)),
    (Discrete((20,), 5), None, (3,)), (Continuous((4,)), None, (3,)),
])  # fmt: skip
@torch.no_grad()
def test_latents_keep_the_layout_of_the_item(space: Space, grid: int | None, shape: tuple[int, ...]) -> None:
    family = VAE(space, None, VAE.Settings(width=8, depth=1, latent=3, grid=grid))
    x = family.sample(2, generator=Rows(0, 0, 2))
    space.check(x)
    assert family.encode(x).shape == (2, *shape)
    assert family.latent == Continuous(shape)
    assert family.decode(family.encode(x)).shape == x.shape
    fsq = VAE(space, None, VAE.Settings(width=8, depth=1, latent=3, grid=grid, bottleneck="fsq", fsq_levels=(3, 3)))
    assert fsq.latent == Discrete((math.prod(shape[1:]) if grid else 3,), 9)
    fsq.latent.check(fsq.indices(fsq.encode(x)))
    torch.testing.assert_close(fsq.codes(fsq.indices(fsq.encode(x))), fsq.encode(x), rtol=0, atol=0)


def test_a_map_keeps_places() -> None:
    """A change at one end of the item moves the latents of that end; the others see it in the norms alone."""
    torch.manual_seed(0)
    family = randomise(VAE(Continuous((1, 64)), None, VAE.Settings(width=8, depth=1, latent=3, grid=4)))
    x = torch.zeros(1, 1, 64, dtype=torch.float64)
    for places, near, far in ((torch.arange(64) < 4, 0, -1), (torch.arange(64) >= 60, -1, 0)):
        change = (family.encode(x + places) - family.encode(x)).abs().amax((0, 1))
        assert float(change[far]) < 0.1 * float(change[near])


def test_grids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot form a grid"):
        VAE(Continuous((4,)), None, VAE.Settings(grid=2))
    with pytest.raises(ConfigError, match="cannot form a grid"):
        VAE(Discrete((4,), 3, (3, 2, 3, 3)), None, VAE.Settings(grid=2))
    with pytest.raises(ValueError, match="no power of two"):
        VAE.Settings(grid=3)
    with pytest.raises(ValueError):
        VAE.Settings(fsq_levels=(1, 3))


# -- completion ------------------------------------------------------------------------------------------------------

CHAINS = 4000


class Line(nn.Module):
    """h = weight x + bias, in the place of an encoder or a decoder."""

    def __init__(self, weight: list[list[float]], bias: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float64))

    def forward(self, x: torch.Tensor, given: object = None) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def linear() -> VAE:
    """x = (z, -2 z) + 0.5 noise, with a q that is too wide and a little off."""
    family = VAE(Continuous((2,)), None, VAE.Settings(latent=1, likelihood="gaussian")).double().eval()
    family.decoder = Line([[1.0], [-2.0], [0.0], [0.0]], [0.0, 0.0, math.log(0.5), math.log(0.5)])
    family.encoder = Line([[0.1, -0.3], [0.0, 0.0]], [0.2, -0.6])
    return family


def linear_moments() -> tuple[float, float, float, float]:
    """Mean and variance of x_2 given x_1 = 1.5 by the chains, and by the algebra of Gaussians."""
    x = torch.tensor([[1.5, 99.0]], dtype=torch.float64).expand(CHAINS, -1)
    known = torch.tensor([[True, False]]).expand(CHAINS, -1)
    done = linear().complete(x, known, sampling=VAE.Sampling(iterations=40), generator=Rows(3, 0, CHAINS))
    assert bool((done[:, 0] == 1.5).all())
    mean, variance = -2 / 1.25 * 1.5, 4 + 0.25 - 4 / 1.25
    return float(done[:, 1].mean()), float(done[:, 1].var()), mean, variance


def agrees() -> bool:
    mean, variance, true_mean, true_variance = linear_moments()
    return (abs(mean - true_mean) < 4 * (true_variance / CHAINS) ** 0.5
            and abs(variance - true_variance) < 4 * true_variance * (2 / CHAINS) ** 0.5)  # fmt: skip


def test_completion_of_a_linear_gaussian_model_is_its_conditional() -> None:
    assert agrees()


def test_that_agreement_notices_a_chain_without_rejections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAE, "score", lambda self, params, x: torch.zeros(len(x), dtype=x.dtype))
    monkeypatch.setattr(GaussianLatents, "log_ratio", lambda self, z, h: torch.zeros(len(z), dtype=z.dtype))
    assert not agrees()


@torch.no_grad()
def test_completion_of_symbols_is_their_conditional() -> None:
    """p(x_2, x_3 | x_1, c) by the integral over z, against the frequencies of 4,000 chains."""
    family, space = model("categorical"), SPACES["categorical"]
    label = torch.ones(1, dtype=torch.long)
    grid = torch.cartesian_prod(torch.tensor([2]), torch.arange(2), torch.arange(3))
    p = truth(family, grid, label.expand(len(grid))).softmax(0)
    x = torch.tensor([[2, 0, 0]]).expand(CHAINS, -1)
    known = torch.tensor([[True, False, False]]).expand(CHAINS, -1)
    done = family.complete(x, known, label.expand(CHAINS), sampling=VAE.Sampling(iterations=40),
                           generator=Rows(5, 0, CHAINS))  # fmt: skip
    space.check(done)
    assert bool((done[:, 0] == 2).all())
    share = torch.bincount(done[:, 1] * 3 + done[:, 2], minlength=6) / CHAINS
    assert bool(((share - p).abs() < 4 * (p * (1 - p) / CHAINS).sqrt()).all())


@pytest.mark.parametrize("kind", [*SPACES, "codes"])
@torch.no_grad()
def test_what_is_known_stays_and_rows_are_their_own(kind: str) -> None:
    if kind == "codes":
        family, x, cond = codes(), everything(TINY)[:6], None
    else:
        family, (x, cond) = model(kind), items(kind)
    few, seen = VAE.Sampling(iterations=3), []
    known = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    known[4], known[5] = False, True
    tell = lambda *told: seen.append(told)  # noqa: E731
    whole = family.complete(x, known, cond, sampling=few, generator=Rows(1, 0, 6), on_step=tell)
    family.space.check(whole)
    assert torch.equal(whole[known], x[known])
    assert [told[:2] for told in seen] == [(1, 3), (2, 3), (3, 3)]
    parts = [family.complete(x[a:b], known[a:b], None if cond is None else cond[a:b], sampling=few,
                             generator=Rows(1, a, b - a)) for a, b in ((0, 2), (2, 6))]  # fmt: skip
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-9)
    assert torch.equal(whole[4], family.sample(6, cond, sampling=few, generator=Rows(1, 0, 6))[4])
    elsewhere = torch.where(known, x, torch.zeros_like(x))
    torch.testing.assert_close(family.complete(elsewhere, known, cond, sampling=few, generator=Rows(1, 0, 6)), whole)


@pytest.mark.parametrize(("likelihood", "noisy"), [("auto", False), ("gaussian", True)])
def test_binary_pictures_are_read_as_they_are_unless_a_density_needs_noise(
    likelihood: str, noisy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise of one bin would take all from a pixel of two levels but its sign."""
    seen, right = [], VAE.loss

    def loss(self: VAE, batch: Batch) -> Loss:
        seen.append(batch.x.flatten().abs())
        return right(self, batch)

    monkeypatch.setattr(VAE, "loss", loss)
    pictures = (np.random.default_rng(0).random((60, 8, 8)) < 0.4).astype(np.uint8) * 255
    model = {"net": "mlp", "width": 4, "latent": 2, "likelihood": likelihood}
    quintet.train("vae", data=pictures, steps=8, runs=tmp_path, config={"model": model})
    assert bool((torch.cat(seen) == 1).all()) != noisy


def test_each_value_of_a_large_picture_has_one_logistic() -> None:
    counts = [VAE(Continuous((3, n, n), 256), None, VAE.Settings(width=4, depth=1)).head.count for n in (36, 40)]
    assert counts == [3 * 5, 3 * 1]
    small = VAE(Continuous((3, 8, 8), 256), None, VAE.Settings(width=4, depth=1, components=2))
    assert small.head.count == 3 * 2
