"""Recipes: what a family starts with on a kind of task, and presets over that, as YAML files in `quintet/recipes`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

from quintet.core.errors import ConfigError

RecipeSections = Mapping[str, Mapping[str, Any]]
RECIPE_SECTIONS = ("coding", "given", "model", "sampling", "training")
"""Of a RunConfig; a recipe sets some of their fields, and the others have the defaults of their settings."""
READABLE = "readable"
"""Beside the sections of a recipe: see `readable`."""


def recipe(family: str, kind: str) -> RecipeSections:
    """What a family starts with on tasks of this kind; {} where nothing but the defaults of its settings."""
    part = {key: value for key, value in recipe_file(family, kind).items() if key != READABLE}
    return sections(part, f"recipes/{family}/{kind}.yaml")


def readable(family: str, kind: str) -> int | None:
    """Steps, of batches of a few items, below which samples show noise or one colour; None where nobody has looked."""
    return recipe_file(family, kind).get(READABLE)


def presets(family: str) -> Mapping[str, RecipeSections]:
    """What each preset of a family lays over its recipes, by name; `small` is the recipe itself."""
    where = f"recipes/{family}/presets.yaml"
    return {name: sections(part, f"{where}: {name}") for name, part in recipe_file(family, "presets").items()}


@cache
def recipe_file(family: str, name: str) -> Mapping[str, Any]:
    """The content of a file; {} where there is none."""
    path = resources.files("quintet").joinpath("recipes", family, f"{name}.yaml")
    return yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {}


def sections(part: Mapping[str, Any], where: str) -> RecipeSections:
    """These sections, or ConfigError for an unknown one; fields within them are checked where they are resolved."""
    for name in part:
        if name not in RECIPE_SECTIONS:
            raise ConfigError(f"unknown section {name!r}", where=where, why=f"sections: {', '.join(RECIPE_SECTIONS)}")
    return part
