"""The verdict names planted winners and calls ties ties; the report is one file that loads nothing and escapes all."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quintet.cli.figures import compared
from quintet.comparison.contenders import interval
from quintet.comparison.report import PALETTE, number_cell, parts, ranks, render
from quintet.comparison.verdict import verdict
from quintet.core.plain import readable
from quintet.metrics.classifiers import classifier_two_sample
from quintet.metrics.estimates import area, placements
from quintet.modalities.pictures import grid_png
from quintet.modalities.table.pictures import scatter_png

HOSTILE = "<script>alert(1)</script>"


def entry(family: str, auc: float, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A finished run with an AUC of standard error 0.01."""
    metrics = {
        "auc": auc, "auc_stderr": 0.01, "coverage": 0.9, "coverage_stderr": 0.01, "frechet": 2.0, "memorised": 0.01,
        "memorised_stderr": 0.003, "memorised_expected": 0.01, "memorised_flagged": False,
    }  # fmt: skip
    made = {
        "family": family, "run": f"{family}-{seed}", "seed": seed, "status": "ok", "likelihood": None,
        "metrics": metrics | changes.pop("metrics", {}), "parameters": 1000, "train_seconds": 50.0, "steps": 100,
        "ms_per_sample": 1.0, "peak_mb": 300.0, "curve": [[1.0, 2.0], [25.0, 0.5], [50.0, 0.1]],
        "config": {"optim": {"lr": 0.001}, "family": family},
    }  # fmt: skip
    return made | changes


def likelihood(kind: str, nats: float, space: str = "mass", stderr: float = 0.1) -> dict[str, Any]:
    bits = -nats / 64 / np.log(2)
    return {
        "kind": kind,
        "nats": nats,
        "nats_per_dim": nats / 64,
        "bits_per_dim": bits,
        "stderr": stderr,
        "space": space,
    }


# Verdict -----------------------------------------------------------------------------------------------------------


def test_planted_winners_are_named() -> None:
    found = verdict([
        entry("vae", 0.90, likelihood=likelihood("bound", -96.0)),
        entry("gan", 0.80, ms_per_sample=0.05, metrics={"memorised": 0.001}),
        entry("flow", 0.70, likelihood=likelihood("exact", -80.0)),
        entry("diffusion", 0.55, ms_per_sample=9.0, likelihood=likelihood("estimate", -79.0)),
    ])  # fmt: skip
    assert {question: found[question]["label"] for question in ("keeper", "scoring", "speed", "memorisation")} == {
        "keeper": "diffusion", "scoring": "flow", "speed": "gan", "memorisation": "gan",
    }  # fmt: skip
    assert found["keeper"]["ties"] == []
    assert "0.55 ± 0.02" in found["keeper"]["sentence"]
    assert "Next is flow, 0.70 ± 0.02" in found["keeper"]["sentence"]
    assert "only an estimate" in found["scoring"]["sentence"]
    assert "180 times as fast as diffusion" in found["speed"]["sentence"]
    assert json.loads(json.dumps(found)) == found


