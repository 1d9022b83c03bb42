"""What holds between the cells of real rows holds in samples: sums, copies, products, orders, look-ups, roundings."""

from __future__ import annotations

import csv
import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

import quintet
from quintet.cli.main import main
from quintet.core.errors import ConfigError, QuintetWarning
from quintet.core.spaces import Discrete
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.pieces import pieces_of_numbers

pytestmark = pytest.mark.filterwarnings("ignore::quintet.core.errors.QuintetWarning")
representations = pytest.mark.parametrize("representation", ["discrete", "continuous"])
ZIPS = {f"{z:05d}": f"city {z % 7}" for z in range(10000, 10040)}


def houses(n: int = 1500, seed: int = 0) -> dict[str, list[Any]]:
    """Rows in which everything can be read off the values."""
    rng = np.random.default_rng(seed)
    above = rng.integers(60, 400, n) * 10 + (rng.random(n) < 0.03) * rng.integers(1, 9, n)
    basement = np.where(rng.random(n) < 0.6, 0, rng.integers(10, 200, n) * 10)
    price = np.exp(13 + 0.4 * rng.normal(size=n))
    step = rng.choice([1000, 500, 1], n, p=[0.7, 0.2, 0.1])
    lot = rng.integers(1000, 90_000, n)
    days = rng.integers(0, 900, n)
    cents, pieces = rng.integers(100, 5000, n), rng.integers(1, 40, n)
    zips = rng.choice(list(ZIPS), n)
    begin = [dt.date(2020, 1, 1) + dt.timedelta(days=int(d)) for d in days]
    return {
        "living": (above + basement).tolist(), "above": above.tolist(), "basement": basement.tolist(),
        "lot": lot.tolist(), "lot15": np.where(rng.random(n) < 0.25, lot, rng.integers(1000, 90_000, n)).tolist(),
        "listed": begin,
        "sold": [d + dt.timedelta(days=int(k)) for d, k in zip(begin, rng.geometric(0.1, n) - 1, strict=True)],
        "zip": zips.tolist(), "city": [ZIPS[z] for z in zips],
        "unit": (cents / 100).tolist(), "count": pieces.tolist(), "total": (cents * pieces / 100).round(2).tolist(),
        "celsius": (t := rng.integers(-100, 350, n) / 10).tolist(), "fahrenheit": (t * 9 / 5 + 32).round(2).tolist(),
        "price": (np.round(price / step) * step).astype(int).tolist(),
    }  # fmt: skip


RULES = {"living = above + basement", "lot15 = lot", "sold >= listed", "zip decides city", "total = unit x count",
         "fahrenheit = 1.8 x celsius + 32"}  # fmt: skip


def broken(rows: dict[str, list[Any]]) -> dict[str, int]:
    """How many rows break each rule that holds in all of `houses`."""
    r = rows
    return {
        "sum": sum(a != b + c for a, b, c in zip(r["living"], r["above"], r["basement"], strict=True)),
        "order": sum(a < b for a, b in zip(r["sold"], r["listed"], strict=True)),
        "city": sum(ZIPS[z] != c for z, c in zip(r["zip"], r["city"], strict=True)),
        "product": sum(abs(t - u * c) > 0.0051 for t, u, c in zip(r["total"], r["unit"], r["count"], strict=True)),
        "affine": sum(abs(f - 1.8 * c - 32) > 1e-6 for f, c in zip(r["fahrenheit"], r["celsius"], strict=True)),
    }


