"""Items and columns as a page in a browser shows them: an item as a file of a media type, a column as counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

from quintet.core.codec import Codec

Door = Literal["pictures", "text", "sounds", "tables"]
"""The doors of the start page, behind which data are looked for."""


class Card(NamedTuple):
    """An item, of rows several, as a file of a media type: image/..., audio/wav, text/plain, or application/json with
    `columns` and `rows`. `picture`: a PNG beside what is heard.
    """

    media: str
    content: bytes
    caption: str = ""
    picture: bytes = b""


class Chart(NamedTuple):
    """How the values of a column are distributed: so many for each of the `labels`, which are the most frequent values,
    or where it is `ordered` ranges from `low` to `high`; `others` have other values.
    """

    name: str
    counts: tuple[int, ...]
    labels: tuple[str, ...]
    ordered: bool = False
    low: str = ""
    high: str = ""
    others: int = 0


class Shown(ABC):
    """How a kind of data is found and looked at in a browser."""

    door: ClassVar[Door]
    """Under which of the doors of the start page it belongs."""

    @abstractmethod
    def cards(self, items: Any, captions: list[str]) -> list[Card]:
        """A few items, each with its caption."""

    def charts(self, items: Any, real: Any = None) -> list[Chart]:
        """How the values of each column are distributed, by the values and ranges of `real` items where there are such;
        [] where items have no columns.
        """
        return []

    def cells(self, codec: Codec) -> list[dict[str, Any]]:
        """The columns or channels of items of this codec: `name`, `type`, of a category the `values` that a cell can
        have, else None, and of a number or a date the `low` and the `high` end of training; [] where items have none.
        """
        return []
