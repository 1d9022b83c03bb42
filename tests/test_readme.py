"""The documents are true: generated parts are fresh, command lines work and Python runs. What holds of all pages
together (links, languages, spelling) is tested in test_site.py."""

from __future__ import annotations

import base64
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from cyclopts import CycloptsError
from PIL import Image, ImageColor

import quintet
from quintet.api import verbs
from quintet.cli import main as cli
from quintet.cli import options
from quintet.modalities.pictures import grid_png
from quintet.modalities.table.options import KINDS

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
PAGES = (*READMES, *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")))
RUN = ("README.md", "docs/tour.md", "docs/text.md", "docs/training.md", "docs/runs.md", "docs/evaluation.md")
"""The pages whose command lines are run from top to bottom; those of the others are parsed."""
TINY = ["--preset", "tiny", "--steps", "3"]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[list[str]]:
    """Every quintet line, without its comment; behind torchrun's `--` and in pipes too."""
    for line in "\n".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["torchrun"]:
            words = words[words.index("--") + 1 :]
        if "quintet" in words:
            words = words[words.index("quintet") + 1 :]
            yield words[: words.index("|")] if "|" in words else words


def shown(page: str) -> Iterator[list[str]]:
    """The quintet lines behind a prompt, where a page shows what they print; a remark stands in brackets."""
    for line in "\n".join(blocks(page, "console")).splitlines():
        if line.startswith("$ quintet "):
            yield shlex.split(re.sub(r" {2,}\(.*\)$", "", line).partition(" > ")[0])[2:]


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
    (tmp_path / page).parent.mkdir(exist_ok=True)
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


def own_data(folder: Path) -> None:
    """What the tour takes for the reader's own data."""
    rng = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        (folder / "photos" / kind).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / kind / f"{i}.png")
    rows = [f"{rng.integers(18, 90)},{rng.choice(['f', 'm'])},{rng.normal(30, 9):.1f}" for _ in range(60)]
    (folder / "people.csv").write_text("\n".join(["age,sex,income", *rows]) + "\n")
    (folder / "holes.csv").write_text("age,sex,income\n,f,31.0\n40,,\n33,m,\n")
    (folder / "new.csv").write_text("\n".join(["age,sex,income", *rows[:5]]) + "\n")
    pairs = [f"A {what} sleeps {i} times.,Ein {was} schläft {i}-mal." for i in range(70)
             for what, was in (("dog", "Hund"), ("cow", "Ochse"))]  # fmt: skip
    (folder / "pairs.csv").write_text("\n".join(["english,german", *pairs]) + "\n")
    (folder / "english.txt").write_text("A dog sleeps.\n\nA cow sleeps 2 times.\n")
    reviews = [f"It was {rng.choice(words)} {i} times,{label}" for i in range(70)
               for label, words in (("good", ["fine", "great"]), ("bad", ["poor", "dull"]))]  # fmt: skip
    (folder / "reviews.csv").write_text("\n".join(["text,label", *reviews]) + "\n")
    (folder / "unread.csv").write_text("text\nIt was fine\nIt was dull\n")
    for pitch, word in ((200, "low"), (900, "high")):
        (folder / "voices" / word).mkdir(parents=True)
        for i in range(20):
            wave = np.sin(2 * np.pi * (pitch + i) * np.arange(2000) / 8000) * 0.5
            soundfile.write(folder / "voices" / word / f"{i}.wav", wave, 8000)
    (folder / "letters.txt").write_text("".join(f"Dear friend {i}, all is well here.\n\nYours\n\n" for i in range(80)))


@pytest.mark.parametrize("page", RUN)
def test_the_commands_work(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, with three steps in the place of each budget, and few samples where they are measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUINTET_RUNS", raising=False)
    own_data(tmp_path)
    for words in commands(page):
        if "other.json" in words and not Path("other.json").exists():
            shutil.copy("report.json", "other.json")
        for option in ("--budget", "--steps", "--samples"):
            if option in words:
                at = words.index(option)
                words = words[:at] + words[at + 2 :]
        if words[0] == "train" or "--families" in words:
            words += TINY
        if words[0] in ("evaluate", "compare"):
            words += ["--samples", "30"] if "report.json" not in words else []
        code = cli.main(words)
        assert code == 0, f"quintet {shlex.join(words)}: {capsys.readouterr().err}"
    runs = {path.name for path in Path("runs").iterdir()}
    assert runs >= {words[words.index("--run") + 1] for words in commands(page) if "--run" in words}
    files = {words[words.index("-o") + 1] for words in commands(page) if "-o" in words}
    assert all(Path(name).stat().st_size for name in files)


def test_the_run_folder_is_as_described(tmp_path: Path) -> None:
    (told,) = blocks("docs/runs.md", "text")
    words = ["train", "vae", "--data", "digits", "--condition", "label", *TINY, "--run", "r", "--runs", str(tmp_path)]
    assert cli.main(words) == 0
    for path in (tmp_path / "r").rglob("*"):
        if path.is_file():
            name = re.sub(r"step-\d{8}(\.png)?", "step-XXXXXXXX", path.name)
            assert name in told, path


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with three steps in the place of each budget."""
    (source,) = blocks(page, "python")
    for name in set(re.findall(r"\bquintet\.(\w+)", source)):
        assert name in quintet.__all__
    true = verbs.train

    def quick(family: str, **given: Any) -> quintet.Model:
        given.pop("budget")
        return true(family, **given, steps=3, preset="tiny")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUINTET_RUNS", raising=False)
    monkeypatch.setattr(verbs, "train", quick)
    space: dict[str, Any] = {}
    exec(compile(source, page, "exec"), space)
    assert space["points"].num_rows in (16, 100)
    if page == "README.md":
        return
    assert space["images"].shape == (8, 8, 8, 1)
    assert tuple(space["latents"].shape) == (16, 2)
    assert (tmp_path / "moons-to-keep" / "config.yaml").is_file()


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
