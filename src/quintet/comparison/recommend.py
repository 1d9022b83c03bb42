"""Which family to begin with, before any training: from the data's shape, the machine, and what was measured."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from quintet.comparison.contest import sized
from quintet.core.settings import Settings
from quintet.fit.pixels import sides
from quintet.metrics.measures import Measure
from quintet.registry import COMPARED, FAMILIES, MEASURES, MODALITIES, refusal
from quintet.sources.load import Dataset

PURPOSES = {
    "samples": "to make more of it",
    "scores": "to score how likely an item is, or find anomalies",
    "holes": "to fill holes",
    "speed": "to sample fast",
    "privacy": "to be safest against copying",
    "labels": "to name labels",
}
NEEDS = {"scores": "score", "holes": "complete"}
"""Purposes that not every family can serve, and the verb that each needs."""
FEW_ITEMS = 300
"""Items: fewer are easily learnt by heart."""
SHORT_BUDGET = 30.0
"""Seconds of a budget that show little but speed."""
MOST_LABELS = 50
BEST = {"low": "less is better", "high": "more is better", "half": "0.5 is best"}
NAMED_VALUES = 3
"""Values of a figure that a sentence names, the best first; all of them are in the JSON."""


# -- what was measured: results.yaml -----------------------------------------------------------------------------------


class Named(Settings):
    """A measure's name in a sentence, and which way is better; "half": the nearest to 0.5."""

    name: str
    better: Literal["low", "high", "half"]


class Measuring(Settings):
    """How figures were measured, and the section of docs/results.md that has them in full."""

    command: str
    budget: str
    machine: str
    date: str
    section: str


class Evidence(Settings):
    """What speaks for a family for a purpose: `values` that were measured on a `set` of data in a `run`, one for each
    family (where there are several, for each of its seeds) and perhaps for others; or what is to be expected of one
    `family`, `because` of its construction.
    """

    run: str = ""
    set: str = ""
    measure: str = ""
    values: dict[str, float | tuple[float, ...]] = {}
    family: str = ""
    because: str = ""
    since: float = 0.0
    options: str = ""


class Knowledge(Settings):
    """What is known of a kind of data: evidence for each purpose, what to mind, and which families alone are of use."""

    samples: tuple[Evidence, ...] = ()
    scores: tuple[Evidence, ...] = ()
    holes: tuple[Evidence, ...] = ()
    speed: tuple[Evidence, ...] = ()
    privacy: tuple[Evidence, ...] = ()
    labels: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()
    only: tuple[str, ...] = COMPARED


class Results(Settings):
    """All that was measured, by kind of data."""

    measures: dict[str, Named]
    runs: dict[str, Measuring]
    kinds: dict[str, Knowledge]


@cache
def results() -> Results:
    """The committed results."""
    text = resources.files("quintet").joinpath("comparison", "results.yaml").read_text("utf-8")
    return Results(**yaml.safe_load(text))


def measure_of(key: str) -> Named | Measure:
    """A measure of the results' own, or one of those of every report."""
    return results().measures.get(key) or MEASURES[key]


def counting(evidence: Sequence[Evidence], seconds: float) -> list[Evidence]:
    """The evidence that counts with a budget of so many seconds."""
    first = min((one.since for one in evidence), default=0.0)
    since = max((one.since for one in evidence if one.since <= seconds), default=first)
    return [one for one in evidence if one.since == since]


def tables(evidence: Iterable[Evidence]) -> dict[tuple[str, str], dict[str, float]]:
    """(set, measure) -> the mean of what was measured so of each family, the best first."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in evidence:
        for name, value in one.values.items():
            values = found.setdefault((one.set, one.measure), {}).setdefault(name, [])
            values += value if isinstance(value, tuple) else [value]

    means = {key: {name: sum(every) / len(every) for name, every in one.items()} for key, one in found.items()}
    return {key: dict(sorted(one.items(), key=partial(badness, measure_of(key[1])))) for key, one in means.items()}


def badness(measure: Named | Measure, value: tuple[str, float]) -> float:
    """Of somebody's value: the less, the better."""
    return {"low": value[1], "high": -value[1], "half": abs(value[1] - 0.5)}[measure.better]


def families_by_rank(evidence: Sequence[Evidence]) -> list[str]:
    """The families of some evidence, by their mean rank in what was measured; then those that are only expected."""
    ranks: dict[str, list[int]] = {}
    for means in tables(evidence).values():
        for rank, name in enumerate(name for name in means if name in FAMILIES):
            ranks.setdefault(name, []).append(rank)
    measured = sorted(ranks, key=lambda name: sum(ranks[name]) / len(ranks[name]))
    return list(dict.fromkeys([*measured, *(one.family for one in evidence if one.because)]))


def why(evidence: Sequence[Evidence], family: str) -> str:
    """What speaks for a family, in words: the best of each figure, and its own."""
    parts = [f"{one.because} (not measured)" for one in evidence if one.because]
    for (data, measure), means in tables(evidence).items():
        name, best = measure_of(measure).name, BEST[measure_of(measure).better]
        shown = [one for place, one in enumerate(means) if place < NAMED_VALUES or one == family]
        values = ", ".join(f"{one} {means[one]:.3g}" for one in shown)
        parts.append(f"on {data} ({best}), {name[0].lower() + name[1:]}: {values}")
    return "; ".join(parts)


def evidence_rows(evidence: Iterable[Evidence]) -> list[dict[str, Any]]:
    """What was measured, and how: JSON."""
    return [
        {
            "set": one.set,
            "measure": one.measure,
            "values": one.model_dump(mode="json")["values"],
            **results().runs[one.run].model_dump(),
        }
        for one in evidence
        if one.values
    ]


