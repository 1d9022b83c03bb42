"""Several families on one source: trained alike, and measured; what was stopped goes on where it was left."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from quintet import registry
from quintet.comparison.document import completed, failed, failure_reason, head, options
from quintet.comparison.measuring import TIME_PARTS, allowed, doing, entry_of, figures_of
from quintet.core.errors import UsageError, warn
from quintet.core.typed import as_yaml, line
from quintet.evaluation.bench import Bench
from quintet.evaluation.cost import Meter
from quintet.fit import fitting
from quintet.fit.pixels import affordable_pixels, in_small_batches, judged, too_short
from quintet.model.fitted import Fitted
from quintet.runs.config import RunConfig, merge, seconds
from quintet.runs.folder import Run, runs_root
from quintet.runs.names import check_name, stem
from quintet.sources.load import Dataset, load_checked
from quintet.training.checkpoint import write_atomic
from quintet.training.trainer import Trainer


@dataclass(frozen=True)
class Contest:
    """What is asked for: each of the families with each seed on one source. `training` is what `fitting.train` takes
    (budget, steps, preset, config), `measured` what a bench does (samples, split, features).
    """

    source: str
    families: Sequence[str]
    condition: str | None
    seeds: int
    training: Mapping[str, Any]
    measured: Mapping[str, Any]

    def dataset(self) -> Dataset:
        """The source as it is read for training."""
        return load_checked(self.source, **fitting.reading_of(self.training["config"]))

    def of(self, dataset: Dataset) -> Self:
        """With its condition: "auto" is the column `label` where the source has one."""
        if self.condition != "auto":
            return self
        named = dataset.labels is not None and "label" in dataset.labels.column_names
        return replace(self, condition="label" if named else None)

    def at(self, size: int) -> Self:
        """On pictures of this size."""
        config = merge(self.training["config"], {"data": {"size": size}})
        return replace(self, training={**self.training, "config": config})

    @property
    def seconds(self) -> float | None:
        """What a run may take; None where steps say how long it is."""
        return None if self.training["steps"] is not None else seconds(self.training["budget"] or 60)

    @property
    def command(self) -> str:
        """The command line that makes the same comparison."""
        training, steps = self.training, self.training["steps"]
        every, data = list(self.families) == list(registry.COMPARED), training["config"].get("data") or {}
        length = ("budget", training["budget"] or "60s") if steps is None else ("steps", steps)
        asked = [
            ("families", None if every else ",".join(self.families)), ("condition", self.condition or "none"), length,
            ("seeds", self.seeds), ("preset", training["preset"]), ("parameters", training["config"].get("parameters")),
            *((f"data.{key}", as_yaml(value)) for key, value in data.items()), *options(**self.measured),
        ]  # fmt: skip
        return line("compare", [self.source], asked)

    def told(self, root: Path) -> dict[str, Any]:
        """What a report says of what was asked."""
        return {
            "command": self.command,
            "budget": f"{self.training['steps']} steps" if self.seconds is None else f"{self.seconds:g}s",
            "seeds": list(range(self.seeds)),
            "runs": str(root),
        }


def contest(
    asked: Contest,
    runs: str | Path | None,
    run: str | None,
    report: Callable[[dict[str, Any]], None] | None,
    on_trainer: Callable[[Trainer | None], None] | None,
) -> dict[str, Any]:
    """Train, then measure; what an earlier call of this comparison has finished is taken as it is. `run` names its
    folder.
    """
    dataset = asked.dataset()
    asked = asked.of(dataset)
    for family in asked.families:
        registry.family_class(family)
    wanted = {"command": asked.command, "config": asked.training["config"], "data": dataset.fingerprint()}
    folder = begun(runs_root(runs), f"compare-{dataset.name}", wanted, run)
    try:
        with folder.lock.alone():
            return held(asked, dataset, folder.path, report, on_trainer)
    finally:
        folder.lock.release()  # a new folder had it before


def held(
    asked: Contest,
    dataset: Dataset,
    root: Path,
    report: Callable[[dict[str, Any]], None] | None,
    on_trainer: Callable[[Trainer | None], None] | None,
) -> dict[str, Any]:
    """The comparison in its folder, which nobody else writes."""
    choice = _choice(root, dataset, asked.families, asked.condition, asked.training)
    if choice["size"] is not None:
        asked = asked.at(choice["size"])
        dataset = asked.dataset()
    for note in [*choice["notes"], *(f"{name} is left out: {why}" for name, why in choice["left_out"].items())]:
        warn(note)
    bench = Bench(dataset, asked.condition, samples=asked.measured["samples"], features=asked.measured["features"])
    bench.check(asked.measured["split"])
    told = head(dataset, bench, bench.measurement(asked.measured["split"])) | asked.told(root)
    write_atomic(root / HEAD, json.dumps(told | {"choice": choice, "families": list(asked.families)}, default=str))
    work = Entrants(asked, root, dataset, bench, choice["left_out"], report, on_trainer or (lambda _: None))
    (root / FAILURES).unlink(missing_ok=True)
    entries = [work.entry(name, seed) for name, seed in itertools.product(asked.families, range(asked.seeds))]
    if all(entry["status"] == "ok" or entry["family"] in choice["left_out"] for entry in entries):
        write_atomic(root / BEGUN, json.dumps(json.loads((root / BEGUN).read_text()) | {"finished": True}))
    found = completed(told, entries)
    found["verdict"]["caveats"] = [*choice["notes"], *found["verdict"]["caveats"]]
    return found | ({"stopped": work.stopped} if work.stopped else {})


@dataclass
class Entrants:
    """Trains and measures one run after another, and keeps what is finished. `left_out`: families that are not trained,
    and why. Once a run was `stopped` no other is begun.
    """

    asked: Contest
    root: Path
    dataset: Dataset
    bench: Bench
    left_out: Mapping[str, str]
    report: Callable[[dict[str, Any]], None] | None
    on_trainer: Callable[[Trainer | None], None]
    stopped: str = ""
    failures: dict[str, str] = field(default_factory=dict)

    def entry(self, family: str, seed: int) -> dict[str, Any]:
        """The report's entry of a run: what is kept of an earlier call, or what is made now, or why there is none."""
        who = {"family": family, "seed": seed, "run": f"{family}-{seed}"}
        kept = self.root / f"{who['run']}.json"
        if self.stopped:
            return who | self._interrupted()
        if kept.is_file():
            return dict(json.loads(kept.read_text()))
        if family in self.left_out:
            return who | failed(self.left_out[family], "left out")
        try:
            made = who | self._made(family, seed, f"{family}-{seed}")
            write_atomic(kept, json.dumps(made, default=str))
            return made
        except KeyboardInterrupt as error:
            self.stopped = f"stopped by {error}" if str(error) else "stopped"
            return who | self._interrupted()
        except Exception as error:  # of whatever kind: the other families' hours must not be lost
            why = self.failures[f"{family}-{seed}"] = failure_reason(error)
            with contextlib.suppress(OSError):
                write_atomic(self.root / FAILURES, json.dumps(self.failures))
            return who | failed(why)
        finally:
            self.on_trainer(None)

    def _interrupted(self) -> dict[str, Any]:
        return failed(f"{self.stopped} before it was finished")

    def _made(self, family: str, seed: int, run: str) -> dict[str, Any]:
        """A run's figures: trained, or taken up where it was left, and measured. Raises KeyboardInterrupt if it was
        stopped.
        """
        asked, report, trainers = self.asked, self.report, list[Trainer]()
        told = None if report is None else lambda record: report({"family": family, "seed": seed} | record)

        def watch(trainer: Trainer | None) -> None:
            trainers.extend([trainer] if trainer else [])
            self.on_trainer(trainer)

        wanted = {"family": family, "data": asked.source, "condition": asked.condition, "seed": seed, **asked.training}
        with Meter() as meter:
            model = train_or_resume(self.root, run, wanted, told, watch)
        self.on_trainer(None)
        if trainers[-1].stop and (trainers[-1].unfinished or model.config.family != family):
            raise KeyboardInterrupt(trainers[-1].stop)
        if told is not None:
            self.bench.tell = partial(doing, told)
        limit = allowed(model) / TIME_PARTS if asked.seconds is None else max(10.0, asked.seconds / 3)
        split, samples = asked.measured["split"], asked.measured["samples"]
        figures, shown, _ = figures_of(model, self.dataset, self.bench, split, samples, seed, limit=limit)
        return entry_of(model, figures, shown) | {"peak_mb": meter.peak_mb, "joules": meter.joules}


