"""What the figures of training say about a run, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Records = Sequence[Mapping[str, Any]]


AS_GOOD = 0.01
"""A later look counts as no worse than the best one if it lacks at most this share of all that training gained."""


def stale(records: Records, figure: str) -> int:
    """How many looks have passed since the best value of a figure (lower is better); 0 if the last is the best."""
    values = [math.inf if r[figure] is None else r[figure] for r in records if figure in r]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return max(0, len(values) - 1)
    enough = min(known) + AS_GOOD * (known[0] - min(known))
    return next(waited for waited, value in enumerate(reversed(values)) if value <= enough)


EARLY_STEPS = 100


class Advice(NamedTuple):
    """One finding: `kind` names it in a word or two; `text` says which figures show it, and what one may try."""

    kind: str
    text: str


def advice(records: Records) -> list[Advice]:
    """What the records of a run say about it: posterior collapse, mode collapse, divergence, overfitting, copying.

    Only of what training has had time for: a run's first quarter is not judged, nor its first `EARLY_STEPS` steps.
    """
    looks = [r for r in records if "quality" in r]
    if not looks or looks[-1]["step"] < max(EARLY_STEPS, 0.25 * looks[-1]["steps"]):
        return []
    found = (collapsed(records), mode_collapse(looks), diverging(looks), overfitting(looks), copying(looks))
    return [one for one in found if one is not None]


def collapsed(records: Records) -> Advice | None:
    """Posterior collapse: the rate KL(q(z|x) | p(z)) of a VAE is next to nothing (Bowman et al. 2016)."""
    rate = next((r["rate"] for r in reversed(records) if r.get("rate") is not None), None)
    if rate is None or rate >= LEAST_RATE:
        return None
    return Advice(
        "posterior collapse",
        f"the latents carry only {rate:.2g} nats an item, so the decoder does not use them: lower --model.beta, set "
        "--model.free_bits 0.1, or choose a weaker decoder",
    )


LEAST_RATE = 0.1
"""Nats per item: with a lower rate, the latent tells the decoder nothing that could be seen in samples."""


def mode_collapse(looks: Records) -> Advice | None:
    """Mode collapse: at two looks in a row the samples are far less varied than the data."""
    last = [r.get("diversity") for r in looks[-2:]]
    if len(last) < 2 or any(value is None or value >= LEAST_DIVERSITY for value in last):
        return None
    return Advice(
        "mode collapse",
        f"samples differ from each other only {last[-1]:.0%} as much as real items do: for a GAN raise --model.gamma "
        "or lower --training.lr; for other families train longer, or sample at temperature 1",
    )


LEAST_DIVERSITY = 0.5


def diverging(looks: Records) -> Advice | None:
    """Divergence: samples that are no numbers, or two looks in a row clearly and much worse than the best. Where a
    single unseen item allows no distance, copies are counted, but of samples that are no numbers.
    """
    if looks[-1]["quality"] is None and looks[-1].get("copies") is None:
        return Advice("divergence", "the samples contain NaN or infinite values: lower --training.lr")
    known = [r for r in looks if r["quality"] is not None]
    if not known:
        return None
    best = min(known, key=lambda r: r["quality"])

    def worse(r: Mapping[str, Any]) -> bool:
        error = 4 * ((r.get("quality_stderr") or 0.0) + (best.get("quality_stderr") or 0.0))
        return bool(r["quality"] > 2 * max(best["quality"], 0.0) + error)

    if len(known) < 3 or not all(worse(r) for r in known[-2:]):
        return None
    return Advice(
        "divergence",
        f"the distance of the samples from real items is {known[-1]['quality']:.3g}, and was {best['quality']:.3g} at "
        f"step {best['step']:,}: lower --training.lr, or keep the best weights with --training.select quality",
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
        f"the loss of unseen items rose from {best:.4g} at step {step:,} to {last[-1]:.4g}: stop earlier with "
        "--training.select held_out --training.patience 2, or use more dropout or more data",
    )


def copying(looks: Records) -> Advice | None:
    """Memorisation: more samples lie next to a training item than unseen items do."""
    if not looks[-1].get("copying"):
        return None
    return Advice(
        "memorisation",
        f"{looks[-1]['copies']:.0%} of samples lie unusually near to one training item (about 1 % is normal): stop "
        "earlier (--training.patience 2), choose --preset tiny, or use more data",
    )
