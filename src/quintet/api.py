"""What a program calls: train, resume, load, compare, and Model on raw data."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from quintet.codecs.table import TableCodec
from quintet.config import RunConfig, merge, resolve, seconds
from quintet.core.codec import Codec
from quintet.core.errors import CheckpointError, DataError, UsageError
from quintet.core.family import Family, OnStep
from quintet.core.likelihood import LogProb
from quintet.core.random import Rows, seed_of
from quintet.core.spaces import Continuous
from quintet.data.sources import Dataset, load_source
from quintet.runs import Run, make_family, runs_root
from quintet.session import Report, Session, fit_codecs
from quintet.training.engine import Engine
from quintet.training.trainer import Trainer, steps_for

THUMBNAIL = 256
"""An image of at most this many numbers has defaults of its own."""


# -- a fitted model --------------------------------------------------------------------------------------------------


class Model:
    """A trained family with its codecs: everything on raw data. `run` is its folder."""

    def __init__(
        self, run: Run, family: Family, codecs: Mapping[str, Codec], config: RunConfig, conditions: Tensor | None = None
    ) -> None:
        self.run, self.family, self.codecs, self.config, self.conditions = (
            run,
            family.eval(),
            codecs,
            config,
            conditions,
        )

    @property
    def device(self) -> torch.device:
        return next(self.family.parameters()).device

    def condition(self, condition: Any, n: int, seed: int) -> Tensor | None:
        """One value for all, n values, or None: then conditions are drawn from the training data."""
        if "cond" not in self.codecs:
            if condition is not None:
                raise UsageError(
                    "this model takes no condition", where=self.run.name, fix="train with --condition COLUMN"
                )
            return None
        if condition is None:
            assert self.conditions is not None
            generator = torch.Generator().manual_seed(seed_of("conditions", seed))
            return self.conditions[torch.randint(len(self.conditions), (n,), generator=generator)].to(self.device)
        codec = self.codecs["cond"]
        several = isinstance(condition, list | tuple | np.ndarray | pa.Table)
        values = condition if several else [condition] * n
        if len(values) != n:
            raise UsageError(f"{len(values)} conditions for {n} items", fix="give one condition, or one an item")
        if isinstance(codec, TableCodec) and not isinstance(values, pa.Table) and not isinstance(values[0], Mapping):
            values = {codec.columns[0].name: values}
        return codec.encode(values).to(self.device)

    def sampling(self, options: Mapping[str, Any] | None) -> Any:
        """The family's Sampling from the run's own and `options`."""
        from pydantic import ValidationError

        from quintet.config import as_config_error

        try:
            return self.family.Sampling(**merge(self.config.sampling, options or {}))
        except ValidationError as error:
            raise as_config_error(error, "sampling") from None

    def sample(
        self,
        n: int = 16,
        *,
        condition: Any = None,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
        batch_size: int = 256,
        on_step: OnStep | None = None,
    ) -> Any:
        """n raw items. Item i depends on (seed, i) and its condition, not on n or `batch_size`."""
        return self.codecs["x"].decode(self.sample_encoded(n, condition=condition, seed=seed, sampling=sampling,
                                                           batch_size=batch_size, on_step=on_step))  # fmt: skip

    def sample_encoded(
        self,
        n: int,
        *,
        condition: Any = None,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
        batch_size: int = 256,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """`sample` before decoding: (n, *space.shape)."""
        if not 1 <= n <= 10_000_000:
            raise UsageError(f"n must be between 1 and 10,000,000, got {n}")
        settings, cond = self.sampling(sampling), self.condition(condition, n, seed)
        parts = []
        for start in range(0, n, batch_size):
            count = min(batch_size, n - start)
            rows = Rows(seed_of("sample", seed), start, count)
            part = None if cond is None else cond[start : start + count]
            parts.append(self.family.sample(count, part, sampling=settings, generator=rows, on_step=on_step).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def log_prob(self, items: Any, *, condition: Any = None, seed: int = 0, batch_size: int = 256) -> LogProb:
        """The log-likelihood of raw items in their own measure, and what kind it is.

        A conditional model scores given `condition`. Quantised data are dequantised by noise from `seed`.
        """
        family, codec = self.family, self.codecs["x"]
        if family.likelihood == "none":
            family.refuse("log_prob")
        x, log_det = codec.encode(items), codec.log_det(items)
        family.space.check(x)
        cond = self.given(condition, len(x))
        quantised = isinstance(family.space, Continuous) and family.space.levels is not None
        values, errors = [], []
        for start in range(0, len(x), batch_size):
            part = x[start : start + batch_size].to(self.device)
            if isinstance(family.space, Continuous):
                part = family.space.dequantise(part, Rows(seed_of("dequantise", seed), start, len(part)))
            some = None if cond is None else cond[start : start + batch_size]
            rows = Rows(seed_of("score", seed), start, len(part))
            value, error = family.log_prob_error(part, some, generator=rows)
            values.append(value.double().cpu())
            errors.append(error)
        stderr = torch.cat([e.cpu() for e in errors if e is not None]) if errors and errors[0] is not None else None
        space = "dequantised" if quantised and codec.measure == "mass" else codec.measure
        return LogProb(torch.cat(values) + log_det, family.likelihood, space, codec.dims, stderr)

    def given(self, condition: Any, n: int) -> Tensor | None:
        """`condition`, which a conditional model cannot do without here."""
        if "cond" in self.codecs and condition is None:
            raise UsageError(
                "this model is conditional: its likelihoods and latents need a condition",
                where=self.run.name,
                fix="pass condition=, one value for all or one an item",
            )
        return self.condition(condition, n, 0)

    @torch.no_grad()
    def encode(self, items: Any, *, condition: Any = None) -> Tensor:
        """The latents of raw items."""
        x = self.codecs["x"].encode(items).to(self.device)
        return self.family.encode(x, self.given(condition, len(x)))

    @torch.no_grad()
    def decode(self, z: Tensor, *, condition: Any = None) -> Any:
        """Raw items from latents."""
        return self.codecs["x"].decode(self.family.decode(z.to(self.device), self.given(condition, len(z))))

    def evaluate(self, split: str = "test", *, samples: int = 1000, seed: int = 0) -> dict[str, Any]:
        """{"likelihood", "likelihood_reason", "metrics", "ms_per_sample", ...} on a split; writes the run's report."""
        from quintet.comparison import evaluate  # which is written in terms of Model

        return evaluate(self, split=split, samples=samples, seed=seed)

    def save(self, path: str | Path) -> Path:
        """Copy the run folder with its newest good checkpoint to `path`."""
        target = Path(path)
        latest = self.run.latest()
        if latest is None:
            raise CheckpointError("nothing to save: the run has no checkpoint", where=str(self.run.path))
        if target.exists():
            raise UsageError("the path exists already", where=str(target))
        shutil.copytree(self.run.path, target, ignore=shutil.ignore_patterns("checkpoints", "lock.json"))
        shutil.copytree(latest[2], target / "checkpoints" / latest[2].name)
        return target


