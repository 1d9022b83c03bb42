"""The program's frame: what a verb is, and the options that all verbs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from quintet import __version__
from quintet.cli.console import Answer, Context

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
Output = Annotated[str | None, Parameter(name=["-o", "--output"], help="where to write; the suffix decides the format")]
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
