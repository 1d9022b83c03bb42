"""Diffusion against truth: closed forms for Gaussian data, solver orders, and torchdiffeq for the likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from conftest import randomise
from torch import Tensor

from quintet.core.family import Batch
from quintet.core.spaces import Continuous, Discrete
from quintet.families import diffusion
from quintet.families.diffusion import SOLVERS, Denoise, Diffusion
from quintet.nets.noise import S_MAX, S_MIN, SD, coefficients, noise_grid, noise_level

KINDS = ["edm", "noise", "v", "velocity"]
MEAN, STD = 0.7, 0.4


def gaussian(y: Tensor, s: Tensor) -> Tensor:
    """D(y, s) for data N(MEAN, STD^2): the posterior mean."""
    return (STD**2 * y + s**2 * MEAN) / (STD**2 + s**2)


def exact(y: Tensor, s: Tensor, s_next: Tensor) -> Tensor:
    """The probability flow from s to s_next: (y - MEAN) shrinks as sqrt(STD^2 + s^2)."""
    return MEAN + (y - MEAN) * ((STD**2 + s_next**2) / (STD**2 + s**2)).sqrt()


def order(solver: Callable[..., Iterator[Tensor]], denoise: Denoise = gaussian) -> float:
    """The measured order of convergence on [0.1, 10] (off 0, where every solver takes a step of another kind)."""
    errors = []
    y = torch.linspace(-20, 20, 7, dtype=torch.float64)
    for n in (64, 128):
        s = torch.logspace(1, -1, n + 1, dtype=torch.float64)
        *_, end = solver(denoise, y, s, None)
        errors.append(float((end - exact(y, s[0], s[-1])).abs().max()))
    return math.log2(errors[0] / errors[1])


def test_orders_of_the_solvers() -> None:
    assert abs(order(SOLVERS["ddim"]) - 1) < 0.1
    assert abs(order(SOLVERS["heun"]) - 2) < 0.15
    assert abs(order(SOLVERS["dpmpp_2m"]) - 2) < 0.15


def test_the_order_notices_a_wrong_second_stage() -> None:
    def lazy(denoise: Denoise, y: Tensor, s: Tensor, noise: object) -> Iterator[Tensor]:
        for i in range(len(s) - 1):  # the second slope is taken at the old level
            slope, h = (y - denoise(y, s[i])) / s[i], s[i + 1] - s[i]
            ahead = y + h * slope
            yield (y := y + h * 0.5 * (slope + (ahead - denoise(ahead, s[i])) / s[i]))

    assert order(lazy) < 1.5


@pytest.mark.parametrize("name", SOLVERS)
def test_samples_of_a_gaussian(name: str) -> None:
    """Every solver ends in N(MEAN, STD^2) when the denoiser is the true one."""
    generator = torch.Generator().manual_seed(0)
    s = noise_grid("lognormal", 200, like=torch.zeros((), dtype=torch.float64))
    n = 40_000
    y = s[0] * torch.randn(n, generator=generator, dtype=torch.float64)
    noise = lambda: torch.randn(n, generator=generator, dtype=torch.float64)  # noqa: E731
    *_, x = SOLVERS[name](gaussian, y, s, noise)
    assert abs(float(x.mean()) - MEAN) < 0.02
    assert abs(float(x.std()) / STD - 1) < 0.05


def test_ancestral_is_the_posterior_of_ddpm() -> None:
    """Mean and variance of q(x_{t-1} | x_t, x_0) in the notation of Ho et al. 2020, equations 6 and 7."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = (1 - beta).cumprod(0)
    t = 500
    x0, xt = torch.tensor([0.3], dtype=torch.float64), torch.tensor([-0.8], dtype=torch.float64)
    mean = alpha_bar[t - 1].sqrt() * beta[t] / (1 - alpha_bar[t]) * x0
    mean = mean + (1 - beta[t]).sqrt() * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * xt
    variance = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t]
    s = ((1 - alpha_bar) / alpha_bar).sqrt()[[t, t - 1]]
    step = lambda e: diffusion.posterior(x0, xt / alpha_bar[t].sqrt(), *s, lambda: torch.tensor([e]))  # noqa: E731
    still, moved = (step(e) * alpha_bar[t - 1].sqrt() for e in (0.0, 1.0))
    torch.testing.assert_close(still, mean)
    torch.testing.assert_close((moved - still).square(), variance[None])


