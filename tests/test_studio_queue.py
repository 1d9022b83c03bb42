"""The queue: jobs that survive whatever ends the studio, their own process or the machine, and are done once."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from queueing import Studios, add, book, queue, states, stop_all, until, working

from quintet.core.errors import EnvironmentFault, QuintetError, UsageError
from quintet.studio import jobs
from quintet.studio import queue as queues
from quintet.studio.jobs import MOST_STARTS
from quintet.studio.queue import Queue


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "TICK", 0.02)


# -- from the beginning to the end -------------------------------------------------------------------------------------


def test_jobs_are_done_one_after_another_in_their_order(tmp_path: Path) -> None:
    made = queue(tmp_path)
    first, second, third = (add(made, name) for name in ("a", "b", "c"))
    made.move(third.id, before=first.id)
    made.move(first.id, before=None)
    assert [job.run for job in made.jobs()] == ["c", "b", "a"]
    with working(tmp_path) as made:
        until(lambda: set(states(made).values()) == {"finished"})
    assert book(made) == [f"{word} {name}" for name in "cba" for word in ("begun", "finished")]
    done = made.job(second.id)
    assert done.ended is not None
    assert done.spent is not None
    assert "---" in done.log()


def test_a_command_is_given_what_makes_it_go_on(tmp_path: Path) -> None:
    made, runs = queue(tmp_path), str(tmp_path / "runs")
    (tmp_path / "runs" / "people-flow-1").mkdir(parents=True)
    job = made.add(["train", "flow", "--data", "my/people.csv", "--budget", "60s", "--json"], "people")
    assert job.run == "people-flow-2"
    assert job.argv == ("train", "flow", "--data", "my/people.csv", "--budget", "60s", "--run", "people-flow-2",
                        "--resume", "auto", "--runs", runs, "--json")  # fmt: skip
    job = made.add(["compare", "moons", "--seeds", "2", "--runs", "elsewhere"], "moons")
    assert job.argv == ("compare", "moons", "--seeds", "2", "--run", "compare-moons-1", "-o",
                        f"{runs}/compare-moons-1/report.html", "--runs", runs, "--json")  # fmt: skip
    job = made.add(["compare", "one", "two", "-o", "mine.html"], "one and two")
    assert job.argv == ("compare", "one", "two", "-o", "mine.html", "--runs", runs, "--json")
    job = made.add(["train", "--data=x.csv", "--", "flow"], "behind dashes")
    assert job.argv == ("train", "--data=x.csv", "--run", "x-flow-1", "--resume", "auto", "--runs", runs, "--json",
                        "--", "flow")  # fmt: skip
    assert made.add(["resume", "old"], "old").run == "old"
    assert made.of_run("old") is not None
    assert made.of_run("nobody") is None


@pytest.mark.parametrize(
    ("argv", "run", "what"),
    [
        ([], None, "does not take this"),
        (["sample", "first"], None, "does not take this"),
        (["resume"], None, "does not take this"),
        (["train", "flow", "--data", "moons"], "../out", "a run cannot be named"),
        (["train", "flow", "--data", "moons", "--run", "-x"], None, "a run cannot be named"),
        (["train", "flow", "--data", "a\0b"], None, "cannot be passed on"),
        (["train", "flow", "--data", "\udc80"], None, "cannot be passed on"),
        (["train", "flow", "--data", "moons"], "there", "exists already"),
        (["train", "flow", "--data", "moons"], "queued", "a job of this name already"),
        (["resume", "queued"], None, "a job of this name already"),
    ],
)
def test_what_cannot_be_done_is_refused_when_it_is_added(
    tmp_path: Path, argv: list[str], run: str | None, what: str
) -> None:
    made = queue(tmp_path)
    (tmp_path / "runs" / "there").mkdir(parents=True)
    add(made, "queued")
    with pytest.raises(UsageError, match=what):
        made.add(argv, "a job", run)
    assert len(made.jobs()) == 1


def test_a_second_studio_is_told_where_the_first_is(tmp_path: Path) -> None:
    with queue(tmp_path) as first:
        first.begin("http://127.0.0.1:8700")
        with pytest.raises(EnvironmentFault) as caught, queue(tmp_path):
            pass
        assert "http://127.0.0.1:8700" in str(caught.value)
        assert len(queue(tmp_path).jobs()) == 0  # to look is allowed
    with queue(tmp_path):
        pass


# -- pause, resume, stop -----------------------------------------------------------------------------------------------


def test_a_running_job_is_paused_and_goes_on(tmp_path: Path) -> None:
    with working(tmp_path) as made:
        job = add(made, "long", "--steps", "4000")
        after = add(made, "after")
        until(lambda: states(made)["long"] == "running" and jobs.reached(made.runs / "long") > 2)
        made.pause(job.id)
        until(lambda: states(made) == {"long": "paused", "after": "finished"})
        far = jobs.reached(made.runs / "long")
        assert 2 < far < 4000
        made.resume(job.id)
        until(lambda: states(made)["long"] == "running" and jobs.reached(made.runs / "long") > far)
        made.remove(job.id)
        until(lambda: states(made)["long"] == "stopped")
        made.remove(job.id)
        made.remove(after.id)
        assert made.jobs() == []
        assert jobs.reached(made.runs / "long") > far  # the run is kept


def test_waiting_jobs_are_paused_resumed_and_removed(tmp_path: Path) -> None:
    made = queue(tmp_path)
    one, two = add(made, "one"), add(made, "two")
    made.pause(one.id)
    made.remove(two.id)
    assert states(made) == {"one": "paused"}
    with pytest.raises(UsageError, match="no such job"):
        made.pause(two.id)
    with pytest.raises(UsageError, match="this job is paused"):
        made.pause(one.id)
    with pytest.raises(UsageError, match="not told to stop"):
        made.kill(one.id)
    made.resume(one.id)
    assert states(made) == {"one": "waiting"}


def test_a_queue_that_is_held_starts_nothing_new(tmp_path: Path) -> None:
    with working(tmp_path) as made:
        made.hold(True)
        add(made, "one")
        time.sleep(0.1)
        assert states(made) == {"one": "waiting"}
        made.hold(False)
        until(lambda: states(made) == {"one": "finished"})
        assert not made.places().held


def test_a_job_that_does_not_stop_can_be_killed_and_is_then_paused(tmp_path: Path) -> None:
    with working(tmp_path) as made:
        job = add(made, "slow", "--each", "600")
        until(lambda: "begun slow" in book(made) and (made.runs / "slow" / "checkpoints").exists())
        made.pause(job.id)
        until(lambda: made.job(job.id).stopping and job.id in made.told)
        made.kill(job.id)
        until(lambda: states(made) == {"slow": "paused"})


def test_what_a_killed_process_has_left_behind_is_killed_too(tmp_path: Path) -> None:
    """It holds the lock, and the job would run for ever."""
    with working(tmp_path) as made:
        job = add(made, "parent", "--has-child", "--dies")
        until(lambda: "begun parent" in book(made) and (made.runs / "parent" / "checkpoints").exists())
        time.sleep(0.2)
        assert states(made) == {"parent": "running"}
        made.pause(job.id)
        until(lambda: made.job(job.id).stopping)
        made.kill(job.id)
        until(lambda: states(made) == {"parent": "paused"})


def test_leftovers_of_a_killed_studio_are_cleared_away(tmp_path: Path) -> None:
    made = queue(tmp_path)
    (made.folder / ".half" / "job").mkdir(parents=True)
    add(made, "one")
    with made:
        assert [path.name for path in made.folder.iterdir()] == [made.jobs()[0].id]


def test_several_jobs_run_at_once_where_that_is_wanted(tmp_path: Path) -> None:
    with working(tmp_path) as made:
        made.let_run(2)
        for name in ("a", "b", "c"):
            add(made, name, "--steps", "100")
        until(lambda: Counter(states(made).values()) == {"running": 2, "waiting": 1})
        until(lambda: set(states(made).values()) == {"finished"})


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_job_that_fails_says_all_and_can_be_continued(tmp_path: Path) -> None:
    with working(tmp_path) as made:
        job = add(made, "bad", "--fails")
        add(made, "good")
        until(lambda: states(made) == {"bad": "failed", "good": "finished"})
        assert made.job(job.id).error == {"error": "DataError", "what": "the data cannot be read",
                                          "where": "people.csv", "why": "it is <empty>",
                                          "fix": "another file"}  # fmt: skip
        assert "the data cannot be read" in made.job(job.id).log()
        made.resume(job.id)
        until(lambda: book(made).count("begun bad") == 2)
        until(lambda: states(made)["bad"] == "failed")


def test_a_process_that_ends_without_a_word_has_failed_at_once(tmp_path: Path) -> None:
    with working(tmp_path) as made:
        job = add(made, "broken", "--crashes")
        until(lambda: states(made) == {"broken": "failed"})
        error = made.job(job.id).error
        assert error is not None
        assert error["why"] == "Traceback: no such library"
        assert book(made) == ["begun broken"]


def test_a_job_whose_process_always_dies_is_not_started_for_ever(tmp_path: Path) -> None:
    with working(tmp_path) as made:
        job = add(made, "hungry", "--dies")
        add(made, "good")
        until(lambda: states(made) == {"hungry": "failed", "good": "finished"})
        assert book(made).count("begun hungry") == MOST_STARTS
        error = made.job(job.id).error
        assert error is not None
        assert "memory" in error["why"]
        made.resume(job.id)
        until(lambda: states(made)["hungry"] == "failed")
        assert book(made).count("begun hungry") == 2 * MOST_STARTS


def test_a_job_that_is_killed_goes_on_before_all_others(tmp_path: Path) -> None:
    with working(tmp_path) as made:
        job = add(made, "first", "--steps", "200")
        add(made, "second")
        until(lambda: jobs.reached(made.runs / "first") > 3)
        jobs.send(made.job(job.id), signal.SIGKILL)
        until(lambda: states(made) == {"first": "finished", "second": "finished"})
        assert book(made) == ["begun first", "begun first", "finished first", "begun second", "finished second"]


def test_a_stop_that_nobody_asked_for_is_no_end(tmp_path: Path) -> None:
    """As when the machine is shut down: every process is told to end, and those of the queue go on afterwards."""
    with working(tmp_path) as made:
        job = add(made, "one", "--steps", "200")
        until(lambda: jobs.reached(made.runs / "one") > 3)
        jobs.send(made.job(job.id), signal.SIGTERM)
        until(lambda: states(made) == {"one": "finished"})
        assert book(made) == ["begun one", "begun one", "finished one"]


def test_a_folder_that_is_gone_fails_its_job_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, here = queue(tmp_path), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    job = add(made, "lost")
    monkeypatch.chdir(tmp_path)
    here.rmdir()
    add(made, "good")
    with working(tmp_path) as made:
        until(lambda: states(made) == {"lost": "failed", "good": "finished"})
        error = made.job(job.id).error
        assert error is not None
        assert error["where"] == str(here)


def test_a_damaged_note_is_shown_and_the_others_go_on(tmp_path: Path) -> None:
    made = queue(tmp_path)
    damaged = add(made, "damaged")
    add(made, "good")
    whole = (damaged.folder / jobs.ORDER).read_text()
    (made.root / "queue.json").write_text("{")
    for text in ("", "{", "[]", '{"argv": 3}', "\0", whole[:40], "9" * 5000):
        (damaged.folder / jobs.ORDER).write_text(text)
        found = queue(tmp_path).job(damaged.id)
        assert (found.state, found.damaged) == ("failed", True)
        assert found.error is not None
        assert found.error["where"].endswith("job.json")
    (damaged.folder / jobs.ORDER).unlink()
    with working(tmp_path) as made:
        until(lambda: states(made) == {"": "failed", "good": "finished"})
        with pytest.raises(UsageError, match="this job is failed"):
            made.resume(damaged.id)
        made.remove(damaged.id)
        assert states(made) == {"good": "finished"}


class Disk:
    """A disk that is `full` where the queue is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full, real = True, Path.open

        def opened(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if self.full and ".studio" in path.parts and mode[0] in "wxa":
                real(path, mode).close()
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return real(path, mode, *rest, **more)

        monkeypatch.setattr(Path, "open", opened)


def test_a_full_disk_leaves_every_note_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = queue(tmp_path)
    one, two = add(made, "one"), add(made, "two")
    disk = Disk(monkeypatch)
    for change in (lambda: made.pause(one.id), lambda: made.move(two.id, before=one.id), lambda: made.hold(True),
                   lambda: add(made, "three")):  # fmt: skip
        with pytest.raises(EnvironmentFault, match="cannot be written") as caught:
            change()
        assert caught.value.why == "No space left on device"
    made.tick()
    assert made.fault is not None
    assert [(job.run, job.state) for job in queue(tmp_path).jobs()] == [("one", "waiting"), ("two", "waiting")]
    assert book(made) == []
    disk.full, made.patient = False, 0.0
    made.tick()
    assert made.fault is None
    until(lambda: states(made)["one"] == "finished")


def test_where_nothing_can_be_written_the_queue_is_shown(tmp_path: Path) -> None:
    made = queue(tmp_path)
    made.runs.mkdir()
    (made.runs / ".studio").touch()  # the root user writes into any folder, but not below a file
    with queue(tmp_path) as made:
        made.begin()
        assert made.jobs() == []
        assert isinstance(made.fault, EnvironmentFault)
        with pytest.raises(EnvironmentFault, match="cannot be written"):
            add(made, "one")


# -- kills -------------------------------------------------------------------------------------------------------------


def test_a_job_goes_on_while_no_studio_is_there_and_is_found_by_the_next(tmp_path: Path) -> None:
    made = queue(tmp_path)
    job = add(made, "one", "--steps", "4000")
    studios = Studios(made)
    try:
        studios.open()
        until(lambda: jobs.reached(made.runs / "one") > 3)
        studios.kill()
        far = jobs.reached(made.runs / "one")
        until(lambda: jobs.reached(made.runs / "one") > far + 3)
        assert states(made) == {"one": "running"}
        studios.open()
        made.pause(job.id)
        until(lambda: states(made) == {"one": "paused"})
        assert book(made) == ["begun one"]
    finally:
        studios.close()
        stop_all(made)


def killed_at_random(made: Queue, runs: int, kills: int, fault: str = "", seconds: float = 60) -> dict[str, set[str]]:
    """What became of jobs while studios and trainers were killed: who was lost, and who was done twice."""
    for i in range(runs):
        add(made, f"run-{i}", "--steps", "6", "--each", "0.05" if fault else "0.01")
    studios, chance = Studios(made, fault), random.Random(0)
    try:
        studios.open()
        end = time.monotonic() + seconds
        while (kills or not done(made)) and time.monotonic() < end and not twice(made):
            time.sleep(chance.uniform(0.02, 0.12) if kills else 0.02)
            running = [job for job in made.jobs() if job.state == "running" and job.order.starts < MOST_STARTS - 1]
            if kills and chance.random() < 0.5:
                studios.kill()
                time.sleep(chance.uniform(0.0, 0.05))
                studios.open()
                kills -= 1
            elif kills and running:
                kills -= jobs.send(running[0], signal.SIGKILL)
    finally:
        studios.close()
        stop_all(made)
    lost = {job.run for job in made.jobs() if job.state != "finished" or jobs.reached(made.runs / job.run) < 6}
    return {"lost": lost, "twice": twice(made)}


def twice(made: Queue) -> set[str]:
    """Runs that two processes were at, or that were begun again behind their end."""
    finished, found = set[str](), set[str]()
    for word, run in (line.split() for line in book(made)):
        if word == "twice" or (word == "begun" and run in finished):
            found.add(run)
        elif word == "finished":
            finished.add(run)
    return found


def done(made: Queue) -> bool:
    return all(job.state in ("finished", "failed") for job in made.jobs())


def test_thirty_jobs_and_thirty_kills(tmp_path: Path) -> None:
    made = queue(tmp_path)
    assert killed_at_random(made, 30, 30) == {"lost": set(), "twice": set()}
    assert Counter(states(made).values()) == {"finished": 30}
    assert len(book(made)) > 2 * 30  # some were killed and begun anew


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("jobs.fcntl.flock = lambda *_: None", "twice"),  # who runs is known to the memory of the studio alone
        ('jobs.at_rest = lambda *job: jobs.Job(*job, "waiting")', "twice"),  # and so is who has finished
        ("jobs.MOST_STARTS = 1", "lost"),  # who was killed is given up
    ],
)
def test_kills_find_a_queue_that_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, what: str
) -> None:
    """The control: the same with a fault that is planted."""
    monkeypatch.setattr(
        jobs, "MOST_STARTS", 1 if what == "lost" else MOST_STARTS
    )  # so that we see them as given up too
    assert killed_at_random(queue(tmp_path), 10, 12, fault, seconds=20)[what]


