"""Nothing that was saved is lost: crashes after every operation, kills, disks that fail, damages. A careless writer
fails each of these checks.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import savers
import torch
from savers import Saver
from torture import Disk

import quintet
from quintet.cli.main import main
from quintet.runs.folder import Run
from quintet.runs.restoring import codecs_of
from quintet.training import checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")
Record = Callable[[str, object], None]
"""pytest's `record_property`: what is written down under `reached` stands in docs/reliability.md."""
STEPS = 4


def load(root: Path) -> tuple[int, Any]:
    """The newest checkpoint that verifies, as a run looks for it."""
    found = Run(root).latest()
    assert found is not None
    return int(found.state["step"]), found.tensors["model"]["x"]


def save(root: Path, step: int, x: Any) -> None:
    checkpoint.save(root / "checkpoints", step, {"model": {"x": x}}, {"step": step}, keep=2)


OURS = Saver(save, load)


# -- crashes ---------------------------------------------------------------------------------------------------------


def test_every_crash_leaves_the_old_or_the_new_checkpoint(tmp_path: Path, record_property: Record) -> None:
    found = savers.crashed(OURS, tmp_path, steps=4)
    record_property("reached", f"{found['old or new']} of {found['states']} states load the old or the new one")
    assert found["states"] == found["old or new"] > 100


@pytest.mark.parametrize("name", ["one file written in place", "torch.save", "safetensors"])
def test_a_crash_loses_what_others_save(name: str, tmp_path: Path) -> None:
    assert savers.crashed(savers.PEERS[name](), tmp_path)["lost"] > 10


@pytest.mark.parametrize("folders", [False, True])
def test_an_fsync_that_does_nothing_is_noticed(folders: bool, tmp_path: Path) -> None:
    assert savers.crashed(OURS, tmp_path, deaf=lambda folder: folder == folders)["lost"] > 5


class Trained(NamedTuple):
    """A training that was recorded: the disk, and the weights of each step that was saved."""

    disk: Disk
    weights: dict[int, dict[str, torch.Tensor]]


def watched(root: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, int], int]) -> Trained:
    """A disk for a training below `root` that marks each checkpoint as safe once it was saved."""
    trained = Trained(Disk(root, fails), {})
    real = checkpoint.save

    def saved(root: Path, step: int, tensors: Any, *args: Any, **options: Any) -> Path:
        trained.weights[step] = {name: tensor.clone() for name, tensor in tensors["model"].items()}
        path = real(root, step, tensors, *args, **options)
        if root.name == "checkpoints":
            trained.disk.mark(step)
        return path

    monkeypatch.setattr(checkpoint, "save", saved)
    return trained


OPTIONS = {"preset": "tiny", "training": {"save_every": 1, "sample_every": 2}}
WORDS = ("train", "flow", "--data", "moons", "--steps", str(STEPS), "--preset", "tiny", "--training.save_every", "1",
         "--training.sample_every", "2", "--run", "flow")  # fmt: skip


def kept(runs: Path, weights: dict[int, dict[str, torch.Tensor]], acknowledged: int) -> str:
    """`old or new` if the run is there, with its configuration, its codecs, its records and a checkpoint that is whole
    and no older than what was acknowledged; else what is wrong.
    """
    try:
        run = Run.open("flow", runs)
        run.config(), codecs_of(run)
        found = run.latest()
    except Exception as error:
        return f"lost: {error}" if acknowledged else "old or new"
    if found is None:
        return "lost: no checkpoint" if acknowledged else "old or new"
    step = int(found.state["step"])
    if step < acknowledged:
        return f"lost: step {step}"
    if acknowledged and max((record["step"] for record in run.metrics()), default=0) < acknowledged:
        return "lost: its records"
    same = all(torch.equal(value, found.tensors["model"][name]) for name, value in weights[step].items())
    return "old or new" if same else "wrong"


