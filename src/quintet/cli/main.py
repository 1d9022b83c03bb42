"""The command line: one function a verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import CycloptsError, Parameter

from quintet.cli import console, options, serving, using
from quintet.cli.console import Answer, Context, Signals, Stopped
from quintet.cli.standard_input import DASH, receive
from quintet.cli.verbs import EVERYWHERE, SETTINGS, Everywhere, Given, app, asks, verb
from quintet.core.errors import EnvironmentFault, QuintetError, UsageError
from quintet.operations.requests import (
    CompareRequest,
    DataRequest,
    EvaluateRequest,
    PushRequest,
    RecommendRequest,
    ResumeRequest,
    TrainRequest,
)

if TYPE_CHECKING:
    from quintet.operations.training import TrainResult

__all__ = ["app", "main", "serving", "using"]


# -- training --------------------------------------------------------------------------------------------------------


@asks(
    TrainRequest,
    "flow --data moons --budget 60s --run first",
    "diffusion --data digits --condition label --preset small",
    "vae --data digits --steps 500 --training.batch_size 64 --model.width 64",
)
def train(request: TrainRequest, context: Context) -> Answer:
    """Train one family on one source.

    Every setting is an option: --model.FIELD, --sampling.FIELD, --training.FIELD and --data.FIELD VALUE.
    --dry-run shows them all. Options win over --config, which wins over --preset.
    """
    from quintet.cli.figures import planned
    from quintet.operations.training import PlanResult, asked, train

    family, source, _ = asked(request)
    with context.showing(f"{Path(source).name} {family}") as on_event:
        done = train(request, on_event)
    return Answer(done.facts(), planned(done)) if isinstance(done, PlanResult) else _trained(done, context)


@asks(ResumeRequest, "first", "runs/first --changed-data")
def resume(request: ResumeRequest, context: Context) -> Answer:
    """Continue a run to its end, as if it had never stopped."""
    from quintet.operations.training import resume

    with context.showing(request.run) as on_event:
        done = resume(request, on_event)
    return _trained(done, context)


def _trained(done: TrainResult, context: Context) -> Answer:
    """A run that has come to its end, or was stopped by a signal and saved."""
    from quintet.cli.figures import trained

    if not done.stopped:
        return Answer(done.facts(), trained(done))
    what, fix = f"stopped by {done.stopped} and saved", f"quintet resume {done.address}"
    told = f"{done.run}: {what} at step {done.step:,} of {done.steps:,}"
    return context.stopped(done.facts(), what, told, done.run, fix)


# -- comparing --------------------------------------------------------------------------------------------------


@asks(EvaluateRequest, "first", "digits-vae-1 --split validation --samples 500")
def evaluate(request: EvaluateRequest, context: Context) -> Answer:
    """Measure a model on unseen items: likelihood, sample quality, coverage, memorisation, speed.

    Of a classifier: accuracy, log-loss and calibration. Of texts that are given a text, an image or a recording: how
    near they are to the true ones, made as --sampling.FIELD VALUE says [the likeliest symbol at each step].

    Of a slow model as many samples and items are measured as --budget has time for, at least 20; the answer says so.
    """
    from quintet.cli.figures import evaluated
    from quintet.operations.measuring import evaluate

    with context.showing(Path(request.run).name) as on_event:
        found = evaluate(request, on_event).facts()
    return Answer(found, evaluated(found))


@asks(
    CompareRequest,
    "moons --budget 60s -o report.html",
    "digits --families vae,flow,diffusion --steps 500 --seeds 3",
    "digits-vae-1 digits-vae-2 digits-gan-1     (runs of the same data)",
    "monday.json tuesday.json -o both.html      (reports that were measured alike)",
)
def compare(request: CompareRequest, context: Context) -> Answer:
    """Say which model to keep: train several families on one source, or take runs, and measure all alike.

    The same split, budget and figures for all; runs that differ by their seed alone are one contender.
    """
    from quintet.cli.figures import compared
    from quintet.operations.measuring import compare

    with context.showing(" ".join(Path(one).name for one in request.what)) as on_event:
        result = compare(request, on_event)
    found = result.facts()
    if not result.stopped or context.signals.received is None:
        return Answer(found, compared(found))
    what = f"{result.stopped}; what was finished is kept"
    return context.stopped(found, what, what, str(result.runs), "the same command goes on", compared(found))


@asks(RecommendRequest, "digits", "people.csv --budget 10m --json")
def recommend(request: RecommendRequest, context: Context) -> Answer:
    """Say before any training which family to begin with for each purpose, and why.

    From the data's kind, size and shape, the machine and the budget, and what was measured on sets like it.
    """
    from quintet.cli.figures import recommended
    from quintet.operations.measuring import recommend

    found = recommend(request, context.on_event).facts()
    return Answer(found, recommended(found))


@asks(PushRequest, "digits-vae-1 hf:me/digits", "first hf:me/first --private")
def push(request: PushRequest, context: Context) -> Answer:
    """Put a run on the Hugging Face hub, for others to use as hf:owner/name wherever a run is named.

    Configuration, codecs with some training conditions, the weights that are used, figures, a picture and the card go
    there; the optimiser and the data do not. Log in before: hf auth login, or HF_TOKEN.
    """
    from quintet.operations.hub import push

    done = push(request, context.on_event)
    files = "\n  ".join(done.files)
    return Answer(done.facts(), f"{done.run} is now {done.repository} ({done.commit}), with these files:\n  {files}")


@verb("first", "first --verify", "points.csv")
def inspect(
    what: Annotated[str, Parameter(help="a run, or a file that quintet wrote")],
    /,
    *,
    verify: Annotated[bool, Parameter(help="check every digest of every checkpoint")] = False,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Show what a run is and how far it got, or which run, seed and settings made a file."""
    from quintet.cli import describe
    from quintet.runs.folder import Run

    if Path(what).is_file():
        return describe.describe_file(Path(what))
    run = Run.open(what, everywhere.runs)
    return describe.verify_run(run) if verify else describe.describe_run(run)


