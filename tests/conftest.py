"""Shared by all tests."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def randomise(module: nn.Module, *, scale: float = 0.3, seed: int = 0) -> nn.Module:
    """Every parameter moved by noise, in float64 and evaluation mode: zero-initialised layers hide bugs."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module
