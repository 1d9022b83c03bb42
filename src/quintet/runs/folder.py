"""The folder of a run: its configuration, metrics and checkpoints. Looking at it needs no torch."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import yaml
from pydantic import ValidationError

from quintet.core.errors import CheckpointError, EnvironmentFault, UsageError, warn
from quintet.core.files import sha256, sync
from quintet.core.typed import parsed
from quintet.runs import hub
from quintet.runs.config import RunConfig, as_config_error, seal
from quintet.runs.lock import Lock
from quintet.runs.names import check_name, normal, stem
from quintet.training import checkpoint

if TYPE_CHECKING:
    from torch import Tensor


LOCKS = {".lock", "lock.json"}
"""What says who writes a run."""
BEFORE_CONFIG = LOCKS | {".lock.json.tmp", "codec", "checkpoints", "manifest.json", ".manifest.json.tmp",
                         ".config.yaml.tmp", ".comparison.json.tmp"}  # fmt: skip
"""What a run folder may hold before its config.yaml, which is written last, and that of a comparison at first."""


class LoadedCheckpoint(NamedTuple):
    """A checkpoint: tensors by group, state, and the folder."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    folder: Path


def runs_root(runs: str | Path | None = None) -> Path:
    """`runs`, `$QUINTET_RUNS`, or ./runs."""
    return Path(runs or os.environ.get("QUINTET_RUNS") or "runs")


class UsedWeights(NamedTuple):
    """Which weights a model has: the step that they are of, and the sha256 of the file that holds them."""

    step: int
    sha256: str


def weights_in(folder: Path) -> UsedWeights:
    """Of a checkpoint that verified: the averaged ones, or those of the best samples or held-out loss."""
    manifest = json.loads((folder / checkpoint.MANIFEST).read_text())
    files = manifest["files"]
    return UsedWeights(int(manifest["step"]), files.get("ema.safetensors", files["model.safetensors"])["sha256"])


