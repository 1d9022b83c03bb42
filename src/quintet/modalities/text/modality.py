"""Texts: lists of strings."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from quintet.core.codec import Codec
from quintet.core.errors import EnvironmentFault, UsageError, warn
from quintet.core.random import some
from quintet.core.spaces import Discrete
from quintet.data.archives import Entry
from quintet.data.arrow import tidy
from quintet.data.dataset import Dataset, Found
from quintet.metrics.measures import Figures, Marks, Measure
from quintet.modalities import Choices
from quintet.modalities.cards import Card
from quintet.modalities.frames import column_of, is_column, side_by_side
from quintet.modalities.pictures import INK, PAPER, font, png_of
from quintet.modalities.protocol import Modality
from quintet.modalities.provenance import Format, Provenance
from quintet.modalities.table import written
from quintet.modalities.table.given import write_table
from quintet.modalities.table.reading import ROWS, text_column
from quintet.modalities.text.codec import HOLE, TextCodec, streamed
from quintet.modalities.text.given import raw_texts
from quintet.modalities.text.reading import SUFFIXES, dataset_of, read_texts
from quintet.modalities.text.sets import SETS

WINDOW = 128
"""Characters of a long text that count as an item."""
LITTLE = 10_000
"""Fewer characters of one long text are a problem worth a line."""
LONG = 400
"""Characters of a text that a report shows, or of one beside another, three quarters of that."""
SHOWN = 6
VALUES, SEEN = 64, 10_000
"""A column of strings with more values than this, most of them different, is text, else a category; so many cells are
looked at.
"""
ANSWERS = {"text": "pair", "audio": "transcript"}
"""Recipes of texts that belong to what is given, by the kind of that."""


def txt(items: Sequence[str], provenance: Provenance) -> bytes:
    """One item a line; with a rule between them if any has several lines."""
    between = "\n----\n" if any("\n" in text for text in items) else "\n"
    return (between.join(items) + "\n").encode("utf-8", "replace")


def jsonl(items: Sequence[str], provenance: Provenance) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in items).encode()


class TextModality(Modality):
    name = "text"
    door = "text"
    task = "text-generation"
    empty_lines = True
    codec = TextCodec
    hole = HOLE
    things = "texts"
    previewed = 16
    formats = {".txt": Format(txt), ".jsonl": Format(jsonl)}
    columned = (".jsonl",)

    measures = (
        Measure(
            "exact_match", "Exact matches", "high", "Share of texts without any error.", True,
            right="{} of its texts have no error.",
        ),
        Measure(
            "character_error_rate", "Character error rate", "low", "Edits a character of the text that is wanted.",
            percent=True, right="Its texts need {} edits a character.",
        ),
        Measure("word_error_rate", "Word error rate", "low", "Edits a word of the text that is wanted.", True),
        Measure("bleu", "BLEU", "high", "0 to 100; its signature is in the settings of the measurement."),
        Measure("chrf", "chrF", "high", "0 to 100: characters in common."),
        Measure("judge_bits", "Bits a character, by a judge", "", "An n-gram model of held-out text; as real is best."),
        Measure(
            "ngram_divergence", "N-gram divergence", "low", "Jensen-Shannon, of three characters, in bits; 0 to 1.",
            decides="runs of letters that are more like those of real texts (divergence of n-grams)",
        ),
        Measure("ngram_entropy", "N-gram entropy", "", "Of three characters, in bits; near to real is best."),
        Measure("distinct", "Distinct pairs of words", "", "Over all pairs of words; near to real is best."),
        Measure("self_bleu", "Self-BLEU", "", "Of each text against the others; 1 if they all agree."),
    )  # fmt: skip

    sets = SETS
    suffixes = SUFFIXES
    naive = "letters drawn by themselves"
    readable = True
    columns = "read letter by letter"
    gaps = False

    def read(self, entries: Sequence[Entry], found: Found) -> Dataset:
        return read_texts(entries, found)

    def from_columns(self, columns: pa.Table, found: Found) -> Dataset | None:
        """A column of strings called text, or the one of long strings; the others are labels."""
        strings = [field.name for field in columns.schema if pa.types.is_string(field.type)]
        text = "text" if "text" in strings else text_column(columns)
        if text is None:
            return None
        rest = columns.drop_columns([text])
        labels = tidy(rest, empty=False)[0] if rest.num_columns else None
        items = [cell or "" for cell in columns[text].to_pylist()]
        return dataset_of(items, replace(found, labels=labels), (f"the column {text} is the items",))

    def owns(self, items: Any) -> bool:
        return isinstance(items, list)

    def contents(self, items: Sequence[str]) -> Iterator[bytes]:
        return (text.encode("utf-8", "surrogatepass") for text in items)

    def halves(self, first: Sequence[str], second: Sequence[str]) -> list[str]:
        return [a[: len(a) // 2] + b[len(b) // 2 :] for a, b in zip(first, second, strict=True)]

    def holds_conditions(self, suffix: str) -> bool:
        return suffix in ROWS

    def raw(self, items: Any, codec: Codec, column: str | None, reading: Choices) -> list[str]:
        return raw_texts(items, codec, column)

    def reading(self, codec: Codec, reading: Choices) -> dict[str, Any]:
        return {"unit": reading["unit"]}

    def stored(self, data: Any, folder: Path) -> Path | None:
        """Texts, or a column of them."""
        if isinstance(data, list | tuple) and data and all(isinstance(one, str) for one in data):
            column = pa.array(list(data), pa.string())
        elif is_column(data) and pa.types.is_string((found := column_of(data)).type):
            column = found
        else:
            return None
        return write_table(pa.table({"text": column}), folder / "texts.arrow")

    def with_columns(self, items: list[str], columns: pa.Table) -> pa.Table:
        return side_by_side(pa.table({"text": pa.array(items, pa.string())}), columns)

    def takes(self, columns: pa.Table) -> bool:
        """One column that the user calls text, or of strings of many values, most of them different."""
        if columns.num_columns != 1 or not pa.types.is_string(columns.column(0).type):
            return False
        said = written.of(columns.schema.field(0))
        if said is not None:  # by the user
            return said.kind == "text"
        cells = columns.column(0).take(pa.array(some(len(columns), SEEN, 0)))
        kinds = len(cells.unique())
        return kinds > VALUES and 2 * kinds > len(cells)

    def of_columns(self, columns: pa.Table, *, given: bool = False) -> list[str | None]:
        """One column of strings. A missing text is None, which no model learns or scores; given, it is empty."""
        if columns.num_columns != 1 or not pa.types.is_string(columns.column(0).type):
            where = f"column {', '.join(columns.column_names)}"
            raise UsageError("the codec text needs exactly one column of texts", where=where, fix="leave --codec out")
        texts: list[str | None] = columns.column(0).to_pylist()
        return ["" if text is None else text for text in texts] if given else texts

    def recipe(self, items: Any, given: str | None, coding: Mapping[str, Any]) -> str:
        """Texts that belong to what is given, long texts that are cut into windows, or many short ones."""
        if given in ANSWERS:
            return ANSWERS[given]
        return self.name if streamed(items, str(coding.get("items", "auto"))) else "texts"

    def given_settings(self, coding: Mapping[str, Any]) -> dict[str, Any]:
        """A condition is a whole text, never a window; of a joint vocabulary its symbols are those of the items."""
        joint = ("tokens", "vocab_size", "joint") if coding.get("joint") else ()
        return {"items": "separate"} | {field: coding[field] for field in joint}

    def fit_pair(self, codec: Codec, items: Any, given: Any, settings: Mapping[str, Any]) -> tuple[Codec, Codec]:
        """With one vocabulary, learnt from both, where that is wanted."""
        if not isinstance(codec, TextCodec) or not codec.settings.joint:
            return super().fit_pair(codec, items, given, settings)
        vocabulary = codec.learn([*items, *given])
        condition = TextCodec(None, TextCodec.Settings(**settings)).fit(given, vocabulary)
        return codec.fit(items, vocabulary), condition

    def facts(self, items: Sequence[str]) -> dict[str, Any]:
        lengths = [len(text) for text in items]
        alphabet = set().union(*items)
        return {"characters": sum(lengths), "lengths": [min(lengths), int(np.median(lengths)), max(lengths)],
                "alphabet": len(alphabet)}  # fmt: skip

    def scarce(self, dataset: Dataset) -> str:
        """Of one long text its characters count."""
        texts = dataset.rows("train")
        if len(texts) != 1:
            return super().scarce(dataset)
        return f"{len(texts[0]):,} characters" if len(texts[0]) < LITTLE else ""

    def count(self, dataset: Dataset, split: str) -> int:
        """Long texts are many windows of about `WINDOW` characters."""
        texts = dataset.rows(split)
        return max(len(texts), sum(map(len, texts)) // WINDOW)

    def lines(self, items: Sequence[str]) -> str:
        return "\n".join(text[:200] for text in items)

    def preview(self, items: Sequence[str], captions: list[str]) -> bytes:
        return page(items)

    def cards(self, items: Sequence[str], captions: list[str]) -> list[Card]:
        """The beginning of each; of a single one, more of it."""
        most = LONG if len(items) > 1 else 10 * LONG
        each = zip(items, captions, strict=True)
        return [Card("text/plain", text[:most].encode("utf-8", "replace"), caption) for text, caption in each]

    def untaught(self, train: NDArray[Any], n: int) -> NDArray[Any]:
        """The symbols of each place drawn by themselves."""
        rng = np.random.default_rng(0)
        return np.stack([column[rng.integers(0, len(column), n)] for column in train.T], 1)

    @property
    def at_most(self) -> Mapping[str, int]:
        from quintet.modalities.text.figures import MOST_TEXTS

        return {"texts": MOST_TEXTS}

    def figures(
        self,
        fake: list[str],
        real: Callable[[str], list[str]],
        split: str,
        codec: Codec,
        *,
        labelled: bool,
        most: int,
        seed: int,
    ) -> Figures:
        """How varied they are, and what an n-gram model of unseen texts thinks of them."""
        from quintet.modalities.text.figures import corpus_figures  # what it needs takes long to load

        return Figures(corpus_figures(real(split), fake, most, seed), {})

    def marked(self, codec: Codec) -> bool:
        """Separate texts are, in whichever words."""
        return isinstance(codec, TextCodec) and not codec.stream

    def marks(self, made: list[str], wanted: list[str], given: Modality) -> Marks:
        """Errors and, of texts that are given texts, BLEU and chrF where sacrebleu is there."""
        from quintet.metrics.texts import text_figures_by_item, translation_figures  # what it needs takes long to load

        figures, by_item = text_figures_by_item(made, wanted)
        if given is not self:
            return Marks(figures, by_item)
        try:
            scores, each = translation_figures(made, wanted)
            return Marks(figures | scores, by_item | each)
        except EnvironmentFault as error:
            warn(f"without BLEU and chrF: {error}")
            return Marks(figures, by_item)

    def units(self, nats: NDArray[Any], items: Any, codec: Codec) -> dict[str, Any]:
        """Bits a character, byte and token, and perplexity."""
        from quintet.metrics.texts import language_figures

        if not isinstance(codec, TextCodec):
            return {}
        alphabet = codec.space.vocab_size if isinstance(codec.space, Discrete) else codec.size
        return {"token": codec.settings.tokens, "vocab_size": alphabet} | language_figures(nats, **codec.extent(items))

    def shown(self, items: Sequence[str], codec: Codec, reference: Any = None) -> dict[str, Any]:
        return {"kind": "text", "items": [items[i][:LONG] for i in some(items, SHOWN, 0)]}

    def pairs(self, samples: Any, near: Any, distances: list[float], codec: Codec) -> dict[str, Any]:
        each = zip(samples, near, distances, strict=True)
        rows = [[a[: 3 * LONG // 4], b[: 3 * LONG // 4], f"{d:.4g}"] for a, b, d in each]
        return {"kind": "rows", "columns": ["sample", "nearest training text", "distance"], "rows": rows}


def page(items: Sequence[str]) -> bytes:
    """The beginning of each text; of a few long ones, more of each."""
    lines: list[tuple[str, tuple[int, int, int]]] = []
    each = max(1, 28 // max(1, len(items)))
    for item in items:
        wrapped = [part for line in item[:4000].splitlines() if line.strip() for part in textwrap.wrap(line, 100)]
        lines += [(line, INK if number == 0 else (90, 90, 90)) for number, line in enumerate(wrapped[:each])]
    sheet = Image.new("RGB", (820, 16 + 18 * max(1, len(lines))), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (line, colour) in enumerate(lines):
        draw.text((10, 8 + 18 * number), line, colour, font(13))
    return png_of(sheet)


MODALITY = TextModality()
