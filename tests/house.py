"""What the package looks like from outside, read off its syntax trees: `python tests/house.py` prints it as a table."""

from __future__ import annotations

import ast
import contextlib
import io
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

import quintet

ROOT = Path(quintet.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
KINDS = {path.name for path in (ROOT / "modalities").iterdir() if (path / "__init__.py").is_file()} | {"latent"}
FAMILIES = {path.stem for path in (ROOT / "families").glob("*.py")} - {"__init__"}


def module_of(path: Path) -> tuple[str, ...]:
    """Its parts below quintet."""
    return path.relative_to(ROOT).with_suffix("").parts


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of what is imported, `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# -- who asks what kind of data or which family this is --------------------------------------------------------------


def asks(source: str, module: tuple[str, ...]) -> list[str]:
    """Each place in which a module names a kind of data or a family, as "line: word": a string, an import out of its
    folder, and the use of what was imported from there. Modalities may name kinds, families families, the registry all.
    """
    if module[0] == "registry":
        return []
    own = {"modalities": "families", "families": "modalities"}.get(module[0])
    folders = {"modalities": KINDS, "families": FAMILIES}
    folders = folders if own is None else {own: folders[own]}
    words, tree, known = set().union(*folders.values()) - {"latent"}, ast.parse(source), set[str]()
    found = [(node.lineno, repr(node.value)) for node in ast.walk(tree)
             if isinstance(node, ast.Constant) and node.value in words]  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name, alias in zip(imports(node), node.names, strict=True):
            parts = [*name.split("."), "", ""]
            if parts[0] == "quintet" and parts[2] in folders.get(parts[1], ()):
                found.append((node.lineno, name))
                known.add(alias.asname or alias.name)
    found += [(node.lineno, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in known]
    return [f"{line}: {word}" for line, word in sorted(found)]


def asking() -> dict[str, list[str]]:
    """The places of every module that has any, by its dotted name."""
    found = {".".join(module_of(path)): asks(path.read_text(), module_of(path)) for path in FILES}
    return {module: places for module, places in found.items() if places}


def declared(module: str) -> set[str]:
    """The names of a module's fields and of its functions' arguments."""
    tree = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text())
    fields = {node.target.id for node in ast.walk(tree)
              if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}  # fmt: skip
    return fields | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


# -- circles ---------------------------------------------------------------------------------------------------------


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Names that lead to each other: the strongly connected components of more than one."""
    names = sorted(set(edges).union(*edges.values()))
    graph = np.zeros((len(names), len(names)), bool)
    for name, others in edges.items():
        graph[names.index(name), [names.index(other) for other in others]] = True
    _, labels = connected_components(csr_array(graph), connection="strong")
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def importing(depth: int | None = None) -> dict[str, set[str]]:
    """Which modules each module imports, or, with `depth` 1, which packages each package does."""
    known = {".".join(module_of(path)): module_of(path) for path in FILES}
    edges: dict[str, set[str]] = {}
    for module, parts in known.items():
        for name in imports(ast.parse((ROOT / Path(*parts)).with_suffix(".py").read_text())):
            below = name.split(".")[1:] if name.startswith("quintet.") else []
            found = next((".".join(below[:n]) for n in range(len(below), 0, -1) if ".".join(below[:n]) in known), None)
            if found is not None:
                ends = (".".join(known[end][:depth]) for end in (module, found))
                edges.setdefault(next(ends), set()).add(next(ends))
    return {name: others - {name} for name, others in edges.items()}


# -- what an item passes ---------------------------------------------------------------------------------------------


def passed(call: Callable[[], Any]) -> set[tuple[str, ...]]:
    """The modules of which a function runs during this call; what runs as they are imported does not count."""
    seen: set[str] = set()

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            seen.add(frame.f_code.co_filename)

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return {module_of(path) for path in FILES if str(path) in seen}


def journeys(folder: Path) -> dict[str, set[tuple[str, ...]]]:
    """What one row of a CSV passes from file to score, and what images pass from their files to weights to a PNG."""
    from PIL import Image

    from quintet.cli.main import main

    rng = np.random.default_rng(0)
    rows = "".join(f"{a:.3f},{b:.3f}\n" for a, b in rng.normal(size=(200, 2)))
    (folder / "rows.csv").write_text("a,b\n" + rows)
    (folder / "one.csv").write_text("a,b\n0.5,0.5\n")
    (folder / "images").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / "images" / f"{i}.png")
    runs = ["--runs", str(folder / "runs"), "--json"]
    train = ["train", "flow", "--steps", "2", "--preset", "tiny", *runs]
    run, out = str(folder / "runs" / "rows"), str(folder / "out")

    def images() -> None:
        main([*train, "--data", str(folder / "images"), "--run", "images"])
        main(["sample", str(folder / "runs" / "images"), "-n", "4", "-o", f"{out}.png", "--json"])

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main([*train, "--data", str(folder / "rows.csv"), "--run", "rows"])
        row = passed(lambda: main(["score", run, "--data", str(folder / "one.csv"), "-o", f"{out}.csv", "--json"]))
        return {"a row of a CSV, from file to score": row, "images, from files to weights to a PNG": passed(images)}


# -- the table -------------------------------------------------------------------------------------------------------


def functions() -> Iterator[tuple[int, str]]:
    """The lines of every function, and where it is."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield (node.end_lineno or 0) - node.lineno + 1, f"{'.'.join(module_of(path))}.{node.name}"


def table() -> list[tuple[str, str]]:
    """Each figure in words, and what it is."""
    lines = {".".join(module_of(path)): len(path.read_text().splitlines()) for path in FILES}
    longest, (size, function) = max(lines, key=lines.__getitem__), max(functions())
    places = asking()
    rows = [
        ("modules", f"{len(FILES)}"),
        ("lines of src", f"{sum(lines.values()):,}"),
        ("median file", f"{statistics.median(lines.values()):.0f} lines"),
        ("longest file", f"{lines[longest]} lines: {longest}"),
        ("longest function", f"{size} lines: {function}"),
        (
            "places that ask for a kind of data or a family",
            f"{sum(map(len, places.values()))} in {len(places)} modules",
        ),
    ]
    for what, depth in (("packages", 1), ("modules", None)):
        found = circles(importing(depth))
        rows.append((f"import circles of {what}", f"{len(found)}" + "".join(f"; {', '.join(one)}" for one in found)))
    with tempfile.TemporaryDirectory() as folder:
        for what, modules in journeys(Path(folder)).items():
            packages = sorted({module[0] for module in modules})
            rows.append((what, f"{len(packages)} packages, {len(modules)} modules: {', '.join(packages)}"))
    return rows


if __name__ == "__main__":
    for name, value in table():
        print(f"{name:<48} {value}")
