"""The page of the queue: what it shows in every state, what can be done on it, and what it follows."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from in_browser import served, studio
from queueing import add, queue, states, stop_all, until
from starlette.testclient import TestClient

from quintet.core.errors import EnvironmentFault
from quintet.operations.requests import StudioRequest
from quintet.studio import jobs
from quintet.studio import queue as queues
from quintet.studio.app import create_app, start
from quintet.studio.house import Studio
from quintet.studio.queue import MOST_AT_ONCE, Queue
from quintet.studio.queue_page import FRESH

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AS_PAGE = {"accept": "text/html"}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Studio]:
    """A studio whose jobs are done by the stand-in, once the queue begins."""
    made = studio(tmp_path)
    made.queue = queue(tmp_path)
    made.queue.take()
    yield made
    made.queue.end()
    stop_all(made.queue)


def has_ended(job: jobs.Job, **said: str) -> None:
    """As if its process had answered."""
    (job.folder / jobs.OUT).write_text(json.dumps({"seconds": 65.0} | said))


def test_an_empty_queue_says_what_to_do(browser: TestClient) -> None:
    text = browser.get("/queue").text
    assert "Nothing runs, and nothing waits." in text
    assert 'href="/new"' in text
    assert "All is done" not in text


def test_every_state_is_shown_and_nothing_of_a_job_is_markup(made: Studio, browser: TestClient) -> None:
    mark = "<script>alert(1)</script>"
    waiting = made.queue.add(["train", "flow", "--data", mark, "--budget", "2m"], mark, "waits")
    failed, finished, compared = (add(made.queue, name) for name in ("failed", "finished", "paused"))
    made.queue.pause(compared.id)
    comparison = made.queue.add(["compare", "moons"], "a comparison")
    has_ended(failed, error="DataError", what=f"what {mark}", where="people.csv", why="the why", fix="the fix")
    has_ended(finished)
    has_ended(comparison)
    for job, name in ((finished, "config.yaml"), (comparison, "comparison.json")):
        (made.root / job.run).mkdir()
        (made.root / job.run / name).touch()
    (failed.folder / jobs.LOG).write_text(f"the log {mark}")
    text = browser.get(f"/queue?job={waiting.id}").text
    assert mark not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 3
    for part in ("what &lt;", "people.csv", "the why", "the fix", "the log", "2:08", "1:05", "/run/finished", "paused",
                 "compare-moons-1", "chosen"):  # fmt: skip
        assert part in text, part
    (made.root / "finished").rename(made.root / "renamed")
    assert "/run/finished" not in browser.get("/queue").text
    assert "全部完成" in browser.get("/queue", headers={"accept-language": "zh"}).text


def test_a_running_job_whose_note_is_damaged_is_shown(made: Studio, browser: TestClient) -> None:
    job = add(made.queue, "one")
    (job.folder / jobs.ORDER).write_text("{")
    with (job.folder / jobs.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert browser.get("/queue").text.count(job.id) > 3
        assert made.topics["queue"]("", "")[0]


def test_a_running_job_leads_to_its_run_once_that_is_there(made: Studio, browser: TestClient) -> None:
    job = add(made.queue, "one")
    with (job.folder / jobs.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        [before], cursor = made.topics["queue"]("", "")
        assert "/run/one" not in browser.get("/queue").text
        (made.root / "one").mkdir()
        (made.root / "one" / "config.yaml").touch()
        time.sleep(FRESH)
        [after], _ = made.topics["queue"]("", cursor)
        assert before["shape"] != after["shape"]
        assert "/run/one" in browser.get("/queue").text


def test_each_action_does_what_its_button_says(made: Studio, browser: TestClient) -> None:
    one, two, three = (add(made.queue, name) for name in ("one", "two", "three"))

    def do(path: str) -> int:
        answer = browser.post(f"/studio/queue/{path}", headers=AS_PAGE, follow_redirects=False)
        assert answer.headers.get("location", "/queue") == "/queue"
        return answer.status_code

    assert do(f"{three.id}/move?before={one.id}") == 303
    assert do(f"{one.id}/move") == 303
    assert [job.run for job in made.queue.jobs()] == ["three", "two", "one"]
    assert do(f"{two.id}/pause") == 303
    assert states(made.queue)["two"] == "paused"
    assert do(f"{two.id}/resume") == 303
    assert do("hold") == 303
    assert made.queue.places().held
    assert "The queue is held" in browser.get("/queue").text
    assert do("go") == 303
    assert not made.queue.places().held
    assert [do(f"together?n={n}") and made.queue.places().at_once for n in (2, 99, 0)] == [2, MOST_AT_ONCE, 1]
    page = browser.get("/queue").text
    assert 'action="/studio/queue/together?n=2"' in page
    assert 'action="/studio/queue/together?n=0"' not in page
    has_ended(one)
    assert do("clear") == 303
    assert states(made.queue) == {"three": "waiting", "two": "waiting"}
    assert do(f"{three.id}/remove") == 303
    assert do(f"{two.id}/kill") == 422
    assert do(f"{two.id}/explode") == do("explode") == 404
    assert do("../../etc/remove") == 404


@pytest.mark.parametrize("job", ["nobody", "..", "%2e%2e", "a/../b", ".lock", "%00"])
@pytest.mark.parametrize("action", ["pause", "resume", "remove", "kill", "move"])
def test_what_is_no_job_is_left_alone(made: Studio, browser: TestClient, job: str, action: str) -> None:
    add(made.queue, "one")
    before = sorted(made.root.rglob("*"))
    answer = browser.post(f"/studio/queue/{job}/{action}")
    assert answer.status_code in (404, 405, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert sorted(made.root.rglob("*")) == before


def test_a_script_gets_json_and_errors_in_full(made: Studio, browser: TestClient) -> None:
    job = add(made.queue, "one")
    assert browser.post(f"/studio/queue/{job.id}/pause").json() == {}
    refused = browser.post(f"/studio/queue/{job.id}/pause")
    assert refused.status_code == 422
    assert refused.json()["title"] == "this job is paused"


def test_what_a_page_follows_is_told_once(made: Studio, browser: TestClient) -> None:
    job = add(made.queue, "one", "--budget", "60s")
    made.queue.add(["train", "flow", "--data", "moons"], "two", "two")
    create_app(made)  # its topics are of this queue
    [count], cursor = made.topics["count"]("", "")
    assert count == {"running": 0, "waiting": 2}
    assert made.topics["count"]("", cursor) == ([], cursor)
    [told], cursor = made.topics["queue"]("", "")
    assert told["jobs"][job.id]["left"] == 68
    assert told["left"] == 136
    assert told["shape"] in browser.get("/queue").text
    assert made.topics["queue"]("", cursor) == ([], cursor)
    browser.post(f"/studio/queue/{job.id}/pause")
    create_app(made)
    assert made.topics["queue"]("", cursor)[0][0]["shape"] != told["shape"]


def test_tabs_that_look_at_once_are_told_the_same(made: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    create_app(made)
    looks, real = [], Queue.jobs

    def counted(one: Queue) -> list[jobs.Job]:
        looks.append(1)
        return real(one)

    monkeypatch.setattr(Queue, "jobs", counted)
    for _ in range(10):
        made.topics["queue"]("", "")
    assert len(looks) == 1


def test_a_second_studio_of_the_same_runs_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with queue(tmp_path) as first:
        first.begin("http://127.0.0.1:8700")
        with pytest.raises(EnvironmentFault, match="already open for these runs") as caught:
            start(StudioRequest(runs=first.runs, port=0), lambda address, link: None)
        assert "http://127.0.0.1:8700" in caught.value.fix


# -- in the browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def address(made: Studio, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A link into this studio."""
    monkeypatch.setattr(queues, "TICK", 0.02)
    with served(made, "/queue") as link:
        yield link