@pytest.mark.parametrize("kind", KINDS)
def test_parameterisations_agree(kind: str) -> None:
    """F = its stated target gives D = x, for each of the four."""
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(50, generator=generator, dtype=torch.float64) for _ in range(2))
    s = torch.logspace(-2, 1.5, 50, dtype=torch.float64)
    alpha = (1 + s**2).rsqrt()
    y = x + s * noise
    c_skip, c_out, c_in = coefficients(kind, s)
    target = {
        "noise": noise,
        "v": alpha * noise - alpha * s * x,
        "velocity": noise - x,
        "edm": (x - c_skip * y) / c_out,
    }
    torch.testing.assert_close(c_skip * y + c_out * target[kind], x)
    if kind != "edm":  # what the net sees is x_t = alpha x + sigma noise
        scale = 1 / (1 + s) if kind == "velocity" else alpha
        torch.testing.assert_close(c_in * y, scale * x + scale * s * noise)


def test_edm_has_unit_variance_inside_and_out() -> None:
    generator, n = torch.Generator().manual_seed(0), 200_000
    x, noise = SD * torch.randn(n, generator=generator), torch.randn(n, generator=generator)
    for level in (0.01, 0.5, 20.0):
        s = torch.tensor(level)
        c_skip, c_out, c_in = coefficients("edm", s)
        y = x + s * noise
        assert abs(float((c_in * y).std()) - 1) < 0.01
        assert abs(float(((x - c_skip * y) / c_out).std()) - 1) < 0.01


@pytest.mark.parametrize("schedule", ["lognormal", "linear", "cosine", "uniform"])
def test_noise_levels_grow_and_grids_fall_to_zero(schedule: str) -> None:
    s = noise_level(schedule, torch.linspace(0, 1, 101, dtype=torch.float64))
    assert bool((s.diff() >= 0).all())
    assert bool(torch.isfinite(s).all())
    for low in (S_MIN, 0.3):  # 0.3: where sampling stops for data of two levels
        grid = noise_grid(schedule, 20, like=torch.zeros(()), low=low)
        assert len(grid) == 21
        assert bool((grid.diff() < 0).all())  # a level that comes twice is a step of no length, by which solvers divide
        torch.testing.assert_close(grid[[0, -2, -1]], torch.tensor([S_MAX, low, 0.0]))


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m", "ddim", "ancestral"])
@pytest.mark.parametrize("schedule", ["lognormal", "linear", "cosine", "uniform"])
def test_every_schedule_and_solver_samples_data_of_two_levels(schedule: str, solver: str) -> None:
    family = Diffusion(Continuous((2, 8), 2), None, Diffusion.Settings(width=8, depth=1, emb=8, schedule=schedule))
    family.scale.fill_(0.433)  # of fair bits, dequantised
    assert bool(torch.isfinite(family.sample(2, sampling=Diffusion.Sampling(solver=solver))).all())


def model(
    kind: str = "edm", dims: int = 2, *, exact_dims: int = 8, condition: bool = False, steps: int = 24
) -> Diffusion:
    schedule = {"edm": "lognormal", "noise": "linear", "v": "cosine", "velocity": "uniform"}[kind]
    settings = Diffusion.Settings(width=16, depth=1, emb=16, parameterisation=kind, schedule=schedule,
                                  exact_dims=exact_dims, ode_steps=steps, probes=100)  # fmt: skip
    family = Diffusion(Continuous((dims,)), Discrete((), 2) if condition else None, settings)
    return randomise(family, scale=0.15)


def of_gaussian(monkeypatch: pytest.MonkeyPatch, family: Diffusion) -> None:
    """Give the family the true denoiser of N(0, STD^2) in its scaled data."""
    family.scale.fill_(2.0)
    family.mean.fill_(0.3)
    true = lambda y, s: STD**2 * y / (STD**2 + s**2)  # noqa: E731
    monkeypatch.setattr(Diffusion, "denoiser", lambda self, cond, n, guidance=1.0: true)


