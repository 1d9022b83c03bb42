"""`export`: the parts of a model as files that are used without quintet."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from quintet.core.errors import EnvironmentFault, Unsupported
from quintet.core.family import Part
from quintet.core.spaces import Discrete, Space
from quintet.fit import fitting
from quintet.model.fitted import Fitted
from quintet.operations.events import OnEvent, Step, operation
from quintet.operations.fitted import provenance
from quintet.operations.inspecting import EXPORTED
from quintet.operations.requests import ExportRequest
from quintet.operations.results import Result
from quintet.training.checkpoint import write_atomic

FEW, ITEMS = 2, 5
"""How many items a file is made with, and verified on."""
LARGEST = 1e-4
"""By how much, at most, the output of a file may differ from the model's: see `apart`."""


class ExportResult(Result):
    """The folder, its files, and by how much each differs from the model."""

    run: str
    format: str
    output: str
    files: list[Path]
    differences: dict[str, float] = Field(description="largest difference from the model, by part: see `apart`")
    bytes: int


class Alone(nn.Module):
    """A part as a module of its own."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.family, self.name = part.method.__self__, part.method.__name__  # type: ignore[attr-defined]
        self.told = {} if part.sampling is None else {"sampling": part.sampling}

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.family, self.name)(*inputs, **self.told)


@operation
def export(request: ExportRequest, on_event: OnEvent) -> ExportResult:
    """Write each part into a file of its own, verified against the model, and export.json, which says how to use it."""
    model = fitting.load(request.run, runs=request.runs, device="cpu")
    folder = Path(request.output or f"{model.run.name}-{request.format}")
    found = write_parts(model, folder, request.format, on_event)
    files = [folder / f"{name}{FORMATS[request.format].suffix}" for name in found] + [folder / EXPORTED]
    size = sum(path.stat().st_size for path in files)
    return ExportResult(run=str(model.run.path), format=request.format, output=str(folder), files=files,
                        differences=found, bytes=size)  # fmt: skip


def write_parts(model: Fitted, folder: Path, format: str, on_event: OnEvent) -> dict[str, float]:
    """The files of a model's parts; returns by how much each differs from the model."""
    form, family, sampling = FORMATS[format], model.family, model.sampling(None)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    with quiet(), torch.no_grad():
        parts, others = (family.parts(*examples(model, n), sampling) for n in (FEW, ITEMS))
        for step, (name, part) in enumerate(parts.items(), 1):
            found[name] = exported(part, others[name], folder / f"{name}{form.suffix}", form, model.run.name)
            on_event(Step(step, len(parts)))
    facts = {
        "format": format,
        **provenance(model),
        "parts": {name: described(part, f"{name}{form.suffix}", found[name]) for name, part in parts.items()},
        "sampler": family.constants(sampling),
        "space": model.codecs["x"].space.to_json(),
        "codecs": {key: {"codec": codec.name, "state": codec.to_json()} for key, codec in model.codecs.items()},
    }
    write_atomic(folder / EXPORTED, json.dumps(facts, indent=1))
    return found


# -- formats ---------------------------------------------------------------------------------------------------------

Call = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""A file at work: its inputs, in order, to its outputs."""


class Format(NamedTuple):
    """How a part is written, and how a file of it is run."""

    suffix: str
    write: Callable[[Any, Part, Path], None]
    run: Callable[[Path], Call]


def write_onnx(program: Any, part: Part, path: Path) -> None:
    torch.onnx.export(program, (), path, dynamo=True, verbose=False, external_data=False,
                      input_names=list(part.inputs), output_names=list(part.outputs))  # fmt: skip


def run_onnx(path: Path) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        given = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
        return [torch.from_numpy(np.asarray(one)) for one in session.run(None, given)]

    return run


def write_torch(program: Any, part: Part, path: Path) -> None:
    torch.export.save(program, path)


def run_torch(path: Path) -> Call:
    module = torch.export.load(path).module()

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        found = module(*inputs)
        return found if isinstance(found, tuple | list) else [found]

    return run


FORMATS = {"onnx": Format(".onnx", write_onnx, run_onnx), "torch": Format(".pt2", write_torch, run_torch)}


def exported(part: Part, other: Part, path: Path, form: Format, where: str) -> float:
    """Write a part, and return by how much the file's answers to another number of items differ from the model's.

    Raises Unsupported for a part that the format cannot hold, or whose file differs by more than `LARGEST`.
    """
    alone, items = Alone(part).eval(), torch.export.Dim("items", min=1)
    shapes = [{0: items} | dict.fromkeys(part.free.get(name, ()), torch.export.Dim.DYNAMIC) for name in part.inputs]
    inputs = tuple(part.inputs.values())
    try:
        program = torch.export.export(alone, inputs, dynamic_shapes=(tuple(shapes),), strict=True)
        form.write(program, part, path)
        answers = form.run(path)(list(other.inputs.values()))
    except ImportError as error:
        raise EnvironmentFault("a package that writes ONNX files is not installed", why=str(error),
                               fix="pip install 'quintet[onnx]'") from None  # fmt: skip
    except Exception as error:  # of the exporters and the runtime, which have no common class
        why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise Unsupported(
            f"the part {path.stem} of the model cannot be exported as {path.suffix[1:]}", where=where, why=why
        ) from None
    wanted = Alone(other)(*other.inputs.values())
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    pairs = zip(answers, wanted, strict=True)
    difference = max(apart(a.double(), b.double()) for a, b in pairs)
    if not difference <= LARGEST:
        path.unlink()
        raise Unsupported(f"what the file of {path.stem} computes differs from the model by {difference:.2g}",
                          where=where,
                          why=f"a difference of at most {LARGEST:g} is allowed, so the file was not kept")  # fmt: skip
    return difference


def apart(a: Tensor, b: Tensor) -> float:
    """The largest |a - b| / max(1, |b|): of nats, of which there may be thousands, the last digits are rounding.

    What is impossible, -inf on both sides, is equal.
    """
    relative = (a - b).abs() / b.abs().clamp_min(1)
    return float(relative.masked_fill(a == b, 0).max()) if b.numel() else 0.0


def described(part: Part, file: str, difference: float) -> dict[str, Any]:
    """What export.json says of a file."""
    inputs = []
    for name, example in part.inputs.items():
        free = part.free.get(name, {})
        shape = ["items", *(free.get(axis, size) for axis, size in enumerate(example.shape[1:], 1))]
        noise = {"noise": part.noise[name]} if name in part.noise else {}
        inputs.append({"name": name, "dtype": str(example.dtype).removeprefix("torch."), "shape": shape, **noise})
    return {"file": file, "inputs": inputs, "outputs": list(part.outputs), "largest_difference": difference}


# -- examples --------------------------------------------------------------------------------------------------------


def examples(model: Fitted, n: int) -> tuple[Tensor, Tensor | None]:
    """n encoded items and conditions, as like the model's own as can be had without its data."""
    generator = torch.Generator().manual_seed(n)
    space = model.codecs["x"].space
    cond = None if "cond" not in model.codecs else model.condition(None, n, 0)
    return random_items(space, n, generator), cond


def random_items(space: Space, n: int, generator: torch.Generator) -> Tensor:
    """Random points of a space."""
    if isinstance(space, Discrete):
        sizes = torch.tensor(space.sizes or [space.vocab_size] * space.dims)
        return (torch.rand(n, space.dims, generator=generator) * sizes).long().view(n, *space.shape)
    return torch.rand(n, *space.shape, generator=generator) * 2 - 1


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters say of themselves."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
