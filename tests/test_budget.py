"""Budgets of seconds, by a clock that the tests turn: plans are corrected, recorded, and repeated bit for bit."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import quintet
from quintet.comparison.contest import sized
from quintet.comparison.recommend import recommendation
from quintet.core import afford
from quintet.core.errors import ConfigError, QuintetWarning
from quintet.core.family import Batch, Family, Loss
from quintet.core.spaces import Continuous
from quintet.data.loader import Loader
from quintet.evaluation.bench import Bench
from quintet.families.gan import GAN
from quintet.fit import fitting, pixels
from quintet.model.fitted import Fitted
from quintet.runs.folder import Run
from quintet.sources.load import load_source
from quintet.training.budget import BACKWARD_BYTES, BudgetPlan, Pace, pace, steps_for
from quintet.training.engine import Engine
from quintet.training.plan import LEAST_STEPS, LOOKING, Leg, position
from quintet.training.settings import TrainingSettings
from quintet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("long_looks")

DATA = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


class Clock:
    """Seconds that only the steps of the test spend."""

    def __init__(self, cost: Callable[[float], float]) -> None:
        self.now, self.cost = 0.0, cost

    def __call__(self) -> float:
        return self.now


class Timed(Family):
    """A linear fit of 0 whose every step takes what its clock says."""

    name, accepts, likelihood = "line", (Continuous,), "none"

    def __init__(self, clock: Clock, step: Callable[[int], float] = lambda items: 0.0) -> None:
        """`step`: seconds of a step of so many items, beside what the clock says."""
        super().__init__(Continuous((8,)))
        self.layer, self.clock, self.step = nn.Linear(8, 8), clock, step

    def __deepcopy__(self, memo: Any) -> Timed:
        twin = Timed(self.clock, self.step)
        twin.load_state_dict(self.state_dict())
        return twin

    def loss(self, batch: Batch) -> Loss:
        self.clock.now += self.clock.cost(self.clock.now) * len(batch.x) / 16 + self.step(len(batch.x))
        return Loss(self.layer(batch.x).square().mean())

    def sample(self, n: int, cond: Tensor | None = None, **_: Any) -> Tensor:  # type: ignore[override]
        return torch.zeros(n, 8)


class Two(Engine):
    """Says how many threads it would use."""

    threads = 2

    def use(self, threads: int) -> None:
        self.threads = threads or self.most


SETTINGS = TrainingSettings(batch_size=16, precision="fp32")


def trainer(clock: Clock, steps: int, **options: Any) -> Trainer:
    torch.manual_seed(0)
    loader = Loader(Continuous((8,)), DATA, None, seed=0)
    return Trainer(Timed(clock), loader, SETTINGS, seed=0, steps=steps, engine=Engine("cpu"), clock=clock, **options)


def weights(of: Trainer) -> Tensor:
    return torch.cat([*(p.detach().flatten() for p in of.family.parameters()), *of.ema.average])


@pytest.mark.parametrize(("factor", "bought"), [(10.0, 550), (0.5, 1500), (1.0, 1000)])
def test_a_plan_is_corrected_when_steps_change_in_the_middle(factor: float, bought: int) -> None:
    """A thousand steps of .1 s are a budget of 100 s; halfway each becomes ten times as slow, or twice as fast."""
    clock = Clock(lambda now: 0.1 if now < 50 else 0.1 * factor)
    run = trainer(clock, 1000, budget=100.0)
    run.run()
    assert run.seconds == pytest.approx(100, rel=0.1)
    assert run.step == run.steps == run.legs[-1].steps == pytest.approx(bought, rel=0.1)
    repeated = trainer(Clock(lambda now: 0.0), run.steps, plan=run.legs)
    repeated.run()
    assert repeated.step == run.step
    assert torch.equal(weights(repeated), weights(run)), "what was done is not what is recorded"


def test_a_plan_that_holds_is_that_of_its_number_of_steps() -> None:
    run = trainer(Clock(lambda now: 0.1), 1000, budget=100.0)
    run.run()
    assert run.legs == [Leg(0, 1000, 125)]
    plain = trainer(Clock(lambda now: 0.0), 1000)
    plain.run()
    assert torch.equal(weights(plain), weights(run))


def test_a_corrected_run_goes_on_bit_for_bit() -> None:
    clock = Clock(lambda now: 0.1 if now < 50 else 1.0)
    run = trainer(clock, 1000, budget=100.0)
    kept: dict[int, Any] = {}

    def on_save() -> None:
        state = {group: {key: value.clone() for key, value in part.items()} for group, part in run.tensors().items()}
        kept[run.step] = (state, run.state())

    run.run(on_save=on_save)
    assert min(kept) < run.legs[-1].at, "this checkpoint is from before the plan was corrected"
    again = trainer(Clock(lambda now: 0.0), run.steps, plan=run.legs)
    again.restore(*kept[min(kept)])
    again.run()
    assert again.step == run.step
    assert torch.equal(weights(again), weights(run))


def test_checkpoints_are_paid_from_the_budget() -> None:
    """The plan is corrected for those that were saved; that of the last step comes behind it."""
    clock = Clock(lambda now: 0.1)
    run = trainer(clock, 1000, budget=100.0)

    def on_save() -> None:
        clock.now += 4.0

    run.run(on_save=on_save)
    assert run.seconds == pytest.approx(clock.now)
    assert clock.now < 100 + 4 + 3.1


def test_the_schedule_of_a_corrected_plan_never_jumps() -> None:
    legs = [Leg(0, 1000, 100), Leg(400, 500, 100), Leg(450, 700, 100)]
    share = [place / steps for place, steps in (position(legs, step) for step in range(701))]
    assert share[400] == pytest.approx(0.4)
    assert share[450] == pytest.approx(0.7)
    assert share[700] == pytest.approx(1)
    rises = [b - a for a, b in itertools.pairwise(share)]
    assert min(rises) > 0
    assert max(rises) < 0.0061


def test_slow_looks_leave_the_steps_their_time() -> None:
    """Looks that become slow are made more rarely: they have a budget of their own."""
    clock, looks = Clock(lambda now: 0.1), []

    def look() -> None:
        looks.append(run.step)
        clock.now += 0.5 if clock.now < 20 else 8.0

    run = trainer(clock, 900, budget=100.0)
    run.run(on_interval=look)
    assert looks[-1] == run.step
    assert run.looked <= LOOKING * 100 + 2 * 8
    assert run.seconds == pytest.approx(100, rel=0.15)
    assert run.step >= 500, "half of what the budget pays for"


def test_planning_stops_after_the_first_step_that_is_too_slow() -> None:
    """A step of 16 items takes 40 s: one item is timed, then nothing that takes longer."""
    clock = Clock(lambda now: 40.0)
    torch.manual_seed(0)
    loader = Loader(Continuous((8,)), DATA, None, seed=0)
    found = pace(Timed(clock), loader, SETTINGS, seed=0, engine=Engine("cpu"), limit=0.5, clock=clock)
    assert found.seconds == pytest.approx(40)
    assert clock.now <= 2.5
    begun = clock.now
    bought = steps_for(60.0, Timed(clock), loader, SETTINGS, seed=0, engine=Engine("cpu"), clock=clock)
    assert clock.now - begun <= 40
    assert bought.steps == LEAST_STEPS


def test_steps_of_a_busy_machine_are_not_priced_by_their_first_item() -> None:
    """Of .6 s for each step and 1 ms for each item a batch of 16 takes .616 s, not 16 times .6; on one thread .1 s."""
    clock = Clock(lambda now: 0.0)
    engine = Two("cpu")
    engine.most = engine.threads = 1
    loader = Loader(Continuous((8,)), DATA, None, seed=0)
    family = Timed(clock, lambda items: (0.6 if engine.threads == engine.most else 0.1) + 0.001 * items)
    found = pace(family, loader, SETTINGS, seed=0, engine=engine, limit=0.5, clock=clock)
    assert found.seconds == pytest.approx(0.616)
    engine.most = engine.threads = 2
    found = pace(family, loader, SETTINGS, seed=0, engine=engine, limit=0.5, clock=clock)
    assert found.seconds < 0.5, "one thread is faster here"


def test_a_run_is_never_one_step() -> None:
    clock = Clock(lambda now: 0.1 if now < 1 else 50.0)
    run = trainer(clock, 1000, budget=60.0)
    run.run()
    assert run.step >= LEAST_STEPS


def test_threads_that_wait_do_not_spin() -> None:
    """The settings stand before torch is loaded, and what the user has set stays."""
    code = "import os, quintet, sys; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    bare = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=bare | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def test_threads_are_chosen_again_when_steps_change() -> None:
    """Two threads become ten times as slow beside another process, one does not."""
    chosen: list[int] = []

    engine = Two("cpu")
    engine.most = 2
    clock = Clock(lambda now: 0.1 if now < 30 else 1.0 if engine.threads == 2 else 0.12)
    loader = Loader(Continuous((8,)), DATA, None, seed=0)
    run = Trainer(Timed(clock), loader, SETTINGS, seed=0, steps=1000, engine=engine, budget=100.0, clock=clock)
    run.run(on_step=lambda record: chosen.append(engine.threads))
    assert chosen[0] == 2
    assert chosen[-1] == 1
    assert run.legs[-1].threads == 1
    assert run.step == pytest.approx(300 + 580, rel=0.15)
    assert run.seconds == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("step", [0.1, 0.4, 2.0])
def test_planning_leaves_the_budget_to_training(step: float) -> None:
    """Steps of .1 to 2 s on either number of threads, a look as long as ten: nine tenths of 50 s are left to train."""
    engine, clock = Engine("cpu"), Clock(lambda now: step)
    engine.most = 2
    loader = Loader(Continuous((8,)), DATA, None, seed=0)

    def look(family: Family) -> None:
        clock.now += min(10 * step, 2.0)

    found = steps_for(50.0, Timed(clock), loader, SETTINGS, seed=0, engine=engine, interval=look, clock=clock)
    assert found.left >= 45
    assert clock.now <= max(5.0, 4 * step)
    run = Trainer(Timed(clock), loader, SETTINGS, seed=0, steps=found.steps, engine=engine, clock=clock,
                  plan=[(0, *found[:3])], budget=found.left)  # fmt: skip
    run.look_seconds = found.look
    run.run(on_interval=lambda: look(run.family))
    assert run.seconds >= 0.85 * 50


def test_slow_looks_of_a_number_of_steps_become_rarer() -> None:
    """A hundred steps of .1 s between looks of 10 s: with eight of these a run would wait as long as it trains."""
    clock, looks, kept = Clock(lambda now: 0.1), list[int](), list[list[Leg]]()

    def look() -> None:
        looks.append(run.step)
        clock.now += 10.0

    run = trainer(clock, 1000)
    run.run(on_interval=look, on_plan=lambda legs: kept.append(list(legs)))
    assert looks[0] == 15
    assert looks[-1] == 1000
    assert len(looks) <= 5, "eleven without this"
    assert run.looked <= 0.51 * (run.seconds - run.looked)
    assert kept == [run.legs]
    made, looks[:] = list(looks), []
    again = trainer(clock, 1000, plan=run.legs)
    again.run(on_interval=lambda: looks.append(again.step))
    assert looks == made, "a run that goes on has the looks that it would have had"
    looks[:] = []
    fixed = TrainingSettings(batch_size=16, precision="fp32", sample_every=100)
    asked = Trainer(Timed(clock), run.loader, fixed, seed=0, steps=1000, engine=Engine("cpu"), clock=clock)

    def slow() -> None:
        looks.append(asked.step)
        clock.now += 10.0

    asked.run(on_interval=slow)
    assert looks == [12, 25, 50, *range(100, 1001, 100)], "what was asked for stays"


@pytest.mark.parametrize("length", [{"steps": 16}, {"budget": "2s"}])
def test_looks_at_a_slow_model_have_fewer_samples_the_same_number_each(
    length: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second for each sample: there is time for the fewest by which a model is judged, and the run says so."""
    now, sample = [0.0], GAN.sample
    monkeypatch.setattr(afford.time, "perf_counter", lambda: now[0])
    drawn: list[int] = []

    def slowly(self: GAN, n: int, *args: Any, **options: Any) -> Tensor:
        now[0] += n
        drawn.append(n)
        return sample(self, n, *args, **options)

    monkeypatch.setattr(GAN, "sample", slowly)
    with pytest.warns(QuintetWarning, match="looks while it trains have 20 samples instead of 100"):
        model = quintet.train("gan", data="moons", condition="label", preset="tiny", runs=tmp_path, **length)
    looks = [record for record in model.run.metrics() if "quality" in record]
    assert len(looks) >= 1
    assert {record["samples"] for record in looks} == {20}
    assert drawn[0] == 1, "it is tried on one"
    assert set(drawn[-len(looks) :]) == {20}
    monkeypatch.setattr(GAN, "sample", sample)
    quick = quintet.train("gan", data="moons", preset="tiny", runs=tmp_path, steps=16)
    assert not any("samples" in record for record in quick.run.metrics())


