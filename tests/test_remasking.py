"""How masked diffusion samples, against tables: remasking, orders, columns drawn together, and what is computed."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import randomise
from torch import Tensor

from quintet.core.random import Rows
from quintet.core.spaces import Discrete
from quintet.families import masked_diffusion
from quintet.families.masked_diffusion import MaskedDiffusion
from quintet.nets.given import UNCONDITIONAL
from quintet.nets.unmasking import Schedule, apart

SIZES = (3, 2, 3)
SEQUENCES = torch.tensor(list(itertools.product(*map(range, SIZES))))
JOINT = torch.rand(18, generator=torch.Generator().manual_seed(3), dtype=torch.float64).pow(3)
JOINT = JOINT / JOINT.sum()
REMASKS = ("cap", "rescale", "loop")


class Exact(MaskedDiffusion):
    """The exact conditionals of JOINT in place of a net; `seen` keeps what each step knew."""

    def logits(self, x: Tensor, masked: Tensor, given: object, asked: Tensor | None = None) -> Tensor:  # type: ignore[override]
        self.__dict__.setdefault("seen", []).append((x.clone(), masked.clone()))
        agrees = ((x[:, None] == SEQUENCES) | masked[:, None]).all(2)
        marginals = torch.einsum("bs,sdv->bdv", agrees * JOINT, torch.nn.functional.one_hot(SEQUENCES, 3).double())
        return marginals.log()[masked if asked is None else asked]


def exact() -> Exact:
    space = Discrete((3,), 3, SIZES)
    return Exact(space, None, MaskedDiffusion.Settings(width=8, depth=1, heads=1)).double().eval()


def net(space: Discrete, given: Discrete | None = None, **more: object) -> MaskedDiffusion:
    settings = MaskedDiffusion.Settings(width=16, depth=2, heads=2, **more)  # type: ignore[arg-type]
    return randomise(MaskedDiffusion(space, given, settings)).double().eval()


def chi2(counts: Tensor, p: Tensor) -> float:
    """Standard deviations that the chi-square of counts is above its mean."""
    assert (counts[p == 0] == 0).all()
    counts, p = counts[p > 0], p[p > 0]
    n = counts.sum()
    return float((((counts - n * p) ** 2 / (n * p)).sum() - (len(p) - 1)) / (2 + 1 / (n * p)).sum() ** 0.5)


def tally(x: Tensor, of: Tensor) -> Tensor:
    return torch.stack([(x == row).all(1).sum() for row in of])


# -- remasking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remask", REMASKS)
def test_the_counts_are_those_of_the_equation(remask: str) -> None:
    """Of a million symbols, each step's shares are the two probabilities of q(z_s | z_t, x), and a_s is kept."""
    unknown, steps, eta, here = torch.tensor([[1_000_000]]), 20, 0.2, 0
    schedule, remasked = Schedule(torch.tensor([[steps]]), remask, eta, unknown), 0  # type: ignore[arg-type]
    for step in range(steps):
        a, after = (float(part) for part in schedule.share(schedule.times(step))[0])
        sigma = float(schedule.sigma(step, *torch.tensor([a, after], dtype=torch.float64)))
        most = min(1.0, (1 - after) / a) if a else 1.0
        held = a == after == schedule.HELD
        assert sigma == pytest.approx(
            {"cap": min(eta, most), "rescale": eta * most, "loop": min(eta, most) * held}[remask]
        )
        written, hidden = (int(part) for part in schedule(step))
        assert hidden / 1e6 == pytest.approx(sigma * a, abs=3e-6)
        if a < 1:
            assert written / (1e6 - here) == pytest.approx((after - (1 - sigma) * a) / (1 - a), abs=1e-4)
        here += written - hidden
        remasked += hidden
        assert here / 1e6 == pytest.approx(after, abs=3e-6)
    assert here == 1_000_000
    assert remasked > 0


@pytest.mark.parametrize("remask", REMASKS)
@pytest.mark.parametrize("unknown", [1, 3, 17])
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_whatever_the_steps_everything_is_written(remask: str, unknown: int, steps: int) -> None:
    schedule = Schedule(torch.tensor([[steps]]), remask, 0.7, torch.tensor([[unknown]]))  # type: ignore[arg-type]
    here = 0
    for step in range(steps):
        written, hidden = (int(part) for part in schedule(step))
        assert 0 <= hidden <= here
        assert 0 <= written <= unknown - here
        here += written - hidden
    assert here == unknown


