"""Points in the plane, and histograms of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from quintet.modalities.pictures import BLUE, INK, PALE, PAPER, font, png_of

COLUMNS, BINS = 24, 32
WIDTH, HEIGHT = 240, 110
"""Pixels of one histogram."""


def scatter_png(points: NDArray[Any], reference: NDArray[Any] | None = None, size: int = 360) -> bytes:
    """Points (N, 2) over grey reference points (M, 2); the axes span the reference, so that plots compare."""
    frame = points if reference is None else reference
    low, high = frame.min(0), frame.max(0)
    margin = 0.08 * np.where(high > low, high - low, 1.0)
    low, high = low - margin, high + margin
    zoom = 2  # drawn large, then shrunk: smooth dots
    canvas = Image.new("RGBA", (size * zoom, size * zoom), (0, 0, 0, 0))
    draw = ImageDraw.Draw(canvas)
    layers = [(points, (47, 111, 208, 210))] if reference is None else []
    if reference is not None:
        layers = [(reference, (140, 140, 140, 110)), (points, (47, 111, 208, 210))]
    for cloud, colour in layers:
        places = (cloud - low) / (high - low) * size * zoom
        for x, y in places[np.isfinite(places).all(1)]:
            draw.ellipse((x - 4, size * zoom - y - 4, x + 4, size * zoom - y + 4), fill=colour)
    return png_of(canvas.resize((size, size), Image.Resampling.LANCZOS))


def histograms(table: pa.Table) -> bytes:
    """Counts of each column: bins of numbers and times, the most frequent of other values."""
    names = table.column_names[:COLUMNS]
    across = min(4, len(names))
    down = -(-len(names) // across)
    sheet = Image.new("RGB", (across * WIDTH, down * HEIGHT), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, name in enumerate(names):
        left, top = place % across * WIDTH, place // across * HEIGHT
        counts, low, high = _counts(table[name])
        missing = table[name].null_count
        more = f", {missing:,} missing" if missing else ""
        draw.text((left + 8, top + 4), f"{name[:26]}{more}", INK, font(11))
        step = (WIDTH - 16) / len(counts)
        for number, count in enumerate(counts):
            tall = (HEIGHT - 42) * count / max(counts.max(), 1)
            x = left + 8 + number * step
            draw.rectangle((x, top + HEIGHT - 20 - tall, x + max(step - 2, 1), top + HEIGHT - 20), fill=BLUE)
        draw.line((left + 8, top + HEIGHT - 19, left + WIDTH - 8, top + HEIGHT - 19), fill=PALE)
        draw.text((left + 8, top + HEIGHT - 17), low[:16], INK, font(10))
        draw.text((left + WIDTH - 8, top + HEIGHT - 17), high[:16], INK, font(10), anchor="ra")
    return png_of(sheet)


def _counts(column: pa.ChunkedArray) -> tuple[np.ndarray, str, str]:
    """(counts, what stands at the left, what at the right)."""
    column = column.drop_null()
    if pa.types.is_temporal(column.type) and len(column):
        ends = pc.min_max(column).as_py()
        values = column.to_numpy(zero_copy_only=False).astype("datetime64[us]").astype(np.int64)
        return np.histogram(values, BINS)[0], str(ends["min"]), str(ends["max"])
    if drawn_as_number(column.type):
        values = column.to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        if len(values) and values.min() < values.max():
            return np.histogram(values, BINS)[0], f"{values.min():.4g}", f"{values.max():.4g}"
    found = sorted(column.value_counts().to_pylist(), key=lambda entry: -entry["counts"])[:BINS]
    if not found:
        return np.zeros(1), "", ""
    last = str(found[-1]["values"]) if len(found) > 1 else ""
    return np.array([entry["counts"] for entry in found]), str(found[0]["values"]), last


def drawn_as_number(kind: pa.DataType) -> bool:
    """Whether a column of this type is drawn as numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
