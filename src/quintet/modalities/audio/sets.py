"""Named sets of recordings; `notes` are computed, with known pitch and timbre."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv

from quintet.data.archives import zip_entries
from quintet.data.dataset import Dataset
from quintet.data.published import Source, named_file
from quintet.data.splits import arrange, by_hash, keys_of
from quintet.modalities.audio import reading as sounds
from quintet.modalities.audio.recordings import Recordings

RATE, SAMPLES, PER_NOTE = 8000, 4000, 11
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# timbre -> (amplitudes of the harmonics 1, 2, ...; seconds of attack; seconds after which 1/e is left)
TIMBRES: dict[str, tuple[tuple[float, ...], float, float]] = {
    "flute": ((1.0, 0.12, 0.03), 0.06, 4.0),
    "clarinet": ((1.0, 0.0, 0.5, 0.0, 0.25, 0.0, 0.12), 0.03, 2.0),
    "violin": (tuple(1 / k for k in range(1, 9)), 0.08, 3.0),
    "piano": (tuple(0.6 ** (k - 1) for k in range(1, 7)), 0.004, 0.18),
}
OCTAVES = (4, 5)


def note(frequency: float, timbre: str, phases: np.ndarray, loudness: float, softness: float) -> np.ndarray:
    """(4000,) float32: sum over k of a_k sin(2 pi k f t + phase_k), under an attack and an exponential decay.

    `softness` 0 ... 1 weakens the k-th harmonic by (1 - softness / 2)^(k - 1). Harmonics beyond 3.8 kHz are left out.
    """
    harmonics, attack, decay = TIMBRES[timbre]
    t = np.arange(SAMPLES) / RATE
    wave = np.zeros(SAMPLES)
    for k, amplitude in enumerate(harmonics, start=1):
        if k * frequency < 0.475 * RATE:
            wave += amplitude * (1 - softness / 2) ** (k - 1) * np.sin(2 * np.pi * k * frequency * t + phases[k - 1])
    release = np.clip((SAMPLES / RATE - t) / 0.02, 0, 1)
    wave *= (1 - np.exp(-t / attack)) * np.exp(-t / decay) * release
    return (loudness * wave / np.abs(wave).max()).astype(np.float32)


def notes() -> Dataset:
    """24 pitches (equal temperament, A4 = 440 Hz) x 4 timbres x 11 performances that differ in phases, loudness,
    tuning (5 cents) and softness. A performance is in one split by hash.
    """
    rng = np.random.RandomState(0)
    samples, pitch, timbre, names = [], [], [], []
    for octave in OCTAVES:
        for step, name in enumerate(PITCHES):
            for kind in TIMBRES:
                for take in range(PER_NOTE):
                    cents = 100 * (step - 9) + 1200 * (octave - 4) + rng.uniform(-5, 5)
                    phases, loudness, softness = rng.uniform(0, 2 * np.pi, 8), rng.uniform(0.3, 0.9), rng.uniform()
                    samples.append(note(440 * 2 ** (cents / 1200), kind, phases, loudness, softness))
                    pitch.append(f"{name}{octave}")
                    timbre.append(kind)
                    names.append(f"{name}{octave} {kind} {take}")
    order, splits, _ = arrange(by_hash(keys_of(name.encode() for name in names)))
    labels = pa.table({"pitch": pitch, "timbre": timbre}).take(pa.array(order))
    return Dataset("notes", "audio", Recordings([samples[i] for i in order], RATE), splits, labels)


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def spoken_digits() -> Dataset:
    """Names are digit_speaker_index.wav: indices 0-4 are test, 5-9 validation, the rest train."""
    samples, labels, speakers, part = [], [], [], []
    for entry in zip_entries(named_file("fsdd", "fsdd_wav.zip")):
        digit, speaker, index = entry.stem.split("_")
        samples.append(sounds.decode(entry.read(), 8000))
        labels.append(int(digit))
        speakers.append(speaker)
        part.append(2 if int(index) < 5 else 1 if int(index) < 10 else 0)
    order, splits, _ = arrange(np.array(part))
    words = [DIGITS[digit] for digit in labels]
    table = pa.table({"label": labels, "speaker": speakers, "word": words}).take(pa.array(order))
    return Dataset("spoken_digits", "audio", Recordings([samples[i] for i in order], 8000), splits, table)


SETS: dict[str, Source] = {
    "notes": Source(notes, "audio", 1056, "synthesised notes, 0.5 s at 8 kHz: 24 pitches, 4 timbres, "
        "11 performances", ("pitch", "timbre")),
    "spoken_digits": Source(spoken_digits, "audio", 3_000, "3,000 spoken digits of 6 speakers, 8 kHz (Free "
        "Spoken Digit Dataset, CC BY-SA 4.0)", ("label", "speaker", "word"), "fsdd"),
}  # fmt: skip
