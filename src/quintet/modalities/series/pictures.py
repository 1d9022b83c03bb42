"""Windows of series as lines."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from quintet.data.arrow import Floats
from quintet.modalities.pictures import BLUE, INK, PALE, PAPER, font
from quintet.modalities.series.windows import Windows

WIDTH, HEIGHT, ACROSS, CHANNELS = 230, 52, 4, 6
"""Pixels of a line of one channel; windows side by side; channels that are drawn at most."""
GREY, BAND = (170, 170, 170), (200, 219, 245)


def lines(windows: Windows, captions: Sequence[str], behind: Windows | None = None,
          band: tuple[Floats, Floats] | None = None) -> Image.Image:  # fmt: skip
    """Each window as lines, one below the other for its channels, all windows on one scale; gaps where values miss.

    `behind`: a real window in grey behind each. `band` (N, T, C) twice: between which values most draws lie.
    """
    count, shown = len(windows), min(CHANNELS, len(windows.channels))
    across = min(ACROSS, max(1, count))
    tall = shown * HEIGHT + 26
    sheet = Image.new("RGB", (across * (WIDTH + 12), -(-max(1, count) // across) * tall), PAPER)
    draw = ImageDraw.Draw(sheet)
    every = [windows.values, *([] if behind is None else [behind.values]), *(band or ())]
    ends = [_range([side[:, :, channel] for side in every]) for channel in range(shown)]
    for number in range(count):
        left, top = number % across * (WIDTH + 12) + 6, number // across * tall
        draw.text((left, top + 4), captions[number][:34], INK, font(11))
        for channel, (low, high) in enumerate(ends):
            base = top + 20 + channel * HEIGHT

            def place(values: Floats, base: int = base, low: float = low, high: float = high) -> NDArray[np.float64]:
                return base + HEIGHT - 6 - (values - low) / (high - low) * (HEIGHT - 10)

            x = left + np.linspace(0, WIDTH, windows.steps)
            draw.line((left, base + HEIGHT - 3, left + WIDTH, base + HEIGHT - 3), fill=PALE)
            if band is not None:
                lower, upper = (place(side[number, :, channel]) for side in band)
                for i in np.flatnonzero(~np.isnan(lower[:-1] + lower[1:])):
                    corners = [(x[i], lower[i]), (x[i], upper[i]), (x[i + 1], upper[i + 1]), (x[i + 1], lower[i + 1])]
                    draw.polygon(corners, fill=BAND)
            for side, colour in ((behind, GREY), (windows, BLUE)):
                if side is not None and number < len(side):
                    y = place(side.values[number, :, channel])
                    for i in np.flatnonzero(~np.isnan(y[:-1] + y[1:])):
                        draw.line((x[i], y[i], x[i + 1], y[i + 1]), fill=colour, width=1 if colour == GREY else 2)
            if number < across:
                draw.text((left, base), windows.channels[channel][:20], GREY, font(9))
    return sheet


def _range(sides: Sequence[Floats]) -> tuple[float, float]:
    values = np.concatenate([side[np.isfinite(side)] for side in sides])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return (low, high) if high > low else (low - 1, high + 1)


COLOURS = ("#5b78f0", "#1f9e8c", "#cf7a22", "#c4529a", "#8a6ae0", "#7a9a2a")
"""Of channels, to be seen on white and on black."""


def drawing(window: Floats, channels: Sequence[str]) -> str:
    """One window (T, C) as lines of an SVG without ground, each channel on its own scale; gaps where values miss."""
    shown = min(CHANNELS, len(channels))
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {shown * HEIGHT}">']
    x = np.linspace(2, WIDTH - 2, len(window))
    for channel in range(shown):
        values, colour = window[:, channel], COLOURS[channel]
        low, high = _range([values])
        y = channel * HEIGHT + HEIGHT - 4 - (values - low) / (high - low) * (HEIGHT - 18)
        lines = []
        for i, place in enumerate(zip(x, y, strict=True)):
            if np.isfinite(place[1]):
                lines.append(f"{'L' if i and np.isfinite(y[i - 1]) else 'M'}{place[0]:.1f} {place[1]:.1f}")
        parts.append(f'<path d="{" ".join(lines)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        told = f"{channels[channel]}  {low:.4g} … {high:.4g}"
        parts.append(f'<text x="2" y="{channel * HEIGHT + 10}" font-size="9" font-family="sans-serif" fill="#808898">'
                     f"{escape(told)}</text>")  # fmt: skip
    return "".join([*parts, "</svg>"])
