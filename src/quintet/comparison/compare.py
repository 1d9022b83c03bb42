"""The same data, split, budget and figures for several families, or for runs and reports that are there: `compare`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quintet import registry
from quintet.comparison.contest import Contest, contest
from quintet.comparison.document import document, failed, failure_reason, options, write_report
from quintet.comparison.measuring import TIME_PARTS, allowed, check_split, entry_of, figures_of
from quintet.comparison.report import ranks
from quintet.comparison.verdict import verdict
from quintet.core.checked import checked, kind_name
from quintet.core.errors import DataError, UsageError
from quintet.core.typed import line
from quintet.evaluation.bench import Bench
from quintet.evaluation.measurement import comparable, dotted
from quintet.evaluation.tasks import task
from quintet.fit import fitting
from quintet.model.containers import source_of
from quintet.runs.config import RunConfig, merge
from quintet.runs.folder import Run, runs_root
from quintet.sources.load import SOURCES, load_source
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
    run: str | None = None,
    runs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    on_trainer: Callable[[Trainer | None], None] | None = None,
) -> dict[str, Any]:
    """Measure models of one data set with one bench, say which to keep, and write the report.

    `what` is a source (also one that lies in memory, as for `train`), or runs, or reports (.json). Of a source, each
    family is trained with each seed on the same split and budget: seconds (`budget`) or `steps`, and `parameters` if
    all are to be of one size. `condition` "auto" is the column `label` where the source has one. Families that cannot
    model it (no representation of its codec) are listed with the reason. Runs must be of the same data, target and
    condition; those that differ by their seed alone are one contender. Reports must agree in how they were measured;
    their figures are put together as they are, and a contender that is in several has the names of the files added.
    Each run stands alone: its figures do not depend on which others are compared. Returns what the report shows; with
    `output`, also writes it as HTML and as JSON beside it.

    What fails is listed with its reason, and the rest is measured. `on_trainer` gets each trainer before its first
    step, to be able to stop it, and None behind its last. A comparison that was stopped holds what was finished, and
    `stopped`; the same call takes it up again, as it does where a family failed. `run` names the folder of its runs: a
    call with the name of a finished one trains nothing, and writes its report again.
    """
    if not what:
        raise UsageError("nothing to compare was named", fix="quintet compare SOURCE, or quintet compare RUN RUN",
                         why="a comparison needs a source to train on, or runs or reports to measure")  # fmt: skip
    if len(what) == 1 and not isinstance(what[0], str | Path):
        what = (source_of(what[0], runs_root(runs)),)
    _check(what, split, output)
    measured: dict[str, Any] = {"samples": samples, "split": split, "features": features}
    if is_source(what, runs):
        size = {"parameters": parameters} if parameters is not None else {}
        training = {"budget": budget, "steps": steps, "preset": preset, "config": merge(config or {}, size)}
        asked = Contest(str(what[0]), families or registry.COMPARED, condition, seeds, training, measured)
        result = contest(asked, runs, run, report, on_trainer)
    elif all(str(one).endswith(".json") for one in what):
        result = _reports([Path(one) for one in what])
    else:
        result = _runs([Run.open(one, runs) for one in what], **measured)
    if output is not None:
        write_report(Path(output), result)
        result["report"] = str(Path(output))
    return result


def _check(what: Sequence[Any], split: str, output: str | Path | None) -> None:
    """Raise UsageError for what cannot be compared, or written, before any of the work is done."""
    check_split(split)
    if output is not None and Path(output).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"a report cannot be written to {str(output)!r}",
                         why="a report is an HTML page, beside which its figures are written as JSON",
                         fix="give a file name that ends in .html, such as -o report.html")  # fmt: skip
    for one in what:
        if not isinstance(one, str | Path):
            raise UsageError(f"a run or a report is given by its name or path, but got {kind_name(one)}")


def is_source(what: Sequence[str | Path], runs: str | Path | None = None) -> bool:
    """Whether this is one source to train on, rather than runs or reports; a source's own name wins."""
    one = str(what[0])
    return len(what) == 1 and (one in SOURCES or not (is_report(Path(one)) or Run.exists(one, runs)))


