"""Codecs: raw -> encoded -> raw, totality, and densities that integrate in raw units."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from quintet.core.codec import Codec
from quintet.core.errors import DataError, Unsupported
from quintet.core.spaces import Continuous, Discrete
from quintet.modalities.image.codec import ImageCodec
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.text.codec import TextCodec

RNG = np.random.RandomState(0)
TABLE = pa.table(
    {
        "x": RNG.randn(500) * 3 + 1,
        "tail": np.exp(2 * RNG.randn(500)),
        "count": RNG.randint(0, 1000, 500),
        "few": RNG.randint(0, 3, 500),
        "colour": RNG.choice(["red", "green", "blue"], 500),
        "flag": RNG.rand(500) > 0.5,
    }
)
IMAGES = (RNG.randint(0, 17, (20, 6, 5, 3)) * 15).astype(np.uint8)

CODECS: dict[str, tuple[Codec, Any]] = {
    "image": (ImageCodec(), IMAGES),
    "pixels": (ImageCodec("discrete"), IMAGES),
    "table": (TableCodec(), TABLE),
    "symbols": (TableCodec("discrete"), TABLE),
    "text": (TextCodec(None, TextCodec.Settings(block=8)), ["the quick brown fox jumps over the lazy dog"]),
}
every = pytest.mark.parametrize("name", CODECS)


def fitted(name: str) -> tuple[Codec, Any]:
    codec, items = CODECS[name]
    return codec.fit(items), items


@every
def test_encoded_items_lie_in_the_space(name: str) -> None:
    codec, items = fitted(name)
    x = codec.encode(items)
    codec.space.check(x)
    assert len(x) == (len(codec.decode(x)) if name == "text" else len(items))


def test_levels_stand_in_rows_of_the_picture_and_symbols_of_texts_in_none() -> None:
    """Read off values that tell where they stand: a row before each level is that of the same channel, one above."""
    places = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(1, 6, 5, 3)  # the channel is the remainder by 3
    space = (codec := ImageCodec("discrete").fit(places)).space
    assert isinstance(space, Discrete)
    assert space.row == 15
    x = codec.encode(places)[0]
    assert torch.equal(x[space.row :] - x[: -space.row], torch.full((75,), 15))
    assert [fitted(name)[0].space.to_json().get("row") for name in ("symbols", "text")] == [None, None]


@pytest.mark.parametrize("name", ["image", "pixels"])
def test_images_come_back_exactly(name: str) -> None:
    codec, items = fitted(name)
    assert (codec.decode(codec.encode(items)) == items).all()
    assert codec.space.levels == 17 if isinstance(codec.space, Continuous) else codec.space.vocab_size == 17


def test_texts_come_back_exactly() -> None:
    codec, (text,) = fitted("text")
    assert "".join(codec.decode(codec.encode([text]))) == text[: len(text) // 8 * 8]
    assert codec.decode(codec.encode(["\u00e9" * 8])) == ["\ufffd" * 8]


@pytest.mark.parametrize("name", ["table", "symbols"])
def test_rows_come_back(name: str) -> None:
    """Categories exactly; numbers exactly, or within their bin; types as they were."""
    codec, items = fitted(name)
    back = codec.decode(codec.encode(items))
    assert back.column_names == items.column_names
    for column in ("few", "colour", "flag"):
        assert back[column].to_pylist() == items[column].to_pylist()
    assert pa.types.is_integer(back["count"].type)
    exact = name == "table"
    for column in ("x", "count"):
        a, b = items[column].to_numpy(), back[column].to_numpy()
        assert np.abs(a - b).max() <= (1e-4 if exact else 0.5) * a.std() + (0 if column == "x" else 0.5)


@every
def test_decode_is_total_and_deterministic(name: str) -> None:
    codec, _ = fitted(name)
    generator = torch.Generator().manual_seed(0)
    if isinstance(codec.space, Discrete):
        sizes = torch.tensor(codec.space.sizes or (codec.space.vocab_size,) * codec.space.dims)
        x = (torch.rand(50, codec.space.dims, generator=generator) * sizes).long()
    else:
        x = 100 * torch.randn(50, *codec.space.shape, generator=generator)
        x[0], x[1] = float("nan"), float("inf")
    a, b = codec.decode(x), codec.decode(x)
    assert len(a) == 50
    assert str(a) == str(b)
    if isinstance(codec.space, Discrete):
        assert torch.equal(codec.encode(a), x) or name == "symbols"  # an integer's bin may hold no integer


@every
def test_state_is_json(name: str) -> None:
    codec, items = fitted(name)
    again = type(codec).from_json(json.loads(json.dumps(codec.to_json())))
    assert again.space == codec.space
    assert (again.measure, again.dims) == (codec.measure, codec.dims)
    assert torch.equal(again.encode(items), codec.encode(items))


@pytest.mark.parametrize("representation", ["continuous", "discrete"])
def test_masses_of_all_pictures_sum_to_one(representation: Any) -> None:
    """All pictures of one pixel of two channels of 5 levels, under an even density over the cells of their levels."""
    pictures = 10 * np.stack(np.meshgrid(range(5), range(5)), -1).reshape(25, 1, 1, 2).astype(np.uint8)
    codec = ImageCodec(representation).fit(pictures)
    width = 5.0 if representation == "discrete" else 2 + 2 / 4  # from -1 to 1 and half a cell on each side
    density = -2 * math.log(width)
    assert float((density + codec.log_det(pictures)).exp().sum()) == pytest.approx(1)
    assert codec.dims == 2


@pytest.mark.parametrize("representation", ["continuous", "discrete"])
def test_a_density_of_codes_is_a_density_of_numbers(representation: str) -> None:
    """A standard normal density of codes, or any probabilities of bins: the raw density sums to 1, with its tails."""
    codec = TableCodec(representation).fit(TABLE.select(["x"]))
    raw = np.linspace(-300, 300, 600_001)
    x = codec.encode(raw)
    if representation == "continuous":
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(x[:, 0].double())
    else:
        p = torch.rand(codec.space.sizes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        log_p = (p / p.sum()).log()[x[:, 0], x[:, 1]]
    total = float((log_p + codec.log_det(raw)).exp().sum()) * (raw[1] - raw[0])
    assert abs(total - 1) < 2e-3


def test_that_integral_notices_a_missing_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableCodec, "log_det", lambda self, items: torch.zeros(len(items), dtype=torch.float64))
    with pytest.raises(AssertionError):
        test_a_density_of_codes_is_a_density_of_numbers("continuous")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"x": [1.0, float("inf")]}, "infinite values"),
        ({"x": []}, "no rows or no columns"),
    ],
)
def test_what_cannot_be_learnt_is_refused(table: dict[str, list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TableCodec().fit(pa.table({"x": pa.array(table["x"], pa.float64())}))


def test_what_does_not_fit_is_refused() -> None:
    table, image, text = (fitted(name)[0] for name in ("table", "image", "text"))
    with pytest.raises(DataError, match="did not occur in training"):
        table.encode(TABLE.set_column(4, "colour", pa.array(["pink"] * 500)))
    with pytest.raises(DataError, match="lack this column"):
        table.encode(TABLE.drop_columns(["x"]))
    with pytest.raises(DataError, match="expected images"):
        image.encode(np.zeros((2, 7, 7, 3), np.uint8))
    with pytest.raises(DataError, match="integer images"):
        image.encode(np.zeros((2, 6, 5, 3)))
    with pytest.raises(DataError, match="shorter than one window"):
        text.encode(["short"])
    with pytest.raises(Unsupported, match="no spoken representation"):
        TextCodec("spoken")  # type: ignore[arg-type]
