"""Tables: types, ranges, decimals, spikes and nulls come back; raw likelihoods sum and integrate to one."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import quintet
from quintet.cli.main import main
from quintet.core.errors import DataError, QuintetWarning
from quintet.core.spaces import Continuous, Discrete
from quintet.data import arrow
from quintet.evaluation.bench import Bench
from quintet.families.vae import VAE
from quintet.fit.fitting import plan
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.pieces import pieces_of_numbers
from quintet.runs.task import Task
from quintet.sources import load as sources
from quintet.sources.load import Dataset, load_source

RNG = np.random.default_rng(0)
N = 600
representations = pytest.mark.parametrize("representation", ["discrete", "continuous"])


def holes(values: list[Any], share: float = 0.1) -> list[Any]:
    """The values, with some of them None."""
    return [None if hole else value for value, hole in zip(values, RNG.random(N) < share, strict=True)]


DAY = dt.date(2020, 1, 1)
COLUMNS: dict[str, pa.Array] = {
    "float64": pa.array(RNG.normal(size=N)),
    "float32": pa.array(RNG.normal(size=N).astype(np.float32)),
    "float16": pa.array((RNG.integers(0, 40, N) / 4).astype(np.float16)),
    "int8": pa.array(RNG.integers(-100, 100, N), pa.int8()),
    "uint8": pa.array(RNG.integers(0, 3, N), pa.uint8()),
    "int64": pa.array(RNG.integers(-(10**12), 10**12, N)),
    "uint64": pa.array([2**63 + 5 * int(k) for k in RNG.integers(0, 50, N)], pa.uint64()),
    "decimal": pa.array([decimal.Decimal(int(k)) / 100 for k in RNG.integers(-500, 90_000, N)], pa.decimal128(9, 3)),
    "bool": pa.array(RNG.random(N) < 0.3),
    "string": pa.array(RNG.choice(["red", "green", "blue", ""], N)),
    "large_string": pa.array(RNG.choice(["red", "green"], N), pa.large_string()),
    "dictionary": pa.array(RNG.choice(["red", "green"], N)).dictionary_encode().cast(
        pa.dictionary(pa.int8(), pa.string())
    ),
    "date32": pa.array([DAY + dt.timedelta(days=int(k)) for k in RNG.integers(0, 900, N)]),
    "date64": pa.array([DAY + dt.timedelta(days=7 * int(k)) for k in RNG.integers(0, 90, N)], pa.date64()),
    "timestamp": pa.array(RNG.integers(1_500_000_000, 1_600_000_000, N), pa.timestamp("s", tz="Europe/Paris")),
    "nanoseconds": pa.array(RNG.integers(1_500_000_000, 1_600_000_000, N) * 10**9, pa.timestamp("ns")),
    "time": pa.array((RNG.integers(0, 1440, N) * 60).astype(np.int32), pa.time32("s")),
    "duration": pa.array(RNG.integers(0, 10**6, N), pa.duration("ms")),
    "null": pa.nulls(N),
}  # fmt: skip
COLUMNS |= {
    f"{name}?": pa.array(holes(COLUMNS[name].to_pylist()), COLUMNS[name].type)
    for name in ("float64", "int8", "int64", "bool", "string", "decimal", "timestamp")
}
TABLE = pa.table(COLUMNS)


def points(codec: TableCodec, n: int, seed: int = 0) -> Tensor:
    """Any x of the space."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(codec.space, Discrete):
        sizes = torch.tensor(codec.space.sizes)
        return (torch.rand(n, codec.space.dims, generator=generator) * sizes).long()
    x = 3 * torch.randn(n, *codec.space.shape, generator=generator)
    x[0], x[1], x[2] = float("nan"), float("inf"), -1e30
    return x


# -- types -----------------------------------------------------------------------------------------------------------


@representations
@pytest.mark.parametrize("name", COLUMNS)
def test_any_point_decodes_to_what_the_column_may_hold(representation: Any, name: str) -> None:
    """The type, the range, the decimals, the categories; nulls only where training had some. Twice the same."""
    table = TABLE.select([name])
    codec = TableCodec(representation).fit(table)
    x = points(codec, 400)
    back = codec.decode(x)
    assert back.schema == table.schema
    assert len(back) == 400
    assert back.equals(codec.decode(x))
    cells, seen = back[name], table[name]
    assert (cells.null_count > 0) == (seen.null_count > 0)
    if arrow.is_numeric(seen.type):
        low, high = (getattr(seen.drop_null().to_numpy(), f)() for f in ("min", "max"))
        made = cells.drop_null().to_numpy()
        assert ((made >= low) & (made <= high)).all()
        assert codec.columns[0].grid is not None
        if codec.columns[0].grid.lattice:  # the decimals
            again = arrow.to_units(cells, codec.columns[0].grid, seen.type, "")
            there = arrow.from_units(again[~np.isnan(again)], codec.columns[0].grid, seen.type)
            assert there.to_pylist() == cells.drop_null().to_pylist()
    else:
        assert set(cells.to_pylist()) <= set(seen.to_pylist())


