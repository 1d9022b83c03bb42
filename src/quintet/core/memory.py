"""What fits into memory, known before it is allocated: a system that lends more than it has ends a process unasked."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

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
        why = f"they need {gigabytes(size)}, but only {gigabytes(most)} can be used"
        raise EnvironmentFault(f"{what} do not fit into memory", why=why, fix=fix)


def gigabytes(size: float) -> str:
    return f"{size / 2**30:,.3g} GB"


class Building(threading.local):
    """What this thread does with each tensor of the net that it builds; every thread has its own."""

    count: Callable[[Tensor], None] | None = None


BUILDING = Building()


def register(module: nn.Module, name: str, tensor: Tensor | None) -> None:
    if tensor is not None and BUILDING.count is not None:
        BUILDING.count(tensor)


# Once and for ever: all threads that build nets walk through PyTorch's table of hooks, which must not change meanwhile.
register_module_parameter_registration_hook(register)
register_module_buffer_registration_hook(register)


@contextmanager
def counted(copies: int, *, fix: str) -> Iterator[None]:
    """Inside, a net that this thread builds is refused as soon as what it has so far does not fit, which is `copies`
    numbers for each parameter, and its buffers: before values are drawn, and before the next layer is made.
    """
    total = held = 0

    def count(tensor: Tensor) -> None:
        nonlocal total, held
        if isinstance(tensor, nn.Parameter):
            total, what = total + tensor.numel(), f"more than {total + tensor.numel():,} parameters"
        else:
            held, what = held + tensor.nbytes, "the tensors that the model keeps beside its parameters"
        must_fit(NUMBER * copies * total + held, what=what, fix=fix)

    before, BUILDING.count = BUILDING.count, count
    try:
        yield
    finally:
        BUILDING.count = before
