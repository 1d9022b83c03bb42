"""What a comparison comes to: a report as HTML, with its figures as JSON beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quintet import registry
from quintet.comparison.report import ranks, render
from quintet.comparison.verdict import verdict
from quintet.core.errors import QuintetError, warn
from quintet.evaluation.bench import Bench
from quintet.runs.restoring import versions
from quintet.sources.load import Dataset
from quintet.training.checkpoint import write_atomic


def options(samples: int, split: str, features: str) -> list[tuple[str, Any]]:
    """The options of a measurement."""
    return [("split", split), ("samples", samples), *([("features", features)] if features != "pca" else [])]


def document(
    dataset: Dataset, bench: Bench | None, measurement: Mapping[str, Any], entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a report shows of these models."""
    return completed(head(dataset, bench, measurement), entries)


def head(dataset: Dataset, bench: Bench | None, measurement: Mapping[str, Any]) -> dict[str, Any]:
    """What a report shows that depends on no model."""
    real: dict[str, Any] = {}
    try:
        real = {} if bench is None else {"real": {"samples": bench.show(None), "metrics": bench.real()}}
    except Exception as error:  # what was trained and measured must not be lost with it
        warn(f"the report shows no figures of real data: {failure_reason(error)}")
    return real | {
        "modality": dataset.modality,
        "things": registry.MODALITIES[dataset.modality].things,
        "source": dataset.name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": versions()["machine"],
        "versions": versions()["versions"],
        "recipe": dict(measurement),
        "curve_name": "energy distance between samples and validation items",
    }


def completed(head: Mapping[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """With the models, their ranks and the verdict."""
    real = head.get("real") or {}
    return {**head, "models": entries, "ranks": ranks(entries), "verdict": verdict(entries, real.get("metrics"))}


def write_report(path: Path, result: dict[str, Any]) -> None:
    """The HTML, and the JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render(result))  # type: ignore[arg-type]
    # Dates, times and decimals of rows that are shown are no JSON, and become what they are written as.
    write_atomic(path.with_suffix(".json"), json.dumps(result, indent=1, default=str))


def failure_reason(error: Exception) -> str:
    """Why something failed, in words; of an error that is none of quintet's own also its kind."""
    return str(error) if isinstance(error, QuintetError) else f"{type(error).__name__}: {error}"


def failed(why: str, status: str = "failed") -> dict[str, Any]:
    """What an entry says that has no figures; "left out" is what was not tried."""
    return {"status": status, "error": why}
