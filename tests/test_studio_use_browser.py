"""The page on which a model is used, in a browser: by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from in_browser import Keyboard, Mouse, drop, served, studio

from quintet.fit import fitting
from quintet.studio.house import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HANDS = [pytest.param(Mouse, id="mouse"), pytest.param(Keyboard, id="keyboard", marks=pytest.mark.slow)]
EVIL = "<img src=x onerror=document.title='evil'>"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two steps."""
    folder = tmp_path_factory.mktemp("studio")
    tiny: dict[str, Any] = {"preset": "tiny", "steps": 2, "runs": folder / "runs"}
    (folder / "long.txt").write_text(" ".join(f"{EVIL} the {i}th of many words" for i in range(900)))
    fitting.train("gan", data="digits", condition="label", run="drawn", **tiny)
    fitting.train("autoregressive", data=folder / "long.txt", run="letters", **tiny)
    fitting.train("vae", data="notes", run="notes", **tiny)
    (folder / "rows.csv").write_text("name,n\n" + "".join(f"{EVIL if i % 2 else 'plain'},{i % 7}\n" for i in range(80)))
    fitting.train("vae", data=folder / "rows.csv", run="rows", **tiny)
    return folder


@pytest.fixture
def made(root: Path) -> Iterator[Studio]:
    found = studio(root)
    yield found
    found.service.models.close(5.0)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page that says nothing in its console."""
    found, said = chromium.new_page(accept_downloads=True), list[str]()
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    yield found
    found.close()
    assert said == []


def sources(page: Page, place: str = "#out") -> list[str]:
    """What the pictures of a place show."""
    return [str(one.get_attribute("src")) for one in page.locator(f"{place} img").all()]


def pixels(page: Page, place: str = "#out") -> list[str]:
    """The same without their notes, which say how many there are."""
    return page.locator(f"{place} img").evaluate_all(
        """images => images.map(image => { const canvas = document.createElement("canvas");
           canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
           canvas.getContext("2d").drawImage(image, 0, 0); return canvas.toDataURL(); })"""
    )  # type: ignore[no-any-return]


@pytest.mark.parametrize("hand", HANDS)
def test_pictures_are_made_kept_and_found_again(made: Studio, page: Page, tmp_path: Path, hand: type[Mouse]) -> None:
    person = hand(page)
    with served(made, "/use/drawn") as link:
        page.goto(link)
        person.type(page.locator("#f-n"), "6")
        person.press(page.locator("#go"))
        page.wait_for_selector("#out li:nth-child(6)")
        first = pixels(page)
        person.press(page.locator("#bar button").first)
        page.wait_for_selector("#out li:nth-child(12)")
        assert pixels(page)[:6] == first

        person.press(page.locator("#out .picture").first)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("p")
        with page.expect_download() as download:
            person.press(page.locator("dialog a"))
        download.value.save_as(tmp_path / "item.png")
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.className") == "picture"
        kept = sources(page, "#kept")
        assert len(kept) == 1

        person.press(page.locator("[data-kind=number] + button"))  # a new seed
        page.wait_for_url(re.compile("seed="))
        assert sources(page, "#kept") == kept
        assert not set(pixels(page)) & set(first)
        page.reload()
        page.wait_for_selector("#kept img")
        assert sources(page, "#kept") == kept

        if hand is Mouse:
            drop(page.locator("h1"), tmp_path / "item.png")
        else:
            page.set_input_files("#restore-file", tmp_path / "item.png")
        found = page.locator("#out .picture.found img")
        found.wait_for()
        assert pixels(page)[1] == first[1]
        assert found.get_attribute("alt") == "Seed 0, item 1"


def test_classes_are_a_row_each(made: Studio, page: Page) -> None:
    with served(made, "/use/drawn?conditions=every&n=20") as link:
        page.goto(link)
        page.click("#go")
        page.wait_for_selector("#out .group:nth-child(10) img")
        assert page.locator("#out .group").count() == 10
        assert page.locator("#out h3").all_inner_texts() == [str(i) for i in range(10)]
        assert page.locator("#out img").count() == 20


def test_texts_grow_stop_and_are_no_markup(made: Studio, page: Page) -> None:
    with served(made, "/use/letters?n=2&length=30") as link:
        page.goto(link)
        page.wait_for_selector("#state.good")
        page.fill("#f-prompt", EVIL)
        page.click("#go")
        page.wait_for_selector("#bar:visible")
        texts = page.locator("#out pre").all_inner_texts()
        assert all(text.startswith(EVIL) for text in texts)
        assert page.locator("#out img").count() == 0

        page.fill("#f-length", "100000")
        page.click("#go")
        page.wait_for_selector(".growing span:last-child:not(:empty)", state="attached")
        page.click("#stop")
        page.wait_for_selector("#status .muted")
        page.fill("#f-length", "30")
        page.click("#go")  # the model is free at once, and the seed gives the same texts
        page.wait_for_selector("#bar:visible")
        page.wait_for_selector("#stop", state="hidden")
        assert page.locator("#out pre").all_inner_texts() == texts


def test_sounds_have_spectrograms_and_cells_are_no_markup(made: Studio, page: Page) -> None:
    with served(made, "/use/notes?n=2") as link:
        page.goto(link)
        page.click("#go")
        page.wait_for_selector("#out li:nth-child(2) canvas")
        colours = page.locator("#out canvas").first.evaluate(
            "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
        )
        assert colours > 20
        page.goto(link.split("/open")[0] + "/use/rows?n=40")
        page.click("#go")
        page.wait_for_selector("#out .rows tbody tr:nth-child(40)")
        page.click("#out .rows th button")
        assert page.locator("#out .rows th").first.get_attribute("aria-sort") == "ascending"
        assert page.title() != "evil"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["reconstruct", "interpolate", "complete", "encode", "score", "rank"])
def test_items_of_the_runs_own_data_are_asked_about(made: Studio, page: Page, verb: str) -> None:
    with served(made, f"/use/notes?verb={verb}&known=0.2&samples=20") as link:
        page.goto(link)
        page.wait_for_selector(".preview canvas")
        page.click("#go")
        page.wait_for_selector("#bar:visible", timeout=60_000)
        assert page.locator("#out audio, #out tbody tr").count() >= 8
        said = page.locator("#spoken code").first.text_content() or ""
        assert said.startswith(f"quintet {'score' if verb == 'rank' else verb}")


def test_a_refusal_stands_at_its_field(made: Studio, page: Page) -> None:
    with served(made, "/use/letters?sampling.temperature=-1") as link:
        page.goto(link)
        page.click("#go")  # the browser knows this limit itself, and nothing is sent
        field = page.locator(".field:has([name='sampling.temperature'])")
        field.locator(".error").wait_for()
        assert field.locator(".error").inner_text()
        assert field.locator("input").get_attribute("aria-invalid") == "true"
        page.fill("[name='sampling.temperature']", "1")
        page.fill("#f-length", "4")
        page.click("#go")
        page.wait_for_selector("#bar:visible")
        assert page.locator("[aria-invalid], .field .error:not([hidden])").count() == 0
