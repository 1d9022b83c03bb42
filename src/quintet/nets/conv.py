"""Convolutional encoder, decoder and U-Net, over one or two axes: shape is (C, L) or (C, H, W)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from quintet.nets.given import UNCONDITIONAL, UNTOLD, Given, Modulation, Reader, Widths, zero

Size = tuple[int, ...]


def conv(axes: int, inputs: int, outputs: int, kernel: int = 3) -> nn.Conv1d | nn.Conv2d:
    """A convolution over `axes` axes that keeps the size."""
    kind = nn.Conv1d if axes == 1 else nn.Conv2d
    return kind(inputs, outputs, kernel, padding=kernel // 2)


def sizes(size: Size, stages: int) -> list[Size]:
    """The sizes after 0 ... stages halvings, rounded up."""
    out = [size]
    for _ in range(stages):
        out.append(tuple(-(-n // 2) for n in out[-1]))
    return out


def stages_for(size: Size) -> int:
    """Halvings until the largest axis is at most 4 to 7."""
    stages = 0
    while max(size) > 7:
        size, stages = tuple(-(-n // 2) for n in size), stages + 1
    return stages


def patch_for(size: Size) -> int:
    """Pixels a side that enter as one position: as many (1, 2, 4 or 8) as leave at most 20 on the longer side.

    A stage costs the same at every resolution while widths double, so this saves whole stages: a step on 28x28 takes a
    quarter of the time.
    """
    patch = 1
    while -(-max(size) // patch) > 20 and patch < 8:
        patch *= 2
    return patch


def plan(size: Size, halvings: int | None) -> tuple[int, list[Size]]:
    """The patch, and the sizes of the stages: down to 4 ... 7 positions, or to `halvings` halvings in all."""
    patch = patch_for(size) if halvings is None else min(patch_for(size), 2**halvings)
    inner = tuple(-(-n // patch) for n in size)
    return patch, sizes(inner, stages_for(inner) if halvings is None else halvings - patch.bit_length() + 1)


def fold(x: Tensor, patch: int) -> Tensor:
    """(B, C, *size) -> (B, C patch^axes, *ceil(size / patch)): patches become channels; edges are repeated."""
    if patch == 1:
        return x
    pad = [-n % patch for n in x.shape[2:]]
    if any(pad):
        x = F.pad(x, [amount for n in reversed(pad) for amount in (0, n)], mode="replicate")
    if x.dim() == 4:
        return F.pixel_unshuffle(x, patch)
    return x.unflatten(2, (-1, patch)).movedim(3, 2).flatten(1, 2)


def unfold(x: Tensor, patch: int, size: Size) -> Tensor:
    """The inverse of `fold`, cropped to `size`."""
    if patch == 1:
        return x
    x = F.pixel_shuffle(x, patch) if x.dim() == 4 else x.unflatten(1, (-1, patch)).movedim(2, 3).flatten(2)
    index: tuple[slice, ...] = tuple(slice(n) for n in size)
    return x[(slice(None), slice(None), *index)]


def halve(h: Tensor) -> Tensor:
    """Average pairs; odd edges are padded by repetition."""
    pad = [n % 2 for n in h.shape[2:]]
    if any(pad):
        h = F.pad(h, [amount for n in reversed(pad) for amount in (0, n)], mode="replicate")
    return F.avg_pool1d(h, 2) if h.dim() == 3 else F.avg_pool2d(h, 2)


def grow(h: Tensor, size: Size) -> Tensor:
    """Repeat pairs and crop to `size`."""
    h = F.interpolate(h, scale_factor=2.0, mode="nearest")
    index: tuple[slice, ...] = tuple(slice(n) for n in size)
    return h[(slice(None), slice(None), *index)]


def stages(blocks: nn.ModuleList) -> Iterator[nn.ModuleList]:
    """The stages of a net, each a list of blocks."""
    for stage in blocks:
        assert isinstance(stage, nn.ModuleList)
        yield stage


def group_norm(width: int) -> nn.GroupNorm:
    """At most 16 groups of at least 8 channels, where the width can be divided so."""
    return nn.GroupNorm(next(n for n in range(max(1, min(16, width // 8)), 0, -1) if width % n == 0), width)


class ConvBlock(nn.Module):
    """Residual block: norm, activation, convolution, modulation, twice. The last convolution starts at zero.

    With `norm=False` (for penalties on gradients) there is no normalisation and the activation is leaky ReLU.
    """

    def __init__(
        self, axes: int, inputs: int, outputs: int, emb: int = 0, *, norm: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.first, self.last = conv(axes, inputs, outputs), zero(conv(axes, outputs, outputs))
        self.norms = nn.ModuleList(group_norm(width) if norm else nn.Identity() for width in (inputs, outputs))
        self.skip = conv(axes, inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.modulation, self.dropout, self.norm = Modulation(emb, outputs), dropout, norm

    def activate(self, h: Tensor) -> Tensor:
        return F.silu(h) if self.norm else F.leaky_relu(h, 0.2)

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = self.first(self.activate(self.norms[0](x)))
        h = self.activate(self.modulation(self.norms[1](h), given))
        return self.skip(x) + self.last(F.dropout(h, self.dropout, self.training))


class SelfAttention(nn.Module):
    """Residual self-attention over all positions."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.qkv, self.out = conv(axes, width, 3 * width, 1), zero(conv(axes, width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, -1)  # (B, positions, width)
        h = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.out(h.transpose(1, 2).reshape(x.shape))


