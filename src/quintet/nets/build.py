"""From a shape to a net: the choice that several families share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from quintet.nets.conv import ConvDecoder, ConvEncoder, UNet
from quintet.nets.mlp import MLP, ResidualMLP

Net = Literal["auto", "mlp", "plain", "conv"]
"""`mlp`: residual; `plain`: layers and nothing else; `conv`: for (C, L) and (C, H, W); `auto`: conv where it can be."""

Shape = tuple[int, ...]


def upcast(x: Tensor) -> Tensor:
    """float32 at least: likelihoods and losses are never in half precision, whatever autocast made of the nets."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def resolve(net: Net, shape: Shape) -> Net:
    """The net that `auto` means for this shape."""
    if net == "auto":
        return "conv" if len(shape) > 1 else "mlp"
    return net


def encoder(
    net: Net, shape: Shape, out: Shape, width: int, depth: int, *, emb: int = 0, **kw: float | bool
) -> nn.Module:
    """A net(x (B, *shape), emb) -> (B, *out)."""
    return _build(ConvEncoder, resolve(net, shape), shape, out, width, depth, emb, kw)


def decoder(
    net: Net, shape: Shape, out: Shape, width: int, depth: int, *, emb: int = 0, **kw: float | bool
) -> nn.Module:
    """A net(z (B, *shape), emb) -> (B, *out)."""
    return _build(ConvDecoder, resolve(net, out), shape, out, width, depth, emb, kw)


def denoiser(net: Net, shape: Shape, width: int, depth: int, *, emb: int, dropout: float) -> nn.Module:
    """A net(x (B, *shape), emb) -> (B, *shape)."""
    kw: dict[str, float | bool] = {"dropout": dropout}
    return _build(UNet, resolve(net, shape), shape, shape, width, depth, emb, kw)


def _build(
    conv: type[nn.Module],
    net: Net,
    shape: Shape,
    out: Shape,
    width: int,
    depth: int,
    emb: int,
    kw: dict[str, float | bool],
) -> nn.Module:
    if net == "plain":
        return MLP(shape, out, width, depth, emb=emb, slope=0.2)
    if net == "mlp":
        return ResidualMLP(shape, out, width, depth, emb=emb, **kw)  # type: ignore[arg-type]
    if conv is UNet:
        return UNet(shape, width, depth, emb=emb, **kw)  # type: ignore[arg-type]
    return conv(shape, out, width, depth, emb=emb, **kw)
