"""The words of a command line, as a job has them: what stands where, and how long it asks to train."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

from quintet.core.errors import QuintetError
from quintet.runs.config import seconds

DEFAULT = "60s"
"""What train and compare take where nothing is said."""
OWN = ("--run", "--seed", "--steps", "--output", "-o", "--runs")
"""Options in which jobs of one kind may differ."""


def parted(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before `--`, among which there are options, and those from it on, among which there are none."""
    end = list(argv).index("--") if "--" in argv else len(argv)
    return list(argv[:end]), list(argv[end:])


def positional(argv: Sequence[str]) -> list[str]:
    """What stands behind the verb before the first option, and what stands behind `--`."""
    words, behind = parted(argv[1:])
    return [*itertools.takewhile(lambda word: not word.startswith("-"), words), *behind[1:]]


def without(argv: Sequence[str], *names: str) -> list[str]:
    """The command without these options and their values."""
    before, behind = parted(argv)
    kept, words = [], iter(before)
    for word in words:
        if word in names:
            next(words, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return [*kept, *behind]


def option(argv: Sequence[str], *names: str) -> str | None:
    """The value of an option, as `--name value` or `--name=value`."""
    words, _ = parted(argv)
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else words[i + 1] if i + 1 < len(words) else None
    return None


@lru_cache(4096)
def kind(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command without what makes it this one: those of one kind take as long, step for step."""
    return tuple(word for i, word in enumerate(argv)
                 if not (word.partition("=")[0] in OWN or (i and argv[i - 1] in OWN)))  # fmt: skip


@lru_cache(4096)
def steps_of(argv: tuple[str, ...]) -> int | None:
    """The steps that it asks for."""
    given = option(argv, "--steps") or ""
    return int(given) if given.isdecimal() and int(given) else None


def budget_of(argv: Sequence[str]) -> float | None:
    """The seconds that it asks for, of one run."""
    given = option(argv, "--budget") or (None if "resume" in argv[:1] else DEFAULT)
    try:
        return None if given is None else seconds(given)
    except QuintetError:
        return None
