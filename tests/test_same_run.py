"""A run that is resumed is the run that began, or says what changed."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import quintet
from quintet.cli.main import main
from quintet.core.errors import ConfigError
from quintet.operations.hub import stage
from quintet.runs.card import card
from quintet.runs.folder import Run
from quintet.runs.identity import check_edits
from quintet.runs.records import Records
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
    assert check_edits(cut, allowed=False)[1] == []
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


# -- killed, again and again -------------------------------------------------------------------------------------------

KILLED: dict[str, list[str]] = {
    "patience": ["flow", "--data", "moons", "--training.patience", "2", "--training.lr", "0.3"],
    "vae": ["vae", "--data", "digits", "--condition", "label"],
    "gan": ["gan", "--data", "iris"],
    "autoregressive": ["autoregressive", "--data", "digits", "--training.optimiser", "muon"],
    "diffusion": ["diffusion", "--data", "moons"],
}
COMMON = ["--steps", "48", "--preset", "tiny", "--run", "one", "--resume", "auto", "--training.batch_size", "16",
          "--training.save_every", "16", "--training.sample_every", "6"]  # fmt: skip


def forked(words: list[str], until: Callable[[], bool] | None = None) -> int:
    """The exit code of a command in a process of its own, or -9: it is killed as soon as `until` says so."""
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os._exit(main(words))
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if until is not None and until():
            os.kill(child, signal.SIGKILL)
            done = os.waitpid(child, 0)
            break
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(done[1])


def all_of(run: Run) -> dict[str, Any]:
    """What has to be the same, bit for bit: every tensor of the newest and of the best, and every record."""
    found: dict[str, Any] = {}
    for folder in (*checkpoint.steps(run.checkpoints)[-1:], *checkpoint.steps(run.bests)):
        groups, state = checkpoint.load(folder)
        found[f"{folder.parent.name}/{folder.name}"] = {
            key: value for key, value in state.items() if key not in ("seconds", "metrics", "run")
        }
        found |= {f"{folder.parent.name}.{group}.{name}": value.numpy().tobytes() for group, tensors in groups.items()
                  for name, value in tensors.items()}  # fmt: skip
    found["metrics"] = [{key: value for key, value in one.items() if key != "seconds"} for one in run.metrics()]
    found["samples"] = {file.name: file.read_bytes() for file in sorted((run.path / "samples").iterdir())}
    found["config"] = run.config()
    return found


def killed(name: str, kills: int, seed: int, root: Path) -> Run:
    """A run that the same command begins and goes on with, killed each time once it has come a random way further."""
    words, rng = ["train", *KILLED[name], *COMMON, "--runs", str(root)], random.Random(seed)
    metrics, run = root / "one" / "metrics.jsonl", Run(root / "one")

    def size() -> int:
        return metrics.stat().st_size if metrics.exists() else 0

    for number in range(kills):
        further = size() + rng.randrange(200, 2500) if number else 1  # first before there is a checkpoint
        wait = rng.random() * 0.02
        assert forked(words, lambda further=further, wait=wait: size() >= further and not time.sleep(wait)) in (-9, 0)
        assert number or not checkpoint.steps(run.checkpoints)
    assert main(words) == 0  # in this process, so that its children need not load the library once more
    return run


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An uninterrupted run that ends early."""
    run = killed("patience", 0, 0, tmp_path_factory.mktemp("early"))
    assert run.metrics()[-1]["step"] < 48
    return all_of(run)


def test_a_run_that_was_killed_is_the_uninterrupted_one(early: dict[str, Any], tmp_path: Path) -> None:
    assert differing(all_of(killed("patience", 3, 0, tmp_path)), early) == []


def test_the_comparison_notices_looks_that_are_counted_twice(
    early: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Records, "rewind", lambda records, step, head: None)
    assert "metrics" in differing(all_of(killed("patience", 1, 0, tmp_path)), early)


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_runs_that_were_killed_often_are_the_uninterrupted_one(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    whole, same = all_of(killed(name, 0, 0, tmp_path / "whole")), 0
    for seed in range(10):
        found = all_of(killed(name, 4, seed, tmp_path / str(seed)))
        assert differing(found, whole) == [], seed
        same += 1
    record_property("reached", f"{name}: {same} of 10 runs, each killed four times, are bit for bit the whole one")


def test_a_run_that_was_killed_before_it_had_begun_says_how_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "flow", "--data", "moons", "--preset", "tiny", "--steps", "2", "--run", "one"]
    (tmp_path / "one" / "codec").mkdir(parents=True)
    (tmp_path / "one" / ".lock").touch()
    assert main(["resume", "one", "--runs", str(tmp_path)]) == 2
    assert "has not begun yet" in capsys.readouterr().err
    assert main([*words, "--runs", str(tmp_path)]) == 0
    assert main(["resume", "one", "--runs", str(tmp_path)]) == 0


# -- what others see ---------------------------------------------------------------------------------------------------


def test_data_that_were_moved_are_found_again_and_their_paths_stay_at_home(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "points.csv", tmp_path / "moved.csv"
    source.write_text("\n".join(["x,y", *(f"{i / 7:.3f},{i % 5}" for i in range(80))]))
    config = {"training": {"save_every": 2}}
    run = quintet.train("flow", data=str(source), steps=4, run="one", runs=tmp_path, config=config).run
    shutil.rmtree(run.checkpoints / "step-00000004")
    source.rename(elsewhere)
    edit(run, re.escape(str(source)), str(elsewhere))
    model = quintet.resume(run.path, changed_config=True)
    assert [one["now"] for one in run.manifest()["changes"]] == ["moved.csv"]
    assert "from step 2 on, moved.csv; before that points.csv" in (run.path / "CARD.md").read_text()
    (tmp_path / "staged").mkdir()
    files = stage(run, tmp_path / "staged", card(run, model.family, model.codecs), {})
    assert "manifest.json" in files
    assert not [file for file in files if str(tmp_path).encode() in (tmp_path / "staged" / file).read_bytes()]