def is_report(path: Path) -> bool:
    """Whether this is meant as a report: a file .json that holds one, or that cannot be read. Others hold data."""
    if path.suffix != ".json":
        return False
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(found, dict) and "models" in found


def _runs(folders: Sequence[Run], *, samples: int, split: str, features: str) -> dict[str, Any]:
    """Measure runs that are there."""
    configs = [run.config() for run in folders]
    same_data(folders, configs)
    models = [fitting.load(run.path) for run in folders]
    data = configs[0].data
    dataset = load_source(**data.reading())
    kinds = {task(model) for model in models}
    if len(kinds) > 1:
        why = f"their tasks are {' and '.join(sorted(kinds))}"
        fix = "compare only runs that have the same task"
        raise UsageError("these runs cannot be compared: their models have different tasks", why=why, fix=fix)
    bench = None
    if kinds == {"samples"}:
        bench = Bench(dataset, data.condition, target=data.target, samples=samples, features=features)
    entries: list[dict[str, Any]] = []
    limit = max(map(allowed, models)) / TIME_PARTS  # the same for all
    measurement: dict[str, Any] = {}
    for model, label in zip(models, contender_names(folders, configs), strict=True):
        entry = {"family": model.config.family, "seed": model.config.seed, "run": model.run.name, "label": label}
        try:
            figures, shown, measurement = figures_of(model, dataset, bench, split, samples, limit=limit)
            entries.append(entry | entry_of(model, figures, shown))
        except Exception as error:  # the other runs are measured all the same
            entries.append(entry | failed(failure_reason(error)))
    command = line("compare", [run.name for run in folders], options(samples, split, features))
    return document(dataset, bench, measurement, entries) | {"command": command}


def _reports(paths: Sequence[Path]) -> dict[str, Any]:
    """Put together what was measured before, if it was measured alike."""
    reports = []
    for path in paths:
        try:
            report = json.loads(path.read_text())
            reports.append({"recipe": report["recipe"], "models": list(report["models"]), **report})
        except OSError as error:
            raise DataError("cannot read the report", where=str(path), why=error.strerror or str(error),
                            fix="check the path, and that you have permission to read the file") from None  # fmt: skip
        except (ValueError, KeyError, TypeError):
            why = "a report is a JSON object with the fields `recipe` and `models`"
            fix = "give a report.json that quintet compare or quintet evaluate has written"
            raise DataError("the file is not a report of quintet", where=str(path), why=why, fix=fix) from None
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
        "verdict": verdict(entries, (head.get("real") or {}).get("metrics")),
        "command": line("compare", [*map(str, paths)], ()),
    }


def same_data(folders: Sequence[Run], configs: Sequence[RunConfig]) -> None:
    """Raise UsageError, naming what differs, unless the runs model the same thing of the same data."""
    first = _data_of(folders[0], configs[0])
    for run, config in zip(folders[1:], configs[1:], strict=True):
        for key, value in _data_of(run, config).items():
            if value != first[key]:
                raise UsageError(
                    f"{folders[0].name} and {run.name} cannot be compared",
                    why=f"their {key} differs: it is {first[key]} in the first and {value} in the second",
                    fix="compare runs of one data set, target and condition",
                )


def _data_of(run: Run, config: RunConfig) -> dict[str, Any]:
    facts = config.data.model_dump(exclude={"source"})
    return {"source": config.data.source, **facts, "sha256 of the data": run.manifest().get("fingerprint")}


CHANCE = {"seed", "steps", "plan", "budget", "training.sample_every"}
"""Settings in which the seeds of one contender may differ: the same budget fixes other steps each time."""
NAMED_SETTINGS = 3
"""So many settings tell two contenders of a family apart in their names; beyond that they have their runs' names."""


def contender_names(folders: Sequence[Run], configs: Sequence[RunConfig]) -> list[str]:
    """A name for the contender of each run: its family, and where a family has several, how they differ."""
    flats = [dotted(config.model_dump(mode="json")) for config in configs]
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
            f"{config.family} ({told})"
            if differ and len(differ) <= NAMED_SETTINGS
            else first
            if differ
            else config.family
        )
    return names
