"""The documents are true: generated parts are fresh and command lines parse. What pages ask the reader to run is run in
test_pages.py; what holds of all pages together (links, languages, spelling) is tested in test_site.py."""

from __future__ import annotations

import base64
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cyclopts import CycloptsError
from documents import PAGES, ROOT, blocks, commands, shown, text_of
from PIL import ImageColor

import quintet
from quintet.cli import main as cli
from quintet.cli import options
from quintet.modalities.pictures import grid_png
from quintet.modalities.table.options import KINDS
from quintet.studio.sentences import catalogue


def parse(words: list[str]) -> None:
    """What the program does before a verb runs. Raises what it raises."""
    sections, rest = options.extract(words)
    rest = [cli.HYPHEN if word == "-" else word for word in rest]
    command, _, _ = cli.app.parse_args(rest, print_error=False, exit_on_error=False)
    options.check_sections(sections, cli.SETTINGS[command.__name__], command.__name__)


def module(name: str) -> ModuleType:
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return module("generate")


def test_a_reason_without_chinese_words_stands_as_it_is(generate: ModuleType) -> None:
    """Somebody who adds a family can generate the pages before anybody has translated its sentences."""
    assert generate.chinese("no") == "不可以"
    assert generate.chinese("training rows are given no condition") == "training rows are given no condition"
    (known, said), *_ = catalogue("zh").items()
    assert generate.chinese(known) == said


def test_generated_parts_are_fresh(generate: ModuleType) -> None:
    assert generate.stale() == []
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("page", "name"),
    [(page, name) for page in PAGES for name in re.findall(r"^<!-- (\w+) -->$", text_of(page), re.MULTILINE)
     if page != "docs/results.md"],
)  # fmt: skip
def test_the_check_notices_a_stale_part(
    page: str, name: str, generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / page).write_text(generate.replaced(text_of(page), name, "an old table"))
    monkeypatch.setattr(generate, "PAGES", {page: {name: generate.PAGES[page][name]}})
    assert generate.main(["--check"], tmp_path) == 1
    assert generate.main([], tmp_path) == 0
    assert (tmp_path / page).read_text() == text_of(page)


def test_every_command_line_parses() -> None:
    lines = [words for page in PAGES for words in (*commands(page), *shown(page))]
    assert {words[0] for words in lines} == {name for name in cli.app if not name.startswith("-")}
    for words in lines:
        parse(words)


@pytest.mark.parametrize("line", ["sample r --colour 3", "score", "compare moons --model.width 3", "train --stepz 3"])
def test_the_parser_notices_a_wrong_line(line: str) -> None:
    with pytest.raises((CycloptsError, quintet.QuintetError)):
        parse(line.split())


def test_the_run_folder_is_as_described(tmp_path: Path) -> None:
    (told,) = blocks("docs/runs.md", "text")
    words = ["train", "vae", "--data", "digits", "--condition", "label", "--preset", "tiny", "--steps", "3",
             "--run", "r", "--runs", str(tmp_path)]  # fmt: skip
    assert cli.main(words) == 0
    for path in (tmp_path / "r").rglob("*"):
        if path.is_file():
            name = re.sub(r"step-\d{8}(\.png)?", "step-XXXXXXXX", path.name)
            assert name in told, path


def test_types_of_columns_are_those_that_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of docs/data.md, and the line of `quintet data`."""
    (tmp_path / "a.csv").write_text("x\n1\n2\n3\n")
    assert cli.main(["data", str(tmp_path / "a.csv")]) == 0
    (told,) = re.findall(r"COLUMN=([\w|]+)", capsys.readouterr().out)
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", text_of("docs/data.md"), re.MULTILINE)
    assert tuple(told.split("|")) == tuple(rows) == KINDS


def test_exit_codes_are_those_of_the_errors() -> None:
    from quintet.core import errors

    rows = re.findall(r"^\| (\d[\d, ]*) \|", text_of("docs/command-line.md"), re.MULTILINE)
    codes = {int(code) for row in rows for code in row.split(",")}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, quintet.QuintetError)
    ]
    assert {kind.exit_code for kind in kinds} | {0, 1, 129, 130, 141, 143} == codes


# -- the picture -----------------------------------------------------------------------------------------------------


def test_the_picture_is_drawn_from_a_report() -> None:
    """A frame in the accent colour stands around the panel of the family that the verdict names, and no other."""
    picture = module("picture")
    sheet = grid_png(np.zeros((100, 8, 8, 1), np.uint8), columns=10)
    samples = {"kind": "image", "png": base64.b64encode(sheet).decode()}
    models = [{"family": family, "run": family, "seed": 0, "status": "ok", "samples": samples,
               "metrics": {"auc": 0.6, "auc_stderr": 0.01}} for family in picture.TITLES]  # fmt: skip
    keeper = {"label": "flow", "sentence": "Its samples are the hardest to tell from real data."}
    drawn = picture.drawn({"models": models, "verdict": {"keeper": keeper}, "real": {"samples": samples}})
    blue = np.argwhere((np.asarray(drawn) == ImageColor.getrgb(picture.ACCENT)).all(-1))
    wide = (drawn.width - 2 * picture.MARGIN - 2 * picture.GAP) // 3
    middle = picture.MARGIN + wide + picture.GAP  # flow is the second panel of the second row
    assert blue[:, 0].min() > drawn.height / 3
    assert middle - 10 < blue[:, 1].min() < blue[:, 1].max() < middle + wide + 10


def test_the_picture_of_the_readme_is_small() -> None:
    assert (ROOT / "docs" / "demo.png").stat().st_size < 150_000
