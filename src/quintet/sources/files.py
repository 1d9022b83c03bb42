"""A path of the user's -> a data set: what kind of files it holds, and what their places say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa

from quintet.core.errors import DataError, warn
from quintet.data import cache
from quintet.data.archives import Entry, entries_of
from quintet.data.dataset import SPLITS, Dataset, Found, Reading
from quintet.data.problems import UNREAD
from quintet.data.splits import PUBLISHED
from quintet.registry import MODALITIES, candidates
from quintet.sources import arrays

Reader = Callable[[Sequence[Entry], Found], Dataset]


def _arrays(entries: Sequence[Entry], found: Found) -> Dataset:
    if len(entries) > 1:
        raise DataError(
            f"this source holds {len(entries)} NumPy files",
            where=found.where,
            why="a source of arrays is a single file",
            fix="name one of them, or save them as one .npz",
        )
    return arrays.read_arrays(entries[0], replace(found, splits=()))


ARRAYS = "arrays"
KNOWN = {suffix for modality in MODALITIES.values() for suffix in modality.suffixes} | {*arrays.SUFFIXES}
"""Suffixes of files that can be read."""


def kinds_of(reading: Reading) -> dict[str, tuple[str, Reader]]:
    """By suffix, the first kind of data that has it, and its reader."""
    found: dict[str, tuple[str, Reader]] = dict.fromkeys(arrays.SUFFIXES, (ARRAYS, _arrays))
    for modality in candidates(reading):
        for suffix in modality.suffixes:
            found.setdefault(suffix, (modality.name, modality.read))
    return found


def read_path(path: Path, reading: Reading) -> Dataset:
    """The data set of a file, a folder or an archive. Raises DataError with what, where, why and what to do."""
    path = path.expanduser().resolve()
    entries = entries_of(path)
    kinds = kinds_of(reading)
    kind, chosen, ignored = kind_of(entries, path, {suffix: name for suffix, (name, _) in kinds.items()})
    splits, labels = places(chosen) if len(chosen) > 1 else ([None], [None])
    notes = []
    if any(splits) and not all(splits):
        notes.append(f"{splits.count(None):,} files are in no split's folder and count as train")
    table = None
    if any(labels) and (kind == ARRAYS or MODALITIES[kind].labelled_by_folders):
        table = pa.table({"label": pa.array(labels, pa.string())})
        if None in labels:
            notes.append(f"{labels.count(None):,} files are in no class folder: their label is missing")
    found = Found(
        str(path), reading, cache.cache_key(path, chosen, asdict(reading)), splits if any(splits) else (), table
    )
    dataset = kinds[chosen[0].suffix][1](chosen, found)
    if ignored:
        notes.append(f"{sum(ignored.values()):,} other files are ignored: {', '.join(sorted(ignored))}")
    for note in dataset.notes:
        if UNREAD in note:
            warn(f"{path.name}: {note}")
    name = name_of(path)
    about = dataset.about or f"{len(dataset.items):,} {MODALITIES[dataset.modality].things}, read from {path.name}"
    return replace(dataset, name=name, source=str(path), about=about, notes=(*dataset.notes, *notes))


def name_of(path: Path) -> str:
    """What the data in a file or folder are called."""
    return path.name.split(".")[0] or path.name


def kind_of(entries: Sequence[Entry], path: Path, known: Mapping[str, str]) -> tuple[str, list[Entry], Counter[str]]:
    """(the kind of most files, those files, the suffixes of the others); `known`: suffix -> kind."""
    kinds = Counter(known[entry.suffix] for entry in entries if entry.suffix in known)
    if not kinds:
        names = ", ".join(entry.name for entry in entries[:3])
        why = f"it holds {names}{' ...' if len(entries) > 3 else ''}" if entries else "it is empty"
        fix = f"give files that end in one of {' '.join(sorted(known))} .zip .tar .tgz"
        raise DataError("there is no file here that can be read", where=str(path), why=why, fix=fix)
    kind = max(kinds, key=lambda name: (kinds[name], -[*MODALITIES, ARRAYS].index(name)))
    chosen = [entry for entry in entries if known.get(entry.suffix) == kind]
    return kind, chosen, Counter(entry.suffix or entry.name for entry in entries if known.get(entry.suffix) != kind)


def places(entries: Sequence[Entry]) -> tuple[list[str | None], list[str | None]]:
    """(split, label) of each file: folders `train/cat/1.png` or `cat/1.png`, or files `train.csv`, `test.csv`.

    Folders that all files share are passed over. A label is the first folder that is not a split's; a single label
    says nothing, and is none.
    """
    folders = [entry.name.split("/")[:-1] for entry in entries]
    while all(folders) and len({parts[0] for parts in folders}) == 1 and folders[0][0].lower() not in PUBLISHED:
        folders = [parts[1:] for parts in folders]
    splits: list[str | None] = []
    labels: list[str | None] = []
    for parts in folders:
        split = PUBLISHED.get(parts[0].lower()) if parts else None
        rest = parts[1:] if split else parts
        splits.append(split)
        labels.append(rest[0] if rest else None)
    if not any(folders):
        named = [PUBLISHED.get(entry.stem.lower()) for entry in entries]
        splits = named if all(named) and len(set(named)) > 1 else splits
    if set(splits) <= {None} or len(set(splits) & set(SPLITS)) < 2:  # a class may well be called "test"
        splits = [None] * len(entries)
    return splits, labels if len(set(labels) - {None}) > 1 else [None] * len(entries)
