"""Texts by models of the next symbol: prompts, lengths, stop texts, patterns, streams and n-best, on raw text."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import randomise

from quintet.api.model import Model
from quintet.cli import main as cli
from quintet.core.errors import DataError, QuintetWarning, Unsupported, UsageError
from quintet.families.autoregressive import Autoregressive
from quintet.modalities.text.codec import HOLE, TextCodec
from quintet.model.fitted import Fitted
from quintet.model.spelling import Regex, Speller, StopTexts
from quintet.runs.config import resolve
from quintet.runs.folder import Run

LONG = ["the quick brown fox jumps over the lazy dog. aé€😀b " * 30]
SHORT = [f"{a} and {b}" for a in ("one", "two", "three", "four") for b in ("five", "six", "seven", "eightß")] * 3
SMALL = {"width": 16, "depth": 1, "heads": 2, "positions": "rotary"}


def model(texts: list[str] = LONG, family: str = "autoregressive", **coding: Any) -> Model:
    """Random weights over a fitted codec."""
    codec = TextCodec("discrete", TextCodec.Settings(**{"block": 16, "vocab_size": 290, **coding})).fit(texts)
    given = {"family": family, "data": {"source": "-"}, "codec": "text", "model": {"width": 16, "depth": 1, "heads": 2}}
    config = resolve(given, "text")
    torch.manual_seed(0)
    net = Autoregressive(codec.space, None, Autoregressive.Settings(**SMALL))
    if family != "autoregressive":
        from quintet.registry import family_class

        cls = family_class(family)
        net = cls(codec.space, None, cls.Settings(width=16, depth=1, heads=2))  # type: ignore[assignment]
    return Model(Fitted(Run(Path("no-run")), randomise(net, scale=0.5), {"x": codec}, config))


TOKENS = ("characters", "bytes", "bpe")


# -- spelling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", TOKENS)
def test_pieces_are_what_decode_gives(tokens: str) -> None:
    vocabulary = model(tokens=tokens).codecs["x"].vocabulary
    pieces, generator = vocabulary.pieces(), torch.Generator().manual_seed(0)
    assert len(pieces) == vocabulary.size
    assert b"".join(pieces[i] for i in vocabulary.encode(LONG[0])).decode() == LONG[0]
    for _ in range(50):
        row = torch.randint(0, vocabulary.size, (30,), generator=generator).tolist()
        speller = Speller(pieces)
        parts = [speller([i]) for i in row] + [speller([], final=True)]
        assert "".join(parts) == vocabulary.decode(row)


def test_a_character_waits_for_all_its_bytes_and_a_stop_for_its_end() -> None:
    pieces = [bytes([i]) for i in range(256)]
    speller = Speller(pieces)
    assert [speller([i]) for i in "é😀".encode()] == ["", "é", "", "", "", "😀"]
    speller = Speller(pieces, ["END", "\n\n"])
    assert [speller([i]) for i in b"aE\nENEND later"] == ["a", "", "E", "\n", "", "EN", "", "", *[""] * 6]
    assert speller.done
    speller = Speller(pieces, ["END"])
    assert speller(list(b"xEN")) + speller([], final=True) == "xEN"


def test_stop_looks_at_the_new_part_only() -> None:
    stop = StopTexts([b"a", b"bc", b"c"], ["abc", "cc"], 4)
    x = torch.tensor([[2, 0, 1], [2, 2, 0], [0, 0, 1], [0, 1, 2]])
    assert stop(x, torch.tensor([0, 0, 2, 1]))[:, 0].tolist() == [False, False, True, False]
    assert stop(x, torch.tensor([0, 2, 3, 3]))[:, 0].tolist() == [False, True, True, True]
    assert stop(x[:, :0], torch.tensor([0] * 4)).all()


@pytest.mark.parametrize(("pattern", "text", "allowed"), [
    ("ab*c", "", "a"),
    ("ab*c", "a", ["b", "c", "bc", "bb"]),
    ("ab*c", "ac", ["<end>"]),
    ("(bb|bc)b", "", ["b", "bb", "bc"]),
    ("a*", "a", ["a", "<end>"]),
])  # fmt: skip
def test_symbols_that_a_pattern_allows(pattern: str, text: str, allowed: list[str]) -> None:
    symbols = ["a", "b", "c", "bc", "bb", "<end>"]
    regex = Regex(pattern, [s.encode() for s in symbols[:-1]], 6, 5, lambda begin: 9)
    new = [symbols.index(char) for char in text]
    assert {symbols[i] for i in regex.after(new, 9).nonzero()[:, 0].tolist()} == set(allowed)


def test_a_pattern_leaves_room_for_its_end() -> None:
    """With three places, "a" may be repeated once, and then b and c must come; with two, not even that."""
    regex = Regex("a*bc", [b"a", b"b", b"c", b"bc"], 4, None, lambda begin: 3)
    assert regex.after([], 3).tolist() == [True, True, False, True]
    assert regex.after([0], 3).tolist() == [True, True, False, True]
    assert regex.after([0, 0], 3).tolist() == [False, False, False, True]
    assert not regex.after([0, 3], 3).any()
    with pytest.raises(UsageError, match="needs at least 3 symbols, but only 2 can be written"):
        Regex("abc", [b"a", b"b", b"c"], 3, None, lambda begin: 2).after([], 2)


def test_patterns_that_nothing_can_match() -> None:
    regex = Regex("(a|b)d|c", [b"a", b"b", b"c"], 3, None, lambda begin: 9)
    assert regex.after([], 9).tolist() == [False, False, True]  # behind a and b only d would do, which is no symbol
    for wrong in ("(", "(?=a)b", r"(a)\1"):
        with pytest.raises(UsageError, match="this regular expression cannot guide"):
            Regex(wrong, [b"a"], 1, None, lambda begin: 9)
    with pytest.raises(DataError, match="no sample can match"):
        model().write(regex="[0-9]+")


# -- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("texts", [LONG, SHORT])
def test_prompts_lengths_and_streams(texts: list[str], tokens: str) -> None:
    """Text i is the same in any company, a stream's pieces are the text, and a longer length goes on."""
    one = model(texts, tokens=tokens)
    stream = one.codecs["x"].stream
    prompts = ["", "the ", "the quick brown fox jumps over the lazy dogs" if stream else "two €", "the "]
    out = one.write(prompts, 2, length=40 if stream else None, seed=5)
    assert len(out) == 8
    assert all(text.startswith(prompts[i // 2]) for i, text in enumerate(out))
    assert out[2] != out[3]
    for i in (0, 5):
        pieces = list(one.stream(prompts[i // 2], index=i, length=40 if stream else None, seed=5))
        assert "".join(pieces) == out[i]
        assert len(pieces) > (4 if stream else 1)
    longer = one.write(prompts, 2, length=60 if stream else 16, seed=5)
    assert all(a.rstrip("\ufffd").startswith(b.rstrip("\ufffd")) for a, b in zip(longer, out, strict=True))
    if stream and tokens == "characters":
        assert [len(text) - len(prompts[i // 2]) for i, text in enumerate(out)] == [40] * 8
        assert len(one.write(length=400)[0]) == 400
        assert len(one.write("the ")[0]) == 16


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("texts", [LONG, SHORT])
def test_stop_texts(texts: list[str], tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text before the first of them, with no more work than that, in a stream too."""
    one = model(texts, tokens=tokens)
    length = 120 if one.codecs["x"].stream else None
    whole = one.write("e" * 3, 12, length=length)
    stops = ["e", "a"] if tokens == "characters" else ["e", "aé", "V", "\x1a"]
    calls: list[int] = []
    true = Autoregressive.logits
    monkeypatch.setattr(Autoregressive, "logits", lambda self, x, *a, **o: calls.append(1) or true(self, x, *a, **o))
    found = one.write("e" * 3, 12, length=length, stop=stops)
    for a, b in zip(whole, found, strict=True):
        ends = [a.find(stop, 3) for stop in stops if a.find(stop, 3) >= 0]
        assert b == (a[: min(ends)] if ends else a)
    assert found != whole
    assert "".join(one.stream("e" * 3, index=4, length=length, stop=stops)) == found[4]
    calls.clear()
    assert one.write("the ", 3, length=length, stop=list(map(chr, range(33, 127)))) != []
    assert len(calls) < 16


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("texts", [LONG, SHORT])
def test_patterns(texts: list[str], tokens: str) -> None:
    one = model(texts, tokens=tokens)
    for pattern in ("[a-f]{2,5}\\.?" if texts is LONG else "[a-f]{2,5}", "(one|two|the) (on|x){1,2}n"):
        out = one.write("four", 12, length=12, regex=pattern)
        news = [text.removeprefix("four") for text in out]
        matched = [re.fullmatch(pattern, new) is not None for new in news]
        assert all(matched), news
        assert len(set(news)) > 1
        assert "".join(one.stream("four", index=3, length=12, regex=pattern)) == out[3]
    assert one.write("four", 3, regex="the") == ["fourthe"] * 3
    assert set(one.write("", 3, regex="[éß]")) <= {"é", "ß"}
    for new in one.write("", 6, length=12, regex=".*kite.*" if tokens != "characters" else ".*nt.*"):
        assert re.fullmatch(".*(kite|nt).*", new), new
    with pytest.raises(UsageError, match="symbols, but only 3 can be written"):
        one.write("", 2, length=3, regex="e{9,}" if tokens == "characters" else "o{40,}")
    with pytest.raises(UsageError, match="together"):
        one.write("", 2, regex="the", stop=["e"])
    never = torch.zeros(one.family.space.vocab_size, dtype=torch.bool)
    with pytest.warns(QuintetWarning, match="2 of 2 texts do not match"):
        one.write("", 2, regex="the", constraint=lambda x, start: never.expand(len(x), -1))


@pytest.mark.parametrize("texts", [LONG, SHORT])
def test_what_training_never_had_is_not_drawn(texts: list[str]) -> None:
    """Random weights give the symbol of unknown characters its share; samples must not hold it, scores may."""
    one = model(texts, block=16)
    family, codec = one.family, one.codecs["x"]
    assert (codec.encode(["zZ" * 8]) == 0).any()
    drawn = one.write("", 40) + one.sample(40) + [best.item for best in one.n_best(3, sampling={"beams": 6})[0]]
    drawn += one.complete([f"a{HOLE}{HOLE}b"] * 20) + model(texts, "masked_diffusion").sample(40)
    assert "\ufffd" not in "".join(drawn)
    assert torch.isfinite(family.log_prob(codec.encode(["Z" * 8 + texts[0][:8]]))).all()
    assert one.complete(["Zo"], sampling={"temperature": 0})[0].startswith("Zo")
    bits = TextCodec("continuous", TextCodec.Settings(block=16)).fit(texts)
    assert "\ufffd" not in "".join(
        bits.decode(torch.randn(50, *bits.space.shape)) + bits.decode(-torch.ones(1, *bits.space.shape))
    )


def test_characters_of_a_prompt_that_training_lacks_are_said() -> None:
    one = model(SHORT, block=16)
    with pytest.warns(QuintetWarning, match="2 characters of the prompts did not occur in training"):
        one.write(["Z", "one Z"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.write(["one "])


def test_a_prompt_that_ends_in_a_blank_has_one() -> None:
    """The first symbol of a byte-pair model with random weights is one that begins with the blank of the prompt."""
    one = model(tokens="bpe")
    assert any(piece.startswith(b" ") and len(piece) > 1 for piece in one.codecs["x"].vocabulary.pieces())
    prompts = ["the quick ", "the quick", "the "]
    out = one.write(prompts, 8, length=6, seed=3)
    assert all(text.startswith(prompts[i // 8]) for i, text in enumerate(out))
    new = one.codecs["x"].vocabulary
    rows = [new.encode(text) for text in out[:8]]
    assert rows[0][0] == new.encode("the quick ")[0]
    assert one.write(prompts, 8, length=6, seed=3)[9] == out[9]
    assert "".join(one.stream("the quick ", index=2, length=6, seed=3)) == out[2]
    matching = one.write(["the quick ", "the quick"], 4, length=9, regex="[a-z]{3,6}")
    assert all(re.fullmatch("the quick ?[a-z]{3,6}", text) for text in matching)
    assert all(text.startswith("the quick ") for text in matching[:4])


def test_stop_texts_as_they_are_typed() -> None:
    from quintet.operations.requests import SampleRequest
    from quintet.operations.sampling import stops

    assert stops(SampleRequest(run="r", stop=(r"\n\n", r"a\tb\\n\d"))) == ["\n\n", "a\tb\\n\\d"]


def test_n_best_is_of_the_models_own_likelihood() -> None:
    one = model(SHORT)
    (found,) = one.n_best(5, sampling={"beams": 8})
    assert len(found) == 5
    assert [best.score for best in found] == sorted((best.score for best in found), reverse=True)
    for best in found:
        x = one.codecs["x"].encode([best.item])
        length = min(len(best.item) + 1, 16)
        log_p = float(one.family.log_prob(x))
        assert best.log_prob == pytest.approx(log_p, abs=1e-8)
        assert best.score == pytest.approx(log_p / ((5 + length) / 6) ** 0.6, abs=1e-8)
    assert one.write(sampling={"beams": 8}) == [one.n_best(1, sampling={"beams": 8})[0][0].item]
    assert all(best.item in ("one", "two") for best in one.n_best(4, regex="one|two")[0])
    assert len(one.n_best(4, regex="one|two")[0]) == 2


def test_refusals() -> None:
    with pytest.raises(Unsupported, match="masked_diffusion model does not write its items symbol by symbol"):
        model(family="masked_diffusion").write(regex="a")
    with pytest.raises(UsageError, match="at most 16 symbols"):
        model(SHORT).write(length=17)
    with pytest.raises(DataError, match="the text has 17 symbols, but the model takes at most 16"):
        model(SHORT).write(["a" * 17])
    for wrong in ({"stop": "a"}, {"stop": [""]}, {"length": 0}):
        with pytest.raises(UsageError):
            model().write(**wrong)
    with pytest.raises(UsageError, match="beam search"):
        list(model().stream(sampling={"beams": 2}))


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`long`: windows of one text; `short`: lines."""
    root = tmp_path_factory.mktemp("texts")
    (root / "long.txt").write_text(LONG[0] * 4)
    (root / "short.txt").write_text("\n".join(SHORT))
    tiny = ["--preset", "tiny", "--steps", "3", "--coding.block", "16", "--runs", str(root)]
    for name, *more in (("long", "--coding.items", "stream"), ("short", "--data.unit", "line")):
        words = ["train", "autoregressive", "--data", str(root / f"{name}.txt"), *tiny, *more, "--run", name]
        assert cli.main(words) == 0
    return root


@pytest.fixture
def call(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUINTET_RUNS", str(runs))

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def test_the_command_makes_texts(call: Callable) -> None:
    code, out, _ = call("sample", "long", "--prompt", "the fox", "--length", 100, "--json", "-n", 3, "-o", "a.jsonl")
    assert (code, out.count("\n")) == (0, 1)
    assert json.loads(out)["n"] == 3
    texts = [json.loads(line)["text"] for line in Path("a.jsonl").read_text().splitlines()]
    assert [len(text) for text in texts] == [107] * 3
    code, out, err = call(
        "sample", "long", "--prompt", "the fox", "--length", 100, "--stream", "--json", "-o", "b.jsonl"
    )
    assert (code, out.count("\n")) == (0, 1)
    assert texts[0] in err
    code, out, err = call("sample", "long", "--prompt", "the fox", "--length", 100, "--stream", "-o", "b.jsonl")
    assert out.startswith(texts[0] + "\n")
    assert json.loads(Path("b.jsonl").read_text())["text"] == texts[0]
    assert call("sample", "long", "--stop", "e", "--stop", "o", "-n", 9, "-o", "c.jsonl")[0] == 0
    assert not re.search("[eo]", "".join(json.loads(line)["text"] for line in Path("c.jsonl").read_text().splitlines()))
    assert call("sample", "long", "--regex", "(the|dog)\\.", "-n", 9, "-o", "d.txt")[0] == 0
    assert set(Path("d.txt").read_text().split()) <= {"the.", "dog."}
    assert call("sample", "short", "--prompt", f"one {HOLE}nd", "-n", 2, "-o", "e.txt")[0] == 0


def test_the_command_writes_a_table_of_the_likeliest(call: Callable) -> None:
    code, out, _ = call("sample", "short", "--n-best", 3, "--json", "--sampling.beams", 6)
    assert code == 0
    rows = list(csv.DictReader(Path("short-best.csv").read_text().splitlines()))
    assert list(rows[0]) == ["item", "rank", "log_prob", "score", "text"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert json.loads(out)["output"] == "short-best.csv"


def test_the_command_refuses(call: Callable) -> None:
    assert call("sample", "short", "--length", 100)[0] == 2
    assert call("sample", "long", "--regex", "(")[0] == 2
    assert call("sample", "long", "--regex", "[0-9]+")[0] == 3
    assert call("sample", "long", "--n-best", 0)[0] == 2
    assert call("sample", "long", "--n-best", 2, "--stream")[0] == 2
