"""What a model's likelihoods say: of unseen items, of training items and samples beside them, of planted anomalies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from quintet.core.afford import affordable, fewer
from quintet.core.likelihood import LogProb
from quintet.core.random import some
from quintet.evaluation.tasks import language
from quintet.metrics.distances import likelihood_gap
from quintet.metrics.estimates import area, placements, with_errors
from quintet.metrics.memorisation import membership_by_likelihood
from quintet.model.fitted import Fitted
from quintet.registry import modality_of
from quintet.runs.task import Task
from quintet.sources.load import Dataset, take

SCORED, MEMBERS, STRETCH = 500, 200, 16
"""At most this many items of a split are scored; and of training items and samples. STRETCH: windows
of a long text that are read together."""


class Samples(NamedTuple):
    """Raw samples of a model, the table of labels that they were asked for by, if they were, and what they took."""

    raw: Any
    asked: pa.Table | None
    seconds: float

    @classmethod
    def of(cls, model: Fitted, n: int, seed: int, *, labelled: bool) -> Self:
        """n samples; `labelled`: a condition that they are given is a label."""
        cond = model.condition(None, n, seed) if "cond" in model.codecs else None
        began = time.perf_counter()
        raw = model.draw(n, seed=seed)
        spent = time.perf_counter() - began
        return cls(raw, model.codecs["cond"].decode(cond) if cond is not None and labelled else None, spent)

    @property
    def labels(self) -> np.ndarray | None:
        """(n,)"""
        return None if self.asked is None else np.asarray(self.asked.column(0).to_pylist())


def likelihood_figures(
    model: Fitted,
    dataset: Dataset,
    split: str,
    samples: Samples,
    *,
    seed: int = 0,
    limit: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The likelihood of the items of a split, item by item too, and the figures that follow from it.

    `limit`: seconds that this may take; of a slow model fewer items are scored, which `fewer_scored` then says.
    """
    stream, out, about = model.codecs["x"].stream, dict[str, Any](), ""
    items, given, places = items_scored(model, dataset, split)
    count = most = len(model.codecs["x"].log_det(items)) if stream else len(items)
    if limit is not None:
        length = sum(map(len, items)) / most if stream else 0.0

        def score_some(rows: int) -> None:
            if stream:  # one more, since symbols of several characters may fill a window less than the others
                few, condition = sampled_stretches("".join(items), rows + 1, length, seed)[0], given
            else:
                few, condition = drawn_items(items, given, rows, seed)
            scores(model, few, condition=condition, seed=seed)

        tell("trying how long scores take")
        # members, samples and anomalies cost twice as much
        count, wait = affordable(score_some, most, limit / 3)
        about = f", at most {3 * wait:.0f} s"
        if count < most:
            out["fewer_scored"] = fewer(count, most, "items were scored", limit)
            if stream:
                items, places = sampled_stretches("".join(items), count, length, seed)
            else:
                items, given, places = items_scored(model, dataset, split, count)
    tell(f"scoring {count:,} unseen items{about}")
    score = scores(model, items, condition=given, seed=seed, warned=True)
    beside = likelier(model, dataset, score, items, samples, seed)
    odd, placed = anomalies(model, score, items, given, seed)
    return out | {
        "measured": {"scored": len(score.values), "scored_wanted": most},
        "metrics": beside | odd,
        "scored": places,
        "item_figures": {"nats": score.values.tolist(), **placed},
        "likelihood": score.summary(),
        **language(model, score, items),
    }


def items_scored(model: Fitted, dataset: Dataset, split: str, count: int = SCORED) -> tuple[Any, Any, list[int]]:
    """Those items of a split that models are scored on, what they are given, and their places in the data; a long text
    is one item of many windows, without places.

    They are drawn before a model's codec leaves out what it cannot take: all models are scored on the same items, and
    a slow one on `count` of these.
    """
    task, stream = Task.of(model.config, dataset, model.codecs), model.codecs["x"].stream
    task = (task if stream else task.some(split, SCORED).some(split, count)).known()
    return *task.items(split), [] if stream else task.dataset.index(split).tolist()


def likelier(
    model: Fitted, dataset: Dataset, score: LogProb, items: Any, samples: Samples, seed: int
) -> dict[str, float]:
    """Whether training items are likelier than unseen ones, and for exact kinds whether samples are.

    Samples only where a codec keeps all of an item: else they would change on their way through it. Of both half as
    many as there are unseen items, to save time.
    """
    unseen, n = score.values.numpy(), max(2, min(MEMBERS, len(score.values) // 2))
    task, stream = Task.of(model.config, dataset, model.codecs), model.codecs["x"].stream
    train, given = (task if stream else task.some("train", n, seed)).items("train")
    if stream:
        train, _ = sampled_stretches("".join(train), n, sum(map(len, items)) / len(unseen), seed)
    seen = scores(model, train, condition=given, seed=seed).values.numpy()
    found = {"membership_by_likelihood": membership_by_likelihood(seen, unseen)}
    if score.kind == "exact" and score.space != "encoded" and ("cond" in model.codecs) == (samples.asked is not None):
        own, asked = drawn_items(samples.raw, samples.asked, n, seed)
        found["likelihood_gap"] = likelihood_gap(unseen, scores(model, own, condition=asked, seed=seed).values.numpy())
    return with_errors(found)


def anomalies(
    model: Fitted, score: LogProb, items: Any, given: Any, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """How often a real item is likelier than a planted anomaly, and the same for each of both, by which models are
    compared: anomalies are the same for all models and seeds. Not of a long text, which is one item.
    """
    if model.codecs["x"].stream or len(items) < 4:
        return {}, {}
    few, condition = drawn_items(items, given, MEMBERS, 0)
    real = score.values.numpy()
    odd = model.unwarned(modality_of(few).splice(few), condition=condition, seed=seed).values.numpy()
    return with_errors({"anomaly": area(real, odd)}), {"anomaly": [side.tolist() for side in placements(real, odd)]}


def sampled_stretches(text: str, windows: int, length: float, seed: int) -> tuple[list[str], list[int]]:
    """A piece of a long text that holds about so many windows of `length` characters, made of stretches of some windows
    each that are drawn by `seed`; and where these begin.
    """
    together = min(STRETCH, windows)
    size = together * math.ceil(length)
    starts = range(0, max(1, len(text) - size + 1), size)
    chosen = [starts[i] for i in some(starts, math.ceil(windows / together), seed).tolist()]
    return ["".join(text[start : start + size] for start in chosen)], chosen


def scores(model: Fitted, items: Any, *, condition: Any, seed: int, warned: bool = False) -> LogProb:
    """Of each item, but of a long text of each of its windows: one text alone has no spread. `warned`: with a warning
    of what is special about items.
    """
    whole = model.log_prob if warned else model.unwarned
    scored = model.log_prob_windows if model.codecs["x"].stream else whole
    return scored(items, condition=condition, seed=seed)


def drawn_items(items: Any, given: Any, count: int, seed: int) -> tuple[Any, Any]:
    """At most `count` of the items, drawn by `seed`, and what they are given."""
    index = some(items, count, seed)
    return take(items, index), None if given is None else take(given, index)
