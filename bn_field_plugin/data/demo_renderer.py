"""The demo scene: its objects and materials, its lighting, and the renderer that draws it."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from bn_field_plugin.data.rendering import (
    Lighting,
    Renderer,
    SceneObject,
    blend,
    linear,
    pick,
)
from bn_field_plugin.data.shapes import RoundedBox, RoundedCylinder, Torus
from bn_field_plugin.data.textures import (
    checker,
    look_up,
    nested_checker,
    poster,
    stripes,
    text_bitmap,
    zone_plate,
)

LIGHTING = Lighting(
    sun=(0.42, -0.50, 0.76),
    sun_colour=(0.86, 0.82, 0.75),
    sky_colour=(0.46, 0.49, 0.54),
    ground_colour=(0.27, 0.25, 0.24),
    occlusion_reach=0.8,
    lift=2e-3,
)
CREAM, SAND, INK = linear(250, 243, 228), linear(222, 190, 142), linear(24, 38, 74)
CORAL, TEAL, GOLD, PLUM = (
    linear(226, 84, 62),
    linear(20, 122, 128),
    linear(244, 180, 52),
    linear(108, 52, 104),
)


# ------------------------------------------------------------------------------------------------ materials

PLINTH_RADIUS, PLINTH_HALF = 1.0, 0.19
RIM_TEXT = text_bitmap("BATCH NORM * SHARP FIELD * ")
_TOP_LEVELS = np.array([[0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1], [3, 0, 0, 0]])


def _plinth(points: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Nested checkers inside a dial of ticks on top, lettering between stripes around the side."""
    x, y, z = points.T
    radius, turn = np.hypot(x, y), np.arctan2(y, x) / (2 * np.pi)
    dark, level = nested_checker(x / 0.25 + 0.5, y / 0.25 + 0.5, _TOP_LEVELS)
    dial = np.where(radius > 0.80, stripes(turn * 64, 2) * (radius < 0.92), radius > 0.77)
    top = np.where(radius > 0.77, dial, dark * np.where(level > 0, level, 4))
    lettering = 1 - look_up(RIM_TEXT, (turn - 0.665) % 1, (z + 0.126) / 0.252)
    side = np.where(np.abs(z) > 0.15, 3 * stripes(turn * 64, 2), lettering)
    colour = np.where(normals[:, 2] > 0.5, top, np.where(normals[:, 2] < -0.5, 4, side))
    return pick(colour, CREAM, INK, TEAL, CORAL, SAND)


_ZONE_AXIS = np.array([0.62, -0.66, 0.42]) / np.linalg.norm([0.62, -0.66, 0.42])


def _zone_sphere(_: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """A zone plate around each of two poles: rings that get finer towards the equator between them."""
    along = normals @ _ZONE_AXIS.astype(normals.dtype)
    angle = np.arccos(np.clip(np.abs(along), 0, 1))
    rings = zone_plate(angle, 13.0)
    return np.where((along > 0)[:, None], blend(rings, TEAL, CREAM), blend(rings, PLUM, CREAM))


RING = 0.25


def _ring(points: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Stripes that wind around the tube."""
    around = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi)
    tube = np.arctan2(normals[:, 2], np.hypot(points[:, 0], points[:, 1]) - RING) / (2 * np.pi)
    return pick(stripes(around * 18 + tube * 3, 3), CORAL, CREAM, GOLD)


def _post(points: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Fine checkers around, a target on top."""
    x, y, z = points.T
    side = pick(checker(np.arctan2(y, x) / (2 * np.pi) * 12, z / 0.075), CREAM, INK)
    top = pick(stripes(np.hypot(x, y) / 0.045, 2), CORAL, CREAM)
    return np.where((normals[:, 2] > 0.7)[:, None], top, side)


CUBE_HALF = 0.29
_POSTERS = (
    (poster(13, ("BN", 3, 1)), GOLD, INK),
    (poster(9, ("s", 0, 1)), CREAM, CORAL),
    (poster(13, ("BN", 3, 1)), GOLD, INK),
    (poster(9, ("m", 0, 1)), CREAM, TEAL),
)
"""Dots, paper and ink of the sides of the cube."""
_DOTS = np.array(
    [
        [0, 1, 1, 0, 2, 0, 2],
        [2, 0, 1, 2, 0, 1, 1],
        [0, 1, 2, 0, 1, 2, 0],
        [1, 2, 0, 1, 0, 0, 2],
        [0, 2, 1, 0, 2, 1, 1],
        [1, 0, 0, 2, 1, 2, 0],
        [2, 1, 1, 0, 2, 0, 1],
    ]
)


def _cube(points: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Lettering on the four sides, coloured dots on top."""
    x, y, z = (points / (2 * CUBE_HALF)).T
    cell = np.clip(((np.stack([x, y]) + 0.5) * len(_DOTS)).astype(np.int64), 0, len(_DOTS) - 1)
    colours = pick(_DOTS[cell[1], cell[0]], CREAM, INK, CORAL)
    across_x = np.abs(normals[:, 0]) > np.abs(normals[:, 1])
    side = np.where(across_x, np.where(normals[:, 0] > 0, 1, 3), np.where(normals[:, 1] > 0, 2, 0))
    side[normals[:, 2] > 0.7] = -1
    for number, (u, (dots, paper, ink)) in enumerate(zip([x, y, -x, -y], _POSTERS, strict=True)):
        here = side == number
        colours[here] = pick(look_up(dots, u[here] + 0.5, z[here] + 0.5), paper, ink)
    return colours


def _ball(_: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """Checkers of longitude and latitude."""
    turn = np.arctan2(normals[:, 1], normals[:, 0]) / (2 * np.pi)
    return pick(checker(turn * 8, np.arcsin(np.clip(normals[:, 2], -1, 1)) / (np.pi / 5) + 0.5), GOLD, PLUM)


# ---------------------------------------------------------------------------------------------- composition

FLOOR = -0.05
"""Height of the plinth's top, on which everything stands."""


OBJECTS = (
    SceneObject(RoundedCylinder(PLINTH_RADIUS, PLINTH_HALF, 0.02), (0, 0, FLOOR - PLINTH_HALF), _plinth),
    SceneObject(RoundedCylinder.sphere(0.40), (-0.40, 0.26, FLOOR + 0.40), _zone_sphere, gloss=0.25),
    SceneObject(RoundedBox((CUBE_HALF,) * 3, 0.02), (0.27, -0.36, FLOOR + CUBE_HALF), _cube, turn=24),
    SceneObject(Torus(RING, 0.08), (0.36, 0.40, FLOOR + 0.08), _ring, gloss=0.15),
    SceneObject(RoundedCylinder(0.14, 0.42, 0.015), (0.36, 0.40, FLOOR + 0.42), _post),
    SceneObject(RoundedCylinder.sphere(0.16), (-0.34, -0.46, FLOOR + 0.16), _ball, turn=15, gloss=0.15),
)


@cache
def shared_renderer() -> Renderer:
    """One renderer for the whole process: building it takes a second.

    Raises:
        UserError: when Open3D does not load.
    """
    return Renderer(OBJECTS, LIGHTING)
