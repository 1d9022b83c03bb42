"""The runs that the studio lists, and their curves."""

from __future__ import annotations

import json
import math
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quintet.runs.config import RunConfig
from quintet.runs.folder import Run
from quintet.server.problems import Refusal
from quintet.studio import curves, library
from quintet.studio.curves import Cursor, Curve, Curves, extremes
from quintet.studio.library import Library

CONFIG = {"family": "vae", "codec": "image", "data": {"source": "digits", "condition": "label"}, "steps": 100}


def make(root: Path, name: str, *, step: int = 100, age: float = 0.0, config: Any = CONFIG, **more: Any) -> Path:
    """A run's folder as training leaves it, `age` seconds ago, with `more` in its studio.json."""
    path = root / name
    (path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    Run(path).write_config(RunConfig(**config))
    made = {"created": "2026-11-28T11:18:12Z", "model": {"parameters": 1234}}
    (path / "manifest.json").write_text(json.dumps(made))
    (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records(step)))
    if more:
        (path / "studio.json").write_text(json.dumps(more))
    os.utime(path, (time.time() - age,) * 2)
    return path


def records(step: int, steps: int = 100) -> Iterator[dict[str, Any]]:
    for at in range(10, step + 1, 10):
        yield {"step": at, "steps": steps, "seconds": at / 10, "model": 1 / at, "rate": 0.5}
        if not at % 50:
            yield {"step": at, "steps": steps, "seconds": at / 10, "quality": 2 / at, "held_out": 3 / at}


def named(found: Any) -> list[str]:
    return [one.name for one in found]


# -- the library -----------------------------------------------------------------------------------------------------


def test_what_a_list_shows_of_a_run(tmp_path: Path) -> None:
    make(tmp_path, "digits-vae-1", tags=["good"], note="the first")
    found = Library(tmp_path).facts("digits-vae-1")
    assert (found.family, found.source, found.kind, found.condition) == ("vae", "digits", "image", "label")
    assert (found.state, found.step, found.steps, found.parameters) == ("finished", 100, 100, 1234)
    assert (found.loss, found.quality, found.held_out, found.seconds) == (0.01, 0.02, 0.03, 10.0)
    assert (found.tags, found.note, found.archived) == (("good",), "the first", False)
    assert time.gmtime(found.created)[:5] == (2026, 11, 28, 11, 18)


def test_the_states_of_runs(tmp_path: Path) -> None:
    make(tmp_path, "ended")
    make(tmp_path, "halted", step=40)
    live = make(tmp_path, "living", step=40)
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": 0}
    (live / "lock.json").write_text(json.dumps(note))
    dead = make(tmp_path, "killed", step=40)
    (dead / "lock.json").write_text(json.dumps(note | {"pid": 2**22 + 1}))
    broken = make(tmp_path, "broken")
    (broken / "config.yaml").write_text("family: [")
    (broken / "digests.json").unlink()
    (tmp_path / "nothing").mkdir()
    found = {one.name: one for one in Library(tmp_path).search().runs}
    assert {name: one.state for name, one in found.items()} == {
        "ended": "finished", "halted": "stopped", "living": "training", "killed": "stopped", "broken": "damaged",
    }  # fmt: skip
    assert "the configuration of the run cannot be read" in found["broken"].error
    (live / "lock.json").unlink()
    assert Library(tmp_path).facts("living").state == "stopped"


def test_runs_that_train_are_the_newest_and_archived_ones_are_not_recent(tmp_path: Path) -> None:
    for age, name in enumerate(("a", "compare-digits-1/vae-0", "b", "old")):
        make(tmp_path, name, age=100 * age + 10, archived=name == "b")
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": 0}
    (tmp_path / "old" / "lock.json").write_text(json.dumps(note))
    os.utime(tmp_path / "old", (1, 1))
    shelf = Library(tmp_path)
    assert named(shelf.recent(9)) == ["old", "a", "compare-digits-1/vae-0"]
    assert named(shelf.recent(1)) == ["old"]  # since it is known that it trains
    assert named(shelf.search(archived=True).runs) == ["b"]


def test_every_word_of_a_search_is_found_somewhere(tmp_path: Path) -> None:
    make(tmp_path, "one", tags=["Keeper"])
    make(tmp_path, "two", config=CONFIG | {"family": "flow"}, note="sharp pictures")
    shelf = Library(tmp_path)
    wanted = {"keeper": ["one"], "SHARP two": ["two"], "flow digits": ["two"], "vae two": [], "": ["one", "two"]}
    assert {text: sorted(named(shelf.search(text).runs)) for text in wanted} == wanted


def test_many_runs_are_read_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FEW", 2)
    for number in range(9):
        make(tmp_path, f"run-{number}", age=10 * number + 1, tags=["odd"] if number % 2 else [])
    shelf = Library(tmp_path)
    first = shelf.search("run-3", size=3)
    assert (named(first.runs), first.unread) == (["run-3"], 9)
    assert shelf.reader is not None
    shelf.reader.join(30)
    again = shelf.search("odd", size=3)
    assert (named(again.runs), again.total, again.unread) == (["run-1", "run-3", "run-5"], 4, 0)


