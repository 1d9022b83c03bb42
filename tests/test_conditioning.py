"""Conditions of every kind, as a vector and as a sequence: every entry counts, padding does not, in every family."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import randomise
from torch import Tensor

from quintet.core.family import Batch, Family
from quintet.core.random import Rows
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.nets.conditioning import Columns, Conditioner, Words
from quintet.nets.given import Given, Reader
from quintet.registry import FAMILIES

TEXT = Discrete((6,), 5, pad=4)
SPACES: list[Space] = [
    Discrete((), 3), Discrete((1,), 3), Discrete((3,), 7, (3, 7, 2)), TEXT, Continuous(()), Continuous((4,)),
    Continuous((5,), None, (2.0, 2.0, 0.0, 0.0, 0.1)), Continuous((2, 9)), Continuous((1, 8, 6), 17),
]  # fmt: skip


BOTH = pytest.mark.parametrize("reads", ["vector", "sequence"])


def rows(given: Given) -> Tensor:
    """What is given of each row, as one vector: emb, or the positions that may be read and zeros for the others."""
    if given.context is None:
        assert given.emb is not None
        return given.emb
    seen = torch.ones(given.context.shape[:2]) if given.seen is None else given.seen
    return (given.context * seen[..., None]).flatten(1)


def draw(space: Space, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(space, Continuous):
        return torch.randn(n, *space.shape, generator=generator, dtype=torch.float64)
    top = torch.tensor(space.sizes or space.vocab_size)
    x = (torch.rand(n, *space.shape, generator=generator) * top).long()
    return x if space.pad is None else torch.where((x == space.pad).cumsum(1) > 0, space.pad, x)


@BOTH
@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("width", [1, 16])
def test_every_row_is_told_of_its_own(space: Space, width: int, reads: str) -> None:
    conditioner = randomise(Conditioner(space, width, reads), scale=0.1)
    cond = draw(space, 20)
    given = conditioner(cond, 20)
    told = rows(given)
    assert (given.emb is None, given.context is None) == (reads == "sequence", reads == "vector")
    assert told.shape[1] % width == 0
    alone = rows(conditioner(cond[3:5], 2))
    torch.testing.assert_close(F.pad(alone, (0, told.shape[1] - alone.shape[1])), told[3:5])
    kinds, each = cond.reshape(20, -1).unique(dim=0), (told * 1e6).round().unique(dim=0)
    assert len(kinds) == len(each)
    assert torch.equal(rows(conditioner(None, 3)), conditioner.null.expand(3, -1))


@BOTH
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_entry_of_a_condition_and_every_parameter_counts(space: Space, reads: str) -> None:
    conditioner = randomise(Conditioner(space, 8, reads), scale=0.1)
    cond = draw(space, 4)
    if space is TEXT:
        cond = cond.clamp_max(3)  # no end: all of it is text
    base = rows(conditioner(cond, 4))
    for place in range(space.dims):
        moved = cond.clone().reshape(4, -1)
        if isinstance(space, Discrete):
            top = 4 if space is TEXT else (space.sizes or (space.vocab_size,) * space.dims)[place]
            moved[:, place] = (moved[:, place] + 1) % top
        else:
            moved[:, place] += 1.0
        assert float((rows(conditioner(moved.view(cond.shape), 4)) - base).abs().max(1).values.min()) > 1e-6, place
    (base.square().sum() + rows(conditioner(None, 1)).square().sum()).backward()
    unused = {name for name, p in conditioner.named_parameters() if p.grad is None}
    assert not {name for name in unused if reads == "vector" or "mix" not in name}  # columns are mixed in a vector only


def leak(reads: str) -> None:
    """A text of two symbols and its end: each of the three is read, and nothing behind them."""
    conditioner = randomise(Conditioner(TEXT, 8, reads), scale=0.1)
    cond = torch.tensor([[0, 1, 4, 4, 4, 4], [0, 1, 2, 3, 2, 1]])
    base = rows(conditioner(cond, 2))[0]
    for place in range(6):
        moved = cond.clone()
        moved[0, place] = (moved[0, place] + 1) % 5
        change = float((rows(conditioner(moved, 2))[0] - base).abs().max())
        assert (change > 1e-6) == (place <= 2), place


@BOTH
def test_what_stands_behind_the_end_of_a_text_does_not_matter(reads: str) -> None:
    leak(reads)


@BOTH
def test_the_leak_test_notices_a_mask_that_is_upside_down(monkeypatch: pytest.MonkeyPatch, reads: str) -> None:
    true = Words.forward

    def swapped(self: Words, *args: object) -> tuple[Tensor, Tensor]:
        h, seen = true(self, *args)
        return h, seen.flip(1)

    monkeypatch.setattr(Words, "forward", swapped)
    with pytest.raises(AssertionError):
        leak(reads)


def test_the_order_of_a_text_matters_and_that_of_columns_is_their_own() -> None:
    text = randomise(Conditioner(TEXT, 8), scale=0.1)
    ab = torch.tensor([[0, 1, 2, 4, 4, 4], [1, 0, 2, 4, 4, 4]])
    emb = text(ab, 2).emb
    assert float((emb[0] - emb[1]).abs().max()) > 1e-4
    with torch.no_grad():
        text.encode.enter.positions.zero_()  # the control: without positions it is a bag of words
    emb = text(ab, 2).emb
    torch.testing.assert_close(emb[0], emb[1])


def test_padding_is_not_part_of_the_means() -> None:
    encode = randomise(Conditioner(TEXT, 8), scale=0.1).encode
    encode.net = torch.nn.Identity()
    encode.net.forward = lambda h, mask=None, only=None: h if only is None else only.rows(h)  # type: ignore[method-assign]
    encode.net.drop = lambda h: h  # type: ignore[assignment]
    x = torch.tensor([[0, 1, 4, 4, 4, 4], [4, 4, 4, 4, 4, 4]])
    out = encode.pool(x, *encode(x, None, None))
    h = encode.enter.table(x) + encode.enter.positions
    weights = encode.weigh.score(h[0, :3]).softmax(0)
    torch.testing.assert_close(out[0], encode.leave((weights.T @ h[0, :3]).flatten()))
    torch.testing.assert_close(out[1], encode.leave(h[1, 0].repeat(8)))  # an empty text is its end, not 0 / 0


def test_columns_are_read_together() -> None:
    """Exclusive or of two columns cannot be read off a sum of their embeddings."""
    space = Discrete((2,), 2, (2, 2))
    cond = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    crossed = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    columns = randomise(Columns(space, 8), scale=0.3)
    assert float((crossed @ columns.pool(cond, *columns(cond, None, None))).abs().max()) > 1e-3
    columns.mix = None
    assert float((crossed @ columns.pool(cond, *columns(cond, None, None))).abs().max()) < 1e-12


@BOTH
@pytest.mark.parametrize("space", [TEXT, Continuous((1, 8, 6))], ids=str)
def test_dropped_conditions_are_the_null_one_and_belong_to_rows(space: Space, reads: str) -> None:
    conditioner = randomise(Conditioner(space, 8, reads, dropout=0.3), scale=0.1)
    cond = draw(space, 400)
    if space is TEXT:
        cond = cond.clamp_max(3)  # as long as each other
    plain = rows(conditioner(cond, 400))
    conditioner.train()
    told = rows(conditioner(cond, 400, generator=Rows(5, 0, 400)))
    dropped = (told[:, -8:] == (conditioner.null if reads == "vector" else 0)).all(1)
    assert 0.25 < float(dropped.double().mean()) < 0.35
    torch.testing.assert_close(told[~dropped], plain[~dropped])
    torch.testing.assert_close(rows(conditioner(cond[10:30], 20, generator=Rows(5, 10, 20))), told[10:30])


def test_a_reader_is_attention_by_hand() -> None:
    reader = randomise(Reader(8, 6))
    h, context = torch.randn(2, 6, 3, 2).double(), torch.randn(2, 5, 8).double()
    seen = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)
    found = reader(h, Given(context=context, seen=seen))
    for b in range(2):
        told = context[b, seen[b]]
        for i, j in [(0, 0), (2, 1)]:
            at = h[b, :, i, j]
            q = reader.query(reader.norm(at))
            k, v = reader.key_value(told).chunk(2, -1)
            heads = [(q[s] @ k[:, s].T / 2**0.5).softmax(-1) @ v[:, s] for s in (slice(n, n + 2) for n in (0, 2, 4, 6))]
            torch.testing.assert_close(found[b, :, i, j], at + reader.out(torch.cat(heads)))


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
        F.binary_cross_entropy_with_logits(conditioner(x, 128).emb[:, 0], y).backward()
        optimiser.step()
    x, y = data(1000)
    assert float(((conditioner(x, 1000).emb[:, 0] > 0) == (y > 0.5)).float().mean()) > 0.95


# -- every family, every kind of condition, both ways ------------------------------------------------------------------

KINDS: dict[str, Space] = {
    "label": Discrete((1,), 3), "columns": Discrete((3,), 7, (3, 7, 2)), "numbers": Continuous((4,)), "text": TEXT,
    "recording": Continuous((2, 9)), "image": Continuous((1, 8, 6)),
}  # fmt: skip
SMALL: dict[str, dict[str, object]] = {
    "vae": {"width": 8, "depth": 1, "latent": 2, "emb": 8, "importance": 2},
    "gan": {"width": 8, "critic_width": 8, "depth": 1, "latent": 2, "emb": 8},
    "autoregressive": {"width": 16, "depth": 1, "heads": 2},
    "flow": {"width": 8, "layers": 2, "emb": 8},
    "diffusion": {"width": 8, "depth": 1, "emb": 8, "ode_steps": 2},
    "masked_diffusion": {"width": 16, "depth": 1, "heads": 2, "draws": 2},
}
NETS: list[tuple[str, Space, dict[str, object]]] = [
    ("vae", Continuous((1, 6, 5), 17), {}), ("vae", Continuous((3,)), {}), ("vae", Discrete((6,), 5), {"grid": 2}),
    ("vae", Continuous((3,)), {"net": "plain"}), ("gan", Continuous((1, 6, 5), 17), {}), ("gan", Continuous((3,)), {}),
    ("autoregressive", Discrete((6,), 5), {}), ("autoregressive", Discrete((1,), 3), {}),
    ("flow", Continuous((3,)), {}), ("flow", Continuous((3,)), {"kind": "autoregressive"}),
    ("flow", Continuous((2, 8)), {"kind": "glow"}), ("flow", Continuous((2, 8)), {"kind": "transformer"}),
    ("diffusion", Continuous((1, 6, 5), 17), {}),
    ("diffusion", Continuous((3,)), {}), ("masked_diffusion", Discrete((6,), 5), {}),
    ("diffusion", Continuous((1, 6, 5), 17), {"net": "dit", "patch": 2}),
]  # fmt: skip
each_net = pytest.mark.parametrize(
    ("name", "space", "settings"),
    NETS,
    ids=["-".join([name, str(s.shape), *map(str, o.values())]) for name, s, o in NETS],
)


def build(name: str, space: Space, settings: dict[str, object], condition: Space | None, reads: str) -> Family:
    cls = FAMILIES[name]
    torch.manual_seed(0)
    return randomise(cls(space, condition, cls.Settings(**SMALL[name], **settings, condition=reads)), scale=0.2)


def says(family: Family, cond: Tensor | None, n: int) -> Tensor:
    """What a family makes of n conditions: log-densities of one item, or where there are none what one z becomes."""
    generator = torch.Generator().manual_seed(1)
    if "log_prob" in family.missing:
        return family.decode(torch.randn(1, 2, generator=generator).double().expand(n, -1), cond).flatten(1)
    x = torch.rand(1, *family.space.shape, generator=generator, dtype=torch.float64)
    if isinstance(family.space, Discrete):
        x = (x * family.space.vocab_size).long()
    same = [family.log_prob(x, None if cond is None else cond[i : i + 1], generator=Rows(3, 0, 1)) for i in range(n)]
    return torch.stack(same).detach()


@BOTH
@pytest.mark.parametrize("kind", KINDS)
@each_net
def test_every_net_reads_every_condition(
    name: str, space: Space, settings: dict[str, object], kind: str, reads: str
) -> None:
    family, cond = build(name, space, settings, KINDS[kind], reads), draw(KINDS[kind], 3)
    cond[1] = cond[0]
    cond[2] = 1 - cond[0] if isinstance(KINDS[kind], Continuous) else (cond[0] + 1) % 2
    told = says(family, cond, 3)
    torch.testing.assert_close(told[1], told[0])
    null = says(family, None, 1)
    assert float((told[2] - told[0]).abs().max()) > 1e-9
    assert float((told[0] - null[0]).abs().max()) > 1e-9
    sample = family.sample(2, cond[:2], generator=Rows(0, 0, 2))
    family.space.check(sample)
    if "guidance" not in family.Sampling.model_fields:
        return
    once, never = (family.Sampling(guidance=g) for g in (1.0, 0.0))
    again = family.sample(2, cond[:2], sampling=once, generator=Rows(0, 0, 2))
    torch.testing.assert_close(again, sample, rtol=0, atol=0)
    unguided = family.sample(2, cond[:2], sampling=never, generator=Rows(0, 0, 2))
    torch.testing.assert_close(unguided, family.sample(2, generator=Rows(0, 0, 2)))


@pytest.mark.parametrize("kind", ["text", "image"])
@each_net
def test_every_position_of_a_condition_reaches_every_net(
    name: str, space: Space, settings: dict[str, object], kind: str
) -> None:
    family, condition = build(name, space, settings, KINDS[kind], "sequence"), KINDS[kind]
    places = [0, condition.dims // 2, condition.dims - 1]
    cond = draw(condition, 1).clamp_max(3).expand(1 + len(places), *condition.shape).clone()
    for row, place in enumerate(places, 1):
        flat = cond[row].view(-1)
        flat[place] = (flat[place] + 1) % 4 if isinstance(condition, Discrete) else flat[place] + 1.0
    told = says(family, cond, len(cond))
    change = (told[1:] - told[0]).abs().view(len(places), -1).amax(1)
    assert float(change.min()) > 1e-9, change


@each_net
def test_every_parameter_learns_from_a_sequence(name: str, space: Space, settings: dict[str, object]) -> None:
    family = build(name, space, settings, TEXT, "sequence").train()
    x = family.space.dequantise(draw(space, 8), None) if isinstance(space, Continuous) else draw(space, 8)
    for objective in family.objectives().values():
        family.zero_grad()
        objective.loss(Batch(x, draw(TEXT, 8), Rows(0, 0, 8))).value.backward()
        lacking = {key for key, p in objective.module.named_parameters() if p.grad is None or not bool(p.grad.any())}
        assert not lacking - {"conditioner.null", "tokens.weight", "net.leave.bias"}, "what no loss depends on"


@each_net
def test_no_family_sees_behind_the_end_of_a_text(name: str, space: Space, settings: dict[str, object]) -> None:
    family = build(name, space, settings, TEXT, "sequence")
    cond = torch.tensor([[0, 1, 4, 4, 4, 4], [0, 1, 4, 2, 3, 1], [0, 1, 2, 4, 4, 4], [2, 1, 4, 4, 4, 4]])
    base, behind, longer, other = says(family, cond, 4)
    torch.testing.assert_close(behind, base, rtol=0, atol=1e-12)
    assert float((longer - base).abs().max()) > 1e-9
    assert float((other - base).abs().max()) > 1e-9