@pytest.mark.parametrize("exact_dims", [8, 0])
def test_log_prob_of_a_gaussian_is_the_closed_form(exact_dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    family = model(exact_dims=exact_dims, dims=3)
    of_gaussian(monkeypatch, family)
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.2 + 0.3
    # scaled data y = 2 (x - 0.3) ~ N(0, STD^2 + S_MIN^2); the Jacobian of the scaling is 2^3
    std = (STD**2 + S_MIN**2) ** 0.5
    truth = torch.distributions.Normal(0, std).log_prob(2 * (x - 0.3)).sum(1) + 3 * math.log(2)
    found, error = family.log_prob_error(x, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, truth, rtol=0, atol=5e-3)
    assert (error is None) == (exact_dims == 8)


def test_that_closed_form_notices_a_dropped_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    family = model(dims=3)
    of_gaussian(monkeypatch, family)
    x = torch.full((1, 3), 0.65, dtype=torch.float64)
    with_scale = family.log_prob(x)
    family.scale.fill_(1.0)  # the same point in other units: the density must change by the Jacobian and by the point
    assert abs(float(with_scale - family.log_prob(x))) > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one(kind: str) -> None:
    """After a short training from random weights (which put mass everywhere), on a grid that holds it all."""
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(4000, generator=generator, dtype=torch.float64)
    radius = 1 + 0.2 * torch.randn(4000, generator=generator, dtype=torch.float64)
    data = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    family = model(kind, steps=24)
    family.initialise(Batch(data))
    optimiser = torch.optim.Adam(family.parameters(), 3e-3)
    for _ in range(400):
        batch = data[torch.randint(4000, (256,), generator=generator)]
        loss = family.loss(Batch(batch, None, generator)).value
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    u = torch.linspace(-6, 6, 121, dtype=torch.float64)  # x = sinh u: fine at the ring, and out to 200
    cell = torch.cartesian_prod(u.cosh(), u.cosh()).prod(1) * 0.1**2
    p = family.log_prob(torch.cartesian_prod(u.sinh(), u.sinh())).exp() * cell
    assert abs(float(p.sum()) - 1) < 0.01
    assert float(p.max()) < 0.05, "the mass must not sit in a few cells"


def test_the_integral_notices_a_wrong_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    true = diffusion.angular
    monkeypatch.setattr(diffusion, "angular", lambda denoise, z, s: true(denoise, z, s) + 0.1 * (z - z.detach()))
    axis = torch.linspace(-9, 9, 121, dtype=torch.float64)
    p = model("edm").log_prob(torch.cartesian_prod(axis, axis)).exp() * (18 / 120) ** 2
    assert abs(float(p.sum()) - 1) > 0.1


def test_log_prob_agrees_with_torchdiffeq() -> None:
    """An adaptive solver and an autograd Jacobian, on random weights."""
    odeint = pytest.importorskip("torchdiffeq").odeint
    family = model(steps=64)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    denoise = family.denoiser(None, 1)

    def flow(log_s: Tensor, state: Tensor) -> Tensor:  # in ln s, where the flow is smooth: dy/d ln s = y - D
        f = lambda y: y - denoise(y[None], log_s.exp())[0]  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(f, state[:2])
        return torch.cat([f(state[:2]), jacobian.trace()[None]]).detach()

    span = torch.tensor([S_MIN, S_MAX], dtype=torch.float64).log()
    total = S_MAX**2 + SD**2
    for row, found in zip(x, family.log_prob(x), strict=True):
        start = torch.cat([(row - family.mean) * family.scale, torch.zeros(1, dtype=torch.float64)])
        end = odeint(flow, start, span, rtol=1e-6, atol=1e-6)[-1]
        prior = -0.5 * end[:2].square().sum() / total - math.log(2 * math.pi * total)
        assert abs(float(prior + end[2] + family.scale.log().sum() - found)) < 2e-3


def test_probes_are_unbiased_and_state_their_error() -> None:
    family, rough = model(dims=4), model(dims=4, exact_dims=0)
    rough.load_state_dict(family.state_dict())
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, error = rough.log_prob_error(x, generator=torch.Generator().manual_seed(1))
    assert error is not None
    assert float(error.min()) > 0
    z = (found - family.log_prob(x)) / error
    assert float(z.abs().max()) < 5
    assert float(z.square().mean()) < 3


def test_guidance_is_linear_between_null_and_condition() -> None:
    family = model(condition=True)
    with torch.no_grad():
        family.conditioner.null.add_(1.0)
    cond, s = torch.zeros(4, dtype=torch.long), torch.tensor(0.7, dtype=torch.float64)
    y = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    null, given, three = (family.denoiser(c, 4, g)(y, s) for c, g in ((None, 1.0), (cond, 1.0), (cond, 3.0)))
    torch.testing.assert_close(three, null + 3 * (given - null))
    assert (given - null).abs().max() > 1e-6


def test_encode_and_decode_invert_each_other() -> None:
    family = model()
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (family.decode(family.encode(x)) - x).abs().max() < 0.02


def test_loss_of_the_true_denoiser_is_the_posterior_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """For data N(0, SD^2), F = 0 is the best EDM prediction, and E F_target^2 = 1: the loss is 1."""
    family = model(dims=1)
    monkeypatch.setattr(Diffusion, "predict", lambda self, x, s, given, low: torch.zeros_like(x))
    family.mean.zero_()
    family.scale.fill_(1.0)
    x = SD * torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = family.loss(Batch(x, None, torch.Generator().manual_seed(1))).value
    assert abs(float(loss) - 1) < 0.02


def test_grid_of_edm_is_the_published_one() -> None:
    s = noise_grid("lognormal", 18, like=torch.zeros((), dtype=torch.float64))[:-1]
    i = torch.arange(18, dtype=torch.float64)
    published = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(s, published)