# -- what follows for some data ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataFacts:
    """What a recommendation depends on. `dims`: numbers or symbols of an item; `label`: a column to condition on."""

    kind: str
    items: int
    dims: int
    missing: bool
    label: str | None
    gpu: bool
    cores: int
    seconds: float


def recommendation(
    dataset: Dataset, seconds: float, config: Mapping[str, Any] | None = None, *, timed: bool = True
) -> dict[str, Any]:
    """{"shape", "purposes": {purpose: {"family", "why", "command", "rests_on"}}, "order", "cautions", "command"}: JSON.
    `rests_on` has the figures, each with the run, the machine and the day that it comes from.

    Of pictures that could be read at fewer pixels a few steps are `timed`, which may take long, and what `compare`
    would take is advised; `config` says how they were read.
    """
    shape = shape_of(dataset, seconds)
    source, known = dataset.source or dataset.name, knowledge(shape.kind, dataset.modality)
    choice: dict[str, Any] = {"size": None, "left_out": {}, "notes": []}
    if timed and sides(dataset):
        training = {"budget": seconds, "preset": None, "config": dict(config or {})}
        with tempfile.TemporaryDirectory() as folder:
            choice = sized(dataset, COMPARED, shape.label, training, Path(folder))
    budget, given = f" --budget {seconds:g}s", f" --condition {shape.label}" if shape.label else ""
    if choice["size"] is not None:
        given += f" --data.size {choice['size']}"
    budgeted = math.inf if shape.gpu else seconds
    order = ordered(known, dataset.modality, budgeted, choice["left_out"])
    purposes: dict[str, dict[str, Any]] = {}
    for purpose, told in PURPOSES.items():
        evidence = counting(getattr(known, purpose), budgeted)
        if not evidence or (purpose == "labels" and shape.label is None):
            continue
        family = families_by_rank(evidence)[0]
        reason, late = why(evidence, family), choice["left_out"].get(family)
        if late and purpose == "samples":
            family, reason = order[0], f"{family} needs more than this budget, and this one is readable within it"
        elif late and purpose != "labels":
            reason += f"; but in a comparison {late}"
        asked = f" --target {shape.label} --condition {dataset.modality}" if purpose == "labels" else given
        asked += "".join(f" {option}" for option in dict.fromkeys(one.options for one in evidence) if option)
        purposes[purpose] = {"purpose": told, "family": family, "why": reason, "rests_on": evidence_rows(evidence),
                             "command": f"quintet train {family} --data {source}{asked}{budget}"}  # fmt: skip
    return {
        "source": source,
        "shape": asdict(shape),
        "purposes": purposes,
        "order": order,
        "cautions": [*choice["notes"], *([] if purposes else unmeasured(dataset.modality)), *cautions(shape, known)],
        "command": f"quintet compare {source} --families {','.join(order[:3])}{budget}"
        if len(order) > 1
        else f"quintet train {order[0]} --data {source}{given}{budget}",
    }


def knowledge(kind: str, modality: str) -> Knowledge:
    """What is known of this kind of task, or else of this kind of data; perhaps nothing."""
    kinds = results().kinds
    return kinds.get(kind) or kinds.get(modality) or Knowledge()


def ordered(known: Knowledge, modality: str, seconds: float, late: Iterable[str]) -> list[str]:
    """Families that make samples of use, the likeliest to do well first; those that come too `late` for this budget
    last.
    """
    measured = [one for one in known.samples if one.values]
    every = dict.fromkeys(
        [*families_by_rank(counting(known.samples, seconds)), *families_by_rank(counting(measured, seconds)), *COMPARED]
    )
    able = [family for family in every if family in known.only and not refusal(family, modality, "sample")]
    return sorted(able, key=lambda family: family in late)


def unmeasured(modality: str) -> list[str]:
    """What can be said of data on which nothing was measured: which families can do what."""
    able = {
        purpose: ", ".join(family for family in FAMILIES if not refusal(family, modality, verb))
        for purpose, verb in NEEDS.items()
    }
    can = "; ".join(f"{PURPOSES[purpose]}: {families}" for purpose, families in able.items())
    return [f"nothing was measured on data of this kind: compare the families on your own. Able {can}."]


def cautions(shape: DataFacts, known: Knowledge) -> list[str]:
    """What to mind on data of this shape."""
    notes = []
    if shape.items < FEW_ITEMS:
        notes.append(
            f"{shape.items:,} training items are few, so that a model may copy them: --preset tiny, "
            "--training.patience 2, and look at the copies in the report."
        )
    notes += [note.format(**asdict(shape)) for note in known.notes]
    if shape.missing:
        notes.append("empty cells are modelled as what they are, and made again; quintet complete fills them.")
    if shape.label is not None:
        notes.append(f"given its {shape.label}, a model makes what is asked for, and can be tested by it.")
    if shape.seconds < SHORT_BUDGET:
        notes.append("less than half a minute shows little but speed: take 60 s at least to decide anything.")
    return notes


def shape_of(dataset: Dataset, seconds: float) -> DataFacts:
    """Read off the data and the machine."""
    modality, items = MODALITIES[dataset.modality], dataset.items
    return DataFacts(
        modality.kind(items), modality.count(dataset, "train"), modality.dims(items), modality.missing(items),
        label_of(dataset), torch.cuda.is_available(), os.cpu_count() or 1, seconds,
    )  # fmt: skip


def label_of(dataset: Dataset) -> str | None:
    """The first column beside the items that has few values."""
    for name in () if dataset.labels is None else dataset.labels.column_names:
        values = dataset.labels[name]  # type: ignore[index]
        if 2 <= len(values.unique()) <= MOST_LABELS:
            return str(name)
    return None
