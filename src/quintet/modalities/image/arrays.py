"""Arrays of whatever type as images (N, H, W, C) of bytes."""

from __future__ import annotations

import numpy as np

from quintet.core.errors import DataError
from quintet.data.dataset import chunks
from quintet.modalities.image.options import Scale
from quintet.modalities.image.reading import Range, as_codes


def coded(array: np.ndarray, wanted: Scale | None) -> tuple[np.ndarray, Scale | None, tuple[str, ...]]:
    """(uint8, the scale of other values than 0 ... 255, notes)."""
    if array.dtype == np.uint8:
        return array, None, ()
    values = Range()
    for part in chunks(array):
        values.add(np.asarray(part))
    scale = wanted or values.scale()
    codes = np.concatenate([as_codes(np.asarray(part), scale) for part in chunks(array)])
    return codes, scale, (values.note(scale),) if scale else ()


def channels_last(array: np.ndarray, where: str) -> np.ndarray:
    """(N, H, W, C)."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype.kind not in "iuf":
        why = f"images are numbers of shape (N, H, W) or (N, H, W, C), but this is {array.dtype} of shape {array.shape}"
        raise DataError("this array holds neither images nor a table", where=where, why=why)
    if array.ndim == 3:
        return array[..., None]
    if array.shape[-1] in (1, 3, 4):
        return array
    if array.shape[1] in (1, 3, 4):
        return array.transpose(0, 2, 3, 1)
    raise DataError(
        f"expected images with 1, 3 or 4 channels, got an array of shape {array.shape}",
        where=where,
        why="the channels are the last axis of the array, or the second",
    )