@representations
def test_rows_come_back(representation: Any) -> None:
    """Nulls, categories and few values exactly; other numbers within their bin, or to single precision. What is a copy,
    but for gaps, stays one.
    """
    codec = TableCodec(representation).fit(TABLE)
    back = codec.decode(codec.encode(TABLE))
    assert back.schema == TABLE.schema
    copies = {rule.target for rule in codec.ruled.found}
    assert copies >= {"float64?", "int8?", "int64?", "decimal?", "timestamp?"}
    for c in codec.columns:
        a, b = TABLE[c.name], back[c.name]
        assert a.is_null().to_pylist() == b.is_null().to_pylist()
        if c.name in copies:
            assert [cell for cell in b.to_pylist() if cell is not None] == [
                cell for cell, own in zip(back[c.name[:-1]].to_pylist(), b.to_pylist(), strict=True) if own is not None
            ]
            continue
        if not c.number or c.pieces.points is not None:
            assert a.to_pylist() == b.to_pylist(), c.name
            continue
        x, y = (arrow.to_units(cells, c.grid, c.type, "") for cells in (a, b))
        if c.calendar is not None:
            before, after = (c.calendar.split(np.nan_to_num(units)) for units in (x, y))
            for part, old, new in zip(c.parts, before, after, strict=True):
                assert (part.pieces.symbol(old) == part.pieces.symbol(new)).all(), part.name
        elif representation == "discrete":
            assert (c.pieces.symbol(np.nan_to_num(x)) == c.pieces.symbol(np.nan_to_num(y))).all()
        else:
            assert np.nanmax(np.abs(x - y)) <= 1e-5 * np.nanstd(x) + c.pieces.lattice


@settings(max_examples=60, deadline=None)
@example([0.0, 0.0, 1.0, 2.0, 3.0, 0.5, 5e-324, -1.0, -2.0, -3.0, *[None] * 20], "discrete")  # a tiny width
@given(st.lists(st.none() | st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.5]), min_size=1, max_size=40),
       st.sampled_from(["discrete", "continuous"]))  # fmt: skip
def test_any_column_of_numbers(cells: list[float | None], representation: Any) -> None:
    table = pa.table({"x": pa.array(cells, pa.float64())})
    codec = TableCodec(representation).fit(table)
    x = codec.encode(table)
    codec.space.check(x)
    back = codec.decode(x)
    assert back["x"].is_null().to_pylist() == [c is None for c in cells]
    if representation == "discrete":  # the bin; a value may be wider than a part of it
        assert torch.equal(codec.encode(back)[:, :1], x[:, :1])
    assert torch.isfinite(codec.log_det(table)).all()
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert torch.equal(again.encode(table), x)
    assert again.decode(x).equals(back)


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        ([0.25, 0.5, 1.75, -3.0], (True, -300, 25, 100)),
        ([10, 25, 40], (True, 10, 15, 1)),
        ([0.1, 0.2, 0.7, 0.3], (True, 1, 1, 10)),
        ([1 / 3, 2 / 3, 0.1], (False, 0, 1, 1)),
        ([1e18, 3e18, 2e18], (False, 0, 1, 1)),
    ],
)
def test_grids(values: list[float], grid: tuple[Any, ...]) -> None:
    found, units = arrow.to_grid(pa.chunked_array([pa.array(values)]), "")
    assert tuple(found) == grid
    assert arrow.from_units(units, found, pa.float64()).to_pylist() == values


def test_single_precision_is_told_from_rounding() -> None:
    rounded, real = RNG.integers(0, 10_000, 500) / 100, RNG.random(500) * 100
    for values, lattice in ((rounded, True), (real, False)):
        codec = TableCodec("discrete").fit(pa.table({"x": values.astype(np.float32)}))
        assert codec.columns[0].grid is not None
        assert codec.columns[0].grid.lattice == lattice


# -- spikes, tails, rare values --------------------------------------------------------------------------------------


@representations
def test_spikes_keep_their_share(representation: Any) -> None:
    """A value of 30 % has its symbol, and comes back in 30 % of even draws from F."""
    x = np.where(RNG.random(5000) < 0.3, 0.5, np.exp(RNG.normal(size=5000)))
    codec = TableCodec(representation).fit(pa.table({"x": x}))
    generator, n = torch.Generator().manual_seed(0), 20_000
    if representation == "discrete":
        weights = torch.from_numpy(codec.columns[0].pieces.weight)
        coarse = torch.multinomial(weights, n, replacement=True, generator=generator)
        z = torch.stack([coarse, torch.randint(64, (n,), generator=generator)], 1)
    else:
        z = torch.randn(n, 1, generator=generator)
    made = codec.decode(z)["x"].to_numpy()
    assert abs((made == 0.5).mean() - (x == 0.5).mean()) < 0.015
    levels = [0.1, 0.2, 0.7, 0.9, 0.99]
    assert np.abs(np.quantile(made, levels) / np.quantile(x, levels) - 1).max() < 0.1


def test_heavy_tails_keep_their_shape() -> None:
    """Draws of a Cauchy column: quantiles to 1 / 1000 lie within a third of those of the training values."""
    rng = np.random.default_rng(6)
    x = rng.standard_cauchy(20_000)
    pieces = pieces_of_numbers(x, lattice=False, bins=64)
    levels = np.array([0.001, 0.01, 0.1, 0.9, 0.99, 0.999])
    made = pieces.quantile(rng.random(200_000))
    off = np.abs(np.quantile(made, levels) / np.quantile(x, levels) - 1)
    assert off[1:-1].max() < 0.05
    assert off.max() < 1 / 3  # 20 values lie beyond 1 / 1000
    assert made.min() >= x.min()
    assert made.max() <= x.max()


def test_copies_of_a_column_stay_copies() -> None:
    x = RNG.normal(size=500)
    codec = TableCodec("discrete").fit(pa.table({"a": x, "b": RNG.normal(size=500), "c": x}))
    assert [column.name for column in codec.modelled] == ["a", "b"]
    back = codec.decode(points(codec, 300))
    assert back["a"].equals(back["c"])


