"""`hf:owner/name[:config]`: data sets of the Hugging Face hub, through its own client."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from quintet.core.errors import DataError, EnvironmentFault, UsageError
from quintet.data import cache
from quintet.data.archives import reason
from quintet.data.dataset import Dataset, Found, Reading
from quintet.data.splits import PUBLISHED
from quintet.modalities.audio.reading import Sound, read_sounds
from quintet.modalities.image.reading import Picture, open_image, read_images
from quintet.modalities.table import reading as tables
from quintet.modalities.text import reading as texts

PREFIX = "hf:"
LONG_TEXT = 40


def read_hub(source: str, reading: Reading) -> Dataset:
    """`source`: hf:owner/name, with :config behind it where there are several. Fetched once, by the client's rules."""
    name, _, config = source.removeprefix(PREFIX).partition(":")
    if not name.strip("/"):
        raise UsageError(f"no name in {source!r}", fix="write hf:owner/name")
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
        fix = "connect to the network, or put the files in a folder and name that" if offline else "check the name"
        raise DataError("cannot load it from the hub", where=source, why=f"{kind}: {reason(error)}", fix=fix) from None
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
    main = next((column for kind in ("Image", "Audio") for column in kinds if kinds[column] == kind), None)
    columns = {column: _column(parts, column, features[column]) for column in features if kinds[column] not in
               ("Image", "Audio")}  # fmt: skip
    key = cache.key_of(Path(source), [], asdict(reading) | {"of": [str(getattr(p, "_fingerprint", "")) for p in
                       parts.values()]}) if all(hasattr(p, "_fingerprint") for p in parts.values()) else ""  # fmt: skip
    if main is None:
        dataset = _rows(columns, Found(source, reading, "", names))
    else:
        classes = [column for column in columns if kinds[column] == "ClassLabel"]
        labels = {"label" if classes == [column] else column: cells for column, cells in columns.items()}
        table = tables.tidy(pa.table(labels), empty=False)[0] if labels else None
        found = Found(source, reading, key, names, table)
        dataset = _media(parts, main, features[main], kinds[main], found)
    name = source.removeprefix(PREFIX).split(":")[0].split("/")[-1]
    return replace(dataset, name=name, source=source, about=f"{len(dataset.items):,} items from the hub")


def _column(parts: Mapping[str, Any], column: str, feature: Any) -> pa.Array:
    cells = [cell for part in parts.values() for cell in part[column]]
    if type(feature).__name__ == "ClassLabel":
        cells = [None if cell is None or cell < 0 else feature.int2str(int(cell)) for cell in cells]
    return pa.array(cells)


def _rows(columns: Mapping[str, pa.Array], found: Found) -> Dataset:
    table = pa.table(dict(columns))
    strings = [name for name in columns if pa.types.is_string(table[name].type)]
    text = "text" if "text" in strings else tables.text_column(table)
    if text is None:
        return tables.dataset_of(table, found)
    rest = table.drop_columns([text])
    labels = tables.tidy(rest, empty=False)[0] if rest.num_columns else None
    items = [cell or "" for cell in table[text].to_pylist()]
    return texts.dataset_of(items, replace(found, labels=labels), (f"the column {text} is the items",))


def _media(parts: Mapping[str, Any], column: str, feature: Any, kind: str, found: Found) -> Dataset:
    """Images or recordings, as the files that they are stored as; decoded by our rules."""
    stored = {}
    for name, part in parts.items():
        raw = type(feature)(decode=False)  # {"bytes", "path"} instead of decoded values
        stored[name] = part.cast_column(column, raw) if hasattr(part, "cast_column") else part
    places = [(part, index) for part in stored.values() for index in range(len(part))]

    def content(place: tuple[Any, int]) -> bytes:
        return _bytes(place[0][place[1]][column])

    if kind == "Image":
        pictures: Sequence[Picture] = [
            Picture(f"row {n}", partial(content, place), open_image) for n, place in enumerate(places)
        ]
        return read_images(pictures, found)
    return read_sounds([Sound(f"row {n}", partial(content, place)) for n, place in enumerate(places)], found)


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
