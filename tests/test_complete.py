"""Completion by GAN, flow and diffusion against conditionals in closed form; the controls are bugs to be found."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import randomise
from torch import Tensor

from quintet.core.family import Batch, Family
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.families import flow as flow_module
from quintet.families.diffusion import Diffusion
from quintet.families.flow import Flow
from quintet.families.gan import GAN
from quintet.nets.flows import Guided, MaskedAutoregressive
from quintet.nets.given import UNCONDITIONAL
from quintet.nets.latent import descend, hamiltonian, nearest_candidate

KNOWN = torch.tensor([True, False, True, False])
GIVEN = torch.tensor([0.4, 0.0, -0.3, 0.0], dtype=torch.float64)
ROOT = torch.tensor([[0.5, 0, 0, 0], [0.4, 0.2, 0, 0], [-0.3, 0.25, 0.2, 0], [0.3, 0.1, -0.35, 0.1]]).double()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditional(covariance: Tensor, given: Tensor = GIVEN, known: Tensor = KNOWN) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the unknown entries of N(0, covariance) given the known ones."""
    a, b = known.nonzero()[:, 0], (~known).nonzero()[:, 0]
    weights = covariance[b][:, a] @ torch.linalg.inv(covariance[a][:, a])
    return weights @ given[a], covariance[b][:, b] - weights @ covariance[a][:, b]


def distance(samples: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """0 where samples have this mean and covariance: the largest deviation once the truth is whitened."""
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (samples - mean).T, upper=False)
    off = (white @ white.T / white.shape[1]) - torch.eye(len(mean), dtype=white.dtype)  # of second moments
    return max(float(white.mean(1).abs().max()), float(off.abs().max()) / 2)


def completions(family: Family, n: int = 6000, **sampling: Any) -> Tensor:
    """Draws of the unknown entries given GIVEN."""
    x, known = GIVEN.expand(n, -1), KNOWN.expand(n, -1)
    out = family.complete(x, known, sampling=family.Sampling(**sampling), generator=seeded(1))
    assert torch.equal(out[known], x[known])
    return out[:, ~KNOWN]


# -- flow ------------------------------------------------------------------------------------------------------------


def gaussian_flow(root: Tensor = ROOT) -> Flow:
    """A flow with the density of root z: hidden unit i is silu(50 + x_(i-1)), which is 50 + x_(i-1)."""
    dims = len(root)
    settings = Flow.Settings(kind="autoregressive", transform="affine", layers=1, depth=1, width=dims, dropout=0)
    flow = Flow(Continuous((dims,)), None, settings).double().eval()
    layer = flow.layers[1]
    assert isinstance(layer, MaskedAutoregressive)
    weights = torch.eye(dims, dtype=root.dtype) - root.diag()[:, None] * torch.linalg.inv(root)  # mean = weights x
    with torch.no_grad():
        layer.net.enter.weight.copy_(torch.eye(dims).roll(-1, 1))
        layer.net.enter.bias.fill_(50.0)
        leave = torch.zeros(2, dims, dims, dtype=root.dtype)
        leave[0, :, 1:] = weights[:, :-1]
        layer.net.leave.weight.copy_(leave.flatten(0, 1))
        log_std = 3 * torch.atanh(root.diag().log() / 3)
        layer.net.leave.bias.copy_(torch.cat([-50 * leave[0].sum(1), log_std]))
    return flow


def test_the_hand_made_flow_is_that_gaussian() -> None:
    x = torch.randn(50, 4, generator=seeded(), dtype=torch.float64)
    truth = torch.distributions.MultivariateNormal(torch.zeros(4).double(), scale_tril=ROOT).log_prob(x)
    torch.testing.assert_close(gaussian_flow().log_prob(x), truth)


def test_flow_completes_a_gaussian() -> None:
    assert distance(completions(gaussian_flow()), *conditional(ROOT @ ROOT.T)) < 0.06


def test_few_moves_are_found() -> None:
    assert distance(completions(gaussian_flow(), moves=1, starts=2), *conditional(ROOT @ ROOT.T)) > 0.2


