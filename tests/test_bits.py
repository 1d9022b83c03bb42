"""Symbols that stand as bits: their posterior given noisy bits by Bayes' rule, by enumeration, by integrals."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from quintet.core.errors import ConfigError
from quintet.core.family import Batch
from quintet.core.spaces import Continuous
from quintet.families.diffusion import Diffusion
from quintet.families.flow import Flow
from quintet.families.gan import GAN
from quintet.families.vae import VAE
from quintet.nets.bits import SPREAD, Symbols, narrow, widen
from quintet.nets.conditioning import tell
from quintet.nets.mlp import Waves

SHARES = (0.5, 0.2, 0.9, 0.4, 0.5, 0.3)
SPACE = Continuous((6,), None, (0.0, 2.0, 2.0, 2.0, 0.0, 2.0), SHARES, (1, 3, 1, 1))
"""A number, a symbol of three bits, a number, a symbol of one."""


@pytest.fixture(autouse=True)
def _float64() -> object:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def rows(n: int, seed: int = 0) -> torch.Tensor:
    """Bits of -1 and 1 with uniform noise of a bin, and normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    bits = (torch.rand(n, 6, generator=generator) < torch.tensor(SHARES)) * 2.0 - 1
    x = bits + 2 * torch.rand(n, 6, generator=generator) - 1
    return torch.where(torch.tensor(SPACE.widths) > 0, x, torch.randn(n, 6, generator=generator))


def model(**settings: object) -> Diffusion:
    family = Diffusion(SPACE, None, Diffusion.Settings(width=8, depth=1, emb=8, **settings)).double().eval()
    family.initialise(Batch(rows(4000), None, torch.Generator()))
    return family


def mixed_up(family: Diffusion) -> Diffusion:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in family.parameters():
            value.copy_(0.5 * torch.randn(value.shape, generator=generator))
    return family


# -- noise of a bin in its middle ------------------------------------------------------------------------------------


def test_narrow_is_one_to_one_and_its_determinant_is_that_of_autograd() -> None:
    there, x = torch.tensor(SPACE.widths) > 0, torch.cat([rows(50), 3 * rows(50)])  # the latter leave their bins
    y, log_det = narrow(x, there)
    torch.testing.assert_close(widen(y, there), x, rtol=0, atol=1e-9)
    assert bool(((y > 0) == (x > 0))[:, there].all())
    assert torch.equal(y[:, ~there], x[:, ~there])
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: narrow(row[None], there)[0][0]))(x)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-9)


def test_narrow_keeps_to_the_bin_and_has_the_spread_that_is_stated() -> None:
    u = (torch.arange(200_001) + 0.5) / 200_001 * 2 - 1
    for bit in (-1.0, 1.0):
        y = narrow(bit + u[:, None], torch.tensor([True]))[0] - bit
        assert float(y.abs().max()) < 1
        assert abs(float(y.std()) - SPREAD) < 1e-4
        assert abs(float(y.mean())) < 1e-9


# -- one distribution a symbol ---------------------------------------------------------------------------------------


def test_what_is_seen_of_bits_is_weighed_by_bayes_rule() -> None:
    """p(symbol | y) of all patterns, from normal densities of y about the bits."""
    symbols, generator = Symbols(SPACE), torch.Generator().manual_seed(1)
    numbers, y = torch.randn(4, symbols.size, generator=generator), torch.randn(4, 6, generator=generator)
    deviation = 0.3 + torch.rand(4, 6, generator=generator)
    logits = symbols.logits(numbers)
    seen = symbols.seen(logits, y / deviation.square())
    patterns = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3))).flip(1)  # the first bit counts one
    normal = torch.distributions.Normal(patterns, deviation[:, None, 1:4]).log_prob(y[:, None, 1:4]).sum(-1)
    posterior = (logits[1][:, 0] + normal).softmax(-1)
    torch.testing.assert_close(seen[1][:, 0].softmax(-1), posterior)
    means = symbols.mean(seen, y)
    torch.testing.assert_close(means[:, 1:4], posterior @ patterns)
    assert not means[:, ~symbols.there].any()


