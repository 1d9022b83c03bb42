"""How cost grows with the batch and with items, and memory with time: the five families, on the built-in digits.

    python benchmarks/growth.py

Processor seconds of one thread: of a training step by batch, as the difference of a longer and a shorter training, and
of drawing by the number of items. Megabytes of a process while it trains, after each tenth of its steps.
Figures go to benchmarks/results/growth.json, and a plot of them to docs/growth.png.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from race import RESULTS, machine

import quintet
from quintet.server.metrics import resident

FAMILIES = ("vae", "gan", "autoregressive", "flow", "diffusion")
COLOURS = ("#2a4bd7", "#9d1f1f", "#1d9a8a", "#6b2d86", "#c26a00")
BATCHES, ITEMS = (32, 64, 128, 256), (64, 128, 256, 512)
SHORT, LONG, TENTH = 4, 24, 30
"""Steps of a shorter and a longer training, and between two looks at a process's memory."""
WIDTH, HEIGHT, EDGE = 380, 260, 44


def spent(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def trained(family: str, steps: int, batch: int, report: Callable[[dict[str, Any]], None] | None = None) -> Any:
    with tempfile.TemporaryDirectory() as runs:
        own = {"batch_size": batch, "sample_every": 10**6, "save_every": 10**6}
        return quintet.train(family, data="digits", steps=steps, runs=runs, config={"training": own}, report=report)


def measured(family: str) -> dict[str, Any]:
    trained(family, SHORT, BATCHES[0])  # what the first use of a net costs is no part of a step
    step = [(spent(lambda b=b: trained(family, LONG, b)) - spent(lambda b=b: trained(family, SHORT, b)))
            / (LONG - SHORT) for b in BATCHES]  # fmt: skip
    seen: dict[int, float] = {}

    def look(record: dict[str, Any]) -> None:
        if isinstance(record.get("step"), int):
            seen[record["step"] // TENTH] = resident() / 2**20

    model = trained(family, 10 * TENTH, BATCHES[0], look)
    memory = [round(seen[k], 1) for k in sorted(seen)]
    model.sample(ITEMS[0])
    draw = [spent(lambda n=n: model.sample(n)) for n in ITEMS]
    return {"family": family, "step": step, "draw": draw, "memory": memory}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds by batch and by items, each over the first, and memory over steps, each over its largest."""
    image = Image.new("RGB", (3 * WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    panels = (("step", BATCHES, "a step, by batch, over the least"),
              ("draw", ITEMS, "drawing, by items, over the least"),
              ("memory", (), "memory, by tenths of a training, over its largest"))  # fmt: skip
    for panel, (key, x, name) in enumerate(panels):
        left, top = panel * WIDTH + EDGE, 30
        wide, high = WIDTH - 1.5 * EDGE, HEIGHT - EDGE - top
        pen.rectangle((left, top, left + wide, top + high), outline="#999")
        pen.text((left, 10), name, fill="black")
        most = 1.0 if key == "memory" else x[-1] / x[0]
        if key != "memory":
            pen.line((left, top + high * (1 - 1 / most), left + wide, top), fill="#ccc")  # as much as items
        for row, colour in zip(rows, COLOURS, strict=True):
            values = row[key]
            over = max(values) if key == "memory" else values[0]
            at = range(len(values)) if key == "memory" else [(each - x[0]) / (x[-1] - x[0]) for each in x]
            across = [i / max(1, len(values) - 1) for i in at] if key == "memory" else at
            dots = [(left + wide * a, top + high * (1 - min(v / over, most) / most))
                    for a, v in zip(across, values, strict=True)]  # fmt: skip
            pen.line(dots, fill=colour, width=2)
            if panel == 0:
                pen.text((left + 6, top + 6 + 13 * rows.index(row)), row["family"], fill=colour)
        pen.text((left - 34, top - 4), f"{most:g}", fill="black")
        pen.text((left - 14, top + high - 8), "0", fill="black")
        if x:
            pen.text((left, top + high + 6), str(x[0]), fill="black")
            pen.text((left + wide - 24, top + high + 6), str(x[-1]), fill="black")
    image.save(path)


def main() -> None:
    torch.set_num_threads(1)
    rows = [measured(family) for family in FAMILIES]
    plot(rows, RESULTS.parents[1] / "docs" / "growth.png")
    facts = {"growth": rows, "batches": BATCHES, "items": ITEMS, "machine": machine(),
             "date": time.strftime("%Y-%m-%d"), "command": "python benchmarks/growth.py"}  # fmt: skip
    (RESULTS / "growth.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
