"""Image files -> one uint8 array: orientation, colour modes, size, and what to do with other proportions."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from quintet.data import cache
from quintet.data.archives import BadFile, Entry, in_one_line
from quintet.data.dataset import Dataset, Found, chunks, release
from quintet.data.mapped import allocated
from quintet.data.problems import Problems
from quintet.data.splits import arrange, assign, hash_of
from quintet.modalities.image.options import ImageReading, Scale, decided

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SIDE = 64
"""Pixels of the longer side, unless a size is given: larger images are reduced to it."""
PIXELS = 50_000_000
"""An image with more is refused by its header."""
ROWS = 2**20
"""Values of a wide image that are looked at together: what is made of them takes many times their bytes."""
FILE_BYTES = 2**28
GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION = 0x0112
"""The EXIF tag; values 5 to 8 exchange height and width."""


@dataclass(frozen=True)
class Picture:
    """One image that is not decoded yet: its name, its content, and how a content is opened."""

    name: str
    read: Callable[[], bytes]
    parse: Callable[[bytes], Image.Image]


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded: its size as it is shown, and which channels it may have."""

    height: int
    width: int
    alpha: bool
    colour: bool
    animated: bool = False


@dataclass(frozen=True)
class Shape:
    """The common size of all images, whether proportions differ, and the largest number of channels."""

    height: int
    width: int
    channels: int
    mixed: bool
    fit: str
    scale: Scale | None = None

    def bytes(self, n: int) -> int:
        return n * self.height * self.width * self.channels


