"""What a budget buys of pictures at fewer and fewer pixels: a few steps are timed on a few items before training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quintet.core.errors import QuintetError
from quintet.core.listening import unheard
from quintet.core.random import some
from quintet.fit.session import Session
from quintet.registry import FAMILIES, MODALITIES
from quintet.runs.config import RunConfig
from quintet.runs.recipes import readable
from quintet.runs.restoring import make_family, to_size
from quintet.runs.task import Task
from quintet.sources.load import SOURCES, Dataset, take
from quintet.training.budget import pace
from quintet.training.engine import Engine

WANTED = 100
"""Steps that a budget should buy: where it buys fewer, what the user left to us is made smaller."""
READABLE_BATCH = 16
"""Items of a batch: more, smaller batches make pictures readable sooner, down to so many."""
SIDES = (16, 32)
"""Pixels of the longer side that are tried in the place of more."""
TRIED = 256
"""Items that steps are timed on."""
STEPS = 0.9
"""Of a budget: the rest goes into looks at samples."""


class Pixels(NamedTuple):
    """Pictures of height x width, of which a budget buys readable ones of most families, and (pixels of the longer
    side, steps, steps that are needed) of each `short` family: what it buys of that one where it buys the most. `works`
    says of no family that it is readable if none is.
    """

    height: int
    width: int
    works: tuple[str, ...]
    short: dict[str, tuple[int, int, int]]

    @property
    def side(self) -> int:
        return max(self.height, self.width)


def session_of(config: RunConfig, task: Task, root: Path, engine: Engine) -> Session:
    """The work on a run: codecs fitted on the data, unless the task has them, and the family of the size that is asked
    for.
    """
    task = task if task.codecs else task.fitted(config, root)
    config = to_size(config, task.codecs)
    return Session(config, task, make_family(config, task.codecs).to(engine.device), engine)


def judged(dataset: Dataset) -> bool:
    """Whether the items are pictures that a budget may buy too few steps of: those of which it is known how many they
    need.
    """
    kind = MODALITIES[dataset.modality].kind(dataset.items)
    return any(readable(family, kind) for family in FAMILIES)


def sides(dataset: Dataset) -> list[int]:
    """Pixels of the longer side at which this source could be read in the place of its own, from the fewest on."""
    if not judged(dataset) or (dataset.source or dataset.name) in SOURCES:
        return []
    return [side for side in SIDES if 1.5 * side <= max(dataset.items.shape[1:3])]


def at_side(dataset: Dataset, side: int) -> Dataset:
    """Some training items with so many pixels along the longer axis, in every split. They are picked, not averaged: to
    time steps on, not to be looked at.
    """
    train = dataset.index("train")
    chosen = train[some(train, TRIED, 0)]
    items = take(dataset.items, chosen)
    share = side / max(items.shape[1:3])
    rows, columns = (np.linspace(0, n - 1, max(1, round(n * share))).round().astype(int) for n in items.shape[1:3])
    return replace(
        dataset,
        items=np.ascontiguousarray(items[:, rows][:, :, columns]),
        labels=None if dataset.labels is None else take(dataset.labels, chosen),
        splits=dict.fromkeys(dataset.splits, np.arange(len(items))),
        digest="",
    )


def in_small_batches(config: RunConfig) -> RunConfig:
    """The configuration with batches of `READABLE_BATCH` items, if it has larger ones."""
    size = min(config.training.batch_size, READABLE_BATCH)
    return config.model_copy(update={"training": config.training.model_copy(update={"batch_size": size})})


def bought(config: RunConfig, dataset: Dataset, root: Path) -> int:
    """Steps that the budget of a configuration buys on data of this shape."""
    assert config.budget is not None
    with unheard():  # what there is to say of the data is said when they are trained on
        task = Task.of(config, dataset).examples("train", "validation")
        session = session_of(config, task, root, Engine(config.device))
        each = math.inf
        # Small steps seem slower than they are, since a part of a batch costs more than its share: tried on more.
        for wanted in (WANTED, readable(config.family, config.codec) or WANTED):
            if config.budget < each * wanted < 4 * config.budget or math.isinf(each):
                found = pace(session.family, session.loader, session.config.training, seed=config.seed,
                             engine=session.engine, limit=config.budget / wanted)  # fmt: skip
                each = min(each, found.seconds)
    return int(STEPS * config.budget / each)


def affordable_pixels(
    dataset: Dataset, families: Sequence[str], planned: Callable[[str, Dataset], RunConfig], root: Path, smaller: bool
) -> Pixels:
    """The most pixels at which the budget buys readable pictures of as many families as at the fewest; if not
    `smaller`, only the pictures as they are.
    """
    whole = max(dataset.items.shape[1:3])
    tried = families
    found: Pixels | None = None
    for side in [*(sides(dataset) if smaller else []), whole]:
        small = at_side(dataset, side)
        works, short = [], {}
        for name in tried:
            try:
                config = planned(name, small)
                steps, needed = bought(config, small, root), readable(name, config.codec) or WANTED
            except QuintetError:  # it is said where it is trained
                continue
            if steps >= needed:
                works.append(name)
            else:
                short[name] = (side, steps, needed)
        if found is not None and short:
            return found
        height, width = small.items.shape[1:3]
        found = Pixels(height, width, tuple(works), short if found is None else found.short)
        if not works:
            return found
        tried = works
    assert found is not None
    return found


def too_short(family: str, side: int, steps: int, needed: int, budget: float) -> tuple[str, str]:
    """That a budget buys too few steps of a family, and which one would buy enough."""
    minutes = math.ceil(budget * needed / max(steps, 1) / 60)
    return (
        f"{budget:g} s buy about {steps:,} steps of {family} on pictures of {side} pixels a side, and fewer than about "
        f"{needed} show noise or one colour"
    ), f"--budget {minutes}m"


def fewer_pixels(config: RunConfig, dataset: Dataset, root: Path) -> int | None:
    """The most pixels of the longer side, fewer than the data have, at which the budget buys readable pictures."""
    needed = readable(config.family, config.codec)
    for side in reversed(sides(dataset) if needed else []):
        if bought(config, at_side(dataset, side), root) >= (needed or 0):
            return side
    return None


def sensible(config: RunConfig, dataset: Dataset, root: Path) -> str | None:
    """What would work, if the steps that a budget became are too few for readable pictures."""
    assert config.budget is not None
    assert config.steps is not None
    needed = readable(config.family, config.codec)
    if needed is None or not judged(dataset) or config.steps >= needed:
        return None
    side = fewer_pixels(config, dataset, root)
    sizes = f"--data.size {side} (fewer pixels), " if side else ""
    told, longer = too_short(config.family, max(dataset.items.shape[1:3]), config.steps, needed, config.budget)
    return f"{told}. What would work: {sizes}{longer}, or the latents of a vae that is trained first, as --codec latent"
