"""What a run keeps of its training: the tensors that it is resumed from, and when a save that failed ends it."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quintet.core.errors import CheckpointError, EnvironmentFault, warn
from quintet.core.family import Family
from quintet.core.memory import gigabytes
from quintet.training import checkpoint
from quintet.training.optim import EMA, Flat

FAILURES = 3
"""Training stops after so many saves in a row that failed."""
ALL = 2**31
"""Checkpoints that are kept where none is pruned."""

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
    """Writes the checkpoints of a run that trains, and the weights of its best look.

    A save that fails is warned, and training goes on, while an older checkpoint stands; where none does, it is tried
    once more. The third failure in a row is an EnvironmentFault, and so is that of the last save: nobody is told that
    more is saved than is.

    Best weights stay on the disk until a newer checkpoint than they are stands beside newer ones: a run that is killed
    in between goes on from before them. Those that cannot be written are kept in memory until they can.
    """

    def __init__(
        self,
        root: Path,
        bests: Path,
        keep: int,
        *,
        saved: int | None,
        before: Callable[[], object] = tuple,
        run: str | None = None,
    ) -> None:
        """`saved`: the step that training goes on from, which is saved; None if it begins. `before`: writes what a
        checkpoint rests on, or raises OSError. `run`: whose the best weights are.
        """
        self.root, self.bests, self.keep, self.before, self.run = root, bests, keep, before, run
        self.failures, self.size = 0, 0
        self.begin(saved)

    def begin(self, saved: int | None) -> None:
        """Training goes on from this step, which is saved: best weights of steps that are trained again are none."""
        self.saved = saved
        self.waiting: tuple[int, dict[str, Tensor]] | None = None
        for ahead in checkpoint.steps(self.bests):
            if checkpoint.step_of(ahead) > (saved or 0):
                checkpoint.remove(ahead)

    def forecast(self, tensors: Groups, *, best: bool) -> None:
        """EnvironmentFault where the disk has no room for the checkpoints that are kept and the one that is written."""
        self.size = size_of(tensors)
        needed = (self.keep + 1) * self.size + 2 * best * size_of({"model": tensors["model"]})
        has = sum(file.stat().st_size for folder in (self.root, self.bests) for file in folder.rglob("*.safetensors"))
        free = shutil.disk_usage(self.root.parent).free
        if needed - has > free:
            short = f"{gigabytes(needed - has)} are needed, {gigabytes(free)} are free"
            raise self.fault(OSError(f"{os.strerror(errno.ENOSPC)}: {short}"))

    def best(self, step: int, model: dict[str, Tensor]) -> None:
        """Write the weights of a look that is better than all before, unless what was settled for it is not finite."""
        if not_finite({"model": model}):
            return
        self.waiting = step, model
        try:
            self.write_best()
        except OSError as error:
            self.waiting = step, {name: tensor.clone() for name, tensor in model.items()}
            warn(f"the best weights could not be written ({error}); they are kept in memory until they can be written")

    def write_best(self) -> None:
        if self.waiting is not None:
            step, model = self.waiting
            checkpoint.save(self.bests, step, {"model": model}, {"step": step, "run": self.run}, keep=ALL)
            self.waiting = None

    def save(self, step: int, tensors: Groups, state: Mapping[str, Any]) -> None:
        """Write the checkpoint of a step."""
        try:
            self.write(step, tensors, state)
        except OSError as error:
            self.failures += 1
            if self.failures >= FAILURES:
                raise self.fault(error) from error
            if not checkpoint.steps(self.root):
                return self.finish(step, lambda: tensors, state)
            warn(f"the checkpoint could not be written ({error}): an older one is kept, and training goes on")

    def write(self, step: int, tensors: Groups, state: Mapping[str, Any]) -> None:
        self.before()
        self.write_best()
        checkpoint.save(self.root, step, tensors, state, keep=self.keep)
        self.saved, self.failures = step, 0
        for old in checkpoint.steps(self.bests)[:-1]:
            checkpoint.remove(old)
        free = shutil.disk_usage(self.root).free
        if free < self.size:
            short = f"{gigabytes(self.size)} are needed, {gigabytes(free)} are free"
            warn(f"the next checkpoint will not fit on the disk: {short}")

    def finish(self, step: int, tensors: Callable[[], Groups], state: Mapping[str, Any]) -> None:
        """Behind the last step: its checkpoint and the best weights, unless they are written; that may not fail."""
        if step and (self.saved != step or self.waiting):
            try:
                self.write(step, tensors(), state)
            except OSError as error:
                raise self.fault(error) from error

    def fault(self, error: OSError) -> EnvironmentFault:
        """What ends training: which step is on the disk, and what to do."""
        newest = checkpoint.steps(self.root)[-1:]
        stands = f"; the newest complete checkpoint is {newest[0].name}" if newest else ""
        fix = f"free disk space, then run quintet resume {self.root.parent}"
        return EnvironmentFault(
            "the checkpoints cannot be written", where=str(self.root), why=f"{error}{stands}", fix=fix
        )


def size_of(groups: Groups) -> int:
    """Bytes."""
    return sum(tensor.nbytes for tensors in groups.values() for tensor in tensors.values())
