"""The same data, split, budget and figures for several families: `compare`, and `evaluate` for one model."""

from __future__ import annotations

import difflib
import itertools
import json
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quintet import registry
from quintet.comparison.report import ranks, render
from quintet.comparison.verdict import verdict
from quintet.core.checked import checked
from quintet.core.errors import DataError, QuintetError, UsageError, warn
from quintet.evaluation.bench import Bench
from quintet.evaluation.cost import Meter
from quintet.evaluation.nearest import nearest
from quintet.evaluation.recipes import comparable, flat
from quintet.evaluation.tasks import measure, task
from quintet.fit import api
from quintet.fit.pixels import affordable_pixels, in_small_batches, judged, why_short
from quintet.model.containers import source_of
from quintet.model.fitted import Fitted
from quintet.runs.advice import advice
from quintet.runs.card import write_card
from quintet.runs.config import RunConfig, merge, seconds
from quintet.runs.folder import Run, runs_root
from quintet.runs.restoring import versions
from quintet.sources.load import SOURCES, SPLITS, Dataset, load_source
from quintet.training.checkpoint import write_atomic
from quintet.training.trainer import Trainer


@checked
def compare(
    *what: Any,
    families: Sequence[str] | None = None,
    condition: str | None = "auto",
    budget: str | float | None = None,
    steps: int | None = None,
    parameters: int | None = None,
    seeds: int = 1,
    preset: str | None = None,
    samples: int = 1000,
    split: str = "test",
    features: str = "pca",
    output: str | Path | None = None,
    runs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    on_trainer: Callable[[Trainer | None], None] | None = None,
) -> dict[str, Any]:
    """Measure models of one data set with one bench, say which to keep, and write the report.

    `what` is a source (also one that lies in memory, as for `train`), or runs, or reports (.json). Of a source, each
    family is trained with each seed on the same split and budget: seconds (`budget`) or `steps`, and `parameters` if
    all are to be of one size. `condition` "auto" is the column `label` where the source has one. Families that cannot
    model the source (no face of its codec) are listed with the reason. Runs must be of the same data, target and
    condition; those that differ by their seed alone are one contender. Reports must have been measured by one recipe;
    their figures are put together as they are, and a contender that is in several has the names of the files added.
    Each run stands alone: its figures do not depend on which others are compared. Returns what the report shows; with
    `output`, also writes it as HTML and as JSON beside it.

    What fails is listed with its reason, and the rest is measured. `on_trainer` gets each trainer before its first
    step, to be able to stop it, and None behind its last. A comparison that was stopped holds what was finished, and
    `stopped`; the same call takes it up again, as it does where a family failed.
    """
    if not what:
        raise UsageError("nothing to compare", fix="quintet compare SOURCE, or quintet compare RUN RUN")
    if len(what) == 1 and not isinstance(what[0], str | Path):
        what = (source_of(what[0], runs_root(runs)),)
    check_split(split)
    if output is not None and Path(output).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"a report cannot be written to {str(output)!r}",
                         why="it is HTML, with its figures as JSON beside it", fix="-o report.html")  # fmt: skip
    for one in what:
        if not isinstance(one, str | Path):
            raise UsageError(f"a run or a report is a name or a path, not {type(one).__name__}")
    measured: dict[str, Any] = {"samples": samples, "split": split, "features": features}
    if is_source(what, runs):
        size = {"parameters": parameters} if parameters is not None else {}
        training = {"budget": budget, "steps": steps, "preset": preset, "config": merge(config or {}, size)}
        result = _sources(str(what[0]), list(families or registry.COMPARED), condition, seeds, training, measured,
                          runs, report, on_trainer)  # fmt: skip
    elif all(str(one).endswith(".json") for one in what):
        result = _reports([Path(one) for one in what])
    else:
        result = _runs([Run.open(one, runs) for one in what], **measured)
    if output is not None:
        path = Path(output)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, result)
        result["report"] = str(path)
    return result


def check_split(split: str) -> None:
    """Raise UsageError unless a model can be measured on a split of this name."""
    if split not in SPLITS:
        near = difflib.get_close_matches(str(split), SPLITS, 1)
        raise UsageError(f"no split {split!r}", why=f"splits: {', '.join(SPLITS)}",
                         fix=f"did you mean {near[0]}?" if near else "--split test")  # fmt: skip