BEGUN = "comparison.json"
"""In the folder of a comparison: what was asked for, and whether all of it is finished."""
HEAD, FAILURES = "head.json", "failures.json"
"""Beside it, for who looks on: what its report says of no model, and why runs failed since it was last taken up."""


def begun(root: Path, like: str, wanted: Mapping[str, Any], name: str | None = None) -> Run:
    """The folder of this comparison if it was begun and not finished, else a new one. By its name it is found finished
    too, and another comparison of that name is a UsageError.
    """
    wish = json.loads(json.dumps(wanted, default=str))
    if name is not None:
        return named(root, check_name(name), wish)
    for path in sorted(root.glob(f"{stem(like)}-*/{BEGUN}")):
        begun = json.loads(path.read_text())
        begun.pop("choice", None)
        if begun == wish:
            return Run(path.parent)
    return new(Run.create(root, None, like), wish)


def new(folder: Run, wish: Mapping[str, Any]) -> Run:
    """The folder of a comparison that begins now."""
    write_atomic(folder.path / BEGUN, json.dumps(wish))
    return folder


def named(root: Path, name: str, wish: Mapping[str, Any]) -> Run:
    """The folder of this name, if it holds this comparison or none yet."""
    folder = root / name
    if folder.parent == root and (folder / BEGUN).is_file():
        old = json.loads((folder / BEGUN).read_text())
        changed = [key for key, value in wish.items() if old.get(key) != value]
        if changed:
            why = f"it was begun by {old.get('command')!r}, and now differs in {', '.join(changed)}"
            raise UsageError(
                "another comparison already has this name", where=str(folder), why=why, fix="choose another --run"
            )
        return Run(folder)
    return new(Run.create(root, name, name), wish)


