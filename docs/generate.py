"""Regenerate the parts of README.md that follow from the code.

    python docs/generate.py            rewrite them
    python docs/generate.py --check    exit 1 if README.md is stale, and name the parts

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`. Nothing here depends on the machine or on downloaded data.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import quintet
from quintet.config import PRESETS
from quintet.core.family import OPERATIONS, Family
from quintet.data.sources import SOURCES, Dataset
from quintet.registry import FAMILIES

README = Path(__file__).parents[1] / "README.md"
PACKAGE = Path(quintet.__file__).parent


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# -- the parts -------------------------------------------------------------------------------------------------------


def operations() -> str:
    """Families x operations; what is missing has a footnote with the reason that the error gives."""
    reasons: list[str] = []

    def cell(family: type[Family], operation: str) -> str:
        if operation in family.missing:
            reasons.append(family.missing[operation])
            return f"no ({len(reasons)})"
        return family.likelihood if operation == "log_prob" else "yes"

    rows = [
        (
            f"`{name}`",
            ", ".join(kind.__name__.lower() for kind in family.accepts),
            *(cell(family, op) for op in OPERATIONS),
        )
        for name, family in FAMILIES.items()
    ]
    notes = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))
    return f"{table(('family', 'spaces', *(f'`{op}`' for op in OPERATIONS)), rows)}\n\n{notes}"


def sources() -> str:
    """Every named source. Those that need files are read off their syntax trees, so that no file is needed here."""
    rows = []
    for name, load in SOURCES.items():
        folder, facts = needs(load)
        if folder is None:
            made: Dataset = load()
            facts = {"modality": made.modality, "about": made.about, "labels": made.labels is not None}
        where = "built in" if folder is None else f"`$QUINTET_DATA/{folder}/`"
        rows.append((f"`{name}`", facts["modality"], facts["about"], "`label`" if facts["labels"] else "-", where))
    return table(("source", "kind", "what", "column", "where"), rows)


def needs(load: Callable[[], Dataset]) -> tuple[str | None, dict[str, Any]]:
    """(the folder of a source that needs files, its modality, `about` and labels), or (None, {})."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(load)))
    calls = {
        node.func.id: node.args
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if "named_file" not in calls:
        return None, {}
    about = next(
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "about"
        and isinstance(node.value, ast.Constant)
    )
    modality, labels = (ast.literal_eval(calls["Dataset"][1]), ast.unparse(calls["Dataset"][4]) != "None")
    return ast.literal_eval(calls["named_file"][0]), {"modality": modality, "about": about, "labels": labels}


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
