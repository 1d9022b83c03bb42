"""A prior of latents that is fitted when weights stand, and a rate that warms up: against closed forms."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from conftest import randomise
from test_training import line_trainer
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import quintet
from quintet.core.family import Batch
from quintet.core.random import Rows
from quintet.core.spaces import Continuous
from quintet.families.vae import MIXED, VAE
from quintet.fit import session
from quintet.nets.mixture import Mixture


def uneven(dims: int = 2, components: int = 3) -> Mixture:
    """Gaussians of unequal weights, far from N(0, 1)."""
    mixture, generator = Mixture(dims, components).double(), torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    mixture.logits.copy_(draw(components))
    mixture.means.copy_(1.5 * draw(components, dims))
    mixture.roots.copy_(
        (0.4 * draw(components, dims, dims)).tril(-1) + torch.diag_embed(0.3 + draw(components, dims).abs())
    )
    return mixture


def theirs(mixture: Mixture) -> MixtureSameFamily:
    """The same density of PyTorch's own."""
    parts = MultivariateNormal(mixture.means, scale_tril=mixture.roots)
    return MixtureSameFamily(Categorical(logits=mixture.logits), parts)


def test_the_density_is_that_of_torch_and_at_first_standard_normal() -> None:
    z, mixture = torch.randn(50, 2, dtype=torch.float64), uneven()
    torch.testing.assert_close(mixture.log_prob(z), theirs(mixture).log_prob(z))
    plain = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    torch.testing.assert_close(Mixture(2, 3).double().log_prob(z), plain)


