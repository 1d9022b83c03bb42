"""Pictures and arrays of a program as raw images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from quintet.core.errors import DataError, warn
from quintet.data.archives import BadFile
from quintet.modalities.frames import (
    as_array,
    is_column,
    is_frame,
    wrong,
)
from quintet.modalities.image.options import Scale
from quintet.modalities.image.reading import Shape, as_codes, as_eight_bits, open_image, resized


def raw_images(items: Any, codec: Any, scale: Scale | None) -> np.ndarray:
    """(N, H, W, C) of the codec's shape. `scale`: see `Modality.raw`."""
    if scale is not None:
        items = _on_scale(items, scale)
    if isinstance(items, Image.Image | Path):
        items = [items]
    if isinstance(items, list | tuple) and items and all(isinstance(one, Image.Image | Path) for one in items):
        return _pictures(items, codec)
    if isinstance(items, str) or is_frame(items) or is_column(items) or isinstance(items, Mapping):
        raise wrong(items, codec)
    try:
        array = as_array(items)
    except ValueError:
        raise wrong(items, codec, "the pictures are of different sizes") from None
    if array.dtype.kind not in "biuf":
        raise wrong(items, codec, f"an array of {array.dtype}")
    h, w, c = codec.shape
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and array.shape == (h, w, c):
        array = array[None]
    elif array.ndim == 3 and array.shape == (c, h, w) and not (c == 1 and isinstance(items, np.ndarray)):
        array = array.transpose(1, 2, 0)[None]
    elif array.ndim == 3 and c == 1:
        array = array[..., None]
    if array.ndim == 4 and array.shape[1:] == (c, h, w) != (h, w, c):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[1:] != (h, w, c):
        raise DataError(
            f"expected pictures of shape (H, W, C) = {(h, w, c)}, got an array of shape {array.shape}",
            why="the model was trained on pictures of this size",
        )
    return _levels(array, codec)


def white(codec: Any) -> int:
    """The largest raw value."""
    return int(codec.unit * (codec.levels - 1))


def _on_scale(items: Any, scale: Scale) -> Any:
    """Arrays and pictures in the units of the training files as uint8."""
    several = list(items) if isinstance(items, list | tuple) else [items]
    if several and all(isinstance(one, Image.Image | Path) for one in several):
        opened = [open_image(one.read_bytes()) if isinstance(one, Path) else one for one in several]
        return [as_eight_bits(one, scale) for one in opened]
    array = as_array(items)
    return array if array.dtype.kind not in "iuf" or array.dtype == np.uint8 else as_codes(array, scale)


def _levels(array: np.ndarray, codec: Any) -> np.ndarray:
    """Truth values and floats as the whole numbers that they stand for."""
    top = white(codec)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * top
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataError("the pictures contain NaN or infinite values")
        low, high = float(array.min()), float(array.max())
        if low >= 0 and high <= 1:
            return np.round(array * top).astype(np.int64)
        if low < 0 or high > max(255, top):
            why = f"they lie from {low:.6g} to {high:.6g}, but floats must lie from 0 to 1 or from 0 to {max(255, top)}"
            raise DataError("the values of these pictures are on an unknown scale", why=why)
        array = np.round(array).astype(np.int64)
    if array.size:
        beyond = float(np.mean((array > top) | (array < 0)))
        if beyond > 0.01:
            warn(
                f"{beyond:.0%} of the values are outside 0 ... {top}, the range of the training data, and "
                "count as its ends"
            )
    return array


def _pictures(items: Any, codec: Any) -> np.ndarray:
    """Pictures of Pillow, or their files, in the size and the channels of the training data."""
    h, w, c = codec.shape
    out = np.empty((len(items), h, w, c), np.uint8)
    for i, one in enumerate(items):
        try:
            image = open_image(one.read_bytes()) if isinstance(one, Path) else one
            out[i] = resized(as_eight_bits(ImageOps.exif_transpose(image)), Shape(h, w, c, True, "crop"))
        except (BadFile, OSError, ValueError) as error:
            raise DataError("this cannot be read as a picture", where=str(one), why=str(error)) from None
    top = white(codec)
    if top < 64 and out.max() > top:  # white is 255 in a picture, and `top` in data of few levels
        out = np.round(out.astype(np.float64) * (top / 255)).astype(np.uint8)
    return out


def write_pictures(pictures: Any, folder: Path) -> Path:
    folder.mkdir()
    for i, one in enumerate(pictures):
        lossless = one.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
        if lossless:
            one.save(folder / f"{i:07d}.png")
        else:
            (one if one.mode in ("F", "I") else one.convert("RGB")).save(folder / f"{i:07d}.tiff")
    return folder
