"""Raw audio: mono recordings of any length at one sample rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Recordings:
    """`samples`: float32 arrays (n_i,) on [-1, 1]; `rate` in samples a second."""

    samples: Sequence[np.ndarray]
    rate: int

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.samples)

    def __getitem__(self, index: Any) -> Any:
        """One recording for an integer; Recordings for a slice or an array of indices."""
        if isinstance(index, int | np.integer):
            return self.samples[int(index)]
        if isinstance(index, slice):
            return Recordings(self.samples[index], self.rate)
        return Recordings([self.samples[int(i)] for i in index], self.rate)

    @property
    def seconds(self) -> np.ndarray:
        """Duration of each."""
        return np.array([len(sample) for sample in self.samples]) / self.rate

    def __add__(self, other: Recordings) -> Recordings:
        return Recordings([*self.samples, *other.samples], self.rate)

    def contents(self) -> Iterator[Any]:
        """What a digest is taken over."""
        yield str(self.rate).encode()
        yield from (np.ascontiguousarray(samples).data for samples in self)
