"""Rows on the page on which a model is used: how their columns are distributed next to real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from quintet.core.errors import UsageError
from quintet.model.containers import raw_items
from quintet.registry import MODALITIES
from quintet.runs.restoring import codecs_of
from quintet.server.bodies import object_of
from quintet.studio.house import Studio, run_of
from quintet.studio.use import own

REAL = 5_000
"""Training items that samples are compared with, drawn at random where there are more."""


def routes(app: FastAPI, studio: Studio) -> None:
    """What the page asks about rows, besides the server's own routes."""

    @app.post("/studio/use/marginals")
    async def marginals(request: Request) -> JSONResponse:
        """How the columns of some rows are distributed, over those of the rows that a run was trained on."""
        fields = object_of(await request.body())
        return JSONResponse(await asyncio.to_thread(compared, studio.root, fields))


def compared(root: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """For each column of `items`, which a model of `run` made: the shares of the values or ranges of the training data
    there and in these items, and of what has none of them.
    """
    run, items = run_of(root, str(fields.get("run", ""))), fields.get("items")
    if not isinstance(items, list) or not items:
        raise UsageError("no items")
    codec, config = codecs_of(run)["x"], run.config()
    modality = MODALITIES[codec.modality]
    raw = raw_items(items, codec, config.data.target, config.data.reading())
    real = own(run.path, "train", (run.path / "config.yaml").stat().st_mtime_ns).some(REAL).items
    theirs = {chart.name: chart for chart in modality.charts(real)}
    try:
        pairs = [(theirs[ours.name], ours) for ours in modality.charts(raw, real)]
    except pa.ArrowException:
        raise UsageError("these items are not like those of the training data") from None
    return {"real": len(real), "made": len(raw), "columns": [
        {"name": their.name, "ordered": their.ordered, "labels": their.labels, "low": their.low, "high": their.high,
         "real": shares(their.counts, their.others), "made": shares(our.counts, our.others)}
        for their, our in pairs]}  # fmt: skip


def shares(counts: tuple[int, ...], others: int) -> list[float]:
    """Of each value, and of all others at the end."""
    whole = max(1, sum(counts) + others)
    return [count / whole for count in (*counts, others)]
