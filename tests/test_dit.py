"""DiT: a layer by hand, positions that tell places apart, and shapes of any size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import randomise
from torch import Tensor

from quintet.nets.dit import DiT, Modulated, positions
from quintet.nets.given import Given, Widths


def given(n: int, emb: int = 6) -> Given:
    return Given(torch.randn(n, emb, generator=torch.Generator().manual_seed(1), dtype=torch.float64))


@pytest.mark.parametrize(
    ("shape", "patch", "count"),
    [((1, 28, 28), None, 196), ((3, 64, 64), 8, 64), ((2, 9, 5), 4, 6), ((1, 33), 8, 5), ((7,), None, 7)],
)
def test_any_shape_comes_back_and_the_start_is_zero(shape: tuple[int, ...], patch: int | None, count: int) -> None:
    net = DiT(shape, 16, 1, ready=Widths(6), patch=patch).double()
    x = torch.randn(2, *shape, dtype=torch.float64)
    assert net.places.shape == (count, 16)
    assert torch.equal(net(x, given(2)), torch.zeros_like(x))
    assert randomise(net)(x, given(2)).shape == x.shape


def test_a_layer_is_the_stated_one() -> None:
    """Shift, scale and gate, by hand, for one head of attention without its normalisation."""
    layer = randomise(Modulated(8, Widths(6), 0.0))
    layer.attention.q_norm = layer.attention.k_norm = torch.nn.Identity()
    x, told = torch.randn(2, 5, 8, dtype=torch.float64), given(2)
    shift, scale, gate, shift2, scale2, gate2 = layer.modulation(told.emb)[:, None].chunk(6, -1)
    norm = lambda h: (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()  # noqa: E731
    q, k, v = layer.attention.qkv(norm(x) * (1 + scale) + shift).chunk(3, -1)
    h = x + (1 + gate) * layer.attention.out((q @ k.mT / 8**0.5).softmax(-1) @ v)
    up, value = layer.feed_forward.up(norm(h) * (1 + scale2) + shift2).chunk(2, -1)
    h = h + (1 + gate2) * layer.feed_forward.down(F.silu(up) * value)
    torch.testing.assert_close(layer(x, told), h)


def moved_by(net: DiT, x: Tensor) -> Tensor:
    """Which patches of 2 x 2 of the output move when one entry of the first does."""
    other = x.clone()
    other[:, 0, 0, 0] += 1
    return F.max_pool2d((net(other, given(1)) - net(x, given(1))).abs(), 2)[0, 0] > 1e-9


def test_every_patch_sees_every_other_through_attention_alone() -> None:
    net, x = randomise(DiT((1, 6, 6), 16, 1, ready=Widths(6), patch=2)), torch.randn(1, 1, 6, 6, dtype=torch.float64)
    assert bool(moved_by(net, x).all())
    with torch.no_grad():
        net.blocks[0].attention.out.weight.zero_()  # the control: without it a patch sees itself only
    assert int(moved_by(net, x).sum()) == 1


def test_places_tell_equal_patches_apart_and_neighbours_are_near() -> None:
    places = positions([4, 6], 18)
    assert places.shape == (24, 18)
    assert float(torch.cdist(places, places).add(10 * torch.eye(24)).min()) > 0.1
    grid = places.view(4, 6, 18)
    assert torch.equal(grid[0, :, :8], grid[0, :1, :8].expand(6, -1)), "the first half tells the row alone"
    assert torch.equal(grid[:, 0, 8:], grid[:1, 0, 8:].expand(4, -1)), "the second the column"
    net = randomise(DiT((1, 4, 4), 16, 1, ready=Widths(6), patch=2))
    same = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    out = net(same, given(1))
    assert float((out[..., :2, :2] - out[..., 2:, 2:]).abs().max()) > 1e-6
    net.places.zero_()  # the control
    out = net(same, given(1))
    torch.testing.assert_close(out[..., :2, :2], out[..., 2:, 2:])
