"""Named sets of texts; `numbers` are computed, in Chinese and English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from quintet.data.dataset import Dataset, label_table
from quintet.data.published import Source, hashed_validation, unpack
from quintet.data.splits import arrange, by_hash, consecutive, keys_of


def pydocs() -> Dataset:
    """The chapters of `pydoc_data.topics`, each whole in one split by the hash of its name; one text a split."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    part = by_hash(keys_of(name.encode() for name in names))
    texts = ["\n\n".join(topics[name].strip() for name, p in zip(names, part, strict=True) if p == split) + "\n"
             for split in (0, 1, 2)]  # fmt: skip
    return Dataset("pydocs", "text", texts, consecutive([1, 1, 1]))


ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMERALS = "零一二三四五六七八九"
NUMERAL_PLACES = ("", "十", "百", "千")
COUNTS = {1: 10, 2: 90, 3: 900, 4: 4000, 5: 6000, 6: 9000}
"""How many numbers of each length; all of the short ones."""


def english(n: int) -> str:
    """A number below a million, as American English reads it: 105,023 is one hundred five thousand twenty-three."""
    if n >= 1000:
        rest = f" {english(n % 1000)}" if n % 1000 else ""
        return f"{english(n // 1000)} thousand{rest}"
    if n >= 100:
        rest = f" {english(n % 100)}" if n % 100 else ""
        return f"{ONES[n // 100]} hundred{rest}"
    if n >= 20:
        return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")
    return ONES[n]


def chinese(n: int) -> str:
    """A number below a million in Chinese, as it is written (二 throughout, never 两): 105,023 is 十万五千零二十三.

    Zeros between figures of a group of four are one 零, as are those that a lower group begins with; a number that
    would begin with 一十 begins with 十.
    """
    if n == 0:
        return NUMERALS[0]
    high, low = divmod(n, 10_000)
    text = _four(high) + "万" if high else ""
    if low:
        text += ("零" if high and low < 1000 else "") + _four(low)
    return text.removeprefix("一") if text.startswith("一十") else text


def _four(n: int) -> str:
    """1 ... 9999."""
    text, gap = "", False
    for place in (3, 2, 1, 0):
        figure = n // 10**place % 10
        if figure:
            text += ("零" if gap and text else "") + NUMERALS[figure] + NUMERAL_PLACES[place]
        gap = not figure
    return text


def numbers() -> Dataset:
    """20,000 different numbers of one to six figures: English words as items, Chinese words and the number beside."""
    rng = np.random.RandomState(0)
    chosen: list[int] = []
    for length, count in COUNTS.items():
        first, last = (10 ** (length - 1) if length > 1 else 0), 10**length
        chosen += sorted(first + rng.permutation(last - first)[:count])
    order, splits, _ = arrange(by_hash(keys_of(str(number).encode() for number in chosen)))
    values = [int(chosen[i]) for i in order]
    labels = pa.table({"chinese": [chinese(value) for value in values], "number": values})
    return Dataset("numbers", "text", [english(value) for value in values], splits, labels)


def tinyshakespeare() -> Dataset:
    text = unpack("tinyshakespeare", "input.txt.gz").decode()
    cut = int(len(text) * 0.9)
    splits = {"train": np.array([0]), "validation": np.array([1]), "test": np.array([1])}
    return Dataset("tinyshakespeare", "text", [text[:cut], text[cut:]], splits)


def multi30k() -> Dataset:
    """German sentences; the English ones are a column."""
    columns: dict[str, list[str]] = {"de": [], "en": []}
    counts: list[int] = []
    for part in ("train", "val", "test_2016_flickr"):
        for language, sentences in columns.items():
            sentences += unpack("multi30k", f"raw/{part}.{language}.gz").decode().splitlines()
        counts.append(len(columns["de"]) - sum(counts))
    labels = pa.table({"english": [line.strip() for line in columns["en"]]})
    return Dataset("multi30k", "text", [line.strip() for line in columns["de"]], consecutive(counts), labels)


QUESTION_KINDS = ("description", "entity", "abbreviation", "human", "location", "number")
SENTENCES = ("subjective", "objective")


def _labelled_lines(folder: str, names: Mapping[str, str], classes: tuple[str, ...]) -> tuple[Any, ...]:
    """(texts, labels, names of splits) of files whose lines begin with the number of a class."""
    lines = [(split, *line.split(" ", 1)) for split, file in names.items()
             for line in unpack(folder, file).decode("latin-1").split("\n") if line.strip()]  # fmt: skip
    return [line[2].strip() for line in lines], [classes[int(line[1])] for line in lines], [line[0] for line in lines]


def trec() -> Dataset:
    texts, labels, names = _labelled_lines(
        "trec", {"train": "TREC.train.all.gz", "test": "TREC.test.all.gz"}, QUESTION_KINDS
    )
    order, splits = hashed_validation(names, keys_of(text.encode() for text in texts))
    return Dataset("trec", "text", [texts[i] for i in order], splits, label_table(np.array(labels)[order]))


def subj() -> Dataset:
    texts, labels, _ = _labelled_lines("subj", {"train": "subj.all.gz"}, SENTENCES)
    order, splits, _ = arrange(by_hash(keys_of(text.encode() for text in texts)))
    return Dataset("subj", "text", [texts[i] for i in order], splits, label_table(np.array(labels)[order]))


SETS: dict[str, Source] = {
    "pydocs": Source(pydocs, "text", 3, "the language reference of this Python, 460,000 characters of "
        "documentation; chapters by hash"),
    "numbers": Source(numbers, "text", 20_000, "number words below a million in English and Chinese, "
        "a translation pair", ("chinese", "number")),
    "tinyshakespeare": Source(tinyshakespeare, "text", 2, "1,115,394 characters; first 90 % train, rest "
        "validation (which is also the test split, as is usual)", (), "tinyshakespeare"),
    "multi30k": Source(multi30k, "text", 31_014, "31,014 German captions of images and their English "
        "translation (Elliott et al. 2016, non-commercial)", ("english",), "multi30k"),
    "trec": Source(trec, "text", 5_952, "5,952 questions of 6 kinds (Li and Roth 2002)", ("label",), "trec"),
    "subj": Source(subj, "text", 10_000, "10,000 sentences of reviews, subjective or objective (Pang and Lee "
        "2004)", ("label",), "subj"),
}  # fmt: skip
