"""How well rows keep what makes a table: columns, pairs of columns, ranges, rules, and what can be predicted.

A table is a matrix (N, columns) of float64, made by `Cells`: numbers as they are, categories as codes, nulls as NaN.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score

from quintet.core.random import some
from quintet.data import arrow
from quintet.metrics.distances import kolmogorov
from quintet.metrics.estimates import Array, Estimate, area, bootstrap, share, with_errors
from quintet.modalities.table.columns import RARE_MARK

MAX_ROWS, MAX_PAIRS, MAX_COLUMNS = 2000, 200, 50
"""Rows of either side, pairs of columns, columns that are searched for rules."""
BROKEN, BROKEN_SHARE = 10, 0.01
"""A rule is one if so many rows, and this part of them, would break it were columns independent."""
COMMON, MAX_CLASSES = 5, 50
"""Training rows that must hold a category for it to be predicted, and the most categories that are told apart."""
EXACT = 1e-6
"""Of a linear relation, in standard deviations."""


@dataclass(frozen=True)
class Cells:
    """How the cells of a table become numbers: the columns' names, and the codes of those that are categories."""

    names: tuple[str, ...]
    codes: Mapping[str, Mapping[Any, int]]

    @classmethod
    def of(cls, train: pa.Table) -> Self:
        """Read off training rows."""
        words = [name for name in train.column_names if not arrow.is_numeric(train[name].type)]
        known = {name: sorted(train[name].unique().drop_null().to_pylist(), key=str) for name in words}
        for values in known.values():
            if RARE_MARK not in values and values and isinstance(values[0], str):
                values.insert(1, RARE_MARK)
        return cls(tuple(train.column_names), {n: {v: i for i, v in enumerate(values)} for n, values in known.items()})

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Of each column, whether it is numbers."""
        return tuple(name not in self.codes for name in self.names)

    def __call__(self, table: pa.Table) -> Array:
        """(N, columns); a category that training lacks has a code of its own, the last; RARE has one within those of
        training, whose rare values it stands for.
        """
        out = np.empty((table.num_rows, len(self.names)))
        for i, name in enumerate(self.names):
            if name in self.codes:
                codes = self.codes[name]
                out[:, i] = [np.nan if c is None else codes.get(c, len(codes)) for c in table[name].to_pylist()]
            else:
                numbers, null = arrow.raw(table[name], f"column {name}")
                out[:, i] = np.where(null, np.nan, numbers)
        return out


# -- fidelity --------------------------------------------------------------------------------------------------------


def column_shapes(real: Array, fake: Array, numeric: Sequence[bool]) -> Estimate:
    """Mean over columns of 1 - Kolmogorov's distance (numbers) or 1 - total variation (categories); 1 is best.

    As in SDMetrics. A null is a category, and lies below all numbers. real (N, columns), fake (M, columns).
    """
    sides = [np.where(np.isnan(side), np.where(numeric, -np.inf, -1), side) for side in (real, fake)]

    def score(a: Array, b: Array) -> float:
        far = [kolmogorov(x, y) if number else variation(x, y) for x, y, number in zip(a.T, b.T, numeric, strict=True)]
        return 1 - float(np.mean(far))

    return bootstrap(score, *sides)


def pair_trends(real: Array, fake: Array, numeric: Sequence[bool]) -> Estimate:
    """Mean over pairs of columns of 1 - |difference of correlations| / 2 (numbers), else 1 - total variation of the
    contingency table, numbers cut at the real rows' deciles; 1 is best. As in SDMetrics.

    A null is a category of its own, and in a correlation the mean of its column. Of many pairs MAX_PAIRS are drawn.
    """
    columns = len(numeric)
    pairs = list(itertools.combinations(range(columns), 2))
    if len(pairs) > MAX_PAIRS:
        pairs = [pairs[i] for i in some(pairs, MAX_PAIRS, 0)]
    binned = [np.empty(side.shape) for side in (real, fake)]
    for i, number in enumerate(numeric):
        filled = real[~np.isnan(real[:, i]), i]  # in few rows it may be that none is
        deciles = np.quantile(filled, np.linspace(0, 1, 11)[1:-1]) if len(filled) else filled
        edges = np.unique(deciles) if number else None
        for out, side in zip(binned, (real, fake), strict=True):
            out[:, i] = side[:, i] if edges is None else np.searchsorted(edges, side[:, i])
            out[np.isnan(side[:, i]), i] = -1

    def score(a: Array, b: Array) -> float:
        (of_a, bins_a), (of_b, bins_b) = (np.split(side, 2, axis=1) for side in (a, b))
        gap = np.abs(_correlations(of_a) - _correlations(of_b)) / 2
        far = [
            gap[i, j] if numeric[i] and numeric[j] else
            variation(bins_a[:, i] * 1e6 + bins_a[:, j], bins_b[:, i] * 1e6 + bins_b[:, j])
            for i, j in pairs
        ]  # fmt: skip
        return 1 - float(np.mean(far))

    return bootstrap(score, *(np.concatenate(side, axis=1) for side in zip((real, fake), binned, strict=True)))


def _correlations(x: Array) -> Array:
    """(columns, columns); 0 for a constant column, and for one of nulls alone."""
    filled = (~np.isnan(x)).sum(0).clip(1)
    x = np.nan_to_num(x - np.nansum(x, axis=0) / filled)
    norm = np.linalg.norm(x, axis=0)
    return (x.T @ x) / np.maximum(np.outer(norm, norm), 1e-300)


def variation(a: Array, b: Array) -> float:
    """Total variation, 1/2 sum_v |p(v) - q(v)|, of two samples of symbols (N,) and (M,)."""
    symbols, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    p, q = (np.bincount(part, minlength=len(symbols)) / len(part) for part in (place[: len(a)], place[len(a) :]))
    return float(0.5 * np.abs(p - q).sum())


def ranges_kept(train: Array, fake: Array, numeric: Sequence[bool]) -> Estimate:
    """Share of rows in which every number lies within that column's training range, every category was seen there, and
    a null stands only where training had some.
    """
    with np.errstate(invalid="ignore"):
        known = (fake >= np.nanmin(train, axis=0)) & (fake <= np.nanmax(train, axis=0))
    return share((known | (np.isnan(fake) & np.isnan(train).any(0))).all(1))


# -- rules -----------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """What all training rows keep; `kept` (N, columns) -> (N,) bool."""

    name: str
    kept: Callable[[Array], Array]


def rules(train: Array, names: Sequence[str], numeric: Sequence[bool]) -> list[Rule]:
    """Rules that every training row keeps and that independent columns would break.

    a <= b of two numbers; a category that decides another cell; exact linear relations among numbers (sums). A rule
    must be broken by at least BROKEN rows, and BROKEN_SHARE of them, once each column is shuffled by itself: what
    holds by the ranges alone, or may hold by chance, is none.
    """
    shuffled = np.random.default_rng(0).permuted(train, axis=0)
    needed = max(BROKEN, BROKEN_SHARE * len(train))
    return [
        rule for rule in _candidates(train, names, numeric)
        if rule.kept(train).all() and (~rule.kept(shuffled)).sum() >= needed
    ]  # fmt: skip


def _candidates(train: Array, names: Sequence[str], numeric: Sequence[bool]) -> Iterator[Rule]:
    columns = range(min(len(names), MAX_COLUMNS))
    for a, b in itertools.permutations(columns, 2):
        if numeric[a] and numeric[b]:
            yield Rule(f"{names[a]} <= {names[b]}", _ordered(a, b))
        elif not numeric[a]:
            yield Rule(f"{names[a]} decides {names[b]}", _decides(train, a, b))
    numbers = [i for i in columns if numeric[i] and not np.isnan(train[:, i]).any()]
    if len(numbers) > 1:
        centre, scale = train[:, numbers].mean(0), train[:, numbers].std(0)
        scale = np.where(scale > 0, scale, 1.0)
        _, spread, directions = np.linalg.svd((train[:, numbers] - centre) / scale, full_matrices=False)
        still = directions[(spread < EXACT * np.sqrt(len(train))) & (np.abs(directions) < 1 - EXACT).all(1)]
        if len(still):

            def balanced(rows: Array) -> Array:
                left = (rows[:, numbers] - centre) / scale @ still.T
                return np.asarray((np.abs(left) < 100 * EXACT).all(1))

            yield Rule(f"{len(still)} linear relations", balanced)


def _ordered(a: int, b: int) -> Callable[[Array], Array]:
    return lambda rows: ~(rows[:, a] > rows[:, b])


def _decides(train: Array, a: int, b: int) -> Callable[[Array], Array]:
    """Whether a row's cell b is the one that training rows with its category a have; categories new to it decide
    nothing.
    """
    places = np.nan_to_num(train[:, a], nan=-1).astype(int) + 1
    value = np.full(places.max() + 2, np.inf)
    value[places] = np.nan_to_num(train[:, b], nan=-1e300)

    def kept(rows: Array) -> Array:
        place = np.minimum(np.nan_to_num(rows[:, a], nan=-1).astype(int) + 1, len(value) - 1)
        same: Array = np.isinf(value[place]) | (np.nan_to_num(rows[:, b], nan=-1e300) == value[place])
        return same

    return kept


# -- prediction ------------------------------------------------------------------------------------------------------


class Predicted(NamedTuple):
    """Which column `efficacy` predicts: a number, or one of `classes`; `why` it predicts none; all of it in words."""

    name: str
    at: int
    number: bool
    classes: Array
    why: str
    words: str

    @classmethod
    def of(cls, train: Array, unseen: Array, at: int, name: str, *, numeric: bool) -> Predicted:
        """By training rows (N, columns). Categories that fewer than COMMON of them hold are no classes: samples say
        RARE in their place, and nothing can be learnt of them. A column mostly of such ones, as of free texts, is not
        predicted, nor one of more than MAX_CLASSES, nor one of which the unseen rows (M, columns) say too little.
        """
        filled, held = (side[~np.isnan(side[:, at]), at] for side in (train, unseen))
        values, counts = np.unique(filled, return_counts=True)
        if numeric and len(values) > 2:
            why = "" if len(np.unique(held)) > 1 else "the unseen rows hold fewer than two values of it"
            return cls(name, at, True, values, why, f"nothing is predicted: column {name}, {why}" if why else
                       f"column {name}, R2")  # fmt: skip
        classes = values if numeric else values[counts >= COMMON]
        lost = len(filled) - int(counts[np.isin(values, classes)].sum())
        why = ""
        if 2 * lost > len(filled):
            why = f"most of its values are held by fewer than {COMMON} training rows, as of free texts"
        elif len(classes) > MAX_CLASSES:
            why = f"it has {len(classes):,} categories, more than {MAX_CLASSES}"
        elif len(classes) < 2:
            why = f"fewer than two categories are held by at least {COMMON} training rows"
        elif len(classes) == 2 and min(np.count_nonzero(held == one) for one in classes) < 2:
            why = "of its two categories one is held by fewer than two unseen rows"
        words = f"column {name}, {'AUC' if len(classes) == 2 else f'accuracy among {len(classes)} categories'}"
        words += f"; {lost:,} of {len(filled):,} training rows have rarer values, which are left out" if lost else ""
        return cls(name, at, False, classes, why, f"nothing is predicted: column {name}, {why}" if why else words)

    def rows(self, side: Array) -> Array:
        """Those with a value that can be predicted."""
        cells = side[:, self.at]
        return side[~np.isnan(cells) if self.number else np.isin(cells, self.classes)]


def predicted(train: pa.Table, unseen: pa.Table, target: str) -> Predicted:
    """What `efficacy` predicts of unseen rows where `target` is asked for."""
    cells = Cells.of(train)
    at = cells.names.index(target)
    return Predicted.of(cells(train), cells(unseen), at, target, numeric=cells.numeric[at])


def efficacy(rows: Array, test: Array, at: int, *, regression: bool, seed: int = 0) -> Estimate:
    """How well gradient boosting, fitted on `rows` (N, columns), predicts column `at` of real `test` rows.

    R2 of a number, AUC of two categories, accuracy of more (Esteban et al. 2017, arXiv:1706.02633). Rows without a
    target are left out. 0.5, or the accuracy of the one category, where `rows` have one only.
    """
    rows, test = (side[~np.isnan(side[:, at])] for side in (rows, test))
    x, y, unseen, truth = np.delete(rows, at, 1), rows[:, at], np.delete(test, at, 1), test[:, at]
    if regression:
        found = HistGradientBoostingRegressor(random_state=seed).fit(x, y).predict(unseen)
        pairs = np.stack([truth, found], 1)
        return bootstrap(lambda part: float(r2_score(part[:, 0], part[:, 1])), pairs, seed=seed)
    labels = np.unique(np.concatenate([y, truth]))
    one = len(np.unique(y)) < 2
    model = None if one else HistGradientBoostingClassifier(random_state=seed).fit(x, y)
    if len(labels) > 2 or len(np.unique(truth)) < 2:
        return share((y[0] if model is None else model.predict(unseen)) == truth)
    p = np.zeros(len(truth)) if model is None else model.predict_proba(unseen)[:, 1]
    return area(p[truth == labels[1]], p[truth == labels[0]])


def table_figures(
    train: pa.Table, heldout: pa.Table, fake: pa.Table, target: str | None = None, seed: int = 0
) -> dict[str, float]:
    """All of these figures for rows `fake` against as many held-out rows, drawn by `seed`; with `NAME_stderr`.

    `rules` is how many were found.

    `target`: the column of `efficacy`, and of `efficacy_real` where as many training rows take the samples' place;
    see `Predicted` for what is predicted of it.
    """
    cells = Cells.of(train.select(fake.column_names))
    seen, real, made = (cells(table) for table in (train, heldout, fake))
    n = min(len(real), len(made), MAX_ROWS)
    few_real, few_made = (side[some(side, n, seed)] for side in (real, made))
    estimates = {
        "column_shapes": column_shapes(few_real, few_made, cells.numeric),
        "ranges_kept": ranges_kept(seen, made, cells.numeric),
    }
    if len(cells.names) > 1:
        estimates["pair_trends"] = pair_trends(few_real, few_made, cells.numeric)
    found = rules(seen, cells.names, cells.numeric)
    if found:
        estimates["rules_kept"] = share(np.all([rule.kept(made) for rule in found], axis=0))
    if target in cells.names and len(cells.names) > 1:
        at = cells.names.index(target)
        drawn = seen[some(seen, len(made), seed)]
        what = Predicted.of(seen, real, at, target, numeric=cells.numeric[at])
        sides = [("efficacy", what.rows(made)), ("efficacy_real", what.rows(drawn))]
        few = what.rows(real)
        if not what.why and len(few) and all(len(rows) for _, rows in sides):
            for name, rows in sides:
                estimates[name] = efficacy(rows, few, at, regression=what.number, seed=seed)
    return with_errors(estimates) | {"rules": len(found)}
