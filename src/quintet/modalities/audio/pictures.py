"""Recordings as spectrograms and waves."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from quintet.modalities import pictures
from quintet.modalities.audio import spectrum
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.pictures import BLUE, PAPER, font, grid_png, png_of

HEIGHT, FRAMES = 64, 400
"""A spectrogram: mel bands, and at most so many frames."""
DEPTH = 70
"""Decibels below a recording's own loudest that are still visible."""
INK = np.array([[13, 12, 28], [74, 22, 94], [178, 45, 86], [244, 129, 52], [250, 238, 170]])
"""Silence ... loud."""


def spectrograms(recordings: Recordings, hop: float = 0.005) -> NDArray[np.uint8]:
    """(N, 64, frames, 3): log-mel power, low at the bottom, time to the right on one scale for all; dark is 70 dB below
    the loudest of each recording. `hop` seconds a column, or more where recordings are long.
    """
    longest = max((len(samples) for samples in recordings), default=0)
    stride = max(1, round(max(hop * recordings.rate, longest / FRAMES)))
    width = max(4 * stride, 2 * round(0.016 * recordings.rate))
    filters = spectrum.mel_filters(HEIGHT, width, recordings.rate)
    sheet = np.zeros((len(recordings), HEIGHT, max(1, math.ceil(longest / stride)), 3), np.uint8)
    sheet[:] = INK[0]
    for cell, samples in zip(sheet, recordings, strict=True):
        wave = torch.from_numpy(np.array(samples, np.float32))
        wave = torch.cat([wave, torch.zeros(-len(wave) % stride)])
        if len(wave):
            power = spectrum.stft(wave, width, stride).abs().square() @ filters.T
            decibels = 10 * power.clamp_min(1e-9).log10()
            share = ((decibels - decibels.max()) / DEPTH + 1).clamp(0, 1).numpy()
            share = np.where(power.numpy() > 1e-9, share, 0.0)  # digital silence is dark, however quiet the rest
            ink = [np.interp(share, np.linspace(0, 1, len(INK)), INK[:, channel]) for channel in range(3)]
            cell[:, : len(share)] = np.stack(ink, -1).transpose(1, 0, 2)[::-1].round()
    return sheet


def spectrogram_png(recordings: Recordings, columns: int = 10) -> bytes:
    """Spectrograms side by side as one PNG."""
    return grid_png(spectrograms(recordings), columns, scale=1)


def waves(recordings: Recordings, captions: list[str]) -> bytes:
    """Each recording as a wave over its spectrogram: 512-point windows, 80 dB below the loudest is white."""
    width, tall = 300, 150
    across = min(3, len(recordings))
    sheet = Image.new("RGB", (across * (width + 10), -(-len(recordings) // across) * (tall + 24)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (samples, caption) in enumerate(zip(recordings, captions, strict=True)):
        left, top = place % across * (width + 10), place // across * (tall + 24)
        seconds = len(samples) / recordings.rate
        draw.text((left, top + 2), f"{caption[:30]}  {seconds:.2f} s, {recordings.rate:,} Hz", pictures.INK, font(11))
        edges = np.linspace(0, len(samples), width + 1).astype(int)
        wave = samples / max(float(np.abs(samples).max(initial=0)), 1e-6)
        for x in range(width):
            part = wave[edges[x] : max(edges[x] + 1, edges[x + 1])]
            if len(part):
                draw.line((left + x, top + 42 - 22 * part.max(), left + x, top + 42 - 22 * part.min()), fill=BLUE)
        sheet.paste(spectrogram(samples, (width, tall - 60)), (left, top + 68))
    return png_of(sheet)


def spectrogram(samples: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Power in dB over time (right) and frequency (up), dark is loud."""
    window = 512
    padded = np.pad(samples.astype(np.float64), (0, max(0, window - len(samples))))
    starts = np.linspace(0, len(padded) - window, min(size[0], max(1, len(padded) // 64))).astype(int)
    frames = np.stack([padded[start : start + window] for start in starts]) * np.hanning(window)
    power = 20 * np.log10(np.abs(np.fft.rfft(frames, axis=1)).T[::-1] + 1e-9)
    shade = 255 * np.clip((power.max() - power) / 80, 0, 1)
    return Image.fromarray(shade.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR).convert("RGB")
