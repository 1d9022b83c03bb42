"""Which pixels of images are known: halves, and masks as people draw them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from quintet.core.errors import DataError

HALVES = ("top", "bottom", "left", "right")


def image_mask(items: np.ndarray, known: str, fit: str = "crop", *, hole: bool = False) -> np.ndarray:
    """(H, W), True where a pixel is given, or for a `hole` where it is lost."""
    h, w = items.shape[1:3]
    out = np.zeros((h, w), bool)
    if known in HALVES:
        part: tuple[slice, slice] = {
            "top": np.s_[: h // 2, :],
            "bottom": np.s_[h // 2 :, :],
            "left": np.s_[:, : w // 2],
            "right": np.s_[:, w // 2 :],
        }[known]
        out[part] = True
        return out
    return white_pixels(known, h, w, fit, hole=hole)


def white_pixels(path: str, h: int, w: int, fit: str = "crop", *, hole: bool = False) -> np.ndarray:
    """(h, w), True where the picture is white: brighter than halfway between its darkest and its brightest pixel.

    So 0 and 1, 0 and 255, one bit and 16 bits all mean the same, and of grey edges the brighter half is white. In a
    picture with transparent pixels those are black; where white is the `hole`, the part that is erased from a picture
    of several colours is white.
    It is brought to the size of the images as they were: cropped, padded or stretched by `fit`.
    """
    try:
        with Image.open(Path(path)) as picture:
            picture.load()
            bands = picture.getbands()
            alpha = "A" in bands or "transparency" in picture.info
            if alpha and np.ptp(np.asarray(picture.convert("RGBA"))[..., 3]):
                colours = np.asarray(picture.convert("RGBA"))
                values = colours[..., 3].astype(np.float32)
                if hole and np.ptp(colours[colours[..., 3] > 127][:, :3], 0).any():
                    values = 255 - values  # a picture with a part erased, which is the hole
            else:
                wide = picture.mode.startswith("I") or picture.mode == "F"
                values = np.asarray(picture if wide else picture.convert("RGB").convert("L")).astype(np.float32)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(
            "the file cannot be read as a mask",
            where=path,
            why=str(error),
            fix=f"give one of {', '.join(HALVES)}, or the path of a PNG",
        ) from None
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise DataError("the mask has only one colour", where=path, why="so it marks no part of the picture",
                        fix="draw one part white and the other black")  # fmt: skip
    drawn = Image.fromarray(((values - low) / (high - low)).astype(np.float32))
    if fit == "crop":
        drawn = ImageOps.fit(drawn, (w, h), Image.Resampling.BOX)
    elif fit == "pad":
        drawn = ImageOps.pad(drawn, (w, h), Image.Resampling.BOX, color=0)
    else:
        drawn = drawn.resize((w, h), Image.Resampling.BOX)
    return np.asarray(drawn) > 0.5
