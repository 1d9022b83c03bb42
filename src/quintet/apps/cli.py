"""The command line: one function a verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from quintet import __version__
from quintet.apps import console, options
from quintet.apps.console import Answer, Context, Progress, Signals, Stopped
from quintet.core.errors import EnvironmentFault, QuintetError, Unsupported, UsageError

app = App(
    name="quintet",
    help="Five families of deep generative models, one interface, honestly compared.",
    help_prologue="quintet compare digits --budget 60s\nquintet train flow --data moons --run first\n"
    "quintet sample first -n 100 -o points.csv\n",
    help_epilogue="Every verb takes --json: one JSON object on standard output, the rest on standard error.\n"
    "Exit codes: 0 fine, 2 usage, 3 data, file or configuration, 4 environment, 5 diverged, 130 and 143 signals.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative="", show_default=False),
)


@Parameter(name="*", group="Everywhere")
@dataclass(frozen=True)
class Everywhere:
    """Options of every verb."""

    runs: Annotated[Path | None, Parameter(help="folder of runs [$QUINTET_RUNS, or ./runs]")] = None
    json: Annotated[bool, Parameter(help="one JSON object on standard output")] = False


EVERYWHERE = Everywhere()
Given = Annotated[Context | None, Parameter(parse=False)]
RunName = Annotated[str, Parameter(help="a name under the runs folder, or a path")]
Output = Annotated[str | None, Parameter(name=["-o", "--output"])]
SETTINGS: dict[str, tuple[str, ...]] = {}
"""Which sections of settings a verb takes as --section.field VALUE."""


def verb(*examples: str, sections: tuple[str, ...] = ()) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a verb, with examples at the top of its help."""

    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        name = function.__name__.removesuffix("_")
        SETTINGS[function.__name__] = sections
        app.command(
            function, name=name, help_prologue="\n".join(f"quintet {name} {example}" for example in examples) + "\n"
        )
        return function

    return register


# -- training --------------------------------------------------------------------------------------------------------


