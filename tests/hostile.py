"""Broken and hostile files, and a process of its own with limits for each that reads one.

`python tests/hostile.py FOLDER TIMES [ONLY]` makes the battery there, reads it with every reader, and prints what
crashed, hung, took too much memory, or was called an error in quintet itself.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import hostile_files
import hostile_runs

SECONDS, BYTES = 5.0, 2**30
"""What one file may take."""


class Outcome(NamedTuple):
    """How reading ended: exit code (negative: the signal that killed it), processor seconds, bytes of memory beyond
    those of the process before, and what it said.
    """

    code: int
    seconds: float
    bytes: int
    said: str

    @property
    def fault(self) -> str:
        """What is wrong with it; "" if nothing is."""
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        if self.code not in (0, 2, 3, 4, 5) or "Traceback" in self.said:
            return f"exit {self.code}: {self.said[:300]}"
        if self.seconds > SECONDS:
            return f"{self.seconds:.1f} s"
        return f"{self.bytes / 2**20:,.0f} MiB" if self.bytes > BYTES else ""


# -- a process for each ------------------------------------------------------------------------------------------------


def answered(words: list[str]) -> dict[str, Any]:
    """Run the command line in a fork of this process, under limits; what came of it."""
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        child = os.fork()
        if not child:
            import resource

            resource.setrlimit(resource.RLIMIT_CPU, (20, 25))
            held = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
            resource.setrlimit(resource.RLIMIT_AS, (held + 4 * BYTES, held + 4 * BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(20)
            os.dup2(said.fileno(), 2)
            os.dup2(said.fileno(), 1)
            code = 99
            try:
                code = run(words)
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status, usage = os.wait4(child, 0)
        said.seek(0)
        text = said.read().replace("\n", " | ")
    used = usage.ru_utime + usage.ru_stime
    wall = time.monotonic() - began
    return {"code": os.waitstatus_to_exitcode(status), "seconds": wall if wall > 15 else used,
            "bytes": usage.ru_maxrss * 1024, "said": text[-1500:]}  # fmt: skip


def run(words: list[str]) -> int:
    """The command line, or what a careless reader does, which shows that the limits are noticed."""
    match words:
        case ["careless", path]:
            gzip.decompress(Path(path).read_bytes())
        case ["endless", path]:
            while Path(path):
                pass
        case ["fatal", path]:
            os.abort()
        case _:
            from quintet.cli.main import main

            return main(words)
    return 0


def serve() -> None:
    """Answer the command lines that come as lines of JSON, each in a fork."""
    import quintet.cli.main
    import quintet.operations.inspecting
    import quintet.operations.sources

    if os.environ.get("HOSTILE_TORCH"):
        import quintet.api.model
        import quintet.operations.sampling  # noqa: F401

    base = answered(["--version"])["bytes"]
    out = os.dup(1)
    for line in sys.stdin:
        found = answered(json.loads(line))
        found["bytes"] = max(0, found["bytes"] - base)
        os.write(out, (json.dumps(found) + "\n").encode())


class Reader:
    """The process that forks for each command line."""

    def __init__(self, *, torch: bool = False) -> None:
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "HOSTILE_TORCH": "1" if torch else ""}
        self.process = subprocess.Popen([sys.executable, __file__, "--serve"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=env)  # fmt: skip

    def __call__(self, *words: str | Path) -> Outcome:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self.process.stdin.flush()
        return Outcome(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def look(root: Path, times: int, only: str = "") -> tuple[int, list[str]]:
    """Read the whole battery, or what is called `only` of it: how many tries that took, and what went wrong."""
    reader, faults, count = Reader(), [], 0

    def told(name: object, found: Outcome) -> None:
        if found.fault:
            faults.append(f"{name}: {found.seconds:.1f} s, {found.bytes / 2**20:.0f} MiB, {found.fault}")
            print(faults[-1], flush=True)

    for file in hostile_files.battery(root, times, only):
        told(file.relative_to(root), reader("data", file, "--json"))
        count += 1
        if file.is_file():
            file.unlink()
    reader.close()
    print(count, "files,", len(faults), "faults", flush=True)
    reader = Reader(torch=True)
    for folder in hostile_runs.battery(root / "runs", only) if not only or only.startswith("runs") else ():
        for words in hostile_runs.verbs(folder):
            told(f"{folder.name} {words[0]}", reader(*words))
            count += 1
        shutil.rmtree(folder)
    reader.close()
    print(count, "tries,", len(faults), "faults", flush=True)
    return count, faults


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        look(Path(sys.argv[1]), int(sys.argv[2]), (*sys.argv, "")[3])
