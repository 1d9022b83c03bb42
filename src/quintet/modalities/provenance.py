"""Files that are written, and what each says of its origin: model, seed and settings. Free of torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from quintet.core.errors import DataError

Provenance = Mapping[str, Any]
METADATA_KEY = "quintet"
"""Under this name the provenance stands in a file's metadata."""
INSIDE = (".png", ".parquet", ".arrow", ".wav", ".flac")
"""Formats that hold their provenance themselves."""
STANDARD = "-"
"""As a path: standard output."""


def text_of(provenance: Provenance, indent: int | None = None) -> str:
    """As JSON."""
    return json.dumps(dict(provenance), indent=indent, default=str)


def software(provenance: Provenance) -> str:
    """The program that wrote a file, for the field that many formats have for it."""
    return f"quintet {provenance.get('quintet', '')}".strip()


def sidecar(path: Path) -> Path:
    """The file that holds the provenance of one that cannot hold it itself."""
    return path.with_name(f"{path.name}.provenance.json")


def replace(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees the old or the new one as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_provenance(path: Path) -> dict[str, Any]:
    """The provenance of a file, or of the first picture or recording in a folder, that was written with one.

    Raises DataError.
    """
    if path.is_dir():
        first = min((file for suffix in INSIDE for file in path.glob(f"*{suffix}")), default=None)
        if first is None:
            raise DataError("this folder holds neither pictures nor recordings", where=str(path))
        path = first
    try:
        note = _note(path)
        data = None if note is None else json.loads(note)
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:
        raise DataError("the file cannot be read", where=str(path), why=str(error)) from None
    if not isinstance(data, dict):
        raise DataError("the file does not say how quintet made it", where=str(path))
    return data


def _note(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".png":
        from PIL import Image

        with Image.open(path) as image:
            image.load()  # chunks may also stand behind the pixels
            found = image.info.get(METADATA_KEY)
            return str(found) if found is not None else None
    if suffix in (".wav", ".flac"):
        import soundfile  # whose errors are RuntimeErrors

        with soundfile.SoundFile(path) as file:
            return file.comment or None
    if suffix == ".parquet":
        import pyarrow.parquet  # whose errors are ValueErrors and OSErrors

        return _of_schema(pyarrow.parquet.read_schema(path))
    if suffix == ".arrow":
        import pyarrow

        from quintet.data.columnar import schema_of

        with pyarrow.memory_map(str(path)) as file:
            return _of_schema(schema_of(file))
    return sidecar(path).read_text() if sidecar(path).is_file() else None


def _of_schema(schema: Any) -> str | None:
    found = (schema.metadata or {}).get(METADATA_KEY.encode())
    return found.decode() if found is not None else None


class Format(NamedTuple):
    """How items become the bytes of a file. `values`: whether the file holds them as they are (an array), so that they
    come in the units of the data; else it shows them (a picture).
    """

    encode: Callable[[Any, Provenance], bytes]
    values: bool = True


def is_folder(path: str | Path) -> bool:
    """Whether an output path means a folder: it ends in /, has no suffix, or is one already."""
    return str(path).endswith(("/", os.sep)) or not Path(path).suffix or Path(path).is_dir()
