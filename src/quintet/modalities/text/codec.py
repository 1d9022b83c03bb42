"""Texts <-> characters, bytes or byte pairs as symbols, or as analog bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from quintet.core.codec import Codec, Encoded, RepresentationKind, Vocabulary, digest
from quintet.core.errors import DataError, warn
from quintet.core.likelihood import Measure
from quintet.modalities.representations import Bits, SymbolRepresentation, Symbols
from quintet.modalities.text.vocabulary import CODE_POINTS, BytePairs, Bytes, Characters, utf8

HOLE = "\u2588"
"""This character (a full block) stands for one lost symbol in a text that is to be completed."""
WINDOW = 64
"""Symbols of a window of a long text, unless `window` or `block` says otherwise."""
LONGEST = 256
"""Symbols of the longest separate text, unless `block` says otherwise."""
PARTS = 64
"""A text has so many windows at least: its held-out splits are an eighth of it or less, and must have some too."""
FEW = 32
"""Fewer texts than this are long documents, to be cut into windows."""


# -- vocabularies ----------------------------------------------------------------------------------------------------


# -- the codec -------------------------------------------------------------------------------------------------------


class TextCodec(Codec):
    """Strings <-> `block` symbols each.

    `items`: in a `stream` the texts are joined and cut into windows; `separate` texts are an item each, closed by the
    end symbol, which also fills the rest (`Discrete.pad`); what is longer than `block` is cut off.

    discrete: the symbols, (block,). continuous: analog bits (Chen et al. 2022, arXiv:2208.04202), each symbol's index
    as ceil(log2 V) values of +-1: (bits, block). What is no symbol's code decodes to the nearest one,
    argmax_v <x_t, code_v>, among those that training has: other characters come back as one of these.

    A likelihood is the mass of the whole encoded block, padding included. Several blocks may decode to one text (other
    symbols behind the end, other merges of bytes), and only the one that `encode` gives is counted: over all texts the
    masses sum to at most 1, and to 1 for a model that puts nothing on the others. `dims` is `block`: a symbol is a
    dimension, whether a character, a byte or a byte pair.
    """

    class Settings(Codec.Settings):
        tokens: Literal["characters", "bytes", "bpe"] = Field(
            "characters",
            description="the symbols of a text: characters, bytes, or pieces of words that are found in the data",
        )
        block: int | None = Field(None, ge=1, le=2**20, description="symbols of an item; none: by the data")
        window: int = Field(
            WINDOW,
            ge=1,
            le=2**20,
            description="without a block: the largest number of symbols in a window of a long text",
        )
        items: Literal["auto", "stream", "separate"] = Field(
            "auto", description="stream: windows of joined texts; separate: each text by itself"
        )
        vocab_size: int = Field(1024, ge=257, le=2**17, description="pieces of words (bpe), at most")
        joint: bool = Field(False, description="one vocabulary for the texts and a condition that is text")

    name = "text"
    wanted = "a text, a list of texts, or a column of them"
    representations = (Symbols, Bits)
    representation: SymbolRepresentation
    measure: Measure = "mass"
    vocabulary: Vocabulary

    def __init__(self, representation: RepresentationKind | None = None, settings: Any = None) -> None:
        super().__init__(representation, settings)
        self.block = 0
        self.vocabulary = Bytes()

    def learn(self, items: Any) -> Vocabulary:
        """The vocabulary of these texts."""
        texts = _texts(items)
        if not any(texts):
            raise DataError("the training texts are all empty")
        if self.settings.tokens == "characters":
            return Characters.learn(texts)
        return BytePairs.learn(texts, self.settings.vocab_size) if self.settings.tokens == "bpe" else Bytes()

    def fit(self, items: Any, vocabulary: Vocabulary | None = None) -> Self:
        """`vocabulary`: one learnt before, from these and other texts."""
        texts, self.vocabulary = _texts(items), vocabulary or self.learn(items)
        self.stream = streamed(texts, self.settings.items)
        self.block = self.settings.block or self.settings.window
        if self.stream and self.settings.block is None:
            beginning = "".join(texts)[: 8 * PARTS * self.block]  # enough for pieces of 8 letters on average
            self.block = min(self.block, max(4, len(self.vocabulary.encode(beginning)) // PARTS // 4 * 4))
        if not self.stream:
            self._measure([len(self.vocabulary.encode(text)) for text in texts])
        self._set_space()
        return self

    def _measure(self, lengths: list[int]) -> None:
        """A block that holds the longest text and its end, a multiple of 4 (nets halve it), at most LONGEST; without
        the longest hundredth of the texts, where they would make it half as long again.
        """
        if self.settings.block is None:
            usual = int(np.quantile(lengths, 0.99, method="higher")) + 1
            wanted = max(lengths) + 1 if max(lengths) < 1.5 * usual else usual
            self.block = min(LONGEST, -(-wanted // 4) * 4)
        cut = sum(length > self.block for length in lengths)
        if cut:
            warn(
                f"{cut} of {len(lengths)} texts are longer than {self.block} symbols and are cut there "
                "(--coding.block takes more)"
            )

    def _set_space(self) -> None:
        self.dims = self.block
        self.size = self.vocabulary.size + (not self.stream)  # the last symbol is the end
        self.end = None if self.stream else self.vocabulary.size
        self.representation.fit((self.block,), self.size, pad=self.end, unseen=self.vocabulary.unseen)

    # -- symbols ---------------------------------------------------------------------------------------------------

    def encode(self, items: Any) -> Tensor:
        return self.representation.encode(self._symbols(_texts(items)))

    def encoded(self, items: Any) -> Encoded:
        """Of separate texts the notes say what is cut, and which characters training lacks."""
        texts = _texts(items)
        strange = [self._strange(text) for text in texts]
        if self.stream:
            symbols, notes = self._symbols(texts), None
        else:
            each = [self.vocabulary.encode(text) for text in texts]
            symbols = self._rows(each)
            notes = tuple("; ".join(self._cut(len(row)) + told) for row, told in zip(each, strange, strict=True))
        return Encoded(self.representation.encode(symbols), self._log_volume(symbols), notes, self._space_of(strange))

    def _symbols(self, texts: list[str]) -> Tensor:
        """(B, block): windows of a stream, or a text each."""
        if not self.stream:
            return self._rows([self.vocabulary.encode(text) for text in texts])
        stream = self.vocabulary.encode("".join(texts))
        count = len(stream) // self.block
        if not count:
            raise DataError(
                f"the text is shorter than one window of {self.block} symbols",
                fix="give more text, or train with --coding.items separate or a smaller --coding.block",
            )
        return torch.from_numpy(stream[: count * self.block].reshape(count, self.block))

    def cut(self, x: Tensor, index: Tensor, shift: int) -> Tensor:
        """Windows of a long text begin up to a window later, so that in time every place is a beginning. None joins the
        end of the text to its beginning: the last one ends where the text does.
        """
        if not self.stream:
            return x[index]
        start = (index * self.block + shift % self.block).clamp(max=(len(x) - 1) * self.block)
        places = start[:, None] + torch.arange(self.block, device=x.device)
        symbols = x.movedim(-1, 1)[places // self.block, places % self.block]  # (B, block, ...)
        return symbols.movedim(1, -1).contiguous()

    def _rows(self, texts: Sequence[np.ndarray]) -> Tensor:
        """Symbols of each text, with the end behind them, or cut."""
        rows = np.full((len(texts), self.block), self.vocabulary.size, dtype=np.int64)
        for row, symbols in zip(rows, texts, strict=True):
            row[: len(symbols)] = symbols[: self.block]
        return torch.from_numpy(rows)

    def _cut(self, size: int) -> list[str]:
        """What is said of a separate text of so many symbols."""
        return [f"cut to {self.block} of {size} symbols"] if size > self.block else []

    def symbols(self, x: Tensor) -> Tensor:
        """(B, block) symbols of any x in the space."""
        return self.representation.decode(x)

    def decode(self, x: Tensor) -> list[str]:
        return [self.vocabulary.decode(self._until_end(row)) for row in self.symbols(x).tolist()]

    def _until_end(self, row: list[int]) -> list[int]:
        """Up to the end symbol."""
        return row[: row.index(self.end)] if self.end in row else row

    def log_det(self, items: Any) -> Tensor:
        return self._log_volume(self._symbols(_texts(items)))

    def _log_volume(self, symbols: Tensor) -> Tensor:
        """(B,) of rows of symbols (B, block): that of their cells, and the share of a character that training lacks in
        the mass of their symbol.
        """
        out = torch.full((len(symbols),), self.representation.log_cell, dtype=torch.float64)
        if isinstance(self.vocabulary, Characters):
            out -= symbols.eq(0).sum(1) * math.log(CODE_POINTS - len(self.vocabulary.alphabet))
        return out

    # -- whole texts -----------------------------------------------------------------------------------------------

    def _space_of(self, strange: Iterable[list[str]]) -> str:
        """Where characters of texts are replaced, what is scored depends on which the vocabulary has."""
        if not any(strange):
            return ""
        return digest({"vocabulary": self.vocabulary.alphabet if isinstance(self.vocabulary, Characters) else "UTF-8"})

    def _strange(self, text: str) -> list[str]:
        """What is said of characters that training lacks, or that have no UTF-8."""
        if isinstance(self.vocabulary, Characters):
            strange = set(text) - set(self.vocabulary.alphabet)
        else:
            strange = {char for char in text if "\ud800" <= char <= "\udfff"}
        if not strange:
            return []
        shown = "".join(sorted(strange)[:8]).encode("unicode_escape", "replace").decode()
        shown = shown if not "".join(strange).isprintable() else "".join(sorted(strange)[:8])
        return [f"{sum(char in strange for char in text)} characters are not of training ({shown})"]

    def whole(self, items: Any, *, overlap: bool = False) -> Encoded:
        """All symbols of each text, the end of a separate one too. A missing text (None), and a text of a stream
        without symbols, or without `overlap` with fewer than a row has, has no row.
        """
        texts, block = _texts(items), self.block
        strange = [self._strange(text) for text in texts]
        pieces: list[tuple[np.ndarray, tuple[int, int]]] = []
        rows, lengths, notes = [], [], []
        missing = [text is None for text in ([items] if isinstance(items, str) else items)]
        for text, told, no_text in zip(texts, strange, missing, strict=True):
            own, before = self.vocabulary.encode(text), len(pieces)
            if not self.stream and len(own) > block:
                own = np.append(own, self.end or 0)
            size = len(own)
            if no_text:
                told = ["there is no text"]
            elif self.stream and size < (1 if overlap else block):
                why = f"this model knows whole windows of {block} symbols only"
                told = ["it is empty" if overlap else f"its {size} symbols fill no window of {block}: {why}"]
            else:
                pieces += self._pieces(own, overlap)
            rows.append(len(pieces) - before)
            lengths.append(max(1, size) if self.stream else max(size, block))
            notes.append("; ".join(told))
        x = torch.from_numpy(np.stack([row for row, _ in pieces]) if pieces else np.zeros((0, block), np.int64))
        place, (first, last) = torch.arange(block), torch.tensor([new for _, new in pieces]).view(-1, 2).T
        counted = (place >= first[:, None]) & (place < last[:, None])
        longer = self.stream or max(lengths, default=0) > block
        volume = self._log_volume(x.where(counted, 1) if overlap else x)
        return Encoded(self.representation.encode(x), volume, tuple(notes), self._space_of(strange), torch.tensor(rows),
                       counted, overlap, torch.tensor(lengths) if longer else None)  # fmt: skip

    def _pieces(self, symbols: np.ndarray, overlap: bool) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        """Rows of `block` symbols, and from where to where each is new.

        `overlap`: a row that continues a text begins with the half row before it. Else rows follow one another, and of
        a stream the last one ends with its text.
        """
        block, half, size, done = self.block, max(1, self.block // 2), len(symbols), 0
        while done < size or not done:
            until = min(size, done + (half if overlap and done else block))
            start = max(0, until - block) if overlap or self.stream else done
            row = np.full(block, self.end or 0, dtype=np.int64)
            row[: until - start] = symbols[start:until]
            yield row, (done - start, until - start if self.stream else block)
            done = max(until, 1)

    def joined(self, x: Tensor, rows: Encoded) -> list[str]:
        if rows.counted is None or rows.rows is None:
            return self.decode(x)
        out: list[list[int]] = [[] for _ in rows.rows]
        for row, counted, owner in zip(self.symbols(x), rows.counted, rows.owner.tolist(), strict=True):
            out[owner] += row[counted].tolist()
        return [self.vocabulary.decode(symbols) for symbols in out]

    def extent(self, items: Any) -> dict[str, int]:
        """How much text the encoded items hold: tokens (the ends of separate texts too), characters and bytes."""
        if self.stream:
            windows = self._symbols(_texts(items))
            text = self.vocabulary.decode(windows.flatten().tolist())
            return {"tokens": windows.numel(), "characters": len(text), "bytes": len(utf8(text).encode())}
        texts = _texts(items)
        sizes = [len(self.vocabulary.encode(text)) for text in texts]
        return {
            "tokens": sum(size + (size != self.block) for size in sizes),  # a text that fills its block has no end
            "characters": sum(map(len, texts)),
            "bytes": sum(len(utf8(text).encode()) for text in texts),
        }

    # -- completion ------------------------------------------------------------------------------------------------

    def partial(self, items: Any, known: Any = None) -> tuple[Tensor, Tensor]:
        """Texts with holes. A text without holes is a prompt: what comes behind it is unknown.

        Each HOLE is one unknown symbol: a character, a byte, or a byte pair (the pieces between holes are encoded by
        themselves). Behind a text with holes the rest of a window is unknown; a separate text is known to end there.
        """
        if known is not None:
            raise DataError(
                "a mask cannot be given for a text",
                fix=f"write {HOLE} for each missing symbol, or give only the beginning of the text",
            )
        texts = _texts(items)
        symbols = torch.full((len(texts), self.block), self.end or 0)
        given = torch.zeros(len(texts), self.block, dtype=torch.bool)
        for i, text in enumerate(texts):
            parts = [self.vocabulary.encode(piece) for piece in text.split(HOLE)]
            row = np.concatenate([parts[0], *(np.insert(part, 0, -1) for part in parts[1:])])
            if len(row) > self.block:
                raise DataError(
                    f"the text has {len(row)} symbols, but the model takes at most {self.block}",
                    where=f"text {i + 1}",
                    fix="shorten the text",
                )
            at = torch.from_numpy(row)
            symbols[i, : len(row)], given[i, : len(row)] = at.clamp_min(0), at >= 0
            if self.end is not None and HOLE in text:
                given[i, len(row) :] = True
        return self.representation.encode(symbols), self.representation.spread(given)

    def fill(self, items: Any, known: Any, completed: Any) -> list[str]:
        """What was known, as it was: characters that the vocabulary lacks, and what stands behind an end that a model
        put into a hole.
        """
        whole = zip(_texts(items), completed, strict=True)
        if isinstance(self.vocabulary, Characters):
            return [_by_position(text, new) for text, new in whole]
        return [_by_pieces(text, new) for text, new in whole]

    def to_json(self) -> dict[str, Any]:
        state = {"representation": self.representation.kind, "settings": self.settings.model_dump(mode="json")}
        return state | {"stream": self.stream, "block": self.block, "vocabulary": self.vocabulary.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(data["representation"], cls.Settings(**data["settings"]))
        codec.stream = bool(data["stream"])
        codec.block, state = int(data["block"]), data["vocabulary"]
        kinds: dict[str, Callable[[], Vocabulary]] = {
            "characters": lambda: Characters(state), "bytes": Bytes, "bpe": lambda: BytePairs(state)
        }  # fmt: skip
        codec.vocabulary = kinds[codec.settings.tokens]()
        codec._set_space()
        return codec


def streamed(items: Any, choice: str = "auto") -> bool:
    """Whether texts are cut into windows: few texts or long ones, unless `TextCodec.Settings.items` says otherwise."""
    if choice != "auto":
        return choice == "stream"
    texts = _texts(items)
    return len(texts) < FEW or float(np.median([len(text) for text in texts])) > LONGEST


def _texts(items: Any) -> list[str]:
    """A missing text is encoded as the empty one."""
    texts = [items] if isinstance(items, str) else ["" if text is None else text for text in items]
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"expected a text, got {type(text).__name__}", where=f"item {i + 1}")
    return texts


def _by_position(text: str, new: str) -> str:
    """One symbol a character: every character of `text` but its holes, in its place."""
    chars = [new[i : i + 1] if char == HOLE else char for i, char in enumerate(text)]
    return "".join(chars) + new[len(text) :]


def _by_pieces(text: str, new: str) -> str:
    """The pieces between holes in their order; those that `new` lacks stand behind it."""
    first, *rest = text.split(HOLE)
    out, at = first, len(first)
    for piece in rest:
        found = new.find(piece, at)
        out += new[at : found if found >= 0 else None] + piece
        at = found + len(piece) if found >= 0 else len(new)
    return out + new[at:]
