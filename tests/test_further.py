"""A run that is trained further than it was planned: up to more steps or a larger budget in all."""

from __future__ import annotations

import itertools
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import quintet
from quintet.cli.main import main
from quintet.core.errors import QuintetWarning, UsageError
from quintet.operations.inspecting import inspect
from quintet.operations.requests import InspectRequest
from quintet.runs.folder import Run
from quintet.training import checkpoint
from quintet.training.optim import learning_rate
from quintet.training.plan import Leg, further, look_due, position
from quintet.training.settings import TrainingSettings


def train(root: Path, steps: int = 20, **training: Any) -> quintet.Model:
    return quintet.train("flow", data="moons", preset="tiny", steps=steps, run="r", runs=root,
                         config={"training": training})  # fmt: skip


def steps_of(run: Run) -> list[int]:
    return sorted({record["step"] for record in run.metrics()})


def weights(model: quintet.Model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.family.parameters()])


# -- the plan ----------------------------------------------------------------------------------------------------------


def rates(legs: list[Leg], steps: int) -> list[float]:
    return [learning_rate(TrainingSettings(), *position(legs, step)) for step in range(steps)]


def test_what_is_new_behind_the_end_warms_up_and_decays_anew() -> None:
    """Nothing would be learnt at the rate that is left at an end."""
    once = [Leg(0, 200, 25)]
    twice = further(once, 200, 500, None)
    assert twice == [Leg(0, 200, 25), Leg(200, 500, 38)]
    assert rates(twice, 500) == [*rates(once, 200), *rates([Leg(0, 300, 38)], 300)]
    corrected = [*twice, Leg(300, 400, 38)]
    assert rates(corrected, 300) == rates(twice, 300)
    assert rates(corrected, 400)[-1] == pytest.approx(0, abs=1e-6)


def test_what_is_new_before_the_end_stretches_the_rest() -> None:
    longer = rates(further([Leg(0, 200, 25)], 100, 400, None), 400)
    assert longer[:100] == rates([Leg(0, 200, 25)], 100)
    assert all(0 <= before - after < 1e-5 for before, after in itertools.pairwise(longer[99:]))
    assert longer[-1] == pytest.approx(0, abs=1e-6)


def test_looks_are_as_rare_as_they_were_and_one_is_at_the_end_that_was() -> None:
    legs = further([Leg(0, 1000, 300)], 1000, 1100, None)
    assert legs[-1] == Leg(1000, 1100, 300)
    assert [step for step in range(1, 1101) if look_due(legs, step)] == [300, 600, 900, 1000]
    assert further([Leg(0, 1000, 125)], 1000, 9000, 40)[-1].every == 40


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_trained_further_once(tmp_path: Path) -> None:
    before = weights(train(tmp_path))
    words = ["train", "flow", "--data", "moons", "--preset", "tiny", "--run", "r", "--runs", str(tmp_path)]
    for _ in range(2):  # the second time nothing is left to do
        assert main([*words, "--steps", "40", "--resume", "auto"]) == 0
        run = Run.open("r", tmp_path)
        assert steps_of(run) == list(range(1, 41))
        assert run.metrics()[-1]["steps"] == 40
        assert (run.config().steps, run.config().plan) == (40, ((0, 20, 3, 0), (20, 40, 3, 0)))
    assert [folder.name for folder in checkpoint.steps(run.checkpoints)][-1] == "step-00000040"
    assert not torch.equal(weights(quintet.load("r", runs=tmp_path)), before)
    with pytest.warns(QuintetWarning, match="40 steps, which is more than 20"):
        quintet.resume("r", runs=tmp_path, steps=20)
    assert Run.open("r", tmp_path).config().steps == 40


def test_it_is_what_its_configuration_says_in_one_go(tmp_path: Path) -> None:
    train(tmp_path, select="last")
    longer = quintet.resume("r", runs=tmp_path, steps=40)
    other = tmp_path / "other"
    again = quintet.train("flow", data="moons", runs=other, config=longer.run.config().model_dump(mode="json"))
    assert torch.equal(weights(again), weights(longer))
    plain = quintet.train("flow", data="moons", preset="tiny", steps=40, runs=other,
                          config={"training": {"select": "last"}})  # fmt: skip
    assert not torch.equal(weights(plain), weights(longer))  # the control: another schedule, other weights


def test_it_goes_on_bit_for_bit_wherever_it_is_killed(tmp_path: Path) -> None:
    train(tmp_path / "a", save_every=5, keep=100)
    longer = quintet.resume("r", runs=tmp_path / "a", steps=40)
    for last in (20, 30):  # before its first new checkpoint, and later
        copy = tmp_path / f"copy-{last}"
        shutil.copytree(tmp_path / "a", copy)
        for folder in checkpoint.steps(copy / "r" / "checkpoints"):
            if int(folder.name.removeprefix("step-")) > last:
                shutil.rmtree(folder)
        shown = inspect(InspectRequest(what="r", runs=copy), lambda event: None)
        assert (shown.facts()["step"], shown.facts()["steps"]) == (last, 40)
        resumed = quintet.resume("r", runs=copy)
        assert torch.equal(weights(resumed), weights(longer))
        assert steps_of(resumed.run) == list(range(1, 41))


def test_a_run_that_ended_early_waits_as_long_again(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = train(tmp_path, 80, sample_every=4, save_every=4, select="quality", patience=2, lr=0.3)
        ended = max(steps_of(model.run))
        assert ended < 80
        assert max(steps_of(quintet.resume("r", runs=tmp_path, steps=80).run)) == ended  # that many were planned
        after = quintet.resume("r", runs=tmp_path, steps=200)
    assert after.run.config().plan[-1][:2] == (ended, 200)
    assert max(steps_of(after.run)) >= ended + 8  # two looks, four steps apart


def test_a_larger_budget_buys_more_steps_and_the_same_one_none(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(UsageError, match="budget and steps were both given"):
        quintet.resume("r", runs=tmp_path, steps=30, budget="2m")
    before = checkpoint.load(checkpoint.steps(tmp_path / "r" / "checkpoints")[-1])[1]["seconds"]
    budget = round(3 * before + 0.3, 2)
    run = quintet.resume("r", runs=tmp_path, budget=budget).run
    done = max(steps_of(run))
    assert done > 25
    assert (run.config().steps, run.config().budget, run.config().plan[-1][1]) == (done, budget, done)
    assert steps_of(run) == list(range(1, done + 1))
    state = checkpoint.load(checkpoint.steps(run.checkpoints)[-1])[1]
    assert state["seconds"] < 2 * budget + 1
    assert max(steps_of(quintet.resume("r", runs=tmp_path, budget=budget).run)) == done


def test_a_budget_needs_a_pace(tmp_path: Path) -> None:
    run = train(tmp_path).run
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UsageError, match="has not trained any step yet"):
        quintet.resume("r", runs=tmp_path, budget="1h")
    anew = quintet.resume("r", runs=tmp_path, steps=24).run
    told = [record["step"] for record in anew.metrics() if "quality" not in record and "model" in record]
    assert told == list(range(1, 25))  # what it had told of itself without keeping it is not told twice
