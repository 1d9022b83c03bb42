"""`score`: how likely each item of a source is, what label it has, or which items are the odd ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from quintet.core.errors import DataError
from quintet.evaluation.tasks import classified
from quintet.fit import fitting
from quintet.model.fitted import ENOUGH, Fitted
from quintet.model.inputs import Found
from quintet.operations.events import OnEvent, operation
from quintet.operations.fitted import Made, brought, given, opened, place_of, provenance, ready, written
from quintet.operations.requests import Classify, Score, ScoreRequest
from quintet.operations.results import Result
from quintet.registry import MODALITIES, RESULTS
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
    model = fitting.load(request.run, runs=request.runs)
    labels = model.labels is not None and "cond" in model.codecs
    if found.items is None and not labels:
        target = model.config.data.target
        raise DataError(
            f"the data have no column {target}", where=str(request.data), why="this is the column that the run models"
        )
    if request.rank:
        made = ranked(model, request, found, on_event)
    elif labels and request.condition is None:
        made = labelled(model, Classify(), found, on_event)
    else:
        made = scored(model, request, found, on_event)
    facts = written(model, path, made, RESULTS) | {"data": found.source, "split": found.split}
    del facts["n"], facts["provenance"]
    return ScoreResult(**facts)


def scored(model: Fitted, request: Score, found: Found, on_event: OnEvent) -> Made:
    """The log-likelihood of each item by a loaded model, its numerical error and what is special about it; and what
    they are together.
    """
    ready(model, "log_prob")
    result = model.log_prob(found.items, condition=given(model, request.condition, found), seed=request.seed)
    count = len(result.values)
    nats, errors = (
        pa.nulls(count, pa.float64()) if each is None else pa.array(each.double().numpy(), from_pandas=True)
        for each in (result.values, result.stderr)
    )
    table = pa.table({"index": np.arange(count), "nats": nats, "stderr": errors})
    if result.notes is not None:
        table = table.append_column("note", pa.array(result.notes))
    likelihood = result.summary()
    of = {key: likelihood[key] for key in ("kind", "space")}
    return made_of(model, request.seed, found, table, {"likelihood": likelihood}, **of)


def ranked(model: Fitted, request: Score, found: Found, on_event: OnEvent) -> Made:
    """Items from the least likely on by a loaded model, and how many are odd next to the run's held-out items."""
    ready(model, "log_prob")
    usual_items, usual_given = None, None  # of windows of a long text, the model's own
    if not model.codecs["x"].stream:
        usual_items, usual_given = model.held_out(test=not found.own or found.split not in ("test", "all"))
    table = model.rank(found.items, reference=usual_items, condition=given(model, request.condition, found),
                       given=usual_given, seed=request.seed)  # fmt: skip
    usual = int(table.schema.metadata[b"reference"])
    odd = int((table["p"].to_numpy() <= max(0.01, 1 / (usual + 1))).sum())
    figures = {"items": table.num_rows, "reference": usual, "least_p": 1 / (usual + 1)}
    figures |= {"p_at_most_0.01": odd} if usual >= ENOUGH else {}
    return made_of(model, request.seed, found, table, {"anomalies": figures, "odd": odd})


def labelled(model: Fitted, request: Classify, found: Found, on_event: OnEvent) -> Made:
    """The label of each item by a loaded classifier and the probability of each; and how well, where the items' own are
    known.
    """
    model.able("classify")
    table, facts = classified(model, found)
    return made_of(model, 0, found, table, facts)


def made_of(model: Fitted, seed: int, found: Found, table: pa.Table, facts: dict[str, Any], **more: Any) -> Made:
    """A table with a row an item: behind its index, which is its place in its source, what else says which it is."""
    if found.items is not None:
        names = MODALITIES[model.codecs["x"].modality].names(found.items)
        for place, (name, cells) in enumerate(names.items(), start=1):
            if name not in table.column_names:
                table = table.add_column(place, name, pa.array(cells).take(table["index"]))
    if found.places is not None:
        table = table.set_column(0, "index", pa.array(found.places[table["index"].to_numpy()]))
    return Made(table, facts, provenance(model, seed=seed, scored=found.source, split=found.split, **more))
