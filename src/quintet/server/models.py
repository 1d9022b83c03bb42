"""The models that a server has: each has the name of its run, and an engine that works on what is asked of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from quintet.core.errors import QuintetError, UsageError
from quintet.fit import fitting
from quintet.model.batching import Batcher
from quintet.model.fitted import Fitted
from quintet.operations.events import Event, Note, heard
from quintet.operations.warm import Warm
from quintet.runs.folder import Run
from quintet.server.engine import Engine, Job
from quintet.server.logs import log
from quintet.server.metrics import Metrics
from quintet.server.problems import Refusal
from quintet.training import checkpoint

A = TypeVar("A")
Work = Callable[[Fitted, Job], A]

WORKERS = 16
"""Requests to one model that are at work at once; more wait."""


@dataclass
class Served:
    """A run, its engine, and what a list says of it, which stays what it was when the server began; `failed`: why its
    model could not be read the last time, "" if it could.
    """

    name: str
    run: Run
    engine: Engine
    facts: dict[str, Any]
    created: int
    failed: str = ""


class Models:
    """The models of a server by the names of their runs; `memory`: bytes of weights that may be loaded at once.
    `find`, if the server has all runs of a folder, finds one by its name when it is asked for the first time.
    """

    def __init__(
        self, runs: Sequence[Run], *, device: str, threads: int | None, memory: float, queue: int, metrics: Metrics,
        find: Callable[[str], Run] | None = None,
    ) -> None:  # fmt: skip
        self.device, self.threads, self.metrics, self.limit, self.find = device, threads, metrics, queue, find
        self.lock, self.batchers = threading.Lock(), list[Batcher]()
        self.warm = Warm(int(memory), self._read)
        self.served: dict[str, Served] = {}
        for run in runs:
            if run.name in self.served:
                raise UsageError(f"two runs are called {run.name}", why="requests name a model by the name of its run",
                                 fix="rename one of them, or serve only one")  # fmt: skip
            self._add(run.name, run)

    def _add(self, name: str, run: Run) -> None:
        if not checkpoint.steps(run.checkpoints):
            raise UsageError("this run has no checkpoint yet", where=str(run.path), fix=f"quintet resume {run.address}")
        engine, created = Engine(name, self.limit, self.metrics, WORKERS), int(run.path.stat().st_mtime)
        self.served[name] = served = Served(name, run, engine, facts_of(run), created)
        self.metrics.loaded.labels(name).set_function(partial(self.bytes, served))

    def __getitem__(self, name: str) -> Served:
        """Raises Refusal 404 for what is no model of this server, whatever it may name on this machine."""
        if name not in self.served and self.find is not None:
            self._add(name, self.find(name))
        if name not in self.served:
            raise Refusal(404, "no such model", fix="GET /api/v1/models lists them")
        return self.served[name]

    def forget(self, name: str) -> None:
        """Let the model of a run go whose folder is about to be moved: what is asked of it ends."""
        served = self.served.pop(name, None)
        if served is not None:
            served.engine.close()
            served.engine.cancel()
            self.warm.forget(served.run.path)

    async def ask(self, name: str, work: Work[A], deadline: float) -> A:
        """What `work` makes of a model: see `Engine.submit`."""
        served = self[name]
        return await served.engine.submit(lambda job: work(job.asks(self.batcher(served)), job), deadline)

    def room(self) -> None:
        """Raise Refusal where no model takes another request: to be known before anything of one is read."""
        engines = [served.engine for served in self.served.values()]
        if engines and all(engine.full for engine in engines):
            raise min(engines, key=Engine.wait).refusal()

    def batcher(self, served: Served) -> Batcher:
        """What does the work of a model for all who ask it; there is one for each that is in memory."""
        model = self.ready(served)
        with self.lock:
            kept = self.warm.models
            self.batchers = [one for one in self.batchers if any(one.model is there for there in kept)]
            found = next((one for one in self.batchers if one.model is model), None)
            if found is None:
                found = Batcher(model, on_batch=partial(self._counted, served.name))
                self.batchers.append(found)
            return found

    def _counted(self, name: str, verb: str, requests: int, rows: int, seconds: float) -> None:
        self.metrics.batch.labels(name).observe(requests)
        self.metrics.step.labels(name).observe(seconds)

    def ready(self, served: Served) -> Fitted:
        """The model, read where it is not in memory or its run was trained further; in the thread of its engine."""
        if self.threads and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        try:
            with heard(partial(self._told, served)):
                model = self.warm(served.run)
        except QuintetError as error:
            served.failed = error.what
            log("model not read", logging.ERROR, model=served.name, why=str(error))
            raise
        served.failed = ""
        return model

    def _read(self, path: Path) -> Fitted:
        began = time.perf_counter()
        model = fitting.load(path, device=self.device)
        log("model read", model=path.name, seconds=round(time.perf_counter() - began, 3))
        return model

    def _told(self, served: Served, event: Event) -> None:
        if isinstance(event, Note):
            log(event.text, logging.WARNING, model=served.name)

    def bytes(self, served: Served) -> int:
        """What its weights take in memory; 0 while they are not there."""
        kept = self.warm.kept.get(served.run.path)
        return 0 if kept is None else kept.size

    def facts(self, served: Served) -> dict[str, Any]:
        """What a list of models says of one."""
        return {**served.facts, "loaded": self.bytes(served) > 0}

    def close(self, seconds: float) -> None:
        """End what is still at work."""
        for served in self.served.values():
            served.engine.close()
            served.engine.cancel()
        for served in self.served.values():
            served.engine.join(seconds)


def facts_of(run: Run) -> dict[str, Any]:
    """What there is to say of a run without its weights."""
    config, about = run.config(), run.manifest().get("model") or {}
    facts = {"id": run.name, "family": config.family, "target": config.data.target, "condition": config.data.condition}
    return facts | {name: about.get(name) for name in ("parameters", "likelihood", "missing")}
