"""A source as a page shows it before any training: what was understood of it, some items, and what can be corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quintet.data.dataset import Dataset
from quintet.fit import fitting
from quintet.modalities.cards import Card, Chart
from quintet.modalities.options import OPTIONS
from quintet.operations.events import OnEvent, operation
from quintet.operations.requests import DataRequest
from quintet.operations.sources import SourceResult, some_of, understood
from quintet.registry import MODALITIES, modality_of
from quintet.runs.config import AnyData, DataSettings
from quintet.sources.load import SOURCES, load_source

CARDS = 48
"""Items on a page, at most."""


@dataclass(frozen=True)
class Preview:
    """`charts`: how the columns of the items and of their labels are distributed, by name. `options`: of the settings
    of the data, those that say how such a source is read; `typed`: what a column may be said to be, and `wishes`, what
    was said. `label`: the column that is given unless another is named, "" if there is none.
    """

    found: SourceResult
    cards: list[Card]
    charts: Mapping[str, Chart]
    options: tuple[str, ...]
    typed: tuple[str, ...]
    wishes: Mapping[str, str]
    label: str


@operation
def preview(request: DataRequest, on_event: OnEvent) -> Preview:
    """Read a source and look at it."""
    source = request.source or ""
    reading = fitting.reading_of(request.sections())
    dataset = load_source(source, **reading)
    modality, built_in = MODALITIES[dataset.modality], source in SOURCES
    items, captions = some_of(dataset, modality.previewed)
    few = min(CARDS, len(items))
    drawn = [*modality.charts(items), *charts_of_labels(dataset)]
    wishes = DataSettings(source="-", **reading).wishes
    labelled = dataset.labels is not None and "label" in dataset.labels.column_names
    return Preview(
        understood(dataset),
        modality.cards(items[:few], captions[:few]),
        {chart.name: chart for chart in drawn},
        () if built_in else options(dataset.modality),
        () if built_in else OPTIONS[dataset.modality].typed,
        wishes,
        "label" if labelled else "",
    )


def charts_of_labels(dataset: Dataset) -> list[Chart]:
    """How the labels of all items are distributed."""
    return [] if dataset.labels is None else modality_of(dataset.labels).charts(dataset.labels)


def options(kind: str) -> tuple[str, ...]:
    """How a source of this kind may be read, by the names of settings; also as other kinds that such files hold."""
    suffixes = set(MODALITIES[kind].suffixes)
    alike = [name for name, modality in MODALITIES.items() if suffixes & set(modality.suffixes)]
    own = [name for one in alike for name in OPTIONS[one].reading.model_fields]
    return (*own, *(name for name in AnyData.model_fields if name not in ("source", "target", "condition")))