@verb(
    "flow --data moons --budget 60s --run first",
    "diffusion --data digits --condition label --preset small",
    "vae --data digits --steps 500 --training.batch_size 64 --model.width 64",
    sections=options.SECTIONS,
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
    from quintet import api
    from quintet.apps import fitting
    from quintet.config import merge
    from quintet.data.sources import load_source

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
    options.check_fields(given, str(name))
    given.pop("steps" if budget is not None else "budget" if steps is not None else "", None)
    chosen: dict[str, Any] = {"target": target, "condition": condition, "codec": codec, "preset": preset}
    chosen |= {"budget": budget, "steps": steps, "config": given}
    chosen["seed"] = given.get("seed", 0) if seed is None else seed
    if dry_run or resume:
        dataset = load_source(str(source))
        planned = api.plan(str(name), dataset, **chosen)
        if dry_run:
            return fitting.dry(planned, dataset)
        assert run is not None
        if fitting.continues(planned, run, everywhere.runs):
            return _resume(run, everywhere, context)
    with Progress(f"{source} {name}") as progress:
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
    from quintet import api
    from quintet.apps.fitting import trained

    with Progress(run) as progress:
        model = api.resume(run, runs=everywhere.runs, changed_data=changed_data, report=progress.report,
                           on_trainer=context.signals.watch)  # fmt: skip
    return trained(model, context.signals)


# -- using a model ---------------------------------------------------------------------------------------------------


@verb(
    "first -n 100 -o points.csv",
    "digits-gan-1 -n 64 --seed 7 -o grid.png     (or -o folder/, or .npz)",
    "digits-diffusion-1 --condition 3 --sampling.steps 20",
    sections=("sampling",),
)
def sample(
    run: RunName,
    /,
    *,
    n: Annotated[int | None, Parameter(name=["-n", "--n"], help="how many [64, or one a line of --conditions]")] = None,
    seed: Annotated[int, Parameter(help="item i depends on the seed and i alone [0]")] = 0,
    condition: Annotated[str | None, Parameter(help="one value for all [drawn from the training data]")] = None,
    conditions: Annotated[Path | None, Parameter(help="a file with one value a line")] = None,
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Make new items. The suffix of -o decides the format; the file keeps a note of run, seed and settings."""
    from quintet import api, outputs
    from quintet.apps.conditions import read_conditions
    from quintet.apps.describe import provenance
    from quintet.runs import Run

    assert context is not None
    folder = Run.open(run, everywhere.runs)
    settings = context.sections.get("sampling", {})
    options.check_fields({"sampling": settings}, folder.config().family)
    kind = folder.codecs()["x"].name
    path = output or f"{folder.name}-seed{seed}{outputs.default_suffix(kind)}"
    outputs.check_output(path, kind)
    model = api.load(run, runs=everywhere.runs)
    values, n = read_conditions(model, condition, conditions, n)
    began = time.perf_counter()
    items = model.sample(n, seed=seed, condition=values, sampling=settings)
    spent = time.perf_counter() - began
    given = None if values is None else condition if condition is not None else [str(value) for value in values]
    note = provenance(
        folder, seed=seed, n=n, condition=given, sampling=model.sampling(settings).model_dump(mode="json")
    )
    files = outputs.write_items(path, items, note, top=outputs.top_of(model.codecs["x"]))
    data = {
        "run": str(folder.path),
        "n": n,
        "seed": seed,
        "kind": kind,
        "output": path,
        "files": files,
        "seconds": spent,
    }
    data |= {"ms_per_sample": 1000 * spent / n, "provenance": note}
    return Answer(data, f"{n:,} {kind} items in {spent:.2f} s: {path}")


@verb("first --data moons", "digits-flow-1 --data digits --split validation -o scores.csv")
def score(
    run: RunName,
    /,
    *,
    data: Annotated[str, Parameter(help="a source of the kind that the run was trained on")],
    split: str = "test",
    output: Output = None,
    seed: Annotated[int, Parameter(help="of the noise in bounds and estimates [0]")] = 0,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Say how likely each item of a source is: a CSV of index, nats and stderr, and what kind of figure that is."""
    import pyarrow as pa

    from quintet import api, outputs
    from quintet.apps.describe import provenance
    from quintet.apps.figures import likelihood_line
    from quintet.data.sources import load_source
    from quintet.registry import family_class
    from quintet.runs import Run
    from quintet.session import items_of

    folder = Run.open(run, everywhere.runs)
    family = family_class(folder.config().family)
    if family.likelihood == "none":  # before anything is loaded
        why = family.missing.get("log_prob", "")
        raise Unsupported(
            f"{family.name} has no log_prob", where=folder.name, why=why, fix="quintet train another family"
        )
    path = output or f"{folder.name}-{split}-scores.csv"
    outputs.check_output(path, "table")
    dataset = load_source(data)
    dataset.index(split)  # a split that does not exist is an error before weights are read
    model = api.load(run, runs=everywhere.runs)
    items, given = items_of(model.config, dataset, split)
    result = model.log_prob(items, condition=given, seed=seed)
    count = len(result.values)
    errors = result.stderr.double().numpy() if result.stderr is not None else pa.nulls(count, pa.float64())
    table = pa.table({"index": pa.array(range(count)), "nats": result.values.double().numpy(), "stderr": errors})
    note = provenance(folder, seed=seed, scored=data, split=split, kind=result.kind, space=result.space)
    files = outputs.write_items(path, table, note)
    summary = result.summary()
    facts = {"run": str(folder.path), "data": data, "split": split, "likelihood": summary}
    return Answer({**facts, "output": path, "files": files}, f"{likelihood_line(summary)}\n{count:,} items: {path}")


@verb("first", "digits-vae-1 --split validation --samples 500")
def evaluate(
    run: RunName,
    /,
    *,
    split: str = "test",
    samples: Annotated[int, Parameter(help="how many samples to measure [1000]")] = 1000,
    seed: int = 0,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Measure a model on unseen items: likelihood, sample quality, coverage, memorisation, speed."""
    from quintet import api
    from quintet.apps.figures import evaluated

    if samples < 20:
        raise UsageError(f"--samples {samples}: the figures need at least 20")
    model = api.load(run, runs=everywhere.runs)
    result = model.evaluate(split, samples=samples, seed=seed)
    data = {"run": str(model.run.path), "name": model.run.name, "likelihood_reason": None, **result}
    return Answer(data, evaluated(data))


@verb(
    "moons --budget 60s -o report.html",
    "digits --families vae,flow,diffusion --seeds 3",
    "moons --condition none --steps 500",
)
def compare(
    source: Annotated[str, Parameter(help="quintet data lists them")],
    /,
    *,
    families: Annotated[str | None, Parameter(help="names with commas between [all]")] = None,
    condition: Annotated[str, Parameter(help="a column, or none [label, where there is one]")] = "auto",
    budget: Annotated[str | None, Parameter(help="for each run [60s]")] = None,
    steps: Annotated[int | None, Parameter(help="for each run, instead of a budget")] = None,
    seeds: Annotated[int, Parameter(help="runs of each family [1]")] = 1,
    preset: Annotated[str | None, Parameter(help="classic, tiny, small or base [small]")] = None,
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Train several families on the same split and budget, measure all with the same figures, say which to keep."""
    from quintet import api
    from quintet.apps.figures import compared

    if budget is not None and steps is not None:
        raise UsageError("both --budget and --steps", fix="give one of them")
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: at least 1")
    names = [name.strip() for name in families.split(",") if name.strip()] if families else None
    given = None if condition == "none" else condition
    path = Path(output or f"compare-{Path(source).name}.html")
    with Progress(source) as progress:
        result = api.compare(source, families=names, condition=given, budget=budget, steps=steps, seeds=seeds,
                             preset=preset, output=path, runs=everywhere.runs, report=progress.report)  # fmt: skip
    return Answer(result, compared(result))


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
    from quintet.apps import describe
    from quintet.runs import Run

    if Path(what).is_file():
        return describe.describe_file(Path(what))
    run = Run.open(what, everywhere.runs)
    return describe.verify_run(run) if verify else describe.describe_run(run)


@verb("", "--runs elsewhere/ --json")
def runs(*, everywhere: Everywhere = EVERYWHERE, context: Given = None) -> Answer:
    """List the runs."""
    from quintet.apps.describe import list_runs

    return list_runs(everywhere.runs)


@verb("", "digits", "moons --json")
def data(
    source: Annotated[str | None, Parameter(help="one of the list [list them]")] = None,
    /,
    *,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """List the sources, or show one: kind, counts, splits, columns and ranges."""
    from quintet.apps import describe

    return describe.describe_source(source) if source else describe.list_sources()


@verb("", "--json")
def doctor(*, everywhere: Everywhere = EVERYWHERE, context: Given = None) -> Answer:
    """Check this machine and installation; exit 4 if something stands in the way."""
    try:
        from quintet.apps import describe
    except ImportError as error:
        raise EnvironmentFault("the installation is incomplete", why=str(error), fix="pip install quintet") from None
    return describe.doctor(everywhere.runs)


# -- the program -----------------------------------------------------------------------------------------------------


def dispatch(tokens: Sequence[str], signals: Signals) -> Answer | None:
    """Run the verb that the tokens name. None where help or the version was printed."""
    sections, rest = options.extract(tokens)
    try:
        command, bound, ignored = app.parse_args(rest, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        error.verbose = False
        verb_name = next((token for token in rest if not token.startswith("-")), "")
        raise UsageError(
            str(error), fix=f"quintet {verb_name} --help" if verb_name in SETTINGS else "quintet --help"
        ) from None
    if "context" not in ignored:  # --help and --version
        command(*bound.args, **bound.kwargs)
        return None
    name = command.__name__
    options.check_sections(sections, SETTINGS[name], name)
    bound.arguments["context"] = Context(sections, signals)
    answer: Answer = command(*bound.args, **bound.kwargs)
    return answer


def main(argv: Sequence[str] | None = None) -> int:
    """The program: returns the exit code, and never shows a traceback (QUINTET_DEBUG=1 does)."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in tokens
    with warnings.catch_warnings(), Signals() as signals:
        console.quiet()
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
