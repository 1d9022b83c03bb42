"""Arrays of a program as recordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from torch import Tensor

from quintet.core.checked import kind_name
from quintet.core.errors import DataError
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.frames import (
    as_array,
    is_column,
    is_frame,
    wrong,
)


def raw_recordings(items: Any, codec: Any) -> Recordings:
    """At the codec's rate."""
    if isinstance(items, Recordings):
        return items
    if isinstance(items, str) or is_frame(items) or is_column(items) or isinstance(items, Mapping):
        raise wrong(items, codec)
    if isinstance(items, Tensor | np.ndarray):
        items = [as_array(items)] if items.ndim == 1 else list(as_array(items))
    if isinstance(items, list | tuple) and items and all(isinstance(one, int | float | np.number) for one in items):
        items = [np.asarray(items)]
    if not isinstance(items, list | tuple):
        raise wrong(items, codec)
    samples = []
    for i, one in enumerate(items):
        if isinstance(one, Path | Image.Image):
            why = f"a recording is an array of shape (samples,), but this is of type {kind_name(one)}"
            raise DataError(
                "expected a recording",
                where=f"item {i + 1}",
                why=why,
                fix="to read files, give their folder as one pathlib.Path",
            )
        array = as_array(one)
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            why = f"a recording is numbers of shape (samples,), but this is {array.dtype} of shape {array.shape}"
            raise DataError("expected a recording", where=f"item {i + 1}", why=why)
        scale = 1.0 if array.dtype.kind == "f" else 1.0 / float(np.iinfo(array.dtype).max + 1)
        samples.append((array * scale).astype(np.float32))
    return Recordings(samples, codec.rate)


def write_recordings(recordings: Recordings, folder: Path) -> Path:
    folder.mkdir()
    for i, samples in enumerate(recordings):
        soundfile.write(folder / f"{i:07d}.wav", samples, recordings.rate, subtype="FLOAT")
    return folder
