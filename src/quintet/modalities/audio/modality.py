"""Audio: `Recordings`, mono and of any length, at one sample rate."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from quintet.core.codec import Codec
from quintet.core.errors import UsageError
from quintet.core.random import some
from quintet.data.archives import Entry
from quintet.data.dataset import Dataset, Found
from quintet.metrics.measures import Figures, Measure
from quintet.modalities import Choices
from quintet.modalities.audio.codec import AudioCodec
from quintet.modalities.audio.given import raw_recordings, write_recordings
from quintet.modalities.audio.pictures import spectrogram_png, spectrograms, waves
from quintet.modalities.audio.reading import SUFFIXES, read_sounds, sound_of
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.audio.sets import SETS
from quintet.modalities.cards import Card
from quintet.modalities.pictures import grid_png
from quintet.modalities.protocol import Modality
from quintet.modalities.provenance import Format, Provenance, software, text_of

PAUSE = 0.25
"""Seconds of silence between the recordings of one file."""
HEARD = 20
"""So many recordings of a run's samples are written to be listened to."""
SECONDS, PLAYERS, SPECTROGRAMS = 10, 4, 50
"""Of recordings in a report: seconds of each, how many can be played, how many are drawn."""


def with_silence_between(recordings: Recordings) -> NDArray[np.float32]:
    """One recording after another (n,), with silence between them."""
    pause = np.zeros(round(PAUSE * recordings.rate), np.float32)
    parts = [part for samples in recordings for part in (np.asarray(samples, np.float32), pause)]
    return np.concatenate(parts[:-1]) if parts else pause[:0]


