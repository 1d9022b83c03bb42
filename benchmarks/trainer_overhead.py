"""What a trainer costs beside the arithmetic: a step of an 8x8 linear model, batch 32, by several trainers in one run.

    python benchmarks/trainer_overhead.py [--rounds 9] [--steps 2000]

The bare loop indexes a shuffled batch, computes the loss, and steps fused AdamW. Quintet's does that too, and clips the
gradient, checks it for NaN, follows the learning-rate schedule and keeps the moving average. Fabric and accelerate
prepare the same bare loop, and Lightning's Trainer runs it, each without its logger, checkpoints and progress bar.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from race import OURS, Work, arguments, keep, present, race
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from quintet.core.family import Batch, Family, Loss
from quintet.core.spaces import Continuous
from quintet.data.loader import Loader
from quintet.training.engine import Engine
from quintet.training.settings import TrainingSettings
from quintet.training.trainer import Trainer

BATCH = 32


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


def ours(x: Tensor, steps: int) -> Work:
    settings, loader = TrainingSettings(batch_size=BATCH), Loader(Continuous((8,)), x, None, seed=0)
    return lambda: Trainer(Line(), loader, settings, seed=0, steps=steps, engine=Engine("cpu")).run()


def looping(x: Tensor, steps: int, layer: nn.Module, optimiser: Any, backward: Callable[[Tensor], None]) -> Work:
    """The bare loop."""

    def work() -> None:
        done = 0
        while done < steps:
            for index in torch.randperm(len(x)).split(BATCH):
                batch = x[index]
                loss = (layer(batch) - batch).square().mean()
                optimiser.zero_grad()
                backward(loss)
                optimiser.step()
                done += 1

    return work


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    layer = nn.Linear(8, 8)
    return layer, torch.optim.AdamW(layer.parameters(), 1e-3, fused=True)


def bare(x: Tensor, steps: int) -> Work:
    layer, optimiser = made()
    return looping(x, steps, layer, optimiser, lambda loss: loss.backward())


def fabric(x: Tensor, steps: int) -> Work:
    from lightning.fabric import Fabric

    engine = Fabric(accelerator="cpu", devices=1)
    layer, optimiser = engine.setup(*made())
    return looping(x, steps, layer, optimiser, engine.backward)


def accelerate(x: Tensor, steps: int) -> Work:
    from accelerate import Accelerator

    engine = Accelerator(cpu=True)
    layer, optimiser = engine.prepare(*made())
    return looping(x, steps, layer, optimiser, engine.backward)


def lightning(x: Tensor, steps: int) -> Work:
    import lightning.pytorch as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return (self.layer(batch[0]) - batch[0]).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 1e-3, fused=True)

    loader = DataLoader(TensorDataset(x), BATCH, shuffle=True)

    def work() -> None:
        pl.Trainer(
            max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).fit(Module(), loader)  # fmt: skip

    return work


def main() -> None:
    parser = arguments(__doc__, rounds=9)
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.randn(4096, 8)
    makers = {OURS: ours, "bare loop": bare, "Fabric": fabric, "accelerate": accelerate, "Lightning": lightning}
    works = present({name: (lambda make=make: make(x, args.steps)) for name, make in makers.items()})
    found = race(works, args.rounds)
    found["seconds"] = {name: round(seconds / args.steps, 8) for name, seconds in found["seconds"].items()}
    keep("trainer_overhead", "A step of training, when the model is next to nothing",
         [{"case": "8x8 linear model", **found}], ["lightning", "accelerate"], threads=args.threads)  # fmt: skip


if __name__ == "__main__":
    main()
