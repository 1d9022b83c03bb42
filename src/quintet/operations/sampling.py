"""`sample`: new items of a fitted model, or texts as they are asked for."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.core.errors import Unsupported, UsageError
from quintet.evaluation.tasks import made_with, task
from quintet.fit import fitting
from quintet.modalities.protocol import Modality
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.model.writing import Wanted, Writer, parts_of
from quintet.operations.conditions import asked_for, read_conditions
from quintet.operations.events import OnEvent, Piece, on_step, operation
from quintet.operations.fitted import Made, modality_in, opened, place_of, provenance, ready, written
from quintet.operations.requests import Sample, SampleRequest, Translate
from quintet.operations.results import Result
from quintet.registry import MODALITIES, RESULTS


class SampleResult(Result):
    """What was made, how fast, and the files that hold it."""

    run: str
    n: int
    seed: int
    kind: str
    output: str
    files: list[Path]
    provenance: dict[str, Any]
    seconds: float
    ms_per_sample: float


@operation
def sample(request: SampleRequest, on_event: OnEvent) -> SampleResult:
    """Make new items and write them, with a note of run, seed and settings, in the format of the output's suffix."""
    folder = opened(request.run, request.runs, needed(request), request.sampling)
    modality = modality_in(folder)
    if request.n_best is None:
        path = place_of(folder, request.output, f"seed{request.seed}")
    else:
        path = place_of(folder, request.output, "best", RESULTS)
    check_prompt(request, modality)
    model = fitting.load(request.run, runs=request.runs)
    values = None if request.conditions is None else read_conditions(model, request.conditions)
    made = sampled(model, request, Found(None, values), on_event)
    if made.given is not None and (Path(path).suffix.lower() or modality.suffix) in modality.columned:
        made = replace(made, items=modality.with_columns(made.items, made.given))
    return SampleResult(**written(model, path, made))


def needed(request: Sample) -> str:
    """What a family must have for this."""
    return "sample" if request.prompt is None else "complete"


def check_prompt(request: Sample, modality: Modality) -> None:
    """Raise UsageError for a prompt of items that have none."""
    if request.prompt is not None and not modality.hole:
        raise UsageError(f"a prompt can only be given for texts, not for items of kind {modality.name}",
                         fix="complete the beginnings of items instead")  # fmt: skip


def sampled(model: Fitted, request: Sample, found: Found, on_event: OnEvent) -> Made:
    """New items of a loaded model, given the conditions of `found`, of which fewer than n are repeated from the start;
    None: the typed condition for all, or conditions that are drawn from the training data.
    """
    ready(model, needed(request), request.sampling)
    kind = MODALITIES[model.codecs["x"].modality]
    check_prompt(request, kind)
    values, n = asked_for(model, request, found.given)
    began = time.perf_counter()
    items = made(model, request, values, n, on_event)
    seconds = time.perf_counter() - began
    typed = request.condition
    told = None if values is None else typed if typed is not None else [str(value) for value in values]
    facts = {"n": n, "seed": request.seed, "kind": kind.name, "seconds": seconds, "ms_per_sample": 1000 * seconds / n}
    note = provenance(model, seed=request.seed, n=n, condition=told,
                      sampling=model.sampling(request.sampling).model_dump(mode="json"), **asked(request))  # fmt: skip
    return Made(items, facts, note, None if request.n_best else given_columns(model, values, n, request.seed))


def translated(model: Fitted, request: Translate, found: Found, on_event: OnEvent) -> Made:
    """What a loaded model of texts given texts makes of those of `found`, or of the typed one: the likeliest symbol at
    each step, unless `sampling` says more, or by `n_best` the likeliest texts of each.
    """
    kind = MODALITIES[model.codecs["x"].modality]
    if task(model) != kind.name or model.codecs["cond"].modality != kind.name:
        raise Unsupported(
            "this model does not translate",
            where=model.run.name,
            why="only a model that was trained on texts, given texts, can translate",
            fix="quintet train autoregressive --data SOURCE --target COLUMN --condition COLUMN",
        )
    n = 1 if request.n is None and found.given is None else request.n
    request = request.model_copy(update={"n": n, "sampling": made_with(model, request.sampling)})
    return sampled(model, request, found, on_event)


def asked(request: Sample) -> dict[str, Any]:
    """What was asked of texts, for the note of a file."""
    given = {"prompt": request.prompt, "length": request.length, "stop": stops(request), "regex": request.regex,
             "n_best": request.n_best}  # fmt: skip
    return {name: value for name, value in given.items() if value is not None and value != []}


ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def stops(request: Sample) -> list[str]:
    """The stop texts, with \\n, \\t, \\r and \\\\ as what they stand for."""
    return [re.sub(r"\\([ntr\\])", lambda found: ESCAPES[found[1]], stop) for stop in request.stop]


def made(model: Fitted, request: Sample, values: Any, n: int, on_event: OnEvent) -> Any:
    """n raw items, or the table of the likeliest."""
    if request.n_best is not None:
        return likeliest(writer(model, request, values, n), request.n_best)
    if request.stream:
        return [streamed(model, request, values, i, on_event) for i in range(n)]
    limited = request.length is not None or bool(request.stop) or request.regex is not None
    if limited or writes(model, request.prompt):
        return writer(model, request, values, n).write(on_step=on_step())
    options: dict[str, Any] = {"seed": request.seed, "condition": values, "sampling": request.sampling}
    if request.prompt is None:
        return model.draw(n, on_step=on_step(), **options)
    return model.complete([request.prompt] * n, on_step=on_step(), **options)


def writer(model: Fitted, request: Sample, values: Any, n: int, first: int = 0) -> Writer:
    """The model at work on n texts of its seed, from the `first` on."""
    return Writer(model, Wanted([request.prompt or ""] * n, values, request.length, stops(request), request.regex,
                                None, request.seed, request.sampling), first)  # fmt: skip


def writes(model: Fitted, prompt: str | None) -> bool:
    """Whether it goes on from this prompt, which has no holes, symbol by symbol."""
    if prompt is None or MODALITIES[model.codecs["x"].modality].hole in prompt:
        return False
    try:
        parts_of(model)
    except Unsupported:
        return False
    return True


def likeliest(writer: Writer, k: int) -> pa.Table:
    """A table with a row for each of the k likeliest texts of each condition."""
    kind = writer.model.codecs["x"].modality
    rows = [
        {"item": i, "rank": rank, "log_prob": one.log_prob, "score": one.score, kind: one.item}
        for i, several in enumerate(writer.n_best(k))
        for rank, one in enumerate(several, 1)
    ]
    return pa.Table.from_pylist(rows)


def streamed(model: Fitted, request: Sample, values: Any, i: int, on_event: OnEvent) -> str:
    """Text i, of which each piece is told as it is made."""
    text, one = "", values[i] if isinstance(values, list | tuple | np.ndarray) else values
    for piece in writer(model, request, None if one is None else [one], 1, i).stream():
        text += piece
        on_event(Piece(i, piece))
    on_event(Piece(i, "", last=True))
    return text


def given_columns(model: Fitted, values: Any, n: int, seed: int) -> pa.Table | None:
    """The columns of what samples were given, where it has some and samples can stand beside columns.

    `values` are those that were asked for; without them, those that `Fitted.draw` draws for this seed.
    """
    if "cond" not in model.codecs or not MODALITIES[model.codecs["x"].modality].columned:
        return None
    drawn = model.condition(values, n, seed)
    assert drawn is not None
    given = model.codecs["cond"].decode(drawn)
    return given if isinstance(given, pa.Table) else None
