"""One picture of a data set: images, points, histograms, sounds as waves and spectra, the beginnings of texts."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from quintet.core.random import some
from quintet.data.dataset import Dataset, take
from quintet.data.recordings import Recordings
from quintet.modalities.pictures import grid_png, scatter_png

INK, BLUE, PAPER, PALE = (40, 40, 40), (47, 111, 208), (255, 255, 255), (225, 225, 225)
IMAGES, SOUNDS, TEXTS, COLUMNS, POINTS = 64, 6, 16, 24, 4000
BINS = 32
WIDTH, HEIGHT = 240, 110
"""Pixels of one histogram."""


def preview_png(dataset: Dataset) -> bytes:
    """A PNG of some training items, drawn by a fixed seed."""
    if dataset.modality == "image":
        few = np.asarray(_some(dataset, IMAGES))
        few = few * np.uint8(255 // max(1, few.max()))  # a few levels, as 0 ... 16, would be black
        return grid_png(few, columns=int(np.ceil(np.sqrt(len(few)))))
    if dataset.modality == "audio":
        return _png(sounds(_some(dataset, SOUNDS), _captions(dataset, SOUNDS)))
    if dataset.modality == "text":
        return _png(texts(_some(dataset, TEXTS)))
    table = _some(dataset, 100 * POINTS)
    if table.num_columns == 2 and all(_is_number(kind) for kind in table.schema.types):
        points = np.stack([table[name].to_numpy().astype(np.float64) for name in table.column_names], 1)
        points = points[np.isfinite(points).all(1)]
        return scatter_png(points[some(points, POINTS, 0)])
    return _png(histograms(table))


def _some(dataset: Dataset, count: int) -> Any:
    index = dataset.index("train")
    return take(dataset.items, index[some(index, count, 0)])


def _captions(dataset: Dataset, count: int) -> list[str]:
    """The labels of the same items."""
    index = dataset.index("train")
    index = index[some(index, count, 0)]
    if dataset.labels is None:
        return [""] * len(index)
    return [", ".join(str(value) for value in row.values()) for row in take(dataset.labels, index).to_pylist()]


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


# -- tables ----------------------------------------------------------------------------------------------------------


def histograms(table: pa.Table) -> Image.Image:
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
        draw.text((left + 8, top + 4), f"{name[:26]}{more}", INK, _font(11))
        step = (WIDTH - 16) / len(counts)
        for number, count in enumerate(counts):
            tall = (HEIGHT - 42) * count / max(counts.max(), 1)
            x = left + 8 + number * step
            draw.rectangle((x, top + HEIGHT - 20 - tall, x + max(step - 2, 1), top + HEIGHT - 20), fill=BLUE)
        draw.line((left + 8, top + HEIGHT - 19, left + WIDTH - 8, top + HEIGHT - 19), fill=PALE)
        draw.text((left + 8, top + HEIGHT - 17), low[:16], INK, _font(10))
        draw.text((left + WIDTH - 8, top + HEIGHT - 17), high[:16], INK, _font(10), anchor="ra")
    return sheet


def _counts(column: pa.ChunkedArray) -> tuple[np.ndarray, str, str]:
    """(counts, what stands at the left, what at the right)."""
    column = column.drop_null()
    if pa.types.is_temporal(column.type) and len(column):
        ends = pc.min_max(column).as_py()
        values = column.to_numpy(zero_copy_only=False).astype("datetime64[us]").astype(np.int64)
        return np.histogram(values, BINS)[0], str(ends["min"]), str(ends["max"])
    if _is_number(column.type):
        values = column.to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        if len(values) and values.min() < values.max():
            return np.histogram(values, BINS)[0], f"{values.min():.4g}", f"{values.max():.4g}"
    found = sorted(column.value_counts().to_pylist(), key=lambda entry: -entry["counts"])[:BINS]
    if not found:
        return np.zeros(1), "", ""
    last = str(found[-1]["values"]) if len(found) > 1 else ""
    return np.array([entry["counts"] for entry in found]), str(found[0]["values"]), last


# -- sounds ----------------------------------------------------------------------------------------------------------


def sounds(recordings: Recordings, captions: list[str]) -> Image.Image:
    """Each recording as a wave over its spectrogram: 512-point windows, 80 dB below the loudest is white."""
    width, tall = 300, 150
    across = min(3, len(recordings))
    sheet = Image.new("RGB", (across * (width + 10), -(-len(recordings) // across) * (tall + 24)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (samples, caption) in enumerate(zip(recordings, captions, strict=True)):
        left, top = place % across * (width + 10), place // across * (tall + 24)
        seconds = len(samples) / recordings.rate
        draw.text((left, top + 2), f"{caption[:30]}  {seconds:.2f} s, {recordings.rate:,} Hz", INK, _font(11))
        edges = np.linspace(0, len(samples), width + 1).astype(int)
        wave = samples / max(float(np.abs(samples).max(initial=0)), 1e-6)
        for x in range(width):
            part = wave[edges[x] : max(edges[x] + 1, edges[x + 1])]
            if len(part):
                draw.line((left + x, top + 42 - 22 * part.max(), left + x, top + 42 - 22 * part.min()), fill=BLUE)
        sheet.paste(spectrogram(samples, (width, tall - 60)), (left, top + 68))
    return sheet


def spectrogram(samples: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Power in dB over time (right) and frequency (up), dark is loud."""
    window = 512
    padded = np.pad(samples.astype(np.float64), (0, max(0, window - len(samples))))
    starts = np.linspace(0, len(padded) - window, min(size[0], max(1, len(padded) // 64))).astype(int)
    frames = np.stack([padded[start : start + window] for start in starts]) * np.hanning(window)
    power = 20 * np.log10(np.abs(np.fft.rfft(frames, axis=1)).T[::-1] + 1e-9)
    shade = 255 * np.clip((power.max() - power) / 80, 0, 1)
    return Image.fromarray(shade.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR).convert("RGB")


# -- texts -----------------------------------------------------------------------------------------------------------


def texts(items: list[str]) -> Image.Image:
    """The beginning of each text; of a few long ones, more of each."""
    lines: list[tuple[str, tuple[int, int, int]]] = []
    each = max(1, 28 // max(1, len(items)))
    for item in items:
        wrapped = [part for line in item[:4000].splitlines() if line.strip() for part in textwrap.wrap(line, 100)][
            :each
        ]
        lines += [(line, INK if number == 0 else (90, 90, 90)) for number, line in enumerate(wrapped)]
    sheet = Image.new("RGB", (820, 16 + 18 * max(1, len(lines))), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (line, colour) in enumerate(lines):
        draw.text((10, 8 + 18 * number), line, colour, _font(13))
    return sheet


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
