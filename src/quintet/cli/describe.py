"""Answers that only look: runs, files, this machine. Imported when a verb needs it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch
import yaml

from quintet import __version__
from quintet.cli.console import Answer, columns, last, number
from quintet.core.errors import CheckpointError, QuintetError
from quintet.data.published import data_root
from quintet.modalities.provenance import read_provenance
from quintet.runs.advice import advice
from quintet.runs.folder import Run, runs_root
from quintet.training import checkpoint
from quintet.training.engine import has_bf16

# -- a run or a file -------------------------------------------------------------------------------------------------


def provenance(run: Run, **facts: Any) -> dict[str, Any]:
    """Where samples of this run come from: the sha256 of the weights that made them, and `facts`."""
    config, weights = run.config(), run.used()
    return {
        "quintet": __version__,
        "run": run.name,
        "family": config.family,
        "data": config.data.source,
        "step": None if weights is None else weights.step,
        "weights": None if weights is None else weights.sha256,
        **facts,
    }


def describe_file(path: Path) -> Answer:
    """Which model, seed and settings made a file."""
    data = read_provenance(path)
    return Answer({"file": str(path), "provenance": data}, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def describe_run(run: Run) -> Answer:
    """Configuration, progress, checkpoints and size of a run."""
    family, codecs, config = run.build()
    folders = checkpoint.steps(run.checkpoints)
    sizes = {folder.name: size for folder in folders if (size := _size(folder))}
    news = last(run.metrics())
    done = max([_step(folder) for folder in folders], default=0)
    end = news["steps"] or config.steps  # of a run that ended early, the step at which it did
    parameters = sum(p.numel() for p in family.parameters())
    data = {
        "run": str(run.path),
        "name": run.name,
        "family": config.family,
        "source": config.data.source,
        "step": done,
        "steps": config.steps,
        "parameters": parameters,
        "likelihood": family.likelihood,
        "measure": codecs["x"].measure,
        "space": codecs["x"].space.to_json(),
        "condition": config.data.condition,
        "missing": dict(family.missing),
        **{key: news[key] for key in ("loss", "losses", "quality", "held_out", "seconds")},
        "advice": [one._asdict() for one in advice(run.metrics_of_weights())],
        "checkpoints": [{"name": name, "bytes": size} for name, size in sizes.items()],
        "manifest": run.manifest(),
        "config": config.model_dump(mode="json"),
    }
    given = f" given {config.data.condition}" if config.data.condition else ""
    state = "finished" if done == end else f"quintet resume {run.address} goes on from step {done:,}"
    rows = [
        ("run", run.path),
        ("model", f"{config.family} of {config.data.source}{given}, preset {config.preset}, seed {config.seed}"),
        ("steps", f"{done:,} of {number(config.steps)} ({state}), {news['seconds']:.0f} s"),
        ("parameters", f"{parameters:,}"),
        ("likelihood", _likelihood(family.likelihood, family.missing, codecs["x"].measure)),
        ("losses", ", ".join(f"{key} {number(value)}" for key, value in news["losses"].items()) or "-"),
        ("unseen", f"{number(news['held_out'])} (the loss on validation items)"),
        ("quality", f"{number(news['quality'])} (energy distance to validation items, lower is better)"),
        *((one.kind, one.text) for one in advice(run.metrics_of_weights())),
        ("checkpoints", ", ".join(f"{name} ({size / 2**20:.1f} MB)" for name, size in sizes.items()) or "none yet"),
    ]
    sections = config.model_dump(mode="json", include={"model", "sampling", "training"})
    settings = yaml.safe_dump(sections, sort_keys=False, default_flow_style=None, width=100)
    return Answer(data, f"{columns(rows)}\n\n{settings}")


def _size(folder: Path) -> int:
    """Bytes of a checkpoint; 0 for one that the run's own process has just removed."""
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0


def _step(folder: Path) -> int:
    digits = folder.name.removeprefix("step-")
    return int(digits) if digits.isdigit() else 0


def _likelihood(kind: str, missing: Mapping[str, str], measure: str) -> str:
    return f"none: {missing.get('log_prob', '')}" if kind == "none" else f"{kind} ({measure})"


def verify_run(run: Run) -> Answer:
    """Check every digest of every checkpoint. Raises CheckpointError that names the first damaged file."""
    run.build()  # configuration and codec are read on the way
    folders = checkpoint.steps(run.checkpoints)
    if not folders and run.writer() is not None:
        data = {"run": str(run.path), "name": run.name, "verified": []}
        return Answer(data, f"{run.name}: no checkpoint yet; it is being written by {run.writer()}")
    if not folders:
        raise CheckpointError("no checkpoint yet", where=str(run.path), fix=f"quintet resume {run.address}")
    damaged, good = [], []
    for folder in folders + checkpoint.steps(run.bests):
        try:
            if checkpoint.intact(folder):
                good.append(folder)
        except CheckpointError as error:
            damaged.append(error)
    if damaged:
        first, left = damaged[0], len(good)
        also = "".join(f"; also {error.where}" for error in damaged[1:])
        fix = (
            f"remove its folder: {left} good checkpoint(s) remain" if left else "train anew: no good checkpoint remains"
        )
        raise CheckpointError(first.what + also, where=first.where, why=first.why, fix=fix)
    names = [folder.relative_to(run.path).as_posix().removeprefix("checkpoints/") for folder in good]
    return Answer(
        {"run": str(run.path), "name": run.name, "verified": names}, f"{run.name}: {', '.join(names)}: all good"
    )


