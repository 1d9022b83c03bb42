"""`push`: a run onto the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from quintet.fit import api
from quintet.operations.events import OnEvent, operation
from quintet.operations.fitted import Result
from quintet.operations.requests import PushRequest
from quintet.runs import hub
from quintet.runs.card import card, metadata


class PushResult(Result):
    """Where the run is now, and which files others see."""

    run: str
    repository: str
    commit: str
    files: list[str]


@operation
def push(request: PushRequest, on_event: OnEvent) -> PushResult:
    """Load a run, to be sure that it can be, and put a copy that needs no training data on the hub, with its card."""
    hub.repository(request.to)
    model = api.load(request.run, runs=request.runs)
    run = model.run
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / run.name
        folder.mkdir()
        text = card(run, model.family, model.codecs, address=request.to)
        files = hub.stage(run, folder, text, metadata(run, model.family, model.codecs))
        commit = hub.push(folder, request.to, private=request.private)
    return PushResult(run=str(run.path), repository=request.to, commit=commit, files=files)