def streets(n: int = 4000) -> tuple[list[str], dict[str, int]]:
    """Names of which some are frequent and many are there once or twice, and how often each is."""
    words = [f"w{int(k)}" for k in np.minimum(RNG.zipf(1.3, n), 400)]
    return words, {word: words.count(word) for word in set(words)}


@representations
def test_rare_categories_share_a_symbol_and_are_not_drawn(representation: Any) -> None:
    """What fewer than 3 rows hold never comes back, in its place stands (rare); all others do come back."""
    words, counts = streets()
    table = pa.table({"w": words, "x": RNG.random(4000)})
    few = {word for word, count in counts.items() if count < 3}
    with pytest.warns(QuintetWarning, match=rf"the rarest {len(few)} .* share a symbol.*Fewer than 3 rows.*\(rare\)"):
        codec = TableCodec(representation, TableCodec.Settings(categories=20)).fit(table)
    made = set(codec.decode(points(codec, 20_000))["w"].to_pylist())
    assert len(made) > 40
    assert made <= {"(rare)"} | (set(words) - few)
    back = codec.decode(codec.encode(table))["w"].to_pylist()
    assert back == ["(rare)" if word in few else word for word in words]
    seldom, new, hidden = (codec.encode({"w": [w], "x": [0.5]}) for w in (min(few), "never seen", "(rare)"))
    assert torch.equal(seldom[:, :1], new[:, :1])
    assert torch.equal(new, hidden)
    assert TableCodec.from_json(json.loads(json.dumps(codec.to_json()))).decode(seldom)["w"].to_pylist() == ["(rare)"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableCodec(representation).fit(
            pa.table({"b": [True] * 199 + [False], "x": RNG.random(200)})
        )  # no name, no text


@representations
def test_rare_categories_are_drawn_by_frequency_where_the_user_wants_it(representation: Any) -> None:
    words, counts = streets()
    with pytest.warns(QuintetWarning, match="one of them is, by their frequencies"):
        codec = TableCodec(representation, TableCodec.Settings(shared_by=1)).fit(
            pa.table({"w": words, "x": RNG.random(4000)})
        )
    once = {word for word, count in counts.items() if count == 1}
    made = codec.decode(points(codec, 20_000))["w"].to_pylist()
    assert set(made) <= set(words)
    assert len(once & set(made)) > 10


def test_comments_that_occur_once_do_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """From the file to the samples, and the card says so."""
    comments = ["fine" if i % 25 == 0 else f"guest {i} of room {i * 7} complained" for i in range(600)]
    rows = "".join(f"{i % 7},{text}\n" for i, text in enumerate(comments))
    (tmp_path / "stays.csv").write_text("nights,comment\n" + rows)
    asked: dict[str, Any] = {"data": str(tmp_path / "stays.csv"), "steps": 1, "preset": "tiny", "runs": tmp_path}
    for family in ("autoregressive", "flow"):
        model = quintet.train(family, run=family, **asked)
        made = model.sample(300, seed=0)["comment"].to_pylist()
        assert set(made) == {"fine", "(rare)"}
        assert "samples say (rare)" in (tmp_path / family / "CARD.md").read_text()
    assert any("samples say (rare)" in str(found.message) for found in recwarn)
    figures = quintet.load("flow", runs=tmp_path).evaluate(samples=50)["metrics"]
    assert figures["ranges_kept"] == 1  # (rare) is no value that training lacks
    model = quintet.train("autoregressive", run="all", config={"coding": {"shared_by": 1}}, **asked)
    assert set(model.sample(300, seed=0)["comment"].to_pylist()) <= set(comments)


def test_many_categories_keep_what_they_go_with() -> None:
    """700 codes, 20 with a symbol of their own: all come back, and all probabilities are exact and sum to one."""
    codes = [f"{k:03}" for k in np.minimum(RNG.geometric(0.02, 3000) + RNG.integers(0, 690, 3000), 699)]
    codes += [f"{k:03}" for k in range(700)] * 3
    table = pa.table({"code": codes})
    codec = TableCodec("discrete", TableCodec.Settings(categories=20)).fit(table)
    assert isinstance(codec.space, Discrete)
    assert codec.space.sizes == (20 + 11, 64)  # 680 codes in groups of 64
    assert not codec.notes
    symbols = codec.encode(table)
    assert codec.decode(symbols).equals(table)
    assert len(symbols[symbols[:, 0] >= 20].unique(dim=0)) >= 680
    every = torch.cartesian_prod(*(torch.arange(size) for size in codec.space.sizes))
    p = log_p(codec, every).exp()
    assert abs(float(p.sum()) - 1) < 1e-9
    cells = codec.decode(every)["code"].to_pylist()
    truth: dict[str, float] = {}
    for cell, mass in zip(cells, p.tolist(), strict=True):
        truth[cell] = truth.get(cell, 0.0) + mass
    assert set(truth) == set(codes)
    # encode chooses among the symbols of a cell evenly, and log_det says among how many
    column = codec.columns[0]
    for code in ("005", "300", "699"):
        units, null = (part[:, None] for part in column.units(codec.rows({"code": [code] * 64})["code"]))
        u = (np.arange(64) + 0.5) / 64
        x = torch.from_numpy(np.stack(column.encode(units[:, 0], null[:, 0], u), 1))
        inside = column.log_inside(units[:, 0], null[:, 0], x[:, 0].numpy())
        estimates = (log_p(codec, x) + torch.from_numpy(inside)).exp()
        assert abs(float(estimates.mean()) / truth[code] - 1) < 1e-9
        own = codec.space.sizes[1] == len(x.unique(dim=0))
        assert own == (column.categories.index(code) < 20)


@pytest.mark.parametrize("family", ["autoregressive", "masked_diffusion", "vae"])
def test_rare_values_are_not_drawn_too_often(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one step a net draws every symbol about as often as training held it: 777 in 3 of 3,000 rows, not in 1 of
    each 22, and a null in 2 of 100.
    """
    limit: list[int | None] = [20 * (i % 21) for i in range(3000)]
    limit[::1000], limit[1::50] = [777] * 3, [None] * 60
    table = pa.table({"limit": pa.array(limit, pa.int64()), "kind": RNG.choice(["a", "b"], 3000, p=[0.9, 0.1])})
    splits = {"train": np.arange(3000), "validation": np.arange(100), "test": np.arange(100)}
    monkeypatch.setitem(sources.SOURCES, "limits", lambda: Dataset("limits", "table", table, splits))
    model = quintet.train(family, data="limits", steps=1, preset="tiny", runs=tmp_path, run="r",
                          config={"coding": {"representation": "discrete"}})  # fmt: skip
    assert isinstance(model.family.space, Discrete)
    made = model.sample(2000, seed=0)
    assert made["limit"].to_pylist().count(777) <= 10
    assert 20 <= made["limit"].null_count <= 70
    assert 100 <= made["kind"].to_pylist().count("b") <= 320


# -- columns ---------------------------------------------------------------------------------------------------------


def test_keys_are_left_out_with_a_notice() -> None:
    table = pa.table({"id": np.arange(7, 7 + N), "code": [f"#{i}" for i in range(N)], "x": RNG.random(N)})
    with pytest.warns(QuintetWarning, match="only names its rows"):
        codec = TableCodec("discrete").fit(table)
    assert codec.dropped == ("id", "code")
    assert codec.to_json()["dropped"] == ["id", "code"]
    assert len(codec.notes) == 2
    assert codec.decode(codec.encode(table)).column_names == ["x"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TableCodec().fit(pa.table({"x": np.arange(N)})).dropped == ()  # nothing else to model
        assert TableCodec().fit(pa.table({"x": RNG.permutation(N), "y": RNG.random(N)})).dropped == ()


def test_a_counter_is_left_out_of_a_split_too_and_measurements_are_not(tmp_path: Path) -> None:
    """A hash split leaves gaps in a file's row numbers."""
    values = RNG.integers(0, 10**6, 200)
    rows = "".join(f"{i},{x},{y:.3f}\n" for i, (x, y) in enumerate(zip(np.sort(values), RNG.random(200), strict=True)))
    (tmp_path / "rows.csv").write_text("id,rising,y\n" + rows)
    train = load_source(str(tmp_path / "rows.csv")).rows("train")
    assert len(set(np.diff(train["id"].to_numpy()))) > 1, "the split has no gaps"
    with pytest.warns(QuintetWarning, match="column id only names its rows"):
        assert TableCodec().fit(train).dropped == ("id",)


def test_columns_in_any_order_and_further_ones() -> None:
    table = TABLE.select(["string", "int8", "float64?"])
    codec = TableCodec("discrete").fit(table)
    other = table.select(["float64?", "string", "int8"]).append_column("more", pa.array(range(N)))
    assert torch.equal(codec.encode(other), codec.encode(table))
    assert torch.equal(codec.encode(table.set_column(1, "int8", table["int8"].cast(pa.int64()))), codec.encode(table))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"x": [1.0, None], "w": ["a", "b"]}, "column x, row 2: 1 of 2 cells of this column are missing"),
        ({"x": [1.0, np.inf], "w": ["a", "b"]}, "column x: some cells hold infinite values"),
        ({"x": ["one", "two"], "w": ["a", "b"]}, "column x: these cells cannot be read as numbers"),
        ({"x": [1.0, 2.0], "w": ["a", "zebra"]}, "column w: the value 'zebra' did not occur in training"),
        ({"x": [1.0, 2.0]}, "w: the rows lack this column"),
    ],
)
def test_cells_that_do_not_fit_are_named(cells: dict[str, list[Any]], message: str) -> None:
    codec = TableCodec().fit(pa.table({"x": RNG.random(50), "w": RNG.choice(["a", "b"], 50)}))
    with pytest.raises(DataError) as error:
        codec.encode(cells)
    assert message in str(error.value)


