"""A U-Net of diffusion on 28x28 images: a training step and a denoising step, of quintet and of two peers in one run.

    python benchmarks/unet_step.py [--threads N] [--rounds N] [--batch 64]

Everybody has about 5.5 million parameters, float32, random weights. A training step is the loss on a batch, its
gradient and an update by AdamW; a denoising step is one evaluation of the net on a batch. Quintet's net is what its
defaults give to an image of this size, only wider, so that it has as many parameters as the peers' nets; it reads
patches of 2 x 2 pixels as one position and has a dense layer at the bottom, which is where most of its speed is from.
"""

from __future__ import annotations

import sys
import types

import torch
from race import OURS, Work, arguments, keep, present, race, shake
from torch import nn

SHAPE = (1, 28, 28)


def works(name: str, module: nn.Module, loss: Work, denoise: Work) -> dict[str, Work]:
    """What is timed of one net."""
    optimiser = torch.optim.AdamW(module.parameters(), 1e-4, fused=True)

    def train() -> None:
        optimiser.zero_grad()
        loss().backward()  # type: ignore[attr-defined]
        optimiser.step()

    def evaluate() -> None:
        with torch.inference_mode():
            denoise()

    print(f"{name}: {sum(p.numel() for p in module.parameters()) / 1e6:.2f} million parameters", file=sys.stderr)
    return {"train": train, "denoise": evaluate}


def quintets(x: torch.Tensor) -> dict[str, Work]:
    from quintet.core.family import Batch
    from quintet.core.spaces import Continuous
    from quintet.families.diffusion import Diffusion
    from quintet.nets.given import UNCONDITIONAL
    from quintet.runs.recipes import recipe

    settings = Diffusion.Settings(**{**recipe("diffusion", "image")["model"], "width": WIDTH})
    family = Diffusion(Continuous(SHAPE), None, settings)
    shake(family)
    batch, level = Batch(x, None), torch.full((len(x),), 0.5)
    return works(OURS, family, lambda: family.loss(batch).value, lambda: family.denoise(x, level, UNCONDITIONAL))


WIDTH = 46
"""Channels of quintet's first layer, which give 5.5 million parameters."""


def unet() -> nn.Module:
    """The net of diffusers, which halves an image three times, so that it takes 32x32."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, layers_per_block=2, block_out_channels=(32, 64, 120, 120),
        norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def diffusers(x: torch.Tensor) -> dict[str, Work]:
    from diffusers import DDPMScheduler

    net, padded = unet(), nn.functional.pad(x, (2, 2, 2, 2))
    shake(net)
    schedule = DDPMScheduler(1000)

    def loss() -> torch.Tensor:
        noise, t = torch.randn_like(padded), torch.randint(1000, (len(x),))
        return nn.functional.mse_loss(net(schedule.add_noise(padded, noise, t), t).sample, noise)

    return works("diffusers", net, loss, lambda: net(padded, 500).sample)


def lucidrains() -> types.ModuleType:
    """denoising-diffusion-pytorch, whose module asks for torchvision, which a U-Net does not need."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
        sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]  # type: ignore[attr-defined]
        sys.modules["torchvision.transforms"].Compose = object  # type: ignore[attr-defined]
    import denoising_diffusion_pytorch.denoising_diffusion_pytorch as module

    return module


def denoising_diffusion(x: torch.Tensor) -> dict[str, Work]:
    module = lucidrains()
    net = module.Unet(dim=46, dim_mults=(1, 2, 4), channels=1, flash_attn=True)
    process = module.GaussianDiffusion(net, image_size=28, timesteps=1000, auto_normalize=False)
    shake(net)
    level = torch.full((len(x),), 500)
    return works("denoising-diffusion-pytorch", net, lambda: process(x), lambda: net(x, level))


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.randn(args.batch, *SHAPE)
    makers = {OURS: quintets, "diffusers": diffusers, "denoising-diffusion-pytorch": denoising_diffusion}
    made = present({name: (lambda make=make: make(x)) for name, make in makers.items()})
    rows = [
        {"case": case, **race({name: parts[part] for name, parts in made.items()}, args.rounds)}
        for part, case in (("train", f"training step, batch {args.batch}"), ("denoise", "one denoising step"))
    ]
    peers = ["diffusers", "denoising-diffusion-pytorch"]
    keep("unet_step", "U-Net of 5.5 million parameters on 28x28 images", rows, peers, threads=args.threads)


if __name__ == "__main__":
    main()
