"""What programs hold (frames, columns, pictures, arrays, tensors, paths) <-> raw items and sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from quintet.core.checked import kind_name
from quintet.core.codec import Codec
from quintet.core.errors import EnvironmentFault, UsageError
from quintet.data.dataset import take
from quintet.modalities import NONE, Choices
from quintet.modalities.frames import (
    as_array,
    counted,
    numpy_of,
    wrong,
)
from quintet.registry import MODALITIES

# -- raw items ---------------------------------------------------------------------------------------------------------


def raw_items(items: Any, codec: Codec, column: str | None = None, reading: Choices = NONE) -> Any:
    """Whatever holds items, as the raw items that `codec` takes; one item is a list of one.

    `column`: the name of the column that items are in, where a frame of texts has several. `reading`: how the training
    items were read, in whose units pictures of 16 bits or real numbers and all arrays but uint8 then are. Raises
    UsageError or DataError for what is no such item, with its type.
    """
    codec = getattr(codec, "inner", codec)  # of latents: that of the items which they are of
    if isinstance(items, Iterator):
        items = list(items)
    if items is None or isinstance(items, set | frozenset | bytes):
        raise wrong(items, codec)
    if isinstance(items, np.ndarray) and items.size == 0:
        why = f"the array is empty: its shape is {items.shape}"
        raise UsageError("no items were given", why=why, fix="give at least one item")
    out = MODALITIES[codec.modality].raw(items, codec, column, reading)
    if len(out) == 0:
        raise UsageError("no items were given", why="the list of items is empty", fix="give at least one item")
    return out


def conditions(given: Any, codec: Codec, n: int, column: str | None = None) -> Any:
    """n raw conditions from one value for all or n values. Raises UsageError for any other number of them."""
    if isinstance(given, Iterator | set | frozenset):
        what = f"conditions cannot be given as {kind_name(given)}"
        raise UsageError(what, why="their order or their number is not known", fix="give a list of conditions")
    if isinstance(given, Tensor):
        given = numpy_of(given)
    values = MODALITIES[codec.modality].conditions(given, codec, n)
    if values is not None:
        return values
    whole = raw_items(given, codec, column)
    one = isinstance(given, str | Image.Image) or (len(whole) == 1 and isinstance(given, np.ndarray))
    return take(whole, np.zeros(n, np.int64)) if one and len(whole) == 1 else counted(whole, n)


# -- sources -----------------------------------------------------------------------------------------------------------


def source_of(data: Any, runs: Path) -> str:
    """The source of `data`: a name or path as it is; what lies in memory is written to `runs`/data once, by its digest.

    From there on it is a file like any other, so that a run can be resumed, evaluated and compared later.
    """
    if isinstance(data, str):
        return data
    if isinstance(data, os.PathLike):
        return str(Path(data).expanduser().absolute())
    folder = runs / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as work:
            written = _written(data, Path(work))
            files = sorted(path for path in [written, *written.rglob("*")] if path.is_file())
            digest = hashlib.sha256()
            for path in files:
                digest.update(path.relative_to(work).as_posix().encode() + b"\0" + path.read_bytes())
            target = folder / f"{written.stem}-{digest.hexdigest()[:12]}{written.suffix}"
            if not target.exists():
                shutil.move(written, target)
    except OSError as error:
        why, fix = error.strerror or str(error), "free disk space, or choose another folder of runs"
        raise EnvironmentFault("the data cannot be written to a file", where=str(folder), why=why, fix=fix) from None
    return str(target.absolute())


def _written(data: Any, folder: Path) -> Path:
    """`data` as a file, or a folder of files, that the readers of sources understand."""
    if isinstance(data, Iterator):
        data = list(data)
    for modality in MODALITIES.values():
        if (path := modality.stored(data, folder)) is not None:
            return path
    if isinstance(data, Mapping) and data:
        arrays = {str(name): as_array(cells) for name, cells in data.items()}
        np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)
        return folder / "arrays.npz"
    if isinstance(data, np.ndarray | Tensor) or (isinstance(data, list | tuple) and data):
        try:
            array = as_array([as_array(one) for one in data] if isinstance(data, list | tuple) else data)
        except (ValueError, TypeError):
            array = np.empty(0, object)
        if array.dtype.kind in "biufU" and array.ndim:
            np.save(folder / "array.npy", np.ascontiguousarray(array), allow_pickle=False)
            return folder / "array.npy"
    what = f"a model cannot be trained on data of type {kind_name(data)}"
    fix = "give the name of a source, a path, a DataFrame, a dict of columns, texts, pictures or an array"
    raise UsageError(what, fix=fix)
