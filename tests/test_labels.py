"""Labels that are missing or new, and what can be said with few reference items."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import quintet
from quintet.cli.main import main
from quintet.core.errors import QuintetWarning
from quintet.metrics.labels import label_figures
from quintet.runs.task import Task
from quintet.sources.load import load_source


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> quintet.Model:
    """Of rows whose text says the label; a fifth of the labels is blank."""
    folder = tmp_path_factory.mktemp("labels")
    rows = "".join(f"item {i} {'good' if i % 2 else 'bad'},{'' if i % 5 == 0 else 'up' if i % 2 else 'down'}\n"
                   for i in range(400))  # fmt: skip
    (folder / "rows.csv").write_text("text,kind\n" + rows)
    with pytest.warns(QuintetWarning, match="training rows have no kind and are left out of training"):
        return quintet.train("autoregressive", data=str(folder / "rows.csv"), target="kind", condition="text",
                             steps=2, preset="tiny", runs=folder / "runs")  # fmt: skip


def test_a_blank_label_is_no_class_and_counts_for_nothing(model: quintet.Model) -> None:
    assert set(model.labels or ()) == {"up", "down"}
    dataset = load_source(model.config.data.source)
    own = Task.of(model.config, dataset).targets("test").column(0).to_pylist()
    assert None in own
    with pytest.warns(QuintetWarning, match=f"{own.count(None)} of {len(own)} items have no kind"):
        figures = model.evaluate()["metrics"]
    assert figures["items"] == len(own) - own.count(None)
    assert figures["unlabelled"] == own.count(None)
    assert figures["labels"] == 2


def test_every_row_is_predicted_and_a_new_label_is_wrong(
    model: quintet.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.csv").write_text("text,kind\nitem 1 good,up\nitem 2 bad,\nitem 3 good,sideways\nitem 4 bad,down\n")
    command = [
        "score",
        str(model.run.path),
        "--data",
        str(tmp_path / "new.csv"),
        "-o",
        str(tmp_path / "out.csv"),
        "--json",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["items"] == 4
    lines = (tmp_path / "out.csv").read_text().splitlines()
    names = lines[0].replace('"', "").split(",")
    rows = [dict(zip(names, line.replace('"', "").split(","), strict=True)) for line in lines[1:]]
    assert [row["label"] for row in rows] == ["up", "", "sideways", "down"]
    assert all(row["predicted"] in ("up", "down") for row in rows)
    assert "p_None" not in names
    assert [row["nats"] == "" for row in rows] == [False, True, True, False]
    right = sum(row["predicted"] == row["label"] for row in rows)
    assert found["labels"]["accuracy"] == right / 3
    assert (found["labels"]["items"], found["labels"]["unseen"], found["labels"]["unlabelled"]) == (3, 1, 1)


def test_an_unseen_label_is_wrong_and_has_no_log_loss() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    found = label_figures(p, np.array([0, 2, 1]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["log_loss"] == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2)
    assert (found["items"], found["unseen"], found["labels"]) == (3, 1, 2)


def test_a_rank_says_what_few_reference_items_can_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = quintet.train("flow", data="iris", steps=2, preset="tiny", runs=tmp_path / "runs", run="r")
    n = len(load_source("iris").index("validation"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["score", str(model.run.path), "--rank", "-o", str(tmp_path / "ranks.csv")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"all of {n} usual ones" in said
    assert f"1 time in {n + 1}" in said
    assert "99 %" not in said
    reference = load_source("iris").rows("validation")
    with pytest.warns(QuintetWarning, match=f"p is at least 1/{n + 1}") as seen:
        model.rank(load_source("iris").rows("test"), reference=reference)
    assert [one.filename for one in seen] == [__file__], "the line that called, not one of ours or of torch"
    chosen = model.config.training.model_copy(update={"select": "held_out"})
    model.fitted.config = model.config.model_copy(update={"training": chosen})
    assert model.fitted.held_out()[0].equals(load_source("iris").rows("test"))  # validation items chose the weights
    with pytest.warns(QuintetWarning, match="also chose the weights"):
        assert len(model.fitted.held_out(test=False)[0]) == n


def test_a_blank_condition_is_left_out_of_training_and_of_what_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{i % 2 + i / 400},{i % 7},{'' if i % 5 == 0 else 'up' if i % 2 else 'down'}\n" for i in range(200))
    (tmp_path / "rows.csv").write_text("x,y,kind\n" + rows)
    with pytest.warns(QuintetWarning, match="training rows have no kind and are left out of training"):
        model = quintet.train("vae", data=str(tmp_path / "rows.csv"), condition="kind", steps=2, preset="tiny",
                              runs=tmp_path / "runs", run="r")  # fmt: skip
    dataset = load_source(str(tmp_path / "rows.csv"))
    own = dataset.column("kind", "test").column(0).to_pylist()
    with pytest.warns(QuintetWarning, match=f"{own.count(None)} of {len(own)} test rows have no kind and are left out"):
        figures = model.evaluate(samples=200)
    assert figures["metrics"]["items"] == len(own) - own.count(None)
    assert len(figures["scored"]) == len(own) - own.count(None)
    (tmp_path / "new.csv").write_text("x,y,kind\n0.1,1,up\n0.3,2,\n")
    assert main(["score", str(model.run.path), "--data", str(tmp_path / "new.csv"), "-o", str(tmp_path / "o.csv")]) == 3
    assert "column kind, row 2" in capsys.readouterr().err


def test_windows_that_chose_the_weights_are_no_reference(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("".join(f"Line {i} of a long text. " for i in range(600)))
    model = quintet.train("autoregressive", data=str(tmp_path / "long.txt"), steps=1, preset="tiny",
                          runs=tmp_path / "runs")  # fmt: skip
    assert model.codecs["x"].stream
    dataset = load_source(str(tmp_path / "long.txt"))
    for select, split in (("last", "validation"), ("held_out", "test")):
        chosen = model.config.training.model_copy(update={"select": select, "patience": None})
        model.fitted.config = model.config.model_copy(update={"training": chosen})
        assert "".join(model.fitted.held_out()[0]) == "".join(Task.of(model.config, dataset).targets(split))
