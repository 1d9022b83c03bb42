"""Comparisons in the studio: begun, listed, and shown as they grow; and the cards of their runs."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from in_browser import Keyboard, Mouse, client, served, studio
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

import quintet
from quintet.operations.requests import ExportRequest
from quintet.registry import COMPARED
from quintet.sources.load import load_source
from quintet.studio import card, comparisons
from quintet.studio.house import Studio
from quintet.studio.words import catalogue

NAME = "compare-iris-1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two, and runs that go together with some of them."""
    path = tmp_path_factory.mktemp("compared")
    asked: dict[str, Any] = {"steps": 2, "preset": "tiny", "runs": path}
    quintet.train("vae", data="iris", condition="label", run="one", **asked)
    quintet.train("flow", data="moons", run="other", **asked)
    quintet.compare("iris", families=["vae", "gan"], samples=20, output=path / NAME / "report.html", **asked)
    return path


@pytest.fixture
def made(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.setattr(comparisons, "AGE", 0.0)
    shutil.copytree(trained, tmp_path / "runs")
    return studio(tmp_path)


@pytest.fixture
def browser(made: Studio) -> TestClient:
    return client(made, accept="text/html")


# -- beginning ---------------------------------------------------------------------------------------------------------


def test_a_form_becomes_a_job_whose_page_is_there_at_once(made: Studio, browser: TestClient) -> None:
    form = {"data": "iris", "families": ["vae", "flow"], "budget": "5s", "seeds": "2", "do": "compare"}
    answer = browser.post("/new", data=form)
    (job,) = made.queue.jobs()
    words = ("compare", "iris", "--families", "vae,flow", "--condition", "none", "--budget", "5s", "--seeds", "2")
    assert job.argv[: len(words)] == words
    assert (job.state, job.run, job.title) == ("waiting", "compare-iris-2", "compare iris")
    assert answer.url.path == "/compare/compare-iris-2"
    assert "waiting" in answer.text
    assert "compare-iris-2" in browser.get("/compare").text
    news, cursor = made.topics["compare"]("compare-iris-2", "")
    assert news[0]["state"] == "waiting"
    assert made.topics["compare"]("compare-iris-2", cursor) == ([], cursor)


def test_a_comparison_is_called_the_same_while_it_waits_and_once_its_data_are_read(
    made: Studio, browser: TestClient, tmp_path: Path
) -> None:
    rows = "".join(f"{i},{i % 7}\n" for i in range(60))
    (tmp_path / "two_columns.csv").write_text("a,b\n" + rows)
    asked = {"data": str(tmp_path / "two_columns.csv"), "budget": "5s", "do": "compare"}
    waiting = browser.post("/new", data=asked)
    assert "<h1>two_columns</h1>" in waiting.text
    folder = made.root / waiting.url.path.rpartition("/")[2]
    folder.mkdir()
    command = f"quintet compare {tmp_path / 'two_columns.csv'} --condition none --budget 5s --seeds 1"
    (folder / "comparison.json").write_text(json.dumps({"command": command}))
    assert "<h1>two_columns</h1>" in browser.get(waiting.url.path).text
    assert load_source(str(tmp_path / "two_columns.csv")).name == "two_columns"


def test_the_families_of_a_comparison_are_chosen_beside_the_rest_of_it(browser: TestClient) -> None:
    assert '<form method="get" action="/new#all"' in browser.get("/compare").text
    page = browser.get("/new?source=iris&families=vae,gan").text
    assert page.count('name="families"') == 5
    assert re.findall(r'name="families" value="(\w+)" checked', page) == ["vae", "gan"]
    asked = {"data": "iris", "budget": "1m", "families": "vae"}
    said = browser.post("/studio/new/spoken", json=asked).json()["compare"]
    assert said["command"].startswith("quintet compare iris --families vae --condition none --budget 1m")
    assert 'families=["vae"]' in said["python"]
    every = browser.post("/studio/new/spoken", json=asked | {"families": ",".join(COMPARED)}).json()["compare"]
    assert "--families" not in every["command"]


def test_what_is_no_comparison_is_refused(browser: TestClient) -> None:
    browser.headers["accept"] = "application/json"
    for bad in ({}, {"source": "iris"}, {"runs[]": ["one"]}, {"reports[]": [NAME, ".."]}):
        assert browser.post("/studio/compare", json=bad).status_code in (404, 422), bad
    for bad in ({"data": "nowhere"}, {"data": "iris", "condition": "nobody"}, {"data": "iris", "budget": "soon"}):
        assert "problem" in browser.post("/studio/new/add", json={"do": "compare", **bad}).json(), bad


def test_runs_that_do_not_go_together_are_greyed_with_the_reason(made: Studio, browser: TestClient) -> None:
    page = browser.get("/compare?run=one&run=compare-iris-1/vae-0").text
    assert "their source differs: it is iris in the first and moons in the second" in page
    assert page.count("disabled") == 1
    browser.headers["accept"] = "application/json"
    asked = {"first": "one", "others": ["other", f"{NAME}/vae-0", "nowhere"]}
    why = browser.post("/studio/compare/unlike", json=asked).json()["why"]
    assert why.keys() == {"other", "nowhere"}
    browser.post("/studio/compare", json={"runs[]": [f"{NAME}/vae-0", f"{NAME}/gan-0"]})
    assert made.queue.jobs()[0].argv[:3] == ("compare", f"{NAME}/vae-0", f"{NAME}/gan-0")


# -- one comparison ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_verdict_stands_first_and_in_words(browser: TestClient, language: str) -> None:
    page = browser.get(f"/compare/{NAME}", headers={"accept-language": language}).text
    words = catalogue(language)
    assert words["compare.verdict"] in page
    told = {"en": "(AUC)", "zh": "（AUC）"}[language]
    assert page.index('id="verdict"') < page.index('id="samples"') < page.index(told)
    assert words["compare.plain.seed"] in page
    assert f'action="/studio/runs/{NAME}/' in page
    assert page.count("<figure") >= 3


def test_a_comparison_is_shown_while_it_grows(made: Studio, browser: TestClient) -> None:
    folder = made.root / NAME
    (folder / "report.json").unlink()
    begun = json.loads((folder / "comparison.json").read_text())
    (folder / "comparison.json").write_text(json.dumps(begun | {"finished": False}))
    _, before = made.topics["compare"](NAME, "")
    aside = (folder / "gan-0.json").rename(folder / "gan.aside")
    news, cursor = made.topics["compare"](NAME, before)
    assert (news[0]["done"], news[0]["total"], news[0]["state"]) == (1, 2, "stopped")
    page = browser.get(f"/compare/{NAME}").text
    assert 'id="verdict"' not in page
    assert "Real data" in page
    (folder / "failures.json").write_text(json.dumps({"gan-0": "<script>alert(1)</script>"}))
    page = browser.get(f"/compare/{NAME}").text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    (folder / "failures.json").unlink()
    aside.rename(folder / "gan-0.json")
    news, _ = made.topics["compare"](NAME, cursor)
    assert (news[0]["done"], news[0]["state"]) == (2, "finished")
    assert made.topics["compare"]("../x", "") == ([], "")


def test_a_comparison_is_paused_and_goes_on_from_its_page(made: Studio, browser: TestClient) -> None:
    browser.post("/new", data={"data": "iris", "do": "compare"})
    (job,) = made.queue.jobs()
    place = f"/studio/compare/{job.run}/act"
    assert "paused" in browser.post(place, data={"what": "pause"}).text
    assert browser.post(place, data={"what": "pause"}).status_code == 422
    assert "waiting" in browser.post(place, data={"what": "resume"}).text
    assert browser.post(place, data={"what": "explode"}).status_code == 422
    assert browser.post(f"/studio/compare/{NAME}/act", data={"what": "resume"}).status_code == 422  # it is finished
    begun = made.root / NAME / "comparison.json"
    begun.write_text(json.dumps(json.loads(begun.read_text()) | {"finished": False}))
    (made.root / NAME / "gan-0.json").unlink()
    assert "waiting" in browser.post(f"/studio/compare/{NAME}/act", data={"what": "resume"}).text
    words = made.queue.of_run(NAME).argv  # type: ignore[union-attr]
    assert words[:4] == ("compare", "iris", "--families", "vae,gan")
    assert words[words.index("--run") + 1] == NAME


def test_the_report_can_do_nothing_and_is_framed_by_nobody_else(browser: TestClient) -> None:
    answer = browser.get(f"/compare/{NAME}/report")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';")
    assert "allow-scripts" not in policy
    assert "frame-ancestors 'self'" in policy
    assert "attachment" in browser.get(f"/compare/{NAME}/report?download=1").headers["content-disposition"]
    assert browser.get(f"/compare/{NAME}/report.json").json()["verdict"]["keeper"]


HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(1)">'


def test_nothing_in_a_report_is_taken_for_markup(made: Studio, browser: TestClient) -> None:
    file = made.root / NAME / "report.json"
    report = json.loads(file.read_text())
    report["source"] = report["things"] = report["command"] = HOSTILE
    for entry in report["models"]:
        entry["label"] = entry["run"] = entry["family"] + HOSTILE
        entry["samples"] = {"kind": "rows", "columns": [HOSTILE], "rows": [[HOSTILE]]}
    report["models"].append({"family": HOSTILE, "run": "../../x", "seed": 0, "status": "failed", "error": HOSTILE})
    report["recipe"][HOSTILE] = HOSTILE
    file.write_text(json.dumps(report))
    for path in (f"/compare/{NAME}", "/compare"):
        page = browser.get(path).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page


@pytest.mark.parametrize("text", ['{"models": [{}], "verdict": {}}', '{"models": 5, "verdict": {}}',
                                  '{"models": [{"family": "x", "run": 5}], "verdict": {"keeper": 1}}'])  # fmt: skip
def test_a_damaged_report_is_named(made: Studio, browser: TestClient, text: str) -> None:
    (made.root / NAME / "report.json").write_text(text)
    assert browser.get(f"/compare/{NAME}").status_code == 503
    assert browser.get("/compare").status_code == 200


def test_whoever_does_worse_than_guessing_tells_nothing() -> None:
    answer = {"keeper": {"figures": {"auc": 0.3}}}
    said = comparisons.plain_words(answer, {"real": {"metrics": {"auc": 0.38}}})
    assert said == {"times": 50, "level": 0, "real": 50}


def test_what_is_no_comparison_has_no_page(browser: TestClient) -> None:
    for name in ("one", f"{NAME}/vae-0", "nowhere", ".studio"):
        assert browser.get(f"/compare/{name}").status_code == 404


# -- cards -------------------------------------------------------------------------------------------------------------


def test_a_card_shows_and_gives_what_there_is(made: Studio, browser: TestClient) -> None:
    page = browser.get("/card/one").text
    digest = made.library.facts("one").path / "manifest.json"
    assert json.loads(digest.read_text())["fingerprint"] in page
    assert "quintet push one hf:OWNER/NAME" in page
    text = browser.get("/card/one/CARD.md")
    assert text.text == (made.root / "one" / "CARD.md").read_text()
    assert browser.get("/card/other/samples").headers["content-type"] == "image/png"
    assert browser.get(f"/card/{NAME}").status_code == 404


def test_exported_files_are_offered_as_one(made: Studio, browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = quintet.load("one", runs=made.root).run.used()
    assert weights is not None

    def export(request: ExportRequest, on_event: Any) -> Any:
        folder = Path(str(request.output))
        folder.mkdir(parents=True)
        (folder / "sample.pt2").write_bytes(b"x" * 3_000_000)
        (folder / "export.json").write_text(json.dumps({"weights": weights.sha256}))
        return SimpleNamespace(files=sorted(folder.iterdir()), bytes=3_000_000, differences={"sample": 0.0})

    monkeypatch.setattr(card, "export", export)
    assert browser.get("/card/one/export/torch.zip").status_code == 404
    assert browser.post("/studio/card/one/export", data={"format": "pickle"}).status_code == 404
    answer = browser.post("/studio/card/one/export", data={"format": "torch"})
    assert answer.headers["content-type"] == "application/zip"
    found = zipfile.ZipFile(io.BytesIO(answer.content))
    assert found.testzip() is None
    assert {one.filename: one.file_size for one in found.infolist()}["sample.pt2"] == 3_000_000
    assert "/card/one/export/torch.zip" in browser.get("/card/one").text
    place = card.place_of(made, "one", "torch") / "export.json"
    place.write_text(json.dumps({"weights": "of another step"}))
    assert browser.get("/card/one/export/torch.zip").status_code == 404


@pytest.mark.slow
def test_a_model_is_exported(made: Studio, browser: TestClient) -> None:
    answer = browser.post("/studio/card/one/export", data={"format": "torch"})
    assert "export.json" in zipfile.ZipFile(io.BytesIO(answer.content)).namelist()


def test_the_list_is_read_once(made: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, read = comparisons.Shelf(comparisons.Desk(made)), list[Path]()
    sound = comparisons.standing
    monkeypatch.setattr(comparisons, "standing", lambda folder: read.append(folder) or sound(folder))
    assert [one.name for one in shelf.all()] == [NAME]
    assert [one.state for one in shelf.all()] == ["finished"]
    assert len(read) == 1


# -- in a browser ------------------------------------------------------------------------------------------------------

PLACES = ("/compare", f"/compare?run={NAME}/vae-0&run=other", f"/compare/{NAME}", "/card/other", "/trash?new=x")


def watched(page: Page) -> list[str]:
    """What the page says to the console, and whatever a script of a stranger would show."""
    said = list[str]()
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda one: said.append(one.message))
    return said


@pytest.mark.parametrize("hands", [Mouse, Keyboard])
def test_a_model_is_kept_deleted_and_brought_back(made: Studio, chromium: Browser, hands: type[Mouse]) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    with served(made, f"/compare/{NAME}") as link, chromium.new_context() as context:
        page = context.new_page()
        said, user = watched(page), hands(page)
        page.goto(link)
        user.press(page.get_by_role("button", name="Keep this one"))
        page.get_by_text("Kept. Take the mark away").wait_for()
        user.press(page.get_by_role("link", name="Model card").first)
        page.get_by_label("Licence").wait_for()
        user.type(page.get_by_label("Tags"), f"kept, {hostile}")
        user.press(page.get_by_role("button", name="Save").nth(1))
        page.locator("button.done").wait_for()
        page.reload()
        assert page.locator(".badge", has_text=hostile).count() == 1
        user.press(page.get_by_role("button", name="Delete"))
        user.press(page.get_by_role("button", name="Undo").first)
        page.wait_for_url(f"**/run/{NAME}/*")
        assert said == []


@pytest.mark.parametrize("hands", [Mouse, Keyboard])
def test_runs_and_reports_are_chosen_and_compared(made: Studio, chromium: Browser, hands: type[Mouse]) -> None:
    shutil.copytree(made.root / NAME, made.root / "compare-iris-5")
    with served(made, "/compare") as link, chromium.new_context() as context:
        page = context.new_page()
        said, user = watched(page), hands(page)
        page.goto(link)
        user.press(page.locator("#of-runs [value=one]"))
        expect(page.locator("#of-runs [value=other]")).to_be_disabled()
        expect(page.locator("#compare-runs")).to_be_disabled()
        user.press(page.locator(f"#of-runs [value='{NAME}/vae-0']"))
        user.press(page.locator("#compare-runs:enabled"))
        page.wait_for_url("**/compare/compare-*")
        assert page.locator("h1").inner_text() == "Compare 2 runs"
        page.go_back()
        expect(page.locator("#compare-reports")).to_be_disabled()
        for name in ("compare-iris-5", NAME):
            user.press(page.locator(f"#of-reports [value={name}]"))
        user.press(page.locator("#compare-reports:enabled"))
        page.wait_for_url("**/compare/compare-*")
        assert said == []
    runs, reports = (job.argv for job in made.queue.jobs())
    assert set(runs[1:3]) == {"one", f"{NAME}/vae-0"}
    assert {Path(path).parent.name for path in reports[1:3]} == {"compare-iris-5", NAME}


@pytest.mark.slow
def test_pages_of_comparisons_are_usable_by_everybody(made: Studio, chromium: Browser) -> None:
    with served(made) as link, chromium.new_context() as first:
        first.new_page().goto(link)
        state: Any = first.storage_state()
        here, found = link.partition("/open")[0], list[str]()
        for language, theme, width in (("en-GB", "light", 360), ("zh-CN", "dark", 768), ("en-GB", "dark", 1440)):
            look: Any = {"locale": language, "color_scheme": theme, "viewport": {"width": width, "height": 900}}
            with chromium.new_context(storage_state=state, bypass_csp=True, **look) as context:
                for place in PLACES:
                    page = context.new_page()
                    said = watched(page)
                    page.goto(here + place)
                    page.wait_for_timeout(500)
                    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    page.evaluate(Path(AXE_FILE_PATH).read_text())
                    violations = page.evaluate("axe.run().then(result => result.violations)")
                    found += [f"{place}: {one['id']}" for one in violations if one["impact"] in ("serious", "critical")]
                    found += [f"{place}: {wide} px too wide"] * (wide > 0) + said
        assert found == []
