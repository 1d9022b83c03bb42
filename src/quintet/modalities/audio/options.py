"""How recordings are read."""

from __future__ import annotations

from pydantic import Field

from quintet.core.settings import Settings
from quintet.modalities import Options


class AudioReading(Settings):
    rate: int | None = Field(None, ge=1000, le=192000, description="audio: samples a second")


OPTIONS = Options(AudioReading, known="audio: seconds")
