"""The trainer against its promises: order, resume bit for bit, checkpoints that notice damage, ranks that agree."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import quintet
from quintet.cli.main import main
from quintet.core.errors import CheckpointError, ConfigError, DataError, Diverged, EnvironmentFault, QuintetWarning
from quintet.core.family import Batch, Family, Loss
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete
from quintet.data.loader import Items, Loader
from quintet.families.flow import Flow
from quintet.modalities.text.codec import TextCodec
from quintet.registry import FAMILIES, family_class
from quintet.runs.folder import Run
from quintet.runs.lock import Lock, who_writes
from quintet.sources import load as sources
from quintet.training import checkpoint
from quintet.training import muon as muon_module
from quintet.training.budget import steps_for
from quintet.training.engine import Engine
from quintet.training.muon import hidden_matrices, orthogonal
from quintet.training.optim import EMA, Flat, learning_rate
from quintet.training.settings import TrainingSettings
from quintet.training.trainer import Trainer

BATCH = 16
EPOCH = 5  # 70 digits at 16 a step: step 5 crosses the end of the first epoch
STEPS = 8


# -- order -----------------------------------------------------------------------------------------------------------


def loader(n: int = 103, seed: int = 0) -> Loader:
    return Loader(Continuous((1,)), torch.arange(n, dtype=torch.float32)[:, None], None, seed=seed)


def test_every_epoch_is_another_permutation() -> None:
    source = loader()
    epochs = [source.order(epoch).tolist() for epoch in range(3)]
    assert all(Counter(epoch) == Counter(range(103)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert loader(seed=1).order(0).tolist() != epochs[0]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_order_and_noise_do_not_depend_on_ranks(ranks: int) -> None:
    whole = loader().batch(180, 0, 60, 60, stream="a")
    noise = whole.generator.draw(lambda n, g: torch.randn(n, 2, generator=g), torch.device("cpu"))
    cuts = [rank * 60 // ranks for rank in range(ranks + 1)]
    for start, stop in itertools.pairwise(cuts):
        part = loader().batch(180, start, stop - start, 60, stream="a")
        assert torch.equal(part.x, whole.x[start:stop])
        drawn = part.generator.draw(lambda n, g: torch.randn(n, 2, generator=g), torch.device("cpu"))
        assert torch.equal(drawn, noise[start:stop])


def test_rows_do_not_depend_on_where_they_are_cut() -> None:
    draw = lambda rows: rows.draw(lambda n, g: torch.randn(n, 3, generator=g), torch.device("cpu"))  # noqa: E731
    whole = draw(Rows(5, 0, 200))
    assert torch.equal(torch.cat([draw(Rows(5, 0, 70)), draw(Rows(5, 70, 1)), draw(Rows(5, 71, 129))]), whole)
    assert not torch.equal(draw(Rows(6, 0, 200)), whole)
    assert len({tuple(row) for row in whole.tolist()}) == 200


def windows() -> Loader:
    """Ten windows of the bytes 0 ... 79."""
    text = ["".join(map(chr, range(80)))]
    codec = TextCodec("discrete", TextCodec.Settings(tokens="bytes", items="stream", block=8)).fit(text)
    return Loader(codec.space, Items(codec, text, torch.device("cpu")), None, seed=0)


def test_windows_of_a_text_move_with_the_epoch() -> None:
    source = windows()
    seen = [source.batch(10 * epoch, 0, 10, 10).x for epoch in range(40)]
    starts = {int(row[0]) % 8 for batch in seen for row in batch}
    assert starts == set(range(8))
    assert all((row.diff() == 1).all() for batch in seen for row in batch), "none joins the end to the beginning"
    assert all(int(row[-1]) <= 79 and 79 in batch for batch in seen for row in batch)
    assert all(len(set(batch.flatten().tolist())) > 80 - 8 for batch in seen)


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_windows_do_not_depend_on_where_a_step_is_cut(cut: int) -> None:
    """Ten windows that begin in one epoch and end in the next."""
    source = windows()
    whole = source.batch(5, 0, 10, 10).x
    parts = [source.batch(5, 0, cut, 10).x, source.batch(5, cut, 10 - cut, 10).x]
    assert torch.equal(torch.cat(parts), whole)


# -- optimisation ----------------------------------------------------------------------------------------------------


def test_learning_rate_warms_up_and_falls() -> None:
    settings = TrainingSettings(lr=1.0, warmup=0.1, final_lr=0.2)
    rates = [learning_rate(settings, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9], rel=0.05)
    assert rates[100] == pytest.approx(0.2)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    line = TrainingSettings(lr=1.0, warmup=0.1, final_lr=0.2, decay="linear")
    for share in (0.25, 0.5, 0.75, 1.0):
        assert learning_rate(line, round(100 * share), 100) == pytest.approx(1 - 0.8 * share)
    assert rates[25] > 0.85 > learning_rate(line, 25, 100)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_ema_has_the_stated_width(width: float) -> None:
    """The standard deviation of its weights over time is `width` of the time trained."""
    value = torch.zeros(1)
    ema, steps = EMA([value], width), 2000
    t, mean, second = torch.arange(1.0, steps + 1), 0.0, 0.0
    with torch.no_grad():
        for step in range(1, steps + 1):
            value.fill_(step)
            ema.update(step)
            mean = float(ema.average[0])
        averages = EMA([value], width)
        for step in range(1, steps + 1):
            value.fill_(float(t[step - 1]) ** 2 / steps)
            averages.update(step)
            second = float(averages.average[0]) * steps
    assert ((second - mean**2) ** 0.5) / steps == pytest.approx(width, rel=0.03)


def test_an_average_of_every_fourth_step_is_that_of_all() -> None:
    """Beside the sum over all steps, on a path that bends."""
    value = torch.zeros(1, dtype=torch.float64)
    ema, steps, exact = EMA([value], 0.1), 1000, 0.0
    for step in range(1, steps + 1):
        value.fill_((step / steps) ** 3)
        ema.update(step)
        exact += (1 - (1 - 1 / step) ** (ema.gamma + 1)) * (float(value) - exact)
    assert float(ema.average[0]) == pytest.approx(exact, rel=0.01)


def test_what_a_step_gives_no_gradient_has_none_of_the_step_before() -> None:
    layer = nn.Linear(3, 2)
    flat = Flat(dict(layer.named_parameters()), TrainingSettings(), {})
    for loss, rows in ((lambda: layer(torch.ones(4, 3)).sum(), 4.0), (lambda: layer.weight.sum(), 1.0)):
        flat.clear()
        loss().backward()
        flat.collect()
        found = flat.views(flat.grad)
        assert found["weight"].eq(rows).all()
        assert found["bias"].eq(rows if rows > 1 else 0).all()


FAULTS = """
import resource, torch
from quintet.training.engine import Engine
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults()); Engine("cpu"); faults(); print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_is_freed_is_used_again() -> None:
    """Tensors of 64 MB: without an engine each is new to the process, with one it is the one before."""
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert after < 100 <= before


