"""Settings are frozen, and an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

LARGEST_NUMBER = 2**32 - 1
"""The largest whole number that any argument may be; every source of random numbers accepts it as a seed."""


class Settings(BaseModel):
    """Base of every settings class: immutable, no unknown keys, defaults validated, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


LIMITS = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}


def in_words(complaint: Mapping[str, Any]) -> str:
    """What pydantic complains of, without the value."""
    limits = complaint.get("ctx") or {}
    said = next((f"{words} {limits[key]:,}" for key, words in LIMITS.items() if key in limits), complaint["msg"])
    return f"{said[0].lower()}{said[1:]}"
