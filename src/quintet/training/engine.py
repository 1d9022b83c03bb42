"""Devices, ranks and precision: the only module that imports `torch.distributed`."""

from __future__ import annotations

import atexit
import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from quintet.core.errors import EnvironmentFault, UsageError
from quintet.training.beats import SILENT, Beats, fault

BF16_PARAMETERS = 1_000_000
"""From this many parameters on, bf16 pays for its casts (measured; small models lose)."""
MEETING = 600.0
"""Seconds in which all processes of a training must have begun."""

DEVICES = ("auto", "cpu", "cuda")


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The numbers of what `mallopt` sets (malloc.h of glibc)."""
ALWAYS, MOST = 2**31 - 1, 2**25
"""Bytes that no tensor reaches, and what glibc before 2.35 takes at most."""


def keep_freed() -> None:
    """Tell the C library to keep what is freed for what is allocated next, where it is glibc.

    By itself it gives a large tensor back to the system as soon as it is freed, which then fills the next one with
    zeros, page by page: a sixth of a step of a U-Net. `give_back` is for when training ends.
    """
    with suppress(AttributeError, OSError, TypeError):  # other systems have no such function, or no such library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, ALWAYS)
        _ = mallopt(M_MMAP_THRESHOLD, ALWAYS) or mallopt(M_MMAP_THRESHOLD, MOST)


def give_back() -> None:
    """Give the system all memory that is free."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class Engine:
    """One process of one or more: its device, its share of a batch, and how gradients become one."""

    beats: ClassVar[Beats | None] = None

    def __init__(self, device: str = "auto") -> None:
        self.ranks = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.most = torch.get_num_threads() if self.ranks == 1 else 1  # ranks share the processors among themselves
        if device not in DEVICES:
            why = f"known: {', '.join(DEVICES)}"
            raise UsageError(f"unknown device {device!r}", why=why, fix="use the device auto")
        cuda = device != "cpu" and torch.cuda.is_available()
        if device == "cuda" and not cuda:
            raise EnvironmentFault(
                "this machine has no CUDA device that torch can use",
                where="device: cuda",
                why="torch.cuda.is_available() is False",
                fix="choose the device auto or cpu",
            )
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        else:
            keep_freed()
        if self.ranks > 1 and not dist.is_initialized():
            with self.together():
                met = shared(MEETING, keep=self.first)
                dist.init_process_group("nccl" if cuda else "gloo", store=met, rank=self.rank, world_size=self.ranks)
                Engine.beats = Beats(shared(SILENT), self.rank, self.ranks)
            Engine.beats.start()
            atexit.register(self.close)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside is what all processes do together. Raises EnvironmentFault, which names who of them is gone."""
        try:
            yield
        except RuntimeError as error:
            raise (fault([], str(error)) if Engine.beats is None else Engine.beats.gone(error)) from None

    def seed(self, seed: int) -> None:
        """Seed the device's own generator, which only dropout draws from."""
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)

    def use(self, threads: int) -> None:
        """Compute with this many threads; 0 means as many as torch would use."""
        if self.ranks == 1 and torch.get_num_threads() != (threads or self.most):
            torch.set_num_threads(threads or self.most)

    @contextmanager
    def threaded(self) -> Iterator[None]:
        """After this context, the number of threads is what it was before, whatever `use` has set within, and memory
        that is free is the system's again.
        """
        try:
            yield
        finally:
            self.use(0)
            give_back()

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, total: int) -> tuple[int, int]:
        """(start, count) of this rank's rows in a batch of `total`."""
        start, stop = self.rank * total // self.ranks, (self.rank + 1) * total // self.ranks
        return start, stop - start

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy the values of rank 0 to all ranks."""
        if self.ranks > 1:
            with self.together():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def agree(self, value: float) -> float:
        """The number that rank 0 has, on all ranks, so that all take the same decision."""
        if self.ranks == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        with self.together():
            dist.broadcast(tensor, 0)
        return float(tensor)

    def text(self, value: str) -> str:
        """The text that rank 0 has, on all ranks."""
        own = list(os.fsencode(value))
        letters = torch.zeros(int(self.agree(len(own))), dtype=torch.uint8, device=self.device)
        if self.first:
            letters.copy_(torch.tensor(own, dtype=torch.uint8))
        self.broadcast([letters])
        return os.fsdecode(bytes(letters.tolist()))

    def any(self, flag: bool) -> bool:
        """True if it is True on any rank."""
        if self.ranks == 1:
            return flag
        tensor = torch.tensor(float(flag), device=self.device)
        with self.together():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return bool(tensor > 0)

    def sum(self, gradient: Tensor) -> None:
        """Sum the gradients of all ranks. Each rank's loss is weighted by its share, so the sum is the global mean.

        After the backward pass, rather than by hooks in it: it holds for any loss, double backward included.
        """
        if self.ranks > 1:
            with self.together():
                dist.all_reduce(gradient)

    def barrier(self) -> None:
        if self.ranks > 1:
            with self.together():
                dist.barrier()

    def close(self) -> None:
        if self.ranks > 1 and dist.is_initialized():
            if Engine.beats is not None:
                Engine.beats.stop()
            dist.destroy_process_group()


def shared(limit: float, *, keep: bool = False) -> Any:
    """What all processes of this start of theirs write and read. torchrun keeps it through all starts, and so what the
    one before wrote, such as addresses of processes that are no more; else the first process is to `keep` it.
    """
    keep = keep and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    kept = dist.TCPStore(*place, is_master=keep, timeout=timedelta(seconds=limit), wait_for_workers=False)  # type: ignore[attr-defined]
    return dist.PrefixStore(f"quintet {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", kept)  # type: ignore[attr-defined]


def has_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 in hardware (AVX512-BF16, AMX or CUDA)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()  # torch has no public query for it
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def resolve_precision(precision: str, module: nn.Module, device: torch.device) -> str:
    """`auto` is bf16 for large models where the processor has it, else fp32."""
    if precision != "auto":
        return precision
    size = sum(p.numel() for p in module.parameters())
    return "bf16" if size >= BF16_PARAMETERS and has_bf16(device) else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a training loss. Heads upcast, so likelihoods stay in float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
