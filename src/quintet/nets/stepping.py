"""One symbol at a time through a Transformer, in few operations: for sampling, where a step is mostly overhead."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.transformer import Attention, Cache, FeedForward, Pair, Transformer, rotations

GAP = 16


@dataclass(frozen=True)
class Weights:
    """Of one layer, as (in, out) matrices that lie in memory as a step reads them; a norm's gain is in the next one.

    turn: what a symbol at t multiplies its queries and keys (B, 2, heads, d) and their swapped halves by, rotation and
    gain in one: two tensors (dims, 2, 1, d), or (1, 2, 1, d) where nothing turns.
    """

    qkv: Tensor
    out: Tensor
    up: Tensor
    down: Tensor
    turn: Pair
    ask: Tensor | None = None
    answer: Tensor | None = None
    ask_gain: Tensor | None = None


class Stepper:
    """What `Transformer` gives for a single symbol behind those of a cache; the weights are copied as they are now."""

    def __init__(self, net: Transformer, dims: int) -> None:
        norm, attention, feed = net.norms[0], net.attention[0], net.feed_forward[0]
        assert isinstance(norm, nn.RMSNorm | nn.LayerNorm)
        assert isinstance(attention, Attention)
        assert isinstance(feed, FeedForward)
        self.net, self.activation, self.heads, self.eps = net, feed.activation, attention.heads, norm.eps or 0.0
        self.rms, self.qk_norm = isinstance(norm, nn.RMSNorm), isinstance(attention.q_norm, nn.RMSNorm)
        like = weight_of(norm)
        self.tiny = torch.full((), torch.finfo(like.dtype).eps).to(like)
        turn = rotations(0, dims, net.size, like) if net.size else None
        self.layers = [self.prepared(i, turn) for i in range(len(net.attention))]

    def prepared(self, i: int, turn: Pair | None) -> Weights:
        net, attention, feed = self.net, self.net.attention[i], self.net.feed_forward[i]
        assert isinstance(attention, Attention)
        assert isinstance(feed, FeedForward)
        before, between = weight_of(net.norms[2 * i]), weight_of(net.norms[2 * i + 1])
        given: dict[str, Tensor | None] = {
                 "qkv": laid(attention.qkv.weight * before), "out": laid(attention.out.weight),
                 "up": laid(feed.up.weight * between), "down": laid(feed.down.weight)}  # fmt: skip
        if len(net.readers):
            reader = net.readers[i]
            assert isinstance(reader, Attention)
            query = reader.qkv.weight[: len(before)] * weight_of(net.reader_norms[i])
            given |= {"ask": laid(query), "answer": laid(reader.out.weight)}
            given["ask_gain"] = weight_of(reader.q_norm) if self.qk_norm else None
        return Weights(turn=self.turned(attention, turn), **given)  # type: ignore[arg-type]

    def turned(self, attention: Attention, turn: Pair | None) -> Pair:
        like = attention.out.weight
        size = like.shape[0] // self.heads
        gain = like.new_ones(2, 1, size)
        if self.qk_norm:
            gain = torch.stack([weight_of(attention.q_norm), weight_of(attention.k_norm)])[:, None]
        if turn is None:
            return gain[None], torch.zeros_like(gain)[None]
        cos, sin = (part[:, None, None] for part in turn)
        return torch.cat([cos, cos], -1) * gain, torch.cat([-sin, sin], -1) * swapped(gain)

    def __call__(self, x: Tensor, cache: Cache, context: Tensor | None, seen: Tensor | None) -> Tensor:
        """x (B, 1, width) -> the same, as `Transformer.forward`."""
        t, x = cache.length, x[:, 0]
        mask = None if seen is None else seen[:, None, None]
        for i, w in enumerate(self.layers):
            x = torch.addmm(x, self.attend(self.normed(x) @ w.qkv, i, t, w, cache), w.out)
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

    def attend(self, qkv: Tensor, i: int, t: int, w: Weights, cache: Cache) -> Tensor:
        b, keys, values = len(qkv), *cache.layers[i]
        qkv = qkv.view(b, 3, self.heads, -1)
        qk = qkv[:, :2]
        first, second = w.turn
        turned = qk * first[t if self.net.size else 0]
        if self.net.size:
            turned = turned.addcmul_(swapped(qk), second[t])
        if self.qk_norm:
            turned = turned.mul_(scale(qk, self.tiny))
        keys[:, :, t], values[:, :, t] = turned[:, 1], qkv[:, 2]
        q = turned[:, 0, :, None]
        return F.scaled_dot_product_attention(q, keys[:, :, : t + 1], values[:, :, : t + 1]).view(b, -1)

    def read(self, x: Tensor, i: int, w: Weights, cache: Cache, mask: Tensor | None) -> Tensor:
        assert w.ask is not None
        assert w.answer is not None
        q = (self.normed(x) @ w.ask).view(len(x), self.heads, 1, -1)
        if w.ask_gain is not None:
            q = q * scale(q, self.tiny) * w.ask_gain
        h = F.scaled_dot_product_attention(q, *cache.context[i], attn_mask=mask)
        return torch.addmm(x, h.view(len(x), -1), w.answer)

    def active(self, h: Tensor) -> Tensor:
        if self.activation == "swiglu":
            gate, value = h.chunk(2, -1)
            return F.silu(gate).mul_(value)
        h = F.relu(h)
        return h.square() if self.activation == "relu2" else h


def weight_of(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def laid(weight: Tensor) -> Tensor:
    """(out, in) -> (in, out), for few rows to be multiplied by.

    Where it widens, its rows lie one after another: up to twice as fast on a CPU. A gap between them keeps rows of a
    power of two from falling on the same lines of the processor's cache.
    """
    wide, narrow = weight.shape
    if wide <= narrow:
        return weight.detach().t()
    return weight.new_empty(narrow, wide + GAP)[:, :wide].copy_(weight.t())


def scale(x: Tensor, tiny: Tensor) -> Tensor:
    """1 / sqrt(mean x^2 + tiny) over the last axis, which stays."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(tiny, norm, norm, value=1 / x.shape[-1]).rsqrt_()


def swapped(x: Tensor) -> Tensor:
    """The two halves of the last axis, the other way round."""
    half = x.shape[-1] // 2
    return torch.cat([x[..., half:], x[..., :half]], -1)


def stepper(net: Transformer, dims: int) -> Stepper | None:
    """A Stepper of a net as it is; None where it would not be the same: dropout, mixed precision, sharded weights."""
    weight = weight_of(net.norms[-1])
    mixed = torch.is_autocast_enabled(weight.device.type) or type(weight) is not Tensor
    return None if mixed or (net.training and net.dropout) else Stepper(net, dims)
