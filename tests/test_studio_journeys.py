"""The whole way of a person in the studio, once by mouse alone and once by keyboard alone: from the start page to a
trained, compared and sampled model of their own data, with the studio killed in the middle and opened again.

    pytest -m slow tests/test_studio_journeys.py          all of them, some minutes each
    QUINTET_PICTURES=docs/studio pytest -m slow tests/test_studio_journeys.py -k "table and mouse"
                                                          the pictures of docs/tutorials/studio.md
"""

from __future__ import annotations

import csv
import io
import os
import random
import re
import signal
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from in_browser import Keyboard, Mouse, running
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.slow

BUDGET = "6s"
"""What each family trains; the pages propose a minute."""
LONG = 15 * 60_000
"""Milliseconds within which five families have been trained and measured, on a busy machine too."""


# -- data of one's own -------------------------------------------------------------------------------------------------


def table(folder: Path) -> list[Path]:
    """A table in which the price follows from size and district."""
    draw = random.Random(0)
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["district", "rooms", "size", "price"])
    for _ in range(1200):
        district, rooms = draw.choice(["north", "south", "harbour"]), draw.randint(1, 6)
        size = round(18 * rooms + draw.gauss(10, 6), 1)
        rows.writerow([district, rooms, size, round(size * {"north": 21, "south": 34, "harbour": 48}[district], -1)])
    (folder / "flats.csv").write_text(out.getvalue())
    return [folder / "flats.csv"]


def pictures(folder: Path) -> list[Path]:
    """Discs and squares of any grey, in a folder for each."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:12, :12]
    for name in ("discs", "squares"):
        (folder / "shapes" / name).mkdir(parents=True)
        for i in range(150):
            (cy, cx), r = draw.integers(4, 8, 2), draw.integers(2, 4)
            far = np.hypot(y - cy, x - cx) if name == "discs" else np.maximum(abs(y - cy), abs(x - cx))
            shape = np.where(far <= r, draw.integers(120, 256), 0).astype(np.uint8)
            Image.fromarray(shape).save(folder / "shapes" / name / f"{i}.png")
    return [folder / "shapes"]


def recordings(folder: Path) -> list[Path]:
    """Tones of a quarter of a second."""
    draw = np.random.default_rng(0)
    (folder / "tones").mkdir(parents=True)
    for i in range(200):
        t = np.arange(2000) / 8000
        tone = np.sin(2 * np.pi * draw.uniform(200, 900) * t) * np.exp(-6 * t)
        with wave.open(str(folder / "tones" / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((20_000 * tone).astype("<i2").tobytes())
    return [folder / "tones"]


def text(folder: Path) -> list[Path]:
    """Sentences of a small grammar, one a line."""
    draw = random.Random(0)
    who, does, what = ["the cat", "a dog", "the old man"], ["sees", "likes", "paints"], ["a tree", "the sea", "his hat"]
    lines = [f"{draw.choice(who)} {draw.choice(does)} {draw.choice(what)}." for _ in range(1500)]
    (folder / "sentences.txt").write_text("\n".join(lines))
    return [folder / "sentences.txt"]


# -- the way -----------------------------------------------------------------------------------------------------------


class Way:
    """One person in the studio of a folder."""

    def __init__(self, page: Page, hand: Mouse, name: str) -> None:
        self.page, self.hand, self.name, self.shown = page, hand, name, 0

    def see(self, *, whole: bool = False) -> None:
        """Take a picture of the screen or of the whole page for the documentation, if it is asked for."""
        self.shown += 1
        if folder := os.environ.get("QUINTET_PICTURES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            shot = Image.open(io.BytesIO(self.page.screenshot(full_page=whole))).convert("RGB")
            small = shot.quantize(256, Image.Quantize.MAXCOVERAGE)  # which keeps colours that are rare
            small.save(Path(folder) / f"{self.name}-{self.shown}.png", optimize=True)

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=name, exact=True).first

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True).first

    def bring(self, door: str, files: list[Path]) -> None:
        """From the start page through the door of a kind of data, to the page that shows what was understood."""
        self.see()
        self.hand.press(self.page.get_by_role("link", name=door).first)
        choose = self.button("Choose a folder" if files[0].is_dir() else "Choose files")
        expect(choose).to_be_visible()
        self.see()
        self.hand.bring(choose, *files)
        expect(self.link("Compare all five")).to_be_visible(timeout=60_000)
        self.see(whole=True)

    def compare(self) -> None:
        """Train all five on what is shown."""
        self.hand.press(self.link("Compare all five"))
        expect(self.page.get_by_role("heading", name="New run")).to_be_visible()
        self.hand.type(self.page.get_by_label("Training time of each model"), BUDGET)
        expect(self.page.locator("#compare-spoken")).to_contain_text(f"--budget {BUDGET}")
        expect(self.page.locator("[data-fact=steps]")).to_have_text(re.compile(r"\d"), timeout=60_000)
        self.see()
        self.hand.press(self.button("Compare all five"))
        self.page.wait_for_url("**/compare/**")

    def verdict(self) -> None:
        """Wait until it is said which one to keep, and go to that model."""
        expect(self.page.locator("section.verdict")).to_be_visible(timeout=LONG)
        expect(self.page.locator("section.going")).to_have_count(0, timeout=LONG)
        self.see()
        self.hand.press(self.page.locator("a[href^='/use/']").first)
        expect(self.button("Make")).to_be_visible()

    def sample(self) -> None:
        """Make items, and download them."""
        self.hand.press(self.button("Make"))
        expect(self.page.locator("#origin")).not_to_be_empty(timeout=120_000)
        self.see()
        with self.page.expect_download() as download:
            self.hand.press(self.button("Save"))
        assert Path(download.value.path()).stat().st_size > 50


KINDS: dict[str, tuple[str, Callable[[Path], list[Path]]]] = {
    "table": ("Tables and series", table),
    "pictures": ("Pictures", pictures),
    "recordings": ("Sounds", recordings),
    "text": ("Text", text),
}


@pytest.mark.parametrize("hands", [Mouse, Keyboard], ids=["mouse", "keyboard"])
@pytest.mark.parametrize("kind", KINDS)
def test_from_the_start_page_to_a_model(tmp_path: Path, chromium: Browser, kind: str, hands: type[Mouse]) -> None:
    door, make = KINDS[kind]
    files = make(tmp_path)
    look = {"width": 1100, "height": 800}
    with chromium.new_context(locale="en-GB", viewport=look, accept_downloads=True) as context:  # type: ignore[arg-type]
        page = context.new_page()
        way = Way(page, hands(page), kind)
        with running(tmp_path) as link:
            page.goto(link)
            way.bring(door, files)
            way.compare()
            expect(page.locator("#now")).to_have_text(re.compile(r"\d"), timeout=120_000)
            way.see()
            address = page.url
            os.kill(studio_of(tmp_path), signal.SIGKILL)  # in the middle of the training
        with running(tmp_path) as link:
            page.goto(link)
            page.goto(link.partition("/open")[0] + "/" + address.split("/", 3)[3])
            way.verdict()
            way.sample()


def studio_of(folder: Path) -> int:
    """The process of the studio of a folder."""
    found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and named(path, str(folder))]
    assert len(found) == 1, found
    return found[0]


def named(process: Path, folder: str) -> bool:
    """Whether a process is the studio of this folder."""
    try:
        words = (process / "cmdline").read_bytes().decode().split("\0")
    except OSError:
        return False
    return "studio" in words and any(word.startswith(folder) for word in words)
