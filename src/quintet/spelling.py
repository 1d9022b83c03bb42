"""Text while it is made: pieces as they come, stop texts that end it, regular expressions that it must match."""

from __future__ import annotations

import codecs
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from quintet.core.errors import DataError, EnvironmentFault, UsageError

Constraint = Callable[[Tensor, Tensor], Tensor]
"""(x (B, t), start (B,)) -> (B, V): see `nets.decoding.Constraint`."""

KEPT = 2**26
"""Bytes of what a regular expression remembers: a byte a symbol for each prefix."""


class Speller:
    """Symbols -> text, as soon as it is certain: a character whose bytes are not all there waits, and so does what may
    be the beginning of a stop text. `done` behind a stop text, which is left out.
    """

    def __init__(self, pieces: Sequence[bytes], stops: Sequence[str] = ()) -> None:
        self.pieces, self.stops = pieces, tuple(stops)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.waiting, self.done = "", False

    def __call__(self, symbols: Sequence[int], *, final: bool = False) -> str:
        """The text that these add."""
        if self.done:
            return ""
        self.waiting += self.decoder.decode(b"".join(self.pieces[i] for i in symbols), final)
        found = cut(self.waiting, self.stops)
        if found is not None:
            self.done, out = True, found
        else:
            keep = 0 if final else _begun(self.waiting, self.stops)
            out, self.waiting = self.waiting[: len(self.waiting) - keep], self.waiting[len(self.waiting) - keep :]
        return out


def cut(text: str, stops: Sequence[str]) -> str | None:
    """What stands before the first of the stop texts, or None where there is none."""
    at = [index for stop in stops if (index := text.find(stop)) >= 0]
    return text[: min(at)] if at else None


def _begun(text: str, stops: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a stop text."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


# -- what may come next ----------------------------------------------------------------------------------------------


class Stop:
    """Nothing may follow a stop text. Only the new part of a row counts."""

    def __init__(self, pieces: Sequence[bytes], stops: Sequence[str], size: int) -> None:
        self.pieces, self.size = pieces, size
        self.stops = [stop.encode("utf-8", "replace") for stop in stops]
        self.longest = max(map(len, self.stops))  # a symbol has a byte at least

    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        tails = x[:, -self.longest :].tolist() if x.shape[1] else [[]] * len(x)
        fresh = (x.shape[1] - start).tolist()
        stopped = [any(stop in self._spelt(tail, new) for stop in self.stops)
                   for tail, new in zip(tails, fresh, strict=True)]  # fmt: skip
        return ~torch.tensor(stopped)[:, None].expand(-1, self.size)

    def _spelt(self, tail: list[int], new: int) -> bytes:
        return b"".join(self.pieces[i] for i in tail[max(0, len(tail) - new) :])


class Regex:
    """The new part of a row matches a regular expression, by the partial matches of the package `regex`.

    A symbol is allowed where some text that begins with it may still match; the end symbol only behind a whole match.
    Where nothing may follow a whole match, the row ends. Symbols that are part of a character only are left out, so
    that of a vocabulary of bytes only ASCII remains. What may follow a prefix is remembered.
    """

    def __init__(self, pattern: str, pieces: Sequence[bytes], size: int, end: int | None) -> None:
        self.pattern, self.size, self.end = compiled(pattern), size, end
        self.pieces = [_whole(piece) for piece in pieces]
        self.known: dict[str, Tensor] = {}
        self.beginning: dict[str, list[int]] = defaultdict(list)  # by the first character
        for i, piece in enumerate(self.pieces):
            if piece:
                self.beginning[piece[0]].append(i)

    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        rows = zip(x.tolist(), start.tolist(), strict=True)
        return torch.stack([self.after("".join(self.pieces[i] for i in row[begin:])) for row, begin in rows])

    def after(self, text: str) -> Tensor:
        """(V,) True for the symbols that may follow."""
        if text not in self.known:
            if len(self.known) * self.size >= KEPT:
                self.known.clear()
            self.known[text] = self._after(text)
        return self.known[text]

    def _after(self, text: str) -> Tensor:
        may = torch.zeros(self.size, dtype=torch.bool)
        for char, symbols in self.beginning.items():
            if self.possible(text + char):
                may[[i for i in symbols if len(self.pieces[i]) == 1 or self.possible(text + self.pieces[i])]] = True
        whole = self.matches(text)
        if self.end is not None:
            may[self.end] = whole
        if not whole and not may.any():
            raise DataError(
                "no sample can match the regular expression",
                where=self.pattern.pattern,
                why=f"no symbol of this model can follow {text!r}",
                fix="use characters of the training data; no beginning of a match may need others",
            )
        return may

    def possible(self, text: str) -> bool:
        """Whether it begins a text that matches."""
        return self.pattern.fullmatch(text, partial=True) is not None

    def matches(self, text: str) -> bool:
        return self.pattern.fullmatch(text) is not None


def _whole(piece: bytes) -> str:
    """The text of a symbol, or nothing if it is only a part of one."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return ""


def compiled(pattern: str) -> Any:
    try:
        import regex
    except ImportError:
        raise EnvironmentFault(
            "regular expressions need the package regex", why="it is not installed", fix='pip install "quintet[text]"'
        ) from None
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise UsageError("not a regular expression", where=pattern, why=str(error)) from None


def together(*constraints: Constraint | None) -> Constraint | None:
    """What all of them allow, or None where there are none."""
    given = [each for each in constraints if each is not None]
    if len(given) < 2:
        return given[0] if given else None

    def both(x: Tensor, start: Tensor) -> Tensor:
        return torch.stack([each(x, start) for each in given]).all(0)

    return both
