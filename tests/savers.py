"""Whoever saves what is trained, tortured: crashes after every operation, kills and damages, in the words of one table.

    python tests/savers.py [KILLS [DAMAGES]]     every saver of another library that is installed here, as JSON

It needs torch and the standard library, so that other libraries are measured in their own environments.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torture import Disk

FAILED = (Exception, importlib.import_module("torch.distributed.checkpoint").CheckpointException)
"""What reading raises; that of torch.distributed.checkpoint is no Exception."""

# -- whoever saves ---------------------------------------------------------------------------------------------------


class Saver(NamedTuple):
    """How somebody writes numbers of a step below a folder, and reads the newest back: (step, numbers)."""

    save: Callable[[Path, int, Any], None]
    load: Callable[[Path], tuple[int, Any]]


def numbers(step: int, count: int = 2000) -> Any:
    """What is saved at a step: each number is the step, so that a wrong one shows."""

    return torch.full((count,), float(step))


def outcome(saver: Saver, root: Path, acknowledged: int, newest: int) -> str:
    """`old or new` if what loads is whole and no older than what was acknowledged; else `lost`, or `wrong` numbers."""
    try:
        step, found = saver.load(root)
        if not bool((found == float(step)).all()):
            return "wrong"
    except FAILED:
        return "old or new" if acknowledged == 0 else "lost"
    return "old or new" if acknowledged <= step <= newest else "lost"


def crashed(saver: Saver, work: Path, steps: int = 3, deaf: Callable[[bool], bool] | None = None) -> dict[str, int]:
    """Save so many steps and look at every state of a crash: how many were which outcome. `deaf`: whether this disk
    does nothing where it is asked to sync a folder, or a file.
    """
    root, state = work / "disk", work / "state"
    root.mkdir(parents=True)
    with Disk(root) as disk:
        for step in range(1, steps + 1):
            saver.save(root, step, numbers(step))
            disk.mark(step)
    for i, op in enumerate(disk.ops):
        if deaf and op.kind == "sync" and deaf(op.number in disk.now.folders):
            disk.ops[i] = op._replace(number=-1)
    found = {"states": 0, "old or new": 0, "lost": 0, "wrong": 0}
    for crash in disk.crashes():
        acknowledged = max([step for at, step in disk.marks if at <= crash.after], default=0)
        crash.tree.write(state)
        found["states"] += 1
        found[outcome(saver, state, acknowledged, acknowledged + 1)] += 1
    return found


def killed(saver: Saver, work: Path, times: int, seed: int = 0, count: int = 500_000) -> dict[str, int]:
    """Kill a process at a random moment of saving, so many times: how many were which outcome."""

    rng, found = random.Random(seed), {"kills": times, "old or new": 0, "lost": 0, "wrong": 0}
    for number in range(times):
        root = work / str(number)
        root.mkdir(parents=True)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                for step in range(1, 10_000):
                    saver.save(root, step, numbers(step, count))
                    os.write(writer, step.to_bytes(4, "big"))
            os._exit(0)
        os.close(writer)
        os.read(reader, 4)  # the first is there
        began = time.monotonic()
        os.read(reader, 4)
        time.sleep(rng.random() * 2 * (time.monotonic() - began))  # within the next two
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said = b""
        while more := os.read(reader, 4096):
            said += more
        os.close(reader)
        acknowledged = int.from_bytes(said[-4:], "big") if said else 2
        found[outcome(saver, root, acknowledged, acknowledged + 1)] += 1
        shutil.rmtree(root)
    return found


def damaged(content: bytes, rng: Any) -> bytes:
    """One bit flipped, cut short, emptied, or a part in the place of another."""
    out, at = bytearray(content), rng.randrange(len(content))
    match rng.randrange(6):
        case 0:
            del out[at:]
        case 1:
            out.clear()
        case 2:
            out[at : at + 64] = out[:64] if bytes(out[at : at + 64]) != bytes(out[:64]) else b"\x55" * 64
        case _:
            out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def noticed(saver: Saver, work: Path, times: int, seed: int = 0) -> dict[str, int]:
    """Damage one file of what was saved, so many times: how often nobody notices."""

    rng, found = random.Random(seed), {"damages": 0, "noticed": 0, "unnoticed": 0}
    root = work / "whole"
    root.mkdir(parents=True)
    saver.save(root, 1, numbers(1))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    while found["damages"] < times:
        path = rng.choice([path for path in files if path.stat().st_size])
        whole = path.read_bytes()
        if (content := damaged(whole, rng)) == whole:
            continue
        path.write_bytes(content)
        found["damages"] += 1
        try:
            saver.load(root)
            found["unnoticed"] += 1
        except FAILED:
            found["noticed"] += 1
        path.write_bytes(whole)
    return found


# -- savers of others ------------------------------------------------------------------------------------------------


def newest(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(pattern), reverse=True)


def first_that_loads(paths: Iterable[Path], load: Callable[[Path], Any]) -> tuple[int, Any]:
    """The newest file that can be read, as a careful user of that library would look for it."""
    for path in paths:
        with contextlib.suppress(*FAILED):
            found = load(path)
            return int(found["step"]), found["x"]
    raise FileNotFoundError("nothing loads")


def in_place() -> Saver:
    """One file, written anew."""

    def save(root: Path, step: int, x: Any) -> None:

        with open(root / "model.pt", "wb") as file:  # as torch.save(x, path) does
            torch.save({"step": step, "x": x}, file)

    def load(root: Path) -> tuple[int, Any]:

        found = torch.load(root / "model.pt", weights_only=True)
        return int(found["step"]), found["x"]

    return Saver(save, load)


def torch_save() -> Saver:
    """A file a step, the last two kept."""

    def save(root: Path, step: int, x: Any) -> None:

        with open(root / f"step-{step:06d}.pt", "wb") as file:
            torch.save({"step": step, "x": x}, file)
        for old in newest(root, "step-*.pt")[2:]:
            old.unlink()

    def load(root: Path) -> tuple[int, Any]:

        return first_that_loads(newest(root, "step-*.pt"), lambda path: torch.load(path, weights_only=True))

    return Saver(save, load)


def safetensors_alone() -> Saver:
    """A file a step, the last two kept."""

    def save(root: Path, step: int, x: Any) -> None:
        from safetensors.torch import save_file

        save_file({"step": torch.tensor(float(step)), "x": x}, root / f"step-{step:06d}.safetensors")
        for old in newest(root, "step-*.safetensors")[2:]:
            old.unlink()

    def load(root: Path) -> tuple[int, Any]:
        from safetensors.torch import load_file

        return first_that_loads(newest(root, "step-*.safetensors"), load_file)

    return Saver(save, load)


def distributed_checkpoint() -> Saver:
    """torch.distributed.checkpoint in one process: a folder a step, the last two kept."""

    def save(root: Path, step: int, x: Any) -> None:
        import torch.distributed.checkpoint as dcp

        writer = dcp.FileSystemWriter(root / f"step-{step:06d}", single_file_per_rank=True, sync_files=True)
        dcp.save({"step": torch.tensor(float(step)), "x": x}, storage_writer=writer)
        for old in newest(root, "step-*")[2:]:
            shutil.rmtree(old)

    def load(root: Path) -> tuple[int, Any]:
        import torch.distributed.checkpoint as dcp

        def one(path: Path) -> Any:
            import pickle

            shape = next(iter(pickle.loads((path / ".metadata").read_bytes()).state_dict_metadata["x"].size))
            state = {"step": torch.tensor(0.0), "x": torch.zeros(shape)}
            dcp.load(state, checkpoint_id=path)
            return state

        return first_that_loads(newest(root, "step-*"), one)

    return Saver(save, load)


def lightning() -> Saver:
    """What Lightning's Trainer writes checkpoints with: a file a step, the last two kept."""

    def save(root: Path, step: int, x: Any) -> None:
        from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

        TorchCheckpointIO().save_checkpoint({"step": step, "x": x}, root / f"step-{step:06d}.ckpt")
        for old in newest(root, "step-*.ckpt")[2:]:
            TorchCheckpointIO().remove_checkpoint(old)

    def load(root: Path) -> tuple[int, Any]:
        from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

        return first_that_loads(newest(root, "step-*.ckpt"), TorchCheckpointIO().load_checkpoint)

    return Saver(save, load)


PEERS = {
    "one file written in place": in_place,
    "torch.save": torch_save,
    "safetensors": safetensors_alone,
    "torch.distributed.checkpoint": distributed_checkpoint,
    "Lightning": lightning,
}
"""Savers of other libraries, by name; each imports its library when it is used."""


def main() -> int:
    """Every peer that is installed here, as JSON."""

    torch.set_num_threads(1)
    kills, damages = (int(word) for word in (*sys.argv[1:], "200", "200")[:2])
    out = {}
    for name, make in PEERS.items():
        saver = make()
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            work = Path(folder)
            try:
                saver.save(work, 1, numbers(1))
            except ImportError:
                continue
            out[name] = {"crashes": crashed(saver, work / "a"), "kills": killed(saver, work / "b", kills),
                         "damages": noticed(saver, work / "c", damages)}  # fmt: skip
            print(name, out[name], file=sys.stderr, flush=True)
    print(json.dumps(out, indent=1))
    return int(not out)


if __name__ == "__main__":
    sys.exit(main())
