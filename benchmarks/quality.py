"""The matrix of recipes on the named sets within a stated budget, written into docs/results.md.

    make quality                     (QUALITY=20s a run, two seeds, two runs at a time)
    python benchmarks/quality.py --budget 60s --seeds 3 --only mnist,adult
    python benchmarks/quality.py --write          render docs/results.md again from benchmarks/results/quality.json

Every family is trained with its defaults on every set, given the label where there is one, and measured on the test
split. The figures are kept with command, seeds, machine and date in benchmarks/results/quality.json, a set at a time,
so that what was measured before stays until it is measured again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from matrix import measure, reference, table

ROOT = Path(__file__).parents[1]
KEPT, RESULTS = ROOT / "benchmarks" / "results" / "quality.json", ROOT / "docs" / "results.md"
FIVE = ("vae", "gan", "autoregressive", "flow", "diffusion")
# What others reach, and where it was measured: on the same rows by a benchmark of ours, or as it was published.
SETS: dict[str, str] = {
    "digits": "No peer was run on it.",
    "mnist": "No published figure is of these features and this budget.",
    "sprites": "No peer was run on it.",
    "spoken_digits": "No peer was run on it; how many samples are recognised stands under Spoken digits.",
    "adult": "Peers on these rows: CTGAN .999 and TVAE .998 AUC, under Tables, next to CTGAN and TVAE.",
    "california": "Peers on these rows: CTGAN .994 and TVAE .980 AUC, under Tables, next to CTGAN and TVAE.",
    "churn": "Peers on these rows: CTGAN 1.000 and TVAE 1.000 AUC, under Tables, next to CTGAN and TVAE.",
    "gaussians": "No peer was run on it. The truth, given which of the eight, has ln(2 pi e 0.01) / (2 ln 2) = -1.275 "
    "bits a dimension.",
    "tinyshakespeare": "nanoGPT's setting for a processor has 1.88 nats a character (2.71 bits) after 2,000 steps, "
    "published; next to it in one run: under Language models.",
    "trec": "No peer was run on the questions as texts; their labels stand under Labels and transcripts.",
}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from quintet.runs.restoring import versions

    facts = versions()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"processor": model, **facts["machine"], **facts["versions"]}


def run(sources: list[str], families: list[str], budget: str, seeds: int, samples: int, jobs: int) -> None:
    """Measure, and keep what was found, a set at a time."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    KEPT.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for source in sources:
            load, began = os.getloadavg()[0], time.perf_counter()
            asked = [pool.submit(measure, source, f, seed, budget, samples) for seed in range(seeds) for f in families]
            real = pool.submit(reference, source, samples)
            rows = [future.result() for future in asked]
            kept[source] = {
                "rows": rows,
                "real": real.result(),
                "budget": budget,
                "seeds": seeds,
                "samples": samples,
                "jobs": jobs,
                "date": time.strftime("%Y-%m-%d"),
                "machine": machine(),
                "load_before": round(load, 2),
                "minutes": round((time.perf_counter() - began) / 60, 1),
                "command": shlex.join(["python", "benchmarks/quality.py", *sys.argv[1:]]),
            }
            KEPT.write_text(json.dumps(kept, indent=1) + "\n")
            print(section(source, kept[source]), flush=True)


def section(source: str, found: dict[str, Any]) -> str:
    """One set: how it was measured, a family a line, and what others reach."""
    facts = found["machine"]
    head = (
        f"`{found['command']}`, {found['date']}: {found['budget']} a run, {found['seeds']} seeds, {found['samples']:,} "
        f"samples, {found['jobs']} runs at a time with a thread each, {found['minutes']} minutes in all; "
        f"{facts['cores']} cores of {facts['processor']}, torch {facts['torch']}, load average before "
        f"{found['load_before']}. Intervals are 95 % over seeds."
    )
    return f"#### {source}\n\n{head}\n\n{table(found['rows'], found['real'])}\n\n{SETS[source]}\n"


def write() -> None:
    """Put what is kept between the markers of docs/results.md."""
    kept = json.loads(KEPT.read_text())
    parts = [section(source, kept[source]) for source in SETS if source in kept]
    start, end = "<!-- quality -->", "<!-- /quality -->"
    text = RESULTS.read_text()
    head, _, rest = text.partition(start)
    RESULTS.write_text(f"{head}{start}\n\n" + "\n".join(parts) + f"\n{end}{rest.partition(end)[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="20s")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--families", default=",".join(FIVE))
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if not args.write:
        run(args.only.split(","), args.families.split(","), args.budget, args.seeds, args.samples, args.jobs)
    write()


if __name__ == "__main__":
    main()