def points(codec: TableCodec, n: int, seed: int = 0) -> Tensor:
    """Any x of the space."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(codec.space, Discrete):
        return (torch.rand(n, codec.space.dims, generator=generator) * torch.tensor(codec.space.sizes)).long()
    return 2 * torch.randn(n, *codec.space.shape, generator=generator)


@pytest.fixture(scope="module")
def codecs() -> dict[str, TableCodec]:
    return {kind: TableCodec(kind).fit(pa.table(houses())) for kind in ("discrete", "continuous")}  # type: ignore[arg-type]


# -- finding ---------------------------------------------------------------------------------------------------------


def test_rules_are_found_and_told(codecs: dict[str, TableCodec]) -> None:
    for codec in codecs.values():
        assert {rule.text for rule in codec.ruled.found} == RULES
        assert "living = above + basement in all training rows, kept in all samples" in codec.ruled.told
        assert set(codec.ruled.computed) == {"living", "city", "total", "fahrenheit"}
        assert [column.name for column in codec.modelled] == [
            "above", "basement", "lot", "lot15", "listed", "sold - listed", "zip", "unit", "count", "celsius", "price"
        ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [40, 120, 3000])
def test_chance_makes_no_rule(seed: int, n: int) -> None:
    """Small integers, copies of few rows, flags, numbers whose ranges order them, and columns that nearly decide."""
    rng = np.random.default_rng(seed)
    rare = rng.random(n) < 0.004
    table = pa.table({
        **{f"i{k}": rng.integers(0, 3 + k, n) for k in range(6)},
        **{f"flag{k}": rng.random(n) < 0.01 for k in range(3)},
        "rare": rare, "name": [f"n{k}" for k in rng.integers(0, n, n)], "x": rng.normal(size=n),
        "high": rng.normal(size=n) + 40, "money": rng.integers(0, 10_000, n) / 100,
        "zip": (zips := rng.integers(0, 20, n)),
        "nearly": np.where(rng.random(n) < 0.02, rng.integers(0, 5, n), zips % 5),
    })  # fmt: skip
    assert TableCodec("discrete").fit(table).ruled.found == ()


def test_few_rows_have_no_rules_and_the_same_rows_the_same_rules() -> None:
    assert TableCodec("discrete").fit(pa.table(houses(80))).ruled.found == ()
    table = pa.table(houses(400))
    assert TableCodec("discrete").fit(table).ruled == TableCodec("discrete").fit(table).ruled


def test_the_user_overrules_them() -> None:
    table = pa.table(houses(400))
    none = TableCodec("discrete", TableCodec.Settings(rules="none")).fit(table)
    assert none.ruled.found == ()
    assert len(none.modelled) == len(none.columns)
    some = TableCodec("discrete", TableCodec.Settings(rules="living, city")).fit(table)
    assert {rule.target for rule in some.ruled.found} == {"living", "city"}
    with pytest.raises(ConfigError, match=r"coding\.rules names the column town"):
        TableCodec("discrete", TableCodec.Settings(rules="living,town")).fit(table)


def test_a_rule_with_exceptions_is_kept_as_often() -> None:
    """One row of 1,000 breaks the sum: it stays broken, and others do not break."""
    rows = houses(3000)
    odd = [500, 1500, 2500]
    for i in odd:
        rows["living"][i] += 7
    codec = TableCodec("discrete").fit(pa.table(rows))
    (rule,) = [rule for rule in codec.ruled.found if rule.target == "living"]
    assert rule.share == pytest.approx(0.999)
    assert "99.9 % of the training rows, kept in as many samples" in next(t for t in codec.ruled.told if "living" in t)
    back = codec.decode(codec.encode(pa.table(rows))).to_pydict()
    kept = [a == b + c for a, b, c in zip(back["living"], back["above"], back["basement"], strict=True)]
    assert [i for i, keeps in enumerate(kept) if not keeps] == odd


def test_what_a_total_leaves_is_known_where_it_is_filled() -> None:
    rows = houses(2000)
    rows["basement"][1], rows["living"][1] = 123, rows["above"][1] + 123
    rows["basement"] = [None if i % 40 == 0 else b for i, b in enumerate(rows["basement"])]
    codec = TableCodec("discrete").fit(pa.table(rows))
    assert {"basement = living - above", "living >= above"} <= {rule.text for rule in codec.ruled.found}
    for back in (codec.decode(codec.encode(pa.table(rows))), codec.decode(points(codec, 2000))):
        r = back.to_pydict()
        assert {b is None or (a == c - b and b >= 0) for a, b, c in
                zip(r["above"], r["basement"], r["living"], strict=True)} == {True}  # fmt: skip
        assert 0.005 < r["basement"].count(None) / 2000 < 0.9


# -- keeping ---------------------------------------------------------------------------------------------------------


@representations
def test_whatever_is_decoded_keeps_the_rules(codecs: dict[str, TableCodec], representation: str) -> None:
    codec, table = codecs[representation], pa.table(houses())
    for x in (codec.encode(table), points(codec, 600)):
        back = codec.decode(x)
        assert back.schema == table.schema
        assert set(broken(back.to_pydict()).values()) == {0}
        assert codec.ruled.broken(codec.values(codec.rows(back))) == []
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert again.decode(x).equals(back)
    assert torch.equal(again.encode(table), codec.encode(table))


@representations
def test_rows_come_back(codecs: dict[str, TableCodec], representation: str) -> None:
    """Categories and few values exactly, shares of copies and of roundings nearly, numbers nearly."""
    rows, back = houses(), codecs[representation].decode(codecs[representation].encode(pa.table(houses()))).to_pydict()
    for name in ("zip", "city", "count"):
        assert back[name] == rows[name]
    for old, new in ((rows, back),):
        same = [[a == b for a, b in zip(r["lot"], r["lot15"], strict=True)] for r in (old, new)]
        assert same[0] == same[1]
        for step in (1000, 500):
            shares = [np.mean([p % step == 0 for p in r["price"]]) for r in (old, new)]
            assert abs(shares[0] - shares[1]) < 0.02
    assert np.corrcoef(rows["living"], back["living"])[0, 1] > 0.99
    apart = [[(b - a).days for a, b in zip(r["listed"], r["sold"], strict=True)] for r in (rows, back)]
    assert np.corrcoef(apart)[0, 1] > 0.99


def test_from_a_file_to_samples_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = houses(1200)
    with (tmp_path / "houses.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    source, runs = str(tmp_path / "houses.csv"), ["--runs", str(tmp_path / "runs")]
    assert main(["data", source]) == 0
    told = capsys.readouterr().out
    assert "computed: living = above + basement in all training rows, kept in all samples" in told
    shares: dict[bool, tuple[float, float]] = {}
    for family in ("autoregressive", "vae"):
        assert main(["train", family, "--data", source, "--steps", "20", "--run", family, *runs]) == 0
        out = tmp_path / f"{family}.csv"
        assert main(["sample", family, "-n", "300", "-o", str(out), *runs]) == 0
        with out.open() as file:
            made: dict[str, list[Any]] = {name: [] for name in rows}
            for row in csv.DictReader(file):
                for name, cell in row.items():
                    number = name not in ("zip", "city", "listed", "sold")
                    made[name].append(float(cell) if number else cell)
        assert len(made["living"]) == 300
        assert set(broken(made).values()) == {0}
        for r in (rows, made):
            shares[r is made] = (np.mean([p % 1000 == 0 for p in r["price"]]),
                                 np.mean([a == b for a, b in zip(r["lot"], r["lot15"], strict=True)]))  # fmt: skip
        assert np.abs(np.subtract(shares[0], shares[1])).max() < 0.1
    assert "living = above + basement in all training rows" in (tmp_path / "runs" / "vae" / "CARD.md").read_text()


# -- holes -----------------------------------------------------------------------------------------------------------


@representations
def test_what_follows_from_given_cells_is_solved(codecs: dict[str, TableCodec], representation: str) -> None:
    """A part from the total, a unit price from the sum paid, and what is left is divided within its range."""
    codec, rows = codecs[representation], houses(300, seed=1)
    given = {name: list(cells) for name, cells in rows.items()}
    for i in range(300):
        for name in (("above",), ("above", "basement"), ("living",), ("basement", "living"), ("listed",), ("sold",))[
            i % 6
        ]:
            given[name][i] = None
        for name in (("zip",), ("zip", "city"), ("city",))[i % 3]:
            given[name][i] = None
        for name in (("unit",), ("total",), ("celsius",), ("fahrenheit",), ("count", "unit"))[i % 5]:
            given[name][i] = None
    holes = pa.table(given, schema=pa.table(rows).schema)
    x, known = codec.partial(holes)
    done = codec.fill(holes, None, codec.decode(torch.where(known, x, points(codec, 300)))).to_pydict()
    assert {name: n for name, n in broken(done).items() if n and name != "product"} == {}
    for name, cells in given.items():
        assert all(a is None or a == b for a, b in zip(cells, done[name], strict=True)), name
    for i in range(300):
        if i % 6 in (0, 2):
            assert done["above"][i] == rows["above"][i]
            assert done["living"][i] == rows["living"][i]
        if i % 5 in (0, 1):
            assert done["total"][i] == pytest.approx(rows["total"][i])
        if i % 5 in (2, 3):
            assert done["celsius"][i] == rows["celsius"][i]


# -- probabilities ---------------------------------------------------------------------------------------------------


def log_p(codec: TableCodec, x: Tensor) -> Tensor:
    """Under independent symbols, each as often as training had it."""
    assert isinstance(codec.space, Discrete)
    assert codec.space.shares is not None
    shares = [torch.tensor(each, dtype=torch.float64) for each in codec.space.shares]
    return sum((s / s.sum()).log()[x[:, i]] for i, s in enumerate(shares))  # type: ignore[return-value]


@pytest.mark.parametrize("gaps", [False, True])
def test_probabilities_of_rows_that_keep_and_break_rules_sum_to_one(gaps: bool) -> None:
    """Over all rows of a small table with a sum, a copy with exceptions and a look-up."""
    rng = np.random.default_rng(0)
    a, b, key = rng.integers(0, 6, 900), rng.integers(0, 5, 900), rng.integers(0, 4, 900)
    total = [None if gaps and i % 9 == 0 else int(s) for i, s in enumerate(a + b)]
    columns = {"total": total, "a": a, "b": b, "key": [f"k{k}" for k in key], "of": [f"o{k // 2}" for k in key]}
    table = pa.table(columns)
    codec = TableCodec("discrete", TableCodec.Settings(fine=1)).fit(table)
    assert {rule.target for rule in codec.ruled.found} == {"total", "of"}
    grid = np.meshgrid(np.arange(12 if gaps else 11), range(6), range(5), range(4), range(2), indexing="ij")
    t, i, j, k, o = (each.ravel() for each in grid)
    every = pa.table({"total": pa.array(t, mask=t == 11), "a": i, "b": j, "key": [f"k{n}" for n in k],
                      "of": [f"o{n}" for n in o]})  # fmt: skip
    p = (log_p(codec, codec.encode(every)) + codec.log_det(every)).exp()
    assert abs(float(p.sum()) - 1) < 2e-3
    keeps = (np.array(t == i + j) | (t == 11)) & (o == k // 2)
    assert float(p[torch.from_numpy(~keeps)].sum()) < 3 / 900


def test_a_row_that_breaks_a_rule_is_marked_and_unlikely(codecs: dict[str, TableCodec], tmp_path: Path) -> None:
    rows = houses(40, seed=3)
    rows["living"][7] += 10
    rows["city"][9] = "city 6" if rows["city"][9] != "city 6" else "city 5"
    for codec in codecs.values():
        found = codec.encoded(pa.table(rows))
        assert found.notes is not None
        assert [i for i, note in enumerate(found.notes) if note] == [7, 9]
        assert found.notes[7] == "living = above + basement does not hold, as it does in all training rows"
        kept = codec.encoded(pa.table(houses(40, seed=3)))
        fall = kept.log_det - found.log_det
        assert float(fall[7]) > 7
        assert float(fall[9]) > 7
        assert torch.isfinite(found.log_det).all()
        assert found.identity == ""  # cells that have probabilities, as other codecs give them
    rng = np.random.default_rng(0)
    real = pa.table({"x": (x := rng.normal(size=500)), "y": (y := rng.normal(size=500)), "s": x + y})
    assert TableCodec("continuous").fit(real).encoded(real).identity != ""  # a density on a plane


def test_a_trained_model_scores_and_completes_by_its_rules(tmp_path: Path) -> None:
    model = quintet.train("autoregressive", data=pa.table(houses(600)), steps=3, runs=tmp_path)
    rows = houses(20, seed=5)
    fair = model.log_prob(pa.table(rows)).values
    rows["total"][3] += 1.0
    found = model.log_prob(pa.table(rows))
    assert found.notes is not None
    assert "total = unit x count" in found.notes[3]
    assert fair[3] - found.values[3] > 5
    holes = pa.table(rows | {"basement": pa.nulls(20, pa.int64()), "city": pa.nulls(20, pa.string())})
    done = model.complete(holes)
    assert done["basement"].to_pylist() == rows["basement"]
    assert done["city"].to_pylist() == rows["city"]


def test_two_values_decide_two_others() -> None:
    """A number and a word for one thing, as `survived` and `alive`; and a coin beside them, which decides nothing."""
    rng = np.random.default_rng(0)
    survived, coin = rng.random(400) < 0.4, rng.random(400) < 0.5
    words = ["yes" if one else "no" for one in survived]
    table = pa.table({"survived": survived.astype(int), "alive": words, "coin": coin})
    with pytest.warns(QuintetWarning) as told:
        TableCodec("discrete").fit(table)
    assert [str(one.message).partition(" in all")[0] for one in told] == ["survived decides alive"]


def test_rules_of_a_sorted_file_are_those_of_all_its_rows() -> None:
    """A panel, country by country: no country of its first half is in the second. Some have no code."""
    codes = [None if i % 9 == 0 else f"C{i}" for i in range(60)]
    table = pa.table({
        "country": [f"country {i:02}" for i in range(60) for _ in range(30)],
        "code": [code for code in codes for _ in range(30)],
        "year": [1980 + year for _ in range(60) for year in range(30)],
        "yield": np.random.default_rng(0).normal(size=1800),
    })  # fmt: skip
    with pytest.warns(QuintetWarning, match="country decides code"):
        codec = TableCodec("discrete").fit(table)
    wrong = table.set_column(1, "code", pa.chunked_array([codes[1:] + codes[:1] for _ in range(30)]))
    made = codec.decode(codec.encode(wrong))
    assert [codes[int(name[-2:])] for name in made["country"].to_pylist()] == made["code"].to_pylist()


# -- roundings and ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1500, 12_000])
def test_numbers_end_as_they_do(n: int) -> None:
    """The shares of thousands, hundreds, and of 99; probabilities sum to one; places are one to one."""
    rng = np.random.default_rng(n)
    x = np.exp(12 + 0.4 * rng.normal(size=n))
    step = rng.choice([1000, 100, 1], n, p=[0.6, 0.2, 0.2])
    x = np.round(x / step) * step + (rng.random(n) < 0.2) * (step == 100) * 99
    pieces = pieces_of_numbers(x - x.min(), lattice=True, bins=64, origin=int(x.min()))
    assert pieces.endings is not None
    made = pieces.quantile(rng.random(100_000)) + x.min()
    for fits in (lambda v: v % 1000 == 0, lambda v: v % 100 == 0, lambda v: v % 100 == 99):
        assert abs(fits(made).mean() - fits(x).mean()) < 0.01
    every = np.arange(-2.0, np.ptp(x) + 3)
    p = np.exp(pieces.log_weight(every))
    start, width = pieces.interval(every)
    np.testing.assert_allclose(width, p, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose((start + width)[:-1], start[1:], atol=1e-9)
    assert (pieces.quantile(start + 0.5 * width)[3:-3] == every[3:-3]).mean() > 0.99  # but for rounding
    plain = pieces_of_numbers(x - x.min(), lattice=True, bins=64)
    assert pieces.log_weight(x - x.min()).mean() > plain.log_weight(x - x.min()).mean() + 1


def test_a_few_dozen_rows_show_how_numbers_end() -> None:
    """Hundreds but for one number, which alone would make the grid one of fours, as a column of salaries has them."""
    rng, made = np.random.default_rng(3), []
    for n in (40, 90):
        x = 2100 + 100.0 * rng.integers(0, 120, n)
        x[0], origin, unit = 12_008, 2100 // 4, 4
        pieces = pieces_of_numbers((x - 2100) / unit, lattice=True, bins=64, origin=origin)
        made.append(((unit * pieces.quantile(rng.random(10_000)) + 2100) % 100 == 0).mean())
    assert min(made) > 0.93
    for n in (40, 90):  # even ones have endings by chance, which are not taken for theirs
        even = [pieces_of_numbers(np.floor(50_000 * rng.random(n)), lattice=True, bins=64, origin=0) for _ in range(50)]
        assert sum(pieces.endings is not None for pieces in even) <= 2


def test_even_endings_are_no_grid() -> None:
    rng = np.random.default_rng(0)
    for x in (rng.integers(0, 10**6, 5000), np.round(1000 * rng.exponential(size=5000)), rng.binomial(4000, 0.5, 5000)):
        assert pieces_of_numbers(x - x.min() + 0.0, lattice=True, bins=64, origin=0).endings is None


def test_a_sum_larger_than_its_type_is_its_largest_number() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 60, 500), rng.integers(0, 60, 500)
    table = pa.table({"a": pa.array(a, pa.int8()), "b": pa.array(b, pa.int8()), "s": pa.array(a + b, pa.int8())})
    with pytest.warns(QuintetWarning):
        codec = TableCodec("discrete").fit(table)
    values = {"a": np.array([59.0]), "b": np.array([110.0])}
    assert codec._made(codec.ruled.restore(values, codec._by_name))["s"].to_pylist() == [127]
