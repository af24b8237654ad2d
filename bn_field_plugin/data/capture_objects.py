"""The town square of the capture: what stands where, its light, and the renderer that draws it.

Lengths are in metres; x points east, y north, z up, and the fountain stands in the middle. Seen from the walk
around the fountain, the nearest things are two metres away, the hills about 150 metres, and the sky is behind
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from bn_field_plugin.data import capture_materials as of
from bn_field_plugin.data.rendering import Albedo, Lighting, Renderer, SceneObject
from bn_field_plugin.data.shapes import RoundedBox, RoundedCylinder, Torus

LIGHTING = Lighting(
    sun=(-0.45, -0.62, 0.70),
    sun_colour=(0.92, 0.86, 0.76),
    sky_colour=(0.48, 0.54, 0.62),
    ground_colour=(0.26, 0.24, 0.22),
    occlusion_reach=2.5,
    lift=0.01,
    sun_radius=0.02,
    occlusion_rays=32,
)

PLAZA = 10.0
"""Half the width of the paved square."""

Place = tuple[float, float]


def _box(
    half: tuple[float, float, float],
    centre: tuple[float, float, float],
    look: Albedo,
    *,
    rounding: float = 0.02,
    turn: float = 0.0,
    tilt: float = 0.0,
) -> SceneObject:
    # Light varies slowly over large faces, so their mesh can be coarse.
    spacing = max(0.08, max(half) / 12)
    return SceneObject(RoundedBox(half, rounding, spacing), centre, look, turn=turn, tilt=tilt)


def _cylinder(
    radius: float, half_height: float, place: Place, bottom: float, look: Albedo, rounding: float = 0.015
) -> SceneObject:
    shape = RoundedCylinder(radius, half_height, rounding, spacing=max(0.1, half_height / 8), sides=48)
    return SceneObject(shape, (*place, bottom + half_height), look)


def _sphere(
    radius: float, centre: tuple[float, float, float], look: Albedo, gloss: float = 0.0
) -> SceneObject:
    return SceneObject(RoundedCylinder.sphere(radius, radius / 8, sides=48), centre, look, gloss=gloss)


def _house(place: Place, house: of.House, turn: float, *, slate: bool = False) -> tuple[SceneObject, ...]:
    """Walls, and a roof whose ridge runs along the house's own y axis, with a chimney."""
    half_x, half_y, half_z = house.half
    side = (half_x + 0.3) / np.sqrt(2)  # stands out beyond the walls as eaves
    tiles = (of.SLATE, of.SLATE_DARK) if slate else (of.TILE, of.TILE_DARK)
    angle = np.deg2rad(turn)
    # A third of the way along the ridge.
    chimney = (place[0] - np.sin(angle) * half_y / 3, place[1] + np.cos(angle) * half_y / 3)
    top = 2 * half_z + half_x
    return (
        _box(house.half, (*place, half_z), house, turn=turn),
        _box((side, half_y - 0.03, side), (*place, 2 * half_z), of.roof(house, *tiles), turn=turn, tilt=45),
        _box((0.3, 0.4, 0.9), (*chimney, top), of.brickwork, turn=turn),
    )


def _lamp(place: Place) -> tuple[SceneObject, ...]:
    x, y = place
    return (
        _cylinder(0.16, 0.2, place, 0, of.plain(of.IRON)),
        _cylinder(0.045, 1.6, place, 0, of.plain(of.GREEN)),
        _sphere(0.17, (x, y, 3.3), of.globe, gloss=0.2),
    )


def _tree(place: Place, size: float = 1.0) -> tuple[SceneObject, ...]:
    x, y = place
    crown = ((0, 0, 2.9, 0.95), (0.55, 0.2, 2.4, 0.6), (-0.45, 0.4, 2.45, 0.65), (-0.1, -0.6, 2.35, 0.6))
    return (
        _cylinder(0.11 * size, 1.05 * size, place, 0, of.bark),
        *(_sphere(size * r, (x + size * dx, y + size * dy, size * z), of.leaves) for dx, dy, z, r in crown),
    )


