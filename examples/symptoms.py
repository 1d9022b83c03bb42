"""What goes wrong in small generative models, measured: the figures of docs/originals.md.

Each function makes one mistake and returns a figure with it and the same figure without it. `python
examples/symptoms.py` prints them all, in about two minutes on one core.
"""

import math

import autoregressive
import diffusion
import flow
import gan
import torch
import torch.nn.functional as F
import translation
import vae
from torch import nn

PIXELS = 64


def fit(model, loss, steps=300, lr=2e-3):
    """The mean loss over the last tenth of so many steps of Adam."""
    optimiser, values = torch.optim.Adam(model.parameters(), lr), []
    for _ in range(steps):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    return sum(values[-steps // 10 :]) / (steps // 10)


def refused(call):
    """The first line of what PyTorch says."""
    try:
        call()
    except (RuntimeError, ValueError, AssertionError) as error:
        return str(error).splitlines()[0]
    return "nothing"


def rows(x, n=64):
    return x[torch.randint(len(x), (n,))]


# -- variational autoencoder -------------------------------------------------------------------------------------------


def decoder_of_another_width():
    """What is said when z of 20 numbers enters a decoder that was made for 400."""
    z = torch.randn(8, 20)
    return refused(lambda: nn.Linear(400, 784)(z)), refused(lambda: nn.Linear(20, 784)(z))


def trained_on_noise():
    """The rate, in nats an image: how much z says about x. Noise has nothing in common that a z could say."""

    def rate(draw):
        torch.manual_seed(0)
        model = vae.VAE()
        fit(model, lambda: vae.loss(model, draw(), torch.randn(64, vae.LATENT)), 600)
        mean, log_std = model.encoder(draw()).chunk(2, dim=1)
        return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(1).mean().item()

    x = vae.data()
    return rate(lambda: torch.randn(64, PIXELS).sign()), rate(lambda: rows(x))


def summed_over_the_batch():
    """How many times as long the gradient is when the batch is four times as large."""

    def norm(size, summed):
        torch.manual_seed(0)
        model, x = vae.VAE(), vae.data()[:size]
        value = vae.loss(model, x, torch.zeros(size, vae.LATENT)) * (size if summed else 1)
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))]).norm()

    return tuple((norm(256, summed) / norm(64, summed)).item() for summed in (True, False))


# -- generative adversarial network ------------------------------------------------------------------------------------


def two_sigmoids():
    """The loss of a critic that is right and sure about everything (logits of 20 and -20)."""
    real, fake = torch.full((8,), 20.0), torch.full((8,), -20.0)

    def loss(real, fake):
        ones, zeros = torch.ones(8), torch.zeros(8)
        return (F.binary_cross_entropy_with_logits(real, ones) + F.binary_cross_entropy_with_logits(fake, zeros)).item()

    return loss(real.sigmoid(), fake.sigmoid()), loss(real, fake)


def targets_of_another_shape():
    """The squared error of a critic that is right about all 4 real and 4 made images."""
    judged, targets = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])[:, None], torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])
    return (judged - targets).square().mean().item(), (judged - targets[:, None]).square().mean().item()


def frozen_by_hand():
    """How far 20 steps move the critic, if one line that makes it trainable again is missing, and if nothing is."""

    def moved(forgotten):
        torch.manual_seed(0)
        model, x = gan.GAN(), gan.data()
        before = model.critic[0].weight.detach().clone()
        adam = torch.optim.Adam(model.critic.parameters(), 5e-4)
        for parameter in model.critic.parameters():
            parameter.requires_grad_(not forgotten)  # frozen for the generator's step, and never released
        for _ in range(20):
            real, fake = model.critic(rows(x)), model.critic(model.generator(torch.randn(64, gan.LATENT)).detach())
            value = (F.softplus(-real) + F.softplus(fake)).mean()
            adam.zero_grad()
            if value.requires_grad:
                value.backward()
            adam.step()
        return (model.critic[0].weight - before).abs().max().item()

    return moved(True), moved(False)


# -- Transformer -------------------------------------------------------------------------------------------------------


def no_causal_mask():
    """The loss after 500 steps, in nats a pixel. Without a mask the net reads the pixel that it is asked for."""

    def loss(masked):
        torch.manual_seed(0)
        model, x = autoregressive.Autoregressive(), autoregressive.data()
        for block in model.blocks:
            block.causal = masked
        return fit(model, lambda: autoregressive.loss(model, rows(x, 16)), 500)

    return loss(False), loss(True)


