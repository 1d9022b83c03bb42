"""One symbol at a time through a Transformer, in few operations: for sampling, where a step is mostly overhead."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.transformer import Attention, Cache, FeedForward, Transformer, rotations

GAP = 16
FEW = 2
"""Up to so many rows a product takes as long as its weights take to be read, and these are read best as they are."""


@dataclass(frozen=True)
class Weights:
    """Of one layer, as (in, out) matrices that lie in memory as a step reads them; a norm's gain is in the next one.

    gain (2, 1, d): of queries and keys; ask and answer: of the reader of a context, whose queries have `ask_gain`.
    """

    qkv: Tensor
    out: Tensor
    up: Tensor
    down: Tensor
    gain: Tensor | None = None
    ask: Tensor | None = None
    answer: Tensor | None = None
    ask_gain: Tensor | None = None


@dataclass(frozen=True)
class Place:
    """Where the keys and values of new tokens go, `at` of which `rows`; they see what lies before `end`, by `mask`
    (B, 1, 1, end) or all of it; `turn`: the rotation of their positions.
    """

    rows: Tensor | slice
    at: Tensor | int
    end: int
    turn: Tensor | None
    mask: Tensor | None = None


def placed(cache: Cache, turn: Tensor | None) -> Place:
    """Behind what a cache holds of each row; `turn` (L, d): the rotations of all positions."""
    at = cache.at
    if at is None:
        return Place(slice(None), cache.length, cache.length + 1, None if turn is None else turn[cache.length])
    rows, least, most = torch.arange(len(at), device=at.device), int(at.min()), int(at.max())
    mask = None if least == most else (torch.arange(most + 1, device=at.device) <= at[:, None])[:, None, None]
    return Place(rows, at, most + 1, None if turn is None else turn[at][:, None, None], mask)


class Stepper:
    """What `Transformer` gives for a single symbol behind those of a cache; the weights are copied as they are now.

    It is fastest for about as many `rows` as it is told of, and takes any number.
    """

    def __init__(self, net: Transformer, dims: int, rows: int) -> None:
        norm, attention, feed = net.norms[0], net.attention[0], net.feed_forward[0]
        assert isinstance(norm, nn.RMSNorm | nn.LayerNorm)
        assert isinstance(attention, Attention)
        assert isinstance(feed, FeedForward)
        self.net, self.activation, self.heads, self.eps = net, feed.activation, attention.heads, norm.eps or 0.0
        self.rms, self.qk_norm = isinstance(norm, nn.RMSNorm), not isinstance(attention.q_norm, nn.Identity)
        like = weight_of(norm)
        self.tiny = torch.full((), torch.finfo(like.dtype).eps).to(like)
        self.turn = rotations(0, dims, net.size, like) if net.size else None
        self.layers = [self.prepared(i, rows) for i in range(len(net.attention))]

    def prepared(self, i: int, rows: int) -> Weights:
        net, attention, feed = self.net, self.net.attention[i], self.net.feed_forward[i]
        assert isinstance(attention, Attention)
        assert isinstance(feed, FeedForward)
        before, between = weight_of(net.norms[2 * i]), weight_of(net.norms[2 * i + 1])
        given: dict[str, Tensor | None] = {
                 "qkv": laid(attention.qkv.weight * before, rows), "out": laid(attention.out.weight, rows),
                 "up": laid(feed.up.weight * between, rows), "down": laid(feed.down.weight, rows)}  # fmt: skip
        if len(net.readers):
            reader = net.readers[i]
            assert isinstance(reader, Attention)
            query = reader.qkv.weight[: len(before)] * weight_of(net.reader_norms[i])
            given |= {"ask": laid(query, rows), "answer": laid(reader.out.weight, rows)}
            given["ask_gain"] = weight_of(reader.q_norm) if self.qk_norm else None
        if self.qk_norm:
            given["gain"] = torch.stack([weight_of(attention.q_norm), weight_of(attention.k_norm)])[:, None]
        return Weights(**given)  # type: ignore[arg-type]

    def __call__(self, x: Tensor, cache: Cache, context: Tensor | None, seen: Tensor | None) -> Tensor:
        """x (B, 1, width) -> the same, as `Transformer.forward`."""
        place, x = placed(cache, self.turn), x[:, 0]
        mask = None if seen is None else seen[:, None, None]
        for i, w in enumerate(self.layers):
            x = torch.addmm(x, self.attend(self.normed(x) @ w.qkv, i, place, w, cache), w.out)
            if context is not None:
                x = self.read(x, i, w, cache, mask)
            x = torch.addmm(x, self.active(self.normed(x) @ w.up), w.down)
        cache.length += 1
        return self.net.norms[-1](x)[:, None]

    def normed(self, x: Tensor) -> Tensor:
        """Without the gain."""
        if self.rms:
            return x * scale(x, self.tiny)
        return F.layer_norm(x, x.shape[-1:], eps=self.eps)

    def attend(self, qkv: Tensor, i: int, place: Place, w: Weights, cache: Cache) -> Tensor:
        b, keys, values = len(qkv), *cache.layers[i]
        qkv = qkv.view(b, 3, self.heads, -1)
        qk = qkv[:, :2]
        if w.gain is not None:
            qk = self.normed(qk).mul_(w.gain)
        if place.turn is not None:
            qk = torch.view_as_real(torch.view_as_complex(qk.unflatten(-1, (-1, 2))) * place.turn).flatten(-2)
        keys[place.rows, :, place.at], values[place.rows, :, place.at] = qk[:, 1], qkv[:, 2]
        q, keys, values = qk[:, 0, :, None], keys[:, :, : place.end], values[:, :, : place.end]
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=place.mask).view(b, -1)

    def read(self, x: Tensor, i: int, w: Weights, cache: Cache, mask: Tensor | None) -> Tensor:
        assert w.ask is not None
        assert w.answer is not None
        q = (self.normed(x) @ w.ask).view(len(x), self.heads, 1, -1)
        if w.ask_gain is not None:
            q = self.normed(q) * w.ask_gain
        h = F.scaled_dot_product_attention(q, *cache.context[i], attn_mask=mask)
        return torch.addmm(x, h.view(len(x), -1), w.answer)

    def active(self, h: Tensor) -> Tensor:
        if self.activation == "swiglu":
            gate, value = h.chunk(2, -1)
            return F.silu(gate).mul_(value)
        h = h.relu_()
        return h.mul_(h) if self.activation == "relu2" else h


def weight_of(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def laid(weight: Tensor, rows: int) -> Tensor:
    """(out, in) -> (in, out), for so many `rows` to be multiplied by.

    Where it widens, and for more than a FEW rows always, its rows lie one after another: up to twice as fast on a CPU.
    A gap between them keeps rows of a power of two from falling on the same lines of the processor's cache.
    """
    wide, narrow = weight.shape
    if rows <= FEW and wide <= narrow:
        return weight.detach().t()
    return weight.new_empty(narrow, wide + GAP)[:, :wide].copy_(weight.t())


def scale(x: Tensor, tiny: Tensor) -> Tensor:
    """1 / sqrt(mean x^2 + tiny) over the last axis, which stays."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(tiny, norm, norm, value=1 / x.shape[-1]).rsqrt_()


def stepper(net: Transformer, dims: int, rows: int) -> Stepper | None:
    """A Stepper of a net as it is; None where it would not be the same: dropout, mixed precision, sharded weights."""
    weight = weight_of(net.norms[-1])
    mixed = torch.is_autocast_enabled(weight.device.type) or type(weight) is not Tensor
    return None if mixed or (net.training and net.dropout) else Stepper(net, dims, rows)
