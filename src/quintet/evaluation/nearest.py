"""The training item that is nearest to each of some samples: what a copy would be a copy of."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.spatial.distance import cdist

from quintet.data.recordings import Recordings
from quintet.evaluation.bench import Bench
from quintet.modalities.pictures import grid_png, spectrograms
from quintet.modalities.writing import to_bytes
from quintet.model.model import Model
from quintet.sources.load import take

SHOWN = 10
TEXT = 300
"""Characters of a text that a report shows."""


def nearest(model: Model, bench: Bench, n: int = SHOWN) -> dict[str, Any]:
    """The first samples of seed 0, each with its nearest training item in the bench's features, as a report shows
    them: a picture whose second row holds the training items, or rows.
    """
    drawn, train = bench.drawn(model, n), bench.items["train"]
    made = bench.measure(drawn)[:n]
    distances = cdist(bench.features(made), bench.seen)
    places = distances.argmin(1)
    if bench.codec.stream:  # a text is many windows
        samples, near = (bench.codec.decode(torch.from_numpy(items)) for items in (made, train[places]))
    else:
        samples, near = drawn, take(bench.rows("train"), places)
    if isinstance(samples, np.ndarray):
        return picture(np.concatenate([to_bytes(samples, bench.codec), to_bytes(near, bench.codec)]), len(made))
    if isinstance(samples, Recordings):
        sheet = spectrograms(Recordings([*samples, *near], samples.rate))
        return picture(sheet, len(made), scale=1)
    if isinstance(samples, pa.Table):
        pairs = zip(samples.to_pylist(), near.to_pylist(), strict=True)
        rows = [
            [who, *map(cell, row.values())]
            for pair in pairs
            for who, row in zip(("sample", "nearest"), pair, strict=True)
        ]
        return {"kind": "rows", "columns": ["", *samples.column_names], "rows": rows}
    rows = [[a[:TEXT], b[:TEXT], cell(d)] for a, b, d in zip(samples, near, distances.min(1).tolist(), strict=True)]
    return {"kind": "rows", "columns": ["sample", "nearest training text", "distance"], "rows": rows}


def picture(images: np.ndarray, columns: int, scale: int = 0) -> dict[str, Any]:
    return {"kind": "image", "png": base64.b64encode(grid_png(images, columns, scale)).decode()}


def cell(value: Any) -> Any:
    """A number as short as it can be read."""
    return f"{value:.4g}" if isinstance(value, float) else value