class Line(Family):
    """A linear least-squares fit of 0: the smallest family there is; NaN where x is."""

    name, accepts, likelihood = "line", (Continuous,), "none"

    def __init__(self) -> None:
        super().__init__(Continuous((8,)))
        self.layer = nn.Linear(8, 8)

    def loss(self, batch: Batch) -> Loss:
        return Loss(self.layer(batch.x).square().mean())

    def sample(self, n: int, cond: Tensor | None = None, **_: Any) -> Tensor:  # type: ignore[override]
        return torch.zeros(n, 8)


def line_trainer(x: Tensor, steps: int = 40, **settings: Any) -> Trainer:
    torch.manual_seed(0)
    options = TrainingSettings(**{"batch_size": 16, "precision": "fp32", **settings})
    return Trainer(
        Line(), Loader(Continuous((8,)), x, None, seed=0), options, seed=0, steps=steps, engine=Engine("cpu")
    )


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.family.parameters()])


def test_micro_batches_give_the_same_gradient() -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    whole, parts = line_trainer(x), line_trainer(x, micro_batch=5)
    whole.run()
    parts.run()
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=1e-6)
    assert (weights(whole) - weights(line_trainer(x))).abs().max() > 1e-3


def test_nan_skips_the_update_and_then_stops() -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    x[3] = float("nan")
    trainer = line_trainer(x, batch_size=4)
    trainer.run()
    assert bool(torch.isfinite(weights(trainer)).all())
    assert all(bool(torch.isfinite(average).all()) for average in trainer.ema.average)
    with pytest.raises(Diverged, match="NaN or infinite"):
        line_trainer(torch.full((64, 8), float("nan"))).run()


