"""What operations say, in the words of a page.

Errors, notes, verdicts and cards are English texts wherever they are made or kept. A catalogue has the words of pages
for their templates: of `f"{name} has {n} rows"` that is "{} has {} rows". A text is found again by its template, and
its figures, which may be such texts themselves, stand in the words of the page. What no template explains stays as it
is.
English pages have a catalogue too, of what the command line says in its own words.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

from markupsafe import Markup, escape

HOLE = re.compile(r"\{(\d*)(?::(names|none))?\}")
"""A figure in words of a page: the next one, or one by its place; `names`: "a, b and c"; `none`: it is not said."""
END = re.compile(r"(?<=[.:;!?,)])\s+|\n+")
"""Where one text may end and another begin."""
LONGEST, MOST = 4000, 16
"""Letters of a text that is looked through at all, and parts of one that are tried together."""
JOINTS = {"zh": ("、", " 和 ")}
"""What stands between names, and before the last of them."""
LETTERS = re.compile(r"[A-Za-z]{2}")
WIDE = {",": "，", ";": "；", ":": "："}
"""Signs between parts, in Chinese, where no blank stands beside them."""


class Part(NamedTuple):
    """A piece of a text in the words of a page; `known`: or as it was said, since no template explains it."""

    text: str
    known: bool


class Reading(NamedTuple):
    """The parts of a text, and how many of its letters templates explain."""

    letters: int
    parts: tuple[Part, ...]


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """The words of pages in a language by the English templates."""
    text = resources.files("quintet.studio").joinpath("words", f"{language}.sentences.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found


@cache
def templates(language: str) -> tuple[tuple[tuple[str, ...], str, tuple[bool, ...]], ...]:
    """The templates with figures: what stands between these, the words, and whether each figure may be a text itself,
    which names are not.
    """
    found = []
    for key, words in catalogue(language).items():
        between, holes = tuple(key.split("{}")), [*HOLE.finditer(words)]
        plain = {int(hole[1] or place) for place, hole in enumerate(holes) if not hole[2]}
        if len(between) > 1:
            found.append((between, words, tuple(place in plain for place in range(len(between) - 1))))
    return tuple(found)


def figures(between: Sequence[str], text: str) -> list[str] | None:
    """What stands in a text for each {} of a template; None if it is not made of it. The first that fit are taken."""
    first, *middle, last = between
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return None
    found, at, end = list[str](), len(first), len(text) - len(last)
    for one in middle:
        if (place := text.find(one, at, end)) < 0:
            return None
        found.append(text[at:place])
        at = place + len(one)
    return [*found, text[at:end]]


def filled(words: str, values: Sequence[str], language: str) -> str:
    """Words with figures in their places."""
    places = iter(range(len(values)))

    def put(hole: re.Match[str]) -> str:
        value = values[int(hole[1]) if hole[1] else next(places)]
        return {"names": listed, "none": lambda *_: ""}.get(hole[2], in_words)(language, value)

    return HOLE.sub(put, words)


def listed(language: str, value: str) -> str:
    """Names as a language puts them beside each other."""
    comma, last = JOINTS.get(language, (", ", " and "))
    several, _, end = value.rpartition(" and ")
    return (f"{several}{last}{end}" if several else end).replace(", ", comma)


@lru_cache(maxsize=8192)
def whole(language: str, text: str) -> Reading | None:
    """A text that one template explains, by the one that explains most of its letters."""
    known, best = catalogue(language), None
    if text in WIDE:
        return Reading(1, (Part(WIDE[text] if language == "zh" else text, True),))
    if (words := known.get(text, known.get(text[:1].upper() + text[1:]))) is not None:
        return Reading(len(text), (Part(words, True),))
    for between, words, texts in templates(language):
        if (values := figures(between, text)) is not None:
            own = sum(read(language, value).letters for value, one in zip(values, texts, strict=True) if one)
            letters = sum(map(len, between)) + own
            if best is None or letters > best.letters:
                best = Reading(letters, (Part(filled(words, values, language), True),))
    if best is None and text[-1:] in WIDE and (found := whole(language, text[:-1])) is not None:
        sign = WIDE[text[-1]] if language == "zh" else text[-1]
        return Reading(found.letters + 1, (Part(found.parts[0].text + sign, True),))
    return best


@lru_cache(maxsize=8192)
def read(language: str, text: str) -> Reading:
    """A text as the texts that it is made of, so that as many of its letters as possible are explained."""
    if not LETTERS.search(text) or len(text) > LONGEST:
        return Reading(0, (Part(text, False),))
    ends = [found.start() for found in END.finditer(text)] + [len(text)]
    begins = [0, *(found.end() for found in END.finditer(text))]
    best: list[Reading] = [Reading(0, ())]
    for j, end in enumerate(ends):
        tried = []
        for i in range(j, max(-1, j - MOST), -1):
            piece = text[begins[i] : end]
            found = whole(language, piece.strip()) or Reading(0, (Part(piece, False),))
            tried.append(Reading(best[i].letters + found.letters, (*best[i].parts, *found.parts)))
        best.append(max(tried, key=lambda one: (one.letters, -len(one.parts))))
    return best[-1]


def joined(language: str, made: str) -> str:
    """What stands between a part and the one before it: no blank behind a sign of Chinese, which has its own."""
    return "" if not made or (language == "zh" and unicodedata.east_asian_width(made[-1]) in "WF") else " "


def in_words(language: str, text: str) -> str:
    """A text in the words of a page."""
    parts, made = read(language, text).parts, ""
    if not any(part.known for part in parts):
        return text
    for part in parts:
        if language == "zh" and part.known and made[-1:] in WIDE:
            made = made[:-1] + WIDE[made[-1]]
        made += joined(language, made) + (part.text.lstrip() if made else part.text)
    return made


def marked(language: str, text: str) -> Markup:
    """The same for a template: what stays English on a page of another language says that it is."""
    parts, made = read(language, text).parts, Markup()
    if language == "en" or all(part.known for part in parts):
        return escape(in_words(language, text))
    for before, part in zip(("", *(part.text for part in parts)), parts, strict=False):
        english = not part.known and LETTERS.search(part.text)
        shown = Markup('<span lang="en">{}</span>').format(part.text) if english else escape(part.text)
        made += joined(language, before) + shown
    return made