def test_what_is_no_column_is_refused() -> None:
    with pytest.raises(DataError, match="a column of type list"):
        TableCodec().fit(pa.table({"x": [[1.0], [2.0]]}))
    with pytest.raises(DataError, match="two columns have the same name"):
        TableCodec().fit(pa.Table.from_arrays([pa.array([1, 2]), pa.array([1, 2])], names=["a", "a"]))
    strict = TableCodec("discrete", TableCodec.Settings(strict=True)).fit(pa.table({"label": [0, 1, 2] * 9}))
    with pytest.raises(DataError, match="the value 7 did not occur"):
        strict.encode({"label": [7]})


# -- likelihoods -----------------------------------------------------------------------------------------------------


def log_p(codec: TableCodec, x: Tensor) -> Tensor:
    """Of the encoded space: random probabilities of symbols, or a shifted normal density of every dimension.

    Dimensions with a width are taken as dequantised: the mass of the bin of +-1, over its width.
    """
    generator = torch.Generator().manual_seed(1)
    total = torch.zeros(len(x), dtype=torch.float64)
    if isinstance(codec.space, Discrete):
        for i, size in enumerate(codec.space.sizes or ()):
            p = torch.rand(size, generator=generator, dtype=torch.float64)
            total += (p / p.sum()).log()[x[:, i]]
        return total
    assert isinstance(codec.space, Continuous)
    normal = torch.distributions.Normal(0.3, 0.8)
    for i, width in enumerate(codec.space.widths or (0,) * codec.space.dims):
        z = x[:, i].double()
        total += torch.where(z > 0, 0.7, 0.3).double().log() - np.log(width) if width else normal.log_prob(z)
    return total


