"""Many requests in one pass: each row as it would be alone, each request its share, its end and its faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import randomise
from test_protocol import QUICK, build, class_of, every, items, labels

from quintet.core.errors import EnvironmentFault
from quintet.core.family import Family
from quintet.core.random import Rows, categorical, normal, spread, uniform
from quintet.families import gan
from quintet.model.batching import Batcher, shares
from quintet.model.calls import Alone, Call, Found, asked, done
from quintet.model.fitted import Fitted
from quintet.nets.latent import descend
from quintet.runs.config import resolve
from quintet.runs.folder import Run

LIKE = torch.zeros(())
FEW = QUICK | {"gan": {"starts": 8, "search": 5, "moves": 3}}


def fitted(family: Family) -> Fitted:
    return Fitted(
        Run(Path("no-run")),
        family,
        {},
        resolve({"family": family.name, "data": {"source": "-"}, "codec": "table"}, "table"),
    )


def single(name: str) -> Family:
    """Random weights in float32."""
    return randomise(build(name), scale=0.1).float()


CHAINS = (("gan", "complete"), ("gan", "encode"), ("flow", "complete"))
"""What is found by many steps, which amplify rounding: it is compared in float64."""


def call(family: Family, verb: str, n: int, seed: int = 0, **options: Any) -> Call:
    x, cond = items(family, 40).roll(seed, 0)[:n], labels(40).roll(seed, 0)[:n]
    if verb == "sample":
        return Call(verb, n, {"cond": cond}, (seed,), {"sampling": family.Sampling(**options)})
    if verb == "complete":
        known, few = torch.arange(x.numel()).view(x.shape) % 3 > 0, family.Sampling(**FEW.get(family.name, {}))
        return Call(verb, n, {"x": x, "known": known, "cond": cond}, (seed,), {"sampling": few})
    if verb == "decode":
        return Call(verb, n, {"z": torch.randn(n, 3), "cond": cond})
    return Call(verb, n, {"x": x, "cond": cond}, (seed, seed + 1) if verb == "log_prob" else ())


def close(found: Found, alone: Found) -> None:
    """Equal but for the last bits of float32."""
    for a, b in zip(found, alone, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


@pytest.fixture
def vae() -> Family:
    return single("vae")


@pytest.fixture
def batcher(vae: Family) -> Iterator[Batcher]:
    out = Batcher(fitted(vae), rows=8)
    yield out
    out.close(finish=False)


class Gate:
    """Holds a family's work until it is opened, and notes how many rows each of its calls had."""

    def __init__(self, family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.entered, self.rows = threading.Event(), threading.Event(), list[int]()
        inner = family.sample

        def sample(n: int, *given: Any, on_step: Any = None, **options: Any) -> torch.Tensor:
            self.rows.append(n)
            self.entered.set()
            assert self.open.wait(20)
            if on_step:
                on_step(1, 2, torch.arange(n))
            return inner(n, *given, on_step=None, **options)

        monkeypatch.setattr(family, "sample", sample)


# -- random numbers --------------------------------------------------------------------------------------------------


def test_rows_of_several_streams_are_those_of_each() -> None:
    ours = [(3, 5, 4), (3, 60, 9), (8, 0, 1), (8, 130, 70)]
    n = sum(count for _, _, count in ours)
    logits = torch.randn(n, 7)
    draws = {
        "normal": lambda rows, part: normal(rows.count, 3, generator=rows, like=LIKE),
        "uniform": lambda rows, part: uniform(rows.count, 2, 2, generator=rows, like=LIKE, dtype=torch.float64),
        "categorical": lambda rows, part: categorical(logits[part], rows),
        "spread": lambda rows, part: spread(rows.count, generator=rows, like=LIKE),
    }
    for draw in draws.values():
        nested = Rows.joined(
            [Rows.joined([Rows(*one) for one in ours[:2]]), Rows.joined([Rows(*one) for one in ours[2:]])]
        )
        whole, start = draw(nested, slice(None)), 0
        for one in ours:
            part = slice(start, start + one[2])
            assert torch.equal(draw(Rows(*one), part), whole[part])
            start = part.stop
    twice = Rows.joined([Rows(1, 0, 2), Rows(2, 0, 2)])  # a stream goes on
    first, second = (normal(4, 3, generator=twice, like=LIKE) for _ in range(2))
    again = Rows(2, 0, 2)
    assert torch.equal(normal(2, 3, generator=again, like=LIKE), first[2:])
    assert torch.equal(normal(2, 3, generator=again, like=LIKE), second[2:])


# -- rows ------------------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("verb", ["sample", "complete", "encode", "decode", "log_prob"])
def test_rows_are_the_same_alone_and_among_others(name: str, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if verb in build(name).missing:
        pytest.skip("nothing of that kind")
    chain = (class_of(name).name, verb) in CHAINS
    if chain and verb == "encode":  # a search of 200 steps
        monkeypatch.setattr(gan, "descend", lambda *given, steps: descend(*given, steps=5))
    family = single(name).to(torch.float64 if chain else torch.float32)
    calls = [call(family, verb, n, seed=seed) for seed, n in enumerate((2, 1) if chain else (3, 1, 5, 2))]
    assert all(one.kind == calls[0].kind for one in calls)
    for one, found in zip(calls, done(family, calls), strict=True):
        close(found, done(family, [one])[0])
        close(asked(Alone(family), one, 2), found)


def test_searches_are_the_same_alone_and_among_others() -> None:
    family = single("autoregressive")
    known, options = torch.arange(8).expand(40, -1) < 2, {"sampling": family.Sampling(beams=4), "k": 3}
    calls = [Call("n_best", n, {"x": items(family, n), "known": known[:n], "cond": labels(n)}, options=options)
             for n in (3, 1, 5)]  # fmt: skip
    for one, found in zip(calls, done(family, calls), strict=True):
        close(found, done(family, [one])[0])
        assert all(part is not None and part.shape[:2] == (one.n, 3) for part in found)


def test_the_comparison_notices_a_row_with_the_noise_of_its_place(vae: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [call(vae, "sample", n, seed=seed) for seed, n in enumerate((3, 2))]
    monkeypatch.setattr(Rows, "joined", lambda parts: Rows(parts[0].seed, 0, sum(part.count for part in parts)))
    with pytest.raises(AssertionError):
        close(done(vae, calls)[1], done(vae, calls[1:])[0])


def test_what_waits_is_done_together_and_each_gets_its_share(
    vae: Family, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight rows at once: three of the long one's and all of the others'."""
    gate, ours = Gate(vae, monkeypatch), [call(vae, "sample", n, seed=n) for n in (1, 20, 2, 3)]
    futures = [batcher.submit(ours[0])]
    assert gate.entered.wait(20)
    futures += [batcher.submit(one) for one in ours[1:]]
    other = batcher.submit(call(vae, "sample", 2, seed=9, temperature=0.5))
    assert batcher.waiting == 5
    gate.open.set()
    wait([*futures, other], timeout=20)
    assert gate.rows == [1, 8, 2, 8, 8, 1]  # 20, 2 and 3 share; then those of another temperature, before the rest
    monkeypatch.undo()
    for one, future in zip(ours, futures, strict=True):
        close(future.result(), done(vae, [one])[0])
    assert batcher.waiting == 0


@pytest.mark.parametrize(("wanted", "room", "each"), [
    ([20, 2, 3], 8, [3, 2, 3]), ([5], 8, [5]), ([9, 9], 8, [4, 4]), ([1, 1, 1, 1], 3, [1, 1, 1, 0]),
    ([2, 9, 1], 8, [2, 5, 1]),
])  # fmt: skip
def test_shares(wanted: list[int], room: int, each: list[int]) -> None:
    assert shares(wanted, room) == each


def test_who_leaves_is_left_out_and_who_stays_notices_nothing(
    vae: Family, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(vae, monkeypatch)
    first, second, third = (call(vae, "sample", 2, seed=seed) for seed in range(3))
    running = batcher.submit(first)
    assert gate.entered.wait(20)
    gone, stays = batcher.submit(second), batcher.submit(third)
    assert gone.cancel()
    assert running.cancel()  # its call ends at its next step
    gate.open.set()
    stayed = stays.result(20)
    assert gate.rows == [2, 2]
    monkeypatch.undo()
    close(stayed, done(vae, [third])[0])
    with pytest.raises(CancelledError):
        running.result()


def test_a_client_has_the_whole_model_until_it_leaves(vae: Family, batcher: Batcher) -> None:
    steps, client = [], batcher.client()
    ours = call(vae, "sample", 12)
    found = asked(client.model.engine, ours, 5, lambda *step: steps.append((step[:2], len(step[2]))))
    close(found, done(vae, [ours])[0])
    client.cancel()
    with pytest.raises(CancelledError):
        client.model.engine.rows(ours)
    assert batcher.client().model.engine.rows(ours) is not None


def test_a_fault_is_of_who_made_it(vae: Family, batcher: Batcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the family raises for one row of many, and one of a request's own step."""
    gate, good, bad = Gate(vae, monkeypatch), call(vae, "sample", 2, seed=1), call(vae, "sample", 2, seed=2)
    bad.given["cond"][0] = 7  # type: ignore[index]

    def tell(*step: object) -> None:
        raise KeyError("no more")

    first = batcher.submit(call(vae, "sample", 1))
    assert gate.entered.wait(20)
    futures: list[Future[Found]] = [batcher.submit(good), batcher.submit(bad), batcher.submit(good, tell)]
    gate.open.set()
    wait([first, *futures], timeout=20)
    monkeypatch.undo()
    close(futures[0].result(), done(vae, [good])[0])
    assert isinstance(futures[1].exception(), IndexError)
    assert isinstance(futures[2].exception(), KeyError)


def test_closing_finishes_what_was_accepted_and_takes_no_more(vae: Family) -> None:
    told: list[tuple[str, int, int, float]] = []
    ours = Batcher(fitted(vae), rows=4, on_batch=lambda *batch: told.append(batch))
    futures = [ours.submit(call(vae, "sample", 6, seed=seed)) for seed in range(3)]
    ours.close()
    assert all(future.done() and not future.exception() for future in futures)
    assert sum(rows for _, _, rows, _ in told) == 18
    assert max(rows for _, _, rows, _ in told) <= 4
    with pytest.raises(EnvironmentFault, match="no longer accepts requests"):
        ours.submit(call(vae, "sample", 1))
    hurried = Batcher(fitted(vae), rows=1)
    futures = [hurried.submit(call(vae, "sample", 500, seed=seed)) for seed in range(3)]
    hurried.close(finish=False)
    assert all(future.cancelled() for future in futures)
