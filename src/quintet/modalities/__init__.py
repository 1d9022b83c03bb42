"""Kinds of data: how each is read, encoded, drawn and written."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from quintet.core.settings import Settings

KINDS = (
    "image",
    "text",
    "audio",
    "table",
    "series",
)
"""The folders here that are kinds of data, in the order in which a source is tried as each: `MODALITY` of their module
`modality` is what the registry has, and `OPTIONS` of their module `options` what users are told before that is loaded.
"""
Choices = Mapping[str, Any]
"""What was chosen of the options by which data are read, each by its name."""
NONE: Choices = MappingProxyType({})
"""Nothing was chosen."""


class Options(NamedTuple):
    """What a kind of data lets its user choose, known without torch, since the help of the command line is made of it.

    `reading`: how its sources are read, --data.NAME; without it there is nothing to choose. `known`: what --known means
    for its items. `settled`: options that its built-in sets refuse, and why. `extras`: what can be installed besides
    for it, as `pip install 'quintet[NAME]'`, and what for. `typed`: what its user may say of a column.
    """

    reading: type[Settings] = Settings
    known: str = ""
    settled: Mapping[str, str] = {}
    extras: Mapping[str, str] = {}
    typed: tuple[str, ...] = ()
