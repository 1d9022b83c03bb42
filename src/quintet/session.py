"""One process's work on a run: which data it models, and what happens at the trainer's intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from quintet import registry
from quintet.codecs.table import TableCodec
from quintet.config import RunConfig
from quintet.core.codec import Codec
from quintet.core.errors import EnvironmentFault, QuintetWarning
from quintet.core.family import Family
from quintet.core.random import Rows, seed_of
from quintet.data.loader import Loader
from quintet.data.sources import Dataset
from quintet.evaluation.features import Features, Kind, fit_features
from quintet.evaluation.metrics import energy_distance
from quintet.outputs import picture, top_of
from quintet.runs import Run
from quintet.training import checkpoint
from quintet.training.engine import Engine
from quintet.training.trainer import Trainer

Report = Callable[[dict[str, Any]], None]
"""Called with each record of a run: step, steps, losses, and now and then `quality`."""

LIVE_ITEMS = 100
FEATURES: dict[str, Kind] = {"image": "image", "table": "table", "text": "tokens"}
KEPT_CONDITIONS = 2048


# -- data ------------------------------------------------------------------------------------------------------------


def pick(dataset: Dataset, column: str | None, split: str, *, without: str | None = None) -> Any:
    """A column of a split, or the items themselves (None, "items" or the modality's name), less the column
    `without`.
    """
    if column is None or column in ("items", dataset.modality):
        rows = dataset.rows(split)
        return rows.drop_columns([without]) if dataset.modality == "table" and without in rows.column_names else rows
    if dataset.modality == "table" and column in dataset.items.column_names:
        return dataset.rows(split).select([column])
    return dataset.column(column, split)


def fit_codecs(config: RunConfig, dataset: Dataset) -> dict[str, Codec]:
    """`x` with the face that the family takes, and `cond`, fitted on the training split."""
    family, data = registry.family_class(config.family), config.data
    x = registry.make_codec(config.codec, family)
    codecs = {"x": x.fit(pick(dataset, data.target, "train", without=data.condition))}
    if data.condition is not None:
        items = pick(dataset, data.condition, "train", without=data.target)
        if data.condition in ("items", dataset.modality):
            codecs["cond"] = registry.CODECS[dataset.modality]().fit(items)
        else:
            cond = TableCodec("discrete").fit(items)
            categorical = all(column.categorical for column in cond.columns)
            codecs["cond"] = cond if categorical else TableCodec("continuous").fit(items)
    return codecs


def items_of(config: RunConfig, dataset: Dataset, split: str) -> tuple[Any, Any]:
    """(items, conditions) of a split, raw; conditions are None for an unconditional run."""
    data = config.data
    given = None if data.condition is None else pick(dataset, data.condition, split, without=data.target)
    return pick(dataset, data.target, split, without=data.condition), given


def encode_split(
    config: RunConfig, dataset: Dataset, codecs: Mapping[str, Codec], split: str
) -> tuple[Tensor, Tensor | None]:
    """(x, cond) of a split, encoded."""
    items, given = items_of(config, dataset, split)
    return codecs["x"].encode(items), None if given is None else codecs["cond"].encode(given)


# -- a session ---------------------------------------------------------------------------------------------------


class Session:
    """One process's work on a run: data, family, and what happens at the trainer's intervals."""

    def __init__(
        self, config: RunConfig, dataset: Dataset, codecs: Mapping[str, Codec], family: Family, engine: Engine
    ) -> None:
        self.config, self.dataset, self.codecs, self.family, self.engine = config, dataset, codecs, family, engine
        x, cond = encode_split(config, dataset, codecs, "train")
        self.cond: Tensor | None = None
        if cond is not None:  # some of them, evenly
            self.cond = cond[torch.linspace(0, len(cond) - 1, min(len(cond), KEPT_CONDITIONS)).long()]
        device = engine.device
        self.loader = Loader(
            codecs["x"].space,
            x.to(device),
            None if cond is None else cond.to(device),
            seed=seed_of("data", config.seed),
            stream=codecs["x"].name == "text",
        )
        self.features: Features = fit_features(x.cpu().numpy(), FEATURES[codecs["x"].name])
        held, held_cond = encode_split(config, dataset, codecs, "validation")
        self.real = self.features(held[:512].numpy())
        self.real_cond = None if held_cond is None else held_cond[:LIVE_ITEMS].to(device)
        self.run: Run | None = None

    def look(self, family: Family) -> tuple[Tensor, float]:
        """Samples of fixed seeds, and how far they are from validation items (energy distance)."""
        n = LIVE_ITEMS if self.real_cond is None else len(self.real_cond)
        settings = family.Sampling(**self.config.sampling)
        x = family.sample(n, self.real_cond, sampling=settings, generator=Rows(seed_of("look"), 0, n)).cpu()
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