def no_embeddings():
    """In how many directions the vectors of all words differ: those of their numbers lie on one line."""
    numbers = torch.arange(len(translation.WORDS), dtype=torch.float32)[:, None] * torch.randn(1, 512)
    table = nn.Embedding(len(translation.WORDS), 512).weight
    return int(torch.linalg.matrix_rank(numbers)), int(torch.linalg.matrix_rank(table))


def reshaped_instead_of_transposed():
    """How much what is said of one sentence changes when another sentence of its batch does."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0)  # wants (positions, batch, width)
    x = torch.randn(8, 5, 16)  # (batch, positions, width)
    other = torch.cat([torch.randn(1, 5, 16), x[1:]])

    def change(forth, back):
        return (back(layer(forth(x))) - back(layer(forth(other))))[1:].abs().max().item()

    return (
        change(lambda x: x.reshape(5, 8, 16), lambda h: h.reshape(8, 5, 16)),
        change(lambda x: x.transpose(0, 1), lambda h: h.transpose(0, 1)),
    )


def shapes_that_cannot_run():
    """What is said when words enter as they are, without vectors of the width that the layers expect."""
    layer = nn.TransformerEncoderLayer(512, 8, 64, batch_first=True)
    x = torch.randn(2, 7, 512)
    return refused(lambda: layer(x[..., :10])), refused(lambda: layer(x))


# -- normalising flow --------------------------------------------------------------------------------------------------


def not_invertible():
    """The largest error, in grey levels of 2 / 16, of images that went through the model and back."""
    torch.manual_seed(0)
    x = flow.data()[:100].double()
    net = nn.Sequential(nn.Linear(PIXELS, PIXELS), nn.ReLU()).double()
    nn.init.orthogonal_(net[0].weight)  # but for the ReLU, nothing is easier to undo
    best = (net(x) - net[0].bias) @ net[0].weight
    model = flow.Flow(flow.Coupling() for _ in range(flow.LAYERS)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    return tuple((8 * (back - x)).abs().max().item() for back in (best, model.inverse(model(x)[0])))


def no_log_determinant():
    """The loss on digits minus the loss on noise, in nats a pixel, each after 200 steps: 0 if nothing is learnt."""
    x = flow.data()

    def digits():
        return rows(x) + (torch.rand(64, PIXELS) - 0.5) * flow.BIN

    def learnt(draw, counted):
        torch.manual_seed(0)
        model = flow.Flow(flow.Coupling() for _ in range(flow.LAYERS))

        def loss():
            z, log_det = model(draw())
            return -(counted * log_det - 0.5 * (z**2 + math.log(2 * math.pi)).sum(1)).mean() / PIXELS

        return fit(model, loss, 200)

    return tuple(learnt(digits, counted) - learnt(lambda: torch.randn(64, PIXELS), counted) for counted in (0, 1))


# -- diffusion ---------------------------------------------------------------------------------------------------------


def empty_unet():
    """The loss after 300 steps: of a net that returns zeros, whatever it reads, and of one that learns."""
    torch.manual_seed(0)
    x, model = diffusion.data(), diffusion.Denoiser()

    def loss(net):
        return diffusion.loss(net, rows(x, 128), torch.rand(128), torch.randn(128, PIXELS))

    return loss(lambda x_t, s: torch.zeros_like(x_t)).item(), fit(model, lambda: loss(model), lr=1e-3)


def wrong_schedule():
    """The share of the image, alpha, in what is most noisy: sampling begins with noise alone, which must look alike."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return (1 - beta).sqrt()[-1].item(), (1 - beta).cumprod(0).sqrt()[-1].item()


def accumulated_noise():
    """The least loss that any net can reach at the last of 1,000 steps, by the best linear net, on normal data.

    Wrong: the noise of the last step is to be told from an image that holds the noise of all steps. Right: all of it.
    """
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha2 = (1 - beta).cumprod(0)
    of_the_last = beta  # squared correlation of x_t with the noise of step t: Cov = sqrt(beta), Var(x_t) = 1
    of_all = 1 - alpha2
    return tuple((1 - share).mean().item() for share in (of_the_last, of_all))


SYMPTOMS = (
    decoder_of_another_width, trained_on_noise, summed_over_the_batch, two_sigmoids, targets_of_another_shape,
    frozen_by_hand, no_causal_mask, no_embeddings, reshaped_instead_of_transposed, shapes_that_cannot_run,
    not_invertible, no_log_determinant, empty_unet, wrong_schedule, accumulated_noise,
)  # fmt: skip

if __name__ == "__main__":
    for symptom in SYMPTOMS:
        wrong, right = (f"{value:.4g}" if isinstance(value, float) else value for value in symptom())
        print(f"{symptom.__name__}: {wrong} | right: {right}", flush=True)
