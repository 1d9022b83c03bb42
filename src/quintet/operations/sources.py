"""`data`: the sources, or what was understood of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field

from quintet.core.errors import EnvironmentFault, UsageError
from quintet.core.random import some
from quintet.data.arrow import LEFT_OUT
from quintet.data.dataset import Dataset, take
from quintet.data.published import HOMES
from quintet.data.splits import keys_of
from quintet.fit import fitting
from quintet.modalities.protocol import FEW
from quintet.operations.events import OnEvent, operation
from quintet.operations.requests import DataRequest
from quintet.operations.results import Result
from quintet.registry import MODALITIES, modality_of
from quintet.sources.load import SOURCES, Source, data_root, load_source


class SourcesResult(Result):
    """The sources that have a name, and where their files are looked for."""

    root: str
    sources: list[dict[str, Any]]


class SourceResult(Result):
    """What was understood of a source; which further facts there are depends on its kind."""

    model_config = ConfigDict(extra="allow")

    name: str
    source: str
    modality: str
    about: str
    items: int
    splits: dict[str, int]
    columns: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    missing: int
    duplicates: dict[str, int]
    problems: list[str]
    notes: list[str]
    fingerprint: str
    picture: str | None = None
    understood: dict[str, Any] = Field(exclude=True)
    """The further facts."""


@operation
def data(request: DataRequest, on_event: OnEvent) -> SourcesResult | SourceResult:
    """Every name with what it is and where its files are expected, without loading any; or one source."""
    if request.source is not None:
        return described(request.source, request.output, **fitting.reading_of(request.sections()))
    entries = [_entry(name, source) for name, source in SOURCES.items()]
    return SourcesResult(root=str(data_root()), sources=entries)


def _entry(name: str, source: Any) -> dict[str, Any]:
    if not isinstance(source, Source):  # put there by a program
        found = source()
        source = Source(source, found.modality, len(found.items), found.about)
    entry = {"name": name, "modality": source.modality, "items": source.items, "about": source.about,
             "columns": list(source.columns)}  # fmt: skip
    if not source.folder:
        return entry | {"state": "built in"}
    if not source.missing:
        return entry | {"state": str(data_root() / source.folder)}
    fix = f"get it from {HOMES[source.folder]}"
    return entry | {"error": "file not found", "where": source.missing, "fix": fix, "state": f"not here: {fix}"}


def described(name: str, output: str | None = None, **reading: Any) -> SourceResult:
    """What was understood of a source that is read like this; `output`: a picture (.png) of some items."""
    if output is not None and Path(output).suffix.lower() != ".png":
        what, why = f"a picture cannot be written to {output}", "the preview is a PNG picture"
        raise UsageError(what, why=why, fix="-o preview.png")
    dataset = load_source(name, **reading)
    found = understood(dataset)
    if output is None:
        return found
    modality = MODALITIES[dataset.modality]
    try:
        Path(output).write_bytes(modality.preview(*some_of(dataset, modality.previewed)))
    except OSError as error:
        raise EnvironmentFault(
            "the picture cannot be written",
            where=output,
            why=error.strerror or "",
            fix="free disk space, or name a file in a folder that can be written",
        ) from None
    return found.model_copy(update={"picture": output})


def understood(dataset: Dataset) -> SourceResult:
    """What there is to know of a data set before training on it."""
    modality = MODALITIES[dataset.modality]
    table = modality.column_facts(dataset.items, dataset.index("train"))
    labels = [] if dataset.labels is None else modality_of(dataset.labels).column_facts(dataset.labels)
    repeated, facts = duplicates(dataset), modality.facts(dataset.items)
    return SourceResult(
        name=dataset.name,
        source=dataset.source or dataset.name,
        modality=dataset.modality,
        about=dataset.about,
        items=len(dataset.items),
        splits={split: len(index) for split, index in dataset.splits.items()},
        columns=table,
        labels=labels,
        missing=sum(fact["missing"] for fact in table),
        duplicates=repeated,
        problems=problems(dataset, table, labels, repeated),
        notes=[note for note in dataset.notes if note not in left_out(dataset)],
        fingerprint=dataset.fingerprint(),
        understood=facts,
        **{name: fact for name, fact in facts.items() if name not in SourceResult.model_fields},
    )


def some_of(dataset: Dataset, count: int) -> tuple[Any, list[str]]:
    """Training items, drawn by a fixed seed, and their labels in words."""
    index = dataset.index("train")
    index = index[some(index, count, 0)]
    labels = [] if dataset.labels is None else take(dataset.labels, index).to_pylist()
    captions = [", ".join(str(value) for value in row.values()) for row in labels] or [""] * len(index)
    return take(dataset.items, index), captions


# -- what may be wrong -----------------------------------------------------------------------------------------------


def duplicates(dataset: Dataset) -> dict[str, int]:
    """How many items equal an earlier one, and how many different items are in more than one split."""
    keys = keys_of(MODALITIES[dataset.modality].contents(dataset.items))
    parts = {split: np.unique(keys[index]) for split, index in dataset.splits.items()}
    everything = np.concatenate(list(parts.values())) if parts else keys[:0]
    _, times = np.unique(everything, return_counts=True)
    return {"items": len(keys) - len(np.unique(keys)), "across_splits": int((times > 1).sum())}


def _regular(column: pa.ChunkedArray) -> bool:
    """Whether these are times of which nine neighbours in ten are as far apart as others, give or take the days of a
    month.
    """
    if not pa.types.is_timestamp(column.type) and not pa.types.is_date(column.type):
        return False
    at = column.drop_null().cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    low, high = np.quantile(np.diff(np.sort(at)), [0.05, 0.95])
    return bool(high <= 1.2 * low)


def left_out(dataset: Dataset) -> list[str]:
    """The columns of its files that are not modelled, and why."""
    return [note for note in dataset.notes if note.startswith("column ") and note.endswith(LEFT_OUT)]


def problems(dataset: Dataset, table: list[dict[str, Any]], labels: list[dict[str, Any]],
             repeated: Mapping[str, int]) -> list[str]:  # fmt: skip
    """What a person should look at before training on this."""
    train, scarce = len(dataset.index("train")), MODALITIES[dataset.modality].scarce(dataset)
    found = [f"only {scarce} to train on"] if scarce else []
    found += left_out(dataset)
    if repeated["across_splits"]:
        found.append(f"{repeated['across_splits']:,} items are in more than one split: held-out figures flatter")
    for fact in table:
        name, column = fact["name"], dataset.items[fact["name"]]
        if pa.types.is_floating(column.type):
            bad = len(column) - column.null_count - (pc.sum(pc.is_finite(column)).as_py() or 0)
            if bad:
                found.append(f"column {name}: {bad:,} cells are NaN or infinite")
        if fact["distinct"] <= 1:
            found.append(f"column {name} has one value")
        elif fact["distinct"] == len(column) > FEW and _regular(column):
            how = "--data.window STEPS reads the rows as a series, in windows of so many steps"
            found.append(f"column {name}: its times are evenly apart, and as a table the rows have no order; {how}")
        elif fact["distinct"] == len(column) > FEW and not pa.types.is_floating(column.type):
            found.append(f"column {name}: every value is different, as in an identifier")
        elif pa.types.is_string(column.type) and fact["distinct"] > 1000:
            found.append(f"column {name} has {fact['distinct']:,} different strings")
        if fact["missing"] > len(column) / 2:
            found.append(f"column {name}: {100 * fact['missing'] / len(column):.0f} % of the cells are missing")
    for fact in labels:
        if fact["missing"]:
            found.append(f"label {fact['name']}: {fact['missing']:,} items have none")
        if "rarest" in fact and fact["distinct"] <= len(fact["values"]) and fact["rarest"] < FEW <= train:
            found.append(f"label {fact['name']}: the rarest class has {fact['rarest']:,} items")
    return found + MODALITIES[dataset.modality].problems(dataset.items)
