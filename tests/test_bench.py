"""The bench of each kind of data: which figures it gives, and the description of how they are measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quintet
from quintet.cli.figures import evaluated
from quintet.core.errors import DataError
from quintet.evaluation.bench import Bench
from quintet.evaluation.measurement import comparable, identified
from quintet.metrics.distances import energy_distance
from quintet.registry import QUALITY
from quintet.sources.load import load_source

EVERY = {"auc", "gaussian", "sliced", "frechet", "diversity", "nearer_to_training", "membership_by_samples"}
OWN: dict[tuple[str, str, str | None], set[str]] = {
    ("flow", "moons", "label"): {"tstr", "conditional", "column_shapes", "likelihood_gap", "membership_by_likelihood"},
    ("autoregressive", "iris", None): {"pair_trends", "ranges_kept", "efficacy", "likelihood_gap"},
    ("vae", "digits", "label"): {"conditional", "membership_by_likelihood"},
    ("gan", "notes", None): {"mel", "cepstral"},
    ("autoregressive", "pydocs", None): {"distinct", "self_bleu", "ngram_entropy", "ngram_divergence", "judge_bits"},
}
QUICK: dict[str, Any] = {
    "digits": {"model": {"importance": 2}},
    "notes": {"coding": {"seconds": 0.1, "iterations": 0}},
    "pydocs": {"coding": {"block": 128}},
}


@pytest.mark.parametrize(("family", "source", "condition"), OWN)
def test_figures_of_each_kind_of_data(family: str, source: str, condition: str | None, tmp_path: Path) -> None:
    config: dict[str, Any] = {"coding": {"block": 32}} if source == "pydocs" else {}
    if family == "vae":
        config = {"model": {"importance": 2}}
    model = quintet.train(
        family, data=source, condition=condition, steps=1, preset="tiny", runs=tmp_path, config=config
    )
    bench = Bench(load_source(source), condition, samples=24)
    out = bench.run(model.fitted)
    found, real = out["metrics"], bench.real()
    assert json.loads(json.dumps(out)) == out
    assert EVERY | OWN[family, source, condition] <= set(found)
    assert all(np.isfinite(value) for value in found.values())
    shown = {measure.key for measure in QUALITY}
    assert OWN[family, source, condition] | EVERY <= shown
    by_model = {"likelihood_gap", "membership_by_likelihood", "frechet", "sliced"}
    assert (EVERY | OWN[family, source, condition]) - by_model <= set(real)
    assert out["recipe"] == bench.measurement("test")


def test_a_column_of_texts_is_measured_as_texts_and_what_is_predicted_is_named(tmp_path: Path) -> None:
    words = [f"comment {i} of {'many' * (i % 3)}" for i in range(120)]
    lines = [f"{word},{i % 2},{'ab'[i % 2]}" for i, word in enumerate(words)]
    (tmp_path / "x.csv").write_text("comment,v,kind\n" + "\n".join(lines) + "\n")
    config = {"data": {"types": "comment=text"}, "coding": {"block": 32}}
    for condition in (None, "kind"):
        model = quintet.train("autoregressive", data=tmp_path / "x.csv", target="comment", condition=condition, steps=1,
                              preset="tiny", runs=tmp_path / "runs", config=config)  # fmt: skip
        assert "ngram_entropy" in model.evaluate(samples=12)["metrics"]
    rows = quintet.train("autoregressive", data=tmp_path / "x.csv", steps=1, preset="tiny", runs=tmp_path / "runs")
    found = rows.evaluate(samples=12)
    assert found["predicted"] == "column kind, AUC"
    assert "trained on samples        column kind, AUC" in evaluated(found)


@pytest.mark.parametrize(("length", "block"), [(400, None), (20_000, 400)])
def test_short_texts_and_wide_windows_have_figures(length: int, block: int | None, tmp_path: Path) -> None:
    """Four hundred characters; and a model whose windows are many times as wide as those that the bench compares."""
    words = np.random.default_rng(0).choice(
        ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"], length
    )
    (tmp_path / "text.txt").write_text(" ".join(words)[:length])
    model = quintet.train("autoregressive", data=str(tmp_path / "text.txt"), steps=1, preset="tiny", runs=tmp_path,
                          config={"coding": {"block": block}})  # fmt: skip
    found = model.evaluate(samples=20)["metrics"]
    assert np.isfinite(found["membership_by_likelihood"])
    assert np.isfinite(found["auc"])


def test_a_measurement_names_what_figures_depend_on() -> None:
    data = load_source("iris")
    first, again = (Bench(data, "label", samples=20).measurement() for _ in range(2))
    assert first == again
    assert len(first["id"]) == 12
    assert {"features", "encoding", "splits", "split", "samples", "data", "figures"} <= set(first)
    assert set(first["figures"]["at_most"]) == {"items", "diversity", "table rows"}, "and no other kind of data's"
    assert first["features"]["name"] == "standardised-pca"
    comparable(first, again)
    for other, key in (
        (Bench(data, "label", samples=21).measurement(), "samples"),
        (Bench(data, "label", samples=20).measurement("validation"), "split"),
        (Bench(data, None, samples=20).measurement(), "condition"),
        (Bench(load_source("wine"), "label", samples=20).measurement(), "data"),
    ):
        assert other["id"] != first["id"]
        with pytest.raises(DataError, match="measured in different ways") as error:
            comparable(first, other)
        assert error.value.where == key


def test_a_digest_depends_on_content_and_not_on_order() -> None:
    a = identified({"x": 1, "y": {"b": [1, 2], "a": None}})
    assert a["id"] == identified({"y": {"a": None, "b": [1, 2]}, "x": 1})["id"]
    assert a["id"] == identified(a)["id"]
    assert a["id"] != identified({"x": 2, "y": {"b": [1, 2], "a": None}})["id"]
    with pytest.raises(DataError, match="not set for the first and 1 for the second"):
        comparable({}, {"x": 1})
    nested = {"features": {"dims": 65}}, {"features": {"dims": 64}}
    with pytest.raises(DataError, match=r"features\.dims"):
        comparable(*nested)


@pytest.mark.parametrize("source", ["digits", "notes", "pydocs", "iris"])
def test_samples_that_are_not_like_the_data_are_said_to_be_so(source: str) -> None:
    """The average item, or letters in no order, are; real items are not, and neither are fair samples of a table."""
    bench = Bench(load_source(source), None, samples=200)
    test, train = bench.items["test"], bench.items["train"]
    rng = np.random.default_rng(1)
    nothing = np.repeat(train.mean(0, keepdims=True), 200, 0).astype(train.dtype)
    if source == "pydocs":
        nothing = rng.permuted(train[:200], axis=0)
    real = train[:: len(train) // 100]
    found = [energy_distance(bench.features(x), bench.features(test)) for x in (nothing, real)]
    figures = [{"energy": one.value, "energy_stderr": one.stderr} for one in found]
    assert (bench.learnt_little(figures[0]) is not None) == (source != "iris")
    assert bench.learnt_little(figures[1]) is None
