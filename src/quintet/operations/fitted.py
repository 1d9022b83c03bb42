"""What the operations of a fitted model share: opening its run, where results go, and writing items."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from quintet import __version__
from quintet.core.errors import Unsupported
from quintet.modalities.protocol import Modality
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found, read_items
from quintet.operations.conditions import one
from quintet.operations.settings import check_fields
from quintet.registry import MODALITIES, family_class, modality_of
from quintet.runs.folder import Run
from quintet.runs.restoring import codecs_of


class Result(BaseModel, ABC):
    """Base of all results: what was done, as JSON has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def facts(self) -> dict[str, Any]:
        """The fields that this result has."""
        return self.model_dump(exclude_unset=True)


def opened(run: str, runs: Path | None, operation: str, sampling: Mapping[str, Any] | None = None) -> Run:
    """The run, or its family's refusal, before anything is loaded."""
    folder = Run.open(run, runs)
    config = folder.config()
    family = family_class(config.family)
    if operation in family.missing:
        raise Unsupported(f"{family.name} has no {operation}", where=folder.name, why=family.missing[operation],
                          fix="quintet train another family")  # fmt: skip
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


def write(model: Fitted, path: str, items: Any, /, **facts: Any) -> dict[str, Any]:
    """Write items with their provenance; what every such operation results in."""
    note = provenance(model.run, **facts)
    files = modality_of(items).write(path, items, note, codec=model.codecs["x"], reading=model.config.data.reading())
    return {"run": str(model.run.path), "n": len(items), "output": path, "files": files, "provenance": note}
