"""Contenders are compared on the real items that they share, by one test, in the verdict as in the report."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from quintet.comparison.contenders import contenders
from quintet.comparison.differences import Difference, beats, difference, foremost, ranks_with_ties
from quintet.comparison.report import ranks, render
from quintet.comparison.verdict import verdict
from quintet.metrics.classifiers import told_apart
from quintet.metrics.distances import prdc
from quintet.metrics.measures import AUC, COVERAGE, NATS
from quintet.metrics.samples import measure_samples
from quintet.metrics.texts import text_figures_by_item, translation_figures
from quintet.registry import MEASURES


def entry(family: str, auc: float = 0.6, seed: int = 0, **more: Any) -> dict[str, Any]:
    metrics = {"auc": auc, "auc_stderr": 0.01, "coverage": 0.9, "coverage_stderr": 0.01} | more.pop("metrics", {})
    return {"family": family, "run": f"{family}-{seed}", "seed": seed, "status": "ok", "metrics": metrics,
            "likelihood": None, "ms_per_sample": 1.0} | more  # fmt: skip


def scored(family: str, values: np.ndarray, places: list[int], kind: str = "exact", seed: int = 0) -> dict[str, Any]:
    likelihood = {"kind": kind, "nats": float(values.mean()), "stderr": float(values.std(ddof=1)) / len(values) ** 0.5,
                  "nats_per_dim": 1.0, "bits_per_dim": 1.0, "space": "mass", "items": len(values)}  # fmt: skip
    return entry(family, seed=seed, likelihood=likelihood, scored=places, item_figures={"nats": values.tolist()})


def test_speed_ranks_in_the_table_as_in_the_verdict() -> None:
    models = [entry("vae", ms_per_sample=1.05), entry("gan", ms_per_sample=1.0), entry("flow", ms_per_sample=1.2)]
    speed = verdict(models)["speed"]
    assert (speed["label"], speed["ties"]) == ("gan", ["vae"])
    assert ranks(models)["ms_per_sample"] == {"vae": 1, "gan": 1, "flow": 3}
    page = render({"source": "x", "models": models})
    row = page[page.index("Sampling, ms a sample") :].split("</tr>")[0]
    heads = re.findall(r"<th scope=\"col\">.*?</i>(\w+)</th>", page[: page.index("Sampling, ms a sample")])[-3:]
    marks = [re.findall(r'class="mark (\w+)"', cell) for cell in row.split("<td")[1:]]
    assert dict(zip(heads, marks, strict=True)) == {"gan": ["best"], "vae": ["tie"], "flow": ["3rd"]}


def measured(family: str, real: np.ndarray, fake: np.ndarray, seed: int) -> dict[str, Any]:
    figures, items = measure_samples(real, real, fake, lambda x: np.asarray(x, float), seed=seed)  # type: ignore[arg-type]
    return {"family": family, "run": family, "seed": seed, "status": "ok", "metrics": figures, **items}


def test_the_error_of_a_difference_is_as_large_as_the_differences_are() -> None:
    """Two models with the same distribution, of which neither is better, measured on the same real items."""
    found: dict[str, list[tuple[Difference, float]]] = {"auc": [], "coverage": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        real = rng.normal(size=(80, 4))
        fakes = [rng.normal(size=(80, 4)) * [0.5, 1, 1, 1] for _ in range(2)]
        a, b = contenders([measured(name, real, fake, seed) for name, fake in zip("ab", fakes, strict=True)])
        for measure in (AUC, COVERAGE):
            figures = [c.figure(measure) for c in (a, b)]
            unpaired = math.hypot(*(figure.half for figure in figures if figure))
            found[measure.key].append((difference(measure, a, b), unpaired))
    for pairs in found.values():
        halves = np.array([each.half for each, _ in pairs])
        spread = float(np.sqrt(np.mean([each.gap**2 for each, _ in pairs])))
        assert all(each.items == 80 for each, _ in pairs)
        assert 0.75 < np.sqrt(np.mean(halves**2)) / (2 * spread) < 1.6, "neither too sure nor too shy"
        assert np.mean([abs(each.gap) > each.half for each, _ in pairs]) <= 0.15
        assert np.mean([each.half / unpaired for each, unpaired in pairs]) < 0.97, "sharper than unpaired"


def test_the_error_of_the_coverage_holds_both_samples() -> None:
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found.append(prdc(rng.normal(size=(120, 2)), rng.normal(size=(120, 2)))["coverage"])
    spread, stated = np.std([each.value for each in found]), np.mean([each.stderr for each in found])
    assert 0.85 < stated / spread < 1.4


def test_samples_of_the_same_real_items_whatever_the_seed() -> None:
    rng = np.random.default_rng(0)
    test = rng.normal(size=(90, 2))
    got = [measure_samples(test, test, rng.normal(size=(60, 2)), lambda x: np.asarray(x, float), seed=seed)
           for seed in (0, 1)]  # type: ignore[arg-type]  # fmt: skip
    (figures, items), (_, other) = got
    assert items["real_items"] == other["real_items"]
    assert len(items["real_items"]) == figures["items"] == 60
    for side in items["sample_figures"]["auc"]:
        assert np.mean(side) == pytest.approx(figures["auc"], abs=1e-5)
    assert np.mean(items["sample_figures"]["coverage"][0]) == pytest.approx(figures["coverage"], abs=1e-5)


def test_what_was_scored_on_fewer_items_is_compared_on_those_both_have() -> None:
    """Of 359 items the first 50 are easy: on these the flow is better by 1 nat, though its mean over all is lower."""
    rng = np.random.default_rng(0)
    hard = np.where(np.arange(359) < 50, -60.0, -90.0) + rng.normal(0, 5, 359)
    noise = rng.normal(0, 0.5, 359)
    models = [scored("flow", hard + 1, list(range(359))),
              scored("diffusion", (hard + noise)[:50], list(range(50)))]  # fmt: skip
    found = verdict(models)["scoring"]
    assert (found["label"], found["ties"]) == ("flow", [])
    assert "flow and diffusion were compared on the 50 items that both were scored on" in found["sentence"]
    # A higher bound on easier items is no bound above the exact value.
    models[1]["likelihood"]["kind"] = "bound"
    assert verdict(models)["scoring"]["label"] == "flow"
    same = verdict([models[0], scored("vae", hard, list(range(359)))])["scoring"]
    assert "were compared on" not in same["sentence"]


def test_two_models_are_compared_by_the_same_items_wherever_these_stand() -> None:
    """Items 20 to 39 are in both; each is a nat better under the flow, whatever the items are that only one has."""
    nats = -10.0 * np.arange(60)
    models = [scored("flow", nats[:40] + 1, list(range(40))), scored("vae", nats[20:], list(range(20, 60)))]
    flow, vae = contenders(models)
    found = difference(NATS, flow, vae)
    assert (found.gap, found.items) == (pytest.approx(1), 20)
    assert found.half < 1e-9


def test_items_that_are_unlike_all_samples_are_told_apart_and_the_others_are_not() -> None:
    """The first half of the real items is distributed as the samples are, the second is far away."""
    rng = np.random.default_rng(0)
    real, fake = np.concatenate([rng.normal(0, 1, (80, 2)), rng.normal(10, 1, (80, 2))]), rng.normal(0, 1, (160, 2))
    of_real, of_samples = told_apart(real, fake)
    assert of_real[80:].mean() > 0.95
    assert of_real[:80].mean() < 0.7
    assert of_samples.mean() == pytest.approx(of_real.mean())
    assert of_samples.std() < of_real.std()


def test_who_is_ahead_on_shared_items_comes_first() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(-80, 10, 300)
    models = [scored("a", base + 2, list(range(300))), scored("b", base, list(range(300))),
              scored("c", base[:40] + 1 + rng.normal(0, 0.1, 40), list(range(40)))]  # fmt: skip
    crowd = contenders(models)
    assert foremost(NATS, crowd).label == "a"
    assert ranks_with_ties(NATS, crowd) == [1, 3, 2]
    assert difference(NATS, crowd[2], crowd[1]).items == 40


def test_an_auc_from_fewer_samples_is_no_reason_to_prefer() -> None:
    few, many = {"items": 50, "auc_stderr": 0.01}, {"items": 359}
    models = [entry("diffusion", 0.55, metrics=few), entry("vae", 0.70, metrics=many)]
    keeper = verdict(models)["keeper"]
    assert (keeper["label"], keeper["ties"]) == ("vae", ["diffusion"])
    assert "diffusion was measured on 50 samples, vae on 359" in keeper["sentence"]
    assert ranks(models)["auc"] == {"diffusion": 1, "vae": 1}
    worse = verdict([entry("diffusion", 0.9, metrics=few), entry("vae", 0.70, metrics=many)])["keeper"]
    assert (worse["label"], worse["ties"]) == ("vae", [])  # easier to tell, and even from fewer


def test_a_figure_without_an_error_ranks_nobody() -> None:
    models = [entry("a", metrics={"frechet": 2.0}), entry("b", metrics={"frechet": 2.1})]
    assert ranks(models)["frechet"] == {"a": 1, "b": 1}
    broken = [entry("a", metrics={"auc_stderr": math.nan}), entry("b", 0.9)]
    assert verdict(broken)["keeper"]["ties"] == ["b"]
    assert "nan" not in render({"source": "x", "models": broken})
    assert not beats(AUC, *contenders(broken))


def test_texts_that_nobody_gets_wholly_right_are_told_apart_by_their_edits() -> None:
    wanted = ["abcdefgh"] * 30

    def made(family: str, text: str) -> dict[str, Any]:
        figures, values = text_figures_by_item([text] * 15 + [text[:-1]] * 15, wanted)
        return {"family": family, "run": family, "seed": 0, "status": "ok", "metrics": figures,
                "item_figures": values, "scored": list(range(30))}  # fmt: skip

    keeper = verdict([made("vae", "xxxxxxgh"), made("autoregressive", "abcdefgx")])["keeper"]
    assert (keeper["label"], keeper["ties"]) == ("autoregressive", [])
    assert "By exact matches that is a tie" in keeper["sentence"]


def test_one_training_run_each_is_ranked_by_the_scores_of_the_same_texts() -> None:
    """A score of all texts together has values of single ones too, and so has a log-loss, but for unknown labels."""
    pytest.importorskip("sacrebleu")
    wanted = [f"the cat number {i} sat on the mat of house {i % 7} all day" for i in range(40)]
    models = []
    for seed, family in enumerate(("vae", "autoregressive")):
        made = [text if (i + seed) % 4 else text.replace("the", "a" * (1 + seed)) for i, text in enumerate(wanted)]
        made = [text.replace("day", "night") if family == "vae" else text for text in made]
        figures, values = translation_figures(made, wanted)
        losses = [None if i == 3 else 0.1 + 0.001 * i + (0.05 if family == "vae" else 0.0) for i in range(40)]
        run = {"family": family, "run": family, "seed": 0, "status": "ok", "scored": list(range(40))}
        models.append(run | {"metrics": figures | {"log_loss": 0.1}, "item_figures": values | {"log_loss": losses}})
    for key in ("bleu", "chrf", "log_loss"):
        assert ranks(models)[key] == {"autoregressive": 1, "vae": 2}
        assert difference(MEASURES[key], *contenders(models)).items == (39 if key == "log_loss" else 40)


def test_one_training_run_is_said_wherever_it_ranks() -> None:
    """Three runs of one model and one of another, in every answer that names a better one."""
    nats = {"kind": "exact", "nats": -80.0, "stderr": 0.1, "space": "mass", "items": 100}
    odd = {"anomaly": 0.9, "anomaly_stderr": 0.01}
    models = [entry("vae", 0.55, seed, likelihood=nats, metrics=odd) for seed in range(3)]
    models.append(entry("flow", 0.8, likelihood=nats | {"nats": -90.0}, metrics=odd | {"anomaly": 0.8}))
    found = verdict(models)
    for question in ("keeper", "scoring", "anomalies"):
        assert "One training run only of flow" in found[question]["sentence"]
        assert "--seeds 3" in found[question]["sentence"]
    assert any("flow (1)" in note for note in found["caveats"])


def test_what_makes_noise_is_not_named_for_copying_least() -> None:
    clean = {"memorised": 0.0, "memorised_stderr": 0.001, "memorised_flagged": False}
    models = [entry("gan", 0.99, metrics=clean, learnt_little="its samples are not like the data yet"),
              entry("vae", 0.8, metrics=clean | {"memorised": 0.01})]  # fmt: skip
    assert verdict(models)["memorisation"]["label"] == "vae"
