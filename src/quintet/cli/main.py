"""The program: what is typed becomes a verb's request, and what comes of it is printed."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import CycloptsError, UnusedCliTokensError

from quintet.cli import commands, console, options, serving
from quintet.cli.console import Answer, Context, Signals, Stopped
from quintet.cli.standard_input import DASH, receive
from quintet.cli.verbs import EVERYWHERE, SETTINGS, app
from quintet.core.errors import QuintetError, UsageError

__all__ = ["app", "commands", "main", "serving"]

HYPHEN = f"./{DASH}"


def dispatch(tokens: Sequence[str], signals: Signals) -> Answer | None:
    """Run the verb that the tokens name. None where help or the version was printed."""
    sections, rest = options.extract(tokens)
    try:  # the parser takes a lone - for an option that has no name, so it is shown another spelling of it
        command, bound, ignored = app.parse_args(
            [HYPHEN if token == DASH else token for token in rest], print_error=False, exit_on_error=False
        )
    except CycloptsError as error:
        raise not_understood(error, rest) from None
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
        why = "a report is an HTML and a JSON file" if name == "compare" else "standard output is taken by --json"
        raise UsageError("-o - (standard output) cannot be used here", why=why, fix="name a file: -o FILE")
    _from_standard_input(name, bound.arguments, context)
    answer: Answer = command(*bound.args, **bound.kwargs)
    if bound.arguments.get("output") == DASH:  # the items are on standard output: what is said of them is not
        print(answer.text.removesuffix(DASH) + "standard output", file=sys.stderr, flush=True)
        return Answer(answer.data, "", answer.code)
    return answer


def not_understood(error: CycloptsError, tokens: Sequence[str]) -> UsageError:
    """What the parser says of these tokens, in our words where it says too little."""
    error.verbose = False
    words = [token for token in tokens if not token.startswith("-")]
    verb_name = words[0] if words and words[0] in SETTINGS else ""
    fix = f"quintet {verb_name} --help" if verb_name else "quintet --help"
    if not isinstance(error, UnusedCliTokensError) or not verb_name:
        return UsageError(str(error), fix=fix)
    left = list(error.unused_tokens or ())
    if verb_name == "train" and not left[0].startswith("-") and "--data" not in tokens:
        why, fix = "the data are named by the option --data", f"quintet train {words[1]} --data {shlex.quote(left[0])}"
    else:
        why = "it is neither one of its options, nor is there an argument left that it could be"
    return UsageError(f"quintet {verb_name} does not know what {left[0]!r} is", why=why, fix=fix)


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
