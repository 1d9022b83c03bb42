"""`complete`: the holes of items, filled by draws given the rest."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from quintet.core.errors import UsageError
from quintet.fit import fitting
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.operations.events import OnEvent, on_step, operation
from quintet.operations.fitted import (
    Made,
    brought,
    given,
    modality_in,
    opened,
    place_of,
    provenance,
    ready,
    written,
)
from quintet.operations.requests import Complete, CompleteRequest
from quintet.operations.results import Result
from quintet.registry import MODALITIES


class CompleteResult(Result):
    """What was completed, how long it took, and the files that hold it; of images how much of them was kept."""

    run: str
    n: int
    kind: str
    draws: int
    output: str
    files: list[Path]
    provenance: dict[str, Any]
    seconds: float
    mask: str | None = None
    kept_pixels: float | None = None


@operation
def complete(request: CompleteRequest, on_event: OnEvent) -> CompleteResult:
    """Fill the holes of items and write the items, all of the first draw, then all of the second, ..."""
    folder = opened(request.run, request.runs, "complete", request.sampling)
    modality = modality_in(folder)
    path = place_of(folder, request.output, f"completed-seed{request.seed}")
    found = brought(folder, request.data).some(request.n if request.n or request.data else 8)
    model = fitting.load(request.run, runs=request.runs)
    items, known = modality.known(found.items, request.known, hole=request.mask, reading=model.config.data.reading())
    cells = found.written if path.lower().endswith(".csv") else None
    made = completed(model, request, replace(found, items=items, known=known, written=cells), on_event)
    mask = {} if known is None else {"mask": request.mask}
    return CompleteResult(**written(model, path, made), **mask)


def completed(model: Fitted, request: Complete, found: Found, on_event: OnEvent) -> Made:
    """Items with their holes filled by a loaded model, all of the first draw, then all of the second, ...

    Holes are what `found.known` and `request.known` leave, and what can be seen in the items. Rows that are `written`
    in a file keep their cells as they stand there.
    """
    ready(model, "complete", request.sampling)
    modality, draws, items, known = MODALITIES[model.codecs["x"].modality], request.draws, found.items, found.known
    if known is None:
        if modality.parts and request.known not in (None, *modality.parts):
            raise UsageError(f"`known` names no such part: {request.known!r}",
                             why=f"parts: {', '.join(modality.parts)}",
                             fix="name one of these parts, or give a mask")  # fmt: skip
        items, known = modality.known(items, request.known, hole=None, reading=model.config.data.reading())
    began = time.perf_counter()
    out = model.complete(items, known=known, condition=given(model, request.condition, found), draws=draws,
                         seed=request.seed, sampling=request.sampling,
                         on_step=on_step())  # fmt: skip
    facts: dict[str, Any] = {"kind": modality.name, "draws": draws, "seconds": time.perf_counter() - began}
    facts |= {} if known is None else {"kept_pixels": float(known.mean())}
    out = modality.several(out if draws > 1 else [out], items, found.written)
    note = provenance(model, seed=request.seed, draws=draws, known=request.known, data=found.source, **found.facts(),
                      sampling=model.sampling(request.sampling).model_dump(mode="json"))  # fmt: skip
    return Made(out, facts, note)
