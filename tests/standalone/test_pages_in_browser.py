"""Pages as a user sees them, in Chromium: one zoom for all pictures, buttons, hints at the pointer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.browser import browser_page
from standalone.pages import Heat, Line, Plot, Table, heat_panels, line_panels, picture_panels, write_page
from tests.viewer.browser import keep_screenshot, needs_chromium

pytestmark = pytest.mark.slow

RANGES = """() => {
    const layout = document.querySelector(".js-plotly-plot")._fullLayout;
    return [layout.xaxis.range, layout.xaxis2.range, layout.yaxis.range, layout.yaxis2.range];
}"""
"""Script for the ranges that the first plot's first two panels show, in pixels of the pictures."""
SHOWN = """() => document.querySelector(".js-plotly-plot")._fullData.map(trace => trace.visible)"""


def test_a_page_of_everything(tmp_path: Path) -> None:
    needs_chromium()
    grey = np.full((20, 30, 1), 77, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    pictures = picture_panels({"one": {"a": grey, "b": noise}, "two": {"a": noise, "b": grey}}, columns=2)
    lines = line_panels(
        {"": [Line("line", [1, 10, 100], [1e-3, 1, np.nan], "#000000")]}, ("x",), ("y",), log="xy"
    )
    heat = heat_panels({"": Heat([1, 2], ["a", "b"], np.ones((2, 2)))}, "x", "y", "z", low=0.1, high=10)
    parts = [Plot("Pictures", pictures), Plot("Line", lines), Plot("Heat", heat), Table("Table", [{"a": 1}])]
    path = tmp_path / "page.html"
    write_page(path, "Everything", parts, "a command")
    with browser_page(1300, 900) as page:
        wrong: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 3")
        whole = page.evaluate(RANGES)
        assert whole[0] == whole[1] and whole[2] == whole[3]
        assert sorted(whole[2]) == [-0.5, 19.5] and whole[2][0] > whole[2][1]  # rows begin at the top
        panel = page.locator(".js-plotly-plot").first.locator(".nsewdrag").first
        panel.hover()
        page.get_by_text("77").first.wait_for()  # the value of the pixel
        page.mouse.wheel(0, -400)
        page.wait_for_function(f"({RANGES})()[0][0] !== {whole[0][0]}")
        page.wait_for_timeout(500)
        near = page.evaluate(RANGES)
        assert near[0] == near[1] and near[2] == near[3]
        assert abs(near[0][1] - near[0][0]) < abs(whole[0][1] - whole[0][0])
        page.get_by_text("b", exact=True).first.click()
        page.wait_for_function(f"JSON.stringify(({SHOWN})()) === '[false,true,false,true]'")
        keep_screenshot(page, "page")
    assert wrong == []
    # The page loads nothing but its own file and what is inside it.
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