def open_image(content: bytes) -> Image.Image:
    """An image whose header was read. Raises BadFile."""
    if not content:
        raise BadFile("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception as error:
        why = "it is no PNG, JPEG, WebP, BMP, GIF or TIFF" if "identify" in str(error) else in_one_line(error)
        raise BadFile(why) from None
    if image.width * image.height > PIXELS:
        raise BadFile(f"{image.width} x {image.height} pixels; {PIXELS:,} are allowed")
    return image


def header(image: Image.Image) -> Header:
    """Size and channels, without decoding."""
    try:
        turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # broken EXIF says nothing
        turned = False
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    alpha = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
    return Header(height, width, alpha, image.mode not in (*GREY, "LA"), _animated(image))


def _animated(image: Image.Image) -> bool:
    """Whether it has more than one frame: they are not counted, since each would be decoded."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # whatever is wrong with a second one
        return False


def decode(image: Image.Image, shape: Shape) -> np.ndarray:
    """(height, width, channels) uint8. Raises BadFile for whatever is wrong with the file."""
    side = 2 * max(shape.width, shape.height)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if image.format == "JPEG":
                image.draft(None, (side, side))  # decodes at 1/2, 1/4, 1/8 where that is enough
            image.load()
            return resized(as_eight_bits(ImageOps.exif_transpose(image), shape.scale), shape)
    except Exception as error:
        raise BadFile(in_one_line(error)) from None


def wide(image: Image.Image) -> bool:
    """Whether it has 16 bits or more, or real numbers."""
    return image.mode.startswith("I") or image.mode == "F"


def as_codes(values: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Values of images as uint8: those at the ends of the scale, or 0 and 255, are black and white."""
    low, high = scale or (0, 255)
    codes = np.empty(values.shape, np.uint8)
    for part, out in zip(_pieces(values), _pieces(codes), strict=True):
        share = (np.nan_to_num(part.astype(np.float64), nan=low) - low) / ((high - low) or 1)
        out[...] = np.round(share * 255).clip(0, 255)
    return codes


def _pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    """Views of an array, of whole rows, about as many values in each as are looked at together."""
    each = max(1, ROWS * max(1, len(values)) // max(1, values.size))
    return (values[start : start + each] for start in range(0, len(values), each))


def from_codes(codes: np.ndarray, scale: Scale) -> np.ndarray:
    """The inverse: whole numbers where the scale is whole, else float32."""
    low, high = scale
    values = low + codes.astype(np.float64) * ((high - low) / 255)
    if not (isinstance(low, int) and isinstance(high, int)):
        return values.astype(np.float32)
    return np.round(values).astype(np.uint16 if low >= 0 and high < 2**16 else np.int64)


@dataclass
class Range:
    """The least and the largest of all values, NaN and infinities left out, and whether all are whole numbers."""

    low: float = float("inf")
    high: float = float("-inf")
    whole: bool = True

    def add(self, values: np.ndarray) -> None:
        for part in _pieces(values):
            finite = part[np.isfinite(part)]
            if finite.size:
                self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
                self.whole = self.whole and bool((finite == np.floor(finite)).all())

    def scale(self) -> Scale | None:
        """Up to 256 whole values stay as they are, and so do 0 ... 1; other values are spread over 0 ... 255."""
        if self.low > self.high:
            return None
        if self.whole:
            low = 0 if self.low >= 0 and self.high <= 255 else int(self.low)
            return (low, low + max(255, int(self.high) - low))
        if self.low >= 0 and self.high <= 1:
            return (0.0, 1.0)
        return (self.low, self.high)

    def note(self, scale: Scale) -> str:
        kept = "each value is kept" if scale[1] - scale[0] == 255 and self.whole else "256 steps between them"
        ends = f"{scale[0]:.6g} becomes 0 and {scale[1]:.6g} becomes 255, {kept} (--data.scale)"
        return f"values from {self.low:.6g} to {self.high:.6g}, on one scale for all images: {ends}"


def as_eight_bits(image: Image.Image, scale: Scale | None = None) -> Image.Image:
    """L, RGB or RGBA of 8 bits a channel; values of 16 bits or real numbers by the scale."""
    if image.mode in ("L", "RGB", "RGBA"):
        return image.convert("RGBA") if "transparency" in image.info else image
    if wide(image):
        return Image.fromarray(as_codes(np.asarray(image), scale))
    if image.mode == "1":
        return image.convert("L")
    bands = image.getbands()
    return image.convert("RGBA" if "A" in bands or "a" in bands or "transparency" in image.info else "RGB")


def resized(image: Image.Image, shape: Shape) -> np.ndarray:
    """(height, width, channels) uint8: cropped at the centre, padded with nothing, or stretched, if it must be."""
    target = (shape.width, shape.height)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[shape.channels]
    if mode != "RGBA" and image.mode == "RGBA":
        image = flattened(image)
    image = image.convert(mode)
    if image.size != target:
        mode = "RGBa" if mode == "RGBA" else mode  # colours of transparent pixels must not bleed
        image = image.convert(mode)
        if shape.fit == "crop" or not shape.mixed:
            image = ImageOps.fit(image, target, Image.Resampling.LANCZOS)
        elif shape.fit == "pad":
            image = ImageOps.pad(image, target, Image.Resampling.LANCZOS, color=0)
        else:
            image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
        image = image.convert("RGBA") if mode == "RGBa" else image
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def flattened(image: Image.Image) -> Image.Image:
    """RGBA on white."""
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def common_shape(headers: Sequence[Header], size: int | None, fit: str) -> tuple[Shape, tuple[str, ...]]:
    """One size for all, and notes on what that changes.

    Images of one size within the limit (`size`, or 64 pixels) stay as they are, and `size` enlarges them; of one shape,
    they are scaled to it; else each becomes a square of that side, by `fit`.
    """
    sides = {(header.height, header.width) for header in headers}
    longest = max(max(pair) for pair in sides)
    side = size or min(SIDE, longest)
    scaled = {(max(1, round(h * side / max(h, w))), max(1, round(w * side / max(h, w)))) for h, w in sides}
    channels = 4 if any(h.alpha for h in headers) else 3 if any(h.colour for h in headers) else 1
    mixed = len(scaled) > 1
    height, width = (side, side) if mixed else next(iter(scaled))
    notes = []
    if mixed:
        verb = {"crop": "cropped at the centre", "pad": "padded", "stretch": "stretched"}[fit]
        notes.append(f"images of {len(sides):,} sizes, {verb} to {side} x {side} (--data.size, --data.fit)")
    elif sides != {(height, width)}:
        h, w = next(iter(sides))
        was = f"of {h} x {w}" if len(sides) == 1 else f"of {len(sides):,} sizes"
        notes.append(f"images {was} scaled to {height} x {width} (--data.size)")
    animated = sum(header.animated for header in headers)
    if animated:
        notes.append(f"{animated:,} animated images: their first frame only")
    return Shape(height, width, channels, mixed, fit), tuple(notes)


def used_channels(pixels: np.ndarray) -> int:
    """How many channels these images need: 1 for grey, 3 for colours, 4 if a pixel is not opaque."""
    if pixels.shape[-1] == 4 and (pixels[..., 3] < 255).any():
        return 4
    if pixels.shape[-1] >= 3 and not (pixels[..., :1] == pixels[..., 1:3]).all():
        return 3
    return 1


# -- from pictures to a data set -------------------------------------------------------------------------------------


def picture_of(entry: Entry) -> Picture:
    """A file."""
    return Picture(entry.name, lambda: entry.read(FILE_BYTES), open_image)


def pictures_of(array: np.ndarray) -> list[Picture]:
    """(N, H, W, C) uint8 as pictures, so that arrays are read by the same rules as files."""

    def picture(index: int) -> Picture:
        pixels = array[index, ..., 0] if array.shape[-1] == 1 else array[index]
        return Picture(f"image {index}", pixels.tobytes, lambda _: Image.fromarray(np.asarray(pixels)))

    return [picture(index) for index in range(len(array))]


def read_images(pictures: Sequence[Picture], found: Found) -> Dataset:
    """Images of one size, split and in the order of the splits; many of them lie in the cache, memory-mapped.

    Every picture is opened twice: for its header and hash, then to be decoded into its place.
    """
    kept = cache.find(found.key, opened)
    if kept is not None:
        return kept
    good, headers, keys, problems, values = survey(pictures, found)
    found = found.at(good)
    asked = found.reading.of(ImageReading)
    shape, notes = common_shape(headers, asked.size, asked.fit)
    shape, notes = scaled(shape, notes, values, asked.scale)
    return read_surveyed(pictures, found, good, keys, problems, shape, notes)


def scaled(shape: Shape, notes: tuple[str, ...], values: Range, wanted: Scale | None) -> tuple[Shape, tuple[str, ...]]:
    """With the scale of images of 16 bits or real numbers, the wanted or their own, and a note that says it."""
    if values.low > values.high:
        return shape, notes
    scale = wanted or values.scale()
    return replace(shape, scale=scale), (*notes, values.note(scale)) if scale else notes


def read_surveyed(
    pictures: Sequence[Picture], found: Found, good: Sequence[int], keys: np.ndarray, problems: Problems, shape: Shape,
    notes: tuple[str, ...],
) -> Dataset:  # fmt: skip
    """Split and decode what was looked at."""
    part, how = assign(keys, found, found.labels)
    order, _, _ = arrange(part)
    pictures, found, part = [pictures[good[i]] for i in order], found.at(order), part[order]
    if shape.bytes(len(pictures)) < cache.SMALL or not found.key:
        return decode_all(pictures, shape, part, found, problems, (*notes, *how), np.zeros)

    def write(folder: Path) -> Dataset:
        def on_disk(size: tuple[int, ...], dtype: Any) -> np.ndarray:
            free = "items.npy" if not (folder / "items.npy").exists() else "kept.npy"
            return allocated(folder / free, dtype, size)

        dataset = decode_all(pictures, shape, part, found, problems, (*notes, *how), on_disk)
        if (folder / "kept.npy").exists():
            (folder / "kept.npy").replace(folder / "items.npy")
        return dataset

    return cache.cached(found.key, write, opened)


def opened(folder: Path) -> np.ndarray:
    return np.load(folder / "items.npy", mmap_mode="r")


def survey(pictures: Sequence[Picture], found: Found) -> tuple[list[int], list[Header], np.ndarray, Problems, Range]:
    """(which pictures have a header, the headers, hashes of their contents, problems, the values of wide images)."""
    values = Range()
    problems = Problems(found, len(pictures), "images")
    good, headers, keys = [], [], []
    for index, picture in enumerate(cache.progress(pictures, "looking at images", len(pictures))):
        try:
            content = picture.read()
            image = picture.parse(content)
            head = header(image)
            if wide(image):
                values.add(wide_values(image))
            headers.append(head)
        except BadFile as error:
            problems.add(picture.name, error)
            continue
        good.append(index)
        keys.append(hash_of(content))
    problems.check()
    return good, headers, np.array(keys, np.uint64), problems, values


def wide_values(image: Image.Image) -> np.ndarray:
    """The values of an image of 16 bits or real numbers. Raises BadFile for whatever is wrong with the file."""
    try:
        return np.asarray(image)
    except Exception as error:
        raise BadFile(in_one_line(error)) from None


def decode_all(
    pictures: Sequence[Picture], shape: Shape, part: np.ndarray, found: Found, problems: Problems,
    notes: tuple[str, ...], make: Callable[[tuple[int, ...], Any], np.ndarray],
) -> Dataset:  # fmt: skip
    """Decode into arrays that `make` makes; drop what cannot be decoded, and channels that no image uses."""
    out = make((len(pictures), shape.height, shape.width, shape.channels), np.uint8)
    good, needed = np.ones(len(pictures), bool), 1
    for index, picture in enumerate(cache.progress(pictures, "decoding images", len(pictures))):
        try:
            out[index] = decode(picture.parse(picture.read()), shape)
        except BadFile as error:
            good[index] = False
            problems.add(picture.name, error)
            continue
        if needed < shape.channels:
            needed = max(needed, used_channels(out[index]))
        if index % 1024 == 1023:
            release(out)
    problems.check()
    items = narrow(out, good, needed, make)
    _, splits, few = arrange(part[good])
    labels = None if found.labels is None else found.labels.filter(pa.array(good))
    return Dataset("", "image", items, splits, labels, notes=(*notes, *few, *problems.notes()),
                   decided=decided(shape.scale))  # fmt: skip


def narrow(
    source: np.ndarray, good: np.ndarray, channels: int, make: Callable[[tuple[int, ...], Any], np.ndarray]
) -> np.ndarray:
    """The good images with the channels that are used; the same array if that is all of it."""
    if good.all() and channels == source.shape[-1]:
        return source
    target = make((int(good.sum()), *source.shape[1:3], channels), np.uint8)
    at = seen = 0
    for chunk in chunks(source):
        kept = chunk[good[seen : seen + len(chunk)]]
        target[at : at + len(kept)] = kept[..., :channels]
        at, seen = at + len(kept), seen + len(chunk)
        release(target)
    return target
