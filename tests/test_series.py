"""Series: what a value is of can be read off the value itself, splits do not leak, and figures are closed forms."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import randomise

import quintet
from quintet.cli import main as cli
from quintet.core.errors import DataError, UsageError
from quintet.data.dataset import Dataset, take
from quintet.families.autoregressive import Autoregressive
from quintet.families.flow import Flow
from quintet.modalities.series import figures
from quintet.modalities.series.codec import SeriesCodec
from quintet.modalities.series.modality import SeriesModality, rows
from quintet.modalities.series.windows import Clock, Windows, bridged
from quintet.sources.load import load_source

STEPS = 24


def value(entity: int, channel: int, hour: int) -> float:
    """Which entity, channel and time a number is of."""
    return 100_000 * entity + 10_000 * channel + hour


def stores(folder: Path, hours: int = 1000, *, gap: range = range(0)) -> Path:
    """Two entities and two channels of hours from 2024-01-01 on, in a random order of rows."""
    lines = []
    for entity in (1, 2):
        for hour in range(hours):
            moment = np.datetime64("2024-01-01T00", "h") + hour
            cells = ["" if hour in gap else f"{value(entity, channel, hour):g}" for channel in (0, 1)]
            lines.append(f"{moment}:00,store{entity},{cells[1]},{cells[0]}")
    np.random.default_rng(0).shuffle(lines)
    path = folder / "stores.csv"
    path.write_text("\n".join(["when,store,second,first", *lines]) + "\n")
    return path


def read(path: Path, **reading: object) -> Dataset:
    return load_source(str(path), window=STEPS, time="when", group="store", **reading)  # type: ignore[arg-type]


def of(windows: Windows, channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(entity (N,), hour (N, T)) as the values say, which every channel must say alike."""
    found = []
    for name, channel in (("second", 1), ("first", 0))[:channels]:
        rest = windows.values[:, :, windows.channels.index(name)] - 10_000 * channel
        found.append((rest // 100_000, rest % 100_000))
    assert all((entity == found[0][0]).all() and (hour == found[0][1]).all() for entity, hour in found)
    entity, hour = found[0]
    assert (entity == entity[:, :1]).all()
    return entity[:, 0], hour


# -- reading and splits ----------------------------------------------------------------------------------------------


def test_values_stay_with_their_entity_channel_and_time(tmp_path: Path) -> None:
    data = read(stores(tmp_path))
    assert data.modality == "series"
    assert data.items.channels == ("second", "first")
    assert str(data.items.clock) == "1 hour"
    entity, hour = of(data.items)
    assert (np.diff(hour, axis=1) == 1).all()
    assert (data.items.entity == np.char.add("store", entity.astype(int).astype(str))).all()
    assert (data.items.start == hour[:, 0]).all()
    assert data.labels is not None
    assert data.labels["store"].to_pylist() == data.items.entity.tolist()
    began = np.array(data.items[:200].moments(), "datetime64[h]").reshape(200, STEPS)
    assert (began - np.datetime64("2024-01-01T00") == hour[:200].astype(int)).all()


def test_splits_are_by_time_and_share_no_value(tmp_path: Path) -> None:
    data = read(stores(tmp_path))
    seen = {split: {(e, h) for e, row in zip(*of(data.rows(split)), strict=True) for h in row} for split in data.splits}
    hours = {split: [hour for _, hour in pairs] for split, pairs in seen.items()}
    assert max(hours["train"]) == 799
    assert (min(hours["validation"]), max(hours["validation"])) == (800, 898)  # every third window
    assert (min(hours["test"]), max(hours["test"])) == (900, 998)
    assert {entity for entity, _ in seen["train"]} == {entity for entity, _ in seen["test"]} == {1, 2}
    assert len(data.rows("train")) == 2 * (800 - STEPS + 1)


def test_a_split_of_a_short_series_has_six_windows_where_there_is_room_and_never_less_than_one(tmp_path: Path) -> None:
    def told(hours: int) -> tuple[dict[str, int], list[int], bool]:
        data = read(stores(tmp_path, hours=hours))
        first = {split: int(of(data.rows(split))[1].min()) for split in ("validation", "test")}
        return first, [len(data.rows(split)) for split in data.splits], any("too few" in note for note in data.notes)

    assert told(100) == ({"validation": 48, "test": 74}, [50, 6, 6], False)  # 26 hours: three windows a store
    assert told(90) == ({"validation": 42, "test": 66}, [38, 2, 2], True)
    with pytest.raises(DataError, match="are too long"):
        read(stores(tmp_path, hours=60))


def test_windows_over_a_long_gap_are_left_out_and_rows_that_lack_are_holes(tmp_path: Path) -> None:
    data = read(stores(tmp_path, gap=range(300, 310)))
    train = data.rows("train")
    lacking = np.isnan(train.values[:, :, 0])
    assert lacking.sum(1).max() == 2  # a tenth of 24
    assert {300, 301, 308, 309} == set((train.start[:, None] + np.arange(STEPS))[lacking].tolist())
    lines = stores(tmp_path).read_text().splitlines()
    path = tmp_path / "fewer.csv"
    path.write_text("\n".join(line for line in lines if "T05:00" not in line) + "\n")
    values = read(path).rows("train").values
    assert np.isnan(values).any((0, 2)).all()
    assert np.isnan(values[:, :, 0]).sum(1).max() == 1


def test_a_file_that_is_brought_is_cut_side_by_side_and_ends_in_a_future(tmp_path: Path) -> None:
    data = read(stores(tmp_path, hours=60), whole=True)
    first = data.items[np.flatnonzero(data.items.entity == "store1")]
    assert first.start.tolist() == [0, 24, 48]
    assert np.isnan(first.values[2, 12:]).all()
    assert not np.isnan(first.values[:2]).any()


def test_months_numbers_and_rows_without_time_have_clocks(tmp_path: Path) -> None:
    months = [f"{1950 + i // 12}-{i % 12 + 1:02d}-01,{i}" for i in range(200)]
    (tmp_path / "months.csv").write_text("month,x\n" + "\n".join(months))
    data = load_source(str(tmp_path / "months.csv"), window=6)
    assert str(data.items.clock) == "1 month"
    assert data.items[:1].moments()[:2] == ["1950-01", "1950-02"]
    (tmp_path / "years.csv").write_text("year,x\n" + "\n".join(f"{1800 + 2 * i},{i + 0.5}" for i in range(200)))
    data = load_source(str(tmp_path / "years.csv"), window=6)
    assert data.items[:1].moments()[:3] == ["1800", "1802", "1804"]
    (tmp_path / "bare.csv").write_text("x,y\n" + "\n".join(f"{i},{i * i}" for i in range(200)))
    assert load_source(str(tmp_path / "bare.csv"), window=6).items.channels == ("x", "y")


def test_times_that_are_not_regular_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("when,x\n" + "\n".join(f"2024-01-01T{h:02d}:{'17' if h == 5 else '00'},{h}" for h in range(24)))
    with pytest.raises(DataError, match="not evenly spaced"):
        load_source(str(path), window=2)
    with pytest.raises(DataError, match="two rows have the same time"):
        load_source(str(stores(tmp_path)), window=STEPS, time="when")


def test_arrays_are_windows_only_where_that_is_said(tmp_path: Path) -> None:
    values = np.arange(50 * 8 * 3, dtype=np.float64).reshape(50, 8, 3)
    values[3, 2, 1] = np.nan
    np.save(tmp_path / "windows.npy", values)
    data = load_source(str(tmp_path / "windows.npy"), window=8)
    assert {row.tobytes() for row in data.items.values} == {row.tobytes() for row in values}
    with pytest.raises(DataError, match="windows of 8 steps"):
        load_source(str(tmp_path / "windows.npy"), window=9)
    np.save(tmp_path / "long.npy", np.arange(400.0))
    assert load_source(str(tmp_path / "long.npy"), window=8).items.values.shape[1:] == (8, 1)


def test_the_built_in_set_is_what_it_says() -> None:
    data = load_source("days")
    assert data.modality == "series"
    assert len(data.items) == 14_148
    assert {split: len(index) for split, index in data.splits.items()} == {
        "train": 13_580,
        "validation": 284,
        "test": 284,
    }
    assert figures.season_of(bridged(data.rows("train").values[::20]), 36) == 24


# -- the container ---------------------------------------------------------------------------------------------------


def test_taking_and_joining_keeps_what_belongs_together(tmp_path: Path) -> None:
    data = read(stores(tmp_path))
    some = take(data.items, np.array([5, 900, 2]))
    entity, hour = of(some + some)
    assert ((some + some).start == hour[:, 0]).all()
    assert (entity == [int(name[-1]) for name in (some + some).entity]).all()
    odd = SeriesModality().splice(data.items)
    half = STEPS // 2
    assert (odd.values[:, :half] == data.items.values[:, :half]).all()
    assert (odd.values[0, half:] == data.items.values[len(data.items) // 2, half:]).all()
    assert len({*data.items.contents()} ^ {*some.contents()}) > 1


# -- the codec -------------------------------------------------------------------------------------------------------


def noise(n: int = 400, steps: int = 6, channels: int = 2) -> Windows:
    values = np.random.default_rng(0).normal([3.0, -20.0][:channels], [1.0, 7.0][:channels], (n, steps, channels))
    return Windows(values, ("a", "b")[:channels])


@pytest.mark.parametrize("representation", ["continuous", "discrete"])
def test_encoding_is_ordered_and_its_state_is_json(representation: str) -> None:
    items = noise()
    codec = SeriesCodec(representation).fit(items)  # type: ignore[arg-type]
    x = codec.encode(items)
    codec.space.check(x)
    back = SeriesCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert torch.equal(back.encode(items), x)
    assert back.space == codec.space
    again = codec.decode(x)
    assert torch.equal(codec.encode(again), x) or representation == "continuous"
    if representation == "continuous":
        assert x.shape[1:] == (2, 6)
        np.testing.assert_allclose(again.values, items.values, atol=1e-4)
        assert x.mean().abs() < 1e-4
        assert torch.allclose(x.std((0, 2), correction=0), torch.ones(2), atol=1e-4)
    else:
        wide = x.view(-1, 6, 2)  # a step after another
        for channel in (0, 1):
            order = np.argsort(items.values[:, :, channel].ravel())
            assert (wide[:, :, channel].flatten()[order].diff() >= 0).all()
            counts = torch.bincount(wide[:, :, channel].flatten(), minlength=64)
            assert counts.min() >= 37
            assert counts.max() <= 38


def test_log_volumes_of_bins_are_densities_of_mass_one() -> None:
    codec = SeriesCodec("discrete", SeriesCodec.Settings(levels=8)).fit(noise(channels=1))
    part = codec.parts[0]
    grid = np.linspace(-60, 60, 400_001)
    density = np.exp(part.log_volume(grid))
    for place in range(8):
        inside = part.bins(grid) == place
        assert np.trapezoid(density[inside], grid[inside]) == pytest.approx(1, abs=2e-3)


def test_log_volumes_of_counts_are_probabilities_of_mass_one() -> None:
    values = np.random.default_rng(0).poisson(7, (300, 4, 1)).astype(float)
    codec = SeriesCodec("discrete", SeriesCodec.Settings(levels=4)).fit(Windows(values, ("count",)))
    part = codec.parts[0]
    assert part.grid == 1
    assert codec.measure == "mass"
    numbers = np.arange(-400.0, 500.0)
    for place in range(len(part.middles)):
        assert np.exp(part.log_volume(numbers))[part.bins(numbers) == place].sum() == pytest.approx(1)


@pytest.mark.parametrize("season", [0, 1])
def test_likelihood_of_an_autoregressive_model_sums_to_one_over_all_counts(season: int) -> None:
    values = np.random.default_rng(0).poisson(2, (300, 2, 1)).astype(float)
    codec = SeriesCodec("discrete", SeriesCodec.Settings(levels=3, season=season)).fit(Windows(values, ("count",)))
    assert codec.season == season
    family = randomise(Autoregressive(codec.space, None, Autoregressive.Settings(width=8, depth=1, heads=1)))
    numbers = np.arange(-60.0, 80.0)
    every = Windows(np.stack(np.meshgrid(numbers, numbers, indexing="ij"), -1).reshape(-1, 2, 1), ("count",))
    total = (family.log_prob(codec.encode(every)) + codec.log_det(every)).exp().sum()  # type: ignore[operator]
    assert float(total) == pytest.approx(1, abs=1e-6)


def seasonal(n: int = 300, level: float = 0.0) -> Windows:
    """Eight steps of a season of four, each window on a level of its own."""
    rng = np.random.default_rng(0)
    season = np.sin(np.pi / 2 * np.arange(8))[None, :, None]
    return Windows(level + 3 * rng.uniform(size=(n, 1, 1)) + 5 * season + rng.normal(0, 0.1, (n, 8, 1)), ("a",))


def test_bins_behind_a_season_are_relative_to_its_level() -> None:
    codec = SeriesCodec("discrete", SeriesCodec.Settings(levels=16)).fit(seasonal())
    assert codec.season == 4
    assert SeriesCodec("discrete").fit(noise()).season == 0  # which does not repeat itself
    x = codec.encode(seasonal())
    back = SeriesCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert torch.equal(back.encode(seasonal()), x)
    assert torch.equal(codec.encode(codec.decode(x)), x)
    assert torch.equal(back.log_det(seasonal()), codec.log_det(seasonal()))
    before = codec.decode(x).values[:, :4].mean(1, keepdims=True)
    absolute = codec.log_det(replace(seasonal(), values=codec.decode(x).values))
    volumes = [codec.parts[0].log_volume(codec.decode(x).values[:, :4]).sum((1, 2)),
               codec.changes[0].log_volume(codec.decode(x).values[:, 4:] - before).sum((1, 2))]  # fmt: skip
    np.testing.assert_allclose(absolute, sum(volumes))


def test_a_forecast_stays_on_a_level_that_training_lacked() -> None:
    trained, far = seasonal(), replace(seasonal(), values=seasonal().values + 1.5)  # a third of the values are beyond
    error = {}
    for season in (0, None):
        codec = SeriesCodec("discrete", SeriesCodec.Settings(season=season)).fit(trained)
        error[season] = float((codec.decode(codec.encode(far)).values - far.values)[:, 4:].mean())
    assert abs(error[None]) < abs(error[0]) / 2


def test_values_relative_to_a_level_are_known_where_most_of_the_level_is() -> None:
    codec = SeriesCodec("discrete").fit(seasonal())
    known = np.ones(8, bool)
    known[[2, 5]] = False
    x, mask = codec.partial(seasonal(5), known)
    assert (mask == torch.from_numpy(known)).all()
    filled = codec.fill(seasonal(5), known, codec.decode(x))
    assert (filled.values[:, known] == seasonal(5).values[:, known]).all()
    known[[0, 1]] = False
    assert codec.partial(seasonal(5), known)[1].tolist() == [[False, False, False, True] + 4 * [False]] * 5


def test_log_det_of_the_continuous_codec_makes_the_density_of_a_gaussian() -> None:
    items = noise()
    codec = SeriesCodec("continuous").fit(items)
    x = codec.encode(items).double()
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum((1, 2)) + codec.log_det(items)
    means, stds = (torch.tensor([getattr(part, name) for part in codec.parts]) for name in ("mean", "std"))
    direct = torch.distributions.Normal(means, stds).log_prob(torch.from_numpy(items.values)).sum((1, 2))
    torch.testing.assert_close(standard, direct.double(), rtol=1e-5, atol=1e-4)
    assert codec.measure == "density"


def test_counts_are_dequantised_by_one_cell() -> None:
    values = np.random.default_rng(0).poisson(50, (200, 4, 1)).astype(float)
    codec = SeriesCodec("continuous").fit(Windows(values, ("count",)))
    assert codec.space.widths == pytest.approx([1 / codec.parts[0].std] * 4)  # type: ignore[union-attr]
    assert float(codec.log_det(Windows(values, ("count",)))[0]) == pytest.approx(-4 * math.log(codec.parts[0].std))
    assert (codec.decode(codec.encode(Windows(values, ("count",)))).values == values).all()


@pytest.mark.parametrize("representation", ["continuous", "discrete"])
def test_holes_are_where_values_miss_and_hide_what_is_there(representation: str) -> None:
    items = noise()
    codec = SeriesCodec(representation).fit(items)  # type: ignore[arg-type]
    known = np.arange(6) < 4
    x, mask = codec.partial(items, known)
    other = Windows(np.where(known[:, None], items.values, 99.0), items.channels)
    assert torch.equal(codec.partial(other, known)[0], x)  # the future is not looked at
    wide = mask.view(len(items), 2, 6).mT if representation == "continuous" else mask.view(len(items), 6, 2)
    assert (wide == torch.from_numpy(known)[:, None]).all()
    short = Windows(items.values[:, :4], items.channels)
    assert torch.equal(codec.partial(short)[1], mask)
    alone = Windows(items.values[:, :, 1:], ("b",))  # a channel that is lacking is a hole too
    wide = codec.partial(alone)[1]
    wide = wide.view(len(items), 2, 6).mT if representation == "continuous" else wide.view(len(items), 6, 2)
    assert (wide == torch.tensor([False, True])).all()
    filled = codec.fill(short, None, codec.decode(torch.zeros_like(x)))
    assert (filled.values[:, :4] == items.values[:, :4]).all()


def test_missing_values_are_bridged_and_told() -> None:
    values = np.array([[[1.0], [np.nan], [3.0], [np.nan]]])
    assert bridged(values)[0, :, 0].tolist() == [1, 2, 3, 3]
    codec = SeriesCodec().fit(Windows(np.random.default_rng(0).normal(size=(9, 4, 1)), ("a",)))
    assert codec.losses(Windows(values, ("a",)))[0].startswith("2 of 4 values are missing")
    with pytest.raises(DataError, match="too long"):
        codec.encode(Windows(np.zeros((1, 5, 1)), ("a",)))
    with pytest.raises(DataError, match="none of the model's channels"):
        codec.encode(Windows(np.zeros((1, 4, 1)), ("b",)))


# -- figures ---------------------------------------------------------------------------------------------------------


def test_crps_of_draws_is_that_of_the_gaussian_that_they_are_of() -> None:
    rng = np.random.default_rng(0)
    mean, std, truth = 2.0, 3.0, np.array([1.0, 2.0, 9.0])
    draws = rng.normal(mean, std, (20_000, 3))
    z = (truth - mean) / std
    density, below = (
        np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi),
        np.array([0.5 * (1 + math.erf(v / 2**0.5)) for v in z]),
    )
    closed = std * (z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi))
    np.testing.assert_allclose(figures.crps(draws, truth), closed, atol=0.04)
    few = figures.crps(rng.normal(mean, std, (3, 40_000)), np.full(40_000, 1.0))  # fair: right in the mean
    assert few.mean() == pytest.approx(closed[0], abs=0.04)
    assert figures.crps(np.array([[4.0]]), np.array([1.5]))[0] == 2.5


def test_crps_is_its_direct_sum() -> None:
    draws, truth = np.random.default_rng(1).normal(size=(5, 2, 3)), np.zeros((2, 3))
    pairs = np.abs(draws[:, None] - draws[None]).sum((0, 1)) / (5 * 4)
    np.testing.assert_allclose(figures.crps(draws, truth), np.abs(draws - truth).mean(0) - pairs / 2)


def test_autocorrelation_and_spectrum_of_a_sine() -> None:
    t = np.arange(48)
    wave = np.sin(2 * np.pi * t / 12 + np.linspace(0, 6, 50)[:, None])[:, :, None]
    assert figures.autocorrelations(wave, 12)[:, 11].mean() == pytest.approx(0.75, abs=0.02)  # 36 of 48 terms
    assert figures.autocorrelations(wave, 12)[:, 5].mean() == pytest.approx(-0.875, abs=0.02)
    assert figures.spectra(wave)[:, 3].min() == pytest.approx(1)  # four periods
    other = np.sin(2 * np.pi * t / 8 + np.linspace(0, 6, 50)[:, None])[:, :, None]
    assert figures.spectrum_distance(wave, other).value == pytest.approx(1)
    assert figures.spectrum_distance(wave, wave).value == 0
    assert figures.autocorrelation_distance(wave, other, 12).value > 0.5


def test_predictive_score_of_a_line_is_none_and_of_noise_is_its_own() -> None:
    rng = np.random.default_rng(0)
    lines = rng.normal(size=(60, 1, 1)) + rng.normal(size=(60, 1, 1)) * np.arange(12)[None, :, None]
    assert figures.predictive(lines[:40], lines[40:], 4).value < 0.01
    white = rng.normal(size=(400, 12, 1))
    assert figures.predictive(white[:300], white[300:], 4).value == pytest.approx(math.sqrt(2 / math.pi), abs=0.05)


def test_seasonal_naive_repeats_the_last_season() -> None:
    windows = np.arange(16.0).reshape(1, 16, 1)
    found = figures.seasonal_naive(windows, 10, 4)
    assert found[0, :, 0].tolist() == [6, 7, 8, 9, 6, 7]


def test_forecasts_are_judged_by_the_future_alone() -> None:
    data = load_source("days")
    train, test = data.rows("train")[::10], data.rows("test")

    def perfect(windows: Windows, known: np.ndarray) -> Windows:
        assert known.tolist() == [True] * 36 + [False] * 12
        return windows

    found = figures.forecast_figures(perfect, train, test, count=20, draws=8).figures
    assert found["crps"] == pytest.approx(0, abs=1e-9)
    assert 0 < found["crps_linear"] < found["crps_seasonal"] < 0.5
    assert found["crps_covered"] == 1
    assert found["crps_less_seasonal"] == pytest.approx(-found["crps_seasonal"])


def test_rivals_are_compared_on_the_same_windows() -> None:
    """The naive forecast is as good as itself, without any error; one that is worse by a constant is so by little."""
    data = load_source("days")
    train, test = data.rows("train")[::10], data.rows("test")
    learnt = bridged(train.values)

    def naive(windows: Windows, known: np.ndarray, worse: float = 0.0) -> Windows:
        first = windows.values[: len(windows) // 19]
        future = figures.naive_forecast(learnt, first, 36, 19, 0) + worse * learnt.std((0, 1))
        past = np.tile(first[:, :36], (19, 1, 1))
        return replace(windows, values=np.concatenate([past, future.reshape(-1, 12, 2)], 1))

    train = replace(train, values=learnt)[: figures.MOST]  # so few that all of them are taught
    learnt = train.values[figures.some(train, 4 * figures.MOST, 0)]
    same = figures.forecast_figures(naive, train, test, count=60).figures
    assert same["crps_less_seasonal"] == same["crps_less_seasonal_stderr"] == 0
    worse = figures.forecast_figures(partial(naive, worse=1.0), train, test, count=60).figures
    assert 0 < worse["crps_less_seasonal_stderr"] < worse["crps_less_seasonal"] / 10
    assert worse["crps_less_seasonal"] == pytest.approx(worse["crps"] - same["crps"])


def test_windows_that_overlap_are_no_further_ones() -> None:
    values = np.random.default_rng(0).normal(size=40)
    windows = Windows(np.zeros((40, 6, 1)), ("a",), start=12 * np.arange(40))
    alone, places = figures.by_stretch(values, windows)
    assert alone.tolist() == values.tolist()
    assert places == windows.start.tolist()
    again = replace(
        windows[np.repeat(np.arange(40), 9)], start=12 * np.repeat(np.arange(40), 9) + np.tile(range(9), 40)
    )
    joined, places = figures.by_stretch(np.repeat(values, 9), again)
    np.testing.assert_allclose(joined, values)
    assert places == (9 * windows.start + 36).tolist()  # of other windows
    assert figures.by_stretch(values, Windows(windows.values, ("a",)))[1] == list(range(40))


def test_nine_of_ten_true_values_lie_within_the_quantiles_of_draws_like_them() -> None:
    noise = Windows(np.random.default_rng(0).normal(size=(300, 16, 1)), ("a",))
    rng = np.random.default_rng(1)

    def alike(windows: Windows, known: np.ndarray) -> Windows:
        return replace(windows, values=rng.normal(size=windows.values.shape))

    found = figures.forecast_figures(alike, noise, noise, count=300).figures
    assert found["crps_covered"] == pytest.approx(0.9, abs=0.02)


def test_real_windows_have_better_figures_than_shuffled_ones() -> None:
    data = load_source("days")
    train, validation, test = (data.rows(split) for split in ("train", "validation", "test"))
    rng = np.random.default_rng(0)
    mixed = Windows(rng.permuted(bridged(train.values[:300]), axis=1), train.channels)
    good, bad = (figures.series_figures(train, test, fake) for fake in (validation, mixed))
    assert good["autocorrelation"] < 0.1 < bad["autocorrelation"]
    assert good["spectrum"] < 0.2 < bad["spectrum"]
    assert good["predictive"] < 2 * good["predictive_real"] < bad["predictive"]


# -- files -----------------------------------------------------------------------------------------------------------


def test_written_files_say_which_value_is_of_what(tmp_path: Path) -> None:
    data = read(stores(tmp_path), whole=True)
    few = data.items[np.array([3, 60])]
    SeriesModality().write(tmp_path / "out.csv", few, {})
    table = rows(few)
    assert table.column_names == ["window", "store", "when", "second", "first"]
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "window,store,when,second,first"
    _, store, when, second, _ = lines[1].split(",")
    hour = (np.datetime64(when) - np.datetime64("2024-01-01T00:00")) // np.timedelta64(1, "h")
    assert float(second) == value(int(store[-1]), 1, int(hour))
    SeriesModality().write(tmp_path / "out.npz", few, {})
    with np.load(tmp_path / "out.npz") as arrays:
        assert (arrays["values"] == few.values).all()
        assert arrays["channels"].tolist() == ["second", "first"]


def test_several_draws_are_written_as_quantiles(tmp_path: Path) -> None:
    one = Windows(np.zeros((2, 3, 1)), ("a",), Clock())
    draws = [Windows(one.values + k, one.channels) for k in range(21)]
    table = rows(SeriesModality().several(draws, draws[0]))
    assert table.column_names == ["window", "step", "a", "a_q05", "a_q95"]
    assert table.num_rows == 6
    assert table["a"].to_pylist() == [10.0] * 6
    assert table["a_q05"].to_pylist() == pytest.approx([0.1] * 6)  # of 21 draws, the k-th is the k / 22 quantile
    assert table["a_q95"].to_pylist() == pytest.approx([19.9] * 6)
    SeriesModality().write(tmp_path / "out.png", SeriesModality().several(draws, draws[0]), {})
    assert (tmp_path / "out.png").stat().st_size > 500


# -- models ----------------------------------------------------------------------------------------------------------

TINY = {"preset": "tiny", "training": {"batch_size": 32}}
FAMILIES = ("vae", "gan", "autoregressive", "flow", "diffusion", "masked_diffusion")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_does_on_series_what_it_can(tmp_path: Path, family: str) -> None:
    """Train, sample, score, rank, and forecast with the known past kept to the bit."""
    path = stores(tmp_path, hours=200)
    few = {"diffusion": {"ode_steps": 2}, "flow": {"width": 8, "layers": 1}, "gan": {"net": "mlp"}}
    model = quintet.train(family, data=path, steps=2, runs=tmp_path, config={
        **TINY, "data": {"window": STEPS, "time": "when", "group": "store"}, "coding": {"levels": 8},
        "model": few.get(family, {})})  # fmt: skip
    assert model.sample(3).values.shape == (3, STEPS, 2)
    test = read(path).rows("test")[:4]
    if "log_prob" not in model.family.missing:
        found = model.log_prob(test)
        assert torch.isfinite(found.values).all()
        assert found.space == "density"  # the grid of whole numbers is fine for such large ones
        assert model.rank(test, reference=test).num_rows == len(test)
    if "complete" not in model.family.missing:
        quick = {"steps": 3, "corrections": 1} if family == "diffusion" else {}
        draws = model.complete(test, known=np.arange(STEPS) < 18, draws=2, sampling=quick)
        for each in draws:
            assert (each.values[:, :18] == test.values[:, :18]).all()
            assert each.entity.tolist() == test.entity.tolist()
        assert (draws[0].values != draws[1].values).any()


def test_an_evaluation_measures_samples_and_forecasts(tmp_path: Path) -> None:
    model = quintet.train("autoregressive", data=stores(tmp_path), steps=2, runs=tmp_path, config={
        **TINY, "data": {"window": STEPS, "time": "when", "group": "store"}, "coding": {"levels": 8}})  # fmt: skip
    result = model.evaluate(samples=20)
    found = result["metrics"]
    assert np.mean(result["completion_figures"]["crps"]) == pytest.approx(found["crps"])
    assert len(result["completed"]) == len(result["completion_figures"]["crps"])
    assert {"autocorrelation", "spectrum", "predictive", "crps", "crps_seasonal", "crps_linear"} <= set(found)
    assert found["predictive_real"] < 0.01 < found["predictive"]  # every series is a line


def test_a_flow_on_series_scores_as_its_closed_form() -> None:
    """An untrained flow is close to a standard normal on x: the density of raw values has the deviations in it."""
    items = noise()
    codec = SeriesCodec("continuous").fit(items)
    narrow = Windows(items.values / 10, items.channels)
    thin = SeriesCodec("continuous").fit(narrow)
    flow = Flow(codec.space, None, Flow.Settings(width=8, layers=1)).eval()
    wide, slim = (flow.log_prob(c.encode(i)) + c.log_det(i) for c, i in ((codec, items), (thin, narrow)))
    torch.testing.assert_close(slim - wide, torch.full_like(wide, 12 * math.log(10)), atol=1e-2, rtol=0)


def test_the_command_line_forecasts_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, runs = stores(tmp_path, hours=300), str(tmp_path)
    monkeypatch.chdir(tmp_path)
    train = ["train", "autoregressive", "--data", str(path), "--data.window", "24", "--data.time", "when"]
    train += ["--data.group", "store", "--steps", "2", "--preset", "tiny", "--run", "a", "--runs", runs]
    assert cli.main(train) == 0
    past = [line for line in path.read_text().splitlines() if line[:13] <= "2024-01-01T15" or line.startswith("when")]
    (tmp_path / "past.csv").write_text("\n".join(past) + "\n")
    assert cli.main(["complete", "a", "--data", "past.csv", "--draws", "3", "-o", "f.csv", "--runs", runs]) == 0
    lines = (tmp_path / "f.csv").read_text().splitlines()
    assert lines[0] == "window,store,when,second,second_q05,second_q95,first,first_q05,first_q95"
    assert len(lines) == 1 + 2 * 24
    assert lines[1] == "0,store1,2024-01-01T00:00,110000,110000,110000,100000,100000,100000"
    assert lines[24].startswith("0,store1,2024-01-01T23:00,")
    assert cli.main(["score", "a", "--data", str(path), "--rank", "-o", "odd.csv", "--runs", runs]) == 0
    with (tmp_path / "odd.csv").open() as file:
        odd = {int(row["index"]): (row["store"], row["when"]) for row in csv.DictReader(file)}
    whole = load_source(str(path), window=24, time="when", group="store", whole=True).items
    assert odd == {i: (whole.entity[i], whole.clock.written(whole.start)[i]) for i in range(len(whole))}
    assert cli.main(["data", str(path), "--data.window", "24", "--data.group", "store", "-o", "p.png"]) == 0


def test_known_steps_or_channels_by_words() -> None:
    modality, items = SeriesModality(), noise()
    steps, _ = modality.known(items, "4", hole=None, reading={})
    assert np.isnan(steps.values[:, 4:]).all()
    assert not np.isnan(steps.values[:, :4]).any()
    one, _ = modality.known(items, "b", hole=None, reading={})
    assert np.isnan(one.values[:, :, 0]).all()
    assert not np.isnan(one.values[:, :, 1]).any()
    with pytest.raises(UsageError, match="there is no channel c"):
        modality.known(items, "c", hole=None, reading={})


@pytest.mark.parametrize("unit", ["h", "M"])
def test_a_table_of_even_times_is_said_to_be_a_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unit: str
) -> None:
    times = np.arange(np.datetime64("2001-01", unit), np.datetime64("2001-01", unit) + 120).astype("datetime64[s]")
    times = np.random.default_rng(0).permutation(times)
    path = tmp_path / "hours.csv"
    path.write_text("\n".join(["when,x", *(f"{time},{i % 7}.5" for i, time in enumerate(times))]) + "\n")
    assert cli.main(["data", str(path), "--json"]) == 0
    assert "--data.window" in str(json.loads(capsys.readouterr().out)["problems"])
    jumps = times + np.random.default_rng(1).integers(0, 10**9, len(times))
    path.write_text("\n".join(["when,x", *(f"{time},{i % 7}.5" for i, time in enumerate(jumps))]) + "\n")
    assert cli.main(["data", str(path), "--json"]) == 0
    assert "--data.window" not in str(json.loads(capsys.readouterr().out)["problems"])
