"""Conditions as they are typed: text in a request or in a file -> values that a run's condition codec knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.core.codec import Codec
from quintet.core.errors import DataError, UsageError
from quintet.model.fitted import Fitted
from quintet.model.inputs import read_items
from quintet.operations.requests import Sample
from quintet.registry import MODALITIES
from quintet.sources.load import take

DEFAULT = 64


def asked_for(model: Fitted, request: Sample, values: Any) -> tuple[Any, int]:
    """(condition, n) for `Fitted.draw`, of raw conditions or the typed one."""
    alone = (request.stream or request.n_best is not None) and values is None
    n = 1 if request.n is None and alone else request.n
    if request.condition is not None:
        return one(model, request.condition), n or DEFAULT
    if values is None:
        return None, n or DEFAULT
    takes_conditions(model)
    n = n or len(values)
    return take(values, np.arange(n) % len(values)), n


def takes_conditions(model: Fitted) -> None:
    """Raise UsageError unless it does."""
    if "cond" not in model.codecs:
        raise UsageError(
            "this model takes no condition",
            where=model.run.name,
            why="it was trained without a condition",
            fix="leave the condition out, or train with --condition COLUMN",
        )


def read_conditions(model: Fitted, file: Path) -> Any:
    """The conditions of a file: one a line, or items of the condition's kind (rows of a CSV, images, recordings)."""
    takes_conditions(model)
    codec = model.codecs["cond"]
    modality = MODALITIES[codec.modality]
    if modality.holds_conditions(file.suffix.lower()):
        found = read_items(model.config, str(file), None, unlabelled=True, like=model.codecs,
                           forms=getattr(codec, "forms", None))  # fmt: skip
        values = found.items if found.given is None else found.given
        return values.to_pylist() if isinstance(values, pa.Table) else values
    try:
        text = file.read_text("utf-8-sig")  # which also makes newlines of other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("cannot read the conditions", where=str(file), why=str(error)) from None
    if not text.strip():
        raise DataError("the file of conditions is empty", where=str(file), fix="write one condition on each line")
    lines = text.removesuffix("\n").split("\n")
    if not modality.empty_lines:  # else the lines of the answer are those of the file, empty ones too
        lines = [line for line in lines if line]
    return [modality.typed(codec, line) for line in lines]


def one(model: Fitted, text: str) -> Any:
    """The value that a typed condition means, for all items."""
    takes_conditions(model)
    return typed(model.codecs["cond"], text)


def typed(codec: Codec, text: str) -> Any:
    """The condition that this text means."""
    return MODALITIES[codec.modality].typed(codec, text)
