"""A Transformer on one screen: causal or not, alone or reading a context, with masks and an explicit cache."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.core.likelihood import upcast
from quintet.nets.given import zero
from quintet.nets.packing import Present, present

SHORT = 16
"""Up to so many positions attention is, where nothing is differentiated, twice as fast on a CPU by plain products: the
softmax of a short row costs PyTorch's own kernel more than the rest."""

Activation = Literal["swiglu", "relu2", "relu"]
Norm = Literal["rms", "layer"]
Pair = tuple[Tensor, Tensor]


class Step(Protocol):
    """What may stand in for a Transformer's forward, for a single token behind those of a cache."""

    def __call__(self, x: Tensor, cache: Cache, context: Tensor | None, seen: Tensor | None) -> Tensor: ...


@dataclass
class Cache:
    """Keys and values (B, heads, L, width / heads) of the tokens seen so far, and of the context, a pair a layer; and
    the `last` few symbols (B, few), for a model that reads several at once.

    A net that is told of runs of symbols (`Hourglass`) keeps the cache of its runs in `inner`, the `newest` symbols, of
    which the next run will be made (B, k - 1, width), and what it has been `told` of symbols still to come.

    `step`, where there is one, does the work of single tokens. Rows of different lengths have theirs in `at` (B,),
    which only `step` understands. One that `grows` does so by concatenation: slower, but a function of tensors alone,
    as a file holds it.
    """

    capacity: int
    length: int = 0
    step: Step | None = None
    at: Tensor | None = None
    layers: dict[int, Pair] = field(default_factory=dict)
    context: dict[int, Pair] = field(default_factory=dict)
    last: Tensor | None = None
    grows: bool = False
    inner: Cache | None = None
    newest: Tensor | None = None
    told: Tensor | None = None

    def extend(self, layer: int, k: Tensor, v: Tensor) -> Pair:
        """Write k and v behind `length`, and return all up to there."""
        if self.grows:
            before = self.layers.get(layer)
            found = (k, v) if before is None else (torch.cat([before[0], k], 2), torch.cat([before[1], v], 2))
            self.layers[layer] = found
            return found
        if layer not in self.layers:
            shape = (*k.shape[:2], self.capacity, k.shape[3])
            self.layers[layer] = (k.new_empty(shape), v.new_empty(shape))
        keys, values = self.layers[layer]
        end = self.length + k.shape[2]
        keys[:, :, self.length : end], values[:, :, self.length : end] = k, v
        return keys[:, :, :end], values[:, :, :end]

    def remember(self, x: Tensor, count: int, nothing: int, ends: Tensor | None = None) -> None:
        """The last `count` symbols, of which x (B, L) are the newest, or x[:, : ends] (B,); where there are none, so
        many times `nothing`.
        """
        last = x.new_full((len(x), count), nothing) if self.last is None else self.last
        known, ends = torch.cat([last, x], 1), x.new_tensor([x.shape[1]]) if ends is None else ends
        self.last = known.gather(1, (ends[:, None] + torch.arange(count, device=x.device)).expand(len(x), -1))

    def select(self, rows: Tensor) -> None:
        """Go on with these rows; one may be there several times."""
        self.layers = {
            layer: (self.selected(keys, rows), self.selected(values, rows))
            for layer, (keys, values) in self.layers.items()
        }
        self.context = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self.context.items()}
        self.last, self.newest, self.told = (
            part if part is None else part[rows] for part in (self.last, self.newest, self.told)
        )
        if self.inner is not None:
            self.inner.select(rows)

    def selected(self, part: Tensor, rows: Tensor) -> Tensor:
        """part[rows], of which only what is filled is copied."""
        out = part.new_empty((len(rows), *part.shape[1:]))
        torch.index_select(part[:, :, : self.length], 0, rows, out=out[:, :, : self.length])
        return out


