"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
PAGES = (*READMES, *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")
                           if path.parent.name != "decisions"))  # fmt: skip
"""All pages, but for the decisions, which speak of the past."""
CHINESE = ("README.zh-CN.md", *(page for page in PAGES if page.endswith(".zh.md")))


class Block(NamedTuple):
    """A fenced block: its language, and what stands in it."""

    language: str
    text: str


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def all_blocks(text: str) -> list[Block]:
    """The blocks of a page in order."""
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def blocks(page: str, language: str) -> list[str]:
    return [block.text for block in all_blocks(text_of(page)) if block.language == language]


def shell_lines(block: str) -> Iterator[str]:
    """The lines of a block `sh`, those that end in a backslash joined with the next."""
    yield from (line for line in block.replace("\\\n", " ").splitlines() if shlex.split(line, comments=True))


def quintet_words(line: str) -> list[str] | None:
    """What stands behind `quintet` in a line of a shell, without comment; behind torchrun's `--` and in pipes too."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["torchrun"]:
        words = words[words.index("--") + 1 :]
    if "quintet" not in words:
        return None
    words = words[words.index("quintet") + 1 :]
    return words[: words.index("|")] if "|" in words else words


def commands(page: str) -> Iterator[list[str]]:
    """Every quintet line of the blocks `sh`."""
    for block in blocks(page, "sh"):
        for line in shell_lines(block):
            words = quintet_words(line)
            if words is not None:
                yield words


def shown(page: str) -> Iterator[list[str]]:
    """The quintet lines behind a prompt, where a page shows what they print; a remark stands in brackets."""
    for line in "\n".join(blocks(page, "console")).replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            words = quintet_words(re.sub(r" {2,}\(.*\)$", "", line[2:]).partition(" > ")[0])
            if words is not None:
                yield words