def list_runs(runs: Path | None) -> Answer:
    """Every run under the runs folder, also those of comparisons."""
    root = runs_root(runs)
    paths = sorted(
        {path.parent for pattern in ("*/config.yaml", "compare-*/*/config.yaml") for path in root.glob(pattern)}
    )
    entries = [_entry(Run(path), str(path.relative_to(root))) for path in paths]
    header = ("run", "family", "data", "steps", "loss", "quality")
    rows = []
    for entry in entries:
        if entry.get("error"):
            rows.append((entry["name"], "unreadable:", entry["error"], "", "", ""))
            continue
        steps = f"{entry['step']:,}/{number(entry['steps'])}"
        figures = (number(entry["loss"]), number(entry["quality"]))
        rows.append((entry["name"], entry["family"], entry["source"], steps, *figures))
    text = columns(rows, header) if rows else f"no runs in {root}; quintet train flow --data moons makes one"
    return Answer({"root": str(root), "runs": entries}, text)


def _entry(run: Run, name: str) -> dict[str, Any]:
    try:
        config = run.config()
    except QuintetError as error:
        return {"name": name, "error": error.what}
    news = last(run.metrics())
    done = max([_step(folder) for folder in checkpoint.steps(run.checkpoints)], default=0)
    about = {"name": name, "run": str(run.path), "family": config.family, "source": config.data.source, "step": done}
    return about | {"steps": config.steps, "loss": news["loss"], "quality": news["quality"]}


# -- this machine ----------------------------------------------------------------------------------------------------

PACKAGES = (
    "quintet",
    "torch",
    "numpy",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "cyclopts",
    "rich",
    "pillow",
)
EXTRAS = {
    "text": "byte-pair symbols of texts, regular expressions with --regex, BLEU and chrF",
    "hf": "sources hf:owner/name",
    "excel": "spreadsheets (.xlsx) as tables",
}
"""What can be installed besides, as `pip install 'quintet[NAME]'`, and what for."""
LITTLE = 2**30
"""Bytes of free disk below which a run may not fit."""


def extras() -> dict[str, list[str]]:
    """The packages of each extra that are not installed."""
    try:
        wanted = requires("quintet") or []
    except PackageNotFoundError:  # run from its sources without being installed
        return {}
    lacking: dict[str, list[str]] = {}
    for line in wanted:
        package, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if extra and extra[1] in EXTRAS:
            lacking.setdefault(extra[1], [])
            name = re.split(r"[^\w.-]", package.strip())[0]
            try:
                version(name)
            except PackageNotFoundError:
                lacking[extra[1]].append(name)
    return lacking


def doctor(runs: Path | None) -> Answer:
    """Versions, processor, memory and disk; exit code 4 if something stands in the way of training."""
    problems: list[str] = []
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            if name != "quintet":  # run from its sources
                problems.append(f"{name} is not installed")
    root = runs_root(runs).absolute()
    there = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < LITTLE:
        problems.append(f"{free / 2**20:.0f} MB free on the disk of {root}: a run may not fit")
    if not there.is_dir() or not os.access(there, os.W_OK):
        problems.append(f"cannot write to {there}: runs are kept in {root}, choose another with --runs or QUINTET_RUNS")
    major_minor = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if major_minor < (2, 10):
        problems.append(f"torch {torch.__version__} is older than 2.10")
    cuda = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = torch.device("cuda" if cuda else "cpu")
    data = {
        "versions": versions,
        "system": platform.platform(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "bf16": has_bf16(device),
        "runs": str(root),
        "disk_free": free,
        "extras": (lacking := extras()),
        "data_root": str(data_root()),
        "data_root_exists": data_root().is_dir(),
        "problems": problems,
    }
    rows = [
        ("versions", ", ".join(f"{name} {which}" for name, which in versions.items())),
        ("system", data["system"]),
        (
            "processor",
            f"{cores} cores, {data['threads']} threads, bf16 {'in hardware' if data['bf16'] else 'not in hardware'}",
        ),
        ("device", data["device"]),
        ("runs", f"{root} ({free / 2**30:.1f} GB free)"),
        (
            "named data",
            f"{data_root()}{'' if data['data_root_exists'] else ' (not there; only the built-in sources work)'}",
        ),
    ]
    for name, packages in lacking.items():
        state = f"missing {', '.join(packages)}: pip install 'quintet[{name}]'" if packages else "installed"
        rows.append((f"extra {name}", f"for {EXTRAS[name]}: {state}"))
    verdict = "\n".join(f"problem: {problem}" for problem in problems) or "all good"
    return Answer(data, columns(rows) + "\n" + verdict, 4 if problems else 0)
