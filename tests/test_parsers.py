"""Every parser that is ours reads what it is given, or refuses it in our own words: tests/fuzzing.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fuzzing
import pytest
from fuzzing import Target

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


def test_an_error_of_another_kind_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def reads(content: bytes, folder: Path) -> None:
        if b"9999-99-99" in content:
            raise ValueError("no such day")

    monkeypatch.setattr(fuzzing, "targets", lambda: {"days": Target(reads, [b"2020-01-02"])})
    with pytest.raises(ValueError, match="no such day") as found:
        fuzzing.at_random("days", times=3000)
    assert "days was given b'" in found.value.__notes__[0]
