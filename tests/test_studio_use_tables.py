"""Rows, holes, masks and odd items on the page on which a model is used: what its scripts ask of the studio."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from in_browser import Keyboard, client, served, studio
from PIL import Image
from playwright.sync_api import expect
from starlette.testclient import TestClient

from quintet.fit import fitting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EVIL = "<img src=x onerror=document.title='evil'>"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of rows with a number, a category, a date, and cells that want to be scripts."""
    folder = tmp_path_factory.mktemp("studio")
    lines = [f"{i * i % 97},{EVIL if i % 4 else 'plain'},2024-01-{1 + i % 28:02d},{i % 3}" for i in range(120)]
    (folder / "rows.csv").write_text("\n".join(["n,word,day,few", *lines]) + "\n")
    tiny: dict[str, Any] = {"preset": "tiny", "steps": 2, "runs": folder / "runs"}
    fitting.train("vae", data=folder / "rows.csv", run="rows", **tiny)
    fitting.train("diffusion", data="digits", run="pictures", **tiny)
    return folder


@pytest.fixture(scope="module")
def browser(root: Path) -> TestClient:
    return client(studio(root))


def test_samples_are_counted_by_the_values_and_ranges_of_the_training_data(browser: TestClient) -> None:
    rows = [{"n": n, "word": word, "day": "2024-01-03", "few": 1} for n, word in ((1, EVIL), (2, EVIL), (4000, EVIL))]
    found = browser.post("/studio/use/marginals", json={"run": "rows", "items": rows}).json()
    columns = {one["name"]: one for one in found["columns"]}
    assert found["made"] == 3
    assert found["real"] > 80
    for one in columns.values():
        assert sum(one["real"]) == pytest.approx(1)
        assert sum(one["made"]) == pytest.approx(1)
        assert len(one["real"]) == len(one["made"]) == len(one["labels"]) + 1
    assert columns["n"]["ordered"]
    assert columns["n"]["made"][0] == pytest.approx(2 / 3)
    assert columns["n"]["made"][-1] == pytest.approx(1 / 3)  # beyond the range of training
    assert columns["word"]["labels"][0] == EVIL
    assert columns["word"]["made"][:2] == [1, 0]
    assert columns["few"]["made"][columns["few"]["labels"].index("1")] == 1
    assert columns["day"]["made"][-1] == 0


def test_rows_of_no_run_or_none_are_refused(browser: TestClient) -> None:
    assert browser.post("/studio/use/marginals", json={"run": "rows", "items": []}).status_code == 422
    odd = {"run": "rows", "items": [{"n": EVIL}]}
    assert browser.post("/studio/use/marginals", json=odd).status_code == 422
    assert browser.post("/studio/use/marginals", json={"run": "../rows", "items": [{}]}).status_code == 422


def test_a_table_with_holes_is_read_as_the_runs_own_and_filled_where_they_are(browser: TestClient) -> None:
    content = f"n,word,day,few\n5,,2024-01-03,1\n,{EVIL},,2\n".encode()
    answer = browser.post("/studio/use/rows", data={"run": "rows"}, files={"file": ("mine.csv", content)})
    found = answer.json()
    assert found["n"] == 2
    rows = found["items"]
    assert [row["word"] for row in rows] == [None, EVIL]
    assert [row["n"] for row in rows] == [5, None]
    asked = {"model": "rows", "items": rows, "draws": 3}
    filled = browser.post("/api/v1/complete", json=asked).json()["items"]
    assert len(filled) == 6
    for r, row in enumerate(rows):
        for draw in filled[r::2]:
            assert all(draw[name] == value for name, value in row.items() if value is not None)
            assert all(draw[name] is not None for name in row)


def test_a_file_that_is_no_such_table_is_refused(browser: TestClient) -> None:
    def post(name: str, content: bytes) -> dict[str, object]:
        answer = browser.post("/studio/use/rows", data={"run": "rows"}, files={"file": (name, content)})
        assert answer.status_code == 422
        told: dict[str, object] = answer.json()
        assert "quintet-" not in answer.text  # the folder that it lay in is nobody's business
        return told

    assert post("mine.png", b"x")["where"] == "mine.png"
    post("mine.csv", b"a,b\n1,2\n")
    post("mine.parquet", b"not one")
    assert browser.post("/studio/use/rows", data={"run": "rows"}).status_code == 422


