"""The pages of docs/maths are true: code that they quote is ours, numbers are those of their figures, and both
languages show the same formulas, code and figures."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "maths"
PAGES = sorted(path.name for path in FOLDER.glob("*.md"))
NUMBERS: dict[str, dict[str, str]] = json.loads((FOLDER / "figures" / "numbers.json").read_text(encoding="utf-8"))


def text_of(page: str) -> str:
    return (FOLDER / page).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    """docs/maths/figures.py, which is no part of a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return importlib.import_module("figures")


def quotes(text: str) -> list[tuple[str, str]]:
    """Each block of Python, and the file of the code that was linked last before it."""
    found, source = [], ""
    for link, block in re.findall(r"\]\((\S+?\.py)\)|^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        source = link or source
        if block:
            found.append((source, block))
    return found


def foreign(folder: Path, text: str) -> list[str]:
    """Quoted blocks that are not in the file that is named for them, blanks and line breaks aside."""

    def bare(code: str) -> str:
        return "".join(code.split())

    return [
        block
        for source, block in quotes(text)
        if bare(block) not in bare((folder / source).read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("page", PAGES)
def test_quoted_code_is_ours(page: str) -> None:
    assert quotes(text_of(page))
    assert foreign(FOLDER, text_of(page)) == []


def test_the_check_of_quotes_notices_a_changed_line() -> None:
    text = text_of("vae.md").replace("self.settings.beta * rate", "self.settings.beta + rate")
    assert len(foreign(FOLDER, text)) == 1


@pytest.mark.parametrize("page", PAGES)
def test_linked_names_are_in_the_files(page: str) -> None:
    for name, source in re.findall(r"\[`([\w.]+)`\]\((\S+?\.py)\)", text_of(page)):
        code = (FOLDER / source).read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"\b(def|class) {part}\b", code), f"{name} in {source}"


@pytest.mark.parametrize("page", PAGES)
def test_numbers_are_those_of_the_figures(page: str) -> None:
    shown = re.findall(r"\]\(figures/([\w-]+)\.png\)", text_of(page))
    for name in shown:
        lacking = {what: number for what, number in NUMBERS[name].items() if number not in text_of(page)}
        assert lacking == {}, name


def test_every_figure_is_shown_and_small() -> None:
    shown = {name for page in PAGES for name in re.findall(r"\]\(figures/([\w-]+)\.png\)", text_of(page))}
    files = {path.stem: path.stat().st_size for path in (FOLDER / "figures").glob("*.png")}
    assert set(files) == shown == set(NUMBERS)
    assert max(files.values()) < 100_000


def test_exact_figures_have_the_numbers_that_are_written_down(figures: ModuleType) -> None:
    """Those without training, up to one unit of the last digit."""
    for name in figures.EXACT:
        numbers, _ = figures.FIGURES[name]()
        assert numbers.keys() == NUMBERS[name].keys()
        for what, number in numbers.items():
            digits = len(number.partition(".")[2])
            assert float(number) == pytest.approx(float(NUMBERS[name][what]), abs=1.01 * 10**-digits), (name, what)


@pytest.mark.parametrize("page", [page for page in PAGES if not page.endswith(".zh.md")])
def test_both_languages_show_the_same(page: str) -> None:
    """Formulas (but for words in them), code and figures, in the same order."""
    here, there = text_of(page), text_of(page.replace(".md", ".zh.md"))
    for pattern in (r"^\$\$\n(.*?)^\$\$", r"^```python\n(.*?)^```", r"\]\((figures/\S+)\)"):
        first, second = (
            [re.sub(r"\\text\{.*?\}", "", part) for part in re.findall(pattern, text, re.MULTILINE | re.DOTALL)]
            for text in (here, there)
        )
        assert first == second
