"""The folder of a run: its configuration, metrics and checkpoints. Looking at it needs no torch."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import yaml
from pydantic import ValidationError

from quintet.core.errors import CheckpointError, EnvironmentFault, QuintetError, RunExists, UsageError, warn
from quintet.core.files import sha256, sync
from quintet.core.typed import parsed
from quintet.runs import hub, inert
from quintet.runs.config import RunConfig, as_config_error, differences
from quintet.runs.digests import CONFIG, MANIFEST, NAME, Kept
from quintet.runs.lock import Lock
from quintet.runs.names import check_name, normal, stem
from quintet.runs.records import Records
from quintet.training import checkpoint

if TYPE_CHECKING:
    from torch import Tensor


LOCKS = {".lock", "lock.json"}
"""What says who writes a run."""
BEFORE_CONFIG = LOCKS | {".lock.json.tmp", "codec", "checkpoints", "manifest.json", ".manifest.json.tmp",
                         NAME, f".{NAME}.tmp", ".config.yaml.tmp", ".comparison.json.tmp"}  # fmt: skip
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
        self.kept, self.records = Kept(path), Records(path / "metrics.jsonl")
        self.weights: UsedWeights | None = None
        """Those that a model of this run was loaded with, or trained to."""

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
                    fix = f"choose another --run, or continue that one: quintet resume {name}"
                    raise RunExists("a run of this name exists already", where=str(run.path), fix=fix)
        except OSError as error:
            raise EnvironmentFault("the folder of the run cannot be created", where=str(root), why=str(error),
                                   fix="free disk space, or choose another folder with --runs") from None  # fmt: skip
        raise EnvironmentFault("no free name was found for the run", where=str(root), fix="name it with --run NAME")

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
                checkpoint.clear(path)

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
        return any(cls(path).begun for path in cls.places(name, runs))

    @property
    def begun(self) -> bool:
        """Whether a run has begun here: it has a configuration, or had one that is lost."""
        return (self.path / CONFIG).is_file() or ((self.path / NAME).is_file() and self.written() is not None)

    @classmethod
    def open(cls, name: str | Path, runs: str | Path | None = None) -> Self:
        """The run of that name under `runs`, at that path, or on the hub as hf:owner/name."""
        if str(name).startswith(hub.PREFIX):
            return cls(hub.fetch(str(name)), str(name))
        for path in cls.places(name, runs):
            run = cls(path)
            if run.begun and run.looked_over:
                return run
            if cls(path).young and (path / ".lock").exists():
                why = "it is reading its data, or was stopped while it did"
                fix = "wait; if it was stopped, repeat the command that began it"
                raise UsageError("this run has not begun yet to train", where=str(path), why=why, fix=fix)
        root = runs_root(runs)
        have = sorted(path.parent.name for path in root.glob("*/config.yaml"))
        near = difflib.get_close_matches(str(name), have, 1)
        hint = f"did you mean {near[0]}?" if near else f"runs there: {', '.join(have[:10]) or 'none'}"
        raise UsageError(f"there is no run named {str(name)!r}", where=str(root), why=hint, fix="quintet runs")

    # -- what a run is made of -----------------------------------------------------------------------------------

    def write_config(self, config: RunConfig) -> None:
        """config.yaml, anew where the plan of a budget was corrected."""
        self.kept.write(CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))

    def digests(self) -> dict[str, str]:
        """The sha256 of every file, by its path in the folder."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix(): sha256(path) for path in files}

    @cached_property
    def looked_over(self) -> bool:
        """True, once nothing is found in the folder that would hang or never end when it is read."""
        return inert.check(self.path) > 0

    def config(self) -> RunConfig:
        """The configuration that the run has; what else stands in config.yaml is named in a warning."""
        assert self.looked_over
        text, whole = self.kept.look(CONFIG)
        if text is None:
            return self.edited()
        written = self.parsed(text)
        if not whole:
            try:
                changes = differences(written.model_dump(mode="json"), self.edited().model_dump(mode="json"))
            except QuintetError as error:
                warn(f"{error}; its copy in {NAME} is used")
            else:
                if changes:
                    told = f"{self.path / CONFIG} was changed by hand ({'; '.join(map(str, changes))})"
                    warn(f"{told}: the configuration that the run was trained with is used")
        return written

    def written(self) -> RunConfig | None:
        """The configuration as it was written last; None if nothing but config.yaml says it."""
        text, _ = self.kept.look(CONFIG)
        return None if text is None else self.parsed(text)

    def edited(self) -> RunConfig:
        """The configuration as it stands in config.yaml."""
        text, whole = self.kept.look(CONFIG)
        try:
            return self.parsed(text if text is not None and whole else (self.path / CONFIG).read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                "the configuration of the run cannot be read", where=str(self.path / CONFIG), why=str(error)
            ) from None

    def parsed(self, text: str) -> RunConfig:
        """The configuration in a text."""
        try:
            return RunConfig(**read_yaml(text))
        except ValidationError as error:
            raise as_config_error(error, str(self.path / CONFIG)) from None
        except (TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise CheckpointError(
                "the configuration of the run cannot be read", where=str(self.path / CONFIG), why=str(error)
            ) from None

    def manifest(self) -> dict[str, Any]:
        return self.json(MANIFEST)

    @property
    def id(self) -> str | None:
        """What the checkpoints of this run say they are of; None: it is of an older version."""
        with contextlib.suppress(CheckpointError):
            return self.manifest().get("id")
        return None

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file, as it was written."""
        return json_object(self.path / name, lambda _: self.kept.text(name))

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def latest(self) -> LoadedCheckpoint | None:
        """The newest checkpoint that verifies; damaged ones are named in a warning. None if there is none."""
        damaged = None
        folders = checkpoint.steps(self.checkpoints)
        while folders:
            folder = folders.pop()
            try:
                return self._load(folder)
            except CheckpointError as error:
                if checkpoint.gone(folder):  # a newer one has taken its place: the run is being written
                    folders = checkpoint.steps(self.checkpoints)
                    continue
                damaged = error
                warn(f"{error}; the checkpoint before it is tried")
        if damaged is not None:
            raise damaged
        try:  # one that cannot be listed is not empty
            list(self.checkpoints.iterdir() if not checkpoint.gone(self.checkpoints) else ())
        except OSError as error:
            fix = "check the permissions of the folder, and the disk"
            raise CheckpointError(
                "the folder cannot be read", where=str(self.checkpoints), why=str(error), fix=fix
            ) from None
        return None

    def set_aside(self, found: Path) -> None:
        """Set newer checkpoints aside than the one that the run goes on from: they could not be used."""
        for folder in checkpoint.steps(self.checkpoints):
            if folder.name > found.name:
                try:
                    warn(f"{folder} is damaged and is kept under the name {checkpoint.set_aside(folder).name}")
                except OSError as error:
                    warn(f"{folder} could not be renamed ({error})")

    def best(self, config: RunConfig) -> LoadedCheckpoint | None:
        """The averaged weights of the best look, if the run selects them and they are not those of the newest
        checkpoint; a damaged one is named in a warning and passed over.
        """
        folders = checkpoint.steps(self.bests) if config.training.select != "last" else []
        if folders and folders[-1].name in {folder.name for folder in checkpoint.steps(self.checkpoints)[-1:]}:
            return None
        try:
            return self._load(folders[-1]) if folders else None
        except CheckpointError as error:
            warn(f"{error}; the newest weights are used instead")
            return None

    def _load(self, folder: Path) -> LoadedCheckpoint:
        """A checkpoint that verifies, and is of this run."""
        found = LoadedCheckpoint(*checkpoint.load(folder), folder)
        self.check(found.folder, found.state)
        return found

    def check(self, folder: Path, state: Mapping[str, Any] | None = None) -> None:
        """Raise CheckpointError unless a checkpoint that verifies, which holds this state, is of this run."""
        state = checkpoint.state_of(folder) if state is None else state
        if state.get("run") not in (None, self.id):
            raise CheckpointError(
                "this checkpoint belongs to another run", where=str(folder), fix="move it into the folder of that run"
            )

    def selected(self, config: RunConfig) -> LoadedCheckpoint:
        """The weights that the run selects: the averaged ones of the best look, or the newest."""
        found = self.best(config) or self.latest()
        if found is None:
            raise CheckpointError(
                "the run has no checkpoint yet", where=str(self.path), fix=f"quintet resume {self.address}"
            )
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

    def metrics(self, upto: float = math.inf) -> list[dict[str, Any]]:
        """The records so far, of those steps at most."""
        return [record for record in self.records.read() if record["step"] <= upto]

    def metrics_of_weights(self) -> list[dict[str, Any]]:
        """The records up to the step of the weights that are used: what advice about them may rest on."""
        used = self.used()
        return self.metrics() if used is None else self.metrics(used.step)

    def metrics_to_best(self) -> list[dict[str, Any]]:
        """The records, while the run is trained; where it selects its weights, those up to the best until now."""
        bests = checkpoint.steps(self.bests)
        return self.metrics(checkpoint.step_of(bests[-1])) if bests else self.metrics()


SHORT = 4096
"""Characters of YAML that cannot be nested so deeply that the parser of C would exhaust its stack."""


def read_yaml(text: str) -> Any:
    """What a configuration says: one of ours is short, and read ten times as fast by the parser of C."""
    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return parsed(text, quick if len(text) <= SHORT else yaml.SafeLoader)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError."""
    return json_object(path, Path.read_text)


def json_object(path: Path, read: Callable[[Path], str]) -> dict[str, Any]:
    """The JSON object in a text that is read from a file."""
    try:
        data = json.loads(read(path))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("the file cannot be read", where=str(path), why=str(error)) from None
    if not isinstance(data, dict):
        raise CheckpointError("the file does not hold a JSON object", where=str(path))
    return data
