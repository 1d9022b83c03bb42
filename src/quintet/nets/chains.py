"""The layers of each kind of flow, from x to z: couplings, autoregression, wavelets, Glow, Transformers."""

from __future__ import annotations

import math
from typing import Protocol

import torch

from quintet.core.errors import ConfigError
from quintet.nets.elementwise import Transform
from quintet.nets.flows import (
    Coupling,
    Invertible,
    MaskedAutoregressive,
    Mix,
    ParameterNet,
    Permute,
    Standardise,
    Whiten,
)
from quintet.nets.given import Widths
from quintet.nets.scales import ConvNet, Haar, squeezable, squeeze
from quintet.nets.tarflow import PatchAutoregressive, patches

COARSE = 256
"""Numbers of an item at most that flat couplings model as a whole, where what is finer follows scale by scale."""


class Sizes(Protocol):
    """How large the nets of a flow are: see the settings of the family."""

    layers: int
    width: int
    depth: int
    dropout: float
    heads: int | None
    patch: int | None


def couplings(shape: tuple[int, ...], transform: Transform, s: Sizes, ready: Widths) -> list[Invertible]:
    """Couplings on a random half of the dimensions, then on the other half."""
    layers: list[Invertible] = []
    (dims,) = shape
    kept = dims // 2
    for i in range(s.layers):
        if i % 2:
            index = torch.arange(dims).roll(dims - kept)
        else:
            index = torch.randperm(dims, generator=torch.Generator().manual_seed(i))
        net = ParameterNet(kept, transform.params * (dims - kept), s.width, s.depth, ready=ready, dropout=s.dropout)
        layers += [Permute(index), Coupling((kept,), dims - kept, net, transform)]
    return layers


def autoregressions(shape: tuple[int, ...], transform: Transform, s: Sizes, ready: Widths) -> list[Invertible]:
    """Masked layers, each in the reverse order of the one before."""
    layers: list[Invertible] = []
    (dims,) = shape
    for i in range(s.layers):
        if i:
            layers.append(Permute(torch.arange(dims).flip(0)))
        layers.append(MaskedAutoregressive(dims, transform, s.width, s.depth, ready=ready, dropout=s.dropout))
    return layers


def transformers(shape: tuple[int, ...], transform: Transform, s: Sizes, ready: Widths) -> list[Invertible]:
    """Transformers over the patches of an item, each in the reverse order of the one before."""
    heads = s.heads or math.gcd(s.width, max(1, s.width // 32))
    if s.width % heads:
        raise ConfigError(
            f"the width {s.width} is not divisible by the number of attention heads, {heads}",
            where="model.heads",
            fix=f"--model.width {4 * heads}",
        )
    index, count = patches(shape, s.patch)
    layers: list[Invertible] = [Permute(index)]
    for i in range(s.layers):
        if i:
            layers.append(Permute(torch.arange(len(index)).view(count, -1).flip(0).flatten()))
        layers.append(PatchAutoregressive(count, len(index) // count, transform, s.width, s.depth, heads,
                                          ready=ready, dropout=s.dropout))  # fmt: skip
    return layers


def wavelets(shape: tuple[int, ...], transform: Transform, s: Sizes, ready: Widths) -> list[Invertible]:
    """p(x) = p(coarsest image) * product over scales of p(details | the coarser image), in a Haar basis.

    Yu et al. 2020, arXiv:2010.13821. A scale's details move band by band, each given the coarser image and the other
    bands, and leave. The coarsest image, of `COARSE` numbers at most where its axes are even so often, is the work of
    flat couplings, which know all of it.
    """
    layers: list[Invertible] = []
    channels = shape[0]
    while squeezable(shape) and math.prod(shape) > COARSE:
        index, shape = squeeze(shape)
        kept, moved = (shape[0] - channels, *shape[1:]), channels * math.prod(shape[1:])
        places = torch.arange(math.prod(shape))
        turned = torch.cat([places[:moved], places[moved:].roll(moved)])  # the last band becomes the first
        layers += [Permute(index), Haar(shape, channels), Whiten(shape)]
        for _ in range(shape[0] // channels - 1):
            net = ConvNet(len(shape) - 1, kept[0], transform.params * channels, -(-s.width // 4), s.depth, ready,
                          s.dropout, (3, 3, 1))  # fmt: skip
            layers += [Coupling(kept, moved, net, transform), Permute(turned.clone())]
        shape = (channels, *shape[1:])
    coarsest = (math.prod(shape),)
    return [*layers, Whiten(shape), Standardise(coarsest, floor=0.1), *couplings(coarsest, transform, s, ready)]


def glow(shape: tuple[int, ...], transform: Transform, s: Sizes, ready: Widths) -> list[Invertible]:
    """ActNorm, 1x1 convolution and coupling, `layers` times a scale; then half of the channels leave.

    Kingma & Dhariwal 2018, arXiv:1807.03039. Scales end when no axis larger than 4 is even.
    """
    layers: list[Invertible] = []
    while True:
        if squeezable(shape):
            index, shape = squeeze(shape)
            layers.append(Permute(index))
        kept, size = (shape[0] // 2, *shape[1:]), shape[1:]
        moved = shape[0] - kept[0]
        for _ in range(s.layers):
            net = ConvNet(len(size), kept[0], transform.params * moved, s.width, s.depth, ready, s.dropout, (3, 1, 3))
            coupling = Coupling(kept, moved * math.prod(size), net, transform)
            layers += [Standardise(shape, learnt=True), Mix(shape, seed=len(layers)), coupling]
        if not squeezable(size_after := (moved, *size)):
            return layers
        shape = size_after
