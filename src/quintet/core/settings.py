"""Settings are frozen, and an unknown key is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

LARGEST_NUMBER = 2**32 - 1
"""The largest whole number that any argument may be; every source of random numbers accepts it as a seed."""


class Settings(BaseModel):
    """Base of every settings class: immutable, no unknown keys, defaults validated, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
