"""What cannot fit is refused before it is allocated: every size has its bounds, and so has what they come to."""

from __future__ import annotations

import time
import typing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import annotated_types
import pytest
import torch
import torch.nn.modules.module as module_hooks
from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from torch import Tensor, nn

import quintet
from quintet import registry
from quintet.api.model import Model
from quintet.cli.main import main
from quintet.core import memory as memory_module
from quintet.core.errors import ConfigError, EnvironmentFault, QuintetWarning
from quintet.core.memory import NUMBER, counted, memory
from quintet.core.settings import Settings
from quintet.families.flow import Flow
from quintet.registry import FAMILIES, family_class
from quintet.runs.config import DataSettings, RunConfig
from quintet.training import checkpoint
from quintet.training.settings import TrainingSettings

FAMILY_NAMES = list(FAMILIES)
SECTIONS: dict[str, type[Settings]] = {
    **{f"{name}.model": family_class(name).Settings for name in FAMILY_NAMES},
    **{f"{name}.sampling": family_class(name).Sampling for name in FAMILY_NAMES},
    **{f"coding.{name}": registry.codec_class(name).Settings for name in registry.CODECS},
    "training": TrainingSettings,
    "data": DataSettings,
    "run": RunConfig,
}
RECORDED = {"plan", "scale"}
"""Fields that no size follows from: what a run records of itself, and two values of a picture."""


def bounds(metadata: list[Any]) -> tuple[float | None, float | None]:
    """(least, most) that the constraints of a field say."""
    found: dict[str, float] = {}
    for one in metadata:
        for part in one.metadata if isinstance(one, FieldInfo) else [one]:
            for name in ("ge", "gt", "le", "lt"):
                if hasattr(part, name):
                    found[name] = getattr(part, name)
    return found.get("ge", found.get("gt")), found.get("le", found.get("lt"))


def whole(hint: Any) -> bool:
    """Whether a field is a whole number, or none."""
    return hint is int or (int in typing.get_args(hint) and float not in typing.get_args(hint))


def boundless(settings: type[Settings]) -> list[str]:
    """Fields that are a whole number, or a sequence of them, with no least or no most."""
    found = []
    for name, field in settings.model_fields.items():
        inner = typing.get_args(field.annotation)[:1] if typing.get_origin(field.annotation) is tuple else ()
        parts = [(field.annotation, list(field.metadata))]
        parts += [typing.get_args(one)[:2] for one in inner if typing.get_origin(one) is typing.Annotated]
        for hint, metadata in parts:
            limits = bounds(metadata if isinstance(metadata, list) else [metadata])
            if whole(hint) and None in limits and name not in RECORDED:
                found.append(name)
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_every_whole_number_has_bounds(section: str) -> None:
    assert boundless(SECTIONS[section]) == []


def test_a_number_without_bounds_is_noticed() -> None:
    class Loose(Settings):
        fine: int = Field(1, ge=1, le=5)
        free: int = 1
        most: int | None = Field(None, ge=1)
        each: tuple[typing.Annotated[int, Field(ge=1)], ...] = ()

    assert boundless(Loose) == ["free", "most", "each"]
    assert annotated_types.Le(5) in Loose.model_fields["fine"].metadata


@pytest.mark.parametrize("section", SECTIONS)
def test_each_bound_and_one_past_it(section: str) -> None:
    settings = SECTIONS[section]
    for name, field in settings.model_fields.items():
        least, most = bounds(list(field.metadata))
        if not whole(field.annotation) or least is None or most is None:
            continue
        rest = {"family": "flow", "data": {"source": "moons"}, "codec": "points"} if section == "run" else {}
        rest |= {"source": "moons"} if section == "data" else {}
        for value, works in ((most, True), (most + 1, False), (least, True), (least - 1, False), (10**30, False)):
            try:
                settings(**rest, **{name: int(value)})
                said = []
            except ValidationError as error:
                said = [one["type"] for one in error.errors() if one["loc"] == (name,)]
            assert any("than" in one or one == "multiple_of" for one in said) is not works, (name, value, said)


@pytest.mark.parametrize(("family", "size"), [("flow", "layers"), ("flow", "depth"), ("vae", "depth"), ("gan", "depth"),
                                              ("autoregressive", "depth"), ("diffusion", "depth")])  # fmt: skip
def test_ten_to_the_nine_layers_are_refused_at_once(family: str, size: str, tmp_path: Path) -> None:
    began = time.perf_counter()
    with pytest.raises(ConfigError, match=f"model.{size}"):
        quintet.train(family, data="moons", steps=1, runs=tmp_path, config={"model": {size: 10**9}})
    assert time.perf_counter() - began < 5
    assert list(tmp_path.iterdir()) == []


# -- memory ----------------------------------------------------------------------------------------------------------


