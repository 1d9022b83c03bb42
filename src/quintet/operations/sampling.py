"""`sample`: new items of a fitted model, or texts as they are asked for."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.core.errors import Unsupported, UsageError
from quintet.fit import api
from quintet.model.fitted import Fitted
from quintet.model.writing import Wanted, Writer, parts_of
from quintet.operations.conditions import read_conditions
from quintet.operations.events import OnEvent, Piece, Step, operation
from quintet.operations.fitted import Result, modality_in, opened, place_of, write
from quintet.operations.requests import SampleRequest
from quintet.registry import MODALITIES, RESULTS, modality_of


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
    verb = "sample" if request.prompt is None else "complete"
    folder = opened(request.run, request.runs, verb, request.sampling)
    modality = modality_in(folder)
    if request.n_best is None:
        path = place_of(folder, request.output, f"seed{request.seed}")
    else:
        path = place_of(folder, request.output, "best", RESULTS)
    if request.prompt is not None and not modality.hole:
        raise UsageError(f"a prompt is for text, not for {modality.name}", fix="quintet complete RUN --data FILE")
    model = api.load(request.run, runs=request.runs)
    alone = (request.stream or request.n_best is not None) and request.conditions is None
    n = 1 if request.n is None and alone else request.n
    values, n = read_conditions(model, request.condition, request.conditions, n)
    began = time.perf_counter()
    items = made(model, request, values, n, on_event)
    seconds = time.perf_counter() - began
    if request.n_best is None:
        items = beside(model, items, values, request.seed, path)
    typed = request.condition
    told = None if values is None else typed if typed is not None else [str(value) for value in values]
    facts = write(model, path, items, seed=request.seed, n=n, condition=told,
                  sampling=model.sampling(request.sampling).model_dump(mode="json"), **asked(request))  # fmt: skip
    facts |= {"n": n, "seed": request.seed, "kind": modality.name, "seconds": seconds,
              "ms_per_sample": 1000 * seconds / n}  # fmt: skip
    return SampleResult(**facts)


def asked(request: SampleRequest) -> dict[str, Any]:
    """What was asked of texts, for the note of a file."""
    given = {"prompt": request.prompt, "length": request.length, "stop": stops(request), "regex": request.regex,
             "n_best": request.n_best}  # fmt: skip
    return {name: value for name, value in given.items() if value is not None and value != []}


ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def stops(request: SampleRequest) -> list[str]:
    """The stop texts, with \\n, \\t, \\r and \\\\ as what they stand for."""
    return [re.sub(r"\\([ntr\\])", lambda found: ESCAPES[found[1]], stop) for stop in request.stop]


def made(model: Fitted, request: SampleRequest, values: Any, n: int, on_event: OnEvent) -> Any:
    """n raw items, or the table of the likeliest."""

    def on_step(step: int, steps: int, _: Any) -> None:
        on_event(Step(step, steps))

    if request.n_best is not None:
        return likeliest(writer(model, request, values, n), request.n_best)
    if request.stream:
        return [streamed(model, request, values, i, on_event) for i in range(n)]
    limited = request.length is not None or bool(request.stop) or request.regex is not None
    if limited or writes(model, request.prompt):
        return writer(model, request, values, n).write(on_step=on_step)
    options: dict[str, Any] = {"seed": request.seed, "condition": values, "sampling": request.sampling}
    if request.prompt is None:
        return model.draw(n, on_step=on_step, **options)
    return model.complete([request.prompt] * n, on_step=on_step, **options)


def writer(model: Fitted, request: SampleRequest, values: Any, n: int) -> Writer:
    """The model at work on n texts."""
    return Writer(model, Wanted([request.prompt or ""] * n, values, request.length, stops(request), request.regex,
                                None, request.seed, request.sampling))  # fmt: skip


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


def streamed(model: Fitted, request: SampleRequest, values: Any, i: int, on_event: OnEvent) -> str:
    """Text i, of which each piece is told as it is made."""
    text, one = "", values[i] if isinstance(values, list | tuple | np.ndarray) else values
    for piece in writer(model, request, one, 1).stream(i):
        text += piece
        on_event(Piece(i, piece))
    on_event(Piece(i, "", last=True))
    return text


def beside(model: Fitted, items: Any, values: Any, seed: int, path: str) -> Any:
    """The samples beside the columns of what they were given, where it has some and the format has: tables, and .jsonl
    of texts.

    `values` are those that were asked for; without them, those that `Fitted.draw` draws for this seed.
    """
    modality = modality_of(items)
    if "cond" not in model.codecs or (Path(path).suffix.lower() or modality.suffix) not in modality.columned:
        return items
    drawn = model.condition(values, len(items), seed)
    assert drawn is not None
    given = model.codecs["cond"].decode(drawn)
    return modality.with_columns(items, given) if isinstance(given, pa.Table) else items
