"""Comparing runs, equal sizes, what work costs, and nearest items."""

from __future__ import annotations

import base64
import inspect
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import soundfile
from PIL import Image

import quintet
from quintet.cli.figures import compared
from quintet.comparison.compare import contender_names, is_source
from quintet.core.errors import DataError, QuintetWarning, UsageError
from quintet.evaluation import cost
from quintet.evaluation.bench import Bench
from quintet.evaluation.nearest import nearest_shown
from quintet.fit.fitting import plan
from quintet.modalities.pictures import GAP_PIXELS
from quintet.operations.measuring import arguments
from quintet.operations.requests import CompareRequest
from quintet.registry import COMPARED
from quintet.runs.folder import Run
from quintet.runs.restoring import make_family, to_size
from quintet.runs.task import Task
from quintet.sources.load import Dataset, load_source, take


def train(path: Path, family: str = "vae", **given: Any) -> quintet.Model:
    settings = {"data": "iris", "condition": "label", "steps": 3, "preset": "tiny", "runs": path}
    return quintet.train(family, **{**settings, **given})


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    train(path, run="a", seed=0)
    train(path, run="b", seed=1, steps=4)
    train(path, run="strong", config={"model": {"beta": 4.0}})
    train(path, "gan", run="g")
    train(path, run="other", condition=None)
    return path


def test_runs_are_compared_and_seeds_are_one_contender(trained: Path, tmp_path: Path) -> None:
    result = quintet.compare("a", "b", "g", runs=trained, samples=40, output=tmp_path / "r.html")
    assert [(e["run"], e["label"], e["seed"]) for e in result["models"]] == [
        ("a", "vae", 0), ("b", "vae", 1), ("g", "gan", 0),
    ]  # fmt: skip
    assert result["command"] == "quintet compare a b g --split test --samples 40"
    assert set(result["ranks"]["coverage"]) == {"vae", "gan"}
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == result["verdict"]
    again = quintet.compare("g", "a", runs=trained, samples=40)
    assert {e["run"]: e["metrics"] for e in again["models"]}["a"] == result["models"][0]["metrics"]
    alone = quintet.compare(trained / "a", samples=40)
    assert alone["models"][0]["metrics"] == result["models"][0]["metrics"]


def test_contenders_of_one_family_are_named_by_how_they_differ(trained: Path) -> None:
    folders = [quintet.load(name, runs=trained).run for name in ("a", "b", "strong", "g")]
    assert contender_names(folders, [run.config() for run in folders]) == ["vae (beta 1.0)"] * 2 + [
        "vae (beta 4.0)",
        "gan",
    ]


def test_runs_of_other_data_are_refused_by_what_differs(trained: Path) -> None:
    with pytest.raises(UsageError, match="their condition differs: it is label in the first and None in the second"):
        quintet.compare("a", "other", runs=trained)
    with pytest.raises(UsageError, match="there is no run named 'nobody'"):
        quintet.compare("a", "nobody", runs=trained)
    with pytest.raises(UsageError, match="nothing to compare"):
        quintet.compare(runs=trained)


def test_a_source_wins_over_a_run_of_its_name(trained: Path) -> None:
    assert is_source(["iris"], trained)
    assert is_source(["some/file.csv"], trained)
    assert not is_source(["a"], trained)
    assert not is_source(["iris", "a"], trained)


def test_classifiers_are_compared_by_what_they_are_for(tmp_path: Path) -> None:
    rows = pa.table({"text": [f"item {i} {'good' if i % 2 else 'bad'}" for i in range(200)],
                     "kind": ["up" if i % 2 else "down" for i in range(200)]})  # fmt: skip
    pa.csv.write_csv(rows, tmp_path / "rows.csv")
    for seed in (0, 1):
        quintet.train("autoregressive", data=str(tmp_path / "rows.csv"), target="kind", condition="text", steps=2,
                      preset="tiny", runs=tmp_path, run=f"c{seed}", seed=seed)  # fmt: skip
    result = quintet.compare("c0", "c1", runs=tmp_path, output=tmp_path / "r.html")
    for entry in result["models"]:
        assert np.mean(entry["item_figures"]["accuracy"]) == pytest.approx(entry["metrics"]["accuracy"])
    assert result["recipe"]["task"] == "label"
    assert "It names the right label" in (tmp_path / "r.html").read_text()


