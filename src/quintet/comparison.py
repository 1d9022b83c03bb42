"""The same data, split, budget and figures for several families: `compare`, and `evaluate` for one model."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quintet import api, registry
from quintet.bench import Bench
from quintet.card import write_card
from quintet.config import seconds
from quintet.core.errors import QuintetError, QuintetWarning
from quintet.data.sources import Dataset, load_source
from quintet.evaluation.report import render
from quintet.evaluation.verdict import verdict
from quintet.model import Model
from quintet.runs import Run, runs_root, versions
from quintet.tasks import measure, task
from quintet.training.checkpoint import write_atomic


def own_memory(reset: bool = False) -> float:
    """Peak resident memory of this process in MB; with `reset`, start anew where the system lets us (Linux)."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def compare(
    source: str,
    *,
    families: Sequence[str] | None = None,
    condition: str | None = "auto",
    budget: str | float | None = None,
    steps: int | None = None,
    seeds: int = 1,
    preset: str | None = None,
    samples: int = 1000,
    output: str | Path | None = None,
    runs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train each family with each seed on the same split and budget; measure all with one bench; write the report.

    `condition` "auto" is the column `label` where the source has one. Families that cannot model the source (no face of
    its codec) are listed with the reason. Each run stands alone: its figures do not depend on which others are
    compared. Returns what the report shows; with `output`, also writes it as HTML and as JSON beside it.
    """
    dataset = load_source(source, **api.reading(config))
    if condition == "auto":
        named = dataset.labels is not None and "label" in dataset.labels.column_names
        condition = "label" if named else None
    chosen = list(families or registry.COMPARED)
    for name in chosen:
        registry.family_class(name)
    bench = Bench(dataset, condition, samples=samples)
    root = Run.create(runs_root(runs), None, f"compare-{dataset.name}").path
    entries: list[dict[str, Any]] = []
    for name in chosen:
        for seed in range(seeds):
            told = (
                (lambda record, name=name, seed=seed: report({"family": name, "seed": seed, **record}))
                if report
                else None
            )
            entry: dict[str, Any] = {"family": name, "seed": seed, "run": f"{name}-{seed}"}
            try:
                own_memory(reset=True)
                model = api.train(name, data=source, condition=condition, budget=budget, steps=steps, seed=seed,
                                  preset=preset, run=entry["run"], runs=root, config=config, report=told)  # fmt: skip
                peak = own_memory()
                figures = bench.run(model, seed=seed)
                entries.append(entry | _entry(model, figures, bench.show(model)) | {"peak_mb": peak})
            except (QuintetError, RuntimeError, MemoryError) as error:
                entries.append(entry | {"status": "failed", "error": str(error)})
    result = _assemble(bench, entries) | {
        "command": _command(source, chosen, condition, budget, steps, seeds, preset),
        "budget": f"{seconds(budget or 60):g}s" if steps is None else f"{steps} steps",
        "seeds": list(range(seeds)),
        "runs": str(root),
    }
    if output is not None:
        path = Path(output)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, result)
        result["report"] = str(path)
    return result


def evaluate(
    model: Model,
    *,
    split: str = "test",
    samples: int = 1000,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The figures of one model, chosen by what it is for; report.html and report.json in its run folder show them.

    Labels and texts that are given something are compared with the true ones (see `tasks.measure`), with `sampling`
    for texts; any other model is measured by its samples, on a bench.
    """
    data = model.config.data
    dataset = load_source(**data.reading())
    entry: dict[str, Any] = {"family": model.config.family, "seed": model.config.seed, "run": model.run.name}
    if task(model) == "samples":
        bench = Bench(dataset, data.condition, target=data.target, samples=samples)
        figures = bench.run(model, split=split, seed=seed)
        result = _assemble(bench, [entry | _entry(model, figures, bench.show(model))])
    else:
        figures = measure(model, dataset, split, limit=samples, seed=seed, sampling=sampling)
        shown = figures.pop("shown")
        notes = {key: value for key, value in figures["metrics"].items() if isinstance(value, str)}  # signatures
        recipe = notes | {"task": figures["task"], "items": figures["metrics"]["items"], "split": split,
                  "given": data.condition, "sampling": figures.get("sampling", "none")}  # fmt: skip
        result = _document(dataset, recipe, [entry | _entry(model, figures, shown)])
    result["command"] = f"quintet evaluate {model.run.name} --split {split} --samples {samples} --seed {seed}"
    try:
        _write(model.run.path / "report.html", result)
        write_card(model.run, model.family, model.codecs)
    except OSError as error:
        warnings.warn(f"the report was not written ({error})", QuintetWarning, stacklevel=2)
    return figures


def _assemble(bench: Bench, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """What a report shows of these models."""
    real = {"samples": bench.show(None), "metrics": bench.real()}
    return _document(bench.dataset, bench.recipe(), entries) | {"real": real}


def _document(dataset: Dataset, recipe: Mapping[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "source": dataset.name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": versions()["machine"],
        "versions": versions()["versions"],
        "recipe": dict(recipe),
        "curve_name": "energy distance between samples and validation items",
        "models": entries,
        "verdict": verdict(entries),
    }


def _write(path: Path, result: dict[str, Any]) -> None:
    write_atomic(path, render(result))  # type: ignore[arg-type]
    write_atomic(path.with_suffix(".json"), json.dumps(result, indent=1))


def _entry(model: Model, figures: dict[str, Any], samples: dict[str, Any]) -> dict[str, Any]:
    """A trained model's entry in the report."""
    records = model.run.metrics()
    config = model.config.model_dump(mode="json")
    return {
        "status": "ok",
        **figures,
        "train_seconds": records[-1]["seconds"] if records else None,
        "steps": model.config.steps,
        "samples": samples,
        "curve": [[r["seconds"], r["quality"]] for r in records if r.get("quality") is not None],
        "config": {key: config[key] for key in ("codec", "preset", "model", "sampling", "training")},
    }


def _command(
    source: str,
    families: list[str],
    condition: str | None,
    budget: Any,
    steps: int | None,
    seeds: int,
    preset: str | None,
) -> str:
    """The command line that makes the same comparison."""
    words = ["quintet compare", source]
    if families != list(registry.COMPARED):
        words.append(f"--families {','.join(families)}")
    words.append(f"--condition {condition or 'none'}")
    words.append(f"--steps {steps}" if steps is not None else f"--budget {budget or '60s'}")
    words.append(f"--seeds {seeds}")
    if preset:
        words.append(f"--preset {preset}")
    return " ".join(words)
