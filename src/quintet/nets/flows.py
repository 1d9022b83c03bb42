"""Invertible layers on flat vectors: splines and affine maps, couplings, masked autoregression, mixing, standardising.

Arithmetic on x is done in float32 or better, whatever the autocast: only nets that compute parameters may run lower.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.given import UNCONDITIONAL, UNTOLD, Added, Given, Widths, zero

MIN_SIZE, MIN_SLOPE = 1e-3, 1e-3  # of a bin, as a share of the box, and of a knot's slope


def full(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is."""
    return x if x.dtype == torch.float64 else x.float()


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
        mean, log_std = full(params).unbind(-2)
        bound = torch.where(log_std > 0, self.widest, 3.0)
        mean = mean if self.most is None else self.most * torch.tanh(mean / self.most)
        return mean, bound * torch.tanh(log_std / bound)


@dataclass(frozen=True)
class Spline:
    """Monotone rational-quadratic spline on [-box, box], identity outside (Durkan et al. 2019, arXiv:1906.04032).

    In the bin that holds x, of width w and height h, with s = h / w, end slopes d0, d1 and t = (x - x0) / w in [0, 1],

        z = y0 + h (s t^2 + d0 t (1 - t)) / q,            q = s + (d0 + d1 - 2 s) t (1 - t)
        dz/dx = s^2 (d1 t^2 + 2 s t (1 - t) + d0 (1 - t)^2) / q^2

    `params` (..., 3 bins - 1, N) for x (..., N): logits of the widths and of the heights, then the inner slopes. Zeros
    are the identity. Elements come last, so that every operation runs along memory.
    """

    bins: int = 8
    box: float = 5.0

    @property
    def params(self) -> int:
        return 3 * self.bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, both (..., N)."""
        inside = x.abs() < self.box
        u = x.clamp(-self.box, self.box)
        x0, w, y0, h, d0, d1 = self._bin(u, params, inverse=False)
        t = (u - x0) / w
        r, s = 1 - t, h / w
        tr, sq = t * r, t * t
        q = s + (d0 + d1 - 2 * s) * tr
        z = y0 + h * (s * sq + d0 * tr) / q
        slope = (s / q).square() * (d1 * sq + 2 * s * tr + d0 * r * r)
        return torch.where(inside, z, x), torch.where(inside, slope, 1.0).log()

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """x (..., N): the root in [0, 1] of the quadratic in t, in the form that does not cancel."""
        inside = z.abs() < self.box
        v = z.clamp(-self.box, self.box)
        x0, w, y0, h, d0, d1 = self._bin(v, params, inverse=True)
        s, rise = h / w, v - y0
        bend = rise * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * rise
        root = (b * b - 4 * a * c).clamp_min(0).sqrt()
        t = 2 * c / (-b - root)
        return torch.where(inside, x0 + t * w, z)

    def _bin(self, x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, ...]:
        """Left knot and width, lower knot and height, end slopes of each element's bin, six times (..., N)."""
        k = self.bins
        params = full(params)
        *lead, _, n = params.shape
        sizes = params[..., : 2 * k, :].reshape(*lead, 2, k, n).softmax(-2)
        sizes = 2 * self.box * (MIN_SIZE + (1 - k * MIN_SIZE) * sizes)
        knots = F.pad(sizes[..., :-1, :].cumsum(-2) - self.box, (0, 0, 1, 0), value=-self.box)  # (..., 2, k, n)
        shift = math.log(math.expm1(1 - MIN_SLOPE))  # softplus of it is 1: identity at zero
        slopes = F.pad(MIN_SLOPE + F.softplus(params[..., 2 * k :, :] + shift), (0, 0, 1, 1), value=1.0)
        index = (x.detach().unsqueeze(-2) >= knots.detach()[..., int(inverse), 1:, :]).sum(-2, keepdim=True)
        both = index.unsqueeze(-3).expand(*lead, 2, 1, n)
        x0, y0 = knots.gather(-2, both).squeeze(-2).unbind(-2)
        w, h = sizes.gather(-2, both).squeeze(-2).unbind(-2)
        d0, d1 = slopes.gather(-2, torch.cat([index, index + 1], -2)).unbind(-2)
        return x0, w, y0, h, d0, d1


Transform = Affine | Spline


class Guided(NamedTuple):
    """A condition to be followed more than the data do: params = null + weight * (conditional - null).

    Classifier-free guidance (Ho & Salimans 2022) of each layer's parameters, as TarFlow does for its affine maps (Zhai
    et al. 2024, arXiv:2412.06329). Parameters still depend on the same inputs, so a guided layer is invertible too.
    """

    given: Given
    null: Given
    weight: float

    def mix(self, conditional: Tensor, null: Tensor) -> Tensor:
        return null + self.weight * (conditional - null)


