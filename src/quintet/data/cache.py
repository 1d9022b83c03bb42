"""Encoded data on disk: written once to a temporary folder, renamed, and memory-mapped ever after."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.core.errors import EnvironmentFault
from quintet.core.files import sha256, sync
from quintet.core.plain import redraws
from quintet.data.archives import Entry
from quintet.data.dataset import Dataset

CACHE_VERSION = 5
"""Raised when what lies in the cache would be read differently."""
SMALL = 2**26
"""Bytes of decoded data that simply stay in memory."""
META = "meta.json"
LEFTOVER = 86_400
"""Seconds after which the temporary folder of a process that was killed is removed."""


def root() -> Path:
    """`$QUINTET_CACHE`, or a folder of the user's cache."""
    return Path(os.environ.get("QUINTET_CACHE") or Path.home() / ".cache" / "quintet" / "encoded")


def cache_key(path: Path, entries: Iterable[Entry], reading: Mapping[str, Any]) -> str:
    """A digest over the place, the names, sizes and times of the files, and how they are read."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([CACHE_VERSION, str(path), dict(sorted(reading.items()))]).encode())
    for entry in entries:
        digest.update(f"{entry.name}\0{entry.size}\0{entry.stamp}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


Opened = Callable[[Path], Any]
"""How the items that lie in a folder of the cache are opened, memory-mapped."""


def find(key: str, opened: Opened) -> Dataset | None:
    """The data set that is kept under this key ("": none); what cannot be read is removed, to be made again."""
    if not key:
        return None
    folder = root() / key
    if not (folder / META).is_file():
        return None
    try:
        return load(folder, opened)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def cached(key: str, write: Callable[[Path], Dataset], opened: Opened) -> Dataset:
    """`write` puts items into the folder it is given and returns the data set; the whole then appears at once.
    EnvironmentFault where there is no room for it.
    """
    try:
        return _cached(root(), key, write, opened)
    except OSError as error:
        fix = "free disk space, or set QUINTET_CACHE to another folder"
        what, why = "the data cannot be put into the cache", str(error)
        raise EnvironmentFault(what, where=str(root()), why=why, fix=fix) from error


def _cached(base: Path, key: str, write: Callable[[Path], Dataset], opened: Opened) -> Dataset:
    base.mkdir(parents=True, exist_ok=True)
    for old in base.glob(".*"):
        if old.is_dir() and time.time() - old.stat().st_mtime > LEFTOVER:
            shutil.rmtree(old, ignore_errors=True)
    folder = base / f".{key}-{secrets.token_hex(8)}"
    folder.mkdir()  # readable as the user's umask says, which those of tempfile are not
    try:
        dataset = write(folder)
        save(folder, dataset)
        del dataset
        try:
            folder.rename(base / key)
        except OSError:  # another process was faster
            if not (base / key / META).is_file():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return load(base / key, opened)


def save(folder: Path, dataset: Dataset) -> None:
    """What stands beside the items: labels, splits, notes and the digest."""
    if dataset.labels is not None:
        with pa.ipc.new_file(str(folder / "labels.arrow"), dataset.labels.schema) as writer:
            writer.write_table(dataset.labels)
    meta = {
        "modality": dataset.modality,
        "splits": {name: [int(index[0]) if len(index) else 0, len(index)] for name, index in dataset.splits.items()},
        "about": dataset.about,
        "notes": dataset.notes,
        "decided": dataset.decided,
        "digest": dataset.fingerprint(),
        "files": {path.name: [path.stat().st_size, sha256(path)] for path in sorted(folder.iterdir())},
    }
    (folder / META).write_text(json.dumps([meta, _seal(meta)], indent=1))
    for path in (*folder.iterdir(), folder):
        sync(path)


def _seal(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def facts_of(folder: Path) -> dict[str, Any]:
    """What stands beside the items. ValueError if it was changed, or a file has another size: reading behind the end of
    a memory-mapped one ends the process.
    """
    meta, seal = json.loads((folder / META).read_text())
    if seal != _seal(meta) or any((folder / name).stat().st_size != size for name, (size, _) in meta["files"].items()):
        raise ValueError("damaged")
    return dict(meta)


def intact(folder: Path) -> bool:
    """Whether every file in a folder of the cache is what was written."""
    try:
        return all(sha256(folder / name) == digest for name, (_, digest) in facts_of(folder)["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load(folder: Path, opened: Opened) -> Dataset:
    """A data set whose items are memory-mapped; the caller names it."""
    meta, items = facts_of(folder), opened(folder)
    labels = mapped_table(folder / "labels.arrow") if (folder / "labels.arrow").is_file() else None
    splits = {name: np.arange(start, start + count) for name, (start, count) in meta["splits"].items()}
    return Dataset("", meta["modality"], items, splits, labels, meta["about"], digest=meta["digest"],
                   notes=tuple(meta["notes"]), decided=meta["decided"], kept=folder)  # fmt: skip


def mapped_table(path: Path) -> pa.Table:
    """A table whose columns lie on disk."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def progress(things: Iterable[Any], what: str, total: int, *, after: float = 2.0) -> Iterator[Any]:
    """The same things; long work shows how far it got, on standard error."""
    begun, shown, live = time.monotonic(), 0.0, redraws()
    every = 0.2 if live else 10.0
    for done, thing in enumerate(things):
        now = time.monotonic()
        if now - begun > after and now - shown > every:
            shown = now
            left = (now - begun) / max(done, 1) * (total - done)
            line = f"{what}: {done:,} of {total:,}, {left:.0f} s left"
            print(f"\r{line:<70}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)
        yield thing
    if shown and live:
        print(f"\r{'':<70}\r", end="", file=sys.stderr, flush=True)
