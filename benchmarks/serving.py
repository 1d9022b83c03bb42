"""Requests at once: tokens a second of a text model for 16 clients, and of a table and an image model rows a second.

    python benchmarks/serving.py [--rounds N] [--clients N]

The same GPT (6 layers, 384 wide, 6 heads, bytes, windows of 256) answers 16 clients, each of which asks for 64 new
tokens: by continuous batching; one request after another; and, if it is installed, by `generate` of transformers behind
a lock, as a route of FastAPI around it would do. What a batcher adds to a single request is the difference between a
request through it and the same work without it, in seconds of the processor, which other work on the machine leaves
alone. Rounds are interleaved, so that a change in the machine's load meets all alike, and medians compared. One thread
a model. Weights are random: time does not depend on what was learnt. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from quintet.core.codec import Codec
from quintet.core.family import Batch, Family
from quintet.model.batching import Batcher
from quintet.model.fitted import Fitted
from quintet.model.writing import Wanted, Writer
from quintet.nets.continuing import Continuation, Continuations
from quintet.registry import codec_class, family_class
from quintet.runs.config import resolve
from quintet.runs.folder import Run

TOKENS, BLOCK, PROMPT = 64, 256, "It was a bright cold day in April"
GPT = {"width": 384, "depth": 6, "heads": 6}
Ask = Callable[[int], Any]
"""What client i does."""
Clock = Callable[[], float]


def shaken(module: nn.Module) -> nn.Module:
    """Weights off zero, so that no shortcut of zeros is timed."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return module.eval()


def fitted(family: str, kind: str, items: Any, face: str, coding: dict[str, Any], model: dict[str, Any]) -> Fitted:
    cls, codec_type = family_class(family), codec_class(kind)
    codec: Codec = codec_type(face, codec_type.Settings(**coding)).fit(items)
    torch.manual_seed(0)
    net: Family = cls(codec.space, None, cls.Settings(**model))
    net.initialise(Batch(codec.encode(items), None, torch.Generator().manual_seed(0)))
    config = resolve({"family": family, "data": {"source": "-"}, "codec": kind, "model": model}, kind)
    return Fitted(Run(Path("benchmark")), shaken(net), {"x": codec}, config)  # type: ignore[arg-type]


def texts() -> Fitted:
    every = "".join(chr(i) for i in range(32, 127)) * 20
    coding = {"block": BLOCK, "tokens": "bytes", "items": "stream"}
    return fitted("autoregressive", "text", [every], "discrete", coding, {**GPT, "positions": "rotary"})


def table() -> Fitted:
    rng = np.random.default_rng(0)
    rows = pa.table({name: rng.standard_normal(500) for name in "abcdefgh"} | {"k": rng.choice(list("xyz"), 500)})
    return fitted("diffusion", "table", rows, "continuous", {}, {})


def images() -> Fitted:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1)).astype(np.uint8)
    return fitted("diffusion", "image", pixels, "continuous", {}, {"width": 16})


def theirs() -> Ask:
    """GPT-2 of transformers of that size, a request at a time."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": GPT["depth"], "n_embd": GPT["width"], "n_head": GPT["heads"], "n_positions": BLOCK}
    ends = {"vocab_size": 257, "bos_token_id": 256, "eos_token_id": None}
    model, lock = GPT2LMHeadModel(GPT2Config(**sizes, **ends)).eval(), threading.Lock()
    prompt = torch.tensor([list(PROMPT.encode())])

    def ask(i: int) -> Any:
        with lock, torch.inference_mode():
            out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=True, top_k=0,
                                 max_new_tokens=TOKENS, pad_token_id=256)  # fmt: skip
        assert out.shape[1] == prompt.shape[1] + TOKENS
        return out

    return ask


def written(model: Fitted, i: int) -> list[str]:
    return Writer(model, Wanted([PROMPT], length=TOKENS, seed=i)).write()


class Kept:
    """The engine of a model that is asked by one thread alone, with all that a batcher keeps between requests."""

    def __init__(self, model: Fitted) -> None:
        self.rows = model.engine.rows
        self.running = Continuations(model.family)  # type: ignore[arg-type]

    def written(self, texts: Sequence[Continuation], most: int, *, steps: bool = True) -> Iterator[None]:
        for text in texts:
            self.running.join(text)
        while self.running.texts:
            self.running.step()
            yield


def behind_a_lock(ask: Ask) -> Ask:
    lock = threading.Lock()

    def one(i: int) -> Any:
        with lock:
            return ask(i)

    return one


def seconds(ask: Ask, clients: int, clock: Clock) -> float:
    """How long it takes until all clients have their answer, who ask at once."""
    with ThreadPoolExecutor(clients) as pool:
        start = clock()
        list(pool.map(ask, range(clients)))
        return clock() - start


def interleaved(asks: dict[str, Ask], clients: int, rounds: int, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Median seconds of each, whose runs take turns."""
    times: dict[str, list[float]] = {name: [] for name in asks}
    for ask in asks.values():
        ask(0)  # warm-up
    for _ in range(rounds):
        for name, ask in asks.items():
            times[name].append(seconds(ask, clients, clock))
    return {name: statistics.median(values) for name, values in times.items()}


def sampled(model: Fitted, clients: int, rounds: int, n: int, steps: int) -> dict[str, float]:
    """Clients that sample n rows each: together, and one after another."""
    ask = lambda one, i: one.draw(n, seed=i, sampling={"steps": steps})  # noqa: E731
    batcher = Batcher(model)
    asks: dict[str, Ask] = {"batched": lambda i: ask(batcher.client().model, i),
                            "one by one": behind_a_lock(lambda i: ask(model, i))}  # fmt: skip
    found = interleaved(asks, clients, rounds)
    batcher.close()
    return {**{f"{name} ms": round(1000 * value, 1) for name, value in found.items()},
            "ratio": round(found["one by one"] / found["batched"], 2)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    gpt, versions = texts(), ["torch"]
    batcher, kept = Batcher(gpt), gpt.through(Kept(gpt))
    asks: dict[str, Ask] = {"batched": lambda i: written(batcher.client().model, i),
                            "one by one": behind_a_lock(lambda i: written(kept, i))}  # fmt: skip
    try:
        asks["transformers"] = theirs()
        versions.append("transformers")
    except ImportError:
        pass
    assert asks["batched"](3) == asks["one by one"](3)
    found = interleaved(asks, args.clients, args.rounds)
    single = interleaved({"through": asks["batched"], "alone": asks["one by one"]}, 1, 4 * args.rounds,
                         time.process_time)  # fmt: skip
    batcher.close()
    print(
        json.dumps(
            {
                "benchmark": f"{args.clients} clients, {TOKENS} new tokens each, GPT {GPT}; rows of diffusion models",
                "tokens a second": {n: round(args.clients * TOKENS / value) for n, value in found.items()},
                "ratio": {name: round(value / found["batched"], 2) for name, value in found.items()},
                "one request, ms of the processor": {name: round(1000 * value, 1) for name, value in single.items()},
                "added to one request, ms of the processor": round(1000 * (single["through"] - single["alone"]), 2),
                "table": sampled(table(), args.clients, args.rounds, 16, 20),
                "image": sampled(images(), args.clients, args.rounds, 1, 20),
                "rounds": args.rounds,
                "threads": 1,
                "load": round(os.getloadavg()[0], 1),
                "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
                "versions": {name: importlib.metadata.version(name) for name in versions},
                "date": datetime.date.today().isoformat(),
            }
        )
    )


if __name__ == "__main__":
    main()