def test_the_page_knows_the_columns_with_their_values_or_ends(browser: TestClient) -> None:
    page = browser.get("/use/rows?verb=complete").text
    assert EVIL not in page
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', page)
    assert found
    told = json.loads(found[1])["items"]
    cells = {cell["name"]: cell for cell in told["cells"]}
    assert told["rows"]
    assert cells["word"]["values"] == [EVIL, "plain"]
    assert (cells["day"]["low"], cells["day"]["high"]) == ("2024-01-01", "2024-01-28")


def pixels(item: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(item))).convert("L")).astype(int)


def png(values: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_what_is_painted_white_is_filled_and_the_rest_is_kept(browser: TestClient) -> None:
    items = browser.get("/studio/use/items", params={"run": "pictures", "n": 2}).json()["items"]
    hole = np.zeros((8, 8))
    hole[2:5, 3:6] = 255
    asked = {"model": "pictures", "items": items, "holes": png(hole), "draws": 2}
    made = browser.post("/api/v1/complete", json=asked).json()["items"]
    assert len(made) == 4
    for draw in (0, 1):
        for i, item in enumerate(items):
            before, after = pixels(item), pixels(made[2 * draw + i])
            assert (before == after)[hole == 0].all()
            assert (before != after)[hole > 0].any()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"holes": "no base64!"}, "expected a file encoded in base64"),
        ({"holes": base64.b64encode(b"no picture").decode()}, "the file cannot be read as a mask"),
        ({"holes": png(np.zeros((8, 8)))}, "the mask has only one colour"),
        ({"holes": png(np.eye(8) * 255), "known": "left"}, "known and mask were both given"),
    ],
)
def test_a_mask_that_is_none_is_refused_and_no_path_is_told(
    browser: TestClient, more: dict[str, str], what: str
) -> None:
    items = browser.get("/studio/use/items", params={"run": "pictures", "n": 1}).json()["items"]
    answer = browser.post("/api/v1/complete", json={"model": "pictures", "items": items, **more})
    assert answer.status_code == 422
    assert answer.json()["title"].startswith(what)
    assert "quintet-" not in answer.text


