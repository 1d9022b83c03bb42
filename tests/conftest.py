"""Shared by all tests."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _settled() -> None:
    """One thread, and fresh weights that do not depend on which tests ran before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


def randomise(module: nn.Module, *, scale: float = 0.3, seed: int = 0) -> nn.Module:
    """Every parameter moved by noise, in float64 and evaluation mode: zero-initialised layers hide bugs."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module
