"""Every error says what, where, why and what to do; docs/errors.md has all of it, and its freshness is the snapshot."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from test_readme import module

from quintet.cli.main import main
from quintet.core import errors
from quintet.core.errors import QuintetError

WITHOUT = 195
"""How many raises have no way out of their own but that of their class: fewer is better, more is not."""


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return module("generate")


def test_every_class_has_a_way_out_and_an_exit_code(generate: ModuleType) -> None:
    for name, found in generate.ERRORS.items():
        assert found.remedy, name
        assert found.exit_code in (2, 3, 4, 5), name
        assert f"  fix: {found.remedy}" in str(found("it is so")), name
        assert found("it is so", fix="do this").fix == "do this"


def test_the_page_has_a_section_for_every_class() -> None:
    names = [
        name for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, QuintetError)
    ]
    page = (Path(__file__).parents[1] / "docs" / "errors.md").read_text()
    assert [name for name in names if f"\n## {name}\n" not in page] == []


def test_what_is_raised_says_what_and_what_to_do(generate: ModuleType) -> None:
    every = generate.raised()
    assert len(every) > 350
    assert [one for one in every if not one.what] == []
    without = [f"{one.module}:{one.line}: {one.what}" for one in every if not one.fix]
    assert len(without) <= WITHOUT, "\n".join(without)


def test_a_raise_is_found_with_its_variables(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'def f(n):\n    why = f"{n} of them"\n    raise DataError("too many", where="x", why=why)\n'
    (tmp_path / "one.py").write_text(text)
    monkeypatch.setattr(generate, "PACKAGE", tmp_path)
    assert generate.raised() == [generate.Raised("one", 3, "DataError", "too many", "x", "{} of them", "")]


def test_the_code_is_the_name_of_the_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", "nowhere", "--runs", str(tmp_path)]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error[UsageError]: ")
    assert main([*words, "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "UsageError"
    assert all(said[part] for part in ("what", "where", "why", "fix"))