def test_memory_is_that_of_the_machine_of_its_container_or_of_its_own_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = memory()
    assert 2**28 < machine < 2**50
    monkeypatch.setattr("resource.getrlimit", lambda kind: (2**28, -1))
    assert memory() == 2**28
    monkeypatch.setattr(memory_module, "CONTAINERS", (str(tmp_path / "absent"), str(tmp_path / "memory.max")))
    (tmp_path / "memory.max").write_text("max\n")
    assert memory() == 2**28
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory() == 1000


def few(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """As if the machine had so many bytes."""
    monkeypatch.setattr(memory_module, "memory", lambda: size)
    monkeypatch.setattr("quintet.training.budget.memory", lambda: size)


def test_a_net_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Linear] = []

    def net() -> None:
        made.clear()
        for _ in range(10):
            made.append(nn.Linear(99, 100))

    few(monkeypatch, NUMBER * 5 * 30_000)
    with counted(1, fix=""):
        net()
    assert len(made) == 10
    with pytest.raises(EnvironmentFault, match="do not fit into memory") as caught, counted(5, fix="less"):
        net()
    assert len(made) == 3
    assert caught.value.fix == "less"
    net()  # outside nothing is counted
    assert len(made) == 10


def test_buffers_count_once_for_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory(nn.Module):
        def __init__(self, numbers: int) -> None:
            super().__init__()
            self.register_buffer("items", torch.zeros(numbers))

    few(monkeypatch, NUMBER * 1000)
    with counted(5, fix="less"):
        Memory(1000)
    with pytest.raises(EnvironmentFault, match="do not fit into memory"), counted(5, fix="less"):
        Memory(1001)
    Memory(1001)  # outside nothing is counted


def test_threads_that_build_nets_at_the_same_time_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's table of hooks is one for all threads: whoever writes into it while another builds a net ends that."""
    few(monkeypatch, NUMBER * 1000)
    hooks = module_hooks._global_parameter_registration_hooks
    before = dict(hooks)
    with counted(1, fix=""), ThreadPoolExecutor(1) as other:
        assert dict(hooks) == before
        assert other.submit(nn.Linear, 99, 100).result().out_features == 100  # larger, but nobody counts there
        with pytest.raises(EnvironmentFault, match="do not fit into memory"):
            nn.Linear(99, 100)


@pytest.mark.parametrize("how", [["--steps", "1"], ["--budget", "2s"], ["--steps", "1", "--dry-run"]])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_model_that_cannot_fit_is_the_machines_fault_and_leaves_no_run(
    family: str, how: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", family, "--data", "iris", "--runs", str(tmp_path), "--preset", "tiny"]
    few(monkeypatch, 20_000)
    assert main([*words, *how]) == 4
    assert "do not fit into memory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_number_of_parameters_that_cannot_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, 2**24)
    with pytest.raises(EnvironmentFault, match="do not fit"):
        quintet.train("gan", data="moons", steps=1, runs=tmp_path, config={"parameters": 10**12})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return quintet.train("flow", data="moons", steps=2, runs=tmp_path_factory.mktemp("limits"),
                         config={"preset": "tiny"})  # fmt: skip


def test_samples_that_cannot_fit(flow: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, NUMBER * 2 * 1000)
    assert len(flow.sample(1000)) == 1000
    with pytest.raises(EnvironmentFault, match="1,001 items do not fit into memory"):
        flow.sample(1001)


def test_a_batch_that_cannot_fit_is_worked_on_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps, up to rounding; and as it was where there is room."""
    monkeypatch.setattr("quintet.training.budget.LARGE", 100)

    def trained() -> tuple[int | None, dict[str, Tensor]]:
        training = {"batch_size": 64, "precision": "fp32"}
        config = {"preset": "tiny", "model": {"dropout": 0.0}, "training": training}
        model = quintet.train("flow", data="moons", steps=3, runs=tmp_path, config=config)
        return model.run.config().training.micro_batch, model.family.state_dict()

    micro, one = trained()
    assert micro is None
    monkeypatch.setattr("quintet.training.budget.memory", lambda: 2**15)
    micro, other = trained()
    assert micro is not None
    assert 1 <= micro < 64
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_a_look_that_lacks_memory_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on: what it looks at is not what it is for."""

    def hungry(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(Flow, "sample", hungry)
    config = {"preset": "tiny", "training": {"sample_every": 2}}
    with pytest.warns(QuintetWarning, match="a look was left out: out of memory"):
        model = quintet.train("flow", data="moons", steps=4, runs=tmp_path, config=config)
    assert [folder.name[-1] for folder in checkpoint.steps(model.run.checkpoints)] == ["3", "4"]
    assert all(record.get("quality") is None for record in model.run.metrics())
