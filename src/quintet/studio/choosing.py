"""How a comparison is begun: what a form asks for, and which runs go together."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quintet.comparison.compare import same_data
from quintet.comparison.standing import REPORT
from quintet.core.errors import QuintetError, UsageError
from quintet.operations.requests import CompareRequest
from quintet.operations.spoken import command, python
from quintet.registry import COMPARED
from quintet.runs.config import seconds
from quintet.runs.folder import Run
from quintet.studio.eta import MEASURED, START
from quintet.studio.forms import filled
from quintet.studio.house import Studio
from quintet.studio.keeping import folder_of
from quintet.studio.words import say

MOST = 200
"""Runs to choose from."""


def request_of(studio: Studio, given: Mapping[str, Any]) -> CompareRequest:
    """What the form asks for: a source, runs, or reports of earlier comparisons."""
    many = {name: [str(one) for one in given.get(f"{name}[]") or given.get(name) or []]
            for name in ("runs", "reports", "families")}  # fmt: skip
    source = str(given.get("source") or "").strip()
    if many["runs"] or many["reports"]:
        what = [*many["runs"], *(str(folder_of(studio.root, name) / REPORT) for name in many["reports"])]
        if len(what) < 2:
            raise UsageError("one alone is no comparison", fix="choose two or more")
        return CompareRequest(what=tuple(what))
    if not source:
        raise UsageError("the data are missing", fix="the name of a source, or the path of a file or folder")
    whole = set(many["families"]) in (set(COMPARED), set())
    budget = str(given.get("budget") or "60s").strip()
    seconds(budget)  # what is no time is refused now, and not when its turn comes
    reading = {name: str(text) for name, text in given.items() if name.startswith("data.")}
    return filled(CompareRequest, reading, what=(source,), families=None if whole else ",".join(many["families"]),
                  condition=str(given.get("condition") or "auto").strip(), budget=budget,
                  seeds=str(given.get("seeds") or "1").strip())  # fmt: skip


def spoken(request: CompareRequest) -> dict[str, Any]:
    """The command and the Python of a request, and about how many seconds it takes."""
    families = len(request.families.split(",")) if request.families else len(COMPARED)
    takes = families * request.seeds * (seconds(request.budget) * MEASURED + START) if request.budget else None
    return {"command": shlex.join(["quintet", *command(request)]), "python": python(request), "seconds": takes}


def title_of(request: CompareRequest, language: str) -> str:
    """What the queue calls it."""
    if len(request.what) > 1:
        return say(language, "compare.job.runs", n=len(request.what))
    return say(language, "compare.job.source", source=Path(request.what[0]).name)


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
