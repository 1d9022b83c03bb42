"""An autoregressive Transformer of digits (Vaswani et al. 2017, arXiv:1706.03762; Radford et al. 2018).

    p(x) = p(x_1) p(x_2 | x_1) ... p(x_64 | x_1 ... x_63)

holds for every distribution. So an image is read as a sequence of 64 symbols, row by row, each one of 17 grey levels,
and a net learns to predict each from those before it, all 64 in one pass. The loss is the exact -log p(x).

`python examples/autoregressive.py` trains for about a minute on one core, and draws 100 new digits.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

PIXELS, LEVELS, WIDTH, HEADS, DEPTH = 64, 17, 64, 4, 3


def data():
    """(1797, 64) images of 8x8 pixels, each pixel a symbol 0 ... 16."""
    return torch.tensor(load_digits().data, dtype=torch.long)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.causal = True
        for last in (self.out, self.down):  # at first a block passes on what it reads
            nn.init.zeros_(last.weight)

    def forward(self, x):
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in self.qkv(self.norm_1(x)).chunk(3, -1))
        # softmax(q k^T / sqrt(d)) v, where causal means that position i gives no weight to any position j > i
        h = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        return x + self.down(F.relu(self.up(self.norm_2(x))))


class Autoregressive(nn.Module):
    def __init__(self):
        super().__init__()
        self.start = nn.Parameter(0.02 * torch.randn(WIDTH))  # what is read before the first symbol
        self.positions = nn.Parameter(0.02 * torch.randn(PIXELS, WIDTH))
        self.symbols = nn.Embedding(LEVELS, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, LEVELS)

    def forward(self, x):
        """The symbols so far (B, L), with L < 64, to logits (B, L + 1, 17) of the symbols 1 ... L + 1."""
        h = torch.cat([self.start.expand(len(x), 1, WIDTH), self.symbols(x)], dim=1)
        h = h + self.positions[: h.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def loss(model, x):
    """-log p(x) in nats per pixel, a mean over the batch x (B, 64)."""
    return F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x.flatten())


@torch.no_grad()
def sample(model, n):
    """n new images (n, 64), a symbol after the other."""
    x = torch.empty(n, 0, dtype=torch.long)
    for _ in range(PIXELS):
        p = model(x)[:, -1].softmax(-1)
        x = torch.cat([x, torch.multinomial(p, 1)], dim=1)
    return x


def train(model, x, steps=1000, batch=32, lr=3e-3):
    optimiser = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        value = loss(model, x[torch.randint(len(x), (batch,))])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5}  {value.item():.4f} nats per pixel")


if __name__ == "__main__":
    torch.manual_seed(0)
    model = Autoregressive()
    train(model, data(), *map(int, sys.argv[1:]))  # an argument is the number of steps
    ink = (sample(model, 100) / 16).clamp(0, 1).view(10, 10, 8, 8)
    grid = 255 - 255 * F.pad(ink, (1, 1, 1, 1)).transpose(1, 2).reshape(100, 100)  # 10 x 10 images
    Image.fromarray(np.uint8(grid)).resize((600, 600), Image.Resampling.NEAREST).save("autoregressive.png")
