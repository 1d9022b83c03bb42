"""The templates of what quintet says, read off the syntax trees. `python tests/sentences.py` prints those that have no
words of pages yet.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from house import FILES, ROOT

from quintet.comparison.recommend import results

ERRORS = {
    "QuintetError", "UsageError", "Unsupported", "ConfigError", "DataError", "CheckpointError", "EnvironmentFault",
    "Diverged", "RunExists", "Refusal", "warn", "Note", "Advice", "busy", "Measure", "Source", "dataset_of",
}  # fmt: skip
"""What is called with texts for people."""
SPOKEN = {"what", "why", "fix", "hint", "told", "note", "notes", "reason", "missing", "refused", "words"}
"""Variables, and arguments, that hold such texts."""
WHOLE = (
    "comparison/verdict.py", "comparison/scoring.py", "comparison/differences.py", "metrics/measures.py",
    "runs/advice.py", "fit/pixels.py", "operations/answering.py", "comparison/recommend.py",
)  # fmt: skip
"""Modules all of whose texts pages show."""
SAYING = {
    "problems", "doubts", "taken", "_kind", "_fate", "learnt_little", "live", "uses", "losses", "refusals",
    "in_pieces", "sized", "decoded", "notes", "about", "fewer", "told", "_strange", "_cut", "LEFT_OUT", "ALWAYS",
    "KINDS", "NAMES", "SETS", "ABOUT",
}  # fmt: skip
"""Functions, and names of constants, with such texts."""

ELSEWHERE = (
    "cli/", "server/app.py", "server/completions.py", "server/guards.py", "server/openai.py", "server/service.py",
    "server/transport.py", "operations/checking.py",
)  # fmt: skip
"""Modules whose texts a terminal shows, or other programs than a page."""
COMMAND = re.compile(r"(quintet|pip|--?[a-z]\w*)\b[^;]*")
"""What is typed as it stands."""


def template(node: ast.AST) -> str | None:
    """A string, or an f-string with {} for each value; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def strings(node: ast.AST) -> Iterator[str]:
    """The templates below a node, also in the values of f-strings; no docstrings, and no keys of dictionaries."""
    if (found := template(node)) is not None:
        yield found.strip().lstrip(",;: ")
    for child in ast.iter_child_nodes(node):
        docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        key = isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
        spec = isinstance(node, ast.FormattedValue) and child is node.format_spec
        if not docstring and not key and not spec:
            yield from strings(child)


def prose(text: str) -> bool:
    """Whether a template says something: two words of letters at least beside its values."""
    return len(re.findall(r"[A-Za-z]{2,}", text.replace("{}", " "))) >= 2 and " " in text and not text.endswith(",")


def name_of(node: ast.AST) -> str:
    """The last name of what is called or assigned."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def spoken(tree: ast.AST) -> Iterator[str]:
    """The templates of errors and notes of a module, and of what is put into variables for them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in ERRORS:
            for value in [*node.args, *(key.value for key in node.keywords if key.arg in SPOKEN)]:
                yield from strings(value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and name_of(node.func.value) in SPOKEN:
            for value in node.args:
                yield from strings(value)
        elif isinstance(node, ast.FunctionDef) and node.name in SAYING:
            yield from strings(node)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(name_of(inner) in SPOKEN | SAYING for target in targets for inner in ast.walk(target)):
                yield from strings(node.value)
        elif isinstance(node, ast.Call):
            for key in node.keywords:
                if key.arg in ("why", "fix", "notes"):
                    yield from strings(key.value)


def demanded(path: Path) -> set[str]:
    """The templates of a module that a page may show, but for commands."""
    if path.relative_to(ROOT).as_posix().startswith(ELSEWHERE):
        return set()
    tree = ast.parse(path.read_text())
    found = strings(tree) if path.relative_to(ROOT).as_posix() in WHOLE else spoken(tree)
    return {one for one in found if prose(one) and not COMMAND.fullmatch(one)}


def expected() -> set[str]:
    """What is said of families on data that nothing was measured on, and what is to be minded of these."""
    kinds = results().kinds.values()
    groups = [group for kind in kinds for group in kind.model_dump().values() if isinstance(group, tuple)]
    because = {one["because"] for group in groups for one in group if isinstance(one, dict) and one["because"]}
    because |= {one.name for one in results().measures.values()}
    return because | {re.sub(r"\{[^}]*\}", "{}", note) for kind in kinds for note in kind.notes}


def everything() -> set[str]:
    """All templates of the house."""
    return expected() | {one for path in FILES for one in strings(ast.parse(path.read_text()))}


if __name__ == "__main__":
    known = json.loads((ROOT / "studio" / "words" / "zh.sentences.json").read_text())
    print("# results.yaml", *sorted(expected() - known.keys()), sep="\n")
    for path in FILES:
        lacking = sorted(demanded(path) - known.keys())
        if lacking and str(path.relative_to(ROOT)).startswith(tuple(sys.argv[1:]) or ""):
            print(f"# {path.relative_to(ROOT)}", *lacking, sep="\n")
