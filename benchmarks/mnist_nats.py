"""Held-out nats an MNIST digit, in the two forms that papers print.

    python benchmarks/mnist_nats.py binarised [--family vae] [--budget 20m] [--threads 2] [--seeds 1] [--draws 1000]
    python benchmarks/mnist_nats.py logit [--family flow] [--budget 20m] [--threads 2] [--seeds 1]

`binarised`: pixels are drawn anew as 0 or 1 with the grey value as their probability (Salakhutdinov & Murray 2008);
eight draws of each of 55,000 training digits stand for drawing one at each look. The test split is drawn once. Of a VAE
the figure is the IWAE bound with --draws samples (Burda et al. 2016), of an autoregressive model the exact value.

`logit`: the mean log-density of y = logit(l + (1 - 2 l) (k + u) / 256), l = 1e-6, u uniform on [0, 1), in which
Papamakarios et al. 2017 (arXiv:1705.07057) print -1300.5 for ten layers of MAF. A model of quintet states the log mass
of a pixel's bin, the density of k + u, and a change of variables adds what y needs:
log p(y) = log p(k + u) + 784 log 256 + sum of log s + log(1 - s) - log(1 - 2 l), s = sigmoid(y).

Defaults of `quintet train`, the published splits. Figures are kept in benchmarks/results/mnist_nats.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from race import RESULTS, machine

import quintet
from quintet.families.vae import VAE
from quintet.sources.load import load_source

KEPT = RESULTS / "mnist_nats.json"
SPLITS = ("train", "validation", "test")
LEAST = 1e-6


def binarised(folder: Path, copies: int = 8) -> Path:
    """A file of digits of zeros and ones: several draws of each training digit, one of each other."""
    digits, rng = load_source("mnist"), np.random.default_rng(0)
    arrays = {}
    for split in SPLITS:
        grey = np.repeat(digits.rows(split), copies if split == "train" else 1, axis=0)
        arrays[f"images_{split}"] = np.concatenate(
            [(rng.random(part.shape) * 255 < part).astype(np.uint8) for part in np.array_split(grey, 50)]
        )
    np.savez(folder / "binarised.npz", **arrays)
    return folder / "binarised.npz"


@torch.no_grad()
def bound(model: Any, images: np.ndarray, draws: int) -> np.ndarray:
    """IWAE with so many draws, in nats an item: of the mass of its pixels, which is the density times their bins."""
    family = model.family
    assert isinstance(family, VAE)
    x, generator = model.codecs["x"].encode(images), torch.Generator().manual_seed(0)
    found = [family.importance(part, None, draws, generator) for part in x.split(10)]
    space = family.space
    return torch.cat(found).double().numpy() + space.dims * math.log(space.bin_width)


def in_logits(nats: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Mean log-densities of y, from those of k + u; u is drawn here, since the mean of both terms is over all u."""
    u = np.random.default_rng(0).random(images.shape)
    s = LEAST + (1 - 2 * LEAST) * (images + u) / 256
    volume = np.log(s) + np.log1p(-s) - math.log1p(-2 * LEAST) + math.log(256)
    found: np.ndarray = nats + volume.reshape(len(images), -1).sum(1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("binarised", "logit"))
    parser.add_argument("--family")
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--items", type=int, default=10_000, help="of the test split, from its beginning")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    family = args.family or {"binarised": "vae", "logit": "flow"}[args.form]
    folder = Path(tempfile.mkdtemp())
    source: Any = binarised(folder) if args.form == "binarised" else "mnist"
    test = load_source(str(source)).rows("test")[: args.items]
    for seed in range(args.first, args.first + args.seeds):
        began, used = time.perf_counter(), time.process_time()
        model = quintet.train(
            family, data=source, budget=args.budget, seed=seed, run=f"{family}-{seed}", runs=folder / "runs"
        )
        seconds = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - used}
        if args.form == "binarised" and family == "vae":
            nats = bound(model, test, args.draws)
        else:
            nats = np.asarray(model.log_prob(test, seed=1).values)
            nats = in_logits(nats, test) if args.form == "logit" else nats
        row = {
            "form": args.form, "family": family, "seed": seed, "budget": args.budget, "threads": args.threads,
            "items": len(test), "draws": args.draws if family == "vae" else None, "nats": float(nats.mean()),
            "error": float(nats.std(ddof=1) / len(nats) ** 0.5), **seconds, "steps": model.run.used().step,
            "date": time.strftime("%Y-%m-%d"), "machine": machine(),
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        kept = json.loads(KEPT.read_text())["nats"] if KEPT.exists() else []
        KEPT.write_text(json.dumps({"nats": [*kept, row]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
