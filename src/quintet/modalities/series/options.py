"""How series are read."""

from __future__ import annotations

from pydantic import Field

from quintet.core.settings import Settings
from quintet.modalities import Options


class SeriesReading(Settings):
    window: int | None = Field(None, ge=2, le=100000, description="series: steps of an item, in rows sorted by time")


OPTIONS = Options(SeriesReading, known="series: steps, or channels")
