"""How far recordings are from real ones in what the ear goes by: levels in mel bands, and mel cepstra."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct

from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.metrics.distances import energy_distance
from quintet.metrics.estimates import with_errors
from quintet.modalities.audio import spectrum
from quintet.modalities.audio.recordings import Recordings

BANDS, HOP, FLOOR = 40, 0.01, -80.0
"""Mel bands; seconds between frames, whose windows are 2.5 times as long; decibels of full scale that are silence."""
CEPSTRA = 13
"""Coefficients, from the first: the zeroth is the loudness."""
MAX_RECORDINGS = 500


Decibels = list[NDArray[np.float64]]
"""Of each recording (frames, BANDS), decibels of full scale, at least FLOOR."""


def levels_of(recordings: Recordings) -> Decibels:
    """10 log10 of the power in mel bands, a full-scale sine having 1."""
    hop = max(1, round(HOP * recordings.rate))
    window = hop + 2 * round(0.75 * hop)
    filters = spectrum.mel_filters(BANDS, window, recordings.rate)
    out = []
    for samples in recordings:
        x = torch.zeros(max(1, math.ceil(len(samples) / hop)) * hop)
        x[: len(samples)] = torch.from_numpy(np.array(samples, np.float32))
        power = spectrum.stft(x, window, hop).abs().square() @ filters.T
        out.append((10 * power.double().clamp_min(10 ** (FLOOR / 10)).log10()).numpy())
    return out


def mel_statistics(levels: Decibels) -> NDArray[np.float64]:
    """(N, 2 BANDS): mean and deviation over time of the level in each band; a distance is root-mean-square decibels."""
    return np.stack([np.concatenate([frames.mean(0), frames.std(0)]) for frames in levels]) / math.sqrt(BANDS)


def cepstral_statistics(levels: Decibels) -> NDArray[np.float64]:
    """(N, 2 CEPSTRA): the same of the mel cepstra c_1 ... c_CEPSTRA, the orthonormal cosine transform of the levels.

    What is left is the shape of the spectrum, smoothed, without its loudness.
    """
    return mel_statistics([dct(frames, norm="ortho")[:, 1 : CEPSTRA + 1] for frames in levels])


def sound_figures(heldout: Recordings, fake: Recordings, seed: int = 0) -> dict[str, float]:
    """Energy distances, in decibels, of both statistics between at most MAX_RECORDINGS of each side.

    They are drawn by `seed`, since recordings often come in some order.
    """
    if heldout.rate != fake.rate:
        raise DataError(f"the samples have {fake.rate} values a second, but the real recordings have {heldout.rate}")
    n = min(len(heldout), len(fake), MAX_RECORDINGS)
    real, made = (levels_of(side[some(side, n, seed)]) for side in (heldout, fake))
    return with_errors(
        {
            "mel": energy_distance(mel_statistics(real), mel_statistics(made)),
            "cepstral": energy_distance(cepstral_statistics(real), cepstral_statistics(made)),
        }
    )
