"""Continuous batching: a text is the same alone and among others that join and leave; each has its own settings."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import randomise
from test_batching import fitted
from test_decoding import SOURCE, conditions
from test_writing import LONG, SHORT, TOKENS, model
from torch import Tensor

from quintet.core.random import Rows
from quintet.core.spaces import Discrete, Space
from quintet.families.autoregressive import Autoregressive
from quintet.model import batching, turns
from quintet.model.batching import Batcher
from quintet.model.fitted import Fitted
from quintet.model.writing import Wanted, Writer
from quintet.nets import continuing, stepping
from quintet.nets.continuing import Continuation, Continuations, numbers

SPACE, LABEL = Discrete((16,), 11), Discrete((1,), 3)
OTHERS: list[dict[str, Any]] = [
    {}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8}, {"temperature": 0.0}, {"repetition_penalty": 1.5},
    {"min_p": 0.1, "temperature": 1.3}, {"guidance": 2.0},
]  # fmt: skip
NETS: dict[str, dict[str, Any]] = {
    "learnt": {}, "rotary": {"positions": "rotary"}, "sinusoidal": {"positions": "sinusoidal", "reach": 3},
    "layer": {"norm": "layer", "activation": "relu2", "qk_norm": False}, "levels": {"reach": 2},
}  # fmt: skip


def family(condition: Space | None = None, space: Discrete = SPACE, **settings: Any) -> Autoregressive:
    """Random weights in float32."""
    space = replace(space, row=4) if settings.get("reach") == 2 else space  # of levels
    net = Autoregressive(space, condition, Autoregressive.Settings(width=32, depth=2, heads=2, **settings))
    return randomise(net, scale=0.3).float()  # type: ignore[return-value]


class Said(list[tuple[int, float]]):
    """The symbols of a text with their log-probabilities."""

    def __call__(self, symbol: int, likely: continuing.Likely | None) -> bool:
        assert likely is not None
        self.append((symbol, likely.log_prob))
        return False


def texts(net: Autoregressive, n: int = 16, *, until: int = 60) -> list[Continuation]:
    """Prompts of any length up to beyond the window, with and without company in their settings."""
    draw, cond = random.Random(0), None
    if net.condition is not None:
        cond = conditions(net.condition, n) if net.condition == SOURCE else torch.arange(n)[:, None] % 3
    u = numbers(n, until, generator=Rows(7, 0, n), like=net.start)
    out = []
    for i in range(n):
        prompt = [draw.randrange(10) for _ in range(draw.choice([0, 1, 3, 3, 9, 17, 30]))]
        choice = net.Sampling(**OTHERS[i % len(OTHERS)])
        given = None if cond is None else cond[i : i + 1]
        out.append(Continuation(prompt, until - draw.randrange(20), u[i], choice, given, None, Said(), 2))
    return out


def alone(net: Autoregressive, **given: Any) -> list[Continuation]:
    out = texts(net, **given)
    for text in out:
        one = Continuations(net)
        one.join(text)
        while one.texts:
            one.step()
    return out


def among(net: Autoregressive, **given: Any) -> list[Continuation]:
    """All of them, that join at random times; and as many more that come, and go before their end."""
    draw, out, running = random.Random(1), texts(net, **given), Continuations(net)
    company = texts(net, **given)
    waiting = draw.sample([*out, *company], len(out) + len(company))
    while waiting or running.texts:
        for _ in range(draw.randrange(4)):
            if waiting:
                running.join(waiting.pop())
        running.step()
        for text in company:
            if draw.random() < 0.05 and not text.ended:
                text.ended = "cancelled"
    assert not all(text.ended == "length" for text in company)
    return out


def compare(a: list[Continuation], b: list[Continuation]) -> None:
    """The same symbols, and log-probabilities but for the last bits of float32."""
    for one, other in zip(a, b, strict=True):
        assert one.symbols == other.symbols
        assert one.ended == other.ended == "length"
        p, q = (torch.tensor([log_p for _, log_p in text.on_symbol]) for text in (one, other))  # type: ignore[union-attr]
        assert len(p) == len(one.symbols) - one.start
        torch.testing.assert_close(p, q, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("condition", [None, LABEL, SOURCE])
def test_a_text_is_the_same_alone_and_among_others(kind: str, condition: Space | None) -> None:
    net = family(condition, **NETS[kind])
    compare(alone(net), among(net))


def test_the_log_probabilities_are_the_models_own() -> None:
    """Of texts within the window: those of `log_prob_each`, whatever the settings of sampling are."""
    net = family(space=Discrete((60,), 11))
    for text in among(net):
        x = torch.tensor([text.symbols + [0] * (60 - len(text.symbols))])
        each = net.log_prob_each(x)[0, text.start : len(text.symbols)]
        found = torch.tensor([log_p for _, log_p in text.on_symbol])  # type: ignore[union-attr]
        if text.choice.guidance == 1:
            torch.testing.assert_close(found, each, rtol=1e-5, atol=1e-5)


def late(cache: Any, turn: Tensor | None) -> stepping.Place:
    """Every joiner one position further than it is."""
    shifted = None if cache.at is None else (cache.at + (cache.at != cache.at.max()).long()).clamp_max(len(turn) - 1)
    place = stepping_placed(cache, turn)
    return place if shifted is None or turn is None else replace(place, turn=turn[shifted][:, None, None])


stepping_placed = stepping.placed


@pytest.mark.parametrize("bug", ["position", "neighbour's numbers", "stale cache", "window"])
def test_the_comparison_notices(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = family(positions="rotary")
    wanted = alone(net)
    if bug == "position":
        monkeypatch.setattr(stepping, "placed", late)
    elif bug == "neighbour's numbers":
        inner = Continuations._choose

        def swapped(self: Continuations, logits: Tensor, some: Any) -> None:
            inner(self, logits.roll(1, 0) if len(some) > 2 else logits, some)

        monkeypatch.setattr(Continuations, "_choose", swapped)
    elif bug == "stale cache":

        def drop(self: continuing.Slots, row: int) -> None:
            self.count -= 1  # the last row does not move

        monkeypatch.setattr(continuing.Slots, "drop", drop)
    else:
        monkeypatch.setattr(continuing, "window", lambda t, dims: t - 1 if t >= dims else 0)
    with pytest.raises(AssertionError):
        compare(wanted, among(net))


# -- texts through a batcher -----------------------------------------------------------------------------------------


@pytest.fixture
def serving() -> Iterator[tuple[Fitted, Batcher]]:
    one = model(LONG, tokens="bytes").fitted
    batcher = Batcher(one, texts=5)
    yield one, batcher
    batcher.close(finish=False)


ASKED: list[dict[str, Any]] = [
    {}, {"stop": ["e", "V"]}, {"regex": "[a-z ]{2,9}\\."}, {"sampling": {"temperature": 0.5}},
    {"sampling": {"top_k": 2}, "length": 7}, {"sampling": {"repetition_penalty": 2.0}}, {"seed": 3},
]  # fmt: skip


def wanted(i: int) -> Wanted:
    given: dict[str, Any] = {"length": 30, "seed": i} | ASKED[i % len(ASKED)]
    return Wanted(["the ", "", "quick brown fox jumps over"][: 1 + i % 3], **given)


@pytest.mark.parametrize("tokens", TOKENS)
def test_requests_of_all_kinds_at_once_get_their_own_texts(tokens: str) -> None:
    one = model(LONG, tokens=tokens).fitted
    batcher, n = Batcher(one, texts=6), 24
    expected = [Writer(one, wanted(i)).write() for i in range(n)]
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda i: Writer(batcher.client().model, wanted(i)).write(), range(n))
        best = pool.map(lambda i: Writer(batcher.client().model, wanted(i)).n_best(2), range(3))
        assert list(found) == expected
        for i, found_best in enumerate(best):
            for some, others in zip(found_best, Writer(one, wanted(i)).n_best(2), strict=True):
                assert [text.item for text in some] == [text.item for text in others]
    batcher.close()


def test_pieces_likelihoods_and_why_a_text_ended(serving: tuple[Fitted, Batcher]) -> None:
    one, batcher = serving
    for given, why in (({"length": 9}, "length"), ({"length": 200, "stop": [*map(chr, range(33, 127))]}, "stop"),
                       ({"length": 60, "regex": "[a-z]{3}"}, "stop")):  # fmt: skip
        writer = Writer(batcher.client().model, Wanted(["the "], seed=1, **given))
        (text,) = writer.begin(likely=3)
        pieces = [piece for _ in writer.run([text]) for piece in text.fresh()] + text.fresh()
        assert "the " + "".join(pieces) == text.text == Writer(one, writer.wanted).write()[0]
        assert text.ended == why
        assert len(text.tokens) == text.progress[0] == text.progress[1]
        for token in text.tokens:
            assert len(token.best) == 3
            assert token.best[0][1] >= token.log_prob
            assert [p for _, p in token.best] == sorted((p for _, p in token.best), reverse=True)
        if why == "length":
            assert "".join(pieces).startswith("".join(token.text for token in text.tokens)[:1])


def test_who_leaves_frees_the_slot_at_once_and_the_others_notice_nothing(serving: tuple[Fitted, Batcher]) -> None:
    one, batcher = serving
    expected = Writer(one, wanted(0)).write()
    clients = [batcher.client() for _ in range(5)]
    streams = [Writer(client.model, Wanted(["e"], length=100_000, seed=i)).stream() for i, client in enumerate(clients)]
    for stream in streams:
        assert [next(stream), next(stream)][0] == "e"
    assert batcher.waiting == 5
    clients[0].cancel()
    with pytest.raises(CancelledError):
        list(streams[0])
    streams[1].close()  # a reader that goes away
    assert Writer(batcher.client().model, wanted(0)).write() == expected
    for _ in range(100):
        if batcher.waiting == 3:
            break
        time.sleep(0.02)
    assert batcher.waiting == 3
    assert all(next(stream) for stream in streams[2:])
    for client in clients:
        client.cancel()


def test_requests_take_turns_for_slots(serving: tuple[Fitted, Batcher]) -> None:
    """A request of very many texts does not keep a small one waiting."""
    one, batcher = serving
    many = Writer(batcher.client().model, Wanted(["the "] * 200, length=40))
    thread = threading.Thread(target=many.write)
    thread.start()
    while not batcher.waiting:
        time.sleep(0.001)
    small = Writer(batcher.client().model, Wanted(["quick"], length=10)).write()
    assert batcher.waiting == 1, "the large one is not done"
    assert small == Writer(one, Wanted(["quick"], length=10)).write()
    thread.join()


def test_a_text_that_fails_fails_alone(serving: tuple[Fitted, Batcher], monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own constraint, and in the model's reading of its prompt, which breaks the step of all."""
    one, batcher = serving
    expected = [Writer(one, wanted(i)).write() for i in range(6)]

    def wrong(*_: Tensor) -> Tensor:
        raise KeyError("mine")

    inner = Continuations._read

    def read(self: Continuations, passes: Any) -> Tensor:
        if any(text.symbols[:1] == [ord("!")] for text, _ in passes):
            raise IndexError("no such symbol")
        return inner(self, passes)

    monkeypatch.setattr(Continuations, "_read", read)

    def ask(i: int) -> Any:
        given = {6: Wanted(["the "], constraint=wrong), 7: Wanted(["!"], length=30)}.get(i) or wanted(i)
        try:
            return Writer(batcher.client().model, given).write()
        except (KeyError, IndexError) as error:
            return type(error)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [*expected, KeyError, IndexError]


