"""A request as it is spoken: the command line that makes it, and the Python that does the same."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from quintet.core.errors import ConfigError
from quintet.core.typed import as_yaml, read_yaml, words
from quintet.operations import requests
from quintet.operations.requests import SECTIONS, Local
from quintet.operations.settings import as_meant


def verb_of(request: type[Local]) -> str:
    """The verb that makes such a request."""
    return request.__name__.removesuffix("Request").lower()


def spoken_fields(request: type[Local]) -> dict[str, FieldInfo]:
    """The fields that are arguments or options of its verb: all but those of every verb, and sections of settings."""
    return {name: one for name, one in request.model_fields.items() if name not in (*SECTIONS.values(), "runs")}


def by_place(request: type[Local]) -> list[str]:
    """Those of them that are arguments, known by their place: the first, and those that have no default."""
    return [name for i, (name, one) in enumerate(spoken_fields(request).items()) if i == 0 or one.is_required()]


# -- the command line --------------------------------------------------------------------------------------------------


def command(request: Local) -> list[str]:
    """The words after `quintet` that make this request; what has its default is left unsaid."""
    kind, places = type(request), by_place(type(request))
    given = {name: getattr(request, name) for name in (*spoken_fields(kind), "runs")}
    said = {name: value for name, value in given.items() if value != kind.model_fields[name].default}
    first = [text for name in places if name in said for text in texts(said.pop(name))]
    rest = [(name, text) for name, value in said.items() for text in ((True,) if value is True else texts(value))]
    rest += [(f"{section}.{name}", as_yaml(value)) for section, field in SECTIONS.items()
             for name, value in getattr(request, field, {}).items()]  # fmt: skip
    return words(verb_of(kind), first, rest)


def shell(request: Local) -> str:
    """The command line as a shell takes it."""
    return shlex.join(["quintet", *command(request)])


def texts(value: Any) -> list[str]:
    """What is typed for a field, once or several times."""
    return list(map(str, value)) if isinstance(value, tuple) else [str(value)]


# -- Python ------------------------------------------------------------------------------------------------------------

Call = tuple[str, list[Any], dict[str, Any]]
"""A function's name and its arguments, those by place and those by name."""
LINE = 60
"""Characters of a line; longer calls have an argument a line."""
EMPTY: tuple[Any, ...] = (None, {}, (), [])
"""Values that say nothing where the default is one of them."""


def python(request: Local) -> str:
    """Python that does the same and keeps the result in a variable; "" where Python has no word for it: what only the
    command line writes, and items that it draws.
    """
    match request:
        case requests.TrainRequest():
            from quintet.operations.training import arguments

            given = arguments(request)
            config = as_meant(given.pop("config"), given["family"])
            return script("model", ("train", [given.pop("family")], given | {"config": config}))
        case requests.CompareRequest():
            from quintet.operations import measuring

            return script("report", ("compare", list(request.what), measuring.arguments(request)))
        case requests.ResumeRequest():
            return script("model", ("resume", [request.run], request.model_dump(exclude={"run"})))
        case requests.DistilRequest():
            return script("model", ("distil", [request.what], request.model_dump(exclude={"what"})))
    call = asked_of_model(request)
    if call is None or not isinstance(request, requests.OfRun):
        return ""
    if str(condition := call[2].get("condition")).startswith("{"):
        with suppress(ConfigError):  # a row of several columns
            call[2]["condition"] = read_yaml(str(condition), "", "")
    loaded = script("model", ("load", [request.run], {"runs": request.runs}), other=any(map(is_path, call[1])))
    return f"{loaded}\nresult = {written('model', call)}"


def asked_of_model(request: Local) -> Call | None:
    """The method of a model that answers this request; None where there is none."""
    named = request.model_dump(exclude={*requests.OfItems.model_fields, "output", "beside"}, exclude_none=True)
    places = [] if (data := getattr(request, "data", None)) is None else [Path(data)]
    match request:
        case requests.SampleRequest(conditions=None):
            return sampling(request)
        case requests.EvaluateRequest():
            return "evaluate", [], named
        case requests.ScoreRequest(split=None) if places:
            return "rank" if named.pop("rank") else "log_prob", places, named
        case requests.CompleteRequest(known=None, mask=None, n=None) if places:
            return "complete", places, named
        case requests.ReconstructRequest(beside=False, n=None) if places:
            return "reconstruct", places, named
        case requests.EncodeRequest(split=None) if places:
            return "encode", places, named
    return None


def sampling(request: requests.SampleRequest) -> Call:
    """The method that makes these samples: `write` for texts that go on from a prompt or are limited, `complete` for
    prompts with holes.
    """
    from quintet.operations.conditions import DEFAULT
    from quintet.operations.sampling import stops
    from quintet.registry import MODALITIES

    given = request.model_dump(include={"condition", "seed", "sampling"})
    limits = {"length": request.length, "stop": stops(request), "regex": request.regex}
    alone = request.stream or request.n_best is not None
    n = request.n or (1 if alone else DEFAULT)
    if request.n_best is not None:
        return "n_best", [request.n_best], {"prompts": request.prompt or "", "n": n, **limits, **given}
    prompt = request.prompt or ""
    if any(kind.hole and kind.hole in prompt for kind in MODALITIES.values()) and not any(limits.values()):
        return "complete", [[prompt] * n], given
    if request.stream or request.prompt is not None or any(limits.values()):
        return "write", [request.prompt or ""], {"n": n, **limits, **given}
    return "sample", [n], given


def script(result: str, call: Call, *, other: bool = False) -> str:
    """A program that begins with a call of a function of `quintet`; `other`: whose later lines name paths."""
    first = "import pathlib\n\n" if other else ""
    return f"{first}import quintet\n\n{result} = {written('quintet', call)}"


def written(owner: str, call: Call) -> str:
    """A call as it is written, without what has its default: in one line, or an argument a line where it is long."""
    import quintet

    name, places, named = call
    parameters = inspect.signature(getattr(quintet if owner == "quintet" else quintet.Model, name)).parameters
    usual = {key: one.default for key, one in parameters.items()}
    said = {key: value for key, value in named.items() if value != usual[key] and (value not in EMPTY or usual[key])}
    by_name = [f"{key}={literal(str(value) if is_path(value) else value)}" for key, value in said.items()]
    words = [*map(literal, places), *by_name]
    line = f"{owner}.{name}({', '.join(words)})"
    return line if len(line) <= LINE else "\n".join([f"{owner}.{name}(", *(f"    {word}," for word in words), ")"])


def is_path(value: Any) -> bool:
    """Whether it is written as a path, which tells the name of a file from an item."""
    return isinstance(value, Path)


def literal(value: Any) -> str:
    """A value as code."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Path():
            return f"pathlib.Path({literal(str(value))})"
        case Mapping():
            return "{" + ", ".join(f"{literal(key)}: {literal(one)}" for key, one in value.items()) + "}"
        case [first, *rest] if len(rest) > 8 and all(one == first for one in rest):
            return f"[{literal(first)}] * {len(value)}"
        case list() | tuple():
            return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)
