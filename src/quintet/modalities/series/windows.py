"""Raw series: windows of regularly sampled numbers, one or many channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quintet.data.arrow import Floats

UNITS = (("weeks", 604_800_000_000), ("days", 86_400_000_000), ("hours", 3_600_000_000), ("minutes", 60_000_000),
         ("seconds", 1_000_000), ("microseconds", 1))  # fmt: skip
"""Spans of time and their microseconds."""


class Clock(NamedTuple):
    """Step k is at `origin` + k * `every`: counted in months or microseconds since 1970, or in plain numbers."""

    unit: str = ""
    """ "M", "us" or ""."""
    origin: float = 0
    every: float = 1

    def times(self, steps: NDArray[np.int64]) -> NDArray[Any]:
        """What the column of times holds at these steps: `datetime64`, or numbers."""
        at = self.origin + np.asarray(steps) * self.every
        if self.unit:
            return np.asarray(at, np.int64).astype(f"datetime64[{self.unit}]")
        return at.astype(np.int64) if (at == np.round(at)).all() else at

    def written(self, steps: NDArray[np.int64]) -> list[str]:
        """The same as text: ISO 8601, as short as all of them allow."""
        at: Any = self.times(steps)
        return [str(each) for each in (np.datetime_as_string(at, unit=_shortest(at)) if self.unit else at)]

    def __str__(self) -> str:
        """A step in words: 1 hour, 2 months."""
        if self.unit != "us":
            return f"{self.every:g} {'month' if self.unit else 'step'}{'' if self.every == 1 else 's'}"
        name, size = next((name, size) for name, size in UNITS if self.every % size == 0)
        count = int(self.every // size)
        return f"{count} {name[:-1] if count == 1 else name}"


PLAIN = Clock()
"""Steps that are counted from 0."""


def _shortest(at: NDArray[Any]) -> Any:
    if at.dtype == np.dtype("datetime64[M]"):
        return "M"
    return next((unit for unit in ("D", "m", "s") if (at == at.astype(f"datetime64[{unit}]")).all()), "us")


@dataclass(frozen=True, eq=False)
class Windows:
    """`values` (N, T, C): N windows of T steps of the channels `channels`, NaN where a value is missing.

    Of windows that were cut out of longer series, `start` (N,) is the step of the `clock` at which each begins, and
    `entity` (N,) says which series it is of, where there are several. `columns`: the names that the columns of times
    and of entities had in their file, "" where there was none. `draw` (N,): of several completions of the same windows,
    which each is of, from 1.
    """

    values: Floats
    channels: tuple[str, ...]
    clock: Clock = PLAIN
    start: NDArray[np.int64] | None = None
    entity: NDArray[np.str_] | None = None
    columns: tuple[str, str] = ("", "")
    draw: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Floats]:
        return iter(self.values)

    def __getitem__(self, index: Any) -> Any:
        """One window (T, C) for an integer; Windows for a slice or an array of indices."""
        if isinstance(index, int | np.integer):
            return self.values[int(index)]
        index = index if isinstance(index, slice) else np.asarray(index, np.int64)
        beside: dict[str, Any] = {name: part if part is None else part[index] for name, part in self._beside().items()}
        return replace(self, values=self.values[index], **beside)

    def __add__(self, other: Windows) -> Windows:
        mine, its = self._beside(), other._beside()
        both: dict[str, Any] = {
            name: None if part is None or its[name] is None else np.concatenate([part, its[name]])
            for name, part in mine.items()
        }
        return replace(self, values=np.concatenate([self.values, other.values]), **both)

    def _beside(self) -> dict[str, Any]:
        """What there is of each window beside its values."""
        return {"start": self.start, "entity": self.entity, "draw": self.draw}

    @property
    def steps(self) -> int:
        return int(self.values.shape[1])

    def contents(self) -> Iterator[bytes]:
        """What a digest is taken over."""
        yield repr((self.channels, tuple(self.clock), self.columns)).encode()
        for part in (self.values, self.start):
            yield b"" if part is None else np.ascontiguousarray(part).tobytes()
        yield b"" if self.entity is None else "\0".join(self.entity.tolist()).encode()

    def moments(self) -> list[str]:
        """(N * T) times as they are written, window by window; the place in the window where none is known."""
        steps = np.arange(self.steps)[None] + (np.zeros((len(self), 1), np.int64) if self.start is None
                                               else self.start[:, None])  # fmt: skip
        return (Clock() if self.start is None else self.clock).written(steps.flatten())

    def shaped(self, steps: int, channels: Sequence[str]) -> Windows:
        """The same channels in this order, and at least so many steps: what is lacking is missing."""
        if self.channels == tuple(channels) and self.steps >= steps:
            return self
        values = np.full((len(self), max(steps, self.steps), len(channels)), np.nan)
        for place, name in enumerate(channels):
            if name in self.channels:
                values[:, : self.steps, place] = self.values[:, :, self.channels.index(name)]
        return replace(self, values=values, channels=tuple(channels))


def bridged(values: Floats) -> Floats:
    """(N, T, C) without holes: a straight line between the neighbours of each, level at the ends; 0 where a channel has
    no value at all.
    """
    out, places = values.copy(), np.arange(values.shape[1])
    for window, channel in zip(*np.nonzero(np.isnan(values).any(1)), strict=True):
        column = out[window, :, channel]
        hole = np.isnan(column)
        column[hole] = 0.0 if hole.all() else np.interp(places[hole], places[~hole], column[~hole])
    return out


def autocorrelations(values: Floats, lags: int) -> Floats:
    """(N, T, C) -> (N, lags, C): sum over t of y_t y_{t + k} over sum of y_t^2, k = 1 ... lags, y the window about its
    own mean; 0 for a constant one.
    """
    y = values - values.mean(1, keepdims=True)
    power = (y**2).sum(1)
    each = [(y[:, :-k] * y[:, k:]).sum(1) for k in range(1, lags + 1)]
    return np.stack(each, 1) / np.where(power > 1e-12, power, 1.0)[:, None]


def season_of(values: Floats, past: int, least: float = -1.0) -> int:
    """The lag, from 2 steps to `past`, at which windows (N, T, C) repeat themselves best; 1 if none does, by a mean
    correlation of at least `least`.
    """
    scores = autocorrelations(values, min(past, values.shape[1] - 2)).mean((0, 2))
    if len(scores) < 2:
        return 1
    overlap = 1 - np.arange(1, len(scores) + 1) / values.shape[1]  # fewer terms at longer lags
    scores = scores / overlap
    rises = [k for k in range(1, len(scores)) if scores[k] > scores[k - 1] and scores[k] >= least]
    return max(rises, key=lambda k: scores[k]) + 1 if rises else 1


def band_of(draws: Floats) -> Floats:
    """(D, ...) -> the 5 % and the 95 % quantile of these draws, (2, ...): another draw lies between them nine times in
    ten.

    The k-th smallest of D draws is the k / (D + 1) quantile (Weibull 1939), since another one is as likely to fall into
    each of the D + 1 gaps. Fewer than 19 draws do not reach so far: theirs are the smallest and the largest.
    """
    return np.asarray(np.quantile(draws, [0.05, 0.95], axis=0, method="weibull"))
