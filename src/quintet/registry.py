"""Names -> classes: the only place that knows all of them."""

from __future__ import annotations

from quintet.codecs.image import ImageCodec
from quintet.codecs.table import TableCodec
from quintet.codecs.text import TextCodec
from quintet.core.codec import Codec
from quintet.core.errors import Unsupported, UsageError
from quintet.core.family import Family
from quintet.core.spaces import Continuous
from quintet.families.autoregressive import Autoregressive
from quintet.families.diffusion import Diffusion
from quintet.families.flow import Flow
from quintet.families.gan import GAN
from quintet.families.vae import VAE

FAMILIES: dict[str, type[Family]] = {
    "vae": VAE,
    "gan": GAN,
    "autoregressive": Autoregressive,
    "flow": Flow,
    "diffusion": Diffusion,
}
CODECS: dict[str, type[Codec]] = {"image": ImageCodec, "text": TextCodec, "table": TableCodec}


def family_class(name: str) -> type[Family]:
    """The family of that name, or UsageError with the nearest one."""
    if name not in FAMILIES:
        import difflib

        near = difflib.get_close_matches(name, FAMILIES, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown family {name!r}", why=f"{hint}families: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def make_codec(name: str, family: type[Family]) -> Codec:
    """An unfitted codec with the first face that this family accepts and the codec has."""
    if name not in CODECS:
        raise UsageError(f"unknown codec {name!r}", why=f"codecs: {', '.join(CODECS)}")
    refused: Unsupported | None = None
    for space in family.accepts:
        try:
            return CODECS[name]("continuous" if space is Continuous else "discrete")  # type: ignore[call-arg]
        except Unsupported as error:
            refused = error
    raise refused or Unsupported(f"{family.name} has no face of {name}")
