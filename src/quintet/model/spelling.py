"""Text while it is made: pieces as they come, stop texts that end it, regular expressions that it must match."""

from __future__ import annotations

import codecs
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

import torch
from torch import Tensor

from quintet.core.errors import DataError, EnvironmentFault, UsageError
from quintet.nets.continuing import Constraint

KEPT = 2**22
"""Symbols of the beginnings of texts whose state in an automaton is remembered."""


class Speller:
    """Symbols -> text, as soon as it is certain: a character whose bytes are not all there waits, and so does what may
    be the beginning of a stop text. `done` behind a stop text, which is left out. Behind the symbol `end`, or a
    negative one, nothing counts.
    """

    def __init__(self, pieces: Sequence[bytes], stops: Sequence[str] = (), end: int | None = None) -> None:
        self.pieces, self.stops, self.end = pieces, tuple(stops), end
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.waiting, self.done = "", False

    def __call__(self, symbols: Sequence[int], *, final: bool = False) -> str:
        """The text that these add."""
        if self.done:
            return ""
        new = takewhile(lambda symbol: symbol >= 0 and symbol != self.end, symbols)
        self.waiting += self.decoder.decode(b"".join(self.pieces[i] for i in new), final)
        found = before_stop(self.waiting, self.stops)
        if found is not None:
            self.done, out = True, found
        else:
            keep = 0 if final else _begun(self.waiting, self.stops)
            out, self.waiting = self.waiting[: len(self.waiting) - keep], self.waiting[len(self.waiting) - keep :]
        return out


def before_stop(text: str, stops: Sequence[str]) -> str | None:
    """What stands before the first of the stop texts, or None where there is none."""
    at = [index for stop in stops if (index := text.find(stop)) >= 0]
    return text[: min(at)] if at else None


