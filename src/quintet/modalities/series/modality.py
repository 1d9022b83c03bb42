"""Series: windows of regularly sampled numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from quintet.core.codec import Codec
from quintet.core.errors import DataError, UsageError
from quintet.core.random import some
from quintet.data.archives import Entry
from quintet.data.arrow import Floats
from quintet.data.dataset import Dataset, Found, Reading
from quintet.metrics.measures import Figures, Marks, Measure
from quintet.modalities import Choices
from quintet.modalities.cards import Card
from quintet.modalities.frames import arrow_table, as_array, is_column, is_frame, wrong
from quintet.modalities.pictures import png_of
from quintet.modalities.protocol import Modality
from quintet.modalities.provenance import METADATA_KEY, Format, Provenance, software, text_of
from quintet.modalities.series import reading as files
from quintet.modalities.series.codec import SeriesCodec
from quintet.modalities.series.options import SeriesReading
from quintet.modalities.series.pictures import drawing, lines
from quintet.modalities.series.sets import SETS
from quintet.modalities.series.windows import Windows, band_of
from quintet.modalities.table.modality import csv as csv_of
from quintet.modalities.table.reading import SUFFIXES

SHOWN = 12


def apart(windows: Windows) -> tuple[Windows, tuple[Floats, Floats] | None]:
    """Several draws of the same windows as their median, and the values between which most draws lie; others as they
    are.
    """
    if windows.draw is None:
        return windows, None
    count = int(windows.draw.max())
    draws = windows.values.reshape(count, -1, *windows.values.shape[1:])
    first = replace(windows[np.arange(draws.shape[1])], draw=None)
    low, high = band_of(draws)
    return replace(first, values=np.median(draws, 0)), (low, high)


def rows(windows: Windows) -> pa.Table:
    """A row a step: number of the window, entity, time, and a column a channel; with several draws these are medians,
    and columns NAME_q05 and NAME_q95 stand beside them.
    """
    windows, band = apart(windows)
    n, steps = len(windows), windows.steps
    columns: dict[str, Any] = {"window": np.repeat(np.arange(n), steps)}
    if windows.entity is not None:
        columns[windows.columns[1] or "entity"] = np.repeat(windows.entity, steps).tolist()
    columns["step" if windows.start is None else windows.columns[0] or "time"] = windows.moments()
    sides = [("", windows.values), *([] if band is None else [("_q05", band[0]), ("_q95", band[1])])]
    for place, name in enumerate(windows.channels):
        for suffix, values in sides:
            columns[name + suffix] = pa.array(values[:, :, place].flatten(), from_pandas=True)
    return pa.table(columns)


def csv(windows: Windows, provenance: Provenance) -> bytes:
    return csv_of(rows(windows), provenance)


def npz(windows: Windows, provenance: Provenance) -> bytes:
    """`values` (N, T, C), every draw by itself, the names of the channels, and what there is of each window."""
    buffer = io.BytesIO()
    parts = {"start": windows.start, "entity": windows.entity, "draw": windows.draw}
    arrays = {name: part for name, part in parts.items() if part is not None}
    np.savez_compressed(
        buffer, allow_pickle=False, values=windows.values, channels=np.array(windows.channels), **arrays
    )
    return buffer.getvalue()


def picture(windows: Windows, behind: Windows | None = None) -> Image.Image:
    """Some of the windows, the first of them drawn once."""
    windows, band = apart(windows)
    chosen = some(windows, SHOWN, 0)
    kept = windows[chosen]
    captions = [f"{entity} {begin}".strip() for entity, begin in zip(*beginnings(kept), strict=True)]
    few = None if band is None else (band[0][chosen], band[1][chosen])
    return lines(kept, captions, None if behind is None else behind[some(behind, SHOWN, 0)], few)


def beginnings(windows: Windows) -> tuple[list[str], list[str]]:
    """(entity of each window, when each begins), "" where that is not known."""
    none = [""] * len(windows)
    began = none if windows.start is None else windows.clock.written(windows.start)
    return none if windows.entity is None else windows.entity.tolist(), began


def png(windows: Windows, provenance: Provenance) -> bytes:
    note, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    note.add_text("Software", software(provenance))
    note.add_text(METADATA_KEY, text_of(provenance))
    picture(windows).save(buffer, "PNG", pnginfo=note)
    return buffer.getvalue()


class SeriesModality(Modality):
    name = "series"
    door = "tables"
    codec = SeriesCodec
    things = "windows"
    previewed = SHOWN
    formats = {".csv": Format(csv), ".png": Format(png, values=False), ".npz": Format(npz)}

    measures = (
        Measure("autocorrelation", "Distance of autocorrelations", "low", "Mean over lags, of mean autocorrelations."),
        Measure("spectrum", "Distance of spectra", "low", "Total variation of mean shares of power; 0 to 1."),
        Measure("predictive", "Trained on samples, the next step", "low",
                "Absolute error on real windows, in deviations.", reference="predictive_real"),
        Measure("crps", "Forecasts, CRPS", "low", "Of the last quarter of unseen windows, in deviations.",
                completes="Its forecasts of unseen windows have the least CRPS, {}, in deviations of a channel.",
                naive=("crps_less_seasonal", "seasonal-naive, which repeats the last season")),
        Measure("crps_less_seasonal", "Forecasts, CRPS less seasonal-naive's", "",
                "Below 0: better than to repeat the last season; the error is of the same windows."),
        Measure("crps_less_linear", "Forecasts, CRPS less a linear model's", "",
                "Below 0: better than a ridge regression of the future on the past."),
        Measure("crps_covered", "Forecasts within 90 %", "", "True values between the 5 % and 95 % quantiles.", True),
    )  # fmt: skip

    sets = SETS
    suffixes = SUFFIXES
    labelled_by_folders = False

    def asked(self, reading: Reading) -> bool:
        return reading.of(SeriesReading).window is not None

    def read(self, entries: Sequence[Entry], found: Found) -> Dataset:
        return files.read_series(entries, found)

    def from_array(self, array: NDArray[Any], labels: pa.Table | None, found: Found) -> Dataset | None:
        return files.from_array(array, labels, found) if self.asked(found.reading) else None

    def from_columns(self, columns: pa.Table, found: Found) -> Dataset | None:
        return files.from_table(columns, found) if self.asked(found.reading) else None

    def owns(self, items: Any) -> bool:
        return isinstance(items, Windows)

    def contents(self, items: Windows) -> Iterator[bytes]:
        return (window.tobytes() for window in items.values)

    def halves(self, first: Windows, second: Windows) -> Windows:
        half = first.steps // 2
        return replace(first, values=np.concatenate([first.values[:, :half], second.values[:, half:]], 1))

    def raw(self, items: Any, codec: Codec, column: str | None, reading: Choices) -> Windows:
        """Arrays (N, T, C), (T, C) or, of one channel, (T,); of a frame its columns of the channels' names."""
        if isinstance(items, Windows):
            return items
        assert isinstance(codec, SeriesCodec)
        if is_frame(items):
            table = arrow_table(items)
            names = [name for name in codec.channels if name in table.column_names]
            if not names:
                raise wrong(items, codec, f"the channels are {', '.join(codec.channels)}")
            try:
                cells = [table[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names]
            except pa.ArrowException as error:
                raise wrong(items, codec, str(error).splitlines()[0]) from None
            return Windows(np.stack(cells, 1)[None], tuple(names))
        if isinstance(items, str | dict) or is_column(items):
            raise wrong(items, codec)
        try:
            values = np.asarray(as_array(items), np.float64)
        except (ValueError, TypeError) as error:
            raise wrong(items, codec, str(error)) from None
        channels = len(codec.channels)
        if values.ndim == 1 and channels == 1:
            values = values[:, None]
        if values.ndim == 2:
            values = values[None] if values.shape[1] == channels else values[:, :, None]
        if values.ndim != 3 or values.shape[2] != channels:
            why = f"a window has the shape (steps, {channels}), but this is an array of shape {values.shape}"
            raise DataError("these are not windows of the model", why=why, fix=f"give {codec.wanted}")
        return Windows(np.where(np.isfinite(values), values, np.nan), codec.channels)

    def reading(self, codec: Codec, reading: Choices) -> dict[str, Any]:
        if not isinstance(codec, SeriesCodec):
            return {}
        return {"window": codec.steps, "time": codec.columns[0] or None, "group": codec.columns[1] or None}

    def cells(self, codec: Codec) -> list[dict[str, Any]]:
        """The channels."""
        names = getattr(getattr(codec, "inner", codec), "channels", ())
        return [{"name": name, "type": "double", "values": None} for name in names]

    def stored(self, data: Any, folder: Path) -> Path | None:
        return None

    def known(self, items: Windows, known: str | None, *, hole: str | None, reading: Choices) -> tuple[Any, Any]:
        """The first so many steps: the rest is forecast. Or channels, by their names: the others are holes."""
        if known is None or hole is not None:
            return super().known(items, known, hole=hole, reading=reading)
        if known.isdecimal():
            return replace(
                items, values=np.where(np.arange(items.steps)[:, None] < int(known), items.values, np.nan)
            ), None
        names = [name.strip() for name in known.split(",")]
        lacking = [name for name in names if name not in items.channels]
        if lacking:
            why = f"channels: {', '.join(items.channels)}; a number stands for so many known steps"
            fix = "give known channels, or a number of steps"
            raise UsageError(f"there is no channel {lacking[0]}", why=why, fix=fix)
        return replace(items, values=np.where(np.isin(items.channels, names), items.values, np.nan)), None

    def several(self, draws: Sequence[Windows], items: Any, cells: pa.Table | None = None) -> Windows:
        if len(draws) == 1:
            return draws[0]
        numbered = [replace(each, draw=np.full(len(each), i)) for i, each in enumerate(draws, start=1)]
        return sum(numbered[1:], numbered[0])

    def facts(self, items: Windows) -> dict[str, Any]:
        facts: dict[str, Any] = {"steps": items.steps, "step": str(items.clock), "channels": ", ".join(items.channels)}
        if items.start is not None and len(items):
            ends = items.clock.written(np.array([items.start.min(), items.start.max() + items.steps - 1]))
            facts |= {"from": ends[0], "to": ends[1]}
        if items.entity is not None:
            facts["entities"] = len(np.unique(items.entity))
        return facts | {"missing": f"{np.isnan(items.values).mean():.2%} of the values"}

    def names(self, items: Windows) -> Mapping[str, Sequence[Any]]:
        """The entity of each window and when it begins, as far as they are known."""
        time, entity = items.columns
        columns = zip((entity or "entity", time or "time"), beginnings(items), strict=True)
        return {name: cells for name, cells in columns if any(cells)}

    def dims(self, items: Windows) -> int:
        return items.steps * len(items.channels)

    def missing(self, items: Windows) -> bool:
        return bool(np.isnan(items.values).any())

    def problems(self, items: Windows) -> list[str]:
        spread = np.nanmax(items.values, (0, 1)) - np.nanmin(items.values, (0, 1))
        return [f"channel {name} has one value" for name, each in zip(items.channels, spread, strict=True) if each == 0]

    def preview(self, items: Windows, captions: list[str]) -> bytes:
        return png_of(lines(items, captions))

    def cards(self, items: Windows, captions: list[str]) -> list[Card]:
        """Each as its lines, and when it begins."""
        began = [" ".join(each).strip() for each in zip(captions, *beginnings(items), strict=True)]
        drawn = [drawing(window, items.channels) for window in items]
        return [Card("image/svg+xml", svg.encode(), caption) for svg, caption in zip(drawn, began, strict=True)]

    def shown(self, items: Windows, codec: Codec, reference: Any = None) -> dict[str, Any]:
        return {"kind": "image", "png": base64.b64encode(png_of(picture(items, reference))).decode()}

    def pairs(self, samples: Any, near: Any, distances: list[float], codec: Codec) -> dict[str, Any]:
        captions = [f"distance {distance:.3g}" for distance in distances]
        return {"kind": "image", "png": base64.b64encode(png_of(lines(samples, captions, near))).decode()}

    def looks(self, items: Windows, codec: Codec) -> dict[str, bytes]:
        return {".csv": csv(items, {}), ".png": png(items, {})}

    @property
    def at_most(self) -> Mapping[str, int]:
        from quintet.modalities.series.figures import MOST  # what it needs takes long to load

        return {"windows": MOST}

    def figures(
        self,
        fake: Windows,
        real: Callable[[str], Windows],
        split: str,
        codec: Codec,
        *,
        labelled: bool,
        most: int,
        seed: int,
    ) -> Figures:
        """How far they are from real ones in autocorrelation and spectrum, and what can be learnt of them for the next
        step.
        """
        from quintet.modalities.series.figures import series_figures  # what it needs takes long to load

        return Figures(series_figures(real("train"), real(split), fake, seed), {})

    completed = 32

    def completions(
        self, complete: Callable[[Windows, Any], Windows], real: Callable[[str], Windows], split: str, *, count: int
    ) -> Marks:
        """How good forecasts are: see `forecast_figures`."""
        from quintet.modalities.series.figures import forecast_figures  # what it needs takes long to load

        return forecast_figures(complete, real("train"), real(split), count=count)


MODALITY = SeriesModality()
