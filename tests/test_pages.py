"""Whoever follows a page gets where it leads: its commands and its Python run, from top to bottom, in an empty folder.

Blocks `sh` and `python` are run; blocks `console` show what is printed, and their command lines are parsed with all
others in test_readme.py. Trainings have three steps in the place of their budget, and the preset tiny.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from documents import PAGES, all_blocks, commands, quintet_words, shell_lines, text_of
from PIL import Image

import quintet
from quintet.api import verbs
from quintet.cli import main as cli

TINY = ["--preset", "tiny", "--steps", "3"]
ELSEWHERE = {
    "docs/serving.md": "its commands and its program need a server: test_openai.py",
    "docs/tutorials/serving.md": "it needs a server: test_serving_tutorial",
    "docs/how-to/add-a-family.md": "it changes the source: test_a_family_is_added",
    "docs/how-to/add-a-modality.md": "it changes the source: test_a_modality_is_added",
}
"""Pages with blocks that run in tests of their own."""
RUN = tuple(
    page for page in PAGES
    if page not in ELSEWHERE and not page.endswith((".zh.md", ".zh-CN.md"))
    and any(block.language in ("sh", "python") for block in all_blocks(text_of(page)))
)  # fmt: skip
LEFT = ("make", ".", "cd", "pip", "git", "ssh", "docker", "kill")
"""What a page may ask of the reader's machine, and a test does not do: installing, moving, starting services."""
ENDLESS = ("serve", "studio", "push")
"""Verbs that wait for somebody, or need the network."""


def own_data(folder: Path) -> None:
    """What pages take for the reader's own data."""
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


def short(words: list[str]) -> list[str]:
    """The same command, done in seconds: three steps, and few samples where they are measured."""
    for option in ("--budget", "--steps", "--samples"):
        if option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2 :]
    resumed = words[0] in ("resume", "distil")
    if words[0] == "train" or "--families" in words or (words[0] == "compare" and has_source(words)):
        words = [*words, *TINY]
    elif resumed:
        words = [*words, "--steps", "6"]
    if words[0] in ("evaluate", "compare") and not any(word.endswith(".json") for word in words[1:3]):
        words = [*words, "--samples", "30"]
    return words


def has_source(words: list[str]) -> bool:
    """Whether `compare` is given data, which it trains on, and not runs or reports."""
    return not Path("runs", words[1]).exists() and not words[1].endswith(".json")


def run_line(line: str) -> None:
    """A line of a shell: quintet in this process, anything else in bash."""
    if shlex.split(line)[0] in LEFT:
        return
    words = quintet_words(line)
    if words is None:
        subprocess.run(["bash", "-c", line], check=True, timeout=60)
    elif words[0] not in ENDLESS and "|" not in shlex.split(line, comments=True):
        assert cli.main(short(words)) == 0, line


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the reader's own data, in which this process works; quintet.train trains for three steps."""
    true = verbs.train

    def quick(family: str, **given: Any) -> quintet.Model:
        given.pop("budget", None)
        return true(family, **given | {"steps": 3, "preset": "tiny"})

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUINTET_RUNS", raising=False)
    monkeypatch.setattr(verbs, "train", quick)
    own_data(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", RUN)
def test_a_page_can_be_followed(page: str, reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, Any] = {}
    for block in all_blocks(text_of(page)):
        if block.language == "python":
            exec(compile(block.text, page, "exec"), space)
        elif block.language == "sh":
            for line in shell_lines(block.text):
                if "other.json" in line and not Path("other.json").exists():
                    shutil.copy("report.json", "other.json")
                try:
                    run_line(line)
                except AssertionError as failure:
                    pytest.fail(f"{failure.args[0]}\n{capsys.readouterr().err}")
    ran = [words for words in commands(page) if words[0] not in ENDLESS]
    runs = {path.name for path in Path("runs").glob("*")}
    assert runs >= {words[words.index("--run") + 1] for words in ran if "--run" in words}
    files = {words[words.index("-o") + 1] for words in ran if "-o" in words} - {"-"}
    assert all(Path(name).stat().st_size for name in files)


@pytest.mark.parametrize("line", ["quintet train vae --data nothing.csv", "false"])
def test_a_line_that_fails_is_noticed(line: str, reader: Path) -> None:
    with pytest.raises((AssertionError, subprocess.CalledProcessError)):
        run_line(line)


def test_the_python_page_gets_what_it_says(reader: Path) -> None:
    space: dict[str, Any] = {}
    (block,) = (block for block in all_blocks(text_of("docs/python.md")) if block.language == "python")
    exec(compile(block.text, "docs/python.md", "exec"), space)
    assert space["points"].num_rows == 16
    assert space["images"].shape == (8, 8, 8, 1)
    assert tuple(space["latents"].shape) == (16, 2)
    assert (reader / "moons-to-keep" / "config.yaml").is_file()
