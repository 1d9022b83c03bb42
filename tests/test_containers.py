"""Items in whatever holds them: frames, arrays, pictures and files give the figures of the same raw items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from PIL import Image

import quintet
from quintet.core.checked import checked
from quintet.core.errors import ConfigError, DataError, UsageError
from quintet.data import arrow
from quintet.modalities import frames
from quintet.sources.load import load_source

TEXTS = [f"{a} {b} {c}" for a in ("red", "green", "blue", "grey", "pink") for b in ("cat", "dog", "cow", "hen")
         for c in ("runs", "sits", "eats", "naps", "sings")]  # fmt: skip


def columns(n: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=n), "y": rng.normal(size=n), "kind": ["a", "b", "c"] * (n // 3)}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> quintet.Model:
    """A flow of x and y given kind, trained on a frame of pandas."""
    return quintet.train("flow", data=pd.DataFrame(columns()), condition="kind", steps=2, preset="tiny",
                         runs=tmp_path_factory.mktemp("runs"))  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> quintet.Model:
    return quintet.train("autoregressive", data=TEXTS, steps=2, preset="tiny", runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> quintet.Model:
    return quintet.train("vae", data="digits", steps=2, preset="tiny", runs=tmp_path_factory.mktemp("runs"))


def test_rows_score_the_same_whatever_holds_them(rows: quintet.Model, tmp_path: Path) -> None:
    data = columns()
    table = pa.table(data)
    pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
    frame = pd.DataFrame(data)
    filtered = pd.concat([frame, frame])[60:]  # an index that is no range
    expected = rows.log_prob(table, condition=data["kind"]).values
    for items in (frame, filtered, pl.DataFrame(data), pl.DataFrame(data).lazy(), data, table.to_batches()[0],
                  np.stack([data["x"], data["y"]], 1), torch.tensor(np.stack([data["x"], data["y"]], 1)),
                  table.to_pylist()):  # fmt: skip
        for given in (
            data["kind"],
            frame["kind"],
            pl.Series(data["kind"]),
            table["kind"],
            frame,
            np.array(data["kind"]),
        ):
            assert rows.log_prob(items, condition=given).values.tolist() == expected.tolist()
    assert rows.log_prob(tmp_path / "rows.csv").values.shape == expected.shape  # with the conditions of the file
    assert torch.allclose(rows.log_prob(tmp_path / "rows.csv").values, expected)


def test_one_row_is_one_row(rows: quintet.Model) -> None:
    data = columns()
    expected = rows.log_prob(data, condition=data["kind"]).values[0].item()
    x, y, kind = data["x"][0], data["y"][0], data["kind"][0]
    for one in ({"x": x, "y": y}, [{"x": x, "y": y}], np.array([x, y]), pd.DataFrame(data).iloc[0]):
        assert rows.log_prob(one, condition=kind).values.tolist() == pytest.approx([expected])
    with pytest.raises(DataError, match=r"pandas\.Series"):
        rows.log_prob(pd.Series(data["x"], name="x"), condition="a")
    with pytest.raises(UsageError, match="2 conditions were given for 60 items"):
        rows.log_prob(data, condition=pd.Series(["a", "b"]))
    for thing in ("x", object(), None, {1, 2}, [object()]):
        with pytest.raises(DataError, match="items of kind table"):
            rows.log_prob(thing, condition="a")


def test_frames_come_back_as_frames(rows: quintet.Model, tmp_path: Path) -> None:
    data = columns()
    assert isinstance(rows.sample(3), pd.DataFrame)
    assert isinstance(rows.rank(pd.DataFrame(data), condition="a"), pd.DataFrame)
    assert isinstance(rows.rank(pl.DataFrame(data), condition="a"), pl.DataFrame)
    assert isinstance(rows.rank(data, condition="a"), pa.Table)
    assert isinstance(rows.evaluate(samples=20), dict)
    model = quintet.train("autoregressive", data=pl.DataFrame(data), steps=2, preset="tiny", runs=tmp_path)
    assert isinstance(model.sample(3), pl.DataFrame)
    holes = pd.DataFrame(data).assign(y=None)[10:15]
    filled = model.complete(holes)
    assert isinstance(filled, pd.DataFrame)
    assert filled.index.tolist() == [10, 11, 12, 13, 14]
    assert filled["x"].tolist() == pytest.approx(data["x"][10:15])
    assert filled["y"].notna().all()
    again = quintet.load(model.run.path)  # what lay in memory is a file beside the runs, which can be read again
    assert len(again.rank(data)) == 60
    assert isinstance(again.sample(2), pa.Table)


def test_texts_score_themselves(texts: quintet.Model) -> None:
    """A column is not its name, and a text is not its characters."""
    some = TEXTS[:5]
    expected = texts.log_prob(some).values.tolist()
    for items in (pd.Series(some, name="remark"), pl.Series("remark", some), pd.DataFrame({"remark": some}),
                  pl.DataFrame({"remark": some}), pa.array(some), pa.table({"remark": some}), {"remark": some},
                  tuple(some), np.array(some), iter(some)):  # fmt: skip
        assert texts.log_prob(items).values.tolist() == expected
    assert texts.log_prob(some[0]).values.tolist() == pytest.approx(expected[:1])
    assert len(texts.write(pd.Series(["red", "blue"]), length=2)) == 2
    assert texts.complete("red")[:3] != []
    with pytest.raises(UsageError, match="which column"):
        texts.log_prob(pd.DataFrame({"a": some, "b": some}))
    with pytest.raises(DataError, match="expected a text, got float"):
        texts.log_prob([some[0], 1.5])


def test_pictures_are_read_as_their_pixels(pictures: quintet.Model, tmp_path: Path) -> None:
    digits = load_source("digits").rows("test")[:4]
    expected = pictures.encode(digits)
    first = digits.astype(np.float32) / 16
    for items in (
        digits[..., 0],
        digits.astype(np.int64),
        first,
        torch.tensor(first).permute(0, 3, 1, 2),
        list(digits),
    ):
        torch.testing.assert_close(pictures.encode(items), expected)
    drawn = [Image.fromarray(np.round(one[..., 0] * 255.0 / 16).astype(np.uint8)) for one in digits]
    torch.testing.assert_close(pictures.encode(drawn), expected)
    drawn[0].save(tmp_path / "one.png")
    for one in (drawn[0], digits[0], digits[0, ..., 0], first[0], tmp_path / "one.png"):
        torch.testing.assert_close(pictures.encode(one), expected[:1])
    with pytest.raises(DataError, match="unknown scale"):
        pictures.encode(first - 1)


def test_labels_are_told_of_texts_in_a_frame(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": TEXTS, "label": [text.split()[1] for text in TEXTS]})
    model = quintet.train("autoregressive", data=frame, target="label", condition="text", steps=2, preset="tiny",
                          runs=tmp_path, config={"given": {"tokens": "characters"}})  # fmt: skip
    expected = model.classify(TEXTS[:3])
    assert expected.num_rows == 3
    assert model.classify(frame[:3]).to_dict("list") == expected.to_pydict()
    assert model.classify(frame["text"][:3]).to_dict("list") == expected.to_pydict()
    assert model.classify(TEXTS[0]).num_rows == 1


def test_fractions_are_no_counts(rows: quintet.Model) -> None:
    for n in (2.5, "3", True, None, float("nan")):
        with pytest.raises(UsageError, match="n must be a whole number"):
            rows.sample(n)  # type: ignore[arg-type]
    assert len(rows.sample(np.int64(3))) == 3
    with pytest.raises(UsageError, match="seed must be a whole number"):
        rows.sample(2, seed=0.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="steps must be a whole number"):
        rows.interpolate(columns(), columns(), steps=2.5, condition="a")  # type: ignore[arg-type]


def test_every_kind_of_data_in_memory_is_a_source(tmp_path: Path) -> None:
    def source(data: Any, **reading: Any) -> Any:
        from quintet.model.containers import source_of

        return load_source(source_of(data, tmp_path), whole=True, **reading)

    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    for data in (
        pixels,
        torch.tensor(pixels),
        [Image.fromarray(one) for one in pixels],
        {"x": pixels, "y": np.arange(12)},
    ):
        assert source(data).items[..., 0].tolist() == pixels.tolist()
    assert source(pd.Series(TEXTS)).items == source(TEXTS).items == TEXTS
    for data in (columns(), pd.DataFrame(columns()), pl.DataFrame(columns()), pa.table(columns())):
        assert source(data).items.to_pydict()["kind"] == columns()["kind"]
    with pytest.raises(UsageError, match="cannot be trained on data of type object"):
        source(object())


def test_a_model_says_what_it_is(rows: quintet.Model, pictures: quintet.Model) -> None:
    assert "flow" in repr(rows)
    assert "given kind" in repr(rows)
    assert "parameters" in repr(rows)
    assert "data:image/png;base64," in pictures._repr_html_()


def test_a_mistyped_option_names_the_nearest_one(tmp_path: Path, rows: quintet.Model) -> None:
    for section, wrong, right in (("model", "widht", "width"), ("training", "batchsize", "batch_size"),
                                  ("data", "targt", "target"), ("coding", "bin", "bins")):  # fmt: skip
        with pytest.raises(ConfigError) as raised:
            quintet.train("flow", data="iris", config={section: {wrong: 1}}, runs=tmp_path)
        assert f"did you mean {right}?" in str(raised.value)


def test_tensors_of_types_that_numpy_lacks_are_taken() -> None:
    halves = torch.tensor([[0.5, -0.25]], dtype=torch.bfloat16)
    assert frames.as_array(halves).tolist() == [[0.5, -0.25]]


def test_what_is_called_must_be_a_function() -> None:
    @checked
    def told(report: Callable[[str], None] | None = None) -> None:
        """Take it."""

    told(print)
    with pytest.raises(UsageError, match="report must be a function or None, got"):
        told(np.zeros(3))  # type: ignore[arg-type]


def test_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be put into one column"):
        arrow.as_column([2**70])
