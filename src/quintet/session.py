"""One process's work on a run: which data it models, and what happens at the trainer's intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from quintet import registry
from quintet.card import write_card
from quintet.codecs.table import TableCodec
from quintet.codecs.text import TextCodec
from quintet.config import RunConfig
from quintet.core import written
from quintet.core.codec import Codec
from quintet.core.columns import describe
from quintet.core.errors import ConfigError, DataError, EnvironmentFault, QuintetWarning, UsageError
from quintet.core.family import Family
from quintet.core.random import seed_of, some
from quintet.core.spaces import Discrete
from quintet.data.loader import Items, Loader
from quintet.data.sources import Dataset, take
from quintet.evaluation.features import Kind, fit_features
from quintet.live import HELD, Live, advice, stale
from quintet.outputs import picture, top_of
from quintet.runs import Run, latent_codec, runs_root
from quintet.training import checkpoint
from quintet.training.budget import Estimate
from quintet.training.engine import Engine
from quintet.training.plan import Leg
from quintet.training.trainer import Trainer

Report = Callable[[dict[str, Any]], None]
"""Called with each record of a run: step, steps, losses, and now and then `quality`."""

FEATURES: dict[str, Kind] = {"image": "image", "table": "table", "text": "tokens", "audio": "audio"}
KEPT_CONDITIONS = 2048
FEATURE_ITEMS = 10_000
BATCHES = 4
"""Of so many the loss on unseen items is measured at each look, which then costs about as much as a step."""


# -- data ------------------------------------------------------------------------------------------------------------


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
    warnings.warn(f"{told} rows hold values that training lacks and are left out", QuintetWarning, stacklevel=2)
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
        warnings.warn(told, QuintetWarning, stacklevel=3)
        if blank.all() and split == "train":
            raise DataError(f"no training row has a {column}", where=dataset.name, fix="choose another column")
    return replace(dataset, splits=kept)


TOLD = {"train": "training"}
"""Names of splits within a sentence, where they differ."""


def target_of(config: RunConfig, dataset: Dataset, split: str) -> Any:
    """The raw items that the run models: texts where its codec is the texts' own, whatever their column looks like."""
    codec = config.codec if config.codec in registry.CODECS else None
    return pick(dataset, config.data.target, split, without=config.data.condition, codec=codec)


def feature_kind(codec: Codec) -> Kind:
    """How encoded items are compared: what a codec made abstract (latents, bits), as symbols or plain values."""
    if codec.modality != "text" and codec.name == codec.modality:
        return FEATURES[codec.modality]
    return "tokens" if isinstance(codec.space, Discrete) else "image"


def lengths(x: Items, cond: Items | None) -> Tensor | None:
    """(N,) how long items and conditions are together, where any of them has a length of its own."""
    known = [each for each in (x.lengths(), None if cond is None else cond.lengths()) if each is not None]
    return torch.stack(known).sum(0) if known else None


# -- a session ---------------------------------------------------------------------------------------------------


