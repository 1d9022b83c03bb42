"""Which family to begin with, before any training: from the data's shape, the machine, and what was measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from quintet.comparison.compare import sized
from quintet.fit.pixels import THUMBNAIL, sides
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.table.columns import describe
from quintet.registry import COMPARED
from quintet.sources.load import Dataset

Kind = Literal["thumbnail", "image", "points", "table", "text", "audio"]
PURPOSES = {
    "samples": "to make more of it",
    "scores": "to score how likely an item is, or find anomalies",
    "holes": "to fill holes",
    "speed": "to sample fast",
    "privacy": "to be safest against copying",
    "labels": "to name labels",
}
FEW = 300
"""Items: fewer are easily learnt by heart."""
LONG = 600.0
"""Seconds from which a budget is a long one."""
POINTS = 16
"""A table of at most this many columns, all of them real numbers, is points in space."""
LABELS = 50


@dataclass(frozen=True)
class Shape:
    """What a recommendation depends on. `dims`: numbers or symbols of an item; `label`: a column to condition on."""

    kind: Kind
    items: int
    dims: int
    missing: bool
    label: str | None
    gpu: bool
    cores: int
    seconds: float


class Pick(NamedTuple):
    """A family for a purpose, and why."""

    family: str
    why: str


BLUR = Pick("vae", "by its construction: few latents and a prior, so that it blurs before it copies")
ONE_PASS = Pick("gan", "by its construction: one pass through one net")
# What was measured (docs/results.md) on sets of each kind, where budgets were a minute or two on two cores.
PICKS: dict[Kind, dict[str, Pick]] = {
    "thumbnail": {
        "samples": Pick("vae", "in 50 s its 8 x 8 digits were the hardest to tell from real ones, or the next, on two "
                               "machines (AUC .64 and .70; flow .66 and .79; diffusion .58 on the faster, .96 on the "
                               "slower: it needs the most steps)"),
        "scores": Pick("vae", "its lower bound was above every other family's value on 8 x 8 digits"),
        "holes": Pick("diffusion", "it fills any mask, and unlike the GAN it draws from a distribution of fillings"),
        "speed": Pick("gan", "one pass through one net: a tenth of the time of the next on 8 x 8 digits"),
        "privacy": BLUR,
    },
    "image": {
        "samples": Pick("gan", "in 45 s on two cores its MNIST digits covered the most of the real ones (.84; VAE .74, "
                               "flow .51, diffusion .46), and classifiers learn as well from them as from any"),
        "scores": Pick("vae", "its bound was the best on MNIST, 1.36 bits a dimension (flow 2.18, exact)"),
        "holes": Pick("gan", "its latents are searched for the best fit: the most lower halves of MNIST digits "
                             "recognised, and milliseconds an image"),
        "speed": Pick("gan", "0.02 ms a 28 x 28 digit, a twentieth of the next"),
        "privacy": BLUR,
    },
    "points": {
        "samples": Pick("flow", "in few dimensions it fits sharp and curved densities best: rings -2.98 nats in 1,500 "
                                "steps, diffusion -3.38"),
        "scores": Pick("flow", "an exact density, .002 nats a dimension from the truth on a known Gaussian"),
        "holes": Pick("diffusion", "it completes any set of columns, by a chain that ends in its distribution"),
        "speed": ONE_PASS,
        "privacy": Pick("flow", "by its construction: a smooth density of few dimensions hardly reaches single items"),
    },
    "table": {
        "samples": Pick("autoregressive", "column by column it gets categories, spikes and rounding right: AUC .52 to "
                                          ".54 on four sets, and classifiers learn nearly as well from it as from real "
                                          "rows"),
        "scores": Pick("autoregressive", "an exact probability of every row, whatever the columns' types"),
        "holes": Pick("autoregressive", "with --model.order random it fills any cells: better than scikit-learn's "
                                        "iterative imputer on categories and absolute error"),
        "speed": Pick("gan", "one pass through one net; the autoregressive model makes 6,000 rows in a second as well"),
        "privacy": BLUR,
    },
    "text": {
        "samples": Pick("autoregressive", "after 600 steps on tinyshakespeare it alone writes words: 2.3 bits a "
                                          "character, VAE 3.9, flow 5.9, diffusion 7.1"),
        "scores": Pick("autoregressive", "its probability of a text is exact, and a text of any length has one"),
        "holes": Pick("masked_diffusion", "it alone fills gaps between given letters, in a short budget with letters, "
                                          "not words; for the end of a text the autoregressive model is better"),
        "speed": Pick("autoregressive", "the faster families do not write words yet after 600 steps"),
        "privacy": Pick("autoregressive", "the others do not write words: with a short budget, and look at the nearest "
                                          "training texts in the report"),
    },
    "audio": {
        "samples": Pick("diffusion", "98 % of its spoken digits are recognised (flow 91 %, VAE 84 %, GAN 80 %)"),
        "scores": Pick("flow", "exact, of the spectrogram"),
        "holes": Pick("diffusion", "it continues and fills spectrograms"),
        "speed": ONE_PASS,
        "privacy": BLUR,
    },
}  # fmt: skip
ORDER: dict[Kind, tuple[str, ...]] = {
    "thumbnail": ("vae", "flow", "diffusion", "autoregressive", "gan"),
    "image": ("gan", "vae", "flow", "diffusion", "autoregressive"),
    "points": ("flow", "diffusion", "autoregressive", "vae", "gan"),
    "table": ("autoregressive", "diffusion", "flow", "vae", "gan"),
    "text": ("autoregressive",),  # the others drew letters, not words: docs/decisions/0020
    "audio": ("diffusion", "flow", "vae", "gan", "autoregressive"),
}
"""For making more, the likeliest to do well first; without those that make nothing that can be used."""


def recommendation(dataset: Dataset, seconds: float, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """{"shape", "purposes": {purpose: {"family", "why", "command"}}, "order", "cautions", "command"}: JSON.

    Of pictures that could be read at fewer pixels a few steps are timed, and what `compare` would take is advised;
    `config` says how they were read.
    """
    shape = shape_of(dataset, seconds)
    source, picks, order = dataset.source or dataset.name, dict(PICKS[shape.kind]), list(ORDER[shape.kind])
    for purpose, pick in further(shape).items():
        picks[purpose] = pick
    if picks["samples"].family in order:
        order.sort(key=lambda family: family != picks["samples"].family)
    choice: dict[str, Any] = {"size": None, "left_out": {}, "notes": []}
    if sides(dataset):
        training = {"budget": seconds, "preset": None, "config": dict(config or {})}
        with tempfile.TemporaryDirectory() as folder:
            choice = sized(dataset, COMPARED, shape.label, training, Path(folder))
        order.sort(key=lambda family: family in choice["left_out"])
        if picks["samples"].family in choice["left_out"]:
            told = f"{picks['samples'].family} needs more than this budget, and this one is readable within it"
            picks["samples"] = Pick(order[0], told)
        for purpose, pick in picks.items():
            if purpose != "labels" and (why := choice["left_out"].get(pick.family)):
                picks[purpose] = Pick(pick.family, f"{pick.why}; but in a comparison {why}")
    budget, given = f" --budget {seconds:g}s", f" --condition {shape.label}" if shape.label else ""
    if choice["size"] is not None:
        given += f" --data.size {choice['size']}"
    asked = dict.fromkeys(PURPOSES, given)
    if shape.kind == "table":
        asked["holes"] += " --model.order random"
    asked["labels"] = f" --target {shape.label} --condition {dataset.modality}"
    purposes = {
        purpose: {
            "purpose": PURPOSES[purpose],
            **pick._asdict(),
            "command": f"quintet train {pick.family} --data {source}{asked[purpose]}{budget}",
        }
        for purpose, pick in picks.items()
    }
    return {
        "source": source,
        "shape": asdict(shape),
        "purposes": purposes,
        "order": order,
        "cautions": [*choice["notes"], *cautions(shape)],
        "command": f"quintet compare {source} --families {','.join(order[:3])}{budget}"
        if len(order) > 1
        else purposes["samples"]["command"],
    }


def further(shape: Shape) -> dict[str, Pick]:
    """What labels, time or a GPU change: diffusion needs more steps than two cores make in a minute."""
    found = {}
    if shape.label and shape.kind in RECOGNISED:
        found["labels"] = Pick("autoregressive", RECOGNISED[shape.kind])
    if shape.kind in ("image", "thumbnail") and (shape.gpu or shape.seconds >= LONG):
        where = "on a GPU" if shape.gpu else f"in {shape.seconds / 60:.0f} minutes"
        found["samples"] = Pick("diffusion", f"{where} it has the steps that it needs; in one minute it has not")
    return found


RECOGNISED: dict[str, str] = {
    "thumbnail": "98.9 % of MNIST digits in 4 minutes",
    "image": "98.9 % of MNIST digits in 4 minutes",
    "text": "questions and sentences within a point or two of a tuned linear model, with calibrated probabilities",
    "audio": "99.8 % of spoken digits, written as text",
}
"""What was measured of the family that names labels: it is the one that says p(label | item) exactly."""


def cautions(shape: Shape) -> list[str]:
    """What to mind on data of this shape."""
    notes = []
    if shape.items < FEW and shape.kind != "text":
        notes.append(
            f"{shape.items:,} training items are few, so that a model may copy them: --preset tiny, "
            "--training.patience 2, and look at the copies in the report."
        )
    if shape.kind == "image":
        notes.append(
            f"the autoregressive model reads {shape.dims:,} pixels one by one: a VAE with --model.bottleneck fsq as "
            "its --codec makes them short."
        )
    if shape.kind == "text":
        notes.append(
            "of texts, vae, gan, flow and diffusion draw letters, not words, after 600 steps, and masked_diffusion "
            "after twelve seconds: they are left out here."
        )
    if shape.missing:
        notes.append("empty cells are modelled as what they are, and made again; quintet complete fills them.")
    if shape.label is not None:
        notes.append(f"given its {shape.label}, a model makes what is asked for, and can be tested by it.")
    if shape.seconds < 30:
        notes.append("less than half a minute shows little but speed: take 60 s at least to decide anything.")
    return notes


def shape_of(dataset: Dataset, seconds: float) -> Shape:
    """Read off the training split and the machine."""
    kind, dims, missing = measure(dataset)
    items = len(dataset.index("train"))
    if dataset.modality == "text" and items == 1:  # one long text is many windows
        items = max(1, len(dataset.rows("train")[0]) // 128)
    return Shape(kind, items, dims, missing, label_of(dataset), torch.cuda.is_available(), os.cpu_count() or 1, seconds)


def measure(dataset: Dataset) -> tuple[Kind, int, bool]:
    """(kind, dims, whether cells are missing) of the items."""
    items = dataset.items
    if isinstance(items, pa.Table):
        columns = [describe(name, items[name], bins=64, own=64) for name in items.column_names]
        real = all(pa.types.is_floating(items[name].type) for name in items.column_names)
        kind: Kind = "points" if real and not any(c.nulls for c in columns) and len(columns) <= POINTS else "table"
        return kind, len(columns), any(column.nulls for column in columns)
    if isinstance(items, np.ndarray):
        dims = int(np.prod(items.shape[1:]))
        return ("thumbnail" if dims <= THUMBNAIL else "image"), dims, False
    if isinstance(items, Recordings):
        return "audio", int(np.median([len(samples) for samples in items])), False
    return "text", int(np.median([len(text) for text in items])), False


def label_of(dataset: Dataset) -> str | None:
    """The first column beside the items that has few values."""
    for name in () if dataset.labels is None else dataset.labels.column_names:
        values = dataset.labels[name]  # type: ignore[index]
        if 2 <= len(values.unique()) <= LABELS:
            return str(name)
    return None
