"""The pages of all runs and of one run, their files, their stream of news, and what their buttons do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from in_browser import client, served
from starlette.testclient import TestClient
from test_studio_library import CONFIG, line, make, truth

from quintet.runs.folder import Run
from quintet.studio import events, run
from quintet.studio.defaults import unlike_defaults
from quintet.studio.house import Studio
from quintet.studio.pages import address

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SCRIPT = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


def listed(text: str) -> list[str]:
    return re.findall(r'name="run" value="([^"]*)"', text)


# -- all runs ----------------------------------------------------------------------------------------------------------


def test_a_page_lists_searches_and_sorts(made: Studio, browser: TestClient) -> None:
    assert "There are no runs yet" in browser.get("/runs").text
    for number in range(3):
        make(made.root, f"run-{number}", step=10 * number + 10, age=10 * number + 1, archived=number == 2)
    assert listed(browser.get("/runs").text) == ["run-0", "run-1"]
    assert listed(browser.get("/runs?archived=1").text) == ["run-2"]
    assert listed(browser.get("/runs?q=run-1").text) == ["run-1"]
    assert listed(browser.get("/runs?sort=step").text) == ["run-1", "run-0"]
    assert listed(browser.get("/runs?sort=step&up=1").text) == ["run-0", "run-1"]
    assert browser.get("/runs?sort=nonsense&at=-5").status_code == 200
    assert "No run matches" in browser.get("/runs?q=nowhere").text
    assert "run-0" in browser.get("/").text


def test_chosen_runs_are_compared_or_laid_over_each_other(made: Studio, browser: TestClient) -> None:
    make(made.root, "a")
    make(made.root, "compare-digits-1/vae-0")
    assert browser.get("/runs").text.count("formaction") == 1
    answer = browser.get("/runs/curves?run=a&run=compare-digits-1/vae-0", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/run/a?with=compare-digits-1%2Fvae-0")
    page = browser.get(answer.headers["location"]).text
    assert '"others": ["compare-digits-1/vae-0"]' in page
    assert browser.get("/runs/curves").status_code == 422
    assert browser.get("/runs/curves?" + "run=a&" * 20).status_code == 422
    for number in range(12):
        make(made.root, f"b-{number}")
    assert browser.get("/run/a?" + "&".join(f"with=b-{number}" for number in range(12))).status_code == 422
    assert browser.get("/run/a?" + "&".join(f"with=b-{number}" for number in range(11))).status_code == 200


# -- one run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("step", [0, 40, 100])
def test_a_page_shows_how_a_run_stands(made: Studio, browser: TestClient, language: str, step: int) -> None:
    make(made.root, "one", step=step, tags=["keeper"], note="the first")
    answer = browser.get("/run/one", headers={"accept-language": language})
    assert answer.status_code == 200
    assert all(part in answer.text for part in ("one", "keeper", "the first", "/studio/run/config?name=one"))
    words = {"en": ("finished", "stopped"), "zh": ("已完成", "已停止")}[language]
    assert words[step < 100] in answer.text


def test_a_damaged_run_says_what_is_wrong(made: Studio, browser: TestClient) -> None:
    bad = make(made.root, "bad")
    (bad / "config.yaml").write_text("family: [")
    (bad / "digests.json").unlink()
    answer = browser.get("/run/bad")
    assert answer.status_code == 200
    assert "the configuration of the run cannot be read" in answer.text
    assert "damaged" in browser.get("/runs").text


@pytest.mark.parametrize("name", ["nothing", "..%2f..%2fetc", "a/b", "compare-1%2f..%2fone", "%00"])
def test_there_is_no_page_of_what_is_no_run(made: Studio, browser: TestClient, name: str) -> None:
    make(made.root, "one")
    assert browser.get(f"/run/{name}").status_code == 404
    assert browser.get(f"/studio/run/curves?name={name}").status_code == 404


def test_nothing_that_is_written_in_a_run_is_markup(made: Studio, browser: TestClient) -> None:
    config = CONFIG | {"data": {"source": SCRIPT, "condition": SCRIPT}}
    path = make(made.root, SCRIPT.replace("/", ""), config=config, tags=[SCRIPT], note=SCRIPT)
    (path / "manifest.json").write_text(json.dumps({"fingerprint": SCRIPT, "versions": {SCRIPT: SCRIPT}}))
    (path / "metrics.jsonl").write_text(json.dumps({"step": 1, "steps": 2, SCRIPT: 1.0, "quality": 1.0}) + "\n")
    name = path.name
    for place in ("/", "/runs", f"/run/{name}"):
        text = browser.get(place).text
        assert "<img src=x" not in text
        assert "<script>alert" not in text
        assert "&lt;img src=x" in text


def test_a_training_run_tells_how_long_it_takes(made: Studio, browser: TestClient) -> None:
    path = make(made.root, "live", step=40)
    (path / "lock.json").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    text = browser.get("/run/live").text
    assert re.search(r'data-left="\d+\.\d"', text)
    assert "10 steps/s" in text
    assert "started outside the studio" in text


def test_curves_come_with_a_cursor_and_zoom(made: Studio, browser: TestClient) -> None:
    path = make(made.root, "one")
    (path / "metrics.jsonl").write_text("".join(line(step) for step in range(1, 5001)))
    whole = browser.get("/studio/run/curves?name=one").json()
    assert whole["main"] == "model"
    assert len(whole["points"]["model"][0]) <= run.POINTS + 2
    assert whole["points"]["model"][0][-1] == 5000
    part = browser.get("/studio/run/curves?name=one&low=100&high=110").json()
    assert part["points"]["model"][0] == list(range(99, 112))
    assert whole["cursor"].split("-")[1] == str((path / "metrics.jsonl").stat().st_size)


# -- files -------------------------------------------------------------------------------------------------------------


def test_samples_are_shown_by_their_media_type(made: Studio, browser: TestClient) -> None:
    folder = make(made.root, "one") / "samples"
    folder.mkdir()
    files = {"step-00000010.png": b"\x89PNG", "step-00000010.wav": b"RIFF", "step-00000020.txt": b"a <b>",
             "step-00000020.csv": b'a,b\n1,"2\n3"\n', "step-00000020.html": b"<script>", "step-00000020.js": b"x",
             "step-00000020.svg": b"<svg>", "notes.txt": b"", ".step-00000030.png": b""}  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found = browser.get("/studio/run/samples?name=one").json()
    assert [one["step"] for one in found] == [10, 20]
    assert [file["name"][-4:] for file in found[0]["files"]] == [".wav", ".png"]
    for name in files:
        answer = browser.get(f"/studio/run/sample?name=one&file={name}")
        if not name.startswith("step-"):
            assert answer.status_code == 404
        elif name[-4:] in (".png", ".wav", ".txt", ".csv"):
            assert answer.headers["content-type"].partition("/")[0] in ("image", "audio", "text")
            assert "html" not in answer.headers["content-type"]
        else:
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment")
    ask = "/studio/run/preview?name=one&file=step-00000020"
    assert browser.get(f"{ask}.txt").json() == {"letters": "a <b>"}
    assert browser.get(f"{ask}.csv").json() == {"columns": ["a", "b"], "rows": [["1", "2\n3"]]}
    assert "/studio/run/sample?name=one&amp;file=step-00000020.txt" in browser.get("/run/one").text


ELSEWHERE = ("../config.yaml", "..%2fconfig.yaml", "step-1.png/../../config.yaml", "", "step-1.png%00")


@pytest.mark.parametrize("file", ELSEWHERE)
def test_no_file_leads_out_of_the_samples(made: Studio, browser: TestClient, file: str) -> None:
    make(made.root, "one")
    for route in ("sample", "preview"):
        assert browser.get(f"/studio/run/{route}?name=one&file={file}").status_code == 404


def test_the_configuration_is_a_file(made: Studio, browser: TestClient) -> None:
    path = make(made.root, "one")
    answer = browser.get("/studio/run/config?name=one")
    assert answer.content == (path / "config.yaml").read_bytes()
    assert "config.yaml" in answer.headers["content-disposition"]


def test_settings_that_are_not_the_defaults(tmp_path: Path) -> None:
    from quintet.runs.config import resolve

    given = {"family": "vae", "codec": "table", "data": {"source": "x"}}
    assert unlike_defaults(resolve(given, "table")) == []
    other = resolve(given | {"steps": 7, "training": {"lr": 0.5}}, "table")
    assert {(one.key, one.value) for one in unlike_defaults(other)} == {("steps", 7), ("training.lr", 0.5)}


# -- news --------------------------------------------------------------------------------------------------------------


async def heard(made: Studio, topic: str, cursor: str, wait: float = 0.2) -> list[tuple[str, Any]]:
    """(id, data) of the events that a stream tells within some time."""
    found = []

    async def listen() -> None:
        begin = events.cursors_of(cursor)
        async for text in events.news(made, [topic], begin):
            if (match := re.search(r"^id: (.*)\ndata: (.*)$", text, re.MULTILINE)) is not None:
                found.append((match[1], json.loads(match[2])))

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(listen(), wait)
    return found


A = TypeVar("A")


def aside(work: Coroutine[Any, Any, A]) -> A:
    """What `work` gives, in a thread of its own: a browser of another test has a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.mark.usefixtures("browser")
