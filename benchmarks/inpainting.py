"""The lower half of MNIST test digits, completed by each family, and how often a classifier still sees the digit.

    python benchmarks/inpainting.py [--families LIST] [--budget 120s] [--digits 500] [--seeds 1] [--threads 1]
        [--given nothing,label] [--split test] [--sampling JSON] [--runs DIR] [--grid FILE.png] [--out FILE.json]

The classifier is a small convolutional net with at least 98 % on real test digits. Each family is trained without and
with the label as its condition (`--given`), on the published training split, at the defaults of `quintet train`. A run
that exists in --runs is not trained again. Beside them stand the originals, digits with a black lower half, and the
nearest training digit by the upper half: what copying would give. The picture has a row for each of these and each
family.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matrix import interval
from torch import Tensor, nn

import quintet
from quintet.core.random import some
from quintet.modalities.pictures import grid_png
from quintet.registry import FAMILIES
from quintet.runs.config import seconds
from quintet.sources.load import load_source

SHOWN = 16
Pictures = dict[str, np.ndarray]


class Classifier(nn.Module):
    """(B, 1, 28, 28) -> logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def batch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def fit_classifier(images: np.ndarray, labels: Tensor, epochs: int = 2) -> Classifier:
    torch.manual_seed(0)
    net, steps = Classifier(), epochs * len(images) // 100
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in range(steps):
        index = torch.randint(len(images), (100,), generator=torch.Generator().manual_seed(step))
        loss = F.cross_entropy(net(batch(images[index.numpy()])), labels[index])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
    return net.eval()


@torch.no_grad()
def recognised(net: Classifier, images: np.ndarray, labels: Tensor) -> float:
    seen = torch.cat([net(batch(part)).argmax(1) for part in np.array_split(images, 20)])
    return float((seen == labels).float().mean())


def copied(images: np.ndarray, train: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The lower half of the training digit whose upper half is nearest."""
    flat = lambda x: torch.from_numpy(np.ascontiguousarray(x[:, known])).flatten(1).float()  # noqa: E731
    index = torch.cat([torch.cdist(part, flat(train)).argmin(1) for part in flat(images).split(100)])
    return np.where(known[..., None], images, train[index.numpy()])


def trained(family: str, conditional: bool, seed: int, options: argparse.Namespace) -> quintet.Model:
    name = f"inpainting-{family}{'-label' if conditional else ''}-{seed}"
    if (Path(options.runs) / name).exists():
        return quintet.load(name, runs=options.runs)
    condition = "label" if conditional else None
    return quintet.train(family, data="mnist", condition=condition, budget=options.budget, seed=seed, run=name,
                         runs=options.runs)  # fmt: skip


def measure(
    options: argparse.Namespace, net: Classifier, images: np.ndarray, labels: Tensor, known: np.ndarray
) -> tuple[list[dict[str, Any]], Pictures]:
    rows, pictures = [], {}
    for family in options.families.split(","):
        for conditional in [{"nothing": False, "label": True}[given] for given in options.given.split(",")]:
            shares, spent, width = [], 0.0, 0
            for seed in range(options.seeds):
                model = trained(family, conditional, seed, options)
                start = time.perf_counter()
                given = labels.tolist() if conditional else None
                done = model.complete(images, known=known, condition=given, seed=seed, sampling=options.sampling)
                assert np.array_equal(done[:, known], images[:, known])
                spent += time.perf_counter() - start
                shares.append(recognised(net, done, labels))
                width = sum(p.numel() for p in model.family.parameters())
                if seed == 0:
                    pictures[f"{family}{' given the label' if conditional else ''}"] = done
            rows.append({"family": family, "label_given": conditional, "seeds": shares, "parameters": width,
                         "steps": model.config.steps,
                         "milliseconds_per_digit": 1000 * spent / len(images) / options.seeds})  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    return rows, pictures


def table(rows: list[dict[str, Any]], references: dict[str, float]) -> str:
    lines = ["| lower half | given | recognised, % | ms a digit |", "|---|---|---|---|"]
    lines += [f"| {name} | | {100 * share:.1f} | |" for name, share in references.items()]
    for row in rows:
        given, share = "label" if row["label_given"] else "nothing", interval([100 * s for s in row["seeds"]], 1)
        lines.append(f"| {row['family']} | {given} | {share} | {row['milliseconds_per_digit']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--budget", default="120s", type=seconds)
    parser.add_argument("--digits", default=500, type=int)
    parser.add_argument("--given", default="nothing,label")
    parser.add_argument("--split", default="test", help="validation, to choose settings by")
    parser.add_argument("--sampling", default={}, type=json.loads, help="JSON settings over the defaults")
    parser.add_argument("--seeds", default=1, type=int)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--runs", default=None)
    parser.add_argument("--grid", default="inpainting.png")
    parser.add_argument("--out", default=None)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.runs is None:
        options.runs = tempfile.mkdtemp()

    data = load_source("mnist")
    labels = {s: torch.tensor([int(v) for v in data.column("label", s).column(0).to_pylist()]) for s in data.splits}
    train, images = data.rows("train"), data.rows(options.split)
    net = fit_classifier(train, labels["train"])
    accuracy = recognised(net, images, labels[options.split])
    if accuracy < 0.98:
        raise SystemExit(f"the classifier knows {100 * accuracy:.1f} % of real digits only")

    chosen = some(images, options.digits, 0)
    images, truth = images[chosen], labels[options.split][chosen]
    known = np.zeros((28, 28), bool)
    known[:14] = True
    black = np.where(known[..., None], images, 0).astype(np.uint8)
    nearest = copied(images, train, known)
    references = {"original": recognised(net, images, truth), "black": recognised(net, black, truth),
                  "of the nearest training digit": recognised(net, nearest, truth)}  # fmt: skip
    rows, pictures = measure(options, net, images, truth, known)
    pictures = {"given": black, **pictures, "nearest": nearest, "original": images}
    sheet = np.concatenate([picture[:SHOWN] for picture in pictures.values()])
    Path(options.grid).write_bytes(grid_png(sheet, SHOWN, 2))
    print(f"\nClassifier on all real digits of the split: {100 * accuracy:.2f} %. {len(images)} digits, "
          f"{options.budget:g} s of training each. Rows of {options.grid}: {', '.join(pictures)}\n")  # fmt: skip
    print(table(rows, references))
    if options.out:
        facts = {"budget": options.budget, "digits": len(images), "split": options.split, "seeds": options.seeds,
                 "sampling": options.sampling, "threads": options.threads, "machine": platform.platform(),
                 "torch": torch.__version__, "classifier": accuracy, "references": references,
                 "families": rows}  # fmt: skip
        Path(options.out).write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
