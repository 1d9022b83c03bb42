"""Short sequences packed several to a row, and the mask that keeps them apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Where each symbol of a batch (B, L) is, flattened, in packed rows (R, length), and the way back.

    index (R, length): the place in the flattened batch (0 in gaps); documents (R, length): the sequence it belongs to,
    -1 in gaps; back (N,): the places in the flattened rows of all symbols, sequence by sequence.
    """

    index: Tensor
    documents: Tensor
    back: Tensor


@dataclass(frozen=True)
class Present:
    """The places (N,) of a flattened batch (B, L) that hold something."""

    shape: tuple[int, int]
    places: Tensor

    def rows(self, h: Tensor) -> Tensor:
        """h (B, L, width) -> (N, width)."""
        return h.flatten(0, 1).index_select(0, self.places)

    def spread(self, h: Tensor) -> Tensor:
        """(N, width) -> (B, L, width), with zeros where nothing is."""
        empty = h.new_zeros(self.shape[0] * self.shape[1], h.shape[1])
        return empty.index_copy_(0, self.places, h).unflatten(0, self.shape)


def present(there: Tensor) -> Present | None:
    """What is `there` (B, L) of a batch; None if that is all, or where a graph is made that must not depend on it."""
    if torch.compiler.is_exporting() or bool(there.all()):
        return None
    return Present((there.shape[0], there.shape[1]), there.flatten().nonzero()[:, 0])


def pack(lengths: Tensor, width: int) -> Packed:
    """Sequences of a batch (B, width) with these `lengths` (B,) in rows as long as the longest, longest first, each in
    the first row that has room.
    """
    sizes = lengths.tolist()
    length = max(sizes)
    free: list[int] = []
    place = [(0, 0)] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        row = next((row for row, room in enumerate(free) if room >= sizes[i]), len(free))
        if row == len(free):
            free.append(length)
        place[i] = (row, length - free[row])
        free[row] -= sizes[i]
    starts = torch.tensor([row * length + at for row, at in place])
    document = torch.repeat_interleave(torch.arange(len(sizes)), lengths.cpu())
    step = torch.arange(len(document)) - (lengths.cpu().cumsum(0) - lengths.cpu())[document]
    back = starts[document] + step
    index = torch.zeros(len(free) * length, dtype=torch.long)
    documents = torch.full_like(index, -1)
    index[back], documents[back] = document * width + step, document
    shape, device = (len(free), length), lengths.device
    return Packed(index.view(shape).to(device), documents.view(shape).to(device), back.to(device))


def document_mask(documents: Tensor) -> Tensor:
    """(R, 1, L, L) for packed rows: True for a symbol itself and those before it of the same document (R, L)."""
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    return ((documents[:, :, None] == documents[:, None, :]) & causal)[:, None]
