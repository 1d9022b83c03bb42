"""What a budget of seconds buys: found out by a few steps on a copy, the first of them of a single item."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quintet.core.family import Family
from quintet.core.memory import memory
from quintet.training.engine import Engine
from quintet.training.plan import EARLY_LOOKS, INTERVALS, LEAST_STEPS, LOOKING
from quintet.training.settings import TrainingSettings
from quintet.training.trainer import FASTER, Stream, Trainer

SLOW, ENOUGH = 0.01, 0.015
"""Of a budget: a step that takes longer than the first is not repeated to find out how long it takes; others are, until
they took the second, since the plan is corrected while it runs, and what planning takes is lost to training."""
BACKWARD_BYTES = 2**30
"""Bytes that a step may keep for its backward pass; a batch that needs more is split into micro-batches."""

LARGE = 2**17
"""Numbers of a batch from which on it is found out whether a step of it fits into memory."""


class Pace(NamedTuple):
    """How many seconds a step of a batch takes, and how many bytes it keeps of each item for the backward pass."""

    seconds: float
    item_bytes: float


class BudgetPlan(NamedTuple):
    """What a budget buys: `steps`, looks `every` so many of them, and the threads (0: all) that are fastest.

    `left` are the seconds of the budget that planning left, `each` those of a step, `look` those of a look.
    """

    steps: int
    every: int
    threads: int
    left: float
    each: float
    look: float


ReadSeconds = Callable[[], float]


def pace(
    family: Family,
    loader: Stream,
    settings: TrainingSettings,
    *,
    seed: int,
    engine: Engine,
    limit: float,
    clock: ReadSeconds = time.perf_counter,
) -> Pace:
    """Time a step of one item, then of four times as many, up to a batch or until one takes `limit` seconds or more
    than `BACKWARD_BYTES`; the rest is in proportion. So no time or memory is spent on a batch that is too expensive.

    On a busy machine small steps are slow whatever their size, above all on several threads. So a step that is slow,
    but not hopeless, is timed on one thread too, and again with more items: what these add to it is their price.
    """
    trial = Trainer(copy.deepcopy(family), loader, settings, seed=seed, steps=1_000_000, engine=engine)
    trial.family.train()
    rows, kept, total = min(engine.ranks, settings.batch_size), 0, settings.batch_size
    before: tuple[int, float] | None = None  # items and seconds of a smaller step that was slow

    def step() -> float:
        start = clock()
        trial.update()
        return engine.agree(clock() - start)

    with engine.threaded():
        while True:
            trial.settings = settings.model_copy(update={"batch_size": rows})
            if not kept:
                start = clock()
                kept = saved_bytes(trial)
                took = engine.agree(clock() - start)
            else:
                took = step()
            if took < 5 * limit:  # the first step of a size pays for allocations and kernels' choices
                took = min(took, step())
            if limit <= took < 5 * limit and engine.most > 1:
                engine.use(1)
                took = min(took, step())
                engine.use(0)
            if before is not None:
                each = max(0.0, took - before[1]) / (rows - before[0])
                return Pace(took + each * (total - rows), kept)
            full = 4 * rows * kept > BACKWARD_BYTES
            if rows >= total or took >= 3 * limit or full or 2 * took * total <= limit * rows:
                return Pace(took * total / rows, kept)
            if took >= limit:
                before = rows, took
            rows = min(4 * rows, total)


def saved_bytes(trial: Trainer) -> int:
    """Bytes that one step keeps for its backward pass, beside the parameters: counted, so the same on every machine."""
    own = {flat.value.untyped_storage().data_ptr() for flat in trial.flats.values()}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = max(sizes.get(storage.data_ptr(), 0), storage.nbytes())
        return tensor

    def same(tensor: Any) -> Any:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, same):
        trial.update()
    return max(1, sum(sizes.values()))


def in_memory(
    family: Family, loader: Stream, settings: TrainingSettings, *, seed: int, engine: Engine
) -> TrainingSettings:
    """The settings, with micro-batches where what a step keeps of a batch would take more than half of the memory: a
    system that lends more than it has does not refuse it, but ends the process.
    """
    if settings.micro_batch is not None or settings.batch_size * family.space.dims < LARGE:
        return settings
    one = settings.model_copy(update={"batch_size": engine.ranks})
    trial = Trainer(copy.deepcopy(family), loader, one, seed=seed, steps=1_000_000, engine=engine)
    trial.family.train()
    most = max(1, int(memory() / 2 / engine.ranks / saved_bytes(trial)))
    share = -(-settings.batch_size // engine.ranks)
    return settings if share <= most else settings.model_copy(update={"micro_batch": most})


def steps_for(
    budget: float,
    family: Family,
    loader: Stream,
    settings: TrainingSettings,
    *,
    seed: int,
    engine: Engine,
    interval: Callable[[Family], object] | None = None,
    settle: Callable[[Family, float], object] | None = None,
    clock: ReadSeconds = time.perf_counter,
    began: float | None = None,
) -> BudgetPlan:
    """What fits `budget` seconds, of which some were spent since `began`: times steps and an `interval`, on a copy.

    `settle` is told before that how many seconds an interval may take at most.
    """
    began = clock() if began is None else began
    trial = Trainer(copy.deepcopy(family), loader, settings, seed=seed, steps=1_000_000, engine=engine)
    trial.family.train()

    def one() -> float:
        start = clock()
        trial.update()
        return clock() - start

    def several(enough: float, most: int) -> list[float]:
        times = [one()]
        while engine.agree(sum(times) < enough and len(times) < most):
            times.append(one())
        return times

    with engine.threaded():
        engine.use(0)
        times, threads = [one()], 0
        if engine.agree(times[0] <= SLOW * budget):
            one()  # the first steps pay for allocations and kernels' choices
            times = several(ENOUGH * budget, 500)
        each = typical(times)
        if engine.most > 1:
            engine.use(1)
            if engine.agree(each <= SLOW * budget):
                one()
            alone = typical(several(ENOUGH * budget / 2, min(len(times), 20)))
            if alone < FASTER * each:
                each, threads = alone, 1
        look = 0.0
        if interval and engine.first:
            engine.use(threads)
            with trial.averaged() as averaged:
                if settle:
                    settle(averaged, LOOKING * budget)
                for _ in range(2):  # the first pays for what the second finds ready; a slow one is not repeated
                    start = clock()
                    interval(averaged)
                    look = clock() - start
                    if look > SLOW * budget:
                        break
    look = engine.agree(look)
    # on a busy machine planning may take long: nine tenths of the budget go to training all the same
    left = max(budget - (clock() - began), 0.9 * budget)
    looked = max(1, min(INTERVALS, int(LOOKING * budget / look))) if look else INTERVALS
    total = look * (looked + (EARLY_LOOKS if looked == INTERVALS else 0))
    every = settings.sample_every
    bought = left / (each + look / every) if every else max(left - total, left / 2) / each
    steps = int(engine.agree(max(LEAST_STEPS, int(bought))))
    return BudgetPlan(steps, every or -(-steps // looked), threads, left, each, look)


def typical(times: list[float]) -> float:
    """The mean of these seconds, as batches of longer texts cost more, without the outliers of a busy machine."""
    cut = len(times) // 10
    return statistics.mean(sorted(times)[cut : len(times) - cut])