def _stall(place: Place, turn: float) -> tuple[SceneObject, ...]:
    """A market stall: a table with crates of fruit under a striped awning."""
    angle = np.deg2rad(turn)
    ahead, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])

    def at(forward: float, sideways: float) -> Place:
        x, y = np.asarray(place) + forward * ahead + sideways * along
        return float(x), float(y)

    posts = [(forward, sideways) for forward in (-0.7, 0.7) for sideways in (-1.4, 1.4)]
    crates = [(-1.0, "PLUMS", of.NAVY), (0.0, "PEARS", of.GREEN), (1.0, "MELON", of.RED)]
    return (
        _box((0.55, 1.35, 0.4), (*place, 0.4), of.planks, turn=turn),
        *(_cylinder(0.035, 1.2, at(*post), 0, of.spiral) for post in posts),
        _box((0.95, 1.6, 0.03), (*place, 2.42), of.awning, turn=turn, tilt=14),
        *(
            _box((0.3, 0.3, 0.15), (*at(0.1, shift), 0.95), of.crate(text, ink), turn=turn + 6 * shift)
            for shift, text, ink in crates
        ),
    )


def _bench(place: Place, turn: float) -> tuple[SceneObject, ...]:
    angle = np.deg2rad(turn)
    back = (place[0] - 0.22 * np.cos(angle), place[1] - 0.22 * np.sin(angle))
    return (
        _box((0.22, 0.8, 0.03), (*place, 0.45), of.planks, turn=turn),
        _box((0.03, 0.8, 0.24), (*back, 0.72), of.planks, turn=turn),
        _box((0.18, 0.06, 0.21), (*place, 0.21), of.plain(of.IRON), turn=turn),
    )


_FOUNTAIN = (
    SceneObject(RoundedCylinder(1.75, 0.12, 0.03, 0.15), (0, 0, 0.12), of.round_stones),
    SceneObject(
        RoundedCylinder(1.3, 0.3, 0.03, 0.1),
        (0, 0, 0.54),
        of.carved_basin("BATCH NORM * SHARP FIELDS * ", 1.3, 0.3),
    ),
    _cylinder(0.2, 0.75, (0, 0), 0.8, of.spiral),
    SceneObject(
        RoundedCylinder(0.62, 0.12, 0.05, 0.08), (0, 0, 2.3), of.carved_basin("* FUTURE ", 0.62, 0.12)
    ),
    SceneObject(RoundedCylinder.sphere(0.36), (0, 0, 2.76), of.zone_ball, gloss=0.25),
    SceneObject(Torus(0.5, 0.05), (0, 0, 0.9), of.spiral, gloss=0.2),
)

_HOUSES = (
    _house((-5.6, 13.4), of.House((3.4, 3.1, 3.0), "brick", of.CREAM, of.GREEN, "BAR TABAC", 1), 90),
    _house(
        (2.0, 13.6),
        of.House((3.3, 3.4, 4.1), "plaster", of.OCHRE, of.TEAL, "HOTEL DU PONT", 2),
        0,
        slate=True,
    ),
    _house((13.5, 5.4), of.House((3.3, 3.4, 3.0), "timber", of.WHITE, of.RED, "BAR", 3), 0),
    _house((13.6, -2.6), of.House((3.4, 3.2, 3.0), "plaster", of.ROSE, of.NAVY, "CINEMA", 4), 90),
    _house(
        (5.4, -13.6), of.House((3.5, 3.3, 4.0), "brick", of.CREAM, of.NAVY, "POST OFFICE", 5), 0, slate=True
    ),
    _house((-2.4, -13.4), of.House((3.2, 3.1, 3.0), "timber", of.CREAM, of.GREEN, "SHOES", 6), 90),
    _house((-9.6, -13.8), of.House((2.6, 3.0, 3.0), "plaster", of.CREAM, of.RED, "TEA", 7), 0),
    # Houses farther away, seen between the others.
    _house((24.0, 16.0), of.House((4.0, 5.0, 3.0), "plaster", of.WHITE, of.GREEN, "INN", 8), 30),
    _house((-30.0, -14.0), of.House((4.0, 6.0, 3.0), "timber", of.OCHRE, of.RED, "BARN", 9), 60),
    _house((27.0, -22.0), of.House((5.0, 4.0, 4.1), "brick", of.WHITE, of.TEAL, "MILL", 10), -20),
)


def _planter(place: Place) -> tuple[SceneObject, ...]:
    return (
        _cylinder(0.26, 0.22, place, 0, of.staves),
        _sphere(0.3, (*place, 0.62), of.leaves),
        _sphere(0.17, (*place, 1.02), of.globe, gloss=0.2),
    )


