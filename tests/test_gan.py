"""The GAN against truth: penalties of a linear critic in closed form, and losses that move the right part only."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import randomise
from torch import Tensor

from quintet.core.errors import Unsupported
from quintet.core.family import Batch
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.families.gan import GAN

W = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)


def model(loss: str = "relativistic", *, gamma: float = 1.0, condition: bool = False) -> GAN:
    settings = GAN.Settings(width=8, critic_width=8, depth=1, latent=2, loss=loss, gamma=gamma, emb=4)
    return randomise(GAN(Continuous((3,)), Discrete((), 2) if condition else None, settings))


def batch(n: int = 16) -> Batch:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(x, None, torch.Generator().manual_seed(2))


def linear_critic(monkeypatch: pytest.MonkeyPatch, *, cubic: float = 0.0) -> None:
    """D(x) = w . x (+ cubic sum x^3, which is no longer linear)."""
    monkeypatch.setattr(GAN, "judge", lambda self, x, cond: x @ W + cubic * (x**3).sum(1))


def penalty(loss: str) -> float:
    """Of a linear critic: grad D = w everywhere."""
    squared = float(W @ W)
    return {"relativistic": squared, "non_saturating": squared / 2, "wasserstein": (squared**0.5 - 1) ** 2}[loss]


@pytest.mark.parametrize("loss", ["relativistic", "non_saturating", "wasserstein"])
def test_penalty_of_a_linear_critic(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linear_critic(monkeypatch)
    found = model(loss).critic_loss(batch()).parts["penalty"]
    assert abs(float(found) - penalty(loss)) < 1e-12


def test_the_penalty_test_notices_a_critic_that_is_not_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    linear_critic(monkeypatch, cubic=0.1)
    assert abs(float(model().critic_loss(batch()).parts["penalty"]) - penalty("relativistic")) > 0.1


def test_r1_and_r2_are_at_real_and_at_fake_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """D = sum x^2 / 2 has gradient x, so the penalty is (E |real|^2 + E |fake|^2) / 2."""
    monkeypatch.setattr(GAN, "judge", lambda self, x, cond: 0.5 * x.square().sum(1))
    family, b = model(), batch()
    found = float(family.critic_loss(b).parts["penalty"])
    fake = family.fake(Batch(b.x, None, torch.Generator().manual_seed(2)))
    assert abs(found - 0.5 * float((b.x.square().sum(1) + fake.square().sum(1)).mean())) < 1e-12


@pytest.mark.parametrize("loss", ["relativistic", "non_saturating", "wasserstein"])
def test_losses_are_the_stated_ones(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linear_critic(monkeypatch)
    family, b = model(loss, gamma=2.0), batch()
    fake = family.fake(Batch(b.x, None, torch.Generator().manual_seed(2))).detach()
    real_d, fake_d = b.x @ W, fake @ W
    critic = {
        "relativistic": F.softplus(fake_d - real_d).mean(),
        "non_saturating": (F.softplus(fake_d) + F.softplus(-real_d)).mean(),
        "wasserstein": (fake_d - real_d).mean(),
    }[loss]
    generator = {
        "relativistic": F.softplus(real_d - fake_d).mean(),
        "non_saturating": F.softplus(-fake_d).mean(),
        "wasserstein": -fake_d.mean(),
    }[loss]
    assert torch.isclose(family.critic_loss(b).value, critic + 2 * penalty(loss))
    again = Batch(b.x, None, torch.Generator().manual_seed(2))
    assert torch.isclose(family.generator_loss(again).value, generator)


def grads(module: torch.nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)]


def test_the_critic_loss_does_not_reach_the_generator() -> None:
    family = model()
    family.critic_loss(batch()).value.backward()
    assert grads(family.critic)
    assert not grads(family.generator)
    family.generator_loss(batch()).value.backward()
    assert grads(family.generator)


def test_gradient_of_the_penalty_by_finite_differences() -> None:
    """The penalty is differentiated twice: compare with central differences in one weight."""
    family = model(gamma=3.0)
    weight = next(p for name, p in family.critic.named_parameters() if name.endswith("enter.weight"))
    value = lambda: family.critic_loss(batch()).value  # noqa: E731
    value().backward()
    assert weight.grad is not None
    exact = float(weight.grad[1, 2])
    h = 1e-5
    with torch.no_grad():
        weight[1, 2] += h
    up = float(value())
    with torch.no_grad():
        weight[1, 2] -= 2 * h
    down = float(value())
    assert abs(exact - (up - down) / (2 * h)) < 1e-7 * max(1, abs(exact))
    assert abs(exact) > 1e-6


def test_projection_makes_the_critic_depend_on_the_class() -> None:
    family, b = model(condition=True), batch()
    zero, one = (family.judge(b.x, torch.full((16,), label)) for label in (0, 1))
    assert (zero - one).abs().min() > 1e-9


@pytest.mark.parametrize("kind", [Discrete((6,), 5, pad=4), Continuous((1, 8, 8)), Continuous((2,))], ids=str)
def test_the_penalty_reaches_the_reader_of_any_condition(kind: Space) -> None:
    """Its weights move by the penalty alone: by central differences in one of them."""
    family = randomise(GAN(Continuous((3,)), kind, GAN.Settings(width=8, critic_width=8, depth=1, latent=2, emb=4)))
    generator = torch.Generator().manual_seed(3)
    cond = (5 * torch.rand(16, *kind.shape, generator=generator, dtype=torch.float64)) - 1
    cond = cond.clamp_min(0).long() if isinstance(kind, Discrete) else cond
    named = family.critic.conditioner.named_parameters()
    weight = next(p for key, p in named if key.startswith("encode") and p.dim() > 1)

    def penalty() -> Tensor:
        return family.critic_loss(Batch(batch().x, cond, torch.Generator().manual_seed(2))).parts["penalty"]

    (exact,) = torch.autograd.grad(penalty(), weight)
    at = tuple(int(i) for i in (exact.abs() == exact.abs().max()).nonzero()[0])
    values = []
    for h in (1e-7, -2e-7):  # so near that no leaky ReLU turns
        with torch.no_grad():
            weight[at] += h
        values.append(float(penalty()))
    assert abs(float(exact[at]) - (values[0] - values[1]) / 2e-7) < 1e-5 * abs(float(exact[at]))
    assert abs(float(exact[at])) > 1e-6


def test_truncation_scales_the_latent() -> None:
    family = model()
    draw = lambda t: family.sample(64, sampling=GAN.Sampling(truncation=t), generator=torch.Generator().manual_seed(0))  # noqa: E731
    assert bool((draw(0.1).std(0) < 0.5 * draw(1.0).std(0)).all())


def test_no_likelihood() -> None:
    with pytest.raises(Unsupported, match="sampler without a density"):
        model().log_prob(batch().x)


def test_the_lowest_of_several_ways_downhill_is_taken() -> None:
    family = model()
    x, known = torch.randn(16, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64), torch.tensor(True)
    z = torch.randn(16, 8, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    ends = []
    for tries in (1, 4):
        s = GAN.Sampling(tries=tries, search=20)
        energy = family.energy(x, known, None, s)
        ends.append(energy(family.search(energy, z, x, known, None, s)))
    assert bool((ends[1] <= ends[0] + 1e-9).all())
    assert bool((ends[1] < ends[0] - 1e-3).any())
