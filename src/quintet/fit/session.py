"""One process's work on a run: which data it models, and what happens at the trainer's intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quintet.core.errors import ConfigError, DataError, EnvironmentFault, warn
from quintet.core.family import Family
from quintet.core.random import seed_of
from quintet.data.loader import Items, Loader
from quintet.fit.live import SAMPLES, Live
from quintet.metrics.features import fit_features
from quintet.runs.advice import advice, stale
from quintet.runs.card import write_card
from quintet.runs.config import RunConfig
from quintet.runs.folder import Run
from quintet.runs.lock import Lock
from quintet.runs.task import HELD, Task
from quintet.training import checkpoint
from quintet.training.budget import Estimate
from quintet.training.engine import Engine
from quintet.training.plan import Leg
from quintet.training.trainer import QUICK, SHARE, Trainer

Report = Callable[[dict[str, Any]], None]
"""Called with each record of a run: step, steps, losses, and now and then `quality`."""

KEPT_CONDITIONS = 2048
FEATURE_ITEMS = 10_000
BATCHES = 4
"""Of so many the loss on unseen items is measured at each look, which then costs about as much as a step."""


def lengths(x: Items, cond: Items | None) -> Tensor | None:
    """(N,) how long items and conditions are together, where any of them has a length of its own."""
    known = [each for each in (x.lengths(), None if cond is None else cond.lengths()) if each is not None]
    return torch.stack(known).sum(0) if known else None


class Session:
    """One process's work on a run: data, family, and what happens at the trainer's intervals."""

    def __init__(self, config: RunConfig, task: Task, family: Family, engine: Engine) -> None:
        """`task` has its codecs."""
        self.config, self.task, self.family, self.engine = config, task.known(), family, engine
        self.codecs = codecs = task.codecs
        x, cond = self.items(self.task, "train")
        self.cond: Tensor | None = None if cond is None else cond[cond.drawn(KEPT_CONDITIONS)].cpu()
        stream, pad = codecs["x"].shifts, getattr(codecs["x"].space, "pad", None)
        even = lengths(x, cond) if family.ragged else None
        self.loader = Loader(codecs["x"].space, x, cond, seed=seed_of("data", config.seed), stream=stream,
                             lengths=even, group=config.training.batch_size)  # fmt: skip
        if config.training.figure == "held_out" and family.likelihood == "none":
            fix = "--training.select quality"
            raise ConfigError("no held-out loss to select by", where=f"{family.name}: training.select",
                              why=family.missing["log_prob"], fix=fix)  # fmt: skip
        train = x[x.drawn(FEATURE_ITEMS)]
        features = fit_features(train.cpu().numpy(), codecs["x"].preprocessing, pad=pad)
        few = self.task if codecs["x"].stream else self.task.some("validation", HELD)  # one text is many windows
        unseen, given = self.items(few, "validation")
        if not len(unseen):
            why = "every one of them holds a value, or is given one, that no training item has"
            fix = "more items, --data.split none, or another --condition"
            raise DataError("no validation item is left", where=config.data.source, why=why, fix=fix)
        chosen = unseen.drawn(HELD)
        held, cond_held = unseen[chosen], None if given is None else given[chosen]
        self.look = Live(features, train, held, cond_held, config.sampling, lossy=BATCHES * config.training.batch_size)

    def items(self, task: Task, split: str) -> tuple[Items, Items | None]:
        """(x, cond) of a split, encoded."""
        raw, given = task.items(split)
        x = Items(self.codecs["x"], raw, self.engine.device)
        return x, None if given is None else Items(self.codecs["cond"], given, self.engine.device)

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
        lock = Lock(run.path) if run is not None and self.engine.first else None
        if run is not None and lock is not None:
            lock.acquire()
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
                trainer.restore(found.tensors, found.state)
                if self.engine.first:
                    run.rewind(trainer.step)
                    seen = [record for record in run.metrics() if "quality" in record]
                    if seen:  # this run's looks go on with the number of samples that they began with
                        self.look.take(int(seen[-1].get("samples", SAMPLES)))
            if on_trainer:
                on_trainer(trainer)
            self._loop(trainer, run, report)
            if run is not None and self.engine.first:
                write_card(run, self.family, self.codecs)
        finally:
            if lock is not None:
                lock.release()
        with torch.no_grad():
            trainer.ema.swap()
        best = None if run is None else run.best(config)
        if best is not None:
            self.family.load_state_dict(best.tensors["model"])
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

        def record_config(changed: dict[str, Any]) -> None:
            self.config = self.config.model_copy(update=changed)
            if writer:
                try:
                    writer.write_config(self.config)
                except OSError as error:
                    warn(f"the corrected plan was not written ({error})")

        def on_step(losses: dict[str, float]) -> None:
            micro = trainer.settings.micro_batch
            if writer and micro != self.config.training.micro_batch:
                few = f"{micro} of the {settings.batch_size} items of a batch at once"
                warn(f"memory did not suffice: from here on {few}")
                training = self.config.training.model_copy(update={"micro_batch": micro})
                record_config({"training": training})
            if trainer.step % every == 0 or trainer.step in (1, trainer.steps):
                tell({key: value if math.isfinite(value) else None for key, value in losses.items()})

        def on_interval() -> None:
            enough = False
            if writer:
                if not self.look.settled:
                    self.look.afford(self.family, max(QUICK, SHARE * trainer.between()))
                if self.look.count < self.look.most and "fewer" not in told:
                    told.add("fewer")
                    few = f"{self.look.count} samples in the place of {self.look.most}, and rougher figures"
                    warn(f"sampling is slow: looks while it trains have {few}")
                x, figures = self.look(self.family)
                try:
                    codec = self.codecs["x"]
                    path = writer.path / "samples" / f"step-{trainer.step:08d}"
                    self.task.modality.picture(path, codec.decode(x[:100]), codec)
                except OSError as error:
                    warn(f"samples not written ({error})")
                waited = stale([*writer.metrics(), figures], settings.figure)
                if settings.select != "last" and not waited:
                    try:
                        checkpoint.save(writer.bests, trainer.step, {"model": self.family.state_dict()},
                                        {"step": trainer.step}, keep=1)  # fmt: skip
                    except OSError as error:
                        warn(f"best weights not written ({error})")
                enough = settings.patience is not None and waited >= settings.patience
            if self.engine.any(enough):
                trainer.steps = trainer.step  # the end is here: for the rest it is as if it had been planned so
            if writer:
                tell(figures)
                for one in advice(writer.metrics()):
                    if one.kind not in told:
                        told.add(one.kind)
                        warn(f"{one.kind}: {one.text}")

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
            record_config({"steps": trainer.steps, "plan": plan})
            if trainer.loose:
                warn(
                    f"a look takes {trainer.look_seconds:.2g} s: from here on there is one every "
                    f"{legs[-1].every:,} steps"
                )

        trainer.run(on_step=on_step, on_interval=on_interval, on_save=on_save, on_plan=on_plan)
        self.engine.barrier()


def _failed_save(run: Run, error: OSError, failures: int) -> int:
    """Warn while an older checkpoint stands, at most three times in a row; else EnvironmentFault."""
    if failures >= 3 or not checkpoint.steps(run.checkpoints):
        where = str(run.checkpoints)
        raise EnvironmentFault("cannot write checkpoints", where=where, why=str(error), fix="free disk space")
    warn(f"checkpoint not written ({error}); training goes on from an older one")
    return failures
