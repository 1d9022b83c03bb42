"""One model measured: `evaluate`, and what a report shows of it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from quintet.comparison.document import document, options, write_report
from quintet.core.errors import UsageError, warn
from quintet.core.typed import line
from quintet.evaluation.bench import Bench
from quintet.evaluation.nearest import nearest_shown
from quintet.evaluation.tasks import measure, task
from quintet.model.fitted import Fitted
from quintet.runs.advice import advice
from quintet.runs.card import write_card
from quintet.runs.config import seconds
from quintet.sources.load import SPLITS, Dataset, load_source


def check_split(split: str) -> None:
    """Raise UsageError unless a model can be measured on a split of this name."""
    if split not in SPLITS:
        near = difflib.get_close_matches(str(split), SPLITS, 1)
        raise UsageError(f"there is no split named {split!r}", why=f"splits: {', '.join(SPLITS)}",
                         fix=f"did you mean {near[0]}?" if near else "use the split test")  # fmt: skip


def evaluate(model: Fitted, **asked: Any) -> dict[str, Any]:
    """What `measured` finds; report.html and report.json in the run folder of the model show it."""
    figures, result = measured(model, **asked)
    try:
        write_report(model.run.path / "report.html", result)
        write_card(model.run, model.family, model.codecs)
    except OSError as error:
        warn(f"the report was not written ({error})")
    return figures


def measured(
    model: Fitted,
    *,
    split: str = "test",
    samples: int = 1000,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
    features: str = "pca",
    budget: str | float | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of one model, chosen by what it is for, and what a report of it shows.

    Labels and texts that are given something are compared with the true ones (see `tasks.measure`); any other model is
    measured by its samples, on a bench. `sampling` are settings of what is drawn, in the place of the run's own; they
    are of the measurement's recipe, so that figures of others are not compared with these unawares. `budget`: about how
    long that may take, see `allowed`.
    """
    check_split(split)
    limit = allowed(model, budget)
    began = time.perf_counter()
    data = model.config.data
    dataset = load_source(**data.reading())
    bench = None
    if task(model) == "samples":
        model = model.sampling_by(sampling)
        bench = Bench(dataset, data.condition, target=data.target, samples=samples, features=features)
        if report is not None:
            bench.tell = partial(doing, report)
    entry: dict[str, Any] = {"family": model.config.family, "seed": model.config.seed, "run": model.run.name}
    figures, shown, measurement = figures_of(
        model, dataset, bench, split, samples, seed, sampling, limit / TIME_PARTS, report
    )
    if bench is not None and sampling:
        measurement |= {"sampling": {name: model.config.sampling[name] for name in sampling}}
    figures["measured"] |= {"seconds": round(time.perf_counter() - began, 1), "budget": limit}
    result = document(dataset, bench, measurement, [entry | entry_of(model, figures, shown)])
    asked = [*options(samples, split, features), ("seed", seed), ("budget", budget)]
    asked += [(f"sampling.{name}", value) for name, value in (sampling or {}).items()]
    result["command"] = line("evaluate", [model.run.name], asked)
    return figures, result


SHORTEST, LONGEST = 120.0, 600.0
"""Seconds that measuring a model may take at least, and at most, unless the user says how long."""
TIME_PARTS = 4
"""Of that time samples have a part, scores a part, and what a report shows and the figures themselves the rest."""


def allowed(model: Fitted, budget: str | float | None = None) -> float:
    """Seconds that measuring a model may take: `budget`, else what its training took, from SHORTEST to LONGEST."""
    if budget is not None:
        return seconds(budget)
    records = model.run.metrics()
    return min(max(float(records[-1]["seconds"]) if records else 0.0, SHORTEST), LONGEST)


def doing(report: Callable[[dict[str, Any]], None], what: str) -> None:
    report({"doing": what})


def figures_of(
    model: Fitted,
    dataset: Dataset,
    bench: Bench | None,
    split: str,
    samples: int,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
    limit: float | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(figures, what a report shows, measurement): by its samples on a bench, or without one by the true answers.

    `limit`: seconds that samples may take, and as many again scores.
    """
    if bench is not None:
        figures = bench.run(model, split=split, seed=seed, limit=limit)
        few = "fewer_samples" in figures  # of a slow model the report shows fewer, too
        bench.tell("drawing what the report shows")
        shown = {
            "samples": bench.show(model, min(100, figures["measured"]["samples"] // 2)) if few else bench.show(model)
        }
        return figures, shown | {"nearest": nearest_shown(model, bench)}, figures["recipe"]
    tell = partial(doing, report) if report is not None else lambda _: None
    figures = measure(model, dataset, split, limit=samples, seed=seed, sampling=sampling, allowed=limit, tell=tell)
    shown = {"samples": figures.pop("shown")}
    notes = {key: value for key, value in figures["metrics"].items() if isinstance(value, str)}  # signatures
    measurement = notes | {"task": figures["task"], "items": figures["metrics"]["items"], "split": split,
                      "given": model.config.data.condition, "sampling": figures.get("sampling", "none")}  # fmt: skip
    return figures, shown, measurement


def entry_of(model: Fitted, figures: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """A trained model's entry in the report."""
    records, weights = model.run.metrics(), model.run.used()
    config = model.config.model_dump(mode="json")
    return {
        "status": "ok",
        **{key: value for key, value in figures.items() if key != "recipe"},  # it stands in the report once
        "train_seconds": records[-1]["seconds"] if records else None,
        "steps": model.config.steps,
        **shown,
        "advice": [one._asdict() for one in advice(model.run.metrics_of_weights())],
        "weights": None if weights is None else weights._asdict(),
        "curve": [[r["seconds"], r["quality"]] for r in records if r.get("quality") is not None],
        "config": {key: config[key] for key in ("codec", "preset", "model", "sampling", "training")},
    }
