"""What in a configuration is not as it would be if nobody had said anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

from quintet.core.errors import QuintetError
from quintet.runs.config import RunConfig, resolve

ELSEWHERE = ("family", "codec", "plan", "device", "data.source", "data.condition", "data.target", "given.codec")
"""What a page says in other places, or nobody chooses."""


class Change(NamedTuple):
    """A setting with its value and its default."""

    key: str
    value: Any
    default: Any


def unlike_defaults(config: RunConfig) -> list[Change]:
    """Settings that differ from the defaults of the recipe to which the configuration is nearest."""
    mine = dict(flat(config.model_dump(mode="json")))
    found = [changes(mine, dict(flat(default))) for default in defaults(config)]
    return min(found, key=len, default=[])


def defaults(config: RunConfig) -> Iterator[dict[str, Any]]:
    """The complete configuration by each recipe of the family, with nothing said but what is modelled."""
    reads = config.given.get("codec")
    given = {"family": config.family, "codec": config.codec, "preset": config.preset,
             "data": {"source": config.data.source}}  # fmt: skip
    for kind in recipes(config.family):
        try:
            yield resolve(given, kind, None if reads is None else str(reads)).model_dump(mode="json")
        except QuintetError:  # a recipe for what this codec cannot be
            continue


def recipes(family: str) -> list[str]:
    """The kinds of task that a family has a recipe for."""
    folder = resources.files("quintet").joinpath("recipes", family)
    names = [one.name.removesuffix(".yaml") for one in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if name != "presets")


def changes(mine: Mapping[str, Any], default: Mapping[str, Any]) -> list[Change]:
    """The settings of the first in which the second differs."""
    return [Change(key, value, default.get(key)) for key, value in mine.items()
            if value != default.get(key) and key not in ELSEWHERE]  # fmt: skip


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
