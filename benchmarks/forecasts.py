"""Forecasts of a series by its default recipes, next to seasonal-naive and a ridge regression: CRPS, seed by seed.

`crps_less_seasonal` and `crps_less_linear` are paired differences of the same windows. Windows overlap, so that errors
are those of means over stretches of time, each twice as long as a window.

python benchmarks/forecasts.py --families autoregressive,diffusion --steps 800,1600 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

import torch

import quintet
from quintet.modalities.series.figures import forecast_figures
from quintet.sources.load import load_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", default="autoregressive,diffusion")
    parser.add_argument("--steps", default="800,1600", help="of each family")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default="days")
    parser.add_argument("--window", type=int, default=None, help="steps of a window, of a file")
    parser.add_argument("--split", default="test", help="validation: to choose by")
    parser.add_argument("--count", type=int, default=96, help="windows at most")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data = load_source(asked.data, window=asked.window)
    train, heldout = data.rows("train"), data.rows(asked.split)
    for family, steps in zip(asked.families.split(","), map(int, asked.steps.split(",")), strict=True):
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as runs:
                began = time.process_time()
                config = {"data": {"window": asked.window}}
                model = quintet.train(family, data=asked.data, steps=steps, seed=seed, runs=runs, config=config)
                spent = time.process_time() - began

                def complete(windows, known, model=model, seed=seed):  # type: ignore[no-untyped-def]
                    return model.complete(windows, known=known, seed=seed)

                figures = forecast_figures(complete, train, heldout, count=asked.count).figures
                run = {"family": family, "seed": seed, "steps": steps, "cpu_seconds": round(spent)}
                print(json.dumps(run | figures), flush=True)


if __name__ == "__main__":
    main()
