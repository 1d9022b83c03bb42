"""Diffusion in few steps against truth: the average velocity and the solution map of a Gaussian in closed form."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from conftest import randomise
from torch import Tensor

import quintet
from quintet.core.errors import ConfigError, Unsupported
from quintet.core.family import Batch
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete
from quintet.data.loader import Loader
from quintet.families.diffusion import Diffusion
from quintet.fit import fitting
from quintet.nets import few_steps
from quintet.nets.few_steps import average_target, nearer_level, wide
from quintet.nets.noise import SD
from quintet.nets.solvers import jump_grid, jumps, restarts
from quintet.operations.requests import DistilRequest
from quintet.operations.training import distil
from quintet.runs.folder import Run
from quintet.training import checkpoint
from quintet.training.engine import Engine
from quintet.training.settings import TrainingSettings
from quintet.training.trainer import Trainer

CENTRE, SPREAD = 1.4, 0.6
"""Of the data, in units of SD."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


# -- a Gaussian in closed form -----------------------------------------------------------------------------------------
# x / SD ~ N(CENTRE, SPREAD^2), so z = cos x / SD + sin noise ~ N(cos CENTRE, cos^2 SPREAD^2 + sin^2). The flow keeps
# the number of standard deviations from the mean; the average velocity is the way from z_r to z_theta over the angle.


def std(theta: Tensor) -> Tensor:
    return (theta.cos() ** 2 * SPREAD**2 + theta.sin() ** 2).sqrt()


def flowed(z: Tensor, theta: Tensor, r: Tensor) -> Tensor:
    """z_r of z_theta; theta and r (B,)."""
    theta, r = wide(theta, z), wide(r, z)
    return r.cos() * CENTRE + std(r) / std(theta) * (z - theta.cos() * CENTRE)


def velocity(z: Tensor, theta: Tensor) -> Tensor:
    """dz/dtheta, the expectation of cos noise - sin x / SD given z."""
    theta = wide(theta, z)
    slope = theta.sin() * theta.cos() * (1 - SPREAD**2) / std(theta) ** 2
    return -theta.sin() * CENTRE + slope * (z - theta.cos() * CENTRE)


def average(z: Tensor, r: Tensor, theta: Tensor) -> Tensor:
    """u(z, r, theta)."""
    return (z - flowed(z, theta, r)) / wide(theta - r, z)


