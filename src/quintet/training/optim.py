"""Optimiser, learning-rate schedule and moving average."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from quintet.core.settings import Settings


class TrainingSettings(Settings):
    """How a run is trained. A step is one update of every objective on `batch_size` samples."""

    batch_size: int = Field(128, ge=1)
    micro_batch: int | None = Field(None, ge=1, description="samples a backward pass; None: the whole batch")
    lr: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps")
    final_lr: float = Field(0.0, ge=0, le=1, description="share of lr at the end of the cosine")
    clip: float | None = Field(1.0, gt=0, description="largest norm of an objective's gradient")
    ema: float = Field(0.1, gt=0, lt=0.28, description="width of the moving average, as a share of training")
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; None: a quarter of the run")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    sample_every: int | None = Field(None, ge=1, description="steps between sample grids; None: an eighth of the run")


def make_optimiser(module: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov & Hutter 2019); only matrices and kernels decay."""
    params = list(module.parameters())
    groups = [
        {"params": [p for p in params if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to `final_lr`; step counts from 0."""
    warmup = max(1.0, settings.warmup * steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return settings.lr * min(1.0, (step + 1) / warmup) * (settings.final_lr + (1 - settings.final_lr) * cosine)


class EMA:
    """A moving average whose width is a fixed share of training so far (Karras et al. 2024, arXiv:2312.02696).

        average_t = d_t average_{t-1} + (1 - d_t) theta_t,    d_t = (1 - 1/t)^(gamma + 1),

    with gamma from the relative width by (gamma + 1) = rel^2 (gamma + 2)^2 (gamma + 3). No constant has to fit the budget.
    """

    def __init__(self, model: nn.Module, width: float) -> None:
        self.params = list(model.parameters())
        self.average = [p.detach().clone() for p in self.params]
        low, high = 0.0, 1e4  # the width falls as gamma grows: bisect
        for _ in range(100):
            gamma = 0.5 * (low + high)
            wide = math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) > width
            low, high = (gamma, high) if wide else (low, gamma)
        self.gamma = low

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After update number `step`, counted from 1."""
        weight = 1 - (1 - 1 / step) ** (self.gamma + 1)
        torch._foreach_lerp_(self.average, [p.detach() for p in self.params], weight)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's parameters and their average (call again to go back)."""
        for p, average in zip(self.params, self.average, strict=True):
            kept: Tensor = p.detach().clone()
            p.copy_(average)
            average.copy_(kept)
