"""The verbs: what each is for, and what came of it in words. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quintet.cli.console import Answer, Context
from quintet.cli.verbs import app, asks
from quintet.operations.events import OnEvent
from quintet.operations.requests import (
    CompareRequest,
    CompleteRequest,
    CompletionRequest,
    DataRequest,
    DistilRequest,
    DoctorRequest,
    EncodeRequest,
    EvaluateRequest,
    ExportRequest,
    InspectRequest,
    InterpolateRequest,
    PushRequest,
    RecommendRequest,
    ReconstructRequest,
    ResumeRequest,
    RunsRequest,
    SampleRequest,
    ScoreRequest,
    TrainRequest,
)
from quintet.operations.results import CompletionResult

if TYPE_CHECKING:
    from quintet.operations.checking import DoctorResult
    from quintet.operations.completing import CompleteResult
    from quintet.operations.exporting import ExportResult
    from quintet.operations.hub import PushResult
    from quintet.operations.latents import EncodeResult, InterpolateResult, ReconstructResult
    from quintet.operations.measuring import CompareResult, EvaluateResult, RecommendResult
    from quintet.operations.sampling import SampleResult
    from quintet.operations.scoring import ScoreResult
    from quintet.operations.training import TrainResult

# -- training ----------------------------------------------------------------------------------------------------------


def _asked(request: TrainRequest) -> str:
    """Family and source, of the request or its file."""
    from quintet.operations.training import asked

    family, source, _ = asked(request)
    return f"{Path(source).name} {family}"


@asks(
    TrainRequest,
    "training.train",
    "flow --data moons --budget 60s --run first",
    "diffusion --data digits --condition label --preset small",
    "vae --data digits --steps 500 --training.batch_size 64 --model.width 64",
    title=_asked,
)
def train(done: Any, context: Context) -> Answer | str:
    """Train one family on one source.

    Every setting is an option: --model.FIELD, --sampling.FIELD, --training.FIELD and --data.FIELD VALUE.
    --dry-run shows them all. Options win over --config, which wins over --preset.
    """
    from quintet.cli.figures import planned
    from quintet.operations.training import PlanResult

    return planned(done) if isinstance(done, PlanResult) else _trained(done, context)


@asks(ResumeRequest, "training.resume", "first", "first --steps 4000     (which has fewer)",
      "runs/first --changed-data", title=lambda request: request.run)  # fmt: skip
def resume(done: TrainResult, context: Context) -> Answer | str:
    """Continue a run to its end, as if it had never stopped; or train it further, to --steps or --budget in all.

    If the run had reached its end, the learning rate warms up and falls once more in the new part; otherwise the rest
    of its schedule is stretched to the new end. Both numbers are totals, so the same command again does nothing.
    """
    return _trained(done, context)


@asks(DistilRequest, "training.distil", "mnist-diffusion-1", "mnist-diffusion-1 --run quick --budget 5m",
      title=lambda request: request.what)  # fmt: skip
def distil(done: TrainResult, context: Context) -> Answer | str:
    """Turn a trained diffusion model into one that samples in one or two steps, by consistency tuning.

    The result is a run of its own, which begins with the weights of the first. It samples about ten times as fast and
    a little worse, and has no likelihood. --sampling.jumps is the number of its steps.
    """
    return _trained(done, context)


def _trained(done: TrainResult, context: Context) -> Answer | str:
    """A run that has come to its end, or was stopped by a signal and saved."""
    from quintet.cli.figures import trained

    if not done.stopped:
        return trained(done)
    what, fix = f"stopped by {done.stopped} and saved", f"quintet resume {done.address}"
    told = f"{done.run}: {what} at step {done.step:,} of {done.steps:,}"
    return context.stopped(done.facts(), what, told, done.run, fix)


# -- what a fitted model does ------------------------------------------------------------------------------------------


@asks(
    SampleRequest,
    "sampling.sample",
    "first -n 100 -o points.csv",
    "digits-gan-1 -n 64 --seed 7 -o grid.png     (or -o folder/, or .npz)",
    "digits-diffusion-1 --condition 3 --sampling.steps 20",
    'shakespeare --prompt "To be, or" --length 2000 --stream',
)
def sample(made: SampleResult, context: Context) -> str:
    """Draw new items from a model. The suffix of -o decides the format, and the file notes run, seed and settings.

    --length, --stop, --regex, --stream and --n-best are for texts of autoregressive models. --n-best writes a table
    with columns item, rank, log_prob (nats), score and text.
    """
    from quintet.cli.figures import counted

    return f"{counted(made.n, made.kind)} in {made.seconds:.2f} s: {made.output}"


@asks(
    ScoreRequest,
    "scoring.score",
    "first --data moons",
    "digits-flow-1 --split validation -o scores.csv",
    "claims-flow-1 --data new.csv --rank",
)
def score(found: ScoreResult, context: Context) -> str:
    """Say how likely each item of a source is under a model, and what kind of figure that is.

    The result is a CSV with one row for each item: its index, its log-likelihood in nats, the standard error, and a
    note if it was cut, replaced, unseen or scored in pieces. The index counts from 0; in a file of lines it is the
    number of the line, and blank lines are left out.
    With --rank the least likely items come first. Their column p is the share of the run's held-out items that are at
    most as likely. Few usual items have a small p, so items with p <= 0.01 are worth a look.
    For a classifier (--target COLUMN --condition text, image or audio) the columns are index, the item's own label if
    the source has one, the predicted label, the probability p_LABEL of each label, and nats.
    """
    from quintet.cli.figures import scored

    return scored(found)


@asks(
    CompleteRequest,
    "completing.complete",
    "adult-autoregressive-1 --data holes.csv -o filled.csv",
    "adult-autoregressive-1 --data people.csv --known age,sex --draws 5",
    "mnist-diffusion-1 --known top -n 16 -o halves.png",
    "shakespeare --data openings.txt -o continued.txt",
)
def complete(done: CompleteResult, context: Context) -> str:
    """Fill holes: continue texts and recordings, inpaint images, impute empty cells.

    A hole is an empty cell or a missing column of a table, a part that --known leaves out, each \u2588 of a text, and
    what would follow a text or recording that is shorter than those of the training data.
    """
    from quintet.cli.figures import counted

    text = f"{counted(done.n // done.draws, done.kind)} completed {done.draws} x in {done.seconds:.2f} s: {done.output}"
    if done.kept_pixels is not None:
        part = context.request.known or context.request.mask or "top"
        if Path(part).suffix:
            part = f"{'white' if context.request.mask is None else 'not marked'} in {part}"
        text += f"\nkept as they were: {done.kept_pixels:.0%} of each, {part}; the rest is new"
    return text


@asks(ReconstructRequest, "latents.reconstruct", "digits-vae-1 -n 16 --beside -o pairs.png",
      "digits-flow-1 --data photos/")  # fmt: skip
def reconstruct(done: ReconstructResult, context: Context) -> str:
    """Encode items and decode them again, which shows what the latents keep of them."""
    from quintet.cli.figures import counted

    error = f"mean absolute error {done.mean_absolute_error_encoded:.4g} (encoded)"
    return f"{counted(done.items, done.kind)}, {error}: {done.output}"


@asks(InterpolateRequest, "latents.interpolate", "digits-vae-1 -n 4 --steps 10 -o paths.png",
      "digits-flow-1 --data two.npz --steps 16")  # fmt: skip
def interpolate(done: InterpolateResult, context: Context) -> str:
    """Draw paths from one item to another through the latents, pair by pair."""
    from quintet.cli.figures import counted

    return f"{done.pairs} paths of {counted(done.steps, done.kind)}: {done.output}"


@asks(EncodeRequest, "latents.encode", "digits-vae-1 -o latents.csv", "digits-flow-1 --data photos/ -o latents.npz")
def encode(done: EncodeResult, context: Context) -> str:
    """Write the latents of items: one row for each item, with the columns z0, z1, ...

    A model of windows of long texts has one row for each window, in order, and a column item with the place of its
    text; the last window of a text ends where the text ends.
    """
    what, each = "windows" if done.windows else "items", " x ".join(map(str, done.shape))
    return f"latents of {done.n:,} {what}, {each} each: {done.output}"


# -- comparing ---------------------------------------------------------------------------------------------------------


@asks(EvaluateRequest, "measuring.evaluate", "first", "digits-vae-1 --split validation --samples 500",
      title=lambda request: Path(request.run).name)  # fmt: skip
def evaluate(found: EvaluateResult, context: Context) -> str:
    """Measure a model on unseen items: likelihood, sample quality, coverage, memorisation, speed.

    A classifier is measured by accuracy, log-loss and calibration. A model that writes a text for a given text, image
    or recording is measured by how near its texts are to the true ones; --sampling.FIELD VALUE says how they are
    written [the likeliest symbol at each step].

    If the model is slow, fewer samples and items are measured, as many as --budget has time for and at least 20, and
    the answer says how many.
    """
    from quintet.cli.figures import evaluated

    return evaluated(found.facts())


@asks(
    CompareRequest,
    "measuring.compare",
    "moons --budget 60s -o report.html",
    "digits --families vae,flow,diffusion --steps 500 --seeds 3",
    "digits-vae-1 digits-vae-2 digits-gan-1     (runs of the same data)",
    "monday.json tuesday.json -o both.html      (reports that were measured alike)",
    title=lambda request: " ".join(Path(one).name for one in request.what),
)
def compare(result: CompareResult, context: Context) -> Answer | str:
    """Say which model to keep: train several families on one source, or take runs that exist, and measure all alike.

    All have the same split, budget and figures. Runs that differ only in their seed count as one contender.
    """
    from quintet.cli.figures import compared

    found = result.facts()
    if not result.stopped or context.signals.received is None:
        return compared(found)
    what = f"{result.stopped}; what was finished is kept"
    return context.stopped(found, what, what, str(result.runs), "the same command goes on", compared(found))


@asks(RecommendRequest, "measuring.recommend", "digits", "people.csv --budget 10m --json")
def recommend(found: RecommendResult, context: Context) -> str:
    """Say before any training which family to begin with for each purpose, and why.

    The answer follows from the kind, size and shape of the data, the machine, the budget, and what was measured on
    similar data.
    """
    from quintet.cli.figures import recommended

    return recommended(found.facts())


@asks(ExportRequest, "exporting.export", "digits-vae-1", "digits-diffusion-1 --format torch -o denoiser/")
def export(done: ExportResult, context: Context) -> str:
    """Write a model as files that run without quintet, and export.json, which says what they take and give.

    Before a file is kept, it is run and compared with the model. Each file takes any number of items. The folder
    examples/export of the project has scripts that sample from these files with onnxruntime and NumPy alone.
    """
    lines = [f"  {name}: differs from the model by {by:.2g} at most" for name, by in done.differences.items()]
    return "\n".join([f"{done.bytes / 2**20:.1f} MiB in {done.output}", *lines])


@asks(PushRequest, "hub.push", "digits-vae-1 hf:me/digits", "first hf:me/first --private")
def push(done: PushResult, context: Context) -> str:
    """Put a run on the Hugging Face hub, so that others can use it as hf:owner/name wherever a run is named.

    The configuration, the codecs with some conditions of the training data, the weights that are used, figures, a
    picture and the card are uploaded; the optimiser and the data are not. Log in before by hf auth login or HF_TOKEN.
    """
    files = "\n  ".join(done.files)
    return f"{done.run} is now {done.repository} ({done.commit}), with these files:\n  {files}"


# -- what there is -----------------------------------------------------------------------------------------------------


@asks(InspectRequest, "inspecting.inspect", "first", "first --verify", "points.csv", "digits-vae-1-onnx/")
def inspect(found: Any, context: Context) -> str:
    """Show what a run is and how far it got, what an export holds, or which run, seed and settings made a file."""
    from quintet.cli.describe import inspected

    return inspected(found)


@asks(RunsRequest, "inspecting.runs", "", "--runs elsewhere/ --json")
def runs(found: Any, context: Context) -> str:
    """List the runs."""
    from quintet.cli.describe import listed

    return listed(found)


@asks(
    DataRequest,
    "sources.data",
    "",
    "digits -o preview.png",
    "photos/ --data.size 32     (or photos.zip, table.csv, hf:owner/name)",
)
def data(found: Any, context: Context) -> str:
    """List the sources, or show what was understood of one: kind, counts, columns, missing cells, duplicates, problems.

    -o writes a picture of some items. --data.size, fit, rate, unit, group and time say how a path is read.
    """
    from quintet.cli.sources import described, listed
    from quintet.operations.sources import SourceResult

    return described(found) if isinstance(found, SourceResult) else listed(found)


@asks(DoctorRequest, "checking.doctor", "", "--json")
def doctor(found: DoctorResult, context: Context) -> Answer:
    """Check this machine and this installation. The exit code is 4 if something prevents quintet from working."""
    from quintet.cli.describe import diagnosed

    return Answer(found.facts(), diagnosed(found), 4 if found.problems else 0)


def _script(request: CompletionRequest, on_event: OnEvent) -> CompletionResult:
    return CompletionResult(shell=request.shell, script=app.generate_completion(shell=request.shell))


@asks(CompletionRequest, _script, "bash > ~/.local/share/bash-completion/completions/quintet",
      "fish > ~/.config/fish/completions/quintet.fish")  # fmt: skip
def completion(found: CompletionResult, context: Context) -> str:
    """Print the script that completes verbs and options in a shell."""
    return found.script
