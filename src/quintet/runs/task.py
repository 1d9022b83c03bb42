"""What a run models, given what and how encoded: the items, conditions and labels of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet import registry
from quintet.core.codec import Codec
from quintet.core.errors import DataError, UsageError, warn
from quintet.core.random import some
from quintet.data import written
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.columns import describe
from quintet.modalities.text.codec import TextCodec
from quintet.runs.config import RunConfig
from quintet.runs.folder import runs_root
from quintet.runs.restoring import latent_codec
from quintet.sources.load import Dataset


def pick(
    dataset: Dataset, column: str | None, split: str, *, without: str | None = None, codec: str | None = None
) -> Any:
    """Columns of a split, or the items themselves (None, "items" or the modality's name), less the columns `without`.

    A column whose codec is text is a list of strings, as text items are. `codec`: default by `codec_name`.
    """
    if column is None or column in ("items", dataset.modality):
        rows = dataset.rows(split)
        given = [
            name for name in (without or "").split(",") if dataset.modality == "table" and name in rows.column_names
        ]
        return rows.drop_columns(given) if given else rows
    table = dataset.column(column, split)
    if (codec or codec_name(dataset, column)) != "text":
        return table
    if table.num_columns != 1 or not pa.types.is_string(table.column(0).type):
        raise UsageError("this is not one column of texts", where=f"column {column}", fix="leave --codec out")
    return ["" if text is None else text for text in table.column(0).to_pylist()]


WORDS = 64
"""A column of strings with more values than this, most of them different, is text; else a category."""


def codec_name(dataset: Dataset, column: str | None) -> str:
    """The codec of a column, or of the items."""
    if column is None or column in ("items", dataset.modality):
        return dataset.modality
    table = dataset.column(column, "train")
    if table.num_columns == 1 and pa.types.is_string(table.column(0).type):
        said = written.of(table.schema.field(0))
        if said is not None:  # by the user
            return "text" if said.kind == "text" else "table"
        cells = table.column(0).take(pa.array(some(len(table), 10_000, 0)))
        kinds = len(cells.unique())
        return "text" if kinds > WORDS and 2 * kinds > len(cells) else "table"
    return "table"


def given_codec(config: RunConfig, dataset: Dataset) -> str:
    """The codec of the condition: that of the run, which a short file that is brought later does not change."""
    return str(config.given.get("codec") or codec_name(dataset, config.data.condition))


def is_label(dataset: Dataset, column: str | None) -> bool:
    """Whether this is one column of categories: strings, booleans, or integers of few values."""
    if column is None or column in ("items", dataset.modality):
        return False
    table = dataset.column(column, "train")
    return table.num_columns == 1 and describe(column, table.column(0), bins=WORDS, own=WORDS).categorical


def fit_codecs(config: RunConfig, dataset: Dataset, runs: str | Path | None = None) -> dict[str, Codec]:
    """`x` with the face that the family takes, and `cond`, fitted on the training split.

    `runs`: where a codec that is a trained autoencoder is looked for.
    """
    family, data = registry.family_class(config.family), config.data
    if config.codec in registry.CODECS:
        x = registry.make_codec(config.codec, family, config.coding)
    else:
        x = latent_codec(config, codec_name(dataset, data.target), runs_root(runs))
    items = target_of(config, dataset, "train")
    if data.condition is None:
        return {"x": x.fit(items)}
    name, settings = given_codec(config, dataset), {k: v for k, v in config.given.items() if k != "codec"}
    given = pick(dataset, data.condition, "train", without=data.target, codec=name)
    if isinstance(x, TextCodec) and x.settings.joint and name == "text":
        vocabulary = x.learn([*items, *given])
        cond = TextCodec(None, TextCodec.Settings(**settings)).fit(given, vocabulary)
        return {"x": x.fit(items, vocabulary), "cond": cond}
    return {"x": x.fit(items), "cond": condition_codec(name, given, settings)}


def condition_codec(name: str, items: Any, settings: Mapping[str, Any]) -> Codec:
    """Of a condition: symbols where all of it is symbols (categories, text), else real numbers."""
    if name != "table":
        kind = registry.CODECS[name]
        return kind(None, kind.Settings(**settings)).fit(items)
    codec = TableCodec("discrete", TableCodec.Settings(**{**settings, "strict": True})).fit(items)
    numbers = any(not column.categorical for column in codec.columns)
    if not numbers:
        return codec
    return TableCodec("continuous", TableCodec.Settings(**{**settings, "shared_by": 1})).fit(items)  # nothing is drawn


def items_of(config: RunConfig, dataset: Dataset, split: str) -> tuple[Any, Any]:
    """(items, conditions) of a split, raw; conditions are None for an unconditional run."""
    data = config.data
    given = None
    if data.condition is not None:
        given = pick(dataset, data.condition, split, without=data.target, codec=given_codec(config, dataset))
    return target_of(config, dataset, split), given


def within(dataset: Dataset, parts: Sequence[tuple[Codec, Callable[[str], Any]]]) -> Dataset:
    """The data without held-out rows that hold what training lacks: a new category, or the first missing cell of a
    column. No model can say anything about them; how many they are is warned.

    `parts`: codecs of tables, each with the rows of a split that it encodes.
    """
    splits, lost = dict(dataset.splits), {}
    for split, index in dataset.splits.items():
        kept = np.ones(len(index), bool)
        for codec, rows in parts:
            if split != "train" and isinstance(codec, TableCodec):
                kept &= codec.known(rows(split))
        if not kept.all():
            splits[split], lost[split] = index[kept], int((~kept).sum())
    if not lost:
        return dataset
    told = " and ".join(f"{count:,} of {len(dataset.splits[split]):,} {split}" for split, count in lost.items())
    warn(f"{told} rows hold values that training lacks and are left out")
    return replace(dataset, splits=splits)


def within_run(config: RunConfig, dataset: Dataset, codecs: Mapping[str, Codec]) -> Dataset:
    """`within` by the codecs of a run, or by some of them."""
    parts: list[tuple[Codec, Callable[[str], Any]]] = []
    if "x" in codecs:
        parts.append((codecs["x"], lambda split: items_of(config, dataset, split)[0]))
    if "cond" in codecs:
        parts.append((codecs["cond"], lambda split: items_of(config, dataset, split)[1]))
    return within(dataset, parts)


def labelled(config: RunConfig, dataset: Dataset) -> Dataset:
    """The data without training rows whose label is blank, be it the label that is modelled or that of a condition;
    how many they are is warned. What is given to a model of a label may be blank.

    A blank is not one more label: it says that the label is not known.
    """
    target, condition = config.data.target, config.data.condition
    if condition is not None and config.codec == "table" and is_label(dataset, target):
        return unblank(dataset, target, ["train"])
    return unblank(dataset, condition, ["train"]) if is_label(dataset, condition) else dataset


def unblank(dataset: Dataset, column: str | None, splits: Sequence[str]) -> Dataset:
    """The data without those rows of these splits in which this label is blank; how many they are is warned."""
    assert column is not None
    kept = dict(dataset.splits)
    for split in splits:
        blank, index = np.asarray(dataset.column(column, split).column(0).is_null()), dataset.index(split)
        if not blank.any():
            continue
        kept[split] = index[~blank]
        of = "left out of training" if split == "train" else "left out"
        told = f"{blank.sum():,} of {len(index):,} {TOLD.get(split, split)} rows have no {column} and are {of}"
        warn(told)
        if blank.all() and split == "train":
            raise DataError(f"no training row has a {column}", where=dataset.name, fix="choose another column")
    return replace(dataset, splits=kept)


TOLD = {"train": "training"}
"""Names of splits within a sentence, where they differ."""


def target_of(config: RunConfig, dataset: Dataset, split: str) -> Any:
    """The raw items that the run models: texts where its codec is the texts' own, whatever their column looks like."""
    codec = config.codec if config.codec in registry.CODECS else None
    return pick(dataset, config.data.target, split, without=config.data.condition, codec=codec)


HELD = 512
"""Unseen items that samples are compared with, and that the loss is measured on."""