def _choice(
    root: Path, dataset: Dataset, families: Sequence[str], condition: str | None, training: Mapping[str, Any]
) -> dict[str, Any]:
    """{"size", "left_out": {family: why}, "notes"}: at how many pixels a budget buys readable pictures of which
    families. It is found out once: a comparison that goes on keeps to it. Without a budget nothing is chosen.
    """
    begun = json.loads((root / BEGUN).read_text())
    if "choice" not in begun:
        begun["choice"] = {"size": None, "left_out": {}, "notes": []}
        if training["steps"] is None and "codec" not in training["config"] and judged(dataset):
            begun["choice"] = sized(dataset, families, condition, training, root)
        write_atomic(root / BEGUN, json.dumps(begun))
    found: dict[str, Any] = begun["choice"]
    return found


def sized(
    dataset: Dataset, families: Sequence[str], condition: str | None, training: Mapping[str, Any], root: Path
) -> dict[str, Any]:
    """What a comparison of pictures with this budget takes: see `_choice`."""
    budget, config = seconds(training["budget"] or 60), training["config"]

    def planned(name: str, small: Dataset) -> RunConfig:
        made = fitting.plan(name, small, condition=condition, budget=budget, preset=training["preset"], config=config)
        return made if "batch_size" in (config.get("training") or {}) else in_small_batches(made)

    given = (config.get("data") or {}).get("size") is not None
    found, whole = affordable_pixels(dataset, families, planned, root, smaller=not given), dataset.items.shape[1:3]
    choice: dict[str, Any] = {"size": None, "left_out": {}, "notes": []}
    if not found.works:  # they are trained as they are, and what has learnt too little is said so
        if found.short:
            why = "; ".join(": ".join(too_short(name, *short, budget)) for name, short in found.short.items())
            choice["notes"].append(f"this budget is too short for pictures of this size: {why}")
        return choice
    if found.side < max(whole):
        choice["size"] = found.side
        choice["notes"].append(
            f"{budget:g} s a family buy too few steps on pictures of {whole[0]} x {whole[1]} pixels: every family is "
            f"trained and measured on {found.height} x {found.width} (--data.size {max(whole)} overrules this)"
        )
    for name, short in found.short.items():
        told, longer = too_short(name, *short, budget)
        choice["left_out"][name] = f"it was not trained, since {told}: {longer}, or --steps N to train it all the same"
    return choice


def train_or_resume(
    root: Path,
    name: str,
    wanted: Mapping[str, Any],
    report: Callable[[dict[str, Any]], None] | None,
    watch: fitting.OnTrainer,
) -> Fitted:
    """The model of a run of a comparison: trained, or taken up where it was left."""
    if (root / name / "config.yaml").is_file():
        return fitting.resume(root / name, report=report, on_trainer=watch)
    return fitting.train(**wanted, run=name, runs=root, report=report, on_trainer=watch)
