"""A command line as it is written, and values in it as they are written and read."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from quintet.core.errors import ConfigError

if TYPE_CHECKING:
    import yaml

SHORT = {"n": ("-n", "--n"), "output": ("-o", "--output")}
"""Options with a short name."""


def words(verb: str, places: Sequence[str], options: Iterable[tuple[str, str | bool]]) -> list[str]:
    """The words of a command line behind the name of the program: a verb, what stands in its places, and its options,
    those that are True by their names alone.
    """
    rest = [word for name, text in options for word in option(name, text)]
    dashed = any(word.startswith("-") for word in places)
    return [verb, *rest, "--", *places] if dashed else [verb, *places, *rest]


def line(verb: str, places: Sequence[str], options: Iterable[tuple[str, Any]]) -> str:
    """A command line as a shell takes it; options that are None are left unsaid."""
    said = [(name, str(value)) for name, value in options if value is not None]
    return shlex.join(["quintet", *words(verb, places, said)])


def option(name: str, text: str | bool) -> list[str]:
    """The words that give an option this text, or of a flag its name alone."""
    short, *long = SHORT.get(name, (f"--{name if '.' in name else name.replace('_', '-')}",))
    if isinstance(text, bool):
        return [short]
    return [f"{(*long, short)[0]}={text}"] if text.startswith("-") or not text else [short, text]


def as_yaml(value: Any) -> str:
    """What `read_yaml` reads as this value: a text, None, or lists and mappings of such; numbers become texts."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Mapping():
            return "{" + ", ".join(f"{inner(str(key))}: {inner(one)}" for key, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(inner, value)) + "]"
    return plain_or_quoted(str(value), "{}")


def inner(value: Any) -> str:
    """`as_yaml` within a list or a mapping, where commas and brackets mean something."""
    return plain_or_quoted(value, "{{{}: 0}}") if isinstance(value, str) else as_yaml(value)


def plain_or_quoted(text: str, place: str) -> str:
    """A text as it stands if it is read as itself in its place, else in quotes."""
    import yaml

    try:
        read = read_yaml(place.format(text), "", "")
    except ConfigError:
        read = None
    if read in (text, {text: "0"}):
        return text
    return str(yaml.dump(text, default_style='"', allow_unicode=True, width=float("inf"))).removesuffix("\n")


def read_yaml(text: str, what: str, where: str) -> Any:
    """Lists, mappings, null, and else texts as they are written: what a text means is decided by the setting that it is
    given to. YAML alone would take the column `no` for False, 0100 for 64 and 12:30 for 750.

    Raises ConfigError of `what` is wrong, `where`.
    """
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(what, where=where, why=str(error).splitlines()[0]) from None


@cache
def _loader() -> type[yaml.SafeLoader]:
    """YAML whose plain words are texts, but for null, and for << of mappings."""
    import yaml

    known = yaml.SafeLoader.yaml_implicit_resolvers
    kept = {
        first: [(tag, words) for tag, words in several if tag.endswith((":null", ":merge"))]
        for first, several in known.items()
    }
    return type("Texts", (yaml.SafeLoader,), {"yaml_implicit_resolvers": kept})
