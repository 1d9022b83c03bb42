"""A likelihood says what it is: exact, bound or estimate; of a mass or a density; in nats; with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

LikelihoodKind = Literal["exact", "bound", "estimate"]
Measure = Literal["mass", "density", "dequantised", "encoded"]


@dataclass(frozen=True)
class LogProb:
    """Log-likelihoods of raw items.

    `values` (B,) nats per item, NaN for one that has none (its note says why). `kind`: "exact", "bound" (a lower bound)
    or "estimate". `space`, of what: "mass", the probability of a quantised or symbolic item; "density", per unit volume
    of the raw data; "dequantised", the density of a quantised item plus uniform noise of one bin, times the bin's
    volume, which in expectation is at most the mass; "encoded", a density of what the codec keeps of the item.
    `stderr` (B,): the numerical error of each value (Monte Carlo probes), None where there is none. `dims`: dimensions
    of a raw item: pixels and channels, characters, columns; `lengths` (B,), those of each where items differ in length.
    `notes`: what is special about the figure of each item (cut, replaced, in pieces), "" for nothing.
    `identity` names the space where the codec loses something of the item (see `Codec.identity`): values of different
    `space` or `identity` have no common scale.
    """

    values: Tensor
    kind: LikelihoodKind
    space: Measure
    dims: int
    stderr: Tensor | None = None
    lengths: Tensor | None = None
    notes: tuple[str, ...] | None = None
    identity: str = ""
    unit: Literal["nats per item"] = "nats per item"

    @property
    def bits_per_dim(self) -> Tensor:
        """-log2 p / dims, (B,): the one converter."""
        return -self.values / ((self.dims if self.lengths is None else self.lengths) * math.log(2))

    def summary(self) -> dict[str, Any]:
        """Means over the items that have a likelihood, and how many those are; `stderr` is that of the mean nats
        (spread of the items, and probes, together).
        """
        there = ~self.values.isnan()
        values, n = self.values[there].double(), int(there.sum())
        nats = float(values.mean())
        dims = self.dims if self.lengths is None else float(self.lengths[there].double().mean())
        variance = float(values.var()) / n if n > 1 else 0.0
        return {
            "kind": self.kind,
            "space": self.space,
            "identity": self.identity,
            "unit": self.unit,
            "nats": nats,
            "nats_per_dim": nats / dims,
            "bits_per_dim": -nats / (dims * math.log(2)),
            "stderr": math.sqrt(variance),
            "items": n,
            "dims": dims,
            **({} if n == len(there) else {"without": len(there) - n}),
            **({} if self.notes is None else {"noted": sum(map(bool, self.notes))}),
        }


def upcast(x: Tensor) -> Tensor:
    """float32 at least: likelihoods and losses are never in half precision, whatever autocast made of the nets."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
