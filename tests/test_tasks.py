"""Labels and texts that belong to what is given: their figures by hand, probabilities that are 1, the verbs."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sklearn.metrics
import torch
from conftest import randomise

import quintet
from quintet.cli import main as cli
from quintet.core.errors import DataError, EnvironmentFault, Unsupported
from quintet.core.family import Batch
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.families.autoregressive import Autoregressive
from quintet.metrics import texts
from quintet.metrics.labels import calibration_error, label_figures, label_values, log_loss, wilson
from quintet.metrics.texts import error_rate, language_figures, text_figures, translation_figures
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.text.codec import TextCodec
from quintet.nets.conditioning import hidden, moved
from quintet.runs.folder import Run
from quintet.runs.restoring import codecs_of
from quintet.sources import load as sources

# -- figures of labels -----------------------------------------------------------------------------------------------


def test_wilson_interval_is_the_textbooks() -> None:
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)  # statsmodels' proportion_confint
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1


def test_wilson_interval_holds_the_truth_as_often_as_it_says() -> None:
    hits = np.random.default_rng(0).binomial(200, 0.93, 20_000)
    ends = np.array([wilson(k, 200) for k in range(201)])[hits]
    assert 0.94 < ((ends[:, 0] <= 0.93) & (ends[:, 1] >= 0.93)).mean() < 0.97


def drawn(n: int, kinds: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that are drawn by them: calibrated."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(kinds), n)
    return p, (rng.random(n)[:, None] > p.cumsum(1)).sum(1)


def test_log_loss_and_accuracy_are_sklearns() -> None:
    p, y = drawn(500)
    found = label_figures(p, y)
    assert log_loss(p, y).value == found["log_loss"] == pytest.approx(sklearn.metrics.log_loss(y, p))
    assert found["accuracy"] == sklearn.metrics.accuracy_score(y, p.argmax(1))
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    values = label_values(np.vstack([p, p[:1]]), np.append(y, 4))  # the last has a label that none of the 4 is
    assert np.mean(values["log_loss"][:-1]) == pytest.approx(found["log_loss"])  # type: ignore[arg-type]
    assert (values["log_loss"][-1], values["accuracy"][-1]) == (None, 0.0)


def test_calibration_error_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.62, 0.38], [0.62, 0.38]])
    assert calibration_error(p, np.array([0, 0, 1])) == pytest.approx((0.1 + 2 * 0.12) / 3)


def test_calibration_error_tells_honest_from_bold() -> None:
    p, y = drawn(20_000)
    assert calibration_error(p, y) < 0.02
    bold = p**3 / (p**3).sum(1, keepdims=True)
    assert calibration_error(bold, y) > 0.1


# -- figures of texts ------------------------------------------------------------------------------------------------


def distance(a: str, b: str) -> int:
    """Levenshtein's recursion as it is written."""

    @functools.cache
    def d(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


def check_edits() -> None:
    words = ["".join(word) for n in range(5) for word in itertools.product("ab", repeat=n)] + ["kitten", "sitting"]
    pairs = [(a, b) for a in words for b in words if b]
    assert all(error_rate([a], [b]) == distance(a, b) / len(b) for a, b in pairs)
    assert all(error_rate([list(a)], [list(b)]) == distance(a, b) / len(b) for a, b in pairs)


def test_an_error_rate_counts_the_edits_of_the_recursion() -> None:
    assert error_rate(["kitten"], ["sitting"]) == 3 / 7
    assert error_rate([["one", "two"]], [["two"]]) == 1
    check_edits()


def test_the_check_of_edits_notices_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_position(a: str, b: str) -> int:
        return sum(x != y for x, y in itertools.zip_longest(a, b))

    monkeypatch.setattr(texts.Levenshtein, "distance", by_position)
    with pytest.raises(AssertionError):
        check_edits()


def test_error_rates_by_hand() -> None:
    found = text_figures(["a cat", "dog", "x"], ["a bat", "dog", "a b"])
    assert found["character_error_rate"] == pytest.approx((1 + 0 + 3) / 11)
    assert found["word_error_rate"] == pytest.approx((1 + 0 + 2) / 5)
    assert found["exact_match"] == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="empty"):
        error_rate(["a"], [""])


