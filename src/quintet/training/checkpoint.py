"""Checkpoints that are whole or absent: temporary folder, fsync, manifest of digests, fsync, rename, fsync the
parent. Only saving and loading need torch: a run is listed and verified without it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
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
    """Write a small file so that the old or the new text stands there, never a part; a link is replaced."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with temporary.open("x") as file:
        file.write(text)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors into a file that others may read as far as the user's umask says, which safetensors does not ask.
    OSError for whatever the disk refuses.
    """
    from safetensors.torch import save_file

    path.unlink(missing_ok=True)
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:  # so it tells of a full disk too
        raise OSError(f"{error}") from error
    path.chmod(mode)


def no_link(folder: Path) -> None:
    """Raise OSError if a folder within a run is a symbolic link: what is behind it is not the run's."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "a symbolic link within a run is not followed", str(folder))


def clear(path: Path) -> None:
    """Remove what lies here, a link rather than what is behind it."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def save(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write root/step-XXXXXXXX with one safetensors file a group and state.json; then prune to the newest `keep`.
    OSError for whatever the disk refuses.
    """
    target = root / f"step-{step:08d}"
    temporary = root / f".tmp-{target.name}"
    no_link(root)
    make(root)
    clear(temporary)
    temporary.mkdir()
    for name, group in tensors.items():
        on_cpu = {key: value.detach().cpu().contiguous() for key, value in group.items()}
        write_tensors(temporary / f"{name}.safetensors", on_cpu)
    (temporary / "state.json").write_text(json.dumps(state, indent=1))
    files = sorted(temporary.iterdir())
    for file in files:
        sync(file)
    digests = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
    manifest = {"step": step, "files": digests, "sha256": _digest(step, digests)}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
    sync(temporary / MANIFEST)
    sync(temporary)
    if os.path.lexists(target):  # the same step saved again: the same content
        remove(target)
    temporary.rename(target)
    sync(root)
    prune(root, keep, target)
    return target


def prune(root: Path, keep: int, written: Path) -> None:
    """Remove the checkpoints behind the newest `keep` good ones, of which `written` is one: one that is damaged is none
    of them, however new it is.
    """
    good = 0
    for folder in reversed(steps(root)):
        if good >= keep:
            remove(folder)
            continue
        with suppress(CheckpointError):
            if folder != written:
                verify(folder)
            good += 1


def remove(folder: Path) -> None:
    """Remove a checkpoint at once: whoever reads the run meanwhile sees all of it or nothing."""
    aside = folder.with_name(f".tmp-old-{folder.name}")
    no_link(folder.parent)
    clear(aside)
    folder.rename(aside)
    clear(aside)


def set_aside(folder: Path) -> Path:
    """Give a checkpoint that cannot be used a name under which nobody takes it for one."""
    aside = folder.with_name(f"damaged-{folder.name}")
    no_link(folder.parent)
    clear(aside)
    folder.rename(aside)
    return aside


def _digest(step: Any, files: Any) -> str:
    """The manifest's own sha256, so that a flipped bit in it is not taken for one in a file that it lists."""
    return hashlib.sha256(json.dumps([step, files], sort_keys=True).encode()).hexdigest()


def steps(root: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; one that cannot be looked at is among them, a link is not."""
    try:
        with os.scandir(root) as entries:
            return sorted(Path(one.path) for one in entries if one.name.startswith("step-") and _is_folder(one))
    except OSError:
        return []


def step_of(folder: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(folder.name.removeprefix("step-"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return True


def gone(folder: Path) -> bool:
    """Whether a checkpoint is there no more. One that cannot be looked at is there."""
    try:
        folder.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def sweep(root: Path) -> None:
    """Remove what an interrupted save left behind."""
    for path in root.glob(".tmp-*") if root.is_dir() and not root.is_symlink() else ():
        clear(path)


def verify(folder: Path) -> None:
    """Raise CheckpointError, naming the file, unless every file has the size and sha256 of the manifest."""
    try:
        content = (folder / MANIFEST).read_text()
        manifest = json.loads(content)
        files = {str(name): entry for name, entry in manifest["files"].items()}
        expected = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
        if manifest["sha256"] != _digest(manifest["step"], manifest["files"]):
            raise ValueError("its sha256 differs from the one that it states")
        if json.dumps(manifest, indent=1) != content:
            raise ValueError("it was changed after it was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            "the manifest of the checkpoint is damaged", where=str(folder / MANIFEST), why=repr(error)
        ) from None
    try:
        present = {path.name for path in folder.iterdir()} - {MANIFEST}
        shared = sorted(present & set(expected))
        wrong = [name for name in shared if not _is(folder / name, *expected[name])]
    except OSError as error:
        raise CheckpointError("the file cannot be read", where=str(error.filename or folder), why=str(error)) from None
    if wrong and wrong == shared:
        raise CheckpointError(
            "the manifest of the checkpoint is damaged",
            where=str(folder / MANIFEST),
            why="none of the files has the size and sha256 that it lists",
        )
    for name in sorted(present ^ set(expected)):
        raise CheckpointError(
            "this file of the checkpoint is missing, or does not belong to it",
            where=str(folder / name),
            fix="if it is missing, put it back; otherwise remove it",
        )
    if wrong:
        what = "the file is damaged: its size or sha256 differs from the manifest"
        raise CheckpointError(what, where=", ".join(str(folder / name) for name in wrong))


def _is(path: Path, size: int, digest: str) -> bool:
    return path.stat().st_size == size and sha256(path) == digest


def intact(folder: Path) -> bool:
    """`verify`, or False for a folder that is there no more: the run's own process, which still trains, has removed or
    replaced it meanwhile.
    """
    try:
        verify(folder)
    except CheckpointError:
        if gone(folder):
            return False
        verify(folder)  # it was just replaced by the same content, or it is damaged
    return True


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Verify, then read (tensors by group, state)."""
    from safetensors.torch import load_file

    verify(folder)
    try:
        return {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}, state_of(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: a file that is gone
        raise CheckpointError("the checkpoint cannot be read", where=str(folder), why=str(error)) from None


def state_of(folder: Path) -> dict[str, Any]:
    """What a checkpoint holds beside its tensors. Raises CheckpointError."""
    path = folder / "state.json"
    try:
        state = json.loads(path.read_text())
        if not isinstance(state, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("the state in the checkpoint cannot be read", where=str(path), why=str(error)) from None
    return state