# -- what a budget cannot buy ----------------------------------------------------------------------------------------


@pytest.fixture
def colour(tmp_path: Path) -> str:
    """A folder of 80 colour images of 64x64: a disc before a gradient."""
    rng, folder = np.random.default_rng(0), tmp_path / "colour"
    folder.mkdir()
    rows, columns = np.mgrid[0:64, 0:64] / 64
    for number in range(80):
        first, second, third = rng.integers(0, 256, (3, 3))
        picture = first * (1 - rows[..., None]) + second * rows[..., None]
        picture[(rows - rng.uniform(0.3, 0.7)) ** 2 + (columns - rng.uniform(0.3, 0.7)) ** 2 < 0.03] = third
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number:02d}.png")
    return str(folder)


def paced(monkeypatch: pytest.MonkeyPatch, seconds_an_item: Callable[[str], float], item_bytes: float = 1.0) -> None:
    """In the place of measuring: what an item costs by the preset's width; and runs of ten steps."""

    def measured(family: Family, loader: Any, settings: TrainingSettings, **_: Any) -> Pace:
        size = "small" if sum(p.numel() for p in family.parameters()) > 500_000 else "tiny"
        return Pace(seconds_an_item(size) * settings.batch_size, item_bytes)

    for module in (pixels, fitting):
        monkeypatch.setattr(module, "pace", measured)
    monkeypatch.setattr(fitting, "steps_for", lambda *_, **__: BudgetPlan(8, 8, 0, 1e9, 1.0, 0.0))