def _begun(text: str, stops: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a stop text."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


# -- what may come next ----------------------------------------------------------------------------------------------


class StopTexts:
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


class Begin:
    """The new part of a row begins with these bytes, whole in its first symbol."""

    def __init__(self, pieces: Sequence[bytes], beginning: bytes, size: int) -> None:
        self.first = torch.zeros(size, dtype=torch.bool)
        self.first[: len(pieces)] = torch.tensor([piece.startswith(beginning) for piece in pieces])

    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        fresh = (start == x.shape[1]).cpu()
        return self.first | ~fresh[:, None]


class Regex:
    """The new part of a row matches a regular expression, whatever it takes: no row gets into a dead end.

    The package outlines_core turns the expression and the symbols (characters, bytes or byte pairs) into a finite
    automaton over symbols. Its states know how many symbols the shortest way to a match takes; a symbol is allowed
    where as many places are left behind it, and the end symbol behind a whole match only. Where nothing may follow a
    match, the row ends.

    `places(start) -> how many symbols a row may have whose new part begins at `start``.
    Raises UsageError for what is no regular expression, DataError where no text of this model can match it.
    """

    def __init__(self, pattern: str, pieces: Sequence[bytes], size: int, end: int | None,
                 places: Callable[[int], int]) -> None:  # fmt: skip
        self.pattern, self.size, self.end, self.places = pattern, size, end, places
        self.moves, self.initial, self.finals = automaton(pattern, pieces, size)
        self.distance = distances(self.moves, self.finals)
        if self.initial not in self.distance:
            raise DataError(
                "no sample can match the regular expression",
                where=pattern,
                why="every match contains characters that the model cannot write",
                fix="use only characters that occur in the training data",
            )
        self.needed: dict[int, Tensor] = {}
        self.known: dict[tuple[int, ...], int | None] = {}

    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        rows = zip(x.tolist(), start.tolist(), strict=True)
        return torch.stack([self.after(row[begin:], self.places(begin)) for row, begin in rows])

    def after(self, new: Sequence[int], places: int) -> Tensor:
        """(V,) True for the symbols that may follow, where the new part may have `places` symbols."""
        state = self.state(new)
        may = torch.zeros(self.size, dtype=torch.bool)
        if state is None:  # only where another constraint forced a symbol that cannot match
            return may
        if not new and self.distance[state] > places:
            raise UsageError(
                f"a matching text needs at least {self.distance[state]} symbols, but only {places} can be written",
                where=self.pattern,
                fix="allow a larger length, or give a shorter prompt or regular expression",
            )
        may[: len(self.need(state))] = self.need(state) < places - len(new)
        if self.end is not None:
            may[self.end] = state in self.finals
        return may

    def need(self, state: int) -> Tensor:
        """(V,) of each symbol how many must follow it at least; more than there can be where it leads nowhere."""
        if state not in self.needed:
            need = torch.full((self.size,), torch.iinfo(torch.long).max)
            for symbol, to in self.moves.get(state, {}).items():
                if to in self.distance:
                    need[symbol] = self.distance[to]
            self.needed[state] = need
        return self.needed[state]

    def state(self, new: Sequence[int]) -> int | None:
        """Where these symbols lead to, or None: nothing that begins with them matches."""
        key = tuple(new)
        if not key:
            return self.initial
        if key not in self.known:
            before = self.state(key[:-1]) if len(key) == 1 or key[:-1] in self.known else self._walk(key[:-1])
            if len(self.known) * len(key) >= KEPT:
                self.known.clear()
            self.known[key] = None if before is None else self.moves.get(before, {}).get(key[-1])
        return self.known[key]

    def _walk(self, symbols: Sequence[int]) -> int | None:
        state: int | None = self.initial
        for symbol in symbols:
            state = None if state is None else self.moves.get(state, {}).get(symbol)
        return state

    def matches(self, symbols: Sequence[int]) -> bool:
        """Whether the text of these symbols is a match."""
        return self._walk(symbols) in self.finals


def automaton(pattern: str, pieces: Sequence[bytes], size: int) -> tuple[dict[int, dict[int, int]], int, set[int]]:
    """(moves: state -> symbol -> state, the first state, those where a match is whole) of a pattern over pieces."""
    try:
        from outlines_core import Index, Vocabulary
    except ImportError:
        raise EnvironmentFault(
            "regular expressions need the package outlines_core",
            why="it is not installed",
            fix='pip install "quintet[text]"',
        ) from None
    symbols: dict[bytes, list[int]] = defaultdict(list)
    for i, piece in enumerate(pieces):
        if piece:
            symbols[piece].append(i)
    for byte in range(256):  # the package refuses a pattern of which some part cannot be spelt, though others can
        symbols[bytes([byte])].append(size + 1 + byte)
    try:
        index = Index(pattern, Vocabulary(size, dict(symbols)))
    except ValueError as error:
        why = "it has an error, or it uses look-around or back-references, which need more than a finite automaton"
        fix = "use classes such as [a-z], choices such as (a|b), and repeats such as * + ? {2,5}"
        raise UsageError("this regular expression cannot guide a text", where=pattern, why=why, fix=fix) from error
    moves = {
        state: {symbol: to for symbol, to in reached.items() if symbol < size}
        for state, reached in index.get_transitions().items()
    }
    return moves, index.get_initial_state(), set(index.get_final_states())


def distances(moves: Mapping[int, Mapping[int, int]], finals: set[int]) -> dict[int, int]:
    """Of each state from which a match can be reached, how many symbols the shortest way takes."""
    back: dict[int, set[int]] = defaultdict(set)
    for state, reached in moves.items():
        for to in reached.values():
            back[to].add(state)
    found, border, far = dict.fromkeys(finals, 0), set(finals), 0
    while border:
        far += 1
        border = {before for state in border for before in back[state]} - found.keys()
        found |= dict.fromkeys(border, far)
    return found


def together(*constraints: Constraint | None) -> Constraint | None:
    """What all of them allow, or None where there are none."""
    given = [each for each in constraints if each is not None]
    if len(given) < 2:
        return given[0] if given else None

    def both(x: Tensor, start: Tensor) -> Tensor:
        return torch.stack([each(x, start) for each in given]).all(0)

    return both
