"""`complete`: the holes of items, filled by draws given the rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from quintet.fit import api
from quintet.operations.events import OnEvent, Step, operation
from quintet.operations.fitted import Result, brought, given, modality_in, opened, place_of, write
from quintet.operations.requests import CompleteRequest


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
    modality, draws = modality_in(folder), request.draws
    path = place_of(folder, request.output, f"completed-seed{request.seed}")
    found = brought(folder, request.data).some(request.n if request.n or request.data else 8)
    model = api.load(request.run, runs=request.runs)
    items, known = modality.known(found.items, request.known, hole=request.mask, reading=model.config.data.reading())
    began = time.perf_counter()
    out = model.complete(items, known=known, condition=given(model, request.condition, found), draws=draws,
                         seed=request.seed, sampling=request.sampling,
                         on_step=lambda step, steps, _: on_event(Step(step, steps)))  # fmt: skip
    seconds = time.perf_counter() - began
    cells = found.written if path.lower().endswith(".csv") else None
    out = modality.several(out if draws > 1 else [out], items, cells)
    facts = write(model, path, out, seed=request.seed, draws=draws, known=request.known,
                  data=request.data or model.config.data.source, **found.facts(),
                  sampling=model.sampling(request.sampling).model_dump(mode="json"))  # fmt: skip
    facts |= {"kind": modality.name, "draws": draws, "seconds": seconds}
    if known is not None:
        facts |= {"mask": request.mask, "kept_pixels": float(known.mean())}
    return CompleteResult(**facts)
