"""What one GPU makes of it, in at most nine minutes: `make gpu` on a machine that has one.

    python benchmarks/gpu.py [--parts checks,rates,shakespeare,images,translation] [--minutes 9] [--device cuda]

checks         every family's loss and gradient with the same weights and the same noise on CPU and GPU; a run that is
               stopped and resumed against one that is not, bit for bit; training in bf16; a GAN's two objectives
rates          items a second of training and of sampling, every family at a size for GPUs, and which share of the speed
               of a large matrix product in bf16 the floating-point operations of a training step reach
shakespeare    the loss on the validation text of tinyshakespeare against time (nanoGPT's own: 1.4697)
images         colour images: the distance of each family's samples from held-out images against time
translation    BLEU on multi30k against time

Parts that train share what is left of the minutes. Each part's figures are written to benchmarks/results/gpu.json when
it ends, whatever becomes of the next one. `--device cpu` with few minutes tries the script itself.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from race import RESULTS, machine, shake
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import quintet
from quintet.core.family import Batch, Family
from quintet.core.random import Tape
from quintet.core.spaces import Continuous, Discrete, Space
from quintet.data.loader import Loader
from quintet.registry import family_class
from quintet.runs.recipes import recipe
from quintet.training.engine import Engine
from quintet.training.settings import TrainingSettings
from quintet.training.trainer import Trainer

IMAGE, TEXT = Continuous((3, 32, 32), levels=256), Discrete((1024,), 256)
LARGE: dict[str, tuple[str, Space, str, dict[str, Any], int]] = {
    "VAE": ("vae", IMAGE, "image", {"width": 128, "depth": 3}, 512),
    "GAN": ("gan", IMAGE, "image", {"width": 128, "depth": 2}, 256),
    "flow": ("flow", IMAGE, "image", {"width": 512}, 256),
    "diffusion": ("diffusion", IMAGE, "image", {"width": 128, "depth": 2}, 256),
    "Transformer 12 x 768": ("autoregressive", TEXT, "text", {"width": 768, "depth": 12, "heads": 12}, 32),
}
"""What is timed: family, data, recipe, settings, batch."""
SMALL = {"vae": {"width": 16}, "gan": {"width": 16}, "flow": {"width": 16, "layers": 2}, "diffusion": {"width": 16},
         "autoregressive": {"width": 32, "depth": 2, "heads": 2}}  # fmt: skip


def made(family: str, space: Space, kind: str, settings: dict[str, Any]) -> Family:
    """A family with random weights."""
    torch.manual_seed(0)
    kind_of = family_class(family)
    model = {**recipe(family, kind)["model"], **settings}
    known = {key: value for key, value in model.items() if key in kind_of.Settings.model_fields}
    return shake(kind_of(space, None, kind_of.Settings(**known)))  # type: ignore[return-value]


def items(space: Space, n: int, device: torch.device) -> Tensor:
    """Random data of that kind."""
    if isinstance(space, Discrete):
        return torch.randint(space.vocab_size, (n, *space.shape), device=device)
    return torch.rand(n, *space.shape, device=device).mul(255).round().div(127.5).sub(1)


def settled(device: torch.device) -> float:
    """The time, when the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# -- checks ------------------------------------------------------------------------------------------------------------


def agreement(name: str, device: torch.device) -> dict[str, float]:
    """Largest difference of loss and gradient between CPU and device, as a share of their size."""
    space: Space = Continuous((1, 8, 8)) if name != "autoregressive" else Discrete((32,), 20)
    here = (
        made(name, space, "image" if name != "autoregressive" else "text", SMALL[name]).double().eval()
    )  # without dropout
    there, x = copy.deepcopy(here).to(device), items(space, 16, torch.device("cpu"))
    x = x.double() if x.is_floating_point() else x
    errors = {}
    for objective, other in zip(here.objectives().values(), there.objectives().values(), strict=True):
        tape = Tape(seed=1)
        loss = objective.loss(Batch(x, None, tape)).value  # type: ignore[arg-type]
        noise = Tape([number.to(device) for number in tape.numbers])
        found = other.loss(Batch(x.to(device), None, noise)).value  # type: ignore[arg-type]
        errors["loss"] = abs(float(found.detach()) / float(loss.detach()) - 1)
        loss.backward()
        found.backward()
        pairs = zip(objective.module.parameters(), other.module.parameters(), strict=True)
        both = [(p.grad, q.grad.cpu()) for p, q in pairs if p.grad is not None and q.grad is not None]
        size = max(float(p.abs().max()) for p, _ in both)
        errors["gradient"] = max(float((p - q).abs().max()) for p, q in both) / size
    return errors