@representations
def test_a_density_integrates_to_one(representation: Any) -> None:
    """One column of real numbers with tails, beyond the training range too."""
    codec = TableCodec(representation).fit(pa.table({"x": np.exp(RNG.normal(size=3000))}))
    assert codec.measure == "density"
    (low, high) = codec.columns[0].pieces.high[0], codec.columns[0].pieces.low[-1]
    far = (high - low) * np.geomspace(1e-9, 1e7, 60_001)
    inner = np.sort(np.concatenate([np.linspace(low, high, 300_001), *(
        np.repeat(codec.columns[0].pieces.low[1:], 2) + s for s in (-1e-9, 1e-9))]))  # fmt: skip
    raw = np.concatenate([low - far[::-1], inner, high + far])
    values = (log_p(codec, codec.encode(raw)) + codec.log_det(raw)).exp().numpy()
    assert abs(np.trapezoid(values, raw) - 1) < 2e-3


@representations
def test_a_mixed_column_integrates_to_one(representation: Any) -> None:
    """Probabilities at spikes and of null, a density between: they sum to one together."""
    x = np.where(RNG.random(3000) < 0.4, 2.0, RNG.normal(size=3000))
    codec = TableCodec(representation).fit(pa.table({"x": pa.array(holes_of(x, 0.1))}))
    grid = np.linspace(-60, 60, 1_200_001)
    grid = grid[np.abs(grid - 2.0) > 1e-12]
    values = (log_p(codec, codec.encode(grid)) + codec.log_det(grid)).exp().numpy()
    spike = mean_mass(codec, {"x": [2.0] * 2000})
    null = mean_mass(codec, {"x": pa.array([None] * 2000, pa.float64())})
    assert spike > 0.003
    assert null > 0.003
    assert abs(np.trapezoid(values, grid) + spike + null - 1) < 5e-3


def holes_of(x: np.ndarray, share: float) -> list[float | None]:
    return [None if hole else float(v) for v, hole in zip(x, RNG.random(len(x)) < share, strict=True)]


def mean_mass(codec: TableCodec, cells: Any) -> float:
    """The probability of one cell, estimated over the codec's own draws: there is a second column that varies them."""
    column, estimates = codec.columns[0], []
    units, null = (part[:, None] for part in column.units(codec.rows(cells)[column.name]))
    if codec.representation.kind == "discrete":
        inside = 0.0 if null[0, 0] else float(column.pieces.log_weight(units[:1, 0])[0])
        symbol = column.pieces.count if null[0, 0] else int(column.pieces.symbol(units[:1, 0])[0])
        inside -= 0.0 if null[0, 0] else float(np.log(column.pieces.weight[symbol]))
        x = torch.stack([torch.full((64,), symbol), torch.arange(64)], 1)
        return float((log_p(codec, x) + inside).exp().sum())
    for u in (np.arange(2000) + 0.5) / 2000:  # midpoints instead of hashes
        start, width = column.pieces.interval(units[:1, 0])
        at = u if null[0, 0] else float(start[0] + u * width[0])
        z = torch.special.ndtri(torch.tensor([at], dtype=torch.float64))
        x = torch.stack([z, torch.tensor([1.0 if null[0, 0] else -1.0])], 1)
        inside = 0.0 if null[0, 0] else float(column.pieces.log_weight(units[:1, 0])[0])
        log_det = inside + 0.5 * float(z) ** 2 + 0.5 * np.log(2 * np.pi) + np.log(2)
        estimates.append(float((log_p(codec, x) + log_det).exp()[0]))
    return float(np.mean(estimates))