def states_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> tuple[int, list[str]]:
    """How many states the crashes of a training may leave (after each `every`-th operation), and what is wrong."""
    runs, state = tmp_path / "runs", tmp_path / "state"
    runs.mkdir()
    trained = watched(runs, monkeypatch, lambda call, count: 0)
    with trained.disk:
        quintet.train("flow", data="moons", steps=STEPS, run="flow", runs=runs, config=OPTIONS)
    assert [step for _, step in trained.disk.marks] == [1, 2, 3, 4]
    count, bad = 0, []
    for crash in trained.disk.crashes(every):
        acknowledged = max([step for at, step in trained.disk.marks if at <= crash.after], default=0)
        crash.tree.write(state)
        count += 1
        if (said := kept(state, trained.weights, acknowledged)) != "old or new":
            bad.append(f"after {crash.after}, {crash.kept} kept, {acknowledged} acknowledged: {said}")
    return count, bad


def test_crashes_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, bad = states_of_training(tmp_path, monkeypatch, 61)
    assert not bad, "\n".join(bad[:5])
    assert count > 30


@pytest.mark.slow
def test_all_crashes_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record) -> None:
    count, bad = states_of_training(tmp_path, monkeypatch, 1)
    record_property("reached", f"{count - len(bad)} of {count} states of a whole training load the old or the new one")
    assert not bad, "\n".join(bad[:5])


# -- disks that fail -------------------------------------------------------------------------------------------------

SAID = {errno.ENOSPC: "No space left on device", errno.EIO: "Input/output error", errno.EACCES: "Permission denied"}
ALWAYS = "from then on"


def goes_on(runs: Path) -> str:
    """Resume the run, or train it where there is none yet, to its end: what is wrong."""
    words = ["resume", "flow"] if Run.exists("flow", runs) else WORDS
    if left := main([*words, "--runs", str(runs)]):
        return f"going on ends with {left}"
    run = Run.open("flow", runs)
    found = run.latest()
    if found is None or int(found.state["step"]) != STEPS or list(run.path.rglob(".tmp-*")):
        return "going on does not come to the end, or has left something behind"
    return ""


def faulty(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: int, code: int, often: str
) -> str:
    """Train on a disk on which one call fails, or all from then on, and go on when it works again: what is wrong."""
    runs = work / "runs"
    runs.mkdir(parents=True)

    def fails(call: str, count: int) -> int:
        return code if count == at or (often == ALWAYS and count > at) else 0

    with monkeypatch.context() as inner:
        trained = watched(runs, inner, fails)
        with trained.disk:
            left = main([*WORDS, "--runs", str(runs)])
    said = capsys.readouterr().err
    acknowledged = max([step for _, step in trained.disk.marks], default=0)
    if (found := kept(runs, trained.weights, acknowledged)) != "old or new":
        return found
    if left not in (0, 4) or (left == 4 and SAID[code] not in said) or "in quintet itself" in said:
        return f"exit {left}: {said}"
    if left and often != ALWAYS and acknowledged:
        return f"one fault ended training: {said}"
    if left == 0 and acknowledged != STEPS:
        return f"exit 0 with step {acknowledged} saved: {said}"
    if left == 0 and often == ALWAYS and len(trained.disk.calls) >= at and "warning" not in said:
        return f"nothing said: {said}"
    if problem := goes_on(runs):
        return f"{problem}: {capsys.readouterr().err}"
    shutil.rmtree(work)
    return ""


