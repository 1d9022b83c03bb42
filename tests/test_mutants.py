"""The table of planted bugs fits the package and the tests as they are; `make test-mutants` plants them."""

from __future__ import annotations

import ast
from pathlib import Path

import mutants
import pytest

BUGS = mutants.mutants()


def test_there_are_many_bugs_each_another_one() -> None:
    assert len(BUGS) == len({bug.name for bug in BUGS}) == len({(bug.old, bug.new) for bug in BUGS}) >= 40


def test_every_bug_can_be_planted() -> None:
    """Where a line has moved or changed: put its text as it is now into mutants.toml."""
    for bug in BUGS:
        try:
            mutants.place(bug, mutants.PACKAGE)
        except ValueError as error:
            pytest.fail(f"{bug.name}: {error}")


def test_every_bug_names_a_test_that_exists() -> None:
    functions: dict[str, set[str]] = {}
    for bug in BUGS:
        file, name = bug.test.split("::")
        if file not in functions:
            tree = ast.parse((mutants.TESTS / file).read_text())
            functions[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in functions[file], bug.name


@pytest.mark.parametrize(("old", "new", "why"), [("z = 1", "", "nowhere"), ("x = 1", "", "a.py (2 times)"),
                                                 ("y = 1", "y =", "no Python")])  # fmt: skip
def test_what_cannot_be_planted_is_said(old: str, new: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\ny = 1\n")
    with pytest.raises(ValueError, match=r"its (old|new) text") as caught:
        mutants.place(mutants.Mutant("a bug", old, new, "test"), tmp_path)
    assert why in str(caught.value)
