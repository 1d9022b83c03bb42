"""Loaded models that an app keeps between requests, the least recently used of which give way to others."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn

from quintet.core.errors import CheckpointError, EnvironmentFault, warn
from quintet.fit import fitting
from quintet.model.fitted import Fitted
from quintet.runs.folder import Run
from quintet.training import checkpoint

Seen = tuple[tuple[int, int, int] | None, ...]
"""Of each path when it was last written, its size and inode; None for what there is not."""


class Kept(NamedTuple):
    """A loaded model, what was watched and seen just before it was loaded, and the bytes it takes."""

    model: Fitted
    watched: tuple[str, ...]
    seen: Seen
    size: int

    @property
    def newest(self) -> bool:
        """Whether its folder is what it was then."""
        return look(self.watched) == self.seen


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
        path = run.path
        found = self.used(path)
        if found is not None and found.newest:
            return found.model
        with self.table:
            alone = self.loading.setdefault(path, threading.Lock())
        with alone:  # a model is loaded once, however many wait for it
            found = self.used(path)
            if found is not None and found.newest:
                return found.model
            seen = look(watched := watch(run))
            try:
                model = self.load(path.resolve())
            except CheckpointError as error:
                if found is None:
                    raise
                warn(f"{error}; the weights that are already loaded are used")
                return self.keep(path, found._replace(watched=watched, seen=seen))  # tried again when they change
            return self.keep(path, Kept(model, watched, seen, bytes_of(model)))

    def used(self, path: Path) -> Kept | None:
        """What is loaded of a folder, from now on the most recently used."""
        with self.table:
            if path in self.kept:
                self.kept.move_to_end(path)
            return self.kept.get(path)

    @property
    def models(self) -> list[Fitted]:
        """All that are loaded now."""
        with self.table:
            return [one.model for one in self.kept.values()]

    def forget(self, path: Path) -> None:
        """Let a model go, as of a folder that is to be moved; one that is at work stays until its work is done."""
        with self.table:
            self.kept.pop(path.resolve(), None)

    def keep(self, path: Path, one: Kept) -> Fitted:
        """Keep a model, in the place of those that were not used for longest."""
        if one.size > self.limit:
            raise EnvironmentFault(
                "the model is too large to be loaded",
                where=str(path),
                fix="allow more memory for models",
                why=f"it needs {one.size:,} bytes, but at most {self.limit:,} are allowed",
            )
        with self.table:
            self.kept.pop(path, None)
            self.kept[path] = one
            while sum(each.size for each in self.kept.values()) > self.limit:
                self.kept.popitem(last=False)
        return one.model


def watch(run: Run) -> tuple[str, ...]:
    """What changes where a run gets other weights: its folders of checkpoints, and the files of the newest ones."""
    roots = (run.checkpoints, run.bests)
    files = [path for root in roots for folder in checkpoint.steps(root)[-1:] for path in folder.glob("*")]
    return tuple(map(str, (*roots, *files)))


def look(paths: Sequence[str]) -> Seen:
    """What there is to see of files without reading them."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            stat = os.stat(path)
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:  # removed meanwhile, or not there yet
            found.append(None)
    return tuple(found)


def bytes_of(model: Fitted) -> int:
    """Bytes of a model's parameters and buffers, those of an autoencoder below its codec among them."""
    stages = [codec.stage.family for codec in model.codecs.values() if codec.stage is not None]
    nets = [net for net in (model.family, *stages) if isinstance(net, nn.Module)]
    tensors = [tensor for net in nets for tensor in (*net.parameters(), *net.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