def off_the_density(flow: Flow, n: int = 1000) -> float:
    """Kolmogorov's distance between completions of one entry and the conditional density on a grid."""
    x = torch.tensor([[0.5, 0.0]], dtype=torch.float64).expand(n, -1)
    known, few = torch.tensor([[True, False]]).expand(n, -1), Flow.Sampling(moves=50, starts=32)
    drawn = flow.complete(x, known, sampling=few, generator=seeded(1))[:, 1].sort().values
    grid = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    p = flow.log_prob(torch.stack([torch.full_like(grid, 0.5), grid], 1)).detach().exp()
    cdf = (p.cumsum(0) - p / 2) / p.sum()
    at = cdf[((drawn + 12) / 24 * 4800).round().long().clamp(0, 4800)]
    return float((at - (torch.arange(n) + 0.5) / n).abs().max())


def test_flow_completions_follow_its_density(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a random spline flow, whose conditional density has four modes."""
    torch.manual_seed(0)
    flow = Flow(Continuous((2,)), None, Flow.Settings(layers=3, width=16, dropout=0))
    randomise(flow, scale=0.15)
    assert off_the_density(flow) < 0.051  # the 1 % point of 1,000 draws

    def blind(u: Tensor) -> Tensor:  # to the log-determinant
        z, _ = flow.flow(torch.cat([torch.full_like(u[:, :1], 0.5), u[:, 1:]], 1), UNCONDITIONAL)
        return 0.5 * z.square().sum(1)

    monkeypatch.setattr(flow_module, "hamiltonian", lambda energy, *a, **kw: hamiltonian(blind, *a, **kw))
    assert off_the_density(flow) > 0.1


def test_flow_temperature_is_that_of_the_density() -> None:
    mean, covariance = conditional(ROOT @ ROOT.T)
    assert distance(completions(gaussian_flow(), temperature=0.5), mean, covariance / 4) < 0.06


def ring(n: int, generator: torch.Generator) -> Tensor:
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    radius = 1 + 0.05 * torch.randn(n, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def test_flow_finds_both_sides_of_a_ring() -> None:
    torch.manual_seed(0)
    flow = Flow(Continuous((2,)), None, Flow.Settings(layers=4, width=24, depth=1, dropout=0))
    flow.initialise(Batch(ring(2000, seeded(0))))
    optimiser, generator = torch.optim.Adam(flow.parameters(), 5e-3), seeded(1)
    for step in range(250):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * (1 - step / 250)
        loss = flow.loss(Batch(ring(200, generator))).value
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x = torch.tensor([[0.3, 0.0]]).expand(500, -1)
    known = torch.tensor([[True, False]]).expand(500, -1)
    y = flow.complete(x, known, generator=seeded(2))[:, 1]
    assert bool(((y.abs() - math.sqrt(1 - 0.09)).abs() < 0.25).float().mean() > 0.95)
    assert 0.38 < float((y > 0).float().mean()) < 0.62


# -- diffusion -------------------------------------------------------------------------------------------------------


def gaussian_diffusion(monkeypatch: pytest.MonkeyPatch, covariance: Tensor) -> Diffusion:
    """With the true denoiser of N(0, covariance), in scaled data as the family sees them."""
    family = randomise(Diffusion(Continuous((4,)), None, Diffusion.Settings(width=8, depth=1, emb=8)))
    family.mean.fill_(0.0)
    family.scale.fill_(1.5)
    scaled, eye = covariance * 1.5**2, torch.eye(4, dtype=torch.float64)
    true = lambda y, s: y @ torch.linalg.solve(scaled + s**2 * eye, scaled)  # noqa: E731
    monkeypatch.setattr(Diffusion, "denoiser", lambda self, cond, n, guidance=1.0: true)
    return family


COVARIANCE = ROOT @ ROOT.T


def test_diffusion_completes_a_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    family = gaussian_diffusion(monkeypatch, COVARIANCE)
    assert distance(completions(family), *conditional(COVARIANCE)) < 0.1
    assert distance(completions(family, steps=40), *conditional(COVARIANCE)) < 0.05
    assert distance(completions(family, corrections=0), *conditional(COVARIANCE)) > 0.5, "replacement alone is biased"


def test_the_net_sees_known_entries_at_the_noise_of_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    family, seen = gaussian_diffusion(monkeypatch, COVARIANCE), []
    true = family.denoiser(None, 0)

    def spy(y: Tensor, s: Tensor) -> Tensor:
        seen.append((y - GIVEN * 1.5)[:, KNOWN] / s)
        return true(y, s)

    monkeypatch.setattr(Diffusion, "denoiser", lambda self, cond, n, guidance=1.0: spy)
    completions(family, n=2000)
    for noise in seen:
        assert abs(float(noise.mean())) < 0.1
        assert abs(float(noise.std()) - 1) < 0.06


# -- GAN -------------------------------------------------------------------------------------------------------------

LINEAR = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.3, -0.8], [0.6, 0.6]]).double()
NOISE = 0.3


def linear_gan(monkeypatch: pytest.MonkeyPatch, scale: float = 1.0) -> GAN:
    """G(z) = scale LINEAR z + 0.1."""
    monkeypatch.setattr(GAN, "generate", lambda self, z, cond, generator=None: scale * z @ LINEAR.T + 0.1)
    return GAN(Continuous((4,)), None, GAN.Settings(width=8, critic_width=8, depth=1, latent=2)).double()


def latent_posterior(known: Tensor, x: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of z given x = LINEAR z + 0.1 + noise * N(0, 1) in the known entries."""
    seen = LINEAR[known]
    covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + seen.T @ seen / noise**2)
    return covariance @ seen.T @ (x[known] - 0.1) / noise**2, covariance


