"""Muon: steps of hidden matrices whose singular values are all alike (Jordan et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def hidden_matrices(module: nn.Module) -> dict[nn.Parameter, int]:
    """The matrices that map features to features, each with its number of blocks. Modules list theirs in an attribute
    `hidden_matrices`: the name of the parameter -> how many matrices it holds, one below the other, as queries and keys
    do. Embeddings and output layers, whose rows stand for symbols, are not among them.
    """
    stated = ((m, name, blocks) for m in module.modules() for name, blocks in getattr(m, "hidden_matrices", {}).items())
    return {m.get_parameter(name): blocks for m, name, blocks in stated}


@dataclass(frozen=True)
class Stack:
    """Neighbouring matrices in a flat vector that have the same shape and the same number of blocks of rows.

    The first begins at `start`, and each of the `count` matrices takes `stride` numbers: its own, and padding.
    """

    start: int
    stride: int
    count: int
    shape: torch.Size
    blocks: int

    def view(self, vector: Tensor) -> Tensor:
        """The matrices as a view (count, blocks, rows / blocks, columns) of the vector."""
        rows, columns = self.shape
        padded = vector[self.start : self.start + self.count * self.stride].view(self.count, self.stride)
        return padded[:, : rows * columns].unflatten(1, (self.blocks, rows // self.blocks, columns))


def stacks(starts: Sequence[int], shapes: Sequence[torch.Size], blocks: Sequence[int]) -> Iterator[Stack]:
    """The stacks of matrices that begin at `starts`, which also holds the end of the last one."""
    for (shape, parts), group in groupby(range(len(blocks)), lambda i: (shapes[i], blocks[i])):
        first, *others = group
        yield Stack(starts[first], starts[first + 1] - starts[first], 1 + len(others), shape, parts)


def muon(value: Tensor, grad: Tensor, average: Tensor, where: Sequence[Stack], *, lr: float, momentum: float) -> None:
    """W <- W - lr 0.2 sqrt(max(m, n)) orthogonal(g + momentum (M - g)), M the moving average of the gradient g, for
    every m x n matrix W that stands in the flat vector `value`.

    That is as large as a step of Adam (root mean square 0.2 lr: Liu et al. 2025, arXiv:2502.16982), so that one `lr`
    suits both.
    """
    average.lerp_(grad, 1 - momentum)
    ahead = grad.lerp(average, momentum)
    for stack in where:
        update = stack.view(ahead)
        new = orthogonal(update.flatten(0, 1)).view(update.shape)
        stack.view(value).add_(new, alpha=-0.2 * lr * math.sqrt(max(new.shape[2:])))


def orthogonal(g: Tensor) -> Tensor:
    """(K, m, n) matrices U S V^T -> about U V^T, with singular values in 0.7 ... 1.2, by Newton-Schulz iterations

        X <- P X,    P = a + b A + c A^2,    A = X X^T,    X_0 = g / |g|.

    All P are polynomials of A_0, so they commute: A <- P A P, and only the product of all P, m x m where m is the
    shorter side, is multiplied with X_0.
    """
    x = g.mT if g.shape[1] > g.shape[2] else g
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(1e-7)
    gram = x @ x.mT
    product = p = polynomial(gram)
    for _ in range(ITERATIONS - 1):
        gram = p @ gram @ p
        p = polynomial(gram)
        product = p @ product
    x = product @ x
    return (x.mT if g.shape[1] > g.shape[2] else x).contiguous()


def polynomial(gram: Tensor) -> Tensor:
    """a + b A + c A^2 of A (K, m, m)."""
    a, b, c = COEFFICIENTS
    p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    p.diagonal(dim1=1, dim2=2).add_(a)
    return p
