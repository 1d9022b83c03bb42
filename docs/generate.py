"""Regenerate the parts of README.md that follow from the code.

    python docs/generate.py            rewrite them
    python docs/generate.py --check    exit 1 if README.md is stale, and name the parts

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`. Nothing here depends on the machine or on downloaded data.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import quintet
from quintet.data.published import HOMES
from quintet.registry import CODECS, FAMILIES, VERBS, make_codec, refusal
from quintet.runs.config import PRESETS
from quintet.sources.load import SOURCES, Source

README = Path(__file__).parents[1] / "README.md"
PACKAGE = Path(quintet.__file__).parent


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# -- the parts -------------------------------------------------------------------------------------------------------


def operations() -> str:
    """Families x kinds of data x verbs; what is missing has a footnote with the reason that the error gives."""
    reasons: list[str] = []

    def cell(family: str, modality: str, verb: str) -> str:
        if reason := refusal(family, modality, verb):
            if reason not in reasons:
                reasons.append(reason)
            return f"no ({reasons.index(reason) + 1})"
        return FAMILIES[family].likelihood if verb == "score" else "yes"

    def face(family: str, modality: str) -> str:
        return make_codec(modality, FAMILIES[family]).face

    rows = [
        (f"`{family}`", modality, face(family, modality), *(cell(family, modality, verb) for verb in VERBS))
        for family in FAMILIES
        for modality in CODECS
        if modality in ("image", "text", "audio", "table")
    ]
    notes = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))
    return f"{table(('family', 'data', 'as', *(f'`{verb}`' for verb in VERBS)), rows)}\n\n{notes}"


def sources() -> str:
    """Every named source, by what is known of it without loading it; the density sets are one line."""
    rows, collections = [], set()
    for name, source in SOURCES.items():
        assert isinstance(source, Source)
        collection, _, member = name.partition("/")
        if collection in collections:
            continue
        about = source.about
        if member:
            collections.add(collection)
            members = [other.partition("/")[2] for other in SOURCES if other.startswith(f"{collection}/")]
            name, about = f"{collection}/NAME", f"binary columns: {', '.join(members)}"
        where = f"[`$QUINTET_DATA/{source.folder}/`]({HOMES[source.folder]})" if source.folder else "built in"
        columns = ", ".join(f"`{column}`" for column in source.columns) or "-"
        rows.append((f"`{name}`", source.modality, about, columns, where))
    return table(("source", "kind", "what", "columns", "where"), rows)


def presets() -> str:
    """What each preset sets, over the defaults of family and kind of data."""

    def cell(sections: Mapping[str, Mapping[str, Any]]) -> str:
        values = [
            f"{field} {value}" if section == "model" else f"{section}.{field} {value:g}" if isinstance(value, float)
            else f"{section}.{field} {value}"
            for section, fields in sections.items()
            for field, value in fields.items()
        ]  # fmt: skip
        return ", ".join(values) or "defaults"

    names = sorted(PRESETS, key=["classic", "tiny", "small", "base"].index)
    rows = [(f"`{family}`", *(cell(PRESETS[name].get(family, {})) for name in names)) for family in FAMILIES]
    return table(("family", *(f"`{name}`" for name in names)), rows)


def files() -> str:
    """The modules, each with the first line of its docstring."""
    lines = ["src/quintet/"]
    for folder in (PACKAGE, *sorted(path for path in PACKAGE.iterdir() if path.is_dir())):
        modules = [(path, doc) for path in sorted(folder.glob("*.py")) if (doc := summary(path))]
        if folder != PACKAGE and modules:
            lines.append(f"  {folder.name}/")
        indent = "  " if folder == PACKAGE else "    "
        lines += [f"{indent + path.name:<24}{doc}" for path, doc in modules]
    return "```text\n" + "\n".join(lines) + "\n```"


def summary(path: Path) -> str:
    """The first line of a module's docstring, or nothing."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


PARTS: dict[str, Callable[[], str]] = {"operations": operations, "sources": sources, "presets": presets, "files": files}


# -- the file --------------------------------------------------------------------------------------------------------


def replaced(text: str, name: str, content: str) -> str:
    """`text` with the part of that name replaced. Raises ValueError unless both markers stand there once."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"README.md needs {start} and {end} once each, in this order")
    head, _, rest = text.partition(start)
    return f"{head}{start}\n{content}\n{end}{rest.partition(end)[2]}"


def stale(text: str) -> list[str]:
    """Names of the parts of this README that are not what the code says."""
    return [name for name, part in PARTS.items() if replaced(text, name, part()) != text]


def main(arguments: Sequence[str]) -> int:
    text = README.read_text()
    if "--check" in arguments:
        names = stale(text)
        if names:
            print(f"README.md is stale in: {', '.join(names)}; run make docs", file=sys.stderr)
        return 1 if names else 0
    for name, part in PARTS.items():
        text = replaced(text, name, part())
    README.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