def test_lists_are_sorted_and_have_pages(tmp_path: Path) -> None:
    for number in range(7):
        make(tmp_path, f"run-{number}", step=10 * (number + 1), age=10 * number + 1)
    shelf = Library(tmp_path)
    assert named(shelf.search(size=3).runs) == ["run-0", "run-1", "run-2"]
    assert named(shelf.search(size=3, page=3).runs) == ["run-6"]
    assert shelf.search(size=3, page=99)[1:] == (7, 3, 3, 0)
    assert named(shelf.search(size=3, sort="step").runs) == ["run-6", "run-5", "run-4"]
    by_quality = named(shelf.search(sort="quality", down=False).runs)
    assert by_quality[:3] == ["run-4", "run-5", "run-6"]  # the same figure, in the order of their steps before
    assert set(by_quality[3:]) == {"run-0", "run-1", "run-2", "run-3"}  # without a figure


def test_a_run_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        make(tmp_path, f"run-{number}", age=10 * number + 1)
    looks: list[str] = []
    original = library.facts_of
    monkeypatch.setattr(library, "facts_of", lambda name, *rest: looks.append(name) or original(name, *rest))
    shelf = Library(tmp_path)
    assert len(shelf.recent(20)) == 20 == len(looks)
    shelf.recent(20)
    assert len(looks) == 20
    (tmp_path / "run-5" / "studio.json").write_text('{"tags": ["new"]}')
    assert shelf.recent(20)[0].tags == ("new",)
    assert looks[20:] == ["run-5"]


def test_a_run_that_trains_is_read_every_time(tmp_path: Path) -> None:
    path = make(tmp_path, "live", step=40, age=10)
    (path / "lock.json").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    os.utime(path, (1, 1))
    shelf = Library(tmp_path)
    assert shelf.facts("live").step == 40
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "steps": 100, "seconds": 1, "model": 7.5}\n')
    os.utime(path, (1, 1))
    assert (shelf.facts("live").step, shelf.facts("live").loss) == (41, 7.5)


ELSEWHERE = ("", ".", "..", "../x", "/etc", "a/b", "compare-1/..", "compare-1//x", "x\0", ".studio")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    make(tmp_path / "runs", "real")
    make(tmp_path, "x")
    make(tmp_path / "runs" / "a", "b")
    with pytest.raises(Refusal, match="no run of this name"):
        Library(tmp_path / "runs").facts(name)


def test_what_is_no_such_thing_harms_no_list(tmp_path: Path) -> None:
    (make(tmp_path, "one") / "studio.json").write_text('{"tags": 7, "note": []')
    (make(tmp_path, "two") / "metrics.jsonl").write_bytes(b'\xff\n{"step": "x", "steps": 1}\n[1]\n{"step": 5, "ste')
    (make(tmp_path, "three") / "manifest.json").write_text("[")
    (make(tmp_path, "four") / "manifest.json").write_text('{"model": 7, "created": "yesterday"}')
    assert {one.name: one.state for one in Library(tmp_path).search().runs} == {
        "one": "finished", "two": "finished", "three": "damaged", "four": "finished",
    }  # fmt: skip
    assert Library(tmp_path / "none").recent(5) == []


# -- curves ----------------------------------------------------------------------------------------------------------


def line(step: int, value: float | None = None) -> str:
    return json.dumps({"step": step, "steps": 10**6, "seconds": step / 7, "model": value or step / 3}) + "\n"


def values(points: Any) -> dict[str, list[list[Any]]]:
    return {name: [list(steps), list(found)] for name, (steps, found) in points.items()}


class Reader:
    """A page that follows a run: what it has, and how far it has come."""

    def __init__(self) -> None:
        self.cursor, self.points = "", dict[str, list[list[Any]]]()

    def look(self, curve: Curve, most: int) -> bool:
        """Take what is new, as after a loss of the connection: all it remembers is the text of its cursor."""
        anew, cursor, points = curve.since(Cursor.parse(self.cursor), most)
        if anew:
            self.points = {}
        for name, (steps, found) in points.items():
            mine = self.points.setdefault(name, [[], []])
            mine[0] += steps
            mine[1] += found
        moved, self.cursor = str(cursor) != self.cursor, str(cursor)
        return moved


def truth(path: Path) -> dict[str, list[list[Any]]]:
    """The points of a file, read anew."""
    return values(Curve(path).refresh().since(Cursor()).points)


def followed(path: Path, reconnects: int = 1000) -> tuple[list[Reader], dict[str, list[list[Any]]]]:
    """Readers that come, go and come back at random while a file is written, torn at any byte, and replaced twice as
    a resumed run does; and what it holds in the end.
    """
    draw, curve, step = random.Random(0), Curve(path), 0
    readers = [Reader() for _ in range(50)]
    torn = ""
    for turn in range(reconnects):
        with path.open("a") as file:
            for _ in range(draw.randrange(4)):
                step += 1
                torn += line(step, draw.random())
            cut = draw.randrange(len(torn) + 1)
            file.write(torn[:cut])
            torn = torn[cut:]
        if turn in (400, 700):
            step = max(1, step - 100)
            Run(path.parent).records.rewind(step, None)
            torn = ""
        if turn == 550:  # the studio itself was started again
            curve = Curve(path)
        curve.refresh()
        readers[draw.randrange(50)].look(curve, draw.choice((1, 7, 1000)))
    with path.open("a") as file:
        file.write(torn)
    curve.refresh()
    for reader in readers:
        while reader.look(curve, 1000):
            pass
    return readers, truth(path)


