"""Samples in one to four evaluations beside samples in many, after the same processor time of training.

    python benchmarks/few_steps.py SOURCE [--seconds 60] [--seeds 2] [--samples 1000] [--features pca]
        [--condition label]

A step of each is timed first, so that the numbers of steps cost the same, whatever else the machine does. `distil` is a
model of denoising that has two thirds of the time, then tuned in the rest. Prints the Frechet distance to validation
items by evaluations of the net, and processor milliseconds a sample. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from quintet.core.random import Rows, some
from quintet.data.loader import Items
from quintet.evaluation.learnt import learnt_features
from quintet.fit import fitting
from quintet.metrics.distances import frechet_distance
from quintet.metrics.features import FeatureSpace, fit_features
from quintet.model.fitted import Fitted
from quintet.runs.task import Task
from quintet.sources.load import load_source

MANY = {f"{k}": {"solver": "dpmpp_2m", "steps": k} for k in (1, 2, 4, 10, 20)} | {
    "ddim 50": {"solver": "ddim", "steps": 50}
}
FEW = {str(k): {"jumps": k} for k in (1, 2, 4)}
TUNING = 1 / 3
"""Share of the time of `distil` in which it is tuned."""


class Judge:
    """Frechet distances of samples to validation items, in one space of features."""

    def __init__(self, source: str, model: Fitted, features: str) -> None:
        dataset = load_source(source)
        task, codec = Task.of(model.config, dataset, model.codecs), model.codecs["x"]
        train, held = (Items(codec, task.targets(split), torch.device("cpu")) for split in ("train", "validation"))
        seen = train[train.drawn(10_000)].numpy()
        self.features: FeatureSpace = (
            fit_features(seen, codec.preprocessing) if features == "pca" else learnt_features(dataset, codec, seen)
        )
        self.real = self.features(held[held.drawn(10_000)].numpy())
        self.seen = self.features(seen)

    def floor(self, n: int) -> float:
        """The distance of so many training items, which a perfect model has."""
        return frechet_distance(self.real, self.seen[some(self.seen, n, 1)]).value

    def __call__(self, model: Fitted, n: int, sampling: dict[str, Any]) -> tuple[float, float]:
        """(the distance, processor milliseconds a sample)."""
        began, parts, codec = time.process_time(), [], model.codecs["x"]
        settings = model.sampling(sampling)
        for start in range(0, n, 250):
            rows = Rows(5, start, min(250, n - start))
            cond = model.condition(None, rows.count, start)
            parts.append(model.family.sample(rows.count, cond, sampling=settings, generator=rows))
        took = time.process_time() - began
        made = self.features(codec.encode(codec.decode(torch.cat(parts))).numpy())
        return frechet_distance(self.real, made).value, 1000 * took / n


def step_seconds(train: Callable[[int, list[float]], object]) -> float:
    """Processor seconds of a step: what 12 steps take more than 4, their median of each."""
    times: list[float] = []
    train(16, times)
    return float(np.median(np.diff(times)[4:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--features", default="pca")
    parser.add_argument("--condition")
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge: Judge | None = None

    with tempfile.TemporaryDirectory() as runs:

        def trained(learns: str, steps: int, seed: int, run: str, times: list[float] | None = None) -> Fitted:
            config = {"model": {"learns": learns}, "training": {"select": "last", "sample_every": 10**6}}
            note = (lambda _: None) if times is None else (lambda _: times.append(time.process_time()))
            return fitting.train("diffusion", data=args.source, condition=args.condition, steps=steps, seed=seed,
                                 runs=runs, run=run, config=config, report=note)  # fmt: skip

        each = {
            learns: step_seconds(lambda steps, times, learns=learns: trained(learns, steps, 0, f"time-{learns}", times))
            for learns in ("denoising", "meanflow", "consistency")
        }
        steps = {learns: max(1, int(args.seconds / seconds)) for learns, seconds in each.items()}
        print({learns: (round(1000 * each[learns]), steps[learns]) for learns in each}, flush=True)
        for seed in range(args.seeds):
            for name in ("denoising", "meanflow", "distil"):
                if name == "distil":
                    few = int(steps["denoising"] * (1 - TUNING))
                    trained("denoising", few, seed, f"teacher-{seed}")
                    tuned = int(steps["consistency"] * TUNING)
                    model = fitting.distil(f"teacher-{seed}", runs=runs, steps=tuned, report=lambda _: None)
                else:
                    model = trained(name, steps[name], seed, f"{name}-{seed}")
                if judge is None:
                    judge = Judge(args.source, model, args.features)
                    print(f"training items themselves: {judge.floor(args.samples):.2f}", flush=True)
                for evaluations, sampling in (MANY if name == "denoising" else FEW).items():
                    distance, cost = judge(model, args.samples, sampling)
                    print(
                        f"| {args.source} | {seed} | {name} | {evaluations} | {distance:.2f} | {cost:.2f} |", flush=True
                    )


if __name__ == "__main__":
    main()
