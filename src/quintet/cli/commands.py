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

    A run that was at its end warms up and decays once more in what is new; of any other the rest of its schedule is
    stretched. The same command again does nothing.
    """
    return _trained(done, context)


@asks(DistilRequest, "training.distil", "mnist-diffusion-1", "mnist-diffusion-1 --run quick --budget 5m",
      title=lambda request: request.what)  # fmt: skip
def distil(done: TrainResult, context: Context) -> Answer | str:
    """Make a trained diffusion model one that samples in one or two steps: a run of its own, which begins with its
    weights (consistency tuning).

    It samples ten times as fast and a little worse, and has no likelihood. It is sampled, evaluated and resumed as any
    other run; --sampling.jumps is the number of its steps.
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
    """Make new items. The suffix of -o decides the format; the file keeps a note of run, seed and settings.

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
    """Say how likely each item of a source is: a CSV of index, nats, stderr and note, and what kind of figure that is.

    The index is an item's place in the source, from 0; of a file of lines it is the line, and blank lines have none.

    Each item has one row, and a column note says what was cut, replaced, unseen or scored in pieces.
    Of a classifier (--target COLUMN --condition text, image or audio) it is a CSV of index, the item's own label where
    the source has one, the predicted label, the probability of each, p_LABEL, which are 1 together, and nats.
    With --rank the least likely come first, each with p: the share of the run's held-out items that are at most as
    likely. Few usual items have a small p, so items with p <= 0.01 are worth a look.
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

    The holes are the empty cells and lacking columns of a table, what --known leaves out, each \u2588 of a text, and
    what comes behind a text or recording that is shorter than those of the training data.
    """
    from quintet.cli.figures import counted

    text = f"{counted(done.n // done.draws, done.kind)} completed {done.draws} x in {done.seconds:.2f} s: {done.output}"
    if done.kept_pixels is not None:
        part = context.request.known or context.request.mask or "top"
        if Path(part).suffix:
            part = f"{'white' if context.request.mask is None else 'not marked'} in {part}"
        text += f"\nkept as they were: {done.kept_pixels:.0%} of the pixels, {part}; the others are new"
    return text


@asks(ReconstructRequest, "latents.reconstruct", "digits-vae-1 -n 16 --beside -o pairs.png",
      "digits-flow-1 --data photos/")  # fmt: skip
def reconstruct(done: ReconstructResult, context: Context) -> str:
    """Encode items and decode them again: what the latents keep."""
    from quintet.cli.figures import counted

    error = f"mean absolute error {done.mean_absolute_error_encoded:.4g} (encoded)"
    return f"{counted(done.items, done.kind)}, {error}: {done.output}"


@asks(InterpolateRequest, "latents.interpolate", "digits-vae-1 -n 4 --steps 10 -o paths.png",
      "digits-flow-1 --data two.npz --steps 16")  # fmt: skip
def interpolate(done: InterpolateResult, context: Context) -> str:
    """Go from one item to the next through the latents, pair by pair."""
    from quintet.cli.figures import counted

    return f"{done.pairs} paths of {counted(done.steps, done.kind)}: {done.output}"


@asks(EncodeRequest, "latents.encode", "digits-vae-1 -o latents.csv", "digits-flow-1 --data photos/ -o latents.npz")
def encode(done: EncodeResult, context: Context) -> str:
    """Write the latents of items: one row an item, columns z0, z1, ...

    Of a model of windows of long texts, one row a window, in order, with the place of its text in a column item; the
    last window of a text ends with it.
    """
    what, each = "windows" if done.windows else "items", " x ".join(map(str, done.shape))
    return f"latents of {done.n:,} {what}, {each} each: {done.output}"


# -- comparing ---------------------------------------------------------------------------------------------------------


@asks(EvaluateRequest, "measuring.evaluate", "first", "digits-vae-1 --split validation --samples 500",
      title=lambda request: Path(request.run).name)  # fmt: skip
def evaluate(found: EvaluateResult, context: Context) -> str:
    """Measure a model on unseen items: likelihood, sample quality, coverage, memorisation, speed.

    Of a classifier: accuracy, log-loss and calibration. Of texts that are given a text, an image or a recording: how
    near they are to the true ones, made as --sampling.FIELD VALUE says [the likeliest symbol at each step].

    Of a slow model as many samples and items are measured as --budget has time for, at least 20; the answer says so.
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
    """Say which model to keep: train several families on one source, or take runs, and measure all alike.

    The same split, budget and figures for all; runs that differ by their seed alone are one contender.
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

    From the data's kind, size and shape, the machine and the budget, and what was measured on sets like it.
    """
    from quintet.cli.figures import recommended

    return recommended(found.facts())


@asks(ExportRequest, "exporting.export", "digits-vae-1", "digits-diffusion-1 --format torch -o denoiser/")
def export(done: ExportResult, context: Context) -> str:
    """Write the parts of a model as files that run without quintet, and export.json, which says how.

    Each file is run and compared with the model before it is kept, and takes any number of items. Scripts that sample
    from these files with onnxruntime and NumPy alone are in the folder examples/export of the project.
    """
    lines = [f"  {name}: differs from the model by {by:.2g} at most" for name, by in done.differences.items()]
    return "\n".join([f"{done.bytes / 2**20:.1f} MiB in {done.output}", *lines])


@asks(PushRequest, "hub.push", "digits-vae-1 hf:me/digits", "first hf:me/first --private")
def push(done: PushResult, context: Context) -> str:
    """Put a run on the Hugging Face hub, for others to use as hf:owner/name wherever a run is named.

    Configuration, codecs with some training conditions, the weights that are used, figures, a picture and the card go
    there; the optimiser and the data do not. Log in before: hf auth login, or HF_TOKEN.
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

    -o writes a picture of some items. --data.size, fit, rate, unit, group, time: how a path is read.
    """
    from quintet.cli.sources import described, listed
    from quintet.operations.sources import SourceResult

    return described(found) if isinstance(found, SourceResult) else listed(found)


@asks(DoctorRequest, "checking.doctor", "", "--json")
def doctor(found: DoctorResult, context: Context) -> Answer:
    """Check this machine and installation; exit 4 if something stands in the way."""
    from quintet.cli.describe import diagnosed

    return Answer(found.facts(), diagnosed(found), 4 if found.problems else 0)


def _script(request: CompletionRequest, on_event: OnEvent) -> CompletionResult:
    return CompletionResult(shell=request.shell, script=app.generate_completion(shell=request.shell))


@asks(CompletionRequest, _script, "bash > ~/.local/share/bash-completion/completions/quintet",
      "fish > ~/.config/fish/completions/quintet.fish")  # fmt: skip
def completion(found: CompletionResult, context: Context) -> str:
    """Print the script that completes verbs and options in a shell."""
    return found.script