def test_reports_are_joined_where_they_were_measured_alike(trained: Path, tmp_path: Path) -> None:
    for name, runs, samples in (("one", ["a", "g"], 40), ("two", ["b"], 40), ("three", ["b"], 30)):
        quintet.compare(*runs, runs=trained, samples=samples, output=tmp_path / f"{name}.html")
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    both = quintet.compare(one, two, output=tmp_path / "both.html")
    assert [entry["label"] for entry in both["models"]] == ["vae (one)", "gan", "vae (two)"]
    measured = [json.loads(path.read_text())["models"] for path in (one, two)]
    assert [e["metrics"] for e in both["models"]] == [e["metrics"] for e in measured[0] + measured[1]]
    with pytest.raises(DataError, match="measured in different ways") as refused:
        quintet.compare(one, tmp_path / "three.json")
    assert refused.value.where == "samples"
    (tmp_path / "bad.json").write_text("[1, 2")
    with pytest.raises(DataError, match="not a report"):
        quintet.compare(one, tmp_path / "bad.json")
    with pytest.raises(DataError, match="cannot read"):
        quintet.compare(tmp_path / "none.json")


def test_likelihoods_of_recordings_name_their_space_and_their_items(tmp_path: Path) -> None:
    """The families' defaults keep different numbers of a recording: neither likelihood is above the other."""
    for i in range(100):
        tone = 0.5 * np.sin(np.arange(800) * (0.1 + 0.01 * i))
        soundfile.write(tmp_path / f"tone{i}.wav", tone, 4000)
    result = quintet.compare(tmp_path, families=["autoregressive", "flow"], steps=1, preset="tiny", samples=20,
                             runs=tmp_path / "runs")  # fmt: skip
    first, second = (entry["likelihood"] for entry in result["models"])
    assert first["dims"] != second["dims"]
    assert first["identity"] != second["identity"]
    assert result["verdict"]["scoring"]["label"] is None
    one, other = result["models"]
    assert one["scored"] == other["scored"]
    assert np.mean(one["item_figures"]["nats"]) == pytest.approx(first["nats"])
    for side in one["item_figures"]["anomaly"]:
        assert np.mean(side) == pytest.approx(one["metrics"]["anomaly"])


def test_what_failed_is_named_and_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Bench.run

    def broken(bench: Bench, model: quintet.Model, **given: Any) -> dict[str, Any]:
        if model.config.family == "vae":
            raise KeyError("a column")
        return sound(bench, model, **given)

    monkeypatch.setattr(Bench, "run", broken)
    asked: dict[str, Any] = {"families": ["vae", "gan"], "steps": 2, "preset": "tiny", "samples": 20}
    result = quintet.compare("iris", **asked, runs=tmp_path, output=tmp_path / "r.html")
    assert [entry["status"] for entry in result["models"]] == ["failed", "ok"]
    assert result["verdict"]["keeper"]["label"] == "gan"
    assert "KeyError" in (tmp_path / "r.html").read_text()
    assert "vae failed: KeyError" in compared(result)

    monkeypatch.setattr(Bench, "run", sound)  # mended: the same call takes up what there is
    again = quintet.compare("iris", **asked, runs=tmp_path)
    assert again["runs"] == result["runs"]
    assert [entry["status"] for entry in again["models"]] == ["ok", "ok"]
    assert again["models"][1] == result["models"][1]
    assert quintet.compare("iris", **asked, runs=tmp_path)["runs"] != result["runs"]  # that one is finished


def test_figures_of_real_data_that_fail_do_not_lose_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: Bench, seed: int = 0) -> dict[str, Any]:
        raise KeyError("a column")

    monkeypatch.setattr(Bench, "real", broken)
    with pytest.warns(QuintetWarning, match="no figures of real data: KeyError"):
        result = quintet.compare("iris", families=["gan"], steps=2, preset="tiny", samples=20, runs=tmp_path,
                                 output=tmp_path / "r.html")  # fmt: skip
    assert result["verdict"]["keeper"]["label"] == "gan"
    assert (tmp_path / "r.html").is_file()


