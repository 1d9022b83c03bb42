"""Images drawn a second at an equal Frechet distance, and seconds of training until it is equal: quintet's diffusion
beside diffusers' U-Net, which draws by 50 steps of DDIM. MNIST, without labels.

    python benchmarks/drawing.py [--seconds 240] [--seeds 0] [--samples 500] [--only NAME ...] [--add]

Everybody trains in as many seconds of one thread's processor time, with about 5.5 million parameters. The Frechet
distances are to 10,000 unseen images, in principal components of pixels and in those of what a classifier of the digits
sees; what is reported is of test images, and what is chosen is chosen by validation images. `--only` measures some of
the parts that are listed below, and `--add` keeps those that were measured before, so that the whole can be measured in
pieces.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from few_steps import step_seconds
from race import OURS, RESULTS, keep
from torch import Tensor
from unet_step import WIDTH, unet

from quintet.core.errors import QuintetError
from quintet.core.random import Rows
from quintet.data.loader import Items
from quintet.evaluation.learnt import learnt_features
from quintet.fit import fitting
from quintet.metrics.distances import frechet_distance
from quintet.metrics.features import fit_features
from quintet.model.fitted import Fitted
from quintet.runs.task import Task
from quintet.sources.load import load_source

NAME, SOURCE, PEER, AT_ONCE = "drawing", "mnist", "diffusers", 100
SHARES = {f"{OURS}/{k}": 1 / k for k in (1, 2, 4, 8, 16)}
"""Trainings of quintet, and their shares of the time: how soon is it as good as the peer at the end of its own?"""
PARTS = [PEER, *SHARES, "meanflow", "distil"]
MANY = {f"{k} steps": {"steps": k} for k in (20, 10, 8, 6, 5, 4)}
DEFAULT = {"20 steps": MANY["20 steps"]}
FEW = {f"{k} jumps": {"jumps": k} for k in (4, 2, 1)}
TUNING = 1 / 3
"""Share of the time of `distil` in which the model of denoising is tuned."""
LR, PEER_BATCH = 2e-3, 16
"""Of the peer: those with the lowest held-out loss after 60 seconds, among 5e-4, 1e-3, 2e-3 with batches of 16, 4e-3
with 32, and 1e-3, 2e-3 with 64."""

Draw = Callable[[int, int], Tensor]
"""Images [-1, 1] number start ... start + count."""


class Judge:
    """Frechet distances of images to unseen ones, in two spaces of features."""

    def __init__(self) -> None:
        dataset = load_source(SOURCE)
        config = fitting.plan("diffusion", dataset, steps=1)
        task = Task.of(config, dataset).fitted(config)
        self.codec = task.codecs["x"]
        splits = {split: Items(self.codec, task.targets(split), torch.device("cpu"))
                  for split in ("train", "validation", "test")}  # fmt: skip
        parts = {split: items[items.drawn(10_000)].numpy() for split, items in splits.items()}
        self.train, self.validation = splits["train"][torch.arange(len(splits["train"]))], parts["validation"]
        self.features = {
            "pixels": fit_features(parts["train"], self.codec.preprocessing),
            "learnt": learnt_features(dataset, self.codec, parts["train"]),
        }
        self.real = {name: {split: f(x) for split, x in parts.items()} for name, f in self.features.items()}

    def __call__(self, draw: Draw, samples: int) -> dict[str, Any]:
        """Processor seconds an image, and the distances to the validation and to the test images."""
        began = time.process_time()
        x = torch.cat([draw(start, min(AT_ONCE, samples - start)) for start in range(0, samples, AT_ONCE)])
        took = (time.process_time() - began) / samples
        made = self.codec.encode(self.codec.decode(x)).numpy()
        found: dict[str, Any] = {"seconds": took}
        for name, f in self.features.items():
            seen = f(made)
            for split in ("validation", "test"):
                found[f"{name} {split}"] = round(frechet_distance(self.real[name][split], seen).value, 3)
        return found

    def floor(self, samples: int) -> dict[str, float]:
        """What so many training images have."""
        return {name: round(frechet_distance(of["test"], of["train"][:samples]).value, 3)
                for name, of in self.real.items()}  # fmt: skip


# -- the peer ----------------------------------------------------------------------------------------------------------


def diffusers(judge: Judge, seconds: float, seed: int, samples: int) -> dict[str, Any]:
    """Training as its example does it: DDPM's loss, AdamW, warm-up and a cosine, and a moving average of the weights.
    The schedule of noise is the one that its course takes for these images.
    """
    from diffusers import DDIMScheduler, DDPMScheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(seed)
    net, schedule = unet(), DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    optimiser = torch.optim.AdamW(net.parameters(), LR, betas=(0.95, 0.999), weight_decay=1e-6, fused=True)
    average = EMAModel(net.parameters(), use_ema_warmup=True, power=0.75)

    def loss(x: Tensor) -> Tensor:
        noise, t = torch.randn_like(x), torch.randint(1000, (len(x),))
        return torch.nn.functional.mse_loss(net(schedule.add_noise(x, noise, t), t).sample, noise)

    steps, began = 0, time.process_time()
    while (done := (time.process_time() - began) / seconds) < 1:
        rate = LR * min(1.0, (done + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * done))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss(padded(judge.train[torch.randint(len(judge.train), (PEER_BATCH,))])).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        average.step(net.parameters())
        steps += 1
    took = time.process_time() - began
    average.copy_to(net.parameters())
    net.eval()
    with torch.inference_mode():
        torch.manual_seed(0)
        held = statistics.mean(float(loss(padded(x))) for x in torch.from_numpy(judge.validation[:512]).split(64))
    found = {"trained": took, "steps": steps, "held_out": held, "draws": {}}
    if samples:
        ddim = DDIMScheduler.from_config(schedule.config)
        ddim.set_timesteps(50)

        @torch.inference_mode()
        def draw(start: int, count: int) -> Tensor:
            x = torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(start))
            for t in ddim.timesteps:
                x = ddim.step(net(x, t).sample, t, x).prev_sample
            return x[:, :, 2:-2, 2:-2].clamp(-1, 1)

        found["draws"]["DDIM, 50 steps"] = judge(draw, samples)
    return found


def padded(x: Tensor) -> Tensor:
    """28x28 with a margin of black, since its net halves an image three times."""
    return torch.nn.functional.pad(x, (2, 2, 2, 2), value=-1.0)


# -- quintet -----------------------------------------------------------------------------------------------------------


def quintet(judge: Judge, part: str, seconds: float, seed: int, samples: int) -> dict[str, Any]:
    """The defaults, with as many parameters as the peer; or what `part` says that the net learns."""
    with tempfile.TemporaryDirectory() as runs:

        def trained(learns: str, steps: int, run: str, times: list[float] | None = None) -> Fitted:
            config = {"model": {"learns": learns, "width": WIDTH}, "training": {"sample_every": 10**6}}
            note = (lambda _: None) if times is None else (lambda _: times.append(time.process_time()))
            return fitting.train("diffusion", data=SOURCE, steps=steps, seed=seed, runs=runs, run=run, config=config,
                                 report=note)  # fmt: skip

        def affordable(learns: str, share: float = 1.0) -> int:
            each = step_seconds(lambda steps, times: trained(learns, steps, f"time-{learns}", times))
            return max(8, int(share * seconds / each))

        few = part in ("meanflow", "distil")
        if part == "distil":
            counts = affordable("denoising", 1 - TUNING), affordable("consistency", TUNING)
            began = time.process_time()
            trained("denoising", counts[0], "teacher")
            model = fitting.distil("teacher", runs=runs, run="tuned", steps=counts[1], report=lambda _: None)
        else:
            learns = part if few else "denoising"
            counts = (affordable(learns),)
            began = time.process_time()
            model = trained(learns, counts[0], "run")
        found: dict[str, Any] = {"trained": time.process_time() - began, "steps": sum(counts), "draws": {}}
        for name, sampling in (FEW if few else MANY if part == f"{OURS}/1" else DEFAULT).items():
            settings = model.sampling(sampling)

            def draw(start: int, count: int, settings: Any = settings) -> Tensor:
                return model.family.sample(count, None, sampling=settings, generator=Rows(5, start, count))

            found["draws"][name] = judge(draw, samples)
    return found


# -- what is reported --------------------------------------------------------------------------------------------------


def distances(draw: Mapping[str, Any], split: str) -> list[float]:
    return [draw[f"{name} {split}"] for name in ("pixels", "learnt")]


def as_good(draw: Mapping[str, Any], peer: Mapping[str, Any], split: str = "validation") -> bool:
    """Whether no distance is larger than the peer's."""
    return all(ours <= theirs for ours, theirs in zip(distances(draw, split), distances(peer, split), strict=True))


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What docs/benchmarks.md shows, of the seeds for which the peer was measured: every way of drawing, and the
    shortest training after which the default draws as well as the peer by validation images.
    """
    out: list[dict[str, Any]] = []
    whole = [parts for parts in found.values() if PEER in parts and f"{OURS}/1" in parts]
    peers = [parts[PEER]["draws"]["DDIM, 50 steps"] for parts in whole]
    for part, ways in ((f"{OURS}/1", MANY), ("meanflow", FEW), ("distil", FEW)):
        for way in ways if whole and all(part in parts for parts in whole) else ():
            draws = [parts[part]["draws"][way] for parts in whole]
            name = way if part.startswith(OURS) else f"{part}, {way}"
            out.append(row(f"an image in {name}; distances {told(draws)}, the peer's {told(peers)}", draws, peers))
    soonest = [[parts[part] for part in SHARES if part in parts and as_good(parts[part]["draws"]["20 steps"], peer)]
               for parts, peer in zip(whole, peers, strict=True)]  # fmt: skip
    if whole and all(soonest):
        found_in = [min(parts, key=lambda part: part["trained"]) for parts in soonest]
        draws = [part["draws"]["20 steps"] for part in found_in]
        ours, theirs = ([{"seconds": part["trained"]} for part in of] for of in (found_in, [w[PEER] for w in whole]))
        out.append(row(f"training until both distances are no larger; then {told(draws)}", ours, theirs))
    return out


def told(draws: list[Any]) -> str:
    """The distances to the test images: medians over seeds."""
    pairs = zip(*(distances(draw, "test") for draw in draws), strict=True)
    return " and ".join(f"{statistics.median(each):.1f}" for each in pairs)


def row(case: str, ours: list[Any], theirs: list[Any]) -> dict[str, Any]:
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True)]
    taken = {OURS: ours, PEER: theirs}
    return {"case": case, "rounds": len(ratios),
            "seconds": {name: statistics.median(d["seconds"] for d in of) for name, of in taken.items()},
            "ratios": {PEER: [round(f(ratios), 2) for f in (statistics.median, min, max)]}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--add", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = RESULTS / f"{NAME}.json"
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text())["found"] if args.add and kept.exists() else {}
    try:
        judge = Judge()
    except QuintetError as error:
        return print(f"{SOURCE} is left out: {error}", file=sys.stderr)
    for seed in args.seeds.split(","):
        for part in args.only:
            share = SHARES.get(part, 1.0) * args.seconds
            measured = (diffusers(judge, share, int(seed), args.samples) if part == PEER
                        else quintet(judge, part, share, int(seed), args.samples))  # fmt: skip
            print(seed, part, json.dumps(measured), file=sys.stderr, flush=True)
            found.setdefault(seed, {})[part] = measured
            floor = judge.floor(args.samples)
            note = (f"Frechet distances of {args.samples} samples to 10,000 test images, in principal components of "
                    f"pixels and of what a classifier sees; as many training images have {floor['pixels']:.1f} and "
                    f"{floor['learnt']:.1f}. The peer draws in 50 steps of DDIM.")  # fmt: skip
            title = f"Drawing MNIST after {args.seconds:.0f} seconds of training each"
            keep(NAME, title, rows(found), [PEER], threads=1, note=note, found=found)


if __name__ == "__main__":
    main()
