"""A run's model, written into its folder and read back: codecs, family and weights."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from quintet import registry
from quintet.core.codec import Codec, Stage
from quintet.core.errors import CheckpointError, DataError, UsageError, warn
from quintet.core.family import Autoencoder, Family
from quintet.core.files import sync
from quintet.core.memory import counted
from quintet.runs.config import RunConfig, as_config_error
from quintet.runs.digests import CODEC, CONDITIONS, MANIFEST
from quintet.runs.folder import Run, weights_in
from quintet.training import checkpoint
from quintet.training.engine import Engine

# -- writing ---------------------------------------------------------------------------------------------------------


def write(
    run: Run,
    config: RunConfig,
    family: Family,
    codecs: Mapping[str, Codec],
    facts: Mapping[str, Any],
    conditions: Tensor | None,
) -> None:
    """codec/ (with some of the training conditions, to sample from), manifest.json and, last, config.yaml."""
    (run.path / "codec").mkdir(exist_ok=True)
    state = {key: {"codec": codec.name, "state": codec.to_json()} for key, codec in codecs.items()}
    for key, codec in codecs.items():
        if codec.stage is not None:
            state[key]["files"] = _write_stage(stage_of(run), codec.stage)
    checkpoint.write_atomic(run.path / CODEC, json.dumps(state, indent=1))
    if conditions is not None:
        write_conditions(run, conditions)
    made = {"id": uuid4().hex, "family": config.family, "model": about(family, codecs["x"])}
    checkpoint.write_atomic(run.path / MANIFEST, json.dumps({**made, **facts, **versions()}, indent=1))
    run.write_config(config)


def write_conditions(run: Run, conditions: Tensor) -> None:
    """Training conditions, to sample from."""
    checkpoint.no_link((run.path / CONDITIONS).parent)
    checkpoint.write_tensors(run.path / CONDITIONS, {"cond": conditions})
    sync(run.path / CONDITIONS)


def mend(run: Run, conditions: Tensor | None) -> None:
    """Write again what is damaged in a run that goes on, as far as there are copies, or the data say it."""
    try:
        if conditions is not None and run.kept.damage(CONDITIONS) is not None:
            write_conditions(run, conditions)
            run.kept.sign(CONDITIONS)
        run.kept.mend()
    except OSError as error:
        warn(f"the damaged files could not be written again ({error})")


def about(family: Family, codec: Codec) -> dict[str, Any]:
    """What there is to say of a model before any training; written down, so that looking at a run builds no model."""
    return {
        "parameters": sum(p.numel() for p in family.parameters()),
        "likelihood": family.likelihood,
        "measure": codec.measure,
        "space": codec.space.to_json(),
        "missing": dict(family.missing),
    }


def versions() -> dict[str, Any]:
    """Where and with what a run was made."""
    from importlib.metadata import version

    return {
        "versions": {name: version(name) for name in ("quintet", "torch", "numpy")}
        | {"python": platform.python_version()},
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


# -- reading ---------------------------------------------------------------------------------------------------------


def codecs_of(run: Run) -> dict[str, Codec]:
    """`x`, and `cond` for a conditional run."""
    path = run.path / CODEC
    try:
        return {
            key: registry.read_codec(
                entry["codec"], entry["state"], _read_stage(stage_of(run), entry["files"]) if "files" in entry else None
            )
            for key, entry in run.json(CODEC).items()
        }
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError,
            RecursionError, pa.ArrowException) as error:  # fmt: skip
        raise CheckpointError("the codec of the run cannot be read", where=str(path), why=repr(error)) from None


def conditions_of(run: Run) -> Tensor | None:
    """Encoded training conditions, for samples that ask for none; None for an unconditional run."""
    path = run.path / CONDITIONS
    if (error := run.kept.damage(CONDITIONS)) is not None:
        fix = f"quintet resume {run.address} makes it again from the data"
        raise CheckpointError(error.what, where=error.where, why=error.why, fix=fix)
    try:
        return load_file(path)["cond"] if path.exists() else None
    except (OSError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            "the training conditions of the run cannot be read", where=str(path), why=str(error)
        ) from None


def rebuild(run: Run, config: RunConfig | None = None) -> tuple[Family, dict[str, Codec], RunConfig]:
    """The family of a run with fresh weights, its codecs and its configuration, or another one."""
    config, codecs = config or run.config(), codecs_of(run)
    return make_family(config, codecs, copies=1), codecs, config


def restore(run: Run) -> tuple[Family, dict[str, Codec], RunConfig, int]:
    """`build` with the weights that the run selects, of a checkpoint that verifies, and its step: the averaged ones of
    the newest, or the best.
    """
    family, codecs, config = rebuild(run)
    found = run.selected(config)
    try:
        family.load_state_dict(found.tensors["model"] | found.tensors.get("ema", {}))
        if not all(bool(torch.isfinite(weight).all()) for weight in family.parameters()):
            what, why = (
                "the weights contain NaN or infinite values",
                "training never saves such weights, so they were changed afterwards",
            )
            fix = "remove this folder, so that the checkpoint before it is used"
            raise CheckpointError(what, where=str(found.folder), why=why, fix=fix)
        run.weights = weights_in(found.folder)
        return family.eval().to(Engine("auto").device), codecs, config, int(found.state["step"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        why = str(error)
        raise CheckpointError("the weights do not fit the configuration", where=str(found.folder), why=why) from None


# -- the autoencoder whose latents are the codec ---------------------------------------------------------------------


def latent_codec(config: RunConfig, modality: str, root: Path) -> Codec:
    """The run that `config.codec` names as an unfitted codec, with the representation that `config.family` takes."""
    name = config.codec
    try:
        run = Run.open(name, root)
    except UsageError as error:
        known = f"codecs: {', '.join((*registry.CODECS, registry.codec_class(name).name))}; {error.why}"
        what = f"{name!r} is neither a codec nor a run"
        raise UsageError(what, where=error.where, why=known, fix=error.fix) from None
    family, codecs, made, step = restore(run)
    fix = f"quintet train {registry.AUTOENCODER} --data {made.data.source} --model.grid 4"
    if not isinstance(family, Autoencoder):
        why = "only a trained autoencoder can encode items"
        raise UsageError(f"{name} cannot be a codec: it is a run of the family {made.family}", why=why, fix=fix)
    if made.data.condition is not None:
        why = "its latents have a meaning only together with their condition"
        raise UsageError(f"{name} cannot be a codec: it is a conditional autoencoder", why=why, fix=fix)
    if codecs["x"].modality != modality:
        raise DataError(
            f"the autoencoder {name} encodes items of kind {codecs['x'].modality}, but these are {modality}"
        )
    stage = Stage(codecs["x"], family, {"config": made.model_dump(mode="json"), "step": step})
    return registry.latent_codec(stage, registry.family_class(config.family), config.coding)


def stage_of(run: Run) -> Run:
    """The autoencoder that a run's codec needs, in a folder of its own: nothing outside is needed."""
    return Run(run.path / "codec" / "stage1")


