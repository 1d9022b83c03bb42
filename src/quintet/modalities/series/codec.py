"""Windows of series <-> real numbers, standardised by channel, or bins of equal share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from quintet.core import settings
from quintet.core.codec import Codec, Representation, RepresentationKind
from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.core.spaces import Continuous, Discrete
from quintet.data.arrow import Floats
from quintet.modalities.series.windows import Clock, Windows, bridged, season_of

GRIDS = (1000.0, 100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
"""Distances of neighbouring values that are looked for, the widest first."""
FINE = 1e-3
"""A grid finer than this share of a channel's deviation is none: its values are real numbers."""

SEASON_OF, REPEATS = 1000, 0.3
"""Windows in which a season is looked for, and the least correlation with what was a season before that is one."""


@dataclass(frozen=True)
class Channel:
    """The constants of one channel: mean and deviation, the distance `grid` of its neighbouring values (0: real
    numbers), and its bins.

    Bin i reaches from edges[i - 1] up to edges[i]; the first and the last have no end. Within a bin a value is uniform,
    in the two outer ones it is exponential with the mean distances `tails` from their edge. `middles` are what bins
    are decoded as: values of the training data. `shares`: how many of these are in each bin.
    """

    mean: float
    std: float
    grid: float
    edges: tuple[float, ...]
    tails: tuple[float, float]
    middles: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, values: Floats, levels: int, grid: float | None = None) -> Channel:
        """Of all training values of the channel (n,); the grid is looked for, or known."""
        std = float(values.std()) or 1.0
        if grid is None:
            grid = next((each for each in GRIDS if each > FINE * std and _on(values, each)), 0.0)
        edges = np.quantile(values, np.linspace(0, 1, levels + 1)[1:-1])
        edges = _between(edges, grid) if grid else edges
        edges = np.unique(edges[(edges > values.min()) & (edges <= values.max())])
        if not len(edges):
            edges = np.array([values.max() + grid / 2])
        place = np.searchsorted(edges, values, side="right")
        least = grid / 4 or 1e-3 * std
        tails = (
            max(least, float((edges[0] - values[place == 0]).mean())) if (place == 0).any() else least,
            max(least, float((values[place == len(edges)] - edges[-1]).mean()))
            if (place == len(edges)).any() else least,
        )  # fmt: skip
        ends = np.concatenate([[edges[0] - tails[0]], edges, [edges[-1] + tails[1]]])
        middles = [
            float(np.quantile(values[place == i], 0.5, method="lower")) if (place == i).any()
            else float(_nearest(np.array((ends[i] + ends[i + 1]) / 2), grid))
            for i in range(len(edges) + 1)
        ]  # fmt: skip
        shares = np.maximum(np.bincount(place, minlength=len(middles)), 0.5)
        return cls(float(values.mean()), std, grid, tuple(edges.tolist()), tails, tuple(middles),
                   tuple((shares / shares.sum()).tolist()))  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Channel:
        parts: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**parts)

    def bins(self, values: Floats) -> np.ndarray:
        """The bin of each value."""
        return np.searchsorted(np.array(self.edges), values, side="right")

    def log_volume(self, values: Floats) -> Floats:
        """log p(value | its bin): a density of real numbers, a probability of those on a grid."""
        edges, place = np.array(self.edges), self.bins(values)
        inner = (place > 0) & (place < len(edges))
        out = np.zeros(values.shape)
        widths = np.diff(edges)[(place - 1).clip(0, max(len(edges) - 2, 0))] if len(edges) > 1 else 1.0
        out -= np.where(inner, np.log(widths) - (np.log(self.grid) if self.grid else 0.0), 0.0)
        for outer, scale, beyond in (
            (place == 0, self.tails[0], edges[0] - values),
            (place == len(edges), self.tails[1], values - edges[-1]),
        ):
            if self.grid:  # of the cell of this value
                near = (beyond - self.grid / 2).clip(0)
                density = -near / scale + np.log(-np.expm1(-self.grid / scale))
            else:
                density = -beyond / scale - np.log(scale)
            out = np.where(outer, density, out)
        return out


def _on(values: Floats, grid: float) -> bool:
    """Whether all values are whole multiples of `grid`, up to rounding."""
    share = values / grid
    return bool((np.abs(share - np.round(share)) < 1e-6 * np.maximum(1, np.abs(share))).all())


