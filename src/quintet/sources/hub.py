"""`hf:owner/name[:config]`: data sets of the Hugging Face hub, through its own client."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from quintet.core.errors import DataError, EnvironmentFault, UsageError
from quintet.data import cache
from quintet.data.archives import Entry, in_one_line
from quintet.data.arrow import tidy
from quintet.data.dataset import Dataset, Found, Reading
from quintet.data.splits import PUBLISHED
from quintet.registry import MODALITIES
from quintet.sources.arrays import from_columns

PREFIX = "hf:"


def read_hub(source: str, reading: Reading) -> Dataset:
    """`source`: hf:owner/name, with :config behind it where there are several. Fetched once, by the client's rules."""
    name, _, config = source.removeprefix(PREFIX).partition(":")
    if not name.strip("/"):
        raise UsageError(f"the name of a data set is missing in {source!r}", fix="write hf:owner/name")
    try:
        import datasets
    except ImportError:
        raise EnvironmentFault("the package datasets is not installed", where=source,
                               fix="pip install 'quintet[hf]'") from None  # fmt: skip
    try:
        loaded = datasets.load_dataset(name, config or None)
    except Exception as error:  # the client's own errors, and those of the network below it
        kind = type(error).__name__
        offline = any(word in kind for word in ("Connection", "Offline", "Timeout", "Proxy", "HTTP", "Gated"))
        fix = (
            "connect to the network, or put the files in a folder and give its path"
            if offline
            else "check the name of the data set"
        )
        raise DataError(
            "the data cannot be loaded from the hub", where=source, why=f"{kind}: {in_one_line(error)}", fix=fix
        ) from None
    return from_hub(loaded, source, reading)


def from_hub(loaded: Mapping[str, Any], source: str, reading: Reading) -> Dataset:
    """Splits, each a `datasets.Dataset`: images, recordings or texts where a column has them, else a table.

    Class numbers become class names, and a single class column beside the items is `label`.
    """
    parts = {PUBLISHED.get(name.lower(), name): part for name, part in loaded.items()}
    if any(name not in PUBLISHED.values() for name in parts) and len(parts) > 1:
        parts = {name: part for name, part in parts.items() if name in PUBLISHED.values()} or parts
    features = dict(next(iter(parts.values())).features)
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    names = list(np.repeat(list(parts), [len(part) for part in parts.values()])) if len(parts) > 1 else []
    files = {modality.feature: modality for modality in MODALITIES.values() if modality.feature}
    main = next((column for kind in files for column in kinds if kinds[column] == kind), None)
    columns = {column: _column(parts, column, features[column]) for column in features if kinds[column] not in files}
    key = cache.cache_key(Path(source), [], asdict(reading) | {"of": [str(getattr(p, "_fingerprint", "")) for p in
                       parts.values()]}) if all(hasattr(p, "_fingerprint") for p in parts.values()) else ""  # fmt: skip
    if main is None:
        dataset = from_columns(pa.table(columns), Found(source, reading, "", names))
    else:
        classes = [column for column in columns if kinds[column] == "ClassLabel"]
        labels = {"label" if classes == [column] else column: cells for column, cells in columns.items()}
        table = tidy(pa.table(labels), empty=False)[0] if labels else None
        found = Found(source, reading, key, names, table)
        dataset = files[kinds[main]].read(_entries(parts, main, features[main]), found)
    name = source.removeprefix(PREFIX).split(":")[0].split("/")[-1]
    return replace(dataset, name=name, source=source, about=f"{len(dataset.items):,} items from the hub")


def _column(parts: Mapping[str, Any], column: str, feature: Any) -> pa.Array:
    cells = [cell for part in parts.values() for cell in part[column]]
    if type(feature).__name__ == "ClassLabel":
        cells = [None if cell is None or cell < 0 else feature.int2str(int(cell)) for cell in cells]
    return pa.array(cells)


def _entries(parts: Mapping[str, Any], column: str, feature: Any) -> list[Entry]:
    """The cells of a column as the files that they are stored as, to be decoded by our rules."""
    stored = []
    for part in parts.values():
        raw = type(feature)(decode=False)  # {"bytes", "path"} instead of decoded values
        stored.append(part.cast_column(column, raw) if hasattr(part, "cast_column") else part)
    places = [(part, index) for part in stored for index in range(len(part))]

    def opener(part: Any, index: int) -> io.BytesIO:
        return io.BytesIO(_bytes(part[index][column]))

    return [Entry(f"row {n}", 0, 0, partial(opener, *place)) for n, place in enumerate(places)]


def _bytes(cell: Any) -> bytes:
    """A stored file: its bytes, the path of it, or an image that is decoded already."""
    if isinstance(cell, Image.Image):
        buffer = io.BytesIO()
        cell.save(buffer, "PNG")
        return buffer.getvalue()
    if isinstance(cell, Mapping):
        stored = cell.get("bytes")
        return bytes(stored) if stored is not None else Path(cell["path"]).read_bytes()
    return b""
