"""Raw items <-> tensors. State is JSON and tensors, never a pickle."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quintet.core import settings
from quintet.core.errors import Unsupported
from quintet.core.family import Autoencoder
from quintet.core.likelihood import Measure
from quintet.core.spaces import Discrete, Space

RepresentationKind = Literal["continuous", "discrete"]
Preprocessing = Literal["flattened", "standardised", "symbols"]
"""What is done with encoded items before features are read off them: see `metrics.features`."""


def digest(state: Mapping[str, Any]) -> str:
    """12 digits of the sha256 of JSON, keys sorted."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Encoded:
    """Raw items in an encoded space, with all that a likelihood of them needs besides: what one pass over them finds.

    `x` (R, *space.shape). `log_det` (R,): log p(raw) = log p(x) + log_det, that is log |dx / draw|, or the log of a
    cell's volume (or its inverse). `notes` (N,): what encoding cuts off each item or replaces in it, "" for nothing;
    None where it never does. `identity` names the space that the likelihoods of these items are measured in, where
    other models may have another: 12 digits of a hash over all that decides what is kept of the items, "" where all of
    them is. Likelihoods of different identity have no common scale.

    An item that is longer than a row of x has several, one after another: `rows` (N,) says how many, None: one each.
    `counted` (R, places) bool: which places of a row count for its item, None: all. `overlapping`: the others stand in
    a row to be read before those, so that only the nats of each symbol can be summed. `lengths` (N,): dimensions of
    each item, where they differ.
    """

    x: Tensor
    log_det: Tensor
    notes: tuple[str, ...] | None = None
    identity: str = ""
    rows: Tensor | None = None
    counted: Tensor | None = None
    overlapping: bool = False
    lengths: Tensor | None = None

    @property
    def owner(self) -> Tensor:
        """(R,) which item each row is of."""
        rows = torch.ones(len(self.x), dtype=torch.long) if self.rows is None else self.rows
        return torch.arange(len(rows)).repeat_interleave(rows)

    @property
    def share(self) -> Tensor | None:
        """(R,) how much of each row counts; None: all of it."""
        return None if self.counted is None else self.counted.double().mean(1)

    def of_rows(self, each: Tensor | None) -> Tensor | None:
        """What belongs to the items (N, ...), as it belongs to the rows (R, ...)."""
        return each if each is None or self.rows is None else each[self.owner.to(each.device)]

    def total(self, values: Tensor) -> Tensor:
        """(N,) sums of values of the rows (R,), NaN for an item that has none."""
        if self.rows is None:
            return values
        total = torch.zeros(len(self.rows), dtype=torch.float64).index_add_(0, self.owner, values.double())
        return total.masked_fill(self.rows == 0, math.nan)


class Vocabulary(Protocol):
    """Text <-> symbols 0 ... size - 1. `decode` takes any symbols.

    `unseen`: the symbol of whatever training lacks, which no sample holds, or None. `joins_blanks`: whether a word and
    the blank before it are one symbol. `pieces`: the UTF-8 of each symbol, joined and decoded what `decode` gives; a
    piece may be part of a character.
    """

    size: int
    unseen: int | None
    joins_blanks: bool

    def encode(self, text: str) -> np.ndarray: ...

    def decode(self, symbols: Sequence[int]) -> str: ...

    def pieces(self) -> list[bytes]: ...

    def to_json(self) -> Any: ...


class Representation(ABC):
    """What a codec keeps of its items <-> x in a space, of real numbers or of symbols. Every codec has one object, and
    fits it when it knows how large its items are. `decode` is total: every x in the space stands for something.
    """

    kind: ClassVar[RepresentationKind]
    space: Space

    @abstractmethod
    def encode(self, kept: Any) -> Tensor:
        """x (B, *space.shape)."""

    @abstractmethod
    def decode(self, x: Tensor) -> Any:
        """What x stands for, or what is nearest to it."""


