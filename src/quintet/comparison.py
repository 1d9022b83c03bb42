"""The same data, split, budget and figures for several families: `compare`, and the bench that measures one model."""

from __future__ import annotations

import base64
import contextlib
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from quintet import api, registry
from quintet.config import seconds
from quintet.core.codec import Codec
from quintet.core.errors import QuintetError, QuintetWarning
from quintet.core.recordings import Recordings
from quintet.data.sources import Dataset, load_source, take
from quintet.evaluation.features import Features, fit_features
from quintet.evaluation.metrics import evaluate_samples
from quintet.evaluation.pictures import grid_png, scatter_png, spectrogram_png
from quintet.evaluation.report import render
from quintet.evaluation.verdict import verdict
from quintet.model import Model
from quintet.outputs import sound, to_bytes
from quintet.runs import Run, runs_root, versions
from quintet.session import FEATURES, items_of, pick
from quintet.tasks import language, measure, task
from quintet.training.checkpoint import write_atomic

SCORED = 500
"""At most this many items of a split are scored, the first ones."""
HEARD, PLAYERS, SPECTROGRAMS = 10, 4, 50
"""Of recordings in a report: seconds of each, how many can be played, how many are drawn."""


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


class Bench:
    """What every model of one data set is measured with: the same items, labels, features and counts.

    Items are measured in one encoding that no family chose: pixels on [-1, 1], standardised columns, or symbols.
    """

    def __init__(
        self, dataset: Dataset, condition: str | None, *, target: str | None = None, samples: int = 1000
    ) -> None:
        self.dataset, self.condition, self.target, self.samples = dataset, condition, target, samples
        self.codec = self._codec()
        self.items = {split: self.measure(self.rows(split)) for split in dataset.splits}
        column = condition not in (None, "items", dataset.modality)
        self.labels = {split: self._labels(split) for split in dataset.splits} if column else {}
        self.features: Features = fit_features(
            self.items["train"], FEATURES[self.codec.name], pad=getattr(self.codec.space, "pad", None)
        )

    def rows(self, split: str) -> Any:
        return pick(self.dataset, self.target, split, without=self.condition)

    def _codec(self) -> Codec:
        items = self.target in (None, "items", self.dataset.modality)
        return registry.CODECS[self.dataset.modality if items else "table"]().fit(self.rows("train"))

    def measure(self, raw: Any) -> np.ndarray:
        """Raw items as they are measured."""
        return self.codec.encode(raw).numpy()

    def _labels(self, split: str) -> np.ndarray:
        table = pick(self.dataset, self.condition, split)
        return np.asarray(table.column(0).to_pylist())

    def recipe(self) -> dict[str, Any]:
        return {
            "features": self.features.recipe,
            "splits": {split: len(items) for split, items in self.items.items()},
            "samples": self.samples,
            "scored_items": min(SCORED, len(self.items["test"])),
            "condition": self.condition or "none",
            "classifier": "HistGradientBoosting on raw values, 5-fold; logistic regression for tstr",
        }

    def real(self, seed: int = 0) -> dict[str, Any]:
        """Unseen real items in the place of samples: what a perfect model would reach."""
        figures = self._figures(self.items["validation"], self.labels.get("validation"), "test", seed)
        if len(self.items["validation"]) < min(len(self.items["test"]), self.samples):
            del figures["frechet"]  # biased by the number of items, so not comparable with the models'
        return figures

    def _figures(self, fake: np.ndarray, labels: np.ndarray | None, split: str, seed: int) -> dict[str, Any]:
        few = labels is not None and len(np.unique(self.labels["train"])) <= 50
        return evaluate_samples(
            self.items["train"],
            self.items[split],
            fake,
            self.features,
            train_labels=self.labels["train"] if few else None,
            test_labels=self.labels[split] if few else None,
            fake_labels=labels if few else None,
            seed=seed,
        )

    def run(self, model: Model, *, split: str = "test", seed: int = 0) -> dict[str, Any]:
        """Likelihood, sample figures and the time per sample of one model."""
        cond = model.condition(None, self.samples, seed) if "cond" in model.codecs else None
        began = time.perf_counter()
        fake = model.sample(self.samples, seed=seed)
        spent = time.perf_counter() - began
        labels = None
        if cond is not None and self.labels:
            labels = np.asarray(model.codecs["cond"].decode(cond).column(0).to_pylist())
        out: dict[str, Any] = {
            "split": split,
            "ms_per_sample": 1000 * spent / self.samples,
            "parameters": sum(p.numel() for p in model.family.parameters()),
            "metrics": self._figures(self.measure(fake), labels, split, seed),
            "likelihood": None,
        }
        if model.family.likelihood == "none":
            return out | {"likelihood_reason": model.family.missing["log_prob"]}
        some = np.arange(min(SCORED, len(self.items[split])))
        items, given = items_of(model.config, self.dataset, split)
        if not model.codecs["x"].stream:  # a long text is one item of many windows
            items, given = take(items, some), None if given is None else take(given, some)
        score = model.log_prob(items, condition=given, seed=seed)
        return out | {"likelihood": score.summary()} | language(model, score, items)

    def show(self, model: Model | None, n: int = 100) -> dict[str, Any]:
        """Samples of seed 0, or real test items, as the report shows them."""
        if model is None:
            count = min(n, len(self.items["test"]))
            if self.codec.stream:  # one text is many windows
                raw: Any = self.codec.decode(torch.from_numpy(self.items["test"][:count]))
            else:
                raw = take(self.rows("test"), np.arange(count))
            return picture_of(raw, self.codec, None)
        condition = None
        if "cond" in model.codecs and self.labels:
            known = sorted(set(self.labels["train"].tolist()))
            condition = [known[i % len(known)] for i in range(n)] if len(known) <= 50 else None
        return picture_of(model.sample(n, seed=0, condition=condition), self.codec, self.rows("test"))


def picture_of(raw: Any, codec: Codec, reference: Any) -> dict[str, Any]:
    """Raw items for a report: a picture, rows or lines, and for recordings also the first to listen to."""
    if isinstance(raw, np.ndarray):
        return {"kind": "image", "png": base64.b64encode(grid_png(to_bytes(raw, codec), 10)).decode()}
    if isinstance(raw, Recordings):
        sounds = [sound(samples[: HEARD * raw.rate], raw.rate, {}) for samples in raw[:PLAYERS]]
        png = spectrogram_png(raw[:SPECTROGRAMS])
        return {
            "kind": "audio",
            "png": base64.b64encode(png).decode(),
            "sounds": [base64.b64encode(file).decode() for file in sounds],
        }
    if isinstance(raw, pa.Table):
        if raw.num_columns == 2 and all(pa.types.is_floating(column.type) for column in raw.columns):
            points = np.stack([column.to_numpy() for column in raw.columns], 1)
            frame = None if reference is None else np.stack([column.to_numpy() for column in reference.columns], 1)
            return {"kind": "image", "png": base64.b64encode(scatter_png(points, frame)).decode()}
        rows = [
            [f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row.values()] for row in raw.to_pylist()[:8]
        ]
        return {"kind": "rows", "columns": raw.column_names, "rows": rows}
    return {"kind": "text", "items": [text[:400] for text in raw[:6]]}


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