def test_probabilities_sum_to_one() -> None:
    """Every row of a table of categories and integers, enumerated; integers reach beyond the training range."""
    table = pa.table({"w": RNG.choice(["a", "b", "c"], N, p=[0.6, 0.3, 0.1]), "k": RNG.integers(0, 900, N) // 3 * 3})
    codec = TableCodec("discrete", TableCodec.Settings(bins=8, fine=1)).fit(table)
    assert codec.measure == "mass"
    numbers = np.arange(-30_000, 33_000, 3)
    rows = pa.table({"w": np.repeat(["a", "b", "c"], len(numbers)), "k": np.tile(numbers, 3)})
    total = float((log_p(codec, codec.encode(rows)) + codec.log_det(rows)).exp().sum())
    assert abs(total - 1) < 1e-3
    bits = TableCodec("continuous").fit(table.select(["w"]))
    rows = pa.table({"w": ["a", "b", "c"]})
    total = float((log_p(bits, bits.encode(rows)) + bits.log_det(rows)).exp().sum())
    assert abs(total - (1 - 0.7**2)) < 1e-6  # the pattern 11 stands for no category of its own


def test_continuous_probabilities_are_right_on_average() -> None:
    """An integer column under a normal model of z: the mean of the estimates = the probability of its interval."""
    table = pa.table({"k": RNG.integers(0, 12, 4000), "other": RNG.random(4000)})
    codec = TableCodec("continuous").fit(table)
    z = codec.encode(table)[:, 0].double()
    normal = torch.distributions.Normal(0.3, 0.8)
    pieces = codec.columns[0].pieces
    for k in (0, 5, 11):
        chosen = torch.from_numpy(table["k"].to_numpy() == k)
        weight = np.exp(pieces.log_weight(np.array([float(k)])))[0]
        estimate = (normal.log_prob(z) + 0.5 * z**2 + 0.5 * np.log(2 * np.pi)).exp()[chosen] * weight
        start, width = pieces.interval(np.array([float(k)]))
        ends = torch.special.ndtri(torch.tensor([start[0], start[0] + width[0]], dtype=torch.float64))
        exact = float(normal.cdf(ends[1]) - normal.cdf(ends[0]))
        assert abs(float(estimate.mean()) - exact) < 4 * float(estimate.std()) / chosen.sum() ** 0.5 + 1e-6
        assert abs(width[0] - weight) < 1e-12


# -- dates and times ---------------------------------------------------------------------------------------------------


def moments(n: int = 3000, hours: int = 5 * 365 * 24) -> NDArray[np.int64]:
    """Full hours of five years, in seconds."""
    return np.datetime64("2016-03-01T00").astype("datetime64[s]").astype(np.int64) + 3600 * RNG.integers(0, hours, n)


@representations
@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("us", tz="UTC"), pa.timestamp("ns"), pa.date32(),
                                  pa.date64()])  # fmt: skip
def test_moments_come_back_to_the_hour(representation: Any, kind: pa.DataType) -> None:
    """Year, week, weekday and hour are parts of their own: a moment comes back as it was, not as its month."""
    cells = pa.array(moments(), pa.timestamp("s")).cast(pa.date32() if pa.types.is_date(kind) else kind).cast(kind)
    table = pa.table({"when": cells, "x": RNG.random(3000)})
    codec = TableCodec(representation).fit(table)
    assert codec.dims == 2
    assert [part.name for part in codec.columns[0].parts][:3] == ["when (year)", "when (week)", "when (weekday)"]
    assert len(codec.columns[0].parts) == (3 if pa.types.is_date(kind) else 4)
    back = codec.decode(codec.encode(table))["when"]
    assert (np.asarray(pc.equal(back, table["when"])).mean()) == 1
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    x = points(codec, 500)
    assert again.decode(x).equals(codec.decode(x))
    assert torch.equal(again.log_det(table), codec.log_det(table))
    made = codec.decode(x)["when"]
    assert pc.min_max(made)["min"].as_py() >= pc.min_max(table["when"])["min"].as_py()
    assert pc.min_max(made)["max"].as_py() <= pc.min_max(table["when"])["max"].as_py()


def test_what_depends_on_the_hour_is_learnt(tmp_path: Path) -> None:
    """From the file to the samples: afternoons are 10 degrees warmer than nights, and shops close on Sundays."""
    when = moments(2000).astype("datetime64[s]")
    hour, sunday = (
        when.astype("datetime64[h]").astype(np.int64) % 24,
        (when.astype("datetime64[D]").view("i8") + 4) % 7 == 0,
    )
    heat = np.where((hour >= 12) & (hour < 18), 20, 10) + RNG.normal(size=2000).round(1)
    rows = "".join(f"{w},{t:.1f},{'closed' if s else 'open'}\n" for w, t, s in zip(when, heat, sunday, strict=True))
    (tmp_path / "weather.csv").write_text("when,heat,shop\n" + rows)
    model = quintet.train("autoregressive", data=str(tmp_path / "weather.csv"), steps=120, runs=tmp_path, run="r",
                          config={"model": {"width": 32, "depth": 1}})  # fmt: skip
    made = model.sample(1500, seed=0)
    when = made["when"].to_numpy().astype("datetime64[s]")
    hour, sunday = (
        when.astype("datetime64[h]").astype(np.int64) % 24,
        (when.astype("datetime64[D]").view("i8") + 4) % 7 == 0,
    )
    heat, afternoon = made["heat"].to_numpy(), (hour >= 12) & (hour < 18)
    assert heat[afternoon].mean() - heat[~afternoon].mean() > 5
    closed = made["shop"].to_numpy() == "closed"
    assert closed[sunday].mean() - closed[~sunday].mean() > 0.5


