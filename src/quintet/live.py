"""Figures while a model trains, of the same samples and unseen items each time, and advice that follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from quintet.core.family import Batch, Family
from quintet.core.random import Rows, seed_of, some
from quintet.core.spaces import Continuous
from quintet.evaluation.features import FeatureSpace
from quintet.evaluation.memorisation import memorised_share
from quintet.evaluation.metrics import energy_distance

SAMPLES = 100
HELD = 512
"""Unseen items that samples are compared with, and that the loss is measured on."""
AT_ONCE = 2**20
"""Numbers that are sampled or measured at once: large items, a few at a time."""
FIGURES = ("quality", "quality_stderr", "diversity", "copies", "copying", "held_out")
"""What a look measures, by the names that metrics.jsonl has for them."""

Records = Sequence[Mapping[str, Any]]


class Live:
    """A look at a model: figures of samples of fixed seeds, and the loss of validation items under fixed noise.

    quality     energy distance between features of samples and of validation items, with `quality_stderr`
    diversity   E|X - X'| of samples over that of validation items: 1 is as varied as they are
    copies      share of samples unusually near to one training item; `copying` if that is no chance (p < 0.001)
    held_out    the training loss on validation items, for a family that has a likelihood

    `train` (N, *space.shape) and `held` (M, ...) are encoded, `cond` (M, ...) are the conditions of `held`; the loss is
    that of `lossy` of them, drawn once, as the conditions of samples are.
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
    ) -> None:
        self.features, self.held, self.cond = features, held, cond
        self.measured = torch.from_numpy(some(held, lossy, 0)).to(held.device)
        self.asked = None if cond is None else torch.from_numpy(some(cond, SAMPLES, 0)).to(cond.device)
        self.train, self.real = features(train.cpu().numpy()), features(held.cpu().numpy())
        self.spread = float(pdist(self.real).mean()) if len(self.real) > 1 else 0.0
        self.sampling = dict(sampling) | ({"beams": 1} if "beams" in sampling else {})  # a search costs too much here

    def __call__(self, family: Family) -> tuple[Tensor, dict[str, float | bool | None]]:
        """(samples, figures); a figure is None where there is none, or where it is not finite."""
        x = self.sample(family)
        figures: dict[str, float | bool | None] = dict.fromkeys(FIGURES)
        if family.likelihood != "none":
            figures["held_out"] = finite(self.loss(family))
        if torch.isfinite(x.double()).all():
            made = self.features(x.numpy())
            quality = energy_distance(made, self.real)
            figures |= {"quality": finite(quality.value), "quality_stderr": finite(quality.stderr)}
            if self.spread > 0:
                figures["diversity"] = float(pdist(made).mean()) / self.spread
            copies = memorised_share(self.train, self.real, made)
            figures |= {"copies": float(copies["share"]), "copying": bool(copies["flagged"])}
        return x, figures

    def sample(self, family: Family) -> Tensor:
        """Samples of fixed seeds, given conditions of unseen items, the same ones each time."""
        n = SAMPLES if self.asked is None else len(self.asked)
        settings = family.Sampling(**self.sampling)
        parts = []
        for start, stop in self.pieces(n):
            cond = None if self.cond is None or self.asked is None else self.cond[self.asked[start:stop]]
            rows = Rows(seed_of("look"), start, stop - start)
            parts.append(family.sample(rows.count, cond, sampling=settings, generator=rows).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def loss(self, family: Family) -> float:
        """The mean loss of the unseen items, a dimension."""
        total, space = 0.0, family.space
        for start, stop in self.pieces(len(self.measured)):
            chosen = self.measured[start:stop]
            x, rows = self.held[chosen], Rows(seed_of("held out"), start, stop - start)
            if isinstance(space, Continuous) and space.quantised:
                x = space.dequantise(x, Rows(seed_of("held out", "dequantise"), start, stop - start))
            cond = None if self.cond is None else self.cond[chosen]
            total += float(family.loss(Batch(x, cond, rows)).value) * (stop - start)
        return total / len(self.measured)

    def pieces(self, n: int) -> list[tuple[int, int]]:
        """Ranges of 0 ... n that are worked on together."""
        each = max(8, AT_ONCE // math.prod(self.held.shape[1:]))
        return [(start, min(start + each, n)) for start in range(0, n, each)]


def finite(value: float) -> float | None:
    """The value, or None if it is NaN or infinite."""
    return value if math.isfinite(value) else None


# -- what follows ----------------------------------------------------------------------------------------------------


SLACK = 0.01
"""A later look counts as good as the best within this share of all that was gained: it has a lower learning rate."""


def stale(records: Records, figure: str) -> int:
    """How many looks have passed since the best value of a figure (lower is better); 0 if the last is the best."""
    values = [math.inf if r[figure] is None else r[figure] for r in records if figure in r]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return max(0, len(values) - 1)
    enough = min(known) + SLACK * (known[0] - min(known))
    return next(waited for waited, value in enumerate(reversed(values)) if value <= enough)


EARLY = 100


class Advice(NamedTuple):
    """What is wrong, in a word or two; what it means, with the figures that show it; what one may try."""

    kind: str
    text: str


def advice(records: Records) -> list[Advice]:
    """What the records of a run say about it: posterior collapse, mode collapse, divergence, overfitting, copying.

    Only of what training has had time for: a run's first quarter is not judged, nor its first `EARLY` steps.
    """
    looks = [r for r in records if "quality" in r]
    if not looks or looks[-1]["step"] < max(EARLY, 0.25 * looks[-1]["steps"]):
        return []
    found = (collapsed(records), narrow(looks), diverging(looks), overfitting(looks), copying(looks))
    return [one for one in found if one is not None]


def collapsed(records: Records) -> Advice | None:
    """Posterior collapse: the rate KL(q(z|x) | p(z)) of a VAE is next to nothing (Bowman et al. 2016)."""
    rate = next((r["rate"] for r in reversed(records) if r.get("rate") is not None), None)
    if rate is None or rate >= LEAST_RATE:
        return None
    return Advice(
        "posterior collapse",
        f"the latents carry {rate:.2g} nats an item, so that the decoder does without them: lower --model.beta, set "
        "--model.free_bits 0.1, or take a weaker decoder",
    )


LEAST_RATE = 0.1
"""Nats an item: less tells a decoder nothing that can be seen."""


def narrow(looks: Records) -> Advice | None:
    """Mode collapse: two looks in a row the samples are much alike."""
    last = [r.get("diversity") for r in looks[-2:]]
    if len(last) < 2 or any(value is None or value >= LEAST_DIVERSITY for value in last):
        return None
    return Advice(
        "mode collapse",
        f"samples differ from each other {last[-1]:.0%} as much as real items do: for a GAN raise --model.gamma or "
        "lower --training.lr; else train longer, or sample at temperature 1",
    )


LEAST_DIVERSITY = 0.5


def diverging(looks: Records) -> Advice | None:
    """Divergence: samples that are no numbers, or two looks in a row clearly and much worse than the best."""
    if looks[-1]["quality"] is None:
        return Advice("divergence", "samples hold NaN or Inf: lower --training.lr")
    known = [r for r in looks if r["quality"] is not None]
    best = min(known, key=lambda r: r["quality"])

    def worse(r: Mapping[str, Any]) -> bool:
        error = 4 * ((r.get("quality_stderr") or 0.0) + (best.get("quality_stderr") or 0.0))
        return bool(r["quality"] > 2 * max(best["quality"], 0.0) + error)

    if len(known) < 3 or not all(worse(r) for r in known[-2:]):
        return None
    return Advice(
        "divergence",
        f"samples are at {known[-1]['quality']:.3g} and were at {best['quality']:.3g} at step {best['step']:,}: lower "
        "--training.lr, or keep the best with --training.select quality",
    )


def overfitting(looks: Records) -> Advice | None:
    """Unseen items have become less likely, two looks in a row, by more than a twentieth of all that was gained."""
    losses = [(r["step"], r["held_out"]) for r in looks if r.get("held_out") is not None]
    if len(losses) < 3:
        return None
    step, best = min(losses, key=lambda pair: pair[1])
    gained, last = losses[0][1] - best, [loss for _, loss in losses[-2:]]
    if not (best < min(last) and last[-1] - best > 0.05 * max(gained, abs(best) * 0.02)):
        return None
    return Advice(
        "overfitting",
        f"the loss of unseen items rose from {best:.4g} at step {step:,} to {last[-1]:.4g}: stop there with "
        "--training.select held_out --training.patience 2, or use more dropout, or more data",
    )


def copying(looks: Records) -> Advice | None:
    """Memorisation: more samples lie next to a training item than unseen items do."""
    if not looks[-1].get("copying"):
        return None
    return Advice(
        "memorisation",
        f"{looks[-1]['copies']:.0%} of samples lie unusually near to one training item (about 1 % is normal): train "
        "shorter (--training.patience 2), take --preset tiny, or more data",
    )
