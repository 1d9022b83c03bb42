"""Tokens a second of training a character Transformer: quintet beside nanoGPT, in one run.

    python benchmarks/gpt_step.py --nanogpt PATH/model.py [--threads N] [--rounds N] [--bf16]

Six layers of width 384 with six heads, windows of 256, batch 16, 65 symbols, no dropout, random weights. A step is the
loss, its gradient and an update by fused AdamW. nanoGPT (github.com/karpathy/nanoGPT) is not a package: its file
model.py is read from where it lies. With --bf16 both compute in bfloat16, which only some processors do in hardware.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from race import OURS, Work, arguments, keep, present, race, shake
from torch import Tensor, nn

DEPTH, WIDTH, HEADS, BLOCK, BATCH, VOCAB = 6, 384, 6, 256, 16, 65


def stepping(module: nn.Module, loss: Any, bf16: bool) -> Work:
    optimiser = torch.optim.AdamW(shake(module).parameters(), 1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        optimiser.step()

    return step


def quintets(tokens: Tensor, bf16: bool) -> Work:
    from quintet.core.family import Batch
    from quintet.core.spaces import Discrete
    from quintet.families.autoregressive import Autoregressive
    from quintet.runs.recipes import recipe

    text = recipe("autoregressive", "text")["model"]
    settings = Autoregressive.Settings(**{**text, "width": WIDTH, "depth": DEPTH, "heads": HEADS, "dropout": 0.0})
    family = Autoregressive(Discrete((BLOCK,), VOCAB), None, settings)
    return stepping(family, lambda: family.loss(Batch(tokens, None)).value, bf16)


def nanogpt(path: Path, tokens: Tensor, bf16: bool) -> Work:
    spec = importlib.util.spec_from_file_location("nanogpt", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"{path} is not nanoGPT's model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt"] = module
    spec.loader.exec_module(module)
    with redirect_stdout(sys.stderr):
        config = module.GPTConfig(BLOCK, VOCAB, DEPTH, HEADS, WIDTH, dropout=0.0, bias=False)
        model = module.GPT(config)
    inputs, targets = tokens.roll(1, 1), tokens
    return stepping(model, lambda: model(inputs, targets)[1], bf16)


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--nanogpt", type=Path, default=Path("model.py"), help="model.py of nanoGPT's repository")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    tokens = torch.randint(VOCAB, (BATCH, BLOCK))
    makers = {OURS: lambda: quintets(tokens, args.bf16), "nanoGPT": lambda: nanogpt(args.nanogpt, tokens, args.bf16)}
    precision = "bfloat16" if args.bf16 else "float32"
    row = {"case": f"batch {BATCH} x {BLOCK}, {precision}", **race(present(makers), args.rounds)}
    keep("gpt_step_bf16" if args.bf16 else "gpt_step", f"Training step of a GPT of {DEPTH} x {WIDTH}", [row], [],
         threads=args.threads)  # fmt: skip


if __name__ == "__main__":
    main()
