"""Text that wants to be a script, in every place where the studio shows what it was given: none of it is executed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from in_browser import running
from PIL import Image
from playwright.sync_api import Browser, Page

import quintet
from quintet.comparison.document import completed

pytestmark = pytest.mark.slow

DO = "window.pwned=1"
PAYLOADS = [
    *(f"{before}<script>{DO}</script>" for before in ("", '">', "'>", "</title>", "</textarea>", "</script>", "-->",
                                                      "]]>", "</style>", "</option></select>", "<!--><!---->")),
    *(f"{before}<img src=x onerror={DO}>" for before in ("", '">', "'>", "</p>", "`>", "&gt;", "\\x3e", "\u2028")),
    *(f"{before}<svg onload={DO}>" for before in ("", '">', "</svg>", "</math>", "</noscript>", "</code></pre>")),
    *(f'{quote_}{space}{event}={DO}{space}x={quote_}' for quote_ in ('"', "'", "")
      for space in (" ", "/") for event in ("onfocus", "onmouseover")),
    f'<a href="javascript:{DO}">x</a>', f"javascript:{DO}", f"data:text/html,<script>{DO}</script>",
    f"<iframe srcdoc='<script>parent.{DO}</script>'></iframe>", f"<details open ontoggle={DO}>",
    f"<form action=javascript:{DO}><button>", f"<math><mtext></p><img src=x onerror={DO}>",
    "{{ cycler.__init__.__globals__ }}", "{% raw %}", "${" + DO + "}", f"\\u003cscript\\u003e{DO}",
    f"%3Cscript%3E{DO}%3C/script%3E", f"+ADw-script+AD4-{DO}",
]  # fmt: skip
NAMES = [one.replace("/", "\u2044")[:200] for one in PAYLOADS]
"""The same as names of files, in which no slash can be."""


def test_there_are_fifty_of_them() -> None:
    assert len(set(PAYLOADS)) >= 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, runs, jobs and reports that hold them wherever a text can be."""
    folder = tmp_path_factory.mktemp("hostile")
    runs = folder / "runs"
    table = folder / "table.csv"
    header = ",".join('"' + one.replace('"', '""') + '"' for one in PAYLOADS)
    rows = [",".join('"' + PAYLOADS[(i + j) % len(PAYLOADS)].replace('"', '""') + '"' for j in range(len(PAYLOADS)))
            for i in range(60)]  # fmt: skip
    table.write_text("\n".join([header, *rows]))
    (folder / "lines.txt").write_text("\n".join(PAYLOADS * 8))
    for i, name in enumerate(NAMES):
        (folder / "pictures" / name).mkdir(parents=True)
        for j in range(2):
            Image.new("L", (8, 8), 40 * j + i).save(folder / "pictures" / name / f"{j}-{NAMES[-i]}.png")
    quintet.train("autoregressive", data=folder / "lines.txt", steps=20, run="texts", runs=runs)
    quintet.train("vae", data=folder / "pictures", condition="label", steps=10, run="pictures", runs=runs)
    quintet.train("autoregressive", data=table, steps=5, run="table", runs=runs)
    for i, name in enumerate(NAMES[:20]):  # run folders of any name, whose every text is hostile
        copy = runs / name
        shutil.copytree(runs / "texts", copy)
        record = {"step": 1, "steps": 2, "seconds": 1.0, **dict.fromkeys(PAYLOADS, 1.0)}
        (copy / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        (copy / "studio.json").write_text(json.dumps({"tags": PAYLOADS[i:], "note": PAYLOADS[i], "archived": False}))
        (copy / "CARD.md").write_text("\n".join(PAYLOADS))
        (copy / "samples" / "step-00000001.txt").write_text("\n".join(PAYLOADS))
        manifest = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": PAYLOADS[i], "device": PAYLOADS[i]}))
    for i, text in enumerate(PAYLOADS):
        job = runs / ".studio" / "jobs" / f"20260101-000000-{i:08x}"
        job.mkdir(parents=True)
        order = {"argv": ["train", text], "title": text, "run": NAMES[i], "cwd": text, "created": 1e9 + i, "starts": 1}
        (job / "job.json").write_text(json.dumps(order))
        (job / "out.json").write_text(json.dumps({"error": "DataError", "what": text, "where": text, "why": text,
                                                  "fix": text}))  # fmt: skip
        (job / "log.txt").write_text("\n".join(PAYLOADS))
    compared(runs / "compare-hostile-1")
    return folder


def compared(folder: Path) -> None:
    """A comparison whose every text is hostile: families, runs, samples, reasons, notes, caveats and the command."""
    table = {"kind": "rows", "columns": PAYLOADS[:6], "rows": [PAYLOADS[i : i + 6] for i in range(6)]}
    shown: list[dict[str, Any]] = [{"kind": "text", "items": PAYLOADS}, table]
    entries: list[dict[str, Any]] = [
        {"family": text, "run": text, "seed": 0, "status": ("ok", "ok", "failed", "left out")[i % 4], "error": text,
         "metrics": {"auc": 0.6, "auc_stderr": 0.01, "memorised_flagged": i == 1}, "learnt_little": text if i else None,
         "samples": shown[i % 2], "nearest": shown[i % 2], "likelihood_reason": text, "predicted": text,
         "config": {text: text}, "advice": [{"kind": text, "text": text}], "curve": [[1.0, 2.0], [2.0, 1.0]]}
        for i, text in enumerate(PAYLOADS[::5])
    ]  # fmt: skip
    head = {"source": PAYLOADS[0], "command": PAYLOADS[1], "date": PAYLOADS[2], "budget": PAYLOADS[3], "machine": {
            PAYLOADS[4]: PAYLOADS[5]}, "recipe": {PAYLOADS[6]: PAYLOADS[7]}, "real": {"samples": table}}  # fmt: skip
    document = completed(head, entries)
    document["verdict"]["caveats"] = PAYLOADS
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def page(folder: Path, chromium: Browser) -> Iterator[tuple[Page, str, list[str]]]:
    """A page of the studio, its origin, and what was executed or refused by the policy."""
    with running(folder) as link, chromium.new_context() as context:
        page, found = context.new_page(), list[str]()
        page.on("dialog", lambda dialog: (found.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda said: found.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(link)
        yield page, link.partition("/open")[0], found


def executed(page: Page, found: list[str], address: str) -> list[str]:
    """What a page executed, or tried to. Every element is pointed at and focused, since some scripts wait for that."""
    del found[:]
    page.goto(address)
    page.locator("#waiting").wait_for(state="detached")  # a source that is read loads the page again
    page.wait_for_timeout(1200)
    page.evaluate("""() => { for (const one of document.querySelectorAll("*")) {
        one.dispatchEvent(new MouseEvent("mouseover", { bubbles: false })); one.focus?.(); } }""")
    page.wait_for_timeout(200)
    return [*found, *(["executed"] if page.evaluate("Boolean(window.pwned)") else [])]


def test_the_test_finds_one(page: tuple[Page, str, list[str]]) -> None:
    """The control: markup that is written into a page is noticed, though the policy refuses to execute it."""
    shown, origin, found = page
    shown.goto(origin)
    del found[:]
    shown.evaluate("markup => { document.body.innerHTML += markup; }", f"<img src=x onerror={DO}>")
    shown.wait_for_timeout(500)
    assert found


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/data",
        "/queue",
        "/runs",
        "/runs?page=2",
        "/new",
        "/compare",
        "/compare/compare-hostile-1",
        "/use/texts",
        "/card/texts",
        "/run/texts",
    ],
)
def test_pages_of_hostile_runs_and_jobs(page: tuple[Page, str, list[str]], path: str) -> None:
    shown, origin, found = page
    assert executed(shown, found, origin + path) == []


@pytest.mark.parametrize("name", ["table.csv", "lines.txt", "pictures"])
@pytest.mark.parametrize("place", ["data", "new"])
def test_pages_of_hostile_data(page: tuple[Page, str, list[str]], folder: Path, place: str, name: str) -> None:
    shown, origin, found = page
    address = f"{origin}/{place}?source={quote(str(folder / name))}"
    executed(shown, found, address)  # read once
    shown.wait_for_timeout(2000)
    assert executed(shown, found, address) == []


@pytest.mark.parametrize("place", ["run", "use", "card"])
@pytest.mark.parametrize("i", range(0, 20, 5))
def test_pages_of_runs_with_hostile_names(page: tuple[Page, str, list[str]], place: str, i: int) -> None:
    shown, origin, found = page
    assert executed(shown, found, f"{origin}/{place}/{quote(NAMES[i])}") == []


@pytest.mark.parametrize("path", ["/runs?q=", "/data?source=", "/new?source=", "/queue?job=", "/data?door=",
                                  "/use/texts?prompt=", "/nothing/", "/run/texts?with=", "/new?like=",
                                  "/compare?run="])  # fmt: skip
def test_what_an_address_brings(page: tuple[Page, str, list[str]], path: str) -> None:
    shown, origin, found = page
    refused: Any = {
        text: told for text in PAYLOADS[::7] if (told := executed(shown, found, origin + path + quote(text)))
    }
    assert refused == {}


@pytest.mark.parametrize("name", ["texts", "table", "pictures"])
def test_what_models_make_of_it(page: tuple[Page, str, list[str]], name: str) -> None:
    shown, origin, found = page
    shown.goto(f"{origin}/use/{name}?verb=sample")
    del found[:]
    shown.locator("form button.main").first.click()
    shown.wait_for_timeout(5000)
    assert found == []
    assert not shown.evaluate("Boolean(window.pwned)")
