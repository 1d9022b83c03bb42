"""What work costs: seconds, peak memory, and energy where the processor counts it."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from pathlib import Path
from typing import Self

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of Intel and AMD processors (RAPL), often to root alone."""


class Meter:
    """Inside, work is measured: then `seconds`, `peak_mb`, the largest resident memory of this process, and `joules`.

    The energy is that of all processors of the machine, whoever used them; None where their counters cannot be read.
    The peak is that of the work alone where the system lets us reset it (Linux), else of the process so far.
    """

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self.began, self.energy = time.perf_counter(), counters()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.began
        self.peak_mb = peak_memory()
        self.joules = spent(self.energy, counters())


def peak_memory() -> float:
    """Peak resident memory of this process in MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def counters(root: Path = POWERCAP) -> dict[str, tuple[int, int]]:
    """(microjoules so far, where the counter begins anew) of each processor; its parts are in its own number."""
    found = {}
    for domain in root.glob("*:*"):
        if domain.name.count(":") == 1:  # intel-rapl:0 is a processor, intel-rapl:0:0 its cores
            with contextlib.suppress(OSError, ValueError):
                energy, wrap = (int((domain / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
                found[domain.name] = (energy, wrap)
    return found


def spent(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float | None:
    """Joules between two readings, or None without any. A counter that went down began anew once."""
    both = before.keys() & after.keys()
    if not both:
        return None
    return sum((after[name][0] - before[name][0]) % (before[name][1] + 1) for name in both) / 1e6
