"""The U-Net and the dense layer at its bottom."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import randomise

from quintet.nets.conv import Dense, UNet, unfold
from quintet.nets.given import Given, Widths


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("dense", [0, 8])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 37), (1, 1, 1), (1, 8, 8), (2, 7, 5), (1, 28, 28), (3, 33, 9)])
def test_the_unet_keeps_every_size(shape: tuple[int, ...], dense: int) -> None:
    net = randomise(UNet(shape, 8, 1, ready=Widths(4), dense=dense), scale=0.1)
    x, emb = normal(3, *shape), normal(3, 4)
    y = net(x, Given(emb))
    assert y.shape == x.shape
    assert y.dtype == torch.float64
    assert y.isfinite().all()
    assert torch.allclose(net(x[1:2], Given(emb[1:2])), y[1:2])
    assert not torch.allclose(net(x, Given(emb + 1)), y)
    assert net(x).shape == x.shape


def test_a_net_may_have_any_width() -> None:
    """A normalisation's groups divide its channels, also where these are no multiple of eight or of sixteen."""
    for width in (1, 7, 15, 46, 56, 97):
        assert UNet((1, 8, 8), width, 1, ready=Widths(4))(torch.randn(2, 1, 8, 8)).shape == (2, 1, 8, 8)


def test_the_numbers_of_a_patch_have_gains_of_their_own() -> None:
    """The last layer says an offset and a gain, number by number, so that the answer follows every number of x; without
    patches it says the answer."""
    net, x = UNet((3, 32, 32), 8, 1), torch.randn(2, 3, 32, 32)
    assert net.patch == 2
    gains = torch.arange(12.0)
    with torch.no_grad():
        net.leave.bias.copy_(torch.cat([torch.full((12,), 0.25), gains]))
    want = 0.25 + x * unfold(gains.view(1, 12, 1, 1).expand(2, 12, 16, 16), 2, (32, 32))
    torch.testing.assert_close(net(x), want)
    assert UNet((3, 16, 16), 8, 1).leave.weight.shape[0] == 3


@pytest.mark.parametrize("size", [(5,), (4, 3)])
def test_the_dense_layer_is_its_equation(size: tuple[int, ...]) -> None:
    layer = Dense(16, size, 6, emb=4)
    x, emb = normal(3, 16, *size), normal(3, 4)
    assert torch.equal(layer.double()(x, Given(emb)), x), "the identity at first"
    randomise(layer)
    normed = F.group_norm(x, 2, layer.norm.weight, layer.norm.bias)
    inner = torch.einsum("ic,bc->bi", layer.up.weight, normed.reshape(3, -1)) + layer.up.bias
    scale, shift = layer.modulation.to_scale_shift(emb).chunk(2, 1)
    inner = inner * (1 + scale) + shift
    outer = torch.einsum("ci,bi->bc", layer.down.weight, inner * inner.sigmoid()) + layer.down.bias
    assert torch.allclose(layer(x, Given(emb)), x + outer.reshape(x.shape))


def test_the_dense_layer_tells_places_apart() -> None:
    """What happens at one place depends on where it is: moving the input does not just move the output."""
    layer = randomise(Dense(8, (6,), 5))
    x = torch.zeros(2, 8, 6, dtype=torch.float64)
    x[0, 0, 2] = x[1, 0, 3] = 1
    y = layer(x) - x
    assert not torch.allclose(y[0].roll(1, 1), y[1])


@pytest.mark.parametrize("shape", [(1, 200_000), (64, 500), (3, 512, 512), (1, 2000, 3)])
def test_the_dense_layer_is_of_a_small_map(shape: tuple[int, ...]) -> None:
    """At most 7 positions an axis are left at the bottom, whatever the size: so its weights do not grow with it."""
    with torch.device("meta"):
        net = UNet(shape, 32, 1, dense=512)
    assert max(net.levels[-1]) <= 7
    assert net.dense.up.in_features <= 128 * 7 ** (len(shape) - 1)
