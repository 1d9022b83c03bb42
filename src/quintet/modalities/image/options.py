"""How images are read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from quintet.core.settings import Settings
from quintet.modalities import Options

Scale = tuple[int | float, int | float]
"""What the values 0 and 255 of an image stand for in its file; whole where all values of the files are."""


class ImageReading(Settings):
    """`scale`: default is the least and the largest value of all images."""

    size: int | None = Field(None, ge=4, le=4096, description="images: pixels of the longer side")
    fit: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="images: what is done with images of other proportions"
    )
    scale: Scale | None = Field(None, description="images of 16 bits or real numbers: the values of black and white")


def decided(scale: Scale | None) -> dict[str, Any]:
    """`Dataset.decided` of images on this scale."""
    return {} if scale is None else {"scale": scale}


OPTIONS = Options(ImageReading, known="images: top, bottom, left, right or a mask (PNG, white is known)")
