"""Train a family, resume a run, distil its model, or load it: each gives a fitted family."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quintet.core.checked import checked, count_of
from quintet.core.errors import ConfigError, DataError, UsageError, out_of_memory, warn
from quintet.core.listening import unheard
from quintet.fit.latents import LATENTS, SHARE, autoencoder, too_large
from quintet.fit.pixels import (
    READABLE_BATCH,
    STEPS,
    WANTED,
    fewer_pixels,
    in_small_batches,
    judged,
    sensible,
    session_of,
)
from quintet.fit.progress import ProgressLine
from quintet.fit.session import Report, Session
from quintet.model.containers import source_of
from quintet.model.fitted import Fitted
from quintet.registry import AUTOENCODER
from quintet.runs.config import Change, DataSettings, RunConfig, as_config_error, merge, resolve, seconds
from quintet.runs.folder import Run, runs_root
from quintet.runs.identity import DATA, check_edits
from quintet.runs.names import first_stage_of
from quintet.runs.recipes import readable
from quintet.runs.restoring import conditions_of, rebuild, restore, write
from quintet.runs.task import Task
from quintet.sources.load import Dataset, load_checked
from quintet.training import checkpoint
from quintet.training.budget import BACKWARD_BYTES, Pace, in_memory, pace, steps_for
from quintet.training.engine import Engine
from quintet.training.plan import LEAST_STEPS
from quintet.training.trainer import Trainer

OnTrainer = Callable[[Trainer | None], None]
"""Gets the trainer before the first step, so that it can be stopped; None when that is over, and more follows."""


@checked
def load(run: str | Path, *, runs: str | Path | None = None, device: str = "auto") -> Fitted:
    """The model of a run: its newest checkpoint that verifies, with averaged weights."""
    folder = Run.open(run, runs)
    family, codecs, config, _ = restore(folder)
    return Fitted(folder, family.to(Engine(device).device), codecs, config, conditions_of(folder))


# -- training --------------------------------------------------------------------------------------------------------


@checked
def train(
    family: str,
    *,
    data: Any,
    target: str | None = None,
    condition: str | None = None,
    codec: str | None = None,
    preset: str | None = None,
    budget: str | float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    run: str | None = None,
    runs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    report: Report | None = None,
    on_trainer: OnTrainer | None = None,
) -> Fitted:
    """Train a family and return the model; its folder is `model.run`.

    `data` is a name or path, or what lies in memory: a DataFrame (pandas, polars, Arrow), a dict of columns, a list of
    texts, pictures of Pillow, an array; that is kept in the folder `data` beside the runs.
    `config` holds sections like those of config.yaml (model, sampling, training, ...); the named arguments win over it.
    `seed` is of weights, data order and noise: 0 unless it or `config` says another.
    `report` gets each logged record; `on_trainer` gets the trainer before the first step (to be able to stop it).
    """
    seed = None if seed is None else count_of(seed, "seed", 0)
    dataset = load_checked(source_of(data, runs_root(runs)), **reading_of(config))
    resolved = plan(family, dataset, target=target, condition=condition, codec=codec, preset=preset, budget=budget,
                    steps=steps, seed=seed, config=config)  # fmt: skip
    given = config or {}
    loose: dict[str, RunConfig | None] = {}  # what the user left to us, and so may give way to a budget
    if "batch_size" not in (given.get("training") or {}):
        loose["batch_size"] = None
    own = preset is None and codec is None and not {"preset", "codec", "model", "parameters"} & set(given)
    root = runs_root(runs)
    stage = partial(first_plan, resolved, dataset, given)
    if resolved.codec == LATENTS or (own and too_large(resolved, stage, dataset, root)):
        first, stopped = first_stage(stage(), dataset, run, root, report, on_trainer)
        if stopped:
            return first
        report = named(report, resolved)
        rest = None if resolved.budget is None else (1 - SHARE) * resolved.budget
        resolved = plan(family, dataset, target=target, condition=condition, codec=first.run.name, preset=preset,
                        budget=rest, steps=steps, seed=seed, config=config)  # fmt: skip
    elif own:
        loose["preset"] = plan(family, dataset, target=target, condition=condition, preset="tiny", budget=budget,
                               steps=steps, seed=seed, config=config)  # fmt: skip
    with ProgressLine(f"training {family}") as line:
        return train_planned(resolved, dataset, run, root, report or line, on_trainer, loose)


def named(report: Report | None, config: RunConfig) -> Report | None:
    """It gets records that say which of several models they are of."""
    return report and (lambda record: report({"family": config.family, "seed": config.seed} | record))


def first_plan(config: RunConfig, dataset: Dataset, given: Mapping[str, Any]) -> RunConfig:
    """The autoencoder on whose latents this configuration is to train; `given` is what the user gave for both."""
    budget = None if config.budget is None else SHARE * config.budget
    return plan(AUTOENCODER, dataset, budget=budget, steps=config.steps, seed=config.seed,
                config=autoencoder(config.family, dataset, given))  # fmt: skip


def first_stage(
    planned: RunConfig,
    dataset: Dataset,
    run: str | None,
    root: Path,
    report: Report | None,
    on_trainer: OnTrainer | None,
) -> tuple[Fitted, bool]:
    """The autoencoder of that plan, and whether its training was stopped. One that was begun for a run of this name,
    and stopped, is trained to its end.
    """
    trainers: list[Trainer] = []

    def watch(trainer: Trainer | None) -> None:
        trainers.extend([trainer] if trainer else [])
        if on_trainer is not None:
            on_trainer(trainer)

    name, report = None if run is None else first_stage_of(run), named(report, planned)
    begun = Run(root / name).manifest().get("asked") if name and Run.exists(name, root) else None
    with ProgressLine(f"training {AUTOENCODER}") as line, unheard():  # what its own samples look like does not matter
        if name and begun == planned.model_dump(mode="json"):
            model = resume(name, runs=root, report=report, on_trainer=watch)
        else:
            model = train_planned(planned, dataset, name, root, report or line, watch, {"batch_size": None})
    stopped = any(trainer.stop for trainer in trainers)
    if not stopped:
        watch(None)  # what would have stopped this training does not stop the next
    return model, stopped


@checked
def plan(
    family: str,
    dataset: Dataset,
    *,
    config: Mapping[str, Any] | None = None,
    budget: str | float | None = None,
    target: str | None = None,
    condition: str | None = None,
    **given: Any,
) -> RunConfig:
    """The complete configuration that `train` would use."""
    named: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    named |= {"family": family, "data": {"source": dataset.source or dataset.name, **dataset.decided}}
    for key, value in (("target", target), ("condition", condition)):
        if value is not None:
            named["data"][key] = value
    if budget is not None:
        named["budget"] = seconds(budget)
    merged = merge(config or {}, named)
    for name in ("target", "condition", "codec", "preset"):
        value = (merged["data"] if name in ("target", "condition") else merged).get(name)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{name} must be a text, got {value!r}", where=name)
    reads = (merged.get("given") or {}).get("codec")
    task = Task.resolve(dataset, merged["data"].get("target"), merged["data"].get("condition") or None,
                        codec=merged.get("codec"), reads=None if reads is None else str(reads))  # fmt: skip
    merged["codec"] = task.codec
    if merged.get("steps") is None and merged.get("budget") is None:
        merged["budget"] = 60.0
    condition = None if task.given is None else task.given.name
    found = resolve(merged, task.recipe(merged.get("coding") or {}), condition)
    found = found.model_copy(update={"distilled_from": None})  # a run that was, whose configuration is used again
    if found.plan and (budget is not None or found.steps != found.plan[-1][1]):
        return found.model_copy(update={"plan": ()})  # it was of another number of steps
    return found


@checked
def reading_of(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """How `config` says that the source is read."""
    data = (config or {}).get("data") or {}
    given = {key: value for key, value in data.items() if key not in ("source", "target", "condition")}
    try:
        settings = DataSettings(source="-", **given)
    except ValidationError as error:
        raise as_config_error(error, "data", DataSettings.model_fields) from None
    return {key: value for key, value in settings.reading().items() if key != "source"}


DISTILLING = 0.3
"""Share of a run's learning rate with which a model is distilled from it."""
WORTHWHILE_STEPS = 20
"""Steps below which nothing is trained by defaults: they show nothing but noise."""
SMALLEST = 8
"""Items of the smallest batch that is taken for the sake of a budget."""


