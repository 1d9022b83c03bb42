"""Whether a run that goes on is the one that began: what was changed in it by hand, and that it was meant."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from quintet.core.errors import ConfigError
from quintet.runs.config import RunConfig, seal
from quintet.runs.folder import Run
from quintet.training import checkpoint

FREE = ("training", "sampling", "seed", "device", "data.source")
"""What may be changed in a run that has begun; anything else makes another model of it."""
LENGTH = ("steps", "plan", "budget")
"""What `quintet resume` has options for."""
DATA = "sha256 of the data"


class Change(NamedTuple):
    """What was changed, from what, to what."""

    what: str
    was: Any
    now: Any


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[Change]:
    """What differs between two configurations, by dotted names."""
    out: list[Change] = []
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            out += differences(was, now, f"{prefix}{key}.")
        elif was != now:
            out.append(Change(prefix + key, was, now))
    return out


def trained_with(run: Run) -> dict[str, Any] | None:
    """The configuration of the newest checkpoint, or that of the beginning; None: a run of an older version."""
    for folder in reversed(checkpoint.steps(run.checkpoints)):
        with suppress(OSError, ValueError, KeyError, TypeError, ValidationError):
            return RunConfig(**json.loads((folder / "state.json").read_text())["config"]).model_dump(mode="json")
    found = run.manifest().get("config")
    return found if isinstance(found, dict) else None


def edits(run: Run, config: RunConfig) -> list[Change]:
    """What was changed by hand in config.yaml, which reads `config`, since quintet wrote it."""
    now = config.model_dump(mode="json")
    if (run.path / "config.yaml").read_text().rstrip().endswith(seal(now)):
        return []
    return differences(trained_with(run) or now, now)


def check_edits(run: Run, config: RunConfig, *, allowed: bool) -> list[Change]:
    """`edits`, which may be such that the run can go on with, if they are `allowed`. ConfigError for any other."""
    changes = edits(run, config)
    if not changes:
        return []
    where, why = str(run.path / "config.yaml"), "; ".join(f"{one.what}: {one.was!r} -> {one.now!r}" for one in changes)
    names = [one.what for one in changes]
    if any(name in LENGTH for name in names):
        what, fix = "steps and budgets are not changed by hand", f"quintet resume {run.address} --steps {config.steps}"
    elif not all(name in FREE or name.startswith(tuple(f"{free}." for free in FREE)) for name in names):
        what, fix = "these settings would make it another model", f"undo this, or quintet train --config {where}"
    elif not allowed:
        what, fix = "config.yaml was changed by hand", f"undo this, or quintet resume {run.address} --changed-config"
    else:
        return changes
    raise ConfigError(what, where=where, why=why, fix=fix)


def record(run: Run, step: int, changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Write into the manifest, and return, what is changed from this step on: of a path its last part, since others see
    the card and the records of a run.
    """
    at, manifest = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), run.manifest()
    said = []
    for what, *values in changes:
        was, now = (Path(value).name for value in values) if what == "data.source" else values
        said.append({"step": step, "at": at, "what": what, "was": was, "now": now})
        if what == DATA:
            manifest["fingerprint"] = now
    manifest["changes"] = [*manifest.get("changes", []), *said]
    checkpoint.write_atomic(run.path / "manifest.json", json.dumps(manifest, indent=1))
    return said
