"""The autoregressive family against truth: sums over all sequences, caches, leaks, and its own samples."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from conftest import randomise

from quintet.core.errors import ConfigError
from quintet.core.family import Batch
from quintet.core.random import Rows, uniform
from quintet.core.spaces import Discrete
from quintet.families.autoregressive import Autoregressive
from quintet.nets import transformer as module
from quintet.nets.decoding import resample
from quintet.nets.given import Given
from quintet.nets.hourglass import shortening
from quintet.nets.symbols import Choice, Grams, Neighbours, Ranks, choose, truncate
from quintet.nets.transformer import Cache, Transformer
from quintet.runs.config import resolve

POSITIONS = ["rotary", "learnt", "sinusoidal", "reach", "shorten", "levels"]
"""Kinds of positions: one with a reach of three symbols, one whose net has a position for two symbols, and both of them
for levels in rows of three.
"""
LABEL = Discrete((), 3)


def model(
    positions: str = "learnt", space: Discrete | None = None, condition: Discrete | None = LABEL, order: str = "fixed"
) -> Autoregressive:
    variant = {"reach": {"reach": 3, "positions": "rotary"}, "shorten": {"shorten": 2, "reach": None}}
    variant["levels"] = variant["shorten"]
    settings = Autoregressive.Settings(
        width=16, depth=2, heads=2, order=order, **variant.get(positions, {"positions": positions})
    )
    space = space or Discrete((6,), 5)
    space = replace(space, row=3) if positions == "levels" else space
    return randomise(Autoregressive(space, condition, settings))


def every(space: Discrete) -> torch.Tensor:
    sizes = space.sizes or (space.vocab_size,) * space.dims
    return torch.tensor(list(itertools.product(*map(range, sizes))))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("sizes", [None, (3, 1, 2, 3)])
def test_probabilities_of_all_sequences_sum_to_one(positions: str, sizes: tuple[int, ...] | None) -> None:
    space = Discrete((4,), 3, sizes)
    x, family = every(space), model(positions, space)
    for label in range(3):
        total = family.log_prob(x, torch.full((len(x),), label)).exp().sum()
        assert abs(float(total) - 1) < 1e-12


def test_the_sum_notices_a_model_that_sees_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Discrete((4,), 3)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seeing_everything())
    total = model("learnt", space).log_prob(every(space), torch.zeros(81, dtype=torch.long)).exp().sum()
    assert abs(float(total) - 1) > 1e-3


def seeing_everything():  # type: ignore[no-untyped-def]
    true = torch.nn.functional.scaled_dot_product_attention
    return lambda q, k, v, attn_mask=None, is_causal=False: true(q, k, v)


def leaks(family: Autoregressive) -> bool:
    """Whether changing x_t changes the log-probability of x_s for some s < t; x_t must matter for some s > t."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 5, (8, 6), generator=generator)
    emb = family.given(torch.zeros(8, dtype=torch.long), 8)
    base, found = family.nats(x, emb), False
    for t in range(6):
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % 5
        delta = (family.nats(changed, emb) - base).abs()
        found |= bool((delta[:, :t] > 1e-12).any())
        assert t == 5 or bool((delta[:, t + 1 :] > 1e-9).all()), "the past must matter"
    return found


@pytest.mark.parametrize("positions", POSITIONS)
def test_no_position_sees_the_future(positions: str) -> None:
    assert not leaks(model(positions))


def test_the_leak_test_notices_a_missing_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seeing_everything())
    assert leaks(model())


def cached_logits(family: Autoregressive, x: torch.Tensor, chunks: list[int]) -> torch.Tensor:
    emb = family.given(torch.ones(len(x), dtype=torch.long), len(x))
    cache, parts = Cache(family.space.dims), []
    for part in x.split(chunks, 1):
        parts.append(family.logits(part, emb, cache))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("chunks", [[0, 1, 1, 1, 1, 1], [2, 1, 2], [0, 5], [1, 3, 1]])
def test_cached_equals_uncached(positions: str, chunks: list[int]) -> None:
    family = model(positions)
    x = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(1))
    emb = family.given(torch.ones(4, dtype=torch.long), 4)
    torch.testing.assert_close(cached_logits(family, x, chunks), family.logits(x, emb), rtol=0, atol=1e-12)


