"""Whether a budget of seconds holds while other programs come and go.

    python benchmarks/budgets.py [--budget 40] [--burners 2] [--every 7]

Each family is trained once by the command line, with its defaults and as many threads as it chooses, while so many
endless loops run for --every seconds, rest as long, and so on. Printed are the seconds of training that its record
says, which the budget is about, and those of the whole command with its start and the reading of data.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

RUNS = {"vae": "digits", "flow": "digits", "gan": "digits", "diffusion": "mnist", "autoregressive": "mnist"}


@contextmanager
def load(burners: int, every: float) -> Iterator[None]:
    """Inside, programs that do nothing useful come and go."""
    over = threading.Event()

    def burn() -> None:
        while not over.is_set():
            loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(burners)]
            over.wait(every)
            for loop in loops:
                loop.kill()
                loop.wait()
            over.wait(every)

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--burners", type=int, default=2)
    parser.add_argument("--every", type=float, default=7.0)
    args = parser.parse_args()
    print(f"| family | data | steps | seconds of training, of {args.budget} | of the command |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as runs, load(args.burners, args.every):
        for family, data in RUNS.items():
            words = ["train", family, "--data", data, "--budget", f"{args.budget}s", "--runs", runs, "--json"]
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", "quintet", *words], capture_output=True, text=True, check=True)
            spent, told = time.perf_counter() - began, json.loads(done.stdout)
            print(f"| {family} | {data} | {told['steps']:,} | {told['seconds']:.1f} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    main()
