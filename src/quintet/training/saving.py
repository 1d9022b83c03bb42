"""What a run keeps of its training: the tensors that it is resumed from, and when a save that failed ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quintet.core.errors import CheckpointError, EnvironmentFault, warn
from quintet.core.family import Family
from quintet.training import checkpoint
from quintet.training.optim import EMA, Flat

FAILURES = 3
"""Training stops after so many saves in a row that failed."""

Groups = dict[str, dict[str, Tensor]]
"""Tensors by their names, by group: model, ema, optimiser."""


def tensors_of(family: Family, flats: Mapping[str, Flat], ema: EMA) -> Groups:
    """The tensors that a run needs to be resumed: weights, their average, and the state of the optimiser."""
    averages: dict[str, Tensor] = {}
    moments: dict[str, Tensor] = {}
    for (name, flat), average in zip(flats.items(), ema.average, strict=True):
        averages |= flat.views(average)
        moments |= {f"{name}.{key}": value for key, value in flat.moments.items()}
    return {"model": dict(family.state_dict()), "ema": averages, "optimiser": moments}


@contextmanager
def fitting_this_model() -> Iterator[None]:
    """Within this context, a tensor that is missing or of another shape is a CheckpointError."""
    try:
        yield
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError("the checkpoint does not fit this model", why=str(error)) from None


def put_back(tensors: Groups, family: Family, flats: Mapping[str, Flat], ema: EMA) -> None:
    """Set what `tensors_of` gave. Of weights alone, those of another run, the average begins."""
    family.load_state_dict(tensors["model"])
    if "optimiser" not in tensors:
        return ema.restart()
    for (name, flat), average in zip(flats.items(), ema.average, strict=True):
        for key, view in flat.views(average).items():
            view.copy_(tensors["ema"][key])
        for key, moment in flat.moments.items():
            moment.copy_(tensors["optimiser"][f"{name}.{key}"])


def not_finite(groups: Groups) -> list[str]:
    """What holds NaN or Inf. The sum of finite numbers is finite, unless they are too large."""
    return [
        f"{name} of {group}"
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
        and not math.isfinite(float(tensor.sum()))
        and not bool(torch.isfinite(tensor).all())
    ]


class Saver:
    """Writes the checkpoints of a run that trains.

    A save that fails is warned, and training goes on, while an older checkpoint stands. The third failure in a row is
    an EnvironmentFault, and so is that of the last save: nobody is told that more is saved than is.
    """

    def __init__(self, root: Path, keep: int, saved: int | None) -> None:
        """`saved`: the step that training goes on from, which is saved already; None if it begins."""
        self.root, self.keep, self.saved = root, keep, saved
        self.failures = 0

    def save(self, step: int, tensors: Groups, state: Mapping[str, Any]) -> None:
        """Write the checkpoint of a step."""
        try:
            checkpoint.save(self.root, step, tensors, state, keep=self.keep)
        except OSError as error:
            self.failures += 1
            if self.failures >= FAILURES or not checkpoint.steps(self.root):
                raise self.fault(error) from error
            return warn(f"checkpoint not written ({error}); training goes on from an older one")
        self.saved, self.failures = step, 0

    def finish(self, step: int, tensors: Callable[[], Groups], state: Mapping[str, Any]) -> None:
        """Behind the last step: the checkpoint of it, unless it is written; it may not fail."""
        if step and self.saved != step:
            try:
                checkpoint.save(self.root, step, tensors(), state, keep=self.keep)
            except OSError as error:
                raise self.fault(error) from error
            self.saved = step

    def fault(self, error: OSError) -> EnvironmentFault:
        """What ends training: which step is on the disk, and what to do."""
        newest = checkpoint.steps(self.root)[-1:]
        stands = f"; the newest that stands is {newest[0].name}" if newest else ""
        fix = f"free disk space, then quintet resume {self.root.parent}"
        return EnvironmentFault("cannot write checkpoints", where=str(self.root), why=f"{error}{stands}", fix=fix)
