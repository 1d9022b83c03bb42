"""Where data comes from: `load_source` and the names it knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from quintet.core.errors import ConfigError, DataError, UsageError
from quintet.data.dataset import SPLITS, Dataset, Modality, Reading, Scale, take
from quintet.data.written import Form
from quintet.modalities.table.types import wishes
from quintet.sources import builtin, named, synthetic
from quintet.sources.files import KIND_OF, read_path
from quintet.sources.hub import PREFIX, read_hub
from quintet.sources.named import data_root, named_file

__all__ = ["SOURCES", "SPLITS", "Dataset", "Modality", "Source", "data_root", "load_source", "named_file", "take"]


@dataclass(frozen=True)
class Source:
    """A name: what it is, known without loading it, and how it is loaded. `folder`: of its files, if it needs some."""

    load: Callable[[], Dataset]
    modality: Modality
    items: int
    about: str
    columns: tuple[str, ...] = ()
    folder: str = ""

    def __call__(self) -> Dataset:
        return replace(self.load(), about=self.about)

    @property
    def missing(self) -> str:
        """The first file that is not there, or nothing."""
        paths = [data_root() / self.folder / name for name in named.FILES.get(self.folder, {})]
        return next((str(path) for path in paths if not path.is_file()), "")


def _plane(load: Callable[[], Dataset], about: str) -> Source:
    return Source(load, "table", 10_000, about, ("label",))


def _measured(name: str, rows: int, columns: int, classes: int) -> Source:
    about = f"{rows} rows, {columns} measurements, {classes} classes (UCI)"
    return Source(builtin.measurements(name), "table", rows, about, ("label",))


# name: (columns, rows) of the binary density sets
DENSITY = {
    "nltcs": (16, 21_574), "plants": (69, 23_215), "baudio": (100, 20_000), "jester": (100, 14_116),
    "bnetflix": (100, 20_000), "accidents": (111, 17_009), "mushrooms": (112, 8_124), "dna": (180, 3_186),
    "nips": (500, 1_740), "pumsb_star": (163, 16_349), "bbc": (1_058, 2_225), "moviereview": (1_001, 2_000),
    "voting": (1_359, 1_764),
}  # fmt: skip

SOURCES: dict[str, Callable[[], Dataset]] = {
    "digits": Source(builtin.digits, "image", 1797,
                     "1,797 handwritten digits, 8x8, 17 grey levels (UCI, through scikit-learn)", ("label",)),
    "moons": _plane(builtin.moons, "two interleaved half circles with noise 0.08"),
    "rings": _plane(builtin.rings, "three concentric rings of radius 1, 2, 3 with noise 0.08"),
    "checkerboard": _plane(builtin.checkerboard, "uniform on the 8 dark squares of a 4x4 board on [-2, 2]^2"),
    "gaussians": _plane(builtin.gaussians, "8 Gaussians of std 0.1 on a circle of radius 2"),
    "iris": _measured("iris", 150, 4, 3),
    "wine": _measured("wine", 178, 13, 3),
    "breast_cancer": _measured("breast_cancer", 569, 30, 2),
    "diabetes": Source(builtin.diabetes, "table", 442, "442 patients, 10 measurements and the progression of diabetes"),
    "pydocs": Source(builtin.pydocs, "text", 3, "the language reference of this Python, 460,000 characters of "
                     "documentation; chapters by hash"),
    "numbers": Source(synthetic.numbers, "text", 20_000, "number words below a million in English and Chinese, "
                      "a translation pair", ("chinese", "number")),
    "notes": Source(synthetic.notes, "audio", 1056, "synthesised notes, 0.5 s at 8 kHz: 24 pitches, 4 timbres, "
                    "11 performances", ("pitch", "timbre")),
    "mnist": Source(named.mnist, "image", 70_000, "70,000 handwritten digits, 28x28, 256 grey levels (LeCun et al. "
                    "1998, CC BY-SA 3.0)", ("label",), "mnist"),
    "sprites": Source(named.sprites, "image", 4_249, "4,249 sprites of Dungeon Crawl Stone Soup, 32x32 RGBA (CC0)",
                      ("label",), "dcss_tiles"),
    "spoken_digits": Source(named.spoken_digits, "audio", 3_000, "3,000 spoken digits of 6 speakers, 8 kHz (Free "
                            "Spoken Digit Dataset, CC BY-SA 4.0)", ("label", "speaker", "word"), "fsdd"),
    "tinyshakespeare": Source(named.tinyshakespeare, "text", 2, "1,115,394 characters; first 90 % train, rest "
                              "validation (which is also the test split, as is usual)", (), "tinyshakespeare"),
    "multi30k": Source(named.multi30k, "text", 31_014, "31,014 German captions of images and their English "
                       "translation (Elliott et al. 2016, non-commercial)", ("english",), "multi30k"),
    "trec": Source(named.trec, "text", 5_952, "5,952 questions of 6 kinds (Li and Roth 2002)", ("label",), "trec"),
    "subj": Source(named.subj, "text", 10_000, "10,000 sentences of reviews, subjective or objective (Pang and Lee "
                   "2004)", ("label",), "subj"),
    "adult": Source(named.adult, "table", 48_842, "48,842 people of the census of 1994, 15 columns, income above or "
                    "below 50,000 dollars (UCI, CC BY 4.0)", (), "adult"),
    "california": Source(named.california, "table", 20_640, "20,640 blocks of houses, 9 columns, census of 1990 "
                         "(TabDDPM's split)", (), "california"),
    "churn": Source(named.churn, "table", 10_000, "10,000 customers of a bank, 11 columns (TabDDPM's split)", (),
                    "churn"),
    **{f"density20/{name}": Source(named.density(name), "table", rows, f"{rows:,} rows of {columns:,} binary columns "
                                   "(Lowd and Davis 2010, Van Haaren and Davis 2012)", (), "density20")
       for name, (columns, rows) in DENSITY.items()},
}  # fmt: skip


def load_source(
    source: str,
    *,
    size: int | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    rate: int | None = None,
    unit: Literal["auto", "document", "line"] = "auto",
    group: str | None = None,
    time: str | None = None,
    whole: bool = False,
    scale: Scale | None = None,
    types: str | Mapping[str, Any] | None = None,
    forms: Mapping[str, Form] | None = None,
    split: Literal["auto", "none"] = "auto",
) -> Dataset:
    """A name of `SOURCES`, a path, or hf:owner/name[:config], read and split.

    The rest is for paths and the hub. `size`: pixels of an image's longer side; `fit`: what is done with images of
    other proportions; `rate`: samples a second of audio; `unit`: what an item of a text file is; `group`: rows with one
    value of this column stay in one split; `time`: the rows that are last by this column are the test split; `whole`:
    not split, all items in their own order in every split; `scale`: which values of images of 16 bits or real numbers
    are black and white (default: their least and largest); `types`: what
    columns are, "price=decimal,zip=category" or a mapping, of `types.KINDS`; `forms`: in which the columns of a CSV are
    written, where that fits; `split`: "none" trains on all items, which every split then holds.
    Raises UsageError for a name that is not known, DataError for what cannot be read.
    """
    if source in SOURCES:
        if types:
            raise ConfigError("the columns of a built-in source have their types", where=f"data.types, {source}",
                              fix="leave out data.types")  # fmt: skip
        return SOURCES[source]()
    reading = Reading(size, fit, rate, unit, group, time, whole, scale, wishes(types), forms or {}, split)
    if source.startswith(PREFIX):
        return read_hub(source, reading)
    path = Path(source).expanduser()
    if path.exists():
        return read_path(path, reading)
    if path.suffix.lower() in (*KIND_OF, ".zip", ".tar", ".tgz", ".gz") or source.startswith(("/", "./", "../", "~")):
        near = difflib.get_close_matches(path.name, _beside(path), 1)
        raise DataError("no such file or folder", where=source, fix=f"did you mean {near[0]}?" if near else "")
    near = difflib.get_close_matches(source, SOURCES, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    names = ", ".join(name for name in SOURCES if "/" not in name)
    raise UsageError(f"unknown source {source!r}", why=f"{hint}known: {names}, or a path", fix="quintet data")


def _beside(path: Path) -> list[str]:
    """What lies where a path points."""
    try:
        return [other.name for other in path.parent.iterdir()]
    except OSError:
        return []
