"""Sections of settings, checked by name against those of a family."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from quintet.core.errors import ConfigError
from quintet.registry import family_class
from quintet.runs.config import DataSettings
from quintet.training.settings import TrainingSettings


def check_fields(sections: Mapping[str, Any], family: str) -> None:
    """Raise ConfigError, with the nearest name, for a field that this family's sections do not have."""
    cls = family_class(family)
    model: type[BaseModel] = cls.Settings  # named, since mypy takes the classes of a class for metaclasses
    kinds: dict[str, type[BaseModel]] = {"model": model, "sampling": cls.Sampling, "training": TrainingSettings}
    kinds["data"] = DataSettings
    for section, kind in kinds.items():
        for field in sections.get(section, {}):
            if field not in kind.model_fields:
                raise unknown("field", str(field), kind.model_fields, f"{section}.{field}")


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> ConfigError:
    """An error that names the nearest known name."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}", where=where, why=f"{hint}known: {', '.join(names)}")
