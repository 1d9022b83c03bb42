"""Text <-> windows of characters as symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from torch import Tensor

from quintet.core.codec import Codec
from quintet.core.errors import DataError, Unsupported
from quintet.core.likelihood import Measure
from quintet.core.spaces import Discrete


class TextCodec(Codec):
    """Strings -> (N, block) symbols: the texts are joined and cut into windows of `block` characters.

    Symbol 0 stands for characters that the training split does not have; it decodes to U+FFFD.
    """

    name = "text"
    measure: Measure = "mass"

    def __init__(self, face: Literal["continuous", "discrete"] = "discrete", block: int = 64) -> None:
        if face != "discrete":
            raise Unsupported("text has no continuous face yet", fix="use the autoregressive family")
        self.block, self.alphabet = block, ""

    def fit(self, items: Any) -> Self:
        self.alphabet = "".join(sorted(set().union(*map(set, items))))
        if not self.alphabet:
            raise DataError("no text to learn from")
        self._set_space()
        return self

    def _set_space(self) -> None:
        self.dims = self.block
        self.space = Discrete((self.block,), len(self.alphabet) + 1)

    def encode(self, items: Any) -> Tensor:
        index = {char: i + 1 for i, char in enumerate(self.alphabet)}
        stream = torch.tensor([index.get(char, 0) for text in items for char in text], dtype=torch.long)
        count = len(stream) // self.block
        if not count:
            raise DataError(f"the text is shorter than one window of {self.block} characters")
        return stream[: count * self.block].view(count, self.block)

    def decode(self, x: Tensor) -> list[str]:
        chars = "\ufffd" + self.alphabet
        return ["".join(chars[i] for i in row) for row in x.tolist()]

    def to_json(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "block": self.block}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(block=data["block"])
        codec.alphabet = data["alphabet"]
        codec._set_space()
        return codec