def test_gan_completes_with_the_posterior_of_a_linear_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, covariance = latent_posterior(KNOWN, GIVEN, NOISE)
    rest = LINEAR[~KNOWN]
    truth = rest @ mean + 0.1, rest @ covariance @ rest.T
    gan = linear_gan(monkeypatch)
    assert distance(completions(gan, noise=NOISE), *truth) < 0.06
    assert distance(completions(gan, noise=2 * NOISE), *truth) > 0.3
    assert distance(completions(gan, noise=NOISE, moves=0), *truth) > 0.3, "the likeliest z is not a draw"


def test_gan_encodes_to_the_likeliest_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    gan, scale = linear_gan(monkeypatch, scale=0.2), 0.2
    x = 0.1 + 0.2 * torch.randn(20, 4, generator=seeded(), dtype=torch.float64)
    sd, everything = GAN.Sampling().noise, torch.ones(4, dtype=torch.bool)
    # x - 0.1 = scale LINEAR z + noise is LINEAR z + noise / scale in units of scale
    truth = torch.stack([latent_posterior(everything, (row - 0.1) / scale + 0.1, sd / scale)[0] for row in x])
    assert float((gan.encode(x) - truth).abs().max()) < 0.005
    least_squares = torch.linalg.lstsq(scale * LINEAR, (x - 0.1).T).solution.T
    assert float((least_squares - truth).abs().max()) > 0.05, "the prior must matter"


# -- all three -------------------------------------------------------------------------------------------------------

SMALL: dict[str, tuple[type[Family], dict[str, Any], dict[str, Any]]] = {
    "gan": (GAN, {"width": 8, "critic_width": 8, "depth": 1, "latent": 3}, {"search": 5, "moves": 3, "starts": 4}),
    "flow": (Flow, {"width": 8, "layers": 2}, {"moves": 3, "starts": 4}),
    "diffusion": (Diffusion, {"width": 8, "depth": 1, "emb": 8}, {"steps": 4, "corrections": 2}),
}
SPACES = [Continuous((3,)), Continuous((2, 7), 9), Continuous((1, 6, 4), 17), Continuous((3,), None, (0.5, 0.0, 0.1))]
LABEL = Discrete((1,), 3)


