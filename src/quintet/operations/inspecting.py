"""`inspect` and `runs`: what a run is and how far it got, which run made a file, and which runs there are.

None of them needs torch, but to verify a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from quintet.core.errors import CheckpointError, DataError, QuintetError
from quintet.core.settings import in_words
from quintet.modalities.provenance import read_provenance
from quintet.operations.events import OnEvent, operation
from quintet.operations.records import last, of_weights
from quintet.operations.requests import InspectRequest, RunsRequest
from quintet.operations.results import Result
from quintet.runs.digests import CONFIG, NAME
from quintet.runs.folder import Run, read_json, runs_root
from quintet.runs.lock import who_writes
from quintet.training import checkpoint


class FileResult(Result):
    """Which model, seed and settings made a file."""

    file: str
    provenance: dict[str, Any]


class Input(BaseModel):
    """What a file of an export takes: an axis of its shape is a size, or the name of one that is free."""

    name: str
    dtype: str
    shape: list[int | str]
    noise: str | None = None


class Exported(BaseModel):
    """A file of an export."""

    file: str
    inputs: list[Input]
    outputs: list[str]
    largest_difference: float


class ExportedResult(Result):
    """What was exported of a model: where it comes from, and what each file takes and gives."""

    folder: str
    format: str
    provenance: dict[str, Any]
    parts: dict[str, Exported]


class RunResult(Result):
    """Configuration, progress, checkpoints and size of a run; and what its manifest says of its model. What stands in
    files is shown as it stands there.
    """

    run: str
    name: str
    family: str
    source: str
    step: int
    steps: int | None
    condition: str | None
    parameters: Any = None
    likelihood: Any = None
    measure: Any = None
    space: Any = None
    missing: Any = None
    loss: Any
    losses: dict[str, Any]
    quality: Any
    held_out: Any
    weights: int
    """The step of the weights that the model has, and of its figures."""
    seconds: Any
    advice: list[dict[str, str]]
    checkpoints: list[dict[str, Any]]
    manifest: dict[str, Any]
    config: dict[str, Any]
    address: str = Field(exclude=True)
    """The run as an argument of other verbs."""
    finished: bool = Field(exclude=True)
    """Whether it has come to its end, which of a run that ended early is the step at which it did."""


class VerifiedResult(Result):
    """The checkpoints whose every file is what was written."""

    run: str
    name: str
    verified: list[str]
    written_by: str | None = Field(None, exclude=True)
    """Who is writing the run now."""


@operation
def inspect(request: InspectRequest, on_event: OnEvent) -> RunResult | FileResult | ExportedResult | VerifiedResult:
    """Show what a run is and how far it got, what an export holds, or which run, seed and settings made a file."""
    path = Path(request.what)
    if (path / EXPORTED).is_file():
        return exported(path / EXPORTED)
    if path.is_file() and (path.name == EXPORTED or path.suffix in PROGRAMS):
        return exported(path.with_name(EXPORTED), None if path.name == EXPORTED else path.name)
    if path.is_file():
        return FileResult(file=str(path), provenance=read_provenance(path))
    run = Run.open(request.what, request.runs)
    return verified(run) if request.verify else described(run)


EXPORTED, PROGRAMS = "export.json", (".onnx", ".pt2")
"""What an export is: a file that says what the others beside it are."""


def exported(path: Path, name: str | None = None) -> ExportedResult:
    """What an export's own file says of it, or of its file `name`. Raises DataError."""
    if not path.is_file():
        raise DataError(
            "this exported file is not described",
            where=str(path.with_name(name or "")),
            why=f"there is no {EXPORTED} in its folder",
            fix=f"put the file back beside its {EXPORTED}",
        )
    facts = read_json(path)
    try:
        found = ExportedResult(folder=str(path.parent), format=facts.get("format"), parts=facts.get("parts"),
                               provenance={key: facts[key] for key in MADE_BY if key in facts})  # fmt: skip
    except ValidationError as error:
        raise DataError(
            "the file does not describe an export as it should", where=str(path), why=in_words(error.errors()[0])
        ) from None
    if name is None:
        return found
    parts = {part: about for part, about in found.parts.items() if about.file == name}
    if not parts:
        raise DataError(f"{EXPORTED} does not list this file", where=str(path.with_name(name)))
    return found.model_copy(update={"parts": parts})


MADE_BY = ("quintet", "run", "family", "data", "step", "weights")
"""What an export says of the model that it is of."""
MODEL = ("parameters", "likelihood", "measure", "space", "missing")
"""What a manifest says of its model."""


