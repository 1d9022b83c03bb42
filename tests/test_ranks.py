"""Several processes that train one run: what one meets, all decide on; of one that is gone, all are told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from quintet.runs.folder import Run
from quintet.training import beats, checkpoint
from quintet.training.beats import Beats

PROGRAM = """
import os, signal, sys, time
import torch
torch.set_num_threads(1)
from quintet.cli.main import main
from quintet.training import beats
from quintet.training.trainer import Trainer
fault, at, limit, words = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
beats.SILENT, beats.EVERY, beats.DEAD = limit, 0.2, 2.0
rank, first = int(os.environ["RANK"]), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
update, accumulate = Trainer.update, Trainer.accumulate

def step(self):
    if self.steps < 1_000_000 and rank == 1 and first and self.step == at:
        if "stop" in fault:
            os.kill(os.getpid(), signal.SIGSTOP)
        elif fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "error":
            raise ValueError("this rank alone")
        elif fault == "slow":
            time.sleep(3 * limit)
    return update(self)

def loss(self, name, objective):
    sums = accumulate(self, name, objective)
    if "nan" in fault and rank == 1 and self.step in (1, 2):
        self.flats[name].grad[0] = float("nan")
    if fault == "loss" and rank == 1 and self.step in (1, 2):
        sums[name] = float("inf")
    return sums

Trainer.update, Trainer.accumulate = step, loss
sys.exit(main(words))
"""
WORDS = ["train", "flow", "--data", "moons", "--preset", "tiny", "--run", "r", "--training.save_every", "2",
         "--training.keep", "100", "--training.precision", "fp32"]  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ranks(root: Path, fault: str, at: int, *, steps: int = 8, limit: float = 20.0) -> list[subprocess.Popen[str]]:
    """Two processes of one training, of which the second meets a fault before step `at`."""
    script = root / "ranks.py"
    script.write_text(PROGRAM)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2",
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}  # fmt: skip
    words = [
        sys.executable,
        str(script),
        fault,
        str(at),
        str(limit),
        *WORDS,
        "--steps",
        str(steps),
        "--runs",
        str(root),
    ]
    return [subprocess.Popen(words, env=env | {"RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True) for rank in range(2)]  # fmt: skip


def said(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str]:
    _, err = process.communicate(timeout=timeout)
    return process.returncode, err


def tensors(root: Path, step: int) -> dict[str, torch.Tensor]:
    groups, _ = checkpoint.load(root / "r" / "checkpoints" / f"step-{step:08d}")
    return {f"{group}.{name}": value for group, some in groups.items() for name, value in some.items()}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["nan", "loss"])
def test_nan_on_one_rank_is_skipped_on_all(fault: str, tmp_path: Path) -> None:
    first, second = ranks(tmp_path, fault, 0)
    code, err = said(first)
    assert (code, *said(second)) == (0, 0, ""), err
    assert "2 of 8 updates were skipped" in err
    _, state = checkpoint.load(tmp_path / "r" / "checkpoints" / "step-00000008")
    assert state["lost"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in tensors(tmp_path, 8).values())


def test_a_rank_that_is_stopped_is_named_and_ends_the_others(tmp_path: Path) -> None:
    """Before that, NaN on this rank alone was skipped on both."""
    first, second = ranks(tmp_path, "nan, stop", 7, limit=4)
    try:
        code, err = said(first)
        assert code == 4
        assert "rank 1: another process of this training has ended" in err
        assert second.poll() is None
    finally:
        second.kill()
        second.communicate()
    run = Run(tmp_path / "r")
    assert [folder.name for folder in checkpoint.steps(run.checkpoints)] == ["step-00000004", "step-00000006"]
    found = run.latest()
    assert found is not None
    assert found.state["lost"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in tensors(tmp_path, 6).values())


@pytest.mark.parametrize("fault", ["kill", pytest.param("error", marks=pytest.mark.slow)])
def test_a_rank_that_dies_is_named_and_ends_the_others(fault: str, tmp_path: Path) -> None:
    first, second = ranks(tmp_path, fault, 5)
    code, err = said(first)
    assert code == 4, err
    assert "rank 1: another process of this training has ended" in err
    assert "Traceback" not in err
    assert said(second)[0] == (-signal.SIGKILL if fault == "kill" else 1)
    assert Run(tmp_path / "r").latest() is not None


@pytest.mark.slow
def test_a_rank_that_is_slow_is_not_gone(tmp_path: Path) -> None:
    first, second = ranks(tmp_path, "slow", 5, limit=2)
    assert said(first)[0] == said(second)[0] == 0


@pytest.mark.slow
def test_torchrun_restarts_resume(tmp_path: Path) -> None:
    """A rank is killed; all are started again, and the run becomes the uninterrupted one, bit for bit."""
    (tmp_path / "whole").mkdir()
    assert [said(process)[0] for process in ranks(tmp_path / "whole", "none", 0)] == [0, 0]
    script = tmp_path / "ranks.py"
    script.write_text(PROGRAM)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--max-restarts=2",
        "--",
    ]
    words += [str(script), "kill", "5", "20", *WORDS, "--steps", "8", "--runs", str(tmp_path), "--resume", "auto"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = tensors(tmp_path, 8), tensors(tmp_path / "whole", 8)
    assert all(torch.equal(one[name], other[name]) for name in other)


# -- beats -----------------------------------------------------------------------------------------------------------


class Shared:
    """Counters within this process."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def add(self, key: str, amount: int) -> int:
        self.numbers[key] = self.numbers.get(key, 0) + amount
        return self.numbers[key]


class Broken:
    """Counters that nobody keeps any more."""

    def add(self, key: str, amount: int) -> int:
        raise RuntimeError("Connection reset by peer")


def test_who_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shared = Shared()
    first, second, third = (Beats(shared, rank, 3) for rank in range(3))
    for now[0] in (101.0, 109.0, 112.0):
        assert second.silent(10) == first.silent(10) == ([] if now[0] < 111 else [2])
    third.stop()
    assert first.silent(10) == []
    now[0] = 200.0
    assert first.silent(10) == [1]


def test_who_has_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "DEAD", 0.2)
    monkeypatch.setattr(beats, "EVERY", 0.01)
    shared = Shared()
    first, second = (Beats(shared, rank, 2) for rank in range(2))
    second.stop()
    assert first.gone(RuntimeError("closed\n#0")).where == "rank 1"
    assert first.gone(RuntimeError("closed\n#0")).why == "closed"
    assert Beats(Broken(), 1, 2).gone(RuntimeError("closed")).where == "rank 0"
    Beats(Broken(), 1, 2).stop()
