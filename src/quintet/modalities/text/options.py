"""How texts are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quintet.core.settings import Settings
from quintet.modalities import Options


class TextReading(Settings):
    unit: Literal["auto", "document", "line"] = Field(
        "auto", description="text: whether an item is a document or a line"
    )


OPTIONS = Options(
    TextReading, extras={"text": "byte-pair symbols of texts, regular expressions with --regex, BLEU and chrF"}
)