@pytest.mark.parametrize("remask", REMASKS)
def test_with_exact_conditionals_the_marginals_and_the_samples_are_those_of_the_data(remask: str) -> None:
    """At every step the known symbols are any as many as another, and have their marginal of the joint."""
    family, n = exact(), 4000
    sampling = MaskedDiffusion.Sampling(steps=60, remask=remask, eta=0.12)  # type: ignore[arg-type]
    schedule = Schedule(torch.tensor([[60]]), remask, 0.12, torch.tensor([[3]]))  # type: ignore[arg-type]
    counts = [schedule(step) for step in range(60)]
    assert max(int(written) for written, _ in counts) == 1  # so that nothing is drawn as if it were independent
    assert sum(int(hidden) for _, hidden in counts) >= 3
    x = family.sample(n, sampling=sampling, generator=torch.Generator().manual_seed(0))
    assert chi2(tally(x, SEQUENCES), JOINT) < 4
    masks = torch.tensor(list(itertools.product([True, False], repeat=3)))
    for x, masked in family.seen:
        states, p = [], []
        known = 3 - int(masked[0].sum())
        for mask in masks[(~masks).sum(1) == known]:
            for value in SEQUENCES[:, ~mask].unique(dim=0) if known else [SEQUENCES[0, :0]]:
                states.append(torch.full((3,), -1).masked_scatter(~mask, value))
                p.append(JOINT[(SEQUENCES[:, ~mask] == value).all(1)].sum() / math.comb(3, known))
        assert chi2(tally(x.masked_fill(masked, -1), torch.stack(states)), torch.stack(p)) < 5


@pytest.mark.parametrize("sampling", [{"remask": "cap"}, {"remask": "loop"}, {"order": "confident"}])
def test_what_is_given_stays_known(sampling: dict[str, object]) -> None:
    family, n = exact(), 4000
    known = torch.tensor([False, True, False]).expand(n, -1)
    x = torch.tensor([9, 1, 9]).expand(n, -1)
    settings = MaskedDiffusion.Sampling(steps=30, eta=0.5, **sampling)  # type: ignore[arg-type]
    out = family.complete(x, known, sampling=settings, generator=torch.Generator().manual_seed(1))
    assert all(not bool(masked[:, 1].any()) for _, masked in family.seen)
    assert (out[:, 1] == 1).all()
    p = JOINT * (SEQUENCES[:, 1] == 1)
    assert "order" in sampling or chi2(tally(out, SEQUENCES), p / p.sum()) < 4


