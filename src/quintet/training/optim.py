"""Optimiser, learning-rate schedule and moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from quintet.training.muon import muon, stacks
from quintet.training.settings import TrainingSettings


class Flat:
    """All parameters of an objective side by side in one vector `value`, and their gradients in another, `grad`.

    The module keeps its parameters, but each becomes a view of its part of the vector. So a step costs a few
    operations, however many parameters there are: one norm, one update, one average, and one sum over ranks. (With
    PyTorch's own optimisers, steps of the smallest nets take 1.6 times as long: see docs/decisions/0016-muon.md.)

    The vector has three parts, in this order:

        value[: hidden]            matrices that Muon updates (`hidden`: matrix -> blocks of rows in it); those of equal
                                   shape are neighbours, so that they are updated together, as one stack
        value[hidden : matrices]   all other matrices and kernels, which Adam updates, with weight decay (AdamW,
                                   Loshchilov & Hutter 2019), as Muon's matrices have
        value[matrices :]          biases and gains, which Adam updates without weight decay
    """

    ALIGN = 16  # each parameter starts at a multiple of 16 numbers, 64 bytes, where matrix products are fastest

    def __init__(
        self, params: Mapping[str, nn.Parameter], settings: TrainingSettings, hidden: Mapping[nn.Parameter, int]
    ) -> None:
        blocks = {name: hidden[p] for name, p in params.items() if p in hidden}

        def place(name: str) -> tuple[int, tuple[int, ...]]:
            shape = params[name].shape
            return (0, (*shape, blocks[name])) if name in blocks else (1 if len(shape) >= 2 else 2, ())

        self.names = sorted(params, key=place)  # stable
        self.shapes = [params[name].shape for name in self.names]
        starts = [0]
        for shape in self.shapes:
            starts.append(starts[-1] + -(-shape.numel() // self.ALIGN) * self.ALIGN)
        self.starts, some = starts, params[self.names[0]]
        self.matrices = starts[sum(len(shape) >= 2 for shape in self.shapes)]
        self.hidden = starts[len(blocks)]
        self.stacks = list(stacks(starts, self.shapes, [blocks[name] for name in self.names[: len(blocks)]]))
        self.value = torch.zeros(starts[-1], dtype=some.dtype, device=some.device)
        self.grad = torch.zeros_like(self.value)
        values, grads = self.views(self.value), self.views(self.grad)
        self.params, self.grads = [params[name] for name in self.names], [grads[name] for name in self.names]
        for name, p in params.items():
            values[name].copy_(p.detach())
            p.data, p.grad = values[name], grads[name]
        self.decaying, self.decay = self.value[: self.matrices], settings.weight_decay
        self.betas, self.momentum = settings.betas, settings.momentum
        self.moments = {
            "exp_avg": torch.zeros_like(self.grad),
            "exp_avg_sq": torch.zeros_like(self.grad[self.hidden :]),
            "step": torch.zeros((), device=some.device),
        }

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """The part of each parameter in a vector that is laid out like `value`, by the names of the parameters."""
        parts = zip(self.names, self.starts, self.shapes, strict=False)
        return {name: vector[start : start + shape.numel()].view(shape) for name, start, shape in parts}

    def clear(self) -> None:
        """Before a backward pass: parameters have no gradient, so that the first one is kept as it is, not added."""
        for p in self.params:
            p.grad = None

    def collect(self) -> None:
        """After it: the gradients of the parameters go to their places in `grad`; where there is none, it is zero."""
        found = [(place, p.grad) for place, p in zip(self.grads, self.params, strict=True) if p.grad is not None]
        if len(found) < len(self.params):
            self.grad.zero_()
        torch._foreach_copy_([place for place, _ in found], [grad for _, grad in found])
        self.clear()

    def norm(self) -> float:
        """The Euclidean norm of the gradient, which is finite if and only if all of the gradient is."""
        return float(torch.linalg.vector_norm(self.grad))

    @torch.no_grad()
    def step(self, lr: float, scale: float) -> None:
        """Update the parameters once, with the gradient multiplied by `scale`."""
        if scale != 1:
            self.grad.mul_(scale)
        if self.decay:
            self.decaying.mul_(1 - lr * self.decay)
        m, first, rest = self.moments, slice(self.hidden), slice(self.hidden, None)
        if self.stacks:
            muon(self.value, self.grad[first], m["exp_avg"][first], self.stacks, lr=lr, momentum=self.momentum)
        adam(
            [self.value[rest]],
            [self.grad[rest]],
            [m["exp_avg"][rest]],
            [m["exp_avg_sq"]],
            [],
            [m["step"]],
            fused=True,
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )


def learning_rate(settings: TrainingSettings, step: float, steps: int) -> float:
    """The rate of a step, counted from 0: a linear warm-up times half a cosine, or a line, that falls to `final_lr`."""
    warmup, left = max(1.0, settings.warmup * steps), 1 - min(1.0, step / steps)
    fall = left if settings.decay == "linear" else 0.5 * (1 - math.cos(math.pi * left))
    return settings.lr * min(1.0, (step + 1) / warmup) * (settings.final_lr + (1 - settings.final_lr) * fall)


EACH, STRIDE = 64, 4
"""See `EMA`."""


class EMA:
    """A moving average whose width is a fixed share of training so far (Karras et al. 2024, arXiv:2312.02696).

        average_t = d_t average_{t-1} + (1 - d_t) theta_t,    d_t = (1 - 1/t)^(gamma + 1),

    with gamma from the relative width by (gamma + 1) = rel^2 (gamma + 2)^2 (gamma + 3). No constant has to fit the
    budget. After the first `EACH` steps it takes every `STRIDE`th of them, in the place of as many: theta moves less in
    these than the average reaches back, and for small nets an average costs as much as half an update.
    """

    def __init__(self, values: Sequence[Tensor], width: float) -> None:
        self.values = [value.detach() for value in values]
        self.average = [value.clone() for value in self.values]
        low, high = 0.0, 1e4  # the width falls as gamma grows: bisect
        for _ in range(100):
            gamma = 0.5 * (low + high)
            wide = math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) > width
            low, high = (gamma, high) if wide else (low, gamma)
        self.gamma = low

    def update(self, step: int) -> None:
        """Take the values after update number `step`, counted from 1, into the average."""
        taken = 1 if step <= EACH else STRIDE
        if step % taken:
            return
        weight = 1 - (1 - taken / step) ** (self.gamma + 1)
        for average, value in zip(self.average, self.values, strict=True):
            average.lerp_(value, weight)

    def restart(self) -> None:
        """Begin again from the values as they are."""
        for average, value in zip(self.average, self.values, strict=True):
            average.copy_(value)

    def swap(self) -> None:
        """Exchange the values and their average (call again to go back)."""
        for value, average in zip(self.values, self.average, strict=True):
            kept = value.clone()
            value.copy_(average)
            average.copy_(kept)
