"""Bugs of data flow, planted one at a time in a copy of the package: each must make a named test fail.

`python tests/mutants.py [WORDS]` tries those of mutants.toml whose names hold WORDS, or all of them, prints a line
for each and exits with 1 unless all are caught. `-o FILE` also writes the result as a page.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = ROOT / "src" / "quintet", ROOT / "tests"
LIBRARIES = ("torch", "pyarrow.parquet", "pydantic", "yaml", "PIL.Image", "soundfile", "scipy.stats", "jinja2",
             "cyclopts", "sklearn.ensemble", "sklearn.svm", "safetensors.torch", "rich.console")  # fmt: skip
"""What is slow to import, and not the package itself."""
PATIENCE = 600
"""Seconds that a test may take: a bug that makes it endless is caught as well."""


class Mutant(NamedTuple):
    """One bug: the text `old`, which stands exactly once in the package, becomes `new`, and `test` must fail."""

    name: str
    old: str
    new: str
    test: str


class Result(NamedTuple):
    """Where a bug was planted, and what became of it: "caught", "NOT CAUGHT", or an error in words."""

    mutant: Mutant
    module: str
    outcome: str
    seconds: float


def mutants() -> list[Mutant]:
    """All of mutants.toml."""
    return [Mutant(**entry) for entry in tomllib.loads((TESTS / "mutants.toml").read_text())["mutant"]]


def place(mutant: Mutant, package: Path) -> Path:
    """The module in which its old text stands. Raises ValueError unless that is once, and the new one is Python."""
    found = [(path, count) for path in sorted(package.rglob("*.py")) if (count := path.read_text().count(mutant.old))]
    if [count for _, count in found] != [1]:
        where = ", ".join(f"{path.relative_to(package)} ({count} times)" for path, count in found) or "nowhere"
        raise ValueError(f"its old text must stand once in the package, and stands {where}")
    path = found[0][0]
    try:
        ast.parse(path.read_text().replace(mutant.old, mutant.new))
    except SyntaxError as error:
        raise ValueError(f"its new text is no Python: {error}") from None
    return path


def failure(tests: Sequence[str], source: Path) -> str:
    """The end of what pytest says of these tests with the package that lies in `source`; "" where all pass.

    They run in a fork of this process, which has the libraries and not the package: to import them takes longer than
    most of the tests.
    """
    sys.stdout.flush()
    with tempfile.TemporaryFile() as told:
        child, code = os.fork(), 2
        if not child:
            try:
                os.dup2(told.fileno(), 1)
                os.dup2(told.fileno(), 2)
                os.chdir(TESTS)
                os.environ["PYTHONPATH"], sys.dont_write_bytecode = str(source), True
                sys.path.insert(0, str(source))
                signal.alarm(PATIENCE)
                code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))
                sys.stdout.flush()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told.seek(0)
        text = told.read().decode()[-2000:]
    if code > 1:  # 4: no such test
        raise ValueError(text)
    return f"exit code {code}: {text}" if code else ""


def planted(mutant: Mutant, source: Path) -> Result:
    """The outcome of one bug, whose module is as it was afterwards."""
    began = time.perf_counter()
    try:
        path = place(mutant, source / "quintet")
        was, times = path.read_text(), path.stat()
        try:
            path.write_text(was.replace(mutant.old, mutant.new))
            outcome = "caught" if failure([mutant.test], source) else "NOT CAUGHT"
        finally:
            path.write_text(was)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        module = ".".join(path.relative_to(source / "quintet").with_suffix("").parts)
    except ValueError as error:
        return Result(mutant, "", str(error), 0.0)
    return Result(mutant, module, outcome, time.perf_counter() - began)


def page(results: Sequence[Result], seconds: float) -> str:
    """The results as Markdown."""
    caught = sum(result.outcome == "caught" for result in results)
    rows = [
        f"| {mutant.name} | `{module}` | `{mutant.test}` | {outcome} | {took:.0f} |"
        for mutant, module, outcome, took in results
    ]
    head = (
        f"`make test-mutants` plants one bug at a time in a copy of the package and runs the one test that is named "
        f"beside it, which must fail. {caught} of {len(results)} are caught; without a bug all of these tests pass. "
        f"Made on {date.today():%Y-%m-%d} in {seconds / 60:.0f} minutes with one process of one thread on a machine of "
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}."
    )
    table = "| bug | module | test that fails | outcome | s |\n| --- | --- | --- | --- | ---: |"
    return "\n".join(["# Planted bugs", "", head, "", table, *rows, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="?", default="", help="part of the names of the bugs to plant")
    parser.add_argument("-o", "--output", type=Path, help="a page with the results")
    given, began = parser.parse_args(), time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LIBRARIES:
        importlib.import_module(name)
    chosen = [mutant for mutant in mutants() if given.words in mutant.name]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        shutil.copytree(PACKAGE, source / "quintet", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([sys.executable, "-m", "compileall", "-q", source], check=True)
        if told := failure(sorted({mutant.test for mutant in chosen}), source):
            print(f"{told}\na named test fails without any bug: mend that first")
            return 1
        for mutant in chosen:
            results.append(planted(mutant, source))
            print(f"{results[-1].seconds:4.0f} s  {results[-1].outcome:10}  {mutant.name}", flush=True)
    caught, seconds = sum(result.outcome == "caught" for result in results), time.perf_counter() - began
    print(f"{caught} of {len(results)} caught in {seconds:.0f} s")
    if given.output:
        given.output.write_text(page(results, seconds))
    return int(caught < len(results))


if __name__ == "__main__":
    sys.exit(main())