class Run:
    """A folder that holds a run. `Run.create` starts one, `Run.open` finds one."""

    def __init__(self, path: Path, address: str | None = None) -> None:
        """`address`: of a run that was fetched from the hub."""
        self.path, self.origin = path, address
        self.weights: UsedWeights | None = None
        """Those that a model of this run was loaded with, or trained to."""
        self.unwritten = b""
        """Lines of metrics.jsonl that could not be written yet."""

    @property
    def name(self) -> str:
        return self.path.name if self.origin is None else hub.repository(self.origin)[0].split("/")[1]

    @property
    def address(self) -> str:
        """What the command line calls this run: its name where that is enough to find it, else its path."""
        return self.origin or (self.name if runs_root() / self.name == self.path else str(self.path))

    @cached_property
    def lock(self) -> Lock:
        return Lock(self.path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def bests(self) -> Path:
        """Where the averaged weights of the best look are, for a run that selects them."""
        return self.path / "best"

    @classmethod
    def create(cls, root: Path, name: str | None, like: str) -> Self:
        """A new folder under `root`, whose lock this process has from here on: `name`, or one `like` that text with the
        first free number. One of that name in which a process was killed before it had begun is taken over.
        """
        if name is not None:
            name = check_name(name)
        try:
            checkpoint.make(root)
            for number in range(1, 100_000):
                run, new = cls(root / (name or f"{stem(like)}-{number}")), True
                try:
                    run.path.mkdir()
                    sync(root)
                except FileExistsError:
                    new = False
                if new or (name and run.young):
                    run.lock.acquire()
                    if run.young:  # and not begun by the one that had the lock until now
                        run.clear()
                        return run
                    run.lock.release()
                if name:
                    fix = f"another --run, or quintet resume {name}"
                    raise UsageError("this run exists already", where=str(run.path), fix=fix)
        except OSError as error:
            raise EnvironmentFault("cannot write the run folder", where=str(root), why=str(error)) from None
        raise EnvironmentFault("no free run name", where=str(root))

    @property
    def young(self) -> bool:
        """Whether this folder holds at most what a run, or a comparison, has before it has begun."""
        if self.path.is_symlink() or not self.path.is_dir():
            return False
        first = {folder.name for folder in checkpoint.steps(self.checkpoints)} <= {"step-00000000"}
        return first and {path.name for path in self.path.iterdir()} <= BEFORE_CONFIG

    def clear(self) -> None:
        """Remove what a young folder holds."""
        for path in self.path.iterdir():
            if path.name not in LOCKS:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def remove(self) -> None:
        """Remove the folder at once, with whatever it holds; afterwards its name is free."""
        with contextlib.suppress(OSError):
            checkpoint.remove(self.path)

    @staticmethod
    def places(name: str | Path, runs: str | Path | None) -> tuple[Path, ...]:
        """Where the run of a name may be: under `runs`, also in its normal form, or at that path."""
        return runs_root(runs) / name, runs_root(runs) / normal(str(name)), Path(name)

    @classmethod
    def exists(cls, name: str | Path, runs: str | Path | None = None) -> bool:
        """Whether `open` would find it."""
        return any((path / "config.yaml").is_file() for path in cls.places(name, runs))

    @classmethod
    def open(cls, name: str | Path, runs: str | Path | None = None) -> Self:
        """The run of that name under `runs`, at that path, or on the hub as hf:owner/name."""
        if str(name).startswith(hub.PREFIX):
            return cls(hub.fetch(str(name)), str(name))
        for path in cls.places(name, runs):
            if (path / "config.yaml").is_file():
                return cls(path)
            if cls(path).young and (path / ".lock").exists():
                why = "it was stopped while it read its data, or is doing that now"
                fix = "the command that began it, once more: it begins anew"
                raise UsageError("this run has not begun yet", where=str(path), why=why, fix=fix)
        root = runs_root(runs)
        have = sorted(path.parent.name for path in root.glob("*/config.yaml"))
        near = difflib.get_close_matches(str(name), have, 1)
        hint = f"did you mean {near[0]}?" if near else f"runs there: {', '.join(have[:10]) or 'none'}"
        raise UsageError(f"no run {str(name)!r}", where=str(root), why=hint, fix="quintet runs")

    # -- what a run is made of -----------------------------------------------------------------------------------

    def write_config(self, config: RunConfig) -> None:
        """config.yaml, anew where the plan of a budget was corrected; it ends with its seal."""
        settings = config.model_dump(mode="json")
        text = yaml.safe_dump(settings, sort_keys=False)
        checkpoint.write_atomic(self.path / "config.yaml", f"{text}{seal(settings)}\n")

    def digests(self) -> dict[str, str]:
        """The sha256 of every file, by its path in the folder."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix(): sha256(path) for path in files}

    def config(self) -> RunConfig:
        path = self.path / "config.yaml"
        try:
            return RunConfig(**read_yaml(path.read_text()))
        except ValidationError as error:
            raise as_config_error(error, str(path)) from None
        except (OSError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise CheckpointError("unreadable configuration", where=str(path), why=str(error)) from None

    def manifest(self) -> dict[str, Any]:
        return read_json(self.path / "manifest.json")

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def latest(self) -> LoadedCheckpoint | None:
        """The newest checkpoint that verifies; damaged ones are named in a warning. None if there is none."""
        damaged = None
        folders = checkpoint.steps(self.checkpoints)
        while folders:
            folder = folders.pop()
            try:
                return LoadedCheckpoint(*checkpoint.load(folder), folder)
            except CheckpointError as error:
                if not folder.is_dir():  # a newer one has taken its place: the run is being written
                    folders = checkpoint.steps(self.checkpoints)
                    continue
                damaged = error
                warn(f"{error}; trying the one before")
        if damaged is not None:
            raise damaged
        return None

    def best(self, config: RunConfig) -> LoadedCheckpoint | None:
        """The averaged weights of the best look, if the run selects them and they are not those of the newest
        checkpoint; a damaged one is named in a warning and passed over.
        """
        folders = checkpoint.steps(self.bests) if config.training.select != "last" else []
        if folders and folders[-1].name in {folder.name for folder in checkpoint.steps(self.checkpoints)[-1:]}:
            return None
        try:
            return LoadedCheckpoint(*checkpoint.load(folders[-1]), folders[-1]) if folders else None
        except CheckpointError as error:
            warn(f"{error}; taking the newest weights instead")
            return None

    def selected(self, config: RunConfig) -> LoadedCheckpoint:
        """The weights that the run selects: the averaged ones of the best look, or the newest."""
        found = self.best(config) or self.latest()
        if found is None:
            raise CheckpointError("no checkpoint yet", where=str(self.path), fix=f"quintet resume {self.address}")
        return found

    def used(self) -> UsedWeights | None:
        """The weights of the model that was loaded; before that, those that `restore` would take. None: none yet."""
        if self.weights is not None:
            return self.weights
        bests = checkpoint.steps(self.bests)[-1:] if self.config().training.select != "last" else []
        newest = checkpoint.steps(self.checkpoints)[::-1]
        if bests and newest and bests[0].name == newest[0].name:
            bests = []
        for folder in (*bests, *newest):
            try:
                checkpoint.verify(folder)
            except CheckpointError:
                continue
            return weights_in(folder)
        return None

    # -- metrics -------------------------------------------------------------------------------------------------

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON object to metrics.jsonl. If the disk refuses it (OSError), it is written with the next."""
        self.unwritten += json.dumps(record).encode() + b"\n"
        self.flush(to_disk=False)

    def flush(self, *, to_disk: bool = True) -> None:
        """Write the records that could not be written before; `to_disk`: so that a crash of the machine loses none."""
        with (self.path / "metrics.jsonl").open("ab", buffering=0) as file:
            while self.unwritten:
                self.unwritten = self.unwritten[file.write(self.unwritten) :]
            if to_disk:
                os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """The records so far; a line that is no record is left out, as the last one may be if it was cut."""
        path, records = self.path / "metrics.jsonl", []
        for line in ((path.read_bytes() if path.exists() else b"") + self.unwritten).splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and all(type(record.get(key)) in (int, float) for key in ("step", "steps")):
                records.append(record)
        return records

    def metrics_of_weights(self) -> list[dict[str, Any]]:
        """The records up to the step of the weights that are used: what advice about them may rest on."""
        used = self.used()
        return [record for record in self.metrics() if used is None or record["step"] <= used.step]

    def rewind(self, step: int) -> None:
        """Drop the records after `step`, which a resumed run writes again."""
        path = self.path / "metrics.jsonl"
        kept = [json.dumps(record) for record in self.metrics() if record.get("step", 0) <= step]
        if path.exists():
            checkpoint.write_atomic(path, "".join(line + "\n" for line in kept))


SHORT = 4096
"""Characters of YAML that cannot be nested so deeply that the parser of C would exhaust its stack."""


def read_yaml(text: str) -> Any:
    """What a configuration says: one of ours is short, and read ten times as fast by the parser of C."""
    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return parsed(text, quick if len(text) <= SHORT else yaml.SafeLoader)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("unreadable file", where=str(path), why=str(error)) from None
    if not isinstance(data, dict):
        raise CheckpointError("not a JSON object", where=str(path))
    return data
