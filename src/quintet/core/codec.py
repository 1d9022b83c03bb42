"""Raw items <-> tensors. State is JSON and tensors, never a pickle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from quintet.core.likelihood import Measure
from quintet.core.spaces import Space


class Codec(ABC):
    """A map between raw items and an encoded space.

    `fit` sees the training split only. `decode` is total: every x in the space gives a valid item.
    """

    name: ClassVar[str]
    space: Space
    measure: Measure
    """Of which measure a raw likelihood is: "mass" for quantised or symbolic raw data, else "density"."""

    dims: int
    """Dimensions of a raw item, which a likelihood is divided by: pixels, characters, columns."""

    @abstractmethod
    def fit(self, items: Any) -> Self:
        """Read the constants of this codec off the training items."""

    @abstractmethod
    def encode(self, items: Any) -> Tensor:
        """(B, *space.shape)."""

    @abstractmethod
    def decode(self, x: Tensor) -> Any:
        """Raw items, as many as x has rows."""

    def log_det(self, items: Any) -> Tensor:
        """(B,) with log p(raw) = log p(x) + log_det: log |dx / draw|, or the log of a cell's volume (or its
        inverse).
        """
        return torch.zeros(len(items), dtype=torch.float64)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Inert state."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
