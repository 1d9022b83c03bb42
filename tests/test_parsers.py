"""Every parser that is ours reads what it is given, or refuses it in our own words: tests/fuzzing.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import fuzzing
import pytest
from fuzzing import Target

from quintet.core.errors import ConfigError
from quintet.core.typed import read_yaml

NAMES = ("command-line", "config-file", "csv", "jsonl", "json", "txt", "members", "condition", "names", "values",
         "sentences", "provenance-csv", "provenance-png", "provenance-json", "run-config.yaml", "run-codec.json",
         "run-metrics.jsonl", "run-manifest.json", "checkpoint", "run-lock.json")  # fmt: skip


def test_all_are_here() -> None:
    assert set(NAMES) == set(fuzzing.targets())


@pytest.mark.parametrize("name", NAMES)
def test_every_input_is_read_or_refused(name: str) -> None:
    assert fuzzing.at_random(name, times=30) == 30


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_inputs_are_read_or_refused(name: str, record_property: Callable[[str, object], None]) -> None:
    record_property("reached", f"{fuzzing.at_random(name, seconds=20, seed=1)} inputs")


def test_an_archive_with_a_member_without_a_name(tmp_path: Path) -> None:
    """Which the standard library takes no look at either."""
    fuzzing.read("members", b"a.csv\n\nb.csv")


def bomb(first: str, each: str) -> str:
    """YAML of ten lines whose aliases stand for 9^9 values."""
    lines = [f"  k0: &k0 {first}"]
    for i in range(9):
        lines.append(f"  k{i + 1}: &k{i + 1} {each.format(', '.join(f'y{j}: *k{i}' for j in range(9)))}")
    return "model:\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize("text", [
    bomb("{x: 1}", "{{{}}}"), bomb("{x: 1}", "{{{}}}").replace("y0: ", "<<: "),
    "model: &a {width: *a}\n", "model: {width: &a [*a]}\n",
])  # fmt: skip
def test_aliases_that_stand_for_too_much_are_refused(text: str, tmp_path: Path) -> None:
    for name in ("config-file", "run-config.yaml"):
        began = time.monotonic()
        fuzzing.read(name, text.encode())
        assert time.monotonic() - began < 5
    with pytest.raises(ConfigError, match="its aliases stand for more than 100,000 values"):
        read_yaml(text, "not YAML", "here")


def test_brackets_of_yaml_are_not_nested_without_end() -> None:
    for opening, closing in (("[", "]"), ("{a: ", "}")):
        for depth in (101, 100_000):
            with pytest.raises(ConfigError, match="nested more than 100 deep"):
                read_yaml(opening * depth + closing * depth, "not YAML", "here")
        assert read_yaml(opening * 100 + closing * 100, "not YAML", "here")
    assert len(read_yaml("[" + "[], " * 1000 + "]", "not YAML", "here")) == 1000, "beside each other there may be many"


def test_aliases_may_repeat() -> None:
    assert read_yaml("{a: &a {b: 1}, c: *a, d: {<<: *a}}", "", "") == {
        "a": {"b": "1"},
        "c": {"b": "1"},
        "d": {"b": "1"},
    }


def test_an_error_of_another_kind_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def reads(content: bytes, folder: Path) -> None:
        if b"9999-99-99" in content:
            raise ValueError("no such day")

    monkeypatch.setattr(fuzzing, "targets", lambda: {"days": Target(reads, [b"2020-01-02"])})
    with pytest.raises(ValueError, match="no such day") as found:
        fuzzing.at_random("days", times=3000)
    assert "days was given b'" in found.value.__notes__[0]
