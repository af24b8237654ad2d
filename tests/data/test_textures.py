"""The textures: where each colour lies."""

import numpy as np
import pytest

from bn_field_plugin.data.textures import (
    GLYPHS,
    checker,
    look_up,
    nested_checker,
    poster,
    running_bond,
    scatter,
    stripes,
    text_bitmap,
    value_noise,
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
    assert bitmap[6, :5].all()  # L's foot below
    assert bitmap[0, 6:11].all()  # T's bar on top
    assert not bitmap[:, [5, 11]].any()  # the gaps between letters


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


def test_scatter_is_uniform_and_without_pattern():
    i, j = np.meshgrid(np.arange(-200, 200), np.arange(-100, 100))
    values = scatter(i.reshape(-1), j.reshape(-1)).reshape(i.shape)
    assert values.min() >= 0
    assert values.max() < 1
    np.testing.assert_allclose(np.histogram(values, 10, (0, 1))[0] / values.size, 0.1, atol=0.01)
    for shift in ((0, 1), (1, 0), (1, 1), (0, 2)):
        moved = np.roll(values, shift, axis=(0, 1))
        assert abs(np.corrcoef(values.reshape(-1), moved.reshape(-1))[0, 1]) < 0.02
    assert abs(np.corrcoef(values.reshape(-1), scatter(i, j, 1).reshape(-1))[0, 1]) < 0.02


def test_scatter_takes_whole_numbers_of_any_type():
    i, j = np.array([-3, 0, 70000]), np.array([5, -1, -70000])
    expected = scatter(i, j)
    for kind in (np.float32, np.float64, np.int32):
        np.testing.assert_array_equal(scatter(i.astype(kind), j.astype(kind)), expected)


def test_bricks_of_a_row_lie_over_the_joints_of_the_one_below():
    u = np.linspace(-3, 3, 61) + 1e-4
    column, row, s, t = running_bond(u, np.full(61, 0.25))
    above = running_bond(u, np.full(61, 1.25))
    assert (row == 0).all() and (above[1] == 1).all()
    np.testing.assert_allclose(column + s, u)
    np.testing.assert_allclose(above[0] + above[2], u + 0.5)
    np.testing.assert_allclose(t, 0.25)


def test_value_noise_is_continuous_and_meets_scatter_at_whole_numbers():
    whole = np.arange(-5.0, 5)
    np.testing.assert_allclose(value_noise(whole, -whole, 3), scatter(whole, -whole, 3), rtol=1e-6)
    u = np.linspace(-4, 4, 8001)
    values = value_noise(u, 0.37 * u)
    assert np.abs(np.diff(values)).max() < 0.004
    assert values.std() > 0.1
