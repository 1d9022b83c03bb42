"""Reports in a browser: nothing sticks out, nothing is said to the console, pictures are sharp, the answer comes
first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

import quintet
from quintet.comparison.report import render

SIZES = {390: 844, 1400: 900}
HANGING = """() => {  // parts that reach beyond the window, unless they scroll by themselves or are to be heard only
  const wide = document.documentElement.clientWidth
  return [...document.body.querySelectorAll('*')].filter(e => {
    const box = e.getBoundingClientRect()
    return box.width > 1 && (box.right > wide + 1 || box.left < -1) && !e.closest('.scroll, .hidden')
  }).map(e => e.outerHTML.slice(0, 120))
}"""
PICTURES = """() => [...document.images].filter(i => i.getBoundingClientRect().width > 0).map(i => (
  {natural: i.naturalWidth, shown: i.getBoundingClientRect().width * devicePixelRatio, name: i.alt}))"""
CONTRAST = """() => {  // the least contrast of any text with what is behind it (WCAG 2.2)
  const numbers = c => (c.match(/[\\d.]+/g) || []).map(Number)
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
  const behind = e => { for (; e; e = e.parentElement) {
    const c = numbers(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > .99) return c }
    return [255, 255, 255] }
  const found = []
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement
    if (!walk.currentNode.data.trim() || !e.getBoundingClientRect().width || e.closest('svg')) continue
    const [a, b] = [light(numbers(getComputedStyle(e).color)), light(behind(e))]
    found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML.slice(0, 100)])
  }
  return found.sort((a, b) => a[0] - b[0])[0]
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `quintet compare digits` writes."""
    path = tmp_path_factory.mktemp("report")
    quintet.compare("digits", families=["vae", "gan"], steps=2, preset="tiny", samples=20, runs=path,
                    output=path / "report.html")  # fmt: skip
    return path / "report.html"


@pytest.fixture(params=[(w, s) for w in SIZES for s in ("light", "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def page(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[Page]:
    width, scheme = request.param
    page = chromium.new_page(viewport={"width": width, "height": SIZES[width]}, color_scheme=scheme)
    page.said, page.asked = [], []  # type: ignore[attr-defined]
    page.on("console", lambda message: page.said.append(message.text))  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.said.append(str(error)))  # type: ignore[attr-defined]
    page.on("request", lambda asked: page.asked.append(asked.url))  # type: ignore[attr-defined]
    yield page
    page.close()


def looked(page: Page, path: Path) -> None:
    """Open every fold, so that all of it is seen, and check what holds for every report."""
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.said == []  # type: ignore[attr-defined]
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []  # type: ignore[attr-defined]
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]
    assert page.evaluate(HANGING) == []
    contrast, where = page.evaluate(CONTRAST)
    assert contrast >= 4.5, where


def test_a_comparison_is_readable_on_a_phone_and_on_a_desk(report: Path, page: Page) -> None:
    looked(page, report)
    pictures = page.evaluate(PICTURES)
    assert len(pictures) == 2 + 1 + 2  # samples, real ones, nearest
    assert all(picture["natural"] >= picture["shown"] for picture in pictures), pictures
    page.reload()
    height = page.viewport_size["height"]  # type: ignore[index]
    verdict = json.loads(report.with_suffix(".json").read_text())["verdict"]["keeper"]
    heading, why = page.locator("h1"), page.locator(".lede")
    assert heading.inner_text().startswith(f"Keep {verdict['label']}")
    assert why.inner_text() == verdict["sentence"]
    for part in (heading, why):
        box = part.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= height  # without scrolling


def test_rows_texts_and_players_fit_as_well(page: Page, tmp_path: Path) -> None:
    long = "a_column_with_a_long_name"
    rows = {"kind": "rows", "columns": [long] * 12, "rows": [["value " * 5] * 12] * 3}
    text = {"kind": "text", "items": ["word" * 100, "to be or not to be " * 30]}
    sound = {"kind": "audio", "png": "", "sounds": ["UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="] * 3}
    models: list[dict[str, Any]] = [
        {"family": f"family-with-a-long-name-{i}", "run": f"r{i}", "seed": 0, "status": "ok", "samples": samples,
         "nearest": rows, "metrics": {"auc": 0.6 + i / 10, "auc_stderr": 0.01, "coverage": 0.5}}
        for i, samples in enumerate((rows, text, sound))
    ]  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(render({"source": "a_source_with_a_long_name" * 4, "models": models, "command": "quintet " * 40}))  # type: ignore[typeddict-item]
    looked(page, path)