class Dense(nn.Module):
    """h + W2 silu(modulate(W1 norm(h))) over all channels and positions of h (B, C, *size) at once.

    Convolutions and attention have the same weights everywhere; here each place has its own: docs/decisions/0019.
    """

    def __init__(self, width: int, size: Size, inner: int, *, emb: int = 0) -> None:
        super().__init__()
        numbers = width * torch.Size(size).numel()
        self.norm, self.modulation = group_norm(width), Modulation(emb, inner)
        self.up, self.down = nn.Linear(numbers, inner), zero(nn.Linear(inner, numbers))

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = F.silu(self.modulation(self.up(self.norm(x).flatten(1)), given))
        return x + self.down(h).view(x.shape)


class ConvEncoder(nn.Module):
    """(B, C, *size) -> (B, *out_shape).

    With `halvings`, out_shape is a map (channels, *sizes(size, halvings)[-1]) that keeps the layout of x.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int,
        depth: int,
        *,
        ready: Widths = UNTOLD,
        norm: bool = True,
        dropout: float = 0.0,
        halvings: int | None = None,
    ) -> None:
        super().__init__()
        axes, self.out_shape, self.map = len(shape) - 1, out_shape, halvings is not None
        self.patch, levels = plan(shape[1:], halvings)
        widths = [width * min(2**i, 4) for i in range(len(levels))]
        self.enter = conv(axes, shape[0] * self.patch**axes, width)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                ConvBlock(axes, widths[max(i - 1, 0)] if j == 0 else wide, wide, ready.emb, norm=norm, dropout=dropout)
                for j in range(depth)
            )
            for i, wide in enumerate(widths)
        )
        self.reader = Reader(ready.context, widths[-1])
        self.leave: nn.Module
        if self.map:
            self.leave = conv(axes, widths[-1], out_shape[0])
        else:
            self.leave = nn.Linear(widths[-1] * torch.Size(levels[-1]).numel(), torch.Size(out_shape).numel())

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = self.enter(fold(x, self.patch))
        for i, stage in enumerate(stages(self.blocks)):
            if i:
                h = halve(h)
            for block in stage:
                h = block(h, given)
        h = F.leaky_relu(self.reader(h, given), 0.2)
        return self.leave(h if self.map else h.flatten(1)).view(len(x), *self.out_shape)


class ConvDecoder(nn.Module):
    """(B, *in_shape) -> (B, C, *size); with `halvings`, in_shape is a map, as in ConvEncoder."""

    def __init__(
        self,
        in_shape: tuple[int, ...],
        shape: tuple[int, ...],
        width: int,
        depth: int,
        *,
        ready: Widths = UNTOLD,
        norm: bool = True,
        dropout: float = 0.0,
        halvings: int | None = None,
    ) -> None:
        super().__init__()
        axes, self.map, self.size, self.emb = len(shape) - 1, halvings is not None, shape[1:], ready.emb
        self.patch, levels = plan(shape[1:], halvings)
        self.levels = levels[::-1]
        widths = [width * min(2**i, 4) for i in range(len(self.levels))][::-1]
        self.width = widths[0]
        self.enter: nn.Module
        if self.map:
            self.enter = conv(axes, in_shape[0], widths[0])
        else:
            # emb enters here too: the modulations start at zero, and alone learn a class slowly
            inputs = torch.Size(in_shape).numel() + ready.emb
            self.enter = nn.Linear(inputs, widths[0] * torch.Size(self.levels[0]).numel())
        self.reader = Reader(ready.context, widths[0])
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                ConvBlock(axes, widths[max(i - 1, 0)] if j == 0 else wide, wide, ready.emb, norm=norm, dropout=dropout)
                for j in range(depth)
            )
            for i, wide in enumerate(widths)
        )
        self.leave = conv(axes, width, shape[0] * self.patch**axes)

    def forward(self, z: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        flat = z if self.map else z.flatten(1)
        if self.emb and not self.map:
            emb = flat.new_zeros(len(z), self.emb) if given.emb is None else given.emb
            flat = torch.cat([flat, emb.to(flat.dtype)], 1)
        h = self.reader(self.enter(flat).view(len(z), self.width, *self.levels[0]), given)
        for i, stage in enumerate(stages(self.blocks)):
            if i:
                h = grow(h, self.levels[i])
            for block in stage:
                h = block(h, given)
        return unfold(self.leave(F.leaky_relu(h, 0.2)), self.patch, self.size)


class UNet(nn.Module):
    """(B, C, *size) -> (B, C, *size) with skips (Ronneberger et al. 2015; Ho et al. 2020).

    At the bottom, of at most 7 positions an axis, stand attention (to a sequence too where one is given) and, with
    `dense` > 0, a dense layer of that width. The numbers of a patch share its channels, through which their noise does
    not all pass: where there are patches the net says an offset and a gain of each number: offset + gain * x.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        depth: int,
        *,
        ready: Widths = UNTOLD,
        dropout: float = 0.0,
        dense: int = 0,
    ) -> None:
        super().__init__()
        axes, self.size = len(shape) - 1, shape[1:]
        self.patch, self.levels = plan(shape[1:], None)
        widths = [width * min(2**i, 4) for i in range(len(self.levels))]
        self.enter = conv(axes, shape[0] * self.patch**axes, width)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept, current = [width], width
        for wide in widths:
            blocks = nn.ModuleList()
            for _ in range(depth):
                blocks.append(ConvBlock(axes, current, wide, ready.emb, dropout=dropout))
                current = wide
                kept.append(wide)
            self.down.append(blocks)
        self.middle = nn.ModuleList(
            [ConvBlock(axes, current, current, ready.emb, dropout=dropout), SelfAttention(axes, current)]
        )
        self.reader = Reader(ready.context, current)
        self.dense = Dense(current, self.levels[-1], dense, emb=ready.emb) if dense else None
        for i, wide in reversed(list(enumerate(widths))):
            blocks = nn.ModuleList()
            for _ in range(depth + (i == 0)):
                blocks.append(ConvBlock(axes, current + kept.pop(), wide, ready.emb, dropout=dropout))
                current = wide
            self.up.append(blocks)
        self.norm = group_norm(width)
        numbers = shape[0] * self.patch**axes
        self.leave = zero(conv(axes, width, 2 * numbers if self.patch > 1 else numbers))

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = folded = fold(x, self.patch)
        # the layout of all that follows: the same numbers, sooner; a norm with a derivative along has no such layout
        if h.dim() == 4 and forward_ad.unpack_dual(h).tangent is None:
            h = h.contiguous(memory_format=torch.channels_last)
        h = self.enter(h)
        skips = [h]
        for i, stage in enumerate(stages(self.down)):
            if i:
                h = halve(h)
            for block in stage:
                h = block(h, given)
                skips.append(h)
        h = self.reader(self.middle[1](self.middle[0](h, given)), given)
        if self.dense is not None:
            h = self.dense(h, given)
        for i, stage in zip(reversed(range(len(self.levels))), stages(self.up), strict=True):
            if h.shape[2:] != self.levels[i]:
                h = grow(h, self.levels[i])
            for block in stage:
                h = block(torch.cat([h, skips.pop()], 1), given)
        out = self.leave(F.silu(self.norm(h)))
        if self.patch > 1:
            offset, gain = out.chunk(2, 1)
            out = offset + gain * folded
        return unfold(out, self.patch, self.size)