def test_who_completes_best_is_named_by_pairs_and_beside_what_learns_nothing() -> None:
    hard = np.linspace(0.1, 0.9, 20)  # some items are hard for all alike: only pairs tell models apart

    def completing(family: str, worse: float, naive: float, shift: int = 0) -> dict[str, Any]:
        each = hard + worse + 0.001 * (np.arange(20) % 2)
        error = float(each.std() / len(each) ** 0.5)
        crps = {"crps": float(each.mean()), "crps_stderr": error, "crps_less_seasonal": naive,
                "crps_less_seasonal_stderr": 0.01}  # fmt: skip
        return entry(family, 0.6, metrics=crps, completion_figures={"crps": each.tolist()},
                     completed=[i + shift for i in range(20)])  # fmt: skip

    models = [completing("vae", 0.02, -0.1), completing("flow", 0.0, -0.12), entry("gan", 0.6)]
    found = verdict(models)["completion"]
    assert (found["label"], found["ties"]) == ("flow", [])
    assert "Next is vae" in found["sentence"]
    assert "0.120 ± 0.020 less than seasonal-naive" in found["sentence"]
    assert "completes best: flow. Its forecasts" in compared({"models": models, "verdict": verdict(models)})
    assert "To complete what is known in part" in render({"source": "x", "models": models})
    others = [completing("vae", 0.02, -0.1, shift=100), completing("flow", 0.0, 0.0)]  # other items: no pairs
    found = verdict(others)["completion"]
    assert (found["label"], found["ties"]) == ("flow", ["vae"])
    assert "not clearly better than seasonal-naive" in found["sentence"]
    none = [entry("vae", 0.6), entry("gan", 0.6)]
    assert verdict(none)["completion"]["label"] is None
    assert "completes best" not in compared({"models": none, "verdict": verdict(none)})
    assert "To complete what" not in render({"source": "x", "models": none})


def test_ties_are_called_ties_and_broken_by_coverage() -> None:
    models = [entry("vae", 0.55, metrics={"coverage": 0.7}), entry("flow", 0.57), entry("gan", 0.75)]
    keeper = verdict(models)["keeper"]
    assert (keeper["label"], keeper["ties"]) == ("flow", ["vae"])
    assert "tie with vae" in keeper["sentence"]
    models[1]["metrics"]["auc"] = 0.60  # now the intervals are apart
    assert verdict(models)["keeper"]["ties"] == []
    assert verdict(models)["keeper"]["label"] == "vae"


def test_seeds_widen_the_interval() -> None:
    apart = [entry("vae", 0.60), entry("flow", 0.70)]
    assert verdict(apart)["keeper"]["ties"] == []
    seeds = [entry("vae", 0.60 + d, i) for i, d in enumerate((-0.1, 0.0, 0.1))]
    seeds += [entry("flow", 0.70 + d, i) for i, d in enumerate((-0.1, 0.0, 0.1))]
    assert verdict(seeds)["keeper"]["ties"] == ["flow"]
    assert interval([1.0, 2.0, 3.0], [0.0] * 3).half == pytest.approx(4.302653 / 3**0.5, rel=1e-5)
    assert interval([1.0, 1.0], [0.1, 0.1]).half == pytest.approx(0.2)  # both were measured on the same items


def test_likelihoods_of_different_encoded_spaces_are_not_ranked() -> None:
    def heard(family: str, kind: str, nats: float, identity: str, dims: int) -> dict[str, Any]:
        return entry(family, 0.6, likelihood=likelihood(kind, nats, "encoded") | {"identity": identity, "dims": dims})

    apart = [heard("autoregressive", "exact", -300.0, "aa", 260), heard("vae", "bound", -900.0, "bb", 640)]
    found = verdict(apart)["scoring"]
    assert found["label"] is None
    assert "autoregressive: encoded aa, 260 dimensions" in found["sentence"]
    assert "cannot be compared" in re.sub(r"\s+", " ", render({"source": "x", "models": apart}))
    assert "encoded bb, 640 dimensions" in render({"source": "x", "models": apart})
    assert "cannot be compared" in compared({"models": apart, "verdict": verdict(apart)})
    both = verdict([*apart, heard("flow", "bound", -800.0, "bb", 640)])["scoring"]
    assert both["label"] == "flow"  # of the two that can be compared
    assert "Only vae and flow were compared" in both["sentence"]


