"""Masked diffusion against truth: tabulated joints, sums over all orders, leaks, and its own samples."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import randomise

from quintet.core.family import Batch
from quintet.core.random import Rows, quantile, spread
from quintet.core.spaces import Discrete
from quintet.families.masked_diffusion import MaskedDiffusion
from quintet.nets.conditioning import tell
from quintet.nets.given import UNCONDITIONAL

SPACE = Discrete((4,), 3, (3, 2, 3, 3))
SEQUENCES = torch.tensor(list(itertools.product(*map(range, (3, 2, 3, 3)))))
JOINT = torch.rand(54, generator=torch.Generator().manual_seed(7), dtype=torch.float64).pow(3)
JOINT = JOINT / JOINT.sum()
MASKS = [[True, False, True, False], [False, False, True, True], [False, True, False, False], [False] * 4]


def model(
    space: Discrete = SPACE, condition: Discrete | None = None, positions: str = "learnt", **more: int
) -> MaskedDiffusion:
    settings = MaskedDiffusion.Settings(width=16, depth=2, heads=2, positions=positions, **more)
    return randomise(MaskedDiffusion(space, condition, settings))


class Exact(MaskedDiffusion):
    """The exact conditionals of JOINT in place of a net."""

    def logits(self, x: torch.Tensor, masked: torch.Tensor, emb: object, asked: torch.Tensor | None = None):  # type: ignore[no-untyped-def, override]
        agrees = ((x[:, None] == SEQUENCES) | masked[:, None]).all(2)  # (B, 54)
        weight = agrees * JOINT
        marginals = torch.einsum("bs,sdv->bdv", weight, torch.nn.functional.one_hot(SEQUENCES, 3).double())
        return marginals.log()[masked if asked is None else asked]


def exact(**more: int) -> MaskedDiffusion:
    return Exact(SPACE, None, MaskedDiffusion.Settings(width=8, depth=1, heads=1, **more)).double().eval()


def chi2(x: torch.Tensor, p: torch.Tensor) -> float:
    """Standard deviations that the chi-square of the counts of x is above its mean, over the sequences with p > 0."""
    counts = torch.stack([(x == s).all(1).sum() for s in SEQUENCES])
    assert counts.sum() == len(x)
    assert (counts[p == 0] == 0).all()
    counts, p = counts[p > 0], p[p > 0]
    # the variance of a cell's term is 2 + 1 / (n p), about
    var = (2 + 1 / (len(x) * p)).sum()
    return float((((counts - len(x) * p) ** 2 / (len(x) * p)).sum() - (len(p) - 1)) / var**0.5)


# -- exact conditionals --------------------------------------------------------------------------------------------


def estimates(family: MaskedDiffusion, x: torch.Tensor, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return family.log_prob_error(x.expand(n, -1), generator=Rows(seed, 0, n))


@pytest.mark.parametrize("index", [0, 17, 40])
def test_with_exact_conditionals_the_bound_is_the_likelihood(index: int) -> None:
    """E over masks; so the weight D / k and the masks are right."""
    value, _ = estimates(exact(), SEQUENCES[index], 2000)
    error = value.std() / 2000**0.5
    assert abs(value.mean() - JOINT[index].log()) < 4 * error
    assert error < 0.03


def test_the_bound_test_notices_a_wrong_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    true = MaskedDiffusion.nats
    monkeypatch.setattr(
        MaskedDiffusion, "nats", lambda self, x, masked, emb: true(self, x, masked, emb) * masked.sum(1) / 2.5
    )
    value, _ = estimates(exact(), SEQUENCES[0], 2000)
    assert abs(value.mean() - JOINT[0].log()) > 4 * value.std() / 2000**0.5


@pytest.mark.parametrize("draws", [2, 4, 8])
def test_the_error_is_that_of_the_estimate(draws: int) -> None:
    """At least the spread of repeated estimates, and not much more."""
    value, error = estimates(exact(draws=draws), SEQUENCES[5], 2000)
    ratio = float(error.square().mean() / value.var())
    assert 0.9 < ratio < 1.5


def test_one_symbol_a_step_samples_the_joint() -> None:
    x = exact().sample(20_000, generator=torch.Generator().manual_seed(0))
    SPACE.check(x)
    assert chi2(x, JOINT) < 4


def test_all_in_one_step_samples_the_marginals() -> None:
    """What too few steps do is what they say: symbols of one step are independent."""
    x = exact().sample(20_000, sampling=MaskedDiffusion.Sampling(steps=1), generator=torch.Generator().manual_seed(0))
    product = torch.ones(54, dtype=torch.float64)
    for i in range(4):
        marginal = torch.zeros(3, dtype=torch.float64).index_add(0, SEQUENCES[:, i], JOINT)
        product = product * marginal[SEQUENCES[:, i]]
    assert chi2(x, product) < 4
    assert chi2(x, JOINT) > 20


@pytest.mark.parametrize("known", MASKS)
def test_completions_have_the_conditional_distribution(known: list[bool]) -> None:
    mask, given, n = torch.tensor(known), torch.tensor([2, 1, 0, 2]), 12_000
    x = torch.where(mask, given, 99).expand(n, -1)  # 99 is no symbol: what is unknown is never looked at
    out = exact().complete(x, mask.expand(n, -1), generator=torch.Generator().manual_seed(0))
    agrees = (SEQUENCES[:, mask] == given[mask]).all(1)
    p = JOINT * agrees
    assert chi2(out, p / p.sum()) < 4


# -- a net ---------------------------------------------------------------------------------------------------------


def by_order(family: MaskedDiffusion, cond: torch.Tensor | None = None) -> torch.Tensor:
    """log p of every sequence under every order of reading, (24, 54)."""
    emb, out = tell(family.conditioner, cond, 54), []
    for order in itertools.permutations(range(4)):
        masked, total = torch.ones(54, 4, dtype=torch.bool), torch.zeros(54, dtype=torch.float64)
        for i in order:
            asked = torch.zeros_like(masked)
            asked[:, i] = True
            log_p = family.logits(SEQUENCES, masked, emb, asked).log_softmax(-1)
            total = total + log_p.gather(1, SEQUENCES[:, i : i + 1])[:, 0]
            masked[:, i] = False
        out.append(total)
    return torch.stack(out)


@pytest.mark.parametrize("positions", ["learnt", "rotary", "sinusoidal"])
def test_the_bound_is_the_mean_over_orders_and_below_the_likelihood(positions: str) -> None:
    family = model(positions=positions)
    with torch.no_grad():
        family.head.weight.mul_(3)  # orders that disagree
        orders = by_order(family)
    likelihood = orders.exp().mean(0)  # of sampling one symbol at a time
    torch.testing.assert_close(orders.exp().sum(1), torch.ones(24, dtype=torch.float64), rtol=0, atol=1e-12)
    bound = orders.mean(0)
    assert (bound < likelihood.log() - 1e-6).all()
    for index in (0, 30):
        value, _ = estimates(family, SEQUENCES[index], 3000)
        assert abs(value.mean() - bound[index]) < 4 * value.std() / 3000**0.5
    assert chi2(family.sample(12_000, generator=torch.Generator().manual_seed(1)), likelihood) < 4


@pytest.mark.parametrize("positions", ["learnt", "rotary", "sinusoidal"])
def test_a_masked_symbol_is_not_seen_and_the_others_are(positions: str) -> None:
    family = model(Discrete((6,), 5), None, positions)
    x = torch.randint(0, 5, (4, 6), generator=torch.Generator().manual_seed(0))
    masked = torch.tensor([True, False, True, False, False, True]).expand(4, -1)
    base = family.logits(x, masked, UNCONDITIONAL)
    for i in range(6):
        changed = x.clone()
        changed[:, i] = (changed[:, i] + 1) % 5
        delta = (family.logits(changed, masked, UNCONDITIONAL) - base).abs().amax(1)
        assert (delta == 0).all() if masked[0, i] else (delta > 1e-9).all()


def test_where_a_symbol_stands_matters() -> None:
    for positions in ("learnt", "rotary", "sinusoidal"):
        family = model(Discrete((4,), 3), None, positions)
        masked, asked = torch.tensor([[False, False, False, True]]), None
        a, b = (family.logits(torch.tensor([x]), masked, UNCONDITIONAL, asked) for x in ([0, 1, 2, 0], [2, 1, 0, 0]))
        assert (a - b).abs().max() > 1e-9


def test_loss_is_the_bound_per_dimension_and_belongs_to_rows() -> None:
    family, n = model(), 4000
    x = SEQUENCES[[11]].expand(n, -1)
    u = [spread(n, generator=Rows(s, 0, n), like=family.head.weight) for s in range(2)]
    losses = [family.bound(x, u[s], UNCONDITIONAL, Rows(s, 0, n)) / 4 for s in range(2)]
    with torch.no_grad():
        truth = -by_order(family).mean(0)[11] / 4
    for each, s in zip(losses, range(2), strict=True):
        assert abs(each.mean() - truth) < 4 * each.std() / n**0.5
        torch.testing.assert_close(family.loss(Batch(x, None, Rows(s, 0, n))).value, each.mean())
    parts = [family.loss(Batch(x[a:b], None, Rows(0, a, b - a))).value * (b - a) for a, b in ((0, 1500), (1500, n))]
    torch.testing.assert_close(sum(parts) / n, losses[0].mean(), rtol=0, atol=1e-12)


def test_the_condition_and_guidance_move_the_logits() -> None:
    family = model(condition=Discrete((), 3))
    cond, n = torch.zeros(1, dtype=torch.long), 1
    x, known = SEQUENCES[[20]], torch.tensor([[True, True, False, True]])
    given, null = (family.logits(x, ~known, tell(family.conditioner, c, n)) for c in (cond, None))
    assert (given - null).abs().max() > 1e-6
    for guidance in (0.0, 1.0, 5.0, 50.0):
        sampling = MaskedDiffusion.Sampling(guidance=guidance, temperature=0)
        out = family.complete(x, known, cond, sampling=sampling)
        assert int(out[0, 2]) == int((null + guidance * (given - null))[0].argmax())


# -- steps and rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "told"), [(1, 1), (4, 4), (7, 7), (64, 10)])
def test_each_step_reveals_as_many_as_another(steps: int, told: int) -> None:
    family, seen = model(Discrete((10,), 3)), []
    real = family.logits
    family.logits = lambda x, masked, emb, now: seen.append(now.sum(1)) or real(x, masked, emb, now)  # type: ignore[method-assign, func-returns-value]
    calls = []
    family.sample(5, sampling=MaskedDiffusion.Sampling(steps=steps), on_step=lambda *a: calls.append(a[:2]))
    assert calls == [(i + 1, told) for i in range(told)]
    counts = torch.stack(seen)
    assert (counts.sum(0) == 10).all()
    assert set(counts.flatten().tolist()) <= {10 // told, -(-10 // told)}


@pytest.mark.parametrize("steps", [3, 64])
def test_completions_belong_to_rows(steps: int) -> None:
    """Whatever mask the others of the batch have."""
    family = model(Discrete((6,), 5), Discrete((), 3))
    generator = torch.Generator().manual_seed(0)
    x, cond = torch.randint(0, 5, (12, 6), generator=generator), torch.arange(12) % 3
    known = torch.rand(12, 6, generator=generator) < 0.5
    known[3], known[4] = True, False
    sampling = MaskedDiffusion.Sampling(steps=steps, guidance=2.0)
    draw = lambda a, b: family.complete(x[a:b], known[a:b], cond[a:b], sampling=sampling, generator=Rows(2, a, b - a))  # noqa: E731
    whole = draw(0, 12)
    assert torch.equal(whole[known], x[known])
    assert torch.equal(torch.cat([draw(i, i + 1) for i in range(12)]), whole)


def test_one_symbol_is_a_classifier() -> None:
    """A space of one symbol: the bound is the likelihood, without error."""
    family = model(Discrete((1,), 3), Discrete((), 3))
    value, error = family.log_prob_error(torch.arange(3)[:, None], torch.zeros(3, dtype=torch.long))
    assert abs(float(value.exp().sum()) - 1) < 1e-12
    assert (error == 0).all()


# -- numbers -------------------------------------------------------------------------------------------------------


def test_spread_is_even_and_does_not_depend_on_where_it_is_cut() -> None:
    like = torch.zeros(1)
    whole = spread(1000, generator=Rows(3, 0, 1000), like=like)
    parts = [spread(b - a, generator=Rows(3, a, b - a), like=like) for a, b in ((0, 1), (1, 600), (600, 1000))]
    assert torch.equal(torch.cat(parts), whole)
    counts = torch.histc(whole, 100, 0, 1)
    assert counts.min() >= 8
    assert counts.max() <= 12
    first = torch.cat([spread(1, generator=Rows(seed, 0, 1), like=like) for seed in range(2000)])
    assert abs(float(first.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / 2000)


def test_the_quantile_of_a_distribution() -> None:
    p = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]], dtype=torch.float64)
    u = torch.tensor([0.0, 0.2499, 0.2501, 1 - 2**-53], dtype=torch.float64)
    assert quantile(p.log().expand(4, -1), u).tolist() == [1, 1, 3, 3]
    rare = torch.tensor([[0.0, -25.0]], dtype=torch.float64)  # a tail that float32 would cut off
    assert quantile(rare, torch.tensor([1 - 1e-12], dtype=torch.float64)).item() == 1
