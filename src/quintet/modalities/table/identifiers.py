"""New identifiers of the form of those that there are: each once, and none that training has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

FORM = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)


@dataclass(frozen=True)
class Identifiers:
    """`before`, a number from `start` on of at least `width` digits, and `behind`; as a whole
    number where there is nothing else.
    """

    before: str
    start: int
    width: int
    behind: str
    whole: bool

    @classmethod
    def of(cls, cells: Any) -> Identifiers:
        """Read off a column: numbers go on behind the largest, where all stand between the same characters; else new
        texts begin with "new-", which no identifier of the column does.
        """
        texts = [str(cell) for cell in cells.drop_null().cast(pa.string()).to_pylist()]
        found = [FORM.fullmatch(text) for text in texts]
        if texts and all(found) and len({(one[1], one[3]) for one in found if one}) == 1:
            digits = [one[2] for one in found if one]
            first = found[0]
            assert first is not None
            alike = len({len(each) for each in digits}) == 1
            whole = pa.types.is_integer(cells.type) or (
                not first[1] and not first[3] and not any(len(d) > 1 and d[0] == "0" for d in digits))  # fmt: skip
            return cls(first[1], max(map(int, digits)) + 1, len(digits[0]) if alike else 0, first[3], whole)
        before = "new-"
        while any(text.startswith(before) for text in texts):
            before += "new-"
        return cls(before, 1, 6, "", False)

    def new(self, count: int) -> pa.Array:
        """So many, each another."""
        numbers = range(self.start, self.start + count)
        if self.whole:
            return pa.array(numbers, pa.int64())
        return pa.array([f"{self.before}{number:0{self.width}d}{self.behind}" for number in numbers])
