"""Models that an app keeps between requests: loaded once, anew after more training, and within a stated memory."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import quintet
from quintet.core.errors import EnvironmentFault, QuintetWarning
from quintet.fit import fitting
from quintet.model.fitted import Fitted
from quintet.operations import warm
from quintet.operations.warm import Warm, bytes_of
from quintet.runs.folder import Run
from quintet.training import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warm")
    quintet.train("flow", data="moons", steps=2, preset="tiny", run="a", runs=root)
    return root / "a"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    for name in "abc":
        shutil.copytree(trained, tmp_path / name)
    return tmp_path


class Loads:
    """Loads models, and counts how often."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lock = threading.Lock()

    def __call__(self, path: Path) -> Fitted:
        with self.lock:
            self.names.append(path.name)
        return fitting.load(path)


def train_on(path: Path) -> None:
    """A further checkpoint, of other weights."""
    found = Run(path).latest()
    assert found is not None
    tensors = {group: {name: value + 1 if value.is_floating_point() else value for name, value in each.items()}
               for group, each in found.tensors.items()}  # fmt: skip
    step = int(found.state["step"]) + 1
    checkpoint.save(Run(path).checkpoints, step, tensors, found.state | {"step": step}, keep=3)


def swapped(runs: Path) -> bool:
    """Whether a run that is trained further has its new weights from the next request on, and those at work the old."""
    models = Warm(2**30)
    before = models(Run(runs / "a"))
    old = [p.clone() for p in before.family.parameters()]
    train_on(runs / "a")
    after = models(Run(runs / "a"))
    assert all(torch.equal(p, q) for p, q in zip(old, before.family.parameters(), strict=True))
    return before is not after and before.run.used() != after.run.used()


def test_a_run_that_was_trained_further_is_loaded_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert swapped(runs)
    monkeypatch.setattr(warm, "look", lambda paths: ())
    assert not swapped(runs)  # as it would be seen if nobody looked at the folder


def test_a_model_is_loaded_once_however_many_threads_ask(runs: Path) -> None:
    load = Loads()
    models, gate = Warm(2**30, load), threading.Barrier(8)

    def ask(i: int) -> Fitted:
        gate.wait(10)
        return models(Run(runs / "ab"[i % 2]))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert sorted(load.names) == ["a", "b"]
    assert len(set(map(id, found))) == 2


def test_the_least_recently_used_gives_way_under_the_limit(runs: Path) -> None:
    size = bytes_of(fitting.load(runs / "a"))
    parameters = sum(p.numel() * p.element_size() for p in fitting.load(runs / "a").family.parameters())
    assert size >= parameters > 1000
    load = Loads()
    models = Warm(2 * size, load)
    for name in ("a", "b", "a", "c", "a", "b"):
        models(Run(runs / name))
        assert sum(one.size for one in models.kept.values()) <= 2 * size
    assert load.names == ["a", "b", "c", "b"]  # c took the place of b, which was used before a
    with pytest.raises(EnvironmentFault, match="too large to be loaded") as error:
        Warm(size - 1)(Run(runs / "a"))
    assert f"{size:,} bytes" in error.value.why


def test_weights_that_are_loaded_stay_where_those_of_the_folder_are_damaged(runs: Path) -> None:
    load = Loads()
    models, run = Warm(2**30, load), Run(runs / "a")
    before = models(run)
    for folder in checkpoint.steps(run.checkpoints):
        for file in folder.glob("*.safetensors"):
            file.write_bytes(b"damage")
        (folder / checkpoint.MANIFEST).write_text("{}")
    with pytest.warns(QuintetWarning, match="the weights that are already loaded are used"):
        assert models(run) is before
    assert models(run) is before
    assert load.names == ["a", "a"]  # damaged files are read once
    shutil.rmtree(run.checkpoints)
    shutil.copytree(runs / "b" / "checkpoints", run.checkpoints)
    assert models(run) is not before
