"""Settings are frozen, and an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

LARGEST_NUMBER = 2**32 - 1
"""The largest whole number that any argument may be; every source of random numbers accepts it as a seed."""


class Settings(BaseModel):
    """Base of every settings class: immutable, no unknown keys, defaults validated, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def none_is_no_value(cls, data: Any) -> Any:
        """The word none, where a field may be without a value and is not a text: descriptions speak of it so."""
        if not isinstance(data, Mapping):
            return data
        kinds = {name: get_args(field.annotation) for name, field in cls.model_fields.items()}
        absent = {name for name, args in kinds.items() if NoneType in args and all(
            isinstance(kind, type) and kind is not str for kind in args)}  # fmt: skip
        return {name: None if value == "none" and name in absent else value for name, value in data.items()}


LIMITS = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}


def in_words(complaint: Mapping[str, Any]) -> str:
    """What pydantic complains of, without the value."""
    limits = complaint.get("ctx") or {}
    said = next((f"{words} {limits[key]:,}" for key, words in LIMITS.items() if key in limits), complaint["msg"])
    return f"{said[0].lower()}{said[1:]}"
