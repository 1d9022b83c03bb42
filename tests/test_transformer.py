"""The Transformer's own operations against their formulas, and bf16 against float32."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import randomise
from torch import Tensor

from quintet.core.spaces import Discrete
from quintet.families.autoregressive import Autoregressive
from quintet.nets import transformer as module
from quintet.nets.transformer import ReluSquared, rotate, rotations
from quintet.training.engine import autocast


def explicit(x: Tensor, start: int) -> Tensor:
    """Each pair of neighbours turned by position / 10000^(pair / pairs), number by number."""
    out = x.clone()
    pairs = x.shape[-1] // 2
    for t in range(x.shape[-2]):
        for i in range(pairs):
            angle = (start + t) / 10_000 ** (i / pairs)
            a, b = x[..., t, 2 * i], x[..., t, 2 * i + 1]
            out[..., t, 2 * i] = a * math.cos(angle) - b * math.sin(angle)
            out[..., t, 2 * i + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_rotations_are_those_of_the_formula(dtype: torch.dtype, error: float) -> None:
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    turned = rotate(x, rotations(7, 5, 8, x))
    assert turned.dtype == dtype
    assert (turned.double() - explicit(x.double(), 7)).abs().max() < error
    assert (rotate(x, rotations(8, 5, 8, x)).double() - explicit(x.double(), 7)).abs().max() > 0.1


def test_relu_squared_and_its_two_derivatives() -> None:
    x = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.equal(ReluSquared.apply(x)[0], x.clamp_min(0).square())
    assert torch.equal(ReluSquared.apply(x)[1], x.clamp_min(0))
    for used in (lambda v: ReluSquared.apply(v)[0], lambda v: ReluSquared.apply(v)[1], ReluSquared.apply):
        assert torch.autograd.gradcheck(used, (x,))
        assert torch.autograd.gradgradcheck(used, (x,))


def error_of_bf16() -> float:
    """Largest relative error of a parameter's gradient in bf16."""
    settings = Autoregressive.Settings(width=64, depth=2, heads=2, positions="rotary", activation="relu2", norm="layer",
                                       reach=2)  # fmt: skip
    family = randomise(Autoregressive(Discrete((32,), 9), None, settings)).float()
    x = torch.randint(9, (16, 32), generator=torch.Generator().manual_seed(0))
    grads = []
    for precision in ("fp32", "bf16"):
        family.zero_grad()
        with autocast(precision, torch.device("cpu")):
            loss = family.nats(x, family.given(None, len(x))).mean()
        assert loss.dtype == torch.float32
        loss.backward()
        grads.append([p.grad.clone() for p in family.parameters() if p.grad is not None])
    return max(float((a - b).norm() / a.norm()) for a, b in zip(*grads, strict=True))


def test_gradients_in_bf16_are_those_of_float32_but_for_rounding() -> None:
    assert error_of_bf16() < 0.05


def test_the_comparison_with_bf16_notices_a_rough_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    true = module.rotate
    monkeypatch.setattr(module, "rotate", lambda x, turn: true(x, turn) if x.dtype == torch.float32 else x)
    assert error_of_bf16() > 0.1
