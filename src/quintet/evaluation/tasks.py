"""What a run is for, and the figures that say how well it does that: labels and texts that belong to what is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from quintet import registry
from quintet.core.afford import affordable, fewer
from quintet.core.errors import DataError, warn
from quintet.core.likelihood import LogProb
from quintet.core.random import some
from quintet.metrics.labels import LEAST_PROBABILITY, label_figures, label_values
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.runs.task import Task
from quintet.sources.load import Dataset

ROWS_SHOWN = 8
"""Rows of a report that show what was asked for beside what came."""


def task(model: Fitted) -> str:
    """ "label": one categorical column given something; the kind of its items, as "text", where these are given a
    sequence and are right or wrong; else "samples".
    """
    codec, given = model.codecs["x"], model.codecs.get("cond")
    if given is None:
        return "samples"
    if model.labels is not None:
        return "label"
    kind = registry.MODALITIES[codec.modality]
    return kind.name if kind.marked(codec) and given.space.sequence else "samples"


def measure(
    model: Fitted,
    dataset: Dataset,
    split: str,
    *,
    limit: int,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
    allowed: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The figures of a run whose task is not "samples": {"task", "split", "metrics", "likelihood", ...}.

    Labels are measured on the whole split; made items on `limit` of its items, drawn by `seed`, with the run's own
    sampling settings at temperature 0, or as `sampling` says. Of a slow model fewer of either are measured, as many as
    there is time for in `allowed` seconds: `fewer_items` then says how many. `shown`: some of both, as a report's rows.
    """
    head: dict[str, Any] = {
        "task": task(model),
        "split": split,
        "parameters": sum(p.numel() for p in model.family.parameters()),
    }
    label = head["task"] == "label"
    whole = Task.of(model.config, dataset, model.codecs)
    whole = whole.known(targets=False) if label else whole.examples(split).known()
    items = whole.dataset.index(split)
    options = {} if label else made_with(model, sampling)
    most = len(items) if label else min(limit, len(items))
    count, about = most, ""
    if allowed is not None:
        tell("trying how long items take")
        count, wait = affordable(tried(model, whole, split, seed, options), most, allowed)
        about = f", at most {wait:.0f} s"
    head["measured"] = {"items": count, "items_wanted": most}
    if count < most:
        assert allowed is not None
        head["fewer_items"] = fewer(count, most, "items were measured", allowed)
    what = "labelling" if label else f"making the {registry.MODALITIES[head['task']].things} of"
    tell(f"{what} {count:,} items{about}")
    chosen = whole.some(split, most, seed).some(split, count, seed)  # some of those that others are measured on
    head["scored"] = places = chosen.dataset.index(split).tolist()
    items, given = chosen.items(split)
    if label:
        found = classification_figures(model, items, given)
        head["scored"] = [place for place, known in zip(places, found.pop("labelled"), strict=True) if known]
        return head | found
    return head | answers_of(model, items, given, seed, options)


def tried(model: Fitted, whole: Task, split: str, seed: int, options: Mapping[str, Any]) -> Callable[[int], object]:
    """What labels, or makes, so many items of a split: to be timed."""

    def work(rows: int) -> object:
        few = whole.some(split, rows, seed).conditions(split)
        if task(model) == "label":
            return model.classify(few)
        return model.draw(rows, condition=few, seed=seed, sampling=options)

    return work


def classification_figures(model: Fitted, items: pa.Table, given: Any) -> dict[str, Any]:
    """Accuracy, log-loss and calibration; the likelihood is that of the labels. `labelled`: which items have one."""
    began = time.perf_counter()
    found = model.classify(given)
    spent = time.perf_counter() - began
    p, y, figures = against(model, found, items)
    own, best = items.column(0).to_pylist(), found["predicted"].to_pylist()
    rows = [[*shown(given, i), own[i], best[i], f"{p[i].max():.2f}"] for i in some(y, ROWS_SHOWN, 0).tolist()]
    columns = [*(["given"] if shown(given, 0) else []), "label", "predicted", "probability"]
    if not figures:
        raise DataError(
            "no item has a label, so the predictions cannot be checked", where=f"column {items.column_names[0]}"
        )
    score = figures.pop("likelihood")
    reason = {} if score else {"likelihood_reason": "training had none of these labels"}
    return {
        "ms_per_sample": 1000 * spent / len(y),
        "metrics": figures.pop("labels"),
        "likelihood": score,
        "item_figures": label_values(p[y >= 0], y[y >= 0]),
        "labelled": (y >= 0).tolist(),
        **reason,
        "shown": {"kind": "rows", "columns": columns, "rows": rows},
    }


