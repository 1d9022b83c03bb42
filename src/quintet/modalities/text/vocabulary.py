"""Texts <-> symbols: characters, bytes and byte pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from quintet.core.errors import EnvironmentFault

UNKNOWN = "\ufffd"


CODE_POINTS = 0x110000
"""Of Unicode: those that training lacks share the mass of one symbol evenly."""


RAREST_PAIR = 4
"""A byte pair that occurs less often in the training texts is no symbol of its own."""


class Characters:
    """The training split's characters in the order of their code points, from 1 on; 0 is any other one, U+FFFD."""

    unseen: int | None = 0
    joins_blanks = False

    def __init__(self, alphabet: str) -> None:
        self.alphabet, self.size = alphabet, len(alphabet) + 1
        self.points = _points(alphabet)

    @classmethod
    def learn(cls, texts: Sequence[str]) -> Characters:
        return cls("".join(sorted(set().union(*map(set, texts)))))

    def encode(self, text: str) -> np.ndarray:
        points = _points(text)
        at = np.searchsorted(self.points, points).clip(max=len(self.points) - 1)
        return np.where(self.points[at] == points, at + 1, 0).astype(np.int64)

    def decode(self, symbols: Sequence[int]) -> str:
        chars = UNKNOWN + self.alphabet
        return "".join(chars[i] for i in symbols)

    def pieces(self) -> list[bytes]:
        return [char.encode("utf-8", "replace") for char in UNKNOWN + self.alphabet]

    def to_json(self) -> Any:
        return self.alphabet


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Bytes:
    """UTF-8. Bytes that are none decode to U+FFFD; lone surrogates, which have no UTF-8, are encoded as `?`."""

    size = 256
    unseen: int | None = None
    joins_blanks = False

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64)

    def decode(self, symbols: Sequence[int]) -> str:
        return bytes(symbols).decode("utf-8", "replace")

    def pieces(self) -> list[bytes]:
        return [bytes([i]) for i in range(256)]

    def to_json(self) -> Any:
        return None


class BytePairs:
    """Byte-level byte pair encoding (Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019), by `tokenizers`."""

    unseen: int | None = None
    joins_blanks = True

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self.tokenizer = _tokenizers().Tokenizer.from_str(json.dumps(state))
        self.size: int = self.tokenizer.get_vocab_size()

    @classmethod
    def learn(cls, texts: Sequence[str], size: int) -> BytePairs:
        """At most `size` symbols; a pair is merged if it occurs RARE times or more. A Chinese character is a word of
        its own, as in BERT: a sentence without spaces would else become few long symbols that occur once.
        """
        lib = _tokenizers()
        before = lib.pre_tokenizers
        tokenizer = lib.Tokenizer(lib.models.BPE())
        alone = before.Split(lib.Regex(r"\p{Han}"), "isolated")
        tokenizer.pre_tokenizer = before.Sequence([alone, before.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = lib.decoders.ByteLevel()
        trainer = lib.trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=RAREST_PAIR,
            initial_alphabet=before.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator((piece for text in texts for piece in pieces_of(utf8(text))), trainer)
        return cls(json.loads(tokenizer.to_str()))

    def encode(self, text: str) -> np.ndarray:
        parts = [np.array(self.tokenizer.encode(piece).ids, dtype=np.int64) for piece in pieces_of(utf8(text))]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def decode(self, symbols: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(symbols)))

    def pieces(self) -> list[bytes]:
        """Each character of a token stands for one byte: itself if it can be printed, else one from 256 on."""
        printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = (i for i in range(256) if i not in printed)
        byte = {chr(i): i for i in printed} | {chr(256 + n): i for n, i in enumerate(others)}
        tokens = map(self.tokenizer.id_to_token, range(self.size))
        return [bytes(byte[char] for char in token) for token in tokens]

    def to_json(self) -> Any:
        return self.state


PIECE_CHARACTERS = 2**16
"""Characters that byte pairs are made of at once: the tokenizer keeps some 200 bytes of notes on each of them."""


BETWEEN = re.compile(r"(?<=\S)(?=[ \n])|(?<=[\u4e00-\u9fff])")
"""Where two byte pairs always part: before a blank or a line's end behind a word, and behind a Chinese character."""


def pieces_of(text: str) -> Iterator[str]:
    """A text in pieces of about PIECE characters whose byte pairs, joined, are those of the whole. A word that is
    longer than eight of them is cut all the same.
    """
    start = 0
    while start < len(text):
        found = BETWEEN.search(text, start + PIECE_CHARACTERS, start + 8 * PIECE_CHARACTERS)
        end = (
            found.start()
            if found
            else start + (8 * PIECE_CHARACTERS if len(text) - start > 8 * PIECE_CHARACTERS else len(text))
        )
        yield text[start:end]
        start = end


def utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise EnvironmentFault(
            "byte pairs need the package tokenizers",
            why="it is not installed",
            fix='pip install "quintet[text]", or use --coding.tokens characters (of a condition: --given.tokens)',
        ) from None
    return tokenizers
