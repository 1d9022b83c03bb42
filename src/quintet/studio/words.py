"""The catalogue: every text that pages show, in each language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = {"en": "English", "zh": "简体中文"}
"""The languages by their codes, each in its own words."""


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """The texts of a language by their keys; `{name}` stands for a value, and of `one|many` a count chooses."""
    text = resources.files("quintet.studio").joinpath("words", f"{language}.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found


def say(language: str, key: str, /, **values: Any) -> str:
    """A text with its values; of a text with two forms the first is for n = 1."""
    text = catalogue(language)[key]
    one, several, many = text.partition("|")
    if several:
        text = one if values.get("n") == 1 else many
    shown = {name: f"{value:,}" if type(value) is int else value for name, value in values.items()}
    return text.format_map(shown) if values else text


@cache
def translations() -> Mapping[str, str]:
    """What the fields of settings and requests mean, in Chinese, by the English words of their schemas."""
    text = resources.files("quintet.studio").joinpath("words", "zh.meanings.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found


def meaning(language: str, description: str) -> str:
    """What a field of settings or of a request means, in a language."""
    return translations().get(description, description) if language == "zh" else description


def for_scripts(language: str) -> dict[str, str]:
    """The texts that scripts show, by their keys without `js.`"""
    return {key[3:]: text for key, text in catalogue(language).items() if key.startswith("js.")}


def chosen(cookie: str | None, accept: str) -> str:
    """The language of a page: the one that was chosen, else the first that the browser likes."""
    if cookie in LANGUAGES:
        return cookie
    for part in accept.split(","):
        code = part.split(";")[0].strip().lower().partition("-")[0]
        if code in LANGUAGES:
            return code
    return "en"
