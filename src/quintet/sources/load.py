"""Where data comes from: `load_source` and the names it knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from quintet.core.errors import ConfigError, DataError, UsageError
from quintet.data.dataset import SPLITS, Dataset, Reading, Scale, take
from quintet.data.published import Source, data_root, named_file
from quintet.data.written import Form
from quintet.modalities.table.types import wishes
from quintet.registry import MODALITIES
from quintet.sources.files import KNOWN, read_path
from quintet.sources.hub import PREFIX, read_hub

__all__ = ["SOURCES", "SPLITS", "Dataset", "Source", "data_root", "load_source", "named_file", "take"]


SOURCES: dict[str, Callable[[], Dataset]] = {
    name: source for modality in MODALITIES.values() for name, source in modality.sets.items()
}


def load_source(
    source: str,
    *,
    size: int | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    rate: int | None = None,
    unit: Literal["auto", "document", "line"] = "auto",
    window: int | None = None,
    group: str | None = None,
    time: str | None = None,
    whole: bool = False,
    scale: Scale | None = None,
    types: str | Mapping[str, Any] | None = None,
    forms: Mapping[str, Form] | None = None,
    split: Literal["auto", "none"] = "auto",
) -> Dataset:
    """A name of `SOURCES`, a path, or hf:owner/name[:config], read and split.

    The rest is for paths and the hub. `size`: pixels of an image's longer side; `fit`: what is done with images of
    other proportions; `rate`: samples a second of audio; `unit`: what an item of a text file is; `window`: steps of a
    window, where rows or arrays are series (`time` is then their column of times, `group` that of entities); `group`:
    rows with one value of this column stay in one split; `time`: the rows that are last by this column are the test
    split; `whole`: not split, all items in their own order in every split; `scale`: which values of images of 16 bits
    or real numbers are black and white (default: their least and largest); `types`: what columns are,
    "price=decimal,zip=category" or a mapping, of `types.KINDS`; `forms`: in which the columns of a CSV are written,
    where that fits; `split`: "none" trains on all items, which every split then holds.
    Raises UsageError for a name that is not known, DataError for what cannot be read.
    """
    if source in SOURCES:
        if types:
            raise ConfigError("the columns of a built-in source have their types", where=f"data.types, {source}",
                              fix="leave out data.types")  # fmt: skip
        return SOURCES[source]()
    reading = Reading(size, fit, rate, unit, window, group, time, whole, scale, wishes(types), forms or {}, split)
    if source.startswith(PREFIX):
        return read_hub(source, reading)
    path = Path(source).expanduser()
    if path.exists():
        return read_path(path, reading)
    if path.suffix.lower() in (*KNOWN, ".zip", ".tar", ".tgz", ".gz") or source.startswith(("/", "./", "../", "~")):
        near = difflib.get_close_matches(path.name, _beside(path), 1)
        raise DataError("no such file or folder", where=source, fix=f"did you mean {near[0]}?" if near else "")
    near = difflib.get_close_matches(source, SOURCES, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    names = ", ".join(name for name in SOURCES if "/" not in name)
    raise UsageError(f"unknown source {source!r}", why=f"{hint}known: {names}, or a path", fix="quintet data")


def _beside(path: Path) -> list[str]:
    """What lies where a path points."""
    try:
        return [other.name for other in path.parent.iterdir()]
    except OSError:
        return []
