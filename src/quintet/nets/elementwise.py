"""Monotone maps of single numbers, whose parameters a net computes: affine maps and rational-quadratic splines.

Arithmetic on x is done in float32 or better, whatever the autocast: only nets that compute parameters may run lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from quintet.core.likelihood import upcast

MIN_SIZE, MIN_SLOPE = 1e-3, 1e-3  # of a bin, as a share of the box, and of a knot's slope
SHIFT = math.log(math.expm1(1 - MIN_SLOPE))
"""MIN_SLOPE + softplus(SHIFT) is 1, so that a spline whose parameters are zeros is the identity."""


@dataclass(frozen=True)
class Affine:
    """z = (x - mean) exp(-log_std), with -3 < log_std < `widest`, and |mean| < `most` if that is given. `params`
    (..., 2, N) for x (..., N).

    In a long chain of layers over standardised x, a conditional mean or standard deviation beyond tight bounds is a
    mistake of a net that is asked about what it has not seen; samples would grow from one such layer to the next.
    """

    params: int = 2
    most: float | None = None
    widest: float = 3.0

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, both (..., N)."""
        mean, log_std = self._read(params)
        return (x - mean) * torch.exp(-log_std), -log_std

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """x (..., N)."""
        mean, log_std = self._read(params)
        return z * torch.exp(log_std) + mean

    def _read(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = upcast(params).unbind(-2)
        bound = torch.where(log_std > 0, self.widest, 3.0)
        mean = mean if self.most is None else self.most * torch.tanh(mean / self.most)
        return mean, bound * torch.tanh(log_std / bound)


def side_by_side(params: Tensor) -> bool:
    """Whether the same parameter of neighbouring items (not of neighbouring elements) is a neighbour in memory."""
    return params.dim() == 3 and params.stride(0) < params.stride(2)


def elements(x: Tensor, items_last: bool) -> Tensor:
    """x (..., N) as one vector (M,), in the order that `parameters` has."""
    return (x.t() if items_last else x).reshape(-1)


def parameters(params: Tensor, items_last: bool) -> Tensor:
    """`params` (..., P, N) as (P, M), so that every operation on a parameter runs along memory."""
    params = params.permute(1, 2, 0) if items_last else params.movedim(-2, 0)
    return upcast(params).reshape(len(params), -1)


def restored(z: Tensor, like: Tensor, items_last: bool) -> Tensor:
    """The inverse of `elements`, in the shape of `like`."""
    return z.view(like.shape[::-1]).t() if items_last else z.view(like.shape)


class Bin(NamedTuple):
    """The bin of each of M elements: left knot and width, lower knot and height, slopes at both ends, each (M,)."""

    x0: Tensor
    w: Tensor
    y0: Tensor
    h: Tensor
    d0: Tensor
    d1: Tensor


class Found(NamedTuple):
    """What the gradient needs to know about the search for a bin."""

    place: Tensor  # (M,), of the bin among all
    shares: Tensor  # (2, bins, M), of the box, that widths and heights take
    rises: Tensor  # (2, M), the derivatives of d0 and d1 by their logits


@dataclass(frozen=True)
class Spline:
    """Monotone rational-quadratic spline on [-box, box], identity outside (Durkan et al. 2019, arXiv:1906.04032).

    In the bin that holds x, of width w and height h, with s = h / w, end slopes d0, d1 and t = (x - x0) / w in [0, 1],

        z = y0 + h (s t^2 + d0 t (1 - t)) / q,            q = s + (d0 + d1 - 2 s) t (1 - t)
        dz/dx = s^2 (d1 t^2 + 2 s t (1 - t) + d0 (1 - t)^2) / q^2

    `params` (..., 3 bins - 1, N) for x (..., N): logits of the widths and of the heights, then the inner slopes. Zeros
    are the identity.
    """

    bins: int = 8
    box: float = 5.0

    @property
    def params(self) -> int:
        return 3 * self.bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, both (..., N)."""
        order = side_by_side(params)
        z, log_slope = Forward.apply(elements(x, order), parameters(params, order), self)
        return restored(z, x, order), restored(log_slope, x, order)

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """x (..., N): the root in [0, 1] of the quadratic in t, in the form that does not cancel."""
        order = side_by_side(params)
        flat = elements(z, order)
        inside = flat.abs() < self.box
        v = flat.clamp(-self.box, self.box)
        (x0, w, y0, h, d0, d1), _ = self.find(v, parameters(params, order), inverse=True)
        s, rise = h / w, v - y0
        bend = rise * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * rise
        root = (b * b - 4 * a * c).clamp_min(0).sqrt()
        t = 2 * c / (-b - root)
        return restored(torch.where(inside, x0 + t * w, flat), z, order)

    def find(self, x: Tensor, params: Tensor, *, inverse: bool = False) -> tuple[Bin, Found]:
        """The bin that holds each x (M,) inside the box, or each z if `inverse`. `params` (3 bins - 1, M)."""
        k, least, most = self.bins, 2 * self.box * MIN_SIZE, 2 * self.box * (1 - self.bins * MIN_SIZE)
        shares = params[: 2 * k].view(2, k, -1).softmax(1)
        below = shares.cumsum(1)  # shares of the bins up to each, itself included
        first = (torch.arange(1, k, dtype=x.dtype, device=x.device) * least - self.box)[:, None]
        index = (x >= first + most * below[int(inverse), :-1]).sum(0)
        at = index.expand(2, 1, -1)
        taken = shares.gather(1, at)[:, 0]  # (2, M)
        sizes = least + most * taken
        x0, y0 = (index.to(x.dtype) * least - self.box) + most * (below.gather(1, at)[:, 0] - taken)
        w, h = sizes
        inner = params[2 * k :]
        ends = torch.stack([index - 1, index])  # the inner slopes at the left and at the right end of the bin
        logits = inner.gather(0, ends.clamp(0, k - 2)) + SHIFT
        outer = (ends < 0) | (ends > k - 2)
        d0, d1 = torch.where(outer, 1.0, MIN_SLOPE + F.softplus(logits))
        return Bin(x0, w, y0, h, d0, d1), Found(index, shares, torch.sigmoid(logits).masked_fill(outer, 0.0))


class Forward(Function):
    """z and log dz/dx of a `Spline`, whose gradient is written out: it costs half of what autograd's own does.

    Every intermediate result of the formulas has one number an element. Only shares of widths and heights have one a
    bin, and the derivative by their logits needs no more than two passes over these:

        d z / d logit_j = p_j ([j < i] A + [j = i] B - C),     C = sum_j p_j ([j < i] A + [j = i] B)

    where i is the bin, A the derivative by its left (lower) knot and B that by its width (height), per share.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, params: Tensor, spline: Spline) -> tuple[Tensor, Tensor]:
        """z and log dz/dx (M,) for x (M,) and params (3 bins - 1, M)."""
        inside = x.abs() < spline.box
        found, more = spline.find(x.clamp(-spline.box, spline.box), params)
        ctx.spline = spline
        ctx.save_for_backward(x, inside, *found, *more)
        x0, w, y0, h, d0, d1 = found
        t = (x - x0) / w
        r, s = 1 - t, h / w
        q = s + (d0 + d1 - 2 * s) * t * r
        z = y0 + h * t * (s * t + d0 * r) / q
        slope = (s / q).square() * (d1 * t * t + 2 * s * t * r + d0 * r * r)
        return torch.where(inside, z, x), torch.where(inside, slope, 1.0).log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_z: Tensor, to_log: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradients by x and by params, from those by z and by log dz/dx."""
        x, inside, x0, w, y0, h, d0, d1, index, shares, rises = ctx.saved_tensors
        k, box = ctx.spline.bins, ctx.spline.box
        least, most = 2 * box * MIN_SIZE, 2 * box * (1 - k * MIN_SIZE)
        gz, gl = to_z * inside, to_log * inside
        t = ((x - x0) / w).clamp(0, 1)
        r, s = 1 - t, h / w
        tr, tt, rr, bend = t * r, t * t, r * r, d0 + d1 - 2 * s
        q = s + bend * tr
        n = s * tt + d0 * tr  # z = y0 + h n / q
        m = d1 * tt + 2 * s * tr + d0 * rr  # dz/dx = s^2 m / q^2
        up = gz * h / q
        by_q = -(up * n / q + 2 * gl / q)
        by_m = gl / m
        by_s = up * tt + 2 * gl / s + 2 * tr * by_m + (1 - 2 * tr) * by_q
        by_d0 = (up + by_q) * tr + rr * by_m
        by_d1 = by_q * tr + tt * by_m
        turn = 1 - 2 * t
        by_t = up * (2 * s * t + d0 * turn) + by_q * bend * turn + 2 * by_m * (d1 * t + s * turn - d0 * r)
        by_x = by_t / w
        by_w = -(by_x * t + by_s * s / w)
        by_h = gz * n / q + by_s / w
        corner = index.to(shares.dtype) * least - box  # of the bin, if every bin had the least size
        out = torch.empty((3 * k - 1, len(x)), dtype=shares.dtype, device=x.device)
        before = torch.arange(k, device=x.device)[:, None] < index
        for side, (by_knot, by_size, knot, size) in enumerate(((-by_x, by_w, x0, w), (gz, by_h, y0, h))):
            a, b = most * by_knot, most * by_size
            c = by_knot * (knot - corner) + by_size * (size - least)
            logits = torch.where(before, a - c, -c)
            logits.scatter_(0, index[None], (b - c)[None])
            torch.mul(logits, shares[side], out=out[side * k : (side + 1) * k])
        slopes = out[2 * k :].zero_()
        slopes.scatter_(0, (index - 1).clamp_min(0)[None], (by_d0 * rises[0])[None])
        slopes.scatter_add_(0, index.clamp_max(k - 2)[None], (by_d1 * rises[1])[None])
        return torch.where(inside, by_x, to_z), out, None


Transform = Affine | Spline
