"""Forms are made of the schemas, and ask for what the command line asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from quintet.core.errors import ConfigError, QuintetError, UsageError
from quintet.fit import fitting
from quintet.operations import estimating
from quintet.operations.requests import CompareRequest, TrainRequest
from quintet.operations.training import plan
from quintet.registry import FAMILIES
from quintet.sources.load import load_source
from quintet.studio import forms, words

ROWS = "c,x\n" + "".join(f"{'ab'[i % 2]},{i % 7}\n" for i in range(80))


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """A small table."""
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return str(path)


@pytest.mark.parametrize(("data", "condition"), [("moons", "label"), ("digits", "label"), ("notes", None),
                                                  ("pydocs", None), ("rows", "c")])  # fmt: skip
@pytest.mark.parametrize("family", FAMILIES)
def test_every_default_typed_back_changes_nothing(family: str, data: str, condition: str | None, rows: str) -> None:
    """What a form shows is what holds, and each setting of the schemas is there once."""
    dataset = load_source(rows if data == "rows" else data)
    form = {"family": family, "data": dataset.source or dataset.name, "condition": condition or "", "preset": "tiny"}
    usual = plan(forms.train_request(form), dataset)
    shown = forms.fields(usual, dataset)
    assert len({one.key for one in shown}) == len(shown)
    assert {one.name for one in shown if one.section == "model"} == set(FAMILIES[family].Settings.model_fields)
    typed = {one.key: one.default for one in shown if one.section}
    again = plan(forms.train_request({**form, **typed}), dataset).model_dump()
    again["coding"] = {name: value for name, value in again["coding"].items() if name in usual.coding}
    assert again == usual.model_dump()
    assert all(one.about or one.name == "representation" for one in shown)


def test_fields_are_what_their_schemas_say() -> None:
    dataset = load_source("moons")
    shown = {one.key: one for one in forms.fields(fitting.plan("vae", dataset), dataset)}
    assert (shown["training.batch_size"].kind, shown["training.batch_size"].limits) == ("number", "≥ 1, ≤ 1,048,576")
    assert (shown["training.lr"].limits, shown["training.lr"].step) == ("> 0", "any")
    assert (shown["model.grid"].optional, shown["model.grid"].default) == (True, "")
    assert (shown["model.fsq_levels"].kind, shown["model.fsq_levels"].default) == ("list", "[8, 5, 5, 5]")
    assert shown["training.decay"].choices == ("cosine", "linear")
    assert shown["coding.strict"].kind == "boolean"
    assert "data.group" not in shown  # what is built in has its splits


def test_how_files_are_read_is_asked_of_files_alone(rows: str) -> None:
    dataset = load_source(rows)
    shown = {one.key: one for one in forms.fields(fitting.plan("flow", dataset), dataset)}
    assert shown["data.group"].choices == ("c", "x")
    assert "data.types" in shown
    assert "data.rate" not in shown


def test_what_is_empty_was_not_typed() -> None:
    request = forms.train_request({"family": "vae", "data": "moons", "seed": " ", "preset": "", "training.clip": ""})
    assert request == TrainRequest(family="vae", data="moons", training={"clip": None})
    with pytest.raises(UsageError, match="unknown field 'nets'"):
        forms.train_request({"family": "vae", "data": "moons", "nets.x": "1"})
    with pytest.raises(ConfigError, match="not a value"):
        forms.train_request({"family": "vae", "data": "moons", "model.x": "{"})


def test_a_comparison_takes_of_the_form_what_holds_for_all() -> None:
    form = {"data": "digits", "family": "vae", "budget": "2m", "condition": "label", "seeds": "3", "model.width": "9",
            "data.size": "16", "target": "", "seed": "1"}  # fmt: skip
    wanted = CompareRequest(what=("digits",), budget="2m", condition="label", seeds=3, reading={"size": "16"})
    assert forms.compare_request(form) == wanted
    assert forms.compare_request({"data": "digits"}).condition == "none"


def test_families_say_what_they_are_good_at_in_both_languages() -> None:
    for family in FAMILIES.values():
        assert 40 < len(family.about) < 120
        assert words.meaning("zh", family.about) != family.about


def test_an_estimate_says_how_many_steps_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "MINUTE", 0.5)
    dataset, small = load_source("moons"), {"width": "8", "depth": "1"}
    found = [estimating.estimate(TrainRequest(family="gan", data="moons", model=small, **how), dataset)
             for how in ({"budget": "10s"}, {"budget": "1000s"}, {"steps": 50})]  # fmt: skip
    assert found[1].steps > 20 * found[0].steps
    assert (found[0].seconds, found[2].steps, found[2].enough) == (10, 50, False)
    assert 0 < found[2].seconds < found[0].seconds
    assert found[0].bytes > 1e8
    with pytest.raises(QuintetError, match="greater than or equal"):
        estimating.estimate(TrainRequest(family="gan", data="moons", model={"width": "0"}), dataset)
