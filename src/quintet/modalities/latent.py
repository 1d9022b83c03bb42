"""Items <-> latents of a trained autoencoder: maps of numbers, or symbols of its codes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quintet.core.codec import Codec, Encoded, Representation, RepresentationKind, Stage, digest
from quintet.core.errors import CheckpointError, Unsupported
from quintet.core.family import Autoencoder
from quintet.core.likelihood import Measure
from quintet.core.spaces import Continuous, Discrete

CHUNK = 256
"""Items that pass through the autoencoder at a time."""
FITTED = 4096
"""Items that the scale of the latents is read off."""
FLOOR = 0.1
"""A channel is scaled as if its spread were at least this share of the widest's: one that the autoencoder does not use
must not be blown up."""
OUT = 100.0
"""A decoded latent is at most this many scales out, whatever a model gives."""


class LatentRepresentation(Representation, ABC):
    """Latents z of an autoencoder, (z - mean) / scale, with one mean and one scale a channel, where they have such."""

    mean, scale = torch.zeros(1), torch.ones(1)

    @abstractmethod
    def fit(self, family: Autoencoder) -> None:
        """For the latents of this autoencoder."""

    def learn(self, latents: Iterable[Tensor]) -> None:
        """Read mean and scale off latents of training items, which come in parts."""

    def scaled_by(self, mean: Tensor, scale: Tensor) -> None:
        """Take these (channels,)."""
        shape = (-1, *[1] * (len(self.space.shape) - 1))
        self.mean, self.scale = mean.view(shape), scale.view(shape)


class LatentCodes(LatentRepresentation):
    """Discrete: latents as the symbols of their codes, (positions,), which only quantising autoencoders have."""

    kind = "discrete"

    def fit(self, family: Autoencoder) -> None:
        self.family, self.space = family, family.latent

    def encode(self, z: Tensor) -> Tensor:
        return self.family.indices(z)

    def decode(self, x: Tensor) -> Tensor:
        return self.family.codes(x)


class ScaledLatents(LatentRepresentation):
    """Continuous: z is the posterior mean (latent,) or (latent, h, w), or the values of a code."""

    kind = "continuous"

    def fit(self, family: Autoencoder) -> None:
        shape, latent = family.latent.shape, family.latent
        if isinstance(latent, Discrete):
            shape = tuple(family.codes(torch.zeros(1, latent.dims, dtype=torch.long)).shape[1:])
        self.space = Continuous(shape)

    def learn(self, latents: Iterable[Tensor]) -> None:
        flat = torch.cat(list(latents)).transpose(0, 1).flatten(1)
        spread = flat.std(1)
        self.scaled_by(flat.mean(1), spread.clamp_min(FLOOR * float(spread.max()) or 1.0))

    def encode(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        return x.float().nan_to_num().clamp(-OUT, OUT) * self.scale + self.mean


class LatentCodec(Codec):
    """An inner codec, then a frozen autoencoder (Rombach et al. 2022, arXiv:2112.10752; van den Oord et al. 2017,
    arXiv:1711.00937).

    A likelihood is of the encoded item: latents keep less than the raw item has. `recipe`: the configuration that made
    the autoencoder and its step, inert, to be kept with it.
    """

    name = "latent"
    representations = (LatentCodes, ScaledLatents)
    representation: LatentRepresentation
    measure: Measure = "encoded"

    def __init__(
        self,
        inner: Codec,
        family: Autoencoder,
        representation: RepresentationKind | None = None,
        settings: Any = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        offered = [each.kind for each in self.offered_by(family)]
        if representation is not None and representation not in offered:
            fix = "" if representation == "continuous" else "train the autoencoder with --model.bottleneck fsq"
            why = f"the representations that they have are: {', '.join(offered)}"
            raise Unsupported(f"these latents have no {representation} representation", why=why, fix=fix)
        super().__init__(representation or offered[0], settings)
        self.inner, self.family, self.recipe = inner, family, dict(recipe or {})
        self.dims, self.stream = inner.dims, inner.stream
        self.representation.fit(family)

    @classmethod
    def offered_by(cls, family: Autoencoder) -> tuple[type[Representation], ...]:
        """The representations that this autoencoder's latents have, the preferred first."""
        return cls.representations if isinstance(family.latent, Discrete) else (ScaledLatents,)

    @property
    def stage(self) -> Stage:
        return Stage(self.inner, self.family, self.recipe)

    @property
    def modality(self) -> str:
        return self.inner.modality

    @property
    def device(self) -> torch.device:
        return next(self.family.parameters()).device

    def fit(self, items: Any) -> Self:
        """Read the channels' means and scales off some training items; the autoencoder stays as it is."""
        self.representation.learn(self._latents(items, FITTED))
        return self

    @torch.no_grad()
    def _latents(self, items: Any, limit: int | None = None) -> Iterator[Tensor]:
        """z of the items in their order, chunk by chunk; with `limit`, of about so many, evenly."""
        for x in self._chunks(items, limit):
            yield self.family.encode(x.to(self.device)).float().cpu()

    def _chunks(self, items: Any, limit: int | None) -> Iterator[Tensor]:
        """Encoded by the inner codec."""
        whole = self.inner.encode(items) if self.stream else None
        count = len(items) if whole is None else len(whole)
        starts = range(0, count, CHUNK)
        for start in starts[:: max(1, len(starts) * CHUNK // limit)] if limit else starts:
            some = slice(start, start + CHUNK)
            yield self.inner.encode(part(items, some)) if whole is None else whole[some]

    def encode(self, items: Any) -> Tensor:
        parts = [self.representation.encode(z) for z in self._latents(items)]
        return torch.cat(parts) if parts else torch.empty(0, *self.space.shape)

    def encoded(self, items: Any) -> Encoded:
        """Its log_det: density of (z - mean) / scale -> that of z."""
        starts = range(0, len(items), CHUNK)
        parts = [items] if self.stream else [part(items, slice(start, start + CHUNK)) for start in starts]
        x, notes = [], list[str]()
        for some in parts:
            found = self.inner.encoded(some)
            x.append(self.above(found.x))
            notes += found.notes or ()
        told = tuple(notes) if len(notes) == len(items) and not self.stream else None
        return Encoded(torch.cat(x), self._log_volume(sum(map(len, x))), told, self.identity())

    def whole(self, items: Any, *, overlap: bool = False) -> Encoded:
        """Each latent stands for its row as a whole, so that none overlap."""
        if not self.stream:
            return self.encoded(items)
        found = self.inner.whole(items)
        return replace(found, x=self.above(found.x), log_det=self._log_volume(len(found.x)), identity=self.identity())

    def joined(self, x: Tensor, rows: Encoded) -> Any:
        return self.inner.joined(self.below(x), rows)

    @torch.no_grad()
    def above(self, x: Tensor) -> Tensor:
        """x of the inner codec -> x of this one."""
        latents = (self.family.encode(some.to(self.device)).float().cpu() for some in x.split(CHUNK) if len(some))
        parts = list(map(self.representation.encode, latents))
        return torch.cat(parts) if parts else torch.empty(0, *self.space.shape)

    def decode(self, x: Tensor) -> Any:
        return self.inner.decode(self.below(x))

    @torch.no_grad()
    def below(self, x: Tensor) -> Tensor:
        """x of this codec -> x of the inner one."""
        latents = map(self.representation.decode, x.detach().cpu().split(CHUNK))
        return torch.cat([self.family.decode(z.to(self.device)).cpu() for z in latents])

    def partial(self, items: Any, known: Any = None) -> tuple[Tensor, Tensor]:
        raise Unsupported(
            "items cannot be completed by a model of their latents",
            why="each latent describes a whole part of an item, so a hole in the item is not a hole in the latents",
            fix="use the run of the autoencoder, or a run that was trained on the items themselves",
        )

    def identity(self) -> str:
        """Latents are those of one autoencoder's weights; a likelihood is of them as it gives them, whatever the scale
        that they were brought to.
        """
        weights = hashlib.sha256()
        for name, value in sorted(self.family.state_dict().items()):
            weights.update(f"{name} {tuple(value.shape)}".encode() + value.detach().cpu().numpy().tobytes())
        kind, inner = self.representation.kind, self.inner.to_json()
        return digest({"representation": kind, "inner": inner, "autoencoder": weights.hexdigest()})

    @property
    def takes_all(self) -> bool:
        return self.inner.takes_all

    def known(self, items: Any) -> NDArray[np.bool_]:
        return self.inner.known(items)

    def log_det(self, items: Any) -> Tensor:
        return self.encoded(items).log_det

    def _log_volume(self, rows: int) -> Tensor:
        """(rows,) log_det of so many rows."""
        scaled = self.representation.scale.log().expand(self.space.shape).sum()
        return torch.full((rows,), 0.0 - float(scaled), dtype=torch.float64)

    def to_json(self) -> dict[str, Any]:
        mean, scale = (each.flatten().tolist() for each in (self.representation.mean, self.representation.scale))
        return {"representation": self.representation.kind, "mean": mean, "scale": scale}

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        inner: Codec | None = None,
        family: Autoencoder | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> Self:
        """The state alone does not make the codec: the autoencoder and its codec are given."""
        if inner is None or family is None:
            raise CheckpointError("the codec of the latents is loaded without its autoencoder")
        codec = cls(inner, family, data["representation"], recipe=recipe)
        codec.representation.scaled_by(torch.tensor(data["mean"]), torch.tensor(data["scale"]))
        return codec


def part(items: Any, index: slice) -> Any:
    """Some items, in a row; of a table, rows."""
    return items.slice(index.start, index.stop - index.start) if hasattr(items, "slice") else items[index]
