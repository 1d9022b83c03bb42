"""How tables are read: what columns are, as the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from quintet.core.errors import ConfigError
from quintet.core.settings import Settings
from quintet.modalities import Options

KINDS = ("number", "decimal", "integer", "category", "text", "datetime", "boolean", "id", "drop")
"""What the user may say of a column; `datetime:%d.%m.%Y` names its form as strptime does."""


def wishes(given: str | Mapping[str, Any] | None) -> dict[str, str]:
    """`price=decimal,zip=category`, or a mapping, as a mapping. Raises ConfigError for a kind that there is not."""
    if given is None:
        return {}
    if isinstance(given, str):
        pairs = [part.partition("=") for part in re.split(r",(?=[^,=]+=)", given) if part.strip()]
        given = {name.strip(): kind.strip() for name, _, kind in pairs}
    for name, kind in given.items():
        if str(kind).partition(":")[0] not in KINDS:
            raise ConfigError(f"unknown column type {str(kind)!r}", where=f"data.types, column {name}",
                              why=f"types: {', '.join(KINDS)}",
                              fix='--data.types "price=decimal,zip=category"')  # fmt: skip
    return {str(name): str(kind) for name, kind in given.items()}


class TableReading(Settings):
    types: str | dict[str, str] | None = Field(
        None, description="tables: types of columns, for example price=decimal,zip=category"
    )

    @field_validator("types")
    @classmethod
    def _known(cls, given: Any) -> Any:
        wishes(given)
        return given

    @property
    def wishes(self) -> dict[str, str]:
        """What each column is that the user says something of."""
        return wishes(self.types)


OPTIONS = Options(
    TableReading,
    known="tables: columns",
    settled={"types": "the columns of a built-in source have their types"},
    extras={"excel": "spreadsheets (.xlsx) as tables"},
    typed=KINDS,
)
