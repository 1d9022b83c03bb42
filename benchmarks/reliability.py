"""What survives what: the tests of every fault, run one row after another, and the figures that they reach.

    python benchmarks/reliability.py                 everything (about an hour), then docs/reliability.md
    python benchmarks/reliability.py kills disks     these rows alone; the others keep their figures and their dates
    python benchmarks/reliability.py --peers PYTHON  the savers of other libraries that this Python has (.venv-bench)
    python benchmarks/reliability.py --page          docs/reliability.md alone, from benchmarks/results/reliability.json

A test says what it reached by `record_property("reached", ...)`; of other rows the number of their tests is told.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
ROWS = ROOT / "benchmarks" / "reliability.toml"
HEAD = """# Reliability

What can go wrong, what must happen then, and what was measured. Every row has tests, and each of them has a control
that fails: a careless writer, or quintet with one part left out. The column `before` is what an attack on an earlier
version found. `python benchmarks/reliability.py ROW` measures a row again and writes this page; which tests are run for
it stands under its name in [reliability.toml](../benchmarks/reliability.toml).

What each error says stands in [errors](errors.md), the threat model in [SECURITY.md](../SECURITY.md), and how
checkpoints are made in [decision 10](decisions/0010-checkpoints.md).
"""
PEERS = """## Savers of other libraries

The same disk, the same kills and the same damages (`tests/savers.py`): each saves tensors under the number of the step,
keeps the last two files, and looks for the newest that it can read. A state of a crash is lost if nothing loads that is
as new as what was said to be saved. None of them keeps digests of what it writes, and none but
torch.distributed.checkpoint asks the disk to sync.
"""


def measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """Run the tests of a row: how many passed, and what they say that they reached."""
    began = datetime.datetime.now()
    words = ["pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *row["tests"]]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-m", *words, f"--junitxml={report}"], cwd=ROOT, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        cases = list(ET.parse(report).iter("testcase")) if report.exists() else []
    wrong = [
        case.get("name", "") for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    for told in (case.find("failure") for case in cases):
        if told is not None:
            print((told.text or "")[-3000:], flush=True)
    skipped = [case for case in cases if case.find("skipped") is not None]
    said = [one.get("value", "") for case in cases for one in case.iter("property") if one.get("name") == "reached"]
    if not cases:
        raise SystemExit(f"{row['fault']}: no test was run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    seconds = round((datetime.datetime.now() - began).total_seconds())
    return {
        "reached": said, "passed": len(cases) - len(wrong) - len(skipped), "failed": wrong, "skipped": len(skipped),
        "command": " ".join(["pytest", *row["tests"]]), "date": began.date().isoformat(), "seconds": seconds,
    }  # fmt: skip


def together(reached: Sequence[str]) -> list[str]:
    """What several tests reached; numbers of one thing are added up, and cases of one result are told together."""
    counts = [told.partition(" ") for told in reached]
    if len(counts) > 1 and len({thing for _, _, thing in counts}) == 1 and all(n.isdecimal() for n, _, _ in counts):
        return [f"{sum(int(n) for n, _, _ in counts):,} {counts[0][2]} in {len(counts)} tests"]
    cases: dict[str, list[str]] = {}
    for told in reached:
        case, colon, result = told.partition(": ")
        cases.setdefault(result if colon else told, []).append(case if colon else "")
    return [f"{', '.join(names)}: {result}" if all(names) else result for result, names in cases.items()]


def figure(found: Mapping[str, Any]) -> str:
    """What a row reached, in words."""
    passed = f"{found['passed']} tests pass" if found["passed"] != 1 else "its test passes"
    parts = together(found["reached"]) or [passed]
    if found["failed"]:
        parts = [
            f"**missed**: {len(found['failed'])} of {found['passed'] + len(found['failed'])} tests fail",
            *found["reached"],
        ]
    if found["skipped"]:
        parts.append(f"{found['skipped']} skipped")
    return "; ".join(parts)


def page(rows: Mapping[str, Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    """docs/reliability.md."""
    parts = [HEAD]
    for section in dict.fromkeys(row["section"] for row in rows.values()):
        lines = [f"## {section}", "", "| fault | what must happen | before | measured | row, date |",
                 "| --- | --- | --- | --- | --- |"]  # fmt: skip
        for name, row in rows.items():
            found = results["rows"].get(name)
            if row["section"] != section:
                continue
            told, date = ("not measured", "") if found is None else (figure(found), f", {found['date']}")
            cells = [row["fault"], row["expected"], row.get("before", "-"), told, f"`{name}`{date}"]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    if peers := results.get("peers"):
        lines = [
            "| saver | states of crashes: lost | kills: lost | damages: unnoticed |",
            "| --- | ---: | ---: | ---: |",
        ]
        for name, one in peers["savers"].items():
            counts = (f"{one['crashes']['lost'] + one['crashes']['wrong']} of {one['crashes']['states']}",
                      f"{one['kills']['lost'] + one['kills']['wrong']} of {one['kills']['kills']}",
                      f"{one['damages']['unnoticed']} of {one['damages']['damages']}")  # fmt: skip
            lines.append(f"| {name} | {' | '.join(counts)} |")
        parts.append(f"{PEERS}\n" + "\n".join(lines) + f"\n\n`{peers['command']}`, {peers['date']}.\n")
    machine = results["machine"]
    parts.append(f"Measured on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}.\n")
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--peers", metavar="PYTHON")
    given = parser.parse_args(arguments)
    rows: dict[str, Any] = tomllib.loads(ROWS.read_text())
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    results["machine"] = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    if given.peers:
        done = subprocess.run([given.peers, "-W", "ignore", str(ROOT / "tests" / "savers.py"), "200", "200"],
                              stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
        results["peers"] = {"savers": json.loads(done.stdout), "command": "python tests/savers.py 200 200",
                            "date": datetime.date.today().isoformat()}  # fmt: skip
    elif not given.page:
        for name in given.rows or rows:
            print(name, end=": ", flush=True)
            results["rows"][name] = measured(rows[name])
            print(figure(results["rows"][name]), f"({results['rows'][name]['seconds']} s)", flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    results["rows"] = {name: results["rows"][name] for name in rows if name in results["rows"]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    (ROOT / "docs" / "reliability.md").write_text(page(rows, results))


if __name__ == "__main__":
    main(sys.argv[1:])