def test_the_same_items_are_compared_item_by_item() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(-80, 20, 200)  # items differ by far more than models do
    better = base + 1 + rng.normal(0, 1, 200)

    def scored(family: str, values: np.ndarray, index: list[int], seed: int = 0) -> dict[str, Any]:
        stderr = float(values.std(ddof=1)) / len(values) ** 0.5
        given = likelihood("exact", float(values.mean()), stderr=stderr)
        return entry(family, 0.6, seed, likelihood=given, scored=index, item_figures={"nats": values.tolist()})

    same, other = list(range(200)), list(range(200, 400))
    found = verdict([scored("flow", better, same), scored("vae", base, same)])["scoring"]
    assert (found["label"], found["ties"]) == ("flow", [])
    assert verdict([scored("flow", better, same), scored("vae", base, other)])["scoring"]["ties"] == ["vae"]
    seeds = [scored(f, v + d, same, s) for f, v in (("flow", better), ("vae", base)) for s, d in enumerate((-9, 0, 9))]
    told = verdict(seeds)["scoring"]  # the luck of training is larger than the difference
    assert told["ties"] == ["vae"]
    assert re.search(r"About \d+ seeds|More training runs would not decide", told["sentence"])


def test_labels_are_compared_item_by_item_and_ranked_by_the_same_test() -> None:
    """Of 100 items one model misses 40 and the other the same 40 and 8 more: apart item by item, not by intervals."""

    def classifier(family: str, wrong: int, index: list[int]) -> dict[str, Any]:
        hits = [float(i >= wrong) for i in range(100)]
        share = float(np.mean(hits))
        metrics = {"accuracy": share, "accuracy_stderr": (share * (1 - share) / 100) ** 0.5}
        return {"family": family, "run": family, "seed": 0, "status": "ok", "metrics": metrics, "scored": index,
                "item_figures": {"accuracy": hits}}  # fmt: skip

    same, other = list(range(100)), list(range(100, 200))
    paired = [classifier("a", 40, same), classifier("b", 48, same)]
    assert verdict(paired)["keeper"]["ties"] == []
    assert ranks(paired)["accuracy"] == {"a": 1, "b": 2}
    apart = [classifier("a", 40, same), classifier("b", 48, other)]
    assert verdict(apart)["keeper"]["ties"] == ["b"]
    assert ranks(apart)["accuracy"] == {"a": 1, "b": 1}


def test_areas_over_the_same_items_are_compared_by_placements() -> None:
    """Two models that order nearly alike: their difference is known far better than either area."""
    rng = np.random.default_rng(0)
    real, odd = rng.normal(1, 1, 200), rng.normal(0, 1, 150)
    shift = rng.normal(0.25, 0.05, 200)

    def told(family: str, high: np.ndarray, index: list[int]) -> dict[str, Any]:
        value, stderr = area(high, odd)
        each = [side.tolist() for side in placements(high, odd)]
        assert np.mean(each[0]) == pytest.approx(value) == np.mean(each[1])
        return entry(family, 0.6, metrics={"anomaly": value, "anomaly_stderr": stderr}, scored=index,
                     item_figures={"anomaly": each})  # fmt: skip

    same, other = list(range(200)), list(range(200, 400))
    paired = verdict([told("a", real + shift, same), told("b", real, same)])["anomalies"]
    assert (paired["label"], paired["ties"]) == ("a", [])
    assert verdict([told("a", real + shift, same), told("b", real, other)])["anomalies"]["ties"] == ["b"]


def test_a_coverage_that_decides_nothing_names_nobody() -> None:
    models = [entry("diffusion", 0.58, metrics={"coverage": 0.901}), entry("vae", 0.56, metrics={"coverage": 0.9})]
    keeper = verdict(models)["keeper"]
    assert (keeper["label"], keeper["ties"]) == ("vae", ["diffusion"])  # a coverage of .001 is no reason
    assert "either will do" in keeper["sentence"]
    assert "among the hardest" not in keeper["sentence"]  # nobody is farther
    assert "One training run each" in keeper["sentence"]
    assert "--seeds 3" in keeper["sentence"]


def test_the_density_of_a_dequantised_item_is_a_bound_beside_probabilities() -> None:
    models = [entry("flow", 0.6, likelihood=likelihood("exact", -80.0, "dequantised")),
              entry("autoregressive", 0.6, likelihood=likelihood("exact", -80.1))]  # fmt: skip
    found = verdict(models)["scoring"]
    assert found["label"] == "autoregressive"
    assert "flow states only a bound" in found["sentence"]
    assert "bound, mass" in render({"source": "x", "models": models})


