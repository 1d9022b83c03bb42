"""Figures of the page about the variational autoencoder."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from drawn.common import BLUE, GREEN, INK, RED, Made, binary_digits, seeded
from torch import Tensor, nn

from quintet.core.spaces import Continuous
from quintet.families.vae import VAE
from quintet.nets.bottleneck import GaussianLatents
from quintet.nets.flows import ParameterNet
from quintet.nets.given import Given, Widths
from quintet.nets.mlp import ResidualMLP


def bounds() -> Made:
    """ELBO, IWAE-k and log p of a linear-Gaussian model z ~ N(0, 1), x ~ N(W z, 0.5^2), for which all is known."""
    dims, latent, std, n = 8, 4, 0.5, 2000
    w = torch.randn(dims, latent, generator=seeded(), dtype=torch.float64)
    x = torch.randn(n, latent, generator=seeded(1), dtype=torch.float64) @ w.T
    x = x + std * torch.randn(n, dims, generator=seeded(2), dtype=torch.float64)
    precision = torch.eye(latent, dtype=torch.float64) + w.T @ w / std**2
    mean = x @ w / std**2 @ torch.linalg.inv(precision)
    covariance = w @ w.T + std**2 * torch.eye(dims, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros(dims, dtype=torch.float64), covariance).log_prob(x)
    best = -0.5 * precision.diag().log()  # log std of the factorised q with the least KL(q || p(z | x))
    model = VAE(Continuous((dims,)), settings=VAE.Settings(latent=latent, likelihood="gaussian", width=8, depth=1))
    noise = torch.full_like(x, math.log(std))
    model.params = lambda z, given: torch.stack([z @ w.T, noise], 1)  # type: ignore[method-assign]
    ks, curves = [2**i for i in range(11)], {}
    for name, spread in (("best", 0.0), ("wide", math.log(2.0))):
        model.hidden = lambda x, given, s=spread: torch.cat([mean, (best + s).expand_as(mean)], 1)  # type: ignore
        curves[name] = [float(model.importance(x, None, k, seeded(k)).mean()) for k in ks]
    # KL(q || p(z | x)) of two Gaussians with one mean
    kl = {name: float(0.5 * ((precision.diag() * (2 * (best + s)).exp()).sum() - latent - torch.logdet(precision))
                      - (best + s).sum()) for name, s in (("best", 0.0), ("wide", math.log(2.0)))}  # fmt: skip
    log_p = float(exact.mean())
    numbers = {
        "log p": f"{log_p:.2f}",
        "ELBO, best": f"{log_p - kl['best']:.2f}",
        "ELBO, wide": f"{log_p - kl['wide']:.2f}",
        "IWAE-64, best": f"{curves['best'][6]:.2f}",
        "IWAE-64, wide": f"{curves['wide'][6]:.2f}",
    }

    def draw(plt: Any) -> Any:
        figure, axes = plt.subplots(figsize=(6.4, 3.2))
        axes.axhline(log_p, color=INK, lw=1.5, label=r"$\log p(x)$")
        for name, colour, label in (("best", BLUE, "best factorised q"), ("wide", RED, "q twice as wide")):
            axes.plot(ks, curves[name], "o-", color=colour, ms=4, label=f"IWAE-k, {label}")
            axes.axhline(log_p - kl[name], color=colour, lw=1, ls=":", label=f"ELBO, {label}")
        axes.set(xscale="log", xlabel="k, draws of z for each item", ylabel="nats an item")
        axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
        axes.legend(loc="center right", fontsize=8)
        return figure

    return numbers, draw


class SmallVAE(nn.Module):
    """A VAE of binary rows whose decoder may see the entries before each one: p(x | z) = prod_d p(x_d | z, x_<d)."""

    def __init__(self, dims: int, latent: int, *, sees: bool, free_bits: float = 0.0, width: int = 256) -> None:
        super().__init__()
        self.sees, self.free_bits, self.bottleneck = sees, free_bits, GaussianLatents((latent,))
        self.encoder = ResidualMLP((dims,), self.bottleneck.outputs, width, 2)
        degree, position = torch.linspace(0, dims - 1, width).round().long(), torch.arange(dims)
        masks = degree[:, None] > position, degree[:, None] >= degree, position[:, None] >= degree
        self.decoder = ParameterNet(dims, dims, width, 3, ready=Widths(emb=latent), masks=masks)

    def forward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """-log p(x | z) (B,) of one draw of z, and KL(q(z | x) || p(z)) of each latent (B, latents)."""
        h = self.encoder(x)
        given = Given(emb=self.bottleneck.draw(h, generator))
        logits = self.decoder(x if self.sees else torch.zeros_like(x), given)
        return -F.logsigmoid(logits * x).sum(1), self.bottleneck.rates(h)


def collapse() -> Made:
    """The rate of each latent under decoders that see z alone, or z and the pixels before, without and with a cure."""
    train, test = binary_digits()
    kinds = {"z alone": (False, 0.0), "z and all pixels before": (True, 0.0), "the same, 0.5 free nats": (True, 0.5)}
    rates, numbers = {}, {}
    for (name, (sees, free_bits)), key in zip(kinds.items(), ("weak", "strong", "free"), strict=True):
        torch.manual_seed(0)
        model, generator = SmallVAE(64, 16, sees=sees, free_bits=free_bits), seeded()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(2000):
            rows = torch.randint(len(train), (128,), generator=generator)
            distortion, rate = model(train[rows], generator)
            loss = distortion.mean() + rate.mean(0).clamp_min(free_bits).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            drawn = [model(test, seeded(i)) for i in range(20)]
        distortion, rate = float(torch.stack([d for d, _ in drawn]).mean()), drawn[0][1].mean(0)
        rates[name] = rate.sort(descending=True).values
        numbers[f"{key}: rate"] = f"{float(rate.sum()):.1f}"
        numbers[f"{key}: ELBO"] = f"{-distortion - float(rate.sum()):.1f}"
        numbers[f"{key}: active"] = str(int((rate > 0.1).sum()))

    def draw(plt: Any) -> Any:
        figure, all_axes = plt.subplots(1, 3, figsize=(8.2, 2.7), sharey=True)
        for axes, (name, rate), colour in zip(all_axes, rates.items(), (GREEN, RED, BLUE), strict=True):
            axes.bar(range(1, 17), rate, color=colour)
            axes.set_title(f"decoder sees {name}\n{float(rate.sum()):.1f} nats together", fontsize=9)
            axes.set(xlabel="latent, sorted", xticks=[1, 4, 8, 12, 16])
        all_axes[0].set_ylabel("KL in nats")
        return figure

    return numbers, draw
