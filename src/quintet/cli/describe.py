"""Answers that only look at runs and files. None of them needs torch, but to verify a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from quintet.cli.console import Answer, columns, number
from quintet.core.errors import CheckpointError, QuintetError
from quintet.modalities.provenance import read_provenance
from quintet.operations.records import last
from quintet.runs.advice import advice
from quintet.runs.folder import Run, runs_root
from quintet.runs.lock import who_writes
from quintet.training import checkpoint

# -- a run or a file -------------------------------------------------------------------------------------------------


def describe_file(path: Path) -> Answer:
    """Which model, seed and settings made a file."""
    data = read_provenance(path)
    return Answer({"file": str(path), "provenance": data}, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def describe_run(run: Run) -> Answer:
    """Configuration, progress, checkpoints and size of a run."""
    config, made = run.config(), run.manifest()
    about = made.get("model")  # nothing in a run that was made before manifests said it
    folders = checkpoint.steps(run.checkpoints)
    sizes = {folder.name: size for folder in folders if (size := _size(folder))}
    news, told = last(run.metrics()), advice(run.metrics_of_weights())
    done = max([_step(folder) for folder in folders], default=0)
    end = news["steps"] or config.steps  # of a run that ended early, the step at which it did
    data = {
        "run": str(run.path),
        "name": run.name,
        "family": config.family,
        "source": config.data.source,
        "step": done,
        "steps": config.steps,
        "condition": config.data.condition,
        **(about if isinstance(about, dict) else {}),
        **{key: news[key] for key in ("loss", "losses", "quality", "held_out", "seconds")},
        "advice": [one._asdict() for one in told],
        "checkpoints": [{"name": name, "bytes": size} for name, size in sizes.items()],
        "manifest": made,
        "config": config.model_dump(mode="json"),
    }
    given = f" given {config.data.condition}" if config.data.condition else ""
    state = "finished" if done == end else f"quintet resume {run.address} goes on from step {done:,}"
    rows = [
        ("run", run.path),
        ("model", f"{config.family} of {config.data.source}{given}, preset {config.preset}, seed {config.seed}"),
        ("steps", f"{done:,} of {number(config.steps)} ({state}), {news['seconds']:.0f} s"),
        *_about(about),
        ("losses", ", ".join(f"{key} {number(value)}" for key, value in news["losses"].items()) or "-"),
        ("unseen", f"{number(news['held_out'])} (the loss on validation items)"),
        ("quality", f"{number(news['quality'])} (energy distance to validation items, lower is better)"),
        *((one.kind, one.text) for one in told),
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


def _about(model: Any) -> list[tuple[str, str]]:
    """What a manifest says of its model, as rows."""
    match model:
        case {"parameters": int(count), "likelihood": "none", "missing": {**missing}}:
            return [("parameters", f"{count:,}"), ("likelihood", f"none: {missing.get('log_prob', '')}")]
        case {"parameters": int(count), "likelihood": str(kind), "measure": str(measure)}:
            return [("parameters", f"{count:,}"), ("likelihood", f"{kind} ({measure})")]
    return []


def verify_run(run: Run) -> Answer:
    """Check every digest of every checkpoint. Raises CheckpointError that names the first damaged file."""
    from quintet.runs.restoring import rebuild

    rebuild(run)  # configuration and codec are read on the way
    folders = checkpoint.steps(run.checkpoints)
    if not folders and (who := who_writes(run.path)) is not None:
        data = {"run": str(run.path), "name": run.name, "verified": []}
        return Answer(data, f"{run.name}: no checkpoint yet; it is being written by {who}")
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
