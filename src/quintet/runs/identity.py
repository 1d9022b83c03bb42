"""Whether a run that goes on is the one that began: what was changed in it by hand, and that it was meant."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quintet.core.errors import ConfigError, QuintetError
from quintet.runs.config import Change, RunConfig, differences
from quintet.runs.digests import CONFIG, MANIFEST
from quintet.runs.folder import Run

FREE = ("training", "sampling", "seed", "device", "data.source")
"""What may be changed in a run that has begun; anything else makes another model of it."""
LENGTH = ("steps", "plan", "budget")
"""What `quintet resume` has options for."""
DATA = "sha256 of the data"


def check_edits(run: Run, *, allowed: bool) -> tuple[RunConfig, list[Change]]:
    """The configuration of a run, and what was changed in it by hand, which may be such that the run can go on with, if
    that is `allowed`. ConfigError for any other change.
    """
    written = run.written()
    try:
        now = run.edited()
    except QuintetError:
        if allowed or written is None:
            raise
        return run.config(), []
    old = now if written is None else written
    changes = differences(old.model_dump(mode="json"), now.model_dump(mode="json"))
    if not changes:
        return old, []
    where, names = str(run.path / CONFIG), [one.what for one in changes]
    if any(name in LENGTH for name in names):
        what = "steps and budget cannot be changed in config.yaml"
        fix = f"quintet resume {run.address} --steps {now.steps}"
    elif not all(name in FREE or name.startswith(tuple(f"{free}." for free in FREE)) for name in names):
        what = "settings were changed in config.yaml that cannot change in a trained model"
        fix = f"undo the changes, or quintet train --config {where}"
    elif not allowed:
        what = "config.yaml was changed by hand"
        fix = f"undo the changes, or quintet resume {run.address} --changed-config"
    else:
        return now, changes
    raise ConfigError(what, where=where, why="; ".join(map(str, changes)), fix=fix)


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
    run.kept.write(MANIFEST, json.dumps(manifest, indent=1))
    return said