def test_the_error_of_the_auc_covers_the_truth() -> None:
    missed, runs = 0, 24
    for seed in range(runs):  # equal distributions: the truth is one half
        rng = np.random.default_rng(seed)
        found = classifier_two_sample(rng.normal(size=(150, 5)), rng.normal(size=(150, 5)), seed)
        missed += abs(found.value - 0.5) > 2 * found.stderr
    assert missed <= 3  # one in twenty is expected; without the classifier's own error it is every fourth


def test_a_copier_is_passed_over() -> None:
    copier = entry("gan", 0.50, metrics={"memorised": 0.9, "memorised_flagged": True})
    found = verdict([copier, entry("vae", 0.80)])
    assert found["keeper"]["label"] == "vae"
    assert "gan would come before it" in found["keeper"]["sentence"]
    assert found["memorisation"]["label"] == "vae"
    assert "gan (90.0%)" in found["memorisation"]["sentence"]
    alone = verdict([copier])
    assert alone["keeper"]["label"] == "gan"
    assert any("copies training items" in note for note in alone["caveats"])
    assert alone["memorisation"]["label"] is None


def test_a_gan_is_never_named_for_scoring() -> None:
    assert verdict([entry("gan", 0.5)])["scoring"]["label"] is None
    assert (
        verdict([entry("gan", 0.5), entry("vae", 0.9, likelihood=likelihood("bound", -999.0))])["scoring"]["label"]
        == "vae"
    )


def test_likelihoods_are_compared_as_what_they_are() -> None:
    exact = entry("flow", 0.6, likelihood=likelihood("exact", -80.0))
    below = verdict([exact, entry("vae", 0.6, likelihood=likelihood("bound", -80.1))])["scoring"]
    assert below["label"] == "flow"
    assert "vae states only a bound" in below["sentence"]
    above = verdict([exact, entry("vae", 0.6, likelihood=likelihood("bound", -70.0))])["scoring"]
    assert above["label"] == "vae"  # a lower bound above an exact value leaves no doubt
    assert "flow" in above["sentence"]
    estimate = verdict([exact, entry("diffusion", 0.6, likelihood=likelihood("estimate", -70.0))])["scoring"]
    assert estimate["label"] == "flow"
    tie = verdict([exact, entry("autoregressive", 0.6, likelihood=likelihood("exact", -80.1))])["scoring"]
    assert tie["ties"] == ["autoregressive"]
    density = verdict([exact, entry("vae", 0.6, likelihood=likelihood("bound", 500.0, "density"))])["scoring"]
    assert density["label"] is None  # a density has another unit
    assert "different spaces cannot be compared" in density["sentence"]


def test_windows_of_different_lengths_are_compared_by_the_character() -> None:
    def model(family: str, kind: str, nats: float, items: int, characters: int) -> dict[str, Any]:
        bits = -nats * items / characters / np.log(2)
        scored = likelihood(kind, nats, stderr=0.5) | {"items": items}
        return entry(family, 0.6, likelihood=scored, language={"bits_per_character": bits})

    wide, narrow = model("autoregressive", "exact", -256.0, 10, 2560), model("vae", "bound", -128.0, 40, 2560)
    found = verdict([wide, narrow])["scoring"]
    assert found["label"] == "autoregressive"  # 1 nat a character against 2, though -256 nats an item against -128
    assert "−1.000 ± 0.004 nats a character" in found["sentence"]
    assert found["figures"] == pytest.approx({"nats_per_character": -1.0, "nats_per_character_half": 1 / 256})
    picture = {"kind": "text", "items": ["some"]}
    shown = [render(comparison(models=[one | {"samples": picture} for one in pair]))
             for pair in ([wide, narrow], [wide, wide | {"family": "flow"}])]  # fmt: skip
    assert ["Log-likelihood, nats an item" in page for page in shown] == [False, True]
    told = compared({"models": [wide, narrow], "verdict": verdict([wide, narrow])})
    assert "nats/character" in told
    assert "-2 ± " in told
    alike = verdict([wide, model("vae", "bound", -300.0, 10, 2560)])["scoring"]
    assert "−256.0 ± 1.0 nats an item" in alike["sentence"]