def checks(device: torch.device, seconds: float) -> dict[str, Any]:
    """The CPU's numbers in float64; exact resume; bf16."""
    found: dict[str, Any] = {name: agreement(name, device) for name in SMALL}
    with tempfile.TemporaryDirectory() as folder:
        for name in SMALL:
            config = {"device": device.type, "preset": "tiny", "training": {"save_every": 10, "keep": 9}}
            whole = quintet.train(name, data="digits", steps=20, run=f"{name}-whole", runs=folder, config=config)
            halted = quintet.train(name, data="digits", steps=20, run=f"{name}-halted", runs=folder, config=config,
                                   on_trainer=lambda trainer: halt(trainer, 10))  # fmt: skip
            halted = quintet.resume(halted.run.name, runs=folder)
            pairs = zip(whole.family.state_dict().values(), halted.family.state_dict().values(), strict=True)
            found[name]["resumed as if never stopped"] = all(torch.equal(a, b) for a, b in pairs)
            config["training"] = {"precision": "bf16"}
            half = quintet.train(name, data="digits", steps=20, run=f"{name}-bf16", runs=folder, config=config)
            found[name]["bf16 is finite"] = all(bool(p.isfinite().all()) for p in half.family.parameters())
    return found


def halt(trainer: Trainer, step: int) -> None:
    """Stop after this step, as a signal would."""
    update = trainer.update

    def once() -> dict[str, float]:
        record = update()
        trainer.stop = "halted" if trainer.step >= step else trainer.stop
        return record

    trainer.update = once  # type: ignore[method-assign]


# -- rates -------------------------------------------------------------------------------------------------------------


def peak(device: torch.device, size: int) -> float:
    """Floating-point operations a second of a large product of bf16 matrices."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    rates = []
    for _ in range(6):
        began = settled(device)
        a @ a
        rates.append(2 * size**3 / (settled(device) - began))
    return max(rates)


class Whole:
    """In the place of the counter's tracker of modules, whose hooks do not allow the gradient of a gradient."""

    parents = frozenset({"Global"})

    def __enter__(self) -> Whole:
        return self

    def __exit__(self, *error: object) -> None: ...


def rates(device: torch.device, seconds: float) -> dict[str, Any]:
    """Training and sampling of every family at GPU size (at a small one on a CPU)."""
    large = device.type == "cuda"
    best = peak(device, 8192 if large else 512)
    found: dict[str, Any] = {"matrix product, TFLOP/s": round(best / 1e12, 2)}
    for title, (name, space, kind, settings, batch) in LARGE.items():
        if not large:
            space, settings, batch = (Discrete((32,), 256) if name == "autoregressive" else space), SMALL[name], 8
        family = made(name, space, kind, settings).to(device)
        x = items(space, 2 * batch, device)
        one = Batch(x[:batch], None)
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = Whole()  # type: ignore[assignment]
        with counter:
            for objective in family.objectives().values():
                with torch.autocast(device.type, torch.bfloat16):
                    loss = objective.loss(one).value
                loss.backward()
        training = TrainingSettings(batch_size=batch, precision="bf16")
        trainer = Trainer(
            family, Loader(space, x, None, seed=0), training, seed=0, steps=10**6, engine=Engine(device.type)
        )
        step = timed(trainer.update, device, seconds / 12)
        family.eval()
        drawn = timed(lambda family=family, batch=batch: family.sample(batch), device, seconds / 12)
        found[title] = {
            "parameters, millions": round(sum(p.numel() for p in family.parameters()) / 1e6, 1),
            "batch": batch,
            "trained items a second": round(batch / step, 1),
            "share of the matrix product": round(counter.get_total_flops() / step / best, 3),
            "drawn items a second": round(batch / drawn, 2),
        }
        if device.type == "cuda":
            found[title]["memory, GB"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 1)
            torch.cuda.reset_peak_memory_stats(device)
    return found


