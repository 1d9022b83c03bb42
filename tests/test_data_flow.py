"""What is fed to formulas: data in which item, class, condition and split can be read off the values themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

import quintet
from quintet.core.errors import CheckpointError
from quintet.core.family import Family
from quintet.core.random import normal, some
from quintet.core.spaces import Continuous
from quintet.data import cache
from quintet.data.archives import Entry
from quintet.evaluation import bench as benches
from quintet.evaluation import tasks
from quintet.evaluation.bench import Bench
from quintet.fit.fitting import plan
from quintet.fit.live import Live
from quintet.fit.session import Session
from quintet.metrics import classifiers, samples
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.facts import numbered
from quintet.modalities.text.codec import TextCodec
from quintet.model.inputs import read_items
from quintet.nets.continuing import Continuation, Continuations
from quintet.operations.sources import some_of
from quintet.registry import MODALITIES, modality_of
from quintet.runs.restoring import make_family
from quintet.runs.task import Task
from quintet.sources.load import Dataset, load_source
from quintet.training import checkpoint
from quintet.training.engine import Engine
from quintet.training.optim import TrainingSettings
from quintet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("long_looks")

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
    training = {"batch_size": 64}  # so that the loss is measured on some of the unseen items
    config = plan("flow", dataset, condition="label", steps=2, preset="tiny", config={"training": training})
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
    assert set(numbers(reference)) <= of(dataset, "validation")
    assert [number // EACH for number in numbers(reference)] == named(model.codecs, model.codecs["cond"].encode(given))
    assert len(classes(some_of(dataset, 64)[0])) == CLASSES
    found = read_items(model.config, None, None).some(64)
    assert classes(found.items) == every
    assert found.index is not None
    assert numbers(found.items) == numbers(dataset.rows("test")[found.index])  # the places that are written down
    own = named(model.codecs, model.codecs["cond"].encode(found.given))
    assert [number // EACH for number in numbers(found.items)] == own


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


def test_the_classifier_that_tells_samples_apart_sees_all_of_the_larger_side() -> None:
    """Samples of all ten kinds, and six times as many real items of all ten, sorted: nothing tells them apart."""
    real, fake = np.repeat(np.arange(10.0), 60)[:, None], np.repeat(np.arange(10.0), 10)[:, None]
    assert classifiers.classifier_two_sample(real, fake).value < 0.7


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


# -- labels, conditions and noise are those that belong to their items -----------------------------------------------


def test_labels_are_those_of_their_own_items_in_every_split(tmp_path: Path) -> None:
    """Each item says which label it has, and neighbours have different ones."""
    rows = [{"text": f"sentence {i} of kind {i % 7}", "label": f"kind {i % 7}"} for i in range(300)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    x = np.random.default_rng(0).integers(7, 255, (300, 4, 4))
    x[:, 0, 0] = np.arange(300) % 7
    np.savez(tmp_path / "images.npz", x=x.astype(np.uint8), label=np.array([row["label"] for row in rows]))
    for i, row in enumerate(rows):
        (tmp_path / "folder" / row["label"]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / row["label"] / f"{i}.txt").write_text(row["text"])
    last = {
        "texts.jsonl": lambda text: text[-1],
        "folder": lambda text: text[-1],
        "images.npz": lambda image: image.min(),
    }
    for name, kind in last.items():
        found = load_source(str(tmp_path / name))
        for split in ("train", "validation", "test"):
            labels = found.column("label", split).column(0).to_pylist()
            assert [f"kind {kind(item)}" for item in found.rows(split)] == labels


def test_looks_see_validation_items_under_their_own_conditions(
    dataset: Dataset, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, samples = Probe(session.family, "loss", monkeypatch), Probe(session.family, "sample", monkeypatch)
    session.look(session.family)
    assert session.look.cond is not None
    assert torch.equal(torch.cat([call[1] for call in samples.seen]), session.look.cond[session.look.asked])
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
    noise, given = [], []
    for batch in batches:
        found = numbers(session.codecs["x"].decode(batch.x))
        assert set(found) <= of(dataset, "train")
        assert batch.cond is not None
        assert [number // EACH for number in found] == named(session.codecs, batch.cond)
        noise.append(batch.x - session.codecs["x"].encode(session.codecs["x"].decode(batch.x)))
        given.append(normal(50, generator=batch.generator, like=batch.x))  # what the family draws for itself
    assert len({tuple(one.tolist()) for one in given}) == len(batches)
    for i, one in enumerate(noise):
        assert one.std() > 0
        assert all(not torch.isclose(one, other, atol=1e-6).all() for other in noise[:i])
        assert all((torch.isclose(one, other, atol=1e-6).float().mean() < 0.1) for other in noise[:i])


def belongs(images: Any, cond: Tensor, model: quintet.Model) -> bool:
    """Whether each encoded image stands beside the condition that names its class."""
    found = numbers(model.codecs["x"].decode(images))
    return len(found) > 1 and [number // EACH for number in found] == named(model.codecs, cond)


def brought(dataset: Dataset, count: int) -> tuple[np.ndarray, list[str]]:
    """Test items of all classes, and the labels that they have."""
    index = dataset.index("test")[some(dataset.index("test"), count, 0)]
    return np.asarray(dataset.items[index]), [f"class {number // EACH}" for number in numbers(dataset.items[index])]


def test_items_have_their_own_conditions_when_they_are_completed_and_encoded(
    dataset: Dataset, model: quintet.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = brought(dataset, 24)
    known = np.ones((4, 4), bool)
    known[3] = False
    completed, encoded = (Probe(model.family, name, monkeypatch) for name in ("complete", "encode"))
    quick = {"moves": 1, "starts": 2}
    done = model.complete(images, known=known, condition=labels, batch_size=10, sampling=quick)
    assert numbers(done) == numbers(images)
    model.encode(images, condition=labels, batch_size=10)
    for probe, at in ((completed, 2), (encoded, 1)):
        assert belongs(*(torch.cat([call[i] for call in probe.seen]) for i in (0, at)), model)


def test_texts_have_their_own_conditions_when_they_are_scored_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"{'abcdefghij'[i // 20]} {i},{'abcdefghij'[i // 20]}{i} out\n" for i in range(200))
    (tmp_path / "pairs.csv").write_text("source,wanted\n" + rows)
    model = quintet.train("autoregressive", data=str(tmp_path / "pairs.csv"), target="wanted", condition="source",
                          steps=1, preset="tiny", runs=tmp_path / "runs",
                          config={"data": {"types": "source=text,wanted=text"}})  # fmt: skip
    first, given = [*"jabcdefghi"], [f"{letter} 7" for letter in "jabcdefghi"]
    scored, sought = (Probe(model.family, name, monkeypatch) for name in ("log_prob_each", "n_best"))
    drawn, join = list[Continuation](), Continuations.join
    monkeypatch.setattr(Continuations, "join", lambda self, text: drawn.append(text) or join(self, text))
    model.log_prob([f"{letter}7 out" for letter in first], condition=given, batch_size=4)
    model.write(first, condition=given, length=1, batch_size=4, sampling={"beams": 1})
    model.n_best(2, prompts=first, condition=given, length=1, batch_size=4)
    written = [(torch.tensor([text.symbols]), text.cond) for text in drawn]
    for calls, at in ((scored.seen, 1), (written, 1), (sought.seen, 2)):
        texts = [model.codecs["x"].vocabulary.decode(row[:1]) for call in calls for row in call[0].tolist()]
        sources = [text[0] for call in calls for text in model.codecs["cond"].decode(call[at])]
        assert texts == sources == first


def test_samples_are_judged_by_the_conditions_that_they_were_given(
    dataset: Dataset, model: quintet.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, labels = Probe(model.family, "sample", monkeypatch), list[str]()

    def keep(*_: Any, fake_labels: np.ndarray, **__: Any) -> Any:
        labels.extend(fake_labels.tolist())
        raise StopIteration

    monkeypatch.setattr(benches, "measure_samples", keep)
    bench = Bench(dataset, "label", samples=60)
    with pytest.raises(StopIteration):
        bench.run(model.fitted)
    asked = named(model.codecs, torch.cat([call[1] for call in probe.seen]))
    assert [int(label.removeprefix("class ")) for label in labels] == asked
    assert len(set(asked)) > 5


def test_a_rank_has_each_items_own_figures(dataset: Dataset, model: quintet.Model) -> None:
    images, labels = brought(dataset, 30)
    table, found = model.rank(images, condition=labels), model.log_prob(images, condition=labels).values.numpy()
    order, nats = table["index"].to_numpy(), table["nats"].to_numpy()
    assert sorted(order.tolist()) == list(range(30))
    assert np.allclose(nats, found[order])
    assert (np.diff(nats) >= 0).all()
    reference, given = model.held_out()
    usual = model.log_prob(reference, condition=given).values.numpy()
    assert np.allclose(table["p"].to_numpy(), [(1 + (usual <= one).sum()) / (1 + len(usual)) for one in nats])


def test_a_report_shows_each_models_own_samples(
    source: str, dataset: Dataset, model: quintet.Model, tmp_path: Path
) -> None:
    other = quintet.train("flow", data=source, condition="label", steps=2, preset="tiny", seed=1, runs=tmp_path)
    bench, fresh = (Bench(dataset, "label", samples=60) for _ in range(2))
    first, second = bench.show(model.fitted, 20), bench.show(other.fitted, 20)
    assert first != second
    assert second == fresh.show(other.fitted, 20)


def test_a_report_shows_samples_given_all_columns_of_a_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = np.arange(60) % 2, np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    np.savez(tmp_path / "two.npz", images=images, a=a, b=b)
    source = str(tmp_path / "two.npz")
    model = quintet.train("vae", data=source, condition="a,b", steps=2, preset="tiny", runs=tmp_path)
    given: list[Any] = []
    condition = model.fitted.condition
    monkeypatch.setattr(type(model.fitted), "condition", lambda _, *words: given.append(words[0]) or condition(*words))
    Bench(load_source(source), "a,b", samples=5).show(model.fitted, 12)
    assert {(row["a"], row["b"]) for row in given[0]} == {(i, j) for i in range(2) for j in range(3)}


def test_rows_and_draws_of_completions_are_numbered() -> None:
    table = numbered(pa.table({"x": ["a 1", "b 1", "c 1", "a 2", "b 2", "c 2"]}), 3)
    assert table.to_pydict()["row"] == [0, 1, 2, 0, 1, 2]
    assert table.to_pydict()["draw"] == [1, 1, 1, 2, 2, 2]


# -- seeds, steps and weights ----------------------------------------------------------------------------------------


def test_every_seed_counts(dataset: Dataset, model: quintet.Model, session: Session) -> None:
    one, other = (model.fitted.sample_encoded(4, condition="class 1", seed=seed) for seed in (0, 1))
    assert not torch.isclose(one, other).any()
    images, labels = brought(dataset, 6)
    nothing = np.zeros((4, 4), bool)
    draws = model.complete(images, known=nothing, condition=labels, draws=2, sampling={"moves": 1, "starts": 2})
    assert (draws[0] != draws[1]).mean() > 0.5
    config = session.config.model_copy(update={"seed": session.config.seed + 1})
    family = make_family(config, session.codecs)
    parts = zip(session.family.parameters(), family.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in parts if a.std() > 0)
    again = Session(config, session.task, family, Engine("cpu"))
    assert not torch.equal(again.loader.order(0), session.loader.order(0))


def test_a_score_depends_on_the_item_and_the_seed_alone(dataset: Dataset, model: quintet.Model) -> None:
    images, labels = brought(dataset, 12)
    whole = model.log_prob(images, condition=labels, seed=3).values
    assert model.log_prob(images, condition=labels, seed=3, batch_size=5).values.tolist() == pytest.approx(
        whole.tolist(), rel=1e-4
    )
    assert not torch.isclose(model.log_prob(images, condition=labels, seed=4).values, whole).all()


def trainer(session: Session, family: Family | None = None) -> Trainer:
    """A new one on the data of a session, eight items a step."""
    family = family or make_family(session.config, session.codecs)
    settings = TrainingSettings(batch_size=8, precision="fp32")
    return Trainer(family, session.loader, settings, seed=0, steps=6, engine=Engine("cpu"))


def test_every_step_sees_the_next_items(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family(session.config, session.codecs)
    probe = Probe(family, "loss", monkeypatch)
    training = trainer(session, family)
    for _ in range(3):
        training.update()
    seen = numbers(session.codecs["x"].decode(torch.cat([call[0].x for call in probe.seen])))
    assert seen == numbers(np.asarray(session.task.dataset.rows("train"))[session.loader.order(0)[:24]])


def test_a_trainer_that_is_restored_has_all_that_it_had(session: Session) -> None:
    first, second = trainer(session), trainer(session)
    for _ in range(3):
        first.update()
    second.restore(first.tensors(), first.state())
    assert second.state() == first.state()
    for group, tensors in first.tensors().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second.tensors()[group][name]), f"{name} of {group}"
    assert any(
        not torch.equal(tensor, first.tensors()["model"][name]) for name, tensor in first.tensors()["ema"].items()
    )


def test_the_weights_are_the_averaged_ones_whoever_gives_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: dict[str, Tensor] = {}
    look = Live.__call__

    def watched(self: Live, family: Family) -> Any:
        looked.update({name: tensor.clone() for name, tensor in family.state_dict().items()})
        return look(self, family)

    monkeypatch.setattr(Live, "__call__", watched)
    model = quintet.train("flow", data="moons", steps=8, preset="tiny", runs=tmp_path,
                          config={"training": {"select": "last"}})  # fmt: skip
    tensors, _ = checkpoint.load(checkpoint.steps(model.run.checkpoints)[-1])
    assert any(not torch.equal(tensor, tensors["model"][name]) for name, tensor in tensors["ema"].items())
    for who in (model.family.state_dict(), quintet.load(model.run.path).family.state_dict(), looked):
        assert all(torch.equal(who[name], tensor) for name, tensor in tensors["ema"].items())
    checkpoint.save(model.run.checkpoints, 99, tensors, {"step": 99}, keep=9)  # by a process that goes on with the run
    used = model.run.used()
    assert used is not None
    assert used.step == 8, "the weights of this model, not the newest that its folder has"


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


def test_a_flipped_bit_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, 7, {"model": {"w": torch.ones(2)}}, {"step": 7}, keep=1)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="sha256") as caught:
        checkpoint.verify(folder)
    assert "model.safetensors" in caught.value.where


def test_a_copy_elsewhere_is_another_entry_of_the_cache() -> None:
    """Two folders may hold other pictures under the same names, of the same sizes and times."""
    entries = [Entry("a.png", 100, 1.0, lambda: None)]
    keys = {cache.cache_key(Path(where), entries, reading) for where in ("one", "two") for reading in ({}, {"size": 8})}
    assert len(keys) == 4
