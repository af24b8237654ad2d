"""The walk: rigid poses inside the square, and errors of the size that was asked for."""

import numpy as np
import pytest

from bn_field_plugin.data.capture_objects import OBJECTS
from bn_field_plugin.data.capture_walk import EXTENT, LOOPS, walk, with_errors
from tests.data.surfaces import signed_distance


def _angles(first, second):
    """Angle in degrees between the orientations of poses."""
    trace = np.einsum("nij,nij->n", first[:, :3, :3], second[:, :3, :3])
    return np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


@pytest.mark.parametrize("poses", [walk(50), with_errors(walk(50), 2.0)], ids=["true", "wrong"])
def test_poses_are_rigid(poses):
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (50, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    np.testing.assert_array_equal(poses[:, 3], np.tile([0, 0, 0, 1], (50, 1)))


@pytest.mark.parametrize("count", [8, 50, 51, 200])
def test_no_camera_stands_in_or_too_near_to_anything(count):
    poses = walk(count)
    assert len(poses) == count
    assert signed_distance(OBJECTS, poses[:, :3, 3]).min() > 0.8


def test_cameras_are_held_upright_by_an_unsteady_hand():
    poses = walk(50)
    assert (poses[:, 2, 1] > 0.95).all()
    roll = np.rad2deg(np.arcsin(poses[:, 2, 0]))
    assert 0.5 < np.std(roll) < 3


def test_the_first_loop_looks_at_the_fountain_and_the_second_away_from_it():
    poses = walk(50)
    towards = -poses[:, :2, 3] / np.linalg.norm(poses[:, :2, 3], axis=1, keepdims=True)
    facing = np.einsum("ni,ni->n", -poses[:, :2, 2], towards)
    assert (facing[:25] > np.cos(np.deg2rad(30))).all()
    assert (facing[25:] < -0.3).all()
    heights = poses[:, 2, 3]
    assert abs(heights[:25].mean() - LOOPS[0][1]) < 0.1
    assert abs(heights[25:].mean() - LOOPS[1][1]) < 0.1


def test_every_direction_is_seen_by_several_views():
    """Azimuths of the middles of views, all around, without a gap as wide as half a view."""
    azimuths = np.sort(np.rad2deg(np.arctan2(-walk(50)[:, 1, 2], -walk(50)[:, 0, 2])))
    gaps = np.diff([*azimuths, azimuths[0] + 360])
    assert gaps.max() < 36


@pytest.mark.parametrize("error", [0.05, 0.2, 1.0])
def test_errors_have_the_size_that_was_asked_for(error):
    true = walk(2000)
    wrong = with_errors(true, error)
    angles = _angles(true, wrong)
    shifts = np.linalg.norm((wrong - true)[:, :3, 3], axis=1)
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(error, rel=0.03)
    assert np.sqrt(np.mean(shifts**2)) == pytest.approx(error / 100 * EXTENT, rel=0.03)
    np.testing.assert_allclose((wrong - true)[:, :3, 3].mean(axis=0), 0, atol=0.003 * error)  # without bias


def test_no_error_gives_the_true_poses_and_errors_are_the_same_at_each_call():
    poses = walk(20)
    np.testing.assert_allclose(with_errors(poses, 0.0), poses, atol=1e-15)
    before = poses.copy()
    np.testing.assert_array_equal(with_errors(poses, 0.1), with_errors(poses, 0.1))
    np.testing.assert_array_equal(poses, before)
