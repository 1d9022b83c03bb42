"""What users get wrong, and what machines lack, is named with its way out: never an error in quintet itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import quintet
from quintet.apps.cli import main
from quintet.core.errors import EnvironmentFault, UsageError
from quintet.model import Model


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Model:
    root = tmp_path_factory.mktemp("faults")
    return quintet.train("flow", data="moons", steps=2, run="flow", runs=root, config={"preset": "tiny"})


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Model:
    root = tmp_path_factory.mktemp("writers")
    (root / "t.txt").write_text("sch\u00f6n, \u4f60\u597d \u2588\n" * 400)
    config = {"preset": "tiny"}
    return quintet.train("autoregressive", data=str(root / "t.txt"), steps=2, run="text", runs=root, config=config)


@pytest.mark.parametrize("words", [["evaluate", "flow", "--split", "tset"], ["compare", "flow", "--split", "tset"],
                                   ["compare", "moons", "--split", "tset", "--steps", "1"]])  # fmt: skip
def test_a_split_that_is_none(flow: Model, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--runs", str(flow.run.path.parent)]) == 2
    said = capsys.readouterr().err
    assert "no split 'tset'" in said
    assert "did you mean test?" in said


@pytest.mark.parametrize("name", ["report.pdf", "report.json", "report"])
def test_a_report_is_html(flow: Model, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Known before anything is trained or measured."""
    assert main(["compare", "flow", "--runs", str(flow.run.path.parent), "-o", str(tmp_path / name)]) == 2
    assert "-o report.html" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["gpu", "cuda:0", "CPU", "", "tpu"])
def test_an_unknown_device(flow: Model, device: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        quintet.load(flow.run.path, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there(flow: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EnvironmentFault, match="no CUDA device"):
        quintet.load(flow.run.path, device="cuda")
    (tmp_path / "c.yaml").write_text("device: cuda\n")
    words = ["train", "flow", "--data", "moons", "--steps", "1", "--config", str(tmp_path / "c.yaml")]
    assert main([*words, "--runs", str(tmp_path / "runs")]) == 4
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("more", [[], ["--stream"]])
def test_standard_output_that_cannot_show_a_character(writer: Model, tmp_path: Path, more: list[str]) -> None:
    """The character is escaped, the answer and the file are there."""
    words = ["sample", "text", "--runs", str(writer.run.path.parent), "-n", "1", "--prompt", "sch\u00f6n \u4f60", *more]
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-m", "quintet", *words, "-o", "\u4f60.txt"], env=env, cwd=tmp_path,
                          capture_output=True, timeout=100)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u4f60" in done.stdout
    assert (tmp_path / "\u4f60.txt").read_text().startswith("sch\u00f6n \u4f60")
