"""A generative adversarial network of digits (Goodfellow et al. 2014, arXiv:1406.2661), in pure PyTorch.

A generator makes images G(z) from noise z. A critic D(x) gives a number to each image: high if it takes it for a real
one, low if it takes it for a made one. They play against each other. With softplus(u) = log(1 + e^u),

    critic:     minimise  E softplus(-D(x)) + E softplus(D(G(z))) + gamma / 2 E |grad D(x)|^2
    generator:  minimise  E softplus(-D(G(z)))

The first two terms are the cross-entropy of a classifier with logits D. The third one, R1, keeps the critic's slope
small at real images, without which the two need not come to rest (Mescheder et al. 2018, arXiv:1801.04406).

`python examples/gan.py` trains for less than a minute on one core, and draws 100 new digits into gan.png.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

PIXELS, WIDTH, LATENT, GAMMA = 64, 128, 100, 0.1
BIN = 2 / 16  # distance of neighbouring grey levels


def data():
    """(1797, 64) images of 8x8 pixels with 17 grey levels from -1 to 1."""
    return torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(LATENT, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, PIXELS), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(PIXELS, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, 1))


def blurred(x, u):
    """x with uniform noise as wide as a grey level (u is uniform on [0, 1]); else the levels give real images away."""
    return x + (u - 0.5) * BIN


def critic_loss(model, x, z, u):
    """x (B, 64) are real images, already blurred; z (B, 100) is standard normal, u (B, 64) uniform."""
    x = x.requires_grad_()
    fake = blurred(model.generator(z), u).detach()  # detach: this step is not about the generator
    real_logit, fake_logit = model.critic(x), model.critic(fake)
    (slope,) = torch.autograd.grad(real_logit.sum(), x, create_graph=True)
    penalty = 0.5 * slope.square().sum(1).mean()
    return (F.softplus(-real_logit) + F.softplus(fake_logit)).mean() + GAMMA * penalty


def generator_loss(model, z, u):
    return F.softplus(-model.critic(blurred(model.generator(z), u))).mean()


@torch.no_grad()
def sample(model, n):
    """n new images (n, 64)."""
    return model.generator(torch.randn(n, LATENT))


def train(model, x, steps=8000, batch=64, lr=5e-4):
    """In turns. Each player has an optimiser over its own parameters, so nothing need be frozen by hand."""
    critic_adam = torch.optim.Adam(model.critic.parameters(), lr, betas=(0.0, 0.99))
    generator_adam = torch.optim.Adam(model.generator.parameters(), lr, betas=(0.0, 0.99))
    for step in range(steps):
        real = blurred(x[torch.randint(len(x), (batch,))], torch.rand(batch, PIXELS))
        critic = critic_loss(model, real, torch.randn(batch, LATENT), torch.rand(batch, PIXELS))
        critic_adam.zero_grad()
        critic.backward()
        critic_adam.step()
        generator = generator_loss(model, torch.randn(batch, LATENT), torch.rand(batch, PIXELS))
        generator_adam.zero_grad()
        generator.backward()
        generator_adam.step()
        if step % 1000 == 0 or step == steps - 1:
            print(f"step {step:5}  critic {critic.item():.3f}  generator {generator.item():.3f}")


def draw(images, path):
    """100 images (100, 64) of ink from 0 to 1, as a grid of 10 x 10."""
    tiles = F.pad(images.clamp(0, 1).view(10, 10, 8, 8), (1, 1, 1, 1))
    grid = np.uint8(255 - 255 * tiles.transpose(1, 2).reshape(100, 100).numpy())
    Image.fromarray(grid).resize((600, 600), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = GAN()
    train(model, data(), *map(int, sys.argv[1:]))  # an argument is the number of steps
    draw((sample(model, 100) + 1) / 2, "gan.png")