def angles(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """r < theta."""
    a, b = 0.05 + 1.4 * torch.rand(2, n, generator=seeded(seed), dtype=torch.float64)
    return torch.minimum(a, b), torch.maximum(a, b)


def residual() -> float:
    """By how much the closed form misses the target that it gives itself, along the path's own velocity."""
    r, theta = angles(50)
    z = 2 * normal(50, 3)
    target = average_target(lambda z, theta: average(z, r, theta), z, velocity(z, theta), r, theta)
    return float((average(z, r, theta) - target).abs().max())


def test_the_average_velocity_of_a_gaussian_satisfies_the_identity() -> None:
    assert residual() < 1e-9


@pytest.mark.parametrize("bug", ["without dtheta", "without v", "without the gap"])
def test_the_identity_notices(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true = few_steps.along
    if bug == "without dtheta":
        monkeypatch.setattr(few_steps, "along", lambda f, at, by: true(f, at, (by[0], 0 * by[1])))
    elif bug == "without v":
        monkeypatch.setattr(few_steps, "along", lambda f, at, by: true(f, at, (0 * by[0], by[1])))
    else:
        monkeypatch.setattr(few_steps, "wide", lambda scale, like: wide(torch.ones_like(scale), like))
    assert residual() > 0.05


def test_what_is_fitted_by_least_squares_is_the_average_velocity() -> None:
    """Noisy velocities of single items, cos noise - sin x / SD, in the place of their mean: at a pair of angles the
    best linear function of z is the closed form.
    """
    n = 400_000
    r, theta = (torch.full((n,), value, dtype=torch.float64) for value in (0.3, 1.2))
    x, noise = CENTRE + SPREAD * normal(n, 1), normal(n, 1, seed=1)
    z, v = theta.cos()[:, None] * x + theta.sin()[:, None] * noise, theta.cos()[:, None] * noise
    v = v - theta.sin()[:, None] * x
    target = average_target(lambda z, theta: average(z, r, theta), z, v, r, theta)
    found = torch.linalg.lstsq(torch.cat([z, torch.ones_like(z)], 1), target).solution[:, 0]
    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    base, one = average(ends, r[:2], theta[:2])[:, 0]
    torch.testing.assert_close(found, torch.stack([one - base, base]), rtol=0, atol=0.01)


def test_one_jump_of_the_closed_form_has_the_mean_and_covariance_of_the_data() -> None:
    """Along the axes of a covariance, of which one is the closed form's; in one, two and four jumps."""
    rotation = torch.linalg.qr(normal(2, 2)).Q

    def denoise(y: Tensor, s: Tensor, low: Tensor) -> Tensor:  # the D that has this average velocity
        theta, r = (torch.atan(one / SD).expand(len(y)) for one in (s, low))
        total = (s**2 + SD**2).sqrt()
        u = average(y / total @ rotation, r, theta) @ rotation.mT
        return SD**2 / total**2 * y - u * s * SD / total

    noise = normal(40_000, 2, seed=3)
    noise = noise / noise.std(0)
    for count in (1, 2, 4):
        s = jump_grid(count, like=noise)
        *_, x = jumps(denoise, s[0] * (noise - noise.mean(0)), s, None)
        mean = torch.full((2,), SD * CENTRE, dtype=torch.float64) @ rotation.mT
        torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.01)
        torch.testing.assert_close(x.T.cov(), (SD * SPREAD) ** 2 * torch.eye(2).double(), rtol=0, atol=0.002)


# -- nets --------------------------------------------------------------------------------------------------------------


def model(learns: str = "meanflow", shape: tuple[int, ...] = (2,), cond: object = None, **more: object) -> Diffusion:
    settings = Diffusion.Settings(width=8, depth=1, emb=8, learns=learns, **more)  # type: ignore[arg-type]
    family = Diffusion(Continuous(shape), cond, settings)  # type: ignore[arg-type]
    return randomise(family, scale=0.1)


NETS = {
    "mlp": ((3,), None, {}),
    "plain": ((3,), None, {"net": "plain"}),
    "u-net": ((1, 8, 8), None, {"dense": 8}),
    "u-net in colours": ((3, 8, 8), None, {}),
    "u-net of a recording": ((2, 20), Discrete((1,), 3), {}),
    "attention to a text": ((1, 6, 6), Discrete((5,), 4, pad=0), {"condition": "sequence"}),
    "dit": ((1, 8, 8), Discrete((1,), 3), {"net": "dit", "patch": 4}),
    "velocity": ((3,), None, {"parameterisation": "velocity"}),
}


@pytest.mark.parametrize("net", NETS)
def test_the_derivative_along_the_path_is_that_of_finite_differences(net: str) -> None:
    shape, condition, more = NETS[net]
    family = model(shape=shape, cond=condition, **more)
    r, theta = angles(4)
    z, v = normal(4, *shape, seed=1), normal(4, *shape, seed=2)
    cond = None if condition is None else torch.ones(4, *condition.shape, dtype=torch.long)
    given = few_told(family, cond)
    u = lambda z, theta: family.average(z, r, theta, given)  # noqa: E731
    target = average_target(u, z, v, r, theta)
    assert not target.requires_grad
    h = 1e-5
    with torch.no_grad():
        change = (u(z + h * v, theta + h) - u(z - h * v, theta - h)) / (2 * h)
    torch.testing.assert_close(target, v - wide(theta - r, z) * change, rtol=0, atol=1e-6)
    assert float((target - v).abs().max()) > 1e-3


def few_told(family: Diffusion, cond: Tensor | None) -> object:
    from quintet.nets.conditioning import tell

    return tell(family.conditioner, cond, 4)


def test_the_average_over_no_angle_is_the_velocity_of_the_denoiser() -> None:
    """So that all that is known of a denoiser holds: log_prob, complete, encode and the solvers of many steps."""
    family = model()
    z, (_, theta) = normal(5, 2), angles(5)
    s = wide(SD * theta.tan(), z)
    y = z * (s**2 + SD**2).sqrt()
    d = family.denoise(y, s.flatten(), few_told(family, None))  # type: ignore[arg-type]
    total = (s**2 + SD**2).sqrt()
    truth = (SD**2 / total**2 * y - d) * total / (s * SD)
    torch.testing.assert_close(family.average(z, theta, theta, few_told(family, None)), truth)  # type: ignore[arg-type]
    assert family.likelihood == "estimate"
    assert bool(torch.isfinite(family.log_prob(normal(3, 2))).all())


def test_the_target_is_held_fixed() -> None:
    """The gradient of the loss is that of the squared errors' logarithm with the target as a constant."""
    family = model().train()
    x = normal(64, 2)
    targets = []
    true = few_steps.average_target

    def kept(*args: object) -> Tensor:
        targets.append(true(*args))  # type: ignore[arg-type]
        return targets[-1]

    def gradient() -> Tensor:
        family.zero_grad()
        family.loss(Batch(x, None, Rows(0, 0, 64))).value.backward()
        return torch.cat([p.grad.flatten() for p in family.parameters() if p.grad is not None])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quintet.families.diffusion.average_target", kept)
        first = gradient()
        patch.setattr("quintet.families.diffusion.average_target", lambda *_: targets[0])
        torch.testing.assert_close(gradient(), first)
        patch.setattr("quintet.families.diffusion.average_target", undetached)
        assert float((gradient() - first).abs().max()) > 1e-3  # what the comparison is to notice


def undetached(u: Callable[[Tensor, Tensor], Tensor], z: Tensor, v: Tensor, r: Tensor, theta: Tensor) -> Tensor:
    return v - wide(theta - r, z) * few_steps.along.__wrapped__(u, (z, theta), (v, torch.ones_like(theta)))


def test_guidance_is_trained_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both angles are one the net learns null + guided (v - null), which the loss of the closed form shows."""
    x, cond = normal(512, 2), torch.zeros(512, 1, dtype=torch.long)
    monkeypatch.setattr("quintet.families.diffusion.APART", 0.0)
    asked = []

    def zero(self: Diffusion, z: Tensor, r: Tensor, theta: Tensor, given: object) -> Tensor:
        asked.append(1)
        return torch.zeros_like(z)

    monkeypatch.setattr(Diffusion, "average", zero)
    loss = lambda guided: float(  # noqa: E731
        model(cond=Discrete((1,), 3), guided=guided).loss(Batch(x, cond, Rows(0, 0, 512))).parts["square"]
    )
    plain = loss(1.0)
    assert len(asked) == 1
    assert abs(loss(3.0) / plain - 9) < 1e-6


# -- consistency -------------------------------------------------------------------------------------------------------


def solution(y: Tensor, s: Tensor) -> Tensor:
    """The item at the end of the path through y at the level s (B,) or ()."""
    level = wide(s, y) if s.dim() else s
    return SD * (CENTRE + SPREAD * (y / SD - CENTRE) / (SPREAD**2 + (level / SD) ** 2).sqrt())


def pulls(monkeypatch: pytest.MonkeyPatch, f: Callable[[Tensor, Tensor], Tensor], progress: float) -> float:
    """How strongly the loss pulls at the slope and the offset of f."""
    slope, offset = (torch.tensor(0.0, dtype=torch.float64, requires_grad=True) for _ in range(2))
    family = model("consistency", (1,))
    family.mean.zero_()
    family.scale.fill_(1.0)
    # at s = 0 it is y whatever it learnt: both are parameters of what the net says, not of the item
    share = lambda s, y: wide(s, y) / (wide(s, y) + SD)  # noqa: E731
    monkeypatch.setattr(Diffusion, "denoise", lambda self, y, s, given, low=None: (
        f(y, s) + share(s, y) * (slope * (y - SD * CENTRE) / (wide(s, y) ** 2 + (SD * SPREAD) ** 2).sqrt() + offset)
    ))  # fmt: skip
    monkeypatch.setattr("quintet.families.diffusion.robust", lambda square: square)  # in the mean it is exact
    x = SD * (CENTRE + SPREAD * normal(200_000, 1))
    family.loss(Batch(x, None, Rows(0, 0, 200_000), progress)).value.backward()
    assert slope.grad is not None
    assert offset.grad is not None
    return max(abs(float(slope.grad)), abs(float(offset.grad)))


def test_the_solution_of_the_flow_is_where_consistency_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the gap is small; and the mean item, where denoising rests, is not such a place."""
    mean = lambda y, s: y - wide(s, y) ** 2 / (wide(s, y) ** 2 + (SD * SPREAD) ** 2) * (y - SD * CENTRE)  # noqa: E731
    assert [pulls(monkeypatch, solution, progress) < 0.005 for progress in (0.0, 0.99)] == [False, True]
    assert pulls(monkeypatch, mean, 0.99) > 0.05


def test_the_gap_shrinks_in_stages() -> None:
    s = torch.logspace(-2, 1.9, 50, dtype=torch.float64)
    gaps = torch.stack([s - nearer_level(s, k / few_steps.STAGES) for k in range(few_steps.STAGES)])
    assert bool((gaps > 0).all())
    assert bool((gaps.diff(dim=0) <= 0).all())
    assert float((gaps[0] / s).min()) >= 0.5
    assert float((gaps[-1] / s).min()) < 0.01
    torch.testing.assert_close(nearer_level(s, 1.0), nearer_level(s, 0.99))  # a run that goes on behind its end


def test_items_of_the_solution_are_those_of_the_data() -> None:
    generator = seeded(1)
    noise = lambda: torch.randn(50_000, 1, generator=generator, dtype=torch.float64)  # noqa: E731
    for count in (1, 2):
        s = jump_grid(count, like=noise())
        *_, x = restarts(solution, s[0] * noise(), s, noise)
        assert abs(float(x.mean()) - SD * CENTRE) < 0.01
        assert abs(float(x.std()) / (SD * SPREAD) - 1) < 0.03


def test_what_a_consistency_model_cannot_do_is_refused() -> None:
    family, x = model("consistency"), normal(3, 2)
    assert family.likelihood == "none"
    for call in (family.log_prob, family.encode, family.decode, lambda x: family.complete(x, x > 0)):
        with pytest.raises(Unsupported, match="few steps"):
            call(x)
    with pytest.raises(ConfigError, match="cannot sample"):
        family.sample(2, sampling=Diffusion.Sampling(solver="ddim"))
    assert Diffusion.missing == {}


# -- training: ranks, and a run that begins with the weights of another ------------------------------------------------


def gradient() -> Tensor:
    """The first gradient of a model of averages, of a batch that the ranks share."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    family = model()
    data = Loader(family.space, normal(64, 2), None, seed=0)
    trainer = Trainer(family, data, TrainingSettings(batch_size=32, precision="fp32"), seed=0, steps=4,
                      engine=Engine("cpu"))  # fmt: skip
    trainer.backward("model", trainer.objectives["model"])
    return trainer.flats["model"].grad.clone()


def one_of_two(rank: int, port: str, told: Connection) -> None:
    """A process of two: tells its gradient, and what it is where nobody sums."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    together = gradient()
    Engine.sum = lambda self, grad: None  # type: ignore[method-assign]
    told.send([together.tolist(), gradient().tolist()])
    Engine("cpu").close()


def test_two_ranks_have_the_gradient_of_the_whole_batch() -> None:
    """Forward-mode products know nothing of ranks: gradients are summed behind them. Left out, both ranks would go on
    with their own, and nothing would say so.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    context = multiprocessing.get_context("fork")
    told = [context.Pipe() for _ in range(2)]
    ranks = [context.Process(target=one_of_two, args=(rank, port, told[rank][1])) for rank in range(2)]
    for rank in ranks:
        rank.start()
    (first, alone), (second, other) = (torch.tensor(end.recv(), dtype=torch.float64) for end, _ in told)
    for rank in ranks:
        rank.join(60)
    whole = gradient()
    torch.testing.assert_close(first, whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(second, whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(alone + other, whole, rtol=0, atol=1e-9)
    assert float((2 * alone - whole).abs().max()) > 1e-3  # what would be trained on without the sum


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with one trained diffusion model of digits, `teacher`."""
    runs = tmp_path_factory.mktemp("few")
    fitting.train("diffusion", data="digits", condition="label", preset="tiny", steps=4, seed=3, runs=runs,
                  run="teacher", config={"training": {"batch_size": 8, "sample_every": 4}})  # fmt: skip
    return runs


def told(_: object) -> None:
    return None


def test_a_distilled_run_begins_with_the_weights_of_the_other(begun: Path) -> None:
    done = distil(DistilRequest(what="teacher", run="quick", runs=begun, steps=1), told)
    assert (done.name, done.step, done.family) == ("quick", 1, "diffusion")
    teacher, student = Run(begun / "teacher"), quintet.load("quick", runs=begun)
    used = teacher.used()
    assert used is not None
    assert student.fitted.config.distilled_from == used.sha256
    assert student.family.settings.learns == "consistency"
    first = fitting.load("teacher", runs=begun).family.state_dict()
    weights = checkpoint.load(begun / "quick" / "checkpoints" / "step-00000000")[0]["model"]
    assert weights.keys() == first.keys()
    assert all(torch.equal(weights[name], first[name]) for name in first)
    now = student.family.state_dict()
    moved = max(float((now[name] - first[name]).abs().max()) for name in first)
    assert 0 < moved < 0.05, "it was trained from there, a little"
    assert torch.equal(now["mean"], first["mean"])
    assert len(student.sample(5, seed=1, condition=3)) == 5
    with pytest.raises(Unsupported, match="few steps"):
        student.log_prob(student.sample(2, condition=3), condition=3)


def test_a_distilled_run_that_is_stopped_goes_on_bit_for_bit(begun: Path) -> None:
    """Before its first checkpoint of its own, too."""
    whole = fitting.distil("teacher", run="whole", runs=begun, steps=3).family.state_dict()
    for step in (0, 1):
        stopped = f"stopped-{step}"

        def stop(trainer: Trainer, step: int = step) -> None:
            trainer.settings = trainer.settings.model_copy(update={"save_every": 100 if step == 0 else 1})
            update = trainer.update

            def updated() -> dict[str, float]:
                if trainer.step == step:
                    raise KeyboardInterrupt
                return update()

            trainer.update = updated  # type: ignore[method-assign]

        with pytest.raises(KeyboardInterrupt):
            fitting.distil("teacher", run=stopped, runs=begun, steps=3, on_trainer=stop)
        assert [path.name for path in checkpoint.steps(begun / stopped / "checkpoints")][-1] == f"step-{step:08d}"
        again = fitting.resume(stopped, runs=begun).family.state_dict()
        assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_what_cannot_be_distilled_says_why(begun: Path, tmp_path: Path) -> None:
    flow = fitting.train("flow", data="moons", steps=2, runs=tmp_path, run="flow", preset="tiny")
    with pytest.raises(Unsupported, match="cannot be distilled"):
        fitting.distil(flow.run.path, runs=tmp_path)
    quick = fitting.distil("teacher", run="once", runs=begun, steps=1)
    with pytest.raises(Unsupported, match="already samples in few steps"):
        fitting.distil(quick.run.path, runs=begun)
    assert not (tmp_path / "digits-diffusion-1").exists()
