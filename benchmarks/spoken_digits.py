"""Spoken digits sampled by class: are they recognised by a classifier that was trained on real recordings?

    python benchmarks/spoken_digits.py [--families diffusion,autoregressive] [--budget 3m] [--seeds 3] [--out FILE.json]

The classifier is a small convolutional net on log-mel spectrograms of its own (40 bands, 10 ms; not a codec's), trained
on the training split alone. Its accuracy on real test recordings stands in the first row, and on the same recordings
after each codec's round trip in those below: no model can do better than that. Then, for each family trained with
default settings and `--condition label`, the share of samples that it recognises as the digit asked for, with a 95 %
Wilson interval over all seeds' samples, and the energy and Fréchet distances between log-mel features of samples and of
real test recordings (300 of each).
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quintet
from quintet.core.random import some
from quintet.metrics.distances import energy_distance, frechet_distance
from quintet.metrics.features import PrincipalFeatures, fit_features
from quintet.modalities.audio import spectrum
from quintet.modalities.audio.codec import AudioCodec
from quintet.modalities.audio.recordings import Recordings
from quintet.runs.recipes import recipe
from quintet.sources.load import load_source

BANDS, HOP, FRAMES = 40, 0.01, 100
"""Of the classifier: mel bands, seconds between frames, frames."""


# -- the classifier --------------------------------------------------------------------------------------------------


def look(recordings: Recordings) -> Tensor:
    """(N, 1, bands, frames): decibels below each recording's loudest, on [-1, 1] over 50 dB; one second."""
    stride = round(HOP * recordings.rate)
    window = 2 * round(1.25 * stride)
    filters = spectrum.mel_filters(BANDS, window, recordings.rate)
    out = torch.zeros(len(recordings), FRAMES * stride)
    for row, samples in zip(out, recordings, strict=True):
        cut = torch.from_numpy(np.array(samples[: len(row)], np.float32))
        row[: len(cut)] = cut
    power = spectrum.stft(out, window, stride).abs().square() @ filters.T
    decibels = 10 * power.clamp_min(1e-12).log10()
    top = decibels.amax((1, 2), keepdim=True)
    return ((decibels - top).clamp_min(-50) / 25 + 1).transpose(1, 2)[:, None]


def classifier() -> nn.Sequential:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    size = 64 * (BANDS // 8) * (FRAMES // 8)
    head = [nn.Flatten(), nn.Dropout(0.5), nn.Linear(size, 10)]
    return nn.Sequential(*block(1, 16), *block(16, 32), *block(32, 64), *head)


def learn(recordings: Recordings, digits: Tensor, *, epochs: int = 12, batch: int = 64, seed: int = 0) -> nn.Sequential:
    """Trained on real recordings, shifted in time and with noise on the picture."""
    torch.manual_seed(seed)
    x, net = look(recordings), classifier()
    steps = epochs * (len(x) // batch)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(batch)[: len(x) // batch]:
            shift = int(torch.randint(-10, 30, ()))
            part = torch.roll(x[index], shift, 3)
            part[..., slice(0, shift) if shift >= 0 else slice(shift, None)] = -1
            part = part + 0.1 * torch.rand(()) * torch.randn_like(part)
            loss = F.cross_entropy(net(part), digits[index], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def recognised(net: nn.Module, recordings: Recordings, digits: np.ndarray) -> np.ndarray:
    """(N,) bool."""
    found = torch.cat([net(part).argmax(1) for part in look(recordings).split(256)]).numpy()
    return np.asarray(found == digits)


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    centre, half = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return (centre - half) / (n + z * z), (centre + half) / (n + z * z)


# -- the measurement -------------------------------------------------------------------------------------------------


def distances(features: PrincipalFeatures, measure: AudioCodec, real: Recordings, made: Recordings) -> dict[str, float]:
    n = min(len(real), len(made))
    a, b = (features(measure.encode(side[some(side, n, 0)]).numpy()) for side in (real, made))
    return {"energy": energy_distance(a, b).value, "frechet": frechet_distance(a, b).value}


def row(name: str, hits: np.ndarray, figures: Sequence[dict[str, float]], **facts: Any) -> dict[str, Any]:
    low, high = wilson(int(hits.sum()), len(hits))
    means = {key: float(np.mean([f[key] for f in figures])) for key in figures[0]} if figures else {}
    return {"name": name, "accuracy": float(hits.mean()), "low": low, "high": high, "n": len(hits), **means, **facts}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """As markdown."""
    lines = [
        "| | recognised | 95 % interval | n | energy | Fréchet | training, s | steps | ms a sample |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = [r["name"], f"{r['accuracy']:.1%}", f"{r['low']:.1%} to {r['high']:.1%}", f"{r['n']:,}"]
        for key, form in (("energy", ".3f"), ("frechet", ".1f"), ("seconds", ".0f"), ("steps", ",.0f"), ("ms", ".1f")):
            cells.append(format(r[key], form) if key in r else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default="diffusion,autoregressive")
    parser.add_argument("--budget", default="3m", help="of training, each model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=300, help="of each model")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--runs", default=None, help="keep the runs in this folder")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    data = load_source("spoken_digits")
    digits = {
        split: np.array([int(v) for v in data.column("label", split).column(0).to_pylist()]) for split in data.splits
    }
    train, test = data.rows("train"), data.rows("test")
    net = learn(train, torch.from_numpy(digits["train"]))
    measure = AudioCodec("continuous").fit(train)
    features = fit_features(measure.encode(train).numpy(), "flattened")
    rows = [row("real test recordings", recognised(net, test, digits["test"]), [])]
    for name, options in (("codec, continuous", {}), ("codec, symbols", recipe("autoregressive", "audio")["coding"])):
        codec = AudioCodec(None, AudioCodec.Settings(**options)).fit(train)
        again = codec.decode(codec.encode(test))
        rows.append(row(name, recognised(net, again, digits["test"]), [distances(features, measure, test, again)]))
    asked = np.arange(given.samples) % 10
    names = {int(v): v for v in data.column("label", "train").column(0).to_pylist()}
    with tempfile.TemporaryDirectory() as folder:
        for family in given.families.split(","):
            hits, figures, facts = [], [], []
            for seed in range(given.seeds):
                model = quintet.train(
                    family, data="spoken_digits", condition="label", budget=given.budget, seed=seed,
                    run=f"{family}-{seed}", runs=given.runs or folder,
                )  # fmt: skip
                began = time.perf_counter()
                made = model.sample(given.samples, condition=[names[int(d)] for d in asked], seed=seed)
                ms = 1000 * (time.perf_counter() - began) / given.samples
                hits.append(recognised(net, made, asked))
                figures.append(distances(features, measure, test, made))
                facts.append((model.run.metrics()[-1]["seconds"], model.config.steps, ms))
                print(f"{family} seed {seed}: {hits[-1].mean():.1%}", flush=True)
            spent, steps, ms = np.mean(np.array(facts, float), 0)
            rows.append(row(family, np.concatenate(hits), figures, seconds=spent, steps=steps, ms=ms,
                            seeds=[float(h.mean()) for h in hits]))  # fmt: skip
    print(table(rows))
    if given.out:
        given.out.write_text(json.dumps({"budget": given.budget, "seeds": given.seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