def order(page: Page) -> list[str]:
    return page.locator("ol.jobs > li").evaluate_all("all => all.map(one => one.dataset.title)")


def step(page: Page) -> int:
    """The step that the page shows; 0 before there is one."""
    return int("0" + "".join(filter(str.isdigit, page.inner_text("[data-live=step]"))))


@pytest.mark.slow
def test_the_page_by_mouse_and_by_keyboard(made: Studio, address: str, chromium: Browser) -> None:
    for name in ("a", "b", "c", "d"):
        add(made.queue, name, "--steps", "3000")
    page = chromium.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    rows = page.locator("ol.jobs > li")
    rows.nth(3).drag_to(rows.nth(0), target_position={"x": 60, "y": 4})
    until(lambda: order(page) == ["moons d", "moons a", "moons b", "moons c"])
    rows.nth(0).drag_to(rows.nth(3), target_position={"x": 60, "y": 40})
    until(lambda: order(page) == ["moons a", "moons b", "moons c", "moons d"])

    moved = f"up-{made.queue.jobs()[3].id}"  # by keyboard: up twice, and the focus stays on the button
    page.focus(f"#{moved}")
    for expected in ("abdc", "adbc"):
        page.keyboard.press("Enter")
        until(lambda expected=expected: order(page) == [f"moons {name}" for name in expected])
        until(lambda: page.evaluate("document.activeElement.id") == moved)
    until(lambda: "at place 2" in page.inner_text("#said"))

    made.queue.begin()  # figures come without a reload, and what was opened stays open
    page.wait_for_selector("#running")
    page.click("article summary")
    until(lambda: step(page) > 5)
    assert page.locator("article details[open]").count() == 1
    running = next(job for job in made.queue.jobs() if job.state == "running")
    page.click(f"#pause-{running.id}")
    page.wait_for_selector(f"li[id='{running.id}'] .badge")
    until(lambda: made.queue.job(running.id).state == "paused")
    page.close()
    assert said == []


@pytest.mark.slow
def test_an_open_page_finds_the_studio_that_was_killed_and_started_again(tmp_path: Path, chromium: Browser) -> None:
    made = Queue(tmp_path / "runs")
    job = made.add(["train", "vae", "--data", "moons", "--steps", "1000000", "--preset", "tiny"], "long", "long")
    page, studios = chromium.new_page(), list[subprocess.Popen[str]]()

    def opened(port: int) -> tuple[str, str]:
        """Start a studio: its address, and its link."""
        words = [
            sys.executable,
            "-m",
            "quintet",
            "studio",
            "--no-browser",
            "--runs",
            str(made.runs),
            "--port",
            str(port),
        ]
        environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
        studios.append(subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True))
        said = studios[-1].stderr
        assert said is not None
        return said.readline().split()[-1], said.readline().split()[-1]

    try:
        address, link = opened(0)
        page.goto(f"{link}&to=/queue")
        until(lambda: step(page), 60)
        studios[-1].kill()
        until(lambda: page.evaluate("document.body.classList.contains('lost')"))
        before = step(page)
        assert opened(int(address.rpartition(":")[2]))[0] == address
        until(lambda: step(page) > before and not page.evaluate("document.body.classList.contains('lost')"), 60)
        page.click(f"#pause-{job.id}")
        until(lambda: made.job(job.id).state == "paused", 60)
        page.wait_for_selector(f"#resume-{job.id}")
    finally:
        page.close()
        for one in studios:
            one.kill()
            one.communicate()
        stop_all(made)
