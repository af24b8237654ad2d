"""What the capture's town square is made of: walls with windows, roofs, paving, wood, leaves, and its sky.

Each material is a function of positions and normals in a shape's own coordinates, in metres, with detail down
to a centimetre or two, about a pixel of the nearest views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from bn_field_plugin.data.rendering import Albedo, blend, linear, pick
from bn_field_plugin.data.textures import (
    checker,
    look_up,
    poster,
    running_bond,
    scatter,
    stripes,
    text_bitmap,
    value_noise,
    zone_plate,
)

Points = Float[ndarray, "n 3"]
Scalars = Float[ndarray, " n"]
Colour = Float[ndarray, "3"]

WHITE, CREAM, OCHRE, ROSE = (
    linear(240, 238, 230),
    linear(236, 222, 190),
    linear(222, 176, 98),
    linear(214, 150, 130),
)
BRICK, BRICK_DARK, MORTAR = linear(164, 84, 62), linear(104, 50, 42), linear(196, 186, 170)
STONE, STONE_DARK, JOINT = linear(176, 166, 148), linear(112, 104, 96), linear(62, 58, 54)
TIMBER, WOOD, WOOD_DARK = linear(66, 44, 34), linear(176, 128, 80), linear(112, 74, 44)
TILE, TILE_DARK, SLATE, SLATE_DARK = (
    linear(186, 92, 60),
    linear(110, 48, 36),
    linear(104, 114, 130),
    linear(52, 58, 70),
)
GLASS, CURTAIN = linear(36, 48, 64), linear(150, 160, 172)
GREEN, TEAL, RED, NAVY, YELLOW = (
    linear(46, 104, 74),
    linear(24, 120, 130),
    linear(196, 52, 44),
    linear(30, 42, 84),
    linear(240, 190, 60),
)
LEAF, LEAF_DARK, GRASS, GRASS_DARK, EARTH = (
    linear(124, 160, 60),
    linear(36, 70, 30),
    linear(130, 150, 74),
    linear(62, 90, 40),
    linear(150, 126, 92),
)
IRON, WATER, FOAM = linear(44, 48, 50), linear(40, 110, 130), linear(170, 214, 214)


def mottled(colour: Colour, amount: float, u: Scalars, v: Scalars, seed: int = 0) -> Points:
    """One colour, which noise of two sizes darkens by up to the share `amount`."""
    noise = 0.6 * value_noise(u, v, seed) + 0.4 * value_noise(4.3 * u, 4.3 * v, seed + 1)
    colours: ndarray = colour * (1 - amount * noise[:, None])
    return colours


def side_coordinates(points: Points, normals: Points) -> tuple[Scalars, Scalars, Bool[ndarray, " n"]]:
    """Coordinates on the upright sides of a box.

    Returns:
        Metres to the right, seen from outside; height in metres; and whether a point lies on such a side.
    """
    x, y, z = points.T
    across_x = np.abs(normals[:, 0]) > np.abs(normals[:, 1])
    u = np.where(across_x, np.where(normals[:, 0] > 0, y, -y), np.where(normals[:, 1] > 0, -x, x))
    return u, z, np.abs(normals[:, 2]) < 0.7


# -------------------------------------------------------------------------------------------------- masonry


def bricks(u: Scalars, v: Scalars, seed: int = 0) -> Points:
    """Bricks of 24 x 8 cm, each burnt differently."""
    column, row, s, t = running_bond(u / 0.24, v / 0.08)
    colours = blend(scatter(column, row, seed) ** 2, BRICK, BRICK_DARK)
    colours[(s < 0.06) | (t < 0.16)] = MORTAR
    return colours


def plaster(u: Scalars, v: Scalars, colour: Colour, seed: int = 0) -> Points:
    """Stained plaster that came off in places, where the bricks show."""
    colours = mottled(colour, 0.3, 2.5 * u, 2.5 * v, seed)
    bare = value_noise(0.9 * u + 7, 0.9 * v, seed + 2) + 0.25 * value_noise(6 * u, 6 * v, seed + 3) > 1.0
    colours[bare] = bricks(u[bare], v[bare], seed)
    return colours


def timber_frame(u: Scalars, v: Scalars, colour: Colour, seed: int = 0) -> Points:
    """Dark beams, some of them aslant, with plaster between."""
    s, t = u % 1.3, v % 1.35
    slanted = (np.abs(s / 1.3 - t / 1.35) < 0.07) & (
        scatter(np.floor(u / 1.3), np.floor(v / 1.35), seed) < 0.4
    )
    beams = (s < 0.16) | (t < 0.16) | slanted
    colours = mottled(colour, 0.25, 3 * u, 3 * v, seed)
    colours[beams] = mottled(TIMBER, 0.5, 14 * u[beams], 14 * v[beams], seed)
    return colours


_WALLS = {"brick": lambda u, v, _, seed: bricks(u, v, seed), "plaster": plaster, "timber": timber_frame}

STOREY, WINDOW_PITCH = 2.7, 1.7


@dataclass(frozen=True, eq=False)
class House:
    """The look of a house's four sides: a plinth, a shop's sign, a door, rows of windows with shutters.

    Attributes:
        half: half extents of the walls.
        wall: brick, plaster or timber.
        colour: colour of the plaster.
        shutters: colour of the shutters, the door and the sign.
        sign: lettering over the door.
        seed: seed of the noise, so that each house is stained differently.
    """

    half: tuple[float, float, float]
    wall: str
    colour: Colour
    shutters: Colour
    sign: str
    seed: int

    def __call__(self, points: Points, normals: Points) -> Points:
        """Colours of the walls."""
        u, z, upright = side_coordinates(points, normals)
        v = z + self.half[2]
        colours = _WALLS[self.wall](u, v, self.colour, self.seed)
        colours[~upright] = STONE_DARK

        # Distances to the nearest window's middle, and whether there is a window.
        column, storey = np.floor(u / WINDOW_PITCH + 0.5), np.floor(v / STOREY)
        x, y = u - column * WINDOW_PITCH, v - storey * STOREY - 1.55
        half_side = np.where(np.abs(normals[:, 0]) > np.abs(normals[:, 1]), self.half[1], self.half[0])
        there = (
            upright
            & (np.abs(column) * WINDOW_PITCH + 0.85 < half_side)
            & (storey * STOREY + 2.45 < 2 * self.half[2])
        )
        door = there & (storey == 0) & (column == 0)
        y = np.where(door, y + 0.45, y)
        tall = np.where(door, 1.1, 0.66)
        window = there & (np.abs(x) < 0.42) & (np.abs(y) < tall)
        shutter = there & ~door & (np.abs(x) >= 0.42) & (np.abs(x) < 0.78) & (np.abs(y) < tall)
        self._fill_openings(colours, window, shutter, door, x, y, column + 5 * storey)
        sill = there & (np.abs(x) < 0.55) & (np.abs(y + tall + 0.06) < 0.06) & ~door
        colours[sill] = STONE

        plinth = upright & (v < 0.45) & ~window
        colours[plinth] = _stones(u[plinth], v[plinth], 0.45, 0.225, self.seed)
        dots = text_bitmap(self.sign)
        wide = dots.shape[1] * 0.36 / 7
        board = upright & (np.abs(u) < wide / 2 + 0.15) & (np.abs(v - 2.55) < 0.26)
        letters = look_up(dots, u[board] / wide + 0.5, (v[board] - 2.55) / 0.36 + 0.5)
        colours[board] = pick(letters, self.shutters, CREAM)
        return colours

    def _fill_openings(
        self,
        colours: Points,
        window: Bool[ndarray, " n"],
        shutter: Bool[ndarray, " n"],
        door: Bool[ndarray, " n"],
        x: Scalars,
        y: Scalars,
        number: Scalars,
    ) -> None:
        """Paint windows, shutters and doors into the colours of a wall."""
        frame = (np.abs(x) > 0.36) | (np.abs(y) > 0.60) | (np.abs(x) < 0.025) | (np.abs(y % 0.4 - 0.2) < 0.02)
        drawn = np.abs(x) > 0.16 + 0.14 * scatter(number, number, self.seed)
        folds = 0.5 + 0.5 * np.sin(60 * x)
        pane = np.where((drawn & (y > -0.5))[:, None], blend(folds, CURTAIN, WHITE), GLASS)
        colours[window] = np.where(frame[:, None], WHITE, pane)[window]
        slats = np.where(stripes(y[shutter] / 0.035, 2)[:, None] == 0, self.shutters, 0.45 * self.shutters)
        edge = (np.abs(x[shutter]) > 0.74) | (np.abs(y[shutter]) > 0.62) | (np.abs(x[shutter]) < 0.46)
        colours[shutter] = np.where(edge[:, None], self.shutters, slats)
        here = window & door
        planks = stripes(x[here] / 0.07, 2)[:, None] == 0
        glazed = (np.abs(x[here]) < 0.28) & (np.abs(y[here] - 0.6) < 0.3)
        panes = checker(x[here] / 0.14, y[here] / 0.15)
        leaf = np.where(planks, self.shutters, 0.6 * self.shutters)
        colours[here] = np.where(glazed[:, None], pick(panes, GLASS, CURTAIN), leaf)


def roof(wall: House, tile: Colour, dark: Colour) -> Albedo:
    """The look of a roof, a box tilted by 45 degrees about y: tiles, and gables like the walls."""

    def look(points: Points, normals: Points) -> Points:
        x, y, z = points.T
        gable = np.abs(normals[:, 1]) > 0.7
        down = np.where(np.abs(normals[:, 2]) > np.abs(normals[:, 0]), x, -z)
        column, row, s, t = running_bond(y / 0.21, down / 0.26)
        # Each tile throws a shadow on the one below it.
        colours: Points = (
            blend(0.8 * scatter(column, row, wall.seed), tile, dark) * (0.35 + 0.65 * np.sqrt(t))[:, None]
        )
        colours[np.abs(s - 0.5) > 0.45] *= 0.4
        u, v = (x[gable] + z[gable]) / np.sqrt(2), (z[gable] - x[gable]) / np.sqrt(2)
        front = _WALLS[wall.wall](u, v, wall.colour, wall.seed)
        radius = np.hypot(u, v - 0.9)
        front[radius < 0.5] = WHITE
        spokes = (radius < 0.4) & (np.abs(np.sin(4 * np.arctan2(v - 0.9, u))) > 0.15)
        front[spokes] = GLASS
        colours[gable] = front
        return colours

    return look


def brickwork(points: Points, normals: Points) -> Points:
    """A brick wall or chimney under a stone."""
    u, v, upright = side_coordinates(points, normals)
    return np.where(upright[:, None], bricks(u, v), STONE)


def _stones(u: Scalars, v: Scalars, width: float, height: float, seed: int = 0) -> Points:
    """Hewn stones, one in four of them dark."""
    column, row, s, t = running_bond(u / width, v / height)
    shade = 0.8 * scatter(column, row, seed) ** 2
    colours: Points = (
        blend(shade, STONE, STONE_DARK) * (0.8 + 0.2 * value_noise(20 * u, 20 * v, seed))[:, None]
    )
    colours[(s < 0.02 / width) | (t < 0.02 / height)] = JOINT
    return colours


# --------------------------------------------------------------------------------------------------- ground


def plaza(points: Points, _: Points) -> Points:
    """Paving of 16 cm in a border of slabs; around the fountain, rings of checkers and a compass rose."""
    x, y, _ = points.T
    radius, turn = np.hypot(x, y), np.arctan2(y, x) / (2 * np.pi)
    column, row, s, t = running_bond(x / 0.16, y / 0.16)
    colours = blend(scatter(column, row) ** 1.5, STONE, STONE_DARK)
    colours[(s < 0.11) | (t < 0.11)] = JOINT
    slabs = np.maximum(np.abs(x), np.abs(y)) > 7.9
    colours[slabs] = _stones(x[slabs], y[slabs], 0.8, 0.4, 3)
    drain = np.abs(np.maximum(np.abs(x), np.abs(y)) - 7.8) < 0.1
    colours[drain] = pick(stripes((x + y)[drain] / 0.05, 2), IRON, STONE)
    rings = (radius > 2.0) & (radius < 3.9)
    band = np.floor((radius - 2.0) / 0.19)
    dark = checker(turn * 96, band)
    star = np.abs((turn * 8) % 1 - 0.5) * 2 > (radius - 2.2) / 1.0
    mosaic = np.where(
        band < 1, 0, np.where(band > 8, 2 * stripes(turn * 160, 2), np.where(star & (band < 7), 3, dark))
    )
    colours[rings] = pick(mosaic[rings], CREAM, NAVY, BRICK, TEAL)
    return colours


def meadow(points: Points, _: Points) -> Points:
    """Grass with paths of earth, coarser the farther it lies."""
    x, y, _ = points.T
    blades = 0.5 * value_noise(9 * x, 9 * y, 5) + 0.5 * value_noise(1.7 * x, 1.7 * y, 6)
    colours = blend(blades, GRASS_DARK, GRASS)
    path = np.abs(y - 5 * np.sin(x / 15)) < 1.2 + 0.4 * value_noise(x, y, 7)
    colours[path] = mottled(EARTH, 0.5, 6 * x[path], 6 * y[path], 8)
    return colours


def hill(points: Points, normals: Points) -> Points:
    """Fields, hedges and woods in patches."""
    x, y = points[:, 0], points[:, 1]
    s, t = x + 5 * value_noise(x / 16, y / 16, 9), y + 5 * value_noise(x / 16, y / 16, 10)
    patch = scatter(np.floor(s / 9), np.floor(t / 7), 11)
    colours = pick(np.floor(patch * 5), GRASS, LEAF_DARK, OCHRE, GRASS_DARK, LEAF)
    colours *= (0.65 + 0.35 * value_noise(1.5 * x, 1.5 * y, 12) * (1 + (stripes(s / 0.9, 2) == 0)))[:, None]
    colours[(s % 9 < 0.7) | (t % 7 < 0.7)] = LEAF_DARK
    haze = np.array([0.40, 0.50, 0.62], np.float32)
    return np.clip(0.7 * colours + 0.3 * haze, 0, 1)


# -------------------------------------------------------------------------------------------------- objects


def carved_basin(text: str, radius: float, half_height: float) -> Albedo:
    """A round basin: lettering carved around, checkers on the rim, rippling water within."""
    dots = text_bitmap(text)

    def look(points: Points, normals: Points) -> Points:
        x, y, z = points.T
        turn, distance = np.arctan2(y, x) / (2 * np.pi), np.hypot(x, y)
        letters = look_up(dots, turn % 1, z / (1.3 * half_height) + 0.5)
        side = np.where(np.abs(z) > 0.72 * half_height, 2 * stripes(turn * 90, 2), letters)
        colours = pick(side, CREAM, NAVY, BRICK)
        top = normals[:, 2] > 0.7
        ripples = 0.5 + 0.5 * np.sin(26 * distance + 5 * value_noise(5 * x, 5 * y, 13))
        water = blend(ripples**3, WATER, FOAM)
        rim = pick(checker(turn * 60, distance / 0.09), STONE, STONE_DARK)
        colours[top] = np.where((distance > radius - 0.27)[:, None], rim, water)[top]
        return colours

    return look


def round_stones(points: Points, normals: Points) -> Points:
    """Hewn stones laid around, and in rings on top."""
    x, y, z = points.T
    turn, distance = np.arctan2(y, x), np.hypot(x, y)
    flat = np.abs(normals[:, 2]) > 0.7
    around = np.where(flat, turn * 1.7, turn * distance)
    return _stones(around, np.where(flat, distance, z), 0.3, 0.16, 4)


def spiral(points: Points, _: Points) -> Points:
    """Coloured bands that wind up a column."""
    turn = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi)
    return pick(stripes(4 * turn + points[:, 2] / 0.06, 4), CREAM, RED, CREAM, NAVY)


def zone_ball(_: Points, normals: Points) -> Points:
    """A zone plate around the top, finer towards the equator."""
    return blend(zone_plate(np.arccos(np.clip(np.abs(normals[:, 2]), 0, 1)), 11.0), TEAL, CREAM)


def globe(_: Points, normals: Points) -> Points:
    """Checkers of longitude and latitude."""
    turn = np.arctan2(normals[:, 1], normals[:, 0]) / (2 * np.pi)
    return pick(checker(turn * 16, np.arcsin(np.clip(normals[:, 2], -1, 1)) / (np.pi / 9)), YELLOW, NAVY)


def plain(colour: Colour) -> Albedo:
    """One colour, slightly worn."""
    return lambda points, _: mottled(colour, 0.35, 9 * points[:, 0] + 3 * points[:, 1], 9 * points[:, 2])


def planks(points: Points, normals: Points) -> Points:
    """Boards of 9 cm with their grain."""
    u, v, upright = side_coordinates(points, normals)
    u, v = np.where(upright, u, points[:, 0]), np.where(upright, v, points[:, 1])
    board = np.floor(v / 0.09)
    grain = value_noise(3 * u + 9 * board, 90 * v, 14)
    colours = blend(0.7 * grain + 0.3 * scatter(board, board), WOOD, WOOD_DARK)
    colours[v / 0.09 - board < 0.1] = TIMBER
    return colours


def staves(points: Points, _: Points) -> Points:
    """A barrel: staves and iron hoops."""
    x, y, z = points.T
    turn = np.arctan2(y, x) / (2 * np.pi) * 22
    colours = blend(value_noise(7 * turn, 3 * z, 15), WOOD, WOOD_DARK)
    colours[turn % 1 < 0.1] = TIMBER
    colours[np.abs(np.abs(z) - 0.25) < 0.035] = IRON
    return colours


def crate(text: str, ink: Colour) -> Albedo:
    """Boards with a stencil on each side, and fruit on top."""
    dots = poster(6 * len(text) + 3, (text, (6 * len(text) - 4) // 2, 1))

    def look(points: Points, normals: Points) -> Points:
        u, v, upright = side_coordinates(points, normals)
        colours = planks(points, normals)
        colours[look_up(dots, u / 0.6 + 0.5, v / 0.6 + 0.5) & upright] = ink
        s, t = points[:, 0] / 0.085, points[:, 1] / 0.085
        fruit = np.hypot(s % 1 - 0.5, t % 1 - 0.5) < 0.46
        kind = np.floor(3 * scatter(np.floor(s), np.floor(t), 16))
        top = normals[:, 2] > 0.7
        colours[top] = np.where(fruit[:, None], pick(kind, RED, YELLOW, LEAF), TIMBER)[top]
        return colours

    return look


def awning(points: Points, _: Points) -> Points:
    """Broad stripes with a thin line beside each."""
    phase = points[:, 1] / 0.22
    return np.where((np.abs(phase % 1 - 0.5) > 0.45)[:, None], NAVY, pick(stripes(phase, 2), RED, CREAM))


def posters(radius: float) -> Albedo:
    """Bills with lettering pasted around a column, no two neighbours alike."""
    designs = (
        (poster(40, ("BN", 3, 2), ("CINEMA", 21, 1), bars=((32, 30), (35, 24))), YELLOW, NAVY),
        (poster(40, ("CIRCUS", 3, 1), ("FUN", 14, 2), bars=((31, 34), (36, 20))), CREAM, RED),
        (poster(40, ("THE", 2, 1), ("SEA", 11, 2), bars=((28, 28), (31, 34), (34, 22))), TEAL, CREAM),
        (poster(40, ("NORM", 4, 1), ("m s", 15, 2), bars=((33, 36), (36, 36))), WHITE, NAVY),
    )

    def look(points: Points, normals: Points) -> Points:
        turn = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) * 4
        side, row = np.floor(turn), np.floor(points[:, 2] / (radius * np.pi / 2))
        s, t = (turn - side) * 1.1 - 0.05, points[:, 2] / (radius * np.pi / 2) - row
        t = 1.1 * t - 0.05
        number = (side + 2 * row) % 4
        colours = plain(GREEN)(points, normals)
        paper = (np.abs(s - 0.5) < 0.5) & (np.abs(t - 0.5) < 0.5) & (np.abs(normals[:, 2]) < 0.7)
        for index, (dots, back, ink) in enumerate(designs):
            here = paper & (number == index)
            colours[here] = pick(look_up(dots, s[here], t[here]), back, ink)
        return colours

    return look


def leaves(points: Points, normals: Points) -> Points:
    """Leaves of 3 cm, in light and dark clumps."""
    x, y, z = points.T
    flat = np.abs(normals[:, 2]) > 0.7
    u = np.where(flat, x, np.arctan2(y, x) * np.hypot(x, y))
    v = np.where(flat, y, z)
    column, row, s, t = running_bond(u / 0.05, v / 0.035)
    leaf = np.abs(s - 0.5) + np.abs(t - 0.5) < 0.55
    shade = 0.6 * scatter(column, row, 17) + 0.4 * value_noise(4 * u, 4 * v, 18)
    return np.where(leaf[:, None], blend(shade, LEAF_DARK, LEAF), 0.6 * LEAF_DARK)


def bark(points: Points, _: Points) -> Points:
    """Furrows along a trunk."""
    turn = np.arctan2(points[:, 1], points[:, 0])
    return blend(value_noise(6 * turn, 4 * points[:, 2], 19), TIMBER, WOOD)


def clock_tower(points: Points, normals: Points) -> Points:
    """A tower of stones, a clock near the top of each side, slits below."""
    u, v, upright = side_coordinates(points, normals)
    colours = _stones(u, v, 0.9, 0.45, 20)
    radius, turn = np.hypot(u, v - 5.5), np.arctan2(v - 5.5, u) / (2 * np.pi)
    face = upright & (radius < 1.5)
    ticks = (radius > 1.05) & (np.abs((turn * 12 + 0.5) % 1 - 0.5) < 0.12)
    hands = (np.abs(u) < 0.1) & (v > 5.4) & (v < 6.5) | (np.abs(v - 5.5) < 0.1) & (u > 0) & (u < 0.8)
    colours[face] = pick(ticks | hands | (radius > 1.38), WHITE, NAVY)[face]
    colours[upright & (np.abs(u) < 0.25) & (np.abs(v % 4 - 1.5) < 0.8) & (v < 3.4)] = JOINT
    return colours


# ------------------------------------------------------------------------------------------------------ sky

_ZENITH = np.array([0.14, 0.30, 0.66], np.float32)
_HORIZON = np.array([0.62, 0.74, 0.86], np.float32)
_CLOUD = np.array([0.95, 0.94, 0.92], np.float32)


def sky(directions: Points) -> Points:
    """Blue that pales towards the horizon, and clouds of two sizes; infinitely far away."""
    x, y, z = directions.T
    up = np.maximum(z, 0)
    u, v = x / (up + 0.12), y / (up + 0.12)
    density = (
        0.55 * value_noise(1.3 * u, 1.3 * v, 21)
        + 0.3 * value_noise(3.7 * u, 3.7 * v, 22)
        + 0.15 * value_noise(9 * u, 9 * v, 23)
    )
    cover = np.clip((density - 0.5) / 0.2, 0, 1) * np.clip(up / 0.15, 0, 1)
    return blend(0.9 * cover, blend(np.sqrt(up), _HORIZON, _ZENITH), _CLOUD)
