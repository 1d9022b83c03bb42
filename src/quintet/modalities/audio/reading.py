"""Sound files -> mono recordings at one rate."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quintet.data import cache
from quintet.data.archives import BadFile, Entry, in_one_line
from quintet.data.dataset import Dataset, Found
from quintet.data.mapped import allocated
from quintet.data.problems import Problems
from quintet.data.splits import arrange, assign, hash_of
from quintet.modalities.audio.options import AudioReading
from quintet.modalities.audio.recordings import Recordings

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
MOST_FRAMES = 50_000_000
"""A recording with more samples, over all its channels, is refused by its header (at 44.1 kHz stereo: 9 minutes)."""
FILE_BYTES = 2**29
RATES = (100, 400_000)
"""Samples a second that a recording may have; other rates are damage, or no sound."""
FINEST = 1000
"""Two rates of larger parts (44,100 to 44,101) are taken for the nearest ratio, less than a millionth off: the filter
of their own would be millions of taps long."""


@dataclass(frozen=True)
class Sound:
    """One recording that is not decoded yet: its name, and its content as a file."""

    name: str
    read: Callable[[], bytes]


def sound_of(entry: Entry) -> Sound:
    return Sound(entry.name, lambda: entry.read(FILE_BYTES))


def header(content: bytes) -> tuple[int, int]:
    """(frames, rate). Raises BadFile."""
    import soundfile

    if not content:
        raise BadFile("the file is empty")
    try:
        facts = soundfile.info(io.BytesIO(content))
    except Exception as error:  # libsndfile's errors, and what its reader makes of odd headers
        raise BadFile(f"not a sound file: {in_one_line(error).rpartition(': ')[2]}") from None
    if facts.frames * facts.channels > MOST_FRAMES:
        raise BadFile(f"{facts.frames * facts.channels:,} samples; {MOST_FRAMES:,} are allowed")
    if facts.frames <= 0:
        raise BadFile("it holds no samples")
    low, high = RATES
    if not low <= facts.samplerate <= high:
        raise BadFile(f"{facts.samplerate:,} samples a second; from {low:,} to {high:,} are allowed")
    return int(facts.frames), int(facts.samplerate)


def decode(content: bytes, rate: int) -> np.ndarray:
    """(n,) float32 on [-1, 1], the mean of all channels, at `rate`. Raises BadFile."""
    import soundfile

    try:
        samples, own = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except Exception as error:
        raise BadFile(in_one_line(error)[:120]) from None
    if not len(samples):
        raise BadFile("it holds no samples")
    if len(samples) / own * rate > MOST_FRAMES:
        raise BadFile(f"{len(samples):,} samples at {own:,} Hz become more than {MOST_FRAMES:,} at {rate:,} Hz")
    if not np.isfinite(samples).all():
        raise BadFile("it holds NaN or Inf")
    return resample(samples.mean(1), own, rate)


def resample(samples: np.ndarray, own: int, rate: int) -> np.ndarray:
    """From one rate to another, by a polyphase filter (Kaiser window) that keeps what both can hold."""
    if own != rate:
        from scipy.signal import resample_poly

        ratio = Fraction(rate, own)
        if min(ratio.numerator, ratio.denominator) > FINEST:
            ratio = ratio.limit_denominator(FINEST)
        if ratio != 1:
            samples = resample_poly(samples.astype(np.float64), ratio.numerator, ratio.denominator)
    return samples.clip(-1, 1).astype(np.float32)


def read_sounds(sounds: Sequence[Sound], found: Found) -> Dataset:
    """Recordings, split and in the order of the splits; many of them lie in the cache, memory-mapped."""
    kept = cache.find(found.key, opened)
    if kept is not None:
        return kept
    problems = Problems(found, len(sounds), "recordings")
    good, facts, keys = [], [], []
    for index, sound in enumerate(cache.progress(sounds, "looking at recordings", len(sounds))):
        try:
            content = sound.read()
            facts.append(header(content))
        except BadFile as error:
            problems.add(sound.name, error)
            continue
        good.append(index)
        keys.append(hash_of(content))
    problems.check()
    found = found.at(good)
    rates = Counter(rate for _, rate in facts)
    rate = found.reading.of(AudioReading).rate or max(rates, key=lambda value: (rates[value], value))
    notes = []
    if set(rates) != {rate}:
        said = ", ".join(f"{count:,} at {value:,}" for value, count in rates.most_common(4))
        notes.append(f"resampled to {rate:,} Hz (--data.rate): {said}")
    part, how = assign(np.array(keys, np.uint64), found, found.labels)
    order, _, _ = arrange(part)
    chosen, part, found = [sounds[good[i]] for i in order], part[order], found.at(order)
    size = sum(4 * frames * rate // own for frames, own in facts)
    if size < cache.SMALL or not found.key:
        parts: list[np.ndarray] = []
        ends = decode_all(chosen, rate, problems, parts.append)
        return _dataset(Recordings([p for p in parts if len(p)], rate), ends, part, found, problems, (*notes, *how))

    def write(folder: Path) -> Dataset:
        raw = folder / "samples.raw"
        with raw.open("wb") as file:
            ends = decode_all(chosen, rate, problems, lambda samples: file.write(samples.tobytes()))
        total = int(ends[-1]) if len(ends) else 0
        target = allocated(folder / "samples.npy", np.float32, (total,))
        source = np.memmap(raw, np.float32, mode="r", shape=(total,))
        for start in range(0, total, 2**24):
            target[start : start + 2**24] = source[start : start + 2**24]
        del source
        raw.unlink()
        np.save(folder / "ends.npy", np.unique(ends[ends > 0]))
        np.save(folder / "rate.npy", rate)
        return _dataset(opened(folder), ends, part, found, problems, (*notes, *how))

    return cache.cached(found.key, write, opened)


def opened(folder: Path) -> Recordings:
    """Views of one long memory-mapped array: `samples.npy`, cut at `ends.npy`."""
    flat = np.asarray(np.load(folder / "samples.npy", mmap_mode="r"))  # a plain view: slicing a memmap is slow
    ends, rate = np.load(folder / "ends.npy"), int(np.load(folder / "rate.npy"))
    starts = np.concatenate([[0], ends[:-1]])
    return Recordings([flat[start:end] for start, end in zip(starts, ends, strict=True)], rate)


def decode_all(sounds: Sequence[Sound], rate: int, problems: Problems, put: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Hand each recording to `put`, an empty one where it cannot be read; returns where each ends, laid end to end."""
    ends, at = [], 0
    for sound in cache.progress(sounds, "decoding recordings", len(sounds)):
        try:
            samples = decode(sound.read(), rate)
        except BadFile as error:
            problems.add(sound.name, error)
            samples = np.empty(0, np.float32)
        put(samples)
        at += len(samples)
        ends.append(at)
    problems.check()
    return np.array(ends, np.int64)


def _dataset(items: Recordings, ends: np.ndarray, part: np.ndarray, found: Found, problems: Problems,
             notes: tuple[str, ...]) -> Dataset:  # fmt: skip
    good = np.diff(ends, prepend=0) > 0
    _, splits, few = arrange(part[good])
    labels = None if found.labels is None else found.labels.filter(pa.array(good))
    return Dataset("", "audio", items, splits, labels, notes=(*notes, *few, *problems.notes()))