class Session:
    """One process's work on a run: data, family, and what happens at the trainer's intervals."""

    def __init__(
        self, config: RunConfig, dataset: Dataset, codecs: Mapping[str, Codec], family: Family, engine: Engine
    ) -> None:
        self.config, self.codecs, self.family, self.engine = config, codecs, family, engine
        self.dataset = within_run(config, dataset, codecs)
        x, cond = self.items("train")
        self.cond: Tensor | None = None if cond is None else cond[cond.drawn(KEPT_CONDITIONS)].cpu()
        stream, kind, pad = codecs["x"].shifts, feature_kind(codecs["x"]), getattr(codecs["x"].space, "pad", None)
        even = lengths(x, cond) if family.ragged else None
        self.loader = Loader(codecs["x"].space, x, cond, seed=seed_of("data", config.seed), stream=stream,
                             lengths=even, group=config.training.batch_size)  # fmt: skip
        if config.training.figure == "held_out" and family.likelihood == "none":
            fix = "--training.select quality"
            raise ConfigError("no held-out loss to select by", where=f"{family.name}: training.select",
                              why=family.missing["log_prob"], fix=fix)  # fmt: skip
        train = x[x.drawn(FEATURE_ITEMS)]
        features = fit_features(train.cpu().numpy(), kind, pad=pad)
        unseen, given = self.items("validation", HELD)
        if not len(unseen):
            why = "every one of them holds a value, or is given one, that no training item has"
            fix = "more items, --data.split none, or another --condition"
            raise DataError("no validation item is left", where=config.data.source, why=why, fix=fix)
        chosen = unseen.drawn(HELD)
        held, cond_held = unseen[chosen], None if given is None else given[chosen]
        self.look = Live(features, train, held, cond_held, config.sampling, lossy=BATCHES * config.training.batch_size)

    def items(self, split: str, limit: int | None = None) -> tuple[Items, Items | None]:
        """(x, cond) of a split, encoded; at most `limit` items, the same ones in every run on these data."""
        raw, given = items_of(self.config, self.dataset, split)
        if limit is not None and not self.codecs["x"].stream:  # one text is many windows
            chosen = some(raw, limit, 0)
            raw, given = take(raw, chosen), None if given is None else take(given, chosen)
        device = self.engine.device
        return Items(self.codecs["x"], raw, device), None if given is None else Items(
            self.codecs["cond"], given, device
        )

    def train(
        self,
        run: Run | None,
        report: Report | None,
        on_trainer: Callable[[Trainer], None] | None,
        estimate: Estimate | None = None,
    ) -> None:
        """Train to the end from where the run stands; the family then has its averaged weights.

        `estimate`, of a run that begins now: its plan is corrected so that it ends with its budget. Any other run, one
        that is resumed too, follows the plan that its configuration records.
        """
        config = self.config
        assert config.steps is not None
        if run is not None and self.engine.first:
            run.lock()
            checkpoint.sweep(run.checkpoints)
            checkpoint.sweep(run.bests)
        try:
            trainer = Trainer(self.family, self.loader, config.training, seed=config.seed, steps=config.steps,
                              engine=self.engine, plan=config.plan,
                              budget=None if estimate is None else estimate.left)  # fmt: skip
            if estimate is not None:
                trainer.usual, trainer.look_seconds = estimate.each, estimate.look
            found = run.latest() if run is not None else None
            if found is not None and run is not None:
                trainer.restore(found[0], found[1])
                if self.engine.first:
                    run.rewind(trainer.step)
            if on_trainer:
                on_trainer(trainer)
            self._loop(trainer, run, report)
            if run is not None and self.engine.first:
                write_card(run, self.family, self.codecs)
        finally:
            if run is not None and self.engine.first:
                run.unlock()
        with torch.no_grad():
            trainer.ema.swap()
        best = None if run is None else run.best(config)
        if best is not None:
            self.family.load_state_dict(best[0]["model"])
        if run is not None and self.engine.first:
            run.weights = run.used()

    def _loop(self, trainer: Trainer, run: Run | None, report: Report | None) -> None:
        every = max(1, trainer.steps // 200)
        writer = run if self.engine.first else None
        settings = trainer.settings
        failures = 0
        told: set[str] = set()

        def tell(record: dict[str, Any]) -> None:
            record = {"step": trainer.step, "steps": trainer.steps, "seconds": round(trainer.seconds, 3), **record}
            if writer:
                writer.log(record)
            if report:
                report(record)

        def on_step(losses: dict[str, float]) -> None:
            if trainer.step % every == 0 or trainer.step in (1, trainer.steps):
                tell({key: value if math.isfinite(value) else None for key, value in losses.items()})

        def on_interval() -> None:
            enough = False
            if writer:
                x, figures = self.look(self.family)
                try:
                    codec = self.codecs["x"]
                    picture(writer.path / "samples" / f"step-{trainer.step:08d}", codec.decode(x[:100]), top_of(codec))
                except OSError as error:
                    warnings.warn(f"samples not written ({error})", QuintetWarning, stacklevel=2)
                waited = stale([*writer.metrics(), figures], settings.figure)
                if settings.select != "last" and not waited:
                    try:
                        checkpoint.save(writer.bests, trainer.step, {"model": self.family.state_dict()},
                                        {"step": trainer.step}, keep=1)  # fmt: skip
                    except OSError as error:
                        warnings.warn(f"best weights not written ({error})", QuintetWarning, stacklevel=2)
                enough = settings.patience is not None and waited >= settings.patience
            if self.engine.any(enough):
                trainer.steps = trainer.step  # the end is here: for the rest it is as if it had been planned so
            if writer:
                tell(figures)
                for one in advice(writer.metrics()):
                    if one.kind not in told:
                        told.add(one.kind)
                        warnings.warn(f"{one.kind}: {one.text}", QuintetWarning, stacklevel=2)

        def on_save() -> None:
            nonlocal failures
            if not writer:
                return
            try:
                checkpoint.save(writer.checkpoints, trainer.step, trainer.tensors(), trainer.state(),
                                keep=trainer.settings.keep)  # fmt: skip
                failures = 0
            except OSError as error:
                failures = _failed_save(writer, error, failures + 1)

        def on_plan(legs: list[Leg]) -> None:
            plan = tuple(tuple(leg) for leg in legs)
            if plan == self.config.plan:
                return
            self.config = self.config.model_copy(update={"steps": trainer.steps, "plan": plan})
            if writer:
                try:
                    writer.write_config(self.config)
                except OSError as error:
                    warnings.warn(f"the corrected plan was not written ({error})", QuintetWarning, stacklevel=2)

        trainer.run(on_step=on_step, on_interval=on_interval, on_save=on_save, on_plan=on_plan)
        self.engine.barrier()


def _failed_save(run: Run, error: OSError, failures: int) -> int:
    """Warn while an older checkpoint stands, at most three times in a row; else EnvironmentFault."""
    if failures >= 3 or not checkpoint.steps(run.checkpoints):
        where = str(run.checkpoints)
        raise EnvironmentFault("cannot write checkpoints", where=where, why=str(error), fix="free disk space")
    warnings.warn(f"checkpoint not written ({error}); training goes on from an older one", QuintetWarning, stacklevel=3)
    return failures
