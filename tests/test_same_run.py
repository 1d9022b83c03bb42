"""A run that is resumed is the run that began, or says what changed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import quintet
from quintet.cli.main import main
from quintet.core.errors import ConfigError
from quintet.runs.folder import Run
from quintet.runs.identity import edits
from quintet.training import checkpoint

STEPS = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run."""
    config = {"training": {"batch_size": 16, "save_every": 4, "sample_every": 4, "keep": 9}}
    root = tmp_path_factory.mktemp("runs")
    return quintet.train("flow", data="moons", preset="tiny", steps=STEPS, run="one", runs=root, config=config).run


@pytest.fixture
def cut(whole: Run, tmp_path: Path) -> Run:
    """The same, as if it had been killed behind its second checkpoint."""
    run = Run(tmp_path / "one")
    shutil.copytree(whole.path, run.path)
    shutil.rmtree(run.checkpoints / f"step-{STEPS:08d}")
    return run


def edit(run: Run, old: str, new: str) -> None:
    path = run.path / "config.yaml"
    text = re.sub(old, new, path.read_text(), count=1, flags=re.MULTILINE)
    assert text != path.read_text()
    path.write_text(text)


def weights(run: Run) -> dict[str, torch.Tensor]:
    groups, state = checkpoint.load(checkpoint.steps(run.checkpoints)[-1])
    assert state["step"] == STEPS
    return {f"{group}.{name}": value for group, tensors in groups.items() for name, value in tensors.items()}


EDITS = [
    (r"^  lr: .*", "  lr: 0.5", "training.lr: 0.002 -> 0.5", "quintet resume .* --changed-config"),
    (r"^  guidance: .*", "  guidance: 2.0", "sampling.guidance: 1.0 -> 2.0", "quintet resume .* --changed-config"),
    (r"^seed: 0", "seed: 7", "seed: 0 -> 7", "quintet resume .* --changed-config"),
    (r"^steps: .*", "steps: 80", f"steps: {STEPS} -> 80", "quintet resume .* --steps 80"),
    (r"^  condition: null", "  condition: label", "data.condition: None -> 'label'", "quintet train --config"),
    (r"^  width: .*", "  width: 24", "model.width: 32 -> 24", "quintet train --config"),
    (r"^family: flow", "family: vae", "family: 'flow' -> 'vae'", "quintet train --config"),
]


@pytest.mark.parametrize(("old", "new", "why", "fix"), EDITS, ids=[one[1].strip() for one in EDITS])
@pytest.mark.parametrize("checkpoints", [True, False], ids=["later", "before the first checkpoint"])
def test_a_changed_configuration_is_refused_with_the_difference(
    old: str, new: str, why: str, fix: str, checkpoints: bool, cut: Run
) -> None:
    if not checkpoints:
        shutil.rmtree(cut.checkpoints)
    edit(cut, old, new)
    with pytest.raises(ConfigError) as caught:
        quintet.resume(cut.path)
    assert caught.value.why == why
    assert re.search(fix, caught.value.fix)
    if "--changed-config" not in fix:
        with pytest.raises(ConfigError):
            quintet.resume(cut.path, changed_config=True)


def test_a_change_that_is_meant_is_written_down(cut: Run, capsys: pytest.CaptureFixture[str]) -> None:
    edit(cut, r"^  lr: .*", "  lr: 0.001")
    assert main(["resume", str(cut.path)]) == 3
    assert "training.lr: 0.002 -> 0.001" in capsys.readouterr().err
    assert main(["resume", str(cut.path), "--changed-config"]) == 0
    assert edits(cut, cut.config()) == []
    said = cut.manifest()["changes"]
    assert [(one["step"], one["what"], one["was"], one["now"]) for one in said] == [(8, "training.lr", 0.002, 0.001)]
    assert (
        "changed on purpose: training.lr from step 8 on, 0.001; before that 0.002" in (cut.path / "CARD.md").read_text()
    )
    assert [record["step"] for record in cut.metrics() if "changes" in record] == [8]
    assert main(["resume", str(cut.path)]) == 0


def test_another_layout_is_no_change(whole: Run, cut: Run) -> None:
    """Comments and blank lines say nothing; what quintet wrote itself is no edit, and goes on bit for bit."""
    edit(cut, r"^family", "# mine\n\nfamily")
    edit(cut, r"^# sha256.*", "")
    quintet.resume(cut.path)
    mine, others = weights(cut), weights(whole)
    assert mine.keys() == others.keys()
    assert all(torch.equal(mine[name], others[name]) for name in mine)
    assert "changes" not in cut.manifest()


def test_changed_data_leave_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "points.csv"
    rows = [f"{i / 7:.3f},{i % 5}" for i in range(80)]
    source.write_text("\n".join(["x,y", *rows]))
    words: list[Any] = ["flow", "--data", source, "--steps", 4, "--run", "one", "--runs", tmp_path, "--preset", "tiny"]
    assert main(["train", *map(str, words), "--training.save_every", "2"]) == 0
    run = Run(tmp_path / "one")
    shutil.rmtree(run.checkpoints / "step-00000004")
    before = run.manifest()["fingerprint"]
    source.write_text("\n".join(["x,y", *rows, "3.0,4"]))
    assert main(["resume", str(run.path)]) == 3
    assert f"quintet resume {run.path} --changed-data" in capsys.readouterr().err
    assert main(["resume", str(run.path), "--changed-data"]) == 0
    now = run.manifest()["fingerprint"]
    assert now != before
    assert [(one["step"], one["was"], one["now"]) for one in run.manifest()["changes"]] == [(2, before, now)]
    assert f"from step 2 on, {now}; before that {before}" in (run.path / "CARD.md").read_text()
    assert main(["resume", str(run.path)]) == 0  # these are its data now