def test_probabilities_of_dates_sum_to_one() -> None:
    """Every date of 400 years, and null; then every hour of 40 years."""
    days = RNG.integers(16_000, 17_100, N)
    days = days[(days + 3) % 7 < 5]  # never at a weekend
    codec = TableCodec("discrete").fit(pa.table({"d": pa.array([None, *days.tolist()], pa.int32()).cast(pa.date32())}))
    assert isinstance(codec.space, Discrete)
    assert codec.measure == "mass"
    every = pa.table({"d": pa.array(np.arange(-70_000, 76_000).astype(np.int32)).cast(pa.date32())})
    total = float((log_p(codec, codec.encode(every)) + codec.log_det(every)).exp().sum())
    symbols = torch.cartesian_prod(*(torch.arange(size) for size in codec.space.sizes or ()))
    p, null = log_p(codec, symbols).exp(), symbols[:, 0] == codec.columns[0].parts[0].pieces.count
    assert abs(total + float(p[null].sum()) - 1) < 1e-3
    # a null's other parts are anything: the mean over them is its probability
    rows, nothing = np.zeros((4000, 1)), np.ones(4000, bool)
    parts, inside = [], np.zeros(4000)
    for i, part in enumerate(codec.representation.parts):
        parts += part.encode(rows[:, 0], nothing, RNG.random(4000))
        inside += part.log_inside(rows[:, 0], nothing, parts[-len(part.sizes)])
        assert len(part.sizes) == 1 or i == 0
    estimates = (log_p(codec, torch.from_numpy(np.stack(parts, 1))) + torch.from_numpy(inside)).exp()
    assert abs(float(estimates.mean() / p[null].sum()) - 1) < 4 * float(estimates.std() / estimates.mean()) / 4000**0.5
    hourly = TableCodec("discrete").fit(pa.table({"t": pa.array(moments(), pa.timestamp("s"))}))
    hours = np.datetime64("1998", "s").view("i8") + 3600 * np.arange(40 * 366 * 24)
    every = pa.table({"t": pa.array(hours, pa.timestamp("s"))})
    total = float((log_p(hourly, hourly.encode(every)) + hourly.log_det(every)).exp().sum())
    assert abs(total - 1) < 1e-3


# -- holes -----------------------------------------------------------------------------------------------------------


@representations
def test_holes_are_nulls_and_lacking_columns(representation: Any) -> None:
    table = TABLE.select(["float64?", "string", "int8?", "bool"])
    codec = TableCodec(representation).fit(table)
    given = table.drop_columns(["bool"])
    x, known = codec.partial(given)
    codec.space.check(x)
    assert known.shape == x.shape
    widths = [sum(map(codec.representation.width, c.parts or (c,))) for c in codec.columns]
    ends = list(itertools.accumulate(widths, initial=0))
    for (a, b), name in zip(itertools.pairwise(ends), table.column_names, strict=True):
        expected = [False] * N if name == "bool" else [c is not None for c in given[name].to_pylist()]
        assert known[:, a].tolist() == expected
        assert (known[:, a:b] == known[:, a : a + 1]).all()
    other = points(codec, N)
    whole = codec.fill(given, None, codec.decode(torch.where(known, x, other)))
    assert whole.column_names == [*given.column_names, "bool"]
    for name in given.column_names:
        for a, b in zip(given[name].to_pylist(), whole[name].to_pylist(), strict=True):
            assert a is None or a == b


def test_a_column_without_values_comes_back_in_its_place() -> None:
    table = TABLE.select(["float64?", "string", "int8?", "bool"])
    codec = TableCodec("discrete").fit(table)
    for lacking in (["string"], ["float64?"], ["string", "int8?"]):
        assert codec.fill(table.drop_columns(lacking), None, table).column_names == table.column_names
    beside = table.select(["bool", "int8?"]).append_column("note", table["string"])
    assert codec.fill(beside, None, table).column_names == ["float64?", "string", "bool", "int8?", "note"]


def test_a_mask_says_that_a_null_is_the_value() -> None:
    names = [f"r{i}" for i in range(27)]
    table = pa.table({"x": pa.array([1.0, None, 3.0] * 9), "y": ["a", "b", "c"] * 9, "id": names})
    with pytest.warns(QuintetWarning):
        codec = TableCodec("discrete").fit(table)
    mask = np.zeros((27, 3), bool)
    mask[:, 0] = True
    x, known = codec.partial(table, mask)
    assert known.all(0).tolist() == [True, False]  # the id has no dimension
    assert torch.equal(x[:, 0], codec.encode(table)[:, 0])
    whole = codec.fill(table, mask, codec.decode(points(codec, 27)))
    assert whole["x"].equals(table["x"])
    assert whole["id"].equals(table["id"])
    with pytest.raises(DataError, match="a missing cell is marked as known"):
        codec.partial({"x": [1.0], "y": [None]}, np.ones((1, 2), bool))


# -- held-out rows that training says nothing about -------------------------------------------------------------------


def test_rows_that_no_model_could_know_are_left_out_of_measurements() -> None:
    rng = np.random.default_rng(0)
    n = 300
    where = np.array(["train"] * 200 + ["validation"] * 50 + ["test"] * 50)
    kind = rng.choice(["a", "b"], n).astype(object)
    number = rng.normal(size=n).round(3).astype(object)
    kind[210], kind[260], number[270] = "new", "newer", None
    table = pa.table({"kind": kind.tolist(), "number": number.tolist()})
    splits = {split: np.flatnonzero(where == split) for split in ("train", "validation", "test")}
    dataset = Dataset("news", "table", table, splits)
    for family in ("autoregressive", "flow"):
        config = plan(family, dataset, steps=2, preset="tiny")
        task = Task.of(config, dataset).fitted(config)
        with pytest.warns(
            QuintetWarning, match="1 of 50 validation and 2 of 50 test rows have values that do not occur in"
        ):
            left = task.known().dataset
        assert set(splits["validation"]) - set(left.index("validation")) == {210}
        assert set(splits["test"]) - set(left.index("test")) == {260, 270}
        assert np.array_equal(left.index("train"), splits["train"])
        task.codecs["x"].encode(left.rows("test"))
        with pytest.raises(DataError):
            task.codecs["x"].encode(dataset.rows("test"))
    with pytest.warns(QuintetWarning, match="are left out"):
        bench = Bench(dataset, None, samples=40)
    assert {split: len(items) for split, items in bench.items.items()} == {"train": 200, "validation": 49, "test": 48}


