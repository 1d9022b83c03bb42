"""Shared by all tests."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from starlette.testclient import TestClient

    from quintet.studio.house import Studio


def pytest_configure() -> None:
    """What a shell starts in the background ignores interrupts, what nohup starts the end of a terminal, and so do all
    processes of tests with it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _short_looks() -> Iterator[None]:
    """A run of a few steps takes most of its time for looking at itself: here it looks at fewer samples."""
    from quintet.fit import live

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "SAMPLES", 20)
        yield


@pytest.fixture(scope="module")
def long_looks() -> Iterator[None]:
    """As many samples as everywhere else."""
    from quintet.fit import live

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "SAMPLES", 100)
        yield


@pytest.fixture(autouse=True)
def _settled() -> None:
    """One thread, and fresh weights that do not depend on which tests ran before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


def randomise(module: nn.Module, *, scale: float = 0.3, seed: int = 0) -> nn.Module:
    """Every parameter moved by noise, in float64 and evaluation mode: zero-initialised layers hide bugs."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium: the system's own, which is installed where it is missing and we may (Debian).

    As long as it is open, its driver's event loop runs in this thread, where tests of other modules start their own.
    """
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    if not any(shutil.which(name) for name in names) and shutil.which("apt-get"):
        for words in ("update -q", "install -q -y --no-install-recommends chromium fonts-liberation"):
            subprocess.run(["apt-get", *words.split()], capture_output=True, timeout=600)
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium here, and none could be installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def made(tmp_path: Path) -> Studio:
    """A studio without runs."""
    from in_browser import studio

    return studio(tmp_path)


@pytest.fixture
def browser(made: Studio) -> TestClient:
    """Whoever was let into that studio."""
    from in_browser import client

    return client(made)
