"""Points in the plane, and histograms of columns."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from quintet.core.plain import readable
from quintet.modalities.cards import Chart
from quintet.modalities.pictures import BLUE, INK, PALE, PAPER, font, png_of

COLUMNS, BINS, FEW = 24, 32, 20
DAY = 86_400_000_000
"""Microseconds of a day."""
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
        found = chart(name, table[name])
        counts = found.counts or (0,)
        missing = table[name].null_count
        more = f", {missing:,} missing" if missing else ""
        draw.text((left + 8, top + 4), f"{name[:26]}{more}", INK, font(11))
        step = (WIDTH - 16) / len(counts)
        for number, count in enumerate(counts):
            tall = (HEIGHT - 42) * count / max(*counts, 1)
            x = left + 8 + number * step
            draw.rectangle((x, top + HEIGHT - 20 - tall, x + max(step - 2, 1), top + HEIGHT - 20), fill=BLUE)
        draw.line((left + 8, top + HEIGHT - 19, left + WIDTH - 8, top + HEIGHT - 19), fill=PALE)
        draw.text((left + 8, top + HEIGHT - 17), found.low[:16], INK, font(10))
        draw.text((left + WIDTH - 8, top + HEIGHT - 17), found.high[:16], INK, font(10), anchor="ra")
    return png_of(sheet)


def chart(name: str, column: pa.ChunkedArray, real: pa.ChunkedArray | None = None) -> Chart:
    """How the values of a column are distributed: see `Shown.charts`."""
    column = column.drop_null()
    real = column if real is None else real.drop_null()
    kind = real.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        values, all_values = (
            one.to_numpy(zero_copy_only=False).astype("datetime64[us]").astype(np.int64) for one in (column, real)
        )
        unit = "D" if pa.types.is_date(kind) or (len(all_values) and np.ptp(all_values) > BINS * DAY) else "s"
        return binned(
            name, values, all_values, lambda at: str(np.datetime64(round(at), "us").astype(f"datetime64[{unit}]"))
        )
    if drawn_as_number(kind):
        numbers, all_numbers = (finite(one) for one in (column, real))
        if not pa.types.is_integer(kind) or len(np.unique(all_numbers)) > FEW:
            return binned(name, numbers, all_numbers, readable)
    found = sorted(real.value_counts().to_pylist(), key=lambda entry: -entry["counts"])[:BINS]
    if drawn_as_number(kind):
        found.sort(key=lambda entry: entry["values"])
    here = {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}
    counts, labels = (
        tuple(here.get(entry["values"], 0) for entry in found),
        tuple(str(entry["values"]) for entry in found),
    )
    ends = (labels[0], labels[-1] if len(labels) > 1 else "") if labels else ("", "")
    return Chart(name, counts, labels, False, *ends, len(column) - sum(counts))


def finite(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """The numbers of a column that are some."""
    numbers = column.to_numpy().astype(np.float64)
    found: NDArray[np.float64] = numbers[np.isfinite(numbers)]
    return found


def binned(name: str, values: NDArray[Any], real: NDArray[Any], written: Callable[[float], str]) -> Chart:
    """Ranges of equal width, from the least of the `real` values to the greatest; `written`: a value in words."""
    if not len(real):
        return Chart(name, (), (), True, others=len(values))
    if real.min() == real.max():
        same = int((values == real.min()).sum())
        return Chart(name, (same,), (word := written(real.min()),), True, word, others=len(values) - same)
    edges = np.histogram_bin_edges(real, BINS)
    counts, _ = np.histogram(values, edges)
    ends = [written(edge) for edge in edges]
    labels = tuple(f"{low} – {high}" for low, high in pairwise(ends))
    return Chart(name, tuple(counts.tolist()), labels, True, ends[0], ends[-1], len(values) - int(counts.sum()))


def drawn_as_number(kind: pa.DataType) -> bool:
    """Whether a column of this type is drawn as numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
