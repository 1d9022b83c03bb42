"""Photograph the site that `make docs` built, to be looked at: each page at two widths, in both themes and languages.

    .venv/bin/python docs/looks.py FOLDER [PAGE ...]    such as: docs/looks.py build/looks maths/vae tutorials/tables

It names pages that are wider than the window and addresses that a page asks for elsewhere: there should be none.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright

SITE = Path(__file__).parents[1] / "build" / "site"


def main(folder: Path, pages: Sequence[str]) -> int:
    listings = ("source/", "zh/")
    every = (path.relative_to(SITE).with_suffix("").as_posix() for path in sorted(SITE.rglob("*.html")))
    pages, problems = pages or [page for page in every if not page.startswith(listings)], []
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for width, theme in ((1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")):
            tab = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme).new_page()
            tab.on("request", lambda asked: problems.append(asked.url) if asked.url.startswith("http") else None)
            for page in (f"{language}{page}" for page in pages for language in ("", "zh/")):
                if not (SITE / f"{page}.html").is_file():  # such as 404.html, which is the same for both languages
                    continue
                tab.goto(f"{(SITE / page).as_uri()}.html", wait_until="domcontentloaded")
                if (wide := tab.evaluate("document.documentElement.scrollWidth")) > width:
                    problems.append(f"{page} is {wide} pixels wide in a window of {width}")
                picture = folder / f"{page.replace('/', '-')}-{width}-{theme}.png"
                tab.screenshot(path=picture, full_page=True)
        browser.close()
    print("\n".join(problems) or "no page is too wide, and none asks for anything elsewhere")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