def test_the_cache_test_notices_a_mask_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    family = model()
    x = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(1))
    emb = family.given(torch.ones(4, dtype=torch.long), 4)
    true = torch.Tensor.tril
    monkeypatch.setattr(torch.Tensor, "tril", lambda self, diagonal=0: true(self, diagonal - 1))
    assert (cached_logits(family, x, [2, 1, 2]) - family.logits(x, emb)).abs().max() > 1e-6


def test_the_cache_test_notices_wrong_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    family, true = model("rotary"), module.rotations

    monkeypatch.setattr(module, "rotations", lambda start, *rest: true(0, *rest))
    x = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(1))
    emb = family.given(torch.ones(4, dtype=torch.long), 4)
    assert (cached_logits(family, x, [0, 1, 1, 1, 1, 1]) - family.logits(x, emb)).abs().max() > 1e-6


@pytest.mark.parametrize("positions", ["reach", "levels"])
def test_the_cache_test_notices_forgotten_symbols(positions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = model(positions)
    monkeypatch.setattr(Cache, "remember", lambda *_: None)
    x = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(1))
    emb = family.given(torch.ones(4, dtype=torch.long), 4)
    assert (cached_logits(family, x, [0, 1, 1, 1, 1, 1]) - family.logits(x, emb)).abs().max() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("row", [None, 4])
