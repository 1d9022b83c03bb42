"""The autoregressive family against truth: sums over all sequences, caches, leaks, and its own samples."""

from __future__ import annotations

import itertools

import pytest
import torch
from conftest import randomise

from quintet.core.family import Batch
from quintet.core.spaces import Discrete
from quintet.families.autoregressive import Autoregressive, truncate
from quintet.nets.conditioning import embed
from quintet.nets.transformer import Attention, Cache

POSITIONS = ["rotary", "learnt", "sinusoidal"]
LABEL = Discrete((), 3)


def model(
    positions: str = "learnt", space: Discrete | None = None, condition: Discrete | None = LABEL
) -> Autoregressive:
    settings = Autoregressive.Settings(width=16, depth=2, heads=2, positions=positions)
    return randomise(Autoregressive(space or Discrete((6,), 5), condition, settings))


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
    emb = embed(family.conditioner, torch.zeros(8, dtype=torch.long), 8)
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
    emb = embed(family.conditioner, torch.ones(len(x), dtype=torch.long), len(x))
    cache, parts = Cache(family.space.dims), []
    for part in x.split(chunks, 1):
        parts.append(family.logits(part, emb, cache))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("chunks", [[0, 1, 1, 1, 1, 1], [2, 1, 2], [0, 5], [1, 3, 1]])
def test_cached_equals_uncached(positions: str, chunks: list[int]) -> None:
    family = model(positions)
    x = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(1))
    emb = embed(family.conditioner, torch.ones(4, dtype=torch.long), 4)
    torch.testing.assert_close(cached_logits(family, x, chunks), family.logits(x, emb), rtol=0, atol=1e-12)


def test_the_cache_test_notices_a_mask_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    family = model()
    x = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(1))
    emb = embed(family.conditioner, torch.ones(4, dtype=torch.long), 4)
    true = torch.Tensor.tril
    monkeypatch.setattr(torch.Tensor, "tril", lambda self, diagonal=0: true(self, diagonal - 1))
    assert (cached_logits(family, x, [2, 1, 2]) - family.logits(x, emb)).abs().max() > 1e-6


def test_the_cache_test_notices_wrong_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    family, true = model("rotary"), Attention.forward

    def at_zero(self: Attention, x: torch.Tensor, cache: Cache | None, layer: int) -> torch.Tensor:
        import quintet.nets.transformer as module

        kept = module.rotate
        module.rotate = lambda x, start: kept(x, 0)
        try:
            return true(self, x, cache, layer)
        finally:
            module.rotate = kept

    monkeypatch.setattr(Attention, "forward", at_zero)
    x = torch.randint(0, 5, (4, 5), generator=torch.Generator().manual_seed(1))
    emb = embed(family.conditioner, torch.ones(4, dtype=torch.long), 4)
    assert (cached_logits(family, x, [0, 1, 1, 1, 1, 1]) - family.logits(x, emb)).abs().max() > 1e-6


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
    best = family.logits(x[:, :-1], embed(family.conditioner, cond, 2)).argmax(-1)
    assert torch.equal(best, x)


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
        family.conditioner.null.add_(1.0)
    cond, greedy = torch.zeros(1, dtype=torch.long), {"temperature": 0.0}
    x = family.sample(1, cond, sampling=Autoregressive.Sampling(guidance=3.0, **greedy))
    past = x[:, :-1]
    given, null = (family.logits(past, embed(family.conditioner, c, 1)) for c in (cond, None))
    assert torch.equal((null + 3 * (given - null)).argmax(-1), x)
    assert not torch.equal(given.argmax(-1), x) or not torch.equal(null.argmax(-1), x)


def test_loss_is_nats_per_dimension() -> None:
    family = model()
    x = torch.randint(0, 5, (7, 6), generator=torch.Generator().manual_seed(2))
    cond = torch.randint(0, 3, (7,), generator=torch.Generator().manual_seed(3))
    assert torch.isclose(family.loss(Batch(x, cond)).value, -family.log_prob(x, cond).mean() / 6)
