"""NaN and Inf: an update that would bring them is skipped, then training goes back, then it stops; none is saved."""

from __future__ import annotations

import contextlib
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import quintet
from quintet.cli.main import main
from quintet.core.errors import Diverged, QuintetWarning
from quintet.core.family import Batch
from quintet.data.loader import Loader
from quintet.families.vae import VAE
from quintet.registry import FAMILIES
from quintet.runs.folder import Run
from quintet.training import checkpoint
from quintet.training.engine import Engine
from quintet.training.guard import MOST_BACK, MOST_SKIPPED
from quintet.training.trainer import Trainer

BAD = (math.nan, math.inf, -math.inf)
FAMILY_NAMES = list(FAMILIES)


def poisoned(run: Run) -> list[str]:
    """The checkpoints of a run, and its best weights, that hold what is not finite."""
    bad = []
    for folder in (*checkpoint.steps(run.checkpoints), *checkpoint.steps(run.bests)):
        tensors = [tensor for group in checkpoint.load(folder)[0].values() for tensor in group.values()]
        if not all(bool(torch.isfinite(tensor.double()).all()) for tensor in tensors):
            bad.append(folder.name)
    return bad


def inject(monkeypatch: pytest.MonkeyPatch, planned: dict[int, str], seed: int = 0) -> list[int]:
    """Of these steps of data spoil the items, the loss or the gradient. Returns the steps that were, as they come."""
    accumulate, batch, draw, spoilt = Trainer.accumulate, Loader.batch, random.Random(seed), list[int]()

    def spoil(self: Trainer, name: str, objective: Any) -> dict[str, float]:
        sums = accumulate(self, name, objective)
        place = self.step + self.guard.passed
        if place in planned and name == next(iter(self.objectives)):
            spoilt.append(place)
            if planned[place] == "gradient":
                gradient = draw.choice(self.flats[name].grads).view(-1)  # not what lies between parameters
                gradient[draw.randrange(len(gradient))] = draw.choice(BAD)
            elif planned[place] == "loss":
                sums[name] = draw.choice(BAD)
        return sums

    def items(self: Loader, cursor: int, start: int, count: int, total: int, *, stream: str = "") -> Batch:
        made = batch(self, cursor, start, count, total, stream=stream)
        if total == 8 and planned.get(cursor // total) == "data" and made.x.is_floating_point():
            x = made.x.clone()
            x.view(-1)[draw.randrange(x.numel())] = draw.choice(BAD)
            return replace(made, x=x)
        return made

    monkeypatch.setattr(Trainer, "accumulate", spoil)
    monkeypatch.setattr(Loader, "batch", items)
    return spoilt


def given(family: str, root: Path, steps: int, **training: Any) -> dict[str, Any]:
    settings = {"batch_size": 8, "save_every": 1, "keep": 1000, "sample_every": steps, **training}
    return {"family": family, "data": "iris", "preset": "tiny", "steps": steps, "run": "r", "runs": root,
            "config": {"training": settings}}  # fmt: skip


def injections(family: str, count: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """So many injections, never too many in a row: how many updates were skipped, and the poisoned checkpoints."""
    draw, steps = random.Random(family), 2 * count + 4
    kinds = ["loss", "gradient"] + ["data"] * (family not in ("autoregressive", "masked_diffusion"))
    planned = {step: draw.choice(kinds) for step in draw.sample(range(1, steps), count)}
    trainers: list[Trainer] = []
    spoilt = inject(monkeypatch, planned)
    with pytest.warns(QuintetWarning, match="since their loss or gradient was NaN or infinite"):
        model = quintet.train(**given(family, root, steps), on_trainer=trainers.append)
    assert sorted(set(spoilt)) == sorted(planned)
    assert all(bool(torch.isfinite(p).all()) for p in model.family.parameters())
    return trainers[0].guard.lost, poisoned(model.run)


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
@pytest.mark.parametrize("count", [12, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_no_checkpoint_is_poisoned(family: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert injections(family, count, tmp_path, monkeypatch) == (count, [])


def test_that_test_notices_an_update_that_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "any", lambda self, flag: False)
    inject(monkeypatch, {3: "gradient"})
    run = quintet.train(**given("flow", tmp_path, 5)).run
    assert poisoned(run) == ["step-00000004", "step-00000005"]


# -- going back ------------------------------------------------------------------------------------------------------


def final(run: Run) -> dict[str, Tensor]:
    tensors, _ = checkpoint.load(checkpoint.steps(run.checkpoints)[-1])
    return {f"{group}.{name}": value for group, entries in tensors.items() for name, value in entries.items()}


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
def test_many_in_a_row_go_back_and_on_with_other_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a checkpoint, ten updates in a row are spoilt by their items. The run has all its steps, each once, also
    if it is killed in the middle of that and resumed.
    """
    inject(monkeypatch, dict.fromkeys(range(5, 5 + MOST_SKIPPED), "data"))
    trainers: list[Trainer] = []
    asked = given("flow", tmp_path / "whole", 24, save_every=4)
    with pytest.warns(QuintetWarning, match="at step 15: training goes on from the checkpoint of step 4"):
        whole = quintet.train(**asked, on_trainer=trainers.append).run
    (trainer,) = trainers
    assert (trainer.step, trainer.guard.back, trainer.guard.passed) == (24, 1, 11)
    assert poisoned(whole) == []
    assert [folder.name[-2:] for folder in checkpoint.steps(whole.checkpoints)] == ["04", "08", "12", "16", "20", "24"]
    seen = [record["step"] for record in whole.metrics() if "model" in record]
    assert seen == sorted(set(seen)) == list(range(1, 25))
    for cut in (4, 8, 16):
        copy = Run(tmp_path / str(cut))
        shutil.copytree(whole.path, copy.path)
        for folder in checkpoint.steps(copy.checkpoints):
            if int(folder.name[5:]) > cut:
                shutil.rmtree(folder)
        quintet.resume(copy.path)
        one, other = final(whole), final(copy)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), cut


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
def test_what_goes_on_ends_training_naming_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inject(monkeypatch, dict.fromkeys(range(5, 500), "loss"))
    words = ["train", "flow", "--data", "iris", "--preset", "tiny", "--steps", "100", "--run", "r"]
    words += ["--runs", str(tmp_path), "--training.batch_size", "8", "--training.save_every", "2"]
    assert main(words) == 5
    said = capsys.readouterr().err
    assert said.count("training goes on from the checkpoint of step") == MOST_BACK
    assert "step 14: the loss or gradients were NaN or infinite in 10 updates in a row" in said
    assert "lower --training.lr" in said
    run = Run(tmp_path / "r")
    assert poisoned(run) == []
    assert not (run.path / "lock.json").exists()
    capsys.readouterr()
    assert main(["inspect", "r", "--runs", str(tmp_path), "--verify"]) == 0


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, dict.fromkeys(range(500), "loss"))
    with pytest.raises(Diverged, match="step 10: the loss or gradients were NaN or infinite in 10 updates in a row"):
        quintet.train(**given("gan", tmp_path, 40, save_every=20))


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
@pytest.mark.parametrize("lr", [1e3, 1e10, pytest.param(1e20, marks=pytest.mark.slow), 1e38])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_absurd_learning_rates(family: str, lr: float, tmp_path: Path) -> None:
    select = "quality" if family == "gan" else "held_out"
    asked = given(family, tmp_path, 12, lr=lr, save_every=2, sample_every=2, select=select, clip=None)
    with contextlib.suppress(Diverged):
        model = quintet.train(**asked)
        assert all(bool(torch.isfinite(p).all()) for p in model.family.parameters())
    assert poisoned(Run(tmp_path / "r")) == []


@pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
def test_what_a_look_makes_of_a_model_is_saved_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prior that is fitted to latents is a part of the model that no update changes."""

    def spoil(self: VAE, batches: Any) -> None:
        self.extra.fill_(math.nan)

    initialise: Callable[..., None] = VAE.initialise

    def more(self: VAE, batch: Batch) -> None:
        self.register_buffer("extra", torch.zeros(1))
        initialise(self, batch)

    monkeypatch.setattr(VAE, "initialise", more)
    monkeypatch.setattr(VAE, "settle", spoil)
    with pytest.raises(Diverged, match="extra of model"):
        quintet.train(**given("vae", tmp_path, 6, sample_every=3, select="held_out"))
    run = Run(tmp_path / "r")
    assert poisoned(run) == []
    assert [folder.name for folder in checkpoint.steps(run.checkpoints)] == ["step-00000001", "step-00000002"]
