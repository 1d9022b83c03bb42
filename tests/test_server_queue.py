"""The queue of a model: who waits, who is refused, and what becomes of work that ends in another way than it began."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from serving import wait

from quintet.server import engine
from quintet.server.engine import Engine, Job
from quintet.server.metrics import Metrics
from quintet.server.problems import Refusal


def blocked(limit: int) -> tuple[Engine, threading.Event, Callable[[Job], str]]:
    """An engine, what lets its work go on, and work that waits for that."""
    go = threading.Event()

    def work(job: Job) -> str:
        while not go.wait(0.005):
            job.step()
        return "done"

    return Engine("x", limit, Metrics()), go, work


def test_a_full_queue_is_refused_and_what_waits_is_answered() -> None:
    one, go, work = blocked(3)

    async def main() -> None:
        tasks = [asyncio.create_task(one.submit(work, 20))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(one.submit(work, 20)) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal, match="too many") as error:
            await one.submit(work, 20)
        assert error.value.status == 429
        assert int(error.value.headers["Retry-After"]) >= 1
        tasks[2].cancel()  # who leaves the queue makes room
        await asyncio.sleep(0.05)
        tasks.append(asyncio.create_task(one.submit(work, 20)))
        await asyncio.sleep(0.05)
        go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found.count("done") == 4

    asyncio.run(main())
    assert one.idle
    one.close()
    assert one.join(2)


def test_a_deadline_ends_work_and_waiting() -> None:
    one, go, work = blocked(3)

    async def main() -> None:
        first = asyncio.create_task(one.submit(work, 0.2))
        await asyncio.sleep(0.02)
        with pytest.raises(Refusal, match="too long"):
            await one.submit(work, 0.05)
        with pytest.raises(Refusal, match="too long") as error:
            await first
        assert error.value.status == 503
        assert "Retry-After" in error.value.headers
        go.set()
        assert await one.submit(work, 5) == "done"

    asyncio.run(main())


def refusals(one: Engine, work: Callable[[Job], str], deadline: float) -> list[int]:
    """The statuses with which four requests more are refused, and one that is at work; all may take so long."""

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(one.submit(work, deadline))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(one.submit(work, deadline)) for _ in range(4)]
        done, waits = await asyncio.wait(tasks, timeout=0.5)
        for task in waits:
            task.cancel()
        return [task.exception() for task in done]

    return sorted(error.status for error in asyncio.run(main()) if isinstance(error, Refusal))


def test_an_engine_without_bounds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one that takes whatever comes, and one that knows no deadline."""
    one, go, work = blocked(3)
    assert refusals(one, work, 0.1) == [429, 503, 503, 503, 503]
    one.limit = 1000
    assert refusals(one, work, 0.1) == [503] * 5
    monkeypatch.setattr(engine.asyncio, "timeout", lambda seconds: contextlib.nullcontext())
    assert refusals(one, work, 0.1) == []
    go.set()


def test_errors_and_interrupts_of_work_do_not_end_its_engine() -> None:
    one = Engine("x", 3, Metrics())

    def fails(job: Job) -> None:
        raise SystemExit(3)

    async def main() -> None:
        with pytest.raises(BaseException, match="3"):
            await one.submit(fails, 5)
        assert await one.submit(lambda job: "alive", 5) == "alive"

    asyncio.run(main())


def test_work_that_is_cancelled_before_it_begins_is_answered() -> None:
    """It was taken out of the queue, and its thread had not got to it: who waits for it must not wait on."""
    job = Job(lambda job: "done")
    job.cancel()
    job.run()
    with pytest.raises(engine.Abandoned):
        job.answer.result(0)


def test_a_thread_without_work_holds_nothing_of_the_last() -> None:
    """Neither what was asked nor the answer, nor the model, which may have given way to others."""
    one = Engine("x", 3, Metrics())

    class Answer:
        """Of many bytes."""

    def work(job: Job) -> Answer:
        return Answer()

    async def main() -> Any:
        return weakref.ref(await one.submit(work, 5))

    found = asyncio.run(main())

    def gone() -> bool:
        gc.collect()
        return found() is None

    wait(gone, 2)
    one.close()
    assert one.join(2)


def test_a_stopped_engine_answers_what_it_had_accepted() -> None:
    one, go, work = blocked(3)

    async def main() -> None:
        tasks = [asyncio.create_task(one.submit(work, 20)) for _ in range(2)]
        await asyncio.sleep(0.05)
        one.close()
        with pytest.raises(Refusal, match="stopping"):
            await one.submit(work, 20)
        go.set()
        assert await asyncio.gather(*tasks) == ["done", "done"]

    asyncio.run(main())
    assert one.join(2)
    other, _, work = blocked(3)

    async def ends() -> None:
        tasks = [asyncio.create_task(other.submit(work, 20)) for _ in range(2)]
        await asyncio.sleep(0.05)
        other.close()
        other.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one.what for one in found if isinstance(one, Refusal)] == [engine.STOPPING] * 2

    asyncio.run(ends())
