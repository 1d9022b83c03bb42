"""Time to write 256 symbols with a character Transformer: quintet beside GPT-2 of transformers, in one run.

    python benchmarks/generation.py [--threads N] [--rounds N] [--batches 1,16,64]

Six layers of width 384 with six heads, 65 symbols, a window of 256, random weights, float32, temperature 1; else
quintet has its defaults for text. All keep keys and values, and fill a window from its start. GPT-2 runs in two
settings: as `generate` comes, and with a static cache and its forward pass compiled (warmed up before it is timed).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from race import OURS, Work, arguments, keep, present, race, shake

from quintet.core.spaces import Discrete
from quintet.families.autoregressive import Autoregressive
from quintet.runs.recipes import recipe

DEPTH, WIDTH, HEADS, BLOCK, VOCAB = 6, 384, 6, 256, 65


def writing(batch: int, draw: Callable[[], torch.Tensor]) -> Work:
    """Windows of a `batch`, checked to be symbols."""

    def work() -> None:
        with torch.no_grad():
            x = draw()
        if tuple(x.shape) != (batch, BLOCK) or not bool(((x >= 0) & (x < VOCAB)).all()):
            raise RuntimeError(f"bad symbols of shape {tuple(x.shape)}")

    return work


def ours(batch: int) -> Work:
    text = recipe("autoregressive", "text")["model"]
    settings = Autoregressive.Settings(**{**text, "width": WIDTH, "depth": DEPTH, "heads": HEADS})
    family = Autoregressive(Discrete((BLOCK,), VOCAB), None, settings).eval()
    shake(family)
    return writing(batch, lambda: family.sample(batch))


def gpt2(batch: int, compiled: bool) -> Work:
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = GPT2Config(vocab_size=VOCAB, n_positions=BLOCK, n_embd=WIDTH, n_layer=DEPTH, n_head=HEADS,
                        bos_token_id=None, eos_token_id=None)  # fmt: skip
    model: Any = GPT2LMHeadModel(config).eval()
    choice = {"do_sample": True, "top_k": 0, "temperature": 1.0, "pad_token_id": 0}
    if compiled:
        model.forward = torch.compile(model.forward, dynamic=False)
        choice["cache_implementation"] = "static"
    start = torch.zeros(batch, 1, dtype=torch.long)
    seen = torch.ones_like(start)
    return writing(batch, lambda: model.generate(start, attention_mask=seen, max_new_tokens=BLOCK - 1, **choice))


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--batches", default="1,16,64")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = []
    for batch in map(int, args.batches.split(",")):
        works = present({
            OURS: lambda: ours(batch),  # noqa: B023  (called at once)
            "GPT-2": lambda: gpt2(batch, compiled=False),  # noqa: B023
            "GPT-2, static cache, compiled": lambda: gpt2(batch, compiled=True),  # noqa: B023
        })  # fmt: skip
        rows.append({"case": f"batch {batch}", **race(works, args.rounds)})
    keep("generation", f"Writing {BLOCK} symbols with a GPT of {DEPTH} x {WIDTH}", rows, ["transformers"],
         threads=args.threads)  # fmt: skip


if __name__ == "__main__":
    main()
