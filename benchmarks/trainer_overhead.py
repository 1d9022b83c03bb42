"""What the trainer costs: our loop against a bare PyTorch loop on an 8x8 linear model, batch 32, interleaved.

    python benchmarks/trainer_overhead.py [--steps 2000] [--repeats 9]

The bare loop indexes a shuffled batch, computes the loss, and steps fused AdamW. Ours does that, and clips the
gradient, checks it for NaN, follows the learning-rate schedule and keeps the moving average. Medians of interleaved
repeats.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from quintet.core.family import Batch, Family, Loss
from quintet.core.spaces import Continuous
from quintet.data.loader import Loader
from quintet.training.engine import Engine
from quintet.training.settings import TrainingSettings
from quintet.training.trainer import Trainer


class Line(Family):
    """One linear layer."""

    name, accepts, likelihood = "line", (Continuous,), "none"

    def __init__(self) -> None:
        super().__init__(Continuous((8,)))
        self.layer = nn.Linear(8, 8)

    def loss(self, batch: Batch) -> Loss:
        return Loss((self.layer(batch.x) - batch.x).square().mean())

    def sample(self, n: int, *_: Any, **__: Any) -> Tensor:
        return torch.zeros(n, 8)


def bare(x: Tensor, steps: int) -> float:
    """Microseconds a step of the plain loop."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    optimiser = torch.optim.AdamW(layer.parameters(), 1e-3, fused=True)
    began, done = time.perf_counter(), 0
    while done < steps:
        for index in torch.randperm(len(x)).split(32):
            batch = x[index]
            loss = (layer(batch) - batch).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
    return (time.perf_counter() - began) / done * 1e6


def ours(x: Tensor, steps: int) -> float:
    """Microseconds a step of the trainer."""
    torch.manual_seed(0)
    settings = TrainingSettings(batch_size=32)
    loader = Loader(Continuous((8,)), x, None, seed=0)
    trainer = Trainer(Line(), loader, settings, seed=0, steps=steps, engine=Engine("cpu"))
    began = time.perf_counter()
    trainer.run()
    return (time.perf_counter() - began) / steps * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(4096, 8)
    bare(x, 500), ours(x, 500)
    pairs = [(bare(x, options.steps), ours(x, options.steps)) for _ in range(options.repeats)]
    result = {
        "benchmark": "trainer_overhead",
        "bare_us": round(statistics.median(a for a, _ in pairs), 1),
        "ours_us": round(statistics.median(b for _, b in pairs), 1),
        "ratio": round(statistics.median(b / a for a, b in pairs), 3),
        "steps": options.steps,
        "repeats": options.repeats,
        "machine": platform.platform(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