_FURNITURE: Sequence[Sequence[SceneObject]] = (
    _stall((-7.0, 4.6), -30),
    _stall((6.9, -6.3), 135),
    _lamp((5.6, 5.2)),
    _lamp((-5.4, -5.6)),
    _lamp((7.3, -1.2)),
    _lamp((-7.2, 0.4)),
    _tree((8.3, 8.4)),
    _tree((-8.6, 8.2), 1.1),
    _tree((-12.6, 3.0), 1.7),
    _tree((-13.2, -3.6), 1.5),
    _tree((-12.4, -8.6), 1.8),
    _tree((16.5, 11.5), 2.0),
    *(_planter(place) for place in ((2.1, 1.8), (-1.9, 2.0), (-2.0, -1.9), (1.8, -2.1))),
    _bench((0.2, 7.4), -90),
    _bench((7.4, 2.4), 180),
    _bench((-1.6, -7.3), 90),
    # A column of posters, barrels, a pile of crates, bollards.
    (
        _cylinder(0.55, 1.3, (-3.9, 6.9), 0, of.posters(0.55)),
        _cylinder(0.68, 0.08, (-3.9, 6.9), 2.6, of.round_stones),
        _sphere(0.3, (-3.9, 6.9, 2.95), of.globe, gloss=0.2),
    ),
    tuple(_cylinder(0.3, 0.42, place, 0, of.staves) for place in ((2.9, -8.2), (3.6, -7.9), (-8.7, -4.3))),
    (
        _box((0.4, 0.4, 0.35), (-7.5, -3.5, 0.35), of.crate("TILES", of.NAVY), turn=20),
        _box((0.35, 0.35, 0.3), (-7.4, -2.5, 0.3), of.crate("BOLTS", of.RED), turn=-12),
        _box((0.3, 0.3, 0.25), (-7.5, -3.4, 0.95), of.crate("NUTS", of.GREEN), turn=48),
    ),
    tuple(
        _cylinder(0.11, 0.4, place, 0, of.spiral, rounding=0.06)
        for place in ((6.2, 8.7), (8.6, 8.0 - 2.6), (8.9, -8.6), (-6.6, -8.8), (-9.2, 6.4))
    ),
    # The low wall in the west, with a gate in it, beyond which the land lies open.
    (
        _box((0.16, 3.6, 0.45), (-9.6, 4.6, 0.45), of.brickwork),
        _box((0.16, 3.4, 0.45), (-9.6, -5.2, 0.45), of.brickwork),
        *(_box((0.25, 0.25, 0.75), (-9.6, y, 0.75), of.brickwork) for y in (-1.6, 0.9)),
        *(_sphere(0.24, (-9.6, y, 1.7), of.zone_ball) for y in (-1.6, 0.9)),
    ),
)

_DISTANCE = (
    _box((PLAZA, PLAZA, 0.5), (0, 0, -0.5), of.plaza),
    _box((500.0, 500.0, 0.5), (0, 0, -0.58), of.meadow),
    _box((2.2, 2.2, 8.0), (-38.0, 14.0, 8.0), of.clock_tower, turn=-20),
    _box((1.7, 1.7, 1.7), (-38.0, 14.0, 16.0), of.brickwork, turn=-20, tilt=45),
    *(
        SceneObject(
            RoundedCylinder.sphere(80.0, spacing=5.0),
            (distance * np.cos(turn), distance * np.sin(turn), height - 80.0),
            of.hill,
        )
        for turn, distance, height in np.array(
            [
                (0.15, 150, 19),
                (1.05, 165, 26),
                (1.95, 150, 20),
                (2.65, 170, 30),
                (3.35, 150, 21),
                (4.10, 160, 25),
                (4.85, 155, 18),
                (5.55, 170, 28),
            ]
        )
    ),
)

OBJECTS: tuple[SceneObject, ...] = (
    *_FOUNTAIN,
    *(item for house in _HOUSES for item in house),
    *(item for group in _FURNITURE for item in group),
    *_DISTANCE,
)


@cache
def capture_renderer() -> Renderer:
    """One renderer for the whole process: building it takes some seconds.

    Raises:
        UserError: when Open3D does not load.
    """
    return Renderer(OBJECTS, LIGHTING, of.sky)