def is_source(what: Sequence[str | Path], runs: str | Path | None = None) -> bool:
    """Whether this is one source to train on, rather than runs or reports; a source's own name wins."""
    one = str(what[0])
    return len(what) == 1 and (one in SOURCES or not (one.endswith(".json") or Run.exists(one, runs)))


def _sources(
    source: str,
    families: list[str],
    condition: str | None,
    seeds: int,
    training: Mapping[str, Any],
    measured: Mapping[str, Any],
    runs: str | Path | None,
    report: Callable[[dict[str, Any]], None] | None,
    on_trainer: Callable[[Trainer | None], None] | None,
) -> dict[str, Any]:
    """Train, then measure; what an earlier call of this comparison has finished is taken as it is."""
    dataset = load_source(source, **api.reading(training["config"]))
    if condition == "auto":
        named = dataset.labels is not None and "label" in dataset.labels.column_names
        condition = "label" if named else None
    for name in families:
        registry.family_class(name)
    samples, split = measured["samples"], measured["split"]
    command = _command(source, families, condition, seeds, training, measured)
    wanted = {"command": command, "config": training["config"], "data": dataset.fingerprint()}
    root = _begun(runs_root(runs), f"compare-{dataset.name}", wanted)
    choice = _choice(root, dataset, families, condition, training)
    if choice["size"] is not None:
        training = {**training, "config": merge(training["config"], {"data": {"size": choice["size"]}})}
        dataset = load_source(source, **api.reading(training["config"]))
        command = _command(source, families, condition, seeds, training, measured)
    left_out = [f"{name} is left out: {why}" for name, why in choice["left_out"].items()]
    for note in [*choice["notes"], *left_out]:
        warn(note)
    bench = Bench(dataset, condition, samples=samples, features=measured["features"])
    entries: list[dict[str, Any]] = []
    limit = None if training["steps"] is not None else max(10.0, seconds(training["budget"] or 60) / 3)
    stopped = ""
    for name, seed in itertools.product(families, range(seeds)):
        who: dict[str, Any] = {"family": name, "seed": seed}
        entry = who | {"run": f"{name}-{seed}"}
        kept = root / f"{entry['run']}.json"
        if stopped:
            entries.append(entry | {"status": "failed", "error": f"{stopped} before it was finished"})
            continue
        if kept.is_file():
            entries.append(json.loads(kept.read_text()))
            continue
        if name in choice["left_out"]:
            entries.append(entry | {"status": "failed", "error": choice["left_out"][name]})
            continue
        told = (lambda record, who=who: report(who | record)) if report else None
        trainers: list[Trainer] = []

        def watch(trainer: Trainer, trainers: list[Trainer] = trainers) -> None:
            trainers.append(trainer)
            if on_trainer:
                on_trainer(trainer)

        try:
            with Meter() as meter:
                model = _trained(root, entry["run"], dict(family=name, data=source, condition=condition, seed=seed,
                                 **training), told, watch)  # fmt: skip
            if on_trainer:
                on_trainer(None)
            if trainers[0].stop and trainers[0].step < trainers[0].steps:
                raise KeyboardInterrupt(trainers[0].stop)
            if told is not None:
                bench.tell = partial(_doing, told)
            most = allowed(model) / PARTS if limit is None else limit
            figures, shown, _ = _measure(model, dataset, bench, split, samples, seed, limit=most)
            cost = {"peak_mb": meter.peak_mb, "joules": meter.joules}
            made = entry | _entry(model, figures, shown) | cost
            write_atomic(kept, json.dumps(made))
            entries.append(made)
        except KeyboardInterrupt as error:
            stopped = f"stopped by {error}" if str(error) else "stopped"
            entries.append(entry | {"status": "failed", "error": f"{stopped} before it was finished"})
        except Exception as error:  # of whatever kind: the other families' hours must not be lost
            entries.append(entry | {"status": "failed", "error": reason(error)})
        finally:
            if on_trainer:
                on_trainer(None)
    if all(entry["status"] == "ok" or entry["family"] in choice["left_out"] for entry in entries):
        write_atomic(root / BEGUN, json.dumps(wanted | {"finished": True}))
    budget, steps = training["budget"], training["steps"]
    document = _document(dataset, bench, bench.recipe(split), entries)
    document["verdict"]["caveats"] = [*choice["notes"], *document["verdict"]["caveats"]]
    return document | {
        "command": command,
        "budget": f"{seconds(budget or 60):g}s" if steps is None else f"{steps} steps",
        "seeds": list(range(seeds)),
        "runs": str(root),
        **({"stopped": stopped} if stopped else {}),
    }


