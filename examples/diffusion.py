"""A diffusion model of digits (DDPM, Ho et al. 2020, arXiv:2006.11239), in pure PyTorch.

Noise is added to an image, x_t = alpha x + sigma noise with alpha^2 + sigma^2 = 1, from sigma = 0 until hardly anything
but noise is left. A net F learns to tell the noise, by the loss E |F(x_t) - noise|^2. Backwards, from pure noise, it
then takes it away bit by bit. Here s = sigma / alpha says how much noise there is, and y = x_t / alpha = x + s noise.

`python examples/diffusion.py` trains for about a minute on one core, and draws 100 new digits into diffusion.png.
"""

import itertools
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

PIXELS, WIDTH, EMB, DEPTH = 64, 256, 128, 3
MEAN, STD = 4.88, 6.02  # of all pixels, which are 0 ... 16


def data():
    """(1797, 64) images of 8x8 pixels with zero mean and standard deviation 1/2."""
    return (torch.tensor(load_digits().data, dtype=torch.float32) - MEAN) / STD / 2


class Block(nn.Module):
    """Two layers beside a shortcut; the noise level, as a vector e, scales and shifts what is between them."""

    def __init__(self):
        super().__init__()
        self.norm, self.modulation = nn.RMSNorm(WIDTH), nn.Linear(EMB, 2 * WIDTH)
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, h, e):
        scale, shift = self.modulation(e).chunk(2, dim=1)
        return h + self.down(F.silu(self.up(self.norm(h)) * (1 + scale) + shift))


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(EMB, EMB), nn.SiLU(), nn.Linear(EMB, EMB), nn.SiLU())
        self.enter, self.blocks = nn.Linear(PIXELS, WIDTH), nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm, self.modulation, self.leave = nn.RMSNorm(WIDTH), nn.Linear(EMB, 2 * WIDTH), nn.Linear(WIDTH, PIXELS)

    def forward(self, x_t, s):
        """x_t (B, 64) and its noise levels s (B,) to the noise in it (B, 64)."""
        angle = s.log()[:, None] / 4 * torch.logspace(-1, math.log10(32), EMB // 2)  # frequencies from 0.1 to 32
        e = self.time(torch.cat([angle.cos(), angle.sin()], dim=1))
        h = self.enter(x_t)
        for block in self.blocks:
            h = block(h, e)
        scale, shift = self.modulation(e).chunk(2, dim=1)
        return self.leave(F.silu(self.norm(h) * (1 + scale) + shift))


def level(t):
    """s for t from 0 to 1: dx = -beta x / 2 dt + sqrt(beta) dw with beta from 0.1 to 20 makes alpha^2 = e^-integral."""
    return torch.expm1(0.1 * t + 0.5 * 19.9 * t**2).sqrt().clamp(0.002, 80)


def loss(model, x, t, noise):
    """E |F(x_t) - noise|^2; t (B,) is uniform on [0, 1], and noise (B, 64) standard normal."""
    s = level(t)[:, None]
    return (model((x + s * noise) / (1 + s**2).sqrt(), s[:, 0]) - noise).square().mean()


@torch.no_grad()
def sample(model, n, steps=250):
    """n new images. In each step x is estimated, and y drawn from p(y at the next lower level | y, x)."""
    s = torch.cat([level(torch.linspace(1, 0.001, steps)), torch.zeros(1)])
    y = s[0] * torch.randn(n, PIXELS)
    for high, low in itertools.pairwise(s):
        x, shrink = y - high * model(y / (1 + high**2).sqrt(), high.expand(n)), (low / high) ** 2
        y = x + shrink * (y - x) + low * (1 - shrink).sqrt() * torch.randn(y.shape)
    return y


def train(model, x, steps=3000, batch=128, lr=1e-3):
    optimiser = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        value = loss(model, x[torch.randint(len(x), (batch,))], torch.rand(batch), torch.randn(batch, PIXELS))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    model = Denoiser()
    train(model, data(), *map(int, sys.argv[1:]))  # an argument is the number of steps
    ink = ((sample(model, 100) * 2 * STD + MEAN) / 16).clamp(0, 1).view(10, 10, 8, 8)
    grid = 255 - 255 * F.pad(ink, (1, 1, 1, 1)).transpose(1, 2).reshape(100, 100)  # 10 x 10 images
    Image.fromarray(np.uint8(grid)).resize((600, 600), Image.Resampling.NEAREST).save("diffusion.png")
