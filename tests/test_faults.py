"""What users get wrong, and what machines lack, is named with its way out: never an error in quintet itself."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch

import quintet
from quintet.api.model import Model
from quintet.cli.main import main
from quintet.core.errors import DataError, EnvironmentFault, QuintetError, UsageError
from quintet.sources.load import load_source


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
    assert "there is no split named 'tset'" in said
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


CALLS: dict[str, Callable[[Model, Any], object]] = {
    "log_prob": lambda model, none: model.log_prob(none),
    "encode": lambda model, none: model.encode(none),
    "decode": lambda model, none: model.decode(none),
    "reconstruct": lambda model, none: model.reconstruct(none),
    "interpolate": lambda model, none: model.interpolate(none, none),
    "rank": lambda model, none: model.rank(none),
    "classify": lambda model, none: model.classify(none),
    "complete": lambda model, none: model.complete(none),
    "write": lambda model, none: model.write(none),
    "stream": lambda model, none: list(model.stream(none)),
    "n_best": lambda model, none: model.n_best(prompts=none),
    "sample": lambda model, none: model.sample(2, condition=none),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "none", [[], (), np.zeros((0, 2), np.float32), pa.table({})], ids=["list", "tuple", "array", "table"]
)
def test_nothing_is_no_item(flow: Model, writer: Model, call: Callable[[Model, Any], object], none: Any) -> None:
    for model in (flow, writer):
        with pytest.raises(QuintetError):
            call(model, none)


def frame() -> pa.Table:
    return pa.table({"a": np.linspace(0, 1, 300), "b": ["left", "right", "gr\u00fcn"] * 100})


def packed(suffix: str) -> bytes:
    out = io.BytesIO()
    if suffix == ".npz":
        np.savez_compressed(out, x=np.random.default_rng(0).integers(0, 255, (50, 8, 8), np.uint8))
    elif suffix == ".npy":
        np.save(out, np.random.default_rng(0).normal(size=(50, 8)))
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(frame(), out)
    else:
        pyarrow.feather.write_feather(frame(), out, compression="uncompressed")
    return out.getvalue()


DAMAGE = """
import os, sys, warnings
from pathlib import Path
import numpy as np
from quintet.core.errors import QuintetError
from quintet.sources.load import load_source
warnings.simplefilter("ignore")
path, refused = Path(sys.argv[1]), 0
whole = path.read_bytes()
for seed in range(40):
    random, content = np.random.default_rng(seed), bytearray(whole)
    for _ in range(1 + seed % 20):
        content[random.integers(len(content))] = random.integers(256)
    path.write_bytes(content[: len(content) // 2] if seed == 0 else content)
    try:
        load_source(str(path))
    except QuintetError:
        refused += 1
assert refused
os._exit(0)  # on a busy machine Arrow's own threads now and then end a process while it ends
"""


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".feather", ".arrow", ".parquet"])
def test_a_damaged_file_is_named(suffix: str, tmp_path: Path) -> None:
    """In a process of its own, since Arrow ends the one that trusts a damaged file."""
    path = tmp_path / f"d{suffix}"
    path.write_bytes(packed(suffix))
    load_source(str(path))
    done = subprocess.run([sys.executable, "-c", DAMAGE, str(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("suffix", [".feather", ".arrow"])
def test_text_that_is_no_utf8_within_a_table(suffix: str, tmp_path: Path) -> None:
    """Arrow does not look; what it holds could not be shown later."""
    content = packed(suffix)
    assert b"gr\xc3\xbcn" in content
    (tmp_path / f"d{suffix}").write_bytes(content.replace(b"gr\xc3\xbcn", b"gr\xff\xfen"))
    with pytest.raises(DataError, match=f"d{suffix}: the file is not valid UTF-8 text"):
        load_source(str(tmp_path / f"d{suffix}"))