BEGUN = "comparison.json"
"""In the folder of a comparison: what was asked for, and whether all of it is finished."""


def _begun(root: Path, stem: str, wanted: Mapping[str, Any]) -> Path:
    """The folder of this comparison if it was begun and not finished, else a new one."""
    wish = json.loads(json.dumps(wanted, default=str))
    for path in sorted(root.glob(f"{stem}-*/{BEGUN}")):
        begun = json.loads(path.read_text())
        begun.pop("choice", None)
        if begun == wish:
            return path.parent
    folder = Run.create(root, None, stem).path
    write_atomic(folder / BEGUN, json.dumps(wish))
    return folder


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
        made = api.plan(name, small, condition=condition, budget=budget, preset=training["preset"], config=config)
        return made if "batch_size" in (config.get("training") or {}) else in_small_batches(made)

    given = (config.get("data") or {}).get("size") is not None
    found, whole = affordable_pixels(dataset, families, planned, root, smaller=not given), dataset.items.shape[1:3]
    choice: dict[str, Any] = {"size": None, "left_out": {}, "notes": []}
    if not found.works:  # they are trained as they are, and what has learnt too little is said so
        if found.short:
            why = "; ".join(why_short(name, *short, budget) for name, short in found.short.items())
            choice["notes"].append(f"this budget is too short for pictures of this size: {why}")
        return choice
    if found.side < max(whole):
        choice["size"] = found.side
        choice["notes"].append(
            f"{budget:g} s a family buy too few steps on pictures of {whole[0]} x {whole[1]} pixels: every family is "
            f"trained and measured on {found.height} x {found.width} (--data.size {max(whole)} overrules this)"
        )
    for name, short in found.short.items():
        choice["left_out"][name] = (
            f"it was not trained, since {why_short(name, *short, budget)}, or --steps N to train it all the same"
        )
    return choice


def _trained(
    root: Path,
    name: str,
    wanted: Mapping[str, Any],
    report: Callable[[dict[str, Any]], None] | None,
    watch: Callable[[Trainer], None],
) -> Fitted:
    """The model of a run of a comparison: trained, or taken up where it was left."""
    if (root / name / "config.yaml").is_file():
        return api.resume(root / name, report=report, on_trainer=watch)
    if (root / name).is_dir():  # killed before it had begun
        shutil.rmtree(root / name)
    return api.train(**wanted, run=name, runs=root, report=report, on_trainer=watch)


def reason(error: Exception) -> str:
    """Why something failed, in words; of an error that is none of quintet's own also its kind."""
    return str(error) if isinstance(error, QuintetError) else f"{type(error).__name__}: {error}"


def _runs(folders: Sequence[Run], *, samples: int, split: str, features: str) -> dict[str, Any]:
    """Measure runs that are there."""
    configs = [run.config() for run in folders]
    same_data(folders, configs)
    models = [api.load(run.path) for run in folders]
    data = configs[0].data
    dataset = load_source(**data.reading())
    kinds = {task(model) for model in models}
    if len(kinds) > 1:
        raise UsageError("these runs are for different things", why=" and ".join(sorted(kinds)))
    bench = None
    if kinds == {"samples"}:
        bench = Bench(dataset, data.condition, target=data.target, samples=samples, features=features)
    entries: list[dict[str, Any]] = []
    limit = max(map(allowed, models)) / PARTS  # the same for all
    recipe: dict[str, Any] = {}
    for model, label in zip(models, labels(folders, configs), strict=True):
        entry = {"family": model.config.family, "seed": model.config.seed, "run": model.run.name, "label": label}
        try:
            figures, shown, recipe = _measure(model, dataset, bench, split, samples, limit=limit)
            entries.append(entry | _entry(model, figures, shown))
        except Exception as error:  # the other runs are measured all the same
            entries.append(entry | {"status": "failed", "error": reason(error)})
    words = ["quintet compare", *(run.name for run in folders)]
    return _document(dataset, bench, recipe, entries) | {
        "command": " ".join(words + _measuring(samples, split, features))
    }