def small(name: str, space: Space) -> tuple[Family, Callable[..., Tensor]]:
    """A conditional family with random weights, and its `complete` with few steps."""
    cls, settings, sampling = SMALL[name]
    torch.manual_seed(0)
    family = cls(space, LABEL, cls.Settings(**settings))
    x = torch.rand(64, *space.shape, generator=seeded(3)) * 2 - 1
    family.initialise(Batch(x, (torch.arange(64) % 3)[:, None], seeded()))
    randomise(family, scale=0.1)
    run = lambda *a, **kw: family.complete(*a, sampling=cls.Sampling(**sampling), **kw)  # noqa: E731
    return family, run


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_manners(name: str, space: Continuous) -> None:
    family, complete = small(name, space)
    before = {key: value.clone() for key, value in family.state_dict().items()}
    x = torch.rand(5, *space.shape, generator=seeded(4), dtype=torch.float64) * 2 - 1
    known = torch.rand(5, *space.shape, generator=seeded(5)) < 0.5
    known[3], known[4] = True, False
    cond = torch.tensor([[0], [1], [2], [0], [1]])
    seen: list[tuple[int, int]] = []
    whole = complete(x, known, cond, generator=Rows(7, 0, 5), on_step=lambda i, n, x: seen.append((i, n)))
    family.space.check(whole)
    assert torch.equal(whole[known], x[known])
    assert torch.equal(whole[3], x[3])
    assert seen == [(i + 1, len(seen)) for i in range(len(seen))]
    parts = [complete(x[a:b], known[a:b], cond[a:b], generator=Rows(7, a, b - a)) for a, b in ((0, 2), (2, 5))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-8)
    free = ~known[[0, 1, 2, 4]]
    hidden = complete(torch.where(known, x, 0.7), known, cond, generator=Rows(7, 0, 5))
    torch.testing.assert_close(hidden, whole, rtol=0, atol=1e-8)  # what x holds in the holes is ignored
    others = (cond, Rows(8, 0, 5)), ((cond + 1) % 3, Rows(7, 0, 5))
    for other in (complete(x, known, c, generator=generator) for c, generator in others):
        assert bool((other != whole)[[0, 1, 2, 4]][free].all())
    after = family.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(p.grad is None for p in family.parameters())


def test_with_nothing_known_completions_are_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    zero, nothing = torch.zeros(4, dtype=torch.float64), torch.zeros(6000, 4, dtype=torch.bool)
    x = torch.randn(6000, 4, generator=seeded(), dtype=torch.float64)
    draw = lambda family: family.complete(x, nothing, generator=seeded(1))  # noqa: E731
    assert distance(draw(gaussian_flow()), zero, COVARIANCE) < 0.06
    assert distance(draw(gaussian_diffusion(monkeypatch, COVARIANCE)), zero, COVARIANCE) < 0.1
    made = (draw(linear_gan(monkeypatch)) - 0.1) @ torch.linalg.pinv(LINEAR).T
    assert distance(made, zero[:2], torch.eye(2, dtype=torch.float64)) < 0.06


# -- the parts -------------------------------------------------------------------------------------------------------


def test_hamiltonian_leaves_a_scaled_gaussian_as_it_is_and_reaches_it_from_afar() -> None:
    scale = torch.tensor([10.0, 1.0, 0.01], dtype=torch.float64)
    energy = lambda u: 0.5 * (u / scale).square().sum(1)  # noqa: E731
    start = torch.zeros(4000, 3, dtype=torch.float64) + 8 * scale
    u = hamiltonian(energy, start, moves=40, generator=seeded(), scale=scale.expand(4000, -1))
    assert distance(u, torch.zeros_like(scale), torch.diag(scale**2)) < 0.06
    wall = lambda u: torch.where(u[:, 0] > 0, u[:, 0], torch.nan)  # noqa: E731
    above = hamiltonian(wall, torch.ones(4000, 1, dtype=torch.float64), moves=100, generator=seeded())
    assert bool((above > 0).all())
    assert abs(float(above.mean()) - 1) < 0.06


