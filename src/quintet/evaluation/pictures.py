"""Pictures of samples, drawn with pillow alone: image grids and scatter plots, as PNG bytes."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

GAP = 1


def grid_png(images: NDArray[np.uint8], columns: int = 8, scale: int = 0) -> bytes:
    """Images (N, H, W, C) uint8, C 1, 3 or 4, side by side as one PNG with a transparent gap.

    Every pixel becomes scale x scale (nearest neighbour, so small images stay sharp); 0 picks one for about 48 pixels
    an image.
    """
    n, height, width, channels = images.shape
    scale = scale or max(1, round(48 / max(height, width)))
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    sheet = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4), np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        cell = sheet[top : top + height, left : left + width]
        cell[..., :3] = image[..., : 3 if channels >= 3 else 1]
        cell[..., 3] = image[..., 3] if channels == 4 else 255
    picture = Image.fromarray(sheet, "RGBA")
    return _png(picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST))


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
    return _png(canvas.resize((size, size), Image.Resampling.LANCZOS))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
