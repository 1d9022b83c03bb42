"""`-` as a source: what a program before us in a pipe writes becomes a file whose kind is read off its content."""

from __future__ import annotations

import csv
import hashlib
import io
import sys
import zipfile
from pathlib import Path

from quintet.core.errors import DataError, EnvironmentFault, UsageError

DASH = "-"
MAGIC = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"fLaC": ".flac",
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\xff\xff\xff\xff": ".arrow",
    b"\x93NUMPY": ".npy",
    b"\x1f\x8b": ".tgz",
}
"""How files begin, and their suffix."""
LINES = 20
"""So many lines at the beginning decide whether a text is a table."""
DELIMITERS = ",;\t|"


def receive(folder: Path) -> Path:
    """Write all of standard input to a file in `folder` whose name is its digest, and return its path.

    Raises UsageError where standard input is a terminal, DataError where nothing comes.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "standard input is a terminal, so there is nothing to read",
            why="- stands for standard input, to which another program or a file is piped",
            fix="cat FILE | quintet ... -",
        )
    content = sys.stdin.buffer.read()
    if not content.strip():
        raise DataError("standard input is empty", fix="cat FILE | quintet ... -")
    path = folder / f"stdin-{hashlib.sha256(content).hexdigest()[:12]}{suffix_of(content)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        why, fix = error.strerror or "", "free disk space, or choose another folder with --runs"
        raise EnvironmentFault(
            "standard input cannot be written to a file", where=str(path), why=why, fix=fix
        ) from None
    return path


def suffix_of(content: bytes) -> str:
    """The suffix of a file with this content: of its first bytes, or of a text .jsonl, .csv or .txt."""
    for beginning, suffix in MAGIC.items():
        if content.startswith(beginning):
            return suffix
    if content.startswith(b"RIFF"):
        return ".webp" if content[8:12] == b"WEBP" else ".wav"
    if content.startswith(b"PK\x03\x04"):
        return _of_zip(content)
    text = content[: 2**20].decode("utf-8-sig", "replace")
    if text.lstrip().startswith("{"):
        return ".jsonl"
    return ".csv" if is_table(text) else ".txt"


def _of_zip(content: bytes) -> str:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except zipfile.BadZipFile:
        return ".zip"
    if "xl/workbook.xml" in names:
        return ".xlsx"
    return ".npz" if names and all(name.endswith(".npy") for name in names) else ".zip"


def is_table(text: str) -> bool:
    """Whether the first lines are rows of one number of cells, at least two, by one of the usual delimiters."""
    lines = text.splitlines()[: LINES + 1]
    if len(lines) > LINES or not text.endswith("\n"):
        lines = lines[:-1] if len(lines) > 2 else lines  # the last may be cut, or go on within quotes
    for delimiter in DELIMITERS:
        counts = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        if len(lines) > 1 and len(counts) == 1 and counts.pop() > 1:
            return True
    return False
