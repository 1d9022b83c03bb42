"""README.md is true: its generated parts are fresh, its command lines work, its Python runs."""

from __future__ import annotations

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
from PIL import Image

import quintet
from quintet.cli import main as cli
from quintet.cli import options
from quintet.fit import api

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TINY = ["--preset", "tiny", "--steps", "3"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[list[str]]:
    """Every quintet line, without its comment; behind torchrun's `--` too."""
    for block in blocks("sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["torchrun"]:
                words = words[words.index("--") + 1 :]
            if words[:1] == ["quintet"]:
                yield words[1:]


def parse(words: list[str]) -> None:
    """What the program does before a verb runs. Raises what it raises."""
    sections, rest = options.extract(words)
    command, _, _ = cli.app.parse_args(rest, print_error=False, exit_on_error=False)
    options.check_sections(sections, cli.SETTINGS[command.__name__], command.__name__)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_fresh(generate: ModuleType) -> None:
    assert generate.stale(README) == []
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("name", ["operations", "sources", "presets", "files"])
def test_the_check_notices_a_stale_part(
    name: str, generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text(generate.replaced(README, name, "an old table"))
    monkeypatch.setattr(generate, "README", tmp_path / "README.md")
    monkeypatch.setattr(generate, "PARTS", {name: generate.PARTS[name]})
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert (tmp_path / "README.md").read_text() == README


def test_every_command_line_parses() -> None:
    lines = list(commands())
    assert {words[0] for words in lines} >= {
        "data",
        "train",
        "sample",
        "score",
        "evaluate",
        "compare",
        "inspect",
        "resume",
    }
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


def test_the_tour_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In order, with three steps in the place of each budget, and few samples where they are measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUINTET_RUNS", raising=False)
    own_data(tmp_path)
    other = None
    for words in commands():
        if "other.json" in words and other is None:
            other = shutil.copy("report.json", "other.json")
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
    made = {path.name for path in Path().iterdir()}
    assert made >= {"points.csv", "scores.csv", "threes.png", "guided.png"}
    assert {path.name for path in Path("runs").iterdir()} >= {"rings", "digits", "two"}


def test_the_run_folder_is_as_described(tmp_path: Path) -> None:
    told = next(block for block in blocks("text") if "config.yaml" in block)
    words = ["train", "vae", "--data", "digits", "--condition", "label", *TINY, "--run", "r", "--runs", str(tmp_path)]
    assert cli.main(words) == 0
    for path in (tmp_path / "r").rglob("*"):
        if path.is_file():
            name = re.sub(r"step-\d{8}(\.png)?", "step-XXXXXXXX", path.name)
            assert name in told, path


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with three steps in the place of each budget."""
    (source,) = blocks("python")
    for name in set(re.findall(r"\bquintet\.(\w+)", source)):
        assert name in quintet.__all__
    true = api.train

    def quick(family: str, **given: Any) -> api.Model:
        given.pop("budget")
        return true(family, **given, steps=3, preset="tiny")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUINTET_RUNS", raising=False)
    monkeypatch.setattr(api, "train", quick)
    space: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), space)
    assert space["images"].shape == (8, 8, 8, 1)
    assert tuple(space["latents"].shape) == (16, 2)
    assert (tmp_path / "moons-to-keep" / "config.yaml").is_file()


def test_exit_codes_are_those_of_the_errors() -> None:
    from quintet.core import errors

    codes = {int(code) for row in re.findall(r"^\| (\d[\d, ]*) \|", README, re.MULTILINE) for code in row.split(",")}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, quintet.QuintetError)
    ]
    assert {kind.exit_code for kind in kinds} | {0, 1, 130, 141, 143} == codes
