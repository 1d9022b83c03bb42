"""Image codecs take masks of raw pixels, and put what was known back."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from quintet.codecs.image import ImageCodec
from quintet.core.errors import DataError


@pytest.mark.parametrize("face", ["continuous", "discrete"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("each", [False, True])
def test_a_mask_of_pixels_is_one_of_all_their_channels(
    face: Literal["continuous", "discrete"], channels: int, each: bool
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 3, channels), dtype=np.uint8)
    images[0, 0, 0] = 255  # so that 255 - images are values of the space too
    codec = ImageCodec(face).fit(images)
    known = rng.random((5, 4, 3) if each else (4, 3)) < 0.5
    x, mask = codec.partial(images, known)
    assert mask.shape == x.shape
    assert mask.dtype == torch.bool
    # the truth: encode images that differ in the unknown pixels only, and see which entries move
    other = np.where(np.broadcast_to(known, (5, 4, 3))[..., None], images, 255 - images).astype(np.uint8)
    assert torch.equal(codec.encode(other) == x, mask)
    back = codec.fill(images, known, codec.decode(torch.where(mask, 0 * x, codec.encode(other))))
    assert back.dtype == np.uint8
    assert np.array_equal(back, other)


@pytest.mark.parametrize("known", [None, np.ones((3, 3), bool), np.ones((4, 3)), np.ones((4, 4, 3), bool)])
def test_a_mask_of_another_shape_or_kind_is_refused(known: object) -> None:
    images = np.zeros((5, 4, 3, 1), np.uint8)
    codec = ImageCodec().fit(images)
    with pytest.raises(DataError, match="expected a bool mask"):
        codec.partial(images, known)
