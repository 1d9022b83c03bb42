"""What pictures of all kinds of data share, drawn with pillow alone: grids, colours and the PNG of a drawing."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

GAP_PIXELS = 1
INK, BLUE, PAPER, PALE = (40, 40, 40), (47, 111, 208), (255, 255, 255), (225, 225, 225)


def grid_png(images: NDArray[np.uint8], columns: int = 8, scale: int = 0) -> bytes:
    """Images (N, H, W, C) uint8, C 1, 3 or 4, side by side as one PNG with a transparent gap.

    Every pixel becomes scale x scale (nearest neighbour, so small images stay sharp); 0 picks one for about 64 pixels
    an image.
    """
    n, height, width, channels = images.shape
    scale = scale or max(1, round(64 / max(height, width)))
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    sheet = np.zeros(
        (rows * (height + GAP_PIXELS) - GAP_PIXELS, columns * (width + GAP_PIXELS) - GAP_PIXELS, 4), np.uint8
    )
    for index, image in enumerate(images):
        top, left = index // columns * (height + GAP_PIXELS), index % columns * (width + GAP_PIXELS)
        cell = sheet[top : top + height, left : left + width]
        cell[..., :3] = image[..., : 3 if channels >= 3 else 1]
        cell[..., 3] = image[..., 3] if channels == 4 else 255
    picture = Image.fromarray(sheet, "RGBA")
    return png_of(picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST))


def font(size: int) -> Any:
    return ImageFont.load_default(size)


def png_of(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
