"""What `train` and `resume` answer, and when a run may go on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from quintet.cli.console import Answer, Signals, clock, figures, last
from quintet.core.errors import ConfigError
from quintet.model.fitted import Fitted
from quintet.runs.advice import advice
from quintet.runs.config import RunConfig
from quintet.runs.folder import Run, runs_root
from quintet.runs.restoring import make_family
from quintet.runs.task import Task
from quintet.sources.load import Dataset

BEFORE_CONFIG = {"codec", "manifest.json", ".config.yaml.tmp", ".manifest.json.tmp"}
"""What a run folder holds before its config.yaml, which is written last."""


def dry(planned: RunConfig, dataset: Dataset, runs: Path | None = None) -> Answer:
    """The complete configuration, after trying that the codec fits the data and the family the codec."""
    family = make_family(planned, Task.of(planned, dataset).examples("train").fitted(planned, runs).codecs)
    data, parameters = planned.model_dump(mode="json"), sum(p.numel() for p in family.parameters())
    text = f"# {parameters:,} parameters; nothing was written\n{yaml.safe_dump(data, sort_keys=False)}"
    return Answer({"dry_run": True, "config": data, "parameters": parameters}, text)


def continues(planned: RunConfig, name: str, runs: Path | None) -> bool:
    """Whether that run exists; ConfigError if it was made with another configuration than the planned one. What counts
    is what was asked for, since a budget may have changed batches, preset and looks of the run itself.

    What a start left behind that was killed before it wrote config.yaml is cleared away: there is nothing in it yet.
    """
    folder = runs_root(runs) / name
    if not (folder / "config.yaml").is_file():
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= BEFORE_CONFIG:
            shutil.rmtree(folder)
        return False
    old, new = Run(folder).manifest().get("asked") or {}, planned.model_dump(mode="json")
    changed = [f"{key}: {was!r} in the run, {now!r} now" for key, was, now in differences(old, new)
               if key not in ("budget", "steps", "plan")]  # fmt: skip
    if changed:
        fix = f"another --run name, or quintet resume {Run(folder).address} to go on as it was"
        raise ConfigError("the run has another configuration", where=str(folder), why="; ".join(changed), fix=fix)
    return True


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted key, old, new) wherever two configurations differ."""
    out: list[tuple[str, Any, Any]] = []
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            out += differences(was, now, f"{prefix}{key}.")
        elif was != now:
            out.append((prefix + key, was, now))
    return out


def trained(model: Fitted, signals: Signals) -> Answer:
    """What `train` and `resume` say: finished, or stopped by a signal and saved."""
    run, news, trainer = model.run, last(model.run.metrics()), signals.trainer
    assert trainer is not None
    data = {
        "run": str(run.path),
        "name": run.name,
        "family": model.config.family,
        "source": model.config.data.source,
        "step": trainer.step,
        "steps": trainer.steps,
        "seconds": round(trainer.seconds, 3),
        **{key: news[key] for key in ("loss", "losses", "quality", "held_out")},
        "advice": [one._asdict() for one in advice(run.metrics_of_weights())],
        "parameters": sum(p.numel() for p in model.family.parameters()),
    }
    if trainer.step < trainer.steps and signals.received is not None:
        what, fix = f"stopped by {signals.received.name} and saved", f"quintet resume {run.address}"
        note = f"{run.path}: {what} at step {trainer.step:,} of {trainer.steps:,}\n  go on: {fix}"
        print(note, file=sys.stderr)
        stop = {"error": "Stopped", "what": what, "where": str(run.path), "why": "", "fix": fix}
        return Answer({**data, **stop}, "", 128 + signals.received)
    planned = model.config.steps or trainer.steps
    early = f" of {planned:,}, ended early" if trainer.steps < planned else ""
    text = ", ".join([f"{run.path}: {trainer.steps:,} steps{early} in {clock(trainer.seconds)}", *figures(news)])
    return Answer(data, f"{text}\n  next: quintet sample {run.address}, quintet evaluate {run.address}")
