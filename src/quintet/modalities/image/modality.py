"""Images: arrays (N, H, W, C) of bytes, as whatever they stand for in their files."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from quintet.core.codec import Codec
from quintet.core.errors import UsageError, warn
from quintet.data.archives import Entry
from quintet.data.dataset import Dataset, Found, chunks
from quintet.modalities import Choices
from quintet.modalities.cards import Card
from quintet.modalities.image.arrays import channels_last, coded
from quintet.modalities.image.codec import ImageCodec
from quintet.modalities.image.given import raw_images, write_pictures
from quintet.modalities.image.inception import Inception
from quintet.modalities.image.masks import HALVES, image_mask
from quintet.modalities.image.options import ImageReading, decided
from quintet.modalities.image.reading import SUFFIXES, Shape, from_codes, picture_of, pictures_of, read_images, resized
from quintet.modalities.image.sets import SETS
from quintet.modalities.pictures import grid_png, png_of
from quintet.modalities.protocol import Modality
from quintet.modalities.provenance import METADATA_KEY, Format, Provenance, software, text_of

THUMBNAIL = 256
"""An image of at most this many numbers is small: an MLP takes several times the steps of a convolutional net there."""
CARD = 192
"""Pixels of the longer side of an image on a page of many."""
GRID = 10_000
"""More images than that are no picture any more."""


def top_of(codec: Codec | None) -> int:
    """The largest raw value that this codec decodes to: white; 255 without a codec."""
    codec = getattr(codec, "inner", codec)  # what latents decode to is what their inner codec does
    unit, levels = getattr(codec, "unit", None), getattr(codec, "levels", None)
    return int(unit * (levels - 1)) if unit and levels else 255


def brightened(images: NDArray[Any], top: int) -> NDArray[np.uint8]:
    """Images 0 ... top as uint8 images 0 ... 255."""
    if top == 255:
        return images.astype(np.uint8)
    return (images.astype(np.float64) * (255 / top)).round().clip(0, 255).astype(np.uint8)


def visible(images: NDArray[Any]) -> NDArray[np.uint8]:
    """A few images of data, brightened where they are of a few levels: 0 ... 16 would be black."""
    few = np.asarray(images)
    return few * np.uint8(255 // max(1, few.max()))


def picture(images: NDArray[Any], columns: int, scale: int = 0) -> dict[str, Any]:
    """A grid of images, as a report shows it."""
    return {"kind": "image", "png": base64.b64encode(grid_png(images, columns, scale)).decode()}


def png(picture: Image.Image, provenance: Provenance) -> bytes:
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", software(provenance))
    note.add_text(METADATA_KEY, text_of(provenance))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=note)
    return buffer.getvalue()


def grid(images: NDArray[Any], provenance: Provenance) -> bytes:
    if len(images) > GRID:
        fix = f"make at most {GRID:,} images, or write them with -o FOLDER/ or -o FILE.npz"
        raise UsageError(f"{len(images):,} images do not fit into one picture", fix=fix)
    columns = max(8, math.ceil(math.sqrt(len(images))))
    return png(Image.open(io.BytesIO(grid_png(images, columns))), provenance)


def npz(images: NDArray[Any], provenance: Provenance) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, images=images)
    return buffer.getvalue()


class ImageModality(Modality):
    name = "image"
    door = "pictures"
    task = "unconditional-image-generation"
    codec = ImageCodec
    things = "images"
    previewed = 64
    formats = {".png": Format(grid, values=False), ".npz": Format(npz)}
    single = ".png"

    sets = SETS
    suffixes = opens = SUFFIXES
    feature = "Image"
    arrays = ("image", "images")
    feature_spaces = {"inception": Inception}

    def read(self, entries: Sequence[Entry], found: Found) -> Dataset:
        return read_images([picture_of(entry) for entry in entries], found)

    def from_array(self, array: NDArray[Any], labels: pa.Table | None, found: Found) -> Dataset | None:
        """(N, H, W[, C]) or (N, C, H, W)."""
        if array.ndim not in (3, 4):
            return None
        images, scale, notes = coded(channels_last(array, found.where), found.reading.of(ImageReading).scale)
        found = Found(found.where, found.reading, "" if scale else found.key, found.splits, labels)
        dataset = read_images(pictures_of(images), found)
        return replace(dataset, decided=decided(scale), notes=(*notes, *dataset.notes))

    def owns(self, items: Any) -> bool:
        return isinstance(items, np.ndarray)

    def contents(self, items: NDArray[Any]) -> Iterator[bytes]:
        return (image.tobytes() for part in chunks(items) for image in part)

    def halves(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
        """Cut across the middle."""
        half = first.shape[1] // 2
        return np.concatenate([first[:, :half], second[:, half:]], 1)

    def raw(self, items: Any, codec: Codec, column: str | None, reading: Choices) -> NDArray[Any]:
        return raw_images(items, codec, reading.get("scale"))

    def reading(self, codec: Codec, reading: Choices) -> dict[str, Any]:
        size = max(codec.shape[:2]) if isinstance(codec, ImageCodec) else reading["size"]
        return {"size": size, "fit": reading["fit"], "scale": reading["scale"]}

    def like(self, items: Any, codec: Codec, reading: Choices) -> Any:
        """In the codec's size and channels."""
        if not isinstance(codec, ImageCodec) or not isinstance(items, np.ndarray) or items.shape[1:] == codec.shape:
            return items
        was, now = (" x ".join(map(str, shape)) for shape in (items.shape[1:], codec.shape))
        warn(f"pictures of {was} (height, width, channels) are brought to the {now} of training (--data.fit)")
        out = np.empty((len(items), *codec.shape), np.uint8)
        for i, image in enumerate(items):
            pixels = np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
            out[i] = resized(Image.fromarray(pixels.astype(np.uint8)), Shape(*codec.shape, True, reading["fit"]))
        return out

    def stored(self, data: Any, folder: Path) -> Path | None:
        if not isinstance(data, list | tuple) or not data or not all(isinstance(one, Image.Image) for one in data):
            return None
        return write_pictures(data, folder / "pictures")

    parts = tuple(HALVES)

    def known(self, items: Any, known: str | None, *, hole: str | None, reading: Choices) -> tuple[Any, Any]:
        """A half, or a picture in which the known part is white; the upper half if nothing is said."""
        if hole is not None and known is not None:
            why = "each of them says which pixels are known"
            raise UsageError("known and mask were both given", why=why, fix="give only one of them")
        fit = reading["fit"]
        if hole is not None:
            return items, ~image_mask(items, hole, fit, hole=True)
        return items, image_mask(items, known or "top", fit)

    def facts(self, items: NDArray[Any]) -> dict[str, Any]:
        ends = [(int(part.min()), int(part.max())) for part in chunks(items)]
        return {"shape": list(items.shape[1:]), "range": [min(low for low, _ in ends), max(high for _, high in ends)]}

    def kind(self, items: NDArray[Any]) -> str:
        return "thumbnail" if self.dims(items) <= THUMBNAIL else self.name

    def dims(self, items: NDArray[Any]) -> int:
        return math.prod(items.shape[1:])

    def problems(self, items: NDArray[Any]) -> list[str]:
        flat = 0
        for part in chunks(items):
            pixels = part.reshape(len(part), -1)
            flat += int((pixels == pixels[:, :1]).all(1).sum())
        return [f"{flat:,} images are of one colour"] if flat else []

    def preview(self, items: NDArray[Any], captions: list[str]) -> bytes:
        return grid_png(visible(items), columns=math.ceil(math.sqrt(len(items))))

    def cards(self, items: NDArray[Any], captions: list[str]) -> list[Card]:
        """Large ones are made smaller."""
        pictures = [Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one) for one in visible(items)]
        for one in pictures:
            one.thumbnail((CARD, CARD))
        return [Card("image/png", png_of(one), caption) for one, caption in zip(pictures, captions, strict=True)]

    def shown(self, items: NDArray[Any], codec: Codec, reference: Any = None) -> dict[str, Any]:
        return picture(self.view(items, codec), 10)

    def pairs(self, samples: Any, near: Any, distances: list[float], codec: Codec) -> dict[str, Any]:
        return picture(np.concatenate([self.view(samples, codec), self.view(near, codec)]), len(samples))

    def view(self, items: NDArray[Any], codec: Codec | None) -> NDArray[np.uint8]:
        """The codec's largest value, white, becomes 255."""
        return brightened(items, top_of(codec))

    def values(self, items: NDArray[Any], reading: Choices) -> NDArray[Any]:
        scale = reading.get("scale")
        return items if scale is None else from_codes(items, scale)

    def singles(
        self, items: NDArray[Any], provenance: Provenance, codec: Codec | None, reading: Choices
    ) -> Iterator[bytes]:
        """Of 16 bits where the data are so."""
        values = self.values(items, reading)
        shown = values if values.dtype == np.uint16 and values.shape[-1] == 1 else self.view(items, codec)
        for index, image in enumerate(shown):
            pixels = image[..., 0] if image.shape[-1] == 1 else image
            yield png(Image.fromarray(pixels), {**provenance, "index": index})


MODALITY = ImageModality()