def test_a_run_is_trained_measured_and_scored_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    table = pa.table({"kind": ["a", "b"] * 99 + ["new", "a"], "number": [i % 7 + 0.5 for i in range(200)]})
    splits = {"train": np.arange(150), "validation": np.arange(150, 170), "test": np.arange(170, 200)}
    monkeypatch.setitem(sources.SOURCES, "news", lambda: Dataset("news", "table", table, splits))
    model = quintet.train("autoregressive", data="news", steps=2, preset="tiny", runs=tmp_path, run="r")
    assert model.evaluate(samples=20)["likelihood"]["items"] == 29
    assert main(["score", "r", "--runs", str(tmp_path), "-o", str(tmp_path / "scores.csv")]) == 0
    assert pa.csv.read_csv(tmp_path / "scores.csv").num_rows == 29
    assert any("1 of 30 test rows" in str(found.message) for found in recwarn)


@representations
def test_dates_of_months_keep_their_day(representation: Any, tmp_path: Path) -> None:
    """Figures of the first and the fifteenth of each month: samples are of such days, and of no others."""
    months = np.datetime64("1990-01") + np.arange(240)
    days = np.concatenate([months.astype("datetime64[D]"), months.astype("datetime64[D]") + 14])
    table = pa.table({"day": pa.array(days), "price": np.linspace(1, 2, 480) + 0.01 * RNG.random(480)})
    codec = TableCodec(representation).fit(table)
    assert [part.name for part in codec.columns[0].parts] == ["day (year)", "day (month)", "day (day)"]
    back = codec.decode(codec.encode(table))["day"]
    assert back.equals(table["day"])
    assert torch.isfinite(codec.log_det(table)).all()
    made = codec.decode(points(codec, 2000))["day"]
    assert pc.min_max(made)["min"].as_py() >= dt.date(1990, 1, 1)
    assert pc.min_max(made)["max"].as_py() <= dt.date(2009, 12, 15)
    if representation == "discrete":
        assert set(pc.day(made).to_pylist()) <= {1, 15}
    other = pa.table({"day": pa.array([dt.date(2001, 3, 9)]), "price": [1.5]})
    assert codec.decode(codec.encode(other))["day"][0].as_py().strftime("%Y-%m") == "2001-03"


def test_last_days_of_months_stay_last() -> None:
    ends = (np.datetime64("2000-02") + np.arange(60)).astype("datetime64[D]") - 1
    table = pa.table({"day": pa.array(ends), "x": RNG.random(60)})
    codec = TableCodec("discrete").fit(table)
    assert codec.decode(codec.encode(table))["day"].equals(table["day"])
    made = codec.decode(points(codec, 500))["day"].to_numpy()
    last = (made + 1).astype("datetime64[M]").astype("datetime64[D]") == made + 1
    assert last.mean() > 0.3  # the 31st of a short month is its last day


@pytest.mark.parametrize("representation", ["continuous", "discrete"])
def test_a_vae_that_has_learnt_nothing_draws_rare_values_as_seldom_as_training_has_them(representation: str) -> None:
    """3 of 3,000 rows: 2 of 2,000 samples are to be expected, beside two, three and four frequent values, which need
    all patterns of their bits, and beside blanks.
    """
    rng = np.random.default_rng(0)
    columns = {}
    for name, values in (("two", ["a", "b"]), ("three", ["a", "b", "c"]), ("four", ["a", "b", "c", "d"])):
        columns[name] = rng.choice(values, 3000).astype(object)
        columns[name][[5, 50, 500]] = "odd"
    columns["blank"] = np.where(rng.random(3000) < 0.3, None, columns["three"])
    columns["blank"][[5, 50, 500]] = "odd"
    columns["number"] = np.where(columns["three"] == "odd", 99, rng.integers(1, 4, 3000))
    train = pa.table({name: pa.array(cells.tolist()) for name, cells in columns.items()})
    codec = TableCodec(representation).fit(train)  # type: ignore[arg-type]
    assert codec.decode(codec.encode(train)).to_pylist() == train.to_pylist()
    torch.manual_seed(0)
    made = codec.decode(VAE(codec.space).sample(2000, generator=torch.Generator().manual_seed(0)))
    for name, cells in columns.items():
        odd = sum(cell in ("odd", 99) for cell in made[name].to_pylist())
        assert odd <= 12, (name, odd)
        assert set(made[name].to_pylist()) >= set(cells.tolist()) - {"odd", 99}
    assert 300 < made["blank"].null_count < 900


@pytest.mark.parametrize("family", ["diffusion"])
def test_a_few_steps_of_training_do_not_make_rare_values_frequent(family: str, tmp_path: Path) -> None:
    """3 of 3,000 rows: what is near the end of a frequent value's noise is not taken for the value beside it."""
    rng = np.random.default_rng(0)
    kind, real = rng.choice(["a", "b", "c"], 3000).astype(object), rng.normal(size=3000)
    kind[[5, 50, 500]] = "odd"
    model = quintet.train(family, data=pa.table({"kind": pa.array(kind.tolist()), "x": real}), steps=60, seed=0,
                          runs=tmp_path, config={"data": {"split": "none"}})  # fmt: skip
    made = model.sample(2000, seed=1)["kind"].to_pylist()
    assert made.count("odd") <= 25
    assert min(made.count(name) for name in "abc") > 400
