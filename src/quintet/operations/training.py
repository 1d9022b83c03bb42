"""`train`, `resume` and `distil`: a run to its end, or to where it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from quintet.core.errors import ConfigError, RunExists, UsageError
from quintet.fit import fitting
from quintet.fit.latents import LATENTS
from quintet.model.fitted import Fitted
from quintet.operations.events import Begun, OnEvent, Record, operation
from quintet.operations.records import of_weights
from quintet.operations.requests import DistilRequest, ResumeRequest, TrainRequest
from quintet.operations.results import Result
from quintet.operations.settings import check_fields, read_config
from quintet.runs.config import RunConfig, differences, merge
from quintet.runs.folder import Run, runs_root
from quintet.runs.identity import LENGTH
from quintet.runs.names import first_stage_of
from quintet.runs.restoring import make_family
from quintet.runs.task import Task
from quintet.sources.load import Dataset, load_source
from quintet.training.trainer import Trainer

NAMED = ("target", "condition", "codec", "preset", "budget", "steps", "seed")
"""Fields of a request that win over its sections."""


class PlanResult(Result):
    """What would be trained: the complete configuration."""

    dry_run: bool
    config: dict[str, Any]
    parameters: int


class TrainResult(Result):
    """How far a run has come, its newest figures, and what they advise."""

    run: str
    name: str
    family: str
    source: str
    step: int
    steps: int
    seconds: float
    loss: float | None
    losses: dict[str, Any]
    quality: float | None
    held_out: float | None
    weights: int
    """The step of the weights that the model has, and of its figures: an earlier one if training selects the best."""
    advice: list[dict[str, str]]
    parameters: int
    skipped: int
    """Updates that NaN or Inf would have come of, and so were left out."""
    address: str = Field(exclude=True)
    """The run as an argument of other verbs."""
    planned: int = Field(exclude=True)
    """The steps that were planned, of a run that may have ended early."""
    stopped: str = Field("", exclude=True)
    """Why it was stopped before its end."""


@operation
def train(request: TrainRequest, on_event: OnEvent) -> TrainResult | PlanResult:
    """Train a family; or go on with the run if it is to be resumed and exists, further where more is asked for than it
    has; or only say what would be trained.
    """
    request = with_autoencoder(request)
    given, further = arguments(request), None
    if request.dry_run or request.resume:
        dataset = load_source(given["data"], **fitting.reading_of(given["config"]))
        if request.dry_run:
            return dry_run(request, dataset)
        wanted = plan(request, dataset)
        budget = None if wanted.steps is not None else request.budget or given["config"].get("budget")
        length = {"steps": wanted.steps, "budget": None if budget is None else str(budget)}
        further = ResumeRequest(run=str(request.run), runs=request.runs, **length)
        if continues(wanted, further):
            return resume(further, on_event)
    listener = Listener(on_event)
    try:
        return listener.result(fitting.train(**given, report=listener.report, on_trainer=listener.watch))
    except RunExists:
        if further and continues(wanted, further):  # another process has begun it in between
            return resume(further, on_event)
        raise


def with_autoencoder(request: TrainRequest) -> TrainRequest:
    """The request for a run to go on with, which names the autoencoder that was trained for it."""
    path = runs_root(request.runs) / str(request.run)
    if not request.resume or request.codec not in (None, LATENTS) or not (path / "config.yaml").is_file():
        return request
    name = first_stage_of(str(request.run))
    return request.model_copy(update={"codec": name}) if Run(path).config().codec == name else request


def arguments(request: TrainRequest) -> dict[str, Any]:
    """The arguments of `fitting.train` that ask for the same."""
    family, source, config = asked(request)
    check_fields(config, family)
    config.pop("steps" if request.budget is not None else "budget" if request.steps is not None else "", None)
    named = request.model_dump(include={*NAMED, "run", "runs"})
    return {"family": family, "data": source, **named, "config": config}


def plan(request: TrainRequest, dataset: Dataset) -> RunConfig:
    """The complete configuration of what is asked for; `dataset` is its source, as it is to be read."""
    given = arguments(request)
    return fitting.plan(given["family"], dataset, config=given["config"], **{name: given[name] for name in NAMED})


def dry_run(request: TrainRequest, dataset: Dataset) -> PlanResult:
    """What would be trained on its source, which is `dataset`; nothing is written."""
    return planned(plan(request, dataset), dataset, request.runs)


def asked(request: TrainRequest) -> tuple[str, str, dict[str, Any]]:
    """Family, source and sections of settings, of the request and its file."""
    config = merge(read_config(request.config), request.sections())
    family, source = request.family or config.get("family"), request.data or (config.get("data") or {}).get("source")
    if not family or not source:
        missing = "family" if not family else "data"
        fix = "quintet train FAMILY --data SOURCE; quintet train --help lists all options"
        raise UsageError(
            f"{missing} is missing", why=f"what is needed: {TrainRequest.model_fields[missing].description}", fix=fix
        )
    return str(family), str(source), config


@operation
def resume(request: ResumeRequest, on_event: OnEvent) -> TrainResult:
    """Continue a run to its end, as if it had never stopped, or train it further."""
    listener = Listener(on_event)
    given = request.model_dump(exclude={"run"})
    model = fitting.resume(request.run, **given, report=listener.report, on_trainer=listener.watch)
    return listener.result(model)


@operation
def distil(request: DistilRequest, on_event: OnEvent) -> TrainResult:
    """Train a model that begins with the weights of a run and is to sample in one or two steps."""
    listener, given = Listener(on_event), request.model_dump(include={"run", "runs", "budget", "steps", "seed"})
    return listener.result(fitting.distil(request.what, **given, report=listener.report, on_trainer=listener.watch))


class Listener:
    """Hears of one training, and tells it on."""

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event = on_event
        self.trainer: Trainer | None = None

    def report(self, record: dict[str, Any]) -> None:
        self.on_event(Record(record))

    def watch(self, trainer: Trainer | None) -> None:
        self.trainer = trainer

        def stop(why: str) -> None:
            assert trainer is not None
            trainer.stop = why

        self.on_event(Begun(None if trainer is None else stop))

    def result(self, model: Fitted) -> TrainResult:
        """What became of the training."""
        run, trainer = model.run, self.trainer
        assert trainer is not None
        news = of_weights(run)
        return TrainResult(
            run=str(run.path),
            name=run.name,
            family=model.config.family,
            source=model.config.data.source,
            step=trainer.step,
            steps=trainer.steps,
            seconds=round(trainer.seconds, 3),
            **{key: news[key] for key in ("loss", "losses", "quality", "held_out", "weights", "advice")},
            parameters=sum(p.numel() for p in model.family.parameters()),
            skipped=trainer.guard.lost,
            address=run.address,
            planned=model.config.steps or trainer.steps,
            stopped=trainer.stop if trainer.stop and trainer.unfinished else "",
        )


def planned(plan: RunConfig, dataset: Dataset, runs: Path | None = None) -> PlanResult:
    """The complete configuration, after trying that the codec fits the data and the family the codec."""
    if plan.codec == LATENTS:
        raise UsageError("it is not known what a model of latents would be before their autoencoder is trained",
                         where="codec", why="latent as the codec trains one when training begins",
                         fix="leave out --dry-run, or train the autoencoder and name its run: --codec RUN")  # fmt: skip
    family = make_family(plan, Task.of(plan, dataset).examples("train", "validation").fitted(plan, runs).codecs)
    parameters = sum(p.numel() for p in family.parameters())
    return PlanResult(dry_run=True, config=plan.model_dump(mode="json"), parameters=parameters)


def continues(planned: RunConfig, request: ResumeRequest) -> bool:
    """Whether the run to go on with exists; ConfigError if it was made with another configuration than the planned
    one. What counts is what was asked for, since a budget may have changed batches, preset and looks of the run itself.
    """
    folder = runs_root(request.runs) / request.run
    if not (folder / "config.yaml").is_file():
        return False
    old, new = Run(folder).manifest().get("asked") or {}, planned.model_dump(mode="json")
    changed = [f"{key}: {was!r} in the run, {now!r} now" for key, was, now in differences(old, new)
               if key not in LENGTH]  # fmt: skip
    if changed:
        fix = f"choose another name with --run, or go on as it was begun: quintet resume {Run(folder).address}"
        why = "; ".join(changed)
        raise ConfigError("the run was begun with another configuration", where=str(folder), why=why, fix=fix)
    return True
