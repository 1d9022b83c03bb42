"""What is recommended before training, and which figures it rests on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from quintet.cli.figures import recommended
from quintet.comparison import recommend
from quintet.comparison.recommend import PURPOSES, Evidence, families_by_rank, knowledge, recommendation, results
from quintet.data.dataset import Dataset
from quintet.fit import pixels
from quintet.registry import COMPARED, FAMILIES, MEASURES, MODALITIES, refusal
from quintet.sources.load import SOURCES, load_source
from quintet.training.budget import Pace

DOCUMENT = (Path(__file__).parents[1] / "docs" / "results.md").read_text()
MORE_SPECIAL = {"thumbnail": "image", "points": "table"}
"""Kinds of data with results of their own, and what they are of."""
EVERY = [(kind, purpose, one) for kind, known in results().kinds.items() for purpose in PURPOSES
         for one in getattr(known, purpose)]  # fmt: skip


def section(heading: str) -> str:
    """The parts of the results under this heading, of whatever level, up to the next of that level or above."""
    found = re.findall(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, heading
    return "\n".join(text for _, text in found)


@pytest.mark.parametrize(("kind", "purpose", "one"), EVERY, ids=[f"{kind}-{purpose}" for kind, purpose, _ in EVERY])
def test_every_figure_stands_in_the_results(kind: str, purpose: str, one: Evidence) -> None:
    """Each number, as it is written there, in its section; what was not measured says so by having none."""
    assert bool(one.values) != bool(one.because and one.family)
    if not one.values:
        return
    assert one.measure in results().measures or MEASURES[one.measure].better in ("low", "high", "half")
    text = section(results().runs[one.run].section)
    flat = [v for value in one.values.values() for v in (value if isinstance(value, tuple) else (value,))]
    for value in flat:
        written = {f"{value:.{digits}f}" for digits in range(5) if float(f"{value:.{digits}f}") == value}
        assert any(re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text) for number in written), value


def test_every_run_is_used_and_was_made_on_a_machine_and_a_day() -> None:
    assert {one.run for _, _, one in EVERY if one.values} == set(results().runs)
    for run in results().runs.values():
        assert re.fullmatch(r"2\d{3}-\d\d-\d\d", run.date)
        assert all((run.command, run.budget, run.machine))


def test_everything_that_is_recommended_exists() -> None:
    verbs = {"scores": "score", "holes": "complete"}
    for kind, known in results().kinds.items():
        for purpose in PURPOSES:
            if purpose == "labels":
                continue
            evidence = getattr(known, purpose)
            families = families_by_rank(evidence)[:1] + [one.family for one in evidence if one.because]
            assert families, (kind, purpose)
            for family in families:
                assert family in FAMILIES
                assert refusal(family, MORE_SPECIAL.get(kind, kind), verbs.get(purpose, "sample")) == ""


@pytest.mark.parametrize(
    ("source", "kind", "label"),
    [("digits", "thumbnail", "label"), ("moons", "points", "label"), ("breast_cancer", "table", "label"),
     ("notes", "audio", "pitch"), ("pydocs", "text", None)],
)  # fmt: skip
def test_a_recommendation_follows_from_the_data(source: str, kind: str, label: str | None) -> None:
    found = recommendation(load_source(source), 60)
    assert (found["shape"]["kind"], found["shape"]["label"]) == (kind, label)
    assert found["order"][0] == found["purposes"]["samples"]["family"]
    assert sorted(found["order"]) == (["autoregressive"] if kind == "text" else sorted(COMPARED))
    assert all(f"--data {source}" in one["command"] for one in found["purposes"].values())
    assert json.loads(json.dumps(found)) == found


def test_it_says_which_figures_it_rests_on() -> None:
    found = recommendation(load_source("digits"), 60)
    samples, holes = found["purposes"]["samples"], found["purposes"]["holes"]
    assert [(run["command"], run["date"]) for run in samples["rests_on"]] == [
        ("make demo", date) for date in ("2026-11-22", "2026-11-27", "2026-11-28")
    ]
    assert samples["rests_on"][2]["values"]["vae"] == 0.597
    assert holes["rests_on"] == []
    assert "(not measured)" in holes["why"]
    text = recommended(found)
    assert "vae. on digits (0.5 is best), told from real data (AUC): vae 0.643, flow 0.699" in text
    assert "autoregressive 0.708 [1] [2] [3].\n" in text
    assert "[3] make demo, 50 s; 2 cores, nothing beside it, 2026-11-28 (docs/results.md, Digits" in text


@pytest.mark.parametrize(("kind", "of"), [*MORE_SPECIAL.items(), *((name, name) for name in MODALITIES)])
def test_figures_are_of_data_of_their_kind(kind: str, of: str) -> None:
    """The named sets that need no files are of the kind under which their figures stand."""
    for one in knowledge(kind, of).samples:
        if one.set in SOURCES and not getattr(SOURCES[one.set], "folder", ""):
            dataset = load_source(one.set)
            assert MODALITIES[dataset.modality].kind(dataset.items) == kind


def test_families_are_ranked_by_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    low = Evidence(run="x", set="a", measure="energy", values={"vae": (3.0, 1.0), "gan": 1.0, "flow": 4.0, "peer": 0})
    high = Evidence(run="x", set="b", measure="coverage", values={"vae": 0.0, "gan": 0.5, "flow": 0.9})
    half = Evidence(run="x", set="c", measure="auc", values={"vae": 0.55, "gan": 0.4, "flow": 0.9})
    told = Evidence(family="diffusion", because="it does")
    assert families_by_rank([low]) == ["gan", "vae", "flow"]
    assert families_by_rank([high]) == ["flow", "gan", "vae"]
    assert families_by_rank([told, half]) == ["vae", "gan", "flow", "diffusion"]
    assert families_by_rank([low, high, half])[0] == "gan"
    assert recommend.why([low], "flow") == "on a (less is better), energy distance: peer 0, gan 1, vae 2, flow 4"


def test_data_of_a_kind_that_was_never_measured_are_to_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {kind: known for kind, known in results().kinds.items() if kind not in ("points", "table")}
    monkeypatch.setattr(recommend, "results", lambda: results().model_copy(update={"kinds": kinds}))
    found = recommendation(load_source("moons"), 60)
    assert (found["purposes"], found["order"]) == ({}, list(COMPARED))
    assert found["command"].startswith("quintet compare moons --families vae,gan,autoregressive")
    scores, holes = found["cautions"][0].partition("to fill holes: ")[::2]
    assert holes.startswith("vae, gan, autoregressive, flow, diffusion, masked_diffusion")
    assert "anomalies: vae, autoregressive, flow, diffusion, masked_diffusion" in scores
    assert "likeliest first" not in recommended(found)


def test_families_that_write_no_words_are_not_recommended_for_texts() -> None:
    found = recommendation(load_source("pydocs"), 60)
    assert found["order"] == ["autoregressive"]
    assert found["command"] == "quintet train autoregressive --data pydocs --budget 60s"
    assert any("letters, not words" in note for note in found["cautions"])
    assert recommendation(load_source("digits"), 60)["command"].startswith("quintet compare digits --families vae,")


def test_time_and_size_change_what_is_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "pace", lambda *_, **__: Pace(1e-3, 1.0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (100, 32, 32, 3)).astype(np.uint8)
    splits = {"train": np.arange(80), "validation": np.arange(80, 90), "test": np.arange(90, 100)}
    dataset = Dataset("noise", "image", images, splits)
    short, long = recommendation(dataset, 60), recommendation(dataset, 3600)
    assert short["purposes"]["samples"]["family"] == "gan"
    assert long["purposes"]["samples"]["family"] == long["order"][0] == "diffusion"
    assert "ten minutes" in long["purposes"]["samples"]["why"]
    assert long["order"][1:3] == short["order"][:2]
    assert any("80 training items are few" in note for note in short["cautions"])
    assert any("3,072 pixels one by one" in note for note in short["cautions"])
    assert any("take 60 s" in note for note in recommendation(dataset, 5)["cautions"])


def test_a_table_with_holes_is_no_cloud_of_points() -> None:
    table = MODALITIES["table"]
    whole, holes = pa.table({"a": [1.0, 2.0]}), pa.table({"a": [1.0, float("nan")]})
    assert (table.kind(whole), table.missing(whole)) == ("points", False)
    assert (table.kind(holes), table.missing(holes)) == ("table", True)
    assert table.kind(pa.table({"a": ["x", "y"], "b": [1.0, 2.0]})) == "table"


def test_a_long_text_counts_as_many_items() -> None:
    lone = Dataset("x", "text", ["a" * 1280], {"train": np.arange(1)})
    short = Dataset("x", "text", ["a", "b", "c"], {"train": np.arange(3)})
    assert [MODALITIES["text"].count(one, "train") for one in (lone, short)] == [10, 3]


def test_the_shape_of_series() -> None:
    found = recommendation(load_source("days"), 60)["shape"]
    assert (found["kind"], found["dims"], found["missing"]) == ("series", 2 * 48, True)
