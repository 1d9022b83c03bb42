"""Distances of recordings against what the decibel and the cosine transform say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quintet.core.errors import DataError
from quintet.modalities.audio import figures as sounds
from quintet.modalities.audio.recordings import Recordings
from quintet.sources.load import load_source

RATE = 8000


def tone(hertz: float, loud: float = 1.0, n: int = RATE // 2) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hertz * np.arange(n) / RATE)).astype(np.float32)


def levels(*samples: np.ndarray) -> sounds.Decibels:
    return sounds.levels_of(Recordings(samples, RATE))


def test_levels_are_decibels_of_full_scale() -> None:
    full, half, silent, empty = levels(tone(1000), tone(1000, 0.5), np.zeros(100), np.zeros(0))
    assert full.shape == (50, sounds.BANDS)
    inner, band = slice(3, -3), int(full.mean(0).argmax())
    assert full[inner, band].mean() == pytest.approx(0, abs=2)  # the nearest band is not centred on the tone
    assert (full - half)[inner, band].mean() == pytest.approx(20 * math.log10(2), abs=0.01)
    assert (silent == sounds.FLOOR).all()
    assert empty.shape == (1, sounds.BANDS)


def test_a_gain_is_its_decibels_and_no_change_of_timbre() -> None:
    rng = np.random.default_rng(0)
    noises = [0.1 * rng.normal(size=RATE // 4) for _ in range(4)]
    quiet, loud = levels(*noises), levels(*(4 * each for each in noises))
    gap = sounds.mel_statistics(loud) - sounds.mel_statistics(quiet)
    assert np.linalg.norm(gap, axis=1) == pytest.approx(20 * math.log10(4), abs=1e-3)
    assert np.abs(sounds.cepstral_statistics(loud) - sounds.cepstral_statistics(quiet)).max() < 1e-3


def test_pitch_is_heard() -> None:
    low, same, high = (Recordings([tone(f * k) for k in (1, 1.1, 1.2, 1.3)], RATE) for f in (300, 305, 900))
    near, far = sounds.sound_figures(low, same), sounds.sound_figures(low, high)
    assert all(far[name] > 3 * abs(near[name]) for name in ("mel", "cepstral"))


def test_real_notes_are_at_no_distance_from_real_notes() -> None:
    data = load_source("notes")
    found = sounds.sound_figures(data.rows("validation"), data.rows("test"))
    for name in ("mel", "cepstral"):
        assert abs(found[name]) < 3 * found[f"{name}_stderr"]
    with pytest.raises(DataError, match="values a second"):
        sounds.sound_figures(data.rows("test"), Recordings([tone(300)], 16_000))
