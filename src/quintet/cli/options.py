"""`--section.field VALUE` on the command line: sections of a RunConfig, checked by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from quintet.core.errors import UsageError
from quintet.core.typed import read_yaml
from quintet.operations.requests import SECTIONS
from quintet.operations.settings import unknown

Sections = dict[str, dict[str, Any]]
ALSO = {"--on-bad-data": "--data.on_bad"}
"""Other names of settings."""
DOTTED = re.compile(r"--([A-Za-z_-]+)\.([A-Za-z_][\w-]*)(?:=(.*))?", re.DOTALL)


def extract(tokens: Sequence[str]) -> tuple[Sections, list[str]]:
    """Take `--section.field VALUE` and `--section.field=VALUE` out of the tokens. Values are read by `read_yaml`.

    They come out before the verb's own options are read: which fields there are depends on the family. Behind `--`
    there are none, as for the verb's own.
    """
    sections: Sections = {}
    rest: list[str] = []
    feed = iter(tokens)
    for token in feed:
        name, mark, rest_of = token.partition("=")
        token = ALSO.get(name, name) + mark + rest_of
        match = DOTTED.fullmatch(token) if "--" not in rest else None
        if not match:
            rest.append(token)
            continue
        section, field, text = match[1], match[2].replace("-", "_"), match[3]
        if text is None:
            text = next(feed, None)
            if text is None or text.startswith("--"):
                raise UsageError(f"the option {token} needs a value", fix=f"{token} VALUE")
        sections.setdefault(section, {})[field] = read_yaml(text, f"not a value: {text!r}", f"--{section}.{field}")
    return sections, rest


def check_sections(sections: Iterable[str], allowed: Sequence[str], verb: str) -> None:
    """Raise ConfigError for a section that does not exist, UsageError for one that this verb does not take."""
    for section in sections:
        if section not in SECTIONS:
            raise unknown("section", section, SECTIONS, f"--{section}")
        if section not in allowed:
            why = f"its settings begin with --{' or --'.join(allowed)}" if allowed else "it has no settings"
            raise UsageError(f"quintet {verb} does not take --{section}.*", why=why, fix=f"quintet {verb} --help")
