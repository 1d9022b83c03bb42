"""What holds for every family: refusals tied to the code, seeds, rows, precision, and one Gaussian."""

from __future__ import annotations

import inspect

import pytest
import torch
from conftest import randomise

from quintet.core.errors import Unsupported
from quintet.core.family import OPERATIONS, Batch, Family
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.registry import FAMILIES

SMALL = {
    "vae": {"width": 8, "depth": 1, "latent": 3},
    "gan": {"width": 8, "critic_width": 8, "depth": 1, "latent": 3},
    "autoregressive": {"width": 16, "depth": 1, "heads": 2},
    "flow": {"width": 8, "layers": 2},
    "diffusion": {"width": 8, "depth": 1, "emb": 8, "ode_steps": 4},
    "masked_diffusion": {"width": 16, "depth": 1, "heads": 2, "draws": 4},
}
VARIANTS = {
    "flow-transformer": {"kind": "transformer", "depth": 1, "noise": 0.1},
    "diffusion-dit": {"net": "dit", "patch": 2},
    "vae-mixture": {"prior": 3},
    "diffusion-meanflow": {"learns": "meanflow"},
    "diffusion-consistency": {"learns": "consistency"},
}
"""A family and settings that make it another one, for which all the same holds."""
QUICK = {"flow": {"moves": 5, "starts": 8}}  # a long chain of a random density amplifies rounding
LABEL = Discrete((1,), 3)


def class_of(name: str) -> type[Family]:
    """Of a family, or of a variant of one."""
    return FAMILIES[name.partition("-")[0]]


def space_of(cls: type[Family], image: bool = False) -> Space:
    if Continuous in cls.accepts:
        return Continuous((1, 6, 5), 17) if image else Continuous((3,))
    return Discrete((8,), 5)


def build(name: str, *, image: bool = False, condition: Space | None = LABEL) -> Family:
    cls = class_of(name)
    torch.manual_seed(0)
    settings = SMALL.get(cls.name, {}) | VARIANTS.get(name, {})
    family = cls(space_of(cls, image), condition, cls.Settings(**settings))
    x = items(family, 64)
    family.initialise(Batch(x, labels(64) if condition else None, torch.Generator().manual_seed(0)))
    return family


def items(family: Family, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if isinstance(family.space, Continuous):
        x = torch.rand(n, *family.space.shape, generator=generator) * 2 - 1
        return x.to(next(family.parameters()).dtype)
    return torch.randint(0, family.space.vocab_size, (n, *family.space.shape), generator=generator)


def labels(n: int) -> torch.Tensor:
    return (torch.arange(n) % 3)[:, None]


families = pytest.mark.parametrize("name", FAMILIES)
every = pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS])
both = pytest.mark.parametrize("image", [False, True])


@families
def test_what_is_missing_is_what_is_not_written(name: str) -> None:
    cls = class_of(name)
    lacking = {op for op in OPERATIONS if getattr(cls, op) is getattr(Family, op)}
    assert lacking == set(cls.missing)
    assert ("log_prob" in cls.missing) == (cls.likelihood == "none")
    family = build(name)
    for op in lacking:
        with pytest.raises(Unsupported, match=f"{cls.name} does not support {op}") as caught:
            getattr(family, op)(items(family, 2))
        assert caught.value.why == cls.missing[op]


@families
def test_signatures_are_those_of_the_protocol(name: str) -> None:
    for op in OPERATIONS:
        ours, base = (list(inspect.signature(getattr(cls, op)).parameters) for cls in (class_of(name), Family))
        assert ours == base


@every
@both
def test_samples_lie_in_the_space_and_belong_to_rows(name: str, image: bool) -> None:
    family = randomise(build(name, image=image), scale=0.1)
    whole = family.sample(5, labels(5), generator=Rows(7, 0, 5))
    family.space.check(whole)
    parts = [family.sample(n, labels(5)[at : at + n], generator=Rows(7, at, n)) for at, n in ((0, 2), (2, 3))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-9)
    other = family.sample(5, labels(5), generator=Rows(8, 0, 5))
    assert not torch.equal(other, whole)


@every
@both
def test_every_objective_gives_gradients_to_its_own_module(name: str, image: bool) -> None:
    family = randomise(build(name, image=image), scale=0.1).train()
    batch = Batch(items(family, 8), labels(8), torch.Generator().manual_seed(0))
    seen = set()
    for objective in family.objectives().values():
        family.zero_grad()
        loss = objective.loss(batch)
        assert loss.value.shape == ()
        loss.value.backward()
        grads = {key for key, p in objective.module.named_parameters() if p.grad is not None}
        assert grads, name
        seen |= {id(p) for p in objective.module.parameters()}
    assert seen == {id(p) for p in family.parameters()}, "a parameter that no objective trains"


@every
@both
def test_log_prob_is_per_row_and_given_the_condition(name: str, image: bool) -> None:
    family = randomise(build(name, image=image), scale=0.1)
    if family.likelihood == "none":
        pytest.skip("no likelihood")
    x = items(family, 4)
    score = lambda rows, cond: family.log_prob(x[rows], cond, generator=Rows(3, rows.start or 0, len(x[rows])))  # noqa: E731
    whole = score(slice(0, 4), labels(4))
    assert whole.shape == (4,)
    parts = [score(slice(0, 1), labels(4)[:1]), score(slice(1, 4), labels(4)[1:])]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-8)
    assert (score(slice(0, 4), (labels(4) + 1) % 3) - whole).abs().max() > 1e-9


@every
def test_sampling_tells_each_step(name: str) -> None:
    family, seen = build(name).eval(), []
    family.sample(2, labels(2), on_step=lambda step, steps, x: seen.append((step, steps, len(x))))
    assert [step for step, _, _ in seen] == list(range(1, seen[-1][1] + 1))
    assert all(n == 2 for _, _, n in seen)


@families
def test_the_wrong_space_is_refused(name: str) -> None:
    cls = class_of(name)
    if cls.accepts == (Continuous, Discrete):
        pytest.skip("takes both")
    wrong = Discrete((4,), 3) if Continuous in cls.accepts else Continuous((4,))
    with pytest.raises(Unsupported, match="needs"):
        cls(wrong)


@every
def test_encode_and_decode_keep_shapes(name: str) -> None:
    family = build(name).eval()
    if "encode" in family.missing:
        pytest.skip("no latent of data")
    x = items(family, 4)
    assert family.decode(family.encode(x, labels(4)), labels(4)).shape == x.shape


@every
@both
def test_completions_keep_what_is_known_and_belong_to_rows(name: str, image: bool) -> None:
    family = randomise(build(name, image=image), scale=0.1)
    if "complete" in family.missing:
        pytest.skip("cannot complete")
    x, known = items(family, 4), torch.arange(4 * family.space.dims).view(4, *family.space.shape) % 3 > 0
    known[3] = True
    few = family.Sampling(**QUICK.get(family.name, {}))
    draw = lambda a, b: family.complete(x[a:b], known[a:b], labels(4)[a:b], sampling=few, generator=Rows(7, a, b - a))  # noqa: E731
    whole = draw(0, 4)
    family.space.check(whole)
    assert torch.equal(whole[known], x[known])
    parts = [draw(0, 1), draw(1, 4)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-8)
