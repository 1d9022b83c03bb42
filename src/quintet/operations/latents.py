"""`reconstruct`, `interpolate`, `encode`: items by their latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from quintet.core.errors import UsageError
from quintet.fit import fitting
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found, chain
from quintet.operations.conditions import one
from quintet.operations.events import OnEvent, operation
from quintet.operations.fitted import Made, brought, given, opened, place_of, provenance, ready, written
from quintet.operations.requests import (
    Encode,
    EncodeRequest,
    Interpolate,
    InterpolateRequest,
    Reconstruct,
    ReconstructRequest,
)
from quintet.operations.results import Result
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
    model = fitting.load(request.run, runs=request.runs)
    return ReconstructResult(**written(model, path, reconstructed(model, request, found, on_event)))


def reconstructed(model: Fitted, request: Reconstruct, found: Found, on_event: OnEvent) -> Made:
    """Items that a loaded model has encoded and decoded again; `mean_absolute_error_encoded` is how far they are from
    what they were, encoded.
    """
    ready(model, "encode")
    items = model.reconstruct(found.items, condition=given(model, request.condition, found))
    codec = model.codecs["x"]
    before, after = codec.encode(found.items).double(), codec.encode(items).double()
    rows = min(len(before), len(after))  # byte pairs of a long text may be fewer or more than they were
    error = float((before[:rows] - after[:rows]).abs().mean())
    shown = chain([found.items, items], interleave=True) if request.beside else items
    note = provenance(model, data=found.source, beside=request.beside, **found.facts())
    facts = {"kind": codec.modality, "mean_absolute_error_encoded": error, "items": len(items)}
    return Made(shown, facts, note)


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
    check_pairs(found)
    model = fitting.load(request.run, runs=request.runs)
    return InterpolateResult(**written(model, path, interpolated(model, request, found, on_event)))


def check_pairs(found: Found) -> int:
    """How many pairs of items there are; UsageError if there is none."""
    if len(found.items) < 2:
        what, fix = "a path needs two items, its ends", "give two items, or a file that holds at least two"
        raise UsageError(what, where=found.source or "", fix=fix)
    return len(found.items) // 2


def interpolated(model: Fitted, request: Interpolate, found: Found, on_event: OnEvent) -> Made:
    """The items on the way from one item to the next by a loaded model: 0 to 1, 2 to 3, ..., path after path."""
    ready(model, "encode")
    pairs = check_pairs(found)
    if "cond" in model.codecs and request.condition is None:
        raise UsageError(
            "a path of a conditional model needs a condition, the same for both ends",
            where=model.run.name,
            fix="give one condition for all items",
        )
    value = None if request.condition is None else one(model, request.condition)
    first, last = (take(found.items, np.arange(start, 2 * pairs, 2)) for start in (0, 1))
    paths = model.interpolate(first, last, steps=request.steps, condition=value)
    note = provenance(model, data=found.source, steps=request.steps, condition=request.condition, **found.facts())
    return Made(chain(paths), {"kind": model.codecs["x"].modality, "pairs": pairs, "steps": request.steps}, note)


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
    model = fitting.load(request.run, runs=request.runs)
    facts = written(model, path, encoded(model, request, found, on_event), RESULTS)
    return EncodeResult(**{name: facts[name] for name in EncodeResult.model_fields})


def encoded(model: Fitted, request: Encode, found: Found, on_event: OnEvent) -> Made:
    """The latents of items by a loaded model: columns z0, z1, ..., and where rows are windows, `item`."""
    ready(model, "encode")
    values, columns = given(model, request.condition, found), {}
    windows = model.codecs["x"].stream
    if windows:
        z, owner = model.encode_windows(found.items, condition=values)
        columns["item"] = owner.numpy() if found.places is None else found.places[owner.numpy()]
    else:
        z = model.encode(found.items, condition=values)
    flat, shape = z.flatten(1).double().numpy(), list(z.shape[1:])
    table = pa.table(columns | {f"z{i}": flat[:, i] for i in range(flat.shape[1])})
    note = provenance(model, data=found.source, split=found.split, shape=shape)
    return Made(table, {"shape": shape, "windows": windows}, note)
