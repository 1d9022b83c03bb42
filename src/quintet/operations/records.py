"""Records of training: what they say of losses, and the newest of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quintet.runs.advice import advice
from quintet.runs.folder import Run

LIVE = {"quality", "quality_stderr", "diversity", "copies", "copying", "held_out"}
"""Figures of a look, which are no losses."""
RESERVED = {"step", "steps", "seconds", "family", "seed", "samples"} | LIVE


def losses(record: Mapping[str, Any]) -> dict[str, Any]:
    """The losses and their parts in a record."""
    return {key: value for key, value in record.items() if key not in RESERVED}


def last(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The newest figures of a run: step, steps, seconds, those of its last look, losses, and `loss`, that of what
    samples.
    """
    out: dict[str, Any] = {"step": 0, "steps": None, "seconds": 0.0, "loss": None, "losses": {}}
    out |= dict.fromkeys(("quality", "held_out"))
    for record in records:
        out |= {key: record[key] for key in ("step", "steps", "seconds", "quality", "held_out") if key in record}
        if found := losses(record):
            out["losses"] = found
            out["loss"] = next(
                (found[key] for key in ("model", "generator") if key in found), next(iter(found.values()))
            )
    return out


def of_weights(run: Run) -> dict[str, Any]:
    """`last` of a run, with losses and figures of the look whose weights the model has; `weights`, the step of it; and
    `advice`, which rests on the records up to there: they are not the last where training selects the best.
    """
    used, newest = run.used(), last(run.metrics())
    upto = newest["step"] if used is None else used.step
    kept = run.metrics(upto)
    figures = last(kept)
    told = {"weights": upto, "advice": [one._asdict() for one in advice(kept)]}
    return newest | {key: figures[key] for key in ("loss", "losses", "quality", "held_out")} | told
