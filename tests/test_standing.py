"""A comparison can be looked at while it is made; and what people say of runs stands in their folders and cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest

import quintet
from quintet import registry
from quintet.comparison.contest import Contest
from quintet.comparison.report import parts
from quintet.comparison.standing import Standing, standing
from quintet.core.errors import EnvironmentFault, UsageError
from quintet.evaluation.bench import Bench
from quintet.operations.hub import stage
from quintet.runs.card import markdown, metadata, stored
from quintet.runs.folder import Run
from quintet.runs.notes import FILE, change_notes, notes_of

ASKED: dict[str, Any] = {"steps": 2, "preset": "tiny", "samples": 20}


def test_a_comparison_is_shown_as_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, looks = Bench.run, list[Standing]()

    def run(bench: Bench, model: quintet.Model, **given: Any) -> dict[str, Any]:
        looks.append(standing(tmp_path / "compare-iris-1"))
        if model.config.family == "gan":
            raise KeyError("a column")
        return sound(bench, model, **given)

    monkeypatch.setattr(Bench, "run", run)
    result = quintet.compare("iris", families=["vae", "gan", "flow"], **ASKED, runs=tmp_path)
    first, second, third = looks
    assert [one.state for one in first.left] == ["trained", "waiting", "waiting"]
    assert (first.measured, first.document["models"], first.whole) == (0, [], False)
    assert first.left[0].step == 2
    assert [entry["family"] for entry in second.document["models"]] == ["vae"]
    assert second.document["real"]["metrics"].keys() == result["real"]["metrics"].keys()
    assert [(entry["family"], entry["status"]) for entry in third.document["models"]] == [
        ("vae", "ok"),
        ("gan", "failed"),
    ]
    assert "KeyError" in third.document["models"][1]["error"]
    assert parts(third.document)["crowd"][0].label == "vae"  # type: ignore[arg-type]
    last = standing(tmp_path / "compare-iris-1")
    assert last.whole
    for key in ("models", "verdict", "ranks", "command", "budget", "seeds", "source", "recipe"):
        assert json.loads(json.dumps(last.document[key])) == json.loads(json.dumps(result[key], default=str)), key


def test_a_folder_that_holds_little_of_a_comparison_is_shown_too(tmp_path: Path) -> None:
    assert standing(tmp_path).document["models"] == []
    (tmp_path / "comparison.json").write_text(json.dumps({"command": "quintet compare a b --families vae --seeds 1"}))
    assert standing(tmp_path).document["source"] == "a b"
    config = {"data": {"types": {"zip": "drop"}}}
    asked: Any = {"training": {"budget": "5s", "steps": None, "preset": None, "config": config},
                  "measured": {"samples": 40, "split": "test", "features": "pca"}}  # fmt: skip
    of_path = Contest("/tmp/my data.csv", registry.COMPARED, None, 2, **asked)
    assert of_path.command == ("quintet compare '/tmp/my data.csv' --condition none --budget 5s --seeds 2 "
                               "--data.types '{zip: drop}' --split test --samples 40")  # fmt: skip
    (tmp_path / "comparison.json").write_text(json.dumps({"command": of_path.command}))
    assert standing(tmp_path).document["source"] == "my data"
    (tmp_path / "comparison.json").write_text("{")
    (tmp_path / "head.json").write_text("[" * 100_000)
    assert not standing(tmp_path).whole


def test_models_of_dates_are_compared(tmp_path: Path) -> None:
    """What is kept of a run is JSON, and rows of dates are none."""
    days = pa.array([18_000 + i % 90 for i in range(120)], pa.date32())
    pa.csv.write_csv(pa.table({"day": days, "x": [float(i % 7) for i in range(120)]}), tmp_path / "days.csv")
    result = quintet.compare(str(tmp_path / "days.csv"), families=["vae"], **ASKED, runs=tmp_path / "runs")
    assert [(entry["status"], entry.get("error")) for entry in result["models"]] == [("ok", None)]


# -- what people say of runs -------------------------------------------------------------------------------------------


def test_notes_stand_in_the_folder_and_on_the_card(tmp_path: Path) -> None:
    model = quintet.train("vae", data="iris", steps=2, preset="tiny", runs=tmp_path)
    run = model.run
    before = (run.path / "CARD.md").read_text()
    assert markdown(stored(Run(run.path))) == before
    assert notes_of(run.path).tags == ()
    change_notes(run.path, tags=[" good ", "good", "第一"], note="a\r\nb")
    change_notes(run.path, intended="Teaching.", licence="mit", archived=True)
    found = notes_of(run.path)
    assert (found.tags, found.note, found.archived) == (("good", "第一"), "a\nb", True)
    assert "## What it is for\n\nTeaching.\n\n## Licence\n\nmit" in markdown(stored(run))
    assert metadata(run, model.family, model.codecs)["license"] == "mit"
    (tmp_path / "copy").mkdir()
    assert FILE not in stage(run, tmp_path / "copy", "", {})


@pytest.mark.parametrize("bad", [{"tags": ["a,b"]}, {"tags": ["\x1b[31m"]}, {"tags": ["\ud800"]}, {"tags": ["x" * 41]},
                                 {"tags": [""]}, {"tags": list("abcdefghijklmnopqrstuvwxyz")}, {"tags": 5},
                                 {"note": "x" * 4001}, {"note": "\0"}, {"note": 5}, {"archived": "perhaps"},
                                 {"licence": "\u202e"}, {"other": 1}], ids=str)  # fmt: skip
def test_what_cannot_be_said_is_refused_and_the_old_stays(tmp_path: Path, bad: dict[str, Any]) -> None:
    change_notes(tmp_path, tags=["old"], note="old")
    with pytest.raises(UsageError, match="cannot be the"):
        change_notes(tmp_path, **bad)
    assert (notes_of(tmp_path).tags, notes_of(tmp_path).note) == (("old",), "old")


def test_of_damaged_notes_the_good_ones_are_read(tmp_path: Path) -> None:
    for text, tags in (("{", ()), ("[]", ()), ('{"tags": 5, "note": "n"}', ()), ('{"tags": ["a"], "new": 1}', ("a",))):
        (tmp_path / FILE).write_text(text)
        assert notes_of(tmp_path).tags == tags
    assert notes_of(tmp_path / "nowhere").note == ""


def test_notes_that_cannot_be_written_are_the_fault_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        change_notes(tmp_path / "nowhere", note="a")