def test_a_budget_becomes_a_number_of_steps() -> None:
    x = torch.randn(64, 8)
    trainer = line_trainer(x)
    few, many = (
        steps_for(seconds, trainer.family, trainer.loader, trainer.settings, seed=0, engine=Engine("cpu"))[0]
        for seconds in (0.5, 2.0)
    )
    assert 1 < few < many
    assert torch.equal(weights(trainer), weights(line_trainer(x))), "timing must not train"


def test_slow_sample_grids_become_fewer() -> None:
    trainer = line_trainer(torch.randn(64, 8))
    given = (trainer.family, trainer.loader, trainer.settings)
    slow = steps_for(1.0, *given, seed=0, engine=Engine("cpu"), interval=lambda family: time.sleep(0.06))
    quick = steps_for(1.0, *given, seed=0, engine=Engine("cpu"), interval=lambda family: None)
    assert -(-slow[0] // slow[1]) <= 2
    slower = steps_for(0.5, *given, seed=0, engine=Engine("cpu"), interval=lambda family: time.sleep(0.6))
    assert slower[0] > 1
    assert -(-quick[0] // quick[1]) in (7, 8)


def test_bf16_trains_and_keeps_losses_in_float32() -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    trainer = line_trainer(x, precision="bf16", lr=1e-2)
    first, last = trainer.update(), {}
    for _ in range(39):
        last = trainer.update()
    assert last["model"] < first["model"]
    assert all(p.dtype == torch.float32 for p in trainer.family.parameters())


# -- muon ------------------------------------------------------------------------------------------------------------


class Matrices(nn.Module):
    """Hidden matrices of several shapes, two of them in one, and what is none."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {"a": (12, 20), "b": (40, 6), "c": (12, 20), "pair": (10, 6), "table": (30, 8), "bias": (5,)}
        for number, (name, shape) in enumerate(shapes.items()):
            start = torch.randn(shape, generator=torch.Generator().manual_seed(number))
            setattr(self, name, nn.Parameter(start))
        self.hidden_matrices = {"a": 1, "b": 1, "c": 1, "pair": 2}


def steps_of_muon(count: int = 6) -> tuple[Matrices, Matrices]:
    """`count` steps by us and by torch on the same random gradients; torch takes each half of the pair by itself."""
    ours, theirs = Matrices(), Matrices()
    settings = TrainingSettings(optimiser="muon", weight_decay=0.1, momentum=0.9, betas=(0.8, 0.95))
    flat = Flat(dict(ours.named_parameters()), settings, hidden_matrices(ours))
    halves = [nn.Parameter(half.clone()) for half in theirs.pair.detach().chunk(2)]
    common = {"lr": 0.02, "weight_decay": 0.1}
    muon = torch.optim.Muon([theirs.a, theirs.b, theirs.c, *halves], momentum=0.9, adjust_lr_fn="match_rms_adamw",
                            **common)  # fmt: skip
    adam = torch.optim.AdamW([{"params": [theirs.table]}, {"params": [theirs.bias], "weight_decay": 0.0}],
                             betas=(0.8, 0.95), **common)  # fmt: skip
    generator = torch.Generator().manual_seed(9)
    for _ in range(count):
        for name, p in ours.named_parameters():
            assert p.grad is not None
            p.grad.copy_(torch.randn(p.shape, generator=generator))
            getattr(theirs, name).grad = p.grad.clone()
        assert theirs.pair.grad is not None
        for half, gradient in zip(halves, theirs.pair.grad.chunk(2), strict=True):
            half.grad = gradient.clone()
        flat.step(0.02, 1.0)
        muon.step()
        adam.step()
    theirs.pair.data = torch.cat(halves).data
    return ours, theirs


def error_of_muon() -> float:
    """Largest difference from torch, as a share of what the steps changed; torch orthogonalises in bf16."""
    (ours, theirs), start = steps_of_muon(), Matrices()
    errors = [
        ((a - b).norm() / (b - c).norm()).item()
        for a, b, c in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True)
    ]
    return max(errors)


def test_muon_is_that_of_torch() -> None:
    assert error_of_muon() < 0.02


@pytest.mark.parametrize("bug", ["momentum", "blocks", "scale"])
def test_the_comparison_with_torch_notices(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bug == "momentum":
        true = muon_module.muon  # torch calls lerp as we do, so the bug is put beside it
        monkeypatch.setattr("quintet.training.optim.muon", lambda *a, momentum, **k: true(*a, momentum=0.8, **k))
    elif bug == "blocks":
        begin = Matrices.__init__

        def init(self: Matrices) -> None:
            begin(self)
            self.hidden_matrices["pair"] = 1

        monkeypatch.setattr(Matrices, "__init__", init)
    else:
        monkeypatch.setattr(muon_module, "max", min, raising=False)
    assert error_of_muon() > 0.05


def test_orthogonal_keeps_the_singular_vectors() -> None:
    g = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(g, full_matrices=False)
    inner = u.mT @ orthogonal(g) @ v.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert (inner - torch.diag_embed(values)).abs().max() < 1e-9
    assert 0.6 < values.min() < values.max() < 1.3
    assert orthogonal(torch.zeros(1, 3, 3)).isfinite().all()


def test_the_hidden_matrices_of_a_transformer() -> None:
    """All of its linear maps, and neither tables nor heads nor what is no matrix."""
    net = family_class("autoregressive")(Discrete((6,), 5))
    names = {name for name, p in net.named_parameters() if p in hidden_matrices(net)}
    linear = {f"{name}.weight" for name, m in net.net.named_modules(prefix="net") if isinstance(m, nn.Linear)}
    assert names == linear
    assert len(names) == 4 * net.settings.depth


def test_muon_says_where_it_has_nothing_to_do() -> None:
    with pytest.raises(ConfigError, match="muon cannot be used for this net"):
        line_trainer(torch.zeros(4, 8), optimiser="muon")


# -- resume ----------------------------------------------------------------------------------------------------------


MUON = "autoregressive-muon"
VARIANTS: dict[str, dict[str, Any]] = {
    "flow-transformer": {"kind": "transformer", "width": 16, "noise": 0.1},
    "diffusion-dit": {"net": "dit", "patch": 2},
    "vae-mixture": {"prior": 2, "warmup": 0.5},
    "gan-augmented": {"augment": ["colour", "translation", "cutout"]},
}
RUNS = [*FAMILIES, MUON, *VARIANTS]


def arguments(run: str, tmp_path: Path) -> dict[str, Any]:
    family = run.partition("-")[0]
    training = {"batch_size": BATCH, "save_every": 1, "keep": 100, "sample_every": STEPS}
    training["optimiser"] = "muon" if run == MUON else "adamw"
    return {"family": family, "data": "digits", "condition": "label", "preset": "tiny", "runs": tmp_path, "seed": 3,
            "config": {"training": training, "model": VARIANTS.get(run, {}),
                       "sampling": {"steps": 2} if family == "diffusion" else {}}}  # fmt: skip


def losses(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in run.metrics() if "quality" not in record]


def final(run: Run) -> dict[str, Tensor]:
    tensors, state = checkpoint.load(checkpoint.steps(run.checkpoints)[-1])
    assert state["step"] == STEPS
    return {f"{group}.{name}": value for group, entries in tensors.items() for name, value in entries.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def cut_at(run: Run, step: int) -> None:
    """As if the process had died after this checkpoint."""
    import shutil

    for folder in checkpoint.steps(run.checkpoints):
        if int(folder.name.split("-")[1]) > step:
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """One uninterrupted run of every family, and of every variant, with a checkpoint after every step. Here, digits are
    only a few.
    """
    torch.set_num_threads(1)
    root, true = tmp_path_factory.mktemp("runs"), sources.SOURCES["digits"]

    def few() -> sources.Dataset:
        digits = true()
        return replace(digits, splits={name: index[:70] for name, index in digits.splits.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "digits", few)
        yield {name: quintet.train(steps=STEPS, run=name, **arguments(name, root)).run for name in RUNS}


@pytest.mark.parametrize("cut", [1, EPOCH - 1, EPOCH, EPOCH + 1])
@pytest.mark.parametrize("name", RUNS)
def test_resume_is_bit_for_bit(name: str, cut: int, finished: dict[str, Run], tmp_path: Path) -> None:
    import shutil

    copy = Run(tmp_path / "copy")
    shutil.copytree(finished[name].path, copy.path)
    for again in (cut, min(cut + 2, STEPS - 1)):  # resumed twice
        cut_at(copy, again)
        quintet.resume(copy.path)
    assert same(final(copy), final(finished[name]))
    assert losses(copy) == losses(finished[name])


@pytest.mark.parametrize("name", ["vae", MUON])
@pytest.mark.parametrize("dropped", ["optimiser", "ema", "cursor"])
def test_the_resume_test_notices_what_is_dropped(dropped: str, name: str, finished: dict[str, Run], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    import shutil

    copy = Run(tmp_path / "copy")
    shutil.copytree(finished[name].path, copy.path)
    cut_at(copy, 4)
    true = Trainer.restore

    def forgetful(self: Trainer, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        fresh = self.tensors()
        kept = {group: {k: v.clone() for k, v in entries.items()} for group, entries in fresh.items()}
        true(self, tensors | ({"ema": kept["ema"]} if dropped == "ema" else {}), state)
        if dropped == "optimiser":
            for flat in self.flats.values():
                for moment in flat.moments.values():
                    moment.zero_()
        if dropped == "cursor":
            self.loader.seed += 1  # another order and other noise from here on

    monkeypatch.setattr(Trainer, "restore", forgetful)
    quintet.resume(copy.path)
    assert not same(final(copy), final(finished[name]))


def test_same_seed_same_run_other_seed_another(finished: dict[str, Run], tmp_path: Path) -> None:
    again = quintet.train(steps=STEPS, **arguments("vae", tmp_path))
    assert same(final(again.run), final(finished["vae"]))
    other = quintet.train(steps=STEPS, **(arguments("vae", tmp_path) | {"seed": 4}))
    assert not same(final(other.run), final(finished["vae"]))


def test_loaded_is_saved(finished: dict[str, Run], tmp_path: Path) -> None:
    for name, run in finished.items():
        model = quintet.load(run.path)
        path = model.save(tmp_path / name)
        assert (quintet.load(path).sample(4, seed=5) == model.sample(4, seed=5)).all()


def test_changed_data_are_refused(finished: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    copy = Run(tmp_path / "copy")
    shutil.copytree(finished["vae"].path, copy.path)
    cut_at(copy, STEPS - 1)
    true = sources.SOURCES["digits"]

    def changed() -> sources.Dataset:
        dataset = true()
        dataset.items[0, 0, 0, 0] += 1
        return dataset

    monkeypatch.setitem(sources.SOURCES, "digits", changed)
    with pytest.raises(DataError, match="the data have changed since this run began"):
        quintet.resume(copy.path)
    assert quintet.resume(copy.path, changed_data=True).run.path == copy.path


def test_a_run_has_one_writer(finished: dict[str, Run]) -> None:
    run = finished["gan"]
    other = Lock(run.path)
    other.acquire()
    with pytest.raises(EnvironmentFault, match=f"another process is writing this run\n  why: pid {os.getpid()}"):
        quintet.resume(run.path)
    other.release()
    assert who_writes(run.path) is None
    assert not (run.path / "lock.json").exists()


def test_a_number_that_the_system_gave_to_another_process_writes_no_run(tmp_path: Path) -> None:
    lock, note = Lock(tmp_path), tmp_path / "lock.json"
    lock.acquire()
    assert who_writes(tmp_path) is not None
    said = json.loads(note.read_text())
    note.write_text(json.dumps(said | {"pid": 1}))  # as if ours had ended, and its number were that one's
    assert who_writes(tmp_path) is None
    note.write_text(json.dumps({key: value for key, value in said.items() if key != "born"}))
    assert who_writes(tmp_path) is not None  # where nobody said when it began, a number counts
    lock.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": -1, "host": "x"}', '{"pid": 1e999}', '{"pid": 1}', "\0",
                                     "[" * 100_000, '{"pid": 99999999999999999999999, "host": "%s"}'])  # fmt: skip
def test_a_lock_that_a_killed_process_left_stops_nobody(finished: dict[str, Run], content: str) -> None:
    """The system holds the lock; what stands in lock.json only says who has it."""
    folder = finished["gan"].path
    lock, note = Lock(folder), folder / "lock.json"
    note.write_text(content.replace("%s", socket.gethostname()))
    who_writes(folder)
    lock.acquire()
    lock.release()
    assert not note.exists()


def test_of_two_processes_that_find_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    """Both wait for the same moment, again and again: the lock is never in two hands."""
    (tmp_path / "lock.json").write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
    code = """
import sys, time
from pathlib import Path
from quintet.core.errors import EnvironmentFault
from quintet.runs.lock import Lock
lock, mark = Lock(Path(sys.argv[1])), Path(sys.argv[1]) / "inside"
end = time.monotonic() + 0.5
while time.monotonic() < end:
    try:
        lock.acquire()
    except EnvironmentFault:
        continue
    mark.touch(exist_ok=False)
    mark.unlink()
    lock.release()
"""
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]


def test_verifying_a_run_that_is_being_written_reports_no_damage(tmp_path: Path) -> None:
    """Checkpoints come and go while they are verified, as they do in training with --training.keep 1."""
    run, stop = Run(tmp_path), threading.Event()

    def write() -> None:
        for step in range(1, 10_000):
            checkpoint.save(run.checkpoints, step, {"model": {"w": torch.full((1000,), step)}}, {"step": step}, keep=1)
            if stop.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            for folder in checkpoint.steps(run.checkpoints):
                checkpoint.intact(folder)  # raises what it takes for damage
            if checkpoint.steps(run.checkpoints):
                found = run.latest()
                assert found is not None
                assert float(found.tensors["model"]["w"][0]) == found.state["step"]
    finally:
        stop.set()
        writer.join()


def test_checkpoints_that_go_behind_their_listing_are_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, listing = Run(tmp_path), checkpoint.steps
    checkpoint.save(run.checkpoints, 1, {"model": {"w": torch.ones(1)}}, {"step": 1}, keep=1)

    def replaced_behind_it(root: Path) -> list[Path]:
        found = listing(root)
        monkeypatch.setattr(checkpoint, "steps", listing)
        checkpoint.save(root, 2, {"model": {"w": torch.ones(1)}}, {"step": 2}, keep=1)  # the writer is faster
        return found

    monkeypatch.setattr(checkpoint, "steps", replaced_behind_it)
    found = run.latest()
    assert found is not None
    assert found.state["step"] == 2


@pytest.mark.parametrize(("steps", "save_every"), [(2, 1), (3, 3), (30, 1)])
def test_no_checkpoint_holds_nan(tmp_path: Path, steps: int, save_every: int) -> None:
    """At a learning rate of 1e38 the weights are gone before the loss shows it."""
    config = {"training": {"lr": 1e38, "save_every": save_every}}
    with pytest.raises(Diverged):
        quintet.train("flow", data="moons", steps=steps, run="wild", runs=tmp_path, config=config)
    for folder in checkpoint.steps(tmp_path / "wild" / "checkpoints"):
        for group in checkpoint.load(folder)[0].values():
            assert all(bool(torch.isfinite(tensor.double()).all()) for tensor in group.values())


@pytest.mark.parametrize(("start", "most", "micro"), [(0, 5, 4), (3, 5, 4), (0, 0, None)])
def test_where_memory_does_not_suffice_a_batch_is_worked_on_in_pieces(
    start: int, most: int, micro: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a step on memory holds five items: of a batch of sixteen four are taken at once, and the batch stays."""
    steps, loss = [0], Flow.loss

    def hungry(self: Flow, batch: Batch) -> Loss:
        if self.training and steps[0] >= start and len(batch.x) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return loss(self, batch)

    def count(record: dict[str, Any]) -> None:
        steps[0] = record["step"]

    given: dict[str, Any] = {"data": "moons", "preset": "tiny", "steps": 6, "runs": tmp_path}
    training = {"batch_size": 16}
    monkeypatch.setattr(Flow, "loss", hungry)
    if micro is None:
        with pytest.raises(EnvironmentFault, match="out of memory"):
            quintet.train("flow", **given, config={"training": training}, report=count)
        return
    with pytest.warns(QuintetWarning, match="from now on the net computes 4 of the 16 items of a batch at once"):
        model = quintet.train("flow", **given, config={"training": training}, report=count)
    assert (model.run.config().training.batch_size, model.run.config().training.micro_batch) == (16, micro)
    monkeypatch.setattr(Flow, "loss", loss)
    same = quintet.train("flow", **given, config={"training": training | ({"micro_batch": micro} if not start else {})})
    for name, value in same.family.state_dict().items():
        assert torch.allclose(model.family.state_dict()[name], value, atol=0 if not start else 1e-5), name


def test_out_of_memory_is_the_machines_fault_and_leaves_no_empty_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr("quintet.training.trainer.Trainer.backward", full)
    words = ["train", "flow", "--data", "moons", "--runs", str(tmp_path)]
    for how in (["--steps", "3"], ["--budget", "1s"]):
        assert main([*words, *how]) == 4
        assert "--training.batch_size" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


# -- checkpoints -----------------------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    raw = bytearray(path.read_bytes())
    if how == "flip":
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    elif how == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "remove"])
@pytest.mark.parametrize(
    "file", ["model.safetensors", "ema.safetensors", "optimiser.safetensors", "state.json", "manifest.json"]
)
def test_damage_is_named_and_the_checkpoint_before_is_used(
    file: str, how: str, finished: dict[str, Run], tmp_path: Path
) -> None:
    import shutil

    copy = Run(tmp_path / "copy")
    shutil.copytree(finished["vae"].path, copy.path)
    cut_at(copy, 5)
    newest = checkpoint.steps(copy.checkpoints)[-1]
    damage(newest / file, how)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.verify(newest)
    assert file in caught.value.where
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = copy.latest()
    assert found is not None
    assert found.state["step"] == 4
    assert any(file in str(warning.message) for warning in seen)


