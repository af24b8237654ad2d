"""Pages are single files with the given content, and zoom into all pictures at once."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from standalone import pages
from standalone.pages import Heat, Line, Plot, Table, heat_panels, line_panels, picture_panels, write_page
from tests.laws import cases

NOISE = np.random.default_rng(0)


def noise(height: int, width: int, channels: int) -> np.ndarray:
    return NOISE.integers(0, 256, (height, width, channels), dtype=np.uint8)


def pictures(figure: Any) -> list[np.ndarray]:
    """Pictures in the data URIs of a plot, each (h, w, c)."""
    found = []
    for trace in figure.data:
        assert trace.source.startswith("data:image/png;base64,")
        with Image.open(io.BytesIO(base64.b64decode(trace.source.partition(",")[2]))) as image:
            found.append(np.asarray(image).reshape(image.height, image.width, -1))
    return found


@cases(6)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4]), st.integers(1, 5))
def test_pictures_are_there_to_the_bit(height: int, width: int, channels: int, number: int) -> None:
    truth = {str(i): {"": noise(height, width, channels)} for i in range(number)}
    figure = picture_panels(truth)
    for found, shown in zip(pictures(figure), truth.values(), strict=True):
        np.testing.assert_array_equal(found, shown[""])
    # All pictures share one zoom.
    assert {axis.matches for axis in figure.select_xaxes()} == {"x"}
    assert {axis.matches for axis in figure.select_yaxes()} == {"y"}


@cases(6)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 3))
def test_large_pictures_are_shrunk_and_keep_their_place(height: int, width: int, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "MOST_PIXELS", 200)
        figure = picture_panels({str(i): {"": noise(height, width, 3)} for i in range(number)})
    found = pictures(figure)
    (factor,) = {trace.dx for trace in figure.data}
    # Sides of the smaller picture are rounded up to whole pixels.
    assert sum((one.shape[0] - 1) * (one.shape[1] - 1) for one in found) <= 200
    for trace, one in zip(figure.data, found, strict=True):
        assert trace.dy == factor
        for first, count, size in ((trace.y0, one.shape[0], height), (trace.x0, one.shape[1], width)):
            edge = first - factor / 2
            assert edge == -0.5
            assert size - 0.5 <= edge + count * factor < size - 0.5 + factor


def test_buttons_choose_what_all_panels_show() -> None:
    shown = {name: {"a": noise(2, 2, 3), "b": noise(2, 2, 3)} for name in ("one", "two", "three")}
    figure = picture_panels(shown, columns=2)
    assert [trace.visible for trace in figure.data] == [True, False] * 3
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["a", "b"]
    assert menu.buttons[1].args[0]["visible"] == [False, True] * 3


def test_a_legend_names_each_line_once_and_what_is_not_finite_is_a_gap() -> None:
    lines = [Line("x", [1, 2, 3], [1.0, np.nan, np.inf], "#000000"), Line("y", [1], [2.0], "#111111")]
    figure = line_panels({"left": lines, "right": lines}, ("a",), ("b", "c"), log="y")
    assert [trace.showlegend for trace in figure.data] == [True, True, False, False]
    assert figure.data[0].y == (1.0, None, None)
    assert "markers" in figure.data[1].mode  # a line of one point needs a marker to be seen
    assert [axis.title.text for axis in figure.select_yaxes()] == ["b", "c"]
    assert {axis.type for axis in figure.select_yaxes()} == {"log"}
    assert {axis.type for axis in figure.select_xaxes()} == {None}


def test_maps_share_their_colours_and_say_their_numbers() -> None:
    values = np.array([[1e-9, 0.1], [1.0, 5.0]])
    heat = Heat([1, 2], ["low", "high"], values)
    figure = heat_panels({"a": heat, "b": heat}, "step", "cycles", "error", low=1e-2, high=1.0)
    np.testing.assert_allclose(figure.data[0].z, [[-2, -1], [0, 0]])
    np.testing.assert_array_equal(figure.data[1].customdata, values)
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}
    assert figure.layout.coloraxis.colorbar.ticktext == ("0.01", "0.1", "1")


def test_a_page_is_whole_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    """The page has no addresses but those in plotly's code, and text is not taken for HTML."""
    nasty = "<script>alert('&\"</h1>"
    figure = line_panels({nasty: [Line(nasty, [1, 2], [3, 4], "#000000")]}, ("x",), ("y",))
    table = Table(nasty, [{"a": 1.23456789, nasty: None}, {"a": nasty}])
    write_page(tmp_path / "page.html", nasty, [Plot(nasty, figure, nasty), table], nasty, [nasty])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    from plotly.offline import get_plotlyjs

    assert text.count(get_plotlyjs()) == 1
    ours = text.replace(get_plotlyjs(), "")
    assert not re.search(r"""(src|href)\s*=|@import|url\(""", ours)
    assert "<script>alert" not in ours
    assert ours.count(html.escape(nasty)) >= 7
    assert "<td>1.235</td><td></td>" in ours
