"""The command line: one function a verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import CycloptsError, Parameter

from quintet.cli import console, options, using
from quintet.cli.console import Answer, Context, Progress, Signals, Stopped
from quintet.cli.standard_input import DASH, receive
from quintet.cli.verbs import EVERYWHERE, SETTINGS, Everywhere, Given, Output, RunName, app, verb
from quintet.core.errors import EnvironmentFault, QuintetError, UsageError
from quintet.operations.requests import SECTIONS

__all__ = ["app", "main", "using"]


# -- training --------------------------------------------------------------------------------------------------------


@verb(
    "flow --data moons --budget 60s --run first",
    "diffusion --data digits --condition label --preset small",
    "vae --data digits --steps 500 --training.batch_size 64 --model.width 64",
    sections=tuple(SECTIONS),
)
def train(
    family: Annotated[str | None, Parameter(help="vae, gan, autoregressive, flow or diffusion")] = None,
    /,
    *,
    data: Annotated[str | None, Parameter(help="a source: quintet data lists them")] = None,
    target: Annotated[str | None, Parameter(help="the column to model [the items]")] = None,
    condition: Annotated[str | None, Parameter(help="the column that is given, e.g. label")] = None,
    codec: Annotated[str | None, Parameter(help="how items become tensors [as the data]")] = None,
    preset: Annotated[str | None, Parameter(help="classic, tiny, small or base [small]")] = None,
    budget: Annotated[str | None, Parameter(help="how long, e.g. 90s, 2m, 1h [60s]")] = None,
    steps: Annotated[int | None, Parameter(help="how many updates, instead of a budget")] = None,
    seed: Annotated[int | None, Parameter(help="of weights, data order and noise [0]")] = None,
    run: Annotated[str | None, Parameter(help="a name for the run [SOURCE-FAMILY-NUMBER]")] = None,
    config: Annotated[Path | None, Parameter(help="YAML like a run's config.yaml, complete or in part")] = None,
    resume: Annotated[Literal["auto"] | None, Parameter(help="auto: go on if the run exists already")] = None,
    dry_run: Annotated[bool, Parameter(help="show the complete configuration, write nothing")] = False,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Train one family on one source.

    Every setting is an option: --model.FIELD, --sampling.FIELD, --training.FIELD and --data.FIELD VALUE.
    --dry-run shows them all. Options win over --config, which wins over --preset.
    """
    from quintet.cli import fitting
    from quintet.fit import api
    from quintet.operations.settings import check_fields
    from quintet.runs.config import merge
    from quintet.sources.load import load_source

    assert context is not None
    if budget is not None and steps is not None:
        raise UsageError("both --budget and --steps", fix="give one of them")
    if resume and not run:
        raise UsageError("--resume auto needs the run's name", fix="--run NAME")
    given = merge(options.read_config(config), context.sections)
    name, source = family or given.get("family"), data or (given.get("data") or {}).get("source")
    if not name or not source:
        missing = "a family" if not name else "--data SOURCE"
        raise UsageError(f"{missing} is missing", fix="quintet train --help")
    check_fields(given, str(name))
    given.pop("steps" if budget is not None else "budget" if steps is not None else "", None)
    chosen: dict[str, Any] = {"target": target, "condition": condition, "codec": codec, "preset": preset}
    chosen |= {"budget": budget, "steps": steps, "seed": seed, "config": given}
    if dry_run or resume:
        dataset = load_source(str(source), **api.reading(given))
        planned = api.plan(str(name), dataset, **chosen)
        if dry_run:
            return fitting.dry(planned, dataset, everywhere.runs)
        assert run is not None
        if fitting.continues(planned, run, everywhere.runs):
            return _resume(run, everywhere, context)
    with Progress(f"{Path(str(source)).name} {name}") as progress:
        model = api.train(str(name), data=str(source), run=run, runs=everywhere.runs, report=progress.report,
                          on_trainer=context.signals.watch, **chosen)  # fmt: skip
    return fitting.trained(model, context.signals)