def test_a_comparison_that_is_stopped_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"families": ["vae", "gan"], "steps": 6, "preset": "tiny", "samples": 20,
                             "config": {"training": {"save_every": 2}}}  # fmt: skip
    whole = quintet.compare("iris", **asked, runs=tmp_path / "whole")
    stops: list[Any] = []

    def stop(trainer: Any) -> None:
        if trainer is not None and not stops:
            stops.append(trainer)
            trainer.stop = "SIGTERM"

    first = quintet.compare("iris", **asked, runs=tmp_path / "parts", on_trainer=stop)
    assert first["stopped"] == "stopped by SIGTERM"
    assert [entry["status"] for entry in first["models"]] == ["failed", "failed"]
    second = quintet.compare("iris", **asked, runs=tmp_path / "parts")
    assert second["runs"] == first["runs"]
    for one, other in zip(whole["models"], second["models"], strict=True):
        for key in ("metrics", "likelihood", "item_figures", "weights"):
            assert one.get(key) == other.get(key)


def test_a_comparison_that_is_stopped_keeps_what_is_finished_and_goes_on(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "quintet", "compare", "iris", "--families", "vae,gan", "--steps", "300", "--preset",
             "tiny", "--samples", "20", "--runs", str(tmp_path), "-o", str(tmp_path / "r.html"), "--json",
             "--data.time", "petal_width"]  # fmt: skip
    process = subprocess.Popen(
        [word if word != "300" else "100000" for word in words], stdout=subprocess.PIPE, text=True
    )
    kept = tmp_path / "compare-iris-1" / "vae-0" / "metrics.jsonl"
    for _ in range(600):
        if kept.is_file() and kept.stat().st_size:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    told = json.loads(out)
    assert process.returncode == 143
    assert told["error"] == "Stopped"
    assert [entry["status"] for entry in told["models"]] == ["failed", "failed"]
    assert "stopped by SIGTERM" in (tmp_path / "r.html").read_text()
    assert Run.open(tmp_path / "compare-iris-1" / "vae-0").latest() is not None
    assert "--data.time petal_width" in told["command"]


KILLED = """
import os, signal, sys
import quintet
from quintet.training.trainer import Trainer
update = Trainer.update

def killed(self):
    if self.steps == 24 and self.family.name == "gan" and self.step == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self)

Trainer.update = killed
quintet.compare("iris", families=["vae", "gan"], steps=24, preset="tiny", samples=20, runs=sys.argv[1],
                config={"training": {"save_every": 4}})
"""


def test_a_comparison_that_is_killed_trains_nothing_twice(tmp_path: Path) -> None:
    """What was finished is not trained again, and what was begun goes on from its last checkpoint."""
    asked: dict[str, Any] = {"families": ["vae", "gan"], "steps": 24, "preset": "tiny", "samples": 20,
                             "config": {"training": {"save_every": 4}}}  # fmt: skip
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=200)
    assert killed.returncode == -signal.SIGKILL
    root, begun = tmp_path / "compare-iris-1", dict[str, int]()

    def watch(trainer: Any) -> None:
        if trainer is not None:
            begun[trainer.family.name] = trainer.step

    kept = {path: path.stat().st_mtime_ns for path in (root / "vae-0").rglob("*") if path.is_file()}
    found = quintet.compare("iris", **asked, runs=tmp_path, on_trainer=watch)
    assert found["runs"] == str(root)
    assert begun == {"gan": 12}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    whole = quintet.compare("iris", **asked, runs=tmp_path / "whole")
    for one, other in zip(whole["models"], found["models"], strict=True):
        assert (one["status"], one["metrics"]) == (other["status"], other["metrics"])


