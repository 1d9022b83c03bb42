"""Sections of settings: read as they are typed and from files, and checked by name. Nothing heavy is imported before a
family is asked for its fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from quintet.core.errors import ConfigError, DataError, meant
from quintet.core.typed import read_yaml
from quintet.operations.requests import SECTIONS

if TYPE_CHECKING:
    pass


def settings_of(family: str) -> dict[str, type[BaseModel]]:
    """The settings of the sections that are the same for all data."""
    from quintet.registry import family_class
    from quintet.runs.config import DataSettings
    from quintet.training.settings import TrainingSettings

    cls = family_class(family)
    model: type[BaseModel] = cls.Settings  # named, since mypy takes the classes of a class for metaclasses
    return {"model": model, "sampling": cls.Sampling, "training": TrainingSettings, "data": DataSettings}


def as_meant(sections: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Sections with their values as what the settings make of them, numbers for texts of numbers; what they refuse
    stays as it is.
    """
    out = {name: dict(values) if isinstance(values, Mapping) else values for name, values in sections.items()}
    for section, kind in settings_of(family).items():
        for field in (out.get(section) or {}).keys() & kind.model_fields.keys():
            info = kind.model_fields[field]
            with suppress(ValidationError):
                reads: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
                out[section][field] = reads.validate_python(out[section][field])
    return out


def check_fields(sections: Mapping[str, Any], family: str) -> None:
    """Raise ConfigError, with the nearest name, for a field that this family's sections do not have."""
    for section, kind in settings_of(family).items():
        for field in sections.get(section, {}):
            if field not in kind.model_fields:
                raise unknown("field", str(field), kind.model_fields, f"{section}.{field}")


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> ConfigError:
    """An error that names the nearest known name."""
    names = list(known)
    return ConfigError(f"unknown {kind} {name!r}", where=where, why=f"{meant(name, names)}known: {', '.join(names)}")


# -- as they are typed and in files ------------------------------------------------------------------------------------


def read_config(path: Path | None) -> dict[str, Any]:
    """A --config file: YAML with the keys of a run's config.yaml, complete or in part."""
    if path is None:
        return {}
    from quintet.runs.config import RunConfig

    try:
        data = read_yaml(path.read_text(), "the configuration is not valid YAML", str(path))
    except OSError as error:
        raise DataError(
            "the configuration file cannot be read", where=str(path), why=error.strerror or str(error)
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError("the configuration is not valid YAML", where=str(path), why=str(error)) from None
    if not isinstance(data, dict):
        raise ConfigError("the configuration must be a mapping of settings, such as `family: vae`", where=str(path))
    for name in _names(data):
        if not isinstance(name, str):
            raise ConfigError(f"the name of a setting must be a text, got {name!r}", where=str(path))
    for key in data:
        if key not in RunConfig.model_fields:
            raise unknown("key", str(key), RunConfig.model_fields, str(path))
    given = {key: value for key, value in data.items() if value is not None}
    for section in SECTIONS:
        if not isinstance(given.get(section, {}), Mapping):
            raise ConfigError(f"the section {section} must be a mapping of settings to values", where=str(path))
    return given


def _names(data: Any) -> Iterable[Any]:
    """All names in mappings within mappings."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield name
            yield from _names(value)