def _between(values: Floats, grid: float) -> Floats:
    """The next places above that lie half-way between two values of a grid."""
    return (np.floor(values / grid + 0.5) + 0.5) * grid


def _nearest(values: Floats, grid: float) -> Floats:
    """The nearest values of a grid, written as decimals are; values of none as they are."""
    if not grid:
        return values
    return np.round(values) if grid == 1 else np.round(np.round(values / grid) * grid, 3)


def changes_of(values: Floats, season: int) -> Floats:
    """Values (N, T) less the mean of the season before each, where both are known, in one row."""
    parts = []
    for first in range(season, values.shape[1], season):
        before = values[:, first - season : first]
        kept = ~np.isnan(before).all(1)
        parts.append((values[kept, first : first + season] - np.nanmean(before[kept], 1, keepdims=True)).flatten())
    found = np.concatenate(parts)
    return found[~np.isnan(found)]


class StandardisedSeries(Representation):
    """Continuous: values (N, steps, channels) -> (value - mean) / deviation of the channel, in (channels, steps)."""

    kind = "continuous"

    def fit(self, steps: int, parts: tuple[Channel, ...], season: int, changes: tuple[Channel, ...]) -> None:
        self.steps, self.parts = steps, parts
        widths = np.repeat([part.grid / part.std for part in parts], steps)
        self.space = Continuous((len(parts), steps), widths=tuple(widths.tolist()) if widths.any() else None)

    def encode(self, values: Floats) -> Tensor:
        means, stds = ([getattr(part, name) for part in self.parts] for name in ("mean", "std"))
        return torch.from_numpy(((values - means) / stds).transpose(0, 2, 1)).float().contiguous()

    def decode(self, x: Tensor) -> Floats:
        z = x.detach().cpu().double().nan_to_num(0.0, 1e6, -1e6).numpy()
        return np.stack([_nearest(z[:, i] * part.std + part.mean, part.grid) for i, part in enumerate(self.parts)], -1)

    def log_det(self, values: Floats) -> Tensor:
        """log |dx / dvalue|, or the log of a cell of the grid in x."""
        each = [np.log((part.grid or 1.0) / part.std) for part in self.parts]
        return torch.full((len(values),), self.steps * float(np.sum(each)), dtype=torch.float64)

    def spread(self, known: Tensor) -> Tensor:
        return known.transpose(1, 2).contiguous()


class BinnedSeries(Representation):
    """Discrete: the bin of each value, a step after another in (steps * channels,), so that a prefix is a past.

    Behind the first `season` it is the bin of a change: of the value less the mean of what is decoded of the season
    before. So a forecast begins from the level of its own past, which may be one that no training window had. The
    volume stays that of the values, since what is subtracted depends on the past alone.
    """

    kind = "discrete"

    def fit(self, steps: int, parts: tuple[Channel, ...], season: int, changes: tuple[Channel, ...]) -> None:
        self.steps, self.parts, self.season, self.changes = steps, parts, season or steps, changes
        rows = [part for step in range(steps) for part in (parts if step < self.season else changes)]
        sizes, dims = tuple(len(part.middles) for part in rows), len(rows)
        if min(sizes) == max(sizes):  # equal shares too: there is nothing to start from
            self.space = Discrete((dims,), sizes[0])
        else:
            self.space = Discrete((dims,), max(sizes), sizes, shares=tuple(part.shares for part in rows))

    def _seasons(self) -> Iterator[tuple[slice, tuple[Channel, ...]]]:
        """The steps of each season, and the constants of what is binned there."""
        for first in range(0, self.steps, self.season):
            yield slice(first, min(first + self.season, self.steps)), self.changes if first else self.parts

    def _level(self, decoded: Floats, at: slice) -> Floats | float:
        """(N, 1, channels): the mean of the season before, as a value of the grid; 0 of the first."""
        if not at.start:
            return 0.0
        means = decoded[:, at.start - self.season : at.start].mean(1, keepdims=True)
        return np.stack([_nearest(means[:, :, i], part.grid) for i, part in enumerate(self.parts)], -1)

    def _binned(self, values: Floats) -> tuple[NDArray[np.int64], Floats]:
        """(N, steps, channels): the bins, and what is put into them."""
        bins, rest = np.zeros(values.shape, np.int64), values.copy()
        decoded = np.zeros_like(values)
        for at, parts in self._seasons():
            level = self._level(decoded, at)
            rest[:, at] = values[:, at] - level
            for i, part in enumerate(parts):
                bins[:, at, i] = part.bins(rest[:, at, i])
                decoded[:, at, i] = np.array(part.middles)[bins[:, at, i]]
            decoded[:, at] += level
        return bins, rest

    def encode(self, values: Floats) -> Tensor:
        return torch.from_numpy(self._binned(values)[0].reshape(len(values), -1))

    def decode(self, x: Tensor) -> Floats:
        bins = x.detach().cpu().view(len(x), self.steps, len(self.parts)).numpy()
        out = np.zeros(bins.shape)
        for at, parts in self._seasons():
            for i, part in enumerate(parts):
                out[:, at, i] = np.array(part.middles)[bins[:, at, i].clip(0, len(part.middles) - 1)]
            out[:, at] += self._level(out, at)
        return np.stack([_nearest(out[:, :, i], part.grid) for i, part in enumerate(self.parts)], -1)

    def log_det(self, values: Floats) -> Tensor:
        """log p(value | its bin)."""
        rest, out = self._binned(values)[1], np.zeros(len(values))
        for at, parts in self._seasons():
            for i, part in enumerate(parts):
                out += part.log_volume(rest[:, at, i]).sum(1)
        return torch.from_numpy(out)

    def spread(self, known: Tensor) -> Tensor:
        """A change is known where the value is, and most of the season before: missing values there are bridged."""
        every = known.clone()
        for at, _ in self._seasons():
            if at.start:
                every[:, at] &= known[:, at.start - self.season : at.start].double().mean(1, keepdim=True) >= 0.5
        return every.flatten(1)


