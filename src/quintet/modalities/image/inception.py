"""The feature space that published Fréchet distances of images are measured in, where the user has its weights."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quintet.core.errors import DataError, EnvironmentFault

VARIABLE = "QUINTET_INCEPTION"
CHUNK = 64


class Inception:
    """The pool features (2,048) of Inception-v3 of 2015-12-05, which Heusel et al. 2017 (arXiv:1706.08500) use.

    From the TorchScript file `inception-2015-12-05.pt` of NVIDIA's metrics code, which takes uint8 images (N, 3, H, W)
    of any size, resizes them itself, and gives features with `return_features=True`. Loading runs code that is in the
    file: name only one that you trust.
    """

    def __init__(self, file: str | Path | None = None) -> None:
        """`file`: default $QUINTET_INCEPTION. Raises EnvironmentFault if there is none, or it cannot be read."""
        given = file or os.environ.get(VARIABLE)
        fix = f"set {VARIABLE} to the path of inception-2015-12-05.pt (from NVIDIA's stylegan3), or choose features pca"
        if not given:
            raise EnvironmentFault("the weights of Inception are missing", why=f"{VARIABLE} is not set", fix=fix)
        try:
            content = Path(given).read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the published file is TorchScript
                self.net = torch.jit.load(str(given), map_location="cpu").eval()
        except (OSError, RuntimeError) as error:
            why = str(error).splitlines()[0]
            raise EnvironmentFault(
                "the weights of Inception cannot be read", where=str(given), why=why, fix=fix
            ) from None
        self.description: dict[str, Any] = {
            "name": "inception-2015-12-05",
            "version": 1,
            "preprocessing": "pixels as uint8, grey as three equal channels, alpha left out; the net resizes",
            "dtype": "float32, features as float64",
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    @torch.no_grad()
    def __call__(self, items: Any) -> NDArray[np.float64]:
        """Images (N, C, H, W) on [-1, 1] -> (N, dims)."""
        x = torch.from_numpy(np.asarray(items, np.float32))
        if x.dim() != 4 or x.shape[1] > 4:
            raise DataError(
                f"Inception measures images, but got items of shape {tuple(x.shape[1:])}", fix="choose features pca"
            )
        if not torch.isfinite(x).all():
            raise DataError(
                "the items to be measured contain NaN or infinite values",
                why="a model whose training has diverged generates such samples",
            )
        colours = x[:, :1].expand(-1, 3, -1, -1) if x.shape[1] < 3 else x[:, :3]
        pixels = ((colours + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        parts = [self.net(part, return_features=True).double() for part in pixels.split(CHUNK)]
        return np.asarray(torch.cat(parts).numpy())
