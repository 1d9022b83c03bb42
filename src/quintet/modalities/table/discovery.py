"""Finding the rules of a table in its training rows: a bounded search that always gives the same answer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quintet.core.errors import ConfigError
from quintet.data import arrow
from quintet.data.arrow import Floats
from quintet.modalities.table.columns import Column
from quintet.modalities.table.deciding import lookups
from quintet.modalities.table.pieces import SPIKE
from quintet.modalities.table.ruled import Ruled, ends
from quintet.modalities.table.rules import CLOSE, SILENT, Order, Product, Relation, Sum, Values, same
from quintet.modalities.table.searching import BROKEN, BROKEN_SHARE, GLANCE, Search

FEWEST = 100
"""Of so many rows at least rules are looked for."""
OFTEN, TIMES = 0.03, 5
"""A rule that does not always hold is one if it holds in this part of the rows, where no value that makes up a spike is
compared, and so many times as often as by chance."""
NUMBERS = 40
"""Columns that are combined in sums and products."""
TERMS, DENOMINATOR, TINY = 8, 1000, 1e-7
"""Of a sum: the most terms, the largest denominator of their weights, and what is 0 in standard deviations."""
BEYOND = 0.05
"""At most this part of a computed column may lie outside its range, were its sources independent."""
MOSTLY = 0.9
"""What holds in so many rows is looked for before orders."""
SELDOM = 0.001
"""An order may have so many exceptions."""
NARROW = 0.25
"""An order is modelled as a distance if that varies by at most this part of what the target does."""


def find(columns: Sequence[Column], values: Values, wanted: str = "all") -> Ruled:
    """The rules of training rows; `wanted`: "all", "none", or the columns that may follow from others, with commas."""
    rows = len(next(iter(values.values())))
    if wanted == "none" or len(columns) < 2:
        return Ruled()
    names = None if wanted == "all" else {name.strip() for name in wanted.split(",")}
    for name in sorted(names - values.keys()) if names is not None else ():
        raise ConfigError(f"coding.rules names the column {name}, which does not exist",
                          why=f"columns: {', '.join(values)}",
                          fix="name columns of the table, or write all or none")  # fmt: skip
    if rows < FEWEST:
        return Ruled()
    search = Search(columns, values, names)
    of = Numbers(search)
    for candidates in (of.sums, partial(lookups, search), of.products, partial(of.shares, MOSTLY), of.distances,
                       partial(of.shares, OFTEN), of.bounds):  # fmt: skip
        for rule in candidates():
            search.take(rule)
    return Ruled(search.sorted(), 1 / (rows + 2))


class Numbers:
    """Candidates of rules between columns of numbers."""

    def __init__(self, search: Search) -> None:
        self.search = search

    def mostly(self, rule: Order) -> bool:
        """Whether hardly any row breaks an order, and many more would were the target shuffled."""
        broken = (~rule.kept({**self.search.sample, rule.target: self.search.shuffled[rule.target]})).mean()
        if broken < BROKEN_SHARE or broken * self.search.rows < BROKEN:
            return False
        return bool((~rule.kept(self.search.values)).mean() <= min(SELDOM, 0.1 * broken))

    def share(self, rule: Relation) -> float:
        """How often a rule holds that does not always; 0 if that may be by chance, or by spikes that fall together."""
        own, said = self.search.sample[rule.target], rule.predict(self.search.sample)
        rest = self.rare(rule.target, own)
        for name in rule.sources if len(rule.sources) > 1 else ():
            rest &= self.raw[name] != 0
        holds, chance = same(said, own) & rest, same(said, self.search.shuffled[rule.target]) & rest
        if holds.mean() < OFTEN or holds.mean() < TIMES * chance.mean() or holds.sum() < BROKEN:
            return 0.0
        return float(same(rule.predict(self.search.values), self.search.values[rule.target]).mean())

    def rare(self, name: str, own: Floats) -> NDArray[np.bool_]:
        """Which values of a column make up no spike."""
        pieces = self.search.columns[name].pieces
        return np.exp(pieces.log_weight(own)) < SPIKE if pieces.lattice else np.full(len(own), True)

    @cached_property
    def numbers(self) -> list[str]:
        """Columns of more than two numbers, exact in floating point."""
        return [name for name, c in self.search.columns.items() if c.number and c.pieces.count > 2
                and np.nanmax(np.abs(self.search.sample[name]), initial=0) < 2**50][:NUMBERS]  # fmt: skip

    @cached_property
    def raw(self) -> dict[str, Floats]:
        """The sampled numbers as they are written."""
        return {name: float(start) + float(step) * self.search.sample[name]
                for name in self.numbers for start, step in [ruler(self.search.columns[name])]}  # fmt: skip

    def moment(self, name: str) -> bool:
        return pa.types.is_temporal(arrow.without_dictionary(self.search.columns[name].type))

    def sums(self) -> Iterator[Relation]:
        """Exact linear relations: each column that depends on those before it, in the fewest of them."""
        names = [name for name in self.numbers if self.search.columns[name].null_share < 0.2]
        if not names:
            return
        rows = np.stack([self.search.sample[name] for name in names], 1)
        rows = rows[~np.isnan(rows).any(1)][:2_000]
        if len(rows) < max(FEWEST, 2 * len(names)):
            return
        centre, scale = rows.mean(0), rows.std(0)
        kept, basis = list[int](), np.zeros((len(rows), 0))
        for i in range(len(names)):
            if scale[i] == 0:
                continue
            own = (rows[:, i] - centre[i]) / scale[i]
            rest = own - basis @ (basis.T @ own)
            rest -= basis @ (basis.T @ rest)
            size = float(np.linalg.norm(rest))
            if size > TINY * math.sqrt(len(rows)) * 10:
                kept.append(i)
                basis = np.concatenate([basis, (rest / size)[:, None]], 1)
                continue
            weights = np.linalg.lstsq((rows[:, kept] - centre[kept]) / scale[kept], own, rcond=None)[0]
            terms = {names[j]: nice(w * scale[i] / scale[j]) for j, w in zip(kept, weights, strict=True)
                     if abs(w) > 1e-6}  # fmt: skip
            if len(terms) < TERMS and all(terms.values()):
                rule = self.oriented({names[i]: Fraction(-1)} | {name: w for name, w in terms.items() if w})
                if rule is not None:
                    yield rule

    def oriented(self, terms: Mapping[str, Fraction]) -> Sum | None:
        """sum_i terms_i x_i = constant, solved for the column that is safest to compute: a total of the others."""
        best, least = None, BEYOND
        for target in sorted(terms, key=list(self.search.columns).index, reverse=True):
            sources = sorted((name for name in terms if name != target), key=list(self.search.columns).index)
            if not self.search.open(target, sources):
                continue
            rule = self.filled(self.summed(target, {name: -terms[name] / terms[target] for name in sources}))
            if rule is None:
                continue
            if all(w > 0 for w in rule.weights) or (rule.gaps and self.parted(rule)):
                return rule
            low, high = ends(self.search.columns[target])
            mixed = {name: np.roll(self.search.sample[name], 7 * i) for i, name in enumerate(sources)}
            with np.errstate(invalid="ignore"):
                said = rule.predict(mixed)
                beyond = float(((said < low) | (said > high)).mean())
            if beyond < least:
                best, least = rule, beyond
        return best

    def filled(self, rule: Sum | None) -> Sum | None:
        """The rule, if it is certain: of all cells, or of those that are filled."""
        if rule is None:
            return None
        for gaps in (False, True):
            found = replace(rule, gaps=gaps)
            if gaps <= self.search.columns[rule.target].nulls and self.search.certain(found):
                return found
        return None

    def parted(self, rule: Sum) -> bool:
        """Whether it is what a total has besides its other part, which is never more (`distances` keeps that)."""
        return sorted(rule.weights) == [-1, 1] and rule.constant == 0 and ends(self.search.columns[rule.target])[0] >= 0

    def summed(self, target: str, weights: Mapping[str, Fraction], constant: Fraction | None = None) -> Sum | None:
        """The rule with these weights of units; None if it leaves the target's grid. `constant`: by the first row."""
        lattice = self.search.columns[target].pieces.lattice
        whole = all(self.search.columns[name].pieces.lattice and w.denominator == 1 for name, w in weights.items())
        if lattice and not whole:
            return None
        if constant is None:
            left = self.search.sample[target] - sum(float(w) * self.search.sample[name] for name, w in weights.items())
            left = left[~np.isnan(left)]
            constant = Fraction(float(np.round(left[0]) if lattice else np.median(left))) if len(left) else Fraction(0)
            constant = (
                constant
                if lattice or abs(float(constant)) > 1e-9 * ends(self.search.columns[target])[1]
                else Fraction(0)
            )
        if lattice and constant.denominator != 1:
            return None
        return Sum(target, tuple(weights), 1.0, False, 0.0, self.told(target, weights, constant),
                   tuple(map(float, weights.values())), float(constant), lattice)  # fmt: skip

    def told(self, target: str, weights: Mapping[str, Fraction], constant: Fraction) -> str:
        """The sum as it is written: `living = above + basement`."""
        if self.moment(target) or any(map(self.moment, weights)):
            return f"{target} follows from {' and '.join(weights)}"
        start, step = ruler(self.search.columns[target])
        rest, said = start + constant * step, ""
        for name, weight in weights.items():
            begin, unit = ruler(self.search.columns[name])
            each = weight * step / unit
            rest -= each * begin
            size = "" if abs(each) == 1 else f"{float(abs(each)):g} x "
            said += f"{' - ' if each < 0 else ' + ' if said else ''}{size}{name}"
        if abs(rest) > Fraction(1, 10**9) * max(Fraction(1), abs(start)):
            said += f" {'-' if rest < 0 else '+'} {float(abs(rest)):g}"
        return f"{target} = {said.strip()}"

    def products(self) -> Iterator[Relation]:
        """Products and quotients of two columns, rounded as the target is."""
        names = [name for name in self.numbers if not self.moment(name)]
        glance, lattice = self.glance(names), [self.search.columns[name].pieces.lattice for name in names]
        steps = np.array([float(ruler(self.search.columns[name])[1]) for name in names]) * lattice
        for (i, a), (j, b) in itertools.permutations(enumerate(names), 2):
            for power in (1, -1) if i < j else (-1,):
                with np.errstate(all="ignore"):
                    value = glance[i] * glance[j] if power > 0 else glance[i] / glance[j]
                    near = np.abs(glance - value) <= 0.5001 * steps[:, None] + CLOSE * np.abs(value)
                    rest = (value != 0) & np.isfinite(value) & (np.abs(value) != np.abs(glance[i]))
                if rest.mean() < OFTEN:
                    continue
                for k in np.flatnonzero(near[:, rest].all(1)):
                    target, mark = names[k], "x" if power > 0 else "/"
                    if k in (i, j) or not self.search.open(target, (a, b)):
                        continue
                    rulers = tuple((float(start), float(step)) for start, step in
                                   (ruler(self.search.columns[name]) for name in (target, a, b)))  # fmt: skip
                    text, usual = f"{target} = {a} {mark} {b}", median(self.search.sample[target])
                    rule = Product(target, (a, b), 1.0, False, usual, text, power, rulers, lattice[k])
                    if self.search.certain(rule):
                        yield rule

    def glance(self, names: Sequence[str]) -> Floats:
        """(columns, rows) the numbers as they are written, of a few rows."""
        return np.stack([self.raw[name][:GLANCE] for name in names]) if names else np.zeros((0, 0))

    def shares(self, least: float) -> Iterator[Relation]:
        """What holds in more than `least` of the rows: equal numbers, and sums of two. The most frequent first."""
        names = [name for name in self.numbers if not self.moment(name)]
        full = [i for i, name in enumerate(names) if not self.search.columns[name].nulls]
        found, glance = list[tuple[float, Relation]](), self.glance(names)
        rare = np.array([self.rare(name, self.search.sample[name][:GLANCE]) for name in names])
        for sources in (*itertools.combinations(full, 1), *itertools.combinations(full, 2)):
            total = glance[list(sources)].sum(0)
            with np.errstate(invalid="ignore"):
                near = rare & (np.abs(glance - total) <= CLOSE * np.abs(total))
            for k in np.flatnonzero(near.mean(1) >= 0.5 * OFTEN):
                named, nulls = tuple(names[i] for i in sources), self.search.columns[names[k]].nulls
                later = len(sources) > 1 or k > sources[0] or nulls  # of two equal columns the later one is the copy
                if k in sources or not later or not self.search.open(names[k], named):
                    continue
                rule = self.plain(names[k], named)
                if nulls:
                    rule, share = self.filled(rule), 1.0
                else:
                    share = 0.0 if rule is None else self.share(rule)
                if rule is not None and share > least and (share < 1) != nulls:
                    found.append((share, replace(rule, share=share)))
        yield from (rule for _, rule in sorted(found, key=lambda each: -each[0]))

    def plain(self, target: str, sources: Sequence[str]) -> Sum | None:
        """target = the sum of the sources, as they are written."""
        start, step = ruler(self.search.columns[target])
        rulers = [ruler(self.search.columns[name]) for name in sources]
        weights = {name: unit / step for name, (_, unit) in zip(sources, rulers, strict=True)}
        return self.summed(target, weights, (sum(begin for begin, _ in rulers) - start) / step)

    def distances(self) -> Iterator[Relation]:
        """Orders of columns that lie close together, or are often equal: what is modelled is how far they are apart."""
        for rule in self.bounds():
            above, own = rule.above(self.search.sample), self.search.sample[rule.target] * rule.rulers[0][1]
            touches = (above == 0) & self.rare(rule.target, np.nan_to_num(self.search.sample[rule.target]))
            if spread(above) <= NARROW * spread(own) or touches.mean() >= OFTEN:
                yield replace(rule, narrow=True)

    def bounds(self) -> Iterator[Order]:
        """target >= each of its sources, of numbers, or of moments of one kind."""
        lower = dict[str, list[str]]()
        names = [name for name in self.numbers if name not in self.search.needs]
        glance = {name: float(ruler(self.search.columns[name])[0]) + float(ruler(self.search.columns[name])[1]) *
                  self.search.sample[name][:GLANCE] for name in names}  # fmt: skip
        for low, high in itertools.permutations(names, 2):
            kinds = [self.search.columns[name].type if self.moment(name) else None for name in (low, high)]
            if (
                kinds[0] != kinds[1]
                or self.search.columns[low].nulls
                or (glance[high] < glance[low]).mean() > 2 * SELDOM
            ):
                continue
            if self.mostly(self.order(high, [low])):
                lower.setdefault(high, []).append(low)
        for high in sorted(lower, key=lambda name: len(lower[name])):
            sources = [low for low in lower[high] if not any(low in lower.get(other, ()) for other in lower[high])]
            if sources and self.search.open(high, sources):
                rule = self.order(high, sources)
                yield replace(rule, share=float(rule.kept(self.search.values).mean()))

    def order(self, target: str, sources: Sequence[str]) -> Order:
        rulers = [ruler(self.search.columns[name]) for name in (target, *sources)]
        lattice = all(self.search.columns[name].pieces.lattice for name in (target, *sources))
        least: Fraction = min((start for start, _ in rulers), key=float)
        parts = [part for start, step in rulers for part in (start - least, step)]
        common = math.lcm(*(part.denominator for part in parts))
        unit = Fraction(math.gcd(*(int(part * common) for part in parts)), common) if lattice else Fraction(1)
        scaled = tuple((float((start - least) / unit), float(step / unit)) for start, step in rulers)
        text = f"{target} >= {' and '.join(sources)}"
        return Order(target, tuple(sources), 1.0, False, 0.0, text, scaled, lattice, narrow=False)


def ruler(column: Column) -> tuple[Fraction, Fraction]:
    """(start, step): a number as it is written is start + step * units."""
    grid = column.grid
    assert grid is not None
    return (Fraction(grid.base, grid.scale), Fraction(grid.unit, grid.scale)) if grid.lattice else (
        Fraction(0), Fraction(1))  # fmt: skip


def nice(weight: float) -> Fraction | None:
    """The weight as a ratio of small whole numbers; None if it is none."""
    found = Fraction(weight).limit_denominator(DENOMINATOR)
    return found if found and abs(float(found) - weight) <= 1e-6 * max(1.0, abs(weight)) else None


def median(values: Floats) -> float:
    """One of the values, in the middle of them."""
    filled = np.sort(values[~np.isnan(values)])
    return float(filled[len(filled) // 2]) if len(filled) else SILENT


def spread(values: Floats) -> float:
    """From the 5th to the 95th percentile."""
    low, high = np.nanquantile(values, [0.05, 0.95])
    return float(high - low)
