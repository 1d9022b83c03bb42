"""Five families in at most 100 lines of PyTorch each: with equal weights and noise, their losses are the library's."""

from __future__ import annotations

import importlib.util
import math
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from quintet.core.family import Batch, Family
from quintet.core.random import Tape
from quintet.core.spaces import Continuous, Discrete
from quintet.families.autoregressive import Autoregressive
from quintet.families.diffusion import Diffusion
from quintet.families.flow import Flow
from quintet.families.gan import GAN
from quintet.families.vae import VAE

EXAMPLES = Path(__file__).parents[1] / "examples"
FAMILIES = ("vae", "gan", "autoregressive", "flow", "diffusion")


def example(name: str) -> ModuleType:
    """A script of examples/, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def equalise(family: Family, model: nn.Module, names: Sequence[tuple[str, str]] = ()) -> None:
    """Every parameter and buffer of `model` as that of the family which has its name, after these substitutions.

    The family has no other parameters. All of them are moved by noise first: zeros would hide mistakes.
    """
    torch.manual_seed(1)
    for module in (family, model):
        module.double().eval()
    theirs, left = family.state_dict(), {name for name, _ in family.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for name, value in model.state_dict().items():
            for pattern, by in names:
                name = re.sub(pattern, by, name)
            assert theirs[name].shape == value.shape, name
            theirs[name].copy_(value)
            left.discard(name)
    assert left == set()


def images(levels: int = 17) -> Tensor:
    """(16, 64) numbers on so many levels from -1 to 1."""
    return torch.randint(levels, (16, 64), generator=torch.Generator().manual_seed(2)).double() * 2 / (levels - 1) - 1


def noise(*shape: int, kind: Callable[..., Tensor] = torch.randn) -> Tensor:
    return kind(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


Pair = tuple[Tensor, Tensor]
"""The loss of the example, and of the library."""


def vae(module: ModuleType) -> list[Pair]:
    """The library has densities: it spreads the probability of -1 or 1 over a bin of width 2, which adds log 2 nats."""
    space = Continuous((64,), levels=2)
    family, model = VAE(space, settings=VAE.Settings(net="plain", width=400, depth=1, latent=20)), module.VAE()
    equalise(family, model, [(r"coder\.0", "coder.layers.0"), (r"coder\.2", "coder.layers.1")])
    x, z = images(levels=2), noise(16, 20)
    return [(module.loss(model, x, z) + math.log(2), family.loss(Batch(x, generator=Tape([z]))).value)]


def gan(module: ModuleType) -> list[Pair]:
    settings = GAN.Settings(
        net="plain", width=128, critic_width=128, depth=1, latent=100, loss="non_saturating", gamma=module.GAMMA
    )
    family, model = GAN(Continuous((64,), levels=17), settings=settings), module.GAN()
    equalise(family, model, [(r"\.0", ".net.layers.0"), (r"\.2", ".net.layers.1")])
    x, z, u = images(), noise(16, 100), noise(16, 64, kind=torch.rand)
    return [
        (module.critic_loss(model, x.clone(), z, u), family.critic_loss(Batch(x, generator=Tape([z, u]))).value),
        (module.generator_loss(model, z, u), family.generator_loss(Batch(x, generator=Tape([z, u]))).value),
    ]


def autoregressive(module: ModuleType) -> list[Pair]:
    settings = Autoregressive.Settings(
        width=module.WIDTH, depth=module.DEPTH, heads=module.HEADS, activation="relu", norm="layer", qk_norm=False
    )
    family, model = Autoregressive(Discrete((64,), 17), settings=settings), module.Autoregressive()
    names = [
        (r"symbols", "tokens"),
        (r"blocks\.(\d)\.(qkv|out)", r"net.attention.\1.\2"),
        (r"blocks\.(\d)\.(up|down)", r"net.feed_forward.\1.\2"),
        (r"^norm\.", f"net.norms.{2 * module.DEPTH}."),
        *((rf"blocks\.{i}\.norm_{k}", f"net.norms.{2 * i + k - 1}") for i in range(module.DEPTH) for k in (1, 2)),
    ]
    equalise(family, model, names)
    x = ((images() + 1) * 8).round().long()
    return [(module.loss(model, x), family.loss(Batch(x)).value)]


def flow(module: ModuleType) -> list[Pair]:
    settings = Flow.Settings(kind="coupling", transform="affine", layers=module.LAYERS, width=module.WIDTH, dropout=0.0)
    family = Flow(Continuous((64,), levels=17), settings=settings)
    model = module.Flow(module.Coupling() for _ in range(module.LAYERS))
    for shuffle, coupling in zip(family.chain[1::2], model, strict=True):
        shuffle.back.copy_(coupling.index.argsort())
    at = [(rf"^{i}\.", f"layers.{2 * i + 2}.net.") for i in range(module.LAYERS)]
    shuffles = [(rf"^{i}\.index", f"layers.{2 * i + 1}.index") for i in range(module.LAYERS)]
    equalise(family, model, [*shuffles, *at, ("middle", "blocks.0")])
    x = images() + noise(16, 64, kind=torch.rand) / 8
    return [(module.loss(model, x), family.loss(Batch(x)).value)]


def diffusion(module: ModuleType) -> list[Pair]:
    settings = Diffusion.Settings(
        net="mlp", width=module.WIDTH, depth=module.DEPTH, emb=module.EMB, parameterisation="noise", schedule="linear"
    )
    return [denoising(module, module.Denoiser(), Diffusion(Continuous((64,)), settings=settings), (64,))]


def denoising(module: ModuleType, model: nn.Module, family: Diffusion, shape: tuple[int, ...]) -> Pair:
    to = "modulation.to_scale_shift."
    names = [(r"^(?!time)", "net."), (r"^time", "time.layers"), (r"modulation\.", to)]
    equalise(family, model, names)
    family.scale.fill_(1.0)  # the example's data are scaled already
    x, t, e = noise(16, *shape) / 2, noise(16, kind=torch.rand), noise(16, *shape)
    return module.loss(model, x, t, e), family.loss(Batch(x, generator=Tape([t, e]))).value


PAIRS: dict[str, Callable[[ModuleType], list[Pair]]] = {
    "vae": vae, "gan": gan, "autoregressive": autoregressive, "flow": flow, "diffusion": diffusion,
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loss_is_the_librarys(name: str) -> None:
    for mine, theirs in PAIRS[name](example(name)):
        assert math.isfinite(float(mine))
        assert abs(float(mine) - float(theirs)) < 1e-6


BUGS = {
    "vae": ("z = mean + log_std.exp() * noise", "z = mean + log_std * noise"),
    "gan": ("F.softplus(-real_logit)", "F.softplus(-torch.sigmoid(real_logit))"),
    "autoregressive": ("is_causal=self.causal", "is_causal=False"),
    "flow": ("-log_std.sum(1)", "0 * log_std.sum(1)"),
    "diffusion": ("19.9 * t**2", "19.9 * t"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_comparison_notices_a_planted_bug(name: str) -> None:
    source, (right, wrong) = (EXAMPLES / f"{name}.py").read_text(), BUGS[name]
    assert right in source
    module = ModuleType(name)
    exec(compile(source.replace(right, wrong), name, "exec"), module.__dict__)
    assert any(abs(float(mine) - float(theirs)) > 1e-5 for mine, theirs in PAIRS[name](module))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_at_most_100_lines(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 100


@pytest.mark.parametrize("name", FAMILIES)
def test_the_script_trains_and_draws(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps; the picture has 100 images, of which two differ."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "3"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    grid = np.asarray(Image.open(f"{name}.png"))[3::6, 3::6]
    tiles = grid.reshape(10, 10, 10, 10).swapaxes(1, 2).reshape(100, -1)
    assert len(np.unique(tiles, axis=0)) > 1


# -- further examples --------------------------------------------------------------------------------------------------


@pytest.fixture
def among_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts that import their neighbours, as when they are run."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.mark.usefixtures("among_examples")
def test_the_unet_is_the_librarys() -> None:
    module = example("unet")
    settings = Diffusion.Settings(
        net="conv", width=32, depth=1, dense=0, emb=module.EMB, parameterisation="noise", schedule="linear"
    )
    family, model = Diffusion(Continuous((1, 8, 8)), settings=settings), module.UNet()
    names = [
        (r"^(?!time)", "net."), (r"^time", "time.layers"), (r"modulation\.", "modulation.to_scale_shift."),
        (r"down\.(\d)", r"down.\1.0"), (r"up\.([01])\.", r"up.\1.0."), (r"up\.2\.", "up.1.1."),
    ]  # fmt: skip
    equalise(family, model, names)
    family.scale.fill_(1.0)
    x, t, e = noise(16, 64) / 2, noise(16, kind=torch.rand), noise(16, 64)
    theirs = family.loss(Batch(x.view(16, 1, 8, 8), generator=Tape([t, e.view(16, 1, 8, 8)]))).value
    assert abs(float(example("diffusion").loss(model, x, t, e)) - float(theirs)) < 1e-6


def test_the_translator_is_of_the_papers_size() -> None:
    """6 + 6 layers of width 512 with 8 heads and feed-forward layers of 2,048 units: 44 million parameters."""
    with torch.device("meta"):
        model = example("translation").Translator()
    assert len(model.net.encoder.layers) == len(model.net.decoder.layers) == 6
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == 44


def test_the_translator_reads_neither_the_future_nor_padding_nor_its_neighbours() -> None:
    module = example("translation")
    torch.manual_seed(0)
    model = module.Translator(16, 2).double().eval()
    x, y = module.symbols("en")[[7, 42, 999]], module.symbols("de")[[7, 42, 999]][:, :-1]
    out = model(x, y)
    later = y.clone()
    later[:, 3:] = module.END
    assert torch.allclose(model(x, later)[:, :3], out[:, :3])
    assert not torch.allclose(model(x, later)[:, 3:], out[:, 3:])
    assert torch.allclose(model(x[:1, :3], y[:1]), out[:1])  # 7 is three symbols long: the rest is padding
    assert not torch.allclose(model(x.flip(0), y), out)


def test_numbers_are_said_as_people_say_them() -> None:
    words = example("translation").words
    assert " ".join(words(723, "en")) == "seven hundred twenty three"
    assert " ".join(words(723, "de")) == "sieben hundert drei und zwanzig"
    assert [" ".join(words(n, "de")) for n in (0, 17, 30, 800)] == ["null", "siebzehn", "dreißig", "acht hundert"]


# -- symptoms ----------------------------------------------------------------------------------------------------------

BOUNDS = {
    "trained_on_noise": lambda wrong, right: wrong < 1 and right > 5,
    "summed_over_the_batch": lambda wrong, right: wrong > 3 and 0.5 < right < 1.5,
    "two_sigmoids": lambda wrong, right: abs(wrong - 1.0064) < 1e-3 and right < 1e-6,
    "targets_of_another_shape": lambda wrong, right: wrong == 0.5 and right == 0,
    "frozen_by_hand": lambda wrong, right: wrong == 0 and right > 1e-3,
    "no_causal_mask": lambda wrong, right: wrong < right / 4,
    "no_embeddings": lambda wrong, right: wrong == 1 and right > 30,
    "reshaped_instead_of_transposed": lambda wrong, right: wrong > 0.01 and right < 1e-5,
    "not_invertible": lambda wrong, right: wrong > 1 and right < 1e-6,
    "no_log_determinant": lambda wrong, right: abs(wrong) < 0.05 and right < -0.5,
    "empty_unet": lambda wrong, right: abs(wrong - 1) < 0.05 and right < 0.4,
    "wrong_schedule": lambda wrong, right: wrong > 0.98 and right < 0.01,
    "accumulated_noise": lambda wrong, right: wrong > 0.98 and right < 0.5,
}
"""What must hold of the figure with a mistake and of the one without."""
TRAINED = ("trained_on_noise", "no_causal_mask", "no_log_determinant", "empty_unet")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in TRAINED else []) for name in BOUNDS]
)
@pytest.mark.usefixtures("among_examples")
def test_a_mistake_has_its_symptom(name: str) -> None:
    wrong, right = getattr(example("symptoms"), name)()
    assert BOUNDS[name](wrong, right), (wrong, right)


@pytest.mark.usefixtures("among_examples")
def test_what_cannot_run_is_refused_by_torch() -> None:
    module = example("symptoms")
    for symptom in (module.decoder_of_another_width, module.shapes_that_cannot_run):
        wrong, right = symptom()
        assert "shape" in wrong or "expecting" in wrong
        assert right == "nothing"


def test_every_symptom_stands_on_the_page() -> None:
    """Both languages name each function of symptoms.py, and every test that they say catches a mistake exists."""
    source = (EXAMPLES / "symptoms.py").read_text()
    tests = {name for path in Path(__file__).parent.glob("test_*.py")
             for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}  # fmt: skip
    names = re.findall(r"^def (\w+)\(\):", source, re.MULTILINE)
    for page in ("originals.md", "originals.zh.md"):
        text = (EXAMPLES.parent / "docs" / page).read_text()
        assert [name for name in names if f"`{name}`" not in text] == []
        assert set(re.findall(r"`(test_\w+)`", text)) <= tests