@pytest.mark.parametrize(("code", "often"), [(errno.EIO, "once"), (errno.ENOSPC, ALWAYS)])
def test_a_disk_that_fails(
    code: int, often: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for at in (1, 24, 70):
        assert not faulty(tmp_path / str(at), monkeypatch, capsys, at, code, often), at


@pytest.mark.slow
def test_a_disk_that_fails_at_each_of_the_first_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], record_property: Record
) -> None:
    bad, count = [], 0
    kinds = [(code, "once", 1) for code in SAID] + [(errno.ENOSPC, ALWAYS, 4)]
    for code, often, every in kinds:
        for at in range(1, 201, every):
            count += 1
            if said := faulty(tmp_path / f"{code}-{often}-{at}", monkeypatch, capsys, at, code, often):
                bad.append(f"{errno.errorcode[code]} {often} at call {at}: {said}")
    record_property("reached", f"{count - len(bad)} of {count} faults: nothing lost, right words, right exit code")
    assert not bad, "\n".join(bad[:5])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("nobody may mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("room", [20_000, 200_000])
def test_a_disk_that_is_full(room: int, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real one, whichever part of the library writes; with room again, the run goes on to its end."""
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - room)
    left = main([*WORDS, "--runs", str(small_disk / "runs")])
    said = capsys.readouterr().err
    assert left == 4, said
    assert "in quintet itself" not in said
    assert "No space left" in said
    filler.unlink()
    run = Run.open("flow", small_disk / "runs") if Run.exists("flow", small_disk / "runs") else None
    for folder in checkpoint.steps(run.checkpoints) if run else ():
        checkpoint.verify(folder)
    assert not goes_on(small_disk / "runs")


# -- kills -----------------------------------------------------------------------------------------------------------


def test_kills_while_saving(tmp_path: Path) -> None:
    found = savers.killed(OURS, tmp_path, 10)
    assert found["kills"] == found["old or new"]


@pytest.mark.slow
def test_200_kills_while_saving(tmp_path: Path, record_property: Record) -> None:
    found = savers.killed(OURS, tmp_path, 200, seed=1)
    record_property("reached", f"{found['kills']} kills: {found['wrong']} corrupt, {found['lost']} lost")
    assert found["kills"] == found["old or new"] == 200


def test_a_kill_ruins_what_is_written_in_place(tmp_path: Path) -> None:
    assert savers.killed(savers.in_place(), tmp_path, 20, count=4_000_000)["lost"] > 3


def training_killed(work: Path, rng: random.Random, latest: float) -> str:
    """Kill a training at a random moment, and go on with it: what is wrong."""
    runs = work / "runs"
    runs.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(main([*WORDS, "--json", "--runs", str(runs)]))
    time.sleep(rng.random() * latest)
    os.kill(child, 9)
    os.waitpid(child, 0)
    before = Run.open("flow", runs) if Run.exists("flow", runs) else None
    stood = 0 if before is None or (found := before.latest()) is None else int(found.state["step"])
    if problem := goes_on(runs):
        return f"killed with step {stood} saved: {problem}"
    shutil.rmtree(work)
    return ""


def test_kills_of_a_training(tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(3):
        assert not training_killed(tmp_path / str(number), rng, 1.2)


@pytest.mark.slow
def test_200_kills_of_a_training(tmp_path: Path, record_property: Record) -> None:
    rng = random.Random(1)
    bad = [said for number in range(200) if (said := training_killed(tmp_path / str(number), rng, 1.2))]
    record_property("reached", f"{200 - len(bad)} of 200 killed trainings go on to their end")
    assert not bad, "\n".join(bad[:5])


# -- damages ---------------------------------------------------------------------------------------------------------


def test_damages_of_checkpoints_are_noticed(tmp_path: Path) -> None:
    assert savers.noticed(OURS, tmp_path, 100)["unnoticed"] == 0


@pytest.mark.slow
def test_1000_damages_of_checkpoints_are_noticed(tmp_path: Path, record_property: Record) -> None:
    found = savers.noticed(OURS, tmp_path, 1000, seed=1)
    record_property("reached", f"{found['noticed']} of {found['damages']} noticed")
    assert found["noticed"] == 1000


@pytest.mark.parametrize("name", ["torch.save", "safetensors"])
def test_others_do_not_notice_damages(name: str, tmp_path: Path) -> None:
    assert savers.noticed(savers.PEERS[name](), tmp_path, 40)["unnoticed"] > 10
