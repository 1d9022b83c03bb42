"""The run folder: configuration, codec, metrics, checkpoints, and one writer at a time."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import socket
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import torch
import yaml
from filelock import BaseFileLock, FileLock, Timeout
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from quintet import registry
from quintet.core.codec import Codec
from quintet.core.errors import CheckpointError, DataError, EnvironmentFault, QuintetWarning, UsageError
from quintet.core.family import Family
from quintet.families.vae import VAE
from quintet.modalities.latent import LatentCodec
from quintet.runs.config import RunConfig, as_config_error
from quintet.training import checkpoint
from quintet.training.engine import Engine

Found = tuple[dict[str, dict[str, Tensor]], dict[str, Any], Path]
"""A checkpoint: tensors by group, state, and the folder."""


def runs_root(runs: str | Path | None = None) -> Path:
    """`runs`, `$QUINTET_RUNS`, or ./runs."""
    return Path(runs or os.environ.get("QUINTET_RUNS") or "runs")


class Weights(NamedTuple):
    """Which weights a model has: the step that they are of, and the sha256 of the file that holds them."""

    step: int
    sha256: str


def weights_in(folder: Path) -> Weights:
    """Of a checkpoint that verified: the averaged ones, or those of the best samples or held-out loss."""
    manifest = json.loads((folder / checkpoint.MANIFEST).read_text())
    files = manifest["files"]
    return Weights(int(manifest["step"]), files.get("ema.safetensors", files["model.safetensors"])["sha256"])


class Run:
    """A folder that holds a run. `Run.create` starts one, `Run.open` finds one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.weights: Weights | None = None
        """Those that a model of this run was loaded with, or trained to."""
        self.held: BaseFileLock | None = None  # the lock, once `lock` was called

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def address(self) -> str:
        """What the command line calls this run: its name where that is enough to find it, else its path."""
        return self.name if runs_root() / self.name == self.path else str(self.path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def bests(self) -> Path:
        """Where the averaged weights of the best look are, for a run that selects them."""
        return self.path / "best"

    @classmethod
    def create(cls, root: Path, name: str | None, stem: str) -> Self:
        """A new folder under `root`: `name`, or `stem` with the first free number."""
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise UsageError(f"not a run name: {name!r}", why="letters, digits, . _ - and no leading punctuation")
        try:
            root.mkdir(parents=True, exist_ok=True)
            for number in range(1, 100_000):
                path = root / (name or f"{stem}-{number}")
                try:
                    path.mkdir()
                    return cls(path)
                except FileExistsError:
                    if name:
                        fix = f"another --run, or quintet resume {name}"
                        raise UsageError("this run exists already", where=str(path), fix=fix) from None
        except OSError as error:
            raise EnvironmentFault("cannot write the run folder", where=str(root), why=str(error)) from None
        raise EnvironmentFault("no free run name", where=str(root))

    @classmethod
    def exists(cls, name: str | Path, runs: str | Path | None = None) -> bool:
        """Whether `open` would find it."""
        return any((path / "config.yaml").is_file() for path in (runs_root(runs) / name, Path(name)))

    @classmethod
    def open(cls, name: str | Path, runs: str | Path | None = None) -> Self:
        """The run of that name under `runs`, or at that path."""
        for path in (runs_root(runs) / name, Path(name)):
            if (path / "config.yaml").is_file():
                return cls(path)
        root = runs_root(runs)
        have = sorted(path.parent.name for path in root.glob("*/config.yaml"))
        import difflib

        near = difflib.get_close_matches(str(name), have, 1)
        hint = f"did you mean {near[0]}?" if near else f"runs there: {', '.join(have[:10]) or 'none'}"
        raise UsageError(f"no run {str(name)!r}", where=str(root), why=hint, fix="quintet runs")

    # -- what a run is made of -----------------------------------------------------------------------------------

    def write(
        self, config: RunConfig, codecs: Mapping[str, Codec], facts: Mapping[str, Any], conditions: Tensor | None
    ) -> None:
        """codec/ (with some of the training conditions, to sample from), manifest.json and, last, config.yaml."""
        (self.path / "codec").mkdir(exist_ok=True)
        state = {key: {"codec": codec.name, "state": codec.to_json()} for key, codec in codecs.items()}
        for key, codec in codecs.items():
            if isinstance(codec, LatentCodec):
                state[key]["files"] = self._write_stage(codec)
        checkpoint.write_atomic(self.path / "codec" / "codec.json", json.dumps(state, indent=1))
        if conditions is not None:
            save_file({"cond": conditions}, self.path / "codec" / "conditions.safetensors")
        checkpoint.write_atomic(self.path / "manifest.json", json.dumps({**facts, **versions()}, indent=1))
        self.write_config(config)

    def write_config(self, config: RunConfig) -> None:
        """config.yaml, anew where the plan of a budget was corrected."""
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        checkpoint.write_atomic(self.path / "config.yaml", text)

    @property
    def stage(self) -> Run:
        """The autoencoder that this run's codec is, in a folder of its own: nothing outside is needed."""
        return Run(self.path / "codec" / "stage1")

    def _write_stage(self, codec: LatentCodec) -> dict[str, str]:
        """Copy the autoencoder, with the weights that it encodes with. Returns the sha256 of each file."""
        stage, step = self.stage, int(codec.recipe["step"])
        stage.path.mkdir(parents=True)
        facts = {"family": "vae", "step": step}
        stage.write(RunConfig(**codec.recipe["config"]), {"x": codec.inner}, facts, None)
        checkpoint.save(stage.checkpoints, step, {"model": codec.family.state_dict()}, {"step": step}, keep=1)
        return stage.digests()

    def digests(self) -> dict[str, str]:
        """The sha256 of every file, by its path in the folder."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix(): checkpoint.sha256(path) for path in files}

    def _read_stage(self, entry: Mapping[str, Any]) -> LatentCodec:
        """The codec of a copied autoencoder, every file of which is what was written."""
        stage, found = self.stage, self.stage.digests()
        for name, digest in entry["files"].items():
            if found.get(name) != digest:
                what = "damaged file of the autoencoder" if name in found else "missing file of the autoencoder"
                raise CheckpointError(what, where=str(stage.path / name))
        family, codecs, config, step = stage.restore()
        recipe = {"config": config.model_dump(mode="json"), "step": step}
        assert isinstance(family, VAE)
        return LatentCodec.from_json(entry["state"], codecs["x"], family, recipe)

    def conditions(self) -> Tensor | None:
        """Encoded training conditions, for samples that ask for none; None for an unconditional run."""
        path = self.path / "codec" / "conditions.safetensors"
        try:
            return load_file(path)["cond"] if path.exists() else None
        except (OSError, KeyError, SafetensorError) as error:
            raise CheckpointError("unreadable conditions", where=str(path), why=str(error)) from None

    def config(self) -> RunConfig:
        path = self.path / "config.yaml"
        try:
            return RunConfig(**yaml.safe_load(path.read_text()))
        except ValidationError as error:
            raise as_config_error(error, str(path)) from None
        except (OSError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise CheckpointError("unreadable configuration", where=str(path), why=str(error)) from None

    def manifest(self) -> dict[str, Any]:
        return self._json(self.path / "manifest.json")

    def codecs(self) -> dict[str, Codec]:
        """`x`, and `cond` for a conditional run."""
        path = self.path / "codec" / "codec.json"
        try:
            return {
                key: self._read_stage(entry)
                if entry["codec"] == LatentCodec.name
                else registry.CODECS[entry["codec"]].from_json(entry["state"])
                for key, entry in self._json(path).items()
            }
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError,
                RecursionError, pa.ArrowException) as error:  # fmt: skip
            raise CheckpointError("unreadable codec", where=str(path), why=repr(error)) from None

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError("unreadable file", where=str(path), why=str(error)) from None
        if not isinstance(data, dict):
            raise CheckpointError("not a JSON object", where=str(path))
        return data

    def build(self) -> tuple[Family, dict[str, Codec], RunConfig]:
        """The family of this run with fresh weights, its codecs and its configuration."""
        config, codecs = self.config(), self.codecs()
        return make_family(config, codecs), codecs, config

    def restore(self) -> tuple[Family, dict[str, Codec], RunConfig, int]:
        """`build` with the weights that the run selects, of a checkpoint that verifies, and its step: the averaged
        ones of the newest, or the best.
        """
        family, codecs, config = self.build()
        found = self.best(config) or self.latest()
        if found is None:
            raise CheckpointError("no checkpoint yet", where=str(self.path), fix=f"quintet resume {self.address}")
        tensors, state, where = found
        try:
            family.load_state_dict(tensors["model"] | tensors.get("ema", {}))
            self.weights = weights_in(where)
            return family.eval().to(Engine("auto").device), codecs, config, int(state["step"])
        except (KeyError, RuntimeError) as error:
            why = str(error)
            raise CheckpointError("the weights do not fit the configuration", where=str(where), why=why) from None

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def latest(self) -> Found | None:
        """The newest checkpoint that verifies; damaged ones are named in a warning. None if there is none."""
        damaged = None
        folders = checkpoint.steps(self.checkpoints)
        while folders:
            folder = folders.pop()
            try:
                tensors, state = checkpoint.load(folder)
                return tensors, state, folder
            except CheckpointError as error:
                if not folder.is_dir():  # a newer one has taken its place: the run is being written
                    folders = checkpoint.steps(self.checkpoints)
                    continue
                damaged = error
                warnings.warn(f"{error}; trying the one before", QuintetWarning, stacklevel=2)
        if damaged is not None:
            raise damaged
        return None

    def best(self, config: RunConfig) -> Found | None:
        """The averaged weights of the best look, if the run selects them and they are not those of the newest
        checkpoint; a damaged one is named in a warning and passed over.
        """
        folders = checkpoint.steps(self.bests) if config.training.select != "last" else []
        if folders and folders[-1].name in {folder.name for folder in checkpoint.steps(self.checkpoints)[-1:]}:
            return None
        try:
            return (*checkpoint.load(folders[-1]), folders[-1]) if folders else None
        except CheckpointError as error:
            warnings.warn(f"{error}; taking the newest weights instead", QuintetWarning, stacklevel=2)
            return None

    def used(self) -> Weights | None:
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
        """Append one JSON object to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The records so far; a line that is no record is left out, as the last one may be if it was cut."""
        path, records = self.path / "metrics.jsonl", []
        for line in path.read_bytes().splitlines() if path.exists() else ():
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
        kept = [json.dumps(record) for record in self.metrics() if record.get("step", 0) <= step]
        checkpoint.write_atomic(self.path / "metrics.jsonl", "".join(line + "\n" for line in kept))

    # -- one writer ----------------------------------------------------------------------------------------------

    @property
    def _note(self) -> Path:
        return self.path / "lock.json"

    def lock(self) -> None:
        """Take the run's lock, or say who has it. The system holds it, so that it ends with this process, however that
        ends; lock.json only says who it is.
        """
        self.held = FileLock(self.path / ".lock", timeout=0)
        try:
            self.held.acquire()
        except Timeout:
            raise EnvironmentFault(
                "another process writes this run", where=str(self.path), why=self.writer() or "", fix="wait for it"
            ) from None
        except OSError as error:
            raise EnvironmentFault("cannot take the run's lock", where=str(self.path), why=str(error)) from None
        try:
            note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            checkpoint.write_atomic(self._note, json.dumps(note))
        except OSError as error:
            self.held.release()
            raise EnvironmentFault("cannot write the run", where=str(self._note), why=str(error)) from None

    def writer(self) -> str | None:
        """Who writes this run, as far as its note says; None if nobody does."""
        try:
            note = json.loads(self._note.read_text())
            pid, host = int(note["pid"]), str(note["host"])
            if pid > 0 and host == socket.gethostname():
                os.kill(pid, 0)
        except PermissionError:  # it lives, and belongs to someone else
            pass
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        return f"pid {pid} on {host}"

    def unlock(self) -> None:
        """Give the lock back, if this process has it."""
        held = self.held
        if held is not None and held.is_locked:
            with contextlib.suppress(OSError):
                self._note.unlink(missing_ok=True)
            held.release()


def latent_codec(config: RunConfig, modality: str, root: Path) -> LatentCodec:
    """The run that `config.codec` names as an unfitted codec, with the face that `config.family` takes."""
    name, options = config.codec, dict(config.coding)
    try:
        run = Run.open(name, root)
    except UsageError as error:
        known = f"codecs: {', '.join(registry.CODECS)}; {error.why}"
        raise UsageError(f"no codec and no run {name!r}", where=error.where, why=known, fix=error.fix) from None
    made = run.config()
    fix = f"quintet train vae --data {config.data.source} --model.grid 4"
    if made.family != VAE.name:
        why = "a codec needs a trained autoencoder"
        raise UsageError(f"{name} is a run of the family {made.family}", why=why, fix=fix)
    if made.data.condition is not None:
        why = "its latents mean something only together with their condition"
        raise UsageError(f"{name} is a conditional autoencoder", why=why, fix=fix)
    family, codecs, _, step = run.restore()
    assert isinstance(family, VAE)
    if codecs["x"].modality != modality:
        raise DataError(f"the autoencoder {name} is of kind {codecs['x'].modality}, these items are {modality}")
    face = registry.latent_face(family, registry.family_class(config.family), options.pop("face", None))
    recipe = {"config": made.model_dump(mode="json"), "step": step}
    return LatentCodec(codecs["x"], family, face, LatentCodec.Settings(**options), recipe)


def make_family(config: RunConfig, codecs: Mapping[str, Codec]) -> Family:
    """The family that a configuration describes, initialised from its seed."""
    cls = registry.family_class(config.family)
    condition = codecs["cond"].space if "cond" in codecs else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            settings = cls.Settings(**config.model)
        except ValidationError as error:
            raise as_config_error(error, "model") from None
        return cls(codecs["x"].space, condition, settings)  # type: ignore[call-arg]


def to_size(config: RunConfig, codecs: Mapping[str, Codec]) -> RunConfig:
    """The configuration whose `model.width` gives the number of parameters nearest to `parameters`, if it asks for any.

    The width is a multiple of 16, or of 8 a head; a critic keeps its proportion to the generator. All parameters count.
    """
    if config.parameters is None:
        return config
    model, wanted = config.model, config.parameters
    unit = 8 * int(model.get("heads") or 2)

    def sized(times: int) -> RunConfig:
        width = unit * times
        wide = {"width": width}
        if "critic_width" in model:
            wide["critic_width"] = max(8, round(width * model["critic_width"] / model["width"] / 8) * 8)
        return config.model_copy(update={"model": {**model, **wide}})

    def count(times: int) -> int:
        return sum(p.numel() for p in make_family(sized(times), codecs).parameters())

    high = 1
    while count(high) < wanted:
        high *= 2
    low = high // 2  # count(low) < wanted <= count(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < wanted else (low, middle)
    near = min((times for times in (low, high) if times), key=lambda times: abs(count(times) - wanted))
    return sized(near)


def versions() -> dict[str, Any]:
    """Where and with what a run was made."""
    from importlib.metadata import version

    return {
        "versions": {name: version(name) for name in ("quintet", "torch", "numpy")}
        | {"python": platform.python_version()},
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
