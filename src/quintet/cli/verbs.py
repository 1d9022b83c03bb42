"""The program's frame: what a verb is, and the options that all verbs share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic.fields import FieldInfo

from quintet import __version__
from quintet.cli.console import Answer, Context
from quintet.core.errors import EnvironmentFault
from quintet.core.typed import SHORT
from quintet.operations.events import OnEvent
from quintet.operations.requests import SECTIONS, Local
from quintet.operations.spoken import by_place, spoken_fields

app = App(
    name="quintet",
    help="Five families of deep generative models, one interface, honestly compared.",
    help_prologue="quintet compare digits --budget 60s\nquintet train flow --data moons --run first\n"
    "quintet sample first -n 100 -o points.csv\n",
    help_epilogue="Every verb takes --json: one JSON object on standard output, the rest on standard error.\n"
    "Exit codes: 0 fine, 2 usage, 3 data, file or configuration, 4 environment, 5 diverged, 129, 130 and 143 signals.",
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
SETTINGS: dict[str, tuple[str, ...]] = {}
"""Which sections of settings a verb takes as --section.field VALUE."""


Operation = Callable[[Any, OnEvent], Any]
Words = Callable[[Any, Context], "Answer | str"]
"""What came of a verb, for people: of its result, and what the program gave to it."""
Kinds = inspect.Parameter


def asks(
    request: type[Local], operation: str | Operation, *examples: str, title: Callable[[Any], str] | None = None
) -> Callable[[Words], Callable[..., Answer]]:
    """Register the verb of a request that the `operation` answers, "module.function" of quintet's operations, which is
    imported when the verb runs. Examples stand at the top of its help. What is decorated says in words what came of it.

    The first field of the request is the argument, its sections are --section.field VALUE, and the others are options,
    whose defaults and help are those of the fields. `title`, of a verb whose progress is shown: that of a request.
    """

    def register(words: Words) -> Callable[..., Answer]:
        signature, name = signature_of(request), words.__name__

        @wraps(words)
        def call(*args: Any, **kwargs: Any) -> Answer:
            given = signature.bind(*args, **kwargs).arguments
            everywhere, context = given.pop("everywhere", EVERYWHERE), given.pop("context")
            context.json = everywhere.json
            given |= {SECTIONS[name]: values for name, values in context.sections.items()}
            context.request = request(**given, runs=everywhere.runs)
            work = imported(operation) if isinstance(operation, str) else operation
            with nullcontext() if title is None else context.showing(title(context.request)):
                done = work(context.request, context.on_event)
            told = words(done, context)
            return told if isinstance(told, Answer) else Answer(done.facts(), told)

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
        SETTINGS[name] = tuple(section for section, field in SECTIONS.items() if field in request.model_fields)
        app.command(call, name=name, help_prologue="".join(f"quintet {name} {example}\n" for example in examples))
        return call

    return register


def imported(operation: str) -> Operation:
    """The function of that name. Raises EnvironmentFault where what it needs is not installed."""
    module, _, function = f"quintet.operations.{operation}".rpartition(".")
    try:
        found: Operation = getattr(import_module(module), function)
    except ImportError as error:
        raise EnvironmentFault("the installation is incomplete", why=str(error), fix="pip install quintet") from None
    return found


def signature_of(request: type[Local]) -> inspect.Signature:
    """The fields of a request as parameters of a verb."""
    places = by_place(request)
    parameters = [parameter(name, field, first=name in places) for name, field in spoken_fields(request).items()]
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
