"""The notebooks are the tutorials: their cells are the pages' blocks, and they run."""

from __future__ import annotations

import json
from pathlib import Path

import notebooks
import pytest
from documents import ROOT

PAGE = """# A page

Text with a [link](../data.md), [another](images.md#top) and a ![picture](pictures/threes.png).

```sh
make demo
. .venv/bin/activate
```

```sh
quintet train vae --data moons \\
    --budget 5s --run m   # five seconds
quintet sample m -o m.png
```

```console
$ quintet runs
```

```python
print("hello")
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only page of a project of its own."""
    for name, folder in (("PAGES", "docs/tutorials"), ("NOTEBOOKS", "examples/notebooks")):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.setattr(notebooks, name, tmp_path / folder)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "docs/tutorials/page.zh.md").write_text("# 一页\n")
    found = tmp_path / "docs/tutorials/page.md"
    found.write_text(PAGE)
    return found


def test_the_notebooks_are_fresh() -> None:
    assert notebooks.stale() == []


def test_no_notebook_shows_an_error() -> None:
    for path in (ROOT / "examples" / "notebooks").glob("*.ipynb"):
        outputs = [out for cell in json.loads(path.read_text())["cells"] for out in cell.get("outputs", ())]
        assert not [out for out in outputs if out["output_type"] == "error"], path.name
        assert path.stat().st_size < 500_000, path.name


def test_every_command_of_a_notebook_was_executed() -> None:
    for path in (ROOT / "examples" / "notebooks").glob("*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        commands = [cell for cell in cells if "!quintet" in "".join(cell["source"])]
        assert [cell["source"] for cell in commands if not cell["outputs"]] == [], f"{path.name}: make notebooks"
        assert commands or path.stem == "studio", path.name


def test_cells_are_blocks(page: Path) -> None:
    assert notebooks.main([]) == 0
    (path,) = notebooks.NOTEBOOKS.glob("*.ipynb")
    cells = json.loads(path.read_text())["cells"]
    assert [cell["source"] for cell in cells if cell["cell_type"] == "code"] == [
        "!quintet train vae --data moons --budget 5s --run m   # five seconds\n!quintet sample m -o m.png",
        'from IPython.display import Image\n\nImage("m.png")',
        'print("hello")',
    ]
    text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    assert "](../../docs/data.md)" in text
    assert "](../../docs/tutorials/images.md#top)" in text
    assert "](../../docs/tutorials/pictures/threes.png)" in text
    assert "make demo" in text
    assert "$ quintet runs" in text


def test_pieces_of_a_stream_are_one_output_without_empty_lines_between() -> None:
    pieces = [
        ("stdout", "one\r"),
        ("stdout", "two\r\nthr"),
        ("stdout", "ee\r\n"),
        ("stderr", "four\n"),
        ("stdout", "\n"),
    ]
    outputs = notebooks.joined([{"output_type": "stream", "name": name, "text": text} for name, text in pieces])
    assert [(found["name"], found["text"]) for out in outputs if (found := notebooks.short(out))] == [
        ("stdout", "two\nthree\n"),
        ("stderr", "four\n"),
    ]


def test_a_changed_page_is_noticed_and_other_outputs_stay(page: Path) -> None:
    notebooks.main([])
    (path,) = notebooks.NOTEBOOKS.glob("*.ipynb")
    found = json.loads(path.read_text())
    for cell in found["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "seen\n"}]
    path.write_text(notebooks.written(found))
    assert notebooks.main(["--check"]) == 0
    page.write_text(PAGE.replace("hello", "good evening"))
    (notebooks.NOTEBOOKS / "gone.ipynb").write_text("{}")
    assert notebooks.stale() == ["examples/notebooks/gone.ipynb", "examples/notebooks/page.ipynb"]
    assert notebooks.main(["--check"]) == 1
    notebooks.main([])
    assert notebooks.stale() == []
    outputs = [cell["outputs"] for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [bool(out) for out in outputs] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in notebooks.pages()])
def test_a_notebook_runs(name: str) -> None:
    """With five seconds in the place of each budget."""
    pytest.importorskip("nbclient", reason="pip install -r docs/notebooks.txt")
    pytest.importorskip("ipykernel", reason="pip install -r docs/notebooks.txt")
    quick = {r"--budget \S+": "--preset tiny --steps 20", r"budget=\"\w+\"": 'steps=20, preset="tiny"'}
    found = notebooks.run(notebooks.PAGES / f"{name}.md", quick)
    printed = [out for cell in found["cells"] for out in cell.get("outputs", ())]
    assert printed
    assert not [out for out in printed if out["output_type"] == "error" or "error:" in str(out.get("text", ""))]
