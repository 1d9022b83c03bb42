"""The tutorials as notebooks: examples/notebooks/NAME.ipynb is made from docs/tutorials/NAME.md.

    python docs/notebooks.py                  write the notebooks; outputs of cells that did not change are kept
    python docs/notebooks.py --check          say which are stale, and exit with 1 if any is
    python docs/notebooks.py --run [NAME ...] run them too, each in an empty folder (needs docs/notebooks.txt)

A block `python` becomes a cell, and so does a block `sh`, each line behind a `!`; where it saves a picture, a cell that
shows it follows. Everything else is text. Lines that set up the machine (make, cd, the activation) stay text as well.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES, NOTEBOOKS = ROOT / "docs" / "tutorials", ROOT / "examples" / "notebooks"
SETUP = re.compile(r"(make|\.|cd|mkdir|pip|git|source) ")
LONGEST = 4000
"""Characters of what a cell prints; the middle of more is left out."""
Cell = dict[str, Any]


def pages() -> list[Path]:
    """The tutorials that are notebooks too: those in English."""
    return sorted(path for path in PAGES.glob("*.md") if not path.name.endswith(".zh.md"))


def relinked(text: str) -> str:
    """Links and pictures as they are from the folder of the notebooks."""

    def moved(found: re.Match[str]) -> str:
        target = found[1]
        if re.match(r"\w+:|#", target):
            return found[0]
        return f"]({os.path.relpath(PAGES / target, NOTEBOOKS)})"

    return re.sub(r"\]\(([^)\s]+)\)", moved, text)


def shell(block: str) -> str:
    """The lines of a block `sh` as IPython has them."""
    joined = re.sub(r"\\\n\s*", "", block)
    return "\n".join(line if line.startswith("#") or not line.strip() else f"!{line}" for line in joined.splitlines())


def pieces(text: str) -> list[tuple[str, str]]:
    """The page as pairs of kind (markdown or code) and source."""
    found: list[tuple[str, str]] = []

    def add(kind: str, source: str) -> None:
        if kind == "markdown" and found and found[-1][0] == "markdown":
            found[-1] = kind, found[-1][1] + source
        else:
            found.append((kind, source))

    for part in re.split(r"(^```\w*\n.*?^```$\n?)", text, flags=re.MULTILINE | re.DOTALL):
        fence = re.fullmatch(r"```(\w*)\n(.*?)^```$\n?", part, re.MULTILINE | re.DOTALL)
        if fence is None:
            add("markdown", relinked(part))
        elif fence[1] == "python":
            add("code", fence[2])
        elif fence[1] == "sh" and not any(SETUP.match(line) for line in fence[2].splitlines()):
            add("code", shell(fence[2]))
            for picture in re.findall(r"-o (\S+\.png)", fence[2]):
                add("code", f'from IPython.display import Image\n\nImage("{picture}")')
        else:
            add("markdown", part)
    return [(kind, source.strip("\n")) for kind, source in found if source.strip()]


def notebook(page: Path, old: Cell | None = None) -> Cell:
    """The notebook of a page, with the outputs of those cells that `old` has too."""
    kept = {cell["source"]: cell for cell in (old or {}).get("cells", []) if cell["cell_type"] == "code"}
    cells: list[Cell] = []
    for i, (kind, source) in enumerate(pieces(page.read_text(encoding="utf-8"))):
        cell: Cell = {"cell_type": kind, "id": f"{page.stem}-{i}", "metadata": {}, "source": source}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": kept.get(source, {}).get("outputs", [])}
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def written(found: Cell) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def path_of(page: Path) -> Path:
    return NOTEBOOKS / f"{page.stem}.ipynb"


def fresh(page: Path) -> str:
    """What the file of a page should hold: its blocks, and the outputs that it has."""
    path = path_of(page)
    return written(notebook(page, json.loads(path.read_text(encoding="utf-8")) if path.exists() else None))


def stale() -> list[str]:
    """The notebooks that are not their page's, and those that have none."""
    wanted = {path_of(page): page for page in pages()}
    old = [path for path, page in wanted.items() if not path.exists() or path.read_text("utf-8") != fresh(page)]
    return sorted(str(path.relative_to(ROOT)) for path in {*old, *(set(NOTEBOOKS.glob("*.ipynb")) - set(wanted))})


def short(output: Cell) -> Cell | None:
    """An output as it is committed: without warnings of the machine, lines that were overwritten, and length."""
    if output["output_type"] == "stream":
        text = "\n".join(line.rsplit("\r", 1)[-1] for line in output["text"].replace("\r\n", "\n").split("\n"))
        text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
        if len(text) > LONGEST:
            text = text[: LONGEST // 2] + "\n[...]\n" + text[-LONGEST // 2 :]
        return output | {"text": text.rstrip() + "\n"} if text.strip() else None
    return {key: value for key, value in output.items() if key != "execution_count"} | (
        {"execution_count": None} if output["output_type"] == "execute_result" else {}
    )


def run(page: Path, replace: dict[str, str] | None = None) -> Cell:
    """The notebook of a page with what its cells print; `replace`: patterns in their sources, for a quick run."""
    import nbformat
    from nbclient import NotebookClient

    found = notebook(page)
    for cell in found["cells"]:
        for pattern, by in (replace or {}).items():
            cell["source"] = re.sub(pattern, by, cell["source"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        os.environ.pop("QUINTET_RUNS", None)
        ready = nbformat.from_dict(found)
        NotebookClient(ready, timeout=1800, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for mine, theirs in zip(found["cells"], ready.cells, strict=True):
        if mine["cell_type"] == "code":
            whole = joined([dict(output) for output in theirs.outputs])
            mine["outputs"] = [out for output in whole if (out := short(output)) is not None]
    return found


def joined(outputs: list[Cell]) -> list[Cell]:
    """The same outputs; what a cell wrote to one stream in several pieces is one."""
    found: list[Cell] = []
    for output in outputs:
        if (
            found
            and output["output_type"] == found[-1]["output_type"] == "stream"
            and output["name"] == found[-1]["name"]
        ):
            found[-1] = found[-1] | {"text": found[-1]["text"] + output["text"]}
        else:
            found.append(output)
    return found


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--run", nargs="*", metavar="NAME")
    given = parser.parse_args(words)
    if given.check:
        for name in (found := stale()):
            print(f"{name} is stale: python docs/notebooks.py")
        return int(bool(found))
    NOTEBOOKS.mkdir(exist_ok=True)
    for page in pages():
        text = fresh(page)
        if given.run is not None and (not given.run or page.stem in given.run):
            print(f"running {page.stem}", flush=True)
            text = written(run(page))
        path_of(page).write_text(text, encoding="utf-8")
    for path in set(NOTEBOOKS.glob("*.ipynb")) - {path_of(page) for page in pages()}:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
