"""`--section.field VALUE` on the command line, and --config files: sections of a RunConfig, checked by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quintet.core.errors import ConfigError, DataError, UsageError

Sections = dict[str, dict[str, Any]]
SECTIONS = ("model", "sampling", "training", "data", "coding", "given")
DOTTED = re.compile(r"--([A-Za-z_-]+)\.([A-Za-z_][\w-]*)(?:=(.*))?", re.DOTALL)


def extract(tokens: Sequence[str]) -> tuple[Sections, list[str]]:
    """Take `--section.field VALUE` and `--section.field=VALUE` out of the tokens. Values are YAML.

    They come out before the verb's own options are read: which fields there are depends on the family.
    """
    sections: Sections = {}
    rest: list[str] = []
    feed = iter(tokens)
    for token in feed:
        match = DOTTED.fullmatch(token)
        if not match:
            rest.append(token)
            continue
        section, field, text = match[1], match[2].replace("-", "_"), match[3]
        if text is None:
            text = next(feed, None)
            if text is None or text.startswith("--"):
                raise UsageError(f"{token} needs a value")
        sections.setdefault(section, {})[field] = parse_value(text, f"--{section}.{field}")
    return sections, rest


def parse_value(text: str, where: str) -> Any:
    """A value as YAML reads it."""
    import yaml

    try:
        return yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"not a value: {text!r}", where=where, why=str(error).splitlines()[0]) from None


def check_sections(sections: Iterable[str], allowed: Sequence[str], verb: str) -> None:
    """Raise ConfigError for a section that does not exist, UsageError for one that this verb does not take."""
    for section in sections:
        if section not in SECTIONS:
            raise unknown("section", section, SECTIONS, f"--{section}")
        if section not in allowed:
            why = f"it takes --{', --'.join(allowed)}" if allowed else "it takes no settings"
            raise UsageError(f"quintet {verb} does not take --{section}.*", why=why)


def check_fields(sections: Mapping[str, Any], family: str) -> None:
    """Raise ConfigError, with the nearest name, for a field that this family's sections do not have."""
    from pydantic import BaseModel

    from quintet.registry import family_class
    from quintet.runs.config import DataSettings
    from quintet.training.optim import TrainingSettings

    cls = family_class(family)
    model: type[BaseModel] = cls.Settings  # named, since mypy takes the classes of a class for metaclasses
    kinds: dict[str, type[BaseModel]] = {"model": model, "sampling": cls.Sampling, "training": TrainingSettings}
    kinds["data"] = DataSettings
    for section, kind in kinds.items():
        for field in sections.get(section, {}):
            if field not in kind.model_fields:
                raise unknown("field", str(field), kind.model_fields, f"{section}.{field}")


def read_config(path: Path | None) -> dict[str, Any]:
    """A --config file: YAML with the keys of a run's config.yaml, complete or in part."""
    if path is None:
        return {}
    import yaml

    from quintet.runs.config import RunConfig

    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise DataError("cannot read the configuration", where=str(path), why=error.strerror or str(error)) from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError("not YAML", where=str(path), why=str(error).splitlines()[0]) from None
    if not isinstance(data, dict):
        raise ConfigError("not a mapping of sections", where=str(path))
    for name in _names(data):
        if not isinstance(name, str):
            raise ConfigError(f"the name of a setting is a text, not {name!r}", where=str(path))
    for key in data:
        if key not in RunConfig.model_fields:
            raise unknown("key", str(key), RunConfig.model_fields, str(path))
    given = {key: value for key, value in data.items() if value is not None}
    for section in SECTIONS:
        if not isinstance(given.get(section, {}), Mapping):
            raise ConfigError(f"{section} is not a mapping of fields", where=str(path))
    return given


def _names(data: Any) -> Iterable[Any]:
    """All names in mappings within mappings."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield name
            yield from _names(value)


def unknown(kind: str, name: str, known: Iterable[str], where: str) -> ConfigError:
    """An error that names the nearest known name."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}", where=where, why=f"{hint}known: {', '.join(names)}")
