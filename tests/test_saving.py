"""A save that fails is a failure: it is told, never taken for a success, and costs nothing that was saved before."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

import quintet
from quintet.core.errors import EnvironmentFault, QuintetWarning
from quintet.runs.config import RunConfig
from quintet.runs.folder import Run
from quintet.runs.records import Records
from quintet.training import checkpoint
from quintet.training.saving import size_of

WORDS: dict[str, Any] = {"data": "moons", "preset": "tiny", "seed": 0}
SAVING = {"training": {"batch_size": 16, "save_every": 2, "sample_every": 100}}


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Within this context no file grows beyond so many bytes: what writes more gets an error of the real system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("nobody may mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def failing_at(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves of these steps fail."""
    true = checkpoint.save

    def save(root: Path, step: int, *rest: Any, **more: Any) -> Path:
        if step in steps:
            raise OSError(28, "No space left on device")
        return true(root, step, *rest, **more)

    monkeypatch.setattr(checkpoint, "save", save)


def trained(tmp_path: Path, **more: Any) -> Run:
    quintet.train("flow", steps=8, run="one", runs=tmp_path, **{**WORDS, "config": SAVING, **more})
    return Run(tmp_path / "one")


def saved(run: Run) -> list[int]:
    return [int(folder.name.split("-")[1]) for folder in checkpoint.steps(run.checkpoints)]


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
@pytest.mark.parametrize(
    ("failed", "stands"), [({8}, [4, 6]), ({4}, [6, 8]), ({4, 6}, [2, 8]), ({4, 6, 8}, [2]), ({2}, [])]
)
def test_the_last_save_and_the_third_in_a_row_may_not_fail(
    failed: set[int], stands: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(failed, monkeypatch)
    if stands[-1:] == [8]:
        trained(tmp_path)
    else:
        with pytest.raises(EnvironmentFault, match="the checkpoints cannot be written") as caught:
            trained(tmp_path)
        assert not stands or f"the newest complete checkpoint is step-{stands[-1]:08d}" in caught.value.why
    assert saved(Run(tmp_path / "one")) == stands


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
@pytest.mark.parametrize("stopped", [4, 5])
def test_a_run_that_is_stopped_is_not_called_saved_if_it_is_not(
    stopped: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a step where a checkpoint is due, and at one where none is."""
    trainers: list[Any] = []

    def stop(record: dict[str, Any]) -> None:
        if trainers[0].step == stopped:
            trainers[0].stop = "SIGTERM"

    failing_at({stopped}, monkeypatch)
    more: dict[str, Any] = {"report": stop, "on_trainer": trainers.append}
    with pytest.raises(EnvironmentFault, match="the checkpoints cannot be written"):
        trained(tmp_path, **more)
    assert saved(Run(tmp_path / "one"))[-1] < stopped


@pytest.mark.parametrize("what", ["model", "state"])
def test_whatever_the_disk_refuses_is_one_kind_of_error(what: str, tmp_path: Path) -> None:
    """Tensors are written by another library, which has errors of its own."""
    tensors = {"model": {"w": torch.ones(4096 if what == "model" else 1)}}
    checkpoint.save(tmp_path, 1, tensors, {"step": 1}, keep=2)
    with files_at_most(4096), pytest.raises(OSError, match=r"File too large|os error 27"):
        checkpoint.save(tmp_path, 2, tensors, {"step": 2, "more": "." * (5000 if what == "state" else 0)}, keep=2)
    checkpoint.sweep(tmp_path)
    checkpoint.verify(checkpoint.steps(tmp_path)[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


# -- records of training -----------------------------------------------------------------------------------------------


def records(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in run.metrics()]


def test_records_that_are_refused_are_written_later_and_once(tmp_path: Path) -> None:
    """The system takes a part of a line before it refuses the rest."""
    run, told = Run(tmp_path), [{"step": step, "steps": 9, "loss": "." * 30} for step in range(9)]
    with files_at_most(250):
        for record in told[:8]:
            with suppress(OSError):
                run.records.log(record)
        assert (tmp_path / "metrics.jsonl").stat().st_size == 250
        assert run.metrics() == told[:8]
        with pytest.raises(OSError, match="File too large"):
            run.records.flush()
    run.records.log(told[8])
    assert run.metrics() == Run(tmp_path).metrics() == told


@pytest.mark.filterwarnings("ignore:the checkpoint could not be written")
@pytest.mark.parametrize("refused", [range(1, 2), range(3, 6)])
def test_one_record_that_is_refused_ends_nothing(
    refused: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, true, asked = trained(tmp_path / "whole"), Records.flush, count()

    def flush(run: Records, **more: Any) -> None:
        if next(asked) in refused:
            raise OSError(5, "Input/output error")
        true(run, **more)

    monkeypatch.setattr(Records, "flush", flush)
    with pytest.warns(QuintetWarning, match=r"the metrics could not be written .*Input/output error"):
        run = trained(tmp_path / "faulty")
    assert records(run) == records(whole)


def test_no_checkpoint_is_acknowledged_whose_records_are_not_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Records, **_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Records, "flush", refuse)
    with pytest.warns(QuintetWarning), pytest.raises(EnvironmentFault, match="Read-only file system"):
        trained(tmp_path)
    assert saved(Run(tmp_path / "one")) == []


# -- the best weights --------------------------------------------------------------------------------------------------


@pytest.fixture
def better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is better than the one before."""
    monkeypatch.setattr("quintet.fit.session.stale", lambda records, figure: 0)


LOOKING = {"training": {"batch_size": 16, "save_every": 4, "sample_every": 1, "select": "held_out"}}
LOOKED = RunConfig(family="flow", codec="table", data={"source": "moons"}, **LOOKING)  # type: ignore[arg-type]


def test_best_weights_stay_until_a_newer_checkpoint_stands(better: None, tmp_path: Path) -> None:
    """Killed behind the look of step 7, the run goes on from step 4: of it, the best look is that of step 4."""
    found: list[list[int]] = []

    def killed(record: dict[str, Any]) -> None:
        run = Run(tmp_path / "one")
        found.append([int(folder.name[5:]) for folder in checkpoint.steps(run.bests)])
        if record["step"] == 7 and "quality" in record:
            raise KeyboardInterrupt

    words: dict[str, Any] = {**WORDS, "steps": 8, "run": "one", "runs": tmp_path, "config": LOOKING}
    with pytest.raises(KeyboardInterrupt):
        quintet.train("flow", **words, report=killed)
    assert found[-1] == [4, 5, 6, 7]
    found.clear()
    model = quintet.resume(tmp_path / "one", on_trainer=lambda trainer: killed({"step": trainer.step}))
    assert found == [[4]]
    assert [int(folder.name[5:]) for folder in checkpoint.steps(model.run.bests)] == [8]


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
@pytest.mark.parametrize("until", [2, 99])
def test_best_weights_that_are_refused_are_written_later(
    until: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a look between two checkpoints; if they never can be, the run does not end well."""
    true, tried = checkpoint.save, count()

    def save(root: Path, *rest: Any, **more: Any) -> Path:
        if root.name == "best" and next(tried) < until:
            raise OSError(28, "No space left on device")
        return true(root, *rest, **more)

    def stale(records: list[dict[str, Any]], figure: str) -> int:
        return int(sum(figure in record for record in records) != 2)  # the second look is the best

    monkeypatch.setattr("quintet.fit.session.stale", stale)
    best = trained(tmp_path / "whole", config=LOOKING).best(LOOKED)
    monkeypatch.setattr(checkpoint, "save", save)
    if until > 2:
        with pytest.raises(EnvironmentFault, match="No space left"):
            trained(tmp_path, config=LOOKING)
        return
    late = trained(tmp_path, config=LOOKING).best(LOOKED)
    assert best is not None
    assert late is not None
    assert best.state["step"] == late.state["step"] == 2
    assert all(torch.equal(late.tensors["model"][name], value) for name, value in best.tensors["model"].items())


# -- room on the disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spare", "told"), [(-1, "refused"), (0, "warned"), (10**6, "")])
def test_room_on_the_disk_is_told_before_and_while_it_trains(
    spare: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Of a run with two checkpoints that stand and one that is written."""
    last = {"config": {"training": SAVING["training"] | {"select": "last"}}}
    run = trained(tmp_path / "whole", **last)
    tensors = checkpoint.load(checkpoint.steps(run.checkpoints)[-1])[0]
    needed = 3 * size_of(tensors)
    room = shutil.disk_usage(tmp_path)
    first = iter([needed + spare])
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: room._replace(free=next(first, needed // 3 - 1 + max(0, spare)))
    )
    if told == "refused":
        with pytest.raises(EnvironmentFault, match=r"No space left on device: .* GB are needed, .* GB are free"):
            trained(tmp_path / "small", **last)
        assert not saved(Run(tmp_path / "small" / "one"))
    else:
        assert saved(trained(tmp_path / "small", **last)) == [6, 8]
    assert any("the next checkpoint will not fit" in str(one.message) for one in recwarn) == (told == "warned")


# -- a real disk, full while it trains ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
@pytest.mark.parametrize("emptied", [7, None])
def test_a_disk_that_is_full_for_a_while(emptied: int | None, small_disk: Path) -> None:
    """Full behind step 3, of a run with a checkpoint every two steps: with room again in time nothing is missing, and
    without it the run ends as a failure, goes on later, and is the same.
    """
    filler = small_disk / "filler"

    def fill(record: dict[str, Any]) -> None:
        if record["step"] == 3 and "quality" not in record:
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
        if record["step"] == emptied:
            filler.unlink(missing_ok=True)

    whole = trained(small_disk / "whole", config=LOOKING)
    config = {"training": LOOKING["training"] | {"save_every": 2}}
    plain = trained(small_disk / "plain", config=config)
    if emptied:
        run = trained(small_disk / "faulty", config=config, report=fill)
    else:
        with pytest.raises(
            EnvironmentFault, match=r"No space left on device.*; the newest complete checkpoint is step-00000002"
        ):
            trained(small_disk / "faulty", config=config, report=fill)
        run = Run(small_disk / "faulty" / "one")
        assert saved(run) == [2]
        filler.unlink()
        quintet.resume(run.path)
    assert records(run) == records(plain)
    mine, others = (checkpoint.load(checkpoint.steps(one.checkpoints)[-1])[0] for one in (run, whole))
    assert all(torch.equal(mine[group][name], value) for group in others for name, value in others[group].items())


# -- several processes -------------------------------------------------------------------------------------------------

RANK = """
import sys
import quintet.training.checkpoint as checkpoint
from quintet.cli.main import main
true, rank = checkpoint.save, int(sys.argv[1])

def save(root, step, *rest, **more):
    if rank == 0 and step >= 4:
        raise OSError(28, "No space left on device")
    return true(root, step, *rest, **more)

checkpoint.save = save
sys.exit(main(["train", "flow", "--data", "moons", "--preset", "tiny", "--steps", "40", "--run", "one",
               "--runs", sys.argv[2], "--training.save_every", "2", "--training.sample_every", "100",
               "--training.select", "last"]))
"""


@pytest.mark.slow
def test_where_the_first_process_cannot_save_all_end(tmp_path: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "WORLD_SIZE": "2",
           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}  # fmt: skip
    both = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True,
                         env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in (0, 1)
    ]  # fmt: skip
    said = [one.communicate(timeout=120)[1] for one in both]
    assert [one.returncode for one in both] == [4, 4], said
    assert "No space left on device" in said[0]
    assert saved(Run(tmp_path / "one")) == [2]


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
