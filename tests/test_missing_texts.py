"""Files of texts in which some are missing, or hold half a character: every score is of the line it says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import quintet
from quintet.cli.main import main
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
