"""One process's work on a run: which data it models, and what happens at the trainer's intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from quintet import registry
from quintet.codecs.table import TableCodec
from quintet.codecs.text import TextCodec
from quintet.config import RunConfig
from quintet.core.codec import Codec
from quintet.core.columns import describe
from quintet.core.errors import EnvironmentFault, QuintetWarning, UsageError
from quintet.core.family import Family
from quintet.core.random import Rows, seed_of
from quintet.core.spaces import Discrete
from quintet.data.loader import Items, Loader
from quintet.data.sources import Dataset, take
from quintet.evaluation.features import Features, Kind, fit_features
from quintet.evaluation.metrics import energy_distance
from quintet.outputs import picture, top_of
from quintet.runs import Run, latent_codec, runs_root
from quintet.training import checkpoint
from quintet.training.engine import Engine
from quintet.training.trainer import Trainer

Report = Callable[[dict[str, Any]], None]
"""Called with each record of a run: step, steps, losses, and now and then `quality`."""

LIVE_ITEMS = 100
LOOK_NUMBERS = 2**20
FEATURES: dict[str, Kind] = {"image": "image", "table": "table", "text": "tokens", "audio": "audio"}
KEPT_CONDITIONS = 2048
FEATURE_ITEMS = 10_000


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
        cells = table.column(0).slice(0, 10_000)
        kinds = len(cells.unique())
        return "text" if kinds > WORDS and 2 * kinds > len(cells) else "table"
    return "table"


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
    given, name = pick(dataset, data.condition, "train", without=data.target), codec_name(dataset, data.condition)
    if isinstance(x, TextCodec) and x.settings.joint and name == "text":
        vocabulary = x.learn([*items, *given])
        cond = TextCodec(None, TextCodec.Settings(**config.given)).fit(given, vocabulary)
        return {"x": x.fit(items, vocabulary), "cond": cond}
    return {"x": x.fit(items), "cond": condition_codec(name, given, config.given)}


def condition_codec(name: str, items: Any, settings: Mapping[str, Any]) -> Codec:
    """Of a condition: symbols where all of it is symbols (categories, text), else real numbers."""
    if name != "table":
        kind = registry.CODECS[name]
        return kind(None, kind.Settings(**settings)).fit(items)
    codec = TableCodec("discrete", TableCodec.Settings(**{**settings, "strict": True})).fit(items)
    numbers = any(not column.categorical for column in codec.columns)
    return TableCodec("continuous", TableCodec.Settings(**settings)).fit(items) if numbers else codec


def items_of(config: RunConfig, dataset: Dataset, split: str) -> tuple[Any, Any]:
    """(items, conditions) of a split, raw; conditions are None for an unconditional run."""
    data = config.data
    given = None if data.condition is None else pick(dataset, data.condition, split, without=data.target)
    return target_of(config, dataset, split), given


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
        self.config, self.dataset, self.codecs, self.family, self.engine = config, dataset, codecs, family, engine
        x, cond = self.items("train")
        self.cond: Tensor | None = None if cond is None else cond.some(KEPT_CONDITIONS).cpu()
        stream, kind, pad = codecs["x"].stream, feature_kind(codecs["x"]), getattr(codecs["x"].space, "pad", None)
        even = lengths(x, cond) if family.ragged else None
        self.loader = Loader(codecs["x"].space, x, cond, seed=seed_of("data", config.seed), stream=stream,
                             lengths=even, group=config.training.batch_size)  # fmt: skip
        self.features: Features = fit_features(x.some(FEATURE_ITEMS).cpu().numpy(), kind, pad=pad)
        held, held_cond = self.items("validation", 512)
        self.real = self.features(held.some(512).cpu().numpy())
        self.real_cond = None if held_cond is None else held_cond.some(len(held_cond))[:LIVE_ITEMS]
        self.run: Run | None = None

    def items(self, split: str, limit: int | None = None) -> tuple[Items, Items | None]:
        """(x, cond) of a split, encoded; at most the first `limit` items."""
        raw, given = items_of(self.config, self.dataset, split)
        if limit is not None and not self.codecs["x"].stream:  # one text is many windows
            some = np.arange(min(limit, len(raw)))
            raw, given = take(raw, some), None if given is None else take(given, some)
        device = self.engine.device
        return Items(self.codecs["x"], raw, device), None if given is None else Items(
            self.codecs["cond"], given, device
        )

    def look(self, family: Family) -> tuple[Tensor, float]:
        """Samples of fixed seeds, and how far they are from validation items (energy distance)."""
        n = LIVE_ITEMS if self.real_cond is None else len(self.real_cond)
        quick = {"beams": 1} if "beams" in self.config.sampling else {}  # a search costs more than it would show here
        settings = family.Sampling(**self.config.sampling | quick)
        parts, each = [], max(8, LOOK_NUMBERS // self.codecs["x"].space.dims)  # large items, a few at a time
        for start in range(0, n, each):
            rows = Rows(seed_of("look"), start, min(each, n - start))
            cond = None if self.real_cond is None else self.real_cond[start : start + each]
            parts.append(family.sample(rows.count, cond, sampling=settings, generator=rows).cpu())
        x = torch.cat(parts)
        finite = torch.isfinite(x.double()).all()
        return x, energy_distance(self.features(x.numpy()), self.real).value if finite else math.inf

    def train(self, run: Run | None, report: Report | None, on_trainer: Callable[[Trainer], None] | None) -> None:
        """Train to the end from where the run stands; the family then has its averaged weights."""
        config = self.config
        assert config.steps is not None
        if run is not None and self.engine.first:
            run.lock()
            checkpoint.sweep(run.checkpoints)
        try:
            trainer = Trainer(self.family, self.loader, config.training, seed=config.seed, steps=config.steps,
                              engine=self.engine)  # fmt: skip
            found = run.latest() if run is not None else None
            if found is not None and run is not None:
                trainer.restore(found[0], found[1])
                if self.engine.first:
                    run.rewind(trainer.step)
            if on_trainer:
                on_trainer(trainer)
            self._loop(trainer, run, report)
            if run is not None and self.engine.first:
                run.card(config, sum(p.numel() for p in self.family.parameters()), self.family.likelihood)
        finally:
            if run is not None and self.engine.first:
                run.unlock()
        with torch.no_grad():
            trainer.ema.swap()

    def _loop(self, trainer: Trainer, run: Run | None, report: Report | None) -> None:
        every = max(1, trainer.steps // 200)
        writer = run if self.engine.first else None
        failures = 0

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
            if writer:
                x, quality = self.look(self.family)
                try:
                    codec = self.codecs["x"]
                    picture(writer.path / "samples" / f"step-{trainer.step:08d}", codec.decode(x[:100]), top_of(codec))
                except OSError as error:
                    warnings.warn(f"samples not written ({error})", QuintetWarning, stacklevel=2)
                tell({"quality": quality if math.isfinite(quality) else None})

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

        trainer.run(on_step=on_step, on_interval=on_interval, on_save=on_save)
        self.engine.barrier()


def _failed_save(run: Run, error: OSError, failures: int) -> int:
    """Warn while an older checkpoint stands, at most three times in a row; else EnvironmentFault."""
    if failures >= 3 or not checkpoint.steps(run.checkpoints):
        where = str(run.checkpoints)
        raise EnvironmentFault("cannot write checkpoints", where=where, why=str(error), fix="free disk space")
    warnings.warn(f"checkpoint not written ({error}); training goes on from an older one", QuintetWarning, stacklevel=3)
    return failures