@pytest.mark.parametrize("condition", [None, LABEL, Discrete((5,), 4)])
def test_a_cache_of_runs_goes_on_with_the_rows_that_are_selected(condition: Discrete | None, row: int | None) -> None:
    """Rows that leave, stay and are doubled while a run is half read, with and without a sequence that is read."""
    settings = Autoregressive.Settings(width=16, depth=2, heads=2, shorten=3, reach=None)
    family = randomise(Autoregressive(Discrete((11,), 5, row=row), condition, settings))
    generator, rows = torch.Generator().manual_seed(1), torch.tensor([2, 0, 0])
    x = torch.randint(0, 5, (3, 10), generator=generator)
    cond = None if condition is None else torch.randint(0, 3, (3, *condition.shape), generator=generator)
    given, some = family.given(cond, 3), family.given(None if cond is None else cond[rows], 3)
    whole = family.logits(x[rows], some)
    for read in range(1, 8):
        cache = Cache(11)
        family.logits(x[:, :read], given, cache)
        cache.select(rows)
        parts = [family.logits(part, some, cache) for part in x[rows, read:].split(2, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole[:, read + 1 :], rtol=0, atol=1e-12)


def test_samples_of_shortened_rows_are_those_that_all_logits_say() -> None:
    """Symbol by symbol from caches, or each from all symbols before it, with the same random numbers."""
    family, n = model("shorten", Discrete((9,), 5), None), 6
    x = family.sample(n, generator=Rows(0, 0, n))
    u = uniform(n, 9, 1, generator=Rows(0, 0, n), like=family.start, dtype=torch.float64)[..., 0]
    p = family.logits(x[:, :-1], family.given(None, n)).softmax(-1).cumsum(-1)
    assert torch.equal((u[..., None] > p).sum(-1), x)
    masked = torch.arange(9) < 4
    kept = family.complete(x, masked.expand(n, -1), generator=Rows(5, 0, n))
    assert torch.equal(kept[:, :4], x[:, :4])
    assert not torch.equal(kept, x)


def test_a_run_is_a_divisor_of_an_item_that_leaves_about_64_positions() -> None:
    assert [shortening(dims, None) for dims in (1, 64, 100, 784, 3072, 12_288)] == [1, 1, 2, 14, 48, 192]
    assert [shortening(dims, 16) for dims in (1, 64, 784)] == [1, 16, 16]


def test_items_of_different_lengths_are_not_shortened() -> None:
    with pytest.raises(ConfigError, match="different lengths"):
        Autoregressive(Discrete((8,), 5, pad=0), None, Autoregressive.Settings(width=16, heads=2, shorten=4))
    with pytest.raises(ValueError, match="shorten 1"):
        Autoregressive.Settings(order="random", shorten=4)
    free = Autoregressive(Discrete((128,), 5), None, Autoregressive.Settings(order="random", shorten=None, reach=None))
    assert isinstance(free.net, Transformer)
    assert free.reach == 1
    free = Autoregressive(Discrete((64,), 5, row=8), None, Autoregressive.Settings(order="random", reach=None))
    assert free.recent is None
    small = Autoregressive(Discrete((64,), 5, row=8), None, Autoregressive.Settings(reach=None))
    assert (small.reach, isinstance(small.net, Transformer)) == (8, True)


def test_runs_of_symbols_by_hand() -> None:
    grams = Grams(5, 40, 3)
    assert grams.table.weight.shape == (Grams.ROWS, Grams.NARROW)
    x = torch.tensor([[1, 4, 0]])

    def vector(*run: int) -> torch.Tensor:
        code = 0
        for symbol in run:  # the newest first; 5 where there is none yet
            code = (code * Grams.BASE + symbol) % Grams.PRIME
        return grams.widen.weight @ grams.table.weight[code % Grams.ROWS]

    want = [vector(1, 5) + vector(1, 5, 5), vector(4, 1) + vector(4, 1, 5), vector(0, 4) + vector(0, 4, 1)]
    torch.testing.assert_close(grams(x)[0], torch.stack(want))
    torch.testing.assert_close(grams(x[:, 2:], x[:, :2])[0], want[2][None])
    assert grams(x[:, :0]).shape == (1, 0, 40)


def test_training_does_not_see_the_runs_at_a_share_of_places() -> None:
    settings = Autoregressive.Settings(width=16, depth=1, heads=2, positions="rotary", reach=3, reach_dropout=0.25)
    family, x = randomise(Autoregressive(Discrete((50,), 5), None, settings)), torch.randint(5, (40, 50))
    order, given = family.natural(), family.given(None, 40)
    assert family.recent is not None
    runs, alone = family.recent(x), family.tokens(x)

    def seen() -> torch.Tensor:
        return family.inputs(x, given, order)[:, 1:] - alone

    torch.testing.assert_close(seen(), runs)
    family.train()
    found = seen()
    hidden = found.abs().amax(-1) < 1e-12
    assert abs(hidden.double().mean() - 0.25) < 4 * (0.25 * 0.75 / hidden.numel()) ** 0.5
    torch.testing.assert_close(found[~hidden], runs[~hidden] / 0.75)  # as much as is seen later, on average


def test_neighbours_by_hand() -> None:
    """Of rows of ten levels: the last two, and the seven around the place a row before."""
    net = randomise(Neighbours(6, 8, 2, 10, 40))
    distances = (1, 2, 7, 8, 9, 10, 11, 12, 13)
    assert net.distances == distances
    x = torch.randint(6, (1, 40), generator=torch.Generator().manual_seed(0))
    waves = (torch.arange(1, 17).double() * math.pi / 6 * (x[0, :, None] + 0.5)).cos()
    torch.testing.assert_close(net.cosines[x[0]], waves, rtol=0, atol=1e-5)

    def at(place: int) -> torch.Tensor:  # of a level that lies before the first nothing is known
        return net.cosines[x[0, place] if place >= 0 else 6]

    assert (net.cosines[6] == 0).all()
    for t in range(40):
        near = torch.cat([at(t + 1 - d) @ net.narrow for d in distances])
        hidden = (net.up.weight @ near + net.up.bias).clamp_min(0) ** 2
        want = at(t) @ net.vectors + net.down.weight @ hidden
        torch.testing.assert_close(net(x)[0, t], want)
        torch.testing.assert_close(net(x[:, t:], x[:, max(0, t - 12) : t])[0, 0], want)
    assert net(x[:, :0]).shape == (1, 0, 8)
    assert Neighbours(6, 8, 3, 5, 6).distances == (1, 2, 3, 4, 5, 6)  # and none that no symbol has


def test_training_hides_neighbours_at_first_and_none_at_its_end() -> None:
    settings = Autoregressive.Settings(width=16, depth=1, heads=2, reach=2, reach_warmup=0.5)
    family = randomise(Autoregressive(Discrete((48,), 5, row=6), None, settings)).train()
    x, found = torch.randint(0, 5, (40, 48), generator=torch.Generator().manual_seed(0)), []
    assert isinstance(family.recent, Neighbours)
    family.recent.register_forward_hook(lambda _, inputs, out: found.append(inputs))
    losses = [float(family.loss(Batch(x, None, Rows(3, 0, 40), progress)).value) for progress in (0.0, 0.6, 1.0)]
    for share, (_, _, hide) in zip((0.5, 0.2), found, strict=False):
        assert abs(hide.double().mean() - share) <= 4 * (share * (1 - share) / hide.numel()) ** 0.5
    assert len(found[2]) == 2  # nothing is hidden
    assert losses[2] == pytest.approx(float(-family.eval().log_prob(x).mean() / 48), rel=1e-12)
    assert losses[0] != pytest.approx(losses[2], rel=1e-6)


def test_a_hidden_level_is_no_neighbour_but_is_still_the_last() -> None:
    net = randomise(Neighbours(5, 8, 2, 6, 24))
    x = torch.randint(0, 5, (1, 24), generator=torch.Generator().manual_seed(0))
    other, hide = x.clone(), torch.zeros_like(x, dtype=torch.bool)
    other[0, 7], hide[0, 7] = (x[0, 7] + 1) % 5, True
    open_, hidden = ((net(other, None, mask) - net(x, None, mask)).abs().amax(-1)[0] > 1e-9 for mask in (None, hide))
    assert open_.nonzero()[:, 0].tolist() == [6 + d for d in net.distances]
    assert hidden.nonzero()[:, 0].tolist() == [7]


def test_samples_have_the_models_own_frequencies() -> None:
    space = Discrete((3,), 3, (3, 2, 3))
    family, n = model("learnt", space, None), 40_000
    x = family.sample(n, generator=torch.Generator().manual_seed(0))
    space.check(x)
    sequences = every(space)
    p = family.log_prob(sequences).exp()
    counts = torch.stack([(x == sequence).all(1).sum() for sequence in sequences])
    chi2 = ((counts - n * p) ** 2 / (n * p)).sum()
    assert chi2 < 17 + 4 * (2 * 17) ** 0.5  # 18 cells: mean 17, variance 34


def test_greedy_takes_the_likeliest_symbol_each_time() -> None:
    family = model()
    cond = torch.zeros(2, dtype=torch.long)
    x = family.sample(2, cond, sampling=Autoregressive.Sampling(temperature=0))
    best = family.logits(x[:, :-1], family.given(cond, 2)).argmax(-1)
    assert torch.equal(best, x)


def test_the_coldest_temperatures_take_the_likeliest_symbol() -> None:
    logits = torch.tensor([[1.0, 90.0, -3.0], [-8.0, -9.0, -7.0]])
    for temperature in (0.0, 1e-320, 1e-38, 1e-5):
        assert choose(logits, Choice(temperature=temperature), torch.tensor([0.5, 0.999])).tolist() == [1, 2]


def test_truncation_keeps_what_it_says() -> None:
    p = torch.tensor([[0.5, 0.25, 0.15, 0.07, 0.03]])
    keep = lambda **kw: truncate(p.log(), Autoregressive.Sampling(**kw)).isfinite()[0].tolist()  # noqa: E731
    assert keep(top_k=2) == [True, True, False, False, False]
    assert keep(top_p=0.7) == [True, True, False, False, False]
    assert keep(top_p=0.76) == [True, True, True, False, False]
    assert keep(min_p=0.2) == [True, True, True, False, False]
    assert keep(top_p=1e-6) == [True, False, False, False, False]


def test_guidance_extrapolates_the_logits() -> None:
    family = model()
    with torch.no_grad():
        family.conditioner.null.normal_(0, 2, generator=torch.Generator().manual_seed(1))
    cond, greedy = torch.zeros(1, dtype=torch.long), {"temperature": 0.0}
    x = family.sample(1, cond, sampling=Autoregressive.Sampling(guidance=3.0, **greedy))
    past = x[:, :-1]
    given, null = (family.logits(past, family.given(c, 1)) for c in (cond, None))
    assert torch.equal((null + 3 * (given - null)).argmax(-1), x)
    assert not torch.equal(given.argmax(-1), x) or not torch.equal(null.argmax(-1), x)


def test_loss_is_nats_per_dimension() -> None:
    family = model()
    x = torch.randint(0, 5, (7, 6), generator=torch.Generator().manual_seed(2))
    cond = torch.randint(0, 3, (7,), generator=torch.Generator().manual_seed(3))
    assert torch.isclose(family.loss(Batch(x, cond)).value, -family.log_prob(x, cond).mean() / 6)


# -- any order -------------------------------------------------------------------------------------------------------


ORDERED = [("learnt", "fixed"), ("learnt", "random"), ("sinusoidal", "random")]
TINY = Discrete((4,), 3, (3, 2, 3, 3))


@pytest.mark.parametrize("positions", ["learnt", "sinusoidal"])
def test_every_order_sums_to_one(positions: str) -> None:
    """And they differ: an untrained net's orders are different models."""
    x, family = every(TINY), model(positions, TINY, None, "random")
    p = []
    for order in itertools.permutations(range(4)):
        p.append((-family.nats(x, Given(), torch.tensor([order]).expand(len(x), -1))).sum(1).exp())
        assert abs(float(p[-1].sum()) - 1) < 1e-12
    assert (torch.stack(p).std(0) > 0.01 * torch.stack(p).mean(0)).all()
    torch.testing.assert_close(family.log_prob(x).exp(), p[0], rtol=0, atol=1e-14)


def orders(n: int, dims: int) -> torch.Tensor:
    return torch.rand(n, dims, generator=torch.Generator().manual_seed(3)).argsort(1)


def leaks_in_order(family: Autoregressive) -> bool:
    """Whether changing the symbol at step t changes the logits of a step s <= t; later ones must change."""
    x, order = torch.randint(0, 5, (8, 6), generator=torch.Generator().manual_seed(0)), orders(8, 6)
    read = lambda x: family.logits(x.gather(1, order)[:, :-1], Given(), order=order)  # noqa: E731
    base, found = read(x), False
    for t in range(6):
        at, changed = order[:, t : t + 1], x.clone()
        changed.scatter_(1, at, (changed.gather(1, at) + 1) % 5)
        delta = (read(changed) - base).abs().amax(2)
        found |= bool((delta[:, : t + 1] > 1e-12).any())
        assert t == 5 or bool((delta[:, t + 1 :] > 1e-9).all()), "the past must matter"
    return found


def test_no_step_of_a_random_order_sees_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    family = model("learnt", None, None, "random")
    assert not leaks_in_order(family)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seeing_everything())
    assert leaks_in_order(family)


