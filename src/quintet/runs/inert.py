"""A run's folder holds files and folders alone: what would hang, or never end, once it is opened is refused before."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from itertools import islice
from pathlib import Path

from quintet.core.errors import CheckpointError

ENTRIES, DEPTH = 100_000, 12
"""Of a folder: it has some thousands in a few folders, one in another."""
LARGEST = {".yaml": 2**18, ".json": 2**28, ".jsonl": 2**30}
"""Bytes of texts that are read as a whole; YAML takes ten seconds a megabyte."""
LONG = 2**28
"""Bytes of tensors from which on their file is asked how long it is before all of it is read."""
HEADER = 2**24
"""Bytes of its header at most."""


def check(folder: Path, depth: int = 0) -> int:
    """How many files and folders there are in a run's folder. Raises CheckpointError for a pipe, a device, a link to
    one or to itself, for a text larger than any run's, and for too many.
    """
    count, inside = 0, []
    with suppress(FileNotFoundError, PermissionError):  # removed a moment ago; or said by what reads it
        inside = list(islice(os.scandir(folder), ENTRIES))
    for entry in inside:
        count += 1
        try:
            facts = entry.stat()
        except FileNotFoundError:  # a link to nowhere, or a file that its own process has just removed
            continue
        except OSError as error:
            raise CheckpointError(
                "the file cannot be read", where=entry.path, why=str(error), fix="remove this file"
            ) from None
        if stat.S_ISDIR(facts.st_mode):
            count += check(Path(entry.path), depth + 1) if depth < DEPTH else ENTRIES
        elif not stat.S_ISREG(facts.st_mode):
            why = "it is a device, a pipe or a socket, or a link to one of these"
            raise CheckpointError(
                "this is neither a file nor a folder", where=entry.path, why=why, fix="remove this file"
            )
        elif facts.st_size > LARGEST.get(Path(entry.name).suffix, facts.st_size):
            why = f"it has {facts.st_size:,} bytes, but at most {LARGEST[Path(entry.name).suffix]:,} are allowed"
            fix = "remove this file"
            raise CheckpointError("the file is too large for its kind", where=entry.path, why=why, fix=fix)
        elif entry.name.endswith(".safetensors") and facts.st_size > LONG and stated(entry.path) != facts.st_size:
            why = f"it has {facts.st_size:,} bytes, but its header announces another size"
            raise CheckpointError(
                "the size of the file does not match its header", where=entry.path, why=why, fix="remove this file"
            )
        if count > ENTRIES:
            what = "the folder of the run holds too many files, or too deeply nested folders"
            raise CheckpointError(
                what,
                where=str(folder),
                why=f"at most {ENTRIES:,} files in {DEPTH} levels of folders are allowed",
                fix="remove what does not belong to the run",
            )
    return count


def stated(path: str) -> int | None:
    """How long a file of safetensors is by its header: 8 bytes of its length, the header, and the tensors."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < HEADER else {}
        ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
        return 8 + length + int(max(ends, default=0))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
