"""What fits into memory, known before it is allocated: a system that lends more than it has ends a process unasked."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from quintet.core.errors import EnvironmentFault

CONTAINERS = ("memory.max", "memory/memory.limit_in_bytes")
"""Where Linux writes the limit of a container, by the version of its control groups."""
NUMBER = 4
"""Bytes of a number."""


def memory() -> int:
    """Bytes that this process may take at most: all that the machine has, its container, or its own limit (ulimit)."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [own for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA) if (own := resource.getrlimit(kind)[0]) > 0]
    for name in CONTAINERS:
        try:
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text()))
        except (OSError, ValueError):  # there is no such container, or it has no limit of its own: "max"
            continue
    return min(limits)


def must_fit(size: float, *, what: str, fix: str) -> None:
    """Raise EnvironmentFault if so many bytes are more than there are."""
    if size > (most := memory()):
        why = f"they take {gigabytes(size)} of {gigabytes(most)}"
        raise EnvironmentFault(f"{what} do not fit into memory", why=why, fix=fix)


def gigabytes(size: float) -> str:
    return f"{size / 2**30:,.3g} GB"


class Building(threading.local):
    """What this thread does with each parameter of the net that it builds; every thread has its own."""

    count: Callable[[nn.Parameter], None] | None = None


BUILDING = Building()


def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
    if parameter is not None and BUILDING.count is not None:
        BUILDING.count(parameter)


# Once and for ever: all threads that build nets walk through PyTorch's table of hooks, which must not change meanwhile.
register_module_parameter_registration_hook(register)


@contextmanager
def counted(copies: int, *, fix: str) -> Iterator[None]:
    """Inside, a net that this thread builds is refused as soon as the parameters that it has so far, `copies` numbers
    for each of them, do not fit: before their values are drawn, and before the next layer is made.
    """
    total = 0

    def count(parameter: nn.Parameter) -> None:
        nonlocal total
        total += parameter.numel()
        must_fit(NUMBER * copies * total, what=f"more than {total:,} parameters", fix=fix)

    before, BUILDING.count = BUILDING.count, count
    try:
        yield
    finally:
        BUILDING.count = before
