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
"""Names of Chromium's program on Linux systems."""
PATIENCE = 120.0
"""Most seconds to wait for something: far more than it takes, so that a busy machine passes too."""


def chromium() -> str | None:
    """Path of Chromium, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name)) is not None), None)


@dataclass(frozen=True)
class Picture:
    """A picture that reached the page."""

    time: float
    """When it reached the page, by `time.time`."""
    data: bytes
    """The file, JPEG or PNG."""

    @property
    def pixels(self) -> np.ndarray:
        """Colours in [0, 1], (height, width, 3)."""
        return np.asarray(Image.open(io.BytesIO(self.data)).convert("RGB")) / 255

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(Image.open(io.BytesIO(self.data)).width)


class Tab:
    """A page of the viewer, and the pictures that reached it.

    Args:
        page: an empty page of the browser.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pictures: list[Picture] = []
        """Pictures in the order in which they came. The list grows only during calls to the page."""
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
        """Wait while the browser works and pictures come in."""
        self.page.wait_for_timeout(1000 * seconds)

    def wait_until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
        """Wait for a condition, and return whether it holds."""
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
        """Turn the scene with the mouse for some seconds."""
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
            # Chromium's sandbox does not start for root in containers, and the CPU has to draw WebGL.
            args=["--no-sandbox", "--enable-unsafe-swiftshader"],
        )
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(1000 * PATIENCE)
            yield page
        finally:
            browser.close()


def take_no_precedence() -> None:
    """Keep a browser that root starts from taking precedence over all other programs.

    Chromium gives its drawing a niceness of -8 where it is allowed to, as it is for root only. The viewer
    that is measured would then get too little of the processor.
    """
    if sys.platform == "linux":
        drop_from_bounding_set, raise_priorities = 24, 23  # PR_CAPBSET_DROP, CAP_SYS_NICE
        ctypes.CDLL(None).prctl(drop_from_bounding_set, raise_priorities, 0, 0, 0)  # only root may
