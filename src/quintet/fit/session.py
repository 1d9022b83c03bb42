"""One process's work on a run: which data it models, and what happens at the trainer's intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from quintet.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    EnvironmentFault,
    UsageError,
    out_of_memory,
    warn,
)
from quintet.core.family import Batch, Family
from quintet.core.files import sync
from quintet.core.random import seed_of
from quintet.data.loader import Items, Loader, lengths
from quintet.fit.live import Live
from quintet.metrics.features import fit_features
from quintet.runs.advice import advice, stale
from quintet.runs.card import write_card
from quintet.runs.config import Change, RunConfig
from quintet.runs.folder import Run
from quintet.runs.identity import record
from quintet.runs.restoring import mend
from quintet.runs.task import HELD, Task
from quintet.training import checkpoint
from quintet.training.budget import BudgetPlan
from quintet.training.engine import Engine
from quintet.training.guard import Kept, LookLeft
from quintet.training.plan import QUICK, SHARE, Leg
from quintet.training.saving import Saver
from quintet.training.trainer import Trainer

Report = Callable[[dict[str, Any]], None]
"""Called with each record of a run: step, steps, losses, and now and then `quality`."""

KEPT_CONDITIONS = 2048
FEATURE_ITEMS = 10_000
SETTLED, SETTLING = 1280, 0.04
"""Training items by which a family settles before each look: so many, or this share of those that it has been trained
on by then, if that is more: what they cost stays a small share of training.
"""
BATCHES = 4
"""Of so many the loss on unseen items is measured at each look, which then costs about as much as a step."""


class Session:
    """One process's work on a run: data, family, and what happens at the trainer's intervals."""

    def __init__(self, config: RunConfig, task: Task, family: Family, engine: Engine) -> None:
        """`task` has its codecs."""
        self.config, self.task, self.family, self.engine = config, task.known(), family, engine
        self.codecs = codecs = task.codecs
        x, cond = self.items(self.task, "train")
        self.cond: Tensor | None = None if cond is None else cond[cond.drawn(KEPT_CONDITIONS)].cpu()
        pad = getattr(codecs["x"].space, "pad", None)
        even = lengths(x, cond) if family.ragged else None
        self.loader = Loader(codecs["x"].space, x, cond, seed=seed_of("data", config.seed), lengths=even,
                             group=config.training.batch_size, noisy=not family.masses)  # fmt: skip
        if config.training.figure == "held_out" and family.likelihood == "none":
            raise ConfigError(
                "this model has no held-out loss to select checkpoints by", where=f"{family.name}: training.select",
                why=family.missing["log_prob"], fix="--training.select quality",
            )  # fmt: skip
        train = x[x.drawn(FEATURE_ITEMS)]
        features = fit_features(train.cpu().numpy(), codecs["x"].preprocessing, pad=pad)
        few = self.task if codecs["x"].stream else self.task.some("validation", HELD)  # one text is many windows
        unseen, given = self.items(few, "validation")
        if not len(unseen):
            why = "each has a value, of its own or in its condition, that no training item has"
            fix = "use more items, --data.split none, or another --condition"
            raise DataError("no validation item can be used", where=config.data.source, why=why, fix=fix)
        chosen = unseen.drawn(HELD)
        held, cond_held = unseen[chosen], None if given is None else given[chosen]
        self.look = Live(features, train, held, cond_held, config.sampling, lossy=BATCHES * config.training.batch_size,
                         settling=self.batches)  # fmt: skip

    def items(self, task: Task, split: str) -> tuple[Items, Items | None]:
        """(x, cond) of a split, encoded."""
        raw, given = task.items(split)
        x = Items(self.codecs["x"], raw, self.engine.device)
        return x, None if given is None else Items(self.codecs["cond"], given, self.engine.device)

    def batches(self, seen: int) -> Iterator[Batch]:
        """Some training items, drawn once, in the batches of a step, after training on `seen`."""
        size, most = self.config.training.batch_size, min(max(SETTLED, int(SETTLING * seen)), len(self.loader))
        for start in range(0, most, size):
            yield self.loader.batch(0, start, min(size, most - start), most, stream="settle")

    def train(
        self,
        run: Run | None,
        report: Report | None,
        on_trainer: Callable[[Trainer], None] | None,
        estimate: BudgetPlan | None = None,
        *,
        start: dict[str, Tensor] | None = None,
        steps: int | None = None,
        budget: float | None = None,
        changes: Sequence[Change] = (),
    ) -> None:
        """Train to the end from where the run stands; the family then has its averaged weights.

        `estimate`, of a run that begins now: its plan is corrected so that it ends with its budget; `start`: the
        weights that it begins with. Any other run, one that is resumed too, follows the plan that its configuration
        records, unless it is to have more `steps` in all, or more seconds of a `budget`. `changes`: what is no more as
        it was when it was trained last, which is recorded.
        """
        config = self.config
        assert config.steps is not None
        with run.lock.alone() if run is not None and self.engine.first else nullcontext():
            if run is not None and self.engine.first:
                checkpoint.sweep(run.checkpoints)
                checkpoint.sweep(run.bests)
                mend(run, self.cond)
            trainer = Trainer(self.family, self.loader, config.training, seed=config.seed, steps=config.steps,
                              engine=self.engine, plan=config.plan,
                              budget=None if estimate is None else estimate.left)  # fmt: skip
            if estimate is not None:
                trainer.usual, trainer.look_seconds = estimate.each, estimate.look
            found = run.latest() if run is not None else None
            if run is not None and found is not None and self.engine.first:
                run.set_aside(found.folder)
            if found is not None:
                trainer.restore(found.tensors, found.state)
            elif start is not None:
                trainer.restore({"model": start}, {})
            if run is not None and self.engine.first:
                run.records.rewind(trainer.step, None if found is None else found.state.get("metrics"))
                seen = [record for record in run.metrics() if "quality" in record]
                if seen:  # this run's looks go on with the number of samples that they began with
                    self.look.take(int(seen[-1].get("samples", self.look.most)))
            watch = Watch(self, trainer, run, report)
            watch.record(changes)
            watch.go_further(steps, budget)
            if on_trainer:
                on_trainer(trainer)
            watch.train()
            if run is not None and self.engine.first:
                try:
                    write_card(run, self.family, self.codecs)
                except OSError as error:
                    warn(f"the card of the model could not be written ({error})")
        with torch.no_grad():
            trainer.ema.swap()
        best = None if run is None else run.best(config)
        if best is not None:
            self.family.load_state_dict(best.tensors["model"])
        if run is not None and self.engine.first:
            run.weights = run.used()


class Watch:
    """What happens while a run trains: its records, looks with pictures and advice, checkpoints, and the plan as it is
    corrected. Only the first process writes.
    """

    def __init__(self, session: Session, trainer: Trainer, run: Run | None, report: Report | None) -> None:
        self.session, self.trainer, self.report = session, trainer, report
        self.run = run if session.engine.first else None
        self.every = max(1, trainer.steps // 200)
        self.unwritten = False  # whether config.yaml is older than the configuration
        saved = trainer.step or None  # what it was resumed from
        self.saver = None
        if (own := self.run) is not None:
            self.saver = Saver(own.checkpoints, own.bests, trainer.settings.keep, saved=saved, before=self.write,
                               run=own.id)  # fmt: skip
        self.told = set[str]()

    def go_further(self, steps: int | None, budget: float | None) -> None:
        """Plan for so many steps in all, or so many seconds of a budget, if that is more than the run has."""
        trainer, config = self.trainer, self.session.config
        planned = trainer.legs[-1].steps
        if steps is not None and steps < planned:
            warn(f"the run was planned for {planned:,} steps, which is more than {steps:,}: it goes on as planned")
        if budget is not None and not trainer.step and budget > (config.budget or 0):
            raise UsageError("a budget cannot be planned, since this run has not trained any step yet",
                             where=config.data.source, why="the time that a step takes is not known",
                             fix="give --steps N, or resume the run once without a budget")  # fmt: skip
        if budget is not None and budget > max(config.budget or 0, trainer.seconds):
            trainer.go_further(None, budget)
        elif steps is not None and steps > planned:
            trainer.go_further(steps)
        else:
            return
        self.every = max(1, trainer.steps // 200)
        plan = tuple(tuple(leg) for leg in trainer.legs)
        self.configure({"steps": trainer.steps, "plan": plan, "budget": budget})
        self.tell({})  # from here on its end is another

    def record(self, changes: Sequence[Change]) -> None:
        """Write down what is changed from here on, and that it was meant."""
        if self.run and changes:
            said = record(self.run, self.trainer.step, changes)
            self.configure({})
            self.tell({"changes": said})

    def train(self) -> None:
        """Run the trainer to its end."""
        trainer, self.session.look.tick = self.trainer, self.go_on
        if self.saver:
            trainer.guard.kept = self.kept
            if trainer.step < trainer.steps:
                self.saver.forecast(trainer.tensors(), best=trainer.settings.select != "last")
        trainer.run(on_step=self.on_step, on_interval=self.on_interval, on_save=self.on_save, on_plan=self.on_plan)
        if (lost := trainer.guard.lost) and self.session.engine.first:
            warn(f"{lost:,} of {trainer.step:,} updates were skipped, since their loss or gradient was NaN or infinite")
        self.saving(lambda saver: saver.finish(trainer.step, trainer.tensors, self.state()))
        self.session.engine.barrier()

    def tell(self, record: dict[str, Any]) -> None:
        """Write a record, and report it."""
        trainer = self.trainer
        record = {"step": trainer.step, "steps": trainer.steps, "seconds": round(trainer.seconds, 3), **record}
        if self.run:
            self.run.lock.check()
            try:
                self.run.records.log(record)
            except OSError as error:
                told = f"the metrics could not be written ({error}): they are kept in memory until they can be written"
                self.warn_once("log", told)
        if self.report:
            self.report(record)

    def warn_once(self, kind: str, told: str, *, advice: bool = False) -> None:
        if kind not in self.told and self.session.engine.first:
            self.told.add(kind)
            warn(told, kind if advice else "")

    def configure(self, changed: dict[str, Any]) -> None:
        """Change the run's configuration."""
        self.session.config = self.session.config.model_copy(update=changed)
        self.unwritten = True
        try:
            self.write(metrics=False)
        except OSError as error:
            warn(f"the corrected plan of the run could not be written ({error})")

    def write(self, *, metrics: bool = True) -> None:
        """Write what a checkpoint rests on: the configuration that led to it, and the records before it."""
        if self.run:
            self.run.lock.check()
        if self.run and self.unwritten:
            self.run.write_config(self.session.config)
            self.unwritten = False
        if self.run and metrics:
            self.run.records.flush()

    def on_step(self, losses: dict[str, float]) -> None:
        trainer, training = self.trainer, self.session.config.training
        micro = trainer.settings.micro_batch
        if self.run and micro != training.micro_batch:
            few = f"{micro} of the {training.batch_size} items of a batch at once"
            warn(f"memory was not enough: from now on the net computes {few}")
            self.configure({"training": training.model_copy(update={"micro_batch": micro})})
        if trainer.guard.skipped:
            told = "that update was skipped, and others like it will be"
            self.warn_once("skipped", f"NaN or Inf in the loss or its gradient at step {trainer.step}: {told}")
        if trainer.step % self.every == 0 or trainer.step in (1, trainer.steps):
            self.tell({key: value if math.isfinite(value) else None for key, value in losses.items()})

    def kept(self) -> Kept | None:
        """The last good checkpoint of this run, and no record behind it."""
        assert self.run is not None
        assert self.saver is not None
        try:
            found = self.run.latest()
        except CheckpointError as error:
            warn(f"{error}")
            return None
        if found is None or "optimiser" not in found.tensors:
            return None  # the weights that it began with are no checkpoint of its own
        self.run.records.rewind(int(found.state["step"]), found.state.get("metrics"))
        self.saver.begin(int(found.state["step"]))
        return found.tensors, found.state

    def go_on(self) -> None:
        """Raise LookLeft if training is to stop: it does not wait for the end of a slow look."""
        if self.trainer.stop is not None:
            raise LookLeft

    def on_interval(self) -> None:
        figures, enough, left = dict[str, Any](), False, False
        try:
            if self.run:
                figures, enough = self.look(self.run)
        except LookLeft:
            left = True
        except (RuntimeError, MemoryError) as error:
            if (lacking := out_of_memory(error)) is None:
                raise
            self.warn_once("memory", f"a look was left out: {lacking.what} ({lacking.why})")
        if self.session.engine.any(left):
            raise LookLeft
        if self.session.engine.any(enough):
            self.end()
        if self.run:
            self.tell(figures)
            for one in advice(self.run.metrics_to_best()):
                self.warn_once(one.kind, one.text, advice=True)

    def end(self) -> None:
        """The end is here: for the rest it is as if it had been planned so. A plan that was corrected just now is not
        one for going on from here.
        """
        trainer = self.trainer
        kept = [leg for leg in trainer.legs if leg.at < trainer.step]
        if kept != trainer.legs:
            trainer.legs, trainer.steps = kept, kept[-1].steps
            self.on_plan(kept)
        trainer.steps = trainer.step

    def look(self, run: Run) -> tuple[dict[str, Any], bool]:
        """(figures of samples and unseen items, whether they have been as good before for long enough); samples are
        written as a picture, and the weights if they are the best so far.
        """
        session, trainer, settings = self.session, self.trainer, self.trainer.settings
        family, look, codec = session.family, session.look, session.codecs["x"]
        look.seen = trainer.step * settings.batch_size
        if not look.settled:
            look.afford(family, max(QUICK, SHARE * trainer.between()))
        if look.count < look.most:
            few = f"{look.count} samples instead of {look.most}, and rougher figures"
            self.warn_once("fewer", f"sampling is slow: looks while it trains have {few}")
        x, figures = look(family)
        try:
            path = run.path / "samples" / f"step-{trainer.step:08d}"
            checkpoint.no_link(path.parent)
            checkpoint.make(path.parent)
            for file in (*session.task.modality.picture(path, codec.decode(x[:100]), codec), path.parent):
                sync(file)
        except OSError as error:
            warn(f"the samples could not be written ({error})")
        waited = stale([*run.metrics(), figures], settings.figure)
        if self.saver and settings.select != "last" and not waited:
            self.saver.best(trainer.step, family.state_dict())
        patience = settings.patience  # a run that is trained further behind its early end waits as long again
        return figures, patience is not None and waited > 0 and waited % patience == 0

    def on_save(self) -> None:
        """Write a checkpoint."""
        trainer = self.trainer
        self.saving(lambda saver: saver.save(trainer.step, trainer.tensors(), self.state()))

    def saving(self, write: Callable[[Saver], None]) -> None:
        """Let the first process write; where that fails for good, all processes end together."""
        fault = None
        try:
            if self.saver:
                write(self.saver)
        except EnvironmentFault as error:
            fault = error
        if self.session.engine.any(fault is not None):
            raise fault or EnvironmentFault("the first process of this training cannot write checkpoints",
                                            fix="the error of the first process says why")  # fmt: skip

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside tensors: where training is, of which run it is, and the records so far."""
        run = self.run
        return self.trainer.state() | ({} if run is None else {"run": run.id, "metrics": run.records.said.decode()})

    def on_plan(self, legs: list[Leg]) -> None:
        """Keep the plan that the trainer corrected."""
        plan = tuple(tuple(leg) for leg in legs)
        if plan == self.session.config.plan:
            return
        self.configure({"steps": self.trainer.steps, "plan": plan})
        if self.trainer.loose:
            each = f"{self.trainer.look_seconds:.2g} s"
            warn(f"an evaluation during training takes {each}: from now on there is one every {legs[-1].every:,} steps")
