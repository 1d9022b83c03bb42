"""Flows against their definition: Jacobians, inverses, masks, integrals, entropies, and an oracle for the spline.

Weights are randomised, because layers that start at zero hide bugs. Every check of a truth has a control: the same
check with a bug planted, which must fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import zuko
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from quintet.core.errors import Unsupported
from quintet.core.family import Batch
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete
from quintet.families.flow import Flow, resolve
from quintet.nets import elementwise, flows
from quintet.nets.conditioning import tell
from quintet.nets.elementwise import Affine, Forward, Spline
from quintet.nets.flows import Coupling, MaskedAutoregressive, Permute, Standardise, Whiten
from quintet.nets.given import Given, Widths
from quintet.nets.scales import Haar, squeeze

CASES = [
    *(((6,), kind, transform) for kind in ("coupling", "autoregressive") for transform in ("affine", "spline")),
    *(((2, 6, 4), "glow", transform) for transform in ("affine", "spline")),
    ((1, 12), "glow", "affine"),
    ((3, 5, 6), "glow", "affine"),
    *(((2, 6, 4), "wavelet", transform) for transform in ("affine", "spline")),
    ((3, 5, 8), "wavelet", "spline"),
    ((2, 16), "wavelet", "spline"),
    ((2, 3), "coupling", "spline"),
    ((1,), "auto", "auto"),
    *(((2, 6, 4), "transformer", transform) for transform in ("affine", "spline")),
    ((1, 12), "transformer", "affine"),
    ((5,), "transformer", "affine"),
]
cases = pytest.mark.parametrize(("shape", "kind", "transform"), CASES)


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr("quintet.nets.chains.COARSE", 8)  # so that small images have scales
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def randomise(module: nn.Module, scale: float = 0.3) -> None:
    """Noise on all parameters, of a size that keeps the products of order one."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * (scale / math.sqrt(p[0].numel()) if p.dim() > 1 else 0.2 * scale))


def build(shape: tuple[int, ...], kind: str, transform: str, **kw: float) -> tuple[Flow, Tensor, Tensor]:
    """A class-conditional flow with random weights, data beyond the box, and labels."""
    options = {"layers": 3, "width": 24, "depth": 2, "emb": 8, **kw}
    flow = Flow(Continuous(shape), Discrete((1,), 3), Flow.Settings(kind=kind, transform=transform, **options))
    x, cond = 1 + 2 * torch.randn(32, *shape), torch.randint(3, (32, 1))
    flow.initialise(Batch(x, cond))
    randomise(flow)
    x[::2] *= 3  # beyond the box
    return flow.eval(), x, cond


def log_det_error(flow: Flow, x: Tensor, cond: Tensor) -> float:
    """Largest difference between the reported log-determinant and that of the Jacobian by automatic differentiation."""
    errors = []
    for row, label in zip(x[:3], cond[:3], strict=True):
        encode = lambda v, c=label: flow.encode(v.view(1, *x.shape[1:]), c[None]).flatten()  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(encode, row.flatten())
        z, normal = flow.encode(row[None], label[None]), math.log(2 * math.pi)
        log_det = flow.log_prob(row[None], label[None]) + 0.5 * (z.square() + normal).sum()
        errors.append(float((torch.linalg.slogdet(jacobian)[1] - log_det).abs().item()))
    return max(errors)


@cases
def test_log_det_is_that_of_the_jacobian(shape: tuple[int, ...], kind: str, transform: str) -> None:
    assert log_det_error(*build(shape, kind, transform)) < 1e-8


@pytest.mark.parametrize("layer", [Affine, Spline])
def test_a_planted_sign_is_found(layer: type, monkeypatch: pytest.MonkeyPatch) -> None:
    right = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *a: (right(*a)[0], -right(*a)[1]))
    assert log_det_error(*build((6,), "coupling", layer.__name__.lower())) > 1e-3


@pytest.mark.parametrize(
    ("name", "kind"), [("Standardise", "glow"), ("Mix", "glow"), ("Coupling", "glow"), ("Whiten", "wavelet")]
)
def test_a_forgotten_log_det_is_found(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = getattr(flows, name)
    right = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *a: (right(*a)[0], torch.zeros(len(a[1]))))
    assert log_det_error(*build((2, 6, 4), kind, "affine")) > 1e-3