def test_who_finds_anomalies_is_named_and_chance_is_nobody() -> None:
    def odd(family: str, part: float) -> dict[str, Any]:
        return entry(family, 0.6, metrics={"anomaly": part, "anomaly_stderr": 0.02})

    found = verdict([odd("flow", 0.9), odd("vae", 0.8), entry("gan", 0.5)])["anomalies"]
    assert (found["label"], found["ties"]) == ("flow", [])
    assert "90% ± 4%" in found["sentence"]
    assert verdict([odd("flow", 0.9), odd("vae", 0.88)])["anomalies"]["ties"] == ["vae"]
    assert verdict([odd("flow", 0.52), odd("vae", 0.5)])["anomalies"]["label"] is None
    assert verdict([entry("gan", 0.5)])["anomalies"]["label"] is None


def test_failures_and_doubts_are_said() -> None:
    failed = {"family": "flow", "run": "f", "seed": 0, "status": "failed", "error": "diverged"}
    found = verdict([failed, entry("vae", 0.99), entry("vae", 0.99, 1)])
    assert "flow failed." in found["caveats"]
    assert any("recognised nearly every time" in note for note in found["caveats"])
    later = verdict([entry("vae", 0.99)], {"auc": 0.98})["caveats"]
    assert any("told from the test split too (AUC 0.98)" in note for note in later)
    assert not any("train longer" in note for note in later)
    assert verdict([failed])["keeper"]["label"] is None
    assert verdict([])["keeper"]["label"] is None
    assert any("check for a leak" in note for note in verdict([entry("vae", 0.2)])["caveats"])


def test_labels_separate_two_runs_of_one_family() -> None:
    models = [entry("vae", 0.9, label="beta 1"), entry("vae", 0.6, label="beta 4")]
    assert verdict(models)["keeper"]["label"] == "beta 4"


# Report ------------------------------------------------------------------------------------------------------------


