"""Planted anomalies keep the halves of real items and nothing else; a model that knows the whole finds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import quintet
from quintet.evaluation.bench import Bench
from quintet.modalities.audio.recordings import Recordings
from quintet.registry import modality_of
from quintet.sources.load import load_source


def splice(items: Any) -> Any:
    return modality_of(items).splice(items)


def test_every_half_is_real_and_no_whole_is() -> None:
    images = np.arange(6 * 4 * 2 * 1).reshape(6, 4, 2, 1)
    odd = splice(images)
    assert np.array_equal(odd[:, :2], images[:, :2])
    assert np.array_equal(odd[:, 2:], images[[3, 4, 5, 0, 1, 2], 2:])
    table = pa.table({"a": [1, 2, 3, 4], "b": ["w", "x", "y", "z"], "c": [1.0, 2.0, 3.0, None]})
    assert splice(table).to_pydict() == {"a": [1, 2, 3, 4], "b": ["y", "z", "w", "x"], "c": [3.0, None, 1.0, 2.0]}
    assert splice(table).schema == table.schema
    assert splice(["abcd", "efghij"]) == ["abhij", "efgcd"]
    recordings = splice(Recordings([np.arange(4.0), np.arange(10.0, 16.0)], 8000))
    assert [samples.tolist() for samples in recordings] == [[0, 1, 13, 14, 15], [10, 11, 12, 2, 3]]


@pytest.mark.parametrize(("family", "low", "high"), [("flow", 0.65, 1.0), ("gan", None, None)])
def test_a_fitted_density_tells_them_from_real_items(family: str, low: float, high: float, tmp_path: object) -> None:
    dataset = load_source("moons")
    model = quintet.train(family, data="moons", steps=150, preset="tiny", runs=tmp_path)  # type: ignore[arg-type]
    figures = Bench(dataset, None, samples=50).run(model.fitted)["metrics"]
    if low is None:
        assert "anomaly" not in figures
    else:
        assert low < figures["anomaly"] <= high
        assert 0 < figures["anomaly_stderr"] < 0.05
