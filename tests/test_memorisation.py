"""A model that repeats what it was trained on is flagged, and a healthy one is not, in ten of ten seeds each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quintet
from quintet.evaluation.bench import Bench
from quintet.metrics import memorisation
from quintet.metrics.features import fit_features
from quintet.metrics.memorisation import membership_by_samples, memorised_share, nearer_to_training
from quintet.modalities.image.sets import digits
from quintet.sources import load as sources

SEEDS = range(10)
FEW = 50


def parts(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, held-out and further digits, on [-1, 1]."""
    x = digits().items[np.random.default_rng(seed).permutation(1797)].transpose(0, 3, 1, 2) / 8 - 1.0
    return x[:800], x[800:1200], x[1200:]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sampler_of_fifty_items_is_flagged_and_one_of_the_distribution_is_not(seed: int) -> None:
    train, held, other = parts(seed)
    rng = np.random.default_rng(seed)
    noise, few = 0.02 * rng.normal(size=(300, 1, 8, 8)), train[:FEW]
    for seen, made, memorises in ((few, few[rng.integers(0, FEW, 300)], True), (train, other[:300], False)):
        space = fit_features(seen, "flattened")
        a, b, c = space(seen), space(held), space(made + noise)
        found = memorised_share(a, b, c)
        assert found["flagged"] is memorises
        assert (found["duplicates"] > 0.9) is memorises
        assert (found["duplicates"] > 0.01) is memorises
        for figure in (nearer_to_training(a, b, c), membership_by_samples(a, b, c)):
            assert (figure.value - 3.5 * figure.stderr > 0.5) is memorises


@pytest.mark.parametrize("values", [40, 400])
@pytest.mark.parametrize("seed", SEEDS)
def test_rows_that_are_equal_in_truth_are_no_copies(seed: int, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coarse table, split by content: honest samples equal training rows as these equal each other, unseen rows never
    do. Copies on top of that are noticed, and honest samples flagged without the twins that the split took away.
    """
    rng = np.random.default_rng(seed)

    def drawn(n: int) -> np.ndarray:
        columns = np.minimum(rng.geometric(0.2, n), 30), rng.integers(0, values, n), rng.integers(0, 9, n)
        return np.stack(columns, 1).astype(float)

    rows = drawn(6000)
    kinds, which = np.unique(rows, axis=0, return_inverse=True)
    split = rng.random(len(kinds))[which.ravel()]  # one number a kind of row: equal rows go together
    train, held, honest = rows[split < 0.8], rows[split >= 0.8], drawn(900)
    assert not set(map(tuple, held)) & set(map(tuple, train))
    assert not memorised_share(train, held, honest)["flagged"]
    copied = np.concatenate([train[rng.integers(0, len(train), 600)], honest[:300]])
    assert memorised_share(train, held, copied)["flagged"]
    monkeypatch.setattr(memorisation, "_missing_twins", lambda *_: 0)
    assert memorised_share(train, held, honest)["flagged"]


def fewer() -> sources.Dataset:
    """Digits of which only FEW are for training."""
    data = digits()
    splits = dict(data.splits)
    splits["train"] = splits["train"][:FEW]
    return sources.Dataset("fewer", "image", data.items, splits, data.labels)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_trained_model_of_fifty_items_is_flagged_and_one_of_all_is_not(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The Transformer, as long on each: 300 passes over the few, 12 over all."""
    monkeypatch.setitem(sources.SOURCES, "fewer", fewer)
    for source in ("fewer", "digits"):
        model = quintet.train("autoregressive", data=source, steps=600, seed=seed, preset="tiny", runs=tmp_path,
                              config={"training": {"lr": 5e-3, "batch_size": 25, "select": "last"}})  # fmt: skip
        found = Bench(sources.load_source(source), None, samples=200).run(model.fitted, seed=seed)["metrics"]
        names = ("memorised", "memorised_duplicates", "nearer_to_training", "membership_by_samples",
                 "membership_by_likelihood")  # fmt: skip
        with capsys.disabled():
            print(f"\n  seed {seed}, {source}: " + ", ".join(f"{name} {found[name]:.3f}" for name in names), end="")
        assert found["memorised_flagged"] is (source == "fewer")
