"""Rows whose rules are kept: what is left to a model of their values, and the values that follow from what it draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quintet.core.codec import digest
from quintet.data.arrow import Floats
from quintet.modalities.table import rules
from quintet.modalities.table.columns import Column
from quintet.modalities.table.rules import SILENT, Order, Relation, Values, same

Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Ruled:
    """The rules of a table, in an order in which each follows from what those before it and the model say.

    p(target | the others) of what is computed is (1 - doubt) [it is as the rule says] + doubt w(cell): as rare as what
    training has not shown, a row that breaks the rule has a probability. None is ever drawn.
    """

    found: tuple[Relation, ...] = ()
    doubt: float = 0.0

    @property
    def computed(self) -> dict[str, Relation]:
        """The columns that no model draws, by name."""
        return {rule.target: rule for rule in self.found if rule.computes}

    @property
    def changed(self) -> dict[str, Relation]:
        """Those of which something else is modelled: how far they lie above another, or where a rule does not hold."""
        return {rule.target: rule for rule in self.found
                if not rule.computes and not (isinstance(rule, Order) and not rule.narrow)}  # fmt: skip

    @property
    def told(self) -> tuple[str, ...]:
        """Each rule in words: `living = above + basement in all training rows, kept in all samples`."""
        out = []
        for rule in self.found:
            where = "all training rows" if rule.share == 1 else f"{100 * rule.share:.4g} % of the training rows"
            where = f"{where} in which {rule.target} is not missing" if rule.gaps else where
            kept = "all" if rule.share == 1 or isinstance(rule, Order) else "as many"
            out.append(f"{rule.text} in {where}, kept in {kept} samples")
        return tuple(out)

    def reduce(self, values: Values) -> dict[str, Floats]:
        """What is modelled of rows: of an order the distance; null in the place of what is as a rule says."""
        left = {name: own for name, own in values.items() if name not in self.computed}
        for name, rule in self.changed.items():
            if isinstance(rule, Order):
                left[name] = rule.above(values)
            elif rule.exact:
                left[name] = np.where(np.isnan(values[name]), np.nan, 0.0)
            else:
                left[name] = np.where(same(rule.predict(values), values[name]), np.nan, values[name])
        return left

    def restore(self, drawn: Values, columns: Mapping[str, Column]) -> dict[str, Floats]:
        """The inverse: rows from what was drawn of them, in which every rule holds."""
        values = dict(drawn)
        for rule in self.found:
            name = rule.target
            if isinstance(rule, Order):
                values[name] = rule.at(values[name], values) if rule.narrow else raised(rule, values, columns[name])
                continue
            said = rule.predict(values)
            said = np.where(said == SILENT, np.nan if rule.other == rules.NOTHING else rule.other, said)
            if rule.exact:
                values[name] = np.where(np.isnan(values[name]), np.nan, said) if rule.gaps else said
            else:
                values[name] = np.where(np.isnan(values[name]), said, values[name])
        return values

    def log_share(self, values: Values, columns: Mapping[str, Column]) -> Floats:
        """(N,) log p of the computed cells given the others."""
        total = np.zeros(len(next(iter(values.values()))))
        for rule in self.found:
            if not rule.exact:
                continue
            column, own, said = columns[rule.target], values[rule.target], rule.predict(values)
            null = np.isnan(own)
            share = 0.0 if rule.gaps else column.null_share  # a gap has its probability by the model
            weight = np.where(null, share, (1 - share) * np.exp(column.pieces.log_weight(np.where(null, 0, own))))
            ruled = np.where(said == SILENT, weight, (1 - self.doubt) * same(said, own) + self.doubt * weight)
            total += np.where(null & rule.gaps, 0.0, np.log(ruled.clip(1e-300)))
        return total

    def broken(self, values: Values) -> list[tuple[Relation, NDArray[np.bool_]]]:
        """The rules of all training rows that some of these rows break, and which."""
        return [(rule, ~kept) for rule in self.found if rule.share == 1 and not (kept := rule.kept(values)).all()]

    def identity(self, columns: Mapping[str, Column]) -> str:
        """Of likelihoods: "" where computed cells have probabilities; a density is one of fewer dimensions then."""
        texts = {rule.target: rule.text for rule in self.found if rule.exact and not columns[rule.target].mass}
        return digest(texts) if texts else ""

    # -- holes -------------------------------------------------------------------------------------------------------

    def solved(self, values: Values, given: Masks) -> tuple[dict[str, Floats], dict[str, NDArray[np.bool_]]]:
        """Values with what follows from those given: a part from the total and the other parts."""
        values, given = dict(values), dict(given)
        for _ in range(2):  # from a total to its parts, and theirs
            for rule in reversed(self.found):
                if not rule.exact:
                    continue
                for part in rule.sources:
                    others = [given[name] for name in (rule.target, *rule.sources) if name != part]
                    able = np.logical_and.reduce(others) & ~given[part]
                    if able.any():
                        found = rule.solve(values, part)
                        able &= ~np.isnan(found)
                        values[part] = np.where(able, found, values[part])
                        given[part] = given[part] | able
            for rule in self.found:
                able = np.logical_and.reduce([given[name] for name in rule.sources]) & ~given[rule.target]
                if rule.computes and able.any():
                    said = rule.predict(values)
                    able &= said != SILENT
                    values[rule.target] = np.where(able, said, values[rule.target])
                    given[rule.target] = given[rule.target] | able
        return values, given

    def settled(self, values: Values, drawn: Values, given: Masks, columns: Mapping[str, Column]) -> dict[str, Floats]:
        """Completed rows that keep their rules: `values` are those given, elsewhere what was drawn; `drawn` are rows
        in which every rule holds, but what was given may be another value there.

        What was not given moves: a part by what is missing to its total, as far as training had such parts.
        """
        values, fixed = self.solved(values, given)
        for rule in reversed(self.found):
            free = [name for name in rule.sources if not fixed[name].all()]
            if isinstance(rule, Order):
                self._under(rule, values, drawn, fixed, free)
            elif rule.exact:
                for part in rule.turns(free):
                    wrong = fixed[rule.target] & ~fixed[part] & ~rule.kept(values)
                    found, low, high = rule.nearest(values, part), *ends(columns[part])
                    found = np.where(np.isnan(found), drawn_of(rule, values, part, columns[part]), found)
                    wrong &= ~np.isnan(found)
                    values[part] = np.where(wrong, np.clip(found, low, high), values[part])
        for rule in self.found:
            name, said = rule.target, rule.predict(values)
            if isinstance(rule, Order):
                kept = rule.at(rule.above(drawn), values) if rule.narrow else raised(rule, values, columns[name])
                values[name] = np.where(fixed[name] | np.isnan(kept), values[name], kept)
                continue
            follows = np.ones(len(said), bool) if rule.computes else same(rule.predict(drawn), drawn[name])
            follows &= ~fixed[name] & (said != SILENT)
            values[name] = np.where(follows, said, values[name])
        return values

    def _under(self, rule: Order, values: dict[str, Floats], drawn: Values, fixed: Masks, free: list[str]) -> None:
        """Moves sources that were not given below the target that was."""
        step = rule.rulers[0][1]
        for name, (_, own) in zip(rule.sources, rule.rulers[1:], strict=True):
            if name not in free:
                continue
            far = (values[rule.target] - drawn[rule.target]) * step
            with np.errstate(invalid="ignore"):
                moved = far if rule.narrow else np.minimum(rule.above(values), 0)
                below = np.floor(values[name] + moved / own) if rule.lattice else values[name] + moved / own
            able = fixed[rule.target] & ~fixed[name] & ~np.isnan(below)
            values[name] = np.where(able, below, values[name])

    def to_json(self) -> dict[str, Any]:
        return {"found": [rule.to_json() for rule in self.found], "doubt": self.doubt}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(tuple(rules.from_json(rule) for rule in data["found"]), data["doubt"])


def raised(rule: Order, values: Values, column: Column) -> Floats:
    """The target, where it lies below a source at the same place of as much of the column's mass above that."""
    own = values[rule.target]
    with np.errstate(invalid="ignore"):
        low = np.flatnonzero(rule.above(values) < 0)
    if not len(low):
        return own
    pieces, at = column.pieces, own[low]
    least = rule.at(np.zeros(len(own)), values)[low]
    start, _ = pieces.interval(least)
    place = start + pieces.share(at, np.full(len(at), 0.5)) * pieces.weight[pieces.symbol(at)]
    out = own.copy()
    out[low] = np.maximum(pieces.quantile(place.clip(0, 1 - 1e-12)), least)
    return out


def ends(column: Column) -> tuple[float, float]:
    """The smallest and the largest unit of training."""
    pieces = column.pieces
    solid = ~pieces.void
    half = 0.5 * pieces.lattice
    return float(pieces.low[solid][0] + half), float(pieces.high[solid][-1] - half)


def drawn_of(rule: Relation, values: Values, part: str, column: Column) -> Floats:
    """Of those values of a source that go with the target, one as often as training had it; NaN where there is none."""
    out = np.full(len(values[rule.target]), np.nan)
    if not isinstance(rule, rules.Lookup):
        return out
    keys, found = np.array(rule.keys), np.array(rule.found)
    own = np.where(np.isnan(values[rule.target]), rules.NOTHING, values[rule.target])
    spread = np.arange(1, len(own) + 1) * 0.6180339887498949 % 1  # evenly, whatever the rows
    for answer in np.unique(own):
        fits = keys[(found == answer) & (keys != rules.NOTHING)]
        if len(fits):
            often = np.cumsum(np.exp(column.pieces.log_weight(fits)))
            rows = own == answer
            out[rows] = fits[np.searchsorted(often, spread[rows] * often[-1]).clip(0, len(fits) - 1)]
    return out
