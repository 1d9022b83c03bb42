"""From a shape to a net: the choice that several families share."""

from __future__ import annotations

from typing import Literal

from torch import nn

from quintet.core.errors import ConfigError
from quintet.nets.bottleneck import Shape
from quintet.nets.conv import ConvDecoder, ConvEncoder, UNet
from quintet.nets.dit import DiT
from quintet.nets.given import UNTOLD, Widths
from quintet.nets.mlp import MLP, ResidualMLP

Net = Literal["auto", "mlp", "plain", "conv"]
"""`mlp`: residual; `plain`: layers and nothing else; `conv`: for (C, L) and (C, H, W); `auto`: conv where it can be."""
Denoiser = Literal[Net, "dit"]
"""`dit`: a Transformer over patches."""


def resolve(net: Net, shape: Shape) -> Net:
    """The net that `auto` means for this shape. Raises ConfigError where convolutions have no axis to run along."""
    if net == "conv" and len(shape) < 2:
        raise ConfigError(f"a convolutional net cannot read data of shape {shape}", where="model.net",
                          why="it needs neighbours, as pixels have them", fix="--model.net auto")  # fmt: skip
    if net == "auto":
        return "conv" if len(shape) > 1 else "mlp"
    return net


def encoder(
    net: Net,
    shape: Shape,
    out: Shape,
    width: int,
    depth: int,
    *,
    ready: Widths = UNTOLD,
    norm: bool = True,
    dropout: float = 0.0,
    waves: int = 0,
) -> nn.Module:
    """A net(x (B, *shape), given) -> (B, *out)."""
    if resolve(net, shape) == "conv":
        return ConvEncoder(shape, out, width, depth, ready=ready, norm=norm, dropout=dropout)
    return flat(net, shape, out, width, depth, ready=ready, norm=norm, dropout=dropout, waves=waves)


def decoder(
    net: Net,
    shape: Shape,
    out: Shape,
    width: int,
    depth: int,
    *,
    ready: Widths = UNTOLD,
    norm: bool = True,
    dropout: float = 0.0,
) -> nn.Module:
    """A net(z (B, *shape), given) -> (B, *out)."""
    if resolve(net, out) == "conv":
        return ConvDecoder(shape, out, width, depth, ready=ready, norm=norm, dropout=dropout)
    return flat(net, shape, out, width, depth, ready=ready, norm=norm, dropout=dropout)


def denoiser(
    net: Denoiser,
    shape: Shape,
    out: Shape,
    width: int,
    depth: int,
    *,
    ready: Widths,
    dropout: float,
    dense: int,
    waves: int,
    patch: int | None,
) -> nn.Module:
    """A net(x (B, *shape), given) -> (B, *out); only one without axes gives something else than `shape`."""
    if net == "dit":
        return DiT(shape, width, depth, ready=ready, dropout=dropout, patch=patch)
    if resolve(net, shape) == "conv":
        return UNet(shape, width, depth, ready=ready, dropout=dropout, dense=dense)
    return flat(net, shape, out, width, depth, ready=ready, norm=True, dropout=dropout, waves=waves)


def flat(
    net: Net,
    shape: Shape,
    out: Shape,
    width: int,
    depth: int,
    *,
    ready: Widths,
    norm: bool,
    dropout: float,
    waves: int = 0,
) -> nn.Module:
    """A multi-layer perceptron on flattened data."""
    if net == "plain":
        return MLP(shape, out, width, depth, ready=ready, slope=0.2)
    return ResidualMLP(shape, out, width, depth, ready=ready, norm=norm, dropout=dropout, waves=waves)
