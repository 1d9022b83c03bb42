"""Batches as a pure function of (seed, cursor)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from quintet.core.codec import Codec
from quintet.core.family import Batch
from quintet.core.random import Rows, seed_of, some
from quintet.core.spaces import Continuous, Space
from quintet.data.dataset import release, take

RESIDENT = 2**29
"""Bytes up to which encoded data stay in memory; above, raw items are encoded as a batch needs them."""
SOME = 2**25
"""Bytes of encoded items that `some` gives at most: what is measured on a few items must not fill the memory."""


class Items:
    """Raw items, encoded: `items[index]` is (B, *space.shape), as one resident tensor where they are few."""

    def __init__(self, codec: Codec, raw: Any, device: torch.device) -> None:
        self.codec, self.raw, self.device = codec, raw, device
        bytes_each = codec.space.dims * (4 if isinstance(codec.space, Continuous) else 8)
        self.largest = max(256, SOME // bytes_each)
        small = codec.stream or len(raw) * bytes_each <= RESIDENT  # windows have no raw item of their own
        self.resident: Tensor | None = self.encoded() if small else None

    def __len__(self) -> int:
        return len(self.raw if self.resident is None else self.resident)

    def encoded(self) -> Tensor:
        """All of them. Images in pieces, since what a codec computes with is several times as large."""
        if not isinstance(self.raw, np.ndarray) or len(self.raw) <= self.largest:
            return self.codec.encode(self.raw).to(self.device)
        pieces = [self.raw[start : start + self.largest] for start in range(0, len(self.raw), self.largest)]
        first = self.codec.encode(pieces[0])
        whole = torch.empty((len(self.raw), *first.shape[1:]), dtype=first.dtype, device=self.device)
        for number, piece in enumerate(pieces):
            start = number * self.largest
            whole[start : start + len(piece)] = first if number == 0 else self.codec.encode(piece)
        release(self.raw)
        return whole

    def __getitem__(self, index: Tensor) -> Tensor:
        if self.resident is not None:
            return self.resident[index]
        return self.codec.encode(take(self.raw, index.cpu().numpy())).to(self.device)

    def cut(self, index: Tensor, shift: int) -> Tensor:
        """The same, cut as `Codec.cut` says."""
        return self[index] if self.resident is None else self.codec.cut(self.resident, index, shift)

    def drawn(self, count: int, seed: int = 0) -> Tensor:
        """The indices of at most `count` of them, and of at most `SOME` bytes, drawn by `seed`."""
        return torch.from_numpy(some(len(self), min(count, self.largest), seed)).to(self.device)

    def lengths(self) -> Tensor | None:
        """(N,) symbols before the padding of each, or None where there is none, or too many items to look."""
        pad = getattr(self.codec.space, "pad", None)
        return None if pad is None or self.resident is None else (self.resident != pad).flatten(1).sum(1)


def lengths(x: Items, cond: Items | None) -> Tensor | None:
    """(N,) how long items and conditions are together, where any of them has a length of its own."""
    known = [each for each in (x.lengths(), None if cond is None else cond.lengths()) if each is not None]
    return torch.stack(known).sum(0) if known else None


BUCKET = 64
"""Batches that are sorted by length together: enough that a batch is even, few enough that it is random."""


class Loader:
    """Encoded data, shuffled anew every epoch.

    The stream of samples is epoch after epoch, each a permutation that depends on (seed, epoch) alone; the cursor
    counts global samples, so neither the number of ranks nor the size of a micro-batch changes what a step sees.
    With `noisy`, quantised data are dequantised here, by noise that belongs to the sample's place in the stream.

    With `lengths` (N,) a batch of `group` samples holds items of similar length, so that little of it is padding; an
    epoch then leaves out what does not fill a batch, each time something else.

    Where a codec can cut its items in several ways (windows of a long text), every epoch has another one.
    """

    def __init__(
        self,
        space: Space,
        x: Tensor | Items,
        cond: Tensor | Items | None,
        *,
        seed: int,
        lengths: Tensor | None = None,
        group: int = 1,
        noisy: bool = True,
    ) -> None:
        self.space, self.x, self.cond, self.seed = space, x, cond, seed
        self.noisy = noisy and isinstance(space, Continuous) and space.quantised
        self.lengths, self.group = (lengths, group) if group <= len(x) else (None, 1)
        self.period = len(x) if self.lengths is None else len(x) // group * group
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.x)

    def order(self, epoch: int) -> Tensor:
        """The permutation of this epoch."""
        if epoch not in self._orders:  # two epochs are kept: a batch may span them
            generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
            kept = {e: order for e, order in self._orders.items() if e == epoch - 1}
            order = torch.randperm(len(self), generator=generator)
            if self.lengths is not None:
                order = self.bucketed(order[: self.period], self.lengths, generator)
            self._orders = kept | {epoch: order.to(self.x.device)}
        return self._orders[epoch]

    def bucketed(self, order: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """The same items: sorted by length within every `BUCKET` batches, and these batches in a random order."""
        parts = order.split(BUCKET * self.group)
        batches = torch.cat([part[lengths.cpu()[part].argsort(stable=True)] for part in parts]).view(-1, self.group)
        return batches[torch.randperm(len(batches), generator=generator)].flatten()

    def parts(self, cursor: int, count: int) -> list[tuple[int, Tensor]]:
        """The items at cursor ... cursor + count of the endless stream: each epoch that they are of, and its items."""
        found: list[tuple[int, Tensor]] = []
        while count or not found:
            epoch, at = divmod(cursor, self.period)
            part = self.order(epoch)[at : at + count]
            found.append((epoch, part))
            cursor, count = cursor + len(part), count - len(part)
        return found

    def batch(self, cursor: int, start: int, count: int, total: int, *, stream: str = "") -> Batch:
        """Rows start ... start + count of the step's global batch of `total` samples, which begins at `cursor`."""
        parts = self.parts(cursor + start, count)
        x, index = joined([self.rows(part, epoch) for epoch, part in parts]), joined([part for _, part in parts])
        if self.noisy:
            assert isinstance(self.space, Continuous)
            x = self.space.dequantise(x, Rows(("dequantise", self.seed, cursor), start, count, block=total))
        cond = None if self.cond is None else self.cond[index]
        return Batch(x, cond, Rows((stream, self.seed, cursor), start, count, block=total))

    def rows(self, index: Tensor, epoch: int) -> Tensor:
        """These items, cut as they are in this epoch."""
        return self.x[index] if isinstance(self.x, Tensor) else self.x.cut(index, seed_of("offset", self.seed, epoch))


def joined(parts: list[Tensor]) -> Tensor:
    """One tensor of them all."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
