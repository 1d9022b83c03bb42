"""What holds between the cells of a row: a total, a copy, a city by its postcode, an end after its beginning.

Values are those of columns by name, (N,): numbers in units of the column's grid, or places of categories; NaN is null.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quintet.data.arrow import Floats

Values = Mapping[str, Floats]
SILENT = np.inf
"""What a rule says where it says nothing."""
NOTHING = -0.5
"""Stands for a null where values are looked up: no unit of a grid and no place of a category is a half."""
CLOSE = 1e-9
"""Real numbers that differ by less, in relation to their size, are the same sum."""


@dataclass(frozen=True)
class Relation(ABC):
    """What the cells `sources` say of the cell `target`.

    It holds in `share` of the training rows. If that is all of them, the target is computed and no model draws it; else
    the target says in which rows it is so. Where training had `gaps`, the rule is of the cells that are filled, and a
    model draws which. `other` is taken where the rule is silent (NOTHING: a null). `text` says it in words.
    """

    target: str
    sources: tuple[str, ...]
    share: float
    gaps: bool
    other: float
    text: str

    kind: ClassVar[str]

    @property
    def exact(self) -> bool:
        """Whether filled cells are as the rule says, always."""
        return self.share == 1

    @property
    def computes(self) -> bool:
        """Whether the target is left out of what is modelled."""
        return self.exact and not self.gaps

    @abstractmethod
    def predict(self, values: Values) -> Floats:
        """(N,) the target; NaN if that is null, SILENT if nothing is said."""

    def solve(self, values: Values, unknown: str) -> Floats:
        """(N,) what the source `unknown` is, given the target and the others; NaN where that is not one value."""
        return np.full(len(values[self.target]), np.nan)

    def nearest(self, values: Values, unknown: str) -> Floats:
        """(N,) the source `unknown` with which the rule holds, or with which it comes nearest; NaN if there is none."""
        return self.solve(values, unknown)

    def turns(self, sources: Sequence[str]) -> Sequence[str]:
        """In which order sources are moved until the rule holds."""
        return sources

    def kept(self, values: Values) -> NDArray[np.bool_]:
        """(N,) which rows keep it; where it is silent nothing is broken."""
        said, own = self.predict(values), values[self.target]
        with np.errstate(invalid="ignore"):
            return same(said, own) | (said == SILENT) | (np.isnan(own) & self.gaps)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind} | asdict(self)


def same(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """Whether they are equal, as two nulls are."""
    with np.errstate(invalid="ignore"):
        return (np.abs(a - b) <= CLOSE * np.abs(b).clip(1e-6)) | (np.isnan(a) & np.isnan(b))


@dataclass(frozen=True)
class Sum(Relation):
    """target = constant + sum_i weight_i source_i, in units; whole numbers where the target is on a `lattice`."""

    weights: tuple[float, ...]
    constant: float
    lattice: bool

    kind = "sum"

    def predict(self, values: Values) -> Floats:
        total = self.constant + sum(w * values[name] for name, w in zip(self.sources, self.weights, strict=True))
        return np.round(total) if self.lattice else np.asarray(total)

    def solve(self, values: Values, unknown: str) -> Floats:
        found = self._exactly(values, unknown)
        return np.where(np.round(found) == found, found, np.nan) if self.lattice else found

    def nearest(self, values: Values, unknown: str) -> Floats:
        return np.round(self._exactly(values, unknown)) if self.lattice else self._exactly(values, unknown)

    def turns(self, sources: Sequence[str]) -> Sequence[str]:
        """The one on the finest grid, which can make up for all others, first and last."""
        size = {name: abs(w) for name, w in zip(self.sources, self.weights, strict=True)}
        fine = sorted(sources, key=lambda name: size[name])
        return [*fine, *fine[:1]]

    def _exactly(self, values: Values, unknown: str) -> Floats:
        at = self.sources.index(unknown)
        rest = [w * values[name] for name, w in zip(self.sources, self.weights, strict=True) if name != unknown]
        return np.asarray((values[self.target] - self.constant - sum(rest)) / self.weights[at])


@dataclass(frozen=True)
class Product(Relation):
    """target = first * second ** power, each as it is written: start + step * units, `rulers` of target and sources.

    It is rounded to the target's grid.
    """

    power: int
    rulers: tuple[tuple[float, float], ...]
    lattice: bool

    kind = "product"

    def _written(self, values: Values) -> list[Floats]:
        names = (self.target, *self.sources)
        return [start + step * values[name] for name, (start, step) in zip(names, self.rulers, strict=True)]

    def predict(self, values: Values) -> Floats:
        names = dict(values)
        names.setdefault(self.target, np.zeros(len(values[self.sources[0]])))
        _, a, b = self._written(names)
        with np.errstate(all="ignore"):
            found = a * b if self.power > 0 else a / b
            units = (found - self.rulers[0][0]) / self.rulers[0][1]
            units = np.floor(units + 0.5 + 1e-7) if self.lattice else units
        return np.where(np.isfinite(units) | np.isnan(a) | np.isnan(b), units, SILENT)

    def solve(self, values: Values, unknown: str) -> Floats:
        total, a, b = self._written(values)
        at = self.sources.index(unknown)
        with np.errstate(all="ignore"):
            raw = total / (b if self.power > 0 else 1 / b) if at == 0 else (total / a if self.power > 0 else a / total)
            units = (raw - self.rulers[at + 1][0]) / self.rulers[at + 1][1]
            units = np.where(np.isfinite(units), np.round(units), np.nan)
        right = self.predict(dict(values) | {unknown: units}) == values[self.target]
        return np.where(right, units, np.nan)


@dataclass(frozen=True)
class Lookup(Relation):
    """The target is the one of `found` beside the source's value in `keys`, which rise."""

    keys: tuple[float, ...]
    found: tuple[float, ...]

    kind = "lookup"

    def predict(self, values: Values) -> Floats:
        keys, found = np.array(self.keys), np.array(self.found)
        own = np.where(np.isnan(values[self.sources[0]]), NOTHING, values[self.sources[0]])
        at = np.searchsorted(keys, own).clip(0, len(keys) - 1)
        said = np.where(found == NOTHING, np.nan, found)[at]
        return np.where(keys[at] == own, said, SILENT)

    def solve(self, values: Values, unknown: str) -> Floats:
        own = np.where(np.isnan(values[self.target]), NOTHING, values[self.target])
        answers, first, count = np.unique(np.array(self.found), return_index=True, return_counts=True)
        at = np.searchsorted(answers, own).clip(0, len(answers) - 1)
        key = np.array(self.keys)[first[at]]
        return np.where((answers[at] == own) & (count[at] == 1) & (key != NOTHING), key, np.nan)


