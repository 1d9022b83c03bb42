"""Write docs/benchmarks.md from the figures in benchmarks/results/*.json that `race.keep` has written.

python benchmarks/page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAD = """# Speed and quality beside other libraries

Written by `python benchmarks/page.py` from `benchmarks/results`; `make bench` measures all of it again, in an
environment of its own that holds the libraries of `benchmarks/peers.txt`. Everybody does the same work in one run, one
after another, round after round, with as many threads; on one thread, seconds are the processor's, which other programs
do not take away. A ratio says how many times as long the other takes as quintet: the median over the rounds, and the
smallest and the largest of a round. Below 1 the other is faster. Tables, at the
end, are judged by their quality in equal seconds; what else is reached in which time stands in [results](results.md).
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


FIGURES = {
    "two_sample": ("AUC of telling rows from test rows", 0.5),
    "detection": ("TabCascade's detection score", 1),
    "trained": ("trained on rows: AUC, or R2 of a number", 1),
    "columns": ("columns", 1),
    "pairs": ("pairs", 1),
    "nearer": ("share nearer to training than to test rows, from 1/2", 0),
    "qa_overall": ("mostlyai-qa: accuracy", 1),
    "qa_univariate": ("mostlyai-qa: columns", 1),
    "qa_bivariate": ("mostlyai-qa: pairs", 1),
    "qa_trivariate": ("mostlyai-qa: triples", 1),
    "qa_auc": ("mostlyai-qa: AUC of its discriminator", 0.5),
    "qa_cosine": ("mostlyai-qa: cosine similarity", 1),
    "qa_nearer": ("mostlyai-qa: share nearer to training, from 1/2", 0),
    "sd_shapes": ("sdmetrics: column shapes", 1),
    "sd_trends": ("sdmetrics: column pair trends", 1),
    "sd_detection": ("sdmetrics: detection, logistic", 1),
    "sd_protection": ("sdmetrics: overfitting protection", 1),
    "fit": ("processor seconds of training, everything counted", None),
    "sample": ("processor seconds for 1,000 rows", None),
}
"""Of benchmarks/tables.py: each figure in words, and what the best value is."""


def tables(facts: dict[str, Any]) -> str:
    """Rows that were drawn, a set after another: makers beside each other, the best of each figure in bold."""
    lines = [
        "## Tables, in equal processor seconds", "",
        "`make bench-tables` (`python benchmarks/tables.py`): benchmarks/table_makers.py tells who makes rows, "
        "benchmarks/table_judges.py what each figure is, benchmarks/table_sets.py which sets. One thread, seconds of "
        "the processor, defaults of everybody; means over seeds.", "",
    ]  # fmt: skip
    for name in dict.fromkeys(row["set"] for row in facts["tables"]):
        rows = [row for row in facts["tables"] if row["set"] == name]
        own = {
            maker: [row for row in rows if row["maker"] == maker] for maker in dict.fromkeys(r["maker"] for r in rows)
        }
        many = [f"{maker} {len(of)}" for maker, of in own.items() if len(of) > 1]
        seconds = " and ".join(f"{s:g}" for s in sorted({row["seconds"] for row in rows}))
        told = f"one seed each{', but ' if many else ''}{', '.join(many)}"
        dates = " and ".join(sorted({row["date"] for row in rows}))
        lines += [f"### {name}", "", f"{seconds} s of training, {dates}; {told}.", "",
                  f"| | {' | '.join(own)} |", f"| --- |{' ---: |' * len(own)}"]  # fmt: skip
        for figure, (words, best) in FIGURES.items():
            values = [sum(row[figure] for row in of) / len(of) for of in own.values()]
            cells = [f"{value:.2f}" if best is None else f"{value:.4f}" for value in values]
            if best is not None:
                far = [abs(value - best) for value in values]
                cells = [f"**{cell}**" if gap == min(far) else cell for cell, gap in zip(cells, far, strict=True)]
            lines.append(f"| {words} | {' | '.join(cells)} |")
        lines.append("")
    machine, versions = facts["machine"], ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return "\n".join([*lines, f"{machine['processor']} with {machine['cores']} cores; {versions}.", ""])


def nats(rows: list[dict[str, Any]]) -> str:
    """Held-out nats a digit of MNIST, each run on a line."""
    lines = [
        "## Nats a digit of MNIST", "",
        "`python benchmarks/mnist_nats.py binarised` (pixels drawn as 0 or 1; the IWAE bound of a VAE) and `logit` "
        "(the density of the logits of dequantised pixels), defaults of `quintet train`, test split.", "",
        "| form | family | budget, threads | processor s | steps | nats, standard error | digits | measured |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    for row in rows:
        cells = (
            row["form"], row["family"], f"{row['budget']}, {row['threads']}", f"{row['processor_seconds']:,.0f}",
            f"{row['steps']:,}", f"{row['nats']:.2f} ± {row['error']:.2f}", f"{row['items']:,}",
            f"{row['date']}, {row['machine']['processor']}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def growth(facts: dict[str, Any]) -> str:
    """How cost grows, as numbers; the plot of them stands beside the JSON."""
    batches, items = (", ".join(map(str, facts[key])) for key in ("batches", "items"))
    lines = [
        "## How cost grows", "",
        f"The five families on the built-in digits: a training step with batches of {batches}, "
        f"drawing {items} images, and the memory of a process that trains, after each tenth of 300 steps (of one "
        "process, one family after another; "
        "the last look is behind the samples at the end). Cost in proportion to the batch, or to the images, would be "
        "8 times as much for the largest of them.", "",
        "![A training step by batch, drawing by items, and memory over time](growth.png)", "",
        "| family | a step | times | drawing | times | memory, MB |", "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for row in facts["growth"]:
        cells = [row["family"]]
        for key in ("step", "draw"):
            cells += [", ".join(map(time_of, row[key])), f"{row[key][-1] / row[key][0]:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {row['memory'][0]:.0f} to {max(row['memory']):.0f} |")
    return "\n".join(
        [*lines, "", f"`{facts['command']}`, {facts['date']}, {facts['machine']['processor']}, one thread.", ""]
    )


def main() -> None:
    found = [json.loads(path.read_text()) for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))]
    sections = [section(facts) for facts in found if "rows" in facts and "title" in facts]
    sections += [tables(facts) for facts in found if "tables" in facts]
    sections += [nats(facts["nats"]) for facts in found if "nats" in facts]
    sections += [growth(facts) for facts in found if "growth" in facts]
    (ROOT / "docs" / "benchmarks.md").write_text(HEAD + "\n" + "\n".join(sections))


if __name__ == "__main__":
    main()