def test_draws_follow_the_density_and_belong_to_rows() -> None:
    mixture = uneven()
    z = mixture.sample(40_000, 1.0, torch.Generator().manual_seed(0))
    other = theirs(mixture)
    log_p, drawn = mixture.log_prob(z), other.log_prob(other.sample((40_000,)))  # type: ignore[no-untyped-call]
    assert abs(float(log_p.mean() - drawn.mean())) < 4 * float((log_p.var() + drawn.var()) / 40_000) ** 0.5
    torch.testing.assert_close(z.mean(0), other.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(z.var(0), other.variance, atol=0.1, rtol=0)
    rows = mixture.sample(9, 1.0, Rows(1, 0, 9))
    torch.testing.assert_close(mixture.sample(4, 1.0, Rows(1, 5, 4)), rows[5:])
    cold = mixture.sample(500, 0.0, torch.Generator().manual_seed(0))
    assert len(cold.unique(dim=0)) == 3, "the means alone"


def test_a_fit_finds_what_latents_were_drawn_from_and_is_the_same_again() -> None:
    truth = uneven()
    z = truth.sample(4000, 1.0, torch.Generator().manual_seed(1))
    found, again = Mixture(2, 3).double(), Mixture(2, 3).double()
    found.fit(z)
    again.fit(z)
    assert all(torch.equal(a, b) for a, b in zip(found.buffers(), again.buffers(), strict=True))
    unseen = truth.sample(4000, 1.0, torch.Generator().manual_seed(2))
    missed = float((truth.log_prob(unseen) - found.log_prob(unseen)).mean())
    assert -0.01 < missed < 0.02, "nats"
    assert float((truth.log_prob(unseen) - Mixture(2, 3).double().log_prob(unseen)).mean()) > 0.3
    few = Mixture(2, 3).double()
    few.fit(z[:7])
    assert torch.equal(few.means, torch.zeros(3, 2)), "too few to say anything"
    few.fit(z[:17])
    assert few.logits.softmax(0)[2] == 0, "enough for two"
    assert len(few.sample(200, 0.0, torch.Generator().manual_seed(0)).unique(dim=0)) == 2
    assert bool(torch.isfinite(few.log_prob(z)).all())


# -- bounds, where p(x) has a closed form ------------------------------------------------------------------------------


class Linear(nn.Module):
    """z -> the mean W z + b and the log of a standard deviation of 0.5, for each of three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 3).double()

    def forward(self, z: Tensor, _: object) -> Tensor:
        mean = self.map(z)
        return torch.cat([mean, torch.full_like(mean, math.log(0.5))], 1)


def linear_gaussian() -> VAE:
    """x = W z + b + noise, z of a mixture: so p(x) is a mixture too. q(z | x) is a random net's, and wide."""
    settings = VAE.Settings(net="plain", width=8, depth=1, latent=2, likelihood="gaussian", prior=3)
    family = randomise(VAE(Continuous((3,)), None, settings), scale=0.1)
    right, family.decoder = family.hidden, Linear()
    family.hidden = lambda x, given: right(x, given) + torch.tensor([0.0, 0.0, 0.5, 0.5])  # type: ignore[method-assign]
    assert family.mixture is not None
    family.mixture.load_state_dict(uneven().state_dict())
    return family


def marginal(family: VAE, x: Tensor) -> Tensor:
    """log p(x), exactly."""
    w, b, mixture = family.decoder.map.weight, family.decoder.map.bias, family.mixture  # type: ignore[union-attr]
    assert mixture is not None
    spread = mixture.roots @ mixture.roots.mT
    covariance = w @ spread @ w.T + 0.25 * torch.eye(3, dtype=torch.float64)  # type: ignore[operator]
    parts = MultivariateNormal(mixture.means @ w.T + b, covariance)  # type: ignore[operator]
    return MixtureSameFamily(Categorical(logits=mixture.logits), parts).log_prob(x)


def ordered(family: VAE, x: Tensor) -> bool:
    """ELBO <= IWAE-16 <= IWAE-256 <= log p(x) to four standard errors, and the last is near log p(x)."""
    steps = []
    for k, repeats in ((1, 300), (16, 60), (256, 20)):
        draws = [family.importance(x, None, k, torch.Generator().manual_seed(seed)) for seed in range(repeats)]
        steps.append((torch.stack(draws).mean(0), torch.stack(draws).std(0) / repeats**0.5))
    steps.append((marginal(family, x), torch.zeros(len(x))))
    rising = all(
        bool((low[0] <= high[0] + 4 * (low[1] + high[1]) + 1e-9).all()) for low, high in itertools.pairwise(steps)
    )
    return rising and float((steps[3][0] - steps[2][0]).max()) < 0.3


@torch.no_grad()
def test_bounds_with_a_mixture_are_below_the_closed_form() -> None:
    family = linear_gaussian()
    x = family.sample(8, generator=torch.Generator().manual_seed(0))
    assert ordered(family, x)


@torch.no_grad()
def test_the_order_notices_a_prior_that_is_not_the_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores by N(0, 1) while samples are those of the mixture; and a density without its normalisation."""
    family = linear_gaussian()
    x = family.sample(8, generator=torch.Generator().manual_seed(0))
    right = Mixture.log_prob
    monkeypatch.setattr(Mixture, "log_prob", lambda self, z: -0.5 * z.square().sum(1) - math.log(2 * math.pi))
    assert not ordered(family, x)
    monkeypatch.setattr(Mixture, "log_prob", lambda self, z: right(self, z) + math.log(2 * math.pi))
    assert not ordered(family, x)


@torch.no_grad()
def test_samples_follow_the_closed_form() -> None:
    family = linear_gaussian()
    x = family.sample(20_000, generator=torch.Generator().manual_seed(0))
    log_p, w, mixture = marginal(family, x), family.decoder.map.weight, family.mixture  # type: ignore[union-attr]
    assert mixture is not None
    z = theirs(mixture).sample((20_000,))  # type: ignore[no-untyped-call]
    noise = 0.5 * torch.randn(20_000, 3, dtype=torch.float64)
    want = marginal(family, z @ w.T + family.decoder.map.bias + noise)  # type: ignore[operator, union-attr]
    assert abs(float(log_p.mean() - want.mean())) < 4 * float((log_p.var() + want.var()) / 20_000) ** 0.5


# -- when it is fitted -------------------------------------------------------------------------------------------------


def batches(n: int = 300) -> list[Batch]:
    """Two kinds of items, so that their latents are of two kinds."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64) + 6 * (torch.arange(n) % 2)[:, None] - 3
    return [Batch(x[i : i + 100], None, Rows(5, i, 100)) for i in range(0, n, 100)]


def test_settling_fits_the_aggregate_posterior_and_leaves_the_loss_alone() -> None:
    settings = VAE.Settings(width=8, depth=1, latent=2, prior=2)
    family = randomise(VAE(Continuous((3,)), None, settings), scale=0.2)
    before, x = float(family.loss(batches()[0]).value), torch.cat([batch.x for batch in batches()])
    assert family.mixture is not None
    family.settle(iter(batches()))
    assert float(family.loss(batches()[0]).value) == before
    with torch.no_grad():
        z = family.encode(x)
    drawn = family.mixture.sample(20_000, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), z.mean(0), atol=0.3, rtol=0)
    assert float(z.mean(0).abs().max()) > 0.4, "N(0, 1) would be found out"


