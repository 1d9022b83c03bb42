"""Draw docs/demo.png, the picture at the top of the READMEs, from the report that `make demo` left.

    python docs/picture.py demo/report.json

The samples are the first of those in the report; none are chosen. The words are those of its verdict.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from quintet.comparison.contenders import contenders
from quintet.comparison.report import number_cell
from quintet.metrics.measures import AUC
from quintet.modalities.pictures import font

TITLES = {
    "vae": "vae",
    "gan": "gan",
    "autoregressive": "autoregressive (Transformer)",
    "flow": "flow",
    "diffusion": "diffusion",
}
INK, GREY, ACCENT, PAPER = "#1b1f24", "#57606a", "#0b57b7", "#ffffff"
MARGIN, GAP, HEAD, LINE = 20, 28, 58, 27
"""Pixels at the edge, between panels, of a panel's two lines of words, and of a line of the verdict."""


def panel(samples: dict[str, str]) -> Image.Image:
    """The upper half of a square grid of samples in the report, at half its size."""
    sheet = Image.open(io.BytesIO(base64.b64decode(samples["png"]))).convert("RGBA")
    half = sheet.crop((0, 0, sheet.width, sheet.width // 2))
    paper = Image.new("RGBA", half.size, PAPER)
    paper.alpha_composite(half)
    return paper.convert("RGB").resize((half.width // 2, half.height // 2), Image.Resampling.NEAREST)


def wrapped(text: str, width: int, words: Any) -> Iterator[str]:
    """Lines of at most `width` pixels in the font `words`."""
    line = ""
    for word in text.split():
        if line and words.getlength(f"{line} {word}") > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line


def drawn(report: dict[str, Any]) -> Image.Image:
    """Real digits and those of each family, each with its AUC, and the verdict below."""
    crowd = {contender.label: contender for contender in contenders(report["models"])}
    keeper = report["verdict"]["keeper"]
    panels = [("real digits", "not seen in training", panel(report["real"]["samples"]), False)]
    for label, title in TITLES.items():
        figure = crowd[label].figure(AUC)
        assert figure is not None
        auc = number_cell(figure.mean, figure.half)
        picture = panel(crowd[label].done[0]["samples"])
        panels.append((title, f"AUC {auc.text} ± {auc.spread}", picture, label == keeper["label"]))
    across, (wide, high) = 3, panels[0][2].size
    down = -(-len(panels) // across)
    width = 2 * MARGIN + across * wide + (across - 1) * GAP
    bottom = MARGIN + down * (HEAD + high + GAP)
    lines = list(wrapped(f"Keep {keeper['label']}. {keeper['sentence']}", width - 2 * MARGIN, font(20)))
    canvas = Image.new("RGB", (width, bottom + LINE * len(lines) + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, (title, remark, picture, kept) in enumerate(panels):
        left, top = MARGIN + place % across * (wide + GAP), MARGIN + place // across * (HEAD + high + GAP)
        draw.text((left, top - 4), title, ACCENT if kept else INK, font(24))
        draw.text((left, top + 27), remark, GREY, font(18))
        canvas.paste(picture, (left, top + HEAD))
        if kept:
            draw.rectangle((left - 6, top + HEAD - 6, left + wide + 5, top + HEAD + high + 3), outline=ACCENT, width=4)
    for place, line in enumerate(lines):
        draw.text((MARGIN, bottom - 4 + LINE * place), line, INK, font(20))
    return canvas


def main(arguments: list[str]) -> None:
    (path,) = arguments
    picture = drawn(json.loads(Path(path).read_text(encoding="utf-8")))
    target = Path(__file__).parent / "demo.png"
    picture.quantize(64).save(target, optimize=True)
    print(target, picture.size, f"{target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