def test_a_stream_goes_on_where_it_broke(made: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty connections that break behind their first event, over a file that grows, is torn, and is replaced."""
    monkeypatch.setattr(events, "EVERY", 0.01)
    monkeypatch.setattr(run, "OLDEST", 0.0)
    path = make(made.root, "one") / "metrics.jsonl"
    path.write_text("")
    draw, cursor, points, step = random.Random(0), "", {"model": [[], []]}, 0

    def take(one: Any) -> None:
        if one["anew"]:
            points["model"] = [[], []]
        for mine, fresh in zip(points["model"], one["points"].get("model", [[], []]), strict=True):
            mine += fresh

    for turn in range(50):
        lines = "".join(line(step + k, draw.random()) for k in range(1, 4))
        with path.open("a") as file:
            file.write(lines)
        step += 3
        if turn == 25:
            step -= 30
            Run(path.parent).records.rewind(step, None)
        for after, data in aside(heard(made, "run:one", cursor, 0.06))[:1]:
            cursor = after
            for one in data:
                take(one)
    for _, data in aside(heard(made, "run:one", cursor)):
        for one in data:
            take(one)
    assert points["model"] == truth(path)["model"]
    assert len(points["model"][0]) == step


@pytest.mark.usefixtures("browser")
def test_a_stream_tells_when_a_run_has_changed_or_gone(made: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "OLDEST", 0.0)
    path = make(made.root, "one", step=40)
    look = made.topics["run"]
    found, cursor = look("one", "")
    assert found[0]["status"]["state"] == "stopped"
    assert look("one", cursor) == ([], cursor)
    (path / "lock.json").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    found, cursor = look("one", cursor)
    assert found[0]["points"] == {}
    assert found[0]["status"]["state"] == "training"
    path.rename(path.with_name("two"))
    found, cursor = look("one", cursor)
    assert found == [{"gone": True}]
    assert look("one", cursor) == ([], cursor)


@pytest.mark.usefixtures("browser")
def test_a_run_is_looked_at_once_a_second_however_many_watch(made: Studio) -> None:
    path = make(made.root, "one", step=40)
    (path / "lock.json").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    looks, original = list[str](), made.library.facts
    made.library.facts = lambda name: looks.append(name) or original(name)  # type: ignore[method-assign,func-returns-value]
    for _ in range(100):
        made.topics["run"]("one", "")
    assert len(looks) <= 2


# -- buttons -----------------------------------------------------------------------------------------------------------


class Queue:
    """Remembers what it is asked."""

    def __init__(self, state: str | None) -> None:
        self.state, self.asked = state, list[Any]()

    def of_run(self, name: str) -> Any:
        return self.state and type("Job", (), {"id": "7", "state": self.state, "stopping": False, "error": None,
                                               "log": lambda self: "<b>said</b>"})()  # fmt: skip

    def __getattr__(self, what: str) -> Any:
        return lambda *given: self.asked.append((what, *given))


@pytest.mark.parametrize(("steps", "status"), [("200", 303), ("100", 422), ("-1", 422), ("many", 422), ("", 422)])
def test_a_run_at_its_end_is_trained_further(made: Studio, steps: str, status: int) -> None:
    make(made.root, "one")
    queue = made.queue = Queue(None)  # type: ignore[assignment]
    browser = client(made)
    assert 'value="200"' in browser.get("/run/one").text
    form = {"name": "one", "what": "further", "steps": steps}
    assert browser.post("/studio/run/act", data=form, follow_redirects=False).status_code == status
    assert queue.asked == [("add", ["resume", "one", "--steps", "200"], "one to step 200", "one")] * (status == 303)


@pytest.mark.parametrize(
    ("state", "what", "asked"),
    [
        ("running", "pause", ("pause", "7")),
        ("running", "stop", ("remove", "7")),
        ("paused", "resume", ("resume", "7")),
        ("failed", "resume", ("resume", "7")),
        (None, "resume", ("add", ["resume", "one"], "one", "one")),
        (None, "pause", None),
        ("running", "nonsense", None),
    ],
)
def test_buttons_ask_the_queue(made: Studio, state: str | None, what: str, asked: Any) -> None:
    make(made.root, "one", step=40)
    made.queue = Queue(state)  # type: ignore[assignment]
    browser = client(made)
    assert browser.get("/run/one").status_code == 200
    answer = browser.post("/studio/run/act", data={"name": "one", "what": what}, follow_redirects=False)
    assert (answer.status_code, made.queue.asked) == ((303, [asked]) if asked else (422, []))
    assert browser.get("/studio/run/log?name=one").json() == {"log": "<b>said</b>" if state else ""}


# -- in the browser ----------------------------------------------------------------------------------------------------


def test_the_page_of_a_run_lives(made: Studio, chromium: Browser) -> None:
    """Curves that grow, a zoom, another run laid over this one, samples by the arrow keys, a table, and a form; names
    and samples that want to be scripts are shown as they are.
    """
    name = SCRIPT.replace("/", "")
    path, other = make(made.root, name, step=60, note=SCRIPT), make(made.root, "other")
    (path / "lock.json").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    (path / "samples").mkdir()
    for step in (10, 20, 30):
        (path / "samples" / f"step-{step:08d}.csv").write_text(f"{SCRIPT},b\n{SCRIPT},{step}\n")
    page, said = chromium.new_page(), list[str]()
    for event in ("console", "pageerror", "dialog"):
        page.on(event, lambda found: said.append(str(found)))  # type: ignore[call-overload]
    with served(made, f"/run/{address(name)}?with={other.name}") as link:
        page.goto(link)
        page.wait_for_selector(".u-over")
        assert "other training" in page.locator(".plot").first.get_attribute("aria-label")  # type: ignore[operator]
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 61, "steps": 100, "seconds": 6.1, "model": 0.25}\n')
        page.wait_for_selector("[data-figure=step]:text-is('61')")
        assert "0.25 at step 61" in page.locator(".plot").first.get_attribute("aria-label")  # type: ignore[operator]
        place = page.locator(".u-over").first.bounding_box()
        assert place is not None
        page.mouse.move(place["x"] + 50, place["y"] + 50)
        page.mouse.down()
        page.mouse.move(place["x"] + 150, place["y"] + 50, steps=3)
        page.mouse.up()
        page.click("#whole")
        page.wait_for_selector("#whole", state="hidden")
        page.focus("#time")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#sampled td:text-is('20')")
        assert page.locator("#sampled th").first.inner_text() == SCRIPT
        page.focus("#as-table summary")
        page.keyboard.press("Enter")
        assert page.locator("#looks tr").count() == 1
        page.click("form[action='/studio/theme'] button")
        page.wait_for_selector("html[data-theme=dark] .u-over")
        assert page.locator("h1").inner_text() == name
        page.goto(link.split("/open")[0] + "/runs")
        page.fill("#q", "other")
        page.wait_for_selector("tbody tr:only-child :text('other')")
        page.check("input[name=run]")
        page.click("button:text('Overlay')")
        page.wait_for_url("**/run/other")
        page.wait_for_selector(".u-over")
        page.close()
    assert said == []


COUNTING = """
window.drawn = 0;
const clear = CanvasRenderingContext2D.prototype.clearRect;
CanvasRenderingContext2D.prototype.clearRect = function (...where) { window.drawn += 1; clear.apply(this, where); };
"""


def test_only_what_is_new_and_in_sight_is_drawn(
    made: Studio, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever watches a training takes processors from it."""
    monkeypatch.setattr(events, "EVERY", 0.05)
    monkeypatch.setattr(run, "OLDEST", 0.0)
    path = make(made.root, "one", step=60)
    (path / "lock.json").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    page = chromium.new_page(bypass_csp=True, viewport={"width": 1280, "height": 2400})  # the last wait is an eval
    page.add_init_script(COUNTING)

    def told(step: int) -> int:
        """How often something was drawn for another record."""
        before = page.evaluate("drawn")
        with (path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "steps": 100, "seconds": step / 10, "model": 0.25}) + "\n")
        page.wait_for_selector(f"[data-figure=step]:text-is('{step}')", state="attached")
        page.wait_for_timeout(300)
        return int(page.evaluate("drawn")) - int(before)

    with served(made, "/run/one") as link:
        page.goto(link)
        page.wait_for_selector(".u-over")
        page.wait_for_timeout(300)
        assert page.locator(".u-over").count() == 3
        assert told(61) == 1  # there is nothing new of the other charts
        page.set_viewport_size({"width": 1280, "height": 20})
        page.wait_for_timeout(300)
        assert told(62) == 0
        before = page.evaluate("drawn")
        page.set_viewport_size({"width": 1280, "height": 2400})
        page.wait_for_function("count => drawn > count", arg=before)
        page.close()