@verb("", "--runs elsewhere/ --json")
def runs(*, everywhere: Everywhere = EVERYWHERE, context: Given = None) -> Answer:
    """List the runs."""
    from quintet.cli.describe import list_runs

    return list_runs(everywhere.runs)


@asks(
    DataRequest,
    "",
    "digits -o preview.png",
    "photos/ --data.size 32     (or photos.zip, table.csv, hf:owner/name)",
)
def data(request: DataRequest, context: Context) -> Answer:
    """List the sources, or show what was understood of one: kind, counts, columns, missing cells, duplicates, problems.

    -o writes a picture of some items. --data.size, fit, rate, unit, group, time: how a path is read.
    """
    from quintet.cli.sources import described, listed
    from quintet.operations.sources import SourceResult, data

    found = data(request, context.on_event)
    return Answer(found.facts(), described(found) if isinstance(found, SourceResult) else listed(found))


@verb("", "--json")
def doctor(*, everywhere: Everywhere = EVERYWHERE, context: Given = None) -> Answer:
    """Check this machine and installation; exit 4 if something stands in the way."""
    try:
        from quintet.cli.doctor import doctor
    except ImportError as error:
        raise EnvironmentFault("the installation is incomplete", why=str(error), fix="pip install quintet") from None
    return doctor(everywhere.runs)


