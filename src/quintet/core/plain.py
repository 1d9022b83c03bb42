"""Values in what JSON has, as a person reads them, and texts in what a terminal shows."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """The same in what JSON has: no NaN, no numpy, no paths."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, tensors
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def readable(value: float, digits: int = 4) -> str:
    """A number to so many digits, written out where a person reads it so: 19,300 and not 1.93e+04."""
    if not 1e-5 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}" if abs(value) >= 10_000 else f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it: control characters but tabs and line ends, and changes of direction."""


def visible(text: str) -> str:
    """A text in which what would steer a terminal is written as an escape, as Python does."""
    return HIDDEN.sub(lambda found: repr(found[0])[1:-1], text)


def redraws() -> bool:
    """Whether standard error is a terminal on which a line can be written over. A cell of a notebook that runs a
    command gives it a terminal, too, but shows every state of a bar below the one before.
    """
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "JPY_PARENT_PID" not in os.environ
