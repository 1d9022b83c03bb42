"""How the cells of rows stand in a space: as symbols, or as normal numbers and bits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quintet.core.codec import Representation
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.data.arrow import Floats
from quintet.modalities.table.columns import Column
from quintet.modalities.table.pieces import row_hash, uniforms

FURTHEST = 8.0
"""|z| of a normal number is at most this when decoded, whatever a model gives."""
Units = tuple[Floats, NDArray[np.bool_]]
"""Cells as numbers, and which are null."""


class RowRepresentation(Representation, ABC):
    """The cells (N, parts) of the parts of columns <-> x: what stands for each part beside that of the one before."""

    groups: bool
    """Whether categories beyond the most frequent share symbols."""

    def fit(self, columns: Sequence[Column]) -> None:
        self.parts = tuple(part for column in columns for part in column.parts or (column,))
        self.space = self._space()

    @abstractmethod
    def _space(self) -> Space:
        """Of all parts."""

    @abstractmethod
    def width(self, part: Column) -> int:
        """How many entries of x stand for a part."""

    @abstractmethod
    def log_det(self, cells: Units, x: NDArray) -> Floats:
        """(N,) log p(cells) - log p(x): sum_c log w_c(cell), less that of what stands for it in x."""

    def spread(self, known: NDArray[np.bool_]) -> Tensor:
        """known (N, parts) -> (N, *space.shape): what stands for a cell is known if the cell is."""
        return torch.from_numpy(np.repeat(known, [self.width(part) for part in self.parts], 1))

    def _each(self, x: NDArray) -> Iterator[tuple[Column, NDArray]]:
        """Each part and what stands for it."""
        ends = np.cumsum([self.width(part) for part in self.parts])
        return zip(self.parts, np.split(x, ends[:-1], 1), strict=True)


class RowSymbols(RowRepresentation):
    """Discrete: the bin of each cell, and in some columns the part of that bin."""

    kind, groups = "discrete", True

    def _space(self) -> Space:
        sizes = tuple(size for part in self.parts for size in part.sizes)
        shares = tuple(share for part in self.parts for share in part.shares)
        return Discrete((len(sizes),), max(sizes), sizes, shares=shares)

    def width(self, part: Column) -> int:
        return len(part.sizes)

    def encode(self, cells: Units) -> Tensor:
        (units, null), rows, out = cells, hashed(cells), list[NDArray[np.int64]]()
        for i, part in enumerate(self.parts):
            out += part.encode(units[:, i], null[:, i], uniforms(rows, part.pieces.salt))
        return torch.from_numpy(np.stack(out, 1))

    def log_det(self, cells: Units, x: NDArray) -> Floats:
        (units, null), total = cells, np.zeros(len(x))
        for i, (part, symbols) in enumerate(self._each(x)):
            total += part.log_inside(units[:, i], null[:, i], symbols[:, 0])
        return total

    def decode(self, x: Tensor) -> list[Units]:
        symbols = x.detach().cpu().flatten(1).numpy()
        rows = row_hash(symbols)
        return [part.decode(own, uniforms(rows, part.pieces.salt)) for part, own in self._each(symbols)]


class NormalScores(RowRepresentation):
    """Continuous: z = Phi^-1(F(x)) of a number; the bits +-1 of a category, or of a number of few values; and one more
    of whether the cell is null.
    """

    kind, groups = "continuous", False

    def _space(self) -> Space:
        widths = [w for c in self.parts for w in (*[2.0] * c.bits, *[0.0] * (not c.bits), *[2.0] * c.nulls)]
        shares = tuple(share for part in self.parts for share in part.bit_shares)
        if not any(widths):
            return Continuous((len(widths),))
        groups = tuple(size for c in self.parts for size in (c.bits or 1, *[1] * c.nulls))
        return Continuous((len(widths),), widths=tuple(widths), shares=shares, groups=groups)

    def width(self, part: Column) -> int:
        return (part.bits or 1) + part.nulls

    def encode(self, cells: Units) -> Tensor:
        (units, null), rows = cells, hashed(cells)
        out = np.empty((len(units), *self.space.shape), np.float32)
        for i, (part, own) in enumerate(self._each(out)):  # views
            u = uniforms(rows, part.pieces.salt)
            if part.bits:
                own[:, : part.bits] = part.to_bits(part.pattern(units[:, i], null[:, i], u))
            else:
                start, width = part.pieces.interval(units[:, i])
                own[:, 0] = normal_quantile(np.where(null[:, i], u, start + u * width))
            if part.nulls:
                own[:, -1] = null[:, i] * 2.0 - 1
        return torch.from_numpy(out)

    def log_det(self, cells: Units, x: NDArray) -> Floats:
        (units, null), rows, total = cells, hashed(cells), np.zeros(len(x))
        for i, (part, own) in enumerate(self._each(x)):
            missing, pieces = null[:, i], part.pieces
            inside = np.where(missing, 0.0, pieces.log_weight(units[:, i]))
            if part.bits:  # a null's bits are drawn: all patterns of them are the same cell
                symbol = part.pattern(units[:, i], missing, uniforms(rows, pieces.salt))
                total += inside - np.log(pieces.weight[symbol]) + part.bits * math.log(2)
            else:
                total += inside + 0.5 * own[:, 0].astype(np.float64) ** 2 + 0.5 * math.log(2 * math.pi)
            total += part.nulls * math.log(2)
        return total

    def decode(self, x: Tensor) -> list[Units]:
        values = x.detach().cpu().flatten(1).float().nan_to_num(0.0, FURTHEST, -FURTHEST).numpy()
        rows, out = row_hash(values.view(np.int32)), list[Units]()
        for part, own in self._each(values):
            if part.bits:
                units = part.pieces.draw(part.from_bits(own[:, : part.bits]), uniforms(rows, part.pieces.salt))
            else:
                z = torch.from_numpy(own[:, 0].astype(np.float64).clip(-FURTHEST, FURTHEST))
                units = part.pieces.quantile(torch.special.ndtr(z).numpy())
            out.append((units, own[:, -1] > 0 if part.nulls else np.zeros(len(own), bool)))
        return out


def hashed(cells: Units) -> NDArray[np.uint64]:
    """A number of each row, which is equal for equal rows: what is drawn for a cell is drawn by it."""
    units, null = cells
    return row_hash(np.where(null, 0.0, units).view(np.int64))


def normal_quantile(u: Floats) -> Floats:
    """Phi^-1, finite."""
    return torch.special.ndtri(torch.from_numpy(u.clip(1e-12, 1 - 1e-12))).numpy()
