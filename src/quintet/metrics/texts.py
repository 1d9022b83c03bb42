"""How near texts are to those that were asked for, and likelihoods of texts by what people count: pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from quintet.core.errors import DataError, EnvironmentFault
from quintet.metrics.estimates import mean
from quintet.metrics.labels import wilson


def error_rate(made: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]) -> float:
    """Edits from all of `made` to all of `wanted`, over the symbols of `wanted`: may exceed 1."""
    return error_rate_by_item(made, wanted)[0]


def error_rate_by_item(made: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]) -> tuple[float, np.ndarray]:
    """The `error_rate` r, and (N,) values of which it is the mean and whose spread is its own: of texts with e_i edits
    and length l_i, r + (e_i - r l_i) / mean(l), the first order of a ratio of two sums. An edit inserts, deletes or
    replaces one symbol (Levenshtein 1966).
    """
    edits = np.array([Levenshtein.distance(a, b) for a, b in zip(made, wanted, strict=True)])
    lengths = np.array([len(text) for text in wanted])
    if not lengths.sum():
        raise DataError("the reference texts are all empty, so there is no error rate")
    rate = int(edits.sum()) / int(lengths.sum())
    return rate, rate + (edits - rate * lengths) / lengths.mean()


def text_figures(made: Sequence[str], wanted: Sequence[str]) -> dict[str, float | int | str]:
    """The figures of `text_figures_by_item`, without the values of single texts."""
    return text_figures_by_item(made, wanted)[0]


def text_figures_by_item(
    made: Sequence[str], wanted: Sequence[str]
) -> tuple[dict[str, float | int | str], dict[str, list[float]]]:
    """Texts against one reference each: `character_error_rate`, `word_error_rate` (words are what white space parts),
    and `exact_match`, the share of texts that are the reference, with its 95 % interval. Also the values of each text,
    by which models are compared.
    """
    hits, n = sum(a == b for a, b in zip(made, wanted, strict=True)), len(wanted)
    low, high = wilson(hits, n)
    rates = {
        "character_error_rate": error_rate_by_item(made, wanted),
        "word_error_rate": error_rate_by_item([text.split() for text in made], [text.split() for text in wanted]),
    }
    figures: dict[str, float | int | str] = {}
    for key, (rate, values) in rates.items():
        figures |= {key: rate, f"{key}_stderr": float(values.std() / math.sqrt(n))}
    figures |= {
        "exact_match": hits / n,
        "exact_match_stderr": math.sqrt(hits * (n - hits) / n) / n,
        "exact_match_low": low,
        "exact_match_high": high,
        "items": n,
    }
    right = [float(a == b) for a, b in zip(made, wanted, strict=True)]
    return figures, {"exact_match": right} | {key: values.round(6).tolist() for key, (_, values) in rates.items()}


def translation_figures(
    made: Sequence[str], wanted: Sequence[str]
) -> tuple[dict[str, float | str], dict[str, list[float]]]:
    """Corpus BLEU (Papineni et al. 2002) and chrF (Popović 2015), 0 to 100, by sacrebleu (Post 2018, arXiv:1804.08771)
    with the signatures that say how, and the values of each text: see `jackknife`. Raises EnvironmentFault where it is
    not installed.
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
    each: dict[str, list[float]] = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        counts = np.array(metric._extract_corpus_statistics(list(made), [list(wanted)]))

        def score(total: np.ndarray, metric: Any = metric) -> float:
            return float(metric._aggregate_and_compute([total.tolist()]).score)

        out[name], values = jackknife(score, counts)
        out |= {f"{name}_stderr": mean(values).stderr, f"{name}_signature": str(metric.get_signature())}
        each[name] = values.round(6).tolist()
    return out, each


def jackknife(statistic: Callable[[np.ndarray], float], counts: np.ndarray) -> tuple[float, np.ndarray]:
    """A statistic of the sum over items of what is counted in each (N, counts), and (N,) values of which it is the mean
    and whose spread is its own: s + (N - 1) (mean of s_-j - s_-i), with s_-i that of all items but i (Tukey 1958).
    """
    total, n = counts.sum(0), len(counts)
    whole, without = statistic(total), np.array([statistic(total - row) for row in counts])
    return whole, whole + (n - 1) * (without.mean() - without)


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
