"""A save that fails is a failure: it is told, never taken for a success, and costs nothing that was saved before."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import quintet
from quintet.core.errors import EnvironmentFault
from quintet.runs.folder import Run
from quintet.training import checkpoint

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


def failing_at(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves of these steps fail."""
    true = checkpoint.save

    def save(root: Path, step: int, *rest: Any, **more: Any) -> Path:
        if step in steps:
            raise OSError(28, "No space left on device")
        return true(root, step, *rest, **more)

    monkeypatch.setattr(checkpoint, "save", save)


def trained(tmp_path: Path, **more: Any) -> Run:
    quintet.train("flow", steps=8, run="one", runs=tmp_path, config=SAVING, **{**WORDS, **more})
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
        with pytest.raises(EnvironmentFault, match="cannot write checkpoints") as caught:
            trained(tmp_path)
        assert not stands or f"the newest that stands is step-{stands[-1]:08d}" in caught.value.why
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
    with pytest.raises(EnvironmentFault, match="cannot write checkpoints"):
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