class Codec(ABC):
    """A map between raw items and an encoded space.

    `fit` sees the training split only. `decode` is total: every x in the space gives a valid item.
    """

    class Settings(settings.Settings):
        """What a user may choose of this codec; all of it has a default."""

    name: ClassVar[str]
    wanted: ClassVar[str] = ""
    """What a program may give as raw items, in words."""
    representations: ClassVar[tuple[type[Representation], ...]]
    """What it can represent items as, the preferred first: a run takes the first that its family accepts."""
    representation: Representation

    measure: Measure
    """Of which measure a likelihood is: "mass" of quantised or symbolic raw data, "density" of real raw data, "encoded"
    where the encoded space keeps less than the raw item (log-mel, latents)."""

    dims: int
    """Dimensions of a raw item, which a likelihood is divided by: pixels, characters, columns."""

    stream: bool = False
    """Whether raw items are joined and cut into windows, so that there are more encoded items than raw ones."""

    vocabulary: Vocabulary | None = None
    """What spells items that are texts; None for all others."""

    @property
    def stage(self) -> Stage | None:
        """The autoencoder below a codec of latents, which a run keeps with it; None for any other codec."""
        return None

    @property
    def takes_all(self) -> bool:
        """Whether it takes all items of its kind, whatever training had: `known` then need not be asked."""
        return True

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of what was decided about the data, in sentences."""
        return ()

    @property
    def preprocessing(self) -> Preprocessing:
        """How its encoded items are compared: as values of one unit, as columns each with its own, or as symbols."""
        return "symbols" if isinstance(self.space, Discrete) else "flattened"

    @property
    def modality(self) -> str:
        """Which kind of data raw items are."""
        return self.name

    def __init__(self, representation: RepresentationKind | None = None, settings: Any = None) -> None:
        self.settings: Any = settings or self.Settings()
        offered = {each.kind: each for each in self.offered(self.settings)}
        kind = representation or next(iter(offered))
        if kind not in offered:
            what = f"the codec {self.name} has no {kind} representation"
            raise Unsupported(what, why=f"the representations that it has are: {', '.join(offered)}")
        self.representation = offered[kind]()

    @property
    def space(self) -> Space:
        """Of its encoded items."""
        return self.representation.space

    @classmethod
    def offered(cls, settings: Any) -> tuple[type[Representation], ...]:
        """Its representations under these settings."""
        return cls.representations

    @abstractmethod
    def fit(self, items: Any) -> Self:
        """Read the constants of this codec off the training items."""

    @abstractmethod
    def encode(self, items: Any) -> Tensor:
        """(B, *space.shape)."""

    @abstractmethod
    def decode(self, x: Tensor) -> Any:
        """Raw items, as many as x has rows."""

    def encoded(self, items: Any) -> Encoded:
        """What `encode` gives, as training has it, and what a likelihood needs besides: a row an item, and of a
        stream a row a window.
        """
        notes = self.losses(items)
        return Encoded(self.encode(items), self.log_det(items), None if notes is None else tuple(notes),
                       self.identity())  # fmt: skip

    def whole(self, items: Any, *, overlap: bool = False) -> Encoded:
        """The same of whole items, which are a row each unless they may be longer than one. `overlap`: for a model
        that says the nats of each symbol given those before it, rows of one item may overlap.
        """
        return self.encoded(items)

    def cut(self, x: Tensor, index: Tensor, shift: int) -> Tensor:
        """Rows `index` (B,) of x, all that `encode` makes of some items, where these may be cut in several ways: in
        that which any whole number `shift` stands for. Otherwise, and for 0, as they are.
        """
        return x[index]

    def joined(self, x: Tensor, rows: Encoded) -> Any:
        """Raw items of x (R, *space.shape), put together as those that `encoded` or `whole` made `rows` of."""
        return self.decode(x)

    def log_det(self, items: Any) -> Tensor:
        """(B,) `Encoded.log_det` alone."""
        return torch.zeros(len(items), dtype=torch.float64)

    def known(self, items: Any) -> NDArray[np.bool_]:
        """(N,) which items hold only what training had too, where `encode` refuses or cannot tell others."""
        return np.ones(len(items), bool)

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """The values that an item can have, where it is one label and a symbol for each: None of a blank one."""
        return None

    def every(self) -> Any:
        """A raw item of each of the `labels`, as a table of one column."""
        raise Unsupported(f"items of kind {self.name} are not labels, so their values cannot be listed")

    def losses(self, items: Any) -> list[str] | None:
        """`Encoded.notes` where items are a row each."""
        return None

    def identity(self) -> str:
        """`Encoded.identity` where it does not depend on the items."""
        return digest(self.to_json()) if self.measure == "encoded" else ""

    def partial(self, items: Any, known: Any = None) -> tuple[Tensor, Tensor]:
        """Items with holes -> (x (B, *space.shape), known (B, *space.shape) bool); x is any valid value in the holes.

        What a hole is depends on the kind: a null cell or a lacking column of a table; what `known` (raw mask) says of
        an image; the rest behind a shorter text or recording (a prompt), and marked characters.
        """
        raise Unsupported(f"items of kind {self.name} cannot be completed")

    def fill(self, items: Any, known: Any, completed: Any) -> Any:
        """`completed` raw items with all that was known in `items` put back exactly."""
        return completed

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Inert state."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""


class Stage(NamedTuple):
    """What stands below a codec of latents: the codec of raw items, the autoencoder of what that encodes, and the
    configuration and the step that made it, inert.
    """

    codec: Codec
    family: Autoencoder
    recipe: Mapping[str, Any]