def against(model: Fitted, found: pa.Table, items: pa.Table) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """(p, y, figures): what `Fitted.classify` found, against the items' own labels.

    `y` (N,) is the place of each label, K where training had none such, -1 where it is blank. Figures are of items that
    have a label, {"labels": ..., "likelihood": that of labels which training had, or None}; {} if none has. A label
    that training had not counts as wrong; how many there are, and how many are blank, is warned.
    """
    codec, names = model.codecs["x"], list(model.labels or ())
    own = codec.rows(items).column(0).to_pylist()  # type: ignore[attr-defined]  # labels are a column's
    place = {name: i for i, name in enumerate(names) if name is not None}
    p, y = probabilities(found), np.array([-1 if label is None else place.get(label, len(names)) for label in own])
    blank, new = y < 0, y == len(names)
    where = items.column_names[0]
    if blank.any():
        warn(f"{blank.sum():,} of {len(y):,} items have no {where}: they get a predicted label, but are not counted")
    if new.any():
        unknown = sorted({str(label) for label, one in zip(own, new, strict=True) if one})
        told = f"{new.sum():,} of {len(y):,} items have a {where} that training lacked ({', '.join(unknown[:3])})"
        warn(f"{told}: they count as wrong")
    if blank.all():
        return p, y, {}
    known = np.flatnonzero(~blank & ~new)
    nats = torch.from_numpy(np.log(p[known, y[known]].clip(LEAST_PROBABILITY)))
    score = LogProb(nats, "exact", codec.measure, codec.dims).summary() if len(known) else None
    figures = label_figures(p[~blank], y[~blank]) | {"unlabelled": int(blank.sum())}
    return p, y, {"labels": figures, "likelihood": score}


def classified(model: Fitted, found: Found) -> tuple[pa.Table, dict[str, Any]]:
    """A row an item: index, its own `label` and the `nats` of that where it is known, `predicted`, and p of each label.

    Also {"items", and where labels are known "likelihood" and "labels": the figures of `evaluation.labels`}.
    """
    made = model.classify(found.given)
    head: dict[str, Any] = {"index": pa.array(range(made.num_rows))}
    columns = dict(zip(made.column_names, made.columns, strict=True))
    if found.items is None:
        return pa.table(head | columns), {"items": made.num_rows}
    p, y, figures = against(model, made, found.items)
    known = (y >= 0) & (y < p.shape[1])
    nats = np.log(p[np.arange(len(y)), np.where(known, y, 0)].clip(LEAST_PROBABILITY))
    scores = pa.array(nats, mask=~known)
    table = pa.table(head | {"label": found.items.column(0)} | columns | {"nats": scores})
    return table, {"items": len(y), **{key: value for key, value in figures.items() if value is not None}}


def probabilities(found: pa.Table) -> np.ndarray:
    """(N, labels) of what `Fitted.classify` gives."""
    return np.stack([found[name].to_numpy() for name in found.column_names if name.startswith("p_")], 1)


def made_with(model: Fitted, sampling: Mapping[str, Any] | None) -> dict[str, Any]:
    """How items are made that are compared with the true ones: by the likeliest symbol, unless `sampling` says more."""
    return {"temperature": 0.0} | dict(sampling or {}) if "temperature" in model.family.Sampling.model_fields else {}


def answers_of(model: Fitted, items: Any, given: Any, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """How right the items are that are made of what is given; the likelihood is that of the items that are wanted."""
    kinds = registry.MODALITIES
    began = time.perf_counter()
    made = model.draw(len(items), condition=given, seed=seed, sampling=options)
    spent = time.perf_counter() - began
    marks = kinds[model.codecs["x"].modality].marks(made, items, kinds[model.codecs["cond"].modality])
    rows = [[*shown(given, i), items[i], made[i]] for i in some(items, ROWS_SHOWN, 0).tolist()]
    columns = [*(["given"] if shown(given, 0) else []), "wanted", "made"]
    out: dict[str, Any] = {
        "ms_per_sample": 1000 * spent / len(items),
        "metrics": marks.figures,
        "sampling": model.sampling(options).model_dump(mode="json"),
        "likelihood": None,
        "item_figures": marks.by_item,
        "shown": {"kind": "rows", "columns": columns, "rows": rows},
    }
    if model.family.likelihood == "none":
        return out | {"likelihood_reason": model.family.missing["log_prob"]}
    score = model.log_prob(items, condition=given, seed=seed)
    nats = {"nats": score.values.tolist()}
    return out | {"likelihood": score.summary(), "item_figures": marks.by_item | nats} | language(model, score, items)


def shown(given: Any, i: int) -> list[str]:
    """A given text as a cell of a report; nothing for what is no text."""
    return [given[i][:200]] if isinstance(given, list) and isinstance(given[i], str) else []


def language(model: Fitted, score: LogProb, items: Any) -> dict[str, Any]:
    """{"language": the likelihood in units that people count such items in}, where there are any, else nothing."""
    codec = model.codecs["x"]
    if score.space not in ("mass", "dequantised"):
        return {}
    found = registry.MODALITIES[codec.modality].units(score.values.numpy(), items, codec)
    return {"language": {"kind": score.kind, **found}} if found else {}