@torch.no_grad()
def round_trip_error(flow: Flow, x: Tensor, cond: Tensor) -> float:
    there = flow.decode(flow.encode(x, cond), cond) - x
    z = torch.randn_like(x)
    back = flow.encode(flow.decode(z, cond), cond) - z
    return max(float(there.abs().max()), float(back.abs().max()))


@cases
def test_decode_inverts_encode(shape: tuple[int, ...], kind: str, transform: str) -> None:
    assert round_trip_error(*build(shape, kind, transform)) < 1e-7


def test_a_wrong_inverse_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Permute, "inverse", lambda self, z, given=None: z[:, self.index])
    assert round_trip_error(*build((6,), "coupling", "spline")) > 1e-3


def test_a_lost_tail_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Spline.inverse
    monkeypatch.setattr(Spline, "inverse", lambda self, z, p: right(self, z.clamp(-5, 5), p))
    assert round_trip_error(*build((6,), "coupling", "spline")) > 1e-3


# Masks


def made(dims: int = 7, width: int = 40, depth: int = 3) -> MaskedAutoregressive:
    layer = MaskedAutoregressive(dims, Spline(), width, depth, ready=Widths(4))
    randomise(layer, 1.0)
    return layer.eval()


def dependence(layer: MaskedAutoregressive) -> Tensor:
    """(dims, dims): whether the parameters of output i move when input j is perturbed."""
    x, given = torch.randn(5, layer.size), Given(torch.randn(5, 4))
    base = layer.net(x, given).view(5, -1, layer.size)
    columns = []
    for j in range(layer.size):
        moved = x.clone()
        moved[:, j] += 1
        columns.append((layer.net(moved, given).view(5, -1, layer.size) - base).abs().amax((0, 1)) > 0)
    return torch.stack(columns, 1)


def test_parameters_depend_on_all_earlier_inputs_and_on_no_other() -> None:
    layer = made()
    assert torch.equal(dependence(layer), torch.ones(7, 7, dtype=torch.bool).tril(-1))


def test_a_leaking_mask_is_found() -> None:
    layer = made()
    layer.net.leave.mask.copy_(layer.net.leave.mask.roll(-1, 0))
    assert not torch.equal(dependence(layer), torch.ones(7, 7, dtype=torch.bool).tril(-1))


def naive_inverse(layer: MaskedAutoregressive, z: Tensor, given: Given) -> Tensor:
    """As many full passes as dimensions: after pass d the first d entries are right."""
    x = torch.zeros_like(z)
    for _ in range(layer.size):
        x = layer.transform.inverse(z, layer.net(x, given).view(len(z), -1, layer.size))
    return x


@pytest.mark.parametrize(("dims", "width", "depth"), [(7, 40, 3), (7, 40, 1), (9, 4, 2), (1, 8, 2)])
def test_incremental_inverse_is_the_naive_one(dims: int, width: int, depth: int) -> None:
    layer, z, given = made(dims, width, depth), torch.randn(50, dims), Given(torch.randn(50, 4))
    torch.testing.assert_close(layer.inverse(z, given), naive_inverse(layer, z, given), rtol=1e-8, atol=1e-8)


def test_an_off_by_one_in_the_inverse_is_found() -> None:
    layer, z, given = made(), torch.randn(50, 7), Given(torch.randn(50, 4))
    layer.bounds = [0, *(bound - 1 for bound in layer.bounds[1:])]
    with torch.no_grad():
        error = (layer.inverse(z, given) - naive_inverse(layer, z, given)).abs().max()
    assert float(error) > 1e-3


# The spline


def zuko_error(spline: Spline) -> float:
    """Against zuko, whose logits are squashed and whose sizes and slopes have no floor of this kind."""
    k, box, low = 6, 4.0, math.log(1e-3)
    u = torch.randn(3 * k - 1, 500)
    x = torch.linspace(-1.5 * box, 1.5 * box, 500)
    sizes = elementwise.MIN_SIZE + (1 - k * elementwise.MIN_SIZE) * u[: 2 * k].view(2, k, 500).softmax(1)
    slopes = elementwise.MIN_SLOPE + nn.functional.softplus(
        u[2 * k :] + math.log(math.expm1(1 - elementwise.MIN_SLOPE))
    )
    w, h = (v / (1 - abs(2 * v / low)) for v in (v - v.mean(0) for v in sizes.log()))
    # y = v / (1 + |v / c|) has the inverse v = y / (1 - |y / c|)
    d = slopes.log() / (1 - (slopes.log() / low).abs())
    oracle = zuko.transforms.MonotonicRQSTransform(w.T, h.T, d.T, bound=box, slope=1e-3)
    z, log_det = spline.forward(x, u)
    want, want_log_det = oracle.call_and_ladj(x)
    inverse = spline.inverse(want, u) - oracle.inv(want)
    return max(float(e.abs().max()) for e in (z - want, log_det - want_log_det, inverse))


