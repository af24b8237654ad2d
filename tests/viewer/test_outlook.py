"""The first view: a training camera with the scene in sight."""

from __future__ import annotations

import math

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from bn_field_plugin.viewer.outlook import field_of_view, focus, sights, widest


def looking(places: list[list[float]], targets: list[list[float]], focal: float = 20.0) -> Cameras:
    """Upright cameras with pictures of 16 x 12 pixels at given places, which look at given targets."""
    poses = []
    for place, target in zip(torch.tensor(places), torch.tensor(targets), strict=True):
        back = torch.nn.functional.normalize(place - target, dim=0)
        right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 0, 1]), back), dim=0)
        poses.append(torch.stack([right, torch.linalg.cross(back, right), back, place], dim=1))
    return Cameras(torch.stack(poses), focal, focal, 8.0, 6.0, 16, 12)


RING = [[4.0, 0, 1], [0, 4, 1], [-4, 0, 1], [0, -4, 1]]


def test_cameras_in_a_ring_look_at_its_middle() -> None:
    cameras = looking(RING, [[0.5, 0.5, 0]] * 4)
    assert torch.allclose(focus(cameras), torch.tensor([0.5, 0.5, 0]), atol=1e-4)
    index, target = widest(cameras)
    assert index == 2  # it is one of the two that stand further away
    assert torch.allclose(target, torch.tensor([0.5, 0.5, 0]), atol=1e-4)


def test_the_ball_touches_the_border_of_the_picture() -> None:
    """The camera looks at the ball's centre, and the ball is as wide as the shorter side."""
    cameras = looking([[5.0, 0, 0]], [[0, 0, 0]])
    (radius,) = sights(cameras, torch.zeros(3))
    assert float(radius) == pytest.approx(5 * math.sin(math.atan(6 / 20)), rel=1e-5)


def test_looking_away_holds_nothing_and_is_not_chosen() -> None:
    cameras = looking([*RING, [20.0, 20, 1]], [[0, 0, 0]] * 4 + [[40, 40, 1]])
    found = sights(cameras, torch.zeros(3))
    assert found[:4].gt(0).all() and found[4] < 0
    assert widest(cameras)[0] == 0


def test_sight_grows_with_the_scene() -> None:
    small, large = (looking([[s * x for x in p] for p in RING], [[0, 0, 0]] * 4) for s in (1, 10))
    torch.testing.assert_close(sights(large, torch.zeros(3)), 10 * sights(small, torch.zeros(3)))


def test_a_single_camera_and_parallel_ones_have_an_outlook() -> None:
    for places in ([[1.0, 2, 3]], [[0.0, y, 0] for y in range(3)]):
        cameras = looking(places, [[p[0] - 5, p[1], p[2]] for p in places])
        index, target = widest(cameras)
        assert 0 <= index < len(places)
        assert target.isfinite().all()


@pytest.mark.parametrize("aspect", [0.5, 16 / 12, 3.0])
def test_the_window_shows_the_whole_photograph(aspect: float) -> None:
    cameras = looking(RING, [[0, 0, 0]] * 4)
    high = math.tan(field_of_view(cameras, 1, aspect) / 2)
    assert high >= 6 / 20 - 1e-6 and high * aspect >= 8 / 20 - 1e-6
    assert min(high - 6 / 20, high * aspect - 8 / 20) == pytest.approx(0, abs=1e-6)
