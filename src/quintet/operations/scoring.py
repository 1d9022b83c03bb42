"""`score`: how likely each item of a source is, what label it has, or which items are the odd ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from quintet.core.errors import DataError
from quintet.evaluation.tasks import classified
from quintet.fit import api
from quintet.model.fitted import ENOUGH, Fitted
from quintet.model.inputs import Found
from quintet.operations.events import OnEvent, operation
from quintet.operations.fitted import Result, brought, given, opened, place_of, provenance
from quintet.operations.requests import ScoreRequest
from quintet.registry import RESULTS
from quintet.runs.restoring import codecs_of


class ScoreResult(Result):
    """The file of scores, and what they are together: a likelihood, figures of labels, or how many are odd."""

    run: str
    data: str
    split: str
    output: str
    files: list[Path]
    likelihood: dict[str, Any] | None = None
    items: int | None = None
    labels: dict[str, Any] | None = None
    anomalies: dict[str, Any] | None = None
    odd: int | None = Field(None, exclude=True)
    """Of ranked items, how many are less likely than 99 % of usual ones, or all of them where those are few."""


@operation
def score(request: ScoreRequest, on_event: OnEvent) -> ScoreResult:
    """Write a row for each item: how likely it is, which label it has, or its rank from the least likely on."""
    folder = opened(request.run, request.runs, "log_prob")
    found = brought(folder, request.data, request.split, unlabelled=not request.rank, codecs=codecs_of(folder))
    path = place_of(folder, request.output, f"{found.split}-scores", RESULTS)
    model = api.load(request.run, runs=request.runs)
    source = request.data or model.config.data.source
    labels = model.labels is not None and "cond" in model.codecs
    if found.items is None and not labels:
        target = model.config.data.target
        raise DataError(f"no column {target}", where=str(request.data), why="it is what this run models")
    values = given(model, request.condition, found)
    note = provenance(model.run, seed=request.seed, scored=source, split=found.split)
    facts: dict[str, Any] = {"run": str(folder.path), "data": source, "split": found.split}
    if request.rank:
        table, more = ranked(model, request, found, values)
    elif labels and request.condition is None:
        table, more = classified(model, found)
    else:
        table, more = likelihoods(model, found, values, request.seed)
        note |= {key: more["likelihood"][key] for key in ("kind", "space")}
    if found.places is not None:
        table = table.set_column(0, "index", pa.array(found.places[table["index"].to_numpy()]))
    return ScoreResult(**facts, **more, output=path, files=RESULTS.write(path, table, note))


def ranked(model: Fitted, request: ScoreRequest, found: Found, values: Any) -> tuple[pa.Table, dict[str, Any]]:
    """Items from the least likely on, and how many of them are odd next to the run's held-out items."""
    usual_items, usual_given = None, None  # of windows of a long text, the model's own
    if not model.codecs["x"].stream:
        test = request.data is not None or found.split not in ("test", "all")
        usual_items, usual_given = model.held_out(test=test)
    table = model.rank(found.items, reference=usual_items, condition=values, given=usual_given, seed=request.seed)
    usual = int(table.schema.metadata[b"reference"])
    odd = int((table["p"].to_numpy() <= max(0.01, 1 / (usual + 1))).sum())
    figures = {"items": table.num_rows, "reference": usual, "least_p": 1 / (usual + 1)}
    return table, {"anomalies": figures | ({"p_at_most_0.01": odd} if usual >= ENOUGH else {}), "odd": odd}


def likelihoods(model: Fitted, found: Found, values: Any, seed: int) -> tuple[pa.Table, dict[str, Any]]:
    """The log-likelihood of each item, its numerical error and what is special about it; and what they are together."""
    result = model.log_prob(found.items, condition=values, seed=seed)
    count = len(result.values)
    nats, errors = (
        pa.nulls(count, pa.float64()) if each is None else pa.array(each.double().numpy(), from_pandas=True)
        for each in (result.values, result.stderr)
    )
    table = pa.table({"index": np.arange(count), "nats": nats, "stderr": errors})
    if result.notes is not None:
        table = table.append_column("note", pa.array(result.notes))
    return table, {"likelihood": result.summary()}
