"""Data that are computed: musical notes with known pitch and timbre, and number words in Chinese and English."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from quintet.data.dataset import Dataset
from quintet.data.recordings import Recordings
from quintet.data.splits import arrange, by_hash, keys_of

# -- notes -----------------------------------------------------------------------------------------------------------

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


# -- numbers ---------------------------------------------------------------------------------------------------------

ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
FIGURES = "零一二三四五六七八九"
UNITS = ("", "十", "百", "千")
COUNTS = {1: 10, 2: 90, 3: 900, 4: 4000, 5: 6000, 6: 9000}
"""How many numbers of each length; all of the short ones."""


def english(n: int) -> str:
    """A number below a million, as American English reads it: 105,023 is one hundred five thousand twenty-three."""
    if n >= 1000:
        rest = f" {english(n % 1000)}" if n % 1000 else ""
        return f"{english(n // 1000)} thousand{rest}"
    if n >= 100:
        rest = f" {english(n % 100)}" if n % 100 else ""
        return f"{ONES[n // 100]} hundred{rest}"
    if n >= 20:
        return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")
    return ONES[n]


def chinese(n: int) -> str:
    """A number below a million in Chinese, as it is written (二 throughout, never 两): 105,023 is 十万五千零二十三.

    Zeros between figures of a group of four are one 零, as are those that a lower group begins with; a number that
    would begin with 一十 begins with 十.
    """
    if n == 0:
        return FIGURES[0]
    high, low = divmod(n, 10_000)
    text = _four(high) + "万" if high else ""
    if low:
        text += ("零" if high and low < 1000 else "") + _four(low)
    return text.removeprefix("一") if text.startswith("一十") else text


def _four(n: int) -> str:
    """1 ... 9999."""
    text, gap = "", False
    for place in (3, 2, 1, 0):
        figure = n // 10**place % 10
        if figure:
            text += ("零" if gap and text else "") + FIGURES[figure] + UNITS[place]
        gap = not figure
    return text


def numbers() -> Dataset:
    """20,000 different numbers of one to six figures: English words as items, Chinese words and the number beside."""
    rng = np.random.RandomState(0)
    chosen: list[int] = []
    for length, count in COUNTS.items():
        first, last = (10 ** (length - 1) if length > 1 else 0), 10**length
        chosen += sorted(first + rng.permutation(last - first)[:count])
    order, splits, _ = arrange(by_hash(keys_of(str(number).encode() for number in chosen)))
    values = [int(chosen[i]) for i in order]
    labels = pa.table({"chinese": [chinese(value) for value in values], "number": values})
    return Dataset("numbers", "text", [english(value) for value in values], splits, labels)
