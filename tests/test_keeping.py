"""Keeping order among runs: what is said of them, other names, and deleting that can be undone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from filelock import FileLock
from in_browser import studio
from starlette.testclient import TestClient

import quintet
from quintet.operations.requests import SampleRequest
from quintet.runs.notes import FILE
from quintet.studio import keeping
from quintet.studio.house import Studio


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a comparison of two."""
    path = tmp_path_factory.mktemp("kept")
    asked: dict[str, Any] = {"steps": 2, "preset": "tiny", "runs": path}
    quintet.train("vae", data="iris", run="one", **asked)
    quintet.compare(
        "iris", families=["vae", "gan"], samples=20, output=path / "compare-iris-1" / "report.html", **asked
    )
    return path


@pytest.fixture
def made(tmp_path: Path, trained: Path) -> Studio:
    shutil.copytree(trained, tmp_path / "runs")
    return studio(tmp_path)


def snapshot(root: Path) -> dict[str, bytes]:
    """All files below the folder of runs."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and path.name != ".lock" and ".studio" not in path.parts}  # fmt: skip


def test_tags_and_notes_are_said_and_found(made: Studio, browser: TestClient) -> None:
    assert browser.post("/studio/runs/one/tags", json={"tags": "a, b,,a"}).json()["tags"] == ["a", "b"]
    assert browser.post("/studio/runs/one/note", data={"note": "mind\r\nthis"}).json()["note"] == "mind\nthis"
    assert browser.post("/studio/runs/one/about", json={"intended": "Teaching.", "licence": "mit"}).status_code == 200
    assert browser.post("/studio/runs/compare-iris-1/vae-0/keep", json={}).json()["tags"] == ["kept"]
    assert browser.post("/studio/runs/compare-iris-1/vae-0/keep", data={"kept": "0"}).json()["tags"] == []
    time.sleep(0.15)
    assert made.library.facts("one").tags == ("a", "b")
    assert browser.post("/studio/runs/one/archive", json={"archived": True}).json()["archived"]
    assert json.loads((made.root / "one" / FILE).read_text())["note"] == "mind\nthis"
    assert "Teaching." in (made.root / "one" / "CARD.md").read_text()
    card = browser.get("/card/one").text
    assert "archived" in card
    assert "Teaching." in card


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}",
    "'; DROP TABLE runs; --",
    "💥" * 40,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_notes_are_shown_as_they_are(made: Studio, browser: TestClient, text: str) -> None:
    tag = text[:40].replace(",", "")
    assert browser.post("/studio/runs/one/note", json={"note": text}).status_code == 200
    assert browser.post("/studio/runs/one/tags", json={"tags": [tag]}).status_code == 200
    browser.post("/studio/runs/compare-iris-1/tags", json={"tags": [tag]})
    for page in ("/card/one", "/run/one", "/compare/compare-iris-1"):
        shown = browser.get(page).text
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
        assert page.startswith("/compare") or "49" not in text


@pytest.mark.parametrize("body", [{"tags": [1]}, {"tags": {"a": 1}}, {"tags": ["\ud800"]}, {"tags": ["a\nb"]}], ids=str)
def test_what_cannot_be_a_tag_is_refused(browser: TestClient, body: dict[str, Any]) -> None:
    answer = browser.post(
        "/studio/runs/one/tags", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)


PARTS = (
    "..", "../..", "/etc", ".", "", ".studio", ".studio/trash", "%2e%2e", "..%2f..", "..%2fone", "a\\..", "one\0", "\n",
    "one/checkpoints", "out", "out/one", "one/codec", "~", "C:", "one//", "💥", "a" * 300, "one\u202e", "//one",
)  # fmt: skip
ACTIONS = ("rename", "delete", "tags", "note", "archive", "keep", "about")


def test_names_lead_to_no_other_folder(made: Studio, browser: TestClient) -> None:
    """Every name with every action and page, in each spelling: nothing is found, and nothing changed."""
    (made.root / "out").symlink_to(made.root.parent, target_is_directory=True)
    before, tried = snapshot(made.root.parent), 0
    for name in PARTS:
        for spelt in {quote(name), quote(name, safe=""), quote(quote(name, safe=""))}:
            asked = [("POST", f"/studio/runs/{spelt}/{action}") for action in ACTIONS]
            if spelt.strip("./"):
                places = ("/card/{}", "/compare/{}", "/card/{}/samples", "/card/{}/CARD.md", "/compare/{}/report")
                asked += [("GET", place.format(spelt)) for place in places]
            for method, path in asked:
                answer = browser.request(method, path, json={"to": "new", "tags": ["t"], "note": "n"})
                assert answer.status_code in (404, 405, 422), (method, path, answer.status_code)
                tried += 1
    assert tried > 300
    assert snapshot(made.root.parent) == before


@pytest.mark.parametrize("to", ["", "..", "a/b", ".hidden", "a\0", "-rf", "x" * 201, "com pare", "../one", "one\n"])
def test_a_run_gets_no_name_that_none_can_have(made: Studio, browser: TestClient, to: str) -> None:
    before = snapshot(made.root)
    assert browser.post("/studio/runs/one/rename", json={"to": to}).status_code == (200 if to == "one\n" else 422)
    assert snapshot(made.root) == before


def test_a_renamed_run_is_the_same_model(made: Studio, browser: TestClient) -> None:
    asked = {"model": "one", "n": 3, "seed": 1}
    before = browser.post("/api/v1/sample", json=asked).json()
    answer = browser.post("/studio/runs/one/rename", json={"to": "two", "page": "card"})
    assert (answer.json()["name"], answer.json()["to"]) == ("two", "/card/two")
    assert made.service.models.served.keys() == set()
    assert made.service.models.warm.models == []
    assert browser.post("/api/v1/sample", json=asked).status_code in (404, 422)
    assert browser.post("/api/v1/sample", json=asked | {"model": "two"}).json()["items"] == before["items"]
    assert (made.root / "two" / "CARD.md").read_text().startswith("# two\n")
    assert not (made.root / "two" / "lock.json").exists()
    assert SampleRequest(run="two", runs=made.root).run == "two"
    assert quintet.load("two", runs=made.root).run.name == "two"


def test_a_name_that_is_taken_is_not_given(made: Studio, browser: TestClient) -> None:
    (made.root / "empty").mkdir()
    for name in ("compare-iris-1", "empty"):
        answer = browser.post("/studio/runs/one/rename", json={"to": name})
        assert (answer.status_code, answer.json()["title"]) == (422, "a run of this name exists already")
    assert browser.post("/studio/runs/compare-iris-1/rename", json={"to": "iris"}).status_code == 422
    assert browser.post("/studio/runs/compare-iris-1/vae-0/rename", json={"to": "iris"}).status_code == 422
    assert browser.post("/studio/runs/compare-iris-1/rename", json={"to": "compare-x"}).status_code == 200
    assert browser.get("/compare/compare-x").status_code == 200
    assert browser.get("/run/compare-x/vae-0").status_code == 200


def test_what_is_deleted_comes_back_as_it_was(made: Studio, browser: TestClient) -> None:
    before = snapshot(made.root)
    for name in ("one", "compare-iris-1/gan-0", "compare-iris-1"):
        answer = browser.post(f"/studio/runs/{name}/delete").json()
        assert browser.get(f"/card/{name}").status_code == 404
        assert browser.post(f"/studio/runs/{name}/delete").status_code == 404
        assert name in browser.get(answer["to"], headers={"accept": "text/html"}).text
        back = browser.post(f"/studio/trash/{answer['id']}/undo")
        assert (back.status_code, back.json()["name"]) == (200, name)
        assert browser.post(f"/studio/trash/{answer['id']}/undo").status_code == 404
        assert snapshot(made.root) == before
    assert list(keeping.trash_of(made.root).iterdir()) == []


def test_undo_takes_the_place_of_nothing(made: Studio, browser: TestClient) -> None:
    first = browser.post("/studio/runs/one/delete").json()["id"]
    shutil.copytree(made.root / "compare-iris-1" / "vae-0", made.root / "one")
    answer = browser.post(f"/studio/trash/{first}/undo")
    assert (answer.status_code, answer.json()["title"]) == (422, "a new run has this name now")
    inner = browser.post("/studio/runs/compare-iris-1/gan-0/delete").json()["id"]
    browser.post("/studio/runs/compare-iris-1/delete")
    assert browser.post(f"/studio/trash/{inner}/undo").status_code == 422
    assert len(keeping.deleted(made.root)) == 3


def test_what_was_deleted_is_removed_after_thirty_days_or_at_once(made: Studio, browser: TestClient) -> None:
    first = browser.post("/studio/runs/compare-iris-1/vae-0/delete").json()["id"]
    old = keeping.trash_of(made.root) / ("20200101-000000" + first[15:])
    (keeping.trash_of(made.root) / first).rename(old)
    second = browser.post("/studio/runs/one/delete").json()["id"]
    assert not old.exists()
    assert [one.id for one in keeping.deleted(made.root)] == [second]
    assert browser.post(f"/studio/trash/{second}/remove").status_code == 200
    assert browser.post(f"/studio/trash/{second}/remove").status_code == 404
    assert list(keeping.trash_of(made.root).iterdir()) == []
    for bad in ("..", "../..", "x", ".", quote("../trash", safe=""), "20200101-000000-" + "g" * 8, "%0a"):
        assert browser.post(f"/studio/trash/{bad}/remove").status_code in (404, 405)


def test_what_is_written_or_waits_is_left_alone(made: Studio, browser: TestClient) -> None:
    job = made.queue.add(["resume", "one"], "go on", None)
    for action in ("rename", "delete"):
        answer = browser.post(f"/studio/runs/one/{action}", json={"to": "two"})
        assert (answer.status_code, answer.json()["title"]) == (422, "this run is in the queue")
    made.queue.remove(job.id)
    with FileLock(made.root / "one" / ".lock"):
        assert browser.post("/studio/runs/one/delete").json()["title"] == "this run is being trained"
    with FileLock(made.root / "compare-iris-1" / "gan-0" / ".lock"):
        assert browser.post("/studio/runs/compare-iris-1/delete").json()["title"] == "this run is being trained"
    assert browser.post("/studio/runs/one/delete").status_code == 200


def test_a_disk_that_refuses_is_named(made: Studio, browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, to: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    before = snapshot(made.root)
    monkeypatch.setattr(Path, "rename", full)
    for action in ("rename", "delete"):
        answer = browser.post(f"/studio/runs/one/{action}", json={"to": "two"})
        assert answer.status_code == 503
        assert "No space left" in answer.json()["detail"]
    assert snapshot(made.root) == before
    assert not (made.root / "two").exists()
    assert browser.get("/trash").status_code == 200


def test_forms_work_without_a_script(browser: TestClient) -> None:
    browser.headers["accept"] = "text/html"
    answer = browser.post("/studio/runs/one/tags", data={"tags": "x", "page": "card"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/card/one")
    answer = browser.post("/studio/runs/compare-iris-1/vae-0/keep", data={"page": "compare"}, follow_redirects=False)
    assert answer.headers["location"] == "/compare/compare-iris-1"
    answer = browser.post("/studio/runs/one/delete", data={"page": "card"})
    assert "one was deleted" in answer.text
