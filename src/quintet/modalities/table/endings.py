"""How the whole numbers of a column end: in thousands, in tens, in 99; a mixture of grids, given where they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quintet.data.arrow import Floats

PERIODS = (10_000, 1_000, 100, 10, 3_600, 60)
"""Endings that are looked at: the last digits of a number, and the seconds of an hour or a minute."""
TURNS = 10
"""A period fits so many times at least into nine tenths of the values, so that endings are no places."""
FEWEST, GAIN = 30, 0.05
"""Of so many values, endings are a grid if they say so many nats of each, on average, and what chance says besides."""
OFTEN, SIGMAS = 10, 6.0
"""An ending that so many values have, and by so many deviations more than others of its divisor, counts by itself."""
ZONE, ZONES = 500, (8, 4, 2, 1)
"""Values whose endings are counted together, from the smallest on, at least, and how many zones of them there may be.
Half as many periods fit into a zone."""
PRIOR = 20
"""A zone counts as if it had so many more values, with the endings of the whole column."""


@dataclass(frozen=True)
class Endings:
    """omega_z(k) > 0, how much more often than evenly a whole number k of zone z ends as it does, of mean 1.

    It depends on r = (k + origin) mod `period`, by the greatest common divisor of r and the period (of 1000 itself: the
    thousands, 500, 250, 100 ...), and on r itself where that is one of `single`, (modulus, remainder), as (100, 99).
    `shares` (zones, kinds) are those of training values of each kind of ending: of each single one, then of each
    divisor in falling order.
    """

    period: int
    origin: int
    single: tuple[tuple[int, int], ...]
    shares: tuple[tuple[float, ...], ...]

    @cached_property
    def omega(self) -> Floats:
        """(zones, period)."""
        kind = kinds(self.period, self.single)
        sizes = np.bincount(kind, minlength=len(self.shares[0])).clip(1)
        weight: Floats = (np.array(self.shares) / sizes)[:, kind]
        return weight * (self.period / weight.sum(1, keepdims=True))

    @cached_property
    def _ends(self) -> Floats:
        """(zones, period + 1): the sum of omega over the endings before each; the last is the period."""
        return np.concatenate([np.zeros((len(self.omega), 1)), np.cumsum(self.omega, 1)], 1)

    def weight(self, k: Floats, zone: NDArray[np.int64]) -> Floats:
        """omega of whole numbers."""
        return self.omega[zone, (k.astype(np.int64) + self.origin) % self.period]

    def below(self, edge: Floats, zone: NDArray[np.int64]) -> Floats:
        """The sum of omega over the whole numbers below an edge k - 1/2, from a far one on."""
        turns, r = np.divmod(np.ceil(edge).astype(np.int64) + self.origin, self.period)
        return turns * float(self.period) + self._ends[zone, r]

    def at(self, total: Floats, zone: NDArray[np.int64]) -> Floats:
        """The whole number in which the sum passes `total`: `below(k - 1/2) <= total < below(k + 1/2)`."""
        turns, rest = np.divmod(total, float(self.period))
        apart = 2.0 * self.period
        flat = (self._ends[:, :-1] + apart * np.arange(len(self._ends))[:, None]).ravel()
        r = np.searchsorted(flat, rest + apart * zone, side="right") - 1 - zone * self.period
        return turns * self.period + r - self.origin

    def to_json(self) -> dict[str, Any]:
        return {"period": self.period, "origin": self.origin, "single": [list(each) for each in self.single],
                "shares": [list(each) for each in self.shares]}  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(data["period"], data["origin"], tuple(map(tuple, data["single"])), tuple(map(tuple, data["shares"])))

    @classmethod
    def of(cls, values: Floats, zones: Callable[[int], NDArray[np.int64]], origin: int) -> Self | None:
        """Those of whole numbers (n,); `zones` says in which of so many zones each is. None where they end evenly, or
        nothing can be said.
        """
        if len(values) < FEWEST:
            return None
        best, gain = None, GAIN
        low, high = np.quantile(values, [0.05, 0.95])
        for period in PERIODS:
            if high - low < TURNS * period:
                continue
            count = next(count for count in ZONES if count == 1 or all(
                len(own) >= ZONE and np.ptp(own) >= TURNS * period / 2
                for own in (values[zones(count) == zone] for zone in range(count))))  # fmt: skip
            zone = zones(count)
            found = cls._counted((values.astype(np.int64) + origin) % period, zone, count, period, origin)
            chance = len(found.shares[0]) / len(values)  # twice what as many kinds say of values that end evenly
            says = float(np.log(found.weight(values, zone)).mean()) - chance
            if says > gain + (GAIN if best is not None else 0.0):
                best, gain = found, says
        return best

    @classmethod
    def _counted(cls, r: NDArray[np.int64], zone: NDArray[np.int64], zones: int, period: int, origin: int) -> Self:
        single, each = list[tuple[int, int]](), np.bincount(r, minlength=period)
        for modulus in [100] * (period > 100 and period % 100 == 0) + [period]:
            kind, ending = kinds(period, single), np.arange(period) % modulus
            usual = np.bincount(ending, (np.bincount(kind, each) / np.bincount(kind).clip(1))[kind])
            held = np.bincount(ending, each)
            alone = np.flatnonzero((held >= OFTEN) & (held > usual + SIGMAS * np.sqrt(usual + 1)))
            single += [(modulus, int(end)) for end in alone if end]
        kind = kinds(period, single)
        sizes = np.bincount(kind)
        whole = (np.bincount(kind[r], minlength=len(sizes)) + sizes / period) / (len(r) + 1)
        counts = np.zeros((zones, len(sizes)))
        np.add.at(counts, (zone, kind[r]), 1)
        shares = (counts + PRIOR * whole) / (counts.sum(1, keepdims=True) + PRIOR)
        return cls(period, origin, tuple(single), tuple(tuple(row) for row in shares.tolist()))


def kinds(period: int, single: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """(period,) of each ending, which kind it is of."""
    divisors = [d for d in range(period, 0, -1) if period % d == 0]
    place = {d: len(single) + i for i, d in enumerate(divisors)}
    kind = np.array([place[math.gcd(r, period)] for r in range(period)])
    for at, (modulus, end) in enumerate(single):
        kind[end::modulus] = at
    return kind
