"""Texts as a set: how varied they are, how far from held-out texts, and what a judge thinks of them: pure functions.

A text is a string; words are what white space parts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.metrics.estimates import Estimate, bootstrap, mean, with_errors

ORDER = 3
"""Characters of the n-grams whose entropy and divergence are measured."""
MOST_TEXTS, BLEU_TEXTS = 1000, 200
JUDGE_ORDER, JUDGE_LEARNS, JUDGED = 5, 500_000, 50_000
"""Characters of context and of each, at most."""
START = "\0"


def ngrams(symbols: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """The len(symbols) - n + 1 runs of n symbols, in their order."""
    return list(zip(*(symbols[i:] for i in range(n)), strict=False))


# -- variety ---------------------------------------------------------------------------------------------------------


def distinct_n(texts: Sequence[str], n: int = 2, *, seed: int = 0) -> Estimate:
    """distinct-n: different n-grams of words over all n-grams of words (Li et al. 2016, arXiv:1510.03055).

    Falls with the amount of text, so compare equal numbers of texts of equal lengths only. Error: bootstrap of texts.
    """
    each = np.empty(len(texts), object)
    each[:] = [ngrams(text.split(), n) for text in texts]

    def share(parts: Iterable[list[tuple[Hashable, ...]]]) -> float:
        every = [gram for part in parts for gram in part]
        return len(set(every)) / max(1, len(every))

    return bootstrap(share, each, seed=seed)


def self_bleu(texts: Sequence[str], order: int = 4) -> Estimate:
    """Mean BLEU of each text against all others (Zhu et al. 2018, arXiv:1802.01886), 0 to 1: 1 if they all agree.

    BLEU (Papineni et al. 2002) of words: brevity exp(min(0, 1 - r / c)) times the geometric mean of the precisions up
    to `order`, or to the text's own length; the k-th precision that is zero counts as 1 / (2^k n-grams) (Chen & Cherry
    2014, as in sacrebleu). Falls as texts become fewer. The error holds the others fixed.
    """
    words = [text.split() for text in texts]
    counts = [[Counter(ngrams(each, n)) for n in range(1, order + 1)] for each in words]
    # The most that any other text has of an n-gram: the best and the second best of all texts know it for each.
    first: dict[tuple[Hashable, ...], int] = {}
    second: dict[tuple[Hashable, ...], int] = {}
    for grams in counts:
        for counter in grams:
            for gram, count in counter.items():
                best = first.get(gram, 0)
                second[gram] = max(second.get(gram, 0), min(count, best))
                first[gram] = max(best, count)
    lengths = np.array([len(each) for each in words])
    scores = []
    for i, (each, grams) in enumerate(zip(words, counts, strict=True)):
        if not each or len(texts) < 2:
            scores.append(0.0)
            continue
        logs, zeros = [], 0
        for counter in grams[: len(each)]:
            total = sum(counter.values())
            # Of this text's own count, the others' best is the second best where it is the first.
            hits = sum(min(c, second[g] if first[g] == c else first[g]) for g, c in counter.items())
            zeros += hits == 0
            logs.append(math.log(hits / total if hits else 1 / (2**zeros * total)))
        others = np.delete(lengths, i)
        nearest = int(others[np.lexsort([others, np.abs(others - len(each))])[0]])
        scores.append(math.exp(min(0.0, 1 - nearest / len(each)) + sum(logs) / len(logs)))
    return mean(np.array(scores))


# -- n-grams of characters -------------------------------------------------------------------------------------------


def ngram_entropy(texts: Sequence[str], n: int = ORDER) -> Estimate:
    """-sum_g p(g) log2 p(g), bits, of the n-grams of characters of all texts (Zhang et al. 2018, arXiv:1809.05972).

    The error is that of a ratio of means over texts: -sum_g c(g) log2 p(g) of a text over its number of n-grams.
    """
    each = _counts(texts, n)
    pooled = _pool(each)
    total = sum(pooled.values())
    bits = {gram: -math.log2(count / total) for gram, count in pooled.items()}
    return _ratio([(sum(c * bits[g] for g, c in part.items()), sum(part.values())) for part in each])


def ngram_divergence(real: Sequence[str], fake: Sequence[str], n: int = ORDER) -> Estimate:
    """Jensen-Shannon divergence of the n-grams of characters of two sets of texts, in bits: 0 for equal, at most 1.

    1/2 KL(p | m) + 1/2 KL(q | m), m = (p + q) / 2 (Lin 1991). Biased upwards where texts are few: compare at equal
    amounts. Error: first order, each side's the spread over its texts of 1/2 sum_g c(g) log2 p(g) / m(g).
    """
    sides = [_counts(real, n), _counts(fake, n)]
    pooled = [_pool(each) for each in sides]
    totals = [sum(p.values()) for p in pooled]
    p = [{g: c / total for g, c in part.items()} for part, total in zip(pooled, totals, strict=True)]
    found = []
    for each, own, other in zip(sides, p, p[::-1], strict=True):
        bits = {g: math.log2(2 * share / (share + other.get(g, 0.0))) / 2 for g, share in own.items()}
        found.append(_ratio([(sum(c * bits[g] for g, c in part.items()), sum(part.values())) for part in each]))
    return Estimate(found[0].value + found[1].value, math.hypot(found[0].stderr, found[1].stderr))


def _counts(texts: Sequence[str], n: int) -> list[Counter[str]]:
    each = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in texts]
    if not any(each):
        raise DataError(f"no text has the {n} characters that the measurement needs")
    return each


def _pool(each: Iterable[Counter[str]]) -> Counter[str]:
    out: Counter[str] = Counter()
    for part in each:
        out.update(part)
    return out


def _ratio(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """sum a / sum b of independent pairs (a, b), and its error to the first order."""
    a, b = np.array(pairs, float).T
    value = a.sum() / b.sum()
    return Estimate(float(value), float((a - value * b).std() / (math.sqrt(len(a)) * b.mean())))


# -- the judge -------------------------------------------------------------------------------------------------------


def shuffled(texts: Sequence[str]) -> list[str]:
    """The texts in a random order, always the same: so their beginning is no sorted part of them."""
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts)).tolist()]


class Judge:
    """A smoothed n-gram model of characters, fitted on texts that a generator never saw.

    p(c | h) = (N(hc) + T(h) p(c | h')) / (N(h) + T(h))    (Witten & Bell 1991)

    with T(h) the number of different characters that follow h, and h' = h without its first character; below the empty
    context every character known, and an unknown one, are equally likely. Deterministic.
    """

    def __init__(self, texts: Sequence[str], order: int = JUDGE_ORDER) -> None:
        self.order = order
        self.follow: dict[str, Counter[str]] = defaultdict(Counter)
        left = JUDGE_LEARNS
        for text in shuffled(texts):
            padded = START * order + text[:left]
            for i in range(order, len(padded)):
                for start in range(i - order, i + 1):
                    self.follow[padded[start:i]][padded[i]] += 1
            left -= len(text)
            if left <= 0:
                break
        self.alphabet = len(self.follow[""]) + 1
        self.totals = {context: sum(after.values()) for context, after in self.follow.items()}

    def probability(self, character: str, context: str) -> float:
        """p(character | the last `order` characters of context)."""
        p = 1 / self.alphabet
        for start in range(len(context), max(0, len(context) - self.order) - 1, -1):
            after = self.follow.get(context[start:])
            if after is None:
                break
            p = (after[character] + len(after) * p) / (self.totals[context[start:]] + len(after))
        return p

    def bits(self, texts: Sequence[str]) -> Estimate:
        """Bits per character of at most JUDGED characters, of texts in a random order. Error: of a ratio of means."""
        pairs, left = [], JUDGED
        for text in shuffled(texts):
            padded = START * self.order + text[: max(left, 0)]
            places = range(self.order, len(padded))
            if places:
                logs = (math.log2(self.probability(padded[i], padded[i - self.order : i])) for i in places)
                pairs.append((-sum(logs), float(len(places))))
            left -= len(text)
        if not pairs:
            raise DataError("there is no text to judge, or all texts are empty")
        return _ratio(pairs)


def corpus_figures(
    heldout: Sequence[str], fake: Sequence[str], most: int = MOST_TEXTS, seed: int = 0
) -> dict[str, float]:
    """All of these figures for at most `most` texts `fake` and as many held-out ones, both drawn by `seed`."""
    n = min(len(heldout), len(fake), most, MOST_TEXTS)
    drawn = ([side[i] for i in some(side, n, seed)] for side in (heldout, fake))
    real, made = ([text for text in side if text] for side in drawn)
    return with_errors(
        {
            "distinct": distinct_n(made, seed=seed),
            "self_bleu": self_bleu([made[i] for i in some(made, BLEU_TEXTS, seed)]),
            "ngram_entropy": ngram_entropy(made),
            "ngram_divergence": ngram_divergence(real, made),
            "judge_bits": Judge(heldout).bits(made),
        }
    )
