"""The program's frame: what a verb is, and the options that all verbs share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import App, Parameter
from pydantic.fields import FieldInfo

from quintet import __version__
from quintet.cli.console import Answer, Context
from quintet.operations.requests import SECTIONS, Local, Request

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

    runs: Annotated[Path | None, Parameter(help=Local.model_fields["runs"].description)] = None
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


# -- verbs whose options are the fields of a request ------------------------------------------------------------------

Q = TypeVar("Q", bound=Local)
SHORT = {"n": ["-n", "--n"], "output": ["-o", "--output"]}
"""Options with a short name."""
Kinds = inspect.Parameter


def asks(request: type[Q], *examples: str) -> Callable[[Callable[[Q, Context], Answer]], Callable[..., Answer]]:
    """Register a verb that answers a request. Its first field is the argument, its sections are --section.field VALUE,
    and the others are options, whose defaults and help are those of the fields.
    """

    def register(function: Callable[[Q, Context], Answer]) -> Callable[..., Answer]:
        signature = signature_of(request)
        sections = tuple(section for section, field in SECTIONS.items() if field in request.model_fields)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Answer:
            given = signature.bind(*args, **kwargs).arguments
            everywhere, context = given.pop("everywhere", EVERYWHERE), given.pop("context")
            context.json = everywhere.json
            given |= {SECTIONS[name]: values for name, values in context.sections.items()}
            return function(request(**given, runs=everywhere.runs), context)

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
        return verb(*examples, sections=sections)(call)

    return register


def signature_of(request: type[Request]) -> inspect.Signature:
    """The fields of a request as parameters of a verb."""
    fields = {name: field for name, field in request.model_fields.items() if name not in (*SECTIONS.values(), "runs")}
    parameters = [
        parameter(name, field, first=i == 0 or field.is_required()) for i, (name, field) in enumerate(fields.items())
    ]
    for name, kind, default in (("everywhere", Everywhere, EVERYWHERE), ("context", Given, None)):
        parameters.append(Kinds(name, Kinds.KEYWORD_ONLY, default=default, annotation=kind))
    return inspect.Signature(parameters)


def parameter(name: str, field: FieldInfo, *, first: bool) -> inspect.Parameter:
    """One field; behind its description stands its default, unless the description ends in what holds without it."""
    words = field.description or ""
    if type(field.default) in (int, str) and not words.endswith("]"):
        words += f" [{field.default}]"
    shown = Parameter(name=SHORT.get(name), help=words)
    annotation: Any = Annotated[field.annotation, shown]
    if first and field.annotation == tuple[str, ...]:
        return Kinds(name, Kinds.VAR_POSITIONAL, annotation=Annotated[str, shown])
    kind = Kinds.POSITIONAL_ONLY if first else Kinds.KEYWORD_ONLY
    return Kinds(name, kind, default=Kinds.empty if field.is_required() else field.default, annotation=annotation)
