"""Load on a server that runs: how many requests a second it answers, how long they take and what it holds in memory.

    python benchmarks/load.py ADDRESS PATH BODY [--clients N] [--seconds S]

N clients send the JSON of BODY to PATH again and again, each the next request when the last one is answered; they are
cheap ones of Python's own, so that they take little of a machine that they share with the server. The token is that of
$QUINTET_TOKEN. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

from httpx2 import Client


def load(address: str, path: str, body: str, clients: int, seconds: float) -> dict[str, object]:
    """The figures of some clients in some seconds."""
    headers = {"Authorization": f"Bearer {os.environ['QUINTET_TOKEN']}", "Content-Type": "application/json"}

    def ask(_: int) -> list[tuple[int, float]]:
        answers = []
        with closing(HTTPConnection(urlsplit(address).netloc, timeout=120)) as one:
            while time.perf_counter() < until:
                began = time.perf_counter()
                one.request("POST", path, body, headers)
                answer = one.getresponse()
                answer.read()
                answers.append((answer.status, time.perf_counter() - began))
        return answers

    with Client(base_url=address, headers=headers, timeout=120) as one:
        one.post(path, content=body).raise_for_status()  # reads the model
        began = time.perf_counter()
        until = began + seconds
        with ThreadPoolExecutor(clients) as pool:
            found = [answer for some in pool.map(ask, range(clients)) for answer in some]
        spent = time.perf_counter() - began
        memory = re.search(r"^quintet_resident_bytes (\S+)", one.get("/metrics").text, re.MULTILINE)
    took = sorted(1000 * wait for status, wait in found if status == 200)
    return {
        "clients": clients,
        "answers_a_second": round(len(took) / spent, 1),
        "median_ms": round(statistics.median(took), 1),
        "p99_ms": round(took[int(0.99 * (len(took) - 1))], 1),
        "refused": len(found) - len(took),
        "server_megabytes": memory and round(float(memory[1]) / 1e6),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("address", "path", "body"):
        parser.add_argument(name)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    print(json.dumps(load(given.address, given.path, given.body, given.clients, given.seconds)))