def described(run: Run) -> RunResult:
    """What a run's folder says of it."""
    config, made = run.config(), run.manifest()
    model = made.get("model")  # nothing in a run that was made before manifests said it
    about = {key: model[key] for key in MODEL if key in model} if isinstance(model, dict) else {}
    folders = checkpoint.steps(run.checkpoints)
    sizes = {folder.name: size for folder in folders if (size := _size(folder))}
    news, done = of_weights(run), _newest(folders)
    facts: dict[str, Any] = {
        "run": str(run.path),
        "name": run.name,
        "family": config.family,
        "source": config.data.source,
        "step": done,
        "steps": config.steps,
        "condition": config.data.condition,
        **about,
        **{key: news[key] for key in ("loss", "losses", "quality", "held_out", "weights", "advice", "seconds")},
        "checkpoints": [{"name": name, "bytes": size} for name, size in sizes.items()],
        "manifest": made,
        "config": config.model_dump(mode="json"),
    }
    return RunResult(**facts, address=run.address, finished=done == (news["steps"] or config.steps))


def _size(folder: Path) -> int:
    """Bytes of a checkpoint; 0 for one that the run's own process has just removed."""
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0


def _newest(folders: list[Path]) -> int:
    """The step of the newest checkpoint; 0 if there is none."""
    digits = [folder.name.removeprefix("step-") for folder in folders]
    return max([int(each) for each in digits if each.isdigit()], default=0)


def verified(run: Run) -> VerifiedResult:
    """Check every digest of a run. Raises CheckpointError that names the first damaged file.

    A run whose process was killed before its first checkpoint has none, which is no damage.
    """
    from quintet.runs.restoring import codecs_of, conditions_of

    damaged, good = list(damages(run)), list[Path]()
    for folder in checkpoint.steps(run.checkpoints) + checkpoint.steps(run.bests):
        try:
            if checkpoint.intact(folder):
                run.check(folder)
                good.append(folder)
        except CheckpointError as error:
            if not checkpoint.gone(folder):
                damaged.append(error)
    damaged += damaged_records(run, [folder for folder in good if folder.parent == run.checkpoints])
    if damaged:
        first, left = damaged[0], len(good)
        also = "".join(f"; also {error.where}" for error in damaged[1:])
        fix = (
            f"quintet resume {run.address}: {left} good checkpoint(s) remain"
            if left
            else "train anew: no good checkpoint remains"
        )
        raise CheckpointError(first.what + also, where=first.where, why=first.why, fix=fix)
    run.config(), codecs_of(run), conditions_of(run)  # a run of an older version has no digests of these
    names = [folder.relative_to(run.path).as_posix().removeprefix("checkpoints/") for folder in good]
    return VerifiedResult(run=str(run.path), name=run.name, verified=names, written_by=who_writes(run.path))


def damages(run: Run) -> Iterator[CheckpointError]:
    """What is not as it was written of all that stands beside checkpoints, but for the metrics."""
    if not (run.path / NAME).exists():
        if run.id is not None:
            fix = f"quintet resume {run.address} writes it again, from the files as they are now"
            yield CheckpointError("this file of the run is missing", where=str(run.path / NAME), fix=fix)
        return
    for error in run.kept.damages():
        if error.where == str(run.path / CONFIG):
            with suppress(QuintetError):
                if run.edited() == run.written():  # in another layout
                    continue
        yield error


def damaged_records(run: Run, good: list[Path]) -> Iterator[CheckpointError]:
    """metrics.jsonl, if it does not begin with the records that the newest good checkpoint holds."""
    path = run.path / "metrics.jsonl"
    for folder in good[-1:]:
        try:
            head = checkpoint.state_of(folder).get("metrics")
            if head is not None and not path.read_bytes().startswith(head.encode()):
                what, fix = (
                    f"the file was changed after it was written, and {folder.name} holds its records",
                    f"quintet resume {run.address}",
                )
                yield CheckpointError(what, where=str(path), fix=fix)
        except (OSError, CheckpointError) as error:
            if not checkpoint.gone(folder):
                yield CheckpointError("the file cannot be read", where=str(path), why=str(error))


class RunsResult(Result):
    """The runs under a folder; one that cannot be read has an `error`."""

    root: str
    runs: list[dict[str, Any]]


@operation
def runs(request: RunsRequest, on_event: OnEvent) -> RunsResult:
    """Every run under the runs folder, also those of comparisons."""
    root = runs_root(request.runs)
    paths = {path.parent for pattern in ("*/config.yaml", "compare-*/*/config.yaml") for path in root.glob(pattern)}
    return RunsResult(root=str(root), runs=[_entry(Run(path), str(path.relative_to(root))) for path in sorted(paths)])


def _entry(run: Run, name: str) -> dict[str, Any]:
    try:
        config = run.config()
    except QuintetError as error:
        return {"name": name, "error": error.what}
    news, done = last(run.metrics()), _newest(checkpoint.steps(run.checkpoints))
    about = {"name": name, "run": str(run.path), "family": config.family, "source": config.data.source, "step": done}
    return about | {"steps": config.steps, "loss": news["loss"], "quality": news["quality"]}
