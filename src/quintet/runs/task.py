"""What a run models, given what and how encoded: a `Task`, resolved once from data and what the user asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet import registry
from quintet.core import random
from quintet.core.codec import Codec
from quintet.core.errors import ConfigError, DataError, warn
from quintet.modalities.protocol import Modality
from quintet.registry import MODALITIES
from quintet.runs.config import RunConfig
from quintet.runs.folder import runs_root
from quintet.runs.restoring import latent_codec
from quintet.sources.load import Dataset

HELD = 512
"""Unseen items that samples are compared with, and that the loss is measured on."""
TOLD = {"train": "training"}
"""Names of splits within a sentence, where they differ."""


@dataclass(frozen=True)
class Task:
    """What is modelled, given what, and how both are encoded.

    `target` is a column, or None for the items themselves; `condition` is a column, several with commas, "items" (or
    the name of their kind), or None. `codec`: the name of a kind of data, or of a run whose latents are the codec.
    `modality` and `given` are the kinds of what is modelled and of what is given (None: nothing is). `codecs` are
    fitted on the training split: `x`, and `cond` where something is given; {} until then.
    """

    dataset: Dataset
    target: str | None
    condition: str | None
    codec: str
    modality: Modality
    given: Modality | None
    codecs: Mapping[str, Codec] = field(default_factory=dict)

    @classmethod
    def resolve(
        cls,
        dataset: Dataset,
        target: str | None = None,
        condition: str | None = None,
        *,
        codec: str | None = None,
        reads: str | None = None,
        codecs: Mapping[str, Codec] | None = None,
    ) -> Task:
        """The task of these data. `codec`, and `reads`, the codec of the condition: by default by the training values.

        `codecs`: those of a fitted model, whose kinds a short file that is brought later does not change.
        """
        kinds = {key: fitted.modality for key, fitted in (codecs or {}).items()}
        modality = MODALITIES.get(kinds.get("x", codec or "")) or kind_of(dataset, target)
        given = read_as(dataset, condition, kinds.get("cond", reads)) if condition else None
        return cls(dataset, target, condition, codec or modality.name, modality, given, codecs or {})

    @classmethod
    def of(cls, config: RunConfig, dataset: Dataset, codecs: Mapping[str, Codec] | None = None) -> Task:
        """The task of a run."""
        data = config.data
        return cls.resolve(dataset, data.target, data.condition, codec=config.codec, reads=config.given.get("codec"),
                           codecs=codecs)  # fmt: skip

    # -- items -------------------------------------------------------------------------------------------------------

    def items(self, split: str) -> tuple[Any, Any]:
        """(raw items, what each of them is given) of a split; None where nothing is given."""
        return self.targets(split), self.conditions(split)

    def targets(self, split: str) -> Any:
        """The raw items that are modelled."""
        return column_items(self.dataset, self.modality, self.target, split, without=self.condition)

    def conditions(self, split: str) -> Any:
        """What is given, raw; None where nothing is."""
        if self.given is None:
            return None
        return column_items(self.dataset, self.given, self.condition, split, without=self.target, given=True)

    def at(self, split: str, places: np.ndarray) -> Task:
        """The task with those items of a split that are at these places in it; `dataset.index` says where they lie."""
        splits = {**self.dataset.splits, split: self.dataset.index(split)[places]}
        return replace(self, dataset=replace(self.dataset, splits=splits))

    def some(self, split: str, n: int, seed: int = 0) -> Task:
        """The task with at most n items of a split, drawn by `seed`: the way to take fewer of them."""
        return self.at(split, random.some(self.dataset.index(split), n, seed))

    # -- what it is --------------------------------------------------------------------------------------------------

    @cached_property
    def label(self) -> bool:
        """Whether it is to name the label of what is given."""
        own = self.codec in MODALITIES
        return own and self.given is not None and self.modality.labels(self.targets("train"))

    def recipe(self, coding: Mapping[str, Any]) -> str:
        """Which defaults it begins with: see `Modality.recipe`, and "latent" for any latents."""
        if self.codec not in MODALITIES:
            return registry.codec_class(self.codec).name
        return self.modality.recipe(self.targets("train"), None if self.given is None else self.given.name, coding)

    def examples(self, *splits: str) -> Task:
        """The task without those rows of these splits that are no example of it; how many is warned.

        In them the label is blank that is to be named; in any other task the text is missing that is modelled, or a
        label or a text is blank that is given. A blank is not one more value: it says that the value is not known. What
        is given to a model that names labels may be blank.
        """
        if self.label:
            return self._filled(self.targets("train").column_names[0], splits)
        task = self
        if self.target is not None and names_columns(self.dataset, self.target) and not self.modality.gaps:
            task = self._filled(self.target, splits)
        if self.given is None or self.condition is None or not names_columns(self.dataset, self.condition):
            return task
        if not self.given.gaps or self.given.labels(self.conditions("train")):
            return task._filled(self.condition, splits)
        return task

    def _filled(self, column: str, splits: tuple[str, ...]) -> Task:
        """The task without those rows of these splits in which this column is blank."""
        kept = dict(self.dataset.splits)
        for split in splits:
            blank, index = np.asarray(self.dataset.column(column, split).column(0).is_null()), self.dataset.index(split)
            if not blank.any():
                continue
            kept[split] = index[~blank]
            of = "left out of training" if split == "train" else "left out"
            told = f"{blank.sum():,} of {len(index):,} {TOLD.get(split, split)} rows have no {column} and are {of}"
            warn(told)
            if blank.all() and split == "train":
                raise DataError(
                    f"no training row has a value in the column {column}",
                    where=self.dataset.name,
                    fix="choose another column",
                )
        return replace(self, dataset=replace(self.dataset, splits=kept))

    # -- codecs ------------------------------------------------------------------------------------------------------

    def fitted(self, config: RunConfig, runs: str | Path | None = None) -> Task:
        """The task with its codecs, fitted on the training split: `x` has the representation that the family takes.

        `runs`: where a codec that is a trained autoencoder is looked for.
        """
        if self.codec in MODALITIES:
            x = registry.make_codec(self.codec, registry.family_class(config.family), config.coding)
        else:
            x = latent_codec(config, self.modality.name, runs_root(runs))
        items, given = self.items("train")
        if self.given is None:
            return replace(self, codecs={"x": with_dims(x.fit(items))})
        settings = {key: value for key, value in config.given.items() if key != "codec"}
        x, cond = self.given.fit_pair(x, items, given, settings)
        return replace(self, codecs={"x": with_dims(x), "cond": cond})

    def known(self, *, targets: bool = True) -> Task:
        """The task without held-out rows that hold what training lacks: a new category, or the first missing cell of a
        column. No model can say anything about them; how many they are is warned.

        `targets`: by what is modelled too, not only by what is given.
        """
        parts = {"x": self.targets} if targets else {}
        parts |= {} if self.given is None else {"cond": self.conditions}
        parts = {key: part for key, part in parts.items() if key in self.codecs and not self.codecs[key].takes_all}
        splits, lost = dict(self.dataset.splits), []
        for split, index in self.dataset.splits.items():
            kept = np.ones(len(index), bool)
            for key, part in parts.items() if split != "train" else ():
                kept &= self.codecs[key].known(part(split))
            if not kept.all():
                splits[split] = index[kept]
                lost.append(f"{(~kept).sum():,} of {len(index):,} {split}")
        if not lost:
            return self
        told = f"{' and '.join(lost)} rows have values that do not occur in training and are left out"
        warn(told)
        return replace(self, dataset=replace(self.dataset, splits=splits))


def names_columns(dataset: Dataset, column: str | None) -> bool:
    """Whether this names columns, not the items themselves."""
    return column not in (None, "items", dataset.modality)


def column_items(
    dataset: Dataset, modality: Modality, column: str | None, split: str, *, without: str | None, given: bool = False
) -> Any:
    """Columns of a split as raw items of a kind; or the items of the source, of a table less the columns `without`."""
    if column is not None and names_columns(dataset, column):
        return modality.of_columns(dataset.column(column, split), given=given)
    rows = dataset.rows(split)
    if without is None or not isinstance(rows, pa.Table):
        return rows
    return rows.drop_columns([name for name in without.split(",") if name in rows.column_names])


def kind_of(dataset: Dataset, column: str | None) -> Modality:
    """The kind of data of the items, or, by its training values, of a column."""
    if column is None or not names_columns(dataset, column):
        return MODALITIES[dataset.modality]
    cells = dataset.column(column, "train")
    return next(modality for modality in MODALITIES.values() if modality.takes(cells))


def read_as(dataset: Dataset, condition: str, said: str | None) -> Modality:
    """The kind that a condition is read as: `said`, else by its values. ConfigError for one that it cannot be."""
    if said is None:
        return kind_of(dataset, condition)
    chosen = MODALITIES.get(said)
    if chosen is not None and (
        chosen.columns if names_columns(dataset, condition) else chosen.name == dataset.modality
    ):
        return chosen
    known = " or ".join(f"{kind.name} ({kind.columns})" for kind in MODALITIES.values() if kind.columns)
    why = f"the condition {condition} is read as {kind_of(dataset, condition).name}; a column can be {known}"
    raise ConfigError(f"the codec {said!r} cannot encode this condition", where="given.codec", why=why)


def with_dims(codec: Codec) -> Codec:
    """The fitted codec. TypeError, before anything is trained, for one whose author forgot to set `dims`."""
    if not hasattr(codec, "dims"):
        name = type(codec).__name__
        raise TypeError(f"{name} has no dims: fit and from_json set it to how many numbers or symbols a raw item has")
    return codec