def _reports(paths: Sequence[Path]) -> dict[str, Any]:
    """Put together what was measured before, if it was measured alike."""
    reports = []
    for path in paths:
        try:
            report = json.loads(path.read_text())
            reports.append({"recipe": report["recipe"], "models": list(report["models"]), **report})
        except OSError as error:
            raise DataError("cannot read the report", where=str(path), why=error.strerror or str(error)) from None
        except (ValueError, KeyError, TypeError):
            why = "a report has `recipe` and `models`"
            raise DataError("not a report of quintet", where=str(path), why=why) from None
    for report in reports[1:]:
        comparable(reports[0]["recipe"], report["recipe"])
    entries, seen = [], [{entry.get("label") or entry["family"] for entry in report["models"]} for report in reports]
    for path, report in zip(paths, reports, strict=True):
        for entry in report["models"]:
            name = entry.get("label") or entry["family"]
            twice = sum(name in names for names in seen) > 1
            entries.append(entry | {"label": f"{name} ({path.stem})" if twice else name})
    head = {key: value for key, value in reports[0].items() if key not in ("budget", "seeds", "runs", "report")}
    return head | {
        "models": entries,
        "ranks": ranks(entries),
        "verdict": verdict(entries),
        "command": " ".join(["quintet compare", *map(str, paths)]),
    }


def same_data(folders: Sequence[Run], configs: Sequence[RunConfig]) -> None:
    """Raise UsageError, naming what differs, unless the runs model the same thing of the same data."""
    first = _data_of(folders[0], configs[0])
    for run, config in zip(folders[1:], configs[1:], strict=True):
        for key, value in _data_of(run, config).items():
            if value != first[key]:
                raise UsageError(
                    f"{folders[0].name} and {run.name} cannot be compared",
                    why=f"{key}: {first[key]} in the one, {value} in the other",
                    fix="compare runs of one data set, target and condition",
                )


def _data_of(run: Run, config: RunConfig) -> dict[str, Any]:
    facts = config.data.model_dump(exclude={"source"})
    return {"source": config.data.source, **facts, "sha256 of the data": run.manifest().get("fingerprint")}


CHANCE = {"seed", "steps", "plan", "budget", "training.sample_every"}
"""Settings in which the seeds of one contender may differ: the same budget fixes other steps each time."""
MOST = 3
"""So many settings tell two contenders of a family apart in their names; beyond that they have their runs' names."""


def labels(folders: Sequence[Run], configs: Sequence[RunConfig]) -> list[str]:
    """A name for the contender of each run: its family, and where a family has several, how they differ."""
    flats = [flat(config.model_dump(mode="json")) for config in configs]
    kept = [{key: value for key, value in settings.items() if key not in CHANCE} for settings in flats]
    names = []
    for config, own in zip(configs, kept, strict=True):
        family = [other for c, other in zip(configs, kept, strict=True) if c.family == config.family]
        differ = sorted(
            {key for other in family for key in own.keys() | other.keys() if own.get(key) != other.get(key)}
        )
        first = folders[kept.index(own)].name
        told = ", ".join(f"{key.partition('.')[2] or key} {own.get(key, '-')}" for key in differ)
        names.append(
            f"{config.family} ({told})" if differ and len(differ) <= MOST else first if differ else config.family
        )
    return names