@pytest.mark.parametrize("chunks", [[0, 1, 1, 1, 1, 1], [2, 1, 2], [0, 5]])
def test_cached_equals_uncached_in_random_order(chunks: list[int]) -> None:
    family, order = model("learnt", None, None, "random"), orders(4, 6)
    x = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(1))
    cache = Cache(6)
    parts = [family.logits(part, Given(), cache, order) for part in x.split(chunks, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), family.logits(x, Given(), order=order), rtol=0, atol=1e-12)


def test_the_symbol_asked_for_and_the_symbol_read_both_matter() -> None:
    """Orders that share their past but ask for another position, or read another position, give other logits."""
    family, x = model("learnt", None, None, "random"), torch.tensor([[1, 2]])
    last = lambda *order: family.logits(x, Given(), order=torch.tensor([order]))[0, -1]  # noqa: E731
    assert (last(0, 1, 2, 3, 4, 5) - last(0, 1, 3, 2, 4, 5)).abs().max() > 1e-6
    assert (last(0, 1, 2, 3, 4, 5) - last(0, 4, 2, 3, 1, 5)).abs().max() > 1e-6


def test_training_draws_an_order_for_each_item() -> None:
    """The loss is that of the permutations of the batch's own numbers, and rows keep theirs."""
    family = model("learnt", None, None, "random")
    x = torch.randint(0, 5, (6, 6), generator=torch.Generator().manual_seed(2))
    whole = family.loss(Batch(x, None, Rows(5, 0, 6))).value
    parts = [family.loss(Batch(x[a:b], None, Rows(5, a, b - a))).value * (b - a) for a, b in ((0, 2), (2, 6))]
    torch.testing.assert_close(sum(parts) / 6, whole, rtol=0, atol=1e-12)
    losses = [family.loss(Batch(x[:1].expand(500, -1), None, Rows(seed, 0, 500))).value for seed in range(2)]
    all_orders = torch.tensor(list(itertools.permutations(range(6))))
    mean = family.nats(x[:1].expand(720, -1), Given(), all_orders).mean(1)
    for loss in losses:
        assert abs(loss - mean.mean()) < 5 * mean.std() / 500**0.5


