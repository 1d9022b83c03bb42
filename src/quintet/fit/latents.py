"""Pictures too large for a family: it is trained on the latents of an autoencoder that is trained first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quintet.core.errors import UsageError, warn
from quintet.core.spaces import Continuous
from quintet.fit.pixels import WANTED, at_side, bought, in_small_batches, judged, too_short
from quintet.registry import AUTOENCODER, family_class
from quintet.runs.config import RunConfig
from quintet.runs.recipes import readable
from quintet.sources.load import Dataset

LATENTS = "latent"
"""As the codec of a run: the latents of an autoencoder that is trained first, with a part of the budget."""
SHARE = 0.5
"""Of the budget, for the autoencoder."""
SIDE = 7
"""Latents along the longer side of a picture at least: one a block of pixels, as large a block as leaves so many."""
HOPELESS = 0.25
"""Share of the steps that readable pictures need, below which no better measurement of a step would help."""
AS_CODEC = {"latent": 4, "components": 1, "beta": 0.3, "prior": 0, "warmup": 0.0}
"""Settings of an autoencoder that is to keep what items show: of its own samples nobody asks anything."""
LARGE = 4096
"""Numbers of a picture up to which a family is trained on pixels, however few steps a budget buys."""


def too_large(config: RunConfig, first: Callable[[], RunConfig], dataset: Dataset, root: Path) -> bool:
    """Whether a budget buys far too few steps on these pictures for any to be readable, and enough of the `first`
    model, the autoencoder; the user hears what is done.
    """
    needed, budget = readable(config.family, config.codec), config.budget
    if budget is None or needed is None or config.data.target is not None or not judged(dataset):
        return False
    dims, side = dataset.items[0].size, max(dataset.items.shape[1:3])
    if config.family == AUTOENCODER or dims <= LARGE:
        return False
    small = at_side(dataset, side)
    steps = bought(in_small_batches(config), small, root)
    if steps >= needed * HOPELESS or bought(in_small_batches(first()), small, root) < WANTED:
        return False
    told, _ = too_short(config.family, side, steps, needed, budget)
    warn(
        f"{told}. So {SHARE:.0%} of the budget train a {AUTOENCODER}, and the rest trains {config.family} on its "
        f"latents: likelihoods are of latents then, and pictures cannot be completed (--codec {config.codec} overrules "
        "this)"
    )
    return True


def autoencoder(family: str, dataset: Dataset, config: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of an autoencoder whose latents this family takes, a map of codes or of numbers, of what is read and
    where it is trained as `config` says for the family.
    """
    if getattr(dataset.items, "ndim", 0) != 4:  # (N, H, W, C)
        raise UsageError(
            f"only pictures get an autoencoder of their own, and these are items of kind {dataset.modality}",
            where="codec",
            fix=f"quintet train {AUTOENCODER} --data SOURCE --run NAME, and then --codec NAME",
        )
    side = max(dataset.items.shape[1:3])
    grid = 2
    while side >= 2 * grid * SIDE:
        grid *= 2
    kind = "gaussian" if Continuous in family_class(family).accepts else "fsq"
    read = {key: value for key, value in (config.get("data") or {}).items() if key not in ("target", "condition")}
    return {
        "data": read,
        "model": {"grid": grid, "bottleneck": kind, **AS_CODEC},
        **{key: config[key] for key in ("device",) if key in config},
    }
