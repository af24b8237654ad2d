"""Where the capture's photographer stands and looks, and how wrongly the poses are known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

LOOPS = ((4.7, 1.55, 0.0, -3.0), (3.4, 2.15, 140.0, -2.0))
"""Of each loop around the fountain: its radius and the camera's height, in metres, and the angles by which
the camera is turned from the fountain and raised above the horizon, in degrees. The first loop looks at the
fountain, the second away from it."""
EXTENT = 2 * LOOPS[0][0]
"""Size of the walk in metres; errors of position are given in per cent of it."""
_UNSTEADY = {"position": (0.2, 0.2, 0.06), "aim": (7.0, 3.0, 1.5)}
"""Standard deviations of a hand-held camera: metres along x, y and z; degrees of turn, pitch and roll."""
_SEED = 7


def walk(count: int) -> Float[ndarray, "n 4 4"]:
    """Camera-to-world matrices in the order of the walk: cameras look along -z, y is up, x right.

    Args:
        count: how many views, half of them in each loop.
    """
    random = np.random.default_rng(_SEED)
    poses = []
    for number, (radius, height, aside, pitch) in enumerate(LOOPS):
        views = (count + 1 - number) // 2
        for turn in 2 * np.pi * (np.arange(views) + 0.5 * number) / max(views, 1):
            place = np.array([radius * np.cos(turn), radius * np.sin(turn), height])
            yaw, raised, roll = random.normal([aside, pitch, 0], _UNSTEADY["aim"])
            pose = np.eye(4)
            pose[:3, :3] = _look(turn + np.pi + np.deg2rad(yaw), np.deg2rad(raised), np.deg2rad(roll))
            pose[:3, 3] = place + random.normal(scale=_UNSTEADY["position"])
            poses.append(pose)
    return np.array(poses)


def with_errors(poses: Float[ndarray, "n 4 4"], error: float) -> Float[ndarray, "n 4 4"]:
    """Poses as structure from motion finds them: each has an error of its own; every call gives equal poses.

    Args:
        poses: the true ones.
        error: root mean square of the angle that a pose is turned by, in degrees, and of the distance that it
            is moved by, in per cent of the walk's extent.
    """
    random = np.random.default_rng(_SEED + 1)
    result = poses.copy()
    for pose in result:
        turn, shift = random.normal(scale=error / np.sqrt(3), size=(2, 3))
        pose[:3, :3] = _rotation(np.deg2rad(turn)) @ pose[:3, :3]
        pose[:3, 3] += shift / 100 * EXTENT
    return result


def _look(turn: float, raised: float, roll: float) -> Float[ndarray, "3 3"]:
    """Axes of a camera that looks towards an azimuth and height, its horizon tilted by `roll`."""
    backward = -np.array([np.cos(raised) * np.cos(turn), np.cos(raised) * np.sin(turn), np.sin(raised)])
    right = np.array([np.sin(turn), -np.cos(turn), 0])
    up = np.cross(backward, right)
    return np.stack(
        [np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right, backward], axis=1
    )


def _rotation(vector: Float[ndarray, "3"]) -> Float[ndarray, "3 3"]:
    """Rotation about a vector, by as many radians as the vector is long (Rodrigues' formula)."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: ndarray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation
