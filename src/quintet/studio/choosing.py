"""How a comparison is begun: what a form asks for, and which runs go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quintet.comparison.compare import same_data
from quintet.comparison.standing import REPORT
from quintet.core.errors import QuintetError, UsageError
from quintet.operations.requests import CompareRequest
from quintet.runs.folder import Run
from quintet.studio.house import Studio
from quintet.studio.keeping import folder_of
from quintet.studio.words import say

MOST = 200
"""Runs to choose from."""


def request_of(studio: Studio, given: Mapping[str, Any]) -> CompareRequest:
    """What a form asks for: runs, or reports of earlier comparisons, side by side."""
    many = {name: [str(one) for one in given.get(f"{name}[]") or given.get(name) or []] for name in ("runs", "reports")}
    what = [*many["runs"], *(str(folder_of(studio.root, name) / REPORT) for name in many["reports"])]
    if len(what) < 2:
        raise UsageError(f"a comparison needs at least two runs or reports, got {len(what)}", fix="choose two or more")
    return CompareRequest(what=tuple(what))


def title_of(request: CompareRequest, language: str) -> str:
    """What the queue calls it."""
    return say(language, "compare.job.runs", n=len(request.what))


def unlike(studio: Studio, first: str, others: Sequence[str]) -> dict[str, str]:
    """Why runs cannot be compared with the first, by their names."""
    chosen = Run(folder_of(studio.root, first))
    one, found = chosen.config(), dict[str, str]()
    for name in others:
        try:
            run = Run(folder_of(studio.root, name))
            same_data([chosen, run], [one, run.config()])
        except QuintetError as error:
            found[name] = error.why or error.what
    return found


def choices(studio: Studio, chosen: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Finished runs to choose from, those first that are chosen already, each with the reason why it cannot be compared
    with the first.
    """
    there = [studio.library.facts(name) for name in dict.fromkeys(chosen)]
    there += [one for one in studio.library.search(size=MOST).runs if one.name not in chosen]
    runs = [one for one in there if one.state == "finished"]
    reasons = unlike(studio, chosen[0], [one.name for one in runs]) if chosen else {}
    for one in runs:
        why = reasons.get(one.name, "")
        yield {"facts": one, "why": why, "chosen": one.name in chosen and not why}
