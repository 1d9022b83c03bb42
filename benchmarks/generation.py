"""Tokens a second of a character Transformer: quintet, GPT-2 of transformers, and nanoGPT in one run.

    python benchmarks/generation.py [--threads N] [--repeats N] [--batches 1,16] [--nanogpt PATH/model.py]

Six layers of width 384 with six heads, 65 symbols, a window of 256, random weights, float32, temperature 1; else
quintet has its defaults for text. It and GPT-2 keep keys and values, and fill a window from its start. nanoGPT reads
the whole prefix again for every token: it is timed on a few tokens in the middle of the window, where a token costs the
mean over the window. Repeats are interleaved, and medians compared. Prints a Markdown table, and one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quintet.core.spaces import Discrete
from quintet.families.autoregressive import Autoregressive
from quintet.runs.recipes import recipe

DEPTH, WIDTH, HEADS, BLOCK, VOCAB = 6, 384, 6, 256, 65
FEW = 8
"""Tokens that nanoGPT is timed on."""

Draw = Callable[[int], torch.Tensor]
"""batch -> (batch, new tokens)"""


def ours() -> Draw:
    text = recipe("autoregressive", "text")["model"]
    settings = Autoregressive.Settings(**{**text, "width": WIDTH, "depth": DEPTH, "heads": HEADS})
    family = Autoregressive(Discrete((BLOCK,), VOCAB), None, settings).eval()
    shake(family)
    return lambda batch: family.sample(batch)[:, 1:]


def gpt2() -> Draw:
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = GPT2Config(vocab_size=VOCAB, n_positions=BLOCK, n_embd=WIDTH, n_layer=DEPTH, n_head=HEADS,
                        bos_token_id=None, eos_token_id=None)  # fmt: skip
    model: Any = GPT2LMHeadModel(config).eval()
    choice = {"do_sample": True, "top_k": 0, "temperature": 1.0, "pad_token_id": 0}

    def draw(batch: int) -> torch.Tensor:
        start = torch.zeros(batch, 1, dtype=torch.long)
        out = model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=BLOCK - 1, **choice)
        return out[:, 1:]

    return draw


def nanogpt(path: Path) -> Draw:
    spec = importlib.util.spec_from_file_location("nanogpt", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt"] = module
    spec.loader.exec_module(module)
    with redirect_stdout(sys.stderr):
        model = module.GPT(module.GPTConfig(BLOCK, VOCAB, DEPTH, HEADS, WIDTH)).eval()
    half = (BLOCK - FEW) // 2
    return lambda batch: model.generate(torch.zeros(batch, half, dtype=torch.long), FEW)[:, half:]


def shake(module: nn.Module) -> None:
    """Move the weights off zero, so that no shortcut of zeros is timed."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.02 * torch.randn_like(p))


@torch.no_grad()
def rate(draw: Draw, batch: int) -> float:
    """New tokens a second."""
    start = time.perf_counter()
    x = draw(batch)
    elapsed = time.perf_counter() - start
    if len(x) != batch or not bool(((x >= 0) & (x < VOCAB)).all()):
        raise RuntimeError(f"bad tokens of shape {tuple(x.shape)}")
    return x.numel() / elapsed


def built(path: Path | None) -> dict[str, Draw]:
    """Who is there, and a line on standard error for who is not."""
    found = {"quintet": ours()}
    try:
        found["transformers GPT-2"] = gpt2()
    except ImportError:
        print("transformers is not installed: left out", file=sys.stderr)
    if path is not None and path.is_file():
        found["nanoGPT"] = nanogpt(path)
    else:
        print("nanoGPT left out: give --nanogpt PATH/model.py of its repository", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--nanogpt", type=Path, help="model.py of nanoGPT's repository")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    peers, batches = built(args.nanogpt), [int(batch) for batch in args.batches.split(",")]
    median: dict[int, dict[str, float]] = {}
    for batch in batches:
        rates: dict[str, list[float]] = {name: [] for name in peers}
        for repeat in range(args.repeats + 1):
            for name, draw in peers.items():
                found = rate(draw, batch)
                if repeat:  # the first is a warm-up
                    rates[name].append(found)
        median[batch] = {name: statistics.median(values) for name, values in rates.items()}
    print("| batch | " + " | ".join(f"{name}, tokens/s" for name in peers) + " | quintet is faster by |")
    print("| --- " * (len(peers) + 2) + "|")
    for batch, found in median.items():
        ratios = " and ".join(f"{found['quintet'] / found[name]:.2f}" for name in peers if name != "quintet")
        print(f"| {batch} | " + " | ".join(f"{found[name]:,.0f}" for name in peers) + f" | {ratios or '-'} |")
    facts = {
        "benchmark": f"generate with {DEPTH} layers x {WIDTH}, window {BLOCK}",
        "tokens_per_second": {str(batch): {name: round(v, 1) for name, v in found.items()}
                              for batch, found in median.items()},
        "threads": args.threads,
        "load": round(os.getloadavg()[0], 1),
        "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")
                     if importlib.util.find_spec(name)},
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
