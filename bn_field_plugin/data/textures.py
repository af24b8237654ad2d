"""Fine procedural textures of the rendered scenes: checkers, rings, bricks, noise, lettering in dots.

A pattern is a function of surface coordinates that tells the colour at each point: by the number of the
colour, or by a weight in [0, 1] with which two colours are blended.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

GLYPHS = {
    "A": ".###. #...# #...# ##### #...# #...# #...#",
    "B": "####. #...# #...# ####. #...# #...# ####.",
    "C": ".###. #...# #.... #.... #.... #...# .###.",
    "D": "####. #...# #...# #...# #...# #...# ####.",
    "E": "##### #.... #.... ####. #.... #.... #####",
    "F": "##### #.... #.... ####. #.... #.... #....",
    "H": "#...# #...# #...# ##### #...# #...# #...#",
    "I": ".###. ..#.. ..#.. ..#.. ..#.. ..#.. .###.",
    "L": "#.... #.... #.... #.... #.... #.... #####",
    "M": "#...# ##.## #.#.# #.#.# #...# #...# #...#",
    "N": "#...# ##..# #.#.# #.#.# #..## #...# #...#",
    "O": ".###. #...# #...# #...# #...# #...# .###.",
    "P": "####. #...# #...# ####. #.... #.... #....",
    "R": "####. #...# #...# ####. #.#.. #..#. #...#",
    "S": ".#### #.... #.... .###. ....# ....# ####.",
    "T": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
    "U": "#...# #...# #...# #...# #...# #...# .###.",
    "m": "..... ..... #...# #...# #..## ###.# #....",
    "s": "..... ..... .#### #..#. #...# #...# .###.",
    "*": "..... ..#.. .###. ##### .###. ..#.. .....",
    " ": "..... ..... ..... ..... ..... ..... .....",
}
"""Letters as seven rows of five dots; the small m and s are Greek: mu and sigma."""
GLYPH_HEIGHT = 7
GLYPH_PITCH = 6
"""Columns from one letter to the next: five dots and a gap."""


def text_bitmap(text: str) -> Bool[ndarray, "7 w"]:
    """One line of text as dots, top row first, with one empty column after each letter.

    Raises:
        KeyError: for a letter that the font lacks.
    """
    bitmap = np.zeros((GLYPH_HEIGHT, GLYPH_PITCH * len(text)), dtype=bool)
    for position, letter in enumerate(text):
        rows = [[dot == "#" for dot in row] for row in GLYPHS[letter].split()]
        bitmap[:, GLYPH_PITCH * position : GLYPH_PITCH * position + 5] = rows
    return bitmap


def poster(
    size: int, *lines: tuple[str, int, int], bars: tuple[tuple[int, int], ...] = ()
) -> Bool[ndarray, "s s"]:
    """A square of dots with centred lines of text.

    Args:
        size: dots per side.
        *lines: text, top row, and magnification of each line.
        bars: top row and width of horizontal bars, one dot high, centred.
    """
    dots = np.zeros((size, size), dtype=bool)
    for text, top, scale in lines:
        bitmap = text_bitmap(text)[:, :-1].repeat(scale, axis=0).repeat(scale, axis=1)
        left = (size - bitmap.shape[1]) // 2
        dots[top : top + bitmap.shape[0], left : left + bitmap.shape[1]] |= bitmap
    for top, width in bars:
        left = (size - width) // 2
        dots[top, left : left + width] = True
    return dots


def look_up(
    dots: Bool[ndarray, "h w"], u: Float[ndarray, " n"], v: Float[ndarray, " n"]
) -> Bool[ndarray, " n"]:
    """The dot at (u, v) in [0, 1]^2, u to the right and v upwards; False outside."""
    height, width = dots.shape
    column, row = np.floor(u * width).astype(np.int64), np.floor((1 - v) * height).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found: ndarray = dots[np.where(inside, row, 0), np.where(inside, column, 0)] & inside
    return found


def checker(u: Float[ndarray, " n"], v: Float[ndarray, " n"]) -> Bool[ndarray, " n"]:
    """Unit squares of alternating colour."""
    is_odd: ndarray = (np.floor(u) + np.floor(v)) % 2 == 1
    return is_odd


def nested_checker(
    u: Float[ndarray, " n"], v: Float[ndarray, " n"], levels: Int[ndarray, "r c"]
) -> tuple[Bool[ndarray, " n"], Int[ndarray, " n"]]:
    """Unit squares, each ruled into 2^level x 2^level small checkers.

    Args:
        u: first coordinate; squares repeat with the period of `levels`.
        v: second coordinate.
        levels: how often a square is halved; 0 leaves it plain.

    Returns:
        The colour, which alternates between small checkers and between neighbouring plain squares; the level.
    """
    column, row = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    level = levels[row % levels.shape[0], column % levels.shape[1]]
    scale = (1 << level).astype(u.dtype)
    return checker(u * scale, v * scale), level


def stripes(phase: Float[ndarray, " n"], count: int) -> Int[ndarray, " n"]:
    """The number, 0 to count - 1, of the stripe at a phase; stripes are one unit wide and repeat."""
    number: ndarray = np.floor(phase).astype(np.int64) % count
    return number


def zone_plate(distance: Float[ndarray, " n"], rate: float) -> Float[ndarray, " n"]:
    """Smooth rings of growing frequency: `rate * distance / pi` cycles per unit of distance."""
    rings: ndarray = 0.5 + 0.5 * np.cos(rate * np.square(distance))
    return rings


def scatter(i: ndarray, j: ndarray, seed: int = 0) -> Float[ndarray, "*cells"]:
    """A number in [0, 1) for each cell of a grid, numbered (i, j), without a pattern that one could see."""
    # Through int64, from which negative numbers wrap around to uint32; from floats, the result is undefined.
    first, second = (np.asarray(k).astype(np.int64).astype(np.uint32) for k in (i, j))
    mixed = first * np.uint32(374761393) + second * np.uint32(668265263)
    mixed += np.uint32(seed * 362437 % 2**32)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    numbers: ndarray = (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
    return numbers


def running_bond(
    u: Float[ndarray, " n"], v: Float[ndarray, " n"]
) -> tuple[Int[ndarray, " n"], Int[ndarray, " n"], Float[ndarray, " n"], Float[ndarray, " n"]]:
    """Unit cells in rows, every other row shifted by half a cell, as masons lay bricks.

    Returns:
        Column and row of the cell, and the place in it, in [0, 1)^2.
    """
    row = np.floor(v)
    shifted = u + 0.5 * (row % 2)
    column = np.floor(shifted)
    return column.astype(np.int64), row.astype(np.int64), shifted - column, v - row


def value_noise(u: Float[ndarray, " n"], v: Float[ndarray, " n"], seed: int = 0) -> Float[ndarray, " n"]:
    """Smooth noise in [0, 1) with features of about one unit."""
    i, j = np.floor(u), np.floor(v)
    s, t = u - i, v - j
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    low = scatter(i, j, seed) * (1 - s) + scatter(i + 1, j, seed) * s
    high = scatter(i, j + 1, seed) * (1 - s) + scatter(i + 1, j + 1, seed) * s
    noise: ndarray = low * (1 - t) + high * t
    return noise
