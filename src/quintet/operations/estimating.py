"""What a training will take of this machine, found out by a few steps before it begins."""

from __future__ import annotations

from typing import Any

from quintet.core.listening import unheard
from quintet.core.memory import NUMBER
from quintet.fit.fitting import afforded
from quintet.fit.pixels import STEPS, TRIED, WANTED
from quintet.fit.session import Session
from quintet.operations.requests import TrainRequest
from quintet.operations.results import Result
from quintet.operations.training import arguments, plan
from quintet.runs.restoring import TRAINED, make_family, to_size
from quintet.runs.task import HELD, Task
from quintet.sources.load import Dataset
from quintet.training.budget import BACKWARD_BYTES, pace, steps_for
from quintet.training.engine import Engine

LONGEST = 0.5
"""Seconds from which on a step is not repeated to find out how long it takes."""
MINUTE = 60.0
"""Seconds for which it is planned, to find out how long a step takes: that itself takes less than two of them."""
LIBRARIES = 460e6
"""Bytes of a process that has only begun."""


class EstimateResult(Result):
    """About how many steps and seconds a training has, how many items a step sees, how many bytes of memory it takes,
    and whether the steps are enough to learn anything.
    """

    parameters: int
    steps: int
    batch_size: int
    seconds: float
    bytes: int
    enough: bool


def estimate(request: TrainRequest, dataset: Dataset) -> EstimateResult:
    """Time a few steps on a few items of its source, which is `dataset`. Raises what training would."""
    asked = plan(request, dataset)
    with unheard():  # what there is to say of the data is said when they are trained on
        task = Task.of(asked, dataset).examples("train", "validation").fitted(asked, request.runs)
        config, engine = to_size(asked, task.codecs), Engine(asked.device)
        family = make_family(config, task.codecs).to(engine.device)
        some = task.some("train", TRIED).some("validation", HELD)
        session = Session(config, some, family, engine)
        how: dict[str, Any] = {"seed": config.seed, "engine": engine}
        limit = LONGEST if config.budget is None else min(config.budget / WANTED, LONGEST)
        found = pace(session.family, session.loader, config.training, limit=limit, **how)
        each = found.seconds / config.training.batch_size
        if config.steps is None:
            chosen = arguments(request)["config"].get("training") or {}
            config = afforded(config, found, "batch_size" not in chosen)
        each *= config.training.batch_size
        if each <= LONGEST:  # which is at most so much: a part of a batch costs more than its share
            each = steps_for(MINUTE, session.family, session.loader, config.training, **how).each
    if config.steps is None:
        assert config.budget is not None
        steps, seconds = max(1, int(STEPS * config.budget / each)), config.budget
    else:
        steps, seconds = config.steps, config.steps * each / STEPS
    parameters = sum(p.numel() for p in family.parameters())
    kept = min(config.training.micro_batch or config.training.batch_size, int(BACKWARD_BYTES / found.item_bytes) + 1)
    memory = LIBRARIES + NUMBER * TRAINED * parameters + kept * found.item_bytes
    return EstimateResult(parameters=parameters, steps=steps, batch_size=config.training.batch_size, seconds=seconds,
                          bytes=int(memory), enough=steps >= WANTED)  # fmt: skip
