"""Write docs/benchmarks.md from the figures in benchmarks/results/*.json that `race.keep` has written.

python benchmarks/page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAD = """# Speed, beside others

Written by `python benchmarks/page.py` from `benchmarks/results`; `make bench` measures all of it again, in an
environment of its own that holds the libraries of `benchmarks/peers.txt`. Everybody does the same work in one run, one
after another, round after round, with as many threads; on one thread, seconds are the processor's, which other programs
do not take away. A ratio says how many times as long the other takes as quintet: the median over the rounds, and the
smallest and the largest of a round. Below 1 the other is faster. What quality is reached in which time stands in
[results](results.md).
"""


def time_of(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} us"


def section(facts: dict[str, Any]) -> str:
    """One benchmark: a table, and what it was measured on."""
    peers = list(dict.fromkeys(name for row in facts["rows"] for name in row["ratios"]))
    lines = [f"| | quintet | {' | '.join(peers)} |", f"| --- | ---: |{' ---: |' * len(peers)}"]
    for row in facts["rows"]:
        cells = []
        for name in peers:
            found = row["ratios"].get(name)
            cells.append("-" if found is None else f"**{found[0]:.2f}** ({found[1]:.2f} to {found[2]:.2f})")
        lines.append(f"| {row['case']} | {time_of(row['seconds']['quintet'])} | {' | '.join(cells)} |")
    if "note" in facts:
        lines += ["", facts["note"]]
    rounds = facts["rows"][0]["rounds"]
    machine, versions = facts["machine"], ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    has = f" ({', '.join(machine['has'])})" if machine["has"] else ""
    threads = "one thread" if facts["threads"] == 1 else f"{facts['threads']} threads"
    return "\n".join(
        [f"## {facts['title']}", "", *lines, "",
         f"`{facts['command']}`, {facts['date']}, {machine['processor']}{has} with {machine['cores']} cores, "
         f"{threads}, {rounds} round{'s' * (rounds > 1)}, load {facts['load']} at the end; {versions}.", ""]
    )  # fmt: skip


def main() -> None:
    found = [json.loads(path.read_text()) for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))]
    sections = [section(facts) for facts in found if "rows" in facts and "title" in facts]
    (ROOT / "docs" / "benchmarks.md").write_text(HEAD + "\n" + "\n".join(sections))


if __name__ == "__main__":
    main()
