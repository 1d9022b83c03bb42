"""An encoder-decoder of 3 + 3 layers of width 256: quintet beside a plain torch.nn.Transformer, in one run.

    python benchmarks/encoder_decoder.py [--threads N] [--rounds N]

Pairs of texts of 8 to 32 of 4,000 symbols, 64 to a batch, no dropout, random weights. A step of training is the loss on
the symbols that are text, its gradient and an update by fused AdamW; the peer is told what is padding. Greedy writing
is the likeliest symbol, 32 times: the peer encodes once and, since it keeps no keys and values, reads its prefix again
for every symbol. quintet has its defaults for a text given a text.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from race import OURS, Work, arguments, keep, race, shake
from torch import Tensor, nn

DEPTH, WIDTH, HEADS, LENGTH, SHORTEST, BATCH, VOCAB = 3, 256, 4, 32, 8, 64, 4000
END = VOCAB - 1


class Plain(nn.Module):
    """Embeddings with learnt positions, torch.nn.Transformer, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        self.net = nn.Transformer(WIDTH, HEADS, DEPTH, DEPTH, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(WIDTH, VOCAB)

    def embedded(self, x: Tensor) -> Tensor:
        out: Tensor = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        return out

    def decode(self, x: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        out: Tensor = self.net.decoder(
            self.embedded(x), memory, tgt_mask=mask, memory_key_padding_mask=padding.float() * -1e9, tgt_is_causal=True
        )
        return out

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        padding = behind(source)
        memory: Tensor = self.net.encoder(self.embedded(source), src_key_padding_mask=padding.float() * -1e9)
        return memory, padding

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        shifted = F.pad(target[:, :-1], (1, 0), value=END)
        wanted = target.masked_fill(behind(target), -100)
        return F.cross_entropy(self.head(self.decode(shifted, *self.encode(source))).flatten(0, 1), wanted.flatten())

    @torch.no_grad()
    def greedy(self, source: Tensor) -> Tensor:
        memory, padding = self.encode(source)
        x = torch.full((len(source), 1), END)
        for _ in range(LENGTH):
            x = torch.cat([x, self.head(self.decode(x, memory, padding)[:, -1]).argmax(-1, keepdim=True)], 1)
        return x[:, 1:]


def behind(x: Tensor) -> Tensor:
    """Where a text is over, behind its end symbol (B, L)."""
    return (x == END).cumsum(1) > 1


def texts() -> Tensor:
    """Symbols, then ends; the lengths from SHORTEST to LENGTH."""
    lengths = torch.randint(SHORTEST, LENGTH, (BATCH, 1))
    return torch.where(torch.arange(LENGTH) < lengths, torch.randint(VOCAB - 1, (BATCH, LENGTH)), END)


def stepping(module: nn.Module, loss: Any) -> Work:
    optimiser = torch.optim.AdamW(module.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def quintets() -> Any:
    from quintet.core.spaces import Discrete
    from quintet.families.autoregressive import Autoregressive
    from quintet.runs.recipes import recipe

    chosen = recipe("autoregressive", "pair")["model"]
    settings = Autoregressive.Settings(
        **{**chosen, "width": WIDTH, "depth": DEPTH, "encoder_depth": DEPTH, "heads": HEADS, "dropout": 0.0}
    )
    space = Discrete((LENGTH,), VOCAB, pad=END)
    return Autoregressive(space, space, settings)


def main() -> None:
    from quintet.core.family import Batch

    args = arguments(__doc__, rounds=7).parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    source, target = texts(), texts()
    ours, plain = shake(quintets()), shake(Plain())
    steps = {
        OURS: stepping(ours, lambda: ours.loss(Batch(target, source)).value),
        "torch.nn.Transformer": stepping(plain, lambda: plain.loss(source, target)),
    }
    rows = [{"case": f"training step, batch {BATCH}", **race(steps, args.rounds)}]
    ours, plain = shake(quintets()).eval(), shake(Plain()).eval()
    likeliest = ours.Sampling(temperature=0.0)
    writing = {
        OURS: lambda: ours.sample(BATCH, source, sampling=likeliest),
        "torch.nn.Transformer": lambda: plain.greedy(source),
    }
    ended = sum(float(behind(write()).float().mean()) for write in writing.values())
    if ended > 0.05:
        raise RuntimeError("the untrained models end their texts early, so that they do not do the same work")
    rows.append({"case": f"{LENGTH} symbols greedily, batch {BATCH}", **race(writing, args.rounds)})
    keep("encoder_decoder", f"Encoder-decoder of {DEPTH} + {DEPTH} layers of width {WIDTH}", rows, [],
         threads=args.threads)  # fmt: skip


if __name__ == "__main__":
    main()
