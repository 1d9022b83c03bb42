"""How far training got, shown to programs: a line on a terminal's standard error, or in a notebook's cell."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Self

from quintet.core.plain import redraws

REFRESH_SECONDS = 0.2
"""Seconds between two changes of the line."""
BAR = 20


class ProgressLine:
    """Takes the records of training. It is silent where nobody watches: in pipes, files and tests."""

    def __init__(self, title: str) -> None:
        watched = redraws() or "ipykernel" in sys.modules
        self.title, self.watched = title, watched and os.environ.get("RANK", "0") == "0"
        self.began, self.shown = time.monotonic(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown:
            print(file=sys.stderr, flush=True)

    def __call__(self, record: Mapping[str, Any]) -> None:
        now, step, steps = time.monotonic(), record["step"], record["steps"]
        if self.watched and (now - self.shown > REFRESH_SECONDS or step == steps):
            self.shown = now
            done = BAR * step // max(steps, 1)
            left = (now - self.began) / max(step, 1) * (steps - step)
            bar = "#" * done + "-" * (BAR - done)
            print(f"\r{self.title} [{bar}] step {step:,}/{steps:,}, {left:.0f} s left   ", end="", file=sys.stderr,
                  flush=True)  # fmt: skip
