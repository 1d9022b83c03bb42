"""The contenders of a comparison and their figures: every run with the same label is a seed of one contender."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from quintet.metrics.measures import COST, LIKELIHOOD, PER_CHARACTER, Measure

Entry = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """Mean over the seeds, half the width of its 95% interval (0 if unknown), and the number of seeds."""

    mean: float
    half: float
    seeds: int

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.half


@dataclass(frozen=True)
class Contender:
    """All runs of one label; `done` are those that finished."""

    label: str
    family: str
    runs: tuple[Entry, ...]

    @property
    def done(self) -> list[Entry]:
        """The runs that finished."""
        return [run for run in self.runs if run.get("status", "ok") == "ok"]

    @property
    def end(self) -> str:
        """Of a contender without figures: whether it "failed", or was "left out" before it was tried."""
        return "left out" if all(run.get("status") == "left out" for run in self.runs) else "failed"

    def values(self, measure: Measure) -> list[tuple[float, float]]:
        """(value, standard error) of each run that has a finite value; an unknown error is 0."""
        found = [value_and_error(run, measure) for run in self.done]
        return [pair for pair in found if pair is not None and math.isfinite(pair[0])]

    def figure(self, measure: Measure) -> Figure | None:
        """Mean and 95% interval over the runs; None where no run has a finite value."""
        pairs = self.values(measure)
        return interval([value for value, _ in pairs], [stderr for _, stderr in pairs]) if pairs else None

    @property
    def likelihood_kind(self) -> str:
        """Either "exact", "bound", "estimate" or "none". The exact density of a dequantised item is a lower bound of
        the item's probability, and stands beside probabilities as that.
        """
        found = next((run["likelihood"] for run in self.done if run.get("likelihood")), {"kind": "none"})
        kind = str(found["kind"])
        return "bound" if kind == "exact" and found.get("space") == "dequantised" else kind

    @property
    def space(self) -> tuple[str, str] | None:
        """In which space the likelihood is: its measure and identity; None without a likelihood. Values of different
        spaces are not comparable.
        """
        return next((_space(run) for run in self.done if _space(run)), None)

    @property
    def measure(self) -> str:
        """The same in words: "mass" (and "dequantised", which is at most the mass in expectation), "density" or
        "encoded", with the space's identity, if it has one, and its dimensions.
        """
        if self.space is None:
            return ""
        measure, identity = self.space
        dims = next(run["likelihood"] for run in self.done if run.get("likelihood")).get("dims")
        return f"{measure} {identity}" + (f", {dims:,.6g} dimensions" if dims else "") if identity else measure

    @property
    def learnt_little(self) -> str | None:
        """Why none of its runs makes items like the data yet, or None."""
        reasons = [run.get("learnt_little") for run in self.done]
        return str(reasons[0]) if reasons and all(reasons) else None

    @property
    def memorises(self) -> bool:
        """Whether any seed was flagged for copying training items."""
        return any((run.get("metrics") or {}).get("memorised_flagged", False) for run in self.done)

    @property
    def items(self) -> int | None:
        """How many samples, and as many real items, its figures of samples are of: the fewest of its runs."""
        found = [count for run in self.done if (count := (run.get("metrics") or {}).get("items"))]
        return int(min(found)) if found else None


def value_and_error(run: Entry, measure: Measure) -> tuple[float, float] | None:
    """(value, standard error) of one run. A likelihood's error is stated in nats an item, and scaled from that."""
    likelihood, metrics = run.get("likelihood") or {}, run.get("metrics") or {}
    if measure in COST:
        return None if run.get(measure.key) is None else (float(run[measure.key]), 0.0)
    if measure not in LIKELIHOOD:
        value = metrics.get(measure.key)
        return None if value is None else (float(value), float(metrics.get(f"{measure.key}_stderr") or 0.0))
    bits = (run.get("language") or {}).get("bits_per_character")
    value = (None if bits is None else -bits * math.log(2)) if measure is PER_CHARACTER else likelihood.get(measure.key)
    nats, stderr = likelihood.get("nats"), float(likelihood.get("stderr") or 0.0)
    if value is None or nats is None:
        return None
    return float(value), stderr * abs(value / nats) if nats and math.isfinite(nats) else 0.0


def interval(values: Sequence[float], stderrs: Sequence[float]) -> Figure:
    """Mean and 95% interval: Student's t over seeds, and two standard errors of the measurement, in quadrature.

    The seeds were measured on the same items, so that more seeds do not make the error of the items smaller.
    """
    n = len(values)
    half = 2 * math.sqrt(sum(s * s for s in stderrs) / n)
    if n > 1:
        half = math.hypot(half, float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(n)))
    return Figure(float(np.mean(values)), half, n)


def _space(run: Entry) -> tuple[str, str] | None:
    """(measure, identity) of a run's likelihood. An encoded space without a name is that of its run alone."""
    found = run.get("likelihood")
    if not found:
        return None
    space, identity = str(found.get("space", "")), str(found.get("identity") or "")
    if space == "encoded" and not identity:
        identity = f"of {run['run']}"
    return "mass" if space == "dequantised" else space, identity


def spaces_of(crowd: Sequence[Contender]) -> dict[str, str]:
    """What the likelihood of each contender is of, in a word, and of which space where these differ."""
    one = len({c.space for c in crowd if c.space}) < 2
    return {c.label: c.space[0] if one and c.space and c.space[0] != "encoded" else c.measure for c in crowd}


def contenders(models: Sequence[Entry]) -> list[Contender]:
    """Group entries by label (default: the family), in order of appearance.

    Runs of one label whose likelihoods are of different spaces, as those on latents of different autoencoders, differ
    by more than their seed: they are contenders of their own, with the name of their first run added.
    """
    groups: dict[str, list[Entry]] = {}
    for model in models:
        groups.setdefault(str(model.get("label") or model["family"]), []).append(model)
    out = []
    for label, runs in groups.items():
        found = dict.fromkeys(filter(None, map(_space, runs)))
        spaces: list[tuple[str, str] | None] = [*found] or [None]
        for space in spaces:
            own = [run for run in runs if (_space(run) or spaces[0]) == space]
            name = label if len(spaces) == 1 else f"{label}, {own[0]['run']}"
            out.append(Contender(name, str(own[0]["family"]), tuple(own)))
    return out


def names(labels: Sequence[str]) -> str:
    """In a sentence: "a", "a and b", "a, b and c"."""
    return labels[0] if len(labels) == 1 else ", ".join(labels[:-1]) + " and " + labels[-1]


def plus_minus(figure: Figure, digits: int = 2) -> str:
    """The mean and half of its 95% interval, as in "0.55 ± 0.02"."""
    spread = f" ± {figure.half:.{digits}f}" if figure.half and math.isfinite(figure.half) else ""
    return f"{figure.mean:.{digits}f}{spread}".replace("-", "−")


def answer(label: str | None, sentence: str, ties: Sequence[str] = (), **figures: float) -> dict[str, Any]:
    """To one question: who (None: nobody), with whom that is a tie, why in words, and the figures that say so."""
    return {"label": label, "ties": list(ties), "sentence": sentence, "figures": figures}
