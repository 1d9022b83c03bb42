"""How near texts are to those that were asked for, and likelihoods of texts by what people count: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from quintet.core.errors import DataError, EnvironmentFault
from quintet.metrics.labels import wilson


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """The fewest insertions, deletions and substitutions from a to b (Levenshtein 1966).

    d_ij = min(d_{i-1,j} + 1, d_{i,j-1} + 1, d_{i-1,j-1} + [a_i != b_j]).
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def error_rate(made: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]) -> float:
    """Edits from all of `made` to all of `wanted`, over the symbols of `wanted`: may exceed 1."""
    total = sum(map(len, wanted))
    if not total:
        raise DataError("the texts that are wanted are empty")
    return sum(edit_distance(a, b) for a, b in zip(made, wanted, strict=True)) / total


def text_figures(made: Sequence[str], wanted: Sequence[str]) -> dict[str, float | int | str]:
    """Texts against one reference each: `character_error_rate`, `word_error_rate` (words are what white space parts),
    and `exact_match`, the share of texts that are the reference, with its 95 % interval.
    """
    hits, n = sum(a == b for a, b in zip(made, wanted, strict=True)), len(wanted)
    low, high = wilson(hits, n)
    return {
        "character_error_rate": error_rate(made, wanted),
        "word_error_rate": error_rate([text.split() for text in made], [text.split() for text in wanted]),
        "exact_match": hits / n,
        "exact_match_stderr": math.sqrt(hits * (n - hits) / n) / n,
        "exact_match_low": low,
        "exact_match_high": high,
        "items": n,
    }


def translation_figures(made: Sequence[str], wanted: Sequence[str]) -> dict[str, float | str]:
    """Corpus BLEU (Papineni et al. 2002) and chrF (Popović 2015), 0 to 100, by sacrebleu (Post 2018, arXiv:1804.08771)
    with the signatures that say how. Raises EnvironmentFault where it is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise EnvironmentFault(
            "BLEU and chrF need the package sacrebleu",
            why="it is not installed",
            fix='pip install "quintet[text]"',
        ) from None
    out: dict[str, float | str] = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        out[name] = float(metric.corpus_score(list(made), [list(wanted)]).score)
        out[f"{name}_signature"] = str(metric.get_signature())
    return out


def language_figures(nats: np.ndarray, *, tokens: int, characters: int, bytes: int) -> dict[str, float | int]:
    """log p of texts (N,), together, by the size of the texts: bits = -sum log p / log 2 over their characters, UTF-8
    bytes and tokens, and perplexity = exp(-sum log p / tokens). The end of a text is a token, but no character.
    """
    total = -float(np.sum(nats))
    return {
        "bits_per_character": total / math.log(2) / max(1, characters),
        "bits_per_byte": total / math.log(2) / max(1, bytes),
        "bits_per_token": total / math.log(2) / max(1, tokens),
        "perplexity": math.exp(min(total / max(1, tokens), 700.0)),
        "characters": characters,
        "bytes": bytes,
        "tokens": tokens,
    }
