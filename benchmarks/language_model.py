"""A small model of text against nanoGPT, in one run, on as many threads.

    python benchmarks/language_model.py --nanogpt PATH [--seeds 1] [--shares 0.2 0.333 1] [--threads 1]
    python benchmarks/language_model.py --nanogpt PATH --speed [--repeats 10]

PATH is a checkout of github.com/karpathy/nanoGPT, of which model.py is used. Its loop is that of its README for a CPU:
4 layers, 4 heads, width 128, 64 characters, batch 12, 2,000 steps, no dropout, learning rate 1e-3 falling to 1e-4 in a
cosine after 100 steps, beta2 0.99, decay 0.1, clipped at 1, float32; every 250 steps it evaluates 20 batches of both
splits.

Ours is `quintet train autoregressive --data tinyshakespeare --budget SECONDS` with all defaults, once for every share
of the time that nanoGPT took just before, less what reading the text and writing the run take. The loss is the mean of
-log p over the whole validation split (the last tenth), in nats a character: in windows as long as training's (ours
begin with nothing known, nanoGPT's with one character); in such windows that overlap by half, of which only the second
half counts, so that at least half a window is known; and in windows of 64 side by side.

`--speed`: tokens a second of training at 6 layers, 6 heads, width 384, windows of 256, batch 16, step by step in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quintet
from quintet.core.spaces import Discrete
from quintet.data.loader import Loader
from quintet.families.autoregressive import Autoregressive
from quintet.runs.recipes import recipe
from quintet.sources.load import load_source
from quintet.training.engine import Engine, has_bf16
from quintet.training.settings import TrainingSettings
from quintet.training.trainer import Trainer

STEPS, WARMUP, LR, LAST_LR = 2000, 100, 1e-3, 1e-4
BATCH, BLOCK = 12, 64


@dataclass(frozen=True)
class Row:
    """One trained model: seconds by the clock and of the processor; nats a character in windows side by side, in
    windows that overlap, and in windows of 64."""

    name: str
    wall: float
    cpu: float
    steps: int
    parameters: int
    loss: float
    overlapping: float
    loss_64: float


@contextlib.contextmanager
def clocks() -> Iterator[list[float]]:
    """Fills [wall, cpu] seconds."""
    spent: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield spent
    spent += [time.perf_counter() - wall, time.process_time() - cpu]


@torch.no_grad()
def overlapping(nats: Callable[[Tensor], Tensor], text: Tensor, size: int) -> float:
    """Mean of the last size // 2 nats (B, ...) of windows (B, size) of `text` that begin every size // 2."""
    half = size // 2
    return torch.cat([nats(part)[:, -half:] for part in text.unfold(0, size, half).split(64)]).mean().item()


# -- nanoGPT ---------------------------------------------------------------------------------------------------------


def peer(path: Path, **sizes: int) -> Any:
    """nanoGPT's model, and its optimiser by its own rule."""
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    from model import GPT, GPTConfig

    with contextlib.redirect_stdout(io.StringIO()):
        model = GPT(GPTConfig(dropout=0.0, bias=False, **sizes))
        return model, model.configure_optimizers(0.1, LR, (0.9, 0.99), "cpu")


def rate(step: int) -> float:
    """Linear warm-up, then a cosine from LR to LAST_LR."""
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / (STEPS - WARMUP)
    return LAST_LR + 0.5 * (1 + math.cos(math.pi * share)) * (LR - LAST_LR)