@dataclass(frozen=True)
class Order(Relation):
    """target >= every source, on one scale: start + step * units, `rulers` of target and sources.

    `narrow`: what is modelled in the target's place is how far it lies above the largest source. Else the target is
    modelled by itself, and what is drawn below a source is moved up.
    """

    rulers: tuple[tuple[float, float], ...]
    lattice: bool
    narrow: bool

    kind = "order"

    @property
    def exact(self) -> bool:
        return False

    def floor(self, values: Values) -> Floats:
        """(N,) the largest source on the common scale; NaN if one is null."""
        return np.max([start + step * values[name]
                       for name, (start, step) in zip(self.sources, self.rulers[1:], strict=True)], axis=0)  # fmt: skip

    def above(self, values: Values) -> Floats:
        """(N,) how far the target lies above that."""
        start, step = self.rulers[0]
        return start + step * values[self.target] - self.floor(values)

    def at(self, above: Floats, values: Values) -> Floats:
        """(N,) the target that lies so far above; on its grid, the next one up."""
        start, step = self.rulers[0]
        found = (above + self.floor(values) - start) / step
        return np.ceil(found - 1e-9) if self.lattice else found

    def predict(self, values: Values) -> Floats:
        return np.full(len(values[self.sources[0]]), SILENT)

    def kept(self, values: Values) -> NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            return ~(self.above(values) < 0)


KINDS: dict[str, type[Relation]] = {each.kind: each for each in (Sum, Product, Lookup, Order)}


def from_json(data: Mapping[str, Any]) -> Relation:
    """The inverse of `Relation.to_json`."""
    fields: dict[str, Any] = {name: frozen(value) for name, value in data.items() if name != "kind"}
    return KINDS[data["kind"]](**fields)


def frozen(value: Any) -> Any:
    """Lists as tuples."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value
