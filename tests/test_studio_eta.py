"""How long runs, jobs and comparisons will take: one estimate, right within 15 % from a fifth of a run on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from queueing import add, queue

from quintet.runs.config import RunConfig
from quintet.runs.folder import Run
from quintet.studio import jobs
from quintet.studio.commands import kind, option, positional, without
from quintet.studio.curves import Curve, Curves
from quintet.studio.eta import END, LOOKED, START, Outlook, ahead, outlooks, pace, whole
from quintet.studio.jobs import Job
from quintet.studio.library import RunFacts

RECORDED = json.loads((Path(__file__).parent / "eta.json").read_text())
"""Trainings on two busy processors: when each line of their metrics was there, and when their lock was given back."""


class Told(NamedTuple):
    """What stands in metrics.jsonl from a time on: a step of so many, seconds of training, whether it is of a look; and
    what the configuration then says: steps between looks, and the budget.
    """

    when: float
    step: int
    steps: int
    seconds: float
    look: bool
    every: int
    budget: float | None


# -- of a run that trains ----------------------------------------------------------------------------------------------


def left(folder: Path, told: list[Told], when: float) -> float | None:
    """The seconds that are left of a run, as it is known at a time."""
    told = [one for one in told if one.when <= when]
    if not told:
        return None
    lines = [{"step": one.step, "steps": one.steps, "seconds": one.seconds, "quality" if one.look else "loss": 1.0}
             for one in told]  # fmt: skip
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(path, (1e9 + told[-1].when,) * 2)
    curve = Curve(path).refresh()
    found = pace(RunFacts("run", folder, 0.0, every=told[-1].every, budget=told[-1].budget), curve)
    return None if found is None else found.now(curve, 1e9 + when)


def errors(
    folder: Path, told: list[Told], end: float, *, share: float = 0.2
) -> Iterator[tuple[float, float | None, float]]:
    """(time, estimate, truth) wherever the estimate is off by more than 15 % and 2 s, from a share of a run on."""
    begin = told[0].when
    for i in range(50):
        when = begin + (share + (1 - share) * i / 50) * (end - begin)
        found, truth = left(folder, told, when), end - when
        if found is None or abs(found - truth) > max(2.0, 0.15 * truth):
            yield when, found, truth


@pytest.mark.parametrize("name", RECORDED)
def test_the_time_left_of_real_trainings(tmp_path: Path, name: str) -> None:
    run = RECORDED[name]
    told = [Told(*row) for row in run["told"]]
    assert list(errors(tmp_path, told, run["end"])) == []


def simulated(steps: int, *, every: int, each: float, look: float, slower: int = 0, last: float = END,
              budget: float | None = None) -> tuple[list[Told], float]:  # fmt: skip
    """A run of steps of `each` second, twice as long from `slower` on, and looks; and when it has ended, `last` seconds
    behind its last look.
    """
    seconds, told = 0.0, list[Told]()
    records = max(1, steps // 200)
    for step in range(1, steps + 1):
        seconds += each * (1 + (0 < slower <= step))
        due = step % every == 0 or step == steps
        if step % records == 0 or step == steps:
            told.append(Told(seconds, step, steps, seconds, False, every, budget))
        if due:
            told.append(Told(seconds + look, step, steps, seconds, True, every, budget))
            seconds += look
    return told, seconds + last


@pytest.mark.parametrize("look", [0.0, 3.0, 20.0])
@pytest.mark.parametrize(("steps", "every"), [(1000, 125), (1000, 300), (20, 3), (5000, 5000)])
def test_the_time_left_with_looks_of_any_length(tmp_path: Path, steps: int, every: int, look: float) -> None:
    """That of the only look of a run, which is at its end, nobody can know."""
    told, end = simulated(steps, every=every, each=100 / steps, look=look if every < steps else 0.0)
    found = list(errors(tmp_path, told, end, share=0.4))
    assert found == []


def test_the_time_left_follows_the_load_of_the_machine(tmp_path: Path) -> None:
    told, end = simulated(1000, every=125, each=0.1, look=1.0, slower=400)
    began = next(one.when for one in told if one.step >= 400)
    wrong = [when for when, _, _ in errors(tmp_path, told, end)]
    assert all(when < began + 16 for when in wrong)  # the records of 60 steps tell


def test_the_time_left_of_a_budget_that_becomes_more_steps(tmp_path: Path) -> None:
    """A plan of half the steps that there is time for counts; of one that the machine is too slow for, the budget."""
    told, _ = simulated(400, every=50, each=0.1, look=0.5, budget=44.0)
    slow = [one._replace(steps=800) for one in told if one.step <= 200]
    at = slow[-1].when
    assert left(tmp_path, slow, at) == pytest.approx(44.0 - at + END, abs=2.0)


def test_the_looks_ahead() -> None:
    assert [ahead(step, 1000, 125, False) for step in (1, 124, 125, 126, 999, 1000)] == [8, 8, 8, 7, 1, 1]
    assert [ahead(step, 1000, 125, True) for step in (125, 875, 1000)] == [7, 1, 0]
    assert [ahead(step, 1000, 300, False) for step in (599, 601, 901)] == [3, 2, 1]
    assert (ahead(5, 10, 0, False), ahead(10, 10, 0, True)) == (1, 0)


def test_no_time_is_told_before_it_is_known(tmp_path: Path) -> None:
    assert left(tmp_path, [], 1.0) is None
    assert left(tmp_path, [Told(0.0, 1, 10, 0.1, False, 5, None)], 1.0) is None


# -- of jobs -----------------------------------------------------------------------------------------------------------


def records(run: Path, step: int, steps: int, each: float = 2.0, ago: float = 0.0, **config: Any) -> None:
    """What a run that has come to `step` has written."""
    run.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": i, "steps": steps, "seconds": each * i}) for i in range(1, step + 1)]
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 9']))
    os.utime(run / "metrics.jsonl", (time.time() - ago,) * 2)
    if config:
        data = {"family": "vae", "codec": "image", "data": {"source": "digits"}}
        Run(run).write_config(RunConfig(**data, **config))
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        (run / "manifest.json").write_text(json.dumps({"created": created}))


def told(made: list[Job]) -> dict[str, Outlook]:
    """The outlooks of jobs, by the names of their runs."""
    found = outlooks(made, Curves())
    return {job.run: found[job.id] for job in made if job.id in found}


def test_time_left_comes_from_the_records_of_the_run(tmp_path: Path) -> None:
    made = queue(tmp_path)
    job = add(made, "one", "--steps", "100")
    lock = os.open(job.folder / jobs.LOCK, os.O_CREAT | os.O_RDWR)
    jobs.fcntl.flock(lock, jobs.fcntl.LOCK_EX)  # as if it were running
    try:
        records(made.runs / "one", 40, 100, ago=10.0)
        found = told(made.jobs())["one"]
        assert found.left == pytest.approx(60 * 2.0 - 10.0 + END, abs=0.5)
        assert (found.step, found.steps, found.share) == (40, 100, 0.4)
    finally:
        os.close(lock)


def test_an_autoencoder_on_the_way_is_half_of_the_run(tmp_path: Path) -> None:
    """Of one that has not begun itself: its share, steps and checkpoints are those of the autoencoder until then."""
    made = queue(tmp_path)
    job = add(made, "one", "--steps", "100")
    lock = os.open(job.folder / jobs.LOCK, os.O_CREAT | os.O_RDWR)
    jobs.fcntl.flock(lock, jobs.fcntl.LOCK_EX)  # as if it were running
    try:
        records(made.runs / "one-autoencoder", 40, 100)
        assert told(made.jobs())["one"] == Outlook(None, 0.2, 40, 100)
        (made.runs / "one-autoencoder" / "checkpoints" / "step-00000030").mkdir(parents=True)
        assert jobs.reached(made.runs / "one") == 30, "a job that is killed there has come further"
        records(made.runs / "one", 10, 100, seed=1)
        assert told(made.jobs())["one"].share == 0.1
    finally:
        os.close(lock)


def test_time_of_jobs_that_have_not_begun(tmp_path: Path) -> None:
    made = queue(tmp_path)
    add(made, "budget", "--budget", "2m")
    add(made, "unknown", "--steps", "50", "--preset", "small")
    add(made, "alike", "--steps", "300", "--seed", "1")
    found = told(made.jobs())
    assert {name: one.left for name, one in found.items()} == {"budget": 128.0, "unknown": None, "alike": None}
    assert whole(made.jobs(), outlooks(made.jobs(), Curves())) == (128.0, 2)
    finished(add(made, "measured", "--steps", "5"), 10.0)
    lefts = {name: one.left for name, one in told(made.jobs()).items()}
    assert lefts == {"budget": 128.0, "unknown": None, "alike": pytest.approx(600.0, rel=0.01)}
    assert whole(made.jobs(), outlooks(made.jobs(), Curves()), 2)[0] == pytest.approx(600.0, rel=0.01)


def finished(job: Job, seconds: float) -> None:
    """As if the job had been done in one go."""
    jobs.note(job, starts=1, begun=time.time() - seconds)
    (job.folder / jobs.OUT).write_text(json.dumps({"seconds": 4.0}))


def test_a_run_that_was_resumed_follows_the_plan_it_has(tmp_path: Path) -> None:
    """Only the process that began a run keeps to its budget; it has the lock."""
    made = queue(tmp_path)
    add(made, "one", "--budget", "2m")
    records(made.runs / "one", 10, 1000, budget=120.0)
    assert told(made.jobs())["one"].left == pytest.approx(990 * 2.0 + END)
    (made.runs / "one" / "lock.json").write_text(json.dumps({"since": time.time()}))
    assert told(made.jobs())["one"].left == pytest.approx(120 - 20 + END)


@pytest.mark.parametrize(("words", "left"), [(["--steps", "50"], 80.0), (["--budget", "100s"], 80.0), ([], 0.0)])
def test_time_of_a_run_that_is_trained_further(tmp_path: Path, words: list[str], left: float) -> None:
    made = queue(tmp_path)
    made.add(["resume", "old", *words], "old")
    records(made.runs / "old", 10, 10)
    assert told(made.jobs())["old"].left == pytest.approx(left + END)


# -- of comparisons ----------------------------------------------------------------------------------------------------


def measured(folder: Path, name: str, training: float, measuring: float, ago: float = 0.0) -> None:
    """As if a run of a comparison had been trained and measured, so many seconds ago."""
    records(folder / name, 45, 45, training / 45, ago + measuring)
    (folder / f"{name}.json").write_text("{}")
    (folder / name / "manifest.json").touch()
    for path, when in ((folder / f"{name}.json", ago), (folder / name / "manifest.json", ago + measuring + training)):
        os.utime(path, (time.time() - when,) * 2)


def test_time_left_of_a_comparison(tmp_path: Path) -> None:
    """A family that was measured tells what its other seeds take; a new one by a look how long measuring it takes."""
    made = queue(tmp_path)
    job = made.add(["compare", "moons", "--families", "vae,gan,flow", "--seeds", "2", "--budget", "60s"], "moons")
    first = told([job])[job.run]
    assert (first.left, first.done, first.runs) == (pytest.approx(6 * 72.0 + START + END), 0, 6)
    folder = made.runs / job.run
    measured(folder, "vae-0", 60.0, 40.0)
    records(folder / "vae-1", 15, 45)
    (folder / "comparison.json").write_text('{"choice": {"left_out": {"gan": "too slow"}}}')
    found = told([job])[job.run]
    assert (found.done, found.runs, found.step, found.steps) == (1, 4, 15, 45)
    assert found.left == pytest.approx((60 + 40) + 2 * ((60 + 90) / 2 + 40) + END, abs=2)
    measured(folder, "vae-1", 90.0, 20.0)
    looked = [{"step": i, "steps": 30, "seconds": 2.0 * i + (i > 10) * 4.0} for i in range(1, 16)]
    (folder / "flow-0").mkdir()
    lines = [json.dumps(one) + "\n" for one in (*looked[:10], looked[9] | {"quality": 1.0}, *looked[10:])]
    (folder / "flow-0" / "metrics.jsonl").write_text("".join(lines))
    found = told([job])[job.run]
    training = 30 + 4  # its plan as it stands
    assert found.left == pytest.approx(training + 4 * LOOKED + (34 + 30 + 4 * LOOKED), rel=0.05)
    (folder / "failures.json").write_text('{"flow-0": "it has diverged"}')
    assert told([job])[job.run].done == 3


def test_jobs_of_one_kind_differ_in_their_own_options_alone() -> None:
    assert kind(("train", "flow", "--run", "a", "--seed=3", "--steps", "9")) == ("train", "flow")
    assert kind(("train", "flow", "--preset", "tiny")) == ("train", "flow", "--preset", "tiny")


def test_behind_two_dashes_there_are_no_options() -> None:
    words = ["compare", "one", "--seeds", "2", "--", "--seeds", "-x"]
    assert positional(words) == ["one", "--seeds", "-x"]
    assert option(words, "--seeds") == "2"
    assert option(words[:2] + words[4:], "--seeds") is None
    assert without(words, "--seeds") == ["compare", "one", "--", "--seeds", "-x"]
