"""Rows on the page on which a model is used: how their columns are distributed next to real ones."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse

from quintet.core.errors import DataError, QuintetError, UsageError
from quintet.core.plain import plain
from quintet.model.containers import raw_items
from quintet.model.inputs import read_items
from quintet.registry import MODALITIES
from quintet.runs.folder import Run
from quintet.runs.restoring import codecs_of
from quintet.server.bodies import object_of
from quintet.server.native import in_json
from quintet.server.problems import Refusal
from quintet.studio.house import Studio, run_of
from quintet.studio.use import own

REAL = 5_000
"""Training items that samples are compared with, drawn at random where there are more."""
MOST = 5_000
"""Rows of a file that are filled on the page."""


def routes(app: FastAPI, studio: Studio) -> None:
    """What the page asks about rows, besides the server's own routes."""

    @app.post("/studio/use/marginals")
    async def marginals(request: Request) -> JSONResponse:
        """How the columns of some rows are distributed, over those of the rows that a run was trained on."""
        fields = object_of(await request.body())
        return JSONResponse(await asyncio.to_thread(compared, studio.root, fields))

    @app.post("/studio/use/rows")
    async def rows(request: Request) -> JSONResponse:
        """The rows of a file, as those of a run's own data are read, with their holes."""
        async with request.form(max_files=1, max_fields=4) as form:
            file, run = form.get("file"), form.get("run")
            if not isinstance(file, UploadFile) or not file.filename:
                raise Refusal(422, "no file", fix="choose a table")
            content, name = await file.read(), Path(file.filename).name
        return JSONResponse(await asyncio.to_thread(read, run_of(studio.root, str(run)), content, name))


def read(run: Run, content: bytes, name: str) -> dict[str, Any]:
    """The first rows of a file in JSON, with what each is given; and how many there are."""
    codecs, config = codecs_of(run), run.config()
    modality = MODALITIES[codecs["x"].modality]
    suffix = Path(name).suffix.lower()
    if suffix not in modality.suffixes:
        raise DataError("files of this format cannot be read", where=name, fix=f"known: {', '.join(modality.suffixes)}")
    forms = {name: form for one in codecs.values() for name, form in getattr(one, "forms", {}).items()}
    with tempfile.TemporaryDirectory(prefix="quintet-") as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        try:
            found = read_items(config, str(path), None, like=codecs, forms=forms)
        except QuintetError as error:
            raise DataError(error.what, where=name, why=error.why if folder not in error.why else "") from None
    names = [cell["name"] for cell in modality.cells(codecs["x"])]
    if not set(names) & set(getattr(found.items, "column_names", names)):
        raise DataError(
            "the file has none of the model's columns",
            where=name,
            why=f"the columns of the model are {', '.join(names)}",
        )
    sides = {"items": (codecs["x"], found.items), "conditions": (codecs.get("cond"), found.given)}
    return {"n": len(found.items)} | {
        side: None if codec is None or values is None
        else plain(in_json(MODALITIES[codec.modality], values[:MOST], {}, codec, config.data.reading()))
        for side, (codec, values) in sides.items()
    }  # fmt: skip


def compared(root: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """For each column of `items`, which a model of `run` made: the shares of the values or ranges of the training data
    there and in these items, and of what has none of them.
    """
    run, items = run_of(root, str(fields.get("run", ""))), fields.get("items")
    if not isinstance(items, list) or not items:
        raise UsageError("no items were given", fix="give at least one item")
    codec, config = codecs_of(run)["x"], run.config()
    modality = MODALITIES[codec.modality]
    raw = raw_items(items, codec, config.data.target, config.data.reading())
    real = own(run.path, "train", (run.path / "config.yaml").stat().st_mtime_ns).some(REAL).items
    theirs = {chart.name: chart for chart in modality.charts(real)}
    try:
        pairs = [(theirs[ours.name], ours) for ours in modality.charts(raw, real)]
    except pa.ArrowException:
        raise UsageError("these items do not have the form of the training data") from None
    return {"real": len(real), "made": len(raw), "columns": [
        {"name": their.name, "ordered": their.ordered, "labels": their.labels, "low": their.low, "high": their.high,
         "real": shares(their.counts, their.others), "made": shares(our.counts, our.others)}
        for their, our in pairs]}  # fmt: skip


def shares(counts: tuple[int, ...], others: int) -> list[float]:
    """Of each value, and of all others at the end."""
    whole = max(1, sum(counts) + others)
    return [count / whole for count in (*counts, others)]
