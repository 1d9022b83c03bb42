"""The U-Net of DDPM (Ho et al. 2020, arXiv:2006.11239; Ronneberger et al. 2015), on digits, in pure PyTorch.

The loss, the noise levels and the sampler are those of diffusion.py, whose net read an image as 64 numbers. This one
reads it as a picture: convolutions on 8x8 pixels, the same on 4x4, where each place also attends to all others, and
back up. Each block on the way up also reads what the blocks on the way down made of the same places.

`python examples/unet.py` trains for about two minutes on one core, and draws 100 new digits into unet.png.
"""

import math
import sys

import torch
import torch.nn.functional as F
from diffusion import MEAN, STD, data, sample, train
from torch import nn
from vae import draw

EMB = 128


class Block(nn.Module):
    """Two convolutions beside a shortcut; the noise level, as a vector e, scales and shifts what is between them."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.last = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(width // 8, width) for width in (inputs, outputs))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.modulation = nn.Linear(EMB, 2 * outputs)
        nn.init.zeros_(self.last.weight)  # nearly the shortcut alone at first

    def forward(self, x, e):
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        h = self.norms[1](self.first(F.silu(self.norms[0](x))))
        return self.skip(x) + self.last(F.silu(h * (1 + scale) + shift))


class Attention(nn.Module):
    """Each place reads all places, beside a shortcut."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).flatten(2).mT.chunk(3, dim=2)  # (B, places, width) each
        return x + self.out(F.scaled_dot_product_attention(q, k, v).mT.reshape(x.shape))


class UNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        w = width
        self.time = nn.Sequential(nn.Linear(EMB, EMB), nn.SiLU(), nn.Linear(EMB, EMB), nn.SiLU())
        self.enter = nn.Conv2d(1, w, 3, padding=1)
        self.down = nn.ModuleList([Block(w, w), Block(w, 2 * w)])
        self.middle = nn.ModuleList([Block(2 * w, 2 * w), Attention(2 * w)])
        self.up = nn.ModuleList([Block(4 * w, 2 * w), Block(3 * w, w), Block(2 * w, w)])
        self.norm, self.leave = nn.GroupNorm(w // 8, w), nn.Conv2d(w, 1, 3, padding=1)

    def forward(self, x_t, s):
        """x_t (B, 64) and its noise levels s (B,) to the noise in it (B, 64)."""
        angle = s.log()[:, None] / 4 * torch.logspace(-1, math.log10(32), EMB // 2)
        e = self.time(torch.cat([angle.cos(), angle.sin()], dim=1))
        a = self.enter(x_t.view(-1, 1, 8, 8))
        b = self.down[0](a, e)
        c = self.down[1](F.avg_pool2d(b, 2), e)
        h = self.middle[1](self.middle[0](c, e))
        h = self.up[0](torch.cat([h, c], dim=1), e)
        h = self.up[1](torch.cat([F.interpolate(h, scale_factor=2.0), b], dim=1), e)
        h = self.up[2](torch.cat([h, a], dim=1), e)
        return self.leave(F.silu(self.norm(h))).flatten(1)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = UNet()
    train(model, data(), *map(int, sys.argv[1:]))  # an argument is the number of steps
    draw((sample(model, 100) * 2 * STD + MEAN) / 16, "unet.png")
