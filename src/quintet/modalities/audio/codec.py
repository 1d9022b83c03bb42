"""Recordings <-> log-mel pictures, waveforms, or symbols, with phase recovery on the way back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from quintet.core import settings
from quintet.core.codec import Codec, Preprocessing, Representation, RepresentationKind, digest
from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.core.spaces import Continuous
from quintet.modalities.audio import spectrum
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.representations import Levels, SymbolRepresentation, Symbols

Features = Literal["mel", "waveform", "mulaw"]

LONGEST = 4.0
"""Seconds: no more than that by default, however long the recordings are."""
LOOKED_AT = 2000
"""The constants are read off at most this many recordings, evenly spread."""
SILENCE = 2.0**-9
"""A trailing part of a waveform below this is silence (-54 dB of full scale)."""
QUIET = 0.04
"""Trailing frames of a log-mel picture whose mean is below this share of the range are silence."""
FADE = 0.005
"""Seconds over which a completed part departs from the given one."""


class Waveform(Representation):
    """Continuous: samples (B, n) <-> x = samples / scale in (B, 1, n)."""

    kind = "continuous"

    def fit(self, samples: int, scale: float) -> None:
        self.space, self.scale = Continuous((1, samples)), scale
        self.log_cell = -samples * math.log(scale)  # log |dx / dsamples|

    def encode(self, waves: Tensor) -> Tensor:
        return waves[:, None] / self.scale

    def decode(self, x: Tensor) -> Tensor:
        return x.flatten(1) * self.scale

    def spread(self, known: Tensor) -> Tensor:
        return known[:, None]


class AudioCodec(Codec):
    """Recordings of one sample rate, cut or padded with silence to one length.

    mel: 10 log10 of the power in `bands` mel bands of `frames` windows, from `low` to `high` dB (constants of the
    training split), quantised to `levels` values. continuous: x = 2 k / (levels - 1) - 1 in (bands, frames), the
    bands as channels; discrete: k, a frame after another, low bands first, so that a prefix is a shorter recording.
    Back: mel bands -> frequencies by multiplicative updates, then the fast Griffin-Lim algorithm, one recording at a
    time, so that a recording does not depend on its neighbours.
    waveform: x = samples / scale in (1, n). mulaw: G.711 codes 0 ... 255 in (n,).
    A recording that was padded gets its trailing silence cut off again.
    """

    class Settings(settings.Settings):
        features: Features = Field(
            "mel", description="what a recording is encoded as: mel bands, the waveform, or its mu-law codes"
        )
        seconds: float | None = Field(
            None,
            ge=0.02,
            le=120,
            description="the length of every item in seconds; none: the 98th percentile, at most 4 s",
        )
        bands: int = Field(32, ge=4, le=512, description="mel bands")
        hop: float = Field(0.025, ge=0.001, le=0.5, description="seconds between frames")
        window: float = Field(2.0, ge=1, le=16, description="length of a window, in hops")
        levels: int = Field(64, ge=2, le=1024, description="values of a mel band")
        decibels: float = Field(80.0, ge=10, le=140, description="range of a mel band, below the loudest")
        iterations: int = Field(32, ge=0, le=1000, description="steps by which phases are found again")

    name = "audio"
    preprocessing: Preprocessing = "flattened"
    wanted = "a list of arrays of samples, or quintet's Recordings"
    representations = (Levels, Symbols)
    representation: SymbolRepresentation | Waveform

    def __init__(self, representation: RepresentationKind | None = None, settings: Any = None) -> None:
        super().__init__(representation, settings)
        self.measure = "density" if self.settings.features == "waveform" else "encoded"
        self.rate, self.samples, self.frames = 0, 0, 0
        self.high, self.scale = 0.0, 1.0

    @classmethod
    def offered(cls, settings: Any) -> tuple[type[Representation], ...]:
        only: dict[str, tuple[type[Representation], ...]] = {"waveform": (Waveform,), "mulaw": (Symbols,)}
        return only.get(settings.features, cls.representations)

    def identity(self) -> str:
        """Recordings are cut to one length, and mel bands keep only the loudness: values of another length or of other
        bands are of another space. Both representations of the same bands are probabilities of the same levels.
        """
        kept = ("bands", "hop", "window", "levels", "decibels") if self.settings.features == "mel" else ()
        told = {name: getattr(self.settings, name) for name in ("features", *kept)}
        return digest(
            told | {"rate": self.rate, "samples": self.samples, "high": round(self.high, 2) if kept else None}
        )

    # -- constants of the training split -----------------------------------------------------------------------------

    def fit(self, items: Any) -> Self:
        self.rate = items.rate if isinstance(items, Recordings) else 0
        recordings = self._check(items)
        if len(recordings) == 0:
            raise DataError("the training data hold no recordings")
        lengths = np.array([len(samples) for samples in recordings])
        if lengths.max() == 0:
            raise DataError("every recording is empty")
        wanted = self.settings.seconds or min(float(np.quantile(lengths, 0.98)) / self.rate, LONGEST)
        few = recordings[some(recordings, LOOKED_AT, 0)]
        self.scale = min(1.0, max(float(np.abs(samples).max(initial=0.0)) for samples in few)) or 1.0
        self._set_length(max(1, round(wanted * self.rate)))
        if self.settings.features == "mel":
            self.high = max(float(self._decibels(self._wave(samples)).max()) for samples in few)
        return self

    def _set_length(self, samples: int) -> None:
        """Lengths and the space: whole frames, and a multiple of 4 of them in pictures (nets halve)."""
        s = self.settings
        if s.features != "mel":
            self.samples = self.dims = samples
            if isinstance(self.representation, Waveform):
                self.representation.fit(samples, self.scale)
            else:
                self.representation.fit((samples,), 256)
            return
        self.stride = max(1, round(s.hop * self.rate / 2))
        """Samples between two windows; a frame is the mean power of two."""
        self.width = max(2 * self.stride, round(s.window * s.hop * self.rate / 2) * 2)
        frames = -(-samples // (2 * self.stride))
        self.frames = -(-frames // 4) * 4 if frames > 8 and isinstance(self.representation, Levels) else frames
        self.samples, self.dims = self.frames * 2 * self.stride, self.frames * s.bands
        self.filters = spectrum.mel_filters(s.bands, self.width, self.rate)
        assert not isinstance(self.representation, Waveform)
        self.representation.fit((self.frames, s.bands), s.levels, (1, 0))

    # -- raw -> encoded ----------------------------------------------------------------------------------------------

    def _check(self, items: Any) -> Recordings:
        if not isinstance(items, Recordings):
            raise DataError(f"expected recordings, got {type(items).__name__}")
        if items.rate != self.rate:
            raise DataError(
                f"the recordings have {items.rate} samples a second, but the model was trained on {self.rate}",
                fix=f"resample them with --data.rate {self.rate}",
            )
        return items

    def _wave(self, samples: np.ndarray) -> Tensor:
        """One recording as float32 (self.samples,), cut or padded with silence."""
        wave = np.asarray(samples, np.float32)
        if wave.ndim != 1:
            raise DataError(f"expected a mono recording of shape (samples,), got {wave.shape}")
        if not np.isfinite(wave).all():
            raise DataError("a recording contains NaN or infinite values")
        out = torch.zeros(self.samples)
        cut = wave[: self.samples]
        out[: len(cut)] = torch.from_numpy(np.array(cut)).clamp(-1, 1)
        return out

    def _decibels(self, wave: Tensor) -> Tensor:
        """(samples,) -> (frames, bands): 10 log10 of the mel power, averaged over the two windows of a frame."""
        power = spectrum.stft(wave, self.width, self.stride).abs().square() @ self.filters.T
        return 10 * power.view(self.frames, 2, -1).mean(1).clamp_min(spectrum.TINY**2).log10()

    def encode(self, items: Any) -> Tensor:
        waves = [self._wave(samples) for samples in self._check(items)]
        features = torch.stack([self._features(wave) for wave in waves or [torch.zeros(self.samples)]])
        return self.representation.encode(features[: len(waves)])

    def _features(self, wave: Tensor) -> Tensor:
        """Of one recording: its samples, their codes, or the levels of its mel bands (frames, bands)."""
        s = self.settings
        if s.features == "waveform":
            return wave
        if s.features == "mulaw":
            return spectrum.mu_law(wave).long()
        share = (self._decibels(wave) - self.high) / s.decibels + 1
        return (share.clamp(0, 1) * (s.levels - 1)).round().long()

    def losses(self, items: Any) -> list[str]:
        """Of recordings that are cut, or louder than full scale."""
        out = []
        for samples in items:
            told = [f"cut to its first {self.samples / self.rate:.3g} s"] if len(samples) > self.samples else []
            if (over := int((np.abs(samples[: self.samples]) > 1).sum())) > 0:
                told.append(f"{over:,} samples are louder than full scale and count as that")
            out.append("; ".join(told))
        return out

    def log_det(self, items: Any) -> Tensor:
        """waveform: log |dx / draw|. mel: density on [-1, 1] -> mass of a level, so that both representations agree."""
        return torch.full((len(items),), self.representation.log_cell, dtype=torch.float64)

    # -- encoded -> raw ----------------------------------------------------------------------------------------------

    def decode(self, x: Tensor) -> Recordings:
        each = self.representation.decode(x.detach().cpu())
        return Recordings([self._sound(one).numpy() for one in each], self.rate)

    def _sound(self, features: Tensor) -> Tensor:
        """A recording of any features, without its trailing silence."""
        s = self.settings
        if s.features == "mel":
            top = s.levels - 1
            return self._vocode(features.clamp(0, top).float() / top)
        wave = spectrum.mu_law_inverse(features) if s.features == "mulaw" else features
        wave = wave.float().nan_to_num(0.0).clamp(-1, 1)
        return wave[: _end(wave.abs() > SILENCE, 1)]

    def _vocode(self, share: Tensor) -> Tensor:
        """(frames, bands) on [0, 1] -> a waveform without its trailing silence."""
        s = self.settings
        share = share[: _end(share.mean(1) > QUIET, 1)]
        fine = _between(share)
        power = 10 ** (((fine - 1) * s.decibels + self.high) / 10) * (fine > 0)
        magnitude = spectrum.unmel(power, self.filters).sqrt()
        wave = spectrum.griffin_lim(magnitude, self.width, self.stride, iterations=s.iterations)
        return wave.nan_to_num(0.0).clamp(-1, 1)

    # -- holes -------------------------------------------------------------------------------------------------------

    def partial(self, items: Any, known: Any = None) -> tuple[Tensor, Tensor]:
        """A shorter recording is a prompt. A mask `known` over samples, (n,) or (N, n), says True where a sample is
        given; behind the mask and the recording there is silence. A frame is known if all its samples are.
        """
        x = self.encode(items)
        given = torch.from_numpy(self._given(items, known))
        if self.settings.features != "mel":
            return x, self.representation.spread(given)
        edge, span = (self.width - self.stride) // 2, self.width + self.stride
        padded = torch.nn.functional.pad(given, (edge, span), value=True)  # silence outside is known
        frames = padded.unfold(1, span, 2 * self.stride)[:, : self.frames].all(-1)  # (N, frames)
        return x, self.representation.spread(frames[:, :, None].expand(-1, -1, self.settings.bands))

    def _given(self, items: Any, known: Any) -> np.ndarray:
        """(N, samples) bool: which samples are known."""
        recordings = self._check(items)
        out = np.zeros((len(recordings), self.samples), bool)
        if known is None:
            for row, samples in zip(out, recordings, strict=True):
                row[: len(samples)] = True
            return out
        mask = np.asarray(known)
        if mask.dtype != bool or mask.ndim not in (1, 2) or (mask.ndim == 2 and len(mask) != len(recordings)):
            raise DataError(
                f"expected a boolean mask of shape (samples,) or (N, samples), got {mask.dtype} of shape {mask.shape}"
            )
        out[:, mask.shape[-1] :] = True
        out[:, : mask.shape[-1]] = mask[..., : self.samples]
        return out

    def fill(self, items: Any, known: Any, completed: Any) -> Recordings:
        """Known samples are put back exactly; into the rest they fade over 5 ms, continued by point reflection at their
        edge (which keeps value and slope), because the recovered phase differs from the given one.
        """
        given, fade = self._given(items, known), max(1, round(FADE * self.rate))
        out = []
        for mask, samples, made in zip(given, self._check(items), self._check(completed), strict=True):
            wave = self._wave(samples).numpy()
            voiced = np.flatnonzero(mask[: len(samples)])
            end = max(len(made), int(voiced[-1]) + 1 if len(voiced) else 1)
            new = np.zeros(self.samples, np.float32)
            new[: len(made)] = made[: self.samples]
            out.append(_join(wave, new, mask, fade)[:end])
        return Recordings(out, self.rate)

    # -- state -------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "representation": self.representation.kind,
            "settings": self.settings.model_dump(mode="json"),
            "rate": self.rate,
            "samples": self.samples,
            "high": self.high,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        codec = cls(data["representation"], cls.Settings(**data["settings"]))
        codec.rate, codec.high, codec.scale = data["rate"], data["high"], data["scale"]
        codec._set_length(data["samples"])
        return codec


def _end(loud: Tensor, least: int) -> int:
    """Behind the last True, but at least `least`."""
    where = loud.nonzero()
    return max(least, int(where[-1]) + 1 if len(where) else 0)


def _between(frames: Tensor) -> Tensor:
    """(frames, bands) -> (2 frames, bands): the two windows of a frame lie a quarter of a hop beside its centre, and
    get what a straight line between neighbouring frames has there."""
    before, after = torch.cat([frames[:1], frames[:-1]]), torch.cat([frames[1:], frames[-1:]])
    return torch.stack([0.75 * frames + 0.25 * before, 0.75 * frames + 0.25 * after], 1).flatten(0, 1)


def _join(given: np.ndarray, made: np.ndarray, known: np.ndarray, fade: int) -> np.ndarray:
    """`given` where it is known, else `made`, with fades from the edges of what is known into what is made."""
    out = np.where(known, given, made)
    edges = np.flatnonzero(np.diff(known.astype(np.int8)))
    for edge in edges:
        # the last known sample, and the direction of the unknown ones
        last, step = (edge, 1) if known[edge] else (edge + 1, -1)
        for i in range(1, fade + 1):
            to, back = last + step * i, last - step * i
            if not (0 <= to < len(out) and 0 <= back < len(out)) or known[to] or not known[back]:
                break
            weight = 1 - i / (fade + 1)
            mirrored = 2 * given[last] - given[back]
            out[to] = weight * mirrored + (1 - weight) * out[to]
    return out.clip(-1, 1)