def test_nats_of_all_symbols_are_the_sum_over_their_bits() -> None:
    symbols, generator, x = Symbols(SPACE), torch.Generator().manual_seed(1), rows(9)
    logits = symbols.logits(torch.randn(9, symbols.size, generator=generator))
    each = symbols.log_prob(logits, x)
    torch.testing.assert_close(symbols.nats(logits, x), each.sum(1))
    assert not each[:, ~symbols.there].any()
    assert bool((each[:, 1] == each[:, 2]).all())
    patterns = [(bits, last) for bits in itertools.product((-1.0, 1.0), repeat=3) for last in (-1.0, 1.0)]
    everything = torch.tensor([(0.0, *bits, 0.0, last) for bits, last in patterns])
    mass = torch.stack([symbols.nats(logits, row.expand(9, -1)).exp() for row in everything]).sum(0)
    torch.testing.assert_close(mass, torch.ones(9))


def test_the_vae_and_diffusion_have_the_symbols_of_the_space() -> None:
    vae = VAE(SPACE, None, VAE.Settings(width=8, depth=1, latent=2))
    assert vae.head.symbols.size == model().symbols.size == 2**3 + 2  # type: ignore[union-attr]
    assert model(learns="meanflow").symbols is None  # its nets have velocities that are no means
    assert model(net="dit").symbols is None  # its patches give numbers


# -- waves of numbers ------------------------------------------------------------------------------------------------


def test_waves_of_a_number_are_its_sines_and_cosines() -> None:
    waves, x = Waves(3, 4), torch.randn(5, 3)
    found = waves(x)
    assert found.shape == (5, waves.size)
    assert torch.equal(found[:, :3], x)
    turns = 2 * math.pi * x[:, :, None] * waves.frequencies
    torch.testing.assert_close(found[:, 3:15].view(5, 3, 4), turns.sin())
    torch.testing.assert_close(found[:, 15:].view(5, 3, 4), turns.cos())


def test_a_ring_among_other_numbers_is_learnt_by_waves() -> None:
    """Radii 1 +- 0.07 beside eight independent numbers: without waves the ring is a blot for three times as long."""

    def spread(waves: int) -> float:
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        space = Continuous((10,))
        family = Diffusion(space, None, Diffusion.Settings(width=48, depth=2, emb=16, waves=waves)).float()
        angle, radius = torch.rand(4000) * 2 * math.pi, 1 + 0.07 * torch.randn(4000)
        x = torch.cat(
            [(radius * angle.cos())[:, None], (radius * angle.sin())[:, None], torch.randn(4000, 8)], 1
        ).float()
        family.initialise(Batch(x, None, generator))
        optimiser = torch.optim.Adam(family.parameters(), lr=0.003)
        for _ in range(250):
            optimiser.zero_grad()
            family.loss(Batch(x[torch.randint(len(x), (128,))], None, generator)).value.backward()
            optimiser.step()
        drawn = family.eval().sample(2000, generator=generator)
        return float(drawn[:, :2].norm(dim=1).std())

    assert spread(8) < 0.35 < spread(0)


# -- diffusion of them -----------------------------------------------------------------------------------------------


def independent(family: Diffusion) -> Diffusion:
    """A net that says nothing of an item: symbols are as frequent as `shares` says, numbers have no skill."""
    with torch.no_grad():
        for value in family.parameters():
            value.zero_()
    return family


@pytest.mark.parametrize("s", [0.02, 0.3, 2.0, 30.0])
def test_bits_are_denoised_to_their_posterior_mean(s: float) -> None:
    """E[x | y] of bit + N(0, SPREAD^2) and noise N(0, s^2), by quadrature over x for the last bit."""
    family, generator = independent(model()), torch.Generator().manual_seed(2)
    scale, mean = float(family.scale[5]), float(family.mean[5])
    y = torch.randn(5, 6, generator=generator) * (s**2 + 0.25) ** 0.5
    found = family.denoise(y, torch.full((5,), s), tell(family.conditioner, None, 5))[:, 5] / scale + mean
    x = torch.linspace(-4, 4, 400_001)
    share = SHARES[5]
    prior = share * torch.exp(-0.5 * ((x - 1) / SPREAD) ** 2) + (1 - share) * torch.exp(-0.5 * ((x + 1) / SPREAD) ** 2)
    for row, value in zip(y, found, strict=True):
        weight = prior * torch.exp(-0.5 * ((float(row[5]) / scale + mean - x) * scale / s) ** 2)
        assert abs(float((weight * x).sum() / weight.sum()) - float(value)) < 1e-6