@verb("first", "runs/first --changed-data")
def resume(
    run: RunName,
    /,
    *,
    changed_data: Annotated[bool, Parameter(help="go on although the data are not the same")] = False,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Continue a run to its end, as if it had never stopped."""
    assert context is not None
    return _resume(run, everywhere, context, changed_data)


def _resume(run: str, everywhere: Everywhere, context: Context, changed_data: bool = False) -> Answer:
    from quintet.cli.fitting import trained
    from quintet.fit import api

    with Progress(run) as progress:
        model = api.resume(run, runs=everywhere.runs, changed_data=changed_data, report=progress.report,
                           on_trainer=context.signals.watch)  # fmt: skip
    return trained(model, context.signals)


Features = Annotated[
    str, Parameter(help="what distances are measured in: pca, learnt (a net trained on the data) or inception [pca]")
]


# -- comparing --------------------------------------------------------------------------------------------------


@verb("first", "digits-vae-1 --split validation --samples 500", sections=("sampling",))
def evaluate(
    run: RunName,
    /,
    *,
    split: Annotated[str, Parameter(help="what they are measured against: train, validation or test [test]")] = "test",
    samples: Annotated[int, Parameter(help="how many samples to measure [1000]")] = 1000,
    seed: Annotated[int, Parameter(help="of the samples and of bounds and estimates [0]")] = 0,
    features: Features = "pca",
    budget: Annotated[str | None, Parameter(help="how long it may take [as training did, 2m to 10m]")] = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Measure a model on unseen items: likelihood, sample quality, coverage, memorisation, speed.

    Of a classifier: accuracy, log-loss and calibration. Of texts that are given a text, an image or a recording: how
    near they are to the true ones, made as --sampling.FIELD VALUE says [the likeliest symbol at each step].

    Of a slow model as many samples and items are measured as --budget has time for, at least 20; the answer says so.
    """
    from quintet.cli.figures import evaluated
    from quintet.comparison import measuring
    from quintet.fit import api
    from quintet.operations.settings import check_fields

    _enough(samples)
    model = api.load(run, runs=everywhere.runs)
    assert context is not None
    settings = context.sections.get("sampling", {})
    check_fields({"sampling": settings}, model.config.family)
    with Progress(model.run.name) as progress:
        result = measuring.evaluate(model, split=split, samples=samples, seed=seed, sampling=settings,
                                    features=features, budget=budget, report=progress.report)  # fmt: skip
    data = {"run": str(model.run.path), "name": model.run.name, "likelihood_reason": None, **result}
    return Answer(data, evaluated(data))


@verb(
    "moons --budget 60s -o report.html",
    "digits --families vae,flow,diffusion --steps 500 --seeds 3",
    "digits-vae-1 digits-vae-2 digits-gan-1     (runs of the same data)",
    "monday.json tuesday.json -o both.html      (reports that were measured alike)",
    sections=("data",),
)
def compare(
    *what: Annotated[str, Parameter(help="a source to train on (quintet data lists them), or runs, or reports")],
    families: Annotated[str | None, Parameter(help="names with commas between [all]")] = None,
    condition: Annotated[str, Parameter(help="a column, or none [label, where there is one]")] = "auto",
    budget: Annotated[str | None, Parameter(help="for each run [60s]")] = None,
    steps: Annotated[int | None, Parameter(help="for each run, instead of a budget")] = None,
    parameters: Annotated[int | None, Parameter(help="about so many in each [the defaults' own]")] = None,
    seeds: Annotated[int, Parameter(help="runs of each family [1]")] = 1,
    preset: Annotated[str | None, Parameter(help="classic, tiny, small or base [small]")] = None,
    samples: Annotated[int, Parameter(help="how many samples of each run are measured [1000]")] = 1000,
    split: Annotated[str, Parameter(help="what they are measured against [test]")] = "test",
    features: Features = "pca",
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Say which model to keep: train several families on one source, or take runs, and measure all alike.

    The same split, budget and figures for all; runs that differ by their seed alone are one contender.
    """
    from quintet.cli.figures import compared
    from quintet.comparison import compare as comparison
    from quintet.comparison.compare import is_source

    if budget is not None and steps is not None:
        raise UsageError("both --budget and --steps", fix="give one of them")
    assert context is not None
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: at least 1")
    if parameters is not None and parameters < 1:
        raise UsageError(f"--parameters {parameters}: at least 1")
    _enough(samples)
    training: dict[str, Any] = {
        "families": families,
        "budget": budget,
        "steps": steps,
        "parameters": parameters,
        "preset": preset,
    }
    if what and not is_source(what, everywhere.runs):
        vain = [f"--{name}" for name, value in training.items() if value is not None]
        vain += [f"--data.{field}" for field in context.sections.get("data", {})]
        if vain:
            raise UsageError(f"{', '.join(vain)}: only for a source", why="runs have been trained already")
    names = [name.strip() for name in families.split(",") if name.strip()] if families else None
    given = None if condition == "none" else condition
    path = Path(output or f"compare-{Path(what[0]).name if what else ''}.html")
    with Progress(" ".join(Path(one).name for one in what)) as progress:
        result = comparison.compare(*what, **training | {"families": names}, condition=given, seeds=seeds,
                             samples=samples,
                             split=split, features=features, output=path, runs=everywhere.runs,
                             report=progress.report, config=dict(context.sections),
                             on_trainer=context.signals.watch)  # fmt: skip
    if (received := context.signals.received) is not None and "stopped" in result:
        what_for, fix = f"stopped by {received.name}; what was finished is kept", "the same command goes on"
        print(f"{what_for}\n  go on: {fix}", file=sys.stderr)
        stop = {"error": "Stopped", "what": what_for, "where": result["runs"], "why": "", "fix": fix}
        return Answer({**result, **stop}, compared(result), 128 + received)
    return Answer(result, compared(result))


def _enough(samples: int) -> None:
    if samples < 20:
        raise UsageError(f"--samples {samples}: the figures need at least 20")


@verb("digits", "people.csv --budget 10m --json", sections=("data",))
def recommend(
    source: Annotated[str, Parameter(help="quintet data lists them")],
    /,
    *,
    budget: Annotated[str, Parameter(help="how long each may train [60s]")] = "60s",
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Say before any training which family to begin with for each purpose, and why.

    From the data's kind, size and shape, the machine and the budget, and what was measured on sets like it.
    """
    from quintet.cli.figures import recommended
    from quintet.comparison.recommend import recommendation
    from quintet.fit import api
    from quintet.runs.config import seconds
    from quintet.sources.load import load_source

    assert context is not None
    dataset = load_source(source, **api.reading(context.sections))
    found = recommendation(dataset, seconds(budget), dict(context.sections))
    return Answer(found, recommended(found))


# -- looking ---------------------------------------------------------------------------------------------------------


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


@verb(
    "",
    "digits -o preview.png",
    "photos/ --data.size 32     (or photos.zip, table.csv, hf:owner/name)",
    sections=("data",),
)
def data(
    source: Annotated[str | None, Parameter(help="a name, a path or hf:owner/name [list the names]")] = None,
    /,
    *,
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """List the sources, or show what was understood of one: kind, counts, columns, missing cells, duplicates, problems.

    -o writes a picture of some items. --data.size, fit, rate, unit, group, time: how a path is read.
    """
    from quintet.cli import sources

    assert context is not None
    if source is None:
        return sources.list_sources()
    from quintet.fit import api

    return sources.describe_source(source, output=output, **api.reading(context.sections))


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
