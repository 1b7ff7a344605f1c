"""A real browser without a window, and photos large enough that a page holds only a part of them pixel for pixel."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import textured

WAIT_S = 20.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page from disk; fails the test where the page said an error or asked for anything but files."""
    opened: list[Any] = []
    complaints: list[str] = []

    def open_it(page: Path, width: int = 1280, height: int = 800) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height})
        opened.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: _check_said(message.text, complaints))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda asked: _check_local(asked.url, complaints))
        tab.goto(page.as_uri())
        return tab

    yield open_it
    for context in opened:
        context.close()
    assert complaints == []


def _check_said(text: str, complaints: list[str]) -> None:
    """Notes what a page says to the console; of a photo that was moved away the browser itself tells."""
    if "ERR_FILE_NOT_FOUND" not in text:
        complaints.append(text)


def _check_local(url: str, complaints: list[str]) -> None:
    if not url.startswith(("file:", "data:")):
        complaints.append(f"asked for {url}")


@pytest.fixture
def blurred_pair(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes a blurred photo and a sharp one as its result, 1600 × 1200, as PNG."""

    def make(name: str, seed: int = 0, size: tuple[int, int] = (1200, 1600)) -> tuple[Path, Path]:
        sharp = textured(size, seed)
        blurred = cv2.GaussianBlur(sharp, (0, 0), 3)
        before, after = tmp_path / "shoot" / name, tmp_path / "out" / name
        for path, pixels in ((before, blurred), (after, sharp)):
            path.parent.mkdir(exist_ok=True)
            encoded = cv2.imencode(path.suffix, np.ascontiguousarray(pixels[..., ::-1]))[1]
            path.write_bytes(encoded.tobytes())
        return before, after

    return make


def wait_until(tab: Any, condition: str) -> None:
    """Returns once a condition in JavaScript holds; playwright's own waiting needs `eval`, which our pages forbid."""
    deadline = time.monotonic() + WAIT_S
    while not tab.evaluate(condition):
        assert time.monotonic() < deadline, f"never came true: {condition}"
        time.sleep(0.05)