def test_an_interrupted_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkpoints"
    tensors = {"model": {"w": torch.ones(3)}}
    checkpoint.save(root, 1, tensors, {"step": 1}, keep=2)
    calls = limit = 0

    def failing(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == limit:
            raise OSError(28, "No space left on device")

    for number in range(1, 6):  # each fsync of a save
        limit = number
        calls = 0
        monkeypatch.setattr(checkpoint, "sync", failing)
        with contextlib.suppress(OSError):
            checkpoint.save(root, 2, tensors, {"step": 2}, keep=2)
        monkeypatch.undo()
        checkpoint.sweep(root)
        newest = checkpoint.steps(root)[-1]
        checkpoint.verify(newest)
        assert newest.name in ("step-00000001", "step-00000002")


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, step, {"model": {"w": torch.ones(1)}}, {"step": step}, keep=2)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-00000004", "step-00000005"]


# -- ranks -----------------------------------------------------------------------------------------------------------

RANKS = """
import sys, torch
torch.set_num_threads(1)
import quintet
root, *names = sys.argv[1:]
# a small lr: Adam turns the rounding of a gradient near 0 into a share of it
config = {"training": {"batch_size": 32, "precision": "fp32", "save_every": 6, "sample_every": 1000, "lr": 3e-4}}
for name in names:
    # dropout's masks belong to a process
    model = {"flow": {"dropout": 0.0}, "autoregressive": {"reach_dropout": 0.0}}.get(name, {})
    quintet.train(name, data="digits", condition="label", steps=6, preset="tiny", run=name, runs=root,
                  config=config | {"model": model})
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """All families one after another, since most of the time of such a process is its beginning."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    launch = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]}
    for ranks, how in launch.items():
        command = [sys.executable, *how, str(script), str(tmp_path / ranks), *FAMILIES]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    for name in FAMILIES:
        a, b = (checkpoint.load(tmp_path / ranks / name / "checkpoints" / "step-00000006")[0] for ranks in launch)
        for group in ("model", "ema"):
            for key, value in a[group].items():
                torch.testing.assert_close(
                    b[group][key], value, rtol=0, atol=1e-5, msg=lambda m, key=key, name=name: f"{name}, {key}: {m}"
                )


