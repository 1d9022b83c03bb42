"""Items that a user brings to a fitted model: read as the run's own data were, in their own order."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps, UnidentifiedImageError

from quintet.core.codec import Codec
from quintet.core.errors import DataError, QuintetWarning, UsageError
from quintet.core.random import some
from quintet.data import written
from quintet.data.dataset import join
from quintet.data.written import Form
from quintet.modalities.audio.codec import AudioCodec
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.image.codec import ImageCodec
from quintet.modalities.image.reading import Shape, resized
from quintet.modalities.table.codec import TableCodec
from quintet.runs.config import RunConfig
from quintet.runs.task import given_codec, items_of, pick, within_run
from quintet.sources.load import SOURCES, Dataset, load_source, take


@dataclass(frozen=True)
class Found:
    """Raw items (None: a source without labels), their conditions (None where there are none), and the split; `index`:
    their places in it, where they are some of them only.
    """

    items: Any
    given: Any
    split: str
    index: np.ndarray | None = None
    written: pa.Table | None = None
    """The same rows as they stand in a CSV, as strings."""
    places: np.ndarray | None = None
    """Of items that are lines of one file: which lines, from 0, blank ones counted."""

    def some(self, n: int | None) -> Found:
        """n of them, drawn by a fixed seed, or all."""
        if n is None or n >= len(self.items):
            return self
        index = some(self.items, n, 0)
        given, raw = (None if each is None else take(each, index) for each in (self.given, self.written))
        return Found(take(self.items, index), given, self.split, index, raw)

    def facts(self) -> dict[str, Any]:
        """{"split", "items"} of items that were drawn, for provenance; nothing if all were taken."""
        return {} if self.index is None else {"split": self.split, "items": self.index.tolist()}


def load_items(source: str, **reading: Any) -> Dataset:
    """A whole source in its own order, as the split "all"; an item is a line where that is not said."""
    if Path(source).suffix.lower() == ".txt" and reading.get("unit") != "document":
        reading["unit"] = "line"
    return whole(load_source(source, **reading, whole=True))


def whole(dataset: Dataset) -> Dataset:
    """The same data with one more split, "all", in their own order."""
    every = np.arange(len(dataset.items))
    return Dataset(dataset.name, dataset.modality, dataset.items, {**dataset.splits, "all": every}, dataset.labels,
                   source=dataset.source, written=dataset.written, places=dataset.places)  # fmt: skip


def read_items(
    config: RunConfig,
    source: str | None,
    split: str | None,
    *,
    unlabelled: bool = False,
    codecs: Mapping[str, Codec] | None = None,
    like: Mapping[str, Codec] | None = None,
    forms: Mapping[str, Form] | None = None,
) -> Found:
    """The items of `source` that this run's model takes, with their conditions where the source has them.

    `unlabelled`: a source without the column that is modelled gives conditions alone.

    `like`: the run's codecs. Pictures come in their size and channels and recordings at their rate, whatever those of
    the source are; of pictures this is warned.

    `forms`: in which the columns of the run's own data are written.

    Without a source: the run's own, less held-out rows that its `codecs` cannot take. `split` may be "all"; if it is
    not given, files are taken whole and in their own order, and of names the test split.
    """
    own = config.data.reading()
    name = source or config.data.source
    split = split or ("test" if source is None or source in SOURCES else "all")
    reading = {key: own[key] for key in ("size", "fit", "rate", "unit", "scale")} if source else own
    reading = {key: value for key, value in reading.items() if key != "source"} | {"forms": forms or {}}
    kinds = {key: getattr(one, "inner", one) for key, one in (like or {}).items()} if source else {}
    for one in kinds.values():
        if isinstance(one, AudioCodec):
            reading["rate"] = one.rate
        if isinstance(one, ImageCodec):
            reading["size"] = max(one.shape[:2])
    dataset = load_items(name, **reading) if split == "all" else load_source(name, **reading)
    if source is None and codecs is not None:
        codec = codecs["x"]
        label = False
        if "cond" in codecs and isinstance(codec, TableCodec):  # an item is given its label, whatever it had
            label = len(codec.columns) == 1 and codec.columns[0].categorical
        dataset = within_run(config, dataset, {key: one for key, one in codecs.items() if key == "cond" or not label})
    if unlabelled and not has(dataset, config.data.target):
        given = pick(dataset, config.data.condition, split, codec=given_codec(config, dataset))
        if not len(given):
            raise DataError("no items", where=name)
        return Found(None, of_shape(given, kinds.get("cond"), own["fit"]), split)
    if not has(dataset, config.data.condition):
        config = config.model_copy(update={"data": config.data.model_copy(update={"condition": None})})
    items, given = items_of(config, dataset, split)
    if not len(items):
        raise DataError("no items", where=name)
    items = of_shape(items, kinds.get("x"), own["fit"])
    given = of_shape(given, kinds.get("cond"), own["fit"])
    written, places = (dataset.written, dataset.places) if split == "all" else (None, None)
    return Found(items, given, split, written=written, places=places)


def of_shape(images: Any, codec: Codec | None, fit: str) -> Any:
    """Pictures (N, H, W, C) in the size and channels of their codec, which is warned; anything else as it is."""
    if not isinstance(codec, ImageCodec) or not isinstance(images, np.ndarray) or images.shape[1:] == codec.shape:
        return images
    shape = codec.shape
    was, now = (" x ".join(map(str, one)) for one in (images.shape[1:], shape))
    warnings.warn(f"pictures of {was} (height, width, channels) are brought to the {now} of training (--data.fit)",
                  QuintetWarning, stacklevel=3)  # fmt: skip
    out = np.empty((len(images), *shape), np.uint8)
    for i, image in enumerate(images):
        pixels = np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
        out[i] = resized(Image.fromarray(pixels.astype(np.uint8)), Shape(*shape, True, fit))
    return out


def has(dataset: Dataset, columns: str | None) -> bool:
    """Whether a source has these columns, or they are its items."""
    if columns is None or columns in ("items", dataset.modality):
        return True
    have = [*(dataset.labels.column_names if dataset.labels is not None else [])]
    have += dataset.items.column_names if isinstance(dataset.items, pa.Table) else []
    return set(columns.split(",")) <= set(have)


HALVES = ("top", "bottom", "left", "right")


def mask(items: Any, known: str | None, kind: str, *, hole: str | None = None, fit: str = "crop") -> tuple[Any, Any]:
    """(items, raw mask) for `Model.complete` from what `--known` says, or `--mask`, which says the `hole`; None leaves
    it to the items' own holes.
    """
    if hole is not None and kind != "image":
        raise UsageError(f"--mask is for images, not for {kind}", fix="--known")
    if hole is not None and known is not None:
        raise UsageError("both --known and --mask", why="each says which pixels are given", fix="leave one out")
    if kind == "image":
        return items, image_mask(items, known or "top", fit) if hole is None else ~image_mask(
            items, hole, fit, hole=True
        )
    if known is None:
        return items, None
    if kind == "table":
        names = [name.strip() for name in known.split(",")]
        lacking = [name for name in names if name not in items.column_names]
        if lacking:
            raise UsageError(f"no column {lacking[0]}", why=f"columns: {', '.join(items.column_names)}")
        return items.select(names), None
    if kind == "audio":
        try:
            count = round(float(known.removesuffix("s")) * items.rate)
        except ValueError:
            raise UsageError(f"not a number of seconds: {known!r}") from None
        return Recordings([samples[:count] for samples in items], items.rate), None
    raise UsageError(f"--known is not for {kind}", why="a text is a prompt, and each █ in it a hole")


def image_mask(items: np.ndarray, known: str, fit: str = "crop", *, hole: bool = False) -> np.ndarray:
    """(H, W), True where a pixel is given, or for a `hole` where it is lost."""
    h, w = items.shape[1:3]
    out = np.zeros((h, w), bool)
    if known in HALVES:
        part: tuple[slice, slice] = {
            "top": np.s_[: h // 2, :],
            "bottom": np.s_[h // 2 :, :],
            "left": np.s_[:, : w // 2],
            "right": np.s_[:, w // 2 :],
        }[known]
        out[part] = True
        return out
    return white_pixels(known, h, w, fit, hole=hole)


def white_pixels(path: str, h: int, w: int, fit: str = "crop", *, hole: bool = False) -> np.ndarray:
    """(h, w), True where the picture is white: brighter than halfway between its darkest and its brightest pixel.

    So 0 and 1, 0 and 255, one bit and 16 bits all mean the same, and of grey edges the brighter half is white. In a
    picture with transparent pixels those are black; where white is the `hole`, the part that is erased from a picture
    of several colours is white.
    It is brought to the size of the images as they were: cropped, padded or stretched by `fit`.
    """
    try:
        with Image.open(Path(path)) as picture:
            picture.load()
            bands = picture.getbands()
            alpha = "A" in bands or "transparency" in picture.info
            if alpha and np.ptp(np.asarray(picture.convert("RGBA"))[..., 3]):
                colours = np.asarray(picture.convert("RGBA"))
                values = colours[..., 3].astype(np.float32)
                if hole and np.ptp(colours[colours[..., 3] > 127][:, :3], 0).any():
                    values = 255 - values  # a picture with a part erased, which is the hole
            else:
                wide = picture.mode.startswith("I") or picture.mode == "F"
                values = np.asarray(picture if wide else picture.convert("RGB").convert("L")).astype(np.float32)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError("not a mask", where=path, why=str(error), fix=f"{', '.join(HALVES)}, or a PNG") from None
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise DataError("a mask of one colour", where=path, why="no part of it is marked",
                        fix="draw the one part white and the other black")  # fmt: skip
    drawn = Image.fromarray(((values - low) / (high - low)).astype(np.float32))
    if fit == "crop":
        drawn = ImageOps.fit(drawn, (w, h), Image.Resampling.BOX)
    elif fit == "pad":
        drawn = ImageOps.pad(drawn, (w, h), Image.Resampling.BOX, color=0)
    else:
        drawn = drawn.resize((w, h), Image.Resampling.BOX)
    return np.asarray(drawn) > 0.5


def numbered(table: pa.Table, rows: int) -> pa.Table:
    """Completions, a block of all rows for each draw, with columns that name the row (from 0) and the draw (from 1)."""
    forms = written.forms(table)
    beside = {"row": np.arange(len(table)) % rows, "draw": np.arange(len(table)) // rows + 1}
    names = {name if name not in table.column_names else f"{name}_number": cells for name, cells in beside.items()}
    return written.attach(pa.table(names | dict(zip(table.column_names, table.columns, strict=True))), forms)


def chain(parts: Sequence[Any], *, interleave: bool = False) -> Any:
    """Raw items of several lists as one; with `interleave`, the first of each, then the second of each, ..."""
    out = join(parts)
    return take(out, np.arange(len(out)).reshape(len(parts), -1).T.flatten()) if interleave else out
