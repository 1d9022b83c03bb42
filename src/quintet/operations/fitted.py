"""What the operations of a fitted model share.

Each has two halves: one asks a loaded model, in memory alone, and gives `Made`; the other opens the run, reads items
from files and writes what was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from quintet import __version__
from quintet.core.errors import Unsupported
from quintet.core.family import Family
from quintet.modalities.protocol import Modality
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found, read_items
from quintet.operations.conditions import one
from quintet.operations.settings import check_fields
from quintet.registry import MODALITIES, family_class, modality_of
from quintet.runs.folder import Run
from quintet.runs.restoring import codecs_of


@dataclass(frozen=True)
class Made:
    """What a loaded model has made, in memory: raw items or a table of results; what there is to say of them, as the
    fields of the verb's result; and the note of where they come from. `given`: of items that conditions have columns
    for, these columns.
    """

    items: Any
    facts: Mapping[str, Any]
    note: Mapping[str, Any]
    given: pa.Table | None = None


def able(family: Family | type[Family], operation: str, where: str) -> None:
    """Raise Unsupported, with the family's reason, for an operation that it lacks."""
    if operation in family.missing:
        raise Unsupported(f"the family {family.name} does not support {operation}", where=where,
                          why=family.missing[operation], fix="use a run of another family")  # fmt: skip


def ready(model: Fitted, operation: str, sampling: Mapping[str, Any] | None = None) -> None:
    """Raise what a loaded model refuses, before any work."""
    able(model.family, operation, model.run.name)
    check_fields({"sampling": sampling or {}}, model.config.family)


def opened(run: str, runs: Path | None, operation: str, sampling: Mapping[str, Any] | None = None) -> Run:
    """The run, or its family's refusal, before anything is loaded."""
    folder = Run.open(run, runs)
    config = folder.config()
    able(family_class(config.family), operation, folder.name)
    check_fields({"sampling": sampling or {}}, config.family)
    return folder


def modality_in(folder: Run) -> Modality:
    """The kind of data of a run's items."""
    return MODALITIES[codecs_of(folder)["x"].modality]


def place_of(folder: Run, output: str | None, stem: str, form: Modality | None = None) -> str:
    """Where the items go, or a table of results; a format that does not fit is an error before the work is done."""
    form = form or modality_in(folder)
    path = output or f"{folder.name}-{stem}{form.suffix}"
    form.check_output(path)
    return path


def brought(folder: Run, source: str | None, split: str | None = None, **more: Any) -> Found:
    """The items of `source`, read as the run's own data were, or of these: see `read_items`."""
    codecs = codecs_of(folder)
    return read_items(folder.config(), source, split, like=codecs, forms=forms(folder), **more)


def forms(folder: Run) -> dict[str, Any]:
    """In which the columns of the run's own data are written, so that other files are read alike."""
    return {name: form for codec in codecs_of(folder).values() for name, form in getattr(codec, "forms", {}).items()}


def given(model: Fitted, condition: str | None, found: Found) -> Any:
    """The condition that was typed, or the items' own."""
    return found.given if condition is None else one(model, condition)


def provenance(model: Fitted, **facts: Any) -> dict[str, Any]:
    """Where what a model made comes from: the sha256 of the weights that made it, and `facts`."""
    config, weights = model.config, model.run.used()
    return {
        "quintet": __version__,
        "run": model.run.name,
        "family": config.family,
        "data": config.data.source,
        "step": None if weights is None else weights.step,
        "weights": None if weights is None else weights.sha256,
        **facts,
    }


def written(model: Fitted, path: str, made: Made, form: Modality | None = None) -> dict[str, Any]:
    """Write what was made, items as their kind of data is written or as `form`; with what every such operation
    results in.
    """
    form = form or modality_of(made.items)
    files = form.write(path, made.items, made.note, codec=model.codecs["x"], reading=model.config.data.reading())
    facts = {"run": str(model.run.path), "n": len(made.items), "output": path, "files": files, "provenance": made.note}
    return {**facts, **made.facts}
