"""Figures of tables against definitions by hand and scipy; rules that are planted are found, and others are not."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp

from quintet.modalities.table import figures as tables
from quintet.modalities.table.figures import Cells
from quintet.sources.load import load_source

MIXED = (True, True, False)


def rows(n: int, seed: int, slope: float = 1.0) -> np.ndarray:
    """A number, another that follows it, a category that follows its sign; a tenth of the first are null."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y, c = slope * x + rng.normal(size=n), (x + 0.5 * rng.normal(size=n) > 0).astype(float)
    return np.stack([np.where(rng.random(n) < 0.1, np.nan, x), y, c], 1)


def test_cells_are_numbers_codes_and_nulls() -> None:
    train = pa.table(
        {"n": [1, 2, None], "c": ["b", "a", "b"], "flag": [True, None, False], "f": [0.5, float("nan"), 1]}
    )
    cells = Cells.of(train)
    nan = np.nan
    assert cells.numeric == (True, False, False, True)
    assert np.array_equal(cells(train), [[1, 2, 1, 0.5], [2, 0, nan, nan], [nan, 2, 0, 1]], equal_nan=True)
    new = pa.table({"n": [9, 9], "c": ["new", "(rare)"], "flag": [True] * 2, "f": [2.0] * 2})
    assert cells(new).tolist() == [[9, 3, 1, 2], [9, 1, 1, 2]]  # what stands for rare values lies within training's


def test_column_shapes_are_kolmogorovs_and_variations() -> None:
    a, b = rows(300, 0), rows(200, 1) + np.array([0.5, 0.0, 0.0])
    low = [np.where(np.isnan(side[:, 0]), -99, side[:, 0]) for side in (a, b)]
    shares = [side[:, 2].mean() for side in (a, b)]
    by_hand = [ks_2samp(*low).statistic, ks_2samp(a[:, 1], b[:, 1]).statistic, abs(shares[0] - shares[1])]
    assert tables.column_shapes(a, b, MIXED).value == pytest.approx(1 - np.mean(by_hand))
    assert tables.column_shapes(a, a, MIXED).value == 1
    low_null, few = np.array([[np.nan], [3], [3], [3]]), np.array([[-1.0], [-1], [-1], [3]])
    assert tables.column_shapes(low_null, few, (True,)).value == 0.5  # below -1, not among the numbers
    nulls = a.copy()
    nulls[np.isnan(nulls)] = np.nanmean(a[:, 0])
    assert tables.column_shapes(a, nulls, MIXED).value < 1