def rotations(start: int, length: int, size: int, like: Tensor) -> Tensor:
    """exp(i angle), (length, size / 2), of rotary positions start ... start + length."""
    frequency = 10_000.0 ** (-torch.arange(size // 2, device=like.device, dtype=torch.float64) / (size // 2))
    angle = torch.arange(start, start + length, device=like.device)[:, None] * frequency
    if torch.compiler.is_exporting():  # formats that others read have no complex numbers
        return torch.stack([angle.cos(), angle.sin()], -1).to(like.dtype)
    turn = torch.polar(torch.ones_like(angle), angle)
    return turn if like.dtype == torch.float64 else turn.to(torch.complex64)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864) for x (..., d): two neighbours are a complex number, and a
    turn (..., d / 2) is a product.
    """
    if torch.compiler.is_exporting():
        (a, b), (cos, sin) = upcast(x).unflatten(-1, (-1, 2)).unbind(-1), turn.unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(upcast(x).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


class ReluSquared(torch.autograd.Function):
    """max(x, 0)^2 (So et al. 2021, arXiv:2109.08668), whose derivative is 2 max(x, 0): fewer passes than autograd's.

    max(x, 0) is a result too: it is kept in the place of x, and derivatives of the derivative go through it.
    """

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        positive = F.relu(x)
        return positive * positive, positive

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)  # no zeros as large as x for the result that is not used
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        (positive,), (of_square, of_positive) = ctx.saved_tensors, grads
        grad = None if of_positive is None else of_positive * (positive > 0)
        if of_square is not None:
            grad = torch.addcmul(positive.new_zeros(()) if grad is None else grad, of_square, positive, value=2)
        return grad


def squared(x: Tensor) -> Tensor:
    """max(x, 0)^2, in the place of x where nothing is to be differentiated."""
    if torch.is_grad_enabled() or torch.compiler.is_exporting():
        positive: Tensor = ReluSquared.apply(x)[0]
        return positive
    x = x.relu_()
    return x.mul_(x)


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width): sin and cos of pos / 10000^(2i/width) (Vaswani et al. 2017, arXiv:1706.03762)."""
    angle = torch.arange(length)[:, None] * torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]


def normaliser(kind: Norm, width: int) -> nn.Module:
    """Over the last axis. On CPUs "layer" is one operation each way, "rms" is composed of several."""
    return nn.RMSNorm(width) if kind == "rms" else nn.LayerNorm(width, bias=False)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v in several heads (Vaswani et al. 2017): of x to itself, or to a context.

    `norm`: normalised queries and keys (Henry et al. 2020, arXiv:2010.04245).
    """

    def __init__(self, width: int, heads: int, *, norm: bool = True, kind: Norm = "rms") -> None:
        super().__init__()
        self.heads = heads
        self.hidden_matrices = {"qkv.weight": 3 * heads, "out.weight": 1}  # of every head, for Muon
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), zero(nn.Linear(width, width, bias=False))
        self.q_norm, self.k_norm = (normaliser(kind, width // heads) if norm else nn.Identity() for _ in range(2))

    def project(self, x: Tensor, only: Present | None, first: int, last: int) -> list[Tensor]:
        """(B, L, heads, d) of x for each of the parts first ... last - 1 of q, k and v.

        A product for each, since parts of a common one would be copied, as would their gradients, to lie side by side.
        """
        weights = self.qkv.weight.chunk(3)[first:last]
        return [spread(F.linear(x, weight), only).unflatten(-1, (self.heads, -1)) for weight in weights]

    def forward(
        self,
        x: Tensor,
        layer: int,
        cache: Cache | None,
        mask: Tensor | None,
        causal: bool,
        turn: Tensor | None,
        begin: int = 0,
        only: Present | None = None,
    ) -> Tensor:
        """x (B, L, width) to itself, for its positions from `begin` on; `mask` (B or 1, 1, L, L) True where it may
        look, in the place of `causal`. x (N, width) if `only` these positions are there.
        """
        q, k, v = self.project(x, only, 0, 3)
        q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2).to(v.dtype), v.transpose(1, 2)
        start, length = cache.length if cache else 0, q.shape[2]
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        if start and length > 1:  # a causal mask that starts below the cached tokens
            mask = torch.ones(length, start + length, dtype=torch.bool, device=x.device).tril(start)
        if begin:
            q, mask = q[:, :, begin:], None if mask is None else mask[..., begin:, :]
        return self.attend(q, k, v, mask, causal and mask is None and length > 1, only)

    def read(
        self,
        x: Tensor,
        context: Tensor,
        layer: int,
        cache: Cache | None,
        mask: Tensor | None,
        only: Present | None,
        seen: Present | None,
    ) -> Tensor:
        """x (B, L, width) to context (B, S, width), whose keys and values a cache keeps; mask (B, 1, 1, S). x (N,
        width) if `only` these positions are there, context (M, width) if only these are `seen`.
        """
        (q,) = self.project(x, only, 0, 1)
        if cache is not None and layer in cache.context:
            k, v = cache.context[layer]
        else:
            k, v = self.project(context, seen, 1, 3)
            k, v = self.k_norm(k).transpose(1, 2).to(v.dtype), v.transpose(1, 2)
            if cache is not None:
                cache.context[layer] = (k, v)
        return self.attend(self.q_norm(q).transpose(1, 2), k, v, mask, False, only)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, only: Present | None
    ) -> Tensor:
        q = q.to(v.dtype)
        short = q.device.type == "cpu" and k.shape[2] <= SHORT and not causal and not torch.compiler.is_exporting()
        if short and not torch.is_grad_enabled():
            h = read_short(q, k, v, mask)
        else:
            h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        h = h.transpose(1, 2).flatten(2)
        return self.out(h if only is None else only.rows(h))


def spread(h: Tensor, only: Present | None) -> Tensor:
    """h (N, ...) of `only` these positions in its places, (B, L, ...); all of it as it is."""
    return h if only is None else only.spread(h)


def read_short(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for q (B, heads, L, d) and few k and v (B, heads, S, d), in place: see SHORT."""
    weight = (q @ k.mT).mul_(q.shape[-1] ** -0.5)
    weight = weight if mask is None else weight.masked_fill_(~mask, -torch.inf)
    least = torch.finfo(weight.dtype)  # a row that may look nowhere reads zeros, as PyTorch's own kernel says
    weight = weight.sub_(weight.amax(-1, keepdim=True).clamp_min(least.min)).exp_()
    return (weight @ v).div_(weight.sum(-1, keepdim=True).clamp_min(least.tiny))