def peer_step(model: nn.Module, optimiser: Any, x: Tensor, y: Tensor, *, bf16: bool = False) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = model(x, y)[1]
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def train_peer(path: Path, train: Tensor, held: Tensor, symbols: int, seed: int) -> Row:
    torch.manual_seed(seed)
    model, optimiser = peer(path, n_layer=4, n_head=4, n_embd=128, block_size=BLOCK, vocab_size=symbols)

    def batch(data: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.stack([data[i : i + BLOCK + 1] for i in torch.randint(len(data) - BLOCK, (BATCH,)).tolist()])
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    with clocks() as spent:
        for step in range(STEPS):
            if step % 250 == 0:
                with torch.no_grad():
                    for data in [train] * 20 + [held] * 20:
                        model(*batch(data))
            for group in optimiser.param_groups:
                group["lr"] = rate(step)
            peer_step(model, optimiser, *batch(train))
    count = (len(held) - 1) // BLOCK
    x, y = (held[at : at + count * BLOCK].view(count, BLOCK) for at in (0, 1))
    with torch.no_grad():
        parts = [float(model(a, b)[1]) * len(a) for a, b in zip(x.split(64), y.split(64), strict=True)]
    loss = sum(parts) / count

    def nats(rows: Tensor) -> Tensor:
        x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        return F.cross_entropy(model(x, y)[0].mT, y, reduction="none")

    sliding = overlapping(nats, held, BLOCK + 1)
    return Row("nanoGPT", *spent, STEPS, sum(p.numel() for p in model.parameters()), loss, sliding, loss)


# -- ours ------------------------------------------------------------------------------------------------------------


def preparation() -> float:
    """Seconds of a run of one step that are not training: reading the text, fitting codec and features, writing."""
    with tempfile.TemporaryDirectory() as folder, clocks() as spent:
        model = quintet.train("autoregressive", data="tinyshakespeare", steps=1, runs=folder)
        trained = max(record["seconds"] for record in model.run.metrics())
    return spent[0] - trained


def train_ours(text: str, seconds: float, share: float, seed: int) -> Row:
    """Ours in `share` of the peer's seconds, all included."""
    budget = seconds * share - preparation()
    with tempfile.TemporaryDirectory() as folder:
        with clocks() as spent:
            model = quintet.train("autoregressive", data="tinyshakespeare", budget=budget, seed=seed, runs=folder)
        family, windows = model.family.eval(), model.codecs["x"].encode(text)
        steps = model.config.steps or 0
    short = windows.flatten()[: windows.numel() // BLOCK * BLOCK].view(-1, BLOCK)
    with torch.no_grad():
        long, of_64 = (-torch.cat([family.log_prob(part) for part in x.split(64)]).sum().item() / x.numel()
                       for x in (windows, short))  # fmt: skip
    sliding = overlapping(lambda x: family.nats(x, family.given(None, len(x))), windows.flatten(), windows.shape[1])
    size = sum(p.numel() for p in family.parameters())
    return Row(f"ours, {share:.3g} of its time", *spent, steps, size, long, sliding, of_64)


def quality(options: argparse.Namespace) -> None:
    preparation()  # the first pays for imports
    source = load_source("tinyshakespeare")
    texts = ["".join(source.rows(split)) for split in ("train", "validation")]
    alphabet = sorted(set("".join(texts)))
    train, held = (torch.tensor([alphabet.index(c) for c in text]) for text in texts)
    print("| model | seed | seconds | of the peer's | processor | steps | parameters | nats | overlapping | of 64 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for seed in range(options.seeds):
        first = train_peer(options.nanogpt, train, held, len(alphabet), seed)
        rows = (train_ours(texts[1], first.wall, share, seed) for share in options.shares)
        for row in chain([first], rows):  # printed as they come
            times = f"{row.wall:.1f} | {row.wall / first.wall:.3f} | {row.cpu:.1f} | {row.steps}"
            losses = f"{row.loss:.4f} | {row.overlapping:.4f} | {row.loss_64:.4f}"
            print(f"| {row.name} | {seed} | {times} | {row.parameters} | {losses} |", flush=True)


# -- speed -----------------------------------------------------------------------------------------------------------


def our_step(symbols: int, batch: int, block: int, *, precision: str, optimiser: str) -> Callable[[], object]:
    text = recipe("autoregressive", "text")["model"]
    settings = Autoregressive.Settings(**{**text, "width": 384, "depth": 6, "heads": 6})
    family = Autoregressive(Discrete((block,), symbols), None, settings).train()
    training = TrainingSettings(batch_size=batch, precision=precision, optimiser=optimiser)
    x = torch.randint(symbols, (64, block))
    loader = Loader(family.space, x, None, seed=0)
    return Trainer(family, loader, training, seed=0, steps=1000, engine=Engine("cpu")).update


def speed(options: argparse.Namespace) -> None:
    symbols, batch, block = 65, options.batch, 256
    kinds = ("fp32", "bf16") if has_bf16(torch.device("cpu")) or options.bf16 else ("fp32",)
    if len(kinds) == 1:
        print("This processor has no bf16: only float32 is measured (--bf16 measures it all the same).")
    steps: dict[str, Callable[[], object]] = {}
    for kind in kinds:
        model, theirs = peer(options.nanogpt, n_layer=6, n_head=6, n_embd=384, block_size=block, vocab_size=symbols)
        rows = torch.randint(symbols, (batch, block + 1))
        x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        steps[f"nanoGPT {kind}"] = lambda m=model, o=theirs, x=x, y=y, b=kind == "bf16": peer_step(m, o, x, y, bf16=b)
        for optimiser in ("adamw", "muon"):
            steps[f"ours {kind} {optimiser}"] = our_step(symbols, batch, block, precision=kind, optimiser=optimiser)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if turn:  # the first pays for allocations
                times[name].append(time.perf_counter() - began)
    per_second = {name: batch * block / statistics.median(each) for name, each in times.items()}
    print("| training step | tokens a second | of nanoGPT fp32 |\n| --- | --- | --- |")
    for name, tokens in per_second.items():
        print(f"| {name} | {tokens:.0f} | {tokens / per_second['nanoGPT fp32']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 1 / 3, 1.0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16, help="of --speed")
    parser.add_argument("--bf16", action="store_true", help="even where the processor has to emulate it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    (speed if options.speed else quality)(options)


if __name__ == "__main__":
    main()
