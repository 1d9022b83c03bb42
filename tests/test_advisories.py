"""Every dependency has a lower bound that lies behind its known vulnerabilities: tests/advisories.toml."""

from __future__ import annotations

import datetime
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
ADVISORIES = tomllib.loads((ROOT / "tests" / "advisories.toml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [
    *PROJECT["dependencies"],
    *(one for extra, several in PROJECT["optional-dependencies"].items() if extra != "test" for one in several),
]


def problems(needed: list[str]) -> list[str]:
    """What is wrong with these requirements."""
    mended, found = dict(ADVISORIES["mended"]), []
    for requirement in map(Requirement, needed):
        name = requirement.name.lower()
        if name in ADVISORIES["none"]["packages"]:
            continue
        if name not in mended:
            found.append(f"{name}: look up its advisories, and write them into tests/advisories.toml")
            continue
        least, advisory, what = mended.pop(name)
        bounds = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
        if not bounds or max(bounds) < Version(least):
            found.append(f"{name}>={least} is needed: {advisory}, {what}")
    return found + [f"{name}: nobody depends on it" for name in mended]


def test_lower_bounds_lie_behind_known_vulnerabilities() -> None:
    assert problems(NEEDED) == []


def test_an_old_bound_and_an_unknown_package_are_noticed() -> None:
    changed = ["pillow>=9" if one.startswith("pillow") else one for one in NEEDED]
    assert problems([*changed, "left-pad"]) == [
        "pillow>=12.3.0 is needed: CVE-2026-59197, writes beyond a buffer, and decompression bombs past the limit",
        "left-pad: look up its advisories, and write them into tests/advisories.toml",
    ]


def test_what_is_installed_by_the_constraints_is_newer() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {name.lower().replace("_", "-"): Version(version) for name, version in pinned.items()}
    for name, (least, *_) in ADVISORIES["mended"].items():
        assert name not in pinned or pinned[name] >= Version(least), name


def test_the_list_has_its_date() -> None:
    assert ADVISORIES["date"] >= datetime.date(2026, 11, 29)


if __name__ == "__main__":
    print(*problems(NEEDED), sep="\n")
    sys.exit(bool(problems(NEEDED)))
