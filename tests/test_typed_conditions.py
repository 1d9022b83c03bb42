"""What is typed as a condition means what its column holds, not what YAML makes of it."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
import pytest

from quintet.core.errors import DataError
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.typed import typed


@pytest.fixture(scope="module")
def codec() -> TableCodec:
    count = 400
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(days=i) for i in range(count)]
    columns: dict[str, Any] = {
        "zip": ["02116", "10001"] * (count // 2),
        "answer": ["no", "yes"] * (count // 2),
        "country": ["NO", "null", "no", "1e3"] * (count // 4),
        "price": [i * 0.25 for i in range(count)],
        "day": pa.array(days),
    }
    return TableCodec().fit(pa.table(columns))


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("{zip: 02116}", {"zip": "02116"}),  # which YAML takes for the octal 1102
        ("{answer: no}", {"answer": "no"}),  # and this for false
        ("{answer: Yes, zip: 10001}", {"answer": "yes", "zip": "10001"}),
        ("{country: NO}", {"country": "NO"}),  # beside a category that differs in its case
        ("{country: no}", {"country": "no"}),
        ("{country: null}", {"country": "null"}),  # a category of that name
        ("{country: 1e3}", {"country": "1e3"}),
        ("{price: 010}", {"price": 10.0}),
        ("{price: 1e1}", {"price": 10.0}),
        ("{price: null}", {"price": None}),
        ("{day: 2020-02-01}", {"day": datetime.date(2020, 2, 1)}),
    ],
)
def test_a_row_is_typed_by_its_columns(codec: TableCodec, text: str, row: dict[str, Any]) -> None:
    assert typed(codec, text) == row


@pytest.mark.parametrize("text", ["{zip: 2116}", "{price: no}", "{day: 1}", "{zap: 1}", "{zip: [1]}", "zip", "{"])
def test_a_row_that_does_not_fit_is_refused(codec: TableCodec, text: str) -> None:
    with pytest.raises(DataError):
        typed(codec, text)


def test_a_category_alone_is_the_one_of_the_same_case() -> None:
    single = TableCodec().fit(pa.table({"country": ["NO", "no"] * 200}))
    assert typed(single, "no") == "no"
    assert typed(single, "NO") == "NO"
