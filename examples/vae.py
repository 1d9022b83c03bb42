"""A variational autoencoder of digits (Kingma & Welling 2014, arXiv:1312.6114), in pure PyTorch.

    p(z) = N(0, 1)    p(x | z) = Bernoulli(sigmoid(decoder(z)))    q(z | x) = N(mean, std^2), read off by the encoder

The probability of an image, p(x) = E_p(z)[p(x | z)], is an integral that nobody can compute. The model learns by
raising a lower bound of its logarithm instead, whose two terms are called distortion and rate:

    -log p(x) <= distortion + rate,    distortion = -E_q[log p(x | z)],    rate = KL(q(z | x) || p(z))

`python examples/vae.py` trains for less than a minute on one core, and draws 100 new digits into vae.png.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

PIXELS, WIDTH, LATENT = 64, 400, 20


def data():
    """(1797, 64) images of 8x8 pixels, each with ink (1) or without (-1)."""
    return torch.tensor(load_digits().data >= 8, dtype=torch.float32) * 2 - 1


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, PIXELS))


def loss(model, x, noise):
    """The bound in nats per pixel, a mean over the batch. x (B, 64) is -1 or 1; noise (B, 20) is standard normal."""
    mean, log_std = model.encoder(x).chunk(2, dim=1)
    z = mean + log_std.exp() * noise  # a draw from q that gradients can pass through: the reparameterisation trick
    distortion = F.binary_cross_entropy_with_logits(model.decoder(z), (x + 1) / 2, reduction="none").sum(1)
    rate = (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(1)  # KL of two Gaussians in closed form
    return (distortion + rate).mean() / PIXELS


@torch.no_grad()
def sample(model, n):
    """n new images (n, 64): z from the prior, then the probability of ink in each pixel, which is drawn as grey."""
    return torch.sigmoid(model.decoder(torch.randn(n, LATENT)))


def train(model, x, steps=4000, batch=128, lr=2e-3):
    """Adam with a learning rate that falls to zero."""
    optimiser = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rows = torch.randint(len(x), (batch,))
        value = loss(model, x[rows], torch.randn(batch, LATENT))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 0 or step == steps - 1:
            print(f"step {step:5}  {value.item():.4f} nats per pixel")


def draw(images, path):
    """100 images (100, 64) of ink from 0 to 1, as a grid of 10 x 10."""
    tiles = F.pad(images.clamp(0, 1).view(10, 10, 8, 8), (1, 1, 1, 1))
    grid = np.uint8(255 - 255 * tiles.transpose(1, 2).reshape(100, 100).numpy())
    Image.fromarray(grid).resize((600, 600), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = VAE()
    train(model, data(), *map(int, sys.argv[1:]))  # an argument is the number of steps
    draw(sample(model, 100), "vae.png")
