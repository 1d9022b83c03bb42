"""Names of runs: letters of any script, by one rule, and nothing that leads elsewhere or looks like what it is not."""

from __future__ import annotations

import io
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quintet
from quintet.cli import console
from quintet.core.errors import DataError, UsageError
from quintet.core.plain import visible
from quintet.runs import hub
from quintet.runs.folder import Run
from quintet.runs.names import LONGEST, check_name, stem
from quintet.studio.pages import attachment

GOOD = (
    "a",
    "run-1",
    "诗歌-vae-1",
    "café",
    "Ünïcode_2.x",
    "भाषा",
    "ภาษาไทย",
    "日本語",
    "русский",
    "٣",
    "1",
    "Z" * LONGEST,
)
BAD = (
    "", ".", "..", "../x", "a/b", "a\\b", "/etc", ".hidden", "-rf", "_x", "a b", "a\nb", "a\0", "a\x1b[2J", "one\n",
    "a\u202eb", "a\u2066b", "a\u200bb", "a\u200db", "a\u2060b",  # turns direction, or is not seen
    "a\uff0fb", "\uff0e\uff0e", "a\u2024b", "a\u2215b", "a\u29f8b", "a\u3164b", "a\u115fb", "a\ufe0fb",  # look-alikes
    "a\u3000b", "a\xa0b", "💥", "a:b", "a*b", "~", "\u0301a", "\ud800", "Z" * (LONGEST + 1), "诗" * (LONGEST // 3 + 1),
)  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_letters_of_any_script_are_a_name(tmp_path: Path, name: str) -> None:
    assert check_name(name) == name
    run = Run.create(tmp_path, name, "")
    assert run.path == tmp_path / name
    assert run.path.is_dir()


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_what_leads_elsewhere_or_is_not_what_it_looks_like_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be named|name of a run is too long"):
        check_name(name)
    with pytest.raises(UsageError):
        Run.create(tmp_path, name, "")
    assert not list(tmp_path.iterdir())


def test_one_name_is_one_run_however_its_accents_are_typed(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "café")
    run = Run.create(tmp_path, apart, "")
    assert run.name == "café"
    assert run.name != apart
    (run.path / "config.yaml").touch()
    assert Run.open(apart, tmp_path).path == run.path
    with pytest.raises(UsageError, match="exists already"):
        Run.create(tmp_path, "café", "")


@given(st.text())
def test_any_text_makes_the_beginning_of_a_name(text: str) -> None:
    made = stem(text)
    assert check_name(f"{made}-99999") == f"{made}-99999"
    assert stem(made) == made


@pytest.mark.parametrize(
    ("text", "name"),
    [("诗歌", "诗歌"), ("my data", "my-data"), ("../../etc", "etc"), ("", "run"), ("💥", "run"), ("a\u202eb", "a-b")],
)
def test_a_name_is_like_what_it_is_made_of(tmp_path: Path, text: str, name: str) -> None:
    assert stem(text) == name
    assert Run.create(tmp_path, None, f"{text}-vae").name == f"{stem(text + '-vae')}-1"


def test_a_text_in_chinese_gives_its_runs_its_name(tmp_path: Path) -> None:
    """Before, the studio called the run of such a file by its verb alone."""
    poems = tmp_path / "诗歌.txt"
    poems.write_text("床前明月光\n疑是地上霜\n举头望明月\n低头思故乡\n" * 10, encoding="utf-8")
    quintet.train("autoregressive", data=poems, steps=1, preset="tiny", runs=tmp_path / "runs")
    assert quintet.load("诗歌-autoregressive-1", runs=tmp_path / "runs").run.name == "诗歌-autoregressive-1"


def test_a_name_goes_into_a_header_in_its_own_script() -> None:
    assert attachment("诗歌-1.html")["Content-Disposition"].encode("latin-1").endswith(b"%E8%AF%97%E6%AD%8C-1.html")


def test_the_hub_refuses_names_that_it_does_not_have() -> None:
    with pytest.raises(UsageError, match="is not the name of a repository") as caught:
        hub.repository("hf:me/诗歌")
    assert "a to z" in caught.value.why


def test_a_terminal_is_shown_and_not_steered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert visible("诗歌\t1\n\x1b[2J\u202eb") == "诗歌\t1\n\\x1b[2J\\u202eb"
    console.complain(DataError("no such file", where="a\x1b]0;x\x07.csv"), False)
    assert "\x1b" not in capsys.readouterr().err

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, shown in ((Terminal(), "\\x1b[2J"), (io.StringIO(), "\x1b[2J")):
        monkeypatch.setattr(sys, "stdout", out)
        console.show(console.Answer({}, "\x1b[2J"), False)
        assert out.getvalue() == shown + "\n"
