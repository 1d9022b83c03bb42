"""Loaded models that an app keeps between requests, the least recently used of which give way to others."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from quintet.core.errors import CheckpointError, EnvironmentFault, warn
from quintet.fit import fitting
from quintet.model.fitted import Fitted
from quintet.runs.folder import Run, UsedWeights, weights_in
from quintet.training import checkpoint


class Kept(NamedTuple):
    """A loaded model, what its folder's newest weights were just before it was loaded, and the bytes it takes."""

    model: Fitted
    newest: tuple[UsedWeights, ...]
    size: int


class Warm:
    """Models by their run folders, loaded when they are first asked for, and anew when a run has been trained further:
    the next request then has the new weights, and those at work keep the old ones. Several threads may ask.

    `limit`: bytes that their parameters and buffers may take together. A model that is at work when it gives way stays
    until its work is done. `load` is given a run's folder.
    """

    def __init__(self, limit: int, load: Callable[[Path], Fitted] = fitting.load) -> None:
        self.limit, self.load = limit, load
        self.kept: OrderedDict[Path, Kept] = OrderedDict()  # the least recently used first
        self.table = threading.Lock()
        self.loading: dict[Path, threading.Lock] = {}

    def __call__(self, run: Run) -> Fitted:
        """The model of a run as its folder has it now. Raises EnvironmentFault for one that is larger than `limit`."""
        path = run.path.resolve()
        with self.table:
            alone = self.loading.setdefault(path, threading.Lock())
        with alone:  # a model is loaded once, however many wait for it
            newest = newest_of(run)
            with self.table:
                found = self.kept.get(path)
                if found is not None and found.newest == newest:
                    self.kept.move_to_end(path)
                    return found.model
            try:
                model = self.load(path)
            except CheckpointError as error:
                if found is None:
                    raise
                warn(f"{error}; the weights that are loaded stay")
                return found.model
            return self.keep(path, Kept(model, newest, bytes_of(model)))

    @property
    def models(self) -> list[Fitted]:
        """All that are loaded now."""
        with self.table:
            return [one.model for one in self.kept.values()]

    def keep(self, path: Path, one: Kept) -> Fitted:
        """Keep a model, in the place of those that were not used for longest."""
        if one.size > self.limit:
            raise EnvironmentFault("the model does not fit", where=str(path), fix="a larger limit",
                                   why=f"it takes {one.size:,} bytes, and {self.limit:,} are allowed")  # fmt: skip
        with self.table:
            self.kept.pop(path, None)
            self.kept[path] = one
            while sum(each.size for each in self.kept.values()) > self.limit:
                self.kept.popitem(last=False)
        return one.model


def newest_of(run: Run) -> tuple[UsedWeights, ...]:
    """The newest weights of a run, and its best ones, as their manifests say without being verified."""
    found = []
    for folder in (*checkpoint.steps(run.checkpoints)[-1:], *checkpoint.steps(run.bests)[-1:]):
        try:
            found.append(weights_in(folder))
        except (OSError, ValueError, LookupError, TypeError):  # removed meanwhile, or damaged: loading will tell
            continue
    return tuple(found)


def bytes_of(model: Fitted) -> int:
    """Bytes of a model's parameters and buffers, those of an autoencoder below its codec among them."""
    stages = [codec.stage.family for codec in model.codecs.values() if codec.stage is not None]
    nets = [net for net in (model.family, *stages) if isinstance(net, nn.Module)]
    tensors = [tensor for net in nets for tensor in (*net.parameters(), *net.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
