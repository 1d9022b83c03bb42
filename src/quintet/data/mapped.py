"""Memory-mapped arrays of any size, read so that little of them stays in this process's memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CHUNK_BYTES = 2**26
READ_TOGETHER = 16
"""Scattered rows that are read together: the system may map 2 MB around each."""


def allocated(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A new .npy, memory-mapped, that has its place on the disk: a full one is an OSError here, while later, when a
    page of the map is written, it would end the process (SIGBUS).
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def chunks(array: np.ndarray, size: int = CHUNK_BYTES) -> Iterator[np.ndarray]:
    """An array in order, about `size` bytes at a time; what was read of a memory-mapped one is let go."""
    each = max(1, size // max(1, array[:1].nbytes))
    for start in range(0, len(array), each):
        yield array[start : start + each]
        release(array)


def release(array: Any) -> None:
    """Drop the pages of a memory-mapped array from this process's memory; the system's file cache may keep them."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def gather(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """array[index], as a copy."""
    if getattr(array, "_mmap", None) is None:
        return array[index]
    out = np.empty((len(index), *array.shape[1:]), array.dtype)
    for start in range(0, len(index), READ_TOGETHER):
        out[start : start + READ_TOGETHER] = array[index[start : start + READ_TOGETHER]]
        release(array)
    return out
