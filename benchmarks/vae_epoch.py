"""An epoch of a small VAE (784-400-20) on 60,000 images: quintet, pythae and a plain loop with a DataLoader in one run.

    python benchmarks/vae_epoch.py [--threads N] [--rounds N] [--batches 128,1024] [--items 60000]

Bernoulli likelihood, Adam, random pixels. Everybody trains by its own means: quintet by its trainer, pythae by its
trainer's step, the plain loop as PyTorch's tutorials have it.
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from race import OURS, Work, arguments, keep, present, race
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

HIDDEN, LATENT = 400, 20


def quintets(x: Tensor, batch: int) -> Work:
    from quintet.core.spaces import Continuous
    from quintet.data.loader import Loader
    from quintet.families.vae import VAE
    from quintet.training.engine import Engine
    from quintet.training.settings import TrainingSettings
    from quintet.training.trainer import Trainer

    space = Continuous((1, 28, 28), levels=2)
    settings = VAE.Settings(net="plain", width=HIDDEN, depth=1, latent=LATENT, likelihood="bernoulli")
    images = 2 * x.view(-1, 1, 28, 28) - 1

    def epoch() -> None:
        trainer = Trainer(  # without noise, which a run of this likelihood has none of
            VAE(space, None, settings), Loader(space, images, None, seed=0, noisy=False),
            TrainingSettings(batch_size=batch), seed=0, steps=len(x) // batch, engine=Engine("cpu"),
        )  # fmt: skip
        trainer.run()

    return epoch


class Plain(nn.Module):
    """The same model, as a tutorial writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.mean, self.log_var = (
            nn.Linear(784, HIDDEN),
            nn.Linear(HIDDEN, LATENT),
            nn.Linear(HIDDEN, LATENT),
        )
        self.back, self.leave = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, 784)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.enter(x))
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        logits = self.leave(F.relu(self.back(z)))
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl


def plain(x: Tensor, batch: int) -> Work:
    model = Plain()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    loader = DataLoader(TensorDataset(x), batch, shuffle=True)

    def epoch() -> None:
        for (rows,) in loader:
            optimiser.zero_grad()
            model(rows).backward()
            optimiser.step()

    return epoch


def pythaes(x: Tensor, batch: int) -> Work:
    from pythae.data.datasets import BaseDataset, DatasetOutput  # noqa: F401
    from pythae.models import VAE as Peer
    from pythae.models import VAEConfig

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    model = Peer(config, encoder=encoder(), decoder=decoder())
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    loader = DataLoader(BaseDataset(x.view(-1, 1, 28, 28), torch.zeros(len(x))), batch, shuffle=True)

    def epoch() -> None:
        for rows in loader:
            optimiser.zero_grad()
            model(rows).loss.backward()
            optimiser.step()

    return epoch


def encoder() -> nn.Module:
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.mean, self.log_var = (
                nn.Linear(784, HIDDEN),
                nn.Linear(HIDDEN, LATENT),
                nn.Linear(HIDDEN, LATENT),
            )

        def forward(self, x: Tensor) -> ModelOutput:
            h = F.relu(self.enter(x.flatten(1)))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

    return Encoder()


def decoder() -> nn.Module:
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.back, self.leave = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, 784)

        def forward(self, z: Tensor) -> ModelOutput:
            out = torch.sigmoid(self.leave(F.relu(self.back(z))))
            return ModelOutput(reconstruction=out.view(-1, 1, 28, 28))

    return Decoder()


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--batches", default="128,1024")
    parser.add_argument("--items", type=int, default=60000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = (torch.rand(args.items, 784) < 0.2).float()
    rows = []
    for batch in map(int, args.batches.split(",")):
        makers = {OURS: quintets, "pythae": pythaes, "plain loop with a DataLoader": plain}
        works = present({name: (lambda make=make, batch=batch: make(x, batch)) for name, make in makers.items()})
        print(f"batch {batch}: {', '.join(works)}", file=sys.stderr)
        rows.append({"case": f"batch {batch}", **race(works, args.rounds)})
    keep("vae_epoch", f"An epoch of a VAE 784-{HIDDEN}-{LATENT} on {args.items:,} images", rows, ["pythae"],
         threads=args.threads)  # fmt: skip


if __name__ == "__main__":
    main()