# -- batches of similar length ---------------------------------------------------------------------------------------


def test_bucketed_batches_are_even_and_nothing_is_twice() -> None:
    lengths = torch.randint(1, 60, (1000,), generator=torch.Generator().manual_seed(0))
    x = torch.arange(1000.0)[:, None]
    source = Loader(Continuous((1,)), x, None, seed=0, lengths=lengths, group=16)
    plain = Loader(Continuous((1,)), x, None, seed=0)
    for epoch in range(2):
        order = source.order(epoch)
        assert len(order) == len(order.unique()) == 992
        spread = [lengths[part].max() - lengths[part].min() for part in order.view(-1, 16)]
        usual = [lengths[part].max() - lengths[part].min() for part in plain.order(epoch)[:992].view(-1, 16)]
        assert sum(spread) < 0.1 * sum(usual)
    first = torch.cat([source.batch(16 * step, 0, 16, 16).x for step in range(62)])
    assert torch.equal(first[:, 0].long(), source.order(0)), "a step is one batch"
    assert set(source.order(0).tolist()) != set(source.order(1).tolist()), "what is left out changes"
    means = [lengths[part].float().mean() for part in source.order(0).view(-1, 16)]
    assert abs(torch.stack(means[:31]).mean() - torch.stack(means[31:]).mean()) < 5, "long and short in any order"
