"""Pictures of samples, drawn with pillow alone: image grids, scatter plots and spectrograms, as PNG bytes."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from quintet.data.recordings import Recordings
from quintet.modalities.audio import spectrum

GAP = 1
HEIGHT, FRAMES = 64, 400
"""A spectrogram: mel bands, and at most so many frames."""
DEPTH = 70
"""Decibels below a recording's own loudest that are still visible."""
INK = np.array([[13, 12, 28], [74, 22, 94], [178, 45, 86], [244, 129, 52], [250, 238, 170]])
"""Silence ... loud."""


def grid_png(images: NDArray[np.uint8], columns: int = 8, scale: int = 0) -> bytes:
    """Images (N, H, W, C) uint8, C 1, 3 or 4, side by side as one PNG with a transparent gap.

    Every pixel becomes scale x scale (nearest neighbour, so small images stay sharp); 0 picks one for about 64 pixels
    an image.
    """
    n, height, width, channels = images.shape
    scale = scale or max(1, round(64 / max(height, width)))
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    sheet = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4), np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        cell = sheet[top : top + height, left : left + width]
        cell[..., :3] = image[..., : 3 if channels >= 3 else 1]
        cell[..., 3] = image[..., 3] if channels == 4 else 255
    picture = Image.fromarray(sheet, "RGBA")
    return _png(picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST))


def scatter_png(points: NDArray[Any], reference: NDArray[Any] | None = None, size: int = 360) -> bytes:
    """Points (N, 2) over grey reference points (M, 2); the axes span the reference, so that plots compare."""
    frame = points if reference is None else reference
    low, high = frame.min(0), frame.max(0)
    margin = 0.08 * np.where(high > low, high - low, 1.0)
    low, high = low - margin, high + margin
    zoom = 2  # drawn large, then shrunk: smooth dots
    canvas = Image.new("RGBA", (size * zoom, size * zoom), (0, 0, 0, 0))
    draw = ImageDraw.Draw(canvas)
    layers = [(points, (47, 111, 208, 210))] if reference is None else []
    if reference is not None:
        layers = [(reference, (140, 140, 140, 110)), (points, (47, 111, 208, 210))]
    for cloud, colour in layers:
        places = (cloud - low) / (high - low) * size * zoom
        for x, y in places[np.isfinite(places).all(1)]:
            draw.ellipse((x - 4, size * zoom - y - 4, x + 4, size * zoom - y + 4), fill=colour)
    return _png(canvas.resize((size, size), Image.Resampling.LANCZOS))


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


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
