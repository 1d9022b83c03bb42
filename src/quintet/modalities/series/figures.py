"""How far windows are from real ones in what belongs to series: correlation in time, spectrum, and what is learnt of
them for the next step; and how good forecasts are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.data.arrow import Floats
from quintet.metrics.estimates import Estimate, bootstrap, mean, with_errors
from quintet.metrics.measures import Marks
from quintet.modalities.series.windows import Windows, autocorrelations, band_of, bridged, season_of

LAGS, MOST = 48, 1000
"""Lags of the autocorrelation at most; windows of each side."""
SEEN = 12
"""Steps from which the predictive score predicts the next, at most half a window."""
RIDGE = 1e-3
DRAWS = 19
"""Of the future of each window: the least number whose smallest and largest are the 5 % and the 95 % quantile."""


def spectra(values: Floats) -> Floats:
    """(N, T, C) -> (N, T // 2, C): shares of the power of a window about its mean, frequency by frequency."""
    power = np.abs(np.fft.rfft(values - values.mean(1, keepdims=True), axis=1)[:, 1:]) ** 2
    total = power.sum(1, keepdims=True)
    return np.asarray(power / np.where(total > 1e-12, total, 1.0))


def autocorrelation_distance(real: Floats, fake: Floats, lags: int) -> Estimate:
    """Mean over lags and channels of |difference of the mean autocorrelations|; 0 is best, 2 the most there is."""
    return bootstrap(lambda a, b: float(np.abs(a.mean(0) - b.mean(0)).mean()),
                     autocorrelations(real, lags), autocorrelations(fake, lags))  # fmt: skip


def spectrum_distance(real: Floats, fake: Floats) -> Estimate:
    """Mean over channels of 1/2 sum over frequencies of |difference of the mean shares of power|; 0 is best."""
    return bootstrap(lambda a, b: float(0.5 * np.abs(a.mean(0) - b.mean(0)).sum(0).mean()),
                     spectra(real), spectra(fake))  # fmt: skip


def pairs_of(values: Floats, seen: int) -> tuple[Floats, Floats]:
    """(N, T, C) -> all stretches of `seen` steps (M, seen * C) and the step behind each (M, C)."""
    n, steps, channels = values.shape
    past = np.stack([values[:, at : at + seen] for at in range(steps - seen)], 1)
    return past.reshape(-1, seen * channels), values[:, seen:].reshape(n * (steps - seen), channels)


def predictive(train: Floats, test: Floats, seen: int) -> Estimate:
    """Mean absolute error of the next step of `test`, in standard deviations of its channels, by a ridge regression
    that learnt it from `train` (Yoon et al. 2019, with a linear model for the recurrent net).
    """
    scale = np.where(test.std((0, 1)) > 0, test.std((0, 1)), 1.0)
    train, test = train / scale, test / scale
    found = Ridge(RIDGE).fit(*pairs_of(train, seen))
    past, truth = pairs_of(test, seen)
    errors = np.abs(found.predict(past).reshape(truth.shape) - truth).mean(1)
    return mean(errors.reshape(len(test), -1).mean(1))


def series_figures(train: Windows, heldout: Windows, fake: Windows, seed: int = 0) -> dict[str, float]:
    """All of these of at most MOST windows of each side, drawn by `seed`, with `NAME_stderr`. `predictive_real`: the
    same learnt from as many real training windows, which is the best that samples can reach.
    """
    n = min(len(heldout), len(fake), MOST)
    real, made = (bridged(side[some(side, n, seed)].values) for side in (heldout, fake))
    taught = bridged(train[some(train, n, seed)].values)
    steps = real.shape[1]
    seen, lags = max(1, min(SEEN, steps // 2)), max(1, min(LAGS, steps // 2))
    return with_errors({
        "autocorrelation": autocorrelation_distance(real, made, lags),
        "spectrum": spectrum_distance(real, made),
        "predictive": predictive(made, real, seen),
        "predictive_real": predictive(taught, real, seen),
    })  # fmt: skip


# -- forecasts -------------------------------------------------------------------------------------------------------


def crps(draws: NDArray[Any], truth: NDArray[Any]) -> Floats:
    """The continuous ranked probability score of each value, E|X - y| - 1/2 E|X - X'| (Gneiting & Raftery 2007).

    `draws` (D, ...) of X, `truth` y (...). X' is another draw than X, which makes the score of few draws that of many
    in the mean (Ferro 2014); of one draw it is the absolute error. Of a normal X with mean m and deviation s it is
    s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), z = (y - m) / s.
    """
    count = len(draws)
    error = np.abs(draws - truth).mean(0)
    if count < 2:
        return np.asarray(error)
    weights = 2 * np.arange(1, count + 1) - count - 1  # sum over pairs |x_i - x_j| = 2 sum_i weights_i x_(i)
    spread = np.tensordot(weights, np.sort(draws, 0), 1) * 2 / (count * (count - 1))
    return np.asarray(error - spread / 2)


def seasonal_naive(windows: Floats, past: int, season: int) -> Floats:
    """(N, T - past, C): the value one season before, and where that is not known yet, two, ..."""
    places = np.arange(past, windows.shape[1])
    return np.asarray(windows[:, places - season * np.ceil((places - past + 1) / season).astype(int)])


def naive_forecast(train: Floats, windows: Floats, past: int, draws: int, seed: int) -> Floats:
    """Draws (D, N, T - past, C) of the seasonal-naive forecast, with its errors on training windows."""
    season = season_of(train, past)
    errors = train[:, past:] - seasonal_naive(train, past, season)
    chosen = np.random.default_rng(seed).integers(0, len(train), (draws, len(windows)))
    return np.asarray(seasonal_naive(windows, past, season) + errors[chosen])


def linear_forecast(train: Floats, windows: Floats, past: int, draws: int, seed: int) -> Floats:
    """Draws (D, N, T - past, C) of a ridge regression from all of the past to all of the future, with errors of
    training windows that it was not fitted on.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train))
    known, future = train[:, :past].reshape(len(train), -1), train[:, past:].reshape(len(train), -1)
    scale = np.where(known.std(0) > 0, known.std(0), 1.0)
    fitted, left = order[: max(1, len(order) * 3 // 4)], order[len(order) * 3 // 4 :]
    model = Ridge(1.0).fit(known[fitted] / scale, future[fitted])
    errors = future[left] - model.predict(known[left] / scale).reshape(len(left), -1)
    made = model.predict(windows[:, :past].reshape(len(windows), -1) / scale).reshape(len(windows), -1)
    drawn = made + errors[rng.integers(0, len(left), (draws, len(windows)))]
    return drawn.reshape(draws, len(windows), train.shape[1] - past, train.shape[2])


def by_stretch(values: Floats, windows: Windows) -> tuple[Floats, list[int]]:
    """Means of the values (N,) of windows that lie in one stretch of time, twice as long as a window, and the sum of
    the steps at which its windows begin, by which means of the same windows are known. Windows that overlap, or begin
    at one time, are far from independent; such means nearly are.
    """
    if windows.start is None:
        return values, list(range(len(values)))
    place = np.unique(windows.start // (2 * windows.steps), return_inverse=True)[1]
    return np.bincount(place, values) / np.bincount(place), np.bincount(place, windows.start).astype(int).tolist()


def forecast_figures(
    complete: Callable[[Windows, NDArray[np.bool_]], Windows],
    train: Windows,
    heldout: Windows,
    *,
    count: int,
    draws: int = DRAWS,
) -> Marks:
    """The CRPS of forecasts of the last quarter of held-out windows, in deviations of the training channels: `crps`, of
    the model `complete(windows, known)`; `crps_seasonal` and `crps_linear`, of seasonal-naive and of a ridge
    regression; `crps_less_seasonal` and `crps_less_linear`, the model's minus theirs; and the share of true values
    between the 5 % and 95 % quantiles, `crps_covered`. With `NAME_stderr`.

    At most `count` windows without holes, the same for all models, each completed `draws` times. Values are means of
    the means `by_stretch`, from which the errors come too: of differences, from those of the same windows.
    """
    steps = heldout.steps
    past = steps - max(1, steps // 4)
    whole = np.flatnonzero(~np.isnan(heldout.values).any((1, 2)))
    if not 0 < past < steps or not len(whole):
        raise DataError(
            "forecasts cannot be measured on these windows",
            why=f"{len(whole)} windows have no missing value, and {past} of {steps} steps are given",
        )
    windows = heldout[whole[some(len(whole), count, 0)]]
    every = windows[np.tile(np.arange(len(windows)), draws)]
    made = complete(every, np.arange(steps) < past).values[:, past:]
    learnt, truth = bridged(train[some(train, 4 * MOST, 0)].values), windows.values
    scale = np.where(learnt.std((0, 1)) > 0, learnt.std((0, 1)), 1.0)
    rivals: dict[str, Floats] = {
        "crps": made.reshape(draws, len(windows), *made.shape[1:]),
        "crps_seasonal": naive_forecast(learnt, truth, past, draws, 0),
        "crps_linear": linear_forecast(learnt, truth, past, draws, 0),
    }
    each = {name: (crps(drawn, truth[:, past:]) / scale).mean((1, 2)) for name, drawn in rivals.items()}
    low, high = band_of(rivals["crps"])
    each |= {f"crps_less_{name}": each["crps"] - each[f"crps_{name}"] for name in ("seasonal", "linear")}
    each["crps_covered"] = ((truth[:, past:] >= low) & (truth[:, past:] <= high)).mean((1, 2))
    means = {name: by_stretch(values, windows) for name, values in each.items()}
    figures = with_errors({name: mean(values) for name, (values, _) in means.items()})
    return Marks(figures, {"crps": means["crps"][0].tolist()}, means["crps"][1])