@verb("bash > ~/.local/share/bash-completion/completions/quintet", "fish > ~/.config/fish/completions/quintet.fish")
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="bash, zsh or fish")],
    /,
    *,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Print the script that completes verbs and options in a shell."""
    script = app.generate_completion(shell=shell)
    return Answer({"shell": shell, "script": script}, script)


# -- the program -----------------------------------------------------------------------------------------------------


HYPHEN = f"./{DASH}"


def dispatch(tokens: Sequence[str], signals: Signals) -> Answer | None:
    """Run the verb that the tokens name. None where help or the version was printed."""
    sections, rest = options.extract(tokens)
    try:  # the parser takes a lone - for an option that has no name, so it is shown another spelling of it
        command, bound, ignored = app.parse_args(
            [HYPHEN if token == DASH else token for token in rest], print_error=False, exit_on_error=False
        )
    except CycloptsError as error:
        error.verbose = False
        verb_name = next((token for token in rest if not token.startswith("-")), "")
        raise UsageError(
            str(error), fix=f"quintet {verb_name} --help" if verb_name in SETTINGS else "quintet --help"
        ) from None
    if "context" not in ignored:  # --help and --version
        command(*bound.args, **bound.kwargs)
        _sampling_help(rest)
        return None
    name = command.__name__
    options.check_sections(sections, SETTINGS[name], name)
    bound.arguments["context"] = context = Context(sections, signals)
    if bound.arguments.get("output") in (HYPHEN, Path(HYPHEN)):
        bound.arguments["output"] = DASH
    if bound.arguments.get("output") == DASH and ("--json" in rest or name in ("compare", "train")):
        why = "an HTML and a JSON file are written" if name == "compare" else "--json takes standard output"
        raise UsageError("-o - does not go here", why=why, fix="-o FILE")
    _from_standard_input(name, bound.arguments, context)
    answer: Answer = command(*bound.args, **bound.kwargs)
    if bound.arguments.get("output") == DASH:  # the items are on standard output: what is said of them is not
        print(answer.text.removesuffix(DASH) + "standard output", file=sys.stderr, flush=True)
        return Answer(answer.data, "", answer.code)
    return answer


def _sampling_help(tokens: Sequence[str]) -> None:
    """Behind the help of a verb that takes --sampling.FIELD: the fields of the named run's family."""
    words = [token for token in tokens if not token.startswith("-")]
    if not words or "sampling" not in SETTINGS.get(words[0], ()) or words[0] == "train":
        return
    if len(words) == 1:
        print(f"\nquintet {words[0]} RUN --help also lists the --sampling options of that run's family.")
        return
    from quintet.registry import family_class
    from quintet.runs.folder import Run

    folder = tokens[tokens.index("--runs") + 1] if "--runs" in tokens[:-1] else None
    config = Run.open(words[1], folder).config()
    fields = family_class(config.family).Sampling.model_fields
    print(f"\nSampling options of {words[1]} ({config.family}), with this run's values:")
    rows = [
        (f"  --sampling.{name}", f"{field.description or ''} [{config.sampling.get(name, field.default)}]".strip())
        for name, field in fields.items()
    ]
    print(console.columns(rows) if rows else "  none")


def _from_standard_input(name: str, arguments: dict[str, Any], context: Context) -> None:
    """Replace a source that is - by the file that standard input becomes.

    Data that are trained on are kept beside the runs, since a run reads them again when it is resumed or evaluated.
    """
    for key in ("data", "source", "what"):
        value = arguments.get(key)
        if value in (HYPHEN, (HYPHEN,)):
            if name in ("train", "compare"):
                everywhere = arguments.get("everywhere", EVERYWHERE)
                folder = Path(everywhere.runs or os.environ.get("QUINTET_RUNS") or "runs") / "stdin"
            else:
                folder = context.temporary()
            path = str(receive(folder))
            arguments[key] = (path,) if key == "what" else path


def main(argv: Sequence[str] | None = None) -> int:
    """The program: returns the exit code, and never shows a traceback (QUINTET_DEBUG=1 does)."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in tokens
    with warnings.catch_warnings(), Signals() as signals:
        console.quiet()
        console.lenient()
        try:
            answer = dispatch(tokens, signals)
            if answer is None:
                return 0
            if answer.text or as_json:
                console.show(answer, as_json)
            return answer.code
        except QuintetError as error:
            return console.complain(error, as_json)
        except KeyboardInterrupt as error:
            received = error.received if isinstance(error, Stopped) else signal.SIGINT
            return console.halted(received, as_json)
        except BrokenPipeError:  # the reader went away: nothing is wrong, and nothing can be said
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return console.BROKEN_PIPE
        except Exception as error:
            return console.unexpected(error, as_json)
