"""Arrays in files of NumPy; object arrays, which hold pickles, are refused."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib

import numpy as np

from quintet.core.errors import DataError
from quintet.data.archives import BROKEN, FILE_LIMIT, BadFile, Entry, in_one_line


def array_of(entry: Entry, where: str) -> np.ndarray:
    """The array of a .npy, memory-mapped where it is a file. Raises DataError for pickles, lies and cuts."""
    place = str(entry.path or f"{where}/{entry.name}")
    fix = "save it as an array of numbers with numpy.save"
    try:
        with entry.open() as stream:
            head = io.BytesIO(stream.read(2**16))
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(head)
        if dtype.hasobject:
            raise DataError(
                "the array holds Python objects, which are not read",
                where=place,
                why="they are stored as a pickle, which may run code when it is loaded",
                fix=fix,
            )
        if dtype.kind not in "biufU":
            raise DataError(
                f"the array has the type {dtype}, which cannot be read",
                where=place,
                why="only numbers, booleans and strings can be read",
            )
        size = int(np.prod([int(side) for side in shape], dtype=object) * dtype.itemsize) + head.tell()
        if size != entry.size and not entry.packed:
            why = f"the file has {entry.size:,} bytes, but its header announces {size:,}"
            raise DataError(
                "the size of the file does not match its header",
                where=place,
                why=why,
                fix="copy or download the file again",
            )
        if entry.packed and size > FILE_LIMIT:
            raise BadFile(f"its header announces {size:,} bytes, but at most {FILE_LIMIT:,} are allowed")
        if entry.path is not None:
            return np.load(entry.path, mmap_mode="r", allow_pickle=False)
        return np.load(io.BytesIO(entry.read()), allow_pickle=False)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            "the file is damaged", where=place, why=in_one_line(error), fix="copy or download the file again"
        ) from None
    except (*BROKEN, SyntaxError, TypeError, tokenize.TokenError) as error:
        raise DataError("the file does not hold a NumPy array", where=place, why=in_one_line(error), fix=fix) from None
    except BadFile as error:
        raise DataError("the file cannot be read", where=place, why=str(error)) from None


def columns_of(array: np.ndarray, name: str, where: str) -> dict[str, np.ndarray]:
    """(N,) or (N, D) as columns NAME0, NAME1, ...; one alone is NAME. Raises DataError for other shapes."""
    if array.ndim == 1:
        return {name if name != "x" else "x0": np.ascontiguousarray(array)}
    if array.ndim == 2:
        return {f"{name}{i}": np.ascontiguousarray(array[:, i]) for i in range(array.shape[1])}
    raise DataError(
        f"expected an array of shape (N,) or (N, D), got {array.shape}",
        where=where,
        why="(N,) is one column of N cells, (N, D) is a table of D columns",
    )
