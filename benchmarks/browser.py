"""nerfstudio's page in a real browser, headless, and the pictures that reach it."""

from __future__ import annotations

import ctypes
import io
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from PIL import Image
from playwright.sync_api import Page, WebSocket, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""What Chromium is called on Linux systems."""
PATIENCE = 120.0
"""Seconds to wait for what must come, far more than needed."""


def chromium() -> str | None:
    """Path of Chromium, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name)) is not None), None)


@dataclass(frozen=True)
class Picture:
    """A picture that reached the page."""

    time: float
    """Seconds of `time.time`."""
    data: bytes
    """As JPEG or PNG."""

    @property
    def pixels(self) -> np.ndarray:
        """Colours in [0, 1], (height, width, 3)."""
        return np.asarray(Image.open(io.BytesIO(self.data)).convert("RGB")) / 255

    @property
    def width(self) -> int:
        """In pixels."""
        return int(Image.open(io.BytesIO(self.data)).width)


class Tab:
    """A page of the viewer, and what reached it.

    Args:
        page: of the browser, nothing loaded yet.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pictures: list[Picture] = []
        """In the order they came; taken in while the page is waited for."""
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._receive)

    def _receive(self, frame: Any) -> None:
        if isinstance(frame, bytes) and b"BackgroundImageMessage" in frame:
            now = time.time()
            for message in msgspec.msgpack.decode(frame):
                if message["type"] == "BackgroundImageMessage":
                    self.pictures.append(Picture(now, message["rgb_bytes"]))

    def wait(self, seconds: float) -> None:
        """Let the browser do its work."""
        self.page.wait_for_timeout(1000 * seconds)

    def wait_until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
        """Wait for a condition; tells whether it came to hold."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.wait(0.02)
        return True

    @property
    def step(self) -> int:
        """The step that the page shows; -1 before it shows any."""
        found = re.search(r"Step: (\d+)", self.page.locator("body").inner_text())
        return int(found[1]) if found else -1

    def drag(self, seconds: float, pause: float = 0.03) -> None:
        """Turn the scene with the mouse, all the time."""
        size = self.page.viewport_size
        assert size is not None
        x, y = 0.35 * size["width"], 0.5 * size["height"]
        mouse, end = self.page.mouse, time.monotonic() + seconds
        mouse.move(x, y)
        mouse.down()
        step = 0
        while time.monotonic() < end:
            step += 1
            mouse.move(x + 150 * np.sin(0.05 * step), y + 20 * np.sin(0.03 * step))
            self.wait(pause)
        mouse.up()

    def choose(self, label: str, value: str) -> None:
        """Choose from a dropdown."""
        self.page.get_by_label(label, exact=True).click()
        self.page.get_by_role("option", name=value, exact=True).click()


@contextmanager
def opened(port: int, width: int = 1400, height: int = 1500) -> Iterator[Tab]:
    """Open the page that is served at a port, in Chromium, which must be there."""
    with browser_page(width, height) as page:
        tab = Tab(page)
        page.goto(f"http://127.0.0.1:{port}/")
        yield tab


@contextmanager
def browser_page(width: int, height: int) -> Iterator[Page]:
    """An empty page in Chromium, which must be there."""
    take_no_precedence()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(),
            # Root has no sandbox in containers; WebGL is drawn by the CPU.
            args=["--no-sandbox", "--enable-unsafe-swiftshader"],
        )
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(1000 * PATIENCE)
            yield page
        finally:
            browser.close()


def take_no_precedence() -> None:
    """Keep a browser that is started by root from running before all other programs, as no user's does.

    Chromium gives its drawing a niceness of -8 where it may, and would starve what it looks at.
    """
    if sys.platform == "linux":
        drop_from_bounding_set, raise_priorities = 24, 23  # PR_CAPBSET_DROP, CAP_SYS_NICE
        ctypes.CDLL(None).prctl(drop_from_bounding_set, raise_priorities, 0, 0, 0)  # refused to all but root
