"""What cannot be read is left out and counted, listed, or an error, as the user chooses, for every kind of data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_files
import pytest

from quintet.cli.main import main
from quintet.core.errors import DataError, EnvironmentFault, QuintetWarning
from quintet.data.dataset import Dataset
from quintet.sources.load import load_source

GOOD = hostile_files.good_files()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_CACHE", str(tmp_path / "cache"))


def folder(suffix: str, bad: int) -> Callable[[Path], Path]:
    """Twelve files, so many of them no such files."""

    def make(root: Path) -> Path:
        (root / "in").mkdir()
        for i in range(12):
            (root / "in" / f"{i:02d}.{suffix}").write_bytes(b"\0none" if i < bad else GOOD[suffix])
        return root / "in"

    return make


def rows(suffix: str, bad: int) -> Callable[[Path], Path]:
    """Twelve rows or lines, so many of them broken."""

    def make(root: Path) -> Path:
        path = root / f"in.{suffix}"
        lines = [("1,2,3" if suffix == "csv" else '{"a": ') if i < bad else ("1,x%d" if suffix == "csv" else
                 '{"a": 1, "b": "x%d"}') % i for i in range(12)]  # fmt: skip
        path.write_text("\n".join((["a,b"] if suffix == "csv" else []) + lines) + "\n")
        return path

    return make


KINDS = {"png": folder, "wav": folder, "txt": folder, "csv": rows, "jsonl": rows}


def read(path: Path, on_bad: str) -> Dataset:
    unit = {"unit": "document"} if path.is_dir() and list(path.glob("*.txt")) else {}
    return load_source(str(path), on_bad=on_bad, **unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tenth_at_most_is_left_out_unless_the_user_says_otherwise(kind: str, tmp_path: Path) -> None:
    path = KINDS[kind](kind, 1)(tmp_path)
    with pytest.warns(QuintetWarning, match="1 of 12 .* cannot be read and are left out"):
        assert len(read(path, "few").items) == 11
    with pytest.raises(DataError, match="cannot read") as error:
        read(path, "error")
    assert "--data.on_bad skip" in error.value.fix


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_but_all_is_skipped_or_listed_if_the_user_says_so(kind: str, tmp_path: Path) -> None:
    path = KINDS[kind](kind, 5)(tmp_path)
    with pytest.raises(DataError, match="cannot read 5 of 12"):
        read(path, "few")
    with pytest.warns(QuintetWarning, match="5 of 12"):
        assert len(read(path, "skip").items) == 7
    assert not list(tmp_path.glob("*.bad"))
    with pytest.warns(QuintetWarning, match="5 of 12"):
        found = read(path, "quarantine")
    assert len(found.items) == 7
    (listed,) = (tmp_path / f"{path.name}.bad").glob("*.jsonl")
    assert any(str(listed) in note for note in found.notes)
    told = [json.loads(line) for line in listed.read_text().splitlines()]
    assert len(told) == 5
    assert all(one["name"] and one["why"] for one in told)
    assert kind not in ("csv", "jsonl") or all(one["content"].startswith(("1,2,3", '{"a"')) for one in told)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_where_all_is_bad(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read(KINDS[kind](kind, 12)(tmp_path), "skip")


def test_damaged_utf_8_is_replaced_where_the_user_says_so(tmp_path: Path) -> None:
    for name, content in {"t.txt": "wört\n" * 80, "t.csv": "a,b\n" + "1,wört\n" * 80}.items():
        (tmp_path / name).write_bytes(content.encode() + b"\xff\xfe" + content.encode().partition(b"\n")[2])
        with pytest.raises(DataError, match=r"UTF-8|cannot read"):
            read(tmp_path / name, "few")
        assert any("U+FFFD stands in 2 places" in note for note in read(tmp_path / name, "skip").notes)


def test_the_command_line_has_a_word_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder("png", 5)(tmp_path))
    assert main(["data", path]) == 3
    assert "--data.on_bad skip" in capsys.readouterr().err
    for words in (["--on-bad-data", "skip"], ["--on-bad-data=quarantine"], ["--data.on_bad", "skip"]):
        assert main(["data", path, *words]) == 0
        assert "5 of 12 images cannot be read" in capsys.readouterr().err
    assert main(["data", path, "--on-bad-data", "keep"]) == 3
    assert "on_bad" in capsys.readouterr().err


def test_a_list_that_cannot_be_written_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder("png", 5)(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(EnvironmentFault, match=r"in\.bad") as error:
        read(path, "quarantine")
    assert "--data.on_bad skip" in error.value.fix
