"""Beam search against enumeration, rows beyond the window against the model itself, constraints by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from conftest import randomise
from torch import Tensor

from quintet.core.random import Rows
from quintet.core.spaces import Discrete, Space
from quintet.families.autoregressive import Autoregressive
from quintet.model.calls import Alone
from quintet.nets import decoding, stepping
from quintet.nets.continuing import Constraint, Continuation, numbers
from quintet.nets.symbols import penalise

END = 2
TEXT, FIXED = Discrete((4,), 3, pad=END), Discrete((4,), 3, (3, 2, 3, 3))
SOURCE = Discrete((5,), 4, pad=3)
CONDITIONS: dict[str, Space | None] = {"none": None, "label": Discrete((), 3), "text": SOURCE}


def model(space: Discrete = TEXT, condition: Space | None = None, **settings: object) -> Autoregressive:
    chosen = Autoregressive.Settings(**{"width": 16, "depth": 2, "heads": 2, "positions": "rotary"} | settings)
    return randomise(Autoregressive(space, condition, chosen))


def conditions(space: Space | None, n: int) -> Tensor | None:
    if space is None:
        return None
    x = torch.randint(0, 3, (n, *space.shape), generator=torch.Generator().manual_seed(7))
    return x if not space.shape else x.where(torch.arange(5) < 1 + torch.arange(n)[:, None] % 4, 3)


def nothing(n: int, length: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(n, length, dtype=torch.long), torch.zeros(n, length, dtype=torch.bool)


# -- beam search -----------------------------------------------------------------------------------------------------


def exhaustive(family: Autoregressive, k: int, alpha: float, prefix: list[int], cond: Tensor | None) -> list[list[int]]:
    """The k best of all rows that begin with `prefix`, by likelihood over the penalty of their length."""
    space, fixed = family.space, len(prefix)
    x = torch.tensor(list(itertools.product(range(space.vocab_size), repeat=space.dims)))
    x = x[(x[:, :fixed] == torch.tensor(prefix, dtype=torch.long)).all(1)]
    if space.sizes is not None:
        x = x[(x < torch.tensor(space.sizes)).all(1)]
    nats = family.nats(x, family.given(None if cond is None else cond.expand(len(x), *cond.shape), len(x)))
    log_p = -nats[:, fixed:].sum(1)
    x, log_p = x[log_p.isfinite()], log_p[log_p.isfinite()]
    length = torch.full((len(x),), space.dims)
    if space.pad is not None:
        length = ((x != space.pad).sum(1) + 1).clamp_max(space.dims)  # the end is a symbol too
    score = log_p / ((5 + length - fixed) / 6) ** alpha
    return x[score.argsort(descending=True)][:k].tolist()


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("space", [TEXT, FIXED])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("prefix", [[], [1, 0]])
def test_enough_beams_find_what_enumeration_does(kind: str, space: Discrete, alpha: float, prefix: list[int]) -> None:
    family, cond = model(space, CONDITIONS[kind]), conditions(CONDITIONS[kind], 4)
    x, known = nothing(4, 4)
    x[:, : len(prefix)], known[:, : len(prefix)] = torch.tensor(prefix), True
    best = family.n_best(x, known, cond, k=5, sampling=family.Sampling(beams=81, length_penalty=alpha))
    for i in range(4):
        assert best.x[i].tolist() == exhaustive(family, 5, alpha, prefix, None if cond is None else cond[i])
        some = None if cond is None else cond[i].expand(5, *cond[i].shape)
        nats = family.nats(best.x[i], family.given(some, 5))[:, len(prefix) :].sum(1)
        torch.testing.assert_close(best.log_prob[i], -nats, rtol=0, atol=1e-10)


def test_the_enumeration_notices_a_wrong_length(monkeypatch: pytest.MonkeyPatch) -> None:
    true = decoding.length_penalty
    monkeypatch.setattr(decoding, "length_penalty", lambda length, alpha: true(length * 0, alpha))
    with pytest.raises(AssertionError):
        test_enough_beams_find_what_enumeration_does("text", TEXT, 2.0, [])


def test_fewer_texts_than_asked_for() -> None:
    """Two symbols of which one is the end: 1 + 1 texts in a window of one symbol."""
    best = model(Discrete((1,), 2, pad=1)).n_best(*nothing(1, 1), k=4)
    assert best.log_prob.isfinite().tolist() == [[True, True, False, False]]
    assert float(best.log_prob.exp().sum()) == pytest.approx(1)


def test_wider_beams_are_better_and_rows_are_their_own() -> None:
    space = Discrete((8,), 5, pad=4)
    family, cond = model(space, SOURCE), conditions(SOURCE, 40)
    search = lambda a, b, beams: family.n_best(*nothing(b - a, 8), cond[a:b], k=1,  # noqa: E731
                                               sampling=family.Sampling(beams=beams))  # fmt: skip
    scores = [float(search(0, 40, beams).score.mean()) for beams in (1, 2, 4, 16)]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    whole = search(0, 40, 3)
    for a, b in ((0, 1), (1, 4), (39, 40)):
        alone = search(a, b, 3)
        assert torch.equal(alone.x, whole.x[a:b])
        torch.testing.assert_close(alone.log_prob, whole.log_prob[a:b], rtol=0, atol=1e-10)


def test_sample_and_complete_with_beams() -> None:
    family, cond = model(TEXT, SOURCE), conditions(SOURCE, 6)
    s = family.Sampling(beams=3, guidance=1.5, temperature=5.0)
    best = family.n_best(*nothing(6, 4), cond, k=3, sampling=s)
    assert torch.equal(family.sample(6, cond, sampling=s), best.x[:, 0])
    assert torch.equal(family.sample(6, cond, sampling=s, generator=Rows(3, 0, 6)), best.x[:, 0])
    greedy = family.n_best(*nothing(6, 4), cond, k=1, sampling=family.Sampling(length_penalty=0))
    assert torch.equal(greedy.x[:, 0], family.sample(6, cond, sampling=family.Sampling(temperature=0)))
    x, known = nothing(6, 4)
    x[:, 0], known[:, 0] = 1, True
    x[3:, 2], known[3:, 2] = 0, True  # a later symbol too
    done = family.complete(x, known, cond, sampling=s)
    assert torch.equal(done[known], x[known])


@pytest.mark.parametrize("order", ["fixed", "random"])
def test_a_known_symbol_behind_unknown_ones_counts(order: str) -> None:
    family = randomise(Autoregressive(FIXED, None, Autoregressive.Settings(width=16, depth=1, heads=2, order=order)))
    x, known = torch.tensor([[0, 1, 0, 2]]), torch.tensor([[False, True, False, True]])
    done = family.complete(x, known, sampling=family.Sampling(beams=27))
    every = torch.tensor([[a, 1, b, 2] for a in range(3) for b in range(3)])
    at = torch.tensor([[1, 3, 0, 2]]).expand(9, -1) if order == "random" else None
    assert torch.equal(done[0], every[family.nats(every, family.given(None, 9), at).sum(1).argmin()])


# -- rows of any length ----------------------------------------------------------------------------------------------

STREAM = Discrete((6,), 5)


def extended(
    family: Autoregressive, x: Tensor, known: Tensor, a: int = 0, b: int | None = None, **given: object
) -> Tensor:
    """x (n, T), of which prefixes are known, written on, all rows at once; -1 behind the end of a row."""
    out = continued(family, x[a:b], known[a:b], a, **given)
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(text.symbols) for text in out], True, -1)


def continued(family: Autoregressive, x: Tensor, known: Tensor, a: int = 0, *, sampling: object = None,
              constraint: Constraint | None = None) -> list[Continuation]:  # fmt: skip
    u = numbers(*x.shape, generator=Rows(3, a, len(x)), like=family.start)
    out = [Continuation(row[given].tolist(), x.shape[1], numbers, sampling or family.Sampling(), None, constraint)
           for row, given, numbers in zip(x, known, u, strict=True)]  # fmt: skip
    for _ in Alone(family).written(out, len(out)):
        pass
    return out


def test_beyond_the_window_each_symbol_has_the_logits_of_what_was_read_again() -> None:
    """Greedy symbols, each by a full pass over the window that its place belongs to: windows begin every 3 symbols."""
    family = model(STREAM)
    x = extended(family, *nothing(3, 20), sampling=family.Sampling(temperature=0))
    for t in range(20):
        begin = 0 if t < 6 else (t - 5 + 2) // 3 * 3
        assert t - begin in range(6)
        wanted = family.logits(x[:, begin:t], family.given(None, 3))[:, -1].argmax(-1)
        assert torch.equal(x[:, t], wanted), t


def test_prompts_of_any_length_and_a_longer_row_change_nothing() -> None:
    """Of rows with different prompts, one longer than the window, each is what it is alone, and a longer T goes on."""
    family, generator = model(STREAM), torch.Generator().manual_seed(0)
    x, length = torch.randint(0, 5, (5, 30), generator=generator), torch.tensor([0, 3, 14, 3, 22])
    x[3, :3] = x[1, :3]
    known = torch.arange(30) < length[:, None]
    whole = extended(family, x, known)
    assert torch.equal(whole[known], x[known])
    for i in range(5):
        assert torch.equal(extended(family, x, known, i, i + 1)[0], whole[i])
    assert torch.equal(extended(family, x[:, :26], known[:, :26]), whole[:, :26])
    assert not torch.equal(whole[1, 3:], whole[3, 3:]), "one prompt, two samples"


def test_a_prompt_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    family, true, rows = model(STREAM, CONDITIONS["label"]), Autoregressive.logits, []
    monkeypatch.setattr(Autoregressive, "logits", lambda self, x, *a: rows.append(len(x)) or true(self, x, *a))
    x, known = nothing(8, 6)
    x[:, :3], known[:, :3] = torch.tensor([1, 2, 3]), True
    cond = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    many = family.complete(x, known, cond, generator=Rows(1, 0, 8))
    assert rows == [3, 8, 8]
    for i in range(8):
        assert torch.equal(family.complete(x[:1], known[:1], cond[i : i + 1], generator=Rows(1, i, 1))[0], many[i])
    assert len({tuple(row) for row in many.tolist()}) > 3


def test_alike_rows_come_back() -> None:
    x, cond = torch.tensor([[1, 2], [1, 2], [0, 2], [1, 2]]), torch.tensor([0.5, 0.5, 0.5, 0.25])
    rows, back = decoding.alike(x, None, cond)
    assert len(rows) == 3
    assert torch.equal(x[rows][back], x)
    assert torch.equal(cond[rows][back], cond)
    rows, back = decoding.alike(x[:, :0], None)
    assert (rows.tolist(), back.tolist()) == ([0], [0, 0, 0, 0])


# -- constraints -----------------------------------------------------------------------------------------------------


def never_twice(x: Tensor, start: Tensor) -> Tensor:
    """No symbol of the new part again; a row ends when all have been used."""
    may = torch.ones(len(x), 5, dtype=torch.bool)
    for row, symbols, begin in zip(may, x.tolist(), start.tolist(), strict=True):
        row[symbols[begin:]] = False
    return may


@pytest.mark.parametrize("pad", [None, 4])
def test_a_constraint_holds_and_ends_rows(pad: int | None) -> None:
    family = model(Discrete((8,), 5, pad=pad))
    x, known = nothing(30, 8)
    known[10:, :2] = True  # the symbol 0, twice
    known[20:, :3] = True
    for i, text in enumerate(continued(family, x, known, constraint=never_twice)):
        new = text.symbols[0 if i < 10 else 2 if i < 20 else 3 :]
        assert len(set(new)) == len(new)
        assert len(new) == 5 or pad is not None
        assert pad not in new
        assert text.ended == ("length" if len(text.symbols) == 8 else "stop")
    best = family.n_best(x[:12], known[:12], k=4, sampling=family.Sampling(beams=100), constraint=never_twice)
    assert all(
        len(set(s := [s for s in row if s not in (pad, -1)])) == len(s) for row in best.x[:10].flatten(0, 1).tolist()
    )
    assert (best.score[:, :-1] >= best.score[:, 1:]).all()


def test_the_work_stops_when_all_rows_have() -> None:
    family, seen = model(STREAM), []
    stop = lambda x, start: seen.append(x.shape) or torch.ones(len(x), 5, dtype=torch.bool) & (x.shape[1] < 3)  # noqa: E731
    done = continued(family, *nothing(4, 500), constraint=stop)
    assert len(seen) == 16
    assert all(len(text.symbols) == 3 and text.ended == "stop" for text in done)


def test_constrained_samples_follow_the_model_renormalised() -> None:
    family = model(Discrete((2,), 5))
    may = torch.tensor([True, False, True, True, False])
    x = extended(family, *nothing(4000, 2), constraint=lambda x, _: may.expand(len(x), -1))
    first = family.logits(torch.zeros(1, 0, dtype=torch.long), family.given(None, 1))[0, 0]
    p = first.masked_fill(~may, -torch.inf).softmax(0)
    found = torch.bincount(x[:, 0], minlength=5) / len(x)
    assert float((found - p).abs().sum()) < 0.06
    assert float((found - first.softmax(0)).abs().sum()) > 0.1


def test_repetition_penalty_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, -3.0], [2.0, -1.0, 0.5, -3.0]])
    out = penalise(logits, torch.tensor([[0, 1, 1], [2, decoding.NOTHING, decoding.NOTHING]]), 2.0)
    assert out.tolist() == [[1.0, -2.0, 0.5, -3.0], [2.0, -1.0, 0.25, -3.0]]
    family = model(Discrete((5,), 5))
    x = family.sample(200, generator=Rows(0, 0, 200), sampling=family.Sampling(repetition_penalty=1e6))
    plain = family.sample(200, generator=Rows(0, 0, 200))
    repeats = lambda x: sum(5 - len(set(row)) for row in x.tolist())  # noqa: E731
    assert repeats(x) < 0.7 * repeats(plain)


# -- single steps ----------------------------------------------------------------------------------------------------


def largest_error(settings: dict[str, object], condition: Space | None, rows: int = 3) -> float:
    """Between a reader's logits, of single steps from the 8th on, and those of full passes, at every length. A reach of
    two symbols is one of levels in rows of five.
    """
    row = 5 if settings.get("reach") == 2 else None
    family = model(Discrete((24,), 7, row=row), condition, **settings)
    x = torch.randint(0, 7, (rows, 23), generator=torch.Generator().manual_seed(0))
    cond = conditions(condition, rows)
    s = family.Sampling(guidance=1.0 if cond is None else 1.5)
    givens = [family.given(c, rows) for c in s.conditions(cond)]
    with torch.no_grad():
        read = decoding.Reader(family.logits, givens, s, 24, None, family.net)
        wanted = decoding.guide([family.logits(x, given) for given in givens], s)
        error = max(float((read(x, t) - wanted[:, t]).abs().max()) for t in range(24))
    assert read.step is not None
    return error


@pytest.mark.parametrize("rows", [stepping.FEW, stepping.FEW + 1])
@pytest.mark.parametrize("condition", [None, SOURCE])
@pytest.mark.parametrize("settings", [
    {},
    {"positions": "learnt", "activation": "relu"},
    {"norm": "layer", "activation": "relu2", "tied": "output"},
    {"qk_norm": False},
    {"positions": "sinusoidal", "qk_norm": False, "norm": "layer"},
    {"reach": 3},
    {"reach": 2},
])  # fmt: skip
def test_single_steps_are_the_model(settings: dict[str, object], condition: Space | None, rows: int) -> None:
    assert largest_error(settings, condition, rows) < 1e-11


@pytest.mark.parametrize("name", ["scale", "rotations"])
def test_the_check_notices_a_wrong_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true = stepping.rotations
    wrong = {"scale": lambda x, *rest: x[..., :1], "rotations": lambda start, *rest: true(1, *rest)}
    monkeypatch.setattr(stepping, name, wrong[name])
    assert largest_error({}, None) > 1e-6


def test_no_single_steps_where_they_would_differ() -> None:
    net = model(STREAM, None, dropout=0.1).net
    assert stepping.stepper(net, 6, 1) is not None
    assert stepping.stepper(net.train(), 6, 1) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert stepping.stepper(net.eval(), 6, 1) is None


@torch.no_grad()
def test_a_step_looks_at_the_symbols_of_its_column_alone() -> None:
    """A column of many categories does not slow the others down; what is drawn is drawn as before."""
    space = Discrete((3,), 300, (2, 300, 3))
    family = Autoregressive(space, None, Autoregressive.Settings(width=16, depth=1, heads=2))
    randomise(family)
    x = torch.tensor([[1, 299, 2], [0, 7, 1]])
    read, logits = family.reader(x, 0, None, family.Sampling())
    each = [logits, read(x, 1), read(x, 2)]
    assert [part.shape[1] for part in each] == [2, 300, 3]
    total = sum(part.log_softmax(-1).gather(1, x[:, i : i + 1])[:, 0] for i, part in enumerate(each))
    assert torch.allclose(torch.as_tensor(total), family.log_prob(x))