def evaluate(
    model: Fitted,
    *,
    split: str = "test",
    samples: int = 1000,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
    features: str = "pca",
    budget: str | float | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The figures of one model, chosen by what it is for; report.html and report.json in its run folder show them.

    Labels and texts that are given something are compared with the true ones (see `tasks.measure`), with `sampling`
    for texts; any other model is measured by its samples, on a bench. `budget`: about how long that may take, see
    `allowed`.
    """
    check_split(split)
    limit = allowed(model, budget)
    began = time.perf_counter()
    data = model.config.data
    dataset = load_source(**data.reading())
    bench = None
    if task(model) == "samples":
        bench = Bench(dataset, data.condition, target=data.target, samples=samples, features=features)
        if report is not None:
            bench.tell = partial(_doing, report)
    entry: dict[str, Any] = {"family": model.config.family, "seed": model.config.seed, "run": model.run.name}
    figures, shown, recipe = _measure(model, dataset, bench, split, samples, seed, sampling, limit / PARTS, report)
    figures["measured"] |= {"seconds": round(time.perf_counter() - began, 1), "budget": limit}
    result = _document(dataset, bench, recipe, [entry | _entry(model, figures, shown)])
    words = [f"quintet evaluate {model.run.name}", *_measuring(samples, split, features), f"--seed {seed}"]
    words += [] if budget is None else [f"--budget {budget}"]
    result["command"] = " ".join(words)
    try:
        _write(model.run.path / "report.html", result)
        write_card(model.run, model.family, model.codecs)
    except OSError as error:
        warn(f"the report was not written ({error})")
    return figures


SHORTEST, LONGEST = 120.0, 600.0
"""Seconds that measuring a model may take at least, and at most, unless the user says how long."""
PARTS = 4
"""Of that time samples have a part, scores a part, and what a report shows and the figures themselves the rest."""


def allowed(model: Fitted, budget: str | float | None = None) -> float:
    """Seconds that measuring a model may take: `budget`, else what its training took, from SHORTEST to LONGEST."""
    if budget is not None:
        return seconds(budget)
    records = model.run.metrics()
    return min(max(float(records[-1]["seconds"]) if records else 0.0, SHORTEST), LONGEST)


def _doing(report: Callable[[dict[str, Any]], None], what: str) -> None:
    report({"doing": what})


def _measure(
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
    """(figures, what a report shows, recipe): by its samples on a bench, or without one by the true answers.

    `limit`: seconds that samples may take, and as many again scores.
    """
    if bench is not None:
        figures = bench.run(model, split=split, seed=seed, limit=limit)
        few = "fewer_samples" in figures  # of a slow model the report shows fewer, too
        bench.tell("drawing what the report shows")
        shown = {
            "samples": bench.show(model, min(100, figures["measured"]["samples"] // 2)) if few else bench.show(model)
        }
        return figures, shown | {"nearest": nearest(model, bench)}, figures["recipe"]
    tell = partial(_doing, report) if report is not None else lambda _: None
    figures = measure(model, dataset, split, limit=samples, seed=seed, sampling=sampling, allowed=limit, tell=tell)
    shown = {"samples": figures.pop("shown")}
    notes = {key: value for key, value in figures["metrics"].items() if isinstance(value, str)}  # signatures
    recipe = notes | {"task": figures["task"], "items": figures["metrics"]["items"], "split": split,
                      "given": model.config.data.condition, "sampling": figures.get("sampling", "none")}  # fmt: skip
    return figures, shown, recipe


def _document(
    dataset: Dataset, bench: Bench | None, recipe: Mapping[str, Any], entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a report shows of these models."""
    real: dict[str, Any] = {}
    try:
        real = {} if bench is None else {"real": {"samples": bench.show(None), "metrics": bench.real()}}
    except Exception as error:  # what was trained and measured must not be lost with it
        told = f"the report shows no figures of real data: {reason(error)}"
        warn(told)
    return real | {
        "modality": dataset.modality,
        "things": registry.MODALITIES[dataset.modality].things,
        "source": dataset.name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": versions()["machine"],
        "versions": versions()["versions"],
        "recipe": dict(recipe),
        "curve_name": "energy distance between samples and validation items",
        "models": entries,
        "ranks": ranks(entries),
        "verdict": verdict(entries),
    }


def _write(path: Path, result: dict[str, Any]) -> None:
    write_atomic(path, render(result))  # type: ignore[arg-type]
    # Dates, times and decimals of rows that are shown are no JSON, and become what they are written as.
    write_atomic(path.with_suffix(".json"), json.dumps(result, indent=1, default=str))


def _entry(model: Fitted, figures: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
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


def _command(
    source: str,
    families: list[str],
    condition: str | None,
    seeds: int,
    training: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> str:
    """The command line that makes the same comparison."""
    words = ["quintet compare", source]
    if families != list(registry.COMPARED):
        words.append(f"--families {','.join(families)}")
    words.append(f"--condition {condition or 'none'}")
    steps, parameters = training["steps"], training["config"].get("parameters")
    words.append(f"--steps {steps}" if steps is not None else f"--budget {training['budget'] or '60s'}")
    words.append(f"--seeds {seeds}")
    if training["preset"]:
        words.append(f"--preset {training['preset']}")
    if parameters is not None:
        words.append(f"--parameters {parameters}")
    data = training["config"].get("data") or {}
    words += [f"--data.{key} {shlex.quote(str(value))}" for key, value in data.items()]
    return " ".join(words + _measuring(**measured))


def _measuring(samples: int, split: str, features: str) -> list[str]:
    """The options of a measurement."""
    return [f"--split {split} --samples {samples}", *([f"--features {features}"] if features != "pca" else [])]
