"""Signals end work at once where nothing is lost, and else when it is saved; resumed, it is as if none had come."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from quintet.cli.main import main
from quintet.families.diffusion import Diffusion
from quintet.fit.live import Live
from quintet.runs.folder import Run
from quintet.training import checkpoint
from quintet.training.trainer import Trainer

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
LONG = ["train", "flow", "--data", "moons", "--preset", "tiny", "--steps", "300000", "--run", "long", "--runs"]


def started(root: Path, **more: Any) -> subprocess.Popen[str]:
    """A long training in a process of its own."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "quintet", *LONG, str(root)], env=env, text=True,
                            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more})  # fmt: skip


def trains(root: Path, process: subprocess.Popen[str]) -> None:
    """Wait until it has taken steps."""
    metrics = root / "long" / "metrics.jsonl"
    for _ in range(1200):
        if process.poll() is not None or (metrics.is_file() and metrics.stat().st_size):
            break
        time.sleep(0.05)
    assert process.poll() is None


# -- a slow look -----------------------------------------------------------------------------------------------------


SLOW = ["train", "diffusion", "--data", "iris", "--preset", "tiny", "--steps", "8", "--training.sample_every", "4",
        "--training.select", "quality", "--sampling.steps", "200", "--json", "--runs"]  # fmt: skip


def records(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in run.metrics()]


@pytest.mark.parametrize(("sent", "place"), [(signal.SIGINT, 4), (signal.SIGTERM, 8), (signal.SIGHUP, 4)])
def test_a_slow_look_is_left_and_made_up_for(
    sent: signal.Signals,
    place: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The signal comes at the third of 200 steps of the samples that are looked at, in the middle or at the end."""
    assert main([*SLOW, str(tmp_path), "--run", "whole"]) == 0
    steps, sample, done = [0], Diffusion.sample, [0]
    monkeypatch.setattr(Trainer, "look", counting(Trainer.look, steps))

    def interrupted(self: Diffusion, *given: Any, on_step: Any = None, **more: Any) -> torch.Tensor:
        def tell(step: int, total: int, x: torch.Tensor) -> None:
            if steps[0] == place and step == 3:
                os.kill(os.getpid(), sent)
            done[0] = max(done[0], step) if steps[0] == place else 0
            if on_step:
                on_step(step, total, x)

        return sample(self, *given, on_step=tell, **more)

    monkeypatch.setattr(Diffusion, "sample", interrupted)
    assert main([*SLOW, str(tmp_path), "--run", "cut"]) == CODES[sent]
    assert done[0] < 10
    monkeypatch.undo()
    run = Run(tmp_path / "cut")
    assert [folder.name for folder in checkpoint.steps(run.checkpoints)][-1] == f"step-0000000{place}"
    assert all(record["step"] < place for record in run.metrics() if "quality" in record)
    said = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(said)["fix"].startswith("quintet resume")
    assert main(["resume", "cut", "--runs", str(tmp_path)]) == 0
    whole = Run(tmp_path / "whole")
    assert records(run) == records(whole)
    one, other = (checkpoint.load(checkpoint.steps(each.checkpoints)[-1])[0] for each in (run, whole))
    assert all(torch.equal(one[group][name], other[group][name]) for group in one for name in one[group])
    assert [folder.name for folder in checkpoint.steps(run.bests)] == [f.name for f in checkpoint.steps(whole.bests)]


def counting(look: Any, steps: list[int]) -> Any:
    """`look`, which notes at which step it is."""

    def call(self: Trainer, on_interval: Any) -> None:
        steps[0] = self.step
        look(self, on_interval)
        steps[0] = 0

    return call


def test_a_look_that_does_not_listen_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the look is made to its end."""
    monkeypatch.setattr(Live, "tick", property(lambda self: lambda: None, lambda self, value: None), raising=False)
    steps, sample = [0], Live.sample
    monkeypatch.setattr(Trainer, "look", counting(Trainer.look, steps))

    def interrupted(self: Live, *given: Any) -> torch.Tensor:
        if steps[0] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return sample(self, *given)

    monkeypatch.setattr(Live, "sample", interrupted)
    assert main([*SLOW, str(tmp_path), "--run", "cut"]) == 143
    assert any(record["step"] == 4 for record in Run(tmp_path / "cut").metrics() if "quality" in record)


# -- at once ---------------------------------------------------------------------------------------------------------


def test_a_second_interrupt_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Trainer.update

    def slow(self: Trainer) -> dict[str, float]:
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the step went on")
        return update(self)

    monkeypatch.setattr(Trainer, "update", slow)
    began = time.monotonic()
    assert main([*LONG, str(tmp_path)]) == 130
    assert time.monotonic() - began < 20
    assert not (tmp_path / "long" / "lock.json").exists()
    assert checkpoint.steps(tmp_path / "long" / "checkpoints") == []


@pytest.mark.parametrize(
    ("start", "traceback"), [(["-m", "quintet"], False), (["-c", "from quintet.cli.main import main; main()"], True)]
)
def test_an_interrupt_while_the_program_is_loaded(start: list[str], traceback: bool, tmp_path: Path) -> None:
    """It comes while the first library is; without the program's own beginning it would show where."""
    (tmp_path / "cyclopts.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, *start, "runs"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGINT
    assert ("Traceback" in done.stderr) is traceback
    assert traceback or done.stderr == ""


@pytest.mark.slow
def test_signals_in_the_first_seconds(tmp_path: Path) -> None:
    """Before the program listens, while it is loaded, and while it begins: no traceback, and no run without a use."""
    draw = random.Random(0)
    for i in range(50):
        sent, root = list(CODES)[i % 3], tmp_path / str(i)
        process = started(root)
        time.sleep(0.08 + draw.random() * (0.4 if i % 2 else 3))
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (CODES[sent], -sent), said
        assert "Traceback" not in said
        assert all((folder / "checkpoints").is_dir() for folder in root.glob("*")), said


# -- a terminal that goes --------------------------------------------------------------------------------------------


def test_a_terminal_that_is_closed_saves_the_run(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = started(tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                      preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)))  # fmt: skip
    os.close(theirs)
    trains(tmp_path, process)
    os.close(ours)  # the system then sends SIGHUP to whoever sits at this terminal
    assert process.wait(timeout=30) == 129
    assert checkpoint.steps(tmp_path / "long" / "checkpoints") != []
    assert not (tmp_path / "long" / "lock.json").exists()


def test_nobody_looks_on(tmp_path: Path) -> None:
    """Started with nohup it outlives its terminal, and who reads its progress."""
    process = started(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stderr is not None
    process.stderr.close()
    trains(tmp_path, process)
    process.send_signal(signal.SIGHUP)
    time.sleep(6)  # a line of progress every five seconds
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert process.stdout is not None
    process.stdout.close()
    assert checkpoint.steps(tmp_path / "long" / "checkpoints") != []
