"""The page of a new run: its form is made of the schemas, and asks for what the command line asks for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from in_browser import served
from starlette.testclient import TestClient

from quintet.cli.main import main
from quintet.operations import estimating
from quintet.operations.requests import TrainRequest
from quintet.operations.spoken import command, shell
from quintet.registry import COMPARED, FAMILIES
from quintet.sources.load import load_source
from quintet.studio import forms, source
from quintet.studio.house import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ITEMS = "c,x\n" + "".join(f"{'ab'[i % 2]},{i % 7}\n" for i in range(80))


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """A small table."""
    path = tmp_path / "rows.csv"
    path.write_text(ITEMS)
    return str(path)


@pytest.mark.parametrize(("key", "text"), [("model.width", "-1"), ("training.lr", "0"), ("training.decay", "x"),
                                           ("model.fsq_levels", "[1]"), ("training.clip", "[")])  # fmt: skip
def test_a_form_is_refused_in_the_words_of_the_command_line(
    key: str, text: str, browser: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    form = {"family": "vae", "data": "moons", key: text}
    answer = browser.post("/studio/new/check", json=form).json()["problem"]
    assert f"{answer['where']}.".startswith(f"{key}.")
    assert main(["train", "vae", "--data", "moons", f"--{key}={text}", "--dry-run"]) == 3
    assert answer["title"] in capsys.readouterr().err


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_is_there_before_the_data_are(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "load_source", lambda *_, **__: pytest.fail("the page loads data"))
    text = browser.get("/new?source=moons").text
    first = re.findall(r'<button class="([^"]+)" name="do" value="(\w+)"', text)[0]
    assert first == ("main big", "compare")
    for family in FAMILIES.values():
        assert family.about.replace("'", "&#39;") in text
    assert "/data" in browser.get("/new").text
    text = browser.get("/new?source=moons&data.group=g&condition=a,b&training.lr=0.1&x=y").text
    assert (
        '{"form": {"data": "moons", "data.group": "g", "condition": "a,b", "training.lr": "0.1"}, "like": ""}' in text
    )


def test_a_source_is_shown_as_it_is_called(browser: TestClient) -> None:
    name = '"><script>alert(1)</script>'
    assert "<script>alert" not in browser.get("/new", params={"source": name}).text
    assert "problem" in browser.post("/studio/new/data", json={"data": name}).json()


def test_what_is_known_of_a_source(browser: TestClient, rows: str) -> None:
    found = browser.post("/studio/new/data", json={"data": rows}).json()
    assert (found["items"], found["columns"], found["refused"]) == (80, ["c", "x"], {})
    assert browser.post("/studio/new/data", json={"data": "digits"}).json()["labelled"]
    advice = browser.post("/studio/new/advice", json={"data": "digits", "budget": "60s"}).json()
    assert set(advice["order"]) == set(COMPARED)
    assert advice["purposes"]["samples"]["family"] == advice["order"][0]


def test_a_source_is_loaded_once_until_it_changes(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(source, "load_source", lambda *given, **how: calls.append(given) or load_source(*given, **how))
    request = TrainRequest(data=rows)
    for _ in range(2):
        assert source.looked_at(request).facts()["items"] == 80
    Path(rows).write_text(ITEMS + "a,1\n")
    assert source.looked_at(request).facts()["items"] == 81
    assert len(calls) == 2


def test_the_command_is_the_one_that_the_queue_gets(browser: TestClient, made: Studio) -> None:
    form = {"data": "moons", "family": "flow", "budget": "60s", "condition": "label", "model.width": "64"}
    said = browser.post("/studio/new/spoken", json=form).json()
    for do, command_of, title in (
        ("train", forms.train_request, "flow moons"),
        ("compare", forms.compare_request, "compare moons"),
    ):
        where = browser.post("/studio/new/add", json={**form, "do": do}).json()["to"]
        job = made.queue.of_run(where.removeprefix("/compare/")) or made.queue.job(where.removeprefix("/queue?job="))
        assert where == (f"/compare/{job.run}" if do == "compare" else f"/queue?job={job.id}")
        wanted = command_of(form)
        assert (job.argv[: len(command(wanted))], job.title) == (tuple(command(wanted)), title)
        assert said[do]["command"] == shell(wanted.model_copy(update={"runs": made.root}))
        assert f"quintet.{do}(" in said[do]["python"]


def test_what_would_fail_is_not_added(browser: TestClient, made: Studio) -> None:
    form = {"data": "moons", "family": "flow", "do": "train", "condition": "nobody"}
    assert "no column nobody" in browser.post("/studio/new/add", json=form).json()["problem"]["title"]
    assert (
        "no column nobody" in browser.post("/studio/new/add", json=form | {"do": "compare"}).json()["problem"]["title"]
    )
    assert made.queue.jobs() == []


def test_the_form_works_without_scripts(browser: TestClient, made: Studio) -> None:
    form = {"data": "moons", "family": "flow", "budget": "60s", "seeds": "1", "target": "", "seed": "", "do": "train"}
    answer = browser.post("/new", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/queue?job={made.queue.jobs()[0].id}")


@pytest.mark.parametrize("name", ["data", "advice", "fields", "check", "add"])
def test_no_form_is_refused(name: str, browser: TestClient) -> None:
    assert "problem" in browser.post(f"/studio/new/{name}", json={}).json()
    for form in ({"data": 3}, [], None):
        assert browser.post(f"/studio/new/{name}", json=form).status_code == 422


# -- another like one -----------------------------------------------------------------------


def test_another_run_like_one_has_its_settings(tmp_path: Path, browser: TestClient, made: Studio, rows: str) -> None:
    words = ["train", "vae", "--data", rows, "--condition", "c", "--preset", "tiny", "--steps", "3", "--seed", "4",
             "--training.batch_size", "16", "--model.beta", "0.5"]  # fmt: skip
    assert main([*words, "--run", "first", "--runs", str(made.root)]) == 0
    text = browser.get("/new?like=first").text
    assert '<option value="tiny" selected>' in text
    assert 'name="seed" size="6" inputmode="numeric" placeholder="0" value="4"' in text
    changes = browser.get("/studio/new/like?run=first").json()
    assert changes == {"training.batch_size": "16", "model.beta": "0.5"}
    assert browser.get("/studio/new/like?run=../first").status_code == 422
    assert browser.get("/new?like=nobody").status_code == 422


# -- in the browser ----------------------------------------------------------------------------------------------------


def test_every_setting_is_found_by_typing(made: Studio, chromium: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """By keyboard alone: a setting is found, refused at its place, mended, and reset; then a run is added by mouse."""
    monkeypatch.setattr(estimating, "MINUTE", 0.2)
    page, said = chromium.new_page(), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    with served(made, "/new?source=moons") as link:
        page.goto(link)
        page.wait_for_selector("#find:enabled")
        command = page.locator("#train-spoken [data-spoken=command]")
        for key in ("/", "l", "r", "Enter"):
            page.keyboard.press(key)
        page.wait_for_selector("[id='setting-training.lr']:focus")
        page.keyboard.press("Control+a")
        page.evaluate("document.activeElement.dataset.old = true")
        page.locator("[name=family]:checked").dispatch_event("input")  # makes all fields anew, as advice does
        page.wait_for_selector("[id='setting-training.lr']:focus:not([data-old])")
        for key in ("-", "1"):
            page.keyboard.press(key)
        error = page.locator(".setting .error:not(:empty)")
        error.wait_for()
        assert "greater than 0" in error.inner_text()
        for key in ("Control+a", "0", ".", "5", "Enter"):  # which sends nothing
            page.keyboard.press(key)
        page.wait_for_selector("#train-spoken code:text('--training.lr 0.5')")
        page.wait_for_selector("[data-fact=steps]:text-matches('[0-9]')")
        assert error.count() == 0
        page.reload()
        page.wait_for_selector("#train-spoken code:text('--training.lr 0.5')")
        page.focus("[id='setting-training.lr']")
        page.keyboard.press("Tab")  # to the button behind the field
        page.keyboard.press("Enter")
        page.wait_for_selector("#train-spoken code:not(:text('training.lr'))")
        page.fill("#find", "updates")
        page.fill("#setting-steps", "7")
        page.check("[name=family][value=gan]")
        page.wait_for_selector("#train-spoken code:text('train gan')")
        page.wait_for_selector("#train-spoken code:text('--condition label')")
        assert page.locator("#budget").is_disabled()
        assert "--budget" not in command.inner_text()
        page.click("button[value=train]")
        page.wait_for_url("**/queue?job=*")
        page.close()  # before the studio, which it would look for again
    assert said == []
    assert made.queue.jobs()[0].argv[:7] == ("train", "gan", "--data", "moons", "--condition", "label", "--steps")
