"""What is fed to formulas: data in which item, class, condition and split can be read off the values themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

import quintet
from quintet.cli.sources import some_of
from quintet.core.family import Family
from quintet.core.random import some
from quintet.core.spaces import Continuous
from quintet.evaluation import tasks
from quintet.evaluation.bench import Bench
from quintet.fit.api import plan
from quintet.fit.session import Session
from quintet.metrics import classifiers, samples
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.text.codec import TextCodec
from quintet.model.inputs import read_items
from quintet.registry import MODALITIES, modality_of
from quintet.runs.restoring import make_family
from quintet.runs.task import Task
from quintet.sources.load import Dataset, load_source
from quintet.training import checkpoint
from quintet.training.engine import Engine

CLASSES, EACH = 10, 800


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images whose first pixels are the number of the item (two digits to the base 100) and its class, sorted by it."""
    number = np.arange(CLASSES * EACH)
    x = np.zeros((len(number), 4, 4), np.uint8)
    x[:, 0, 0], x[:, 0, 1], x[:, 0, 2], x[:, 0, 3] = number // 100, number % 100, number // EACH, 255
    path = tmp_path_factory.mktemp("sorted") / "sorted.npz"
    np.savez(path, x=x, label=np.array([f"class {i}" for i in number // EACH]))
    return str(path)


@pytest.fixture(scope="module")
def dataset(source: str) -> Dataset:
    found = load_source(source)
    assert min(len(found.index(split)) for split in ("validation", "test")) > 700
    return found


@pytest.fixture(scope="module")
def model(source: str, tmp_path_factory: pytest.TempPathFactory) -> quintet.Model:
    return quintet.train("flow", data=source, condition="label", steps=2, preset="tiny",
                         runs=tmp_path_factory.mktemp("runs"))  # fmt: skip


@pytest.fixture(scope="module")
def session(dataset: Dataset) -> Session:
    config = plan("flow", dataset, condition="label", steps=2, preset="tiny")
    task = Task.of(config, dataset).fitted(config)
    return Session(config, task, make_family(config, task.codecs), Engine("cpu"))


def numbers(images: Any) -> list[int]:
    """The number of each raw image."""
    pixels = np.asarray(images).reshape(len(images), -1).astype(int)
    return (100 * pixels[:, 0] + pixels[:, 1]).tolist()


def of(dataset: Dataset, split: str) -> set[int]:
    return set(numbers(dataset.rows(split)))


def named(codecs: Any, cond: Tensor) -> list[int]:
    """The class that each encoded condition means."""
    return [int(label.removeprefix("class ")) for label in codecs["cond"].decode(cond.cpu()).column(0).to_pylist()]


class Probe:
    """Stands in for a method of a family and keeps what it was given."""

    def __init__(self, family: Family, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real, self.seen = getattr(family, method), list[tuple[Any, ...]]()
        monkeypatch.setattr(family, method, self)

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.seen.append(given)
        return self.real(*given, **named)


# -- a subset of sorted data has all of it ---------------------------------------------------------------------------


def test_some_are_drawn_by_their_seed_without_replacement_and_in_order() -> None:
    index = some(10_000, 500, 3)
    assert len(set(index.tolist())) == 500
    assert (np.diff(index) > 0).all()
    assert np.array_equal(index, some(range(10_000), 500, 3))
    assert not np.array_equal(index, some(10_000, 500, 4))
    assert some(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    assert some([], 3, 0).tolist() == []
    assert np.bincount(index // 1000, minlength=10).min() > 25  # 50 of each thousand are expected


def test_all_classes_of_a_sorted_source_are_in_every_subset(
    source: str, dataset: Dataset, model: quintet.Model, session: Session
) -> None:
    every = set(range(CLASSES))

    def classes(found: Any) -> set[int]:
        return {number // EACH for number in numbers(found)}

    decode = session.codecs["x"].decode
    assert classes(decode(session.look.held)) == every
    assert classes(decode(session.look.held[session.look.measured])) == every
    assert session.look.cond is not None
    assert session.look.asked is not None
    assert set(named(session.codecs, session.look.cond[session.look.asked])) == every
    reference, given = model.held_out(300)
    assert classes(reference) == every
    assert [number // EACH for number in numbers(reference)] == named(model.codecs, model.codecs["cond"].encode(given))
    assert len(classes(some_of(dataset, 64)[0])) == CLASSES
    found = read_items(model.config, None, None).some(64)
    assert classes(found.items) == every
    assert found.index is not None
    assert numbers(found.items) == numbers(dataset.rows("test")[found.index])  # the places that are written down


def test_a_bench_scores_draws_and_plants_anomalies_in_all_classes(
    dataset: Dataset, model: quintet.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe(model.family, "log_prob_error", monkeypatch)
    bench = Bench(dataset, "label", samples=60)
    figures = bench.run(model.fitted)
    x, cond = (torch.cat([call[i] for call in probe.seen]) for i in (0, 1))
    raw, asked = model.codecs["x"].decode(x), named(model.codecs, cond)
    found = numbers(raw)
    assert found[:500] == numbers(dataset.items[figures["scored"]])  # the indices that a report keeps
    assert set(figures["scored"]) <= set(dataset.index("test").tolist())
    for part, split in ((slice(0, 500), "test"), (slice(500, 700), "train")):
        assert {number // EACH for number in found[part]} == set(range(CLASSES))
        assert set(found[part]) <= of(dataset, split)
    assert [number // EACH for number in found[:700]] == asked[:700]  # scored under their own conditions
    assert [number // EACH for number in found[-200:]] == asked[-200:]  # the first half of an anomaly is its own


def test_figures_of_samples_see_all_of_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def keep(real: Any, fake: Any, seed: int) -> Any:
        given["real"], given["fake"] = real, fake
        raise StopIteration

    monkeypatch.setattr(samples, "told_apart", keep)
    test, fake = np.repeat(np.arange(10.0), 60)[:, None], np.repeat(np.arange(10.0), 90)[:, None]
    with pytest.raises(StopIteration):
        samples.evaluate_samples(test, test, fake, lambda x: np.asarray(x, np.float64), max_items=100)
    for side in ("real", "fake"):
        assert len(given[side]) == 100
        assert set(given[side].ravel()) == set(range(10))


def test_the_classifier_of_conditions_learns_all_classes_of_sorted_items() -> None:
    x = np.repeat(np.arange(10.0), 1000)[:, None]
    y = x.ravel().astype(int)
    few = np.arange(0, len(x), 50)
    found = classifiers.conditional_accuracy(x, y, x[few], y[few], x[few], y[few])
    assert found["conditional"].value == 1.0
    assert found["conditional_real"].value == 1.0


def test_a_report_shows_all_of_a_sorted_split() -> None:
    table = pa.table({"i": list(range(1000)), "word": [f"w{i}" for i in range(1000)]})
    shown = modality_of(table).shown(table, TableCodec())["rows"]
    assert len(shown) == 8
    assert max(row[0] for row in shown) > 500
    texts = MODALITIES["text"].shown([str(i) for i in range(1000)], TextCodec())["items"]
    assert max(map(int, texts)) > 500


def test_a_task_of_texts_is_measured_on_texts_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"{'abcdefghij'[i // 200]} {i},{'abcdefghij'[i // 200]}{i} out\n" for i in range(2000))
    (tmp_path / "pairs.csv").write_text("source,wanted\n" + rows)
    model = quintet.train("autoregressive", data=str(tmp_path / "pairs.csv"), target="wanted", condition="source",
                          steps=1, preset="tiny", runs=tmp_path / "runs")  # fmt: skip
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        tasks, "answers_of", lambda model, items, given, *rest: seen.update(items=items, given=given) or {}
    )
    tasks.measure(model.fitted, load_source(str(tmp_path / "pairs.csv")), "test", limit=100)
    assert {text[0] for text in seen["items"]} == set("abcdefghij")
    assert [text.split()[0] for text in seen["items"]] == [text.replace(" ", "") for text in seen["given"]]


# -- items, conditions and noise are those that belong together ------------------------------------------------------


def test_looks_see_validation_items_under_their_own_conditions(
    dataset: Dataset, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe(session.family, "loss", monkeypatch)
    session.look(session.family)
    batches = [call[0] for call in probe.seen]
    found = numbers(session.codecs["x"].decode(torch.cat([batch.x for batch in batches])))
    assert len(found) > 100
    assert set(found) <= of(dataset, "validation")
    assert [number // EACH for number in found] == named(session.codecs, torch.cat([b.cond for b in batches]))
    assert set(numbers(session.codecs["x"].decode(session.look.held))) <= of(dataset, "validation")


def test_training_sees_training_items_under_their_own_conditions_with_new_noise_each_time(
    dataset: Dataset, session: Session
) -> None:
    space, loader = session.codecs["x"].space, session.loader
    assert isinstance(space, Continuous)
    total = len(loader)
    batches = [loader.batch(cursor, 0, 50, 50) for cursor in (0, 50, total, total + 50)]
    noise = []
    for batch in batches:
        found = numbers(session.codecs["x"].decode(batch.x))
        assert set(found) <= of(dataset, "train")
        assert batch.cond is not None
        assert [number // EACH for number in found] == named(session.codecs, batch.cond)
        noise.append(batch.x - session.codecs["x"].encode(session.codecs["x"].decode(batch.x)))
    for i, one in enumerate(noise):
        assert one.std() > 0
        assert all(not torch.isclose(one, other, atol=1e-6).all() for other in noise[:i])
        assert all((torch.isclose(one, other, atol=1e-6).float().mean() < 0.1) for other in noise[:i])


# -- what is on the disk when a checkpoint has its name --------------------------------------------------------------


def test_a_checkpoint_is_flushed_before_and_after_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def flushed(handle: int) -> None:
        done.append(("fsync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        fsync(handle)

    def renamed(path: Path, target: Path) -> Path:
        done.append(("rename", target.name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    checkpoint.save(tmp_path / "all", 7, {"model": {"w": torch.ones(2)}}, {"step": 7}, keep=1)
    at = done.index(("rename", "step-00000007"))
    for name in ("model.safetensors", "state.json", "manifest.json", ".tmp-step-00000007"):
        assert ("fsync", name) in done[:at], f"{name} is not flushed before the checkpoint gets its name"
    assert done.index(("fsync", "state.json")) < done.index(("fsync", "manifest.json"))
    assert ("fsync", "all") in done[at:], "the folder of checkpoints is not flushed"
    done.clear()
    checkpoint.write_atomic(tmp_path / "config.yaml", "a: 1")
    assert [name for _, name in done] == [".config.yaml.tmp", tmp_path.name]