MaybeGuided = Given | Guided
"""What a layer is given, guided or not."""


def predict(net: nn.Module, x: Tensor, given: MaybeGuided) -> Tensor:
    """The parameters that `net` reads off x, guided where that is asked for."""
    if isinstance(given, Guided):
        return given.mix(net(x, given.given), net(x, given.null))
    out: Tensor = net(x, given)
    return out


class Invertible(nn.Module, ABC):
    """x (B, size) <-> z (B, size), possibly given a condition."""

    size: int

    @abstractmethod
    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        """z, and log |det dz/dx| (B,) in nats."""

    @abstractmethod
    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        """x."""


class Permute(Invertible):
    """z = x[index]."""

    index: Tensor
    back: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.size = len(index)
        self.register_buffer("index", index)
        self.register_buffer("back", index.argsort())

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        return x[:, self.index], x.new_zeros(len(x))

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        return z[:, self.back]


class Standardise(Invertible):
    """z = (x - mean) / std for each channel of `shape`, read off data; `learnt`: ActNorm (Kingma & Dhariwal 2018).

    A channel that hardly varies (a border pixel) is divided by `floor` times the largest std instead of its own: blown
    up to unit variance, the rare item that does vary there would land far outside every spline.
    """

    mean: Tensor
    log_std: Tensor

    def __init__(self, shape: tuple[int, ...], *, floor: float = 1e-3, learnt: bool = False) -> None:
        super().__init__()
        self.size, self.channels, self.floor = math.prod(shape), shape[0], floor
        for name in ("mean", "log_std"):
            value = torch.zeros(self.channels, 1)
            if learnt:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set mean and std from x (B, size)."""
        values = x.view(len(x), self.channels, -1).transpose(0, 1).flatten(1)
        std = values.std(1, correction=0)
        self.mean.copy_(values.mean(1, keepdim=True))
        self.log_std.copy_(std.clamp_min(self.floor * float(std.max()) + 1e-12).log()[:, None])

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        z = (x.view(len(x), self.channels, -1) - self.mean) * torch.exp(-self.log_std)
        log_det = -self.log_std.sum() * (self.size // self.channels)
        return z.flatten(1), log_det.expand(len(x))

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        return (z.view(len(z), self.channels, -1) * torch.exp(self.log_std) + self.mean).flatten(1)


class Mix(Invertible):
    """z = P L (U + diag(s)) x over the channels of `shape`: an invertible 1x1 convolution (arXiv:1807.03039).

    It starts as a random rotation; s keeps its signs.
    """

    p: Tensor
    sign: Tensor

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        super().__init__()
        self.size, self.channels = math.prod(shape), shape[0]
        noise = torch.randn(self.channels, self.channels, generator=torch.Generator().manual_seed(seed))
        p, lower, upper = torch.linalg.lu(torch.linalg.qr(noise)[0])
        self.register_buffer("p", p)
        self.register_buffer("sign", upper.diag().sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(upper.diag().abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L with a unit diagonal, and U + diag(s)."""
        eye = torch.eye(self.channels, dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + eye, self.upper.triu(1) + torch.diag(self.sign * self.log_scale.exp())

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            lower, upper = self.factors()
            z = (self.p @ lower @ upper) @ x.view(len(x), self.channels, -1)
        return z.flatten(1), (self.log_scale.sum() * (self.size // self.channels)).expand(len(x))

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        lower, upper = self.factors()
        y = self.p.T @ z.view(len(z), self.channels, -1)
        y = torch.linalg.solve_triangular(lower, y, upper=False, unitriangular=True)
        x: Tensor = torch.linalg.solve_triangular(upper, y, upper=True)
        return x.flatten(1)


class Coupling(Invertible):
    """(a, b) -> (a, f(b; net(a, given))), elementwise in b (Dinh et al. 2017, arXiv:1605.08803).

    `net` maps a (B, *kept) and what is given to parameters (B, transform.params * moved, ...).
    """

    def __init__(self, kept: tuple[int, ...], moved: int, net: nn.Module, transform: Transform) -> None:
        super().__init__()
        self.kept, self.moved, self.net, self.transform = kept, moved, net, transform
        self.size = math.prod(kept) + moved

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        a, b = x[:, : -self.moved], x[:, -self.moved :]
        b, log_det = self.transform.forward(b, self.parameters_for(a, given))
        return torch.cat([a, b], 1), log_det.sum(1)

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        a, b = z[:, : -self.moved], z[:, -self.moved :]
        return torch.cat([a, self.transform.inverse(b, self.parameters_for(a, given))], 1)

    def parameters_for(self, a: Tensor, given: MaybeGuided) -> Tensor:
        """(B, transform.params, moved)."""
        params = predict(self.net, a.reshape(-1, *self.kept), given)
        return params.view(len(a), self.transform.params, self.moved)


class MaskedLinear(nn.Linear):
    """y = (mask * W) x + b, mask (outputs, inputs)."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def masked(self) -> Tensor:
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.masked(), self.bias)


class ParameterNet(nn.Module):
    """x (B, inputs), given -> (B, outputs) through `depth` hidden layers, residual after the first. Zero at first.

    With `masks` (of the first, the middle and the last layer) it is a MADE; what is given enters the first unmasked.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        *,
        ready: Widths = UNTOLD,
        dropout: float = 0.0,
        masks: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        sizes = (width, inputs), (width, width), (outputs, width)
        first, middle, last = masks or (torch.ones(size, dtype=torch.bool) for size in sizes)
        self.enter, self.leave = MaskedLinear(first), MaskedLinear(last)
        self.blocks = nn.ModuleList(MaskedLinear(middle) for _ in range(depth - 1))
        zero(self.leave)
        self.added = Added(ready, width)

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = self.added(self.enter(x), given)
        for block in self.blocks:
            h = h + block(self.activate(h))
        out: Tensor = self.leave(self.activate(h))
        return out

    def activate(self, h: Tensor) -> Tensor:
        return F.dropout(F.silu(h), self.dropout, self.training)


class MaskedAutoregressive(Invertible):
    """z_d = f(x_d; net(x_<d, given)) with one masked net for all d (MADE, arXiv:1502.03509; MAF, arXiv:1705.07057).

    Hidden unit i sees the first degree_i inputs. Units are sorted by degree, so what is new at step d of the inversion
    is one block of rows of each layer: the whole inversion costs about the products of one pass, not one pass a
    dimension.
    """

    def __init__(
        self, dims: int, transform: Transform, width: int, depth: int, *, ready: Widths = UNTOLD, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.size, self.transform = dims, transform
        degree, position = torch.linspace(0, dims - 1, width).round().long(), torch.arange(dims)
        self.bounds = torch.searchsorted(degree, torch.arange(dims + 1)).tolist()  # units below a degree
        last = (position[:, None] >= degree).repeat(transform.params, 1)
        masks = degree[:, None] > position, degree[:, None] >= degree, last
        self.net = ParameterNet(dims, len(last), width, depth, ready=ready, dropout=dropout, masks=masks)

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        params = predict(self.net, x, given).view(len(x), self.transform.params, self.size)
        z, log_det = self.transform.forward(x, params)
        return z, log_det.sum(1)

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        views = (given.given, given.null) if isinstance(given, Guided) else (given,)
        nets = [Unfolding(self, len(z), view) for view in views]
        z = z.T.contiguous()  # (dims, B), so that a dimension is a row
        x = torch.empty_like(z)
        for d in range(self.size):
            params = [net.params(d, x[:d]) for net in nets]
            x[d] = self.transform.inverse(z[d], given.mix(*params) if isinstance(given, Guided) else params[0])
        return x.T.contiguous()


class Unfolding:
    """The masked net of an `MaskedAutoregressive` layer, read one dimension after another; activations are kept."""

    def __init__(self, layer: MaskedAutoregressive, n: int, given: Given) -> None:
        net, size = layer.net, layer.size
        self.bounds = layer.bounds
        self.weights = [part.masked() for part in (net.enter, *net.blocks, net.leave)]
        self.biases = [part.bias[:, None] for part in (net.enter, *net.blocks, net.leave)]
        self.leave = self.weights[-1].view(-1, size, self.weights[-1].shape[1]).transpose(0, 1)  # (dims, params, width)
        self.offset = self.biases[-1].view(-1, size, 1).transpose(0, 1)  # (dims, params, 1)
        self.start = net.added(net.enter.bias.expand(n, -1), given).T
        self.active = [torch.empty_like(self.start) for _ in self.weights[1:]]  # silu(h) of each hidden layer

    def params(self, d: int, x: Tensor) -> Tensor:
        """Parameters (transform.params, B) of dimension d, given the d before it, x (d, B)."""
        new, seen = slice(self.bounds[d], self.bounds[d + 1]), self.bounds[d + 1]  # units of degree d, and up to d
        h = torch.addmm(self.start[new], self.weights[0][new, :d], x)
        self.active[0][new] = F.silu(h)
        for i in range(1, len(self.active)):
            h = h + torch.addmm(self.biases[i][new], self.weights[i][new, :seen], self.active[i - 1][:seen])
            self.active[i][new] = F.silu(h)
        return torch.addmm(self.offset[d], self.leave[d, :, :seen], self.active[-1][:seen])
