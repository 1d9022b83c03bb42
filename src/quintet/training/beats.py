"""Whether the other processes of a training still live: each says so every second, and notices who does not."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Protocol

from quintet.core.errors import EnvironmentFault

EVERY = 1.0
"""Seconds between two beats of a process."""
SILENT = 30.0
"""A process that was not heard of for so many seconds is stopped, or its machine is."""
DEAD = 5.0
"""So many are enough where what all processes do together has failed."""


class Counters(Protocol):
    """Numbers that all processes see: `add` returns what it comes to. Raises RuntimeError where nobody keeps them."""

    def add(self, key: str, amount: int, /) -> int: ...


class Beats:
    """The beats of this process and of all others, in a thread of its own.

    Where a process is silent, the others wait for it in a call that nothing can interrupt, so that they are ended here:
    what was saved last stands. Where one has ended, that call fails by itself, and `gone` names who it was.
    """

    def __init__(self, counters: Counters, rank: int, ranks: int) -> None:
        self.counters, self.rank = counters, rank
        self.others = [other for other in range(ranks) if other != rank]
        self.seen = dict.fromkeys(self.others, 0)
        self.heard = dict.fromkeys(self.others, time.monotonic())
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.listen, daemon=True, name="beats")

    def start(self) -> None:
        """Begin to beat and to listen."""
        self.thread.start()

    def stop(self) -> None:
        """Say that this process ends, which is no silence."""
        if not self.over.is_set():
            self.over.set()
            try:
                self.counters.add(f"ended {self.rank}", 1)
            except RuntimeError:  # nobody keeps the numbers any more
                return

    def silent(self, limit: float) -> list[int]:
        """Beat, and listen: the processes that were not heard of for so many seconds. Those that ended are none."""
        self.counters.add(f"beats {self.rank}", 1)
        now = time.monotonic()
        for other in self.others:
            count = self.counters.add(f"beats {other}", 0)
            if count != self.seen[other] or self.counters.add(f"ended {other}", 0):
                self.seen[other], self.heard[other] = count, now
        return [other for other in self.others if now - self.heard[other] > limit]

    def listen(self) -> None:
        """Until this process ends, or all others with it."""
        while not self.over.wait(EVERY):
            began = time.monotonic()
            try:
                silent = self.silent(SILENT)
            except RuntimeError:  # the first process keeps the numbers, unless torchrun does
                if time.monotonic() - began < SILENT:
                    return  # it has ended
                silent = [0]
            if silent and not self.over.is_set():
                print(f"error[EnvironmentFault]: {fault(silent, 'it is stopped, or its machine is')}", file=sys.stderr,
                      flush=True)  # fmt: skip
                os._exit(EnvironmentFault.exit_code)

    def gone(self, error: RuntimeError) -> EnvironmentFault:
        """What it means that a call of all processes failed: who of them has ended, as soon as that is known."""
        waited = time.monotonic() + DEAD + 3 * EVERY
        while time.monotonic() < waited:
            try:
                found = self.silent(DEAD) or [other for other in self.others if self.counters.add(f"ended {other}", 0)]
            except RuntimeError:
                found = [0]
            if found:
                return fault(found, str(error).strip().splitlines()[0][:200])
            time.sleep(EVERY / 5)
        return fault([], str(error))


def fault(ranks: list[int], why: str) -> EnvironmentFault:
    """These processes are gone."""
    where = f"rank {', '.join(map(str, ranks))}" if ranks else ""
    return EnvironmentFault("another process of this training has ended", where=where, why=why,
                            fix="start all processes again with --resume auto")  # fmt: skip