class Balanced(HTMLParser):
    """Collects the tags, and fails on one that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def comparison(**changes: Any) -> dict[str, Any]:
    picture = base64.b64encode(grid_png(np.zeros((6, 8, 8, 1), np.uint8))).decode()
    image = {"kind": "image", "png": picture}
    models = [
        entry("vae", 0.9, likelihood=likelihood("bound", -96.0), samples=image),
        entry("vae", 0.91, 1, likelihood=likelihood("bound", -97.0), samples=image),
        entry("gan", 0.8, likelihood_reason=f"no density {HOSTILE}", samples={"kind": "text", "items": [HOSTILE]}),
        entry("flow", 0.7, likelihood=likelihood("exact", -80.0),
              samples={"kind": "rows", "columns": [HOSTILE], "rows": [[HOSTILE], [3.5]]}),
        {"family": HOSTILE, "run": HOSTILE, "seed": 0, "status": "failed", "error": f"diverged {HOSTILE}"},
    ]  # fmt: skip
    real = {"samples": image, "metrics": {"auc": 0.5, "auc_stderr": 0.01, "frechet": 1.0}}
    return {
        "source": f"digits {HOSTILE}", "command": f"quintet compare {HOSTILE}", "budget": "50s", "seeds": [0, 1],
        "date": "today", "machine": {"cores": 2}, "versions": {HOSTILE: HOSTILE}, "real": real, "models": models,
        "recipe": {"features": {"name": "flattened-pca", "note": HOSTILE}, "split": {"train": 1000}},
    } | changes  # fmt: skip


def test_the_report_loads_nothing_and_escapes_everything() -> None:
    html = render(comparison())
    page = Balanced()
    page.feed(html)
    assert page.open == []
    assert not page.seen & {"script", "link", "iframe", "object"}
    assert not re.search(r"(?i)https?://|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]*", "", html))
    assert all(value.startswith("data:image/png;base64,") for name, value in page.attributes if name == "src" and value)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "href"]
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10


def test_the_report_says_what_matters() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", render(comparison())))
    for words in (
        "Keep flow", "hardest to tell from real data", "exact, mass", "bound, mass", "no density", "Other seeds",
        "diverged", "flattened-pca", "quintet compare", "−80.0", "real data", "settings that all share",
    ):  # fmt: skip
        assert words in text, words


def test_the_smallest_input_renders() -> None:
    assert "Nothing to keep" in render({"source": "x", "models": []})
    assert "Keep vae" in render({"source": "x", "models": [entry("vae", 0.5)]})
    bare = {"family": "vae", "run": "r", "seed": 0, "status": "ok"}
    assert "Nothing to keep" in render({"source": "x", "models": [bare]})


def test_a_given_verdict_is_shown_as_it_is() -> None:
    models = [entry("vae", 0.5), entry("gan", 0.9)]
    given = verdict(models)
    given["keeper"]["sentence"] = "Because I say so."
    assert "Because I say so." in render({"source": "x", "models": models, "verdict": given})


@pytest.mark.parametrize(
    ("value", "half", "text", "spread"),
    [
        (0.5359, 0.0408, "0.536", "0.041"),
        (2.19112, 0.00102, "2.191", "0.001"),
        (-78.22, 2.31, "−78.2", "2.3"),
        (1.0, 0.00002, "1.000", "0.001"),
        (1234567, 0.0, "1,234,567", ""),
        (0.0411, 0.0, "0.0411", ""),
        (0.0, 0.0, "0", ""),
        (float("nan"), 0.0, "not finite", ""),
    ],
)
def test_numbers_are_as_long_as_they_are_known(value: float, half: float, text: str, spread: str) -> None:
    cell = number_cell(value, half)
    assert (cell.text, cell.spread) == (text, spread)


def test_best_and_tie_are_marked() -> None:
    html = render({"source": "x", "models": [entry("a", 0.60), entry("b", 0.61), entry("c", 0.9)]})
    row = html[html.index("A classifier on raw values") :].split("</tr>")[0]
    marks = [re.findall(r'class="mark (\w+)"', cell) for cell in row.split("<td")[1:4]]
    assert marks == [["best"], ["tie"], ["3rd"]]
    assert ranks([entry("a", 0.60), entry("b", 0.628)])["auc"] == {"a": 1, "b": 1}  # 0.02 and 0.02 are 0.0283
    assert ranks([entry("a", 0.60), entry("b", 0.629)])["auc"] == {"a": 1, "b": 2}


def test_ranks_count_who_is_clearly_better_and_share_where_intervals_overlap() -> None:
    models = [entry("a", 0.60), entry("b", 0.61), entry("c", 0.9, ms_per_sample=0.1), entry("d", 0.30)]
    models.append({"family": "e", "run": "e", "seed": 0, "status": "failed", "error": "diverged"})
    found = ranks(models)
    assert found["auc"] == {"a": 1, "b": 1, "c": 4, "d": 3}  # 0.30 is as far from 0.5 as 0.70
    assert found["ms_per_sample"] == {"a": 2, "b": 2, "c": 1, "d": 2}
    assert "density" not in found  # more is neither better nor worse
    middle = [entry("a", 0.60), entry("b", 0.625), entry("c", 0.65)]  # b ties with both, a and c do not
    assert ranks(middle)["auc"] == {"a": 1, "b": 1, "c": 2}


def test_what_training_showed_is_said_once() -> None:
    advice = [{"kind": "mode collapse", "text": f"samples are alike {HOSTILE}"}]
    html = render({"source": "x", "models": [entry("gan", 0.8, advice=advice), entry("gan", 0.8, 1, advice=advice)]})
    assert html.count("gan, mode collapse: samples are alike") == 1
    assert HOSTILE not in html


def test_nearest_training_items_are_shown_beside_samples() -> None:
    shown = {"kind": "rows", "columns": ["sample", "nearest"], "rows": [["to be", HOSTILE]]}
    html = render({"source": "x", "things": "texts", "models": [entry("vae", 0.6, nearest=shown)]})
    assert "Nearest training items" in html
    assert "to make more texts" in html
    assert HOSTILE not in html
    assert "Nearest training items" not in render({"source": "x", "models": [entry("vae", 0.6)]})


# Pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_grid_keeps_every_pixel_sharp(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(5, 4, 6, channels), dtype=np.uint8)
    if channels == 4:
        images[..., 3] = 255
    sheet = np.asarray(Image.open(io.BytesIO(grid_png(images, columns=3, scale=4))).convert("RGBA"))
    assert sheet.shape == (36, 80, 4)
    shown = sheet[20:36:4, 28:52:4]  # image 4: second row, second column; every fourth pixel
    assert np.array_equal(shown[..., : min(channels, 3)], images[4][..., :3])
    assert (sheet[20:24, 28:32] == sheet[20, 28]).all()
    assert sheet[17, 0, 3] == 0  # the gap is transparent


def test_a_scatter_keeps_the_frame_of_its_reference() -> None:
    reference = np.random.default_rng(0).normal(size=(50, 2))
    points = np.concatenate([reference[:20] + 0.1, [[np.nan, 0.0], [1e9, 1e9]]])
    assert Image.open(io.BytesIO(scatter_png(points, reference))).size == (360, 360)
    assert scatter_png(reference) != scatter_png(points, reference)


def test_large_numbers_with_wide_intervals_can_be_printed() -> None:
    from quintet.comparison.report import number_cell

    assert number_cell(54321.0, 1234.0).text == "54,321"
    assert number_cell(300_000.0, 0.4).spread != "0"


def test_texts_that_tie_by_the_classifier_are_told_apart_by_their_letters() -> None:
    """Of two whose windows a classifier tells from real ones equally well, one writes words and one does not."""

    def entry(family: str, auc: float, divergence: float, energy: float) -> dict[str, Any]:
        metrics = {"auc": auc, "auc_stderr": 0.04, "coverage": 0.7, "coverage_stderr": 0.05, "energy": energy,
                   "energy_stderr": 0.05, "ngram_divergence": divergence, "ngram_divergence_stderr": 0.006}  # fmt: skip
        return {"family": family, "run": family, "seed": 0, "status": "ok", "metrics": metrics}

    found = verdict([entry("vae", 0.55, 0.53, 3.5), entry("autoregressive", 0.59, 0.19, 0.6)])["keeper"]
    assert found["label"] == "autoregressive"
    assert "divergence of n-grams), 0.19 ± 0.01 against vae 0.53 ± 0.01" in found["sentence"]
    found = verdict([entry("vae", 0.55, 0.20, 3.5), entry("autoregressive", 0.59, 0.19, 0.6)])["keeper"]
    assert (found["label"], "energy distance" in found["sentence"]) == ("autoregressive", True)
    found = verdict([entry("vae", 0.55, 0.20, 0.6), entry("autoregressive", 0.59, 0.19, 0.6)])["keeper"]
    assert (found["label"], "either will do" in found["sentence"]) == ("vae", True)


def test_what_has_learnt_too_little_is_not_kept() -> None:
    def entry(family: str, auc: float, **more: Any) -> dict[str, Any]:
        metrics = {"auc": auc, "auc_stderr": 0.01, "coverage": 0.7, "coverage_stderr": 0.05}
        return {"family": family, "run": family, "seed": 0, "status": "ok", "metrics": metrics, **more}

    found = verdict([entry("flow", 0.9, learnt_little="its samples are not like the data yet"), entry("gan", 0.97)])
    assert found["keeper"]["label"] == "gan"
    assert any("flow has learnt too little to be kept: its samples are not" in note for note in found["caveats"])
    assert verdict([entry("flow", 0.9), entry("gan", 0.97)])["keeper"]["label"] == "flow"


def test_few_unseen_items_are_named_as_the_reason_of_ties() -> None:
    def caveats(error: float) -> str:
        models = [entry(name, 0.55, metrics={"auc_stderr": error}) for name in ("flow", "gan")]
        return " ".join(verdict(models)["caveats"])

    assert "The unseen items are few" in caveats(0.12)
    assert "The unseen items are few" not in caveats(0.04)


def test_whom_the_verdict_passes_over_is_marked_in_the_chart() -> None:
    models = [entry("flow", 0.9, learnt_little="its samples are not like the data yet"), entry("gan", 0.97),
              entry("vae", 0.8, metrics={"memorised_flagged": True})]  # fmt: skip
    shown = parts(comparison(models=models))
    assert shown["answer"]["keeper"]["label"] == "gan"
    marks = {row["label"]: row["value"].mark for row in shown["forest"]["rows"]}
    assert marks == {"flow": "little", "gan": "", "vae": "copies"}
    assert "not like the data yet</span>" in render(comparison(models=models))


WRITTEN = [
    (19342.6, "19,343"), (19300, "19,300"), (1994, "1994"), (0.5, "0.5"), (0, "0"), (-0.00123456, "-0.001235"),
    (1e-7, "1e-07"), (2e12, "2e+12"), (999.96, "1000"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), WRITTEN)
def test_numbers_are_written_out_where_a_person_reads_them_so(value: float, text: str) -> None:
    assert readable(value) == text


# Colours ----------------------------------------------------------------------------------------------------------

SEEN = {
    "as most do": np.eye(3),
    "no red cones": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "no green cones": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881],
    ],
    "no blue cones": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039],
    ],
}  # fmt: skip
"""Linear RGB as eyes see it: Machado, Oliveira and Fernandes 2009, table 1, severity 1."""


def linear(colour: str) -> Any:
    share = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def oklab(rgb: Any) -> Any:
    """Lightness and two hues, in which distances are as they are seen (Ottosson 2020)."""
    cones = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                      [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
    mixed = np.array([[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
                      [0.0259040371, 0.7827717662, -0.808675766]])  # fmt: skip
    return mixed @ np.cbrt(cones @ np.clip(rgb, 0, 1))


def nearest(colours: list[str], eye: Any) -> float:
    """How far apart the two are that look most alike."""
    seen = [oklab(np.asarray(eye) @ linear(one)) for one in colours]
    return min(float(np.linalg.norm(a - b)) for i, a in enumerate(seen) for b in seen[:i])


@pytest.mark.parametrize("eye", SEEN)
@pytest.mark.parametrize("theme", [0, 1])
def test_colours_of_contenders_are_told_apart_by_every_eye(theme: int, eye: str) -> None:
    assert nearest([pair[theme] for pair in PALETTE[:6]], SEEN[eye]) > 0.13
    others = ["#3552cf", "#0b7a6b", "#a85300", "#a72d75", "#6a45c4", "#4d6b00"]
    assert nearest(others, SEEN["no green cones"]) < 0.02, "the control: teal and magenta become one grey"


@pytest.mark.parametrize(("theme", "papers"), [(0, ("#ffffff", "#f6f7f9")), (1, ("#12151c", "#1d2126"))])
def test_colours_of_contenders_stand_out_from_the_paper(theme: int, papers: tuple[str, ...]) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1."""
    for pair, paper in itertools.product(PALETTE, papers):
        bright = sorted(float(linear(one) @ [0.2126, 0.7152, 0.0722]) for one in (pair[theme], paper))
        assert (bright[1] + 0.05) / (bright[0] + 0.05) > 2.8, (pair[theme], paper)