def test_spline_agrees_with_zuko() -> None:
    assert zuko_error(Spline(bins=6, box=4.0)) < 1e-8


def test_zuko_finds_another_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Spline.find

    def wrong(*a: Any, **kw: Any) -> Any:
        found, more = right(*a, **kw)
        return found._replace(d1=found.d0), more

    monkeypatch.setattr(Spline, "find", wrong)
    assert zuko_error(Spline(bins=6, box=4.0)) > 1e-3


@settings(max_examples=40, deadline=None)
@given(bins=st.integers(2, 12), box=st.floats(0.5, 20), scale=st.floats(0, 4), seed=st.integers(0, 2**31))
def test_spline_is_increasing_and_invertible(bins: int, box: float, scale: float, seed: int) -> None:
    spline = Spline(bins, box)
    params = torch.randn(spline.params, 1, generator=torch.Generator().manual_seed(seed)) * scale
    x = torch.linspace(-1.2 * box, 1.2 * box, 201)
    z, log_slope = spline.forward(x, params.expand(-1, 201))
    assert bool((z.diff() > 0).all())
    assert bool(torch.isfinite(log_slope).all())
    outside = x.abs() >= box
    assert torch.equal(z[outside], x[outside])
    assert bool((log_slope[outside] == 0).all())
    error = (spline.inverse(z, params.expand(-1, 201)) - x).abs() * log_slope.exp()  # in units of z
    assert float(error.max()) < 1e-9 * box


def gradient_error(bins: int = 5, box: float = 3.0) -> float:
    """Largest difference between the gradient that is written out and finite differences, as a share of it."""
    spline = Spline(bins, box)
    x = torch.linspace(-1.3 * box, 1.3 * box, 41)  # no knot is hit, and some lie outside the box
    params = 1.5 * torch.randn(spline.params, 41)
    weights = torch.randn(2, 41)

    def total(x: Tensor, params: Tensor) -> Tensor:
        return (weights * torch.stack(spline.forward(x, params))).sum()

    given = x.requires_grad_(), params.requires_grad_()
    errors = []
    for tensor, gradient in zip(given, torch.autograd.grad(total(*given), given), strict=True):
        with torch.no_grad():
            for place in range(0, tensor.numel(), 3):
                flat, kept, far = tensor.view(-1), float(tensor.view(-1)[place]), []
                for step in (1e-6, -1e-6):
                    flat[place] = kept + step
                    far.append(float(total(*given)))
                flat[place] = kept
                want = (far[0] - far[1]) / 2e-6
                errors.append(abs(float(gradient.view(-1)[place]) - want) / (1 + abs(want)))
    return max(errors)


@pytest.mark.parametrize("bins", [2, 3, 8])
def test_the_gradient_of_a_spline_is_that_of_its_formulas(bins: int) -> None:
    assert gradient_error(bins) < 1e-6


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Forward.backward
    monkeypatch.setattr(Forward, "backward", staticmethod(lambda ctx, a, b: right(ctx, a, 0.99 * b)))
    assert gradient_error() > 1e-4


def test_a_spline_has_the_same_numbers_however_its_parameters_lie_in_memory() -> None:
    spline, x = Spline(), torch.randn(7, 3)
    params = torch.randn(7, spline.params, 3)
    other = params.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for map in (spline.forward, spline.inverse):
        torch.testing.assert_close(map(x, params), map(x, other))


def test_zero_parameters_are_the_identity() -> None:
    x = torch.linspace(-6, 6, 50)
    z, log_det = Spline().forward(x, torch.zeros(23, 50))
    torch.testing.assert_close(z, x)
    assert float(log_det.abs().max()) < 1e-12


# Densities


