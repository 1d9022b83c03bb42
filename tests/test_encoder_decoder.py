"""The Transformer with a context against truth: torch's own, leaks, caches, packing, and texts that end."""

from __future__ import annotations

import itertools

import pytest
import torch
from conftest import randomise
from torch import Tensor, nn

from quintet.core.family import Batch
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.families.autoregressive import Autoregressive
from quintet.nets import packing, transformer
from quintet.nets.packing import document_mask, pack
from quintet.nets.symbols import cross_entropy
from quintet.nets.transformer import Cache, Transformer

END = 4
TEXT = Discrete((7,), 5, pad=END)
SOURCE = Discrete((6,), 5, pad=END)
CONDITIONS: dict[str, Space] = {
    "text": SOURCE,
    "image": Continuous((1, 6, 6)),
    "audio": Continuous((3, 9)),
}


def model(condition: Space | None = SOURCE, space: Discrete = TEXT, **settings: object) -> Autoregressive:
    chosen = Autoregressive.Settings(width=16, depth=2, heads=2, **settings)
    return randomise(Autoregressive(space, condition, chosen)).eval()


def conditions(space: Space, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(space, Discrete):
        return texts(space, n, generator)
    return torch.randn(n, *space.shape, generator=generator).double()


def texts(space: Discrete, n: int, generator: torch.Generator) -> Tensor:
    """Symbols, then ends; lengths from 0 up to all of it."""
    x = torch.randint(0, END, (n, space.dims), generator=generator)
    lengths = torch.randint(0, space.dims + 1, (n, 1), generator=generator)
    return torch.where(torch.arange(space.dims) < lengths, x, END)


# -- torch's own Transformer -----------------------------------------------------------------------------------------


def copy_attention(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    ours.qkv.weight.data.copy_(theirs.in_proj_weight)
    ours.out.weight.data.copy_(theirs.out_proj.weight)


def copy_layer(ours: Transformer, i: int, theirs: nn.Module, *, cross: bool) -> None:
    copy_attention(ours.attention[i], theirs.self_attn)
    norms = [theirs.norm1, theirs.norm2]
    if cross:
        copy_attention(ours.readers[i], theirs.multihead_attn)
        ours.reader_norms[i].weight.data.copy_(theirs.norm2.weight)
        norms = [theirs.norm1, theirs.norm3]
    for norm, other in zip(ours.norms[2 * i : 2 * i + 2], norms, strict=True):
        norm.weight.data.copy_(other.weight)
    ours.feed_forward[i].up.weight.data.copy_(theirs.linear1.weight)
    ours.feed_forward[i].down.weight.data.copy_(theirs.linear2.weight)


@pytest.mark.parametrize("padded", [False, True])
def test_encoder_and_decoder_are_torchs(padded: bool) -> None:
    theirs = nn.Transformer(
        16, 2, 3, 3, 64, dropout=0.0, activation="relu", batch_first=True, norm_first=True, bias=False
    ).double()
    randomise(theirs).eval()
    same = {"rotary": False, "activation": "relu", "norm": "layer", "qk_norm": False}
    encoder = Transformer(16, 3, 2, causal=False, **same).double()
    decoder = Transformer(16, 3, 2, causal=True, cross=True, **same).double()
    for ours, other, cross in ((encoder, theirs.encoder, False), (decoder, theirs.decoder, True)):
        for i, layer in enumerate(other.layers):
            copy_layer(ours, i, layer, cross=cross)
        ours.norms[-1].weight.data.copy_(other.norm.weight)
    source, target = torch.randn(4, 6, 16).double(), torch.randn(4, 5, 16).double()
    seen = torch.arange(6) < torch.tensor([[6], [4], [1], [3]]) if padded else torch.ones(4, 6, dtype=torch.bool)
    causal = nn.Transformer.generate_square_subsequent_mask(5).double()
    wanted = theirs(
        source, target, tgt_mask=causal, src_key_padding_mask=~seen, memory_key_padding_mask=~seen, tgt_is_causal=True
    )
    context = encoder(source, mask=seen[:, None, None])
    torch.testing.assert_close(decoder(target, context=context, seen=seen), wanted, rtol=0, atol=1e-10)


# -- leaks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("positions", ["rotary", "learnt", "sinusoidal"])
def test_cached_equals_uncached(kind: str, positions: str) -> None:
    family = model(CONDITIONS[kind], positions=positions)
    given = family.given(conditions(CONDITIONS[kind], 3), 3)
    x = torch.randint(0, 5, (3, 6), generator=torch.Generator().manual_seed(1))
    whole = family.logits(x, given)
    for chunks in ([0, 1, 1, 1, 1, 1, 1], [3, 1, 2], [0, 6], [6]):
        cache, parts = Cache(7), []
        for part in x.split(chunks, 1):
            parts.append(family.logits(part, given, cache))
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", CONDITIONS)
def test_the_whole_condition_matters(kind: str) -> None:
    """Each of its numbers changes the likelihood; what stands behind a text's end does not."""
    space = CONDITIONS[kind]
    family, x = model(space), texts(TEXT, 1, torch.Generator().manual_seed(3))
    cond = conditions(space, 1, 5)
    if kind == "text":
        cond = torch.tensor([[1, 2, 3, 0, 2, 1]])
    base = family.log_prob(x, cond)
    for i in range(cond[0].numel()):
        changed = cond.clone()
        changed.view(-1)[i] = (changed.view(-1)[i] + 1) % END if kind == "text" else changed.view(-1)[i] + 1
        assert (family.log_prob(x, changed) - base).abs() > 1e-9, i


def test_a_padded_condition_is_read_alone() -> None:
    """The same source in a batch with longer ones, and without: the mask of the encoder and that of the reader."""
    family, generator = model(), torch.Generator().manual_seed(0)
    x, cond = texts(TEXT, 16, generator), texts(SOURCE, 16, generator)
    whole = family.log_prob(x, cond)
    for i in range(16):
        torch.testing.assert_close(family.log_prob(x[i : i + 1], cond[i : i + 1])[0], whole[i], rtol=0, atol=1e-12)


def test_the_padding_test_notices_a_missing_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    true = nn.functional.scaled_dot_product_attention

    def unmasked(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        return true(q, k, v, is_causal=is_causal)

    short = transformer.read_short
    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", unmasked)
    monkeypatch.setattr(transformer, "read_short", lambda q, k, v, mask: short(q, k, v, None))
    with pytest.raises(AssertionError):
        test_a_padded_condition_is_read_alone()


def test_short_rows_are_read_as_long_ones_are() -> None:
    """Also one that may look nowhere."""
    q, k, v = (torch.randn(3, 2, 5, 4) for _ in range(3))
    mask = torch.rand(3, 1, 5, 5) < 0.6
    mask[1, :, 2] = False
    want = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(transformer.read_short(q, k, v, mask), want)


# -- texts that end --------------------------------------------------------------------------------------------------


def every(space: Discrete) -> Tensor:
    return torch.tensor(list(itertools.product(range(space.vocab_size), repeat=space.dims)))


@pytest.mark.parametrize("condition", [None, SOURCE, Discrete((), 3)])
def test_probabilities_of_all_texts_sum_to_one(condition: Space | None) -> None:
    space = Discrete((3,), 3, pad=2)
    family, x = model(condition, space), every(space)
    cond = None
    if condition is not None:
        cond = torch.zeros(len(x), *condition.shape, dtype=torch.long) + 1
    log_p = family.log_prob(x, cond)
    ended = (x == 2).cumsum(1).bool()
    proper = (~ended | (x == 2)).all(1)
    assert bool(log_p[~proper].isinf().all())
    torch.testing.assert_close(log_p[proper].exp().sum(), torch.tensor(1.0, dtype=log_p.dtype), rtol=0, atol=1e-12)


@pytest.mark.parametrize("positions", ["rotary", "learnt"])
def test_packed_texts_do_not_see_each_other(positions: str) -> None:
    family = model(None, positions=positions)
    x = texts(TEXT, 24, torch.Generator().manual_seed(2))
    lengths = (x != END).sum(1) + 1
    assert len(pack(lengths.clamp_max(7), 7).index) < 20, "some are packed together"
    whole = family.nats(x, family.given(None, 24))
    for i in range(24):
        torch.testing.assert_close(family.nats(x[i : i + 1], family.given(None, 1))[0], whole[i], rtol=0, atol=1e-12)


def test_the_packing_test_notices_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "quintet.families.autoregressive.document_mask",
        lambda documents: torch.ones(1, 1, *documents.shape[1:] * 2, dtype=torch.bool).tril(),
    )
    with pytest.raises(AssertionError):
        test_packed_texts_do_not_see_each_other("learnt")


def test_packing_keeps_every_symbol() -> None:
    for seed in range(20):
        lengths = torch.randint(1, 9, (13,), generator=torch.Generator().manual_seed(seed))
        packed = pack(lengths, 8)
        wanted = torch.cat([torch.arange(n) + 8 * i for i, n in enumerate(lengths.tolist())])
        assert torch.equal(packed.index.flatten()[packed.back], wanted)
        assert torch.equal(packed.documents.flatten()[packed.back], wanted // 8)
        assert (packed.documents >= 0).sum() == lengths.sum()
        mask = document_mask(packed.documents)
        assert bool(mask.any(-1).all()), "a row of the softmax must not be empty"
    assert packing.pack(torch.tensor([3, 3]), 5).index.shape == (2, 3)


def nats_and_gradients(family: Autoregressive, x: Tensor, cond: Tensor) -> list[Tensor]:
    family.zero_grad()
    found = family.nats(x, family.given(cond, len(x)))
    found.sum().backward()
    return [found.detach(), *(p.grad for p in family.parameters() if p.grad is not None)]


@pytest.mark.parametrize("positions", ["rotary", "learnt"])
def test_nothing_but_attention_is_computed_for_padding(positions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = model(positions=positions)
    x, cond = texts(TEXT, 24, torch.Generator().manual_seed(2)), conditions(SOURCE, 24)
    rows: list[int] = []
    family.net.feed_forward[0].register_forward_hook(lambda net, given, out: rows.append(given[0].shape[:-1].numel()))
    lean = nats_and_gradients(family, x, cond)
    monkeypatch.setattr("quintet.families.autoregressive.present", lambda there: None)
    monkeypatch.setattr("quintet.nets.transformer.present", lambda there: None)
    monkeypatch.setattr("quintet.nets.conditioning.present", lambda there: None)
    for found, wanted in zip(lean, nats_and_gradients(family, x, cond), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    symbols = int(((x != END).sum(1) + 1).clamp_max(7).sum())
    assert rows == [symbols, 24 * 7]


def test_the_padding_test_notices_symbols_in_wrong_places(monkeypatch: pytest.MonkeyPatch) -> None:
    right = packing.Present.spread
    monkeypatch.setattr(packing.Present, "spread", lambda self, h: right(self, h.roll(1, 0)))
    with pytest.raises(AssertionError):
        test_nothing_but_attention_is_computed_for_padding("learnt", monkeypatch)


def test_samples_end_and_follow_the_model() -> None:
    space = Discrete((3,), 3, pad=2)
    family = model(None, space)
    drawn = family.sample(40_000, generator=torch.Generator().manual_seed(0))
    code = torch.tensor([9, 3, 1])
    frequencies = torch.bincount((drawn * code).sum(1), minlength=27) / len(drawn)
    wanted = family.log_prob(every(space)).exp()
    assert float((frequencies - wanted).abs().sum()) < 0.03


def test_a_longer_neighbour_does_not_change_a_sample() -> None:
    """Stopping early when all have ended is no change."""
    family = model(SOURCE)
    cond = conditions(SOURCE, 8)
    whole = family.sample(8, cond, generator=Rows(0, 0, 8))
    for i in range(8):
        assert torch.equal(family.sample(1, cond[i : i + 1], generator=Rows(0, i, 1))[0], whole[i])


def test_particles_stand_on_ends_too() -> None:
    """A later known symbol rules out an end before it."""
    family = model(None, Discrete((4,), 3, pad=2))
    x = torch.tensor([[0, 0, 0, 1]]).repeat(64, 1)
    known = torch.tensor([[False, False, False, True]]).repeat(64, 1)
    done = family.complete(x, known, sampling=family.Sampling(particles=64), generator=Rows(1, 0, 64))
    assert bool((done[:, :3] != 2).all())


# -- the loss --------------------------------------------------------------------------------------------------------


def test_label_smoothing_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    x = torch.arange(6) % 4
    free = nn.functional.cross_entropy(logits, x, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(logits, x, 0.1), free, rtol=0, atol=1e-12)
    barred = torch.cat([logits, torch.full((6, 1), -torch.inf, dtype=torch.float64)], 1)
    torch.testing.assert_close(cross_entropy(barred, x, 0.1), free, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tied", ["none", "output", "all"])
def test_tied_tables(tied: str) -> None:
    family = model(tied=tied)
    count = sum(name.endswith(("tokens.weight", "head.weight", "table.weight")) for name in family.state_dict())
    assert count == {"none": 3, "output": 2, "all": 1}[tied]
    generator = torch.Generator().manual_seed(0)
    batch = Batch(texts(TEXT, 8, generator), texts(SOURCE, 8, generator), Rows(0, 0, 8))
    family.train().loss(batch).value.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in family.parameters())


def test_a_hidden_condition_is_no_condition() -> None:
    """With dropout 1 the training loss is that of the unconditional model."""
    family = model(guidance_dropout=0.999999)
    generator = torch.Generator().manual_seed(0)
    x, cond = texts(TEXT, 8, generator), texts(SOURCE, 8, generator)
    family.train()
    hidden = family.nats(x, family.given(cond, 8, Rows(0, 0, 8)))
    torch.testing.assert_close(hidden, family.nats(x, family.given(None, 8)), rtol=0, atol=1e-12)
