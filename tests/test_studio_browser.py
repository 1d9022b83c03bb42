"""The studio in a real browser: pages that load and say nothing to the console, are usable by everybody, and execute
no text that they are given.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from in_browser import running
from playwright.sync_api import Browser, BrowserContext, Page

import quintet

PAGES = ("/", "/data", "/data?source=digits", "/new", "/new?source=digits", "/queue", "/runs", "/runs?q=digits",
         "/run/vae", "/use/vae", "/use/vae?verb=score", "/compare", "/compare/compare-iris-1", "/card/vae",
         "/nothing")  # fmt: skip
MISSING = "Failed to load resource: the server responded with a status of 404"
"""What the browser itself says of a page that is not there."""
SERIOUS = ("serious", "critical")
THEMES: tuple[Any, ...] = ("light", "dark")
WIDTHS = (1440, 768, 360)


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio with one run, and one comparison."""
    folder = tmp_path_factory.mktemp("studio")
    output = folder / "runs" / "compare-iris-1" / "report.html"
    quintet.compare("iris", families=["vae", "gan"], steps=2, samples=20, preset="tiny", output=output)
    quintet.train("vae", data="digits", condition="label", steps=30, run="vae", runs=folder / "runs")
    with running(folder) as link:
        yield link


@pytest.fixture(scope="module")
def inside(link: str, chromium: Browser) -> dict[str, Any]:
    """What a browser keeps that was let in."""
    with chromium.new_context() as context:
        context.new_page().goto(link)
        kept: Any = context.storage_state()
    return kept


@pytest.fixture(scope="module")
def origin(link: str) -> str:
    return link.partition("/open")[0]


def watched(context: BrowserContext, origin: str) -> tuple[Page, list[str]]:
    """A page, and all that is wrong with what it does: messages, errors, and requests to others."""
    page, faults = context.new_page(), list[str]()
    page.on("console", lambda said: None if said.text.startswith(MISSING) else faults.append(said.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request", lambda asked: None if asked.url.startswith((origin, "data:", "blob:")) else faults.append(asked.url)
    )
    return page, faults


def settled(page: Page, address: str) -> None:
    """Open a page, and wait until it shows what it has to fetch; a source is read first."""
    page.goto(address)
    page.locator("#waiting").wait_for(state="detached")
    page.wait_for_timeout(700)


def test_pages_say_nothing_to_the_console_and_ask_nobody_else(
    chromium: Browser, inside: Any, origin: str
) -> None:  # fmt: skip
    with chromium.new_context(storage_state=inside) as context:
        page, faults = watched(context, origin)
        for path in PAGES:
            settled(page, origin + path)
            assert page.locator("h1").count() == 1, path
            assert page.locator(".notice.bad").count() == (path == "/nothing"), path
        assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
def test_pages_are_usable_by_everybody(chromium: Browser, inside: Any, origin: str, language: str) -> None:
    """In both themes and at three widths: no serious finding of axe, nothing that has to be scrolled sideways, no
    message, no request to others. A page is loaded once and then shown in each of the six ways.
    """
    found = []
    look: Any = {"locale": language, "reduced_motion": "reduce"}  # colours on their way would be measured
    with chromium.new_context(storage_state=inside, bypass_csp=True, **look) as context:  # axe is a script of ours
        page, faults = watched(context, origin)
        for path in PAGES:
            settled(page, origin + path)
            page.evaluate(Path(AXE_FILE_PATH).read_text())
            for theme, width in itertools.product(THEMES, WIDTHS):
                page.emulate_media(color_scheme=theme)
                page.set_viewport_size({"width": width, "height": 900})
                page.wait_for_timeout(100)
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                violations = page.evaluate("axe.run({resultTypes: ['violations']}).then(result => result.violations)")
                found += [f"{path}, {theme}, {width} px: {one['id']} {one['nodes'][0]['target']}"
                          for one in violations if one["impact"] in SERIOUS]  # fmt: skip
                found += [f"{path}, {theme}: {wide} px too wide at {width} px"] if wide > 0 else []
    assert found == faults == []