def rings(n: int) -> Batch:
    """Two rings, one a class."""
    label, angle = torch.randint(2, (n, 1)), 2 * math.pi * torch.rand(n)
    radius = 1 + label[:, 0] + 0.1 * torch.randn(n)
    return Batch(torch.stack([radius * angle.cos(), radius * angle.sin()], 1), label)


def train(flow: Flow, data: Callable[[int], Batch], steps: int, lr: float = 5e-3) -> Flow:
    flow.initialise(data(2000))
    optimiser = torch.optim.Adam(flow.parameters(), lr)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * (1 - step / steps)
        loss = flow.loss(data(256)).value
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return flow.eval()


@torch.no_grad()
def grid(flow: Flow, cond: Tensor | None, half: float = 10.0, n: int = 300) -> tuple[float, float]:
    """Integrals of p and of p log p by the midpoint rule."""
    axis = (torch.arange(n) + 0.5) / n * 2 * half - half
    points = torch.cartesian_prod(axis, axis)
    log_p = flow.log_prob(points, None if cond is None else cond.expand(len(points), -1))
    cell = (2 * half / n) ** 2
    return float(log_p.exp().sum()) * cell, float((log_p.exp() * log_p).sum()) * cell


def planar(kind: str, transform: str) -> Flow:
    return Flow(
        Continuous((2,)),
        Discrete((1,), 2),
        Flow.Settings(kind=kind, transform=transform, layers=4, width=32, dropout=0, emb=8),
    )


@pytest.mark.parametrize(("kind", "transform"), [c[1:] for c in CASES[:4]])
def test_random_density_integrates_to_one_for_each_class(kind: str, transform: str) -> None:
    flow = planar(kind, transform)
    flow.initialise(rings(500))
    randomise(flow)
    for label in (*torch.tensor([[0], [1]]), None):  # None: the null condition
        assert abs(grid(flow, label)[0] - 1) < 0.01


def test_trained_density_integrates_and_samples_agree_with_it() -> None:
    flow = train(planar("coupling", "spline").to(torch.float32), lambda n: as_float(rings(n)), 300).double()
    for label in torch.tensor([[0], [1]]):
        mass, negative_entropy = grid(flow, label, half=6.0)
        assert abs(mass - 1) < 0.01
        cond = label.expand(4000, -1)
        assert abs(surprise(flow, cond, 1.0, negative_entropy)) < 4
        assert abs(surprise(flow, cond, 0.8, negative_entropy)) > 4  # the control: other samples are found out
        true_entropy = math.log(0.1 * math.sqrt(2 * math.pi * math.e) * 2 * math.pi * (1 + int(label)))
        data = rings(4000)
        mine = data.cond == label
        held_out = -flow.log_prob(data.x[mine[:, 0]], data.cond[mine[:, 0]]).mean()
        assert abs(float(held_out) - true_entropy) < 0.25


def as_float(batch: Batch) -> Batch:
    return Batch(batch.x.float(), batch.cond)


def surprise(flow: Flow, cond: Tensor, temperature: float, negative_entropy: float) -> float:
    """How many standard errors the mean log-density of samples lies from the integral of p log p."""
    x = flow.sample(len(cond), cond, sampling=Flow.Sampling(temperature=temperature))
    log_p = flow.log_prob(x, cond)
    return float((log_p.mean() - negative_entropy) / (log_p.std() / math.sqrt(len(x))))


@pytest.mark.parametrize("name", ["Standardise", "Coupling"])
def test_the_integral_finds_a_forgotten_log_det(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = planar("coupling", "spline")
    flow.initialise(rings(500))
    randomise(flow)
    layer = getattr(flows, name)
    right = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *a: (right(*a)[0], torch.zeros(len(a[1]))))
    assert abs(grid(flow, torch.tensor([0]))[0] - 1) > 0.01


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
def test_gaussian_of_known_covariance(kind: str) -> None:
    root = torch.tensor([[1.0, 0, 0, 0], [0.9, 0.4, 0, 0], [-2, 0.3, 0.5, 0], [0.2, 0.5, 0.1, 3]])
    entropy = 0.5 * math.log(2 * math.pi * math.e) + float(root.diag().log().sum()) / 4  # a dimension
    flow = Flow(Continuous((4,)), None, Flow.Settings(kind=kind, transform="affine", layers=4, width=32, dropout=0))
    data = lambda n: Batch(torch.randn(n, 4) @ root.T + 3)  # noqa: E731
    train(flow, data, 400)
    with torch.no_grad():
        x = torch.randn(20_000, 4)
        gap = -(flow.log_prob(x @ root.T + 3) + 0.5 * (x.square().sum(1) - 4)).mean() / 4 - entropy  # control variate
        assert -0.005 < float(gap) < 0.02
        samples = flow.sample(20_000)
    torch.testing.assert_close(samples.mean(0), torch.full((4,), 3.0), atol=0.15, rtol=0)
    torch.testing.assert_close(samples.T.cov(), root @ root.T, atol=0.4, rtol=0.1)