class SeriesCodec(Codec):
    """Windows of one length and of the same channels.

    The bins of a channel's values, of which there are `levels`, hold equal shares of the training values; see
    `BinnedSeries` for what is binned behind the first season. Values that all lie on a grid, such as counts, have
    probabilities; others have densities. A missing value counts as what a straight line between its neighbours has
    there.
    """

    class Settings(settings.Settings):
        levels: int = Field(64, ge=2, le=1024, description="discrete: number of bins for the values of a channel")
        season: int | None = Field(
            None,
            ge=0,
            le=100_000,
            description="discrete: bins are of values minus the mean of this many before; 0: never; none: found",
        )

    name = "series"
    representations = (StandardisedSeries, BinnedSeries)
    representation: StandardisedSeries | BinnedSeries
    wanted = "an array (N, steps, channels) with NaN where a value is missing, or quintet's Windows"

    def __init__(self, representation: RepresentationKind | None = None, settings: Any = None) -> None:
        super().__init__(representation, settings)
        self.parts: tuple[Channel, ...] = ()
        self.changes: tuple[Channel, ...] = ()
        self.season = 0
        self.channels: tuple[str, ...] = ()
        self.columns: tuple[str, str] = ("", "")
        self.clock, self.steps = Clock(), 0

    # -- constants of the training split -----------------------------------------------------------------------------

    def fit(self, items: Any) -> Self:
        if not isinstance(items, Windows):
            raise DataError(f"expected windows of series, got {type(items).__name__}")
        if not len(items):
            raise DataError("the training data hold no windows")
        self.channels, self.clock, self.columns = items.channels, items.clock, items.columns
        season = self._season(items) if self.representation.kind == "discrete" else 0
        found, changes = [], []
        for place, name in enumerate(items.channels):
            values = items.values[:, :, place]
            if np.isnan(values).all():
                raise DataError(
                    "all training values of this channel are missing",
                    where=f"channel {name}",
                    fix="leave this channel out of the data",
                )
            found.append(Channel.of(values[~np.isnan(values)], self.settings.levels))
            if season:
                change = changes_of(values, season)
                changes.append(Channel.of(change if len(change) else np.zeros(1), self.settings.levels, found[-1].grid))
        self._set_space(items.steps, tuple(found), season, tuple(changes))
        return self

    def _season(self, items: Windows) -> int:
        """As it is set, or at which windows repeat themselves, so that a forecast of their last quarter has one before
        it; 0 where they do not.
        """
        if self.settings.season is not None:
            return self.settings.season if self.settings.season < items.steps else 0
        values = bridged(items.values[some(items, SEASON_OF, 0)])
        season = season_of(values, items.steps - max(1, items.steps // 4), REPEATS) if items.steps > 3 else 1
        return season if season > 1 else 0

    def _set_space(self, steps: int, parts: tuple[Channel, ...], season: int, changes: tuple[Channel, ...]) -> None:
        self.steps, self.parts, self.dims = steps, parts, steps * len(parts)
        self.season, self.changes = season, changes
        self.measure = "mass" if all(part.grid for part in parts) else "density"
        self.representation.fit(steps, parts, season, changes)

    # -- raw <-> encoded ---------------------------------------------------------------------------------------------

    def _check(self, items: Any) -> Windows:
        """The windows in the shape of the training ones."""
        if not isinstance(items, Windows):
            raise DataError(f"expected windows of series, got {type(items).__name__}")
        lacking = [name for name in self.channels if name not in items.channels]
        if len(lacking) == len(self.channels):
            why = f"the model has {', '.join(self.channels)}; the data have {', '.join(items.channels)}"
            raise DataError("the data have none of the model's channels", why=why)
        if items.steps > self.steps:
            why = f"they have {items.steps} steps, but the model takes at most {self.steps}"
            raise DataError("the windows are too long", why=why, fix=f"use --data.window {self.steps}")
        if items.start is not None and (items.clock.unit, items.clock.every) != (self.clock.unit, self.clock.every):
            raise DataError(
                f"the steps of the data are {items.clock} apart, but those of the model {self.clock}",
                fix="resample the data to the steps of the model",
            )
        return items.shaped(self.steps, self.channels)

    def encode(self, items: Any) -> Tensor:
        return self.representation.encode(bridged(self._check(items).values))

    def decode(self, x: Tensor) -> Windows:
        return Windows(self.representation.decode(x), self.channels, self.clock, columns=self.columns)

    def log_det(self, items: Any) -> Tensor:
        return self.representation.log_det(bridged(self._check(items).values))

    def losses(self, items: Any) -> list[str]:
        """Of windows with missing values."""
        counts = np.isnan(self._check(items).values).sum((1, 2)).tolist()
        what = "values are missing and count as a straight line between their neighbours"
        return [f"{count:,} of {self.dims:,} {what}" if count else "" for count in counts]

    # -- holes -------------------------------------------------------------------------------------------------------

    def _given(self, items: Windows, known: Any) -> np.ndarray:
        """(N, T, C) bool: which values are known. `known` (T,), (N, T) or (N, T, C); a missing value never is."""
        given = ~np.isnan(items.values)
        if known is None:
            return given
        mask = np.asarray(known)
        if mask.dtype != bool or mask.ndim not in (1, 2, 3):
            raise DataError(f"expected a boolean mask of shape (steps,), (N, steps) or (N, steps, channels), "
                            f"got {mask.dtype} of shape {mask.shape}")  # fmt: skip
        mask = mask[None, :, None] if mask.ndim == 1 else mask[:, :, None] if mask.ndim == 2 else mask
        wide = np.zeros((len(mask), self.steps, mask.shape[2]), bool)
        wide[:, : mask.shape[1]] = mask[:, : self.steps]
        try:
            return given & np.broadcast_to(wide, given.shape)
        except ValueError:
            raise DataError(f"a mask of shape {mask.shape} does not fit windows of shape {given.shape}") from None

    def partial(self, items: Any, known: Any = None) -> tuple[Tensor, Tensor]:
        """Missing values and lacking channels are holes, what `known` leaves out, and what comes behind a shorter
        window: that is a forecast.
        """
        shaped = self._check(items)
        given = self._given(shaped, known)
        held = self.encode(replace(shaped, values=np.where(given, shaped.values, np.nan)))
        return held, self.representation.spread(torch.from_numpy(given))

    def fill(self, items: Any, known: Any, completed: Any) -> Windows:
        shaped = self._check(items)
        return replace(shaped, values=np.where(self._given(shaped, known), shaped.values, completed.values))

    # -- state -------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "representation": self.representation.kind,
            "settings": self.settings.model_dump(mode="json"),
            "channels": list(self.channels),
            "columns": list(self.columns),
            "clock": list(self.clock),
            "steps": self.steps,
            "season": self.season,
            "parts": [asdict(part) for part in self.parts],
            "changes": [asdict(part) for part in self.changes],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(data["representation"], cls.Settings(**data["settings"]))
        codec.channels, codec.columns = tuple(data["channels"]), (data["columns"][0], data["columns"][1])
        codec.clock = Clock(*data["clock"])
        parts, changes = (tuple(Channel.from_json(part) for part in data[name]) for name in ("parts", "changes"))
        codec._set_space(data["steps"], parts, data["season"], changes)
        return codec
