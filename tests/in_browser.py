"""What tests of the studio share: a studio of a folder, and a client that was let in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playwright.sync_api import Locator, Page
from starlette.testclient import TestClient

from quintet.operations.requests import StudioRequest
from quintet.studio.app import create_app
from quintet.studio.house import Studio, studio_of

HERE = "http://127.0.0.1:8700"


def studio(folder: Path) -> Studio:
    """A studio of the runs in `folder`/runs."""
    (folder / "runs").mkdir(exist_ok=True)
    return studio_of(StudioRequest(runs=folder / "runs"), 8700, folder / "state")


def client(made: Studio, *, let_in: bool = True, **headers: str) -> TestClient:
    """A browser of this process, with the cookie unless it is not to be let in."""
    browser = TestClient(create_app(made), HERE, headers={"origin": HERE, **headers}, raise_server_exceptions=False)
    if let_in:
        link = made.door.link(HERE)
        assert browser.get(link.removeprefix(HERE), follow_redirects=False).status_code == 303
    return browser


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[str]:
    """The studio of `folder`/runs in a process of its own; gives the link that lets one browser in."""
    command = [sys.executable, "-m", "quintet", "studio", "--no-browser", "--port", "0", "--runs", str(folder / "runs")]
    around = os.environ | {"XDG_STATE_HOME": str(folder / "state"), "OMP_NUM_THREADS": "1"} | environment
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=around)
    assert process.stderr is not None
    try:
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://\S+/open\S+", line)))
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(40)


@contextmanager
def served(made: Studio, path: str = "/") -> Iterator[str]:
    """Inside, a real browser finds the studio by this link."""
    server = uvicorn.Server(uvicorn.Config(create_app(made), port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield made.door.link(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", path)
    finally:
        made.service.stopping = server.should_exit = True
        thread.join()


def drop(what: Locator, *files: Path) -> None:
    """Drag files or folders of the disk over an element, and let go of them there: what the page is told is what it is
    told of a real drop.
    """
    what.scroll_into_view_if_needed()
    box = what.bounding_box()
    assert box
    data = {"items": [], "files": [str(path) for path in files], "dragOperationsMask": 1}
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + min(box["height"] / 2, 40), "data": data}
    session = what.page.context.new_cdp_session(what.page)
    for event in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": event, **place})
    session.detach()


# -- one hand on the mouse, or both on the keyboard --------------------------------------------------------------------


class Mouse:
    """A person who clicks, and types only into fields that were clicked."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, what: Locator) -> None:
        """Press a button, follow a link, tick a box."""
        what.click()

    def type(self, what: Locator, text: str) -> None:
        """Write into a field, in the place of what stands there."""
        what.click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def choose(self, what: Locator, label: str) -> None:
        """Choose one of a list."""
        what.select_option(label=label)

    def bring(self, what: Locator, *files: Path) -> None:
        """Choose files in the window that a button opens."""
        with self.page.expect_file_chooser() as chooser:
            self.press(what)
        chooser.value.set_files(list(files))


class Keyboard(Mouse):
    """A person without a mouse: Tab, Enter, Space, arrows and letters."""

    def reach(self, what: Locator) -> None:
        """Tab until the focus is there; whoever looks on must see where it is."""
        what.wait_for(state="attached")
        for _ in range(300):
            if what.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab never comes to {what}")

    def press(self, what: Locator) -> None:
        self.reach(what)
        box = what.evaluate("element => element.matches('input[type=checkbox], input[type=radio]')")
        self.page.keyboard.press("Space" if box else "Enter")

    def type(self, what: Locator, text: str) -> None:
        self.reach(what)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def choose(self, what: Locator, label: str) -> None:
        self.reach(what)
        self.page.keyboard.type(label)
        self.page.keyboard.press("Tab")
        assert what.evaluate("element => element.selectedOptions[0].label.trim()") == label
