"""What a run models, given what and how encoded, is resolved once and the same for all who ask."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import quintet
from quintet import registry
from quintet.core.errors import ConfigError, QuintetWarning, UsageError
from quintet.fit.fitting import plan
from quintet.modalities.table.codec import TableCodec
from quintet.runs.task import Task
from quintet.sources import load as sources
from quintet.sources.load import Dataset

N = 300
WORDS = [f"the word {i} of many" for i in range(N)]
SPLITS = {"train": np.arange(200), "validation": np.arange(200, 250), "test": np.arange(250, N)}


def of(items: Any, modality: str, **labels: Any) -> Dataset:
    return Dataset("made", modality, items, SPLITS, pa.table(labels) if labels else None)


PICTURES = of(np.arange(N * 16, dtype=np.uint16).astype(np.uint8).reshape(N, 4, 4, 1), "image",
              label=[f"class {i % 3}" for i in range(N)], said=WORDS, number=[i / 7 for i in range(N)])  # fmt: skip
TEXTS = of([f"{word}, as it stands" for word in WORDS], "text", label=[i % 4 for i in range(N)], other=WORDS)
ROWS = of(pa.table({"x": [i / 7 for i in range(N)], "kind": ["a", "b", "c"] * 100, "remark": WORDS}), "table")


@pytest.mark.parametrize(
    ("dataset", "target", "condition", "codec", "given", "label", "recipe"),
    [
        (PICTURES, None, None, "image", None, False, "thumbnail"),
        (PICTURES, "label", "image", "table", "image", True, "label_of_image"),
        (PICTURES, "label", "items", "table", "image", True, "label_of_image"),
        (PICTURES, "label", None, "table", None, False, "table"),  # given nothing it is a column like any other
        (PICTURES, "number", "image", "table", "image", False, "points"),
        (PICTURES, "said", "image", "text", "image", False, "texts"),
        (PICTURES, None, "label,number", "image", "table", False, "thumbnail"),
        (TEXTS, None, None, "text", None, False, "texts"),
        (TEXTS, "label", "text", "table", "text", True, "label_of_text"),
        (TEXTS, "other", "text", "text", "text", False, "pair"),
        (ROWS, None, "kind", "table", "table", False, "table"),
        (ROWS, "kind", "remark", "table", "text", True, "label_of_text"),
        (ROWS, "kind", "x", "table", "table", True, "table"),
        (ROWS, "remark", "kind", "text", "table", False, "texts"),
    ],
)
def test_a_task_says_what_it_is(
    dataset: Dataset, target: str | None, condition: str | None, codec: str, given: str | None, label: bool, recipe: str
) -> None:
    task = Task.resolve(dataset, target, condition)
    assert (task.codec, task.modality.name, task.label, task.recipe({})) == (codec, codec, label, recipe)
    assert (None if task.given is None else task.given.name) == given
    config = plan("autoregressive", dataset, target=target, condition=condition, steps=1, preset="tiny")
    assert config.codec == codec
    assert config.given.get("codec") == given
    fitted = Task.of(config, dataset).fitted(config)
    assert fitted.codecs["x"].modality == codec
    assert set(fitted.codecs) == ({"x", "cond"} if given else {"x"})
    assert (fitted.codecs["x"].labels is not None) == (label or (target == "label" and dataset is PICTURES))
    for key, part in zip(("x", "cond"), fitted.items("test"), strict=True):
        assert part is None or len(fitted.codecs[key].encode(part)) == 50


def test_items_are_less_the_columns_that_are_given() -> None:
    items, given = Task.resolve(ROWS, None, "kind,x").items("test")
    assert items.column_names == ["remark"]
    assert given.column_names == ["kind", "x"]
    assert Task.resolve(ROWS, "x", "table").conditions("test").column_names == ["kind", "remark"]


def test_fewer_items_are_drawn_and_keep_what_they_are_given() -> None:
    task = Task.resolve(TEXTS, "other", "text")
    few = task.some("test", 20, 3)
    items, given = few.items("test")
    places = few.dataset.index("test")
    assert len(items) == len(set(places.tolist())) == 20
    assert items == [WORDS[i] for i in places]
    assert given == [TEXTS.items[i] for i in places]
    assert places.max() - places.min() > 30, "not the first ones"
    assert (
        few.some("test", 5, 0).dataset.index("test").tolist() == few.some("test", 5, 0).dataset.index("test").tolist()
    )
    assert set(few.some("test", 5, 1).dataset.index("test")) < set(places)
    assert few.items("train") == task.items("train")
    assert task.some("test", 99).items("test") == task.items("test")


def test_a_condition_is_read_as_is_said_or_refused() -> None:
    assert Task.resolve(PICTURES, None, "label", reads="text").conditions("test")[0] == "class 1"
    for condition, reads in (("label", "image"), ("label", "nothing"), ("items", "text"), ("image", "table")):
        with pytest.raises(ConfigError, match="cannot encode this condition"):
            Task.resolve(PICTURES, "number", condition, reads=reads)
    with pytest.raises(UsageError, match="exactly one column of texts"):
        Task.resolve(PICTURES, None, "number", reads="text").conditions("test")


def test_the_reference_of_a_rank_is_of_items_that_the_model_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, a held-out row with the first missing cell of its column stopped every rank."""
    numbers: list[float | None] = [i / 7 for i in range(N)]
    numbers[220] = numbers[270] = None
    rows = pa.table({"x": numbers, "kind": ["a", "b", "c"] * 100})
    monkeypatch.setitem(sources.SOURCES, "gaps", lambda: Dataset("gaps", "table", rows, SPLITS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuintetWarning)
        model = quintet.train("autoregressive", data="gaps", steps=1, preset="tiny", runs=tmp_path)
        assert len(model.rank(rows.slice(0, 5))) == 5


class Sizeless(TableCodec):
    """Its author forgot to say how many columns a row has."""

    def fit(self, items: Any) -> Sizeless:
        super().fit(items)
        del self.dims
        return self


@pytest.mark.parametrize("condition", [None, "kind"])
def test_a_codec_without_dims_is_refused_before_training(
    condition: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task.resolve(ROWS, "x", condition)
    config = plan("flow", ROWS, target="x", condition=condition, steps=1, preset="tiny")
    assert task.fitted(config).codecs["x"].dims == 1
    monkeypatch.setattr(registry, "make_codec", lambda *given: Sizeless())
    with pytest.raises(TypeError, match="Sizeless has no dims: fit and from_json set it"):
        task.fitted(config)