def test_random_order_needs_absolute_positions() -> None:
    given = {"model": {"order": "random", "positions": "rotary"}, "data": {"source": "digits"}, "codec": "image"}
    with pytest.raises(ConfigError, match="positions learnt or sinusoidal"):
        resolve({"family": "autoregressive", **given}, "image")


# -- completion ------------------------------------------------------------------------------------------------------


def conditional(family: Autoregressive, x: torch.Tensor, known: torch.Tensor, *, natural: bool) -> torch.Tensor:
    """p(sequence | known) by enumeration, under the order that `complete` uses."""
    sequences = every(TINY)
    order = torch.arange(4) if natural else (~known).long().argsort(stable=True)
    log_p = -family.nats(sequences, Given(), order.expand(len(sequences), -1)).sum(1)
    agrees = (sequences == x)[:, known].all(1)
    return log_p.masked_fill(~agrees, -torch.inf).softmax(0)


def distance(family: Autoregressive, known: list[bool], particles: int, n: int = 2000) -> tuple[float, float]:
    """Total variation between completions and truth, and how far a sample of n from the truth itself would be."""
    x, mask = torch.tensor([2, 1, 0, 2]), torch.tensor(known)
    sampling = Autoregressive.Sampling(particles=particles)
    out = family.complete(x.expand(n, -1), mask.expand(n, -1), sampling=sampling, generator=Rows(1, 0, n))
    assert torch.equal(out[:, mask], x[mask].expand(n, -1))
    sequences = every(TINY)
    q = torch.stack([(out == s).all(1).sum() for s in sequences]) / n
    p = conditional(family, x, mask, natural=family.sources is None)
    expected = (2 * p * (1 - p) / (torch.pi * n)).sqrt().sum() / 2
    return float((q - p).abs().sum() / 2), float(expected)


