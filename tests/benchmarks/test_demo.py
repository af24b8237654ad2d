"""The demo's picture: panels, enlarged parts, captions."""

import numpy as np

from benchmarks.demo import draw_panels


def panel(value: int) -> np.ndarray:
    return np.full((20, 30, 3), value, np.uint8)


def test_panels_stand_side_by_side_and_are_enlarged() -> None:
    picture = draw_panels([("one", panel(10)), ("two", panel(200))], scale=2, margin=8)
    assert picture.size == (2 * 60 + 8, 40 + 26)
    pixels = np.asarray(picture)
    assert (pixels[:40, :60] == 10).all()
    assert (pixels[:40, 68:] == 200).all()
    assert (pixels[:40, 60:68] == 255).all()


def test_parts_are_those_of_their_panel() -> None:
    image = panel(10)
    image[5:10, 5:10] = 99
    picture = draw_panels([("one", image)], [(5, 5, 5, 5), (20, 5, 5, 5)], scale=2, margin=8)
    pixels = np.asarray(picture)
    part = (60 - 8) // 2
    assert picture.size == (60, 40 + 8 + part + 26)
    assert (pixels[48 : 48 + part, :part] == 99).all()
    assert (pixels[48 : 48 + part, part + 8 : 2 * part + 8] == 10).all()
