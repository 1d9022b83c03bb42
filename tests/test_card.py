"""The card of a run says what is true of it, and has no gap."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

import quintet
from quintet.cli.describe import of_run
from quintet.operations.inspecting import described
from quintet.runs.card import write_card
from quintet.runs.folder import UsedWeights

pytestmark = pytest.mark.usefixtures("long_looks")


def card(model: quintet.Model) -> str:
    text = (model.run.path / "CARD.md").read_text()
    assert not re.search(r"None|unknown|nan\b|TODO|TBD|\{|\}|<[A-Za-z]", text, re.MULTILINE), text
    return text


@pytest.mark.parametrize("family", ["vae", "gan", "diffusion"])
def test_a_card_says_how_a_model_was_made_and_what_it_lacks(family: str, tmp_path: Path) -> None:
    model = quintet.train(family, data="iris", condition="label", steps=3, preset="tiny", seed=5, runs=tmp_path)
    text = card(model)
    assert "3 of 3 steps" in text
    assert "seed 5" in text
    assert f"{sum(p.numel() for p in model.family.parameters()):,} parameters" in text
    assert model.run.manifest()["fingerprint"] in text
    assert f"`quintet evaluate {model.run.name}`" in text
    assert ("quintet score" in text) == (family != "gan")
    assert ("no `score`" in text) == (family == "gan")
    assert "not measured" in text
    figures = model.evaluate(samples=40)["metrics"]
    again = card(model)
    assert "not measured" not in again
    assert f"{figures['auc']:.4g}" in again
    assert ("log-likelihood" in again) == (family != "gan")


def test_a_card_of_a_classifier_is_about_labels(tmp_path: Path) -> None:
    rows = pa.table({"text": [f"item {i} {'good' if i % 2 else 'bad'}" for i in range(200)],
                     "kind": ["up" if i % 2 else "down" for i in range(200)]})  # fmt: skip
    pa.csv.write_csv(rows, tmp_path / "rows.csv")
    model = quintet.train("autoregressive", data=str(tmp_path / "rows.csv"), target="kind", condition="text",
                          steps=2, preset="tiny", runs=tmp_path / "runs")  # fmt: skip
    text = card(model)
    assert "names the kind of each item" in text
    assert "quintet sample" not in text
    model.evaluate()
    assert "accuracy" in card(model)


def test_advice_on_a_card_is_of_the_weights_that_it_names(tmp_path: Path) -> None:
    model = quintet.train("flow", data="iris", steps=2, preset="tiny", runs=tmp_path)
    healthy = {"quality_stderr": 0.01, "diversity": 1.0, "copies": 0.01, "copying": False, "seconds": 1.0}
    qualities = {200: 1.0, 400: 0.2, 600: 0.9, 800: 1.5}
    for step, quality in qualities.items():
        model.run.records.log({"step": step, "steps": 800, "quality": quality, **healthy})
    for step, diverged in ((400, False), (800, True)):
        model.run.weights = UsedWeights(step, "ab" * 32)
        write_card(model.run, model.family, model.codecs)
        text = card(model)
        assert ("divergence" in text) == diverged
        assert f"weights: of step {step}, sha256 {'ab' * 32}" in text
        assert f"- quality {qualities[step]:.4g}:" in text
        assert ("divergence" in of_run(described(model.run))) == diverged
