"""Fine procedural textures of the demo scene: checkers, zone plates, stripes, and lettering in a bitmap font.

A pattern is a function of surface coordinates that answers which of two or more colours is where: an array of
integers, or of blending weights in [0, 1].
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
    "X": "#...# #...# .#.#. ..#.. .#.#. #...# #...#",
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
    return dots[np.where(inside, row, 0), np.where(inside, column, 0)] & inside


def checker(u: Float[ndarray, " n"], v: Float[ndarray, " n"]) -> Bool[ndarray, " n"]:
    """Unit squares of alternating colour."""
    return (np.floor(u) + np.floor(v)) % 2 == 1


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
    return np.floor(phase).astype(np.int64) % count


def zone_plate(distance: Float[ndarray, " n"], rate: float) -> Float[ndarray, " n"]:
    """Smooth rings of growing frequency: `rate * distance / pi` cycles per unit of distance."""
    return 0.5 + 0.5 * np.cos(rate * np.square(distance))
