"""A server that is treated badly: clients that leave in the middle of a stream, four times the load, many requests.

    python benchmarks/endurance.py [--leave 1000] [--overload 60] [--requests 20000] [-o FILE.json]

It trains a small text model and a small flow, serves them in a process of its own, and measures

- leave: clients that close a stream at a random moment; neighbours ask for the same texts all along, which must not
  change, and afterwards no request may be open;
- overload: first one client alone, for the unloaded times, then four times as many clients as are worked on and may
  wait, which come again after the second that Retry-After asks for; how long accepted requests take, how many are
  refused, how long /health takes, and how long the queue takes at the pace that was measured;
- requests: the memory of the server every so many requests, as a list and as a picture beside the results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from httpx2 import Client
from PIL import Image, ImageDraw

import quintet
from quintet.server.models import WORKERS

TOKEN = "a token of this benchmark"
QUEUE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leave", type=int, default=1000)
    parser.add_argument("--overload", type=float, default=60)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/endurance.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        lines = Path(folder) / "lines.txt"
        lines.write_text("\n".join(f"the {i % 7} foxes jump over {i % 5} dogs and rest a while" for i in range(400)))
        quintet.train(
            "autoregressive", data=lines, steps=100, run="text", runs=runs, config={"coding": {"items": "stream"}}
        )
        quintet.train("flow", data="moons", steps=30, run="flow", runs=runs)
        command = [sys.executable, "-m", "quintet", "serve", "text", "flow", "--runs", str(runs), "--port", "0",
                   "--queue", str(QUEUE)]  # fmt: skip
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"QUINTET_TOKEN": TOKEN})
        assert server.stderr is not None
        address = server.stderr.readline().split()[-1]
        threading.Thread(target=server.stderr.read, daemon=True).start()
        try:
            figures: dict[str, Any] = {"leave": leave(address, given.leave)} if given.leave else {}
            if given.overload:
                figures["overload"] = overload(address, given.overload)
            if given.requests:
                figures["requests"] = endure(address, given.requests, given.output.with_suffix(".png"))
        finally:
            server.terminate()
            server.wait(40)
    figures["exit_code"] = server.returncode
    given.output.write_text(json.dumps(figures, indent=1))
    print(json.dumps({name: figure for name, figure in figures.items() if name != "requests"}, indent=1))
    print("memory in MB:", figures.get("requests", {}).get("megabytes"))


def client(address: str) -> Client:
    return Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=120)


def metric(one: Client, name: str) -> float:
    found = re.search(rf"^{name} (\S+)", one.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def leave(address: str, times: int) -> dict[str, Any]:
    """Streams that are left, beside neighbours."""
    body = {"model": "text", "prompt": "the ", "max_tokens": 100, "seed": 1}
    with client(address) as one:
        alone = one.post("/v1/completions", json=body).json()["choices"][0]["text"]
    changed, asked, stop = 0, 0, threading.Event()

    def neighbour() -> None:
        nonlocal changed, asked
        with client(address) as one:
            while not stop.is_set():
                answer = one.post("/v1/completions", json=body)
                if answer.status_code == 200:
                    asked, changed = asked + 1, changed + (answer.json()["choices"][0]["text"] != alone)

    def leaves(number: int) -> int:
        chance = random.Random(number)
        with client(address) as one:
            request = body | {"seed": number, "stream": True, "max_tokens": 400}
            with one.stream("POST", "/v1/completions", json=request) as answer:
                if answer.status_code == 200:
                    for _, _ in zip(range(chance.randrange(1, 30)), answer.iter_lines(), strict=False):
                        pass
            return answer.status_code

    neighbours = [threading.Thread(target=neighbour) for _ in range(2)]
    for thread in neighbours:
        thread.start()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(leaves, range(times)))
    stop.set()
    for thread in neighbours:
        thread.join()
    with client(address) as one:
        began = time.perf_counter()
        while metric(one, "quintet_requests_open") > 1 and time.perf_counter() - began < 10:
            time.sleep(0.01)
        return {"left": times, "statuses": {str(code): statuses.count(code) for code in sorted(set(statuses))},
                "neighbours_asked": asked, "neighbours_changed": changed,
                "still_open": metric(one, "quintet_requests_open") - 1,
                "seconds_until_free": round(time.perf_counter() - began, 3)}  # fmt: skip


def timed(ask: Callable[[], int]) -> tuple[int, float]:
    began = time.perf_counter()
    return ask(), 1000 * (time.perf_counter() - began)


def overload(address: str, seconds: float) -> dict[str, Any]:
    """Four times as many clients as are worked on and may wait, for a while. They are cheap ones of Python's own, since
    all of them together want a processor that the server has a use for.
    """
    body, headers = {"model": "text", "n": 4, "length": 40}, {"Authorization": f"Bearer {TOKEN}"}
    until, ready = [time.perf_counter() + min(10.0, seconds)], threading.Barrier(1)
    refused_without_hint, waits = 0, list[float]()

    def asks(number: int) -> list[tuple[int, float]]:
        nonlocal refused_without_hint
        found = list[tuple[int, float]]()
        with contextlib.closing(HTTPConnection(urlsplit(address).netloc, timeout=120)) as one:
            one.connect()  # before the clock begins
            ready.wait()
            while time.perf_counter() < until[0]:

                def ask() -> int:
                    nonlocal refused_without_hint
                    one.request("POST", "/api/v1/sample", json.dumps(body | {"seed": number}), headers)
                    answer = one.getresponse()
                    answer.read()
                    refused_without_hint += answer.status != 200 and "retry-after" not in answer.headers
                    return answer.status

                found.append(timed(ask))
                if found[-1][0] != 200:
                    time.sleep(1)
        return found

    unloaded = sorted(took for _, took in asks(0))
    clients = 4 * (QUEUE + WORKERS)
    until[0] = float("inf")

    def begin() -> None:
        until[0] = time.perf_counter() + seconds

    ready = threading.Barrier(clients, begin)

    def health() -> None:
        with client(address) as one:
            while time.perf_counter() < until[0]:
                time.sleep(0.05)
                took = timed(lambda: one.get("/health").status_code)[1]
                if until[0] < float("inf"):
                    waits.append(took)

    looking = threading.Thread(target=health)
    looking.start()
    with ThreadPoolExecutor(clients) as pool:
        found = [one for some in pool.map(asks, range(clients)) for one in some]
    looking.join()
    took = sorted(wait for code, wait in found if code == 200)
    at = lambda values, share: round(values[int(share * (len(values) - 1))], 1)  # noqa: E731
    queue = 1000 * seconds / len(took) * (QUEUE + WORKERS)
    return {"seconds": seconds, "clients": clients, "unloaded_p99_ms": at(unloaded, 0.99), "accepted": len(took),
            "median_ms": round(statistics.median(took), 1), "p99_ms": at(took, 0.99), "queue_ms": round(queue),
            "refused": len(found) - len(took), "statuses": sorted({code for code, _ in found}),
            "refused_without_hint": refused_without_hint, "health_p99_ms": at(sorted(waits), 0.99)}  # fmt: skip


def endure(address: str, requests: int, picture: Path) -> dict[str, Any]:
    """Memory over many requests."""
    every, megabytes = max(1, requests // 100), list[float]()
    with client(address) as one:
        for number in range(requests):
            answer = one.post("/api/v1/sample", json={"model": "flow", "n": 1, "seed": number})
            assert answer.status_code == 200, answer.text
            if number % every == 0:
                megabytes.append(round(metric(one, "quintet_resident_bytes") / 1e6, 1))
    plot(megabytes, requests, picture)
    tenth = len(megabytes) // 10
    grown = statistics.mean(megabytes[-tenth:]) - statistics.mean(megabytes[tenth : 2 * tenth]) if tenth else 0.0
    return {"requests": requests, "grown_megabytes_behind_the_first_tenth": round(grown, 2), "megabytes": megabytes}


def plot(megabytes: list[float], requests: int, path: Path) -> None:
    """The memory as a line from 0 to a quarter above its largest value."""
    width, height, edge = 640, 240, 30
    image = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(image), 1.25 * max(megabytes)
    points = [(edge + i / (len(megabytes) - 1) * (width - 2 * edge), height - edge - one / top * (height - 2 * edge))
              for i, one in enumerate(megabytes)]  # fmt: skip
    draw.line([(edge, edge), (edge, height - edge), (width - edge, height - edge)], "black")
    draw.line(points, "navy", 2)
    draw.text((edge + 4, edge - 14), f"memory of the server, 0 to {top:.0f} MB, over {requests:,} requests", "black")
    image.save(path)


if __name__ == "__main__":
    main()