def test_descend_finds_the_bottom_and_nearest_looks_at_known_entries_only() -> None:
    bottom = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    found = descend(lambda u: ((u - bottom) ** 2 * torch.tensor([1.0, 100.0])).sum(1), 0 * bottom, steps=200)
    assert float((found - bottom).abs().max()) < 1e-3
    candidates = torch.tensor([[[0.0, 9.0], [1.0, 0.0]]])
    one = torch.ones(1, 2)
    assert int(nearest_candidate(candidates, torch.zeros(1, 2), torch.tensor([[True, False]]), one)) == 0
    assert int(nearest_candidate(candidates, torch.zeros(1, 2), torch.tensor([[True, True]]), one)) == 1
    assert (
        int(nearest_candidate(candidates, torch.zeros(1, 2), torch.tensor([[True, True]]), torch.tensor([[0.1, 9.0]])))
        == 0
    )


# -- guidance of the flow --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coupling", "autoregressive", "glow"])
@torch.no_grad()
def test_a_guided_flow_is_invertible_and_a_weight_of_one_changes_no_bit(kind: str) -> None:
    torch.manual_seed(0)
    shape = (2, 4, 6) if kind == "glow" else (5,)
    flow = Flow(Continuous(shape), LABEL, Flow.Settings(kind=kind, layers=2, width=16))
    randomise(flow, scale=0.1)
    cond = torch.arange(6)[:, None] % 3
    draw = lambda cond, **kw: flow.sample(6, cond, sampling=Flow.Sampling(**kw), generator=seeded(1))  # noqa: E731
    assert torch.equal(draw(cond), draw(cond, guidance=1.0))
    torch.testing.assert_close(draw(cond, guidance=0.0), draw(None))
    assert not torch.allclose(draw(cond, guidance=2.0), draw(cond))
    given = flow.given(cond, 6, 2.0)
    assert isinstance(given, Guided)
    z = torch.randn(6, *shape, generator=seeded(), dtype=torch.float64)
    back, log_det = flow.flow(flow.invert(z, given), given)
    torch.testing.assert_close(back, z.flatten(1), rtol=1e-6, atol=1e-6)
    row = flow.given(cond[:1], 1, 2.0)
    forward = lambda x: flow.flow(x.view(1, *shape), row)[0][0]  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(forward, flow.invert(z[:1], row).flatten())
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[0])


def test_guidance_moves_samples_away_from_the_other_class() -> None:
    """Two overlapping Gaussians at x = -1 and 1: guided samples lie further out, and the null condition holds both."""

    def data(n: int) -> Batch:
        label = torch.randint(2, (n, 1), generator=generator)
        x = torch.randn(n, 2, generator=generator) * 0.7
        return Batch(x + torch.cat([2.0 * label - 1, 0.0 * label], 1), label, generator)

    generator = seeded()
    torch.manual_seed(0)
    flow = Flow(Continuous((2,)), Discrete((1,), 2), Flow.Settings(layers=3, width=16, depth=1, dropout=0, emb=8))
    flow.initialise(data(1000))
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(250):
        optimiser.zero_grad()
        flow.loss(data(200)).value.backward()
        optimiser.step()
    flow.eval()
    one = torch.ones(2000, 1, dtype=torch.long)
    draw = lambda cond, g: flow.sample(2000, cond, sampling=Flow.Sampling(guidance=g), generator=seeded(1))[:, 0]  # noqa: E731
    assert abs(float(draw(one, 1.0).mean()) - 1) < 0.15
    assert float(draw(one, 2.0).mean()) > float(draw(one, 1.0).mean()) + 0.2
    assert float(draw(1 - one, 2.0).mean()) < float(draw(1 - one, 1.0).mean()) - 0.2
    assert abs(float(draw(None, 1.0).mean())) < 0.3
    assert abs(float(draw(None, 1.0).std()) / math.sqrt(1 + 0.49) - 1) < 0.15
