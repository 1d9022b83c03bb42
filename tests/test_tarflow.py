"""Flows of Transformers over patches: what a patch may see, the cache, patches as a permutation, and denoising.

Their log-determinants and inverses are among the cases of test_flow.py.
"""

from __future__ import annotations

import math

import pytest
import torch
from conftest import randomise
from torch import Tensor

from quintet.core.errors import ConfigError
from quintet.core.family import Batch
from quintet.core.spaces import Continuous, Discrete
from quintet.families.flow import Flow
from quintet.nets.elementwise import Affine, Spline, Transform
from quintet.nets.flows import Guided
from quintet.nets.given import Given, Widths
from quintet.nets.stepping import Stepper
from quintet.nets.tarflow import PatchAutoregressive, patches
from quintet.nets.transformer import Cache

COUNT, NUMBERS = 5, 3


def made(transform: Transform | None = None, ready: Widths = Widths(4)) -> PatchAutoregressive:  # noqa: B008
    layer = PatchAutoregressive(COUNT, NUMBERS, transform or Affine(), 16, 2, 2, ready=ready)
    randomise(layer)
    return layer


def told(ready: Widths, n: int = 6) -> Given:
    """A vector, or a sequence of three positions of which the last is unseen for some."""
    generator = torch.Generator().manual_seed(2)
    if ready.emb:
        return Given(torch.randn(n, ready.emb, generator=generator, dtype=torch.float64))
    context = torch.randn(n, 3, ready.context, generator=generator, dtype=torch.float64)
    return Given(context=context, seen=torch.arange(3) < 2 + torch.arange(n)[:, None] % 2)