def test_bleu_by_hand() -> None:
    pytest.importorskip("sacrebleu")
    found, _ = translation_figures(["the cat sat on mat"], ["the cat sat on the mat"])
    precisions = (5 / 5) * (3 / 4) * (2 / 3) * (1 / 2)
    assert found["bleu"] == pytest.approx(100 * math.exp(1 - 6 / 5) * precisions**0.25)
    assert "tok:13a" in str(found["bleu_signature"])
    assert "version:" in str(found["chrf_signature"])
    assert translation_figures(["same text"], ["same text"])[0]["chrf"] == pytest.approx(100)


def test_values_of_single_texts_are_those_of_the_jackknife() -> None:
    """The mean of a score's values is the score, they say what it is without each text, and their spread its error."""
    scores = pytest.importorskip("sacrebleu")
    rng = np.random.default_rng(0)
    words = np.array(["the", "a", "cat", "dog", "sat", "lay", "on", "under", "one", "mat", "rug", "and", "slept"])
    wanted = [" ".join(rng.choice(words, 8)) for _ in range(200)]
    made = [" ".join(np.where(rng.random(8) < 0.3, rng.choice(words, 8), text.split())) for text in wanted]
    found, each = translation_figures(made, wanted)
    few, values = translation_figures(made[:20], wanted[:20])
    for name, metric in (("bleu", scores.BLEU()), ("chrf", scores.CHRF())):
        assert found[name] == pytest.approx(metric.corpus_score(made, [wanted]).score)
        assert np.mean(each[name]) == pytest.approx(found[name], abs=1e-5)
        without = [metric.corpus_score(made[:i] + made[i + 1 : 20], [wanted[:i] + wanted[i + 1 : 20]]).score
                   for i in range(20)]  # fmt: skip
        assert values[name] == pytest.approx(few[name] + 19 * (np.mean(without) - np.array(without)), abs=1e-5)
        draws = rng.integers(0, 200, (100, 200))
        again = [metric.corpus_score([made[i] for i in d], [[wanted[i] for i in d]]).score for d in draws]
        assert found[f"{name}_stderr"] == pytest.approx(np.std(again), rel=0.25)


def test_without_sacrebleu_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(EnvironmentFault, match="sacrebleu"):
        translation_figures(["a"], ["a"])


TEXTS = ["früh am Tag", "ja", "", "ein längerer Satz"] * 10


@pytest.mark.parametrize("items", ["stream", "separate"])
@pytest.mark.parametrize("tokens", ["characters", "bytes", "bpe"])
def test_extent_counts_what_is_scored(tokens: str, items: str) -> None:
    if tokens == "bpe":
        pytest.importorskip("tokenizers")
    codec = TextCodec(None, TextCodec.Settings(tokens=tokens, items=items, block=18 if items == "stream" else 40,
                                               vocab_size=260)).fit(TEXTS)  # fmt: skip
    found, x = codec.extent(TEXTS), codec.encode(TEXTS)
    whole = "".join(TEXTS)
    if items == "separate":
        assert found["characters"] == len(whole)
        assert found["bytes"] == len(whole.encode())
        assert found["tokens"] == int((x != codec.end).sum()) + len(TEXTS)
    else:
        assert found["tokens"] == x.numel()
        left = len(whole.encode()) - found["bytes"]
        assert -2 <= left < 18 * 4  # the last window may end within a character
        assert found["characters"] == len(codec.vocabulary.decode(x.flatten().tolist()))


def test_bits_of_a_uniform_model() -> None:
    """V symbols of equal probability: perplexity V, and log2 V bits a token, spread over what a token holds."""
    codec = TextCodec(None, TextCodec.Settings(tokens="bytes", items="separate", block=40)).fit(TEXTS)
    extent = codec.extent(TEXTS)
    ends = [len(text.encode()) + 1 for text in TEXTS]
    nats = -np.array(ends) * math.log(257)
    found = language_figures(nats, **extent)
    assert found["perplexity"] == pytest.approx(257)
    assert found["bits_per_byte"] == pytest.approx(math.log2(257) * sum(ends) / len("".join(TEXTS).encode()))
    assert found["bits_per_character"] == pytest.approx(math.log2(257) * sum(ends) / len("".join(TEXTS)))


# -- the encoder -----------------------------------------------------------------------------------------------------

SOURCE = Discrete((6,), 5, pad=4)


def labeller(condition: Space = SOURCE, **settings: object) -> Autoregressive:
    chosen = Autoregressive.Settings(width=16, depth=2, heads=2, guidance_dropout=0.0, **settings)
    return randomise(Autoregressive(Discrete((1,), 3, (3,)), condition, chosen)).eval()