def test_a_batch_is_made_smaller_for_the_sake_of_a_budget(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 s buy 30 steps of 64 items at 2 s each, 120 of 16 items; a step keeps so much that 4 items go at a time."""
    paced(monkeypatch, lambda size: 2 / 64, item_bytes=BACKWARD_BYTES / 4)
    with pytest.warns(QuintetWarning, match="30 steps of vae, so the run is trained with batches of 16 instead of 64"):
        model = quintet.train("vae", data=colour, budget="60s", runs=tmp_path)
    made = model.run.config()
    assert (made.preset, made.training.batch_size, made.training.micro_batch) == ("small", 16, 4)


def test_a_smaller_preset_is_taken_for_the_sake_of_a_budget(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(monkeypatch, lambda size: 1.0 if size == "small" else 0.05)
    with pytest.warns(QuintetWarning, match="preset tiny instead of small"):
        model = quintet.train("vae", data=colour, budget="60s", runs=tmp_path)
    assert model.run.config().preset == "tiny"
    assert model.run.config().training.batch_size == 8


@pytest.mark.parametrize("given", [["--budget", "60s"], [], ["--budget", "60s", "--training.sample_every", "3"]])
def test_the_same_command_goes_on_whatever_the_budget_changed(
    given: list[str], colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The budget takes another preset, batch and number of looks than the command would; it is the same command."""
    from quintet.cli.main import main

    paced(monkeypatch, lambda size: 1.0 if size == "small" else 0.05)
    words = ["train", "vae", "--data", colour, *given, "--run", "r", "--runs", str(tmp_path), "--resume", "auto"]
    assert main([*words]) == 0
    first = Run(tmp_path / "r").config()
    assert (first.preset, first.training.batch_size) == ("tiny", 8)
    assert main([*words]) == 0
    assert Run(tmp_path / "r").config() == first, "the run goes on as it was planned"
    capsys.readouterr()
    assert main([*words, "--preset", "base"]) == 3
    assert "preset: 'small' in the run, 'base' now" in capsys.readouterr().err


def test_what_cannot_be_afforded_says_what_would_work(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(monkeypatch, lambda size: 1.0)
    with pytest.raises(ConfigError, match="only 7 steps of autoregressive") as caught:
        quintet.train("autoregressive", data=colour, budget="60s", runs=tmp_path / "runs")
    assert all(word in str(caught.value) for word in ("--data.size", "--codec", "another family", "--budget 14m"))
    assert not list((tmp_path / "runs").iterdir()), "nothing was begun, so nothing is left behind"


def test_a_comparison_leaves_out_what_cannot_be_afforded(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(monkeypatch, lambda size: 1.0)
    found = quintet.compare(colour, families=["vae"], budget="60s", samples=20, runs=tmp_path / "runs")
    assert found["models"][0]["status"] == "failed"
    assert "too few to learn anything" in found["models"][0]["error"]


FAST, SLOW_AT_64, SLOW = "vae", "gan", "autoregressive"


def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """A VAE is fast, a GAN slow on pictures of 64 pixels a side, a Transformer slow on all. Returns what is timed:
    (family, pixels of an item).
    """
    tried: list[tuple[str, int]] = []

    def measured(family: Family, *_: Any, **__: Any) -> Pace:
        numbers = family.space.dims
        tried.append((family.name, numbers // 3))
        slow = family.name == SLOW or (family.name == SLOW_AT_64 and numbers > 3 * 32 * 32)
        return Pace(1.0 if slow else 0.01, 1.0)

    for module in (pixels, fitting):
        monkeypatch.setattr(module, "pace", measured)
    monkeypatch.setattr(fitting, "steps_for", lambda *_, **__: BudgetPlan(2, 2, 0, 1e9, 1.0, 0.0))
    return tried


SMALL = {"model": {"width": 8}, "training": {"batch_size": 4}}


def test_a_comparison_takes_the_pixels_that_its_budget_buys(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Transformer is slow at any size, so it is left out; the GAN is not at 32 pixels, so all are made of those."""
    tried = timed(monkeypatch)
    wanted: dict[str, Any] = {"budget": "60s", "samples": 20, "runs": tmp_path / "runs", "config": SMALL}
    with pytest.warns(QuintetWarning, match=r"trained and measured on 32 x 32 \(--data.size 64 overrules this\)"):
        found = quintet.compare(colour, families=[SLOW, SLOW_AT_64], **wanted)
    assert (SLOW, 32 * 32) not in tried, "what is too slow at 16 pixels is not tried on more"
    left, made = found["models"]
    assert left["status"] == "left out"
    assert "60 s buy about 54 steps of autoregressive on pictures of 16 pixels a side" in left["error"]
    assert "--budget 8m" in left["error"]
    assert "--data.size 32" in found["command"]
    assert any("overrules" in note for note in found["verdict"]["caveats"])
    assert quintet.load(made["run"], runs=found["runs"]).config.data.size == 32


def test_a_size_that_is_given_is_kept(colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too slow at that size is left out; where that is all of it, nothing is."""
    timed(monkeypatch)
    training: dict[str, Any] = {"budget": "60s", "preset": None, "config": {"data": {"size": 64}}}
    found = sized(load_source(colour), [SLOW_AT_64, FAST], None, training, tmp_path)
    assert (found["size"], list(found["left_out"])) == (None, [SLOW_AT_64])
    assert "steps of gan on pictures of 64 pixels a side" in found["left_out"][SLOW_AT_64]
    found = sized(load_source(colour), [SLOW_AT_64], None, training, tmp_path)
    assert (found["size"], found["left_out"]) == (None, {})
    assert "too short for pictures of this size" in found["notes"][0]


def test_a_comparison_that_goes_on_keeps_its_pixels(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call and the second are stopped behind the choice, which is the same and found out once."""
    tried = timed(monkeypatch)

    def broken(*_: Any, **__: Any) -> Any:
        raise ConfigError("it stops here")

    monkeypatch.setattr(fitting, "steps_for", broken)
    for _ in range(2):
        before = [size for _, size in tried].count(64 * 64)
        found = quintet.compare(colour, families=[SLOW_AT_64], budget="60s", samples=20, runs=tmp_path, config=SMALL)
        assert "--data.size 32" in found["command"]
        assert {size for _, size in tried} == {16 * 16, 32 * 32, 64 * 64}
    assert [size for _, size in tried].count(64 * 64) == before


def codec_of(monkeypatch: pytest.MonkeyPatch, family: str, source: str, **given: Any) -> str:
    """That of the first run that would be trained with a budget of 60 s."""
    planned: list[Any] = []
    monkeypatch.setattr(fitting, "train_planned", lambda config, *_, **__: planned.append(config))
    fitting.train(family, data=source, budget="60s", **given)
    return str(planned[0].codec)


def test_pictures_too_large_for_a_family_become_latents(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 s buy 54 steps of the Transformer on 12,288 symbols: half of them go to an autoencoder. Who asks for pixels,
    or has small pictures, gets pixels.
    """
    timed(monkeypatch)
    wanted: dict[str, Any] = {"budget": "60s", "runs": tmp_path}
    with pytest.warns(QuintetWarning, match="So 50% of the budget train a vae, and the rest trains autoregressive"):
        model = quintet.train(SLOW, data=colour, run="large", **wanted)
    first = Run(tmp_path / "large-autoencoder").config()
    assert (model.config.codec, model.config.budget, first.family, first.budget) == (
        "large-autoencoder",
        30.0,
        "vae",
        30.0,
    )
    assert first.model["bottleneck"] == "fsq", "a Transformer takes symbols"
    assert model.codecs["x"].space.dims == 8 * 8
    assert codec_of(monkeypatch, SLOW, colour, codec="image") == "image"
    assert codec_of(monkeypatch, SLOW, colour, config={"data": {"size": 32}}) == "image"


def test_latents_are_no_way_out_where_their_autoencoder_is_too_slow(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(monkeypatch, lambda size: 0.25)
    assert codec_of(monkeypatch, "autoregressive", colour) == "image"


def test_one_family_says_before_training_what_would_work(
    colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch)
    monkeypatch.setattr(fitting, "pace", lambda *_, **__: Pace(0.1, 1.0))
    with pytest.warns(QuintetWarning, match=r"buy about 2 steps of gan .* What would work: --data.size 32"):
        quintet.train(SLOW_AT_64, data=colour, budget="60s", runs=tmp_path, config=SMALL)


def test_recommend_advises_what_compare_takes(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch)
    found = recommendation(load_source(colour), 60)
    assert any("every family is trained and measured on 32 x 32" in note for note in found["cautions"])
    assert "--data.size 32" in found["purposes"]["samples"]["command"]
    assert found["order"][-1] == SLOW


def test_timing_stops_before_a_batch_takes_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    torch.manual_seed(0)
    loader = Loader(Continuous((8,)), DATA, None, seed=0)

    def kept(trial: Trainer) -> int:
        trial.update()
        return BACKWARD_BYTES // 5

    real = loader.batch
    monkeypatch.setattr(loader, "batch", lambda at, start, n, total, **kw: (rows.append(total), real(
        at, start, n, total, **kw))[1])  # fmt: skip
    monkeypatch.setattr("quintet.training.budget.saved_bytes", kept)
    clock = Clock(lambda now: 1.0)
    pace(Timed(clock), loader, SETTINGS, seed=0, engine=Engine("cpu"), limit=1.5, clock=clock)
    assert max(rows[1:]) <= 4, "of sixteen items, five fit"


def test_of_a_slow_model_fewer_samples_are_measured_and_it_is_said(tmp_path: Path) -> None:
    model = quintet.train("gan", data="moons", steps=3, preset="tiny", runs=tmp_path)
    bench = Bench(load_source("moons"), None, samples=100)
    found, whole = bench.run(model.fitted, limit=1e-6), bench.run(model.fitted, limit=1e6)
    assert (found["metrics"]["items"], whole["metrics"]["items"]) == (20, 100)
    assert found["fewer_samples"].startswith("20 of 100 samples")
    assert "show only large differences" in found["fewer_samples"]
    assert "frechet" in whole["metrics"]
    assert "frechet" not in found["metrics"], "it depends on the number of samples"
    assert "fewer_samples" not in whole
    flow = quintet.train("flow", data="moons", steps=3, preset="tiny", runs=tmp_path)
    found, whole = bench.run(flow.fitted, limit=1e-6), bench.run(flow.fitted, limit=1e6)
    assert (found["likelihood"]["items"], whole["likelihood"]["items"]) == (20, 500)
    assert found["fewer_scored"].startswith("20 of 500 items")
    assert len(found["scored"]) == 20
    assert "fewer_scored" not in whole
    assert found["measured"] == {"samples": 20, "samples_wanted": 100, "scored": 20, "scored_wanted": 500}


def test_of_a_slow_model_of_a_long_text_fewer_windows_are_scored(tmp_path: Path) -> None:
    model = quintet.train("autoregressive", data="pydocs", steps=2, preset="tiny", runs=tmp_path,
                          config={"coding": {"block": 32}})  # fmt: skip
    bench = Bench(load_source("pydocs"), None, samples=20)
    whole, found = bench.run(model.fitted, limit=1e6), bench.run(model.fitted, limit=1e-6)
    text = load_source("pydocs").rows("test")
    windows = sum(map(len, text)) // 32
    assert whole["measured"]["scored"] == whole["likelihood"]["items"] == windows
    assert found["measured"]["scored"] == found["likelihood"]["items"]
    assert 20 <= found["likelihood"]["items"] <= 34, "two stretches of sixteen windows"
    assert found["fewer_scored"].startswith(f"20 of {windows:,} items")
    assert found["likelihood"]["nats"] == pytest.approx(whole["likelihood"]["nats"], rel=0.1)


class Slow:
    """A model whose every sample, score and label takes a second of a clock that only this moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each: float = 1.0) -> None:
        self.now, self.each = 0.0, each
        monkeypatch.setattr(afford.time, "perf_counter", lambda: self.now)
        for name in ("draw", "unwarned", "classify"):
            monkeypatch.setattr(Fitted, name, self.slowly(getattr(Fitted, name)))

    def slowly(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(model: Fitted, items: Any, **options: Any) -> Any:
            self.now += self.each * (items if isinstance(items, int) else len(items))
            return method(model, items, **options)

        return call


def test_evaluating_a_slow_model_ends_with_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a second for each sample and score, a thousand samples and all that belongs to them would take an hour."""
    model = quintet.train("flow", data="moons", steps=3, preset="tiny", runs=tmp_path)
    told: list[str] = []
    clock = Slow(monkeypatch)
    found = model.evaluate(budget="10m", report=lambda record: told.append(record["doing"]))
    assert clock.now <= 660
    assert found["measured"]["budget"] == 600
    assert found["measured"]["samples"] == found["metrics"]["items"] == 150
    assert found["measured"]["scored"] == found["likelihood"]["items"] == 50
    assert "drawing 150 samples, at most 150 s" in told
    assert "scoring 50 unseen items, at most 150 s" in told
    began = clock.now
    found = model.evaluate()
    assert clock.now - began <= 150, "two minutes for a run that took less, and twenty items where there is no time"
    assert found["measured"]["budget"] == 120
    assert (found["measured"]["samples"], found["measured"]["scored"]) == (30, 20)
    assert "show only large differences" in found["fewer_samples"]
    other = quintet.train("flow", data="moons", steps=3, preset="tiny", runs=tmp_path, run="other")
    began = clock.now
    report = quintet.compare(model.run.path, other.run.path)
    assert clock.now - began <= 320
    assert [entry["measured"]["samples"] for entry in report["models"]] == [30, 30]


def test_evaluating_a_slow_classifier_ends_with_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = quintet.train("autoregressive", data="digits", target="label", condition="items", steps=3, runs=tmp_path)
    Slow(monkeypatch)
    found = model.evaluate(budget=200)
    assert (found["measured"]["items"], found["metrics"]["items"], len(found["scored"])) == (50, 50, 50)
    assert found["fewer_items"].startswith(f"50 of {len(load_source('digits').index('test'))} items")


def test_how_many_items_can_be_afforded_is_not_judged_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1 s for each call and 1 ms for each item: one item says a second each, but 500 take 1.5 s."""
    now = [0.0]
    monkeypatch.setattr(afford.time, "perf_counter", lambda: now[0])

    def work(rows: int, fixed: float = 1.0, each: float = 0.001) -> None:
        now[0] += fixed + each * rows

    assert afford.affordable(work, 500, 20.0).items == 500
    assert afford.affordable(lambda rows: work(rows, 0.1, 1.0), 500, 100.0).items == pytest.approx(99, abs=2)
    assert afford.affordable(lambda rows: work(rows, 0.0, 60.0), 500, 1.0) == (20, 1200)
    assert afford.affordable(work, 20, 1e-6).items == 20


def test_what_is_done_after_training_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from quintet.cli.main import main

    words = ["compare", "moons", "--families", "flow", "--steps", "2", "--preset", "tiny", "--samples", "30"]
    assert main([*words, "--runs", str(tmp_path), "-o", str(tmp_path / "r.html")]) == 0
    told = capsys.readouterr().err
    assert [what in told for what in ("drawing 30 samples", "measuring 30 samples", "scoring 500 unseen items")] == [
        True
    ] * 3
    assert main(["evaluate", str(tmp_path / "compare-moons-1" / "flow-0"), "--samples", "30"]) == 0
    assert "scoring 500 unseen items" in capsys.readouterr().err