def numbers(n: int = 6) -> Tensor:
    return torch.randn(n, COUNT * NUMBERS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


WAYS = pytest.mark.parametrize("ready", [Widths(4), Widths(context=4)], ids=["vector", "sequence"])


@torch.no_grad()
def dependence(layer: PatchAutoregressive) -> Tensor:
    """(count, count): whether the parameters of patch i move when an entry of patch j does."""
    x, given = numbers().view(-1, COUNT, NUMBERS), told(Widths(4))
    base = layer.behind(x[:, :-1], given)
    rows = []
    for j in range(COUNT):
        moved = x.clone()
        moved[:, j, 1] += 1
        change = (layer.behind(moved[:, :-1], given) - base).abs()
        rows.append(change.amax((0, 2, 3)) > 1e-9)
    return torch.stack(rows, 1)


def test_parameters_depend_on_all_earlier_patches_and_on_no_other() -> None:
    assert torch.equal(dependence(made()), torch.ones(COUNT, COUNT, dtype=torch.bool).tril(-1))


def test_a_net_that_is_not_causal_is_found() -> None:
    layer = made()
    layer.net.causal = False
    assert not torch.equal(dependence(layer), torch.ones(COUNT, COUNT, dtype=torch.bool).tril(-1))


def test_places_and_the_condition_count() -> None:
    layer, x, given = made(), numbers(), told(Widths(4))
    assert given.emb is not None
    base, same = layer(x, given)[0], x[:, :NUMBERS].repeat(1, COUNT)
    assert float((layer(x, Given(given.emb + 1))[0] - base).abs().min()) > 1e-9
    params = layer.behind(same.view(-1, COUNT, NUMBERS)[:, :-1], given).detach()
    assert float(params.diff(dim=1).abs().amax((0, 2, 3)).min()) > 1e-6, "equal patches at two places are told apart"


@torch.no_grad()
def naive_inverse(layer: PatchAutoregressive, z: Tensor, given: Given | Guided) -> Tensor:
    """As many full passes as patches: after pass i the first i patches are right. It has no cache."""
    x = torch.zeros_like(z)
    for _ in range(COUNT):
        before = x.view(-1, COUNT, NUMBERS)[:, :-1]
        views = (given.given, given.null) if isinstance(given, Guided) else (given,)
        found = [layer.behind(before, view) for view in views]
        params = given.mix(*found) if isinstance(given, Guided) else found[0]
        x = layer.transform.inverse(z, params.transpose(1, 2).flatten(2))
    return x


@WAYS
@pytest.mark.parametrize("transform", [Affine(), Spline()], ids=["affine", "spline"])
def test_the_cached_inverse_is_the_naive_one(
    transform: Transform, ready: Widths, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, z, given = made(transform, ready), numbers(), told(ready)
    want, steps = naive_inverse(layer, z, given), 0
    with torch.no_grad():
        torch.testing.assert_close(layer(want, given)[0], z)
        torch.testing.assert_close(layer.inverse(z, given), want)
    torch.testing.assert_close(layer.inverse(z, given).detach(), want)  # with gradients: without the quick steps
    plain = Stepper.__call__

    def counted(self: Stepper, *args: object) -> Tensor:
        nonlocal steps
        steps += 1
        return plain(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Stepper, "__call__", counted)
    with torch.no_grad():
        layer.inverse(z, given)
    assert steps == COUNT - 1


def test_an_off_by_one_in_the_cache_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, z, given = made(), numbers(), told(Widths(4))
    right = Cache.extend
    late = lambda self, i, k, v: right(self, i, k, v.roll(1, 0))  # noqa: E731
    monkeypatch.setattr(Cache, "extend", late)  # the values of another row
    monkeypatch.setattr("quintet.nets.tarflow.stepper", lambda *_: None)
    with torch.no_grad():
        assert float((layer.inverse(z, given) - naive_inverse(made(), z, given)).abs().max()) > 1e-3


def test_guidance_mixes_the_parameters() -> None:
    layer, z, given = made(), numbers(), told(Widths(4))
    guided = Guided(given, Given(torch.zeros(6, 4, dtype=torch.float64)), 2.0)
    with torch.no_grad():
        x = layer.inverse(z, guided)
        torch.testing.assert_close(x, naive_inverse(layer, z, guided))
        torch.testing.assert_close(layer(x, guided)[0], z)
        assert float((x - layer.inverse(z, given)).abs().max()) > 1e-3
        torch.testing.assert_close(layer.inverse(z, guided._replace(weight=1.0)), layer.inverse(z, given))


def test_patches_lie_side_by_side() -> None:
    index, count = patches((2, 4, 6), 2)
    assert count == 6
    image = torch.arange(48).view(2, 4, 6)
    first, second = index.view(6, -1)[:2]
    assert torch.equal(first, image[:, :2, :2].flatten())
    assert torch.equal(second, image[:, :2, 2:4].flatten())
    for shape, patch, want in [((1, 28, 28), None, 49), ((3, 64, 64), None, 64), ((3, 32, 32), 5, 64), ((2, 7), 3, 7),
                               ((1, 1024), None, 64), ((6,), None, 6), ((3, 33, 33), None, 121)]:  # fmt: skip
        index, count = patches(shape, patch)
        assert count == want
        assert torch.equal(index.sort().values, torch.arange(math.prod(shape)))


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="heads"):
        Flow(Continuous((2, 8)), None, Flow.Settings(kind="transformer", width=10, heads=4))


@pytest.mark.parametrize(
    ("options", "parts"),
    [({}, {"encode", "log_prob", "decode", "sample"}), ({"noise": 0.1}, {"encode", "log_prob", "decode"}),
     ({"kind": "transformer"}, {"encode", "log_prob"})],
)  # fmt: skip
def test_what_takes_a_pass_a_patch_is_no_part_of_its_own(options: dict[str, object], parts: set[str]) -> None:
    flow = Flow(Continuous((2, 8)), None, Flow.Settings(width=8, layers=2, **options))
    assert set(flow.parts(torch.randn(3, 2, 8), None, flow.Sampling())) == parts


# -- noise that training adds ------------------------------------------------------------------------------------------


def test_denoised_samples_are_the_expected_items_given_noisy_ones() -> None:
    """Data N(3, 2^2), noise of std 1: a flow that is exact for the noisy data, N(3, 5), and E[x | y] by hand."""
    flow = Flow(
        Continuous((2,)), None, Flow.Settings(kind="coupling", transform="affine", layers=2, noise=1.0)
    ).double()
    flow.initialise(Batch(3 + 5**0.5 * torch.randn(20_000, 2, dtype=torch.float64)))
    with torch.no_grad():
        flow.chain[0].mean.fill_(3.0)  # type: ignore[union-attr]
        flow.chain[0].log_std.fill_(0.5 * math.log(5))  # type: ignore[union-attr]
    y = torch.randn(50, 2, dtype=torch.float64) * 3
    torch.testing.assert_close(flow.denoised(y, Given()), 3 + 4 / 5 * (y - 3))
    z = torch.Generator().manual_seed(0)
    x = flow.sample(20_000, generator=z)
    assert abs(float(x.std()) - 4 / 5 * 5**0.5) < 0.03


def test_training_sees_noise_of_that_size_and_scores_do_not() -> None:
    flow = Flow(Continuous((2,)), None, Flow.Settings(noise=0.5, dropout=0.0)).double()
    flow.initialise(Batch(torch.randn(500, 2, dtype=torch.float64)))
    x, seen = torch.zeros(4000, 2, dtype=torch.float64), []
    right = flow.log_density
    flow.log_density = lambda x, *more: seen.append(x) or right(x, *more)  # type: ignore[method-assign, func-returns-value]
    flow.loss(Batch(x, None, torch.Generator().manual_seed(0)))
    flow.log_prob(x)
    assert abs(float(seen[0].std()) - 0.5) < 0.02
    assert torch.equal(seen[1], x)


def test_a_label_is_learnt() -> None:
    """Two kinds of rising and falling ramps, told by their label: samples are of the kind that was asked for."""
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 16).view(1, 16)

    def batch(n: int) -> Batch:
        label = torch.randint(2, (n, 1))
        return Batch((1 - 2 * label)[..., None] * ramp + 0.3 * torch.randn(n, 1, 16), label)

    settings = Flow.Settings(kind="transformer", transform="affine", layers=2, width=32, depth=1, patch=4, emb=8)
    flow = Flow(Continuous((1, 16)), Discrete((1,), 2), settings)
    flow.initialise(batch(256))
    optimiser = torch.optim.Adam(flow.parameters(), 3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        flow.loss(batch(64)).value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    label = torch.arange(200)[:, None] % 2
    x = flow.sample(200, label, generator=torch.Generator().manual_seed(0))
    assert float((((x * ramp).sum((1, 2)) < 0) == (label[:, 0] == 1)).float().mean()) > 0.9