def timed(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Median seconds of `work`, for at most so many seconds and at least three times, once to warm up."""
    work()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < min(seconds, 5.0):
        began = settled(device)
        work()
        taken.append(settled(device) - began)
    return statistics.median(taken)


# -- trainings ---------------------------------------------------------------------------------------------------------


def curve(family: str, data: str, device: torch.device, seconds: float, **given: Any) -> list[dict[str, float]]:
    """The figures of the looks while training: seconds, step, and what is known of the samples and held-out items."""
    records: list[dict[str, float]] = []
    kept = ("seconds", "step", "held_out", "quality")
    with tempfile.TemporaryDirectory() as folder:
        config = {"device": device.type, **given.pop("config", {})}
        model = quintet.train(family, data=data, budget=max(8.0, seconds), runs=folder, config=config, **given)
        for line in (Path(str(model.run.path)) / "metrics.jsonl").read_text().splitlines():
            record = json.loads(line)
            if any(key in record for key in kept[2:]):
                records.append({key: round(record[key], 5) for key in kept if isinstance(record.get(key), int | float)})
        if data == "multi30k":
            records.append(model.evaluate(split="test", samples=200, budget=max(8.0, seconds / 8))["metrics"])
    return records


def shakespeare(device: torch.device, seconds: float) -> dict[str, Any]:
    """nanoGPT's setting for a GPU: 6 x 384, windows of 256."""
    shape = {"width": 384, "depth": 6, "heads": 6} if device.type == "cuda" else SMALL["autoregressive"]
    config = {"model": {**shape, "dropout": 0.2}, "training": {"batch_size": 64}}
    return {"curve": curve("autoregressive", "tinyshakespeare", device, seconds, config=config)}


def images(device: torch.device, seconds: float) -> dict[str, Any]:
    """Every family on colour sprites of 32 x 32."""
    return {name: curve(name, "sprites", device, seconds / len(SMALL)) for name in SMALL}


def translation(device: torch.device, seconds: float) -> dict[str, Any]:
    """English captions into German."""
    return {"curve": curve("autoregressive", "multi30k", device, seconds, condition="english")}


PARTS: dict[str, tuple[Callable[[torch.device, float], dict[str, Any]], float]] = {
    "checks": (checks, 0.15),
    "rates": (rates, 0.15),
    "shakespeare": (shakespeare, 0.25),
    "images": (images, 0.25),
    "translation": (translation, 0.2),
}
"""Each part, and its share of the minutes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json")
    args = parser.parse_args()
    device, asked = torch.device(args.device), args.parts.split(",")
    kept = json.loads(args.out.read_text()) if args.out.exists() else {}
    end, whole = time.perf_counter() + 57 * args.minutes, sum(PARTS[part][1] for part in asked)
    for part in asked:
        work, share = PARTS[part]
        began = time.perf_counter()
        try:
            found = work(device, (end - began) * share / whole)
        except Exception:
            found = {"failed": traceback.format_exc().splitlines()[-3:]}
        whole -= share
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU: only to try the script"
        kept[part] = {"found": found, "seconds": round(time.perf_counter() - began, 1), "device": name,
                      "machine": machine(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}  # fmt: skip
        args.out.write_text(json.dumps(kept, indent=1) + "\n")
        print(json.dumps({part: kept[part]["found"]}))


if __name__ == "__main__":
    main()
