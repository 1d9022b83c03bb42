"""What a run is for, and the figures that say how well it does that: labels and texts that belong to what is given."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from quintet.codecs.text import TextCodec
from quintet.core.errors import EnvironmentFault, QuintetWarning
from quintet.core.likelihood import LogProb
from quintet.core.spaces import Discrete
from quintet.data.sources import Dataset, take
from quintet.evaluation.labels import label_figures
from quintet.evaluation.texts import language_figures, text_figures, translation_figures
from quintet.model import Model
from quintet.nets.context import is_sequence
from quintet.session import items_of

Task = Literal["label", "text", "samples"]
SHOWN = 8
"""Rows of a report that show what was asked for beside what came."""


def task(model: Model) -> Task:
    """ "label": one categorical column given something; "text": separate texts given a sequence; else "samples"."""
    codec, given = model.codecs["x"], model.codecs.get("cond")
    if given is None:
        return "samples"
    if model.labels is not None:
        return "label"
    return "text" if isinstance(codec, TextCodec) and not codec.stream and is_sequence(given.space) else "samples"


def measure(
    model: Model,
    dataset: Dataset,
    split: str,
    *,
    limit: int,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The figures of a run whose task is "label" or "text": {"task", "split", "metrics", "likelihood", ...}.

    Labels are measured on the whole split; texts on its first `limit` items, made with the run's own sampling settings
    at temperature 0, or as `sampling` says. `shown`: some of both, as a report's rows.
    """
    items, given = items_of(model.config, dataset, split)
    head = {"task": task(model), "split": split, "parameters": sum(p.numel() for p in model.family.parameters())}
    if head["task"] == "label":
        return head | labels_of(model, items, given)
    some = np.arange(min(limit, len(items)))
    return head | texts_of(model, take(items, some), take(given, some), seed, sampling)


def labels_of(model: Model, items: Any, given: Any) -> dict[str, Any]:
    """Accuracy, log-loss and calibration; the likelihood is that of the labels."""
    codec, names = model.codecs["x"], list(model.labels or ())
    began = time.perf_counter()
    found = model.classify(given)
    spent = time.perf_counter() - began
    own = items.column(0).to_pylist()
    p, y = probabilities(found), np.array([names.index(label) for label in own])
    score = LogProb(torch.from_numpy(np.log(p[np.arange(len(y)), y])), "exact", codec.measure, codec.dims)
    best = found["predicted"].to_pylist()
    rows = [[*shown(given, i), own[i], best[i], f"{p[i].max():.2f}"] for i in range(min(SHOWN, len(y)))]
    columns = [*(["given"] if shown(given, 0) else []), "label", "predicted", "probability"]
    return {
        "ms_per_sample": 1000 * spent / len(y),
        "metrics": label_figures(p, y),
        "likelihood": score.summary(),
        "shown": {"kind": "rows", "columns": columns, "rows": rows},
    }


def probabilities(found: pa.Table) -> np.ndarray:
    """(N, labels) of what `Model.classify` gives."""
    return np.stack([found[name].to_numpy() for name in found.column_names if name.startswith("p_")], 1)


def texts_of(
    model: Model, items: list[str], given: Any, seed: int, sampling: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Errors and, of translations, BLEU and chrF where sacrebleu is there; the likelihood is that of the references."""
    codec = model.codecs["x"]
    assert isinstance(codec, TextCodec)
    chosen = {"temperature": 0.0} | dict(sampling or {}) if "temperature" in model.family.Sampling.model_fields else {}
    began = time.perf_counter()
    made = model.sample(len(items), condition=given, seed=seed, sampling=chosen)
    spent = time.perf_counter() - began
    metrics: dict[str, Any] = dict(text_figures(made, items))
    if model.codecs["cond"].modality == "text":
        try:
            metrics |= translation_figures(made, items)
        except EnvironmentFault as error:
            warnings.warn(f"without BLEU and chrF: {error}", QuintetWarning, stacklevel=2)
    out: dict[str, Any] = {
        "ms_per_sample": 1000 * spent / len(items),
        "metrics": metrics,
        "sampling": model.sampling(chosen).model_dump(mode="json"),
        "likelihood": None,
    }
    rows = [[*shown(given, i), items[i], made[i]] for i in range(min(SHOWN, len(items)))]
    out["shown"] = {
        "kind": "rows",
        "columns": [*(["given"] if shown(given, 0) else []), "wanted", "made"],
        "rows": rows,
    }
    if model.family.likelihood == "none":
        return out | {"likelihood_reason": model.family.missing["log_prob"]}
    score = model.log_prob(items, condition=given, seed=seed)
    return out | {"likelihood": score.summary()} | language(model, score, items)


def shown(given: Any, i: int) -> list[str]:
    """A given text as a cell of a report; nothing for what is no text."""
    return [given[i][:200]] if isinstance(given, list) and isinstance(given[i], str) else []


def language(model: Model, score: LogProb, items: Any) -> dict[str, Any]:
    """{"language": bits per character, byte and token, and perplexity} of a model of texts, else nothing."""
    codec = model.codecs["x"]
    if not isinstance(codec, TextCodec) or score.space not in ("mass", "dequantised"):
        return {}
    figures = language_figures(score.values.numpy(), **codec.extent(items))
    alphabet = codec.space.vocab_size if isinstance(codec.space, Discrete) else codec.size
    return {"language": {"kind": score.kind, "token": codec.settings.tokens, "vocab_size": alphabet, **figures}}
