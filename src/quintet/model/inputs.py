"""Items that a user brings to a fitted model: read as the run's own data were, in their own order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.core.codec import Codec
from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.data.dataset import join
from quintet.modalities import Choices
from quintet.registry import MODALITIES
from quintet.runs.config import RunConfig
from quintet.runs.task import Task
from quintet.sources.load import SOURCES, Dataset, load_source, take


@dataclass(frozen=True)
class Found:
    """Raw items (None: a source without labels), their conditions (None where there are none), and the split; `index`:
    their places in it, where they are some of them only. Items that no source has are the split "all" of none.
    """

    items: Any
    given: Any = None
    split: str = "all"
    index: np.ndarray | None = None
    written: pa.Table | None = None
    """The same rows as they stand in a CSV, as strings."""
    places: np.ndarray | None = None
    """Of items that are lines of one file: which lines, from 0, blank ones counted."""
    source: str | None = None
    """The source that they are of."""
    own: bool = False
    """Whether nobody brought them: they are of the data that the run was trained on."""
    known: Any = None
    """Of items with holes that are not to be seen in them: a raw mask, True for what is known."""

    def some(self, n: int | None, seed: int = 0) -> Found:
        """n of them, drawn by a seed, or all."""
        if n is None or n >= len(self.items):
            return self
        index = some(self.items, n, seed)
        given, raw = (None if each is None else take(each, index) for each in (self.given, self.written))
        return replace(self, items=take(self.items, index), given=given, index=index, written=raw, places=None)

    def facts(self) -> dict[str, Any]:
        """{"split", "items"} of items that were drawn, for provenance; nothing if all were taken."""
        return {} if self.index is None else {"split": self.split, "items": self.index.tolist()}


def load_items(source: str, **reading: Any) -> Dataset:
    """A whole source in its own order, as the split "all"."""
    return whole(load_source(source, **reading, whole=True))


def whole(dataset: Dataset) -> Dataset:
    """The same data with one more split, "all", in their own order."""
    every = np.arange(len(dataset.items))
    return Dataset(dataset.name, dataset.modality, dataset.items, {**dataset.splits, "all": every}, dataset.labels,
                   source=dataset.source, written=dataset.written, places=dataset.places)  # fmt: skip


def read_items(
    config: RunConfig,
    source: str | None,
    split: str | None,
    *,
    unlabelled: bool = False,
    codecs: Mapping[str, Codec] | None = None,
    like: Mapping[str, Codec] | None = None,
    forms: Mapping[str, Any] | None = None,
) -> Found:
    """The items of `source` that this run's model takes, with their conditions where the source has them.

    `unlabelled`: a source without the column that is modelled gives conditions alone.

    `like`: the run's codecs. Pictures come in their size and channels and recordings at their rate, whatever those of
    the source are; of pictures this is warned.

    `forms`: in which the columns of the run's own data are written.

    Without a source: the run's own, less held-out rows that its `codecs` cannot take. `split` may be "all"; if it is
    not given, files are taken whole and in their own order, and of names the test split.
    """
    own = config.data.reading()
    name = source or config.data.source
    split = split or ("test" if source is None or source in SOURCES else "all")
    reading = {} if source else {key: value for key, value in own.items() if key != "source"}
    kinds = {key: getattr(one, "inner", one) for key, one in (like or {}).items()} if source else {}
    for one in kinds.values():
        reading |= MODALITIES[one.modality].reading(one, own)
    load = load_items if split == "all" else load_source
    dataset = load(name, **reading, forms=forms or {})
    lacking = unlabelled and not has(dataset, config.data.target)
    if not lacking and not has(dataset, config.data.condition):
        config = config.model_copy(update={"data": config.data.model_copy(update={"condition": None})})
    task = Task.of(config, dataset, like or codecs)
    if source is None and codecs is not None:  # an item is given its label, whatever it had
        task = task.known(targets="cond" not in codecs or codecs["x"].labels is None)
    if lacking and task.given is None:
        raise DataError(
            f"the data have no column {task.target}", where=name, why="this is the column that the run models"
        )
    items, given = None if lacking else task.targets(split), task.conditions(split)
    if not len(given if items is None else items):
        raise DataError("no items", where=name)
    items, given = of_kind(items, kinds.get("x"), own), of_kind(given, kinds.get("cond"), own)
    written, places = (dataset.written, dataset.places) if split == "all" else (None, None)
    written = None if items is None else written
    return Found(items, given, split, written=written, places=places, source=name, own=not source)


def of_kind(items: Any, codec: Codec | None, reading: Choices) -> Any:
    """Items in the shape of those that their codec was fitted on, if there is one."""
    return items if codec is None or items is None else MODALITIES[codec.modality].like(items, codec, reading)


def has(dataset: Dataset, columns: str | None) -> bool:
    """Whether a source has these columns, or they are its items."""
    if columns is None or columns in ("items", dataset.modality):
        return True
    have = [*(dataset.labels.column_names if dataset.labels is not None else [])]
    have += dataset.items.column_names if isinstance(dataset.items, pa.Table) else []
    return set(columns.split(",")) <= set(have)


def chain(parts: Sequence[Any], *, interleave: bool = False) -> Any:
    """Raw items of several lists as one; with `interleave`, the first of each, then the second of each, ..."""
    out = join(parts)
    return take(out, np.arange(len(out)).reshape(len(parts), -1).T.flatten()) if interleave else out