def barely_trained(kind: str) -> Flow:
    """A flow of three scales whose nets say something of every size about what they have never seen."""
    flow = Flow(Continuous((3, 16, 16)), None, Flow.Settings(kind=kind, layers=6, width=16, dropout=0))
    flow.initialise(Batch(torch.randn(64, 3, 16, 16)))
    for module in flow.modules():
        if isinstance(leave := getattr(module, "leave", None), nn.Module):
            nn.init.normal_(leave.weight, std=0.1)
    return flow.eval()


@pytest.mark.parametrize("kind", ["glow", "wavelet"])
def test_samples_of_a_barely_trained_flow_are_moderate(kind: str) -> None:
    """Without bounds, layer after layer multiplies what the one before it made: values of 1e6 and more."""
    torch.manual_seed(0)
    flow = barely_trained(kind)
    with torch.no_grad():
        x = flow.sample(32)
        assert float(x.abs().max()) < 30, "the data are within 5"
        torch.testing.assert_close(flow.decode(flow.encode(x)), x, atol=1e-3, rtol=0)


# The family's manners


def test_auto_kinds() -> None:
    assert resolve("auto", (43,)) == "coupling"
    assert resolve("auto", (1, 8, 8)) == "coupling"
    assert resolve("auto", (1, 28, 28)) == "coupling"
    assert resolve("auto", (3, 32, 32)) == "wavelet"
    assert resolve("auto", (1,)) == "autoregressive"
    assert resolve("auto", (1000,)) == "coupling"
    assert resolve("auto", (3, 33, 33)) == "coupling"  # nothing to squeeze
    with pytest.raises(Unsupported):
        Flow(Discrete((4,), 3))


def test_constant_dimensions_and_outliers_stay_finite() -> None:
    space = Continuous((3,), levels=17)
    x = torch.full((200, 3), -1.0)
    x[:, 0] = torch.randint(17, (200,)) / 8 - 1
    x[0, 1] = 1
    flow = Flow(space)
    flow.initialise(Batch(x))  # without noise: two dimensions with hardly any spread
    loss = flow.loss(Batch(space.dequantise(x, None)))
    assert bool(torch.isfinite(loss.value))
    assert set(loss.parts) == {"nats_per_dim"}
    assert bool(torch.isfinite(flow.sample(10)).all())
    constant = Standardise((2,))
    constant.initialise(torch.zeros(5, 2))
    assert bool(torch.isfinite(constant(torch.zeros(5, 2))[0]).all())


@cases
def test_standardising_makes_the_first_latents_unit(shape: tuple[int, ...], kind: str, transform: str) -> None:
    flow = Flow(Continuous(shape), None, Flow.Settings(kind=kind, transform=transform, layers=2, width=16))
    x = 5 + 0.01 * torch.randn(2000, *shape)
    flow.initialise(Batch(x))
    z = flow.encode(x)  # couplings are the identity at first
    assert abs(float(z.mean())) < 0.05
    assert abs(float(z.std()) - 1) < 0.05


def test_bf16_autocast_keeps_the_likelihood_in_float32() -> None:
    flow, x, cond = build((6,), "coupling", "spline")
    flow, x = flow.float(), x.float()
    want = flow.log_prob(x, cond)
    with torch.autocast("cpu", torch.bfloat16):
        got, loss = flow.log_prob(x, cond), flow.loss(Batch(x, cond)).value
        assert got.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(got, want)
    assert abs(float(loss) + float(want.mean()) / 6) < 0.5


