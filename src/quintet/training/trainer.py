"""One loop for every family: it knows objectives and nothing else about what it trains."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor

from quintet.core.errors import CheckpointError, ConfigError, Diverged
from quintet.core.family import Batch, Family, Objective
from quintet.core.random import seed_of
from quintet.training.engine import Engine, autocast, resolve_precision
from quintet.training.muon import hidden
from quintet.training.optim import EMA, Flat, TrainingSettings, learning_rate

INITIAL = 1024
"""Items that constants are read off (scales, ActNorm)."""
INTERVALS = 8
"""Looks in a run, evenly, unless `sample_every` says otherwise."""
EARLY = 3
"""Looks before them where there are so many: at an eighth, a quarter and half of the first interval, since small data
are soon learnt by heart.
"""
LOOKING = 0.1
"""At most this share of a budget goes into looks: fewer where sampling is slow."""
PATIENCE = 10
"""Updates in a row that may be skipped for NaN or Inf before training stops."""


class Stream(Protocol):
    """What the trainer needs of a loader."""

    def batch(self, cursor: int, start: int, count: int, total: int, *, stream: str = "") -> Batch: ...


class Trainer:
    """Every step: for each objective, in order, one update of its module on the step's global batch.

    All randomness is a function of (seed, step), so a checkpoint needs no random state and a resumed run is the
    uninterrupted one, bit for bit.
    """

    def __init__(
        self, family: Family, loader: Stream, settings: TrainingSettings, *, seed: int, steps: int, engine: Engine
    ) -> None:
        self.family, self.loader, self.settings = family, loader, settings
        self.seed, self.steps, self.engine = seed, steps, engine
        self.step = 0
        self.seconds = 0.0
        self.skipped = 0
        self.stop: str | None = None  # set from outside (a signal): finish the step, then return
        self.precision = resolve_precision(settings.precision, family, engine.device)
        self.objectives = family.objectives()
        names = {p: name for name, p in family.named_parameters()}
        matrices = hidden(family) if settings.optimiser == "muon" else {}
        if settings.optimiser == "muon" and not matrices:
            raise ConfigError(
                "muon has nothing to do in this net", where="training.optimiser", why="it states no hidden matrices",
                fix="--training.optimiser adamw",
            )  # fmt: skip
        self.flats = {
            name: Flat({names[p]: p for p in o.module.parameters()}, settings, matrices)
            for name, o in self.objectives.items()
        }
        rows = max(settings.batch_size, INITIAL)
        family.initialise(loader.batch(0, 0, rows, rows))
        engine.broadcast(tensor.detach() for tensor in family.state_dict().values())
        self.ema = EMA([flat.value for flat in self.flats.values()], settings.ema)

    # -- one step ------------------------------------------------------------------------------------------------

    def update(self) -> dict[str, float]:
        """One step. Returns the losses and their parts; a non-finite one leaves the weights as they were."""
        lr = learning_rate(self.settings, self.step, self.steps)
        record: dict[str, float] = {}
        bad = False
        for name, objective in self.objectives.items():
            flat = self.flats[name]
            with self.only(name):
                record |= self.backward(name, objective)
            norm = flat.norm()
            finite = math.isfinite(norm) and math.isfinite(record[name])
            if self.engine.any(not finite):
                bad = True
                continue
            limit = self.settings.clip
            flat.step(lr, limit / norm if limit is not None and norm > limit else 1.0)
        self.skipped = self.skipped + 1 if bad else 0
        self.step += 1
        if not bad:
            self.ema.update(self.step)
        elif self.skipped >= PATIENCE:
            raise Diverged(
                f"NaN or Inf in {PATIENCE} updates in a row",
                where=f"step {self.step}",
                why=f"the last losses were {record}",
                fix="lower --training.lr; no checkpoint holds NaN",
            )
        return record

    @contextmanager
    def only(self, name: str) -> Iterator[None]:
        """Inside, only this objective's parameters take gradients."""
        others = [p for other, flat in self.flats.items() if other != name for p in flat.params]
        for p in others:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in others:
                p.requires_grad_(True)

    def backward(self, name: str, objective: Objective) -> dict[str, float]:
        """Fill this objective's gradient, over micro-batches and ranks; returns the loss and its parts."""
        flat, total = self.flats[name], self.settings.batch_size
        first, count = self.engine.share(total)
        micro = self.settings.micro_batch or total
        sums: dict[str, float] = {}
        flat.grad.zero_()
        self.engine.seed(seed_of("dropout", self.seed, self.step, name, first))
        for start in range(first, first + count, micro):
            rows = min(micro, first + count - start)
            batch = self.loader.batch(self.step * total, start, rows, total, stream=name)
            with autocast(self.precision, self.engine.device):
                loss = objective.loss(batch)
            weight = rows / total
            (loss.value * weight if weight != 1 else loss.value).backward()
            for key, value in (*loss.parts.items(), (name, loss.value)):
                sums[key] = sums.get(key, 0.0) + float(value.detach()) * weight
        self.engine.sum(flat.grad)
        return sums

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        on_step: Callable[[dict[str, float]], None] | None = None,
        on_interval: Callable[[], None] | None = None,
        on_save: Callable[[], None] | None = None,
    ) -> None:
        """Train to `steps`, or until `stop` is set. Between steps: `on_step`; at their intervals the other two."""
        save_every = self.settings.save_every or max(1, -(-self.steps // 4))
        sample_every = self.settings.sample_every or max(1, -(-self.steps // INTERVALS))
        early = looks(self.steps, sample_every)
        self.family.train()
        while self.step < self.steps and not self.engine.any(self.stop is not None):
            began = time.perf_counter()
            record = self.update()
            self.seconds += time.perf_counter() - began
            if on_step:
                on_step(record)
            if on_interval and (self.step % sample_every == 0 or self.step == self.steps or self.step in early):
                began = time.perf_counter()
                with self.averaged():
                    on_interval()
                self.seconds += time.perf_counter() - began
            if on_save and (self.step % save_every == 0 or self.step == self.steps):
                on_save()
        if on_save and self.step < self.steps and self.step % save_every:
            on_save()

    @contextmanager
    def averaged(self) -> Iterator[Family]:
        """Inside, the family has its averaged weights and is in evaluation mode."""
        self.ema.swap()
        self.family.eval()
        try:
            yield self.family
        finally:
            self.ema.swap()
            self.family.train()

    # -- state ---------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Everything that a resumed run needs and JSON cannot hold."""
        ema: dict[str, Tensor] = {}
        moments: dict[str, Tensor] = {}
        for (name, flat), average in zip(self.flats.items(), self.ema.average, strict=True):
            ema |= flat.views(average)
            moments |= {f"{name}.{key}": value for key, value in flat.moments.items()}
        return {"model": dict(self.family.state_dict()), "ema": ema, "optimiser": moments}

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "steps": self.steps, "seconds": self.seconds, "skipped": self.skipped}

    def restore(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        """The inverse of `tensors` and `state`."""
        try:
            self.family.load_state_dict(tensors["model"])
            for (name, flat), average in zip(self.flats.items(), self.ema.average, strict=True):
                for key, view in flat.views(average).items():
                    view.copy_(tensors["ema"][key])
                for key, moment in flat.moments.items():
                    moment.copy_(tensors["optimiser"][f"{name}.{key}"])
            self.step, self.seconds, self.skipped = int(state["step"]), float(state["seconds"]), int(state["skipped"])
            self.steps = min(self.steps, int(state["steps"]))  # a run that ended early has ended
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError("the checkpoint does not fit this model", why=str(error)) from None


def looks(steps: int, every: int) -> set[int]:
    """The steps of the early looks: those before the first of `INTERVALS` or more, where an eighth of it is 8 steps."""
    return {every >> k for k in range(1, EARLY + 1)} if every >= 64 and every * INTERVALS < steps + every else set()


def steps_for(
    budget: float,
    family: Family,
    loader: Stream,
    settings: TrainingSettings,
    *,
    seed: int,
    engine: Engine,
    interval: Callable[[Family], object] | None = None,
) -> tuple[int, int]:
    """(steps, steps between sample grids) that fit `budget` seconds: times some steps and an `interval`, on a copy."""
    began = time.perf_counter()
    trial = Trainer(copy.deepcopy(family), loader, settings, seed=seed, steps=1_000_000, engine=engine)
    trial.family.train()
    for _ in range(3):  # the first steps pay for allocations and kernels' choices
        trial.update()
    times: list[float] = []
    enough = max(min(3.0, 0.05 * budget), 0.01 * budget)
    while engine.agree(len(times) < 8 or (sum(times) < enough and len(times) < 500)):
        start = time.perf_counter()
        trial.update()
        times.append(time.perf_counter() - start)
    aside = 0.0
    if interval and engine.first:
        with trial.averaged() as averaged:
            for _ in range(2):  # the first pays for what the second finds ready; a slow one is not repeated
                start = time.perf_counter()
                interval(averaged)
                aside = time.perf_counter() - start
                if aside > 0.02 * budget:
                    break
    aside = engine.agree(aside)
    # slow grids may cost more than a short budget: half of it goes to training all the same
    cut = len(times) // 10  # a mean, since batches of longer texts cost more; without what a busy machine adds
    each = statistics.mean(sorted(times)[cut : len(times) - cut])
    left = max(budget - (time.perf_counter() - began), budget / 2)
    times_looked = max(1, min(INTERVALS, int(LOOKING * budget / aside))) if aside else INTERVALS
    total = aside * (times_looked + (EARLY if times_looked == INTERVALS else 0))
    every = settings.sample_every
    steps = left / (each + aside / every) if every else max(left - total, left / 2) / each
    count = int(engine.agree(max(1, int(steps))))
    return count, every or -(-count // times_looked)
