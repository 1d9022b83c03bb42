"""Conditions of every kind become an embedding that says what the condition says: order, place, columns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import randomise
from torch import Tensor

from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.nets.conditioning import Conditioner, Symbols, Tokens

TEXT = Discrete((6,), 5, pad=4)
SPACES: list[Space] = [
    Discrete((), 3), Discrete((1,), 3), Discrete((3,), 7, (3, 7, 2)), TEXT, Continuous(()), Continuous((4,)),
    Continuous((5,), None, (2.0, 2.0, 0.0, 0.0, 0.1)), Continuous((2, 9)), Continuous((1, 8, 6), 17),
]  # fmt: skip


def draw(space: Space, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(space, Continuous):
        return torch.randn(n, *space.shape, generator=generator, dtype=torch.float64)
    top = torch.tensor(space.sizes or space.vocab_size)
    return (torch.rand(n, *space.shape, generator=generator) * top).long()


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("width", [1, 16])
def test_every_row_has_its_own_embedding(space: Space, width: int) -> None:
    conditioner = randomise(Conditioner(space, width), scale=0.1)
    cond = draw(space, 20)
    emb = conditioner(cond, 20)
    assert emb.shape == (20, width)
    torch.testing.assert_close(conditioner(cond[3:5], 2), emb[3:5])
    kinds, embeddings = cond.reshape(20, -1).unique(dim=0), (emb * 1e6).round().unique(dim=0)
    assert len(kinds) == len(embeddings)
    assert torch.equal(conditioner(None, 3), conditioner.null.expand(3, -1))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_entry_of_a_condition_and_every_parameter_counts(space: Space) -> None:
    conditioner = randomise(Conditioner(space, 8), scale=0.1)
    cond = draw(space, 4)
    base = conditioner(cond, 4)
    for place in range(space.dims):
        moved = cond.clone().reshape(4, -1)
        if isinstance(space, Discrete):
            moved[:, place] = (moved[:, place] + 1) % (space.sizes or (space.vocab_size,) * space.dims)[place]
        else:
            moved[:, place] += 1.0
        assert float((conditioner(moved.view(cond.shape), 4) - base).abs().max(1).values.min()) > 1e-6, place
    (base.square().sum() + conditioner(None, 1).square().sum()).backward()
    assert all(p.grad is not None for p in conditioner.parameters())


def test_the_order_of_a_text_matters_and_that_of_columns_is_their_own() -> None:
    text = randomise(Conditioner(TEXT, 8), scale=0.1)
    ab = torch.tensor([[0, 1, 2, 4, 4, 4], [1, 0, 2, 4, 4, 4]])
    assert float((text(ab, 2)[0] - text(ab, 2)[1]).abs().max()) > 1e-4
    with torch.no_grad():
        bag = randomise(Tokens(TEXT, 8), scale=0.1)
        bag.positions.zero_()  # the control: without positions it is a bag of words
    torch.testing.assert_close(bag(ab)[0], bag(ab)[1])


def test_padding_is_not_part_of_the_mean() -> None:
    tokens = randomise(Tokens(TEXT, 8), scale=0.1)
    seen: list[Tensor] = []
    tokens.leave.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    tokens.net = torch.nn.Identity()
    x = torch.tensor([[0, 1, 4, 4, 4, 4], [4, 4, 4, 4, 4, 4]])
    out = tokens(x)
    h = tokens.table(x) + tokens.positions
    weights = F.softmax(tokens.weigh(h[0, :2])[:, 0], 0)
    torch.testing.assert_close(seen[0][0], weights @ h[0, :2])
    torch.testing.assert_close(seen[0][1], h[1, 0])  # an empty text is its first padding, not 0 / 0
    assert bool(torch.isfinite(out).all())


def test_columns_are_read_together() -> None:
    """Exclusive or of two columns cannot be read off a sum of their embeddings."""
    space = Discrete((2,), 2, (2, 2))
    cond = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    crossed = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    symbols = randomise(Symbols(space, 8), scale=0.3)
    assert float((crossed @ symbols(cond)).abs().max()) > 1e-3
    symbols.mix = None
    assert float((crossed @ symbols(cond)).abs().max()) < 1e-12


@pytest.mark.parametrize("space", [TEXT, Continuous((1, 8, 6))], ids=str)
def test_dropped_conditions_are_the_null_one_and_belong_to_rows(space: Space) -> None:
    conditioner = randomise(Conditioner(space, 8, dropout=0.3), scale=0.1)
    cond = draw(space, 1000)
    plain = conditioner(cond, 1000)
    conditioner.train()
    emb = conditioner(cond, 1000, generator=Rows(5, 0, 1000))
    dropped = (emb == conditioner.null).all(1)
    assert 0.25 < float(dropped.double().mean()) < 0.35
    torch.testing.assert_close(emb[~dropped], plain[~dropped])
    torch.testing.assert_close(conditioner(cond[10:30], 20, generator=Rows(5, 10, 20)), emb[10:30])


def test_a_text_condition_is_learnt_where_only_order_tells() -> None:
    """Which of two symbols comes first, at any places: a target that no bag of words knows."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    space = Discrete((8,), 3)

    def data(n: int) -> tuple[Tensor, Tensor]:
        places = torch.rand(n, 8, generator=generator).argsort(1)[:, :2]
        x = torch.zeros(n, 8, dtype=torch.long).scatter(1, places, torch.tensor([[1, 2]]).expand(n, -1))
        return x, (places[:, 0] < places[:, 1]).float()

    conditioner = Conditioner(space, 1)
    optimiser = torch.optim.Adam(conditioner.parameters(), 3e-3)
    for _ in range(150):
        x, y = data(128)
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(conditioner(x, 128)[:, 0], y).backward()
        optimiser.step()
    x, y = data(1000)
    assert float(((conditioner(x, 1000)[:, 0] > 0) == (y > 0.5)).float().mean()) > 0.95