def test_a_comparison_is_taken_up_by_its_name_whatever_became_of_it(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"families": ["gan"], "steps": 2, "preset": "tiny", "samples": 20, "runs": tmp_path}
    (tmp_path / "mine").mkdir()  # as if it had been killed before it had begun
    first = quintet.compare("iris", **asked, run="mine")
    assert first["runs"] == str(tmp_path / "mine")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "mine" / "gan-0").rglob("*")}
    again = quintet.compare("iris", **asked, run="mine")  # it has finished: nothing is trained
    assert again["models"] == first["models"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    with pytest.raises(UsageError, match="another comparison already has this name") as caught:
        quintet.compare("iris", **asked | {"steps": 3}, run="mine")
    assert "--steps 2" in caught.value.why
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(UsageError, match="exists already"):
        quintet.compare("iris", **asked, run="other")
    with pytest.raises(UsageError, match="a run cannot be named"):
        quintet.compare("iris", **asked, run="../other")


def test_a_request_for_a_comparison_says_all_that_can_be_asked() -> None:
    request = CompareRequest(what=("iris",), run="mine")
    said = arguments(request)
    assert said["run"] == "mine"
    assert set(said) == set(inspect.signature(quintet.compare).parameters) - {"what", "report", "on_trainer"}


# -- equal sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*COMPARED, "masked_diffusion"])
@pytest.mark.parametrize("parameters", [3_000, 200_000])
def test_the_width_that_comes_nearest_is_taken(family: str, parameters: int) -> None:
    dataset = load_source("iris")
    config = plan(family, dataset, steps=1, config={"parameters": parameters})
    codecs = Task.of(config, dataset).fitted(config).codecs

    def count(**model: int) -> int:
        changed = chosen.model_copy(update={"model": chosen.model | model})
        return sum(p.numel() for p in make_family(changed, codecs).parameters())

    chosen = to_size(config, codecs)
    width, unit, gap = chosen.model["width"], 8 * int(chosen.model.get("heads") or 2), abs(count() - parameters)
    assert gap < 0.35 * parameters or width == unit
    for other in (width - unit, width + unit):
        if other > 0 and "critic_width" not in chosen.model:
            assert abs(count(width=other) - parameters) >= gap
    assert to_size(plan(family, dataset, steps=1), codecs).model == plan(family, dataset, steps=1).model


def test_families_are_compared_at_one_size(tmp_path: Path) -> None:
    result = quintet.compare("iris", families=["vae", "flow"], steps=1, parameters=20_000, samples=20, runs=tmp_path)
    assert all(abs(entry["parameters"] - 20_000) < 5_000 for entry in result["models"])
    assert "--parameters 20000" in result["command"]


# -- cost ------------------------------------------------------------------------------------------------------------


def counter(root: Path, name: str, energy: int, wrap: int = 1_000_000) -> None:
    (root / name).mkdir(exist_ok=True)
    (root / name / "energy_uj").write_text(f"{energy}\n")
    (root / name / "max_energy_range_uj").write_text(f"{wrap}\n")


def test_energy_is_that_of_all_processors_and_counters_may_begin_anew(tmp_path: Path) -> None:
    assert cost.spent(cost.counters(tmp_path), cost.counters(tmp_path)) is None
    counter(tmp_path, "intel-rapl:0", 100)
    counter(tmp_path, "intel-rapl:0:0", 100)  # cores: already within the processor
    counter(tmp_path, "intel-rapl:1", 999_000)
    before = cost.counters(tmp_path)
    counter(tmp_path, "intel-rapl:0", 500_100)
    counter(tmp_path, "intel-rapl:0:0", 400_000)
    counter(tmp_path, "intel-rapl:1", 1_000)  # 2,001 later: it begins anew behind a million
    assert cost.spent(before, cost.counters(tmp_path)) == pytest.approx((500_000 + 2_001) / 1e6)


METERED = """
import numpy as np
from quintet.evaluation.cost import Meter
with Meter() as idle:
    pass
with Meter() as busy:
    held = np.ones(30_000_000)
print(len(held), busy.peak_mb - idle.peak_mb, busy.seconds - idle.seconds)
"""


def test_a_meter_measures_the_work_inside() -> None:
    """In a process of its own: where the system does not let us reset the peak, it is that of the process so far."""
    env = {**os.environ, "PYTHONPATH": str(Path(cost.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", METERED], env=env, capture_output=True, text=True, check=True)
    _, megabytes, seconds = map(float, done.stdout.split())
    assert megabytes > 150  # of 240
    assert seconds > 0


# -- nearest ---------------------------------------------------------------------------------------------------------


class Told:
    """A model that makes what it is told to."""

    def __init__(self, items: Any) -> None:
        self.items, self.codecs = items, {}

    def draw(self, n: int, **_: Any) -> Any:
        return take(self.items, np.arange(n))


def test_copies_of_training_images_are_shown_above_their_originals() -> None:
    bench = Bench(load_source("digits"), None, samples=20)
    copies = bench.rows("train")[30:40]
    shown = nearest_shown(Told(copies), bench)  # type: ignore[arg-type]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["png"]))))
    height = 8 * (sheet.shape[0] // (2 * 8 + GAP_PIXELS))
    assert sheet[:height].std() > 10
    assert np.array_equal(sheet[:height], sheet[-height:])


def test_rows_and_texts_stand_beside_the_nearest(tmp_path: Path) -> None:
    bench = Bench(load_source("iris"), None, samples=20)
    shown = nearest_shown(Told(bench.rows("train")), bench, 3)  # type: ignore[arg-type]
    assert [row[0] for row in shown["rows"]] == ["sample", "nearest"] * 3
    assert all(a[1:] == b[1:] for a, b in zip(shown["rows"][::2], shown["rows"][1::2], strict=True))
    lines = [f"{i},{100 + i / 8},{-i / 4},{'ab'[i % 2]}" for i in range(300)]
    (tmp_path / "named.csv").write_text("\n".join(["id,first,second,kind", *lines]) + "\n")
    with pytest.warns(QuintetWarning, match="column id only names its rows"):
        bench = Bench(load_source(str(tmp_path / "named.csv")), None, samples=20)
    columns = ["first", "second", "kind"]  # of real rows too, in the places where samples have them
    shown = nearest_shown(Told(bench.rows("train").select(columns)), bench, 3)  # type: ignore[arg-type]
    assert shown["columns"] == ["", *columns]
    assert all(a[1:] == b[1:] for a, b in zip(shown["rows"][::2], shown["rows"][1::2], strict=True))
    real = bench.show(None)
    assert real["columns"] == columns
    assert all(float(first) >= 100 and float(second) <= 0 for first, second, _ in real["rows"])
    texts = [f"{word} number {i}" for i in range(30) for word in ("red", "blue")]
    splits = {"train": np.arange(40), "validation": np.arange(40, 50), "test": np.arange(50, 60)}
    bench = Bench(Dataset("colours", "text", texts, splits), None, samples=10)
    rows = nearest_shown(Told(texts[:4]), bench, 4)["rows"]  # type: ignore[arg-type]
    assert all(a == b and float(d) < 1e-12 for a, b, d in rows)


def test_samples_given_a_real_number_are_measured_without_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {"dose": rng.choice([0.5, 1.25, 2.0], 200), "arm": rng.integers(0, 2, 200), "x": rng.normal(size=200)}
    for given, classes in (("dose", False), ("arm", True)):
        found = quintet.compare(
            pa.table(rows), families=("flow",), condition=given, steps=3, runs=tmp_path / given, samples=30
        )
        assert found["models"][0]["status"] == "ok"
        assert ("tstr" in found["models"][0]["metrics"]) == classes


def test_nothing_is_trained_for_a_test_split_that_is_too_small(tmp_path: Path) -> None:
    rows = pa.table({"x": np.random.default_rng(0).normal(size=30), "y": np.arange(30) % 3})
    with pytest.raises(DataError, match="items on each side are too few to compare"):
        quintet.compare(rows, families=("flow", "vae"), steps=3, runs=tmp_path / "runs", samples=20)
    assert not list((tmp_path / "runs").rglob("checkpoints"))


def test_a_json_file_that_holds_data_is_a_source(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"a": 1, "b": 2}] * 3))
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"recipe": {}, "models": []}))
    assert is_source([str(rows)])
    assert not is_source([str(report)])
    assert not is_source([str(tmp_path / "missing.json")])
