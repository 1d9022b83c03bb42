"""Names -> classes: the only place that knows all of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from quintet.core.codec import Codec, RepresentationKind, Stage
from quintet.core.errors import Unsupported, UsageError, meant
from quintet.core.family import Family
from quintet.core.spaces import Continuous
from quintet.data.dataset import Reading
from quintet.families.autoregressive import Autoregressive
from quintet.families.diffusion import Diffusion
from quintet.families.flow import Flow
from quintet.families.gan import GAN
from quintet.families.masked_diffusion import MaskedDiffusion
from quintet.families.vae import VAE
from quintet.metrics.measures import COST, FIRST, LAST, LIKELIHOOD
from quintet.modalities import KINDS
from quintet.modalities.latent import LatentCodec
from quintet.modalities.protocol import Modality

FAMILIES: dict[str, type[Family]] = {
    "vae": VAE,
    "gan": GAN,
    "autoregressive": Autoregressive,
    "flow": Flow,
    "diffusion": Diffusion,
    "masked_diffusion": MaskedDiffusion,
}
COMPARED = ("vae", "gan", "autoregressive", "flow", "diffusion")
"""The five families that a comparison trains by default; masked diffusion is the diffusion of symbols."""
CLASSIFIER, AUTOENCODER = "autoregressive", "vae"
"""Families whose nets features are read off: what a model of labels sees in an item, and the latents of items."""
MODALITIES: dict[str, Modality] = {
    kind: import_module(f"quintet.modalities.{kind}.modality").MODALITY for kind in KINDS
}


SPECIAL = tuple(measure for modality in MODALITIES.values() for measure in modality.measures)
"""Figures of one kind of data alone."""
QUALITY = (*FIRST, *SPECIAL, *LAST)
"""Figures of what models make, in the order of a report."""
MEASURES = {measure.key: measure for measure in (*QUALITY, *LIKELIHOOD, *COST)}
"""Every figure by its key, as results name it."""
RESULTS = MODALITIES["table"]
"""What rows of results are written as: scores, labels, latents."""


def candidates(reading: Reading) -> list[Modality]:
    """The kinds of data that a source may hold: the one that its reading asks for, else any."""
    every = list(MODALITIES.values())
    return [modality for modality in every if modality.asked(reading)] or every


def modality_of(items: Any) -> Modality:
    """What kind of data raw items are."""
    return next(modality for modality in MODALITIES.values() if modality.owns(items))


CODECS: dict[str, type[Codec]] = {name: modality.codec for name, modality in MODALITIES.items()}


def family_class(name: str) -> type[Family]:
    """The family of that name, or UsageError with the nearest one."""
    if name not in FAMILIES:
        raise UsageError(f"unknown family {name!r}", why=f"{meant(name, FAMILIES)}families: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def read_codec(name: str, state: Mapping[str, Any], stage: Stage | None) -> Codec:
    """The codec of that name from its state; that of latents from its autoencoder too."""
    return CODECS[name].from_json(state) if stage is None else LatentCodec.from_json(state, *stage)


def codec_class(name: str) -> type[Codec]:
    """The codec of that name; any other name is that of a run, whose latents are the codec."""
    return CODECS.get(name, LatentCodec)


def kinds_taken(family: type[Family]) -> tuple[RepresentationKind, ...]:
    """The representations of codecs that this family takes."""
    return tuple("continuous" if space is Continuous else "discrete" for space in family.accepts)


def latent_codec(stage: Stage, family: type[Family], settings: Mapping[str, Any]) -> Codec:
    """An unfitted codec with the first representation of these latents that this family accepts, or the one that
    `settings` names.
    """
    options = dict(settings)
    chosen = options.pop("representation", None)
    taken, offered = kinds_taken(family), [each.kind for each in LatentCodec.offered_by(stage.family)]
    for representation in (chosen,) if chosen else offered:
        if representation in taken:
            return LatentCodec(stage.codec, stage.family, representation, LatentCodec.Settings(**options), stage.recipe)
    raise Unsupported(
        f"the family {family.name} needs {' or '.join(taken)} data, but these latents are {' or '.join(offered)}",
        fix="train the autoencoder with --model.bottleneck fsq",
    )


def make_codec(name: str, family: type[Family], settings: Mapping[str, Any] | None = None) -> Codec:
    """An unfitted codec with its first representation that this family accepts, or the one that `settings` names."""
    if name not in CODECS:
        raise UsageError(f"unknown codec {name!r}", why=f"codecs: {', '.join(CODECS)}")
    codec, taken = CODECS[name], kinds_taken(family)
    given = dict(settings or {})
    chosen = given.pop("representation", None)
    options = codec.Settings(**given)
    for representation in (chosen,) if chosen else [each.kind for each in codec.offered(options)]:
        if representation in taken:
            return codec(representation, options)
    what = f"the family {family.name} needs {' or '.join(taken)} data, as which the codec {name} cannot encode items"
    raise Unsupported(what, fix="choose another codec or another family")


VERBS: dict[str, tuple[str, ...]] = {
    "sample": ("sample",),
    "score": ("log_prob",),
    "complete": ("complete",),
    "reconstruct": ("encode", "decode"),
    "interpolate": ("encode", "decode"),
    "encode": ("encode",),
}
"""The verbs of a fitted model, and which operations of its family each needs."""


def refusal(family: str, modality: str, verb: str) -> str:
    """Why this family cannot do this on data of this kind; "" if it can."""
    chosen = family_class(family)
    try:
        make_codec(modality, chosen)
    except Unsupported as error:
        return str(error)
    return next((chosen.missing[name] for name in VERBS[verb] if name in chosen.missing), "")
