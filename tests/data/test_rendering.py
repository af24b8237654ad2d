"""The renderer of any scene: shapes of pictures, tilted objects, backdrops, bands of rows."""

import numpy as np
import pytest

from bn_field_plugin.data import rendering
from bn_field_plugin.data.rendering import (
    Lighting,
    Renderer,
    SceneObject,
    blend,
    linear,
    pick,
)
from bn_field_plugin.data.shapes import RoundedBox, RoundedCylinder
from tests.data.surfaces import signed_distance

DARK = Lighting(
    sun=(0.0, 0.0, 1.0),
    sun_colour=(0.0, 0.0, 0.0),
    sky_colour=(1.0, 1.0, 1.0),
    ground_colour=(1.0, 1.0, 1.0),
    occlusion_reach=0.5,
    lift=1e-3,
    occlusion_rays=8,
)
"""Light from everywhere: a lone convex object shows its own colour."""
ANGLE = 1.2


def _white(points, normals):
    return np.ones_like(points)


def _sky(directions):
    return np.where(directions[:, 2:] > 0, [[0.0, 0, 1]], [[0.0, 1, 0]]).astype(np.float32)


def _ball(x, y, z, radius=0.5):
    return SceneObject(RoundedCylinder.sphere(radius, 0.1, sides=24), (x, y, z), _white)


@pytest.fixture(scope="module")
def ball():
    """A white ball to the right of and above the middle, seen from (0, 0, 0) along -z with y up."""
    return Renderer([_ball(0.8, 0.4, -3)], DARK)


POSE = np.eye(4)[:3]


def test_a_wide_picture_is_the_middle_of_a_square_one(ball):
    square = ball.render(POSE, 48, ANGLE, samples=2)
    wide = ball.render(POSE, (48, 24), ANGLE, samples=2)
    assert wide.shape == (24, 48, 4)
    np.testing.assert_allclose(wide, square[12:36], atol=1e-5)


def test_the_pinhole_is_that_of_the_focal_length(ball):
    """Where a point appears: cx + fl x / -z, cy - fl y / -z, as in nerfstudio's transforms.json."""
    width, height = 96, 54
    alpha = ball.render(POSE, (width, height), ANGLE, samples=2)[..., 3]
    rows, columns = np.nonzero(alpha > 0.5)
    focal = 0.5 * width / np.tan(0.5 * ANGLE)
    assert columns.mean() + 0.5 == pytest.approx(width / 2 + focal * 0.8 / 3, abs=1)
    assert rows.mean() + 0.5 == pytest.approx(height / 2 - focal * 0.4 / 3, abs=1)


def test_a_picture_does_not_depend_on_how_it_is_cut_into_bands(ball, monkeypatch):
    whole = ball.render(POSE, (40, 30), ANGLE, samples=2)
    monkeypatch.setattr(rendering, "RAYS_AT_ONCE", 40 * 4 * 7)
    np.testing.assert_allclose(ball.render(POSE, (40, 30), ANGLE, samples=2), whole, atol=1e-6)


def test_a_backdrop_fills_what_no_object_covers(ball):
    backdrop = Renderer(ball.objects, DARK, _sky)
    turned = POSE[:, [0, 2, 1, 3]] * [1, 1, -1, 1]  # looks along +y, z is up
    image = backdrop.render(turned, (16, 8), ANGLE, samples=1)
    assert (image[..., 3] == 1).all()
    np.testing.assert_allclose(image[:4, :, :3], np.broadcast_to([0, 0, 1], (4, 16, 3)), atol=1e-6)
    np.testing.assert_allclose(image[4:, :, :3], np.broadcast_to([0, 1, 0], (4, 16, 3)), atol=1e-6)
    cut, covered = ball.render(POSE, (32, 18), ANGLE, 1), backdrop.render(POSE, (32, 18), ANGLE, 1)
    here = cut[..., 3] == 1
    np.testing.assert_array_equal(covered[here], cut[here])


def test_tilt_turns_about_y_before_turn_about_z():
    item = SceneObject(RoundedBox((1.0, 1, 1), 0.1), (0, 0, 0), _white, turn=90, tilt=90)
    # z goes to x by the tilt, and x to y by the turn.
    np.testing.assert_allclose(item.rotation @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(item.rotation @ item.rotation.T, np.eye(3), atol=1e-12)
    points = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(item.to_local(points) @ item.rotation.T, points, atol=1e-12)


def test_a_tilted_boxs_mesh_lies_on_its_surface():
    item = SceneObject(RoundedBox((1.0, 0.5, 0.2), 0.1, 0.2), (1, 2, 3), _white, turn=30, tilt=40)
    np.testing.assert_allclose(signed_distance([item], item.mesh().vertices), 0, atol=1e-6)


def test_the_distance_of_a_scene_is_that_of_its_nearest_object():
    scene = [_ball(0, 0, 0), _ball(3, 0, 0, 1.0)]
    points = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 5]])
    np.testing.assert_allclose(signed_distance(scene, points), [-0.5, 0.5, 4])


def test_colours():
    np.testing.assert_allclose(linear(0, 255, 188), [0, 1, 0.503], atol=1e-3)
    low, high = np.zeros(3), np.ones(3)
    np.testing.assert_array_equal(pick(np.array([1, 0]), low, high), [high, low])
    np.testing.assert_array_equal(blend(np.array([0.25]), low, high), [[0.25] * 3])
    np.testing.assert_array_equal(blend(np.array([0.0, 1.0]), np.stack([low, low]), high), [low, high])