def test_a_thousand_reconnects_lose_no_point(tmp_path: Path) -> None:
    readers, wanted = followed(tmp_path / "metrics.jsonl")
    assert len(wanted["model"][0]) > 500
    assert all(reader.points == wanted for reader in readers)


@pytest.mark.parametrize("fault", [-1, 1])
def test_a_cursor_that_is_off_by_one_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    original = Curve.row_of

    def off(self: Curve, cursor: Cursor) -> int | None:
        row = original(self, cursor)
        return row if not row or row + fault > len(self.ends) else row + fault

    monkeypatch.setattr(Curve, "row_of", off)
    readers, wanted = followed_briefly(tmp_path / "metrics.jsonl")
    assert not all(reader.points == wanted for reader in readers)


def followed_briefly(path: Path) -> tuple[list[Reader], dict[str, list[list[Any]]]]:
    """A reader that comes back five times."""
    curve, reader = Curve(path), Reader()
    for step in range(1, 16, 3):
        with path.open("a") as file:
            file.write("".join(line(step + k) for k in range(3)))
        reader.look(curve.refresh(), 1000)
    return [reader], truth(path)


def test_a_file_with_the_number_of_an_older_one_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step) for step in range(1, 40)))
    curve, reader = Curve(path), Reader()
    reader.look(curve.refresh(), 1000)
    with path.open("r+") as file:  # written anew in its place: the same inode, and longer than before
        file.write("".join(line(step, 0.25) for step in range(1, 60)))
    for one in (curve, Curve(path)):
        late = Reader()
        late.cursor, late.points = reader.cursor, dict(reader.points)
        late.look(one.refresh(), 1000)
        assert late.points == truth(path)


def test_a_cut_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1) + line(2)[:-9])
    curve = Curve(path).refresh()
    assert curve.since(Cursor()).points["model"][0] == [1]
    with path.open("a") as file:
        file.write(line(2)[-9:])
    assert curve.refresh().since(curve.cursor).points == {}
    assert curve.since(Cursor()).points["model"][0] == [1, 2]


def test_lines_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    bad = ['{"step": 1', "[]", "7", "", '{"step": NaN, "steps": 3}', '{"step": true, "steps": 3}',
           f'{{"step": 1, "steps": {"9" * 400}}}', "\xff"]  # fmt: skip
    odd = '{"step": 2, "steps": 3, "a": "x", "b": [], "c": Infinity, "d": null}\n'
    path.write_bytes((line(1) + "\n".join(bad) + "\n" + odd).encode("latin-1"))
    assert values(Curve(path).refresh().since(Cursor()).points) == {
        "model": [[1], [1 / 3]], "c": [[2], [None]], "d": [[2], [None]],
    }  # fmt: skip


def test_no_spike_is_lost_and_a_part_shows_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=100_000)
    spikes = rng.choice(100_000, 20, replace=False)
    numbers[spikes[:10]], numbers[spikes[10:]] = 50 + np.arange(10), -50 - np.arange(10)
    steps, kept = extremes(np.arange(100_000.0), numbers, 2000)
    assert len(steps) <= 2002
    assert set(spikes) <= set(steps.astype(int))
    assert (np.diff(steps) > 0).all()
    assert (kept == numbers[steps.astype(int)]).all()
    assert not set(spikes) <= set(np.arange(0, 100_000, 50))  # as taking every fiftieth would

    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step) for step in range(1, 3001)))
    curve = Curve(path).refresh()
    assert len(curve.thinned(100)["model"][0]) <= 102
    assert curve.thinned(100, 500, 540)["model"][0] == list(range(499, 542))  # and one more on each side


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    found = extremes(np.arange(1000.0), np.where(np.arange(1000) < 500, np.nan, np.arange(1000)), 20)
    assert math.isnan(found[1][0])
    assert np.isfinite(found[1]).sum() >= 10


# -- how long it will take -------------------------------------------------------------------------------------------


def test_a_run_that_was_resumed_follows_its_plan(tmp_path: Path) -> None:
    path = make(tmp_path, "one", step=40, config=CONFIG | {"budget": 60})
    created = Library(tmp_path).facts("one").created
    for since, budget in ((created + 1, 60), (created + 100, None)):
        (path / "lock.json").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        assert Library(tmp_path).facts("one").budget == budget


def test_curves_of_few_runs_are_kept(tmp_path: Path) -> None:
    kept = Curves()
    for number in range(curves.OPEN + 5):
        kept.of(tmp_path / str(number))
    assert len(kept.kept) == curves.OPEN
