"""Requests of many clients over HTTP: by a server as it is, and by one that works on one request after the other.

    python benchmarks/over_http.py [--clients 16] [--seconds 3] [--rounds 3] [--models diffusion-table,...] [-o FILE]

Small models of tables and images are trained for some steps, since time does not depend on what was learnt. Two servers
answer each, in a process of its own: `quintet serve` as it is, and the same with one worker, so that no requests are
done together. Rounds are interleaved, so that a change in the machine's load meets both alike, and medians compared.
Prints one JSON line a model.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from load import load

import quintet
from quintet.server.models import WORKERS

TOKEN = "a token of this benchmark"
START = "from quintet.server import models; models.WORKERS = int({}); from quintet.__main__ import main; main()"
ASKED: dict[str, dict[str, Any]] = {
    "diffusion-table": {"n": 16},
    "flow-table": {"n": 16},
    "diffusion-28x28": {"n": 1},
    "diffusion-8x8": {"n": 1},
    "gan-28x28": {"n": 1},
    "gan-8x8": {"n": 1},
}
"""What is asked of each model; its name says the family and the data."""


def data(kind: str, folder: Path) -> Any:
    """Rows of 8 numbers and a category, digits of 8x8, or pictures of 28x28."""
    chance = np.random.default_rng(0)
    if kind == "8x8":
        return "digits"
    if kind == "28x28":
        return chance.integers(0, 256, (256, 28, 28, 1)).astype(np.uint8)
    path = folder / "rows.csv"
    columns = {name: chance.standard_normal(500) for name in "abcdefgh"} | {"k": chance.choice(list("xyz"), 500)}
    pyarrow.csv.write_csv(pa.table(columns), path)
    return path


@contextlib.contextmanager
def served(name: str, runs: Path, workers: int) -> Iterator[str]:
    """The address of a server of a run, which works on so many requests at once."""
    command = [sys.executable, "-c", START.format(workers), "serve", name, "--runs", str(runs), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True,
                              env=os.environ | {"QUINTET_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert server.stderr is not None
    try:
        address = server.stderr.readline().split()[-1]
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield address
    finally:
        server.terminate()
        server.wait(40)


def measured(name: str, runs: Path, clients: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Answers a second and milliseconds of an answer, of both servers."""
    body = json.dumps({"model": name, "seed": 1, **ASKED[name]})
    with served(name, runs, WORKERS) as together, served(name, runs, 1) as one_by_one:
        servers = {"together": together, "one by one": one_by_one}
        found: dict[str, list[Any]] = {kind: [] for kind in servers}
        for address in servers.values():
            load(address, "/api/v1/sample", body, 2, 1.0)
        for _ in range(rounds):
            for kind, address in servers.items():
                found[kind].append(load(address, "/api/v1/sample", body, clients, seconds))
    middle = lambda kind, what: statistics.median(one[what] for one in found[kind])  # noqa: E731
    rates = {kind: middle(kind, "answers_a_second") for kind in servers}
    return {"model": name, **ASKED[name], "answers_a_second": rates,
            "ratio": round(rates["together"] / rates["one by one"], 2),
            "median_ms": {kind: middle(kind, "median_ms") for kind in servers},
            "refused": sum(one["refused"] for ones in found.values() for one in ones)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default=",".join(ASKED))
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/over_http.json"))
    given = parser.parse_args()
    os.environ["QUINTET_TOKEN"] = TOKEN
    about = {"clients": given.clients, "seconds": given.seconds, "rounds": given.rounds,
             "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
             "date": datetime.date.today().isoformat()}  # fmt: skip
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models.split(","):
            family, kind = name.split("-")
            quintet.train(family, data=data(kind, Path(folder)), steps=10, run=name, runs=folder)
            lines.append(measured(name, Path(folder), given.clients, given.seconds, given.rounds))
            lines[-1]["load"] = round(os.getloadavg()[0], 1)
            print(json.dumps(lines[-1]), flush=True)
    given.output.write_text(json.dumps({**about, "models": lines}, indent=1))


if __name__ == "__main__":
    main()
