"""Images <-> real arrays on [-1, 1], or raster pixels as symbols."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from quintet.core.codec import Codec, Encoded, Preprocessing, RepresentationKind, digest
from quintet.core.errors import DataError
from quintet.core.likelihood import Measure
from quintet.data.mapped import chunks
from quintet.modalities.representations import Levels, SymbolRepresentation, Symbols


class ImageCodec(Codec):
    """uint8 images (N, H, W, C) on the values 0, unit, 2 unit, ... that occur in the training split.

    continuous: x = 2 k / (levels - 1) - 1 in (C, H, W), k = raw / unit. discrete: k in raster order, (H * W * C,).
    """

    name = "image"
    preprocessing: Preprocessing = "flattened"
    wanted = "a picture of Pillow, a list of them, or an array (N, H, W, C)"
    representations = (Levels, Symbols)
    representation: SymbolRepresentation
    measure: Measure = "mass"

    def __init__(self, representation: RepresentationKind | None = None, settings: Any = None) -> None:
        super().__init__(representation, settings)
        self.shape: tuple[int, int, int] = (0, 0, 0)
        self.unit, self.levels = 1, 256

    def fit(self, items: Any) -> Self:
        images = self._array(items)
        if len(images) == 0:
            raise DataError("the training data hold no images")
        self.shape = (images.shape[1], images.shape[2], images.shape[3])
        values = np.zeros(256, bool)
        for part in chunks(images, 2**22):  # memory-mapped images stay where they are
            values |= np.bincount(part.ravel(), minlength=256)[:256] > 0
        occurring = np.flatnonzero(values)
        self.unit = max(1, int(np.gcd.reduce(occurring)))
        self.levels = max(2, int(occurring.max()) // self.unit + 1)
        self._set_space()
        return self

    def _set_space(self) -> None:
        self.dims = math.prod(self.shape)
        self.representation.fit(self.shape, self.levels, (2, 0, 1))

    def _array(self, items: Any) -> np.ndarray:
        images = items if isinstance(items, np.ndarray) else np.asarray(items)  # a memmap stays one
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4 or images.dtype.kind not in "iu":
            raise DataError(
                f"expected integer images (N, H, W) or (N, H, W, C), got {images.dtype} of shape {images.shape}"
            )
        if self.shape != (0, 0, 0) and images.shape[1:] != self.shape:
            raise DataError(f"expected images of shape (H, W, C) = {self.shape}, got {images.shape[1:]}")
        return images

    def encode(self, items: Any) -> Tensor:
        return self._encode(self._nearest(self._array(items)))

    def _nearest(self, images: np.ndarray) -> np.ndarray:
        """The level (N, H, W, C) that is nearest to each value."""
        return np.round(images / self.unit).clip(0, self.levels - 1)

    def _encode(self, levels: np.ndarray) -> Tensor:
        return self.representation.encode(torch.from_numpy(levels.astype(np.int64)))

    def encoded(self, items: Any) -> Encoded:
        """Values that training lacks become the nearest that it has."""
        images = self._array(items)
        k = self._nearest(images)
        notes = (
            f"{count:,} of {self.dims:,} values are not of training: the nearest of its {self.levels} took their place"
            if count else ""
            for count in (k * self.unit != images).reshape(len(images), -1).sum(1).tolist()
        )  # fmt: skip
        return Encoded(self._encode(k), self.log_det(images), tuple(notes), self.identity())

    def decode(self, x: Tensor) -> np.ndarray:
        return (self.representation.decode(x).numpy() * self.unit).astype(np.uint8)

    def mask(self, items: Any, known: Any) -> np.ndarray:
        """(N, H, W) bool of one mask (H, W) for all images or one an image (N, H, W), True where pixels are given."""
        n, (h, w, _) = len(self._array(items)), self.shape
        given = np.asarray(known)
        if known is None or given.dtype != bool or given.shape not in ((h, w), (n, h, w)):
            what = "none" if known is None else f"{given.dtype} of shape {given.shape}"
            raise DataError(f"expected a boolean mask of known pixels, ({h}, {w}) or ({n}, {h}, {w}), got {what}",
                            fix="give a mask that is True where the pixel is known")  # fmt: skip
        return np.broadcast_to(given, (n, h, w))

    def partial(self, items: Any, known: Any = None) -> tuple[Tensor, Tensor]:
        """What an unknown pixel holds does not matter; all channels of a pixel are known or none."""
        mask = torch.from_numpy(np.array(self.mask(items, known)))[..., None].expand(-1, *self.shape)
        return self.encode(items), self.representation.spread(mask)

    def fill(self, items: Any, known: Any, completed: Any) -> np.ndarray:
        return np.where(self.mask(items, known)[..., None], self._array(items), completed).astype(np.uint8)

    def log_det(self, items: Any) -> Tensor:
        """Density on [-1, 1] -> mass of a level: the log of a bin's volume."""
        return torch.full((len(items),), self.representation.log_cell, dtype=torch.float64)

    def identity(self) -> str:
        """Pictures of another size, or of other values, are other items, though they show the same."""
        return digest({"shape": self.shape, "unit": self.unit, "levels": self.levels})

    def to_json(self) -> dict[str, Any]:
        state = {"shape": list(self.shape), "unit": self.unit, "levels": self.levels}
        return {"representation": self.representation.kind, **state}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(data["representation"])
        h, w, c = data["shape"]
        codec.shape, codec.unit, codec.levels = (h, w, c), data["unit"], data["levels"]
        codec._set_space()
        return codec
