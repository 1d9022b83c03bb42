"""Figures of sets of texts against definitions by hand, scipy and sacrebleu."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from quintet.core.errors import DataError
from quintet.modalities.text import figures as corpora
from quintet.modalities.text.figures import Judge

WORDS = ["the", "cat", "dog", "sat", "on", "a", "mat", "and", "ran", "far"]


def texts(n: int, seed: int = 0, words: int = 12) -> list[str]:
    """Words drawn by falling frequency; lengths differ."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, len(WORDS) + 1)
    return [" ".join(rng.choice(WORDS, rng.integers(1, words), p=p / p.sum())) for _ in range(n)]


def test_distinct_by_hand() -> None:
    assert corpora.distinct_n(["a b a b", "a b"], 1).value == pytest.approx(2 / 6)
    assert corpora.distinct_n(["a b a b", "a b"], 2).value == pytest.approx(2 / 4)
    assert corpora.distinct_n(["a", "b"], 2).value == 0  # no pair at all


def test_self_bleu_agrees_with_sacrebleu() -> None:
    bleu = pytest.importorskip("sacrebleu.metrics.bleu")
    metric = bleu.BLEU(tokenize="none", smooth_method="exp", effective_order=True)
    made = texts(40)
    direct = [
        metric.sentence_score(text, [other for j, other in enumerate(made) if j != i]).score / 100
        for i, text in enumerate(made)
    ]
    assert corpora.self_bleu(made).value == pytest.approx(np.mean(direct), abs=1e-9)
    assert corpora.self_bleu(["a b c d e"] * 3).value == pytest.approx(1)
    assert corpora.self_bleu(["a b", "c d", "e f"]).value < 0.5


def test_entropy_and_divergence_of_known_distributions() -> None:
    assert corpora.ngram_entropy(["abcd" * 50], 1).value == pytest.approx(2)
    assert corpora.ngram_divergence(["aab"], ["aab", "aab"], 1).value == pytest.approx(0)
    assert corpora.ngram_divergence(["ab"], ["cd"], 1).value == pytest.approx(1)
    left, right = texts(30, 1), texts(40, 2)
    counts = [Counter(text[i : i + 3] for text in side for i in range(len(text) - 2)) for side in (left, right)]
    grams = sorted(counts[0] | counts[1])
    known = jensenshannon(*([count[g] for g in grams] for count in counts), base=2) ** 2
    assert corpora.ngram_divergence(left, right).value == pytest.approx(known)
    with pytest.raises(DataError, match="3 characters"):
        corpora.ngram_entropy(["a", "b"])


@pytest.mark.parametrize("figure", ["entropy", "divergence", "judge"])
def test_the_standard_error_is_the_spread_of_repetitions(figure: str) -> None:
    judge, other = Judge(texts(200, 7)), [text.replace("cat", "dot") for text in texts(150, 8)]
    measure = {
        "entropy": corpora.ngram_entropy,
        "divergence": lambda made: corpora.ngram_divergence(other, made),
        "judge": judge.bits,
    }[figure]
    found = [measure(texts(100, 100 + seed)) for seed in range(60)]
    ratio = np.mean([f.stderr for f in found]) / np.std([f.value for f in found])
    assert 0.7 < ratio < 1.5  # of the divergence it includes the error of the other side


def test_the_judge_is_a_distribution_and_witten_and_bells() -> None:
    judge = Judge(["abab"], order=1)
    # After a: b twice, so N = 2 and T = 1; alone: a, b twice each, so N = 4 and T = 2; below: a, b, and unknown.
    of_b = (2 + 2 / 3) / (4 + 2)
    assert judge.probability("b", "a") == pytest.approx((2 + of_b) / (2 + 1))
    assert judge.probability("?", "a") == pytest.approx(1 / 3 * 2 / 6 * 1 / 3)
    larger = Judge(texts(50), order=4)
    every = [*larger.follow[""], "?"]
    for context in ("", "the", "cat sat ", "never seen", corpora.START * 4):
        assert sum(larger.probability(c, context) for c in every) == pytest.approx(1)
    bits = judge.bits(["ab"]).value
    first = (1 + (2 + 2 / 3) / 6) / 2  # a at the start
    assert bits == pytest.approx(-(math.log2(first) + math.log2(judge.probability("b", "a"))) / 2)


def test_the_judge_approaches_the_entropy_of_its_source() -> None:
    rng = np.random.default_rng(0)
    stream = "".join(rng.choice(list("abcd"), 40_000, p=[0.5, 0.25, 0.125, 0.125]))
    found = Judge([stream[:30_000]], order=2).bits([stream[i : i + 100] for i in range(30_000, 40_000, 100)])
    assert abs(found.value - 1.75) < 0.02 + 2 * found.stderr


def test_all_figures_of_a_set_of_texts() -> None:
    heldout, made = texts(80, 3), [*texts(50, 4), ""]
    found = corpora.corpus_figures(heldout, made)
    assert found == corpora.corpus_figures(heldout, made)
    assert {"distinct", "self_bleu", "ngram_entropy", "ngram_divergence", "judge_bits"} <= set(found)
    assert found["judge_bits_stderr"] > 0
