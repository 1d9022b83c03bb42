"""Checkpoints that are whole or absent: temporary folder, fsync, manifest of digests, fsync, rename, fsync the
parent. Only saving and loading need torch: a run is listed and verified without it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from quintet.core.errors import CheckpointError
from quintet.core.files import sha256, sync

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"


def make(folder: Path) -> None:
    """Make a folder, and those that it lies in, so that a crash does not lose their names."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync(path.parent)


def write_atomic(path: Path, text: str) -> None:
    """Write a small file so that the old or the new text stands there, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def save(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write root/step-XXXXXXXX with one safetensors file a group and state.json; then prune to the newest `keep`.
    OSError for whatever the disk refuses.
    """
    from safetensors.torch import save_file

    target = root / f"step-{step:08d}"
    temporary = root / f".tmp-{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    make(root)
    temporary.mkdir()
    for name, group in tensors.items():
        on_cpu = {key: value.detach().cpu().contiguous() for key, value in group.items()}
        try:
            save_file(on_cpu, temporary / f"{name}.safetensors")
        except SafetensorError as error:  # so it tells of a full disk too
            raise OSError(f"{error}") from error
    (temporary / "state.json").write_text(json.dumps(state, indent=1))
    files = sorted(temporary.iterdir())
    for file in files:
        sync(file)
    digests = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
    manifest = {"step": step, "files": digests, "sha256": _digest(step, digests)}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
    sync(temporary / MANIFEST)
    sync(temporary)
    if target.exists():  # the same step saved again: the same content
        remove(target)
    temporary.rename(target)
    sync(root)
    for old in steps(root)[:-keep]:
        remove(old)
    return target


def remove(folder: Path) -> None:
    """Remove a checkpoint at once: whoever reads the run meanwhile sees all of it or nothing."""
    aside = folder.with_name(f".tmp-old-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _digest(step: Any, files: Any) -> str:
    """The manifest's own sha256, so that a flipped bit in it is not taken for one in a file that it lists."""
    return hashlib.sha256(json.dumps([step, files], sort_keys=True).encode()).hexdigest()


def steps(root: Path) -> list[Path]:
    """The checkpoints of a run, oldest first.

    While a run is written, all that were listed may be gone before they are looked at: then they are listed again.
    """
    while listed := sorted(root.glob("step-*")):
        found = [path for path in listed if path.is_dir()]
        if found or any(path.exists() for path in listed):
            return found
    return []


def sweep(root: Path) -> None:
    """Remove what an interrupted save left behind."""
    for path in root.glob(".tmp-*") if root.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)


def verify(folder: Path) -> None:
    """Raise CheckpointError, naming the file, unless every file has the size and sha256 of the manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = {str(name): entry for name, entry in manifest["files"].items()}
        expected = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
        if manifest["sha256"] != _digest(manifest["step"], manifest["files"]):
            raise ValueError("its own sha256 differs")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError("damaged manifest", where=str(folder / MANIFEST), why=repr(error)) from None
    try:
        present = {path.name for path in folder.iterdir()} - {MANIFEST}
        for name in sorted(present ^ set(expected)):
            raise CheckpointError("missing or unexpected file", where=str(folder / name))
        for name, (size, digest) in expected.items():
            path = folder / name
            if path.stat().st_size != size or sha256(path) != digest:
                raise CheckpointError("damaged file: size or sha256 differs from the manifest", where=str(path))
    except OSError as error:
        raise CheckpointError("unreadable file", where=str(error.filename or folder), why=str(error)) from None


def intact(folder: Path) -> bool:
    """`verify`, or False for a folder that is there no more: the run's own process, which still trains, has removed or
    replaced it meanwhile.
    """
    try:
        verify(folder)
    except CheckpointError:
        if not folder.is_dir():
            return False
        verify(folder)  # it was just replaced by the same content, or it is damaged
    return True


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Verify, then read (tensors by group, state)."""
    from safetensors.torch import load_file

    verify(folder)
    try:
        tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
        return tensors, json.loads((folder / "state.json").read_text())
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: a file that is gone
        raise CheckpointError("unreadable checkpoint", where=str(folder), why=str(error)) from None
