"""Augmentation for a critic: gradients pass, data and samples are changed alike, and samples themselves are not."""

from __future__ import annotations

import pytest
import torch
from conftest import randomise
from torch import Tensor

from quintet.core.errors import ConfigError
from quintet.core.family import Batch
from quintet.core.random import Rows
from quintet.core.spaces import Continuous
from quintet.families import gan
from quintet.families.gan import GAN
from quintet.nets.augment import CHANGES, augmented, cutout, translation

SPACE = Continuous((3, 8, 8), 17)
ALL = tuple(CHANGES)


def model(*augment: str) -> GAN:
    settings = GAN.Settings(width=8, critic_width=8, depth=1, latent=4, augment=augment)
    return randomise(GAN(SPACE, None, settings), scale=0.1)


def images(n: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, *SPACE.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("change", ALL)
def test_each_change_is_linear_in_an_item_and_its_gradient_is_right(change: str) -> None:
    x = images(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: augmented(v, [change], Rows(1, 0, 3)), (x,))
    twice = augmented(2 * x, [change], Rows(1, 0, 3)) - augmented(x, [change], Rows(1, 0, 3))
    again = augmented(3 * x, [change], Rows(1, 0, 3)) - augmented(2 * x, [change], Rows(1, 0, 3))
    torch.testing.assert_close(twice, again)


@pytest.mark.parametrize("change", ALL)
def test_every_item_is_changed_in_its_own_way(change: str) -> None:
    x = images(1).expand(200, -1, -1, -1)
    y = augmented(x, [change], Rows(1, 0, 200))
    assert len(y.flatten(1).unique(dim=0)) > 8
    torch.testing.assert_close(augmented(x[:5], [change], Rows(1, 40, 5)), y[40:45])


def test_translations_are_those_of_an_eighth_and_each_as_likely() -> None:
    x = torch.arange(1.0, 65).view(1, 1, 8, 8).expand(9000, -1, -1, -1)
    centre = translation(x, Rows(0, 0, 9000))[:, 0, 4, 4]
    values, counts = centre.unique(return_counts=True)
    assert values.tolist() == sorted(float(x[0, 0, 4 + i, 4 + j]) for i in (-1, 0, 1) for j in (-1, 0, 1))
    assert float((counts / 1000 - 1).abs().max()) < 0.15
    assert set(translation(torch.ones(100, 1, 8, 8), Rows(0, 0, 100))[:, 0, 0, 0].unique().tolist()) == {0.0, 1.0}


def test_a_window_of_half_the_size_is_cut_out() -> None:
    hidden = 1 - cutout(torch.ones(500, 1, 8, 10), Rows(0, 0, 500))[:, 0]
    high, wide = hidden.amax(2).sum(1), hidden.amax(1).sum(1)
    assert torch.equal(hidden.sum((1, 2)), high * wide), "a rectangle"
    assert (int(high.max()), int(wide.max())) == (4, 5)
    assert int(high.min()) >= 2
    assert bool((hidden.mean(0) > 0).all()), "every place is cut at times"


def seen(family: GAN, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """What was changed in each loss, before and after, in order."""
    calls: list[tuple[Tensor, Tensor]] = []
    right = gan.augmented

    def noted(x: Tensor, *more: object) -> Tensor:
        calls.append((x, out := right(x, *more)))  # type: ignore[arg-type]
        return out

    monkeypatch.setattr(gan, "augmented", noted)
    found = {}
    for name, objective in family.objectives().items():
        calls.clear()
        family.zero_grad()
        objective.loss(Batch(images(), None, Rows(3, 0, 16))).value.backward()
        found[name] = list(calls)
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("loss", ["relativistic", "non_saturating", "wasserstein"])
def test_real_and_fake_items_are_changed_in_both_losses(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = model(*ALL)
    family.settings = family.settings.model_copy(update={"loss": loss})
    for name, calls in seen(family, monkeypatch).items():
        real = [x for x, _ in calls if torch.equal(x, images())]
        assert len(real) == (0 if name == "generator" and loss != "relativistic" else 1), name
        assert len(calls) - len(real) == 1, "and the samples, once"


def test_the_distribution_of_changes_is_that_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same items in the place of samples: what the critic is shown of both has the same moments."""
    family, x = model(*ALL), images(4000)
    monkeypatch.setattr(GAN, "generate", lambda self, z, cond, generator=None: x)
    monkeypatch.setattr(Continuous, "dequantise", lambda self, x, generator: x)
    shown: list[Tensor] = []
    right = GAN.judge
    monkeypatch.setattr(GAN, "judge", lambda self, x, cond: shown.append(x.detach()) or right(self, x, cond))
    family.critic_loss(Batch(x, None, Rows(3, 0, 4000)))
    a, b = (part.flatten(1) for part in shown)
    assert float((a - b).abs().mean()) > 0.1, "each has random numbers of its own"
    error = (a.var(0) / 4000 + b.var(0) / 4000).sqrt()
    assert float(((a.mean(0) - b.mean(0)) / error).abs().max()) < 5
    assert float((a.std(0) / b.std(0)).log().abs().max()) < 0.1


def test_the_generators_gradient_passes_the_changes_and_samples_are_not_changed() -> None:
    plain, changed = model(), model(*ALL)
    changed.load_state_dict(plain.state_dict())
    torch.testing.assert_close(changed.sample(4, generator=Rows(0, 0, 4)), plain.sample(4, generator=Rows(0, 0, 4)))
    changed.generator_loss(Batch(images(), None, Rows(3, 0, 16))).value.backward()
    weight = next(p for name, p in changed.generator.named_parameters() if name.endswith("leave.weight"))
    assert weight.grad is not None
    exact, h, values = float(weight.grad.flatten()[3]), 1e-5, []
    for step in (h, -2 * h):
        with torch.no_grad():
            weight.view(-1)[3] += step
        values.append(float(changed.generator_loss(Batch(images(), None, Rows(3, 0, 16))).value))
    assert abs(exact - (values[0] - values[1]) / (2 * h)) < 1e-6 * max(1.0, abs(exact))
    assert abs(exact) > 1e-7


def test_plain_numbers_have_nothing_to_be_moved() -> None:
    with pytest.raises(ConfigError, match="augment"):
        GAN(Continuous((3,)), None, GAN.Settings(augment=("cutout",)))