def test_the_loss_is_cross_entropy_of_symbols_and_squares_of_numbers() -> None:
    """Of three items, by hand: each item's symbols and numbers are its own."""
    family, x, noise = mixed_up(model()), rows(3), torch.Generator().manual_seed(3)
    loss = float(family.loss(Batch(x, None, torch.Generator().manual_seed(3))).value)
    s = torch.exp(-1.2 + 1.2 * torch.special.ndtri(torch.rand(3, generator=noise)))
    clean = family.scaled(x)
    y = clean + s[:, None] * torch.randn(3, 6, generator=noise)
    d, logits = family.predicted(y, s, tell(family.conditioner, None, 3))
    total = (s**2 + 0.25).sqrt()
    squares = ((d - clean)[:, [0, 4]] / (0.5 * s / total)[:, None]).square().sum()
    short, long = (part[:, 0].log_softmax(-1) for part in logits)
    nats = [
        short[i, int(row[5] > 0)] + long[i, sum(2**k for k in range(3) if row[1 + k] > 0)] for i, row in enumerate(x)
    ]
    assert abs(loss - float(squares - torch.stack(nats).sum()) / 18) < 1e-9


def test_the_density_of_a_net_that_knows_only_shares_is_that_of_their_mixture() -> None:
    """log p(x) by the ODE against the closed form, and the mass of a pattern by the mean over its bin."""
    space = Continuous((2,), None, (2.0, 2.0), (0.2, 0.7), (2,))
    family = Diffusion(space, None, Diffusion.Settings(width=8, depth=1, emb=8, ode_steps=200)).double().eval()
    generator = torch.Generator().manual_seed(0)
    bits = (torch.rand(4000, 2, generator=generator) < torch.tensor(space.shares)) * 2.0 - 1
    family.initialise(Batch(bits + 2 * torch.rand(4000, 2, generator=generator) - 1, None, generator))
    independent(family)
    x = bits[:400] + 2 * torch.rand(400, 2, generator=generator) - 1
    y, log_det = narrow(x, torch.tensor([True, True]))
    share = torch.tensor(space.shares)
    normal = lambda at: torch.exp(-0.5 * ((y - at) / SPREAD) ** 2) / (SPREAD * (2 * math.pi) ** 0.5)  # noqa: E731
    truth = (share * normal(1) + (1 - share) * normal(-1)).log().sum(1) + log_det
    found = family.log_prob(x)
    assert float((found - truth).abs().max()) < 0.02
    mass = torch.where(bits[:400] > 0, share, 1 - share).log().sum(1)
    gap = mass - (found + 2 * math.log(2))  # the divergence of the noise from a normal one: a bound, nearly tight
    assert 0 < float(gap.mean()) < 0.05 * 2


def test_samples_have_the_masses_of_the_symbols() -> None:
    family, n = independent(model()), 20_000
    bits = family.sample(n, generator=torch.Generator().manual_seed(4))[:, [1, 2, 3, 5]]
    torch.testing.assert_close(bits.abs(), torch.ones(n, 4), rtol=0, atol=1e-6)
    drawn = bits > 0
    share = torch.tensor([SHARES[i] for i in (1, 2, 3, 5)])
    assert bool(((drawn.double().mean(0) - share).abs() < 5 * (share * (1 - share) / n).sqrt()).all())


def test_encode_and_decode_invert_each_other_also_of_bits() -> None:
    family, x = mixed_up(model(ode_steps=400)), rows(5)
    torch.testing.assert_close(family.decode(family.encode(x)), x, rtol=0, atol=1e-3)


def test_a_flow_of_them_is_exact() -> None:
    """Its log-determinant is that of autograd, in random bits with noise and numbers."""
    torch.manual_seed(0)
    family, x = Flow(SPACE, None, Flow.Settings(width=8, layers=3)).double().eval(), rows(6)
    family.initialise(Batch(rows(500), None, torch.Generator()))
    with torch.no_grad():
        for value in family.parameters():
            value.add_(0.3 * torch.randn(value.shape))
    z = family.encode(x)
    each = [torch.autograd.functional.jacobian(lambda row: family.encode(row[None])[0], row) for row in x]
    jacobian = torch.stack([one for one in each if isinstance(one, torch.Tensor)])
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(family.log_prob(x), normal + torch.linalg.slogdet(jacobian)[1])
    torch.testing.assert_close(family.decode(z), x, rtol=0, atol=1e-6)


def test_convolutions_of_plain_numbers_are_refused_in_words() -> None:
    for family in (VAE, GAN, Diffusion):
        with pytest.raises(ConfigError, match="convolutional"):
            family(SPACE, None, family.Settings(net="conv"))