def test_pair_trends_by_hand() -> None:
    a, b = (
        np.array([[1.0, 2, 0], [2, 1, 0], [3, 4, 1], [4, 3, 1]]),
        np.array([[1.0, 4, 0], [2, 3, 1], [3, 2, 0], [4, 1, 1]]),
    )
    r, s = (np.corrcoef(side[:, 0], side[:, 1])[0, 1] for side in (a, b))
    # Every value is a cell of its own here: of (number, category) two of four agree in the first pair, and so on.
    shares = [len({(x, c) for x, _, c in a} & {(x, c) for x, _, c in b}) / 4,
              len({(y, c) for _, y, c in a} & {(y, c) for _, y, c in b}) / 4]  # fmt: skip
    assert tables.pair_trends(a, b, MIXED).value == pytest.approx(np.mean([1 - abs(r - s) / 2, *shares]))
    assert tables.pair_trends(a, a, MIXED).value == pytest.approx(1)
    empty = np.column_stack([a, np.full(4, np.nan)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tables.pair_trends(empty, empty, (*MIXED, True)).value == pytest.approx(1)
    wide = np.random.default_rng(0).normal(size=(50, 30))  # more pairs than are looked at
    assert tables.pair_trends(wide, wide, (True,) * 30).value == pytest.approx(1)


@pytest.mark.parametrize("figure", [tables.column_shapes, tables.pair_trends])
def test_the_bootstrap_error_is_the_spread_of_repetitions(figure: object) -> None:
    found = [figure(rows(200, 2 * k), rows(200, 2 * k + 1, slope=0.4), MIXED) for k in range(40)]  # type: ignore[operator]
    ratio = np.mean([f.stderr for f in found]) / np.std([f.value for f in found])
    assert ratio == pytest.approx(1, abs=0.35)


def test_ranges() -> None:
    train = np.array([[1.0, 0], [5, 1], [np.nan, 1]])
    fake = np.array([[1.0, 0], [5.1, 0], [3, 2], [np.nan, 1], [3, np.nan]])
    assert tables.ranges_kept(train, fake, (True, False)).value == pytest.approx(2 / 5)


def test_planted_rules_are_found_and_those_of_chance_are_not() -> None:
    rng = np.random.default_rng(0)
    n = 400
    start, length, town = rng.normal(size=n), rng.exponential(size=n), rng.integers(0, 6, n)
    free, far = rng.normal(size=n), 100 + rng.normal(size=n)
    names = ("start", "length", "end", "town", "county", "free", "far")
    numeric = (True, True, True, False, False, True, True)
    train = np.stack([start, length, start + length, town, town // 2, free, far], 1).astype(float)
    found = {rule.name: rule for rule in tables.rules(train, names, numeric)}
    # `far` is above all others by its range, and the key-like numbers decide nothing.
    assert set(found) == {"start <= end", "town decides county", "1 linear relations"}
    broken = train.copy()
    broken[:100, 2] += 0.1  # end is later than it should be
    broken[100:150, 4] = (broken[100:150, 4] + 1) % 3
    broken[150:, 3] = 9  # a town that training lacks decides nothing
    assert found["1 linear relations"].kept(broken).mean() == 0.75
    assert found["town decides county"].kept(broken).sum() == n - 50
    assert found["start <= end"].kept(broken).all()
    assert not tables.rules(rng.normal(size=(400, 6)), names[:6], (True,) * 6)
    assert not tables.rules(rng.integers(0, 2, (400, 4)).astype(float), names[:4], (False,) * 4)


def test_the_rules_of_a_real_table_hold_for_unseen_rows() -> None:
    data = load_source("breast_cancer")
    train, test = data.rows("train"), data.rows("test")
    cells = Cells.of(train)
    found = tables.rules(cells(train), cells.names, cells.numeric)
    assert "mean_radius <= worst_radius" in {rule.name for rule in found}
    assert np.mean([rule.kept(cells(test)).mean() for rule in found]) > 0.98


@pytest.mark.parametrize(("at", "regression", "good"), [(1, True, 0.3), (2, False, 0.75)])
def test_efficacy_is_high_for_real_rows_and_not_for_shuffled_ones(at: int, regression: bool, good: float) -> None:
    train, test = rows(1000, 0), rows(500, 1)
    shuffled = np.random.default_rng(0).permuted(train, axis=0)
    real = tables.efficacy(train, test, at, regression=regression)
    lost = tables.efficacy(shuffled, test, at, regression=regression)
    assert real.value > good > lost.value + 5 * lost.stderr
    one = test.copy()
    one[:, 2] = 1
    assert tables.efficacy(one, test, 2, regression=False).value == 0.5


RARE_CELLS = {
    "free text": ([f"comment {i} of many" for i in range(300)], "nothing is predicted: column y, most of its values"),
    "two categories and a rare one": ([*"abbab" * 59, *"ccdef"], "column y, AUC; 5 of"),
    "sixty categories": ([f"k{i % 60}" for i in range(300)] , "nothing is predicted: column y, it has 60 categories"),
    "one category": (["a"] * 298 + ["b", "c"], "nothing is predicted: column y, fewer than two categories"),
    "a truth as a number": ([0.0, 1.0, None] * 100, "column y, AUC"),
}  # fmt: skip


@pytest.mark.parametrize("name", RARE_CELLS)
def test_what_is_predicted_is_said_and_rare_values_are_no_classes(name: str) -> None:
    """Samples say (rare) where training has values of single rows: neither these nor free texts are predicted, and a
    column of two classes is measured by AUC on the samples as on real rows.
    """
    cells, words = RARE_CELLS[name]
    x = [{"a": 1.0, "b": -1.0}.get(str(cell), float(cell == 1.0)) for cell in cells]
    train = pa.table({"x": x, "y": cells})
    fake = train if not isinstance(cells[0], str) else pa.table({"x": x, "y": [*cells[:280], *["(rare)"] * 20]})
    found = tables.table_figures(train, train, fake, "y")
    assert tables.predicted(train, train, "y").words.startswith(words)
    assert ("efficacy" in found) == ("efficacy_real" in found) == (", AUC" in words)
    if ", AUC" in words:
        assert found["efficacy"] > 0.99 < found["efficacy_real"]


def test_nothing_is_predicted_of_unseen_rows_that_are_all_alike() -> None:
    """A single row has no rank among others of its category, so there is no AUC of it, and no R2 of one value."""
    train = pa.table({"x": [0.0, 1.0, 2.0] * 100, "gift": [True, True, False] * 100, "n": [1.0, 2.0, 5.0] * 100})
    few = train.slice(1, 2).take([0, 0, 0, 1])
    for target, unseen, why in (("gift", few, "of its two categories one"), ("n", few.slice(0, 3), "hold fewer than")):
        found = tables.table_figures(train, unseen, train, target)
        assert why in tables.predicted(train, unseen, target).words
        assert not {"efficacy", "efficacy_real"} & set(found)
        assert {"column_shapes", "pair_trends"} < set(found)


def test_all_figures_of_a_table() -> None:
    names = ("x", "y", "c")
    train, test, fake = (
        pa.table({n: pa.array(rows(k, s)[:, i], from_pandas=True) for i, n in enumerate(names)})
        for s, k in enumerate((300, 150, 200))
    )
    found = tables.table_figures(train, test, fake, "y")
    assert {"column_shapes", "pair_trends", "ranges_kept", "efficacy", "efficacy_real", "rules"} <= set(found)
    assert abs(found["efficacy"] - found["efficacy_real"]) < 3 * (found["efficacy_stderr"] + 0.05)
    assert found == tables.table_figures(train, test, fake, "y")
    assert "pair_trends" not in tables.table_figures(train.select(["x"]), test, fake.select(["x"]))