MASKS = [
    [True, False, True, False],
    [False, False, True, True],
    [False, True, False, False],
    [True, True, False, False],
]


@pytest.mark.parametrize("known", MASKS)
def test_any_mask_is_completed_exactly_in_a_random_order(known: list[bool]) -> None:
    found, expected = distance(model("learnt", TINY, None, "random"), known, 1)
    assert found < 2 * expected + 0.003


@pytest.mark.parametrize("known", MASKS)
def test_particles_complete_any_mask_in_a_fixed_order(known: list[bool]) -> None:
    found, expected = distance(model("learnt", TINY, None), known, 128)  # fewer are biased
    assert found < 2 * expected + 0.003


def test_without_weights_the_completions_are_wrong() -> None:
    """One particle ignores what comes behind it, and the test of many notices."""
    family = randomise(model("learnt", TINY, None), seed=5)
    with torch.no_grad():
        family.head.weight.mul_(2)
    alone, expected = distance(family, MASKS[1], 1)
    together, _ = distance(family, MASKS[1], 64)
    assert alone > 3 * (2 * expected + 0.003)
    assert together < alone / 3


@pytest.mark.parametrize(("positions", "order"), [*ORDERED, ("rotary", "fixed")])
def test_completions_belong_to_rows(positions: str, order: str) -> None:
    """Whatever mask and length the others of the batch have."""
    family = model(positions, None, LABEL, order)
    generator = torch.Generator().manual_seed(0)
    x, cond = torch.randint(0, 5, (12, 6), generator=generator), torch.arange(12) % 3
    known = torch.rand(12, 6, generator=generator) < 0.5
    known[3], known[4], known[5] = True, False, torch.arange(6) < 4
    draw = lambda a, b: family.complete(x[a:b], known[a:b], cond[a:b], generator=Rows(2, a, b - a),  # noqa: E731
                                        sampling=Autoregressive.Sampling(guidance=1.5))  # fmt: skip
    whole = draw(0, 12)
    family.space.check(whole)
    assert torch.equal(whole[known], x[known])
    assert torch.equal(torch.cat([draw(i, i + 1) for i in range(12)]), whole)
    garbage = torch.where(known, x, 4 - x)
    again = family.complete(garbage, known, cond, generator=Rows(2, 0, 12),
                            sampling=Autoregressive.Sampling(guidance=1.5))  # fmt: skip
    assert torch.equal(again, whole), "what stands at unknown positions must not matter"