def _affordable(session: Session, task: Task, root: Path, loose: Mapping[str, RunConfig | None]) -> Session:
    """The session, or one with smaller batches or a smaller preset where the budget buys too few steps and these were
    left to us. Batches that would take too much memory are worked on in pieces. ConfigError where nothing helps.
    """
    engine, first, budget, dataset = session.engine, session.config, session.config.budget, task.dataset
    assert budget is not None

    def measured(session: Session) -> tuple[RunConfig, Pace]:
        found = pace(session.family, session.loader, session.config.training, seed=session.config.seed, engine=engine,
                     limit=budget / WANTED)  # fmt: skip
        return afforded(session.config, found, "batch_size" in loose), found

    config, found = measured(session)
    slow = found.seconds
    each = slow * config.training.batch_size / session.config.training.batch_size
    if budget < WANTED * each and (tiny := loose.get("preset")) is not None:
        session = session_of(tiny, task, root, engine)
        config, found = measured(session)
    each = found.seconds * config.training.batch_size / session.config.training.batch_size
    least = WORTHWHILE_STEPS if loose else LEAST_STEPS
    if budget < least * each:
        larger = "a smaller --training.batch_size, --preset tiny, " if len(loose) < 2 else ""
        size = fewer_pixels(in_small_batches(first) if "batch_size" in loose else first, dataset, root)
        sizes = f"fewer pixels (--data.size {size or '32 or 16'}), " if judged(dataset) else ""
        latents = LATENTS if judged(dataset) else "RUN"
        raise ConfigError(
            f"{budget:g} s are enough for only {int(budget / each)} steps of {first.family}, too few to learn anything",
            where=f"{dataset.name}: {first.family}",
            why=f"a step of {config.training.batch_size} items takes about {each:.2g} s",
            fix=f"train for --budget {math.ceil(WANTED * each / 60)}m, or with {larger}{sizes}another family, or the "
            f"latents of a vae as --codec {latents}",
        )
    before, after = first.training, config.training
    changed = [f"batches of {after.batch_size} instead of {before.batch_size}"] * (
        before.batch_size != after.batch_size
    ) + [f"preset {config.preset} instead of {first.preset}"] * (config.preset != first.preset)
    if changed:
        told = f"{budget:g} s are enough for only about {int(budget / slow)} steps of {first.family}"
        warn(f"{told}, so the run is trained with {' and '.join(changed)}")
    if config.training != session.config.training:
        return session_of(config, task, root, engine)
    return session