def source(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(0, 7, (n, 1), generator=generator)
    return torch.where(torch.arange(6) < lengths, torch.randint(0, 4, (n, 6), generator=generator), 4)


@pytest.mark.parametrize("pool", ["max", "mean", "attention"])
def test_a_label_does_not_depend_on_longer_neighbours(pool: str) -> None:
    family, cond = labeller(pool=pool, stem=(2, 3), ngrams=3), source(12)
    whole = family.log_probs(12, cond)
    assert (whole[0] - whole[1]).abs().max() > 1e-6
    for i in range(12):
        torch.testing.assert_close(family.log_probs(1, cond[i : i + 1])[0], whole[i], rtol=0, atol=1e-12)


def test_the_neighbours_test_notices_an_unmasked_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quintet.nets.conditioning.Pooled.forward", lambda self, h, seen: h.mean(1))
    with pytest.raises(AssertionError):
        test_a_label_does_not_depend_on_longer_neighbours("mean")


@pytest.mark.parametrize("condition", [SOURCE, Continuous((1, 8, 8)), Continuous((3, 9))])
def test_probabilities_of_symbols_are_those_of_log_prob(condition: Space) -> None:
    family = labeller(condition)
    cond = source(5) if condition is SOURCE else torch.randn(5, *condition.shape).double()
    p = family.log_probs(5, cond)
    torch.testing.assert_close(p.exp().sum(1), torch.ones(5).double())
    for k in range(3):
        torch.testing.assert_close(p[:, k], family.log_prob(torch.full((5, 1), k), cond))
    torch.testing.assert_close(p, super(Autoregressive, family).log_probs(5, cond))


def test_a_stem_by_hand() -> None:
    """A position and what its convolutions span, by a loop: an even one looks back once more than ahead."""
    family, x = labeller(stem=(1, 2, 5), positions="rotary", encoder_depth=0), source(6)
    assert family.conditioner is not None
    words = family.conditioner.encode.enter
    found, seen = words(x, family.tokens, None)
    assert isinstance(words.table, torch.nn.Embedding)
    for i, count in enumerate(seen.sum(1).tolist()):
        h = words.table(x[i, :count])
        for t in range(count):
            want = h[t]
            for span, layer in zip((1, 2, 5), words.stem, strict=True):
                inside = [(j, t + j - span // 2) for j in range(span) if 0 <= t + j - span // 2 < count]
                sums = torch.stack([layer.weight[..., j] @ h[at] for j, at in inside]).sum(0)
                want = want + torch.nn.functional.silu(sums + layer.bias)
            torch.testing.assert_close(found[i, t], want)


def test_a_bag_of_ngrams_by_hand() -> None:
    """What the runs of a text and its end add to what is pooled; nothing behind that does."""
    family, x = labeller(ngrams=3), source(6)
    assert family.conditioner is not None
    encode, found = family.conditioner.encode, family.given(x, 6).emb
    grams, encode.grams = encode.grams, None
    pooled = family.given(x, 6).emb
    assert found is not None
    assert pooled is not None
    for i, count in enumerate((x != 4).sum(1).add(1).clamp_max(6).tolist()):
        want = grams(x[i : i + 1, :count])[0].sum(0) / math.sqrt(count)
        torch.testing.assert_close(found[i] - pooled[i], want)


def test_every_parameter_of_a_labeller_learns() -> None:
    for condition in (SOURCE, Continuous((1, 8, 8))):
        family = labeller(condition, stem=(2, 5), ngrams=2, shift=1, hide=0.1, input_dropout=0.1).train()
        cond = source(8) if condition is SOURCE else torch.randn(8, 1, 8, 8).double()
        family.loss(Batch(torch.zeros(8, 1, dtype=torch.long), cond, Rows(0, 0, 8))).value.backward()
        unused = {name for name, p in family.named_parameters() if p.grad is None}
        assert unused <= {"conditioner.null", "tokens.weight"}


def test_moved_pictures_by_hand() -> None:
    x = torch.arange(2 * 25.0).view(2, 1, 5, 5)
    found = moved(x, 2, torch.Generator().manual_seed(3))
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    windows = [padded[..., i : i + 5, j : j + 5] for i in range(5) for j in range(5)]
    assert all(any(torch.equal(found[i], window[i]) for window in windows) for i in range(2))
    many = moved(torch.arange(9.0).expand(500, 1, 9), 2, torch.Generator().manual_seed(0))
    assert {int(value) for value in many[:, 0, 4]} == {2, 3, 4, 5, 6}


def test_hidden_positions() -> None:
    h = hidden(torch.ones(50, 40, 3), 0.3, True)
    gone = h == 0
    assert bool((gone.all(-1) == gone.any(-1)).all())
    assert abs(float(gone.double().mean()) - 0.3) < 0.03
    assert torch.equal(hidden(torch.ones(2, 3, 1), 0.3, False), torch.ones(2, 3, 1))


# -- runs ------------------------------------------------------------------------------------------------------------

KINDS = ["story", "list", None]


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of short texts with a label, which some lack."""
    rng = np.random.default_rng(0)
    kinds = [KINDS[i % 3] for i in range(120)]
    items = [f"{kind or 'none'} {' '.join(rng.choice(['a', 'bc', 'def'], 4))}" for kind in kinds]
    splits = dict(zip(sources.SPLITS, (np.arange(80), np.arange(80, 100), np.arange(100, 120)), strict=True))
    table = pa.table({"label": kinds})
    monkeypatch.setitem(
        sources.SOURCES, "kinds", lambda: sources.Dataset("kinds", "text", items, splits, table, source="kinds")
    )


SMALL = {"given": {"tokens": "characters"}, "model": {"width": 16, "heads": 2}}


def train(tmp_path: Path, **given: object) -> quintet.Model:
    chosen = {"data": "kinds", "target": "label", "condition": "text", "steps": 2, "config": SMALL, **given}
    return quintet.train("autoregressive", runs=tmp_path, **chosen)


def test_classify_gives_the_probability_of_each_label(notes: None, tmp_path: Path) -> None:
    model = train(tmp_path)
    assert set(model.labels or ()) == {"list", "story"}  # a blank is no label
    items = sources.load_source("kinds").rows("test")
    table = model.classify(items)
    names = [f"p_{label}" for label in model.labels or ()]
    assert table.column_names == ["predicted", *names]
    p = np.stack([table[name].to_numpy() for name in names], 1)
    assert np.allclose(p.sum(1), 1, atol=1e-6)
    for label in model.labels or ():
        own = model.log_prob(pa.table({"label": pa.array([label] * 20, pa.string())}), condition=items).values.exp()
        assert np.allclose(table[f"p_{label}"].to_numpy(), own.numpy(), atol=1e-6)
    assert table["predicted"].to_pylist() == [(model.labels or ())[k] for k in p.argmax(1)]
    again = model.classify(items, batch_size=3)
    assert np.allclose(again[names[0]].to_numpy(), p[:, 0], atol=1e-6)


def test_only_a_model_of_labels_classifies(tmp_path: Path) -> None:
    model = quintet.train("autoregressive", data="iris", steps=1, preset="tiny", runs=tmp_path)
    with pytest.raises(Unsupported, match="does not classify"):
        model.classify([1])


def test_evaluate_measures_labels(notes: None, tmp_path: Path) -> None:
    model = train(tmp_path, steps=60)
    found = model.evaluate()
    assert found["task"] == "label"
    assert found["metrics"]["accuracy"] > found["metrics"]["majority"]
    assert found["metrics"]["items"] == 13
    assert found["metrics"]["unlabelled"] == 7
    assert found["likelihood"]["nats"] == pytest.approx(-found["metrics"]["log_loss"])
    assert {"kind", "nats", "nats_per_dim", "bits_per_dim", "stderr"} <= set(found["likelihood"])
    page = (model.run.path / "report.html").read_text()
    assert "Accuracy" in page
    assert "Told from real data" not in page


def test_score_writes_probabilities(
    notes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "runs", run="kinds")
    assert cli.main(["score", "kinds", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    with Path(answer["output"]).open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["index", "label", "predicted"]
    assert list(rows[0])[-1] == "nats"
    assert len(rows) == answer["items"] == 20
    assert answer["labels"]["items"] == 13
    for row in rows:
        p = {name: float(value) for name, value in row.items() if name.startswith("p_")}
        assert sum(p.values()) == pytest.approx(1, abs=1e-6)
        if row["label"]:
            assert math.log(p[f"p_{row['label']}"]) == pytest.approx(float(row["nats"]), abs=1e-6)
        else:
            assert row["nats"] == ""
    Path("new.txt").write_text("story a bc\nlist def\n")
    assert cli.main(["score", "kinds", "--data", "new.txt", "-o", "new.csv"]) == 0
    with Path("new.csv").open() as file:
        assert [set(row) for row in csv.DictReader(file)] == [set(rows[0]) - {"label", "nats"}] * 2


def test_a_column_of_few_words_can_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recognition: the same column is a category by default, and text where the codec says so."""
    rng = np.random.default_rng(0)
    words = [("one", "two", "three")[i % 3] for i in range(60)]
    splits = dict(zip(sources.SPLITS, (np.arange(40), np.arange(40, 50), np.arange(50, 60)), strict=True))
    pictures = rng.integers(0, 255, (60, 8, 8, 1), dtype=np.uint8)
    made = sources.Dataset("pictures", "image", pictures, splits, pa.table({"word": words}), source="pictures")
    monkeypatch.setitem(sources.SOURCES, "pictures", lambda: made)
    given = {"data": "pictures", "target": "word", "condition": "image", "config": {}, "preset": "tiny"}
    assert train(tmp_path, **given).labels is not None
    model = train(tmp_path, **given, codec="text")
    found = model.evaluate(samples=10)
    assert found["task"] == "text"
    assert found["sampling"]["temperature"] == 0
    assert {"character_error_rate", "word_error_rate", "exact_match"} <= set(found["metrics"])
    made_texts = model.sample(10, condition=pictures[50:], sampling={"temperature": 0})
    assert found["metrics"]["character_error_rate"] == error_rate(made_texts, words[50:])
    assert found["language"]["tokens"] == sum(len(word) + 1 for word in words[50:])


def test_a_stream_has_bits_a_token_that_are_bits_a_dimension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["the quick brown fox jumps over the lazy dog. " * 200, "pack my box with five dozen liquor jugs. " * 40]
    splits = {"train": np.array([0]), "validation": np.array([1]), "test": np.array([1])}
    monkeypatch.setitem(sources.SOURCES, "foxes", lambda: sources.Dataset("foxes", "text", parts, splits))
    model = quintet.train("autoregressive", data="foxes", steps=2, preset="tiny", runs=tmp_path)
    found = model.evaluate(samples=20)
    language = found["language"]
    assert language["bits_per_token"] == pytest.approx(found["likelihood"]["bits_per_dim"])
    assert language["bits_per_character"] == language["bits_per_token"]
    assert language["perplexity"] == pytest.approx(2 ** language["bits_per_token"])


def test_recordings_are_conditions_one_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sounds = Recordings([0.1 * rng.standard_normal(800).astype(np.float32) for _ in range(40)], 8000)
    splits = dict(zip(sources.SPLITS, (np.arange(24), np.arange(24, 32), np.arange(32, 40)), strict=True))
    made = sources.Dataset("hums", "audio", sounds, splits, pa.table({"word": ["ah", "oh"] * 20}), source="hums")
    monkeypatch.setitem(sources.SOURCES, "hums", lambda: made)
    given = {"data": "hums", "target": "word", "condition": "audio", "config": {}, "preset": "tiny"}
    model = train(tmp_path, **given, codec="text")
    assert len(model.sample(8, condition=sounds[32:])) == 8
    assert model.evaluate(samples=8)["metrics"]["items"] == 8
    assert train(tmp_path, **given).evaluate()["task"] == "label"


def test_the_codec_of_a_condition_is_as_the_user_says_and_stays(tmp_path: Path) -> None:
    """A source text with several translations looks like categories; and three rows of many texts look like few."""
    rows = [(f"word {i // 3}", f"wort {i // 3} {i % 3}") for i in range(240)]
    path, few = tmp_path / "pairs.csv", tmp_path / "few.csv"
    for file, some in ((path, rows), (few, [*rows[:2], ("word never seen", "wort")])):
        file.write_text("english,german\n" + "".join(f"{a},{b}\n" for a, b in some))
    words = ["train", "autoregressive", "--data", str(path), "--target", "german", "--condition", "english"]
    words += ["--codec", "text", "--preset", "tiny", "--steps", "2", "--runs", str(tmp_path)]
    assert cli.main([*words, "--run", "guessed"]) == 0
    assert cli.main([*words, "--run", "said", "--given.codec", "text"]) == 0
    kinds = {name: codecs_of(Run(tmp_path / name))["cond"].name for name in ("guessed", "said")}
    assert kinds == {"guessed": "table", "said": "text"}
    assert Run(tmp_path / "said").config().given["codec"] == "text"
    out = tmp_path / "scores.csv"
    assert cli.main(["score", str(tmp_path / "said"), "--data", str(few), "-o", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 4
    assert cli.main([*words, "--run", "wrong", "--given.codec", "image"]) == 3
