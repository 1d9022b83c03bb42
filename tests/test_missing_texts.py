"""Files of texts in which some are missing, or hold half a character: every score is of the line it says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import quintet
from quintet.cli.main import main
from quintet.core.errors import QuintetWarning
from quintet.runs.task import Task
from quintet.sources.load import load_source

LINES = [f"line {i % 10} of {i}" for i in range(60)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("missing")
    (path / "lines.txt").write_text("\n".join(LINES))
    quintet.train("autoregressive", data=path / "lines.txt", steps=2, preset="tiny", run="writer", runs=path)
    return path


def test_a_missing_text_is_left_out_and_moves_no_other(root: Path) -> None:
    """Before, it was the empty text: trained on, and scored as one."""
    texts = [LINES[0], None, LINES[2], None, LINES[4]]
    rows = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
    (root / "some.jsonl").write_text("\n".join(rows))
    (root / "some.csv").write_text("text,label\n" + "".join(f"{text or ''},x\n" for text in texts))
    model = quintet.load("writer", runs=root)
    wanted = [float(model.log_prob(LINES[i]).values[0]) for i in (0, 2, 4)]
    for name in ("some.jsonl", "some.csv"):
        assert main(["score", str(model.run.path), "--data", str(root / name), "-o", str(root / "out.csv")]) == 0
        found = list(csv.DictReader((root / "out.csv").open()))
        assert [row["index"] for row in found] == ["0", "2", "4"]
        assert [float(row["nats"]) for row in found] == pytest.approx(wanted, abs=1e-4)
    dataset = load_source(str(root / "some.jsonl"), whole=True)
    assert list(dataset.items) == [text for text in texts if text]
    assert any("2 rows have no text: left out" in note for note in dataset.notes)


def test_half_a_character_is_replaced_and_said(root: Path) -> None:
    """Before, the whole file was refused, with the advice to convert it from Latin-1."""
    path = root / "halves.jsonl"
    path.write_text('{"text": "a whole \\ud83d\\ude00"}\n{"text": "a half \\ud83d"}\n')
    dataset = load_source(str(path), whole=True)
    assert list(dataset.items) == ["a whole 😀", "a half \ufffd"]
    assert any("1 lines hold half a character" in note for note in dataset.notes)


@pytest.fixture(scope="module")
def given(root: Path) -> Path:
    """A classifier of texts, and a translator."""
    (root / "labels.csv").write_text("text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(LINES)))
    (root / "pairs.csv").write_text("en,de\n" + "".join(f"the number {i},die zahl {i}\n" for i in range(80)))
    for run, target, condition, source in (("labels", "label", "text", "labels"), ("pairs", "de", "en", "pairs")):
        quintet.train("autoregressive", data=root / f"{source}.csv", target=target, condition=condition, steps=2,
                      preset="tiny", run=run, runs=root)  # fmt: skip
    return root


def test_a_label_is_that_of_the_line_it_says(given: Path) -> None:
    """Before, the rows behind a blank line had the number of the line before."""
    (given / "blank.txt").write_text(f"{LINES[0]}\n\n{LINES[3]}\n")
    (given / "blank.csv").write_text(f'text\n{LINES[0]}\n""\n{LINES[3]}\n')
    p = quintet.load("labels", runs=given).classify([LINES[0], LINES[3]])
    for name in ("blank.txt", "blank.csv"):
        words = ["score", str(given / "labels"), "--data", str(given / name), "-o", str(given / "labels-out.csv")]
        assert main(words) == 0
        rows = list(csv.DictReader((given / "labels-out.csv").open()))
        assert [row["index"] for row in rows] == ["0", "2"]
        assert [float(row["p_1"]) for row in rows] == pytest.approx(p["p_1"].to_pylist(), abs=1e-5)


def test_conditions_that_are_texts_come_from_their_column(given: Path) -> None:
    """Before, each line of the CSV was translated, its header too."""
    (given / "some.csv").write_text("en,de\nthe number 3,die zahl 3\nthe number 5,\n")
    for name, lines in (
        ("some.csv", ["the number 3", "the number 5"]),
        ("plain.txt", ["the number 3", "the number 5"]),
    ):
        (given / "plain.txt").write_text("the number 3\nthe number 5\n")
        words = ["sample", str(given / "pairs"), "--conditions", str(given / name), "-o", str(given / "out.jsonl")]
        assert main(words) == 0
        made = [json.loads(line)["text"] for line in (given / "out.jsonl").read_text().splitlines()]
        assert made == quintet.load("pairs", runs=given).sample(2, condition=lines)


def test_a_missing_translation_is_not_learnt_and_has_no_score(root: Path) -> None:
    """Before, it was the empty text: trained on, and scored as one."""
    rows = [(f"the number {i}", "" if i % 5 == 0 else f"die zahl {i}") for i in range(200)]
    (root / "gaps.csv").write_text("en,de\n" + "".join(f"{en},{de}\n" for en, de in rows))
    with pytest.warns(QuintetWarning, match="training rows have no de and are left out of training"):
        quintet.train("autoregressive", data=root / "gaps.csv", target="de", condition="en", steps=2, preset="tiny",
                      run="gaps", runs=root)  # fmt: skip
    model = quintet.load("gaps", runs=root)
    task = Task.of(model.config, load_source(str(root / "gaps.csv")), model.codecs)
    assert None in task.targets("train")
    with pytest.warns(QuintetWarning, match="test rows have no de and are left out"):
        left = task.examples("train", "validation", "test")
    assert all(None not in left.targets(split) and "" not in left.targets(split) for split in left.dataset.splits)
    with pytest.warns(QuintetWarning, match="test rows have no de and are left out"):
        assert model.evaluate()["metrics"]["items"] == len(left.targets("test"))
    assert main(["score", str(root / "gaps"), "--data", str(root / "gaps.csv"), "-o", str(root / "gaps-out.csv")]) == 0
    found = list(csv.DictReader((root / "gaps-out.csv").open()))
    assert len(found) == len(rows)
    assert [row["nats"] == "" for row in found] == [de == "" for _, de in rows]
    assert {row["note"] for row, (_, de) in zip(found, rows, strict=True) if not de} == {"there is no text"}
    assert not any(row["note"] for row, (_, de) in zip(found, rows, strict=True) if de)
