"""What one request may cost: counted before anything is allocated."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.operations.conditions import DEFAULT
from quintet.operations.requests import Request, ServeRequest
from quintet.server.bodies import Upload
from quintet.server.problems import Refusal

COUNTS = ("n", "draws", "n_best", "steps", "samples")
"""Fields of requests that say of how many items something is made."""


def afford(limits: ServeRequest, model: Fitted, request: Request, found: Found) -> None:
    """Raise Refusal for a request of too many items, steps or symbols, or of too much of all of them together: items x
    numbers of an item x how many times the run's own settings of sampling.
    """
    beside = found.given if found.items is None else found.items
    items = DEFAULT if beside is None else len(beside)
    for name in COUNTS:
        if (count := getattr(request, name, None)) is not None:
            within(count, limits.most_items, name)
            items = count if name in ("n", "samples") else items * count
    within(items, limits.most_items, "items")
    length = getattr(request, "length", None) or model.family.space.dims
    if (regex := getattr(request, "regex", None)) is not None:
        small_enough(regex)
    within(items * length * effort(limits, model, request), limits.most_work, "items x numbers of an item x steps")


def effort(limits: ServeRequest, model: Fitted, request: Request) -> float:
    """How many times the work of the run's own settings, by the whole numbers among those that were given."""
    times, own = 1.0, model.sampling(None)
    asked = getattr(request, "sampling", {})
    for name, value in model.sampling(asked).model_dump(include=set(asked)).items():
        if type(value) is int:
            within(value, limits.most_steps, f"sampling.{name}")
            before: Any = getattr(own, name)
            times *= max(1.0, value / before if type(before) is int and before > 0 else value)
    return times


LINES = 20
"""Lines of a file to an item, beyond which it is not read."""


def few_lines(file: Upload, most: int) -> None:
    """Raise Refusal for a file of so many lines that it has more than `most` items: to be known before it is read."""
    if file.suffix in (".csv", ".txt", ".jsonl"):
        within(file.content.count(b"\n") / LINES, most, "items")


def within(count: float, most: int, what: str) -> None:
    """Raise Refusal for a count beyond its limit."""
    if count > most:
        raise Refusal(422, f"{what}: at most {most:,} in one request", fix="several requests of fewer")


TRIED = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
try:
    from outlines_core import Index, Vocabulary
    found = Index(json.load(sys.stdin), Vocabulary(256, {bytes([byte]): [byte] for byte in range(256)}))
except (ImportError, ValueError):
    sys.exit()
sys.exit(len(found.get_transitions()) > 5000)
"""
"""Makes the automaton of a regular expression over bytes; what is none is left to the model's own words."""


TRYING = threading.Semaphore(2)
"""So many expressions are tried at once: each may take a gigabyte."""


def small_enough(regex: str, seconds: float = 3.0) -> None:
    """Raise Refusal for a regular expression whose automaton takes long or is large: a short one may have billions of
    states, and nothing can stop the library that makes it, so that it is tried in another process first.
    """
    try:
        given = {"input": json.dumps(regex).encode(), "timeout": seconds, "capture_output": True}
        with TRYING:
            done = subprocess.run([sys.executable, "-I", "-c", TRIED], check=False, **given)  # type: ignore[call-overload]
        large = done.returncode != 0
    except subprocess.TimeoutExpired:
        large = True
    if large:
        raise Refusal(422, "this regular expression is too large", fix="fewer repetitions and alternatives")
