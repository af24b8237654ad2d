"""Materials: colours in range everywhere, the same at every call, and full of fine detail."""

import numpy as np
import pytest

from bn_field_plugin.data import capture_materials as of
from bn_field_plugin.data.capture_objects import OBJECTS

MATERIALS = {item.albedo: item for item in OBJECTS}


def _surface(item, count=2000):
    """Points of an object's mesh and their normals, in its own coordinates."""
    mesh = item.shape.mesh()
    random = np.random.default_rng(0)
    corners = mesh.vertices[mesh.faces[random.integers(len(mesh.faces), size=count)]]
    points = np.einsum("nk,nkc->nc", random.dirichlet(np.ones(3), count), corners).astype(np.float32)
    return points, item.shape.normal(points)


@pytest.mark.parametrize(
    "item", MATERIALS.values(), ids=lambda item: getattr(item.albedo, "__name__", "house")
)
def test_colours_are_in_range_and_depend_on_the_point_alone(item):
    points, normals = _surface(item)
    colours = item.albedo(points, normals)
    assert colours.shape == points.shape
    assert np.isfinite(colours).all()
    assert 0 <= colours.min() <= colours.max() <= 1
    assert (colours.std(axis=0) / colours.mean(axis=0)).max() > 0.05
    # Rounding depends on where numpy's vector instructions begin, which differs from array to array.
    np.testing.assert_allclose(item.albedo(points[::3], normals[::3]), colours[::3], rtol=0, atol=1e-5)


def _facade(u, v, half=(3.3, 3.4, 3.0)):
    """Points on the south side (-y) of a house, u to the right seen from outside, v above the ground."""
    points = np.stack([u, np.full_like(u, -half[1]), v - half[2]], axis=1)
    return points, np.tile([0.0, -1, 0], (len(u), 1))


def test_a_house_has_its_door_below_its_sign_and_glass_in_its_windows():
    house = of.House((3.3, 3.4, 3.0), "plaster", of.OCHRE, of.TEAL, "HI", 1)
    u, v = np.array([0.3, 0.45, 1.7 + 0.5]), np.array([0.5, 2.55, 1.55])
    door, board, shutter = house(*_facade(u, v))
    assert np.isclose(door / of.TEAL, 1).all() or np.isclose(door / of.TEAL, 0.6).all()
    np.testing.assert_allclose(board, of.TEAL)  # right of the lettering
    assert (np.abs(shutter - of.OCHRE).max() > 0.1).all()
    grid = np.meshgrid(np.linspace(1.4, 2.0, 30), np.linspace(1.0, 2.1, 30))
    window = house(*_facade(*(part.reshape(-1) for part in grid)))
    assert np.isclose(window, of.GLASS).all(axis=1).mean() > 0.15
    assert np.isclose(window, of.WHITE).all(axis=1).mean() > 0.1  # its bars


@pytest.mark.parametrize("side", range(4))
def test_lettering_reads_from_left_to_right_on_every_side(side):
    """The sign `LI` has its L, the heavier letter below, on the left seen from outside."""
    house = of.House((3.0, 3.0, 3.0), "plaster", of.OCHRE, of.NAVY, "LI", 1)
    outward = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[side]
    rightward = np.array([-outward[1], outward[0]])
    u = np.linspace(-0.35, -0.05, 40)  # the L; its foot lies low
    for v, lit in ((2.55 - 0.155, True), (2.55 + 0.155, False)):
        flat = 3 * outward + u[:, None] * rightward
        points = np.concatenate([flat, np.full((40, 1), v - 3.0)], axis=1)
        normals = np.tile([*outward, 0.0], (40, 1))
        cream = np.isclose(house(points, normals), of.CREAM).all(axis=1)
        assert (cream.mean() > 0.5) == lit


def test_the_sky_is_blue_above_pale_at_the_horizon_and_nowhere_broken():
    random = np.random.default_rng(0)
    directions = random.normal(size=(4000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    light = of.sky(directions.astype(np.float32))
    assert np.isfinite(light).all()
    assert 0 <= light.min() <= light.max() <= 1
    clear = light[directions[:, 2] > 0.5]
    assert (clear[:, 2] >= clear[:, 0]).mean() > 0.9
    assert light[np.abs(directions[:, 2]) < 0.02].mean() > clear.mean()