@pytest.mark.parametrize("kind", ["coupling", "autoregressive", "transformer"])
def test_sampling_ignores_the_mode_and_the_batch(kind: str) -> None:
    flow, _, cond = build((6,), kind, "spline", dropout=0.5)
    want = flow.sample(8, cond[:8], generator=Rows(7, 0, 8))
    flow.train()
    seen: list[tuple[int, int, torch.Size]] = []
    got = flow.sample(8, cond[:8], generator=Rows(7, 0, 8), on_step=lambda i, n, x: seen.append((i, n, x.shape)))
    assert flow.training
    assert not got.requires_grad
    torch.testing.assert_close(got, want)
    assert seen == [(i + 1, len(flow.layers), torch.Size((8, 6))) for i in range(len(flow.layers))]
    torch.testing.assert_close(flow.sample(2, cond[3:5], generator=Rows(7, 3, 2)), want[3:5])
    cold = flow.sample(8, cond[:8], sampling=Flow.Sampling(temperature=0.0))
    torch.testing.assert_close(cold, flow.decode(torch.zeros(8, 6), cond[:8]))


def test_a_coupling_moves_only_its_half_and_two_move_all() -> None:
    flow, x, cond = build((6,), "coupling", "spline")
    couplings = [layer for layer in flow.layers if isinstance(layer, Coupling)]
    given = tell(flow.conditioner, cond, len(cond))
    z, _ = couplings[0](x, given)
    assert torch.equal(z[:, :3], x[:, :3])
    assert bool((z[:, 3:] != x[:, 3:]).any(0).all())
    permutes = [layer.index for layer in flow.layers if isinstance(layer, Permute)]
    first = set(permutes[0][3:].tolist())
    second = set(permutes[0][permutes[1]][3:].tolist())
    assert first | second == set(range(6))


@pytest.mark.parametrize("kind", ["glow", "wavelet"])
@pytest.mark.parametrize("shape", [(3, 7, 7), (1, 28, 28), (1, 14, 10), (2, 9), (4, 64)])
def test_scales_stop_at_odd_or_small_sizes(shape: tuple[int, ...], kind: str) -> None:
    flow = Flow(Continuous(shape, 256), None, Flow.Settings(kind=kind, layers=1, width=8))
    x = torch.rand(4, *shape) * 2 - 1
    flow.initialise(Batch(x))
    randomise(flow)
    torch.testing.assert_close(flow.decode(flow.encode(x)), x, rtol=1e-7, atol=1e-7)
    sizes = [layer.size for layer in flow.chain]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == math.prod(shape)


def test_a_coarser_image_is_the_means_of_blocks() -> None:
    """Of a picture whose blocks have means that can be read off, and of a wavelet flow: what is finer changes neither
    the coarse latents nor their density."""
    x = torch.randn(3, 2, 6, 4)
    index, shape = squeeze((2, 6, 4))
    haar = Haar(shape, 2)
    z, _ = haar(x.flatten(1)[:, index])
    coarse = 2 * nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(z[:, : 2 * 3 * 2], coarse.flatten(1))
    torch.testing.assert_close(z.square().sum(1), x.square().flatten(1).sum(1))
    flow, x, cond = build((2, 6, 4), "wavelet", "spline")
    finer = torch.randn_like(x)
    finer = finer - nn.functional.interpolate(nn.functional.avg_pool2d(finer, 2), scale_factor=2)
    first, second = (flow.encode(each, cond).flatten(1) for each in (x, x + finer))
    torch.testing.assert_close(first[:, :12], second[:, :12])
    assert bool((first[:, 12:] != second[:, 12:]).any(0).all()), "a control: details have changed"


def test_what_is_whitened_is_white_at_first() -> None:
    mixing = torch.randn(3, 3)
    x = (mixing @ torch.randn(200, 3, 8)).flatten(1) + 2
    white = Whiten((3, 4, 2))
    white.initialise(x)
    z = white(x)[0].view(200, 3, 8).transpose(0, 1).flatten(1)
    torch.testing.assert_close(z.mean(1), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.cov(), torch.eye(3), atol=0.05, rtol=0)
    white.initialise(torch.ones(5, 24))  # a constant channel
    assert bool(torch.isfinite(white(x)[0]).all())


def test_a_shape_without_two_channels_or_even_sides_cannot_be_glow() -> None:
    with pytest.raises(Unsupported):
        Flow(Continuous((1, 7, 7)), None, Flow.Settings(kind="glow"))
    with pytest.raises(Unsupported):
        Flow(Continuous((9,)), None, Flow.Settings(kind="glow"))
    with pytest.raises(Unsupported):
        Flow(Continuous((1,)), None, Flow.Settings(kind="coupling"))