def afforded(config: RunConfig, found: Pace, smaller: bool) -> RunConfig:
    """The configuration with a batch that fits into memory; if `smaller`, halved while it buys too few steps."""
    assert config.budget is not None
    training = config.training
    size, needed = training.batch_size, readable(config.family, config.codec)
    each = found.seconds / size
    while smaller and size >= 2 * SMALLEST and config.budget < WANTED * each * size:
        size //= 2
    while smaller and needed and size >= 2 * READABLE_BATCH and STEPS * config.budget < needed * each * size:
        size //= 2
    micro, most = training.micro_batch, max(1, int(BACKWARD_BYTES / found.item_bytes))
    if micro is None and most < size:
        micro = most
    return config.model_copy(
        update={"training": training.model_copy(update={"batch_size": size, "micro_batch": micro})}
    )


def train_planned(
    config: RunConfig,
    dataset: Dataset,
    name: str | None,
    root: Path,
    report: Report | None,
    on_trainer: OnTrainer | None,
    loose: Mapping[str, RunConfig | None],
    start: Fitted | None = None,
) -> Fitted:
    """`start`: the model whose codecs and weights the run begins with."""
    engine, asked = Engine(config.device), config
    weights = None if start is None else start.family.state_dict()
    run = Run.create(root, name, f"{dataset.name}-{config.family}") if engine.first else None
    try:
        own = Task.of(config, dataset, None if start is None else start.codecs).examples("train", "validation")
        session = session_of(config, own, root, engine)
        began = time.perf_counter()
        estimate = None
        how: dict[str, Any] = {"seed": config.seed, "engine": engine}
        if config.steps is not None:
            training = in_memory(session.family, session.loader, config.training, **how)
            session.config = session.config.model_copy(update={"training": training})
        else:
            session = _affordable(session, own, root, loose)
            config = session.config
            assert config.budget is not None
            estimate = steps_for(config.budget, session.family, session.loader, config.training, **how,
                                 interval=session.look, settle=session.look.afford, began=began)  # fmt: skip
            training = config.training.model_copy(update={"sample_every": estimate.every})
            planned = {"steps": estimate.steps, "plan": ((0, *estimate[:3]),), "training": training}
            session.config = config.model_copy(update=planned)
            if start is None and (told := sensible(session.config, own.dataset, root)):
                warn(told)
        config, codecs, family = session.config, session.codecs, session.family
        if run is not None:
            facts: dict[str, Any] = {
                "fingerprint": dataset.fingerprint(),
                "device": str(engine.device),
                "asked": asked.model_dump(mode="json"),
                "config": config.model_dump(mode="json"),
            }
            facts["items"] = {split: len(index) for split, index in own.dataset.splits.items()}
            if weights is not None:  # so that the run can be resumed before its first checkpoint of its own
                checkpoint.save(run.checkpoints, 0, {"model": weights}, {"step": 0, "steps": config.steps}, keep=1)
            write(run, config, family, codecs, facts, session.cond)
        session.train(run, report, on_trainer, estimate, start=weights)
    except BaseException as error:
        memory = out_of_memory(error)
        begun = run is not None and (run.path / "config.yaml").exists()
        if run is not None and (not begun or (memory and not checkpoint.steps(run.checkpoints))):
            run.remove()  # nothing was begun, or nothing can come of it as it is
        if memory:
            raise memory from None
        raise
    finally:
        if run is not None:
            run.lock.release()
    folder = Path(engine.text("" if run is None else str(run.path)))
    return Fitted(run or Run(folder), family, codecs, session.config, session.cond)


