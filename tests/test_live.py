"""What is measured while a model trains: advice by planted faults, the best weights, an early end."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import quintet
from quintet.cli.describe import of_run
from quintet.core.errors import ConfigError, QuintetWarning
from quintet.core.family import Family
from quintet.core.files import sha256
from quintet.core.spaces import Continuous
from quintet.fit.fitting import plan
from quintet.fit.live import LOOK_FIGURES, SAMPLES, Live
from quintet.metrics.features import fit_features
from quintet.operations import records
from quintet.operations.fitted import provenance
from quintet.operations.inspecting import described
from quintet.registry import FAMILIES
from quintet.runs.advice import advice, stale
from quintet.sources.load import Dataset, load_source
from quintet.training import checkpoint
from quintet.training.plan import looks as early_looks

pytestmark = pytest.mark.usefixtures("long_looks")


def looks(**series: list[Any]) -> list[dict[str, Any]]:
    """Records of looks, evenly over a run of 800 steps, each figure as given, the others healthy."""
    n = len(next(iter(series.values())))
    healthy = {"quality_stderr": 0.01, "diversity": 1.0, "copies": 0.01, "copying": False}
    healthy |= {"quality": None, "held_out": None}
    quality = series.get("quality", [1.0 / (i + 1) for i in range(n)])
    return [
        healthy | {"step": 100 * (i + 1), "steps": 800, "quality": quality[i]} | {k: v[i] for k, v in series.items()}
        for i in range(n)
    ]


def kinds(records: list[dict[str, Any]]) -> list[str]:
    return [one.kind for one in advice(records)]


def test_a_healthy_run_gets_no_advice() -> None:
    falling = [1.0, 0.8, 0.7, 0.65, 0.66, 0.64]  # a little noise is healthy
    assert kinds(looks(held_out=falling)) == []
    assert kinds([*looks(held_out=falling), {"step": 700, "steps": 800, "rate": 9.0, "model": 1.0}]) == []
    assert kinds([]) == []
    assert kinds(looks(quality=[None, None, None])) == []  # a single unseen item allows no distance


@pytest.mark.parametrize(
    ("kind", "series"),
    [
        ("mode collapse", {"diversity": [0.9, 0.4, 0.3]}),
        ("divergence", {"quality": [1.0, 0.2, 0.9, 1.5]}),
        ("divergence", {"quality": [1.0, 0.2, None], "copies": [0.0, 0.0, None]}),
        ("overfitting", {"held_out": [2.0, 1.5, 1.4, 1.6, 1.8]}),
        ("overfitting", {"held_out": [-1.0, -2.0, -1.5, -1.2]}),
        ("memorisation", {"copies": [0.0, 0.3, 0.6], "copying": [False, True, True]}),
    ],
)
def test_each_fault_is_named_once_there_is_no_doubt(kind: str, series: dict[str, list[Any]]) -> None:
    assert kinds(looks(**series)) == [kind]
    assert kinds(looks(**{key: values[:1] for key, values in series.items()})) == []


def test_posterior_collapse_is_a_rate_of_nothing() -> None:
    run = [*looks(held_out=[3.0, 2.0]), {"step": 250, "steps": 800, "rate": 0.01, "model": 1.0}]
    assert kinds(run) == ["posterior collapse"]
    assert "0.01 nats" in advice(run)[0].text
    assert kinds([*run, {"step": 260, "steps": 800, "rate": 4.0, "model": 1.0}]) == []


def test_one_bad_look_is_not_a_trend() -> None:
    assert kinds(looks(quality=[1.0, 0.2, 0.9])) == []
    assert kinds(looks(diversity=[1.0, 0.9, 0.3])) == []
    assert kinds(looks(held_out=[2.0, 1.5, 1.4, 1.39, 1.6])) == []


def test_stale_counts_looks_since_the_best() -> None:
    assert stale(looks(quality=[3.0, 1.0, 2.0, 1.5]), "quality") == 2
    assert stale(looks(quality=[3.0, 1.0]), "quality") == 0
    assert stale(looks(quality=[1.0, None]), "quality") == 1
    assert stale([{"step": 1, "model": 2.0}], "quality") == 0
    assert stale(looks(held_out=[3.0, 1.0, 1.015]), "held_out") == 0  # within a hundredth of what was gained
    assert stale(looks(held_out=[3.0, 1.0, 1.025]), "held_out") == 1
    assert stale(looks(quality=[None, 3.0, 1.0]), "quality") == 0
    assert stale(looks(quality=[None, None]), "quality") == 1


# -- a look ----------------------------------------------------------------------------------------------------------


class Copier(Family):
    """Says what it was told to say."""

    name, accepts, likelihood, missing = "copier", (Continuous,), "none", {"log_prob": "a test"}

    def __init__(self, items: Tensor, space: Continuous | None = None) -> None:
        super().__init__(space or Continuous(tuple(items.shape[1:])))
        self.items = items

    def sample(self, n: int, cond: Any = None, **_: Any) -> Tensor:
        return self.items[torch.arange(n) % len(self.items)]


def test_a_look_tells_copies_and_collapse_from_health() -> None:
    data = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 6))).float()
    train, held, fresh = data[:1200], data[1200:1700], data[1700:]
    live = Live(fit_features(train.numpy(), "standardised"), train, held, None, {})
    _, healthy = live(Copier(fresh))
    assert set(healthy) == set(LOOK_FIGURES)
    assert healthy["quality"] == pytest.approx(0.0, abs=4 * healthy["quality_stderr"])
    assert healthy["diversity"] == pytest.approx(1.0, abs=0.15)
    assert not healthy["copying"]
    assert healthy["held_out"] is None
    _, copied = live(Copier(train[:SAMPLES]))
    assert copied["copying"]
    _, narrow = live(Copier(0.1 * fresh))
    assert narrow["diversity"] == pytest.approx(0.1, abs=0.02)
    _, broken = live(Copier(torch.full((5, 6), float("nan"))))
    assert broken["quality"] is None
    assert broken["copies"] is None
    _, single = Live(live.features, train, held[:1], None, {})(Copier(fresh))
    assert single["quality"] is None
    assert single["copies"] is not None


@pytest.mark.parametrize("space", [Continuous((6,), levels=2), Continuous((6,), widths=(2.0,) * 5 + (0.0,))])
def test_noise_about_bits_is_no_fault_of_samples(space: Continuous) -> None:
    """A flow draws bits with noise, and its look compares them with bits that have none."""
    rng = np.random.default_rng(0)
    data = torch.from_numpy(rng.normal(size=(2000, 6)) + 0.5).float()
    quantised = torch.tensor([space.levels is not None or width > 0 for width in space.widths or [0.0] * 6])
    data = torch.where(quantised, data.sign(), data)
    train, held, fresh = data[:1200], data[1200:1700], data[1700:]
    live = Live(fit_features(train.numpy(), "standardised"), train, held, None, {})
    _, clean = live(Copier(fresh, space))
    _, noisy = live(Copier(space.dequantise(fresh, torch.Generator().manual_seed(0)), space))
    assert noisy == clean
    assert clean["quality"] == pytest.approx(0.0, abs=4 * clean["quality_stderr"])
    moved = torch.where(quantised, fresh, fresh + 3.0)
    _, away = live(Copier(moved, space))
    assert (away["quality"] > 10 * away["quality_stderr"]) == (not bool(quantised.all()))


def test_the_program_knows_a_looks_figures() -> None:
    assert set(LOOK_FIGURES) == records.LIVE  # written twice, because the program starts without torch


# -- a run -----------------------------------------------------------------------------------------------------------


def train(path: Path, family: str = "flow", **training: Any) -> quintet.Model:
    config = {"training": {"sample_every": 4, "save_every": 4} | training}
    return quintet.train(family, data="iris", steps=40, preset="tiny", runs=path, run="r", config=config)


def qualities(model: quintet.Model) -> dict[int, float]:
    return {r["step"]: r["quality"] for r in model.run.metrics() if "quality" in r}


def test_the_best_weights_are_used_and_survive_damage(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = train(tmp_path, select="quality", lr=0.5)  # so large that it does not simply get better
    found, last_one = qualities(model), model.run.latest()
    assert last_one is not None
    best = min(found, key=lambda step: found[step])
    assert best != 40
    assert [folder.name for folder in checkpoint.steps(model.run.bests)] == [f"step-{best:08d}"]
    again = quintet.load("r", runs=tmp_path)
    weights = checkpoint.load(checkpoint.steps(model.run.bests)[0])[0]["model"]
    for name, tensor in again.family.state_dict().items():
        assert torch.equal(tensor, weights[name])
        assert torch.equal(tensor, model.family.state_dict()[name])
    folder = checkpoint.steps(model.run.bests)[0]
    digest = sha256(folder / "model.safetensors")
    text = (model.run.path / "CARD.md").read_text()
    assert f"weights: of step {best}, sha256 {digest}" in text
    assert f"- quality {found[best]:.4g}:" in text
    for used in (model, again):
        note = provenance(used.fitted)
        assert (note["step"], note["weights"]) == (best, digest)
    checkpoint.save(again.run.checkpoints, 41, {"model": weights, "ema": {}}, {"step": 41}, keep=1)
    assert provenance(again.fitted)["step"] == best  # whatever is written to the folder while this model is in use
    shutil.rmtree(again.run.checkpoints / "step-00000041")
    checkpoint.save(again.run.checkpoints, 40, last_one[0], last_one[1], keep=1)
    weights = {name: tensor.clone() for name, tensor in weights.items()}  # which were read from the file itself
    (folder / "model.safetensors").write_bytes(b"damage")
    with pytest.warns(QuintetWarning, match="the newest weights are used"):
        last = quintet.load("r", runs=tmp_path)
    assert any(not torch.equal(tensor, weights[name]) for name, tensor in last.family.state_dict().items())
    assert provenance(last.fitted)["step"] == 40


def test_training_ends_early_where_nothing_gets_better_and_has_then_ended(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = train(tmp_path, select="quality", patience=2, lr=0.1)
        found = qualities(model)
        best = min(found, key=lambda step: found[step])
        assert max(found) == best + 8  # two looks, four steps apart
        assert model.run.metrics()[-1]["steps"] == max(found) < 40
        before = {path.name for path in model.run.checkpoints.iterdir()}
        quintet.resume("r", runs=tmp_path)  # nothing is left to do
        assert {path.name for path in model.run.checkpoints.iterdir()} == before
        # Killed before its last checkpoint, it ends at the same step with the same weights.
        shutil.rmtree(checkpoint.steps(model.run.checkpoints)[-1])
        resumed = quintet.resume("r", runs=tmp_path)
    assert qualities(resumed) == found
    for name, tensor in resumed.family.state_dict().items():
        assert torch.equal(tensor, model.family.state_dict()[name])


def test_which_weights_are_the_default_follows_from_what_a_model_is_for() -> None:
    def chosen(family: str, dataset: Dataset, **given: Any) -> str:
        return plan(family, dataset, steps=1, **given).training.select

    iris = load_source("iris")
    assert {family: chosen(family, iris) for family in FAMILIES} == {
        family: "last" if cls.likelihood == "none" else "held_out" for family, cls in FAMILIES.items()
    }
    assert chosen("gan", iris) == "last"
    digits = load_source("digits")
    assert chosen("autoregressive", digits, target="label", condition="image") == "last"
    assert chosen("vae", iris, config={"training": {"select": "last"}}) == "last"


def test_small_data_are_looked_at_early(tmp_path: Path) -> None:
    assert early_looks(800, 100) == {12, 25, 50}
    assert early_looks(801, 101) == {12, 25, 50}
    assert early_looks(800, 400) == set()  # sampling is slow: few looks are all
    assert early_looks(40, 5) == set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quintet.train("gan", data="iris", steps=512, preset="tiny", runs=tmp_path)
    assert list(qualities(model)) == [8, 16, 32, *range(64, 513, 64)]


def test_figures_of_a_run_are_those_of_the_weights_that_it_selected(tmp_path: Path) -> None:
    """What comes behind them is not the model's: neither its losses nor what they would advise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "overfitting|memorisation")
        model = quintet.train(
            "autoregressive", data="iris", steps=400, runs=tmp_path, config={"training": {"lr": 0.01}}
        )
    looks = {record["step"]: record["held_out"] for record in model.run.metrics() if "held_out" in record}
    best = min(looks, key=lambda step: looks[step])
    assert best < 400
    assert looks[400] > looks[best] + 0.05
    found = described(model.run)
    assert (found.weights, found.held_out, found.step) == (best, looks[best], 400)
    assert f"those of step {best}, as are the figures below" in of_run(found)
    last = quintet.train(
        "autoregressive", data="iris", steps=16, runs=tmp_path, config={"training": {"select": "last"}}
    )
    assert described(last.run).weights == 16
    assert "those of step" not in of_run(described(last.run))


def test_a_gan_has_no_held_out_loss_to_select_by(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no held-out loss"):
        train(tmp_path, "gan", select="held_out")
    assert not (tmp_path / "r").exists()


def test_a_collapsed_vae_is_told_so_and_its_card_says_it(tmp_path: Path) -> None:
    config = {"model": {"beta": 1000.0}}
    with pytest.warns(QuintetWarning, match="posterior collapse: the latents carry"):
        model = quintet.train("vae", data="iris", steps=150, preset="tiny", runs=tmp_path, config=config)
    assert [one.kind for one in advice(model.run.metrics())] == ["posterior collapse"]
    assert "posterior collapse" in (model.run.path / "CARD.md").read_text()
    records = [json.loads(line) for line in (model.run.path / "metrics.jsonl").read_text().splitlines()]
    assert all(set(LOOK_FIGURES) <= set(r) for r in records if "quality" in r)
