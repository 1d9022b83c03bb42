"""`push`: a run onto the Hugging Face hub."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from quintet.fit import fitting
from quintet.operations.events import OnEvent, operation
from quintet.operations.requests import PushRequest
from quintet.operations.results import Result
from quintet.runs import hub
from quintet.runs.card import card, metadata
from quintet.runs.digests import CODEC, MANIFEST, NAME, Digests
from quintet.runs.folder import Run
from quintet.runs.restoring import stage_of
from quintet.training import checkpoint


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
    model = fitting.load(request.run, runs=request.runs)
    run = model.run
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / run.name
        folder.mkdir()
        text = card(run, model.family, model.codecs, address=request.to)
        files = stage(run, folder, text, metadata(run, model.family, model.codecs))
        commit = hub.push(folder, request.to, private=request.private)
    return PushResult(run=str(run.path), repository=request.to, commit=commit, files=files)


def stage(run: Run, folder: Path, card: str, metadata: Mapping[str, Any]) -> list[str]:
    """Copy into `folder` what others need to use a run, and return the paths in it.

    That is the configuration, the codecs with some of the training conditions, the weights that the run selects, the
    metrics, the newest picture of samples and the card. The optimiser stays at home, and so does the path of the data:
    only its last part goes along.
    """
    config = run.config()
    found = run.selected(config)
    shutil.copytree(run.path / "codec", folder / "codec")
    copy = Run(folder)
    copy.write_config(config)
    without_paths(copy)
    made = {key: value for key, value in run.manifest().items() if key not in ("asked", "config")}
    copy.kept.write(MANIFEST, json.dumps(made, indent=1))
    step = int(found.state["step"])
    weights = {group: tensors for group, tensors in found.tensors.items() if group in ("model", "ema")}
    checkpoint.save(copy.checkpoints, step, weights, {"step": step}, keep=1)
    for record in run.metrics():
        copy.records.log(record)
    pictures = sorted((run.path / "samples").glob("*.png"))[-1:]
    for picture in pictures:
        (folder / "samples").mkdir()
        shutil.copyfile(picture, folder / "samples" / picture.name)
    shown = f"\n![samples](samples/{pictures[0].name})\n" if pictures else ""
    digests = Digests.of(folder, every=True)
    digests.write(folder)
    head = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    card = card.replace(f"`{config.data.source}`", f"`{at_home(config.data.source)}`")
    (folder / "README.md").write_text(f"---\n{head}---\n{card}{shown}")
    return [*digests.files, NAME, "README.md"]


def without_paths(copy: Run) -> None:
    """Take the path of the data out of a copied run, and of the autoencoder that its codec may need."""
    config = copy.config()
    source = at_home(config.data.source)
    copy.write_config(config.model_copy(update={"data": config.data.model_copy(update={"source": source})}))
    autoencoder = stage_of(copy)
    if autoencoder.path.is_dir():
        without_paths(autoencoder)
        digests = {"files": autoencoder.digests()}
        codecs = {key: one | digests if "files" in one else one for key, one in copy.json(CODEC).items()}
        copy.kept.write(CODEC, json.dumps(codecs, indent=1))
    Digests.of(copy.path).write(copy.path)  # without what stood in the files before


def at_home(source: str) -> str:
    """A source as others may see it: a name or `hf:...` as it is, of a path the last part."""
    return source if source.startswith(hub.PREFIX) else Path(source).resolve().name
