"""Exported files give what the model gives, to programs that know neither torch nor quintet."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

import quintet
from quintet.cli.main import main
from quintet.core.errors import Unsupported, UsageError
from quintet.core.random import Tape
from quintet.fit import fitting
from quintet.operations import exporting
from quintet.operations.exporting import examples, export, exported
from quintet.operations.requests import ExportRequest

pytest.importorskip("onnxruntime")
EXAMPLES = Path(__file__).parents[1] / "examples" / "export"
SCRIPTS = {"vae": "one_pass", "gan": "one_pass", "flow": "one_pass", "diffusion": "diffusion",
           "autoregressive": "autoregressive", "masked_diffusion": "masked_diffusion",
           "meanflow": "few_steps", "consistency": "few_steps"}  # fmt: skip

SMALL = {"width": 16, "depth": 1}
CELLS = pa.table({"x": np.arange(60) / 7, "k": ["a", "b", "c"] * 20, "n": list(range(60))})
WAVES = [np.sin(np.arange(200) * (0.1 + i / 100)).astype(np.float32) for i in range(40)]
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "table": (CELLS, {}),
    "row given a column": (CELLS, {"condition": "k"}),
    "label given a text": (pa.table({"text": [f"a text of {i % 5} words" for i in range(60)], "k": ["a", "b"] * 30}),
                           {"target": "k", "condition": "text"}),
    "text": ([f"line {i} of them" for i in range(60)], {}),
    "image": (np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3), np.uint8), {}),
    "audio": ("wave", {}),
    "series": ("days", {}),
}  # fmt: skip


def silent(_: object) -> None:
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def files(folder: Path) -> Any:
    """The exported folder of a family on digits, given their label, and its model; made once."""
    made: dict[str, tuple[Path, quintet.Model]] = {}

    def of(family: str) -> tuple[Path, quintet.Model]:
        if family not in made:
            own, last = {"layers": 2} if family == "flow" else {}, {}
            name = family
            if family in ("meanflow", "consistency"):
                own, last, name = {"learns": family}, {"select": "last"}, "diffusion"
            model = quintet.train(name, data="digits", condition="label", steps=2, runs=folder / "runs", run=family,
                                  config={"model": SMALL | own, "training": last})  # fmt: skip
            with torch.no_grad():
                for p in model.family.parameters():  # an untrained net is nearly linear: nothing would be seen
                    p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
            found = exporting.write_parts(model.fitted, folder / family, "onnx", silent)
            assert max(found.values()) <= exporting.LARGEST
            made[family] = folder / family, model
        return made[family]

    return of


class Replay:
    """A random source of NumPy that gives the numbers of a tape, in order."""

    def __init__(self, tape: Tape) -> None:
        self.numbers = [number.numpy() for number in tape.numbers]

    def next(self, shape: tuple[int, ...]) -> np.ndarray:
        number = self.numbers.pop(0)
        return number.reshape(shape)

    standard_normal = random = next


LONG = ("flow", "diffusion", "vae", "masked_diffusion", "consistency", "meanflow")
"""Families whose graphs take a quarter of a minute or more to be written: the slow suite does."""


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in SCRIPTS]
)
def test_a_hundred_samples_of_a_script_are_ours(family: str, files: Any) -> None:
    folder, model = files(family)
    codes = torch.randint(0, 10, (100, 1), generator=torch.Generator().manual_seed(1))
    tape = Tape(seed=2)
    with torch.no_grad():
        wanted = model.family.sample(100, codes, sampling=model.fitted.sampling(None), generator=tape)
    script = runpy.run_path(str(EXAMPLES / f"{SCRIPTS[family]}.py"))
    found = script["sample"](folder, 100, Replay(tape), codes.numpy()).reshape(wanted.shape)
    if wanted.dtype == torch.long:
        assert (found == wanted.numpy()).all()
    else:
        level = model.family.space.bin_width  # where a draw is rounded to a level, the last bit may decide
        off = np.abs(found - wanted.numpy()) > 1e-4
        assert off.mean() < 1e-3, off.mean()
        assert np.abs(found - wanted.numpy()).max() < 1.01 * level
    other = script["sample"](folder, 100, np.random.default_rng(3), codes.numpy())
    assert not np.allclose(other.reshape(wanted.shape), wanted.numpy())  # the control: other numbers, other samples


@pytest.mark.parametrize("family", [pytest.param("vae", marks=pytest.mark.slow), "autoregressive"])
def test_scripts_run_without_torch_and_quintet(family: str, files: Any, tmp_path: Path) -> None:
    folder, _ = files(family)
    code = f"""if True:
        import runpy, sys
        for name in ("torch", "quintet"):
            sys.modules[name] = None  # an import of it fails
        sys.argv = ["x", {str(folder)!r}, "3", "7"]
        runpy.run_path({str(EXAMPLES / SCRIPTS[family])!r} + ".py", run_name="__main__")"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert len(np.load(tmp_path / "samples.npy")) == 3


def test_scripts_are_short() -> None:
    for script in EXAMPLES.glob("*.py"):
        assert len(script.read_text().splitlines()) <= 30, script


def test_export_json_says_how(files: Any) -> None:
    folder, model = files("vae")
    facts = json.loads((folder / "export.json").read_text())
    assert facts["weights"] == model.run.used().sha256
    assert facts["codecs"]["x"]["state"]["levels"] == 17
    assert {name: [one["name"] for one in part["inputs"]] for name, part in facts["parts"].items()} == {
        "encode": ["x", "cond"], "decode": ["z", "cond"], "sample": ["noise_0", "noise_1", "noise_2", "noise_3", "cond"]
    }  # fmt: skip


