"""A normalising flow of digits (Dinh et al. 2017, arXiv:1605.08803), in pure PyTorch.

An invertible map f carries images to standard normal noise. By the change of variables, images then have the density

    log p(x) = log N(f(x); 0, 1) + log |det df/dx|

f is a chain of affine couplings. Each leaves half of the numbers as they are, and scales and shifts the others by what
a net reads in the first half. It can be undone whatever the net, and log |det| is a sum, as its Jacobian is triangular.
`python examples/flow.py` trains for less than a minute on one core, and draws 100 new digits into flow.png.
"""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

PIXELS, HALF, WIDTH, LAYERS = 64, 32, 256, 8
BIN = 2 / 16  # distance of neighbouring grey levels


def data():
    """(1797, 64) images of 8x8 pixels with 17 grey levels from -1 to 1."""
    return torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1


class Coupling(nn.Module):
    """(a, b) -> (a, (b - mean(a)) / std(a)) after a shuffle."""

    def __init__(self):
        super().__init__()
        self.register_buffer("index", torch.randperm(PIXELS))
        self.enter, self.middle, self.leave = nn.Linear(HALF, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 64)
        nn.init.zeros_(self.leave.weight)  # at first b is divided and shifted by nearly the same for all images

    def net(self, a):
        h = self.enter(a)
        mean, log_std = self.leave(F.silu(h + self.middle(F.silu(h)))).chunk(2, dim=1)
        return mean, 3 * torch.tanh(log_std / 3)  # no number is scaled by more than e^3

    def forward(self, x):
        """z (B, 64), and log |det dz/dx| (B,)."""
        a, b = x[:, self.index].chunk(2, dim=1)
        mean, log_std = self.net(a)
        return torch.cat([a, (b - mean) * torch.exp(-log_std)], dim=1), -log_std.sum(1)

    def inverse(self, z):
        a, b = z.chunk(2, dim=1)
        mean, log_std = self.net(a)
        return torch.cat([a, b * log_std.exp() + mean], dim=1)[:, self.index.argsort()]


class Flow(nn.ModuleList):
    """A chain of couplings: the determinant of a chain is the product of the determinants."""

    def forward(self, x):
        z, log_det = x, 0
        for coupling in self:
            z, more = coupling(z)
            log_det = log_det + more
        return z, log_det

    def inverse(self, z):
        for coupling in reversed(self):
            z = coupling.inverse(z)
        return z


def loss(model, x):
    """-log p(x) in nats per pixel, a mean over the batch x (B, 64)."""
    z, log_det = model(x)
    return -(log_det - 0.5 * (z**2 + math.log(2 * math.pi)).sum(1)).mean() / PIXELS


def train(model, x, steps=1500, batch=128, lr=1e-3):
    """Levels become real numbers by uniform noise: without it p(x) could grow without end at the 17 levels."""
    optimiser = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.1)
    for _ in range(steps):
        rows = torch.randint(len(x), (batch,))
        value = loss(model, x[rows] + (torch.rand(batch, PIXELS) - 0.5) * BIN)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    print(f"{value.item():.4f} nats per pixel")


if __name__ == "__main__":
    torch.manual_seed(0)
    model = Flow(Coupling() for _ in range(LAYERS))
    train(model, data(), *map(int, sys.argv[1:]))  # an argument is the number of steps
    with torch.no_grad():
        images = model.inverse(torch.randn(100, PIXELS))
    ink = ((images + 1) / 2).clamp(0, 1).view(10, 10, 8, 8)
    grid = 255 - 255 * F.pad(ink, (1, 1, 1, 1)).transpose(1, 2).reshape(100, 100)  # 10 x 10 images
    Image.fromarray(np.uint8(grid)).resize((600, 600), Image.Resampling.NEAREST).save("flow.png")
