"""`evaluate`, `compare` and `recommend`: how good models are, which to keep, and which to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from quintet.comparison import compare as comparison
from quintet.comparison import measuring
from quintet.comparison.recommend import recommendation
from quintet.core.errors import UsageError
from quintet.fit import fitting
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.operations.events import OnEvent, operation
from quintet.operations.fitted import Made, provenance
from quintet.operations.requests import CompareRequest, Evaluate, EvaluateRequest, RecommendRequest
from quintet.operations.results import Result
from quintet.operations.settings import check_fields
from quintet.operations.training import Listener
from quintet.runs.config import seconds
from quintet.sources.load import Dataset, load_source


class EvaluateResult(Result):
    """The figures of a model; which there are depends on what it is for."""

    model_config = ConfigDict(extra="allow")

    run: str
    name: str
    likelihood: dict[str, Any] | None = None
    likelihood_reason: str | None = None
    metrics: dict[str, Any]


@operation
def evaluate(request: EvaluateRequest, on_event: OnEvent) -> EvaluateResult:
    """Measure a model on unseen items, and write the report of its run."""
    model = fitting.load(request.run, runs=request.runs)
    found = measuring.evaluate(model, **asked(model, request, on_event))
    return EvaluateResult(**named(model) | found)


def evaluated(model: Fitted, request: Evaluate, found: Found, on_event: OnEvent) -> Made:
    """The figures of a loaded model on unseen items of its run's own data, as `EvaluateResult` has them."""
    figures, _ = measuring.measured(model, **asked(model, request, on_event))
    return Made(None, named(model) | figures, provenance(model, split=request.split, seed=request.seed))


def asked(model: Fitted, request: Evaluate, on_event: OnEvent) -> dict[str, Any]:
    """How a model is to be measured."""
    check_fields(request.sections(), model.config.family)
    return {**request.model_dump(include=set(Evaluate.model_fields)), "report": Listener(on_event).report}


def named(model: Fitted) -> dict[str, Any]:
    """Which model is measured."""
    return {"run": str(model.run.path), "name": model.run.name, "likelihood_reason": None}


class CompareResult(Result):
    """What a report shows: the figures of each model, and the verdict."""

    model_config = ConfigDict(extra="allow")

    models: list[dict[str, Any]]
    verdict: dict[str, Any]
    report: str
    runs: str | None = None
    stopped: str = ""


@operation
def compare(request: CompareRequest, on_event: OnEvent) -> CompareResult:
    """Train several families on one source, or take runs or reports, measure all alike, and write the report."""
    training = request.model_dump(include={"families", "budget", "steps", "parameters", "preset", "run"})
    if request.what and not comparison.is_source(request.what, request.runs):
        vain = [name for name, value in training.items() if value is not None]
        vain += [f"data.{field}" for field in request.reading]
        if vain:
            what = f"{', '.join(vain)} can only be given if a source is compared"
            why, fix = "the runs to compare are trained already", "leave these options out, or compare a source"
            raise UsageError(what, why=why, fix=fix)
    listener = Listener(on_event)
    found = comparison.compare(*request.what, **arguments(request), report=listener.report, on_trainer=listener.watch)
    return CompareResult(**found)


def arguments(request: CompareRequest) -> dict[str, Any]:
    """The arguments of `compare` that ask for the same."""
    same = ("budget", "steps", "parameters", "preset", "seeds", "samples", "split", "features", "run", "runs")
    return request.model_dump(include={*same}) | {
        "families": request.families and [name.strip() for name in request.families.split(",") if name.strip()],
        "condition": None if request.condition == "none" else request.condition,
        "output": Path(request.output or f"compare-{Path(request.what[0]).name if request.what else ''}.html"),
        "config": request.sections(),
    }


class RecommendResult(Result):
    """A family for each purpose with its reason, what to mind, and the command to begin with."""

    source: str
    shape: dict[str, Any]
    purposes: dict[str, dict[str, Any]]
    order: list[str]
    cautions: list[str]
    command: str


@operation
def recommend(request: RecommendRequest, on_event: OnEvent) -> RecommendResult:
    """Say before any training which family to begin with for each purpose, and why."""
    return recommended(request, load_source(request.source, **fitting.reading_of(request.sections())))


def recommended(request: RecommendRequest, dataset: Dataset, *, timed: bool = True) -> RecommendResult:
    """The same of its source, which is `dataset`; not `timed`: by what was measured before alone."""
    return RecommendResult(**recommendation(dataset, seconds(request.budget), request.sections(), timed=timed))
