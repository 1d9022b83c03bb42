"""`--section.field VALUE` on the command line, and --config files: sections of a RunConfig, checked by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quintet.core.errors import ConfigError, DataError, UsageError
from quintet.operations.requests import SECTIONS

if TYPE_CHECKING:
    import yaml

Sections = dict[str, dict[str, Any]]
DOTTED = re.compile(r"--([A-Za-z_-]+)\.([A-Za-z_][\w-]*)(?:=(.*))?", re.DOTALL)


def extract(tokens: Sequence[str]) -> tuple[Sections, list[str]]:
    """Take `--section.field VALUE` and `--section.field=VALUE` out of the tokens. Values are read by `read_yaml`.

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
        sections.setdefault(section, {})[field] = read_yaml(text, f"not a value: {text!r}", f"--{section}.{field}")
    return sections, rest


def read_yaml(text: str, what: str, where: str) -> Any:
    """Lists, mappings, null, and else texts as they are written: what a text means is decided by the setting that it is
    given to. YAML alone would take the column `no` for False, 0100 for 64 and 12:30 for 750.

    Raises ConfigError of `what` is wrong, `where`.
    """
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(what, where=where, why=str(error).splitlines()[0]) from None


@cache
def _loader() -> type[yaml.SafeLoader]:
    """YAML whose plain words are texts, but for null, and for << of mappings."""
    import yaml

    known = yaml.SafeLoader.yaml_implicit_resolvers
    kept = {
        first: [(tag, words) for tag, words in several if tag.endswith((":null", ":merge"))]
        for first, several in known.items()
    }
    return type("Texts", (yaml.SafeLoader,), {"yaml_implicit_resolvers": kept})


def check_sections(sections: Iterable[str], allowed: Sequence[str], verb: str) -> None:
    """Raise ConfigError for a section that does not exist, UsageError for one that this verb does not take."""
    for section in sections:
        if section not in SECTIONS:
            from quintet.operations.settings import unknown

            raise unknown("section", section, SECTIONS, f"--{section}")
        if section not in allowed:
            why = f"it takes --{', --'.join(allowed)}" if allowed else "it takes no settings"
            raise UsageError(f"quintet {verb} does not take --{section}.*", why=why)


def read_config(path: Path | None) -> dict[str, Any]:
    """A --config file: YAML with the keys of a run's config.yaml, complete or in part."""
    if path is None:
        return {}
    from quintet.operations.settings import unknown
    from quintet.runs.config import RunConfig

    try:
        data = read_yaml(path.read_text(), "not YAML", str(path))
    except OSError as error:
        raise DataError("cannot read the configuration", where=str(path), why=error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise ConfigError("not YAML", where=str(path), why=str(error)) from None
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
