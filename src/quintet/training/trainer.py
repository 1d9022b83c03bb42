"""One loop for every family: it knows objectives and nothing else about what it trains."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from quintet.core.errors import CheckpointError, Diverged
from quintet.core.family import Batch, Family, Objective
from quintet.core.random import seed_of
from quintet.training.engine import Engine, autocast, resolve_precision
from quintet.training.optim import EMA, TrainingSettings, learning_rate, make_optimiser

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
        self.params = {name: list(o.module.parameters()) for name, o in self.objectives.items()}
        self.optimisers = {name: make_optimiser(o.module, settings) for name, o in self.objectives.items()}
        family.initialise(loader.batch(0, 0, max(settings.batch_size, 1024), max(settings.batch_size, 1024)))
        engine.broadcast(tensor.detach() for tensor in family.state_dict().values())
        self.ema = EMA(family, settings.ema)

    # -- one step ------------------------------------------------------------------------------------------------

    def update(self) -> dict[str, float]:
        """One step. Returns the losses and their parts; a non-finite one leaves the weights as they were."""
        lr = learning_rate(self.settings, self.step, self.steps)
        record: dict[str, float] = {}
        bad = False
        for name, objective in self.objectives.items():
            with self.only(name):
                values, norm = self.backward(name, objective)
            finite = math.isfinite(norm) and math.isfinite(values[name])
            if finite:
                optimiser = self.optimisers[name]
                for group in optimiser.param_groups:
                    group["lr"] = lr
                optimiser.step()
            for p in self.params[name]:
                p.grad = None
            bad = bad or not finite
            record |= values
        self.skipped = self.skipped + 1 if bad else 0
        self.step += 1
        if not bad:
            self.ema.update(self.step)
        elif self.skipped >= PATIENCE:
            raise Diverged(
                f"NaN or Inf in {PATIENCE} updates in a row",
                where=f"step {self.step}",
                why=f"the last losses were {record}",
                fix="lower --training.lr; the weights of the last checkpoint are good",
            )
        return record

    @contextmanager
    def only(self, name: str) -> Iterator[None]:
        """Inside, only this objective's parameters take gradients."""
        others = [p for other, params in self.params.items() if other != name for p in params]
        for p in others:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in others:
                p.requires_grad_(True)

    def backward(self, name: str, objective: Objective) -> tuple[dict[str, float], float]:
        """Accumulate this objective's gradient over micro-batches and ranks; returns its figures and the norm."""
        total = self.settings.batch_size
        first, count = self.engine.share(total)
        micro = self.settings.micro_batch or total
        sums: dict[str, Tensor] = {}
        torch.default_generator.manual_seed(seed_of("dropout", self.seed, self.step, name, first))
        for start in range(first, first + count, micro):
            rows = min(micro, first + count - start)
            batch = self.loader.batch(self.step * total, start, rows, total, stream=name)
            with autocast(self.precision, self.engine.device):
                loss = objective.loss(batch)
            weight = rows / total
            (loss.value * weight if weight != 1 else loss.value).backward()
            for key, value in {name: loss.value, **loss.parts}.items():
                sums[key] = sums.get(key, 0) + value.detach() * weight
        self.engine.reduce(self.params[name])
        limit = self.settings.clip if self.settings.clip is not None else math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.params[name], limit)
        norm_value = float(norm)
        finite = not self.engine.any(not math.isfinite(norm_value))
        return {key: float(value) for key, value in sums.items()}, norm_value if finite else math.nan

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
        sample_every = self.settings.sample_every or max(1, -(-self.steps // 8))
        self.family.train()
        while self.step < self.steps and not self.engine.any(self.stop is not None):
            began = time.perf_counter()
            record = self.update()
            self.seconds += time.perf_counter() - began
            if on_step:
                on_step(record)
            if on_interval and (self.step % sample_every == 0 or self.step == self.steps):
                began = time.perf_counter()
                with self.averaged():
                    on_interval()
                self.seconds += time.perf_counter() - began
            if on_save and (self.step % save_every == 0 or self.step == self.steps):
                on_save()
        if on_save and self.step < self.steps:
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
        names = [name for name, _ in self.family.named_parameters()]
        optimiser = {
            f"{name}.{index}.{key}": value
            for name, opt in self.optimisers.items()
            for index, entry in opt.state_dict()["state"].items()
            for key, value in entry.items()
        }
        return {
            "model": dict(self.family.state_dict()),
            "ema": dict(zip(names, self.ema.average, strict=True)),
            "optimiser": optimiser,
        }

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "steps": self.steps, "seconds": self.seconds, "skipped": self.skipped}

    def restore(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        """The inverse of `tensors` and `state`."""
        try:
            self.family.load_state_dict(tensors["model"])
            for (name, _), average in zip(self.family.named_parameters(), self.ema.average, strict=True):
                average.copy_(tensors["ema"][name])
            for name, optimiser in self.optimisers.items():
                entries: dict[int, dict[str, Tensor]] = {}
                for key, value in tensors["optimiser"].items():
                    owner, index, field = key.rsplit(".", 2)
                    if owner == name:
                        entries.setdefault(int(index), {})[field] = value
                optimiser.load_state_dict({**optimiser.state_dict(), "state": entries})
            self.step, self.seconds, self.skipped = int(state["step"]), float(state["seconds"]), int(state["skipped"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError("the checkpoint does not fit this model", why=str(error)) from None


def steps_for(
    budget: float,
    family: Family,
    loader: Stream,
    settings: TrainingSettings,
    *,
    seed: int,
    engine: Engine,
    interval: Callable[[Family], None] | None = None,
) -> int:
    """How many steps fit `budget` seconds: times a few on a copy, and one `interval` (sample grid), of which 8 follow."""
    began = time.perf_counter()
    trial = Trainer(copy.deepcopy(family), loader, settings, seed=seed, steps=1_000_000, engine=engine)
    trial.family.train()
    for _ in range(2):  # the first steps pay for allocations and kernels' choices
        trial.update()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < min(2.0, 0.04 * budget) and len(times) < 200):
        start = time.perf_counter()
        trial.update()
        times.append(time.perf_counter() - start)
    aside = 0.0
    if interval and engine.first:
        with trial.averaged() as averaged:
            start = time.perf_counter()
            interval(averaged)
            aside = 8 * (time.perf_counter() - start)
    left = budget - (time.perf_counter() - began) - min(aside, 0.3 * budget)
    return int(engine.agree(max(1, int(left / statistics.fmean(times)))))
