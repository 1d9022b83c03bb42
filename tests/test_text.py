"""Texts as symbols and as bits: what comes back, what is total, what a likelihood is the mass of, and holes."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quintet.core.errors import ConfigError, DataError, EnvironmentFault, QuintetWarning
from quintet.core.family import Family
from quintet.core.spaces import Continuous, Discrete
from quintet.data.loader import Items, Loader
from quintet.modalities.latent import LatentCodec
from quintet.modalities.text import vocabulary
from quintet.modalities.text.codec import HOLE, LONGEST, WINDOW, TextCodec
from quintet.sources.load import load_source

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SHORT = [f"{a} times {b}" for a in WORDS for b in WORDS]
LONG = ["the quick brown fox jumps over the lazy dog. " * 30]
REPRESENTATIONS, TOKENS = ("discrete", "continuous"), ("characters", "bytes", "bpe")


def codec(texts: list[str], representation: str = "discrete", **given: object) -> TextCodec:
    return TextCodec(representation, TextCodec.Settings(**{"vocab_size": 300, **given})).fit(texts)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("items", ["stream", "separate"])
def test_texts_come_back(representation: str, tokens: str, items: str) -> None:
    texts = LONG if items == "stream" else SHORT
    one = codec(texts, representation, tokens=tokens, items=items)
    x = one.encode(texts)
    one.space.check(x)
    back = one.decode(x)
    if items == "stream":
        assert LONG[0].startswith("".join(back))
        assert len(x) == len(one.log_det(texts)) > 1
    else:
        assert back == texts
        assert len(x) == len(texts) == len(one.log_det(texts))
    again = TextCodec.from_json(json.loads(json.dumps(one.to_json())))
    assert torch.equal(again.encode(texts), x)
    assert (again.space, again.stream, again.dims, again.measure) == (one.space, one.stream, one.dims, "mass")


@pytest.mark.parametrize("tokens", ["characters", "bpe"])
@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_every_window_that_is_trained_on_is_a_piece_of_the_text(representation: str, tokens: str) -> None:
    """At every offset, in both representations: numbered words, so that no window occurs by chance."""
    text = " ".join(f"{i}:{WORDS[i % 10]}" for i in range(400))
    one = codec([text], representation, tokens=tokens, window=16)
    x = Items(one, [text], torch.device("cpu"))
    loader = Loader(one.space, x, None, seed=0)

    @cache
    def offset(start: int) -> int:
        return len(one.vocabulary.encode(text[:start])) % one.block

    offsets = set()
    for epoch in range(80):
        batch = loader.batch(epoch * len(x), 0, len(x), len(x)).x
        if representation == "continuous":
            batch = batch.sign()  # as before the noise that dequantises
        one.space.check(batch)
        windows = one.decode(batch)
        assert all(window in text for window in windows)
        offsets |= {offset(text.index(window)) for window in windows}
    assert len(offsets) == one.block


def test_windows_given_as_latents_are_those_that_were_encoded() -> None:
    """A latent stands for a whole window: no number of one window comes into another."""
    text = " ".join(f"{i}:{WORDS[i % 10]}" for i in range(400))
    inner = codec([text], "continuous", window=16)

    class Halves(torch.nn.Module):
        """An autoencoder whose latents are the bits themselves, as a vector, halved."""

        latent = Continuous((inner.space.dims,))

        def __init__(self) -> None:
            super().__init__()
            self.halved = torch.nn.Parameter(torch.tensor(0.5))

        def encode(self, x: torch.Tensor, cond: object = None) -> torch.Tensor:
            return self.halved * x.flatten(1)

        def decode(self, z: torch.Tensor, cond: object = None) -> torch.Tensor:
            return z.view(-1, *inner.space.shape)

    one = LatentCodec(inner, Halves()).fit([text])  # type: ignore[arg-type]
    x = Items(one, [text], torch.device("cpu"))
    loader = Loader(one.space, x, None, seed=0)
    for epoch in range(3):
        assert all(window in text for window in one.decode(loader.batch(epoch * len(x), 0, len(x), len(x)).x))


def test_items_are_windows_of_few_long_documents_or_many_short_texts() -> None:
    long, short = codec(LONG), codec(SHORT)
    assert (long.stream, long.block, long.space.pad) == (True, 20, None)  # 1,350 characters are 64 windows at least
    assert codec(LONG * 4).block == WINDOW
    assert (short.stream, short.block) == (False, 20)  # 17 characters and the end, a multiple of 4
    assert short.space == Discrete((20,), short.vocabulary.size + 1, pad=short.vocabulary.size, unseen=0)
    assert [codec(texts, window=16).block for texts in (LONG, SHORT)] == [16, 20]
    assert codec(["x" * 300] * 50).stream
    assert not codec(LONG, items="separate", block=1600).stream
    assert [each.kind for each in TextCodec.representations] == ["discrete", "continuous"]


def test_what_is_too_long_is_cut_with_a_notice() -> None:
    with pytest.warns(QuintetWarning, match="1 of 101 texts are longer than 256 symbols"):
        one = codec([*SHORT, "x" * 1000], items="separate", block=LONGEST)
    assert one.decode(one.encode(["x" * 1000, "x" * 256])) == ["x" * 256] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec(SHORT)


def test_unknown_characters_and_an_empty_text() -> None:
    one = codec(SHORT)
    assert one.decode(one.encode(["tenÄten", "", "\ufffd\ud800"])) == ["ten\ufffdten", "", "\ufffd\ufffd"]
    assert one.encode([""]).eq(one.end).all()
    assert int(one.encode(["Ä"])[0, 0]) == 0


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("items", ["stream", "separate"])
@pytest.mark.filterwarnings("ignore:.*longer than")
def test_decode_is_total(representation: str, tokens: str, items: str) -> None:
    one = codec(LONG, representation, tokens=tokens, items=items, block=24)
    generator = torch.Generator().manual_seed(0)
    if representation == "discrete":
        x = torch.randint(0, one.size, (200, 24), generator=generator)
    else:
        x = 10 * torch.randn(200, *one.space.shape, generator=generator)
        x[0], x[1], x[2] = float("nan"), float("inf"), -float("inf")
    texts = one.decode(x)
    assert len(texts) == 200
    assert all(text.encode() is not None for text in texts)
    assert texts == one.decode(x)


def test_decode_stops_at_the_first_end() -> None:
    one = codec(["ab"] * 40, block=6)
    a, b, end = 1, 2, 3
    assert one.decode(torch.tensor([[a, b, end, a, b, a], [end] * 6, [a] * 6])) == ["ab", "", "aaaaaa"]


def test_every_symbol_has_a_code_and_every_code_a_nearest_symbol() -> None:
    one = codec(LONG, "continuous", block=2)
    bits = one.space.shape[0]
    assert one.space == Continuous((bits, 2), 2)
    assert 2 ** (bits - 1) < one.size <= 2**bits
    assert len({tuple(code) for code in one.representation.codes.tolist()}) == one.size
    cube = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits)))
    found = one.symbols(cube[:, :, None].expand(-1, -1, 2).contiguous())[:, 0]
    distance = torch.cdist(cube, one.representation.codes, p=1)
    distance[:, 0] = torch.inf  # the code of characters that training lacks: no sample is taken for one
    assert torch.equal(distance.gather(1, found[:, None])[:, 0], distance.min(1).values)
    assert set(found.tolist()) == set(range(1, one.size))
    weak = one.representation.codes[:, :, None].expand(-1, -1, 2) * 0.01
    assert torch.equal(one.symbols(weak)[1:, 1], torch.arange(1, one.size)), "the sign decides"


def test_masses_of_all_texts_sum_to_one_for_a_model_that_ends_where_a_text_ends() -> None:
    """And to less for one that writes behind the end: the rest is on blocks that `encode` never gives."""
    one = codec(["ab"] * 40, block=3, items="separate")
    texts = ["".join(t) for n in range(4) for t in itertools.product("\ufffdab", repeat=n)]
    x, step = one.encode(texts), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    assert len({tuple(row) for row in x.tolist()}) == len(texts) == 40
    ended = torch.cat([torch.zeros(len(x), 1, dtype=torch.bool), x.eq(one.end).cummax(1).values[:, :-1]], 1)
    honest = torch.where(ended, 1.0, step[x]).prod(1).sum()
    careless = step[x].prod(1).sum()
    assert float(honest) == pytest.approx(1)
    assert float(careless) < 0.9


def test_a_cell_of_bits_has_its_volume() -> None:
    """A density of 2 ** -dims on each cell of width 2, over a whole vocabulary of 2 ** bits, sums to 1."""
    one = codec(["".join(map(chr, range(97, 104)))], "continuous", block=1)
    assert one.size == 8
    x = one.encode(list("abcdefg\ufffd"))
    assert len({tuple(row) for row in x.flatten(1).tolist()}) == 8
    density = torch.full((8,), -6 * math.log(2), dtype=torch.float64)  # 1/8 of the mass in a volume of 8
    total = (density + one.log_det([chr(97)])).exp().sum()
    assert float(total) == pytest.approx(1)
    assert float(codec(SHORT).log_det(SHORT).sum()) == 0


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_a_prompt_and_holes(representation: str) -> None:
    one = codec(SHORT, representation)
    items = ["one ti", f"t{HOLE}o{HOLE}", "", HOLE]
    x, known = one.partial(items)
    one.space.check(x)
    assert x.shape == known.shape
    if representation == "continuous":
        assert (known == known[:, :1]).all()
        known = known[:, 0]
    assert known.sum(1).tolist() == [6, 18, 0, 19]
    assert known[0, :6].all()
    assert known[1].tolist() == [True, False, True, False] + [True] * 16
    assert one.symbols(x)[1, 4:].eq(one.end).all()
    stream = codec(LONG, representation, block=8)
    _, known = stream.partial([f"t{HOLE}e", "the quic"])
    assert (known if representation == "discrete" else known[:, 0]).sum(1).tolist() == [2, 8]
    with pytest.raises(DataError, match="the text has 9 symbols, but the model takes at most 8"):
        stream.partial(["the quick"])
    with pytest.raises(DataError, match="a mask cannot be given for a text"):
        stream.partial(["the"], known=[True])


@pytest.mark.parametrize("tokens", TOKENS)
def test_what_was_known_comes_back_exactly(tokens: str) -> None:
    """Whatever stands in the holes: unknown characters, broken bytes, an end."""
    one = codec(SHORT, tokens=tokens, block=24)
    items = ["seven timesÄ", f"{HOLE}Ä{HOLE}n times {HOLE}ne", f"{HOLE}{HOLE}", "\ud800x"]
    x, known = one.partial(items)
    generator = torch.Generator().manual_seed(0)
    fills = [torch.randint(0, one.size, x.shape, generator=generator) for _ in range(50)]
    for fill in [*fills, torch.full_like(x, one.end)]:
        done = one.fill(items, None, one.decode(torch.where(known, x, fill)))
        assert done[0].startswith(items[0])
        at = 0
        for piece in items[1].split(HOLE):
            at = done[1].index(piece, at) + len(piece)
        assert at == len(done[1])
        assert done[3].startswith("\ud800x")
        if tokens == "characters":
            assert all(a in (b, HOLE) for a, b in zip(items[1], done[1], strict=True)) or len(done[1]) < len(items[1])


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_survives_as_bytes_and_byte_pairs(text: str) -> None:
    for one in BYTES:
        assert one.decode(one.encode([text])) == [text]


BYTES = [codec(SHORT, tokens=tokens, items="separate", block=164) for tokens in ("bytes", "bpe")]


def test_byte_pairs_are_shorter_and_their_state_is_inert() -> None:
    one = codec(SHORT, tokens="bpe", vocab_size=300)
    assert 256 < one.vocabulary.size <= 300
    assert one.block < codec(SHORT).block
    state = one.to_json()["vocabulary"]
    assert state["model"]["type"] == "BPE"
    assert one.to_json() == codec(SHORT, tokens="bpe", vocab_size=300).to_json()


def test_without_tokenizers_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EnvironmentFault, match=r"pip install .*quintet\[text\]"):
        codec(SHORT, tokens="bpe")
    codec(SHORT, tokens="bytes")


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="the training texts are all empty"):
        codec([""])
    with pytest.raises(DataError, match="expected a text, got int"):
        codec(SHORT).encode([3])
    with pytest.raises(DataError, match="shorter than one window"):
        codec(LONG).encode(["short"])


def test_defaults_of_short_texts_have_larger_batches() -> None:
    from quintet.fit import fitting
    from quintet.sources.load import Dataset

    def batch(texts: list[str], **coding: object) -> int:
        split = {"train": np.arange(len(texts))}
        return fitting.plan("autoregressive", Dataset("texts", "text", texts, split), config={"coding": coding},
                        steps=1).training.batch_size  # fmt: skip

    assert (batch(LONG), batch(SHORT * 20)) == (4, 16)
    assert (batch(LONG, items="separate"), batch(SHORT * 20, items="stream")) == (16, 4)


def pair_of(**config: object) -> dict[str, TextCodec]:
    """The codecs of English number words given Chinese ones."""
    from quintet.fit import fitting
    from quintet.runs.task import Task
    from quintet.sources.load import load_source

    dataset = load_source("numbers")
    plan = fitting.plan("autoregressive", dataset, condition="chinese", steps=1, config=config)
    return Task.of(plan, dataset).fitted(plan).codecs  # type: ignore[return-value]


def test_texts_given_texts_have_one_vocabulary() -> None:
    codecs = pair_of()
    x, cond = codecs["x"], codecs["cond"]
    assert x.space.vocab_size == cond.space.vocab_size < 1000
    assert x.vocabulary.to_json() == cond.vocabulary.to_json()
    english, chinese = "three hundred two thousand forty-one", "三十万二千零四十一"
    assert cond.decode(cond.encode([chinese, english])) == [chinese, english]
    assert len(cond.vocabulary.encode(chinese)) == len(chinese), "a Chinese character is a symbol"
    again = TextCodec.from_json(json.loads(json.dumps(cond.to_json())))
    assert torch.equal(again.encode([chinese]), cond.encode([chinese]))


def test_or_each_its_own() -> None:
    codecs = pair_of(coding={"joint": False, "tokens": "characters"}, given={"tokens": "bytes", "block": 40})
    assert codecs["cond"].space.vocab_size == 257
    assert codecs["cond"].space.shape == (40,)
    assert codecs["x"].space.vocab_size < 40


def test_a_condition_of_text_has_an_item_a_row() -> None:
    codecs = pair_of(given={"items": "stream"})
    assert not codecs["cond"].stream
    assert len(codecs["cond"].encode(["一", "二", "三"])) == 3


def test_settings_of_a_condition_need_one() -> None:
    from quintet.fit import fitting
    from quintet.sources.load import load_source

    with pytest.raises(ConfigError, match="no condition"):
        fitting.plan("autoregressive", load_source("numbers"), steps=1, config={"given": {"tokens": "bytes"}})


@pytest.mark.parametrize("name", ["vae", "gan", "autoregressive", "flow", "diffusion", "masked_diffusion"])
def test_every_family_takes_a_representation_of_text(name: str) -> None:
    from quintet.registry import family_class, make_codec

    cls: type[Family] = family_class(name)
    one = make_codec("text", cls).fit(SHORT)
    assert isinstance(one.space, cls.accepts)
    with pytest.raises((ConfigError, ValueError)):
        TextCodec.Settings(block=0)


@given(st.text(st.sampled_from("ab'st19 \n\t\x1c\u00a0\u00e4\u4f60\u597d!."), max_size=400), st.integers(1, 20))
@example("111111     111111", 2)
@settings(max_examples=300, deadline=None)
def test_byte_pairs_of_a_long_text_are_made_in_pieces(text: str, piece: int) -> None:
    """What is encoded piece by piece, so that memory is bounded, is what the tokenizer makes of the whole."""
    one = PIECEMEAL.vocabulary
    before, vocabulary.PIECE_CHARACTERS = vocabulary.PIECE_CHARACTERS, piece
    try:
        pieces = list(vocabulary.pieces_of(text))
        cuts = [0, *(found.start() for found in vocabulary.BETWEEN.finditer(text)), len(text)]
        longest = max(end - start for start, end in itertools.pairwise(cuts))  # that cannot be cut
        if longest < 7 * piece - 2:
            assert one.encode(text).tolist() == one.tokenizer.encode(text).ids
            assert all(len(part) <= piece + longest + 2 for part in pieces)
    finally:
        vocabulary.PIECE_CHARACTERS = before
    assert "".join(pieces) == text
    assert all(len(part) <= 8 * piece for part in pieces)
    assert one.decode(one.encode(text).tolist()) == text


PIECEMEAL = codec([*SHORT, "aa bb  ab\n\nab ss's 19 91 st!. " * 20], tokens="bpe", items="separate", block=1000)


def test_a_text_file_that_is_too_large_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quintet.modalities.text.reading.TEXT_BYTES", 1000)
    (tmp_path / "long.txt").write_text("a line\n" * 1000)
    with pytest.raises(DataError, match=r"(?s)long.txt is too large.*7,000 bytes, but at most 1,000.*split -C"):
        load_source(str(tmp_path / "long.txt"))
    with gzip.open(tmp_path / "packed.txt.gz", "wt") as file:
        file.write("a line\n" * 1000)
    with pytest.raises(DataError, match=r"(?s)packed.txt is too large.*split -C"):
        load_source(str(tmp_path / "packed.txt.gz"))
