"""The textures: where each colour lies."""

import numpy as np
import pytest

from bn_field_plugin.data.demo_textures import (
    GLYPHS,
    checker,
    look_up,
    nested_checker,
    poster,
    stripes,
    text_bitmap,
    zone_plate,
)


@pytest.mark.parametrize("letter", sorted(GLYPHS))
def test_each_letter_is_seven_rows_of_five_dots(letter):
    rows = GLYPHS[letter].split()
    assert [len(row) for row in rows] == [5] * 7
    assert set("".join(rows)) <= {"#", "."}


def test_letters_differ():
    assert len(set(GLYPHS.values())) == len(GLYPHS)


def test_text_is_read_from_left_to_right_with_its_top_up():
    bitmap = text_bitmap("LT")
    assert bitmap.shape == (7, 12)
    assert bitmap[:, 0].all()  # L's stem on the left
    assert bitmap[6, :5].all()  # and its foot below
    assert bitmap[0, 6:11].all()  # T's bar on top
    assert not bitmap[:, [5, 11]].any()  # gaps


def test_unknown_letter_is_an_error():
    with pytest.raises(KeyError):
        text_bitmap("\u2603")


def test_poster_centres_and_magnifies():
    dots = poster(9, ("I", 1, 1), bars=((8, 3),))
    assert dots[1, 3:6].all()
    assert dots[8].tolist() == [False] * 3 + [True] * 3 + [False] * 3
    twice = poster(14, ("I", 0, 2))
    np.testing.assert_array_equal(twice[::2, 2:12:2], text_bitmap("I")[:, :5])


def test_look_up_has_v_upwards_and_nothing_outside():
    dots = np.array([[True, False], [False, False]])  # top left
    points = np.array([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25], [-0.25, 0.75], [0.25, 1.75]])
    assert look_up(dots, *points.T).tolist() == [True, False, False, False, False]


def test_checker_and_stripes_alternate_also_below_zero():
    u = np.arange(-4, 4) + 0.5
    assert (checker(u, np.full(8, 0.5)) == (np.arange(8) % 2 == 1)).all()
    assert (checker(u, np.full(8, -0.5)) == (np.arange(8) % 2 == 0)).all()
    assert stripes(u, 3).tolist() == [2, 0, 1, 2, 0, 1, 2, 0]


def test_nested_checker_halves_each_square_as_often_as_its_level():
    u = (np.arange(64) + 0.5) / 16  # four squares along u
    dark, level = nested_checker(u, np.full(64, 0.01), np.array([[0, 1, 2, 3]]))
    changes = [np.count_nonzero(np.diff(dark[16 * k : 16 * (k + 1)])) for k in range(4)]
    assert changes == [0, 1, 3, 7]
    assert level[::16].tolist() == [0, 1, 2, 3]


def test_zone_plate_rings_get_finer_outwards():
    distance = np.linspace(0, 3, 20001)
    weight = zone_plate(distance, 8.0)
    assert weight[0] == 1
    assert weight.min() >= 0
    crossings = distance[np.flatnonzero(np.diff(weight > 0.5))]
    assert (np.diff(crossings, n=2) < 0).all()
    np.testing.assert_allclose(crossings, np.sqrt((np.arange(len(crossings)) + 0.5) * np.pi / 8), atol=2e-4)