def test_numbers_to_draw_by_are_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 Gumbel noise ends at 16.6, and the tails of a distribution are cut off."""
    family, kinds, real = net(Discrete((6,), 5)).float(), set(), masked_diffusion.choose
    monkeypatch.setattr(masked_diffusion, "choose", lambda logits, s, u: kinds.add(u.dtype) or real(logits, s, u))
    for sampling in ({}, {"remask": "cap"}, {"order": "confident"}):
        family.sample(3, sampling=MaskedDiffusion.Sampling(**sampling))  # type: ignore[arg-type]
    assert kinds == {torch.float64}


# -- orders ------------------------------------------------------------------------------------------------------------


def test_the_surest_symbol_is_written_first_and_noise_makes_it_any() -> None:
    family = exact()
    first = family.logits(torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool), None).exp().amax(1)
    for noise in (0.0, 100.0):
        family.seen.clear()
        sampling = MaskedDiffusion.Sampling(steps=3, order="confident", order_noise=noise, temperature=0)
        family.sample(500, sampling=sampling, generator=torch.Generator().manual_seed(0))
        written = (~family.seen[1][1]).double().mean(0)
        assert written.sum() == 1
        assert written[first.argmax()] == 1 if noise == 0 else (written > 0.2).all()


ORDERS = [{"remask": "cap", "steps": 9}, {"remask": "loop", "steps": 30}, {"order": "confident", "steps": 4},
          {"order": "confident", "remask": "rescale", "steps": 5}, {"steps": 2}, {}]  # fmt: skip


@pytest.mark.parametrize("sampling", ORDERS)
@pytest.mark.parametrize("attends", ["all", "known"])
def test_rows_do_not_depend_on_their_batch(sampling: dict[str, object], attends: str) -> None:
    family = net(Discrete((7,), 5, (5, 2, 3, 4, 5, 5, 2)), Discrete((), 3), attends=attends)
    generator = torch.Generator().manual_seed(0)
    x, cond = torch.randint(0, 2, (9, 7), generator=generator), torch.arange(9) % 3
    known = torch.rand(9, 7, generator=generator) < 0.4
    known[3], known[4] = True, False
    settings = MaskedDiffusion.Sampling(**sampling)  # type: ignore[arg-type]
    draw = lambda a, b: family.complete(x[a:b], known[a:b], cond[a:b], sampling=settings, generator=Rows(2, a, b - a))  # noqa: E731
    whole = draw(0, 9)
    family.space.check(whole)
    assert torch.equal(whole[known], x[known])
    assert torch.equal(torch.cat([draw(i, i + 1) for i in range(9)]), whole)


# -- columns that depend on each other ---------------------------------------------------------------------------------


class Twins(MaskedDiffusion):
    """Six columns of four values, each even one equal to the next: what the net would say of all positions."""

    def everywhere(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        twin = x.view(-1, 3, 2).flip(2).flatten(1)
        known = torch.nn.functional.one_hot(twin, 5)[..., :4].double()
        return torch.where((twin == 4)[..., None], torch.full_like(known, 0.25), known).clamp_min(1e-9).log()

    def logits(self, x: Tensor, masked: Tensor, given: object, asked: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return self.everywhere(x.masked_fill(masked, 4))[masked if asked is None else asked]


def test_columns_that_depend_on_each_other_are_drawn_in_different_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Twins(Discrete((6,), 4, (4,) * 6)).double().eval()
    shared = family.shared()
    twins = torch.tensor([[i // 2 == j // 2 and i != j for j in range(6)] for i in range(6)])
    torch.testing.assert_close(shared[twins], torch.full((6,), 2 * math.log(4)).double(), rtol=1e-5, atol=0)
    others = ~twins & ~torch.eye(6, dtype=torch.bool)
    assert shared[others].abs().max() < 1e-6

    def broken() -> float:
        x = family.sample(1000, sampling=MaskedDiffusion.Sampling(steps=4), generator=torch.Generator().manual_seed(0))
        return float((x.view(-1, 2).diff(dim=1) != 0).double().mean())

    apart_from_twins = broken()
    monkeypatch.setattr(MaskedDiffusion, "shared", lambda self: None)
    assert apart_from_twins < broken() / 2


def test_each_step_draws_as_many_columns_as_another_whatever_they_share() -> None:
    generator = torch.Generator().manual_seed(0)
    masked, order = (torch.rand(50, 9, generator=generator) < 0.7), torch.rand(50, 9, generator=generator)
    unknown, shared = masked.sum(1, keepdim=True), torch.rand(9, 9, generator=generator)
    for steps in (unknown.clamp_max(4), unknown):
        when = apart(order, masked, steps, shared)
        assert ((when >= 0) == masked).all()
        for row, many, count in zip(when, steps[:, 0].tolist(), unknown[:, 0].tolist(), strict=True):
            sizes = torch.bincount(row[row >= 0], minlength=many).tolist() if many else []
            assert len(sizes) == many
            assert set(sizes) <= ({count // many, -(-count // many)} if many else set())
    assert torch.equal(when, apart(order, masked, unknown, None))  # one a step: in their order


# -- what is computed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["learnt", "rotary"])
@pytest.mark.parametrize("condition", ["vector", "sequence"])
def test_masks_that_nobody_looks_at_are_left_out(positions: str, condition: str) -> None:
    """The logits of a part of the masked symbols are those that all together give; gradients make no difference."""
    family = net(Discrete((9,), 5), Discrete((4,), 6), attends="known", positions=positions, condition=condition)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 5, (8, 9), generator=generator)
    masked = torch.rand(8, 9, generator=generator) < torch.linspace(0, 1, 8)[:, None]
    masked[7] = True
    asked = masked & (torch.rand(8, 9, generator=generator) < 0.4)
    asked[6] = False
    assert family.conditioner is not None
    given = family.conditioner(torch.randint(0, 6, (8, 4), generator=generator), 8)
    whole = family.logits(x, masked, given)
    with torch.no_grad():
        for part in (asked, masked):
            some = family.logits(x, masked, given, part)
            torch.testing.assert_close(some, whole[part[masked]], rtol=0, atol=1e-12)
        torch.testing.assert_close(family.logits(x, masked, given), whole, rtol=0, atol=1e-12)


def test_masks_are_looked_at_or_not() -> None:
    """What stands beside a symbol that is asked for, masked too, matters only where positions attend to all."""
    for attends, same in (("known", True), ("all", False)):
        family = net(Discrete((6,), 5), attends=attends)
        x, masked = torch.tensor([[0, 1, 2, 3, 4, 0]]), torch.tensor([[False, True, False, False, False, True]])
        before = family.logits(x, masked, UNCONDITIONAL)[1]
        assert family.positions is not None
        with torch.no_grad():
            family.positions[1] += 1  # the other mask stands there
        assert bool((family.logits(x, masked, UNCONDITIONAL)[1] - before).abs().max() < 1e-12) == same
