"""RunConfig: a complete, inert description of a run; defaults by modality, and presets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from quintet.core.errors import ConfigError, UsageError
from quintet.core.settings import Settings
from quintet.data.dataset import Scale
from quintet.registry import codec_class, family_class
from quintet.training.optim import TrainingSettings

Preset = Literal["classic", "tiny", "small", "base"]
Sections = dict[str, dict[str, Any]]


class DataSettings(Settings):
    """What is modelled: `target` (default: the items themselves), given `condition` (a column, or several with commas).

    The rest says how a source is read: see `data.sources.load_source`.
    """

    source: str
    target: str | None = None
    condition: str | None = None
    size: int | None = Field(None, ge=4, le=4096, description="images: pixels of the longer side")
    fit: Literal["crop", "pad", "stretch"] = Field("crop", description="images of other proportions")
    rate: int | None = Field(None, ge=1000, le=192_000, description="audio: samples a second")
    unit: Literal["auto", "document", "line"] = Field("auto", description="text: what an item is")
    group: str | None = Field(None, description="rows with one value of this column stay in one split")
    time: str | None = Field(None, description="split by this column: the last rows are the test split")
    split: Literal["auto", "none"] = Field("auto", description="none: train on all items, which every split then holds")
    types: str | dict[str, str] | None = Field(None, description="tables: what columns are, price=decimal,zip=category")

    scale: Scale | None = Field(None, description="images of 16 bits or real numbers: the values of black and white")

    def reading(self) -> dict[str, Any]:
        """How the source is read: the arguments of `load_source`."""
        return self.model_dump(exclude={"target", "condition"})


class RunConfig(Settings):
    """Everything that decides a run. `model` and `sampling` are the family's own settings, complete;
    `coding` is the codec's, `given` that of the condition's codec, with its name."""

    family: str
    preset: Preset = "small"
    data: DataSettings
    codec: str
    coding: dict[str, Any] = Field(default_factory=dict)
    given: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    sampling: dict[str, Any] = Field(default_factory=dict)
    training: TrainingSettings = TrainingSettings()
    seed: int = Field(0, ge=0)
    budget: float | None = Field(None, gt=0, description="seconds; turned into `steps` at the start")
    steps: int | None = Field(None, ge=1)
    plan: tuple[tuple[int, int, int, int], ...] = Field(
        (), description="what a budget became: [from this step, steps in all, steps between looks, threads], ..."
    )
    parameters: int | None = Field(None, ge=1, description="about so many; turned into `model.width` at the start")
    device: Literal["auto", "cpu", "cuda"] = "auto"


# Defaults that measured best on validation data, by family and kind of data; the sections of a RunConfig. A thumbnail
# is an image of at most 256 numbers: there an MLP takes several times the steps of a convolutional net in a given time.
ADVERSARIAL: dict[str, Any] = {
    "lr": 1e-3, "batch_size": 64, "betas": (0.0, 0.99), "weight_decay": 0.0, "final_lr": 0.1, "clip": None
}  # fmt: skip
# Symbols of speech at 500 a second, in place of the 1,280 numbers of a log-mel picture: 97.8 % of digits are still
# recognised after this round trip (98.2 % of real ones), and a Transformer takes three times the steps.
COARSE: dict[str, Any] = {"bands": 20, "hop": 0.04, "levels": 32}
# Many small steps of about 1,000 characters: docs/decisions/0016.
WRITER: dict[str, Any] = {
    "width": 128, "depth": 2, "heads": 4, "positions": "rotary", "reach": 5, "reach_dropout": 0.1,
    "activation": "relu2", "norm": "layer",
}  # fmt: skip
SMALL_STEPS: dict[str, Any] = {"optimiser": "muon", "lr": 8e-3, "decay": "linear", "weight_decay": 0.2}
DEFAULTS: dict[str, dict[str, Sections]] = {
    "vae": {
        "thumbnail": {"model": {"width": 32, "depth": 1}, "training": {"lr": 2e-3}},
        "image": {"model": {"width": 32, "depth": 1}, "training": {"lr": 2e-3, "batch_size": 64}},
        "table": {"model": {"width": 128, "depth": 2, "latent": 8}},
        "audio": {"model": {"width": 64, "depth": 1}, "training": {"lr": 2e-3, "batch_size": 64}},
        "text": {
            "model": {"width": 64, "depth": 1, "grid": 2, "latent": 8, "free_bits": 0.25},
            "training": {"lr": 2e-3, "batch_size": 64},
        },
        "latent": {"model": {"width": 64, "depth": 1}, "training": {"lr": 2e-3}},
    },
    "gan": {
        "thumbnail": {
            "model": {"net": "mlp", "width": 128, "critic_width": 128, "depth": 2, "gamma": 0.1},
            "training": ADVERSARIAL,
        },
        "image": {  # a convolutional step with its penalties takes ten times as long, and a minute has too few
            "model": {"net": "mlp", "width": 256, "critic_width": 256, "depth": 1, "gamma": 0.1},
            "training": ADVERSARIAL,
        },
        "table": {
            "model": {"width": 128, "critic_width": 128, "depth": 2, "latent": 16, "gamma": 0.1},
            "training": ADVERSARIAL,
        },
        "audio": {
            "model": {"width": 64, "critic_width": 64, "depth": 1, "gamma": 0.1},
            "training": ADVERSARIAL,
        },
        "text": {  # docs/decisions/0020, for this and the other families of texts
            "model": {"net": "mlp", "width": 256, "critic_width": 256, "depth": 1, "gamma": 1.0},
            "training": ADVERSARIAL,
        },
        "latent": {"model": {"width": 64, "critic_width": 64, "depth": 1, "gamma": 0.1}, "training": ADVERSARIAL},
    },
    "autoregressive": {
        "thumbnail": {"model": {"width": 64, "depth": 2, "heads": 2}, "training": {"lr": 3e-3, "batch_size": 16}},
        "image": {"model": {"width": 64, "depth": 3, "heads": 2}, "training": {"lr": 3e-3, "batch_size": 16}},
        "table": {  # as for text, many small and cheap steps: docs/decisions/0016
            "model": {"width": 64, "depth": 3, "heads": 2, "activation": "relu2", "norm": "layer", "dropout": 0.1},
            "training": {"optimiser": "muon", "lr": 8e-3, "decay": "linear", "batch_size": 64},
        },
        "audio": {
            "coding": COARSE,
            "model": {"width": 64, "depth": 3, "heads": 2},
            "training": {"lr": 3e-3, "batch_size": 8},
        },
        "text": {"coding": {"window": 256}, "model": WRITER, "training": SMALL_STEPS | {"batch_size": 4}},
        "texts": {"model": WRITER, "training": SMALL_STEPS | {"batch_size": 16}},  # short ones, an item each
        "pair": {  # a text given a text: an encoder-decoder
            "coding": {"tokens": "bpe", "vocab_size": 8000, "joint": True},
            "model": {
                "width": 128,
                "depth": 4,
                "heads": 4,
                "positions": "rotary",
                "activation": "relu2",
                "norm": "layer",
                "tied": "all",
                "dropout": 0.2,
                "label_smoothing": 0.1,
                "guidance_dropout": 0.0,
            },
            "sampling": {"temperature": 0.0, "beams": 4},
            "training": {"optimiser": "muon", "lr": 4e-3, "batch_size": 128, "select": "last"},
        },
        # One label: a wide convolution over word pieces and the maximum of what it finds beat layers of attention
        # where a set is small, and cost less; a bag of n-grams beside it looks phrases up.
        "label of text": {
            "given": {"tokens": "bpe", "vocab_size": 3000},
            "model": {
                "width": 256,
                "positions": "rotary",  # where there is no layer: none; a word counts the same wherever it stands
                "encoder_depth": 0,
                "stem": (2, 3, 5),
                "ngrams": 5,
                "input_dropout": 0.3,
                "dropout": 0.3,
                "label_smoothing": 0.1,
                "guidance_dropout": 0.0,
            },
            "training": {"lr": 4e-3, "batch_size": 50, "weight_decay": 0.05, "ema": 0.2, "select": "last"},
        },
        "label of image": {
            "model": {
                "width": 64,
                "encoder_depth": 1,
                "grid": 8,
                "shift": 2,
                "dropout": 0.1,
                "guidance_dropout": 0.0,
            },
            "training": {"lr": 4e-3, "batch_size": 64, "select": "last"},
        },
        "label of audio": {
            "model": {
                "width": 64,
                "encoder_depth": 2,
                "positions": "rotary",
                "shift": 8,
                "hide": 0.1,
                "dropout": 0.2,
                "label_smoothing": 0.1,
                "guidance_dropout": 0.0,
            },
            "training": {"lr": 3e-3, "batch_size": 32, "select": "last"},
        },
        "transcript": {  # a text given a recording
            "coding": {"items": "separate"},
            "model": {
                "width": 64,
                "depth": 2,
                "heads": 4,
                "positions": "rotary",
                "shift": 8,
                "hide": 0.1,
                "dropout": 0.2,
                "label_smoothing": 0.1,
                "guidance_dropout": 0.0,
            },
            "training": {"lr": 3e-3, "batch_size": 32, "select": "last"},
        },
        "latent": {"model": {"width": 128, "depth": 4, "heads": 4}, "training": {"lr": 3e-3, "batch_size": 32}},
    },
    "flow": {
        "thumbnail": {"training": {"lr": 2e-3, "betas": (0.9, 0.99)}},
        "image": {"model": {"dropout": 0.0}, "training": {"lr": 2e-3, "betas": (0.9, 0.99)}},
        "table": {"model": {"dropout": 0.0}, "training": {"lr": 2e-3, "betas": (0.9, 0.99), "batch_size": 256}},
        "audio": {"model": {"dropout": 0.0}, "training": {"lr": 2e-3, "betas": (0.9, 0.99)}},
        "text": {"model": {"dropout": 0.0}, "training": {"lr": 2e-3, "betas": (0.9, 0.99), "batch_size": 64}},
        "latent": {"model": {"dropout": 0.0}, "training": {"lr": 2e-3, "betas": (0.9, 0.99)}},
    },
    "diffusion": {
        "thumbnail": {
            "model": {"width": 32, "depth": 1, "ode_steps": 16},
            "training": {"lr": 2e-3, "batch_size": 64},
        },
        "image": {  # a dense layer costs a thumbnail a fifth of its steps, and gains it nothing: docs/decisions/0019
            "model": {"width": 32, "depth": 1, "dense": 512, "ode_steps": 12},
            "training": {"lr": 2e-3, "batch_size": 64},
        },
        "table": {"model": {"width": 128, "depth": 3}, "training": {"lr": 1e-3}},
        "audio": {
            "coding": {"hop": 0.04},
            "model": {"width": 64, "depth": 1, "ode_steps": 12},
            "sampling": {"guidance": 2.0},
            "training": {"lr": 2e-3, "batch_size": 64},
        },
        "text": {"model": {"width": 64, "depth": 1, "ode_steps": 12}, "training": {"lr": 2e-3, "batch_size": 64}},
        "latent": {"model": {"width": 64, "depth": 1, "ode_steps": 12}, "training": {"lr": 2e-3}},
    },
    "masked_diffusion": {
        "thumbnail": {"model": {"width": 64, "depth": 2, "heads": 2}, "training": {"lr": 3e-3, "batch_size": 16}},
        "image": {"model": {"width": 64, "depth": 3, "heads": 2}, "training": {"lr": 3e-3, "batch_size": 16}},
        "table": {"model": {"width": 64, "depth": 3, "heads": 2}, "training": {"lr": 3e-3}},
        "text": {
            "model": {"depth": 2, "positions": "rotary", "activation": "relu2", "norm": "layer"},
            "training": {"optimiser": "muon", "lr": 8e-3, "decay": "linear", "batch_size": 32},
        },
        "latent": {"model": {"width": 128, "depth": 4, "heads": 4}, "training": {"lr": 3e-3, "batch_size": 32}},
        "audio": {
            "coding": COARSE,
            "model": {"width": 64, "depth": 3, "heads": 2},
            "training": {"lr": 3e-3, "batch_size": 16},
        },
    },
}

# Presets are laid over the defaults. `classic`: the small models of the introductions to each family, corrected.
PRESETS: dict[str, dict[str, Sections]] = {
    "small": {},
    "tiny": {
        "vae": {"model": {"width": 16, "depth": 1, "latent": 8}},
        "gan": {"model": {"width": 16, "critic_width": 16, "depth": 1, "latent": 16}},
        "autoregressive": {"model": {"width": 32, "depth": 2, "heads": 2}},
        "masked_diffusion": {"model": {"width": 32, "depth": 2, "heads": 2}},
        "flow": {"model": {"width": 32, "layers": 2}},
        "diffusion": {"model": {"width": 16, "depth": 1, "emb": 32, "dense": 0}},
    },
    "base": {
        "vae": {"model": {"width": 96, "depth": 3, "latent": 64}},
        "gan": {"model": {"net": "auto", "width": 96, "critic_width": 96, "depth": 2}},
        "autoregressive": {"model": {"width": 384, "depth": 6, "heads": 6}, "training": {"lr": 1e-3}},
        "masked_diffusion": {"model": {"width": 384, "depth": 6, "heads": 6}, "training": {"lr": 1e-3}},
        "flow": {"model": {"width": 512}},
        "diffusion": {"model": {"width": 96, "depth": 2, "emb": 256}, "training": {"lr": 5e-4}},
    },
    "classic": {
        "vae": {"model": {"net": "plain", "width": 400, "depth": 1, "latent": 20, "grid": None},
                "training": {"lr": 1e-3}},
        "gan": {
            "model": {"net": "plain", "width": 128, "critic_width": 128, "depth": 1, "latent": 100,
                      "loss": "non_saturating"},
            "training": {"lr": 5e-4},
        },
        "autoregressive": {
            "model": {"width": 512, "depth": 6, "heads": 8, "positions": "sinusoidal", "activation": "relu",
                      "norm": "layer", "qk_norm": False, "reach": 1},
            "training": {"optimiser": "adamw", "decay": "cosine", "lr": 3e-4},
        },
        "masked_diffusion": {
            "model": {"width": 512, "depth": 6, "heads": 8, "positions": "sinusoidal", "activation": "relu",
                      "norm": "layer", "qk_norm": False},
            "training": {"optimiser": "adamw", "decay": "cosine", "lr": 3e-4},
        },
        "flow": {"model": {"kind": "coupling", "transform": "affine", "layers": 6, "width": 128}},
        "diffusion": {
            "model": {"parameterisation": "noise", "schedule": "linear", "dense": 0},
            "sampling": {"solver": "ancestral", "steps": 250},
        },
    },
}  # fmt: skip


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, section by section."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[str(key)] = merge(out[key], value) if both else value
    return out


def resolve(given: Mapping[str, Any], kind: str, condition: str | None = None) -> RunConfig:
    """A complete RunConfig from what the user gave: defaults < preset < given. Raises ConfigError for what is wrong.

    `kind`, of data, picks the defaults; `condition` is the name of the condition's codec.
    """
    name = str(given.get("family", ""))
    family = family_class(name)
    preset = given.get("preset") or "small"
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}", why=f"presets: {', '.join(PRESETS)}")
    layers: list[Mapping[str, Any]] = [
        {"training": {"select": "last" if family.likelihood == "none" else "held_out"}},
        DEFAULTS[name].get(kind, DEFAULTS[name].get(str(given.get("codec")), {})),
        PRESETS[preset].get(name, {}),
        {"preset": preset},
        given,
    ]
    merged: dict[str, Any] = {}
    fields: Iterable[str] = ()
    for layer in layers:
        merged = merge(merged, layer)
    try:
        for section, settings in (("model", family.Settings), ("sampling", family.Sampling)):
            fields = settings.model_fields
            merged[section] = settings(**merged.get(section, {})).model_dump(mode="json")
        section, coding = "coding", dict(merged.get("coding", {}))
        face = {"face": coding.pop("face")} if "face" in coding else {}
        fields = codec_class(str(merged.get("codec"))).Settings.model_fields
        merged[section] = face | codec_class(str(merged.get("codec"))).Settings(**coding).model_dump(mode="json")
        section, reading = "given", dict(merged.get("given", {}))
        reading.pop("codec", None)  # which is `condition`
        if condition is not None:
            own = {"items": "separate"} if condition == "text" else {}  # an item is a text, never a window
            if own and merged["coding"].get("joint"):
                own |= {field: merged["coding"][field] for field in ("tokens", "vocab_size", "joint")}
            fields = codec_class(condition).Settings.model_fields
            kept = codec_class(condition).Settings(**{**reading, **own}).model_dump(mode="json")
            merged[section] = {"codec": condition} | kept
        elif reading:
            what = "settings of a condition's codec, but no condition"
            raise ConfigError(what, where=section, fix="--condition COLUMN")
    except ValidationError as error:
        raise as_config_error(error, section, fields) from None
    try:
        return RunConfig(**merged)
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        kinds: dict[Any, Any] = {"training": TrainingSettings, "data": DataSettings}
        fields = kinds.get(place[0] if len(place) > 1 else "", RunConfig).model_fields
        raise as_config_error(error, known=fields) from None


def as_config_error(error: ValidationError, section: str = "", known: Iterable[str] = ()) -> ConfigError:
    """pydantic's first complaint in our words. `known`: the fields of the section, of which the nearest is named."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in ((section,) if section else ()) + first["loc"])
    if first["type"] == "extra_forbidden" and known:
        name = str(first["loc"][-1])
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        return ConfigError(f"unknown field {name!r}", where=where, why=f"{hint}known: {', '.join(known)}")
    return ConfigError(
        first["msg"][0].lower() + first["msg"][1:], where=where, fix="quintet train FAMILY --dry-run shows every option"
    )


def seconds(text: str | float) -> float:
    """90, "90s", "2m" or "1h" in seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(text))
    if not match or float(match[1]) <= 0:
        raise UsageError(f"not a duration: {text!r}", fix="write 90s, 2m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
