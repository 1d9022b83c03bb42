"""A Transformer on one screen, causal or not: pre-norm, rotary or absolute positions, an explicit cache."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.mlp import zero


@dataclass
class Cache:
    """Keys and values (B, heads, L, width / heads) of the tokens seen so far, one pair a layer."""

    capacity: int
    length: int = 0
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k and v behind `length`, and return all up to there."""
        if layer not in self.layers:
            shape = (*k.shape[:2], self.capacity, k.shape[3])
            self.layers[layer] = (k.new_empty(shape), v.new_empty(shape))
        keys, values = self.layers[layer]
        end = self.length + k.shape[2]
        keys[:, :, self.length : end], values[:, :, self.length : end] = k, v
        return keys[:, :, :end], values[:, :, :end]

    def select(self, rows: Tensor) -> None:
        """Go on with these rows; one may be there several times."""
        self.layers = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self.layers.items()}


def rotate(x: Tensor, start: int) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864) for x (B, heads, L, d) at positions start ... start + L."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = torch.arange(start, start + x.shape[2], device=x.device, dtype=torch.float32)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width): sin and cos of pos / 10000^(2i/width) (Vaswani et al. 2017, arXiv:1706.03762)."""
    angle = torch.arange(length)[:, None] * torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]


class Attention(nn.Module):
    """Multi-head self-attention with normalised queries and keys; `causal`: to a token itself and those before it."""

    def __init__(self, width: int, heads: int, *, rotary: bool, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.rotary, self.causal = heads, rotary, causal
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), zero(nn.Linear(width, width, bias=False))
        self.q_norm, self.k_norm = nn.RMSNorm(width // heads), nn.RMSNorm(width // heads)

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> Tensor:
        b, length, width = x.shape
        q, k, v = self.qkv(x).view(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, L, d) each
        q, k = self.q_norm(q), self.k_norm(k)
        start = cache.length if cache else 0
        if self.rotary:
            q, k = rotate(q, start), rotate(k, start)
        k, v = k.to(v.dtype), v
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        mask = None
        if start and length > 1:  # a causal mask that starts below the cached tokens
            mask = torch.ones(length, start + length, dtype=torch.bool, device=x.device).tril(start)
        causal = self.causal and not start and length > 1
        h = F.scaled_dot_product_attention(q.to(v.dtype), k, v, attn_mask=mask, is_causal=causal)
        return self.out(h.transpose(1, 2).reshape(b, length, width))


class FeedForward(nn.Module):
    """W2 act(W1 x): "swiglu" (Shazeer 2020), "relu2" (So et al. 2021) or "relu"."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        inner = width * 8 // 3 // 8 * 8 if activation == "swiglu" else 4 * width
        self.up = nn.Linear(width, inner * (2 if activation == "swiglu" else 1), bias=False)
        self.down = zero(nn.Linear(inner, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        if self.activation == "swiglu":
            gate, value = h.chunk(2, -1)
            h = F.silu(gate) * value
        else:
            h = F.relu(h).square() if self.activation == "relu2" else F.relu(h)
        return self.down(h)


class Transformer(nn.Module):
    """x (B, L, width) -> (B, L, width), each position seeing itself and those before it, or all if not `causal`.

    Only a causal one takes a cache.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        rotary: bool = True,
        activation: str = "swiglu",
        dropout: float = 0.0,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention = nn.ModuleList(Attention(width, heads, rotary=rotary, causal=causal) for _ in range(depth))
        self.feed_forward = nn.ModuleList(FeedForward(width, activation) for _ in range(depth))
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2 * depth + 1))

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        for i, (attention, feed_forward) in enumerate(zip(self.attention, self.feed_forward, strict=True)):
            x = x + self.drop(attention(self.norms[2 * i](x), cache, i))
            x = x + self.drop(feed_forward(self.norms[2 * i + 1](x)))
        if cache is not None:
            cache.length += x.shape[1]
        return self.norms[-1](x)

    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.dropout, self.training) if self.dropout else h
