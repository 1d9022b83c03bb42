"""Invertible layers on flat vectors: couplings, masked autoregression, mixing, standardising."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quintet.nets.bits import narrow, widen
from quintet.nets.elementwise import Transform
from quintet.nets.given import UNCONDITIONAL, UNTOLD, Added, Given, Widths, zero


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


class Narrow(Invertible):
    """The noise of bits drawn into the middle of their bins, in those dimensions that are `there`: see `narrow`."""

    there: Tensor

    def __init__(self, there: Tensor) -> None:
        super().__init__()
        self.size = len(there)
        self.register_buffer("there", there, persistent=False)

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        return narrow(x, self.there)

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        return widen(z, self.there)


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


class Whiten(Invertible):
    """z = W (x - mean) over the channels of `shape`; W is lower triangular, and at first makes the channels of data
    uncorrelated, with a standard deviation of 1. A direction in which they hardly vary counts as a hundredth of the
    widest.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.size, self.channels = math.prod(shape), shape[0]
        self.mean, self.log_scale = nn.Parameter(torch.zeros(shape[0], 1)), nn.Parameter(torch.zeros(shape[0]))
        self.lower = nn.Parameter(torch.zeros(shape[0], shape[0]))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set mean and W from x (B, size): W^-1 is the Cholesky factor of the covariance."""
        values = x.view(len(x), self.channels, -1).transpose(0, 1).flatten(1).double()
        self.mean.copy_(values.mean(1, keepdim=True))
        covariance = values.cov(correction=0).view(self.channels, self.channels)
        least = 1e-4 * covariance.diagonal().max() + 1e-12
        covariance = covariance + least * torch.eye(self.channels, dtype=torch.double, device=x.device)
        weight = torch.linalg.inv(torch.linalg.cholesky(covariance))
        self.log_scale.copy_(weight.diagonal().log())
        self.lower.copy_(weight.tril(-1))

    def weight(self) -> Tensor:
        return self.lower.tril(-1) + torch.diag(self.log_scale.exp())

    def forward(self, x: Tensor, given: MaybeGuided = UNCONDITIONAL) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            z = self.weight() @ (x.view(len(x), self.channels, -1) - self.mean)
        return z.flatten(1), (self.log_scale.sum() * (self.size // self.channels)).expand(len(x))

    def inverse(self, z: Tensor, given: MaybeGuided = UNCONDITIONAL) -> Tensor:
        centred = torch.linalg.solve_triangular(self.weight(), z.view(len(z), self.channels, -1), upper=False)
        return (centred + self.mean).flatten(1)


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
    """y = (mask * W) x + b, mask (outputs, inputs), or y = W x + b without one."""

    mask: Tensor | None

    def __init__(self, inputs: int, outputs: int, mask: Tensor | None = None) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mask", mask, persistent=False)

    def masked(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

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
        first, middle, last = masks or (None, None, None)
        self.enter, self.leave = MaskedLinear(inputs, width, first), MaskedLinear(width, outputs, last)
        self.blocks = nn.ModuleList(MaskedLinear(width, width, middle) for _ in range(depth - 1))
        zero(self.leave)
        self.added = Added(ready, width)

    def forward(self, x: Tensor, given: Given = UNCONDITIONAL) -> Tensor:
        h = self.added(self.enter(x), given)
        for block in self.blocks:
            h = h + block(self.activate(h))
        # a parameter of all items lies side by side in memory, along which the elementwise maps run
        return torch.addmm(self.leave.bias[:, None], self.leave.masked(), self.activate(h).t()).t()

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
