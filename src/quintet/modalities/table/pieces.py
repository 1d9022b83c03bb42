"""One column of a table as a distribution in pieces: values that weigh, and stretches of even density between them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quintet.data.arrow import Floats
from quintet.modalities.table.endings import Endings

Ints = NDArray[np.int64]

SPIKE, OFTEN = 0.005, 10
"""A value that makes up more than this share of a column, and so many cells, has a symbol of its own."""
PIECE_VALUES = 32
"""Training values a stretch of even density: the held-out cost of its height's noise is about 1 / (2 PIECE) nats."""
PIECES = 512
TAIL_VALUES = 4
"""The outermost stretches halve in mass down to this many values, so that a heavy tail keeps its shape."""
EXACT, NEW = 1024, 0.01
"""A column of at most EXACT different numbers, of which the next cell holds a new one with probability NEW at most (the
share of those seen once; Good & Turing), consists of exactly these values."""
NEVER = 1e-6
"""The probability of a new value where all were seen twice: next to nothing, but finite in logarithms."""


@dataclass(frozen=True)
class Pieces:
    """A distribution on the real line, in pieces from left to right, and its bins.

    Piece i has mass `mass[i]`, spread evenly over `low[i] < x < high[i]`, or all of it at one point where they are
    equal. A piece with an infinite end is a tail, F(edge - d) = m h / (h + d) with h the width of the range: what lies
    beyond the training data keeps a finite likelihood. So do the gaps between values that weigh; gaps and tails share
    1 / (n + 1), or what Good & Turing expect (see EXACT). They are `void`: `quantile` never goes there, it gives the
    value on their left (of the first: right). Where values have bounds (see `within`) a tail ends there, or lacks.
    On a `lattice` the values are the whole numbers and a piece ends between two of them; where numbers have `endings`,
    its mass is spread over those in it by their weights.
    `bins[i]` is the symbol of piece i, non-decreasing. The masses sum to 1 (test: numerical integration).
    """

    low: Floats
    high: Floats
    mass: Floats
    void: NDArray[np.bool_]
    bins: Ints
    lattice: bool
    endings: Endings | None = None

    @cached_property
    def zone(self) -> Ints:
        """The zone of endings that each piece is in, by the mass on its left."""
        return self.zones(1 if self.endings is None else len(self.endings.shares))

    def zones(self, count: int) -> Ints:
        """The part of the column, of so many of even mass, that each piece is in."""
        return ((self.cumulative + 0.5 * self.mass) * count).astype(np.int64).clip(0, count - 1)

    @cached_property
    def ended(self) -> NDArray[np.bool_]:
        """Which pieces have their mass spread by endings."""
        width = self.high - self.low
        return (width > 1) & np.isfinite(width) & ~self.void & (self.endings is not None)

    def _below(self, edge: Floats, piece: Ints) -> Floats:
        """The sum of weights below an edge, in the zone of a piece."""
        assert self.endings is not None
        return self.endings.below(edge, self.zone[piece])

    @cached_property
    def cumulative(self) -> Floats:
        """F at the left ends of the pieces."""
        total: Floats = np.concatenate([[0.0], np.cumsum(self.mass)[:-1]])
        return total

    @cached_property
    def count(self) -> int:
        """How many bins."""
        return int(self.bins[-1]) + 1

    @cached_property
    def first(self) -> Ints:
        """The first piece of each bin."""
        return np.searchsorted(self.bins, np.arange(self.count))

    @cached_property
    def weight(self) -> Floats:
        """The mass of each bin."""
        return np.add.reduceat(self.mass, self.first)

    @cached_property
    def span(self) -> float:
        """h, the width of the training range."""
        return max(float(self.low[-1] - self.high[0]), 1.0 if self.lattice else 1e-12)

    @cached_property
    def points(self) -> Floats | None:
        """The value of each bin, where every bin is a single value; else None."""
        solid = ~self.void
        width = self.high[solid] - self.low[solid]
        if len(width) != self.count or (width > self.lattice).any():
            return None
        return 0.5 * (self.low[solid] + self.high[solid])

    def piece(self, x: Floats) -> Ints:
        """The piece that holds each x."""
        i: Ints = np.searchsorted(self.high, x, side="right").clip(0, len(self.high) - 1)
        i = np.where(self.void[i] & (x == self.low[i]), i - 1, i)  # the last value of a stretch belongs to it
        points = np.flatnonzero(self.low == self.high)
        if len(points):
            at = np.searchsorted(self.low[points], x).clip(0, len(points) - 1)
            i = np.where(self.low[points][at] == x, points[at], i)
        return i

    def symbol(self, x: Floats) -> Ints:
        """The bin of each x."""
        return self.bins[self.piece(x)]

    def share(self, x: Floats, u: Floats) -> Floats:
        """The share of its bin's mass, in [0, 1), to the left of each x; at u of it where x itself weighs."""
        start, width = self.interval(x)
        symbol = self.symbol(x)
        share: Floats = (start + u * width - self.cumulative[self.first[symbol]]) / self.weight[symbol]
        return share.clip(0, np.nextafter(1, 0))

    def log_weight(self, x: Floats) -> Floats:
        """log of the mass of x where it has one (a point, or a lattice), else of the density there."""
        i = self.piece(x)
        out = np.log(self.mass[i])
        width = self.high[i] - self.low[i]
        inner = (width > 0) & np.isfinite(width)
        out[inner] -= np.log(width[inner])
        at = np.flatnonzero(self.ended[i])
        if self.endings is not None and len(at):
            own = i[at]
            total = self._below(self.high[own], own) - self._below(self.low[own], own)
            out[at] += np.log(width[at]) + np.log(self.endings.weight(x[at], self.zone[own])) - np.log(total)
        half = 0.5 * self.lattice
        for tail, beyond in ((np.isinf(self.low[i]), self.high[0] - x), (np.isinf(self.high[i]), x - self.low[-1])):
            d = beyond[tail].clip(half)
            out[tail] += np.log(self.span) - np.log(self.span + d - half) - np.log(self.span + d + half)
        return out

    def interval(self, x: Floats) -> tuple[Floats, Floats]:
        """F just before x and behind it: (start, width); a width of 0 where x has a density only."""
        i = self.piece(x)
        start, mass = self.cumulative[i].copy(), self.mass[i].copy()
        width = self.high[i] - self.low[i]
        inner = (width > 0) & np.isfinite(width)
        half = 0.5 * self.lattice
        w = np.where(inner, width, 1.0)
        begin = ((x - half - np.where(inner, self.low[i], 0.0)) / w).clip(0, 1)
        start = np.where(inner, start + mass * begin, start)
        mass = np.where(inner, mass * self.lattice / w, mass)
        at = np.flatnonzero(self.ended[i])
        if self.endings is not None and len(at):
            own = i[at]
            first = self._below(self.low[own], own)
            part = self.mass[own] / (self._below(self.high[own], own) - first)
            start[at] = self.cumulative[own] + part * (self._below(x[at] - half, own) - first)
            mass[at] = part * self.endings.weight(x[at], self.zone[own])
        h = self.span
        left, right = np.isinf(self.low[i]), np.isinf(self.high[i])
        d = (self.high[0] - x[left]).clip(half)
        start[left] = self.mass[0] * h / (h + d + half)
        mass[left] = self.mass[0] * h / (h + d - half) - start[left]
        d = (x[right] - self.low[-1]).clip(half)
        start[right] = 1 - self.mass[-1] * h / (h + d - half)
        mass[right] = 1 - self.mass[-1] * h / (h + d + half) - start[right]
        return start, mass

    def quantile(self, u: Floats) -> Floats:
        """The value at F = u, never beyond the range nor in a gap; on a lattice a whole number."""
        i = (np.searchsorted(self.cumulative, u, side="right") - 1).clip(0, len(self.mass) - 1)
        share = ((u - self.cumulative[i]) / self.mass[i]).clip(0, 1)
        low, high = self.low[i], self.high[i]
        inner = np.isfinite(high - low)
        x = np.where(inner, low, 0) + share * np.where(inner, high - low, 0)
        half = 0.5 * self.lattice
        at = np.flatnonzero(self.ended[i])
        if self.endings is not None and len(at):
            own = i[at]
            first = self._below(low[at], own)
            x[at] = self.endings.at(first + share[at] * (self._below(high[at], own) - first), self.zone[own])
        x = np.where(self.void[i], np.where(i == 0, high + half, low - half), x)
        if self.lattice:  # a share of exactly 0 or 1 would round to the neighbour
            inside = ~self.void[i]
            first, last = np.where(inside, low, -np.inf) + 0.5, np.where(inside, high, np.inf) - 0.5
            x = np.where(inside, np.ceil(x - 0.5).clip(first, last), x)
        return x

    def draw(self, symbol: Ints, u: Floats) -> Floats:
        """The value at the share u in (0, 1) of a bin's mass."""
        start = self.cumulative[self.first[symbol]]
        return self.quantile(start + u * self.weight[symbol])

    @cached_property
    def salt(self) -> int:
        """Of the within-bin draws: equal columns have equal draws, so that copies of a column stay copies."""
        digest = hashlib.blake2b(self.high.tobytes() + self.mass.tobytes(), digest_size=8).digest()
        return int.from_bytes(digest, "big")

    def to_json(self) -> dict[str, Any]:
        return {
            "tails": bool(np.isinf(self.low[0])),
            "low": self.low[np.isfinite(self.low)].tolist(),
            "high": self.high[np.isfinite(self.high)].tolist(),
            "mass": self.mass.tolist(),
            "void": np.flatnonzero(self.void).tolist(),
            "first": self.first.tolist(),
            "lattice": self.lattice,
            "endings": None if self.endings is None else self.endings.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        mass = np.array(data["mass"], np.float64)
        void = np.zeros(len(mass), bool)
        void[data["void"]] = True
        starts = np.zeros(len(mass), np.int64)
        starts[data["first"][1:]] = 1
        tails = [np.inf] * data["tails"]
        low, high = np.array([*(-np.array(tails)), *data["low"]]), np.array([*data["high"], *tails])
        endings = None if data["endings"] is None else Endings.from_json(data["endings"])
        return cls(low, high, mass, void, np.cumsum(starts), bool(data["lattice"]), endings)


def pieces_of_numbers(x: Floats, *, lattice: bool, bins: int, few: int = 8, origin: int | None = None) -> Pieces:
    """The distribution of the training values x (n,), in about `bins` symbols of equal mass besides the spikes.

    A column of separate values (see EXACT, or at most `few`) has a symbol for each of up to 2 `bins`. Else the values
    between two spikes are cut at their quantiles. `origin`: what is to be added to a whole number so that it ends as it
    is written; None: endings say nothing.
    """
    values, counts = np.unique(x, return_counts=True)
    n, half = len(x), 0.5 * lattice
    own = counts > max(SPIKE * n, OFTEN)
    once = int((counts == 1).sum())
    separate = len(values) <= few or (len(values) <= EXACT and once <= NEW * n)
    if separate:
        exact = np.ones(len(values), bool)
        if len(values) <= 2 * bins:
            own = exact
    else:
        exact = own
    low, high, mass, alone = [], [], [], []
    at = 0
    size = max(PIECE_VALUES, n // PIECES)
    while at < len(values):
        if exact[at]:
            low.append(values[at : at + 1] - half)
            high.append(values[at : at + 1] + half)
            mass.append(counts[at : at + 1])
            alone.append(own[at : at + 1])
            at += 1
            continue
        end = at + int(np.argmax(exact[at:])) if exact[at:].any() else len(values)
        run, weight = values[at:end], counts[at:end]
        total = np.cumsum(weight)
        ranks = knots(int(total[-1]), size, begins=at == 0, ends=end == len(values))
        last = np.unique(np.searchsorted(total, ranks))  # pieces end at these values
        if not lattice and last[0] == 0 and len(last) > 1:
            last = last[1:]  # the first value opens the first stretch
        edges = np.concatenate([run[:1] - half, run[last] + half])
        low.append(edges[:-1])
        high.append(edges[1:])
        mass.append(np.diff(np.concatenate([[0], total[last]])))
        alone.append(np.zeros(len(last), bool))
        at = end
    beyond = min(max(once / (n + 1), NEVER), 0.5) if separate else 1 / (n + 1)
    ends, starts = np.concatenate(high), np.concatenate(low)
    made = assemble(starts, ends, np.concatenate(mass), np.concatenate(alone), beyond, bins, lattice=lattice)
    if not lattice or origin is None or exact.all():
        return made
    inside = np.repeat(values[~exact], counts[~exact])
    piece = made.piece(inside)
    return replace(made, endings=Endings.of(inside, lambda count: made.zones(count)[piece], origin))


def bounded(pieces: Pieces, first: int, last: int) -> Pieces:
    """The same on the whole numbers first ... last alone; all values lie there. A tail without room is left out."""
    low, high, mass = pieces.low.copy(), pieces.high.copy(), pieces.mass.copy()
    kept = np.ones(len(mass), bool)
    low[0], high[-1] = first - 0.5, last + 0.5
    for tail, neighbour in ((0, 1), (-1, -2)):
        if low[tail] >= high[tail]:
            kept[tail] = False
            mass[neighbour] += mass[tail]
    return replace(pieces, low=low[kept], high=high[kept], mass=mass[kept], void=pieces.void[kept],
                   bins=pieces.bins[kept])  # fmt: skip


def knots(total: int, size: int, *, begins: bool, ends: bool) -> Ints:
    """Ranks 1 ... total at which pieces end: every `size`, and at an outer end of the column after 4, 8, 16 ..."""
    ranks = np.linspace(0, total, max(1, round(total / size)) + 1)[1:].round().astype(np.int64)
    outer = TAIL_VALUES * 2 ** np.arange(0, 12)
    outer = outer[outer < min(size, total // 2)]
    parts = [ranks, *([outer] if begins else []), *([total - outer] if ends else [])]
    return np.unique(np.concatenate(parts))


def assemble(
    low: Floats, high: Floats, count: Ints, alone: NDArray[np.bool_], beyond: float, bins: int, *, lattice: bool
) -> Pieces:
    """Pieces that hold values, with the gaps and tails between and beyond them, and their bins.

    `alone`: pieces that are a bin each; the others share bins of about 1 / `bins` of their mass.
    """
    rest = float(count[~alone].sum())
    target = rest / bins
    symbol = np.zeros(len(low), np.int64)
    now, filled = -1, 0.0
    for i in range(len(low)):
        if alone[i] or i == 0 or alone[i - 1] or filled + 0.5 * count[i] > target:
            now, filled = now + 1, 0.0
        symbol[i] = now
        if not alone[i]:
            filled += count[i]
    gap = low[1:] > high[:-1]
    order = np.argsort(np.concatenate([np.arange(len(low)), np.flatnonzero(gap) + 0.5]), kind="stable")

    def merged(solid: NDArray[Any], between: NDArray[Any], first: Any, last: Any) -> NDArray[Any]:
        return np.concatenate([[first], np.concatenate([solid, between])[order], [last]])

    width = (low[1:] - high[:-1])[gap]
    # half of what lies beyond the values is in the gaps, a quarter in each tail
    inside = 0.5 * beyond * width / width.sum() if len(width) else np.zeros(0)
    tail = 0.25 * beyond if len(width) else 0.5 * beyond
    return Pieces(
        low=merged(low, high[:-1][gap], -np.inf, high[-1]),
        high=merged(high, low[1:][gap], low[0], np.inf),
        mass=merged((1 - beyond) * count / count.sum(), inside, tail, tail),
        void=merged(np.zeros(len(low), bool), np.ones(len(width), bool), True, True),
        bins=merged(symbol, symbol[:-1][gap], 0, symbol[-1]),
        lattice=lattice,
    )


def pieces_of_categories(count: Ints, own: int, rare: int = 0, group: int = 1) -> Pieces:
    """Categories 0 ... K - 1: the first `own` have a symbol each, the last `rare` share one, and of those between each
    `group` do.

    The mass of 1 / (n + 1) beyond the last is that of all unseen values together, where there are rare ones.
    """
    k, n, shared = len(count), int(count.sum()), rare > 0
    beyond = 1 / (n + 1) if shared else 0.0
    index = np.arange(k + shared)
    middle = index.astype(np.float64)
    mass = np.concatenate([(1 - beyond) * count / n, [beyond][:shared]])
    grouped = max(0, k - rare - own)
    bins = np.minimum(index, own + (index - own).clip(0) // group)
    bins[k - rare :] = min(own, k - rare) + -(-grouped // group)
    return Pieces(middle - 0.5, middle + 0.5, mass, index == k, bins, lattice=True)


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit words whose output looks random (splitmix64's finaliser, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def row_hash(words: NDArray[Any]) -> NDArray[np.uint64]:
    """(N, D) integers -> one 64-bit hash a row."""
    state = np.full(len(words), 0x9E3779B97F4A7C15, np.uint64)
    for column in np.ascontiguousarray(words.T.astype(np.int64)).view(np.uint64):
        state = mix(state * np.uint64(0x9E3779B97F4A7C15) + column + np.uint64(1))
    return state


def uniforms(rows: NDArray[np.uint64], salt: int) -> Floats:
    """A number in (0, 1) a row, from its hash and a salt."""
    u: Floats = (mix(rows ^ np.uint64(salt)) >> np.uint64(12)).astype(np.float64) * 2.0**-52 + 2.0**-53
    return u