def _write_stage(run: Run, stage: Stage) -> dict[str, str]:
    """Copy the autoencoder, with the weights that it encodes with. Returns the sha256 of each file."""
    step, family = int(stage.recipe["step"]), stage.family
    assert isinstance(family, Family)
    run.path.mkdir(parents=True)
    write(run, RunConfig(**stage.recipe["config"]), family, {"x": stage.codec}, {"step": step}, None)
    checkpoint.save(run.checkpoints, step, {"model": family.state_dict()}, {"step": step}, keep=1)
    return run.digests()


def _read_stage(run: Run, files: Mapping[str, str]) -> Stage:
    """A copied autoencoder, every file of which is what was written."""
    found = run.digests()
    for name, digest in files.items():
        if found.get(name) != digest:
            what = (
                "this file of the autoencoder is damaged"
                if name in found
                else "this file of the autoencoder is missing"
            )
            raise CheckpointError(what, where=str(run.path / name))
    family, codecs, config, step = restore(run)
    assert isinstance(family, Autoencoder)
    return Stage(codecs["x"], family, {"config": config.model_dump(mode="json"), "step": step})


# -- families by their configuration ---------------------------------------------------------------------------------


TRAINED = 5
"""Numbers that training keeps for each parameter: itself, its gradient, two moments of the optimiser and the moving
average.
"""


def make_family(config: RunConfig, codecs: Mapping[str, Codec], copies: int = TRAINED) -> Family:
    """The family that a configuration describes, initialised from its seed. Refused while it is built if its
    parameters, so many numbers for each, do not fit into memory.
    """
    cls = registry.family_class(config.family)
    condition = codecs["cond"].space if "cond" in codecs else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            settings = cls.Settings(**config.model)
        except ValidationError as error:
            raise as_config_error(error, "model") from None
        with counted(copies, fix="a smaller --model.width or --model.depth, or --preset tiny"):
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
