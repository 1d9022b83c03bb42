"""Draw the figures of docs/maths, and write down every number that its pages quote from them.

    python docs/maths/figures.py                # all of them: about three minutes of one processor core
    python docs/maths/figures.py vae-bounds     # those that are named

Drawing needs matplotlib, whose version is in constraints.txt. Each function in drawn/ makes one figure: it computes or
trains, and returns the numbers to be quoted, as they are to be quoted, and a function that draws. The numbers go into
figures/numbers.json, from which a test finds them again on the pages. `EXACT` names the figures that need no training:
their numbers are the same on every machine, and the test computes them again.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from drawn import autoregressive, diffusion, evaluation, flow, gan, likelihoods, vae
from drawn.common import Made
from PIL import Image

HERE = Path(__file__).parent / "figures"
NUMBERS = HERE / "numbers.json"
FIGURES: dict[str, Callable[[], Made]] = {
    "vae-bounds": vae.bounds,
    "vae-collapse": vae.collapse,
    "gan-dirac": gan.dirac,
    "gan-ring": gan.modes,
    "autoregressive-exposure": autoregressive.exposure,
    "autoregressive-mask": autoregressive.mask,
    "flow-spline": flow.bijection,
    "flow-broken": flow.broken,
    "diffusion-schedules": diffusion.schedules,
    "diffusion-paths": diffusion.paths,
    "diffusion-few-steps": diffusion.few_steps,
    "masked-steps": diffusion.masked_steps,
    "likelihoods-dequantisation": likelihoods.dequantisation,
    "evaluation-blind": evaluation.blind,
    "evaluation-size": evaluation.size,
    "evaluation-paired": evaluation.paired,
}
EXACT = (
    "vae-bounds",
    "gan-dirac",
    "diffusion-schedules",
    "diffusion-paths",
    "masked-steps",
    "likelihoods-dequantisation",
)


def main(names: list[str]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    torch.set_num_threads(1)
    pyplot.rcParams |= {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "legend.frameon": False,
        "savefig.dpi": 120,
        "savefig.bbox": "tight",
    }
    for name in names or list(FIGURES):
        numbers, draw = FIGURES[name]()
        print(name, numbers, flush=True)
        sheet = io.BytesIO()
        figure = draw(pyplot)
        figure.savefig(sheet)
        pyplot.close(figure)
        # few colours are enough for lines, and the files are a third of the size
        few = Image.open(sheet).convert("RGB").quantize(40, dither=Image.Dither.NONE)
        few.save(HERE / f"{name}.png", optimize=True)
        written = json.loads(NUMBERS.read_text(encoding="utf-8")) | {name: numbers}
        kept = {each: written[each] for each in FIGURES if each in written}
        NUMBERS.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
