"""Whoever follows a page gets where it leads: its commands and its Python run, from top to bottom, in an empty folder.

Blocks `sh` and `python` are run; blocks `console` show what is printed, and their command lines are parsed with all
others in test_readme.py. Trainings have three steps in the place of their budget, and the preset tiny.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from documents import PAGES, ROOT, all_blocks, commands, quintet_words, shell_lines, text_of
from PIL import Image
from serving import TOKEN, running, service
from test_openai import THERE, differs
from test_openai import commands as curls

import quintet
from quintet.api import verbs
from quintet.cli import main as cli

TINY = ["--preset", "tiny", "--steps", "3"]
ELSEWHERE = {
    "docs/serving.md": "its commands and its program need a server: test_openai.py",
    "docs/how-to/add-a-family.md": "it changes the source: test_what_a_page_adds_works",
    "docs/how-to/add-a-modality.md": "it changes the source: test_what_a_page_adds_works",
    "docs/how-to/add-a-metric.md": "it changes the source: test_what_a_page_adds_works",
}
"""Pages with blocks that run in tests of their own."""
QUOTES = ("docs/maths/", "docs/reference/")
"""Folders of pages whose blocks are quoted from the source: test_maths.py finds them there."""
RUN = tuple(
    page for page in PAGES
    if page not in ELSEWHERE and not page.startswith(QUOTES) and not page.endswith((".zh.md", ".zh-CN.md"))
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
    longer = words[0] == "distil" or (words[0] == "resume" and {"--budget", "--steps"} & set(words))
    for option in ("--budget", "--steps", "--samples"):
        if option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2 :]
    if words[0] == "train" or "--families" in words or (words[0] == "compare" and has_source(words)):
        words = [*words, *TINY]
    elif longer:
        words = [*words, "--steps", "6"]
    if words[0] in ("evaluate", "compare") and not any(word.endswith(".json") for word in words[1:3]):
        words = [*words, "--samples", "30"]
    return words


def has_source(words: list[str]) -> bool:
    """Whether `compare` is given data, which it trains on, and not runs or reports."""
    places = (Path(words[1]), Path("runs", words[1]))
    return not words[1].endswith(".json") and not any((place / "config.yaml").exists() for place in places)


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


def follow(page: str) -> None:
    """Run the blocks of a page in order, in the working directory. Raises AssertionError with the line that fails."""
    space: dict[str, Any] = {"__name__": page}
    for block in all_blocks(text_of(page)):
        if block.language == "python":
            exec(compile(block.text, page, "exec"), space)
        elif block.language == "sh":
            for line in shell_lines(block.text):
                if "other.json" in line and not Path("other.json").exists():
                    shutil.copy("report.json", "other.json")
                run_line(line)


def long(page: str) -> Any:
    """Tutorials and how-to pages together take minutes: the first of them stands for all in the fast suite, and the
    comparisons of the README for those of the page on evaluation.
    """
    folders = ("docs/tutorials/", "docs/how-to/", "docs/evaluation.md")
    several = page.startswith(folders) and page != "docs/tutorials/first-model.md"
    return pytest.param(page, marks=[pytest.mark.slow] if several else [])


@pytest.mark.parametrize("page", [long(page) for page in RUN])
def test_a_page_can_be_followed(page: str, reader: Path) -> None:
    follow(page)
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


@pytest.mark.skipif("docs/tutorials/serving.md" not in PAGES, reason="there is no such page yet")
def test_a_server_answers_what_the_tutorial_asks(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests of a shell, and its program."""
    page = "docs/tutorials/serving.md"
    follow(page)
    monkeypatch.setenv("QUINTET_TOKEN", TOKEN)
    with running(service(Path("runs"), "points", "digits")) as one:
        address = str(one.base_url)
        requests = curls(text_of(page))
        assert requests
        for typed, shown in requests:
            assert differs((typed, shown or "..."), address, reader) == ""
        for block in all_blocks(text_of(page)):
            if block.language == "python":
                exec(compile(block.text.replace(THERE, address), page, "exec"), {"__name__": "__main__"})


# -- pages that change the source --------------------------------------------------------------------------------------


def added(page: str, root: Path) -> list[Path]:
    """Do to a copy of the source in `root` what the page says, and return the files that were written or changed.

    A block of Python or YAML belongs to the file `src/...` that the text before it names. If there is none yet, the
    block is that file. Else it holds lines for it: an import goes behind the last one of its package, an entry to the
    front of the table that the text names in capital letters.
    """
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    changed, path, table = [], None, None
    for part in re.split(r"(^```\w*\n.*?^```$)", text_of(page), flags=re.MULTILINE | re.DOTALL):
        if not part.startswith("```"):
            path = [path, *(root / name for name in re.findall(r"`(src/quintet/[\w/]+\.\w+)`", part))][-1]
            table = ([table, *re.findall(r"`([A-Z]{3,})`", part)])[-1]
            continue
        (block,) = all_blocks(part)
        if path is None or block.language not in ("python", "yaml"):
            continue
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        else:
            path.write_text(grown(path.read_text(), block.text, table))
        changed.append(path)
    return changed


def grown(source: str, lines: str, table: str | None) -> str:
    """The source with further lines: an import, or an entry of a table."""
    if lines.startswith(("from ", "import ")):
        package = lines.split()[1].rpartition(".")[0]
        at = [found.end() for found in re.finditer(rf"^from {re.escape(package)}\b.*\n", source, re.MULTILINE)][-1]
    else:
        match = re.search(rf"^{table}\b.*[({{]\n", source, re.MULTILINE)
        assert match is not None, f"no table {table}"
        at = match.end()
    return source[:at] + lines + source[at:]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in ELSEWHERE if page.startswith("docs/how-to/add") and page in PAGES])
def test_what_a_page_adds_works(page: str, tmp_path: Path) -> None:
    """In a copy of the source: the page's files and lines, and then its commands."""
    assert len(added(page, tmp_path)) >= 2
    (tmp_path / "empty").mkdir()
    paths = os.pathsep.join([str(tmp_path / "src"), str(Path(__file__).parent)])
    done = subprocess.run([sys.executable, "-c", f"import test_pages; test_pages.follow_commands({page!r})"],
                          cwd=tmp_path / "empty", env={**os.environ, "PYTHONPATH": paths},
                          capture_output=True, text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def follow_commands(page: str) -> None:
    """The commands of a page, without its Python."""
    own_data(Path())
    for block in all_blocks(text_of(page)):
        for line in shell_lines(block.text) if block.language == "sh" else ():
            run_line(line)
