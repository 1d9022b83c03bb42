"""One writer of a run: locks that killed processes left, folders that were just made, and folders that vanish."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import quintet
from quintet.cli.main import main
from quintet.core.errors import EnvironmentFault, UsageError
from quintet.fit import fitting
from quintet.runs.folder import Run
from quintet.runs.lock import Lock
from quintet.training import checkpoint


def forked(work: Callable[..., int], *args: object) -> int:
    """The number of a process of its own that does this work and ends with what it returns."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os._exit(work(*args))
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def codes(pids: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def trained(root: Path) -> int:
    """Begin a run, or go on with it, as a script does that is started again and again."""
    words = ["train", "flow", "--data", "moons", "--steps", "4", "--preset", "tiny", "--run", "one", "--resume", "auto"]
    with Path(os.devnull).open("w") as sys.stdout, Path(os.devnull).open("w") as sys.stderr:
        return main([*words, "--runs", str(root)])


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All is imported that the processes below need."""
    quintet.train("flow", data="moons", steps=1, preset="tiny", runs=tmp_path_factory.mktemp("warm"))


def stale(folder: Path) -> None:
    """What a killed process leaves."""
    (folder / ".lock").touch()
    (folder / "lock.json").write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))


class Gate:
    """Processes wait here until it is opened."""

    def __init__(self) -> None:
        self.inside, self.outside = os.pipe()

    def wait(self) -> None:
        os.close(self.outside)  # this process's own copy
        os.read(self.inside, 1)

    def open(self) -> None:
        os.close(self.outside)
        os.close(self.inside)


def locked(folder: Path) -> bool:
    global kept
    kept = Lock(folder)  # until the process ends
    try:
        kept.acquire()
    except EnvironmentFault:
        return False
    return True


kept: Lock


def by_its_number(folder: Path) -> bool:
    """The control: a lock that is a file, and stale where its process is not there."""
    note = folder / "lock.json"
    try:
        os.kill(int(json.loads(note.read_text())["pid"]), 0)
    except (OSError, ValueError):
        time.sleep(0.001)
        note.write_text(json.dumps({"pid": os.getpid()}))
        return True
    return False


@pytest.mark.parametrize("tries", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_of_two_that_find_a_stale_lock_one_gets_it(tries: int, tmp_path: Path) -> None:
    assert both(locked, tries, tmp_path) == [1] * tries


def test_the_check_notices_a_lock_that_two_can_take(tmp_path: Path) -> None:
    assert 2 in both(by_its_number, 40, tmp_path)


def take(acquire: Callable[[Path], bool], folder: Path, begin: Gate, end: Gate, tell: int) -> int:
    """Try to get a lock when the one gate opens, and end when the other does."""
    begin.wait()
    os.write(tell, bytes([acquire(folder)]))
    end.wait()
    return 0


def both(acquire: Callable[[Path], bool], tries: int, root: Path) -> list[int]:
    """How many of two processes got each of so many stale locks; none ends before both have tried."""
    found = []
    for number in range(tries):
        folder, begin, end = root / str(number), Gate(), Gate()
        folder.mkdir()
        stale(folder)
        told, tell = os.pipe()

        pids = [forked(take, acquire, folder, begin, end, tell) for _ in range(2)]
        begin.open()
        found.append(sum(os.read(told, 1)[0] for _ in pids))
        end.open()
        assert codes(pids) == [0, 0]
    return found


@pytest.mark.parametrize("tries", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_the_same_run_started_twice_is_one_run(tries: int, tmp_path: Path) -> None:
    """Whoever comes second is told so, or goes on with what the first has finished; neither takes the folder away."""
    for number in range(tries):
        ends = codes([forked(trained, tmp_path / str(number)) for _ in range(2)])
        assert 0 in ends
        assert set(ends) <= {0, 4}, ends
        run = Run.open("one", tmp_path / str(number))
        found = run.latest()
        assert found is not None
        assert found.state["step"] == 4
        assert not (run.path / "lock.json").exists()


def test_a_run_that_another_process_begins_in_between_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is: after it was looked for, and before its folder is made."""
    train = fitting.train

    def twice(*args: Any, **given: Any) -> object:
        train(*args, **given)
        return train(*args, **given)

    monkeypatch.setattr(fitting, "train", twice)
    assert codes([forked(trained, tmp_path)]) == [0]
    found = Run.open("one", tmp_path).latest()
    assert found is not None
    assert found.state["step"] == 4


def test_a_folder_that_another_process_has_just_made_is_left_alone(tmp_path: Path) -> None:
    mine = Run.create(tmp_path, "one", "")
    (mine.path / "codec").mkdir()
    assert codes([forked(trained, tmp_path)]) == [4]
    assert (mine.path / "codec").is_dir()
    mine.lock.release()  # the control: nobody is at work in it any more
    assert codes([forked(trained, tmp_path)]) == [0]


def killed_at(path: str) -> Callable[[str, tuple[object, ...]], None]:
    """An audit hook that ends the process when it opens such a file to write it."""

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and str(args[0]).endswith(path) and args[1] not in (None, "r", "rb"):
            os._exit(137)

    return hook


@pytest.mark.parametrize("at", ["lock.json.tmp", "codec.json.tmp", "manifest.json.tmp", "config.yaml.tmp"])
def test_a_run_that_was_killed_before_it_had_begun_is_begun_anew(at: str, tmp_path: Path) -> None:
    def cut() -> int:
        sys.addaudithook(killed_at(at))
        return trained(tmp_path)

    assert codes([forked(cut)]) == [137]
    assert (tmp_path / "one").is_dir()
    model = quintet.train("flow", data="moons", steps=1, preset="tiny", run="one", runs=tmp_path)
    assert model.run.used() is not None
    with pytest.raises(UsageError, match="exists already"):
        quintet.train("flow", data="moons", steps=1, preset="tiny", run="one", runs=tmp_path)


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_nothing_is_written_into_a_folder_that_took_the_place_of_ours(how: str, tmp_path: Path) -> None:
    """The new run of that name is another process's."""

    def report(record: dict[str, object]) -> None:
        if record["step"] != 1:
            return
        path = tmp_path / "one"
        shutil.rmtree(path) if how == "removed" else path.rename(tmp_path / "old")
        if how == "replaced":
            path.mkdir()
            Lock(path).acquire()

    with pytest.raises(EnvironmentFault, match="no longer exists"):
        quintet.train("flow", data="moons", steps=20, preset="tiny", run="one", runs=tmp_path, report=report)
    assert not (tmp_path / "one").exists() or {path.name for path in (tmp_path / "one").iterdir()} <= {".lock"}
    assert (tmp_path / "old").is_dir() == (how != "removed")


def test_the_lock_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be locked for writing"):
        Lock(tmp_path / "none").acquire()
    assert not (tmp_path / "none").exists()
    lock = Lock(tmp_path)
    with lock.alone(), lock.alone():
        checkpoint.write_atomic(tmp_path / "x", "")
        lock.check()
        with pytest.raises(EnvironmentFault, match="another process"):
            Lock(tmp_path).acquire()
    Lock(tmp_path).acquire()
