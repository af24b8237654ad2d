"""The viewer's page in Chromium, without a window, where the system has it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from benchmarks import browser
from benchmarks.browser import PATIENCE
from benchmarks.serving import wait_for

SPECTRUM, PSNR, DRIFT = "NTK of the density", "PSNR of training rays", "Drift of running statistics"
"""Titles of the panel's plots."""
ARTIFACTS = Path(__file__).parents[2] / "outputs" / "tests"
"""Where screenshots are kept, for people to look at; not in git."""


def needs_chromium() -> None:
    """Skip the test where there is no Chromium."""
    if browser.chromium() is None:
        pytest.skip("needs Chromium (on Debian: apt-get install chromium), which is absent")


@contextmanager
def opened(port: int) -> Iterator[Page]:
    """Open the page that is served at a port."""
    needs_chromium()
    with browser.opened(port) as tab:
        yield tab.page


def keep_screenshot(page: Page, name: str) -> Path:
    """Save a screenshot of the page under outputs/tests."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    path = ARTIFACTS / f"{name}.png"
    page.mouse.move(5, 5)  # the mouse would make the page show hints
    page.wait_for_timeout(300)
    page.screenshot(path=path)
    return path


def wait_for_outputs(page: Page, chosen: str = "rgb") -> None:
    """Wait for the first picture, which tells the viewer which outputs there are."""
    wait_for(lambda: page.get_by_label("Output type", exact=True).input_value() == chosen, PATIENCE)


def options(page: Page, label: str) -> list[str]:
    """What a dropdown of the page offers."""
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option").first.wait_for()
    found = page.get_by_role("option").all_inner_texts()
    page.keyboard.press("Escape")
    return found


def choose(page: Page, label: str, value: str) -> None:
    """Choose from a dropdown of the page."""
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=value, exact=True).click()
    assert page.get_by_label(label, exact=True).input_value() == value


def plots(page: Page) -> dict[str, list[dict[str, Any]]]:
    """The plots on the page: of each the traces' type, name, x and y, by the first words of its title."""
    script = """plots => plots.map(plot => [
        plot.layout.title.text,
        plot.data.map(trace => ({type: trace.type, name: trace.name, x: trace.x, y: trace.y})),
    ])"""
    # viser draws each plot twice, one of them for its full-screen view.
    found = page.locator(".js-plotly-plot").evaluate_all(script)
    return {title.split(",")[0]: traces for title, traces in found}


def picture(page: Page) -> np.ndarray:
    """The part of the page left of the control panel, in [0, 1], (height, width, 3)."""
    size = page.viewport_size
    assert size is not None
    area = {"x": 0, "y": 60, "width": 0.7 * size["width"], "height": size["height"] - 130}
    shot = page.screenshot(clip=area)  # type: ignore[arg-type]
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")) / 255


def settled(page: Page, condition: Callable[[np.ndarray], bool] = lambda _: True) -> np.ndarray:
    """The picture, once it has not changed for two seconds and a condition holds."""
    deadline = time.monotonic() + PATIENCE
    last, since = picture(page), time.monotonic()
    while time.monotonic() < deadline:
        page.wait_for_timeout(400)
        now = picture(page)
        if np.abs(now - last).max() > 0.01:
            since = time.monotonic()
        elif time.monotonic() - since > 2.0 and condition(now):
            return now
        last = now
    pytest.fail("the picture did not settle")