def load(run: str | Path, *, runs: str | Path | None = None, device: str = "auto") -> Model:
    """The model of a run: its newest checkpoint that verifies, with averaged weights."""
    folder = Run.open(run, runs)
    family, codecs, config = folder.build()
    found = folder.latest()
    if found is None:
        raise CheckpointError("no checkpoint yet", where=str(folder.path), fix=f"quintet resume {folder.name}")
    tensors, _, where = found
    try:
        family.load_state_dict(tensors["model"] | tensors["ema"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError("the weights do not fit the configuration", where=str(where), why=str(error)) from None
    return Model(folder, family.to(Engine(device).device), codecs, config, folder.conditions())


# -- training --------------------------------------------------------------------------------------------------------


def train(
    family: str,
    *,
    data: str,
    target: str | None = None,
    condition: str | None = None,
    codec: str | None = None,
    preset: str | None = None,
    budget: str | float | None = None,
    steps: int | None = None,
    seed: int = 0,
    run: str | None = None,
    runs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    report: Report | None = None,
    on_trainer: Callable[[Trainer], None] | None = None,
) -> Model:
    """Train a family and return the model; its folder is `model.run`.

    `config` holds sections like those of config.yaml (model, sampling, training, ...); the named arguments win over it.
    `report` gets each logged record; `on_trainer` gets the trainer before the first step (to be able to stop it).
    """
    dataset = load_source(data)
    resolved = plan(family, dataset, target=target, condition=condition, codec=codec, preset=preset, budget=budget,
                    steps=steps, seed=seed, config=config)  # fmt: skip
    return _train(resolved, dataset, run, runs_root(runs), report, on_trainer)


def plan(
    family: str,
    dataset: Dataset,
    *,
    config: Mapping[str, Any] | None = None,
    budget: str | float | None = None,
    target: str | None = None,
    condition: str | None = None,
    **given: Any,
) -> RunConfig:
    """The complete configuration that `train` would use."""
    named: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    named |= {"family": family, "data": {"source": dataset.name}}
    for key, value in (("target", target), ("condition", condition)):
        if value is not None:
            named["data"][key] = value
    if budget is not None:
        named["budget"] = seconds(budget)
    merged = merge(config or {}, named)
    wanted = merged["data"].get("target")
    if wanted not in (None, "items", dataset.modality):
        merged.setdefault("codec", "table")  # a column is the target
    if merged.get("steps") is None and merged.get("budget") is None:
        merged["budget"] = 60.0
    small = dataset.modality == "image" and math.prod(dataset.items.shape[1:]) <= THUMBNAIL
    return resolve(merged, dataset.modality, "thumbnail" if small else None)


def _train(
    config: RunConfig,
    dataset: Dataset,
    name: str | None,
    root: Path,
    report: Report | None,
    on_trainer: Callable[[Trainer], None] | None,
) -> Model:
    engine = Engine(config.device)
    run = Run.create(root, name, f"{dataset.name}-{config.family}") if engine.first else None
    try:
        codecs = fit_codecs(config, dataset)
        family = make_family(config, codecs).to(engine.device)
        session = Session(config, dataset, codecs, family, engine)
        if config.steps is None:
            assert config.budget is not None
            count, every = steps_for(config.budget, family, session.loader, config.training, seed=config.seed,
                                     engine=engine, interval=session.look)  # fmt: skip
            training = config.training.model_copy(update={"sample_every": every})
            config = session.config = config.model_copy(update={"steps": count, "training": training})
        if run is not None:
            facts = {"family": config.family, "fingerprint": dataset.fingerprint(), "device": str(engine.device)}
            run.write(config, codecs, facts, session.cond)
    except BaseException:
        if run is not None and not (run.path / "config.yaml").exists():
            shutil.rmtree(run.path, ignore_errors=True)  # nothing was begun
        raise
    session.train(run, report, on_trainer)
    return Model(run or Run(root), family, codecs, config, session.cond)


def resume(
    run: str | Path,
    *,
    runs: str | Path | None = None,
    changed_data: bool = False,
    report: Report | None = None,
    on_trainer: Callable[[Trainer], None] | None = None,
) -> Model:
    """Continue a run to its end, bit for bit as if it had not stopped. Refuses if the data changed, unless
    `changed_data`.
    """
    folder = Run.open(run, runs)
    family, codecs, config = folder.build()
    dataset = load_source(config.data.source)
    if dataset.fingerprint() != folder.manifest().get("fingerprint") and not changed_data:
        raise DataError(
            "the data are not those that this run began with",
            where=config.data.source,
            why="another sha256 over items, labels and splits",
            fix="restore them, or pass --changed-data",
        )
    engine = Engine(config.device)
    session = Session(config, dataset, codecs, family.to(engine.device), engine)
    session.train(folder, report, on_trainer)
    return Model(folder, family, codecs, config, session.cond)


def __getattr__(name: str) -> Any:
    """`compare` is written in terms of this module, and is one of its names."""
    if name == "compare":
        from quintet.comparison import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
