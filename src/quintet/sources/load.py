"""Where data comes from: `load_source` and the names it knows."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from quintet.core.errors import ConfigError, DataError, UsageError, warn
from quintet.data import cache
from quintet.data.archives import in_one_line
from quintet.data.dataset import SPLITS, Dataset, Reading, take
from quintet.data.published import Source, data_root, named_file
from quintet.modalities.options import OPTIONS
from quintet.registry import MODALITIES
from quintet.sources.files import KNOWN, name_of, read_path
from quintet.sources.hub import PREFIX, read_hub

__all__ = ["SOURCES", "SPLITS", "Dataset", "Source", "data_root", "load_source", "named_file", "take"]


SOURCES: dict[str, Callable[[], Dataset]] = {
    name: source for modality in MODALITIES.values() for name, source in modality.sets.items()
}


def load_source(
    source: str,
    *,
    group: str | None = None,
    time: str | None = None,
    split: Literal["auto", "none"] = "auto",
    whole: bool = False,
    forms: Mapping[str, Any] | None = None,
    on_bad: Literal["few", "error", "skip", "quarantine"] = "few",
    **own: Any,
) -> Dataset:
    """A name of `SOURCES`, a path, or hf:owner/name[:config], read and split.

    The rest is for paths and the hub. `group`: rows with one value of this column stay in one split; `time`: the rows
    that are last by this column are the test split; `split`: "none" trains on all items, which every split then holds;
    `whole`: not split, all items in their own order in every split; `forms`: in which the columns of a CSV are written,
    where that fits; `on_bad`: what becomes of that which cannot be read, see `data.problems`; `own`: what single kinds
    of data let their user choose, see `modalities.options`.
    Raises UsageError for a name that is not known, DataError for what cannot be read.
    """
    unknown = own.keys() - {name for kind in OPTIONS.values() for name in kind.reading.model_fields}
    if unknown:
        raise TypeError(f"no kind of data is read by {', '.join(sorted(unknown))}")
    if source in SOURCES:
        settled = {name: why for kind in OPTIONS.values() for name, why in kind.settled.items() if own.get(name)}
        for name, why in settled.items():
            raise ConfigError(why, where=f"data.{name}, {source}", fix=f"leave out data.{name}")
        return SOURCES[source]()
    reading = Reading(group, time, split, whole, forms or {}, on_bad, own)
    if source.startswith(PREFIX):
        return read_hub(source, reading)
    try:
        path = Path(source).expanduser()
        there = path.exists()
    except (OSError, RuntimeError) as error:  # too long a name, or the home of nobody
        raise DataError("no such file or folder", where=source[:200], why=in_one_line(error)) from None
    if there:
        return read_path(path, reading)
    if path.suffix.lower() in (*KNOWN, ".zip", ".tar", ".tgz", ".gz") or source.startswith(("/", "./", "../", "~")):
        near = difflib.get_close_matches(path.name, _beside(path), 1)
        raise DataError("no such file or folder", where=source, fix=f"did you mean {near[0]}?" if near else "")
    near = difflib.get_close_matches(source, SOURCES, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    names = ", ".join(name for name in SOURCES if "/" not in name)
    raise UsageError(f"unknown source {source!r}", why=f"{hint}known: {names}, or a path", fix="quintet data")


def load_checked(source: str, **reading: Any) -> Dataset:
    """`load_source` for work that rests on its data: what the cache keeps of them is compared with its digests, and
    read anew if it is damaged.
    """
    dataset = load_source(source, **reading)
    if dataset.kept is None or cache.intact(dataset.kept):
        return dataset
    warn(f"the cached copy of {source} is damaged, so the source is read again")
    shutil.rmtree(dataset.kept)
    return load_source(source, **reading)


def called(source: str) -> str:
    """What the data of a source are called once they are read."""
    return source if source in SOURCES or source.startswith(PREFIX) else name_of(Path(source))


def _beside(path: Path) -> list[str]:
    """What lies where a path points."""
    try:
        return [other.name for other in path.parent.iterdir()]
    except OSError:
        return []
