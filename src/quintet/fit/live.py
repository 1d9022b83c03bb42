"""Figures while a model trains, of the same samples and unseen items each time, and advice that follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from quintet.core.afford import affordable
from quintet.core.family import Batch, Family
from quintet.core.random import Rows, seed_of, some
from quintet.core.spaces import Continuous
from quintet.metrics.distances import energy_distance
from quintet.metrics.features import FeatureSpace
from quintet.metrics.memorisation import memorised_share
from quintet.runs.task import HELD

SAMPLES = 100
"""Samples of a look: fewer of a slow model, but the same number in each look of a run."""
NUMBERS_AT_ONCE = 2**20
"""Numbers that are sampled or measured at once: large items, a few at a time."""
LOOK_FIGURES = ("quality", "quality_stderr", "diversity", "copies", "copying", "held_out")
"""What a look measures, by the names that metrics.jsonl has for them."""


class Live:
    """A look at a model: figures of samples of fixed seeds, and the loss of validation items under fixed noise.

    quality     energy distance between features of samples and of validation items, with `quality_stderr`
    diversity   E|X - X'| of samples over that of validation items: 1 is as varied as they are
    copies      share of samples unusually near to one training item; `copying` if that is no chance (p < 0.001)
    held_out    the training loss on validation items, for a family that has a likelihood

    samples     how many samples these figures are of, where it is not SAMPLES

    `train` (N, *space.shape) and `held` (M, ...) are encoded, `cond` (M, ...) are the conditions of `held`; the loss is
    that of `lossy` of them, drawn once, as the conditions of samples are. `settling(seen)` are training items by which
    the model settles first, after training on `seen` items.
    """

    def __init__(
        self,
        features: FeatureSpace,
        train: Tensor,
        held: Tensor,
        cond: Tensor | None,
        sampling: Mapping[str, Any],
        *,
        lossy: int = HELD,
        settling: Callable[[int], Iterable[Batch]] = lambda seen: (),
    ) -> None:
        self.features, self.held, self.cond, self.settling = features, held, cond, settling
        self.measured = torch.from_numpy(some(held, lossy, 0)).to(held.device)
        self.most = SAMPLES if cond is None else min(SAMPLES, len(cond))
        self.take(self.most)
        self.tick: Callable[[], None] = lambda: None  # called all the time while it samples; raising ends the look
        self.seen = 0  # how many items the model has been trained on
        self.settled = False  # whether it stands how many samples the looks of this run have
        self.train, self.real = features(train.cpu().numpy()), features(held.cpu().numpy())
        self.spread = float(pdist(self.real).mean()) if len(self.real) > 1 else 0.0
        self.sampling = dict(sampling) | ({"beams": 1} if "beams" in sampling else {})  # a search costs too much here

    def take(self, count: int) -> None:
        """From now on each look has so many samples, given conditions of unseen items that are drawn once."""
        self.count, self.settled = min(count, self.most), True
        self.asked = (
            None if self.cond is None else torch.from_numpy(some(self.cond, self.count, 0)).to(self.cond.device)
        )

    def afford(self, family: Family, limit: float) -> None:
        """Settle on as many samples as can be drawn in about `limit` seconds."""
        self.take(affordable(lambda count: self.sample(family, count), self.most, limit).items)

    def __call__(self, family: Family) -> tuple[Tensor, dict[str, float | bool | None]]:
        """(samples, figures); a figure is None where there is none, or where it is not finite."""
        family.settle(self.some())
        x = self.sample(family, self.count)
        figures: dict[str, float | bool | None] = dict.fromkeys(LOOK_FIGURES)
        if self.count < self.most:
            figures["samples"] = self.count
        if family.likelihood != "none":
            figures["held_out"] = finite(self.loss(family))
        if torch.isfinite(x.double()).all():
            space = family.space  # a density is one of levels and bits with noise, which the unseen items lack
            made = self.features((space.nearest(x) if isinstance(space, Continuous) else x).numpy())
            if len(self.real) > 1:
                quality = energy_distance(made, self.real)
                figures |= {"quality": finite(quality.value), "quality_stderr": finite(quality.stderr)}
            if self.spread > 0:
                figures["diversity"] = float(pdist(made).mean()) / self.spread
            copies = memorised_share(self.train, self.real, made)
            figures |= {"copies": float(copies["share"]), "copying": bool(copies["flagged"])}
        return x, figures

    def some(self) -> Iterator[Batch]:
        """Training items to settle by."""
        for batch in self.settling(self.seen):
            self.tick()
            yield batch

    def sample(self, family: Family, n: int) -> Tensor:
        """Samples of fixed seeds, given conditions of unseen items, the same ones each time."""
        settings = family.Sampling(**self.sampling)
        parts = []
        for start, stop in self.pieces(n):
            self.tick()
            cond = None if self.cond is None or self.asked is None else self.cond[self.asked[start:stop]]
            rows = Rows(seed_of("look"), start, stop - start)
            made = family.sample(rows.count, cond, sampling=settings, generator=rows, on_step=lambda *_: self.tick())
            parts.append(made.cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def loss(self, family: Family) -> float:
        """The mean loss of the unseen items, a dimension."""
        total = 0.0
        for start, stop in self.pieces(len(self.measured)):
            self.tick()
            chosen = self.measured[start:stop]
            x, rows = self.held[chosen], Rows(seed_of("held out"), start, stop - start)
            x = family.noisy(x, Rows(seed_of("held out", "dequantise"), start, stop - start))
            cond = None if self.cond is None else self.cond[chosen]
            total += float(family.loss(Batch(x, cond, rows)).value) * (stop - start)
        return total / len(self.measured)

    def pieces(self, n: int) -> list[tuple[int, int]]:
        """Ranges of 0 ... n that are worked on together."""
        each = max(8, NUMBERS_AT_ONCE // math.prod(self.held.shape[1:]))
        return [(start, min(start + each, n)) for start in range(0, n, each)]


def finite(value: float) -> float | None:
    """The value, or None if it is NaN or infinite."""
    return value if math.isfinite(value) else None


# -- what follows ----------------------------------------------------------------------------------------------------
