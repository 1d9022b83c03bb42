"""A command line as it is written, and values in it as they are written and read."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import accumulate
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
        return parsed(text, _loader())
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(what, where=where, why=str(error).splitlines()[0]) from None


MOST_VALUES = 100_000
"""Values that a text of YAML stands for at most: aliases of aliases can make billions of a few lines."""


DEEPEST = 100
"""Brackets within brackets in a text of YAML: of some hundreds each takes milliseconds to be read."""


def _nested(text: str) -> int:
    """How deep brackets are nested, if none of them stands in a string."""
    return max(accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text)), default=0)


def parsed(text: str, loader: Any) -> Any:
    """What a text of YAML says, by a loader. Raises yaml.YAMLError for one that stands for too much, or for itself."""
    import yaml

    if _nested(text) > DEEPEST:
        raise yaml.YAMLError(f"its brackets are nested more than {DEEPEST} deep")
    reader = loader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        if _stands_for(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")
        return reader.construct_document(node)
    finally:
        reader.dispose()


def _stands_for(node: Any, known: dict[int, float]) -> float:
    """How many values a node is with all that is below it, which an alias repeats; infinite for one within itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if isinstance(node.value, list) else ()
        each = (part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,)))
        known[id(node)] = 1 + sum(_stands_for(part, known) for part in each)
    return known[id(node)]


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