def test_completion_waits_its_turn_within_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in many small parts, and steps that are told in order."""
    family, seen = model("learnt", None, None), []
    x = torch.randint(0, 5, (9, 6), generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[True, False, True, False, False, False], [True, True, False, False, False, False]] * 5)[:9]
    whole = family.complete(x, known, generator=Rows(0, 0, 9))
    monkeypatch.setattr("quintet.families.autoregressive.CACHED", 1)
    tell = lambda step, steps, _: seen.append(step / steps)  # noqa: E731
    assert torch.equal(family.complete(x, known, generator=Rows(0, 0, 9), on_step=tell), whole)
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_resampling_is_systematic() -> None:
    """A particle of weight w lives on floor(P w) or ceil(P w) times; rows with even weights keep theirs."""
    w = torch.tensor([[0.7, 0.2, 0.1, 0.0], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    counts = torch.zeros(4)
    for u in torch.linspace(0, 0.999, 1000, dtype=torch.float64):
        weight, index = resample(w.log(), u.expand(2))
        assert torch.equal(index[4:], torch.arange(4, 8))
        times = torch.bincount(index[:4], minlength=4)
        assert ((times >= (4 * w[0]).floor()) & (times <= (4 * w[0]).ceil())).all()
        assert torch.equal(weight[0], torch.zeros(4))
        counts += times
    torch.testing.assert_close(counts / 4000, w[0].float(), rtol=0, atol=2e-3)
    assert resample(w[1:].log(), torch.zeros(1)) is None


# -- ranks -----------------------------------------------------------------------------------------------------------


def test_ranks_are_the_sum_of_cosines_of_a_column() -> None:
    sizes, symbols = (3, 5, 2), 6
    ranks = randomise(Ranks(sizes, symbols, 4).double(), scale=1.0)
    x = torch.tensor([[2, 4, 1], [0, 3, 5]])  # 5 is no symbol of the third column: a mask
    at = torch.tensor([[0, 1, 2], [0, 1, 2]])
    given = ranks(x, at)
    torch.testing.assert_close(ranks(x, at[:1]), given)  # one order for all rows goes another way
    for row, columns in zip(range(2), at.tolist(), strict=True):
        for i, column in enumerate(columns):
            k = torch.arange(1, Ranks.TERMS + 1, dtype=torch.float64)
            angle = math.pi * k * (int(x[row, i]) + 0.5) / sizes[column]
            truth = angle.cos() @ ranks.vectors[column] if int(x[row, i]) < sizes[column] else torch.zeros(4).double()
            torch.testing.assert_close(given[row, i], truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ["fixed", "random"])
def test_symbols_of_columns_cached_is_uncached(order: str) -> None:
    """Each symbol is read with the ranks of its own column, however many steps are in the cache."""
    space = Discrete((4,), 5, (5, 3, 2, 4))
    family = randomise(Autoregressive(space, None, Autoregressive.Settings(width=16, depth=2, heads=2, order=order)))
    family = family.double().eval()
    x, at = torch.tensor([[4, 2, 1, 3], [0, 1, 0, 2]]), torch.tensor([[0, 1, 2, 3], [2, 0, 3, 1]])
    at = at if order == "random" else at[:1]
    steps = x.gather(1, at.expand(2, -1))
    whole = family.logits(steps[:, :3], family.given(None, 2), order=at)
    cache = Cache(4)
    parts = [family.logits(steps[:, :1], family.given(None, 2), cache, at)]
    parts += [family.logits(steps[:, i : i + 1], family.given(None, 2), cache, at) for i in (1, 2)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    read, family.ranks, ranks = family.inputs(steps[:, :3], family.given(None, 2), at), None, family.ranks
    gained = (read - family.inputs(steps[:, :3], family.given(None, 2), at))[:, 1:]
    torch.testing.assert_close(gained, ranks(steps[:, :3], at[:, :3]))  # of the order's columns, not of the steps