def test_what_is_too_many_numbers_or_none_keeps_the_standard_normal() -> None:
    for options in ({"prior": 0}, {"prior": 2, "latent": MIXED + 1}, {"prior": 2, "bottleneck": "fsq"}):
        family = VAE(Continuous((3,)), None, VAE.Settings(width=8, depth=1, **options))
        assert family.mixture is None
        assert not list(family.buffers()), "the weights of older runs fit"
        family.settle(iter(()))


def test_a_trained_run_has_its_prior_and_keeps_it(tmp_path: Path) -> None:
    config = {"model": {"prior": 2, "latent": 4, "warmup": 0.5}, "training": {"batch_size": 32}}
    model = quintet.train("vae", data="digits", steps=6, preset="tiny", config=config, runs=tmp_path, run="one")
    means = model.family.mixture.means
    assert float(means.abs().max()) > 0
    loaded = quintet.load("one", runs=tmp_path)
    assert torch.equal(loaded.family.mixture.means, means)
    assert (loaded.sample(4, seed=1) == model.sample(4, seed=1)).all()


def test_a_longer_training_settles_by_more_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the items that the model was trained on, read off what reaches the family at each look; never fewer than
    in a short training, nor more than the mixture can use."""
    seen: list[int] = []
    right = VAE.settle
    monkeypatch.setattr(session, "SETTLED", 32)
    monkeypatch.setattr(session, "SETTLING", 0.5)
    monkeypatch.setattr(VAE, "settle", lambda self, batches: seen.append(sum(len(batch.x) for batch in batches)))
    config = {"model": {"prior": 2, "latent": 4}, "training": {"batch_size": 16, "sample_every": 4}}
    quintet.train("vae", data="digits", steps=12, preset="tiny", config=config, runs=tmp_path)
    assert seen[-3:] == [32, 64, 96]
    monkeypatch.setattr(VAE, "settle", right)
    family = randomise(VAE(Continuous((3,)), None, VAE.Settings(width=8, depth=1, latent=2, prior=1)))
    assert family.mixture is not None
    drawn = iter(batches(1000))
    family.settle(drawn)
    assert len(list(drawn)) == 10 - 1, "a mixture of one Gaussian in two numbers needs 32 items"


def test_a_rate_warms_up_in_its_share_of_training() -> None:
    settings = VAE.Settings(width=8, depth=1, latent=2, beta=2.0, warmup=0.5)
    family = randomise(VAE(Continuous((3,)), None, settings))

    def weight(progress: float) -> float:
        loss = family.loss(Batch(batches()[0].x, None, Rows(5, 0, 100), progress))
        return float((3 * loss.value - loss.parts["distortion"]) / loss.parts["rate"])

    assert [round(weight(share), 9) for share in (0.0, 0.125, 0.25, 0.5, 0.9, 1.0)] == [0.0, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_a_batch_says_how_much_of_the_training_lies_behind() -> None:
    trainer, seen = line_trainer(torch.randn(64, 8), steps=8, micro_batch=8), []
    right = trainer.family.loss
    trainer.objectives["model"] = trainer.objectives["model"]._replace(
        loss=lambda batch: seen.append(batch.progress) or right(batch)  # type: ignore[func-returns-value]
    )
    trainer.run()
    assert seen == [step / 8 for step in range(8) for _ in range(2)]
    assert Batch(torch.zeros(1)).progress == 1.0, "after training"
