"""The card of a model: what it is, how good it is, what to mind; its file, and its parts for use without quintet."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shlex
import threading
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from fastapi import FastAPI, Request, Response
from starlette.responses import FileResponse, StreamingResponse

from quintet.core.errors import QuintetError
from quintet.operations.exporting import export
from quintet.operations.requests import ExportRequest, PushRequest
from quintet.operations.spoken import command
from quintet.runs.card import ALWAYS, KINDS, markdown, stored
from quintet.runs.folder import Run
from quintet.server.problems import Refusal
from quintet.studio import pages
from quintet.studio.house import Studio
from quintet.studio.keeping import exports_of, folder_of, is_comparison

FORMATS: tuple[str, ...] = get_args(ExportRequest.model_fields["format"].annotation)
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
SOUNDS = {".wav": "audio/wav", ".flac": "audio/flac"}
ROWS, LETTERS = 6, 1_500
"""How much of samples that are rows or text a card shows."""
exporting = threading.Lock()


def run_of(studio: Studio, name: str) -> Run:
    """The run of a name. Raises Refusal 404 if there is none."""
    path = folder_of(studio.root, name)
    if is_comparison(path):
        raise Refusal(404, "this is a comparison, and its runs have the cards", fix="open the page of the comparison")
    return Run(path)


def newest(run: Run, kinds: dict[str, str]) -> Path | None:
    """The newest samples that were drawn in training, of one of these kinds of files."""
    found = [path for path in (run.path / "samples").rglob("*") if path.suffix in kinds and path.is_file()]
    return max(found, key=lambda path: path.relative_to(run.path).parts, default=None)


def sample_of(run: Run) -> dict[str, Any]:
    """What the newest samples look like: the media type of a picture or a sound; rows; or text."""
    for kinds in (PICTURES, SOUNDS):
        if (found := newest(run, kinds)) is not None:
            return {"media": kinds[found.suffix]}
    if (found := newest(run, {".csv": "", ".txt": ""})) is not None:
        with found.open(newline="", errors="replace") as file:
            if found.suffix == ".csv":
                return {"rows": [row for row in islice(csv.reader(file), ROWS + 1) if row]}
            return {"letters": file.read(LETTERS)}
    return {}


def shown(studio: Studio, name: str) -> dict[str, Any]:
    """What the page of a card shows."""
    run = run_of(studio, name)
    facts = stored(run, name)
    push = PushRequest(run=name, to="hf:OWNER/NAME", runs=studio.root)
    exports = {form: ExportRequest(run=name, format=form, runs=studio.root) for form in FORMATS}
    lines = {form: shlex.join(["quintet", *command(one)]) for form, one in exports.items()}
    return {
        "name": name, "facts": facts, "said": facts.said, "sample": sample_of(run), "kinds": KINDS, "always": ALWAYS,
        "push": shlex.join(["quintet", *command(push)]), "exports": lines, "formats": FORMATS,
        "done": {form: exported(studio, name, form) for form in FORMATS},
    }  # fmt: skip


# -- parts as files ----------------------------------------------------------------------------------------------------


def place_of(studio: Studio, name: str, form: str) -> Path:
    """Where the parts of a model lie in a format. Raises Refusal 404 for one that there is not."""
    if form not in FORMATS:
        raise Refusal(404, "there is no such format", fix=f"known: {', '.join(FORMATS)}")
    return exports_of(studio.root) / name / form


def exported(studio: Studio, name: str, form: str) -> dict[str, Any] | None:
    """What an export has found, if there was one of these weights."""
    run, place = run_of(studio, name), place_of(studio, name, form)
    try:
        found: dict[str, Any] = json.loads((place / "export.json").read_text())
        weights = run.used()
    except (OSError, ValueError, QuintetError):
        return None
    same = weights is not None and found.get("weights") == weights.sha256
    return found if same else None


def write_parts(studio: Studio, name: str, form: str) -> dict[str, Any]:
    """Write the parts of a model, one export after the other."""
    place = place_of(studio, name, form)
    run = run_of(studio, name)
    with exporting:
        request = ExportRequest(run=str(run.path), format=form, output=str(place))
        found = export(request, lambda _: None)
    return {"files": [path.name for path in found.files], "bytes": found.bytes, "differences": found.differences}


class Out(io.RawIOBase):
    """What a zip file is written to; it is taken away piece by piece."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written += data
        return len(data)

    def take(self) -> bytes:
        """What has been written since the last time."""
        taken = bytes(self.written)
        self.written.clear()
        return taken


def zipped(folder: Path) -> Iterator[bytes]:
    """The files of a folder as a zip file, a megabyte at a time, however large they are."""
    out = Out()
    with zipfile.ZipFile(out, "w") as made:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            with path.open("rb") as file, made.open(path.name, "w", force_zip64=True) as inside:
                while piece := file.read(1 << 20):
                    inside.write(piece)
                    yield out.take()
    yield out.take()


# -- routes ------------------------------------------------------------------------------------------------------------


def routes(app: FastAPI, studio: Studio) -> None:
    """The page, its file, what it shows, and exports."""

    @app.get("/card/{name:path}/CARD.md")
    async def text(name: str) -> Response:
        """The card as a file."""
        found = await asyncio.to_thread(lambda: markdown(stored(run_of(studio, name))))
        return Response(found, media_type="text/markdown; charset=utf-8", headers=pages.attachment("CARD.md"))

    @app.get("/card/{name:path}/samples")
    async def samples(name: str) -> Response:
        """The newest picture, or sound, of its samples."""
        run = run_of(studio, name)
        for kinds in (PICTURES, SOUNDS):
            if (found := newest(run, kinds)) is not None:
                return FileResponse(found, media_type=kinds[found.suffix])
        raise Refusal(404, "there is no picture of this run")

    @app.post("/studio/card/{name:path}/export")
    async def write(request: Request, name: str) -> Response:
        """Write the parts of the model as files, each verified against it."""
        form = str((await pages.fields(request)).get("format", ""))
        made = await asyncio.to_thread(write_parts, studio, name, form)
        return pages.done(request, made, f"/card/{pages.address(name)}/export/{form}.zip")

    @app.get("/card/{name:path}/export/{form}.zip")
    async def fetch(name: str, form: str) -> Response:
        """The files of an export."""
        if await asyncio.to_thread(exported, studio, name, form) is None:
            raise Refusal(404, "nothing has been exported yet", fix="export it on the model's card")
        headers = pages.attachment(f"{name.replace('/', '-')}-{form}.zip")
        folder = place_of(studio, name, form)
        return StreamingResponse(zipped(folder), media_type="application/zip", headers=headers)

    @app.get("/card/{name:path}")
    async def card(request: Request, name: str) -> Response:
        """The card."""
        return pages.page(request, "card.html.j2", **await asyncio.to_thread(shown, studio, name))