@checked
def distil(
    what: str | Path,
    *,
    run: str | None = None,
    runs: str | Path | None = None,
    budget: str | float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    report: Report | None = None,
    on_trainer: OnTrainer | None = None,
) -> Fitted:
    """Train a model that begins with the weights of a run and learns to sample in one or two steps, as a run of its
    own, on the same data. Its configuration says by digest which weights these are.
    """
    if steps is not None and budget is not None:
        raise UsageError("budget and steps were both given", why="each of them says how long to train",
                         fix="give only one of them")  # fmt: skip
    begun = load(what, runs=runs)
    changed = merge(begun.config.model_dump(mode="json"), begun.family.distilled())
    changed |= {
        "budget": None if steps is not None else seconds(budget or 60),
        "steps": None if steps is None else count_of(steps, "steps"),
        "plan": (),
        "seed": begun.config.seed if seed is None else count_of(seed, "seed", 0),
        "distilled_from": begun.run.weights and begun.run.weights.sha256,
    }
    changed["training"] |= {"sample_every": None, "lr": DISTILLING * begun.config.training.lr}
    config, (dataset, _) = RunConfig(**changed), same_data(begun.run, begun.config, "restore them")
    with ProgressLine(f"distilling {begun.run.name}") as line:
        return train_planned(config, dataset, run, runs_root(runs), report or line, on_trainer, {}, begun)


def same_data(run: Run, config: RunConfig, fix: str, *, changed: bool = False) -> tuple[Dataset, list[Change]]:
    """The data that a run is trained on, and how they changed: DataError with this `fix`, unless they may have."""
    dataset = load_checked(**config.data.reading())
    was, now = run.manifest().get("fingerprint"), dataset.fingerprint()
    if was != now and not changed:
        raise DataError(
            "the data have changed since this run began",
            where=config.data.source,
            why="the sha256 of the items, labels and splits differs from the recorded one",
            fix=fix,
        )
    return dataset, [Change(DATA, was, now)] if was != now else []


@checked
def resume(
    run: str | Path,
    *,
    runs: str | Path | None = None,
    changed_data: bool = False,
    changed_config: bool = False,
    steps: int | None = None,
    budget: str | float | None = None,
    report: Report | None = None,
    on_trainer: OnTrainer | None = None,
) -> Fitted:
    """Continue a run to its end, bit for bit as if it had not stopped. Refuses if the data changed, unless
    `changed_data`, or its config.yaml, unless `changed_config`; what was changed then stands in its manifest and card.

    With `steps` or `budget`, both in all, it is trained further if it has fewer: one that was at its end warms up and
    decays anew, of any other the rest of its schedule is stretched.
    """
    if steps is not None and budget is not None:
        raise UsageError("budget and steps were both given", why="each of them says how long to train",
                         fix="give only one of them")  # fmt: skip
    more = None if steps is None else count_of(steps, "steps"), None if budget is None else seconds(budget)
    folder = Run.open(run, runs)
    config, changes = check_edits(folder, allowed=changed_config)
    family, codecs, config = rebuild(folder, config)
    fix = f"restore them, or quintet resume {folder.address} --changed-data"
    dataset, others = same_data(folder, config, fix, changed=changed_data)
    engine = Engine(config.device)
    task = Task.of(config, dataset, codecs).examples("train", "validation")
    session = Session(config, task, family.to(engine.device), engine)
    with ProgressLine(f"training {config.family}") as line:
        session.train(folder, report or line, on_trainer, steps=more[0], budget=more[1], changes=[*changes, *others])
    return Fitted(folder, family, codecs, session.config, session.cond)