@pytest.mark.slow
def test_fifty_runs_and_twenty_kills(tmp_path: Path) -> None:
    """The trainer itself, killed at random as the studio is."""
    made = Queue(tmp_path / "runs")
    for i in range(50):
        made.add(["train", "vae", "--data", "moons", "--steps", "20", "--preset", "tiny"], f"run {i}", f"run-{i}")
    kills, studios, chance = 20, Studios(made), random.Random(0)
    ends: dict[str, float] = {}
    try:
        studios.open()
        while kills or not done(made):
            time.sleep(chance.uniform(1.0, 12.0) if kills else 0.5)
            for job in made.jobs():
                if job.ended is not None:
                    assert ends.setdefault(job.id, job.ended) == job.ended  # nobody who has finished does it again
            running = [job for job in made.jobs() if job.state == "running"]
            if kills and kills % 2:
                studios.kill()
                studios.open()
                kills -= 1
            elif kills and running:
                kills -= jobs.send(running[0], signal.SIGKILL)
    finally:
        studios.close()
        stop_all(made)
    assert Counter(states(made).values()) == {"finished": 50}
    for i in range(50):
        records = [json.loads(line) for line in (made.runs / f"run-{i}" / "metrics.jsonl").read_text().splitlines()]
        assert [record["step"] for record in records if "quality" not in record] == list(range(1, 21))


# -- of the studio ---------------------------------------------------------------------------------------------------


def test_the_queue_needs_no_torch() -> None:
    """Its thread shares a process with pages: what it imports is not what holds them up."""
    code = "import sys, quintet.studio.queue; print([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_fault_of_ours_does_not_end_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with working(tmp_path) as made:
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "start", lambda *_: {}["a fault"])
            add(made, "one")
            until(lambda: made.fault is not None)
            assert isinstance(made.fault, QuintetError)
            made.hold(True)
            until(lambda: made.fault is None)  # nothing is wrong as long as nothing is to be started
            made.hold(False)
            until(lambda: made.fault is not None)
        until(lambda: states(made) == {"one": "finished"})
        assert made.fault is None
