"""How fast the studio is: its start, its pages with many runs, what they weigh, and what watching costs a training.

    python benchmarks/studio.py [--runs 10000] [--lines 100000] [--watch 20] [-o FILE.json]

- start: seconds from the command to the first page, beyond those of `import torch`; interleaved, the median of five.
- pages: milliseconds from request to answer with so many run folders, the first time and the median of ten more; of the
  run page together with its curves, of a run whose metrics have so many lines.
- weight: bytes of each page with all that it loads, without samples.
- watching: steps a second of a training of so many seconds with three open tabs against none, interleaved three times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from httpx2 import Client

import quintet

PAGES = ("/", "/data?source=digits", "/new?source=digits", "/queue", "/runs", "/run/first", "/use/first",
         "/compare", "/card/first")  # fmt: skip
LOADED = re.compile(r"""(?:src|href)="(/static/[^"]+)"|(?:from|import) "(\./[^"]+)\"""")
"""What a page loads by its markup, and a script by its imports."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--watch", type=float, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/studio.json"))
    given = parser.parse_args()
    figures: dict[str, Any] = {"machine": {"processor": platform.processor() or platform.machine(),
                                           "cores": os.cpu_count()}, "date": time.strftime("%Y-%m-%d")}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        quintet.train("vae", data="digits", steps=60, run="first", runs=root)
        figures["start"] = starts(root, 5)
        with studio(root) as browser:
            figures["weight"] = {path: weight(browser, path) for path in PAGES}
        if given.watch:
            figures["watching"] = watching(root, given.watch)
        many(root, given.runs, given.lines)
        with studio(root) as browser:
            figures["pages"] = {path: times(browser, [path]) for path in ("/", "/runs", "/runs?q=42", "/queue")}
            figures["pages"]["/run/first and its curves"] = times(
                browser, ["/run/first", "/studio/run/curves?name=first"]
            )
    given.output.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


# -- a studio ----------------------------------------------------------------------------------------------------------


@contextmanager
def studio(root: Path) -> Iterator[Client]:
    """A studio in a process of its own, and a browser that was let in."""
    with begun(root) as link, Client(base_url=link.split("/open")[0], timeout=60, follow_redirects=True) as browser:
        assert browser.get(link).status_code == 200
        yield browser


@contextmanager
def begun(root: Path) -> Iterator[str]:
    """The link of a studio in a process of its own."""
    command = [sys.executable, "-m", "quintet", "studio", "--no-browser", "--port", "0", "--runs", str(root)]
    environment = os.environ | {"XDG_STATE_HOME": str(root.parent / "state")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://\S+/open\S+", line)))
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(40)


def starts(root: Path, repeats: int) -> dict[str, float]:
    """Seconds to the first page, and of `import torch` alone."""
    found: dict[str, list[float]] = {"first_page": [], "import_torch": []}
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        found["import_torch"].append(time.perf_counter() - began)
        began = time.perf_counter()
        with studio(root):
            found["first_page"].append(time.perf_counter() - began)
    medians = {name: round(statistics.median(values), 3) for name, values in found.items()}
    return medians | {"beyond": round(medians["first_page"] - medians["import_torch"], 3)}


# -- pages -------------------------------------------------------------------------------------------------------------


def many(root: Path, runs: int, lines: int) -> None:
    """So many run folders, copies of the first without its weights, whose metrics get so many lines."""
    first = root / "first"
    metrics = (first / "metrics.jsonl").read_text()
    config, manifest = (first / "config.yaml").read_text(), (first / "manifest.json").read_text()
    for i in range(runs):
        copy = root / f"copy-{i}"
        copy.mkdir()
        (copy / "config.yaml").write_text(config)
        (copy / "manifest.json").write_text(manifest)
        (copy / "metrics.jsonl").write_text(metrics)
    with (first / "metrics.jsonl").open("w") as file:
        for i in range(1, lines + 1):
            record = {"step": i, "steps": lines, "seconds": i / 100, "loss": 1 / i + (i % 97) / 1000, "rate": 3.0}
            file.write(json.dumps(record) + "\n")


def times(browser: Client, paths: list[str]) -> dict[str, float]:
    """Milliseconds of these requests together."""
    found = []
    for _ in range(11):
        began = time.perf_counter()
        for path in paths:
            assert browser.get(path).status_code == 200, path
        found.append(1000 * (time.perf_counter() - began))
    return {"first": round(found[0], 1), "median": round(statistics.median(found[1:]), 1)}


def weight(browser: Client, path: str) -> int:
    """Bytes of a page and of the styles, scripts and icons that it loads."""
    sizes: dict[str, int] = {}
    waiting = [path]
    while waiting:
        one = waiting.pop()
        if one in sizes:
            continue
        answer = browser.get(one)
        assert answer.status_code == 200, one
        sizes[one] = len(answer.content)
        if "html" in answer.headers["content-type"] or one.endswith(".js"):
            waiting += [urljoin(one, a or b) for a, b in LOADED.findall(answer.text)]
    return sum(sizes.values())


# -- a training that is watched ----------------------------------------------------------------------------------------


def watching(root: Path, seconds: float) -> dict[str, Any]:
    """Steps a second of a training that three tabs watch, against one that nobody watches."""
    from playwright.sync_api import sync_playwright

    speeds: dict[str, list[float]] = {"alone": [], "watched": []}
    with begun(root) as link, sync_playwright() as driver:
        chromium = next(found for name in ("chromium", "google-chrome") if (found := shutil.which(name)))
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        inside = browser.new_context()
        inside.new_page().goto(link)
        for i in range(6):
            name = f"{'watched' if i % 2 else 'alone'}-{i}"
            tabs = [inside.new_page() for _ in range(3 if i % 2 else 0)]
            command = [sys.executable, "-m", "quintet", "train", "vae", "--data", "digits", "--budget", f"{seconds}s",
                       "--run", name, "--runs", str(root)]  # fmt: skip
            training = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
            while not (root / name / "metrics.jsonl").exists():
                time.sleep(0.05)
            for tab in tabs:
                tab.goto(f"{link.split('/open')[0]}/run/{name}")
            waiting = threading.Thread(target=training.wait)
            waiting.start()
            while waiting.is_alive():
                (tabs[0] if tabs else inside.pages[0]).wait_for_timeout(200)
            for tab in tabs:
                tab.close()
            last = json.loads((root / name / "metrics.jsonl").read_text().splitlines()[-1])
            speeds[name.split("-")[0]].append(round(last["step"] / last["seconds"], 2))
        browser.close()
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {"steps_a_second": speeds, "lost": round(1 - medians["watched"] / medians["alone"], 4)}


if __name__ == "__main__":
    main()
