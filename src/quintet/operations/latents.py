"""`reconstruct`, `interpolate`, `encode`: items by their latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from quintet.core.errors import UsageError
from quintet.fit import api
from quintet.model.inputs import chain
from quintet.operations.conditions import one
from quintet.operations.events import OnEvent, operation
from quintet.operations.fitted import Result, brought, given, modality_in, opened, place_of, provenance, write
from quintet.operations.requests import EncodeRequest, InterpolateRequest, ReconstructRequest
from quintet.registry import RESULTS
from quintet.sources.load import take


class ReconstructResult(Result):
    """What was reconstructed, how far from the originals, and the files that hold it."""

    run: str
    n: int
    kind: str
    output: str
    files: list[Path]
    provenance: dict[str, Any]
    mean_absolute_error_encoded: float
    items: int = Field(exclude=True)


@operation
def reconstruct(request: ReconstructRequest, on_event: OnEvent) -> ReconstructResult:
    """Encode items, decode them again and write what the latents have kept."""
    folder = opened(request.run, request.runs, "encode")
    path = place_of(folder, request.output, "reconstructed")
    found = brought(folder, request.data).some(request.n or (None if request.data else 8))
    model = api.load(request.run, runs=request.runs)
    items = model.reconstruct(found.items, condition=given(model, request.condition, found))
    codec = model.codecs["x"]
    before, after = codec.encode(found.items).double(), codec.encode(items).double()
    rows = min(len(before), len(after))  # byte pairs of a long text may be fewer or more than they were
    error = float((before[:rows] - after[:rows]).abs().mean())
    shown = chain([found.items, items], interleave=True) if request.beside else items
    facts = write(model, path, shown, data=request.data or model.config.data.source, beside=request.beside,
                  **found.facts())  # fmt: skip
    kind = modality_in(folder).name
    return ReconstructResult(**facts, kind=kind, mean_absolute_error_encoded=error, items=len(items))


class InterpolateResult(Result):
    """How many paths of how many items there are, and the files that hold them."""

    run: str
    n: int
    kind: str
    pairs: int
    steps: int
    output: str
    files: list[Path]
    provenance: dict[str, Any]


@operation
def interpolate(request: InterpolateRequest, on_event: OnEvent) -> InterpolateResult:
    """Write the items on the way from one item to the next, pair by pair."""
    folder = opened(request.run, request.runs, "encode")
    path = place_of(folder, request.output, "interpolated")
    found = brought(folder, request.data).some(2 * request.n)
    pairs = len(found.items) // 2
    if not pairs:
        raise UsageError("two items are needed to go from one to the other", where=str(request.data))
    model = api.load(request.run, runs=request.runs)
    if "cond" in model.codecs and request.condition is None:
        raise UsageError("both ends of a path need one condition", where=folder.name, fix="--condition VALUE")
    value = None if request.condition is None else one(model, request.condition)
    first, last = (take(found.items, np.arange(start, 2 * pairs, 2)) for start in (0, 1))
    paths = model.interpolate(first, last, steps=request.steps, condition=value)
    facts = write(model, path, chain(paths), data=request.data or model.config.data.source, steps=request.steps,
                  condition=request.condition, **found.facts())  # fmt: skip
    return InterpolateResult(**facts, kind=modality_in(folder).name, pairs=pairs, steps=request.steps)


class EncodeResult(Result):
    """How many latents of which shape there are, and the files that hold them."""

    run: str
    n: int
    shape: list[int]
    output: str
    files: list[Path]
    windows: bool = Field(exclude=True)
    """Whether each row is a window of a long text, and no item."""


@operation
def encode(request: EncodeRequest, on_event: OnEvent) -> EncodeResult:
    """Write the latents of items, or of the windows of long texts: one row each, columns z0, z1, ..."""
    folder = opened(request.run, request.runs, "encode")
    path = place_of(folder, request.output, "latents", RESULTS)
    found = brought(folder, request.data, request.split)
    model = api.load(request.run, runs=request.runs)
    values, columns = given(model, request.condition, found), {}
    windows = model.codecs["x"].stream
    if windows:
        z, owner = model.encode_windows(found.items, condition=values)
        columns["item"] = owner.numpy() if found.places is None else found.places[owner.numpy()]
    else:
        z = model.encode(found.items, condition=values)
    flat, shape = z.flatten(1).double().numpy(), list(z.shape[1:])
    table = pa.table(columns | {f"z{i}": flat[:, i] for i in range(flat.shape[1])})
    note = provenance(model.run, data=request.data or model.config.data.source, split=found.split, shape=shape)
    files = RESULTS.write(path, table, note)
    return EncodeResult(run=str(folder.path), n=len(z), shape=shape, output=path, files=files, windows=windows)
