"""How fast the studio is: its start, its pages with many runs, what they weigh, and what watching costs a training.

    python benchmarks/studio.py [--parts start,weight,watching,pages] [--runs 10000] [--lines 100000] [--watch 60]
                                [--repeats 3] [-o FILE.json]

Parts that are not measured stay in the file as they were. Each says how much there was to do for the machine besides.

- start: seconds from the command to the first page, beyond those of `import torch`; interleaved, the median of five;
  and the same in processor seconds of the whole process, which hold on a busy machine too.
- pages: milliseconds from request to answer with so many run folders, the first time and the median of ten more; of the
  run page together with its curves, of a run whose metrics have so many lines.
- weight: bytes of each page with all that it loads, without samples.
- watching: steps a second of a training of so many seconds that nobody watches, that three tabs watch of which one
  is seen, and that three windows watch, interleaved so many times; and the processor time they all take.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["start", "weight", "watching", "pages"])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--watch", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/studio.json"))
    given = parser.parse_args()
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    figures: dict[str, Any] = json.loads(given.output.read_text()) if given.output.is_file() else {}
    figures |= {"machine": machine, "command": shlex.join(["python", *sys.argv])}

    def keep(part: str, found: dict[str, Any]) -> None:
        figures[part] = {"date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[2], 1), **found}

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        quintet.train("vae", data="digits", steps=60, run="first", runs=root)
        if "start" in given.parts:
            keep("start", starts(root, 5))
        if "weight" in given.parts:
            with studio(root) as browser:
                keep("weight", {path: weight(browser, path) for path in PAGES})
        if "watching" in given.parts:
            keep("watching", watching(root, given.watch, given.repeats))
        if "pages" in given.parts:
            many(root, given.runs, given.lines)
            with studio(root) as browser:
                found = {path: times(browser, [path]) for path in ("/", "/runs", "/runs?q=42", "/queue")}
                last = times(browser, ["/run/first", "/studio/run/curves?name=first"])
            keep("pages", found | {"/run/first and its curves": last})
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
    """Seconds to the first page, and of `import torch` alone; and the processor seconds of both processes."""
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        began, spent = time.perf_counter(), of_children()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        found.setdefault("import_torch", []).append(time.perf_counter() - began)
        found.setdefault("import_torch_processor", []).append(of_children() - spent)
        began, spent = time.perf_counter(), of_children()
        with studio(root):
            found.setdefault("first_page", []).append(time.perf_counter() - began)
        found.setdefault("first_page_processor", []).append(of_children() - spent)
    medians = {name: round(statistics.median(values), 3) for name, values in found.items()}
    beyond = {f"beyond{kind}": round(medians[f"first_page{kind}"] - medians[f"import_torch{kind}"], 3)
              for kind in ("", "_processor")}  # fmt: skip
    return medians | beyond


def of_children() -> float:
    """Processor seconds of all processes that ended and were begun by this one."""
    times = os.times()
    return times.children_user + times.children_system


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

WAYS = {"alone": (), "tabs": (True, False, False), "windows": (True, True, True)}
"""Which pages a person sees of those that are open: of three tabs of a window one, of three windows all."""
HIDDEN = """
Object.defineProperties(Document.prototype, {
  hidden: { get: () => true }, visibilityState: { get: () => "hidden" },
});"""
"""What a tab is told that nobody sees; a browser without a screen shows all of its tabs."""


def watching(root: Path, seconds: float, repeats: int) -> dict[str, Any]:
    """What three open pages of a training cost it, interleaved: its steps a second, its own processor time a step, and
    the processor time that the studio and the browser take, which hold on a busy machine too.
    """
    from playwright.sync_api import sync_playwright

    told: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with begun(root) as link, sync_playwright() as driver:
        chromium = next(found for name in ("chromium", "google-chrome") if (found := shutil.which(name)))
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        inside = browser.new_context()
        first = inside.new_page()
        first.goto(link)
        for i in range(repeats):
            for way, seen in WAYS.items():
                name = f"{way}-{i}"
                address = f"{link.split('/open')[0]}/run/{name}"
                told[way].append(watched(root, name, seconds, inside, address, seen))
        browser.close()
    middle = {way: {key: statistics.median(one[key] for one in several) for key in several[0]}
              for way, several in told.items()}  # fmt: skip
    alone = middle["alone"]["steps_a_second"]
    lost = {way: round(1 - one["steps_a_second"] / alone, 4) for way, one in middle.items() if way != "alone"}
    return {"median": middle, "lost": lost, "all": told}


def watched(root: Path, name: str, seconds: float, inside: Any, address: str, seen: Sequence[bool]) -> dict[str, float]:
    """A training of so many seconds, with a page of it for each of `seen`: whether somebody sees that."""
    command = [sys.executable, "-m", "quintet", "train", "vae", "--data", "digits", "--budget", f"{seconds}s",
               "--run", name, "--runs", str(root)]  # fmt: skip
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    while not (root / name / "metrics.jsonl").exists():
        time.sleep(0.05)
    pages = []
    for visible in seen:
        pages.append(inside.new_page())
        if not visible:
            pages[-1].add_init_script(HIDDEN)
        pages[-1].goto(address)
    waiter = pages[0] if pages else inside.pages[0]
    waiter.wait_for_timeout(2000)
    marks = [mark(root / name, training.pid)]
    while training.poll() is None:
        marks = [marks[0], mark(root / name, training.pid)]
        waiter.wait_for_timeout(500)
    for page in pages:
        page.close()
    begin, end = marks
    steps, passed = end["step"] - begin["step"], end["clock"] - begin["clock"]
    return {
        "steps_a_second": round(steps / (end["seconds"] - begin["seconds"]), 2),
        "trainer_milliseconds_a_step": round(1000 * (end["trainer"] - begin["trainer"]) / steps, 3),
        "studio_share": round((end["studio"] - begin["studio"]) / passed, 4),
        "browser_share": round((end["browser"] - begin["browser"]) / passed, 4),
    }


def mark(run: Path, training: int) -> dict[str, float]:
    """How far a run is, and the processor seconds so far of its process, of the studio and of the browser."""
    last = json.loads((run / "metrics.jsonl").read_text().rpartition("\n")[0].rpartition("\n")[2])
    spent = {"trainer": 0.0, "studio": 0.0, "browser": 0.0}
    for pid, command, took in processes():
        who = "trainer" if pid == training else "studio" if " studio " in command else "browser"
        if who != "browser" or "chrom" in command.split(" ")[0]:
            spent[who] += took
    return {"step": last["step"], "seconds": last["seconds"], "clock": time.perf_counter(), **spent}


def processes() -> Iterator[tuple[int, str, float]]:
    """Number, command line and processor seconds of each process that came of this one."""
    ours, tick = {os.getpid()}, os.sysconf("SC_CLK_TCK")
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):  # a child has a later number
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(stat[1]) in ours:
            ours.add(pid)
            yield pid, command, (int(stat[11]) + int(stat[12])) / tick


if __name__ == "__main__":
    main()