def test_a_file_that_differs_is_refused(files: Any, tmp_path: Path) -> None:
    """The control of verification: other weights than those that were written."""
    _, model = files("gan")
    family, sampling = model.family, model.fitted.sampling(None)
    parts, others = (family.parts(*examples(model.fitted, n), sampling) for n in (2, 5))
    form = exporting.FORMATS["onnx"]

    def damaged(program: Any, part: Any, path: Path) -> None:
        with torch.no_grad():
            for p in family.parameters():
                p.mul_(1.001)
        form.write(program, part, path)
        with torch.no_grad():
            for p in family.parameters():
                p.div_(1.5)

    state = {name: value.clone() for name, value in family.state_dict().items()}
    with pytest.raises(Unsupported, match="differs from the model"):
        exported(parts["sample"], others["sample"], tmp_path / "sample.onnx", form._replace(write=damaged), "x")
    assert not (tmp_path / "sample.onnx").exists()
    family.load_state_dict(state)


@pytest.mark.slow
def test_programs_of_torch(folder: Path, files: Any) -> None:
    files("flow")
    request = ExportRequest(run="flow", runs=folder / "runs", format="torch", output=str(folder / "programs"))
    done = export(request, silent)
    assert set(done.differences) == {"encode", "decode", "log_prob", "sample"}
    x = torch.rand(7, 1, 8, 8) * 2 - 1
    codes = torch.zeros(7, 1, dtype=torch.long)
    program = torch.export.load(folder / "programs" / "log_prob.pt2").module()
    loaded = fitting.load("flow", runs=folder / "runs")
    assert torch.allclose(program(x, codes), loaded.family.log_prob(x, codes), atol=1e-3)


def test_a_model_of_any_order_is_exported_in_the_natural_one(folder: Path) -> None:
    model = quintet.train("autoregressive", data="digits", steps=1, runs=folder / "runs", run="any-order",
                          config={"model": SMALL | {"order": "random", "positions": "learnt"}})  # fmt: skip
    export(ExportRequest(run="any-order", runs=folder / "runs", output=str(folder / "any-order")), silent)
    tape = Tape(seed=2)
    with torch.no_grad():
        wanted = model.family.sample(20, sampling=model.fitted.sampling(None), generator=tape)
    found = runpy.run_path(str(EXAMPLES / "autoregressive.py"))["sample"](folder / "any-order", 20, Replay(tape))
    assert (found == wanted.flatten(1).numpy()).all()


def test_a_model_that_reads_runs_of_symbols_is_exported_as_all_logits(folder: Path) -> None:
    model = quintet.train("autoregressive", data="digits", steps=2, condition="label", runs=folder / "runs", run="runs",
                          config={"model": SMALL | {"shorten": 8, "reach": None}})  # fmt: skip
    export(ExportRequest(run="runs", runs=folder / "runs", output=str(folder / "in-runs")), silent)
    tape, cond = Tape(seed=2), torch.full((20, 1), 3)
    with torch.no_grad():
        wanted = model.family.sample(20, cond, sampling=model.fitted.sampling(None), generator=tape)
    found = runpy.run_path(str(EXAMPLES / "runs_of_symbols.py"))["sample"](folder / "in-runs", 20, Replay(tape), 3)
    assert (found == wanted.flatten(1).numpy()).all()


def test_an_export_says_what_it_is(files: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder, model = files("vae")
    assert main(["inspect", str(folder)]) == 0
    told = capsys.readouterr().out
    for words in (
        "run by onnxruntime",
        "vae",
        str(model.run.used().sha256),
        "sample.onnx",
        "items x 1 x 8 x 8",
        "normal",
    ):
        assert words in told
    assert main(["inspect", str(folder / "decode.onnx"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["parts"]) == ["decode"]
    assert [one["name"] for one in found["parts"]["decode"]["inputs"]] == ["z", "cond"]
    assert found["provenance"]["run"] == "vae"
    shutil.copy(folder / "decode.onnx", tmp_path / "decode.onnx")
    for content, why in ((None, "in its folder"), ("{}", "describe an export"), ("[]", "not hold a JSON object"),
                         (json.dumps({"format": "onnx", "parts": {}}), "does not list this file")):  # fmt: skip
        if content is not None:
            (tmp_path / "export.json").write_text(content)
        assert main(["inspect", str(tmp_path / "decode.onnx")]) == 3
        assert why in capsys.readouterr().err


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="format"):
        ExportRequest(run="any", format="tflite")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", SCRIPTS)
def test_every_family_and_kind_of_data_is_exported_or_refused(family: str, kind: str, tmp_path: Path) -> None:
    """A contract: every file that is kept gives what the model gives, for any number of items; a refusal says why."""
    data, given = KINDS[kind]
    if kind == "audio":
        data = tmp_path / "sounds"
        data.mkdir()
        for i, wave in enumerate(WAVES):
            soundfile.write(data / f"{i}.wav", wave, 2000)
    model = quintet.train(family, data=data, steps=1, runs=tmp_path / "runs", run="one", preset="tiny", **given)
    found = exporting.write_parts(model.fitted, tmp_path / "out", "onnx", silent)
    print(f"{family} {kind}: {found}")
    assert found
    assert max(found.values()) <= exporting.LARGEST