def test_rows_have_no_mask(browser: TestClient) -> None:
    asked = {"model": "rows", "items": [{"n": 3, "word": None}], "holes": png(np.eye(8) * 255)}
    answer = browser.post("/api/v1/complete", json=asked)
    assert answer.status_code == 422
    assert answer.json()["title"] == "a mask can only be given for images, not for items of kind table"


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page that says nothing in its console."""
    found, said = chromium.new_page(), list[str]()
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    yield found
    found.close()
    assert said == []


@pytest.mark.slow
def test_cells_are_emptied_and_filled_in_place_by_keyboard_alone(root: Path, page: Page) -> None:
    with served(studio(root), "/use/rows?verb=complete") as link:
        page.goto(link)
        cells = page.get_by_role("gridcell")
        cells.first.wait_for()
        before = [cell.inner_text() for cell in cells.all()]
        hands = Keyboard(page)
        hands.reach(cells.first)
        page.keyboard.press("ArrowRight")
        word = cells.nth(1)
        assert word.inner_text() in (EVIL, "plain")
        page.keyboard.press("Delete")
        assert "hole" in str(word.get_attribute("class"))
        page.keyboard.press("Enter")  # its field in the form of the row
        assert page.evaluate("document.activeElement.value") == ""
        page.keyboard.press("Escape")
        assert word.evaluate("cell => cell === document.activeElement")
        page.locator("#f-draws").fill("3")
        hands.press(page.locator("#go"))
        page.locator(".filled").wait_for()
        assert word.inner_text().split("\n")[0].split(" (")[0].removesuffix("%")
        after = [cell.inner_text() for cell in cells.all()]
        assert [a for i, a in enumerate(after) if i != 1] == [b for i, b in enumerate(before) if i != 1]
        assert page.locator(".draws").count() == 1
        page.get_by_role("button", name="Bring all cells back").click()
        assert [cell.inner_text() for cell in cells.all()] == before
        assert page.locator("#out img").count() == 0
        assert page.title() != "evil"


@pytest.mark.slow
def test_holes_are_painted_on_a_picture_by_keyboard_and_by_mouse(root: Path, page: Page) -> None:
    with served(studio(root), "/use/pictures?verb=complete") as link:
        page.goto(link)
        canvas = page.locator("canvas.paint")
        page.locator(".paint-under img").wait_for()
        painted = "c => c.getContext('2d').getImageData(0, 0, 8, 8).data.filter((v, i) => i % 4 === 3 && v).length"
        hands = Keyboard(page)
        hands.reach(canvas)
        for key in ("ArrowLeft", "ArrowUp", "Space", "ArrowRight", "ArrowRight", "Space", "Tab"):
            page.keyboard.press(key)
        assert canvas.evaluate(painted) == 8  # two dabs of two by two
        box = canvas.bounding_box()
        assert box
        page.mouse.click(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.95)
        page.keyboard.press("Tab")
        assert canvas.evaluate(painted) > 8
        page.get_by_role("button", name="Undo").click()
        assert canvas.evaluate(painted) == 8
        with page.expect_response("**/api/v1/complete") as answer:
            hands.press(page.locator("#go"))
        sent = answer.value.request.post_data_json
        assert (pixels(sent["holes"]) > 0).sum() == 8
        page.get_by_role("heading", name="Filled in").wait_for()
        assert page.locator("#out .pictures img").count() == 5


def test_holes_are_painted_by_a_finger_on_a_phone(root: Path, chromium: Browser) -> None:
    phone: Any = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True}
    with served(studio(root), "/use/pictures?verb=complete") as link, chromium.new_context(**phone) as context:
        page = context.new_page()
        page.goto(link)
        canvas = page.locator("canvas.paint")
        page.locator(".paint-under img").wait_for()
        canvas.scroll_into_view_if_needed()
        holes = "c => c.getContext('2d').getImageData(0, 0, 8, 8).data.filter((v, i) => i % 4 === 3 && v).length"
        canvas.tap()
        assert canvas.evaluate(holes) == 4
        box, top, session = canvas.bounding_box(), page.evaluate("scrollY"), context.new_cdp_session(page)
        assert box
        for event, y in (("touchStart", 0.05), ("touchMove", 0.5), ("touchMove", 0.95), ("touchEnd", None)):
            points = [] if y is None else [{"x": box["x"] + box["width"] * 0.95, "y": box["y"] + box["height"] * y}]
            session.send("Input.dispatchTouchEvent", {"type": event, "touchPoints": points})
        assert canvas.evaluate(holes) > 12
        assert page.evaluate("scrollY") == top  # the finger paints, and does not push the page
        page.locator("#go").dispatch_event("click")
        page.get_by_role("heading", name="Filled in").wait_for()
        expect(page.locator("#out .pictures").last).to_be_in_viewport()


@pytest.mark.slow
def test_samples_of_rows_are_shown_over_the_training_rows(root: Path, page: Page) -> None:
    with served(studio(root), "/use/rows?verb=sample") as link:
        page.goto(link)
        page.locator("#go").click()
        page.locator(".marginal-of").first.wait_for()
        assert page.locator(".marginal-of h3").all_inner_texts() == ["n", "word", "day", "few"]
        assert EVIL in page.locator(".shares th").all_inner_texts()
        assert page.locator("#out img").count() == 0


@pytest.mark.slow
def test_a_file_that_cannot_say_where_it_comes_from_is_saved_with_one_that_does(root: Path, page: Page) -> None:
    made = studio(root)
    with served(made, "/use/rows?verb=sample") as link:
        page.goto(link)
        page.locator("#f-seed").fill("5")
        page.locator("#go").click()
        choice, button = page.locator(".saver select"), page.locator(".saver button")
        choice.wait_for()
        kept = [".csv (.zip)", ".parquet", ".jsonl (.zip)", ".npz (.zip)"]
        assert choice.locator("option").all_inner_texts() == [*kept, ".arrow"]
        found = {}
        for label in (".csv (.zip)", ".arrow"):
            choice.select_option(label=label)
            with page.expect_download() as download:
                button.click()
            found[download.value.suggested_filename] = download.value.path().read_bytes()
    assert list(found) == ["rows-seed5.csv.zip", "rows-seed5.arrow"]
    with zipfile.ZipFile(io.BytesIO(found["rows-seed5.csv.zip"])) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["rows-seed5.csv", "rows-seed5.csv.provenance.json"]
        assert archive.read("rows-seed5.csv").startswith(b"n,word,day,few\n")
        note = json.loads(archive.read("rows-seed5.csv.provenance.json"))
    assert (note["run"], note["seed"], len(note["weights"]), "left_out" in note) == ("rows", 5, 64, False)
    for name, content in found.items():
        assert "seed=5" in client(made).post("/studio/use/file", files={"file": (name, content)}).url.query.decode()