class FeedForward(nn.Module):
    """W2 act(W1 x): "swiglu" (Shazeer 2020), "relu2" (So et al. 2021) or "relu"."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        inner = width * 8 // 3 // 8 * 8 if activation == "swiglu" else 4 * width
        self.up = nn.Linear(width, inner * (2 if activation == "swiglu" else 1), bias=False)
        self.down = zero(nn.Linear(inner, width, bias=False))
        self.hidden_matrices = {"up.weight": 2 if activation == "swiglu" else 1, "down.weight": 1}

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        if self.activation == "swiglu":
            gate, value = h.chunk(2, -1)
            h = F.silu(gate) * value
        else:
            h = squared(h) if self.activation == "relu2" else F.relu(h)
        return self.down(h)


class Transformer(nn.Module):
    """x (B, L, width) -> (B, L, width), each position seeing itself and those before it, or all if not `causal`.

    With `cross`, every layer also reads a context: so an encoder is one that is not causal, a decoder one that is and
    reads the encoder. Pre-norm (Xiong et al. 2020, arXiv:2002.04745), no biases. Only a causal one takes a cache.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        rotary: bool = True,
        activation: Activation = "swiglu",
        norm: Norm = "rms",
        qk_norm: bool = True,
        dropout: float = 0.0,
        causal: bool = True,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.dropout, self.causal, self.size = dropout, causal, width // heads if rotary else 0

        def normed(count: int) -> nn.ModuleList:
            return nn.ModuleList(normaliser(norm, width) for _ in range(count))

        readers = depth if cross else 0
        self.attention = nn.ModuleList(Attention(width, heads, norm=qk_norm, kind=norm) for _ in range(depth))
        self.readers = nn.ModuleList(Attention(width, heads, norm=qk_norm, kind=norm) for _ in range(readers))
        self.feed_forward = nn.ModuleList(FeedForward(width, activation) for _ in range(depth))
        self.norms, self.reader_norms = normed(2 * depth + 1), normed(readers)

    def forward(
        self,
        x: Tensor,
        cache: Cache | None = None,
        *,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        seen: Tensor | None = None,
        at: Tensor | None = None,
        asked: Tensor | None = None,
        begin: int = 0,
        only: Present | None = None,
    ) -> Tensor:
        """`mask` (B or 1, 1, L or 1, L): where x may look within x; context (B, S, width), of which `seen` (B, S) may
        be read. None: all of it. `at` (B, L): where x stands, if not side by side.

        `asked` (B, L) bool: only these positions are wanted, (M, width), row by row. The last layer's feed-forward
        part, two thirds of a layer, is computed for them alone. Where they all stand from `begin` on, that layer has
        but keys and values of the others.

        `only`: what of x is there, (N, width), row by row; the rest is padding that `mask`, or the order, keeps unseen,
        and nothing but attention is computed for it.
        """
        start = cache.length if cache else 0
        if cache is not None and cache.step is not None and start and x.shape[1] == 1 and mask is None:
            return cache.step(x, cache, context, seen)
        length = x.shape[1] if at is None or not self.size else int(at.max()) + 1
        turn = rotations(start, length, self.size, x) if self.size else None
        turn = turn if turn is None else turn[:, None] if at is None else turn[at][:, :, None]
        part = None
        if seen is not None and context is not None and not (cache and cache.context):
            part = present(seen)
            context = context if part is None else part.rows(context)
        x = x if only is None else only.rows(x)
        seen = None if seen is None else seen[:, None, None]
        for i, (attention, feed_forward) in enumerate(zip(self.attention, self.feed_forward, strict=True)):
            last = i == len(self.attention) - 1
            first, h = begin if last else 0, self.norms[2 * i](x)
            x = x[:, first:] + self.drop(attention(h, i, cache, mask, self.causal, turn, first, only))
            if context is not None:
                reader = self.readers[i]
                assert isinstance(reader, Attention)
                x = x + self.drop(reader.read(self.reader_norms[i](x), context, i, cache, seen, only, part))
            if last and asked is not None:
                x = x[asked[:, first:]]
            x = x + self.drop(feed_forward(self.norms[2 * i + 1](x)))
        if cache is not None:
            cache.length += x.shape[1]
        return self.norms[-1](x)

    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.dropout, self.training) if self.dropout else h
