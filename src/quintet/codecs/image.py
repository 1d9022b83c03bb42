"""Images <-> real arrays on [-1, 1], or raster pixels as symbols."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from quintet.core.codec import Codec
from quintet.core.errors import DataError
from quintet.core.likelihood import Measure
from quintet.core.spaces import Continuous, Discrete

Face = Literal["continuous", "discrete"]


class ImageCodec(Codec):
    """uint8 images (N, H, W, C) on the values 0, unit, 2 unit, ... that occur in the training split.

    continuous: x = 2 k / (levels - 1) - 1 in (C, H, W), k = raw / unit. discrete: k in raster order, (H * W * C,).
    """

    name = "image"
    measure: Measure = "mass"

    def __init__(self, face: Face = "continuous") -> None:
        self.face: Face = face
        self.shape: tuple[int, int, int] = (0, 0, 0)
        self.unit, self.levels = 1, 256

    def fit(self, items: Any) -> Self:
        images = self._array(items)
        if len(images) == 0:
            raise DataError("no images to learn from")
        self.shape = (images.shape[1], images.shape[2], images.shape[3])
        self.unit = max(1, int(np.gcd.reduce(np.unique(images))))
        self.levels = max(2, int(images.max()) // self.unit + 1)
        self._set_space()
        return self

    def _set_space(self) -> None:
        h, w, c = self.shape
        self.dims = h * w * c
        self.space = (
            Continuous((c, h, w), self.levels) if self.face == "continuous" else Discrete((h * w * c,), self.levels)
        )

    def _array(self, items: Any) -> np.ndarray:
        images = np.asarray(items)
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4 or images.dtype.kind not in "iu":
            raise DataError(f"expected integer images (N, H, W) or (N, H, W, C), got {images.dtype} {images.shape}")
        if self.shape != (0, 0, 0) and images.shape[1:] != self.shape:
            raise DataError(f"expected images of (H, W, C) = {self.shape}, got {images.shape[1:]}")
        return images

    def encode(self, items: Any) -> Tensor:
        k = torch.from_numpy(np.round(self._array(items) / self.unit).clip(0, self.levels - 1).astype(np.int64))
        if self.face == "discrete":
            return k.flatten(1)
        return (k.permute(0, 3, 1, 2).float() * (2 / (self.levels - 1)) - 1).contiguous()

    def decode(self, x: Tensor) -> np.ndarray:
        if isinstance(self.space, Discrete):
            k = x.view(len(x), *self.shape)
        else:
            k = self.space.quantise(x.nan_to_num()).permute(0, 2, 3, 1)
        return (k.cpu().numpy() * self.unit).astype(np.uint8)

    def log_det(self, items: Any) -> Tensor:
        """Density on [-1, 1] -> mass of a level: the log of a bin's volume."""
        cells = 0.0 if self.face == "discrete" else self.space.dims * math.log(2 / (self.levels - 1))
        return torch.full((len(items),), cells, dtype=torch.float64)

    def to_json(self) -> dict[str, Any]:
        return {"face": self.face, "shape": list(self.shape), "unit": self.unit, "levels": self.levels}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(data["face"])
        h, w, c = data["shape"]
        codec.shape, codec.unit, codec.levels = (h, w, c), data["unit"], data["levels"]
        codec._set_space()
        return codec
