"""The VAE against truth: ELBO <= IWAE-k <= log p by numerical integration, and heads that sum to one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import randomise

from quintet.core.errors import ConfigError
from quintet.core.family import Batch
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.families.vae import VAE
from quintet.nets.conditioning import embed
from quintet.nets.likelihoods import Bernoulli, Categorical, Gaussian, Head, LogisticMixture

SPACES: dict[str, Space] = {
    "gaussian": Continuous((3,)),
    "logistic_mixture": Continuous((3,), 17),
    "bernoulli": Continuous((3,), 2),
    "categorical": Discrete((3,), 4, (4, 2, 3)),
}


def model(kind: str) -> VAE:
    settings = VAE.Settings(width=8, depth=1, latent=1, likelihood=kind, components=2)
    return randomise(VAE(SPACES[kind], Discrete((), 2), settings), scale=0.1)


def items(kind: str, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator, space = torch.Generator().manual_seed(3), SPACES[kind]
    cond = torch.arange(n) % 2
    if isinstance(space, Discrete):
        return torch.stack([torch.randint(0, size, (n,), generator=generator) for size in space.sizes or ()], 1), cond
    x = torch.rand(n, 3, generator=generator, dtype=torch.float64) * 2 - 1
    return (x if space.levels is None else space.quantise(x).double() * space.bin_width - 1), cond


def truth(family: VAE, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
    """log p(x) = log int N(z; 0, 1) p(x | z) dz by the trapezoid rule on 4,001 points of [-10, 10]."""
    z = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    out = []
    for row, label in zip(x, cond, strict=True):
        emb = embed(family.conditioner, label.expand(len(z)), len(z))
        given = family.head.log_prob(family.params(z[:, None], emb), row.expand(len(z), -1)).sum(1)
        out.append(torch.logsumexp(given - 0.5 * z**2 - 0.5 * math.log(2 * math.pi), 0) + math.log(20 / 4000))
    return torch.stack(out)


def bound(family: VAE, x: torch.Tensor, cond: torch.Tensor, k: int, repeats: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the IWAE-k bound over `repeats` draws, and its standard error."""
    draws = torch.stack([family.importance(x, cond, k, torch.Generator().manual_seed(seed)) for seed in range(repeats)])
    return draws.mean(0), draws.std(0) / repeats**0.5


def ordered(family: VAE, x: torch.Tensor, cond: torch.Tensor) -> bool:
    """ELBO <= IWAE-8 <= IWAE-64 <= log p, up to four standard errors."""
    steps = [bound(family, x, cond, k, repeats) for k, repeats in ((1, 400), (8, 100), (64, 40))]
    steps.append((truth(family, x, cond), torch.zeros(len(x), dtype=torch.float64)))
    pairs = itertools.pairwise(steps)
    return all(bool((low[0] <= high[0] + 4 * (low[1] + high[1]) + 1e-9).all()) for low, high in pairs)


@pytest.mark.parametrize("kind", SPACES)
@torch.no_grad()
def test_elbo_below_iwae_below_log_p(kind: str) -> None:
    family, (x, cond) = model(kind), items(kind)
    assert ordered(family, x, cond)
    tight, error = bound(family, x, cond, 512, 8)
    assert bool(((tight - truth(family, x, cond)).abs() < 4 * error + 0.05).all()), "IWAE-k must approach log p"
    elbo, _ = bound(family, x, cond, 1, 400)
    assert bool((elbo < truth(family, x, cond) - 1e-3).any()), "random weights must leave a gap"


@torch.no_grad()
def test_the_order_notices_a_flipped_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """log q(z | x) - log p(z) in the place of log p(z) - log q(z | x)."""
    family, (x, cond) = model("gaussian"), items("gaussian")

    def wrong(self: VAE, x: torch.Tensor, cond: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
        emb = embed(self.conditioner, cond, len(x))
        mean, log_std = self.posterior(x, emb)
        rows = []
        for noise in torch.randn(k, *mean.shape, generator=generator, dtype=mean.dtype):
            z = mean + log_std.exp() * noise
            flipped = (0.5 * z**2 - 0.5 * noise**2 - log_std).sum(1)
            rows.append(flipped + self.head.log_prob(self.params(z, emb), x).sum(1))
        return torch.logsumexp(torch.stack(rows), 0) - math.log(k)

    monkeypatch.setattr(VAE, "importance", wrong)
    assert not ordered(family, x, cond)


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
    return head.log_prob(params.expand(len(grid), -1, -1), grid).exp().sum(0) * (120 / 200_000)


@pytest.mark.parametrize("kind", SPACES)
def test_heads_sum_to_one(kind: str) -> None:
    space = SPACES[kind]
    heads: dict[str, Head] = {"gaussian": Gaussian(), "bernoulli": Bernoulli()}
    if isinstance(space, Discrete):
        heads["categorical"] = Categorical(space)
    else:
        heads["logistic_mixture"] = LogisticMixture(space, 3)
    head = heads[kind]
    params = torch.randn(1, head.count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(masses(head, space, params), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-9)


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


def test_a_likelihood_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not describe"):
        VAE(Continuous((3,)), None, VAE.Settings(likelihood="categorical"))
    with pytest.raises(ConfigError, match="does not describe"):
        VAE(Discrete((3,), 4), None, VAE.Settings(likelihood="gaussian"))
