"""Text files -> items: lines, documents, or one long text that is cut into three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from quintet.core.errors import DataError
from quintet.data.archives import BadFile, Entry
from quintet.data.dataset import SPLITS, Dataset, Found
from quintet.data.encodings import decoded
from quintet.data.problems import Problems
from quintet.data.splits import arrange, assign, consecutive, keys_of
from quintet.modalities.text.options import TextReading

SUFFIXES = (".txt", ".text")
LINES = 50
"""From so many lines a file may be a list of items, if they are short and none is blank."""
SHORT = 500
TEXT_BYTES = 2**28


def decode(content: bytes, *, lenient: bool = False) -> tuple[str, list[str]]:
    """Text in whatever encoding a CSV may have, with newlines for line ends, and a note where it is not UTF-8.

    `lenient`: with U+FFFD where it is damaged. Raises BadFile.
    """
    if not content.strip():
        raise BadFile("the file is empty")
    try:
        content, notes = decoded(content, lenient=lenient)
    except ValueError as error:
        raise BadFile(str(error)) from None
    if b"\0" in content:
        raise BadFile("it holds NUL bytes: this is no text file")
    return content.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), notes


def read_texts(entries: Sequence[Entry], found: Found) -> Dataset:
    """Lines, documents or one text, by `unit`; "auto" takes lines for a list of short ones without blanks between."""
    problems, good, texts = Problems(found, len(entries), "texts"), [], []
    encodings: list[str] = []
    for index, entry in enumerate(entries):
        try:
            text, said = decode(entry.read(TEXT_BYTES), lenient=problems.lenient)
            texts.append(text)
            encodings += [f"{entry.name}: {note}" for note in said]
            good.append(index)
        except BadFile as error:
            if error.large:  # no smaller part of the source stands for it
                fix = f"cut it into a folder of files: split -C 200M {entry.name} FOLDER/part- --additional-suffix=.txt"
                raise DataError(
                    f"the file {entry.name} is too large", where=found.where, why=str(error), fix=fix
                ) from None
            problems.add(entry.name, error)
    problems.check()
    found, unit = found.at(good), found.reading.of(TextReading).unit
    if found.reading.whole and unit == "auto" and Path(found.where).suffix.lower() == ".txt":
        unit = "line"
    published = [split for split in found.splits if split]
    if unit == "auto":
        unit = "line" if all(is_list(text) for text in texts) else "document"
    notes, places = [f"every {unit} is an item (--data.unit)"], None
    if unit == "line":
        lines = [[line for line in text.split("\n") if line.strip()] for text in texts]
        if found.reading.whole and len(texts) == 1:
            places = np.array([i for i, line in enumerate(texts[0].split("\n")) if line.strip()])
        found = found.at(np.repeat(np.arange(len(lines)), [len(part) for part in lines]))
        texts = [line for part in lines for line in part]
    elif len(texts) == 1 and found.reading.split == "none":
        return Dataset("", "text", texts * 3, consecutive([1, 1, 1]), notes=(
            "one text, which every split holds (--data.split none)", *encodings, *problems.notes()))  # fmt: skip
    elif len(texts) == 1 and not found.reading.whole:
        return Dataset("", "text", thirds(texts[0], found.where), consecutive([1, 1, 1]), notes=(
            "one text: the first 80 % are train, then 10 % validation, 10 % test (--data.unit line: items are lines)",
            *encodings, *problems.notes()))  # fmt: skip
    elif len(published) == len(texts) and len(texts) == len(set(published)) == 3:
        by_split = dict(zip(published, texts, strict=True))
        note = "one text a split, as the files say"
        return Dataset(
            "", "text", [by_split[name] for name in SPLITS], consecutive([1, 1, 1]), notes=(note, *encodings)
        )
    return replace(dataset_of(texts, found, (*notes, *encodings, *problems.notes())), places=places)


def dataset_of(texts: Sequence[str], found: Found, notes: Sequence[str] = ()) -> Dataset:
    """Texts that are items, split."""
    keys = keys_of(text.encode("utf-8", "surrogatepass") for text in texts)
    part, how = assign(keys, found, found.labels)
    order, splits, few = arrange(part)
    labels = None if found.labels is None else found.labels.take(pa.array(order))
    return Dataset("", "text", [texts[i] for i in order], splits, labels, notes=(*notes, *how, *few))


def is_list(text: str) -> bool:
    """Whether a text is a list of lines: many, short, and without blank lines between."""
    lines = text.rstrip("\n").split("\n")
    blank = sum(not line.strip() for line in lines)
    short = sum(len(line) <= SHORT for line in lines)
    return len(lines) >= LINES and blank <= len(lines) // 100 and short >= 0.95 * len(lines)


def thirds(text: str, where: str) -> list[str]:
    """One text as three: 80, 10 and 10 %, at the ends of lines where there are some."""
    places = []
    for fraction in (0.8, 0.9):
        at = round(len(text) * fraction)
        newline = text.find("\n", at, at + len(text) // 50)
        places.append(newline + 1 if newline >= 0 else at)
    parts = [text[: places[0]], text[places[0] : places[1]], text[places[1] :]]
    if not all(parts):
        raise DataError(
            "the text is too short to be split",
            where=where,
            why=f"it has only {len(text)} characters",
            fix="give a longer text, or use --data.split none",
        )
    return parts
