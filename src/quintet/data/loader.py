"""Batches as a pure function of (seed, cursor)."""

from __future__ import annotations

import torch
from torch import Tensor

from quintet.core.family import Batch
from quintet.core.random import Rows, seed_of
from quintet.core.spaces import Continuous, Space


class Loader:
    """Encoded data as one resident tensor, shuffled anew every epoch.

    The stream of samples is epoch after epoch, each a permutation that depends on (seed, epoch) alone; the cursor
    counts global samples, so neither the number of ranks nor the size of a micro-batch changes what a step sees.
    Quantised data are dequantised here, with noise that belongs to the sample's place in the stream.
    """

    def __init__(self, space: Space, x: Tensor, cond: Tensor | None, *, seed: int, stream: bool = False) -> None:
        self.space, self.x, self.cond, self.seed, self.stream = space, x, cond, seed, stream
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.x)

    def order(self, epoch: int) -> Tensor:
        """The permutation of this epoch."""
        if epoch not in self._orders:  # two epochs are kept: a batch may span them
            generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
            kept = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders = kept | {epoch: torch.randperm(len(self), generator=generator).to(self.x.device)}
        return self._orders[epoch]

    def indices(self, cursor: int, count: int) -> Tensor:
        """The items at cursor ... cursor + count of the endless stream."""
        epoch, at = divmod(cursor, len(self))
        if at + count <= len(self):
            return self.order(epoch)[at : at + count]
        parts = []
        while count:
            epoch, at = divmod(cursor, len(self))
            part = self.order(epoch)[at : at + count]
            parts.append(part)
            cursor, count = cursor + len(part), count - len(part)
        return torch.cat(parts)

    def batch(self, cursor: int, start: int, count: int, total: int, *, stream: str = "") -> Batch:
        """Rows start ... start + count of the step's global batch of `total` samples, which begins at `cursor`."""
        index = self.indices(cursor + start, count)
        x = self.windows(index, cursor + start) if self.stream else self.x[index]
        if isinstance(self.space, Continuous) and self.space.levels:
            x = self.space.dequantise(x, Rows(("dequantise", self.seed, cursor), start, count, block=total))
        cond = None if self.cond is None else self.cond[index]
        return Batch(x, cond, Rows((stream, self.seed, cursor), start, count, block=total))

    def windows(self, index: Tensor, cursor: int) -> Tensor:
        """Windows of one long text: their common offset changes with the epoch, so that every cut is seen."""
        length, flat = self.x.shape[1], self.x.view(-1)
        epochs = [(cursor + i) // len(self) for i in range(len(index))]
        offset = {epoch: seed_of("offset", self.seed, epoch) % length for epoch in set(epochs)}
        start = index * length + torch.tensor([offset[epoch] for epoch in epochs], device=flat.device)
        return flat[(start[:, None] + torch.arange(length, device=flat.device)) % len(flat)]