def sound(samples: NDArray[Any], rate: int, provenance: Provenance, container: Literal["WAV", "FLAC"] = "WAV") -> bytes:
    """A file of 16-bit samples with the provenance as its comment: ICMT of RIFF, or COMMENT of FLAC."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, "PCM_16", format=container) as file:
        if provenance:
            file.software = software(provenance)
            file.comment = text_of(provenance)
        file.write(np.clip(samples, -1, 1))
    return buffer.getvalue()


def in_one(recordings: Recordings, provenance: Provenance, container: Literal["WAV", "FLAC"] = "WAV") -> bytes:
    return sound(with_silence_between(recordings), recordings.rate, provenance, container)


def npz(recordings: Recordings, provenance: Provenance) -> bytes:
    """All samples side by side, the length of each recording, and the rate."""
    buffer = io.BytesIO()
    samples = np.concatenate([np.zeros(0, np.float32), *recordings])
    lengths = np.array([len(each) for each in recordings])
    np.savez_compressed(buffer, allow_pickle=False, samples=samples, lengths=lengths, rate=np.array(recordings.rate))
    return buffer.getvalue()


class AudioModality(Modality):
    name = "audio"
    door = "sounds"
    codec = AudioCodec
    things = "recordings"
    previewed = 6
    formats = {".wav": Format(in_one), ".flac": Format(partial(in_one, container="FLAC")), ".npz": Format(npz)}
    single = ".wav"

    measures = (
        Measure("mel", "Distance of mel bands, dB", "low", "Energy distance of mean levels and how much they vary."),
        Measure("cepstral", "Distance of mel cepstra, dB", "low", "The same of the shape of the spectrum."),
    )

    sets = SETS
    suffixes = SUFFIXES
    feature = "Audio"

    def read(self, entries: Sequence[Entry], found: Found) -> Dataset:
        return read_sounds([sound_of(entry) for entry in entries], found)

    def owns(self, items: Any) -> bool:
        return isinstance(items, Recordings)

    def contents(self, items: Recordings) -> Iterator[bytes]:
        return (samples.tobytes() for samples in items)

    def halves(self, first: Recordings, second: Recordings) -> Recordings:
        parts = [np.concatenate([a[: len(a) // 2], b[len(b) // 2 :]]) for a, b in zip(first, second, strict=True)]
        return Recordings(parts, first.rate)

    def raw(self, items: Any, codec: Codec, column: str | None, reading: Choices) -> Recordings:
        return raw_recordings(items, codec)

    def reading(self, codec: Codec, reading: Choices) -> dict[str, Any]:
        return {"rate": codec.rate if isinstance(codec, AudioCodec) else reading["rate"]}

    def stored(self, data: Any, folder: Path) -> Path | None:
        return write_recordings(data, folder / "recordings") if isinstance(data, Recordings) else None

    def known(self, items: Recordings, known: str | None, *, hole: str | None, reading: Choices) -> tuple[Any, Any]:
        """The first so many seconds."""
        if known is None or hole is not None:
            return super().known(items, known, hole=hole, reading=reading)
        try:
            count = round(float(known.removesuffix("s")) * items.rate)
        except ValueError:
            what = f"`known` must be a number of seconds for recordings, got {known!r}"
            raise UsageError(what, fix="give the seconds of the known beginning, for example 1.5") from None
        return Recordings([samples[:count] for samples in items], items.rate), None

    def facts(self, items: Recordings) -> dict[str, Any]:
        seconds = items.seconds
        spread = [float(seconds.min()), float(np.median(seconds)), float(seconds.max())]
        return {"rate": items.rate, "seconds": [round(value, 3) for value in spread],
                "total_seconds": round(float(seconds.sum()), 1)}  # fmt: skip

    def problems(self, items: Recordings) -> list[str]:
        silent = sum(not np.any(samples) for samples in items)
        return [f"{silent:,} recordings are silent"] if silent else []

    def preview(self, items: Recordings, captions: list[str]) -> bytes:
        return waves(items, captions)

    def cards(self, items: Recordings, captions: list[str]) -> list[Card]:
        """The first seconds of each, and the spectrogram of these."""
        found = []
        for samples, caption in zip(items, captions, strict=True):
            begin = samples[: SECONDS * items.rate]
            drawn = grid_png(spectrograms(Recordings([begin], items.rate)), 1, 1)
            caption = f"{caption}  {len(samples) / items.rate:.2f} s".strip()
            found.append(Card("audio/wav", sound(begin, items.rate, {}), caption, drawn))
        return found

    @property
    def at_most(self) -> Mapping[str, int]:
        from quintet.modalities.audio.figures import MAX_RECORDINGS

        return {"recordings": MAX_RECORDINGS}

    def figures(
        self,
        fake: Recordings,
        real: Callable[[str], Recordings],
        split: str,
        codec: Codec,
        *,
        labelled: bool,
        most: int,
        seed: int,
    ) -> Figures:
        """How far they are from real ones in what the ear goes by."""
        from quintet.modalities.audio.figures import sound_figures  # what it needs takes long to load

        return Figures(sound_figures(real(split), fake, seed), {})

    def shown(self, items: Recordings, codec: Codec, reference: Any = None) -> dict[str, Any]:
        """Spectrograms, and some to listen to."""
        played = items[some(items, PLAYERS, 0)]
        sounds = [sound(samples[: SECONDS * items.rate], items.rate, {}) for samples in played]
        drawn = spectrogram_png(items[some(items, SPECTROGRAMS, 0)])
        return {
            "kind": "audio",
            "png": base64.b64encode(drawn).decode(),
            "sounds": [base64.b64encode(file).decode() for file in sounds],
        }

    def pairs(self, samples: Any, near: Any, distances: list[float], codec: Codec) -> dict[str, Any]:
        sheet = spectrograms(Recordings([*samples, *near], samples.rate))
        return {"kind": "image", "png": base64.b64encode(grid_png(sheet, len(samples), 1)).decode()}

    def looks(self, items: Recordings, codec: Codec) -> dict[str, bytes]:
        return {".wav": in_one(items[:HEARD], {}), ".png": spectrogram_png(items)}

    def singles(
        self, items: Recordings, provenance: Provenance, codec: Codec | None, reading: Choices
    ) -> Iterator[bytes]:
        for index, samples in enumerate(items):
            yield sound(samples, items.rate, {**provenance, "index": index})


MODALITY = AudioModality()