@pytest.mark.parametrize("texts", [LONG, SHORT])
def test_samples_of_texts_are_written_with_others(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `draw` gives is the same, but no call of the family keeps the others waiting until all of it is there."""
    one, steps = model(texts).fitted, []
    expected, batcher = [one.draw(7, seed=seed) for seed in range(3)], Batcher(one, texts=4)
    monkeypatch.setattr(type(one.family), "sample", None)
    with ThreadPoolExecutor(3) as pool:
        tell = lambda *step: steps.append(step[:2])  # noqa: E731
        found = list(pool.map(lambda seed: batcher.client().model.draw(7, seed=seed, on_step=tell), range(3)))
    assert found == expected
    assert steps[0] == (1, 16)
    batcher.close()


def test_a_step_reads_no_more_prompts_than_the_others_can_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    one, fresh, inner = model(LONG).fitted, list[int](), Continuations._read
    monkeypatch.setattr(turns, "READ", 30)
    monkeypatch.setattr(Continuations, "_read", lambda self, passes: fresh.append(len(passes)) or inner(self, passes))
    batcher = Batcher(one, texts=20)
    Writer(batcher.client().model, Wanted(["the quick br"] * 8, length=2)).write()
    assert fresh == [3, 3, 2]
    batcher.close()


def test_no_fault_ends_the_thread(serving: tuple[Fitted, Batcher]) -> None:
    one, batcher = serving
    faults: list[Exception] = [RuntimeError("of whoever counts the load")]

    def count(*_: object) -> None:
        if faults:
            raise faults.pop()

    batcher.on_batch = count
    with pytest.raises(RuntimeError, match="counts the load"):
        Writer(batcher.client().model, wanted(0)).write()
    assert Writer(batcher.client().model, wanted(0)).write() == Writer(one, wanted(0)).write()


def test_a_model_that_writes_no_texts_has_a_batcher_too() -> None:
    from test_batching import single

    flow = fitted(single("flow"))
    batcher = Batcher(flow)
    found, alone = batcher.client().model.sample_encoded(3, seed=1), flow.sample_encoded(3, seed=1)
    batcher.close()
    torch.testing.assert_close(found, alone)


def test_an_idle_batcher_keeps_neither_thread_nor_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "IDLE", 0.01)
    one = model(LONG).fitted
    batcher, there = Batcher(one), weakref.ref(one)
    for _ in range(3):
        assert len(Writer(batcher.client().model, Wanted(["a"], length=5)).write()[0]) == 6
        for _ in range(100):
            if batcher._thread is None:
                break
            time.sleep(0.02)
        assert batcher._thread is None
    del one, batcher
    gc.collect()
    assert there() is None
